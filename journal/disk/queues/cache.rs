//! Events that are likely to be leased soon.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::NumberMap;
use crate::disk::record::EventRow;

/// Event bytes kept in memory: what is appended is mostly leased within the next second.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// First in, first out, bounded in bytes.
#[derive(Debug, Default)]
pub(in crate::disk) struct Cache {
    events: NumberMap<u64, Arc<EventRow>>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cache {
    pub(in crate::disk) fn get(&self, sequence: u64) -> Option<&Arc<EventRow>> {
        self.events.get(&sequence)
    }

    pub(in crate::disk) fn insert(&mut self, sequence: u64, stored: Arc<EventRow>) {
        let size = stored.event.size_bytes();
        if self.events.insert(sequence, stored).is_none() {
            self.order.push_back(sequence);
            self.bytes += size;
        }
        while self.bytes > CACHE_BYTES
            && let Some(first) = self.order.pop_front()
        {
            if let Some(stored) = self.events.remove(&first) {
                self.bytes -= stored.event.size_bytes();
            }
        }
    }
}
