//! The transaction whose changes come.

use jiff::Timestamp;

use super::change::Stamp;
use super::event::{Begun, Event};
use super::gtid::Gtid;
use super::position::Part;

/// The transaction whose changes come.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    /// What it is called, also after a failover where it has a GTID.
    pub(super) name: String,
    pub(super) gtid: Option<Gtid>,
    /// Where it begins in the log.
    log: String,
    /// When it was begun, in seconds, which tells it from another one of its name.
    seconds: u32,
    time: Option<Timestamp>,
    /// Whether something else than the next statement ends it.
    pub(super) is_open: bool,
    /// How many of its changes have come, and how many of these were read before.
    pub(super) changes: u64,
    pub(super) read: u64,
}

impl Transaction {
    /// One that begins with an event of a file, or at a place in it where the event stands nowhere.
    /// What was read of it before is taken.
    pub(super) fn new(
        begun: Begun,
        event: &Event,
        file: &str,
        offset: u64,
        part: &mut Option<Part>,
    ) -> Self {
        let at = event.end.checked_sub(event.bytes).map_or(offset, u64::from);
        let log = format!("{file}:{at}");
        let name = match &begun.gtid {
            Some(gtid) => gtid.to_string(),
            None => log.clone(),
        };
        let micros = begun.micros.and_then(|micros| i64::try_from(micros).ok());
        let micros = micros.unwrap_or(i64::from(event.time) * 1_000_000);
        let part = part.take_if(|part| part.transaction == name);
        Self {
            name,
            gtid: begun.gtid,
            log,
            seconds: event.time,
            time: Timestamp::from_microsecond(micros).ok(),
            is_open: begun.is_open,
            changes: 0,
            read: part.map_or(0, |part| part.changes),
        }
    }

    /// Counts a change, and returns what tells it from others; nothing where it was read before.
    pub(super) fn count(&mut self) -> Option<Stamp> {
        self.changes += 1;
        (self.changes > self.read).then(|| Stamp {
            // The time keeps apart what a server that lost some of its log writes in its place.
            id: format!("{}-{}-{}", self.name, self.seconds, self.changes),
            log: self.log.clone(),
            gtid: self.gtid.map(|gtid| gtid.to_string()),
            transaction: Some(self.name.clone()),
            time: self.time,
        })
    }
}
