//! Notifications between being handed over and being stored.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::PositionChange;

use super::state::ReconcilerState;
use crate::object_storage::happening::{Kind, Mark};
use crate::object_storage::known::{Entry, noted, object_row};

/// Notifications that are handed over and not yet stored; dropped, it lets go of them.
#[derive(Debug)]
pub(in crate::object_storage) struct InFlight {
    pub(super) state: Arc<Mutex<ReconcilerState>>,
    pub(super) marks: Vec<Mark>,
    /// What its message's rows say.
    pub(super) carried: HashMap<String, Entry>,
}

impl InFlight {
    /// The rows of the message that hands them over.
    pub(in crate::object_storage) fn rows(&self) -> Vec<PositionChange> {
        let row = |(key, entry): (&String, &Entry)| object_row(key, Some(entry));
        self.carried.iter().map(row).collect()
    }

    /// They are stored: what they told is known.
    pub(in crate::object_storage) fn stored(self) {
        let mut inner = self.state.lock();
        let inner = &mut *inner;
        for mark in self.marks.iter().filter(|mark| mark.kind != Kind::Other) {
            let old = inner.known.objects.get(&mark.key);
            let entry = noted(&inner.known, old, mark);
            if let Some(entry) = entry {
                inner.known.objects.insert(mark.key.clone(), entry);
            }
            inner.touched.insert(mark.key.clone());
            inner.suspects.remove(&mark.key);
            // Something else has happened to it since the message was made.
            if self.carried.get(&mark.key) != inner.known.objects.get(&mark.key)
                && (entry.is_some() || self.carried.contains_key(&mark.key))
            {
                inner.owed.insert(mark.key.clone());
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        for mark in &self.marks {
            if let Some(count) = inner.in_flight.get_mut(&mark.key) {
                *count -= 1;
                if *count == 0 {
                    inner.in_flight.remove(&mark.key);
                }
            }
        }
    }
}
