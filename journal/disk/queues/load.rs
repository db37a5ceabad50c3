//! Filling the windows from the disk.

use pointsman_schemas::SubscriptionNumber;

use super::{Lane, Queues, WINDOW_DELIVERIES, WINDOW_DELIVERIES_LEAST, WINDOWS_DELIVERIES, slot};
use crate::Priority;
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

/// What is to be read of a lane.
#[derive(Clone, Copy, Debug)]
pub(in crate::disk) struct Load {
    /// From this key on.
    pub(in crate::disk) from: ReadyKey,
    /// So many deliveries.
    pub(in crate::disk) count: usize,
    /// And which priorities the subscription's rows have.
    pub(in crate::disk) explores: bool,
}

/// What was read of a lane.
#[derive(Debug, Default)]
pub(in crate::disk) struct Loaded {
    pub(in crate::disk) rows: Vec<PendingRow>,
    /// The key of the first row that was not read; none where the end was reached.
    pub(in crate::disk) next: Option<ReadyKey>,
    /// Which priorities the subscription's rows have, where that was asked for.
    pub(in crate::disk) priorities: Option<Vec<Priority>>,
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

    /// Takes what should be filled from the disk.
    pub(in crate::disk) fn take_low(&mut self) -> Option<Lane> {
        self.low.pop_first()
    }

    pub(in crate::disk) fn has_low(&self) -> bool {
        !self.low.is_empty()
    }

    /// Has the windows filled that hold fewer deliveries than that.
    fn fill_below(&mut self, subscription: u32, count: usize) {
        let Some(windows) = self.windows.get(&subscription) else {
            return;
        };
        for (priority, window) in windows.iter() {
            let number = SubscriptionNumber(subscription);
            if window.beyond.is_some() && self.machine.ready_of(number, priority) < count {
                self.low.insert(Lane {
                    subscription,
                    priority,
                });
            }
        }
    }

    pub(super) fn fill_where_empty(&mut self, subscription: u32) {
        self.fill_below(subscription, 1);
    }

    pub(super) fn fill_where_low(&mut self, subscription: u32) {
        self.fill_below(subscription, self.capacity() / 4);
    }

    /// Begins to fill a lane; none where there is nothing to do.
    ///
    /// Between this call and the beginning of the read transaction no commit may be applied.
    pub(in crate::disk) fn begin_load(&mut self, lane: Lane) -> Option<Load> {
        let number = SubscriptionNumber(lane.subscription);
        let ready = self.machine.ready_of(number, lane.priority);
        let room = self.capacity().saturating_sub(ready);
        let windows = self.windows.get_mut(&lane.subscription)?;
        let explores = windows.is_unexplored;
        let (window, _) = windows.of(lane.priority);
        let from = window.beyond?;
        window.loading = Some(Loading::default());
        Some(Load {
            from,
            count: room.max(1),
            explores,
        })
    }

    /// Takes what was read. Returns false where it was of no use, and the load has to be made again.
    pub(in crate::disk) fn end_load(&mut self, lane: Lane, loaded: Loaded) -> bool {
        let Lane {
            subscription,
            priority,
        } = lane;
        let number = SubscriptionNumber(subscription);
        let leased = self.machine.leased(number);
        let Some(windows) = self.windows.get_mut(&subscription) else {
            return true;
        };
        if let Some(found) = loaded.priorities
            && windows.is_unexplored
        {
            let low = windows.explored(&found).into_iter();
            self.low.extend(low.map(|priority| Lane {
                subscription,
                priority,
            }));
        }
        let (window, _) = windows.of(priority);
        let Some(loading) = window.loading.take() else {
            return true;
        };
        if loading.stale {
            self.low.insert(lane);
            return false;
        }
        window.beyond = loaded.next.into_iter().chain(loading.skipped).min();
        for mut row in loaded.rows {
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
                window.immediate_until = window.immediate_until.max(row.due.time());
            }
            self.machine.insert(number, ready_key, slot(row));
        }
        true
    }
}
