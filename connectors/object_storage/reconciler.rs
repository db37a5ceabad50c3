//! Brings together what notifications told and what the bucket holds.
//!
//! ```text
//! notification ──(stored)──▶ known ◀──(handed over with its cursor)── told
//!                              ▲                                       ▲
//! listing ──(differs)──────────┴──▶ suspects ──(after the grace)───────┘
//! ```
//!
//! What a listing shows and nobody told is a suspect. Its notification may be on its way, so it is
//! given a grace; where the notification comes meanwhile the suspicion is dropped. Nothing here
//! does IO or waits.
//!
//! **Position.** What a message tells goes with the rows that say so, so that either both are
//! stored or neither is. A notification carries the rows that it leaves where nothing else happens
//! meanwhile; where something else did, or a listing shows more than was known, rows are owed and
//! go with a batch of what listings found. Those have a cursor, for which the bus stores one after
//! the other, and none of them has a row of a key whose notification is in hand.
//!
//! **Identity.** The id of what a listing tells names the key's generation, which its row keeps: a
//! change that is told again after a crash has the same.

mod in_flight;
mod output;
mod state;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::PositionChange;
use tokio::time::Instant;

use super::happening::Mark;
use super::known::{Entry, Stored, noted};
use in_flight::InFlight;
use state::ReconcilerState;

pub(super) use state::{AnotherBucket, Listing, Rows, Suspect, Terms};

/// The reconciler. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Reconciler(Arc<Mutex<ReconcilerState>>);

impl Reconciler {
    /// Starts from what is stored.
    pub(super) fn new(terms: Terms, stored: Stored) -> Self {
        Self(Arc::new(Mutex::new(ReconcilerState::new(terms, stored))))
    }

    /// True where a listing has told already what a notification tells.
    pub(super) fn has_told(&self, mark: &Mark) -> bool {
        self.0
            .lock()
            .known
            .objects
            .get(&mark.key)
            .is_some_and(|known| known.has_told(mark))
    }

    /// Notifications are handed over.
    pub(super) fn take(&self, marks: Vec<Mark>) -> InFlight {
        let mut inner = self.0.lock();
        let mut carried: HashMap<String, Entry> = HashMap::new();
        for mark in &marks {
            *inner.in_flight.entry(mark.key.clone()).or_default() += 1;
            let old = carried.get(&mark.key);
            let old = old.or_else(|| inner.known.objects.get(&mark.key));
            if let Some(entry) = noted(&inner.known, old, mark) {
                carried.insert(mark.key.clone(), entry);
            }
        }
        InFlight {
            state: Arc::clone(&self.0),
            marks,
            carried,
        }
    }

    /// A listing begins.
    pub(super) fn begin(&self) {
        self.0.lock().touched.clear();
    }

    /// When the next suspect is to be looked at.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.lock().looks.first().map(|(at, _)| *at)
    }

    /// True where what a listing showed has not become known since, nor is being told.
    pub(super) fn is_news(&self, suspect: &Suspect) -> bool {
        let inner = self.0.lock();
        inner.known.objects.get(&suspect.key).copied() == suspect.before
            && !inner.in_flight.contains_key(&suspect.key)
    }

    // What these do stands with the state that they do it to.

    pub(super) fn compare(
        &self,
        listing: Listing,
        settle: Duration,
        now: Instant,
    ) -> Result<bool, AnotherBucket> {
        self.0.lock().compare(listing, settle, now)
    }

    pub(super) fn due(&self, now: Instant, emptied: Option<Instant>) -> Option<Suspect> {
        self.0.lock().due(now, emptied)
    }

    pub(super) fn tell(&self, suspect: &Suspect) -> PositionChange {
        self.0.lock().tell(suspect)
    }

    pub(super) fn unwritten(&self) -> Option<Rows> {
        self.0.lock().unwritten()
    }

    pub(super) fn rows(&self, found: bool) -> Option<Rows> {
        self.0.lock().rows(found)
    }
}

#[cfg(test)]
mod tests;
