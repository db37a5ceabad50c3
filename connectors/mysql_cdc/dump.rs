//! Asks a server for its log, as a replica does.

use std::time::Duration;

use super::gtid::Gtids;
use super::position::Logged;
use super::refusal::Failure;
use super::wire::Connection;
use crate::cdc::wire::ANSWER_WITHIN;

/// How often a server that has nothing to tell says that it is there.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;

/// Where a file of the log begins, behind what says that it is one.
const FILE_BEGIN: u64 = 4;

/// From where on the log is asked for.
pub(super) struct Dump<'p> {
    pub(super) server_id: u32,
    pub(super) is_mariadb: bool,
    pub(super) read: &'p Logged,
    /// The transactions that are read, where they have GTIDs.
    pub(super) gtids: Option<&'p Gtids>,
}

impl Dump<'_> {
    /// Asks for it. What the connection brings from then on are events.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn ask(&self, connection: &mut Connection) -> Result<(), Failure> {
        let nanos = HEARTBEAT_EVERY.as_nanos();
        // Newer servers of MySQL have other words for the same.
        let own = format!(
            "SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}, \
             @master_binlog_checksum = @@GLOBAL.binlog_checksum, \
             @source_binlog_checksum = @@GLOBAL.binlog_checksum"
        );
        connection.query(&own, ANSWER_WITHIN).await?;
        let (command, content) = match self.gtids {
            Some(gtids) if self.is_mariadb => {
                let from = format!(
                    "SET @mariadb_slave_capability = 4, @slave_connect_state = '{gtids}', \
                     @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0"
                );
                connection.query(&from, ANSWER_WITHIN).await?;
                (COM_BINLOG_DUMP, self.place("", FILE_BEGIN))
            }
            Some(gtids) => (COM_BINLOG_DUMP_GTID, self.behind(gtids)),
            None => (
                COM_BINLOG_DUMP,
                self.place(&self.read.file, self.read.offset),
            ),
        };
        connection.command(command, &content).await
    }

    /// The content that asks for it from a place on.
    fn place(&self, file: &str, offset: u64) -> Vec<u8> {
        // Places past four gigabytes cannot be asked for.
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let mut content = offset.to_le_bytes().to_vec();
        content.extend_from_slice(&[0; 2]);
        content.extend_from_slice(&self.server_id.to_le_bytes());
        content.extend_from_slice(file.as_bytes());
        content
    }

    /// The content that asks MySQL for the transactions besides these.
    fn behind(&self, gtids: &Gtids) -> Vec<u8> {
        const THROUGH_GTIDS: u16 = 4;
        let encoded = gtids.encoded();
        let mut content = THROUGH_GTIDS.to_le_bytes().to_vec();
        content.extend_from_slice(&self.server_id.to_le_bytes());
        content.extend_from_slice(&0_u32.to_le_bytes());
        content.extend_from_slice(&FILE_BEGIN.to_le_bytes());
        content.extend_from_slice(
            &u32::try_from(encoded.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        content.extend_from_slice(&encoded);
        content
    }
}
