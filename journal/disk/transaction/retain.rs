//! What retention forgets, and what it keeps for a time of its own. How it finds either is said in
//! [`crate::disk::schema::Walk`]'s module.

use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::Timestamp;
use rusqlite::params;

use super::{Failure, Transaction};
use crate::disk::record::{EventRow, HELD, encode_kept};
use crate::disk::schema;
use crate::disk::sweep::Sweep;

/// How long after a look an event is looked at again whose time is over and that a replay still
/// looks at.
const REPLAY_PAUSE: Duration = Duration::from_secs(60);

/// Events whose time is over, as they were found.
#[derive(Clone, Debug, Default)]
pub(in crate::disk) struct Looked {
    /// Nothing refers to these.
    pub(in crate::disk) free: Vec<u64>,
    /// To these a delivery or a dead letter does.
    pub(in crate::disk) referenced: Vec<u64>,
    /// At these a replay alone still looks.
    pub(in crate::disk) replayed: Vec<u64>,
}

impl Transaction<'_> {
    /// Notes that something that referred to an event has ended. It costs nothing as long as the
    /// event is too young to be deleted.
    pub(super) fn free(&mut self, sequence: u64) {
        if sequence <= self.changes.walk.looked_at().max(self.looked_at) {
            self.changes.freed.insert(sequence);
        }
    }

    /// Keeps an event until a time.
    pub(super) fn keep_until(&mut self, sequence: u64, until: Timestamp) -> Result<(), Failure> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT OR IGNORE INTO kept VALUES (?1, ?2, ?3)")?;
        self.touch("kept", [sequence.cast_signed()]);
        let value = encode_kept(sequence, until);
        let inserted = insert.execute(params![sequence.cast_signed(), until.0, value])?;
        self.changes.ledger.kept += inserted as u64;
        Ok(())
    }

    /// Changes until when an event is kept; false where the time is not `from`.
    fn move_kept(
        &mut self,
        sequence: u64,
        from: Option<Timestamp>,
        to: Timestamp,
    ) -> Result<bool, Failure> {
        let mut update = self.connection.prepare_cached(
            "UPDATE kept SET until = ?3, value = ?4
             WHERE sequence = ?1 AND (?2 IS NULL OR until = ?2)",
        )?;
        self.touch("kept", [sequence.cast_signed()]);
        let value = encode_kept(sequence, to);
        let from = from.map(|from| from.0);
        Ok(update.execute(params![sequence.cast_signed(), from, to.0, value])? > 0)
    }

    /// Deletes the rows of events that are gone, or that need none.
    fn forget_kept(&mut self, sequences: &[u64]) -> Result<(), Failure> {
        // Most stores have none.
        if self.changes.ledger.kept == 0 {
            return Ok(());
        }
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM kept WHERE sequence = ?1")?;
        for sequence in sequences {
            self.touch("kept", [sequence.cast_signed()]);
            let deleted = delete.execute([sequence.cast_signed()])? as u64;
            let kept = &mut self.changes.ledger.kept;
            *kept = kept.saturating_sub(deleted);
        }
        Ok(())
    }

    /// Has events looked at whose references have ended, where retention would not come by any
    /// more, and writes how far it has come.
    pub(super) fn write_retention(&mut self) -> Result<(), Failure> {
        let walk = self.changes.walk;
        let freed = std::mem::take(&mut self.changes.freed);
        for &sequence in &freed {
            let is_held =
                sequence <= walk.held && self.move_kept(sequence, Some(HELD), self.now)?;
            if !is_held && sequence <= walk.reached {
                self.keep_until(sequence, self.now)?;
            }
        }
        self.changes.freed = freed;
        if walk != self.committed.walk {
            self.touch_named("meta", &["walk"]);
            schema::write_walk(self.connection, &walk)?;
        }
        Ok(())
    }

    /// Deletes events that nothing referred to when the caller looked, but for those that got a
    /// reference since.
    pub(in crate::disk) fn forget_events(
        &mut self,
        sequences: &[u64],
        sweep: &Sweep,
    ) -> Result<(), Failure> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM events WHERE sequence = ?1")?;
        let is_free =
            |sequence: &u64| !sweep.pinned.contains(sequence) && !self.pinned.contains(sequence);
        let free: Vec<u64> = sequences.iter().copied().filter(is_free).collect();
        let mut count = 0;
        for sequence in &free {
            self.touch("events", [sequence.cast_signed()]);
            count += delete.execute([sequence.cast_signed()])? as u64;
        }
        self.changes.ledger.events = self.changes.ledger.events.saturating_sub(count);
        self.forget_kept(&free)
    }

    /// The walk has come to an event, and has found those that go.
    pub(in crate::disk) fn walk_to(
        &mut self,
        reached: u64,
        free: &[u64],
        sweep: &Sweep,
    ) -> Result<(), Failure> {
        self.forget_events(free, sweep)?;
        // It has seen them referred to, and will not come by again.
        self.changes.freed.extend(&sweep.freed);
        self.changes.walk.reached = reached;
        Ok(())
    }

    /// The second walk has come to an event, and has found those that go; it ends with none.
    pub(in crate::disk) fn walk_again_to(
        &mut self,
        again: Option<u64>,
        free: &[u64],
        sweep: &Sweep,
    ) -> Result<(), Failure> {
        self.forget_events(free, sweep)?;
        self.changes.walk.again = again;
        Ok(())
    }

    /// Has the second walk begin from the first event.
    pub(in crate::disk) fn walk_again(&mut self) {
        self.changes.walk.look_again(0);
        self.changes.walk.began = self.now;
    }

    /// Deletes events whose time is over, and has those looked at later that are still needed.
    pub(in crate::disk) fn end_kept(
        &mut self,
        looked: &Looked,
        sweep: &Sweep,
    ) -> Result<(), Failure> {
        self.forget_events(&looked.free, sweep)?;
        let later = self.now.plus(REPLAY_PAUSE);
        let referenced = looked.referenced.iter().map(|one| (*one, HELD));
        let replayed = looked.replayed.iter().map(|one| (*one, later));
        for (sequence, until) in referenced.chain(replayed) {
            // What referred to it has ended since: it is looked at once more.
            if sweep.freed.contains(&sequence) || self.changes.freed.contains(&sequence) {
                continue;
            }
            // Whoever ends the last reference, or the replay, has it looked at.
            if sequence <= self.changes.walk.reached {
                self.forget_kept(&[sequence])?;
                continue;
            }
            self.move_kept(sequence, None, until)?;
            if until == HELD {
                self.changes.walk.held = self.changes.walk.held.max(sequence);
            }
        }
        Ok(())
    }

    /// Makes the rows anew that events have for a time of their own, from their records.
    pub(super) fn restore_kept(&mut self) -> Result<(), Failure> {
        let mut select = self
            .connection
            .prepare("SELECT sequence, record FROM events")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let sequence = row.get::<_, i64>(0)?.cast_unsigned();
            let record = row.get_ref(1)?.as_blob().unwrap_or_default();
            let event = EventRow::decode(sequence, &Bytes::copy_from_slice(record));
            if let Some(until) = event.ok().and_then(|event| event.kept_until) {
                self.keep_until(sequence, until)?;
            }
        }
        Ok(())
    }

    /// Deletes what deduplication remembers under these keys.
    pub(in crate::disk) fn forget_identities(&mut self, keys: &[[u64; 2]]) -> Result<(), Failure> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM identities WHERE high = ?1 AND low = ?2")?;
        for key in keys {
            let key = key.map(u64::cast_signed);
            self.touch("identities", key);
            delete.execute(key)?;
        }
        Ok(())
    }

    /// Gives free pages back to the file system, at most so many.
    pub(in crate::disk) fn vacuum(&mut self, pages: u32) -> Result<(), Failure> {
        let mut vacuum = self
            .connection
            .prepare_cached(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }
}
