//! Filling the windows from the disk.

use pointsman_schemas::SubscriptionNumber;

use super::{Queues, WINDOW_DELIVERIES, WINDOW_DELIVERIES_LEAST, WINDOWS_DELIVERIES, slot};
use crate::disk::row::PendingRow;
use crate::queue::{DeliveryKey, ReadyKey};

/// What happened to a queue while it was being loaded.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// The first of the rows that were left to the disk meanwhile.
    pub(super) skipped: Option<ReadyKey>,
    /// Something was removed that the load may have read.
    pub(super) stale: bool,
}

impl Queues {
    /// How many deliveries a window may hold.
    pub(super) fn capacity(&self) -> usize {
        if self.machine.all_ready() < WINDOWS_DELIVERIES {
            WINDOW_DELIVERIES
        } else {
            WINDOW_DELIVERIES_LEAST
        }
    }

    /// Takes a queue that should be filled from the disk.
    pub(in crate::disk) fn take_low(&mut self) -> Option<u32> {
        self.low.pop_first()
    }

    pub(in crate::disk) fn has_low(&self) -> bool {
        !self.low.is_empty()
    }

    /// Has a window filled that holds fewer deliveries than that.
    fn fill_below(&mut self, subscription: u32, count: usize) {
        let window = self.windows.get(&subscription);
        if window.is_some_and(|window| window.beyond.is_some())
            && self.machine.ready(SubscriptionNumber(subscription)) < count
        {
            self.low.insert(subscription);
        }
    }

    pub(super) fn fill_where_empty(&mut self, subscription: u32) {
        self.fill_below(subscription, 1);
    }

    pub(super) fn fill_where_low(&mut self, subscription: u32) {
        self.fill_below(subscription, self.capacity() / 4);
    }

    /// Begins to fill a queue: from which key on, and how many deliveries; none where there is
    /// nothing to do.
    ///
    /// Between this call and the beginning of the read transaction no commit may be applied.
    pub(in crate::disk) fn begin_load(&mut self, subscription: u32) -> Option<(ReadyKey, usize)> {
        let room = self
            .capacity()
            .saturating_sub(self.machine.ready(SubscriptionNumber(subscription)));
        let window = self.windows.get_mut(&subscription)?;
        let beyond = window.beyond?;
        window.loading = Some(Loading::default());
        Some((beyond, room.max(1)))
    }

    /// Takes what was read; `next` is the key of the first row that was not, none where the end
    /// was reached. Returns false where it was of no use, and the load has to be made again.
    pub(in crate::disk) fn end_load(
        &mut self,
        subscription: u32,
        rows: Vec<PendingRow>,
        next: Option<ReadyKey>,
    ) -> bool {
        let number = SubscriptionNumber(subscription);
        let leased = self.machine.leased(number);
        let Some(window) = self.windows.get_mut(&subscription) else {
            return true;
        };
        let Some(loading) = window.loading.take() else {
            return true;
        };
        if loading.stale {
            self.low.insert(subscription);
            return false;
        }
        window.beyond = next.into_iter().chain(loading.skipped).min();
        for mut row in rows {
            let ready_key = row.ready_key();
            if window.beyond.is_some_and(|beyond| ready_key >= beyond) {
                break;
            }
            let is_block = row.is_block();
            let run = if is_block { 0 } else { row.key.run };
            row.sequences.retain(|sequence| {
                let key = DeliveryKey {
                    subscription: number,
                    sequence: *sequence,
                    run,
                };
                // One of a block that was leased and came back stands alone in the window.
                let is_back = is_block && self.machine.is_ready(key, row.due);
                !is_back && !leased.contains(&(*sequence, run))
            });
            if row.sequences.is_empty() {
                continue;
            }
            if row.immediate {
                window.immediate_until = window.immediate_until.max(row.due);
            }
            self.machine.insert(number, ready_key, slot(row));
        }
        true
    }
}
