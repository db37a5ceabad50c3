//! The history of a store that is made of an export: what shared a row shares one again.

use pointsman_schemas::{Class, Timestamp};
use rusqlite::params;

use super::store::NewStore;
use crate::disk::record::{HistoryKey, ManyNotes, Noted, encode_one};
use crate::shard::next_history;
use crate::{AttemptMade, TaskState};

impl NewStore {
    /// Adds to the history what happened at one time to deliveries of one subscription.
    pub(super) fn history(
        &mut self,
        subscription: u32,
        at: Timestamp,
        entries: Vec<Noted>,
    ) -> rusqlite::Result<()> {
        let mut open: Option<(TaskState, ManyNotes)> = None;
        for noted in entries {
            let made = match ended(&noted) {
                Some(made) => made,
                None => {
                    self.history_of_one(subscription, at, &noted)?;
                    continue;
                }
            };
            let fits = |(state, many): &(TaskState, ManyNotes)| {
                *state == noted.state && many.has_room_for(noted.sequence)
            };
            if let Some((_, full)) = open.take_if(|open| !fits(open)) {
                self.history_of_many(subscription, at, full)?;
            }
            let (_, many) = open.get_or_insert_with(|| {
                let many = ManyNotes::new(at, noted.state, noted.sequence, made.as_ref());
                (noted.state, many)
            });
            let attempt = noted.attempt.as_ref().zip(made.as_ref());
            let attempt =
                attempt.map(|(entry, made)| (made, entry.began.minus(entry.waited), entry.number));
            many.add(noted.sequence, noted.run, attempt);
        }
        match open {
            Some((_, many)) => self.history_of_many(subscription, at, many),
            None => Ok(()),
        }
    }

    fn history_of_one(
        &mut self,
        subscription: u32,
        at: Timestamp,
        noted: &Noted,
    ) -> rusqlite::Result<()> {
        let key = HistoryKey {
            number: self.next_history(at),
            subscription,
            first: noted.sequence,
            last: noted.sequence,
        };
        self.history_row(key, &encode_one(key, at, noted))
    }

    fn history_of_many(
        &mut self,
        subscription: u32,
        at: Timestamp,
        many: ManyNotes,
    ) -> rusqlite::Result<()> {
        let (key, value) = many.seal(self.next_history(at), subscription);
        self.history_row(key, &value)
    }

    fn next_history(&mut self, at: Timestamp) -> u64 {
        self.last_history = next_history(self.shard, self.last_history, at);
        self.last_history
    }

    fn history_row(&self, key: HistoryKey, value: &[u8]) -> rusqlite::Result<()> {
        let [number, first, last] = [key.number, key.first, key.last].map(u64::cast_signed);
        let insert = "INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute(
            insert,
            params![number, key.subscription, first, last, value],
        )
    }
}

/// The attempt of an entry that others may share a row with, where it tells of one; none where it
/// needs a row of its own.
fn ended(noted: &Noted) -> Option<Option<AttemptMade>> {
    let is_plain = noted.reason.is_none() && noted.next.is_none();
    let attempt = match &noted.attempt {
        None => return is_plain.then_some(None),
        Some(attempt) => attempt,
    };
    let is_plain = is_plain && attempt.class == Class::Delivered && attempt.message.is_empty();
    is_plain.then(|| {
        Some(AttemptMade {
            began: attempt.began,
            ran: attempt.ran,
            called: attempt.called.clone(),
            class: attempt.class,
            code: attempt.code,
            message: String::new(),
            answer: attempt.answer.clone(),
            wait: None,
        })
    })
}
