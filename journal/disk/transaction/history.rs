//! What the history is told: deliveries of one subscription that end alike in one transaction share
//! a row.

use pointsman_schemas::Timestamp;
use rusqlite::params;

use super::{Failure, Transaction};
use crate::disk::queues::Lease;
use crate::disk::record::{HistoryKey, ManyNotes, Noted, encode_one};
use crate::disk::row::RowKey;
use crate::shard;
use crate::{AttemptEntry, AttemptMade, DeadReason, Ending, Record, TaskState};

/// What a row takes beside its value, about.
pub(in crate::disk) const ROW_BYTES: u64 = 48;

impl Transaction<'_> {
    /// Notes what a settlement says of its attempt, and of what becomes of the delivery.
    pub(super) fn note_settled(
        &mut self,
        lease: &Lease,
        ending: &Ending,
        record: &Record,
    ) -> Result<(), Failure> {
        let attempt = match record {
            Record::Nothing => return Ok(()),
            Record::End => None,
            Record::Attempt(made) => Some(made),
        };
        let (Ok(state), false) = (
            ending.leads_to(TaskState::Retrying),
            *ending == Ending::Released,
        ) else {
            return Ok(());
        };
        let number = lease.attempts.saturating_add(1);
        let (next, reason) = match ending {
            Ending::Retry { at, .. } => {
                let wait = attempt.and_then(|made| made.wait);
                (wait.map(|wait| (*at, wait)), None)
            }
            Ending::Dead { reason, .. } => (None, Some(*reason)),
            // Of one that was stopped there is more to say, and there are few.
            Ending::Stopped if attempt.is_some() => (None, None),
            _ => {
                let attempt = attempt.map(|made| (made, lease.due.time(), number));
                return self.note_end(lease.key, state, attempt);
            }
        };
        let attempt = attempt
            .map(|made| AttemptEntry::of(made.clone(), lease.due.time(), number, ending.last()));
        let noted = Noted {
            reason,
            next,
            attempt,
            ..Noted::state(lease.key.sequence, lease.key.run, state)
        };
        self.note_one(lease.key.subscription, &noted)
    }

    /// Notes that something happened to a delivery without an attempt.
    pub(super) fn note_state(&mut self, key: RowKey, state: TaskState) -> Result<(), Failure> {
        self.note_one(
            key.subscription,
            &Noted::state(key.sequence, key.run, state),
        )
    }

    /// Notes that a delivery became a dead letter without an attempt.
    pub(super) fn note_dead(&mut self, key: RowKey, reason: DeadReason) -> Result<(), Failure> {
        let noted = Noted {
            reason: Some(reason),
            ..Noted::state(key.sequence, key.run, TaskState::of_dead(reason))
        };
        self.note_one(key.subscription, &noted)
    }

    fn note_one(&mut self, subscription: u32, noted: &Noted) -> Result<(), Failure> {
        if !self.keeps_history {
            return Ok(());
        }
        let key = HistoryKey {
            number: self.next_history(),
            subscription,
            first: noted.sequence,
            last: noted.sequence,
        };
        let value = encode_one(key, self.now, noted);
        self.write_history(key, &value)
    }

    /// Notes the end of a delivery, together with others that end alike: its attempt, with when
    /// that was due and its number, where one was made.
    pub(super) fn note_end(
        &mut self,
        key: RowKey,
        state: TaskState,
        attempt: Option<(&AttemptMade, Timestamp, u32)>,
    ) -> Result<(), Failure> {
        if !self.keeps_history {
            return Ok(());
        }
        let many = (key.subscription, state);
        let open = self.ends.get(&many);
        if open.is_some_and(|notes| !notes.has_room_for(key.sequence))
            && let Some(full) = self.ends.remove(&many)
        {
            self.write_many(key.subscription, full)?;
        }
        let now = self.now;
        let notes = self.ends.entry(many).or_insert_with(|| {
            let made = attempt.map(|(made, ..)| made);
            ManyNotes::new(now, state, key.sequence, made)
        });
        notes.add(key.sequence, key.run, attempt);
        Ok(())
    }

    /// Writes the rows of many.
    pub(super) fn flush_history(&mut self) -> Result<(), Failure> {
        for ((subscription, _), notes) in std::mem::take(&mut self.ends) {
            self.write_many(subscription, notes)?;
        }
        Ok(())
    }

    fn write_many(&mut self, subscription: u32, notes: ManyNotes) -> Result<(), Failure> {
        let number = self.next_history();
        let (key, value) = notes.seal(number, subscription);
        self.write_history(key, &value)
    }

    fn next_history(&self) -> u64 {
        shard::next_history(self.shard, self.changes.ledger.last_history, self.now)
    }

    fn write_history(&mut self, key: HistoryKey, value: &[u8]) -> Result<(), Failure> {
        self.touch("history", [key.number.cast_signed()]);
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![
            key.number.cast_signed(),
            key.subscription,
            key.first.cast_signed(),
            key.last.cast_signed(),
            value
        ])?;
        let bytes = value.len() as u64;
        let ledger = &mut self.changes.ledger;
        ledger.last_history = key.number;
        ledger.history += 1;
        ledger.history_bytes += bytes;
        self.room = self.room.saturating_sub(2 * (bytes + ROW_BYTES));
        Ok(())
    }

    /// Deletes the rows of the history up to a number.
    pub(in crate::disk) fn forget_history(&mut self, until: u64) -> Result<(), Failure> {
        let until = until.cast_signed();
        let mut sum = self.connection.prepare_cached(
            "SELECT count(*), coalesce(sum(length(value)), 0) FROM history WHERE number <= ?1",
        )?;
        let (rows, bytes): (i64, i64) =
            sum.query_row([until], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if self.touched.is_some() {
            let mut select = self
                .connection
                .prepare_cached("SELECT number FROM history WHERE number <= ?1")?;
            let mut numbers = select.query([until])?;
            while let Some(row) = numbers.next()? {
                self.touch("history", [row.get(0)?]);
            }
        }
        self.connection
            .prepare_cached("DELETE FROM history WHERE number <= ?1")?
            .execute([until])?;
        let ledger = &mut self.changes.ledger;
        ledger.history = ledger.history.saturating_sub(rows.cast_unsigned());
        ledger.history_bytes = ledger.history_bytes.saturating_sub(bytes.cast_unsigned());
        Ok(())
    }
}
