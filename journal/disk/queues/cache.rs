//! Events that are likely to be leased soon.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::NumberMap;
use crate::disk::record::EventRow;

/// Event bytes kept in memory: what is appended is mostly leased within the next second.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// What an event takes beside its own bytes, of small ones more than those, as measured: the row,
/// the attributes in the record that its data is a part of, the room in that, the entries here, and
/// what the allocator rounds up.
const OVERHEAD_BYTES: usize = 450;

fn size_bytes(stored: &EventRow) -> usize {
    stored.event.size_bytes() + OVERHEAD_BYTES
}

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
        let size = size_bytes(&stored);
        if self.events.insert(sequence, stored).is_none() {
            self.order.push_back(sequence);
            self.bytes += size;
        }
        while self.bytes > CACHE_BYTES
            && let Some(first) = self.order.pop_front()
        {
            if let Some(stored) = self.events.remove(&first) {
                self.bytes -= size_bytes(&stored);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_schemas::{Event, Name, Timestamp};

    use super::*;

    /// Counted by their own bytes alone, small events took three times what they may.
    #[test]
    fn small_events_take_no_more_memory_than_large_ones() {
        let mut cache = Cache::default();
        for sequence in 0..100_000 {
            let event = Event::builder(sequence.to_string(), "/bench", "t");
            let stored = EventRow {
                tenant: Name::default_tenant(),
                origin: Name::ingress(),
                at: Timestamp(0),
                kept_until: None,
                event: Arc::new(event.build().unwrap()),
            };
            cache.insert(sequence, Arc::new(stored));
        }
        let kept = cache.events.len();
        assert!(
            (CACHE_BYTES / 900..CACHE_BYTES / 600).contains(&kept),
            "{kept} events"
        );
        assert_eq!(cache.order.len(), kept);
        assert!(cache.get(99_999).is_some() && cache.get(0).is_none());
    }
}
