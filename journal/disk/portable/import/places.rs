//! Where everything of an export goes: which shard, and under which sequence.
//!
//! Of one shard sequences stay as they are, but for the bits that name their shard. Those of
//! several are given anew, in the order of the export. What belongs to an event goes where that
//! goes: deliveries come before their events and wait here, and what comes behind them is found by
//! a table of places. Both lie in a file, since they may be large.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::PortableError;
use super::super::line::PendingLine;
use crate::shard::within;

const TABLES: &str = "
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -32768; PRAGMA temp_store = FILE;
CREATE TABLE waiting (
    sequence INTEGER NOT NULL, subscription INTEGER NOT NULL, run INTEGER NOT NULL, line BLOB NOT NULL,
    PRIMARY KEY (sequence, subscription, run)
) WITHOUT ROWID;
CREATE TABLE places (
    sequence INTEGER NOT NULL, subscription INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (sequence, subscription)
) WITHOUT ROWID;
BEGIN;
";

/// In the place of a subscription: where an event is, and what has no other place.
const EVENT: u32 = 0;

pub(super) struct Places {
    connection: Connection,
    /// How many shards the export is of.
    from: u16,
    before_first: Vec<u64>,
    /// The highest number within a shard that is given out.
    last: u64,
}

impl Places {
    /// Those of an export of so many shards, in stores before whose first sequences these stand.
    pub(super) fn create(
        file: &Path,
        from: u16,
        before_first: Vec<u64>,
    ) -> Result<Self, PortableError> {
        let connection = Connection::open(file)?;
        connection.execute_batch(TABLES)?;
        Ok(Self {
            connection,
            from,
            before_first,
            last: 0,
        })
    }

    /// Whether sequences stay as they are.
    pub(super) fn keeps(&self) -> bool {
        self.from == 1
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Has a delivery wait for its event.
    pub(super) fn wait(&self, line: &PendingLine) -> Result<(), PortableError> {
        let bytes =
            serde_json::to_vec(line).map_err(|error| PortableError::Line(error.to_string()))?;
        let insert = "INSERT INTO waiting VALUES (?1, ?2, ?3, ?4)";
        let mut insert = self.connection.prepare_cached(insert)?;
        let (sequence, run) = (line.sequence.cast_signed(), line.run.cast_signed());
        insert.execute(params![sequence, line.subscription, run, bytes])?;
        Ok(())
    }

    /// The deliveries that wait for an event, by their subscriptions and runs.
    pub(super) fn waiting(&self, sequence: u64) -> Result<Vec<PendingLine>, PortableError> {
        let select = "SELECT line FROM waiting WHERE sequence = ?1 ORDER BY subscription, run";
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query([sequence.cast_signed()])?;
        let mut waiting = Vec::new();
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(0)?.as_blob().unwrap_or_default();
            let line = serde_json::from_slice(bytes);
            waiting.push(line.map_err(|error| PortableError::Line(error.to_string()))?);
        }
        Ok(waiting)
    }

    /// The number within its shard of what comes next, which had this sequence.
    pub(super) fn number(&mut self, sequence: u64) -> Result<u64, PortableError> {
        let number = if self.keeps() {
            sequence
        } else {
            self.last + 1
        };
        if number <= self.last || number != within(number) {
            let what = format!("the sequence {sequence} does not follow those before it");
            return Err(PortableError::Line(what));
        }
        self.last = number;
        Ok(number)
    }

    /// The sequence of a number in a shard.
    pub(super) fn sequence(&self, shard: usize, number: u64) -> u64 {
        self.before_first
            .get(shard)
            .map_or(0, |before| before | number)
    }

    /// Whether everything has its sequence as before.
    fn is_same(&self) -> bool {
        self.keeps() && self.before_first.len() == 1
    }

    /// Notes where an event has gone, or a delivery of it that has gone elsewhere.
    pub(super) fn note(
        &self,
        sequence: u64,
        subscription: Option<u32>,
        place: u64,
    ) -> rusqlite::Result<()> {
        if self.is_same() {
            return Ok(());
        }
        let replace = "REPLACE INTO places VALUES (?1, ?2, ?3)";
        let mut replace = self.connection.prepare_cached(replace)?;
        let (sequence, place) = (sequence.cast_signed(), place.cast_signed());
        let subscription = subscription.unwrap_or(EVENT);
        replace
            .execute(params![sequence, subscription, place])
            .map(drop)
    }

    /// The sequence of a delivery's event, or of an event. One that is gone is given a place.
    pub(super) fn find(
        &mut self,
        sequence: u64,
        subscription: Option<u32>,
    ) -> Result<u64, PortableError> {
        if self.is_same() {
            return Ok(sequence);
        }
        let select = "SELECT place FROM places WHERE sequence = ?1 AND subscription IN (?2, ?3)
             ORDER BY subscription DESC LIMIT 1";
        let found: Option<i64> = self
            .connection
            .prepare_cached(select)?
            .query_row(
                params![sequence.cast_signed(), subscription.unwrap_or(EVENT), EVENT],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(found) = found {
            return Ok(found.cast_unsigned());
        }
        let number = if self.keeps() {
            within(sequence)
        } else {
            self.last += 1;
            self.last
        };
        let place = self.sequence(number as usize % self.before_first.len().max(1), number);
        self.note(sequence, None, place)?;
        Ok(place)
    }
}
