//! What the reconciler hands over: suspects whose time has come, and rows.

use std::ops::Bound;
use std::time::Duration;

use pointsman_schemas::PositionChange;
use tokio::time::Instant;

use super::state::{ReconcilerState, Rows, Suspect, seen};
use crate::object_storage::known::{Entry, State, object_row};

/// How many rows go with a batch at most beside those of what it tells.
pub(super) const BATCH_ROWS_MAX: usize = 1_000;

/// How many graces a suspect waits at most for a queue that never runs empty.
const PATIENCE: u32 = 10;

/// The shortest such wait: a short grace is soon over ten times while a queue is still being
/// emptied.
const PATIENCE_MIN: Duration = Duration::from_secs(60);

impl ReconcilerState {
    /// A suspect whose grace is over and of whom still nobody has told. `emptied` is when the last
    /// look began that found no notification waiting, if there was one.
    pub(super) fn due(&mut self, now: Instant, emptied: Option<Instant>) -> Option<Suspect> {
        loop {
            let (at, key) = self.looks.first().filter(|(at, _)| *at <= now)?.clone();
            self.looks.remove(&(at, key.clone()));
            let Some((suspect, since)) = self.suspects.get(&key) else {
                continue;
            };
            let grace = self.terms.grace;
            let unseen = emptied
                .is_none_or(|emptied| emptied + grace < *since || emptied < self.hidden_until);
            let may_be_on_its_way = unseen
                && now < (*since).max(self.hidden_until) + (grace * PATIENCE).max(PATIENCE_MIN);
            if may_be_on_its_way || self.in_flight.contains_key(&key) {
                let again = now + (grace / 4).max(Duration::from_millis(100));
                self.looks.insert((again, key));
                continue;
            }
            let suspect = suspect.clone();
            self.suspects.remove(&key);
            return Some(suspect);
        }
    }

    /// A suspect is told, with the row that says so.
    pub(super) fn tell(&mut self, suspect: &Suspect) -> PositionChange {
        let generation = suspect.generation;
        let entry = match (&suspect.listed, suspect.before) {
            (Some(listed), _) => {
                let seen = seen(suspect.seen, listed.modified);
                Entry {
                    state: State::Present,
                    etag: listed.hash,
                    at: listed.modified,
                    seen,
                    generation,
                }
            }
            (None, before) => {
                let (etag, at) =
                    before.map_or((0, suspect.seen), |before| (before.etag, before.at));
                Entry {
                    state: State::Gone,
                    etag,
                    at,
                    seen: seen(suspect.seen, at),
                    generation,
                }
            }
        };
        self.known.objects.insert(suspect.key.clone(), entry);
        self.owed.remove(&suspect.key);
        object_row(&suspect.key, Some(&entry))
    }

    /// The next of the rows that have to be written before anything else happens. The last go with
    /// the cursor that says that there are rows; a start that is cut off before begins anew.
    pub(super) fn unwritten(&mut self) -> Option<Rows> {
        let from = self.unwritten.take()?;
        let objects = self.known.objects.range((from, Bound::Unbounded));
        let mut positions = Vec::new();
        let (mut last, mut left) = (None, BATCH_ROWS_MAX);
        for (key, entry) in objects.take(BATCH_ROWS_MAX) {
            if self.in_flight.contains_key(key) {
                self.owed.insert(key.clone());
            } else {
                positions.push(object_row(key, Some(entry)));
            }
            (last, left) = (Some(key), left - 1);
        }
        if let Some(last) = last.filter(|_| left == 0) {
            self.unwritten = Some(Bound::Excluded(last.clone()));
            let cursor = None;
            return Some(Rows { positions, cursor });
        }
        self.bucket_owed = false;
        positions.push(self.known.bucket_row());
        let cursor = Some(self.cursor());
        Some(Rows { positions, cursor })
    }

    /// Rows that are owed, as many as may go with a batch; none where there are none and the batch
    /// holds nothing that listings `found`.
    pub(super) fn rows(&mut self, found: bool) -> Option<Rows> {
        let mut positions = Vec::new();
        // What is in hand has rows of its own, which may be stored before these or behind them.
        let free = |key: &&String| !self.in_flight.contains_key(*key);
        let keys = self.owed.iter().filter(free).take(BATCH_ROWS_MAX);
        let keys: Vec<_> = keys.cloned().collect();
        for key in keys {
            positions.push(self.known.object_row(&key));
            self.owed.remove(&key);
        }
        // That there are rows is said once what lies there at the very first start is among them.
        let cursor = (!self.skip_existing).then(|| self.cursor());
        if self.bucket_owed && cursor.is_some() {
            self.bucket_owed = false;
            positions.push(self.known.bucket_row());
        }
        (found || !positions.is_empty()).then_some(Rows { positions, cursor })
    }
}
