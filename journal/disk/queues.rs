//! What is known in memory of the deliveries on disk: the front of every queue, what is in flight,
//! and events that are likely to be leased soon.
//!
//! ```text
//! by due time:   [ window: in memory ]  beyond │ rows that only the disk knows
//! ```
//!
//! Each queue holds a window for every priority that its deliveries have: every row on disk of that
//! priority whose key lies before `beyond` and that is not leased. Where `beyond` is none the window
//! is all there is. Fresh rows past it are left to the
//! disk and loaded when the window runs low, so that a backlog takes no memory. Everything here
//! follows a commit and never runs ahead of it. What is leased in which order, and when, is up to
//! the [machine](crate::queue).

mod cache;
mod lease;
mod load;
mod window;

pub(super) use cache::Cache;
pub(super) use lease::{Damaged, Found, Leasing, Need};
pub(super) use load::{Load, Loaded};

use std::collections::{BTreeSet, HashSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Name, Sequence, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

pub(super) use self::window::Lane;
use self::window::Windows;
use super::epochs::Epochs;
use super::record::EventRow;
use super::row::{PendingRow, RowKey};
use crate::queue::{DeliveryQueues, Parking, Slot};
pub(super) use crate::queue::{Moment, ReadyKey};
use crate::{Due, LeaseOwner, LeaseToken, MadeDelivery, NumberMap, ReplayId, Watch};

/// Deliveries of one subscription in memory: enough for the widest grant between two loads.
const WINDOW_DELIVERIES: usize = 1024;
/// Deliveries of all subscriptions in memory, about 100 bytes each where they lie alone; past it
/// every window is as small as the next.
const WINDOWS_DELIVERIES: usize = 200_000;
const WINDOW_DELIVERIES_LEAST: usize = 8;

/// What a delivery carries, waiting or in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// The sequence in the key of the block that it lies in; none where it has a row of its own.
    block: Option<NonZeroU64>,
    since: Timestamp,
    attempts: u32,
    failures: u32,
    batch_max: Option<NonZeroU32>,
    replay: Option<ReplayId>,
}

/// A leased delivery, with all that is needed to settle it.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) key: RowKey,
    /// The sequence in the key of the block that it lies in; none where it has a row of its own.
    pub(super) block: Option<u64>,
    pub(super) due: Due,
    pub(super) since: Timestamp,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) batch_max: Option<NonZeroU32>,
    pub(super) order_key: Option<u64>,
    pub(super) replay: Option<ReplayId>,
    pub(super) origin: Name,
}

/// What a commit changes here.
#[derive(Debug)]
pub(super) enum Effect {
    /// A row is there (again), not leased.
    Insert(PendingRow),
    /// A delivery is gone from the queue without having been leased.
    Remove { key: RowKey, due: Due },
    /// A lease has ended; other effects say what became of its delivery.
    End(LeaseToken),
    /// A lease has ended and its delivery is as it was.
    Release(LeaseToken),
    /// Deliveries were made of an event of which somebody wants to know.
    Made(Arc<dyn Watch>, u64, Vec<MadeDelivery>),
    /// An event was stored that somebody waits for.
    Cache(u64, Arc<EventRow>),
    /// A subscription is leased from, or is not.
    Open(u32, bool),
    /// What a transaction took out of a subscription is out: it is leased from again.
    Resume(u32),
    /// A subscription is there no more.
    Forget(u32),
}

#[derive(Debug)]
pub(super) struct Queues {
    machine: DeliveryQueues<Carried, Name>,
    windows: NumberMap<u32, Windows>,
    /// What the loader should fill.
    low: BTreeSet<Lane>,
    pub(super) cache: Cache,
    epochs: Arc<Epochs>,
}

impl Queues {
    /// Empty queues whose tokens go on after `last_token`, of deliveries made in these epochs.
    pub(super) fn new(last_token: u64, epochs: Arc<Epochs>) -> Self {
        Self {
            // The disk parks what waits for an earlier one of its order key.
            machine: DeliveryQueues::new(LeaseOwner::Disk, Parking::AtCaller, last_token),
            windows: NumberMap::default(),
            low: BTreeSet::new(),
            cache: Cache::default(),
            epochs,
        }
    }

    pub(super) fn last_token(&self) -> u64 {
        self.machine.last_token()
    }

    /// Makes a subscription known, with all of its rows on disk alone.
    pub(super) fn add(&mut self, subscription: u32, open: bool, has_rows: bool) {
        self.machine
            .set_open(SubscriptionNumber(subscription), open);
        if has_rows {
            self.unload(subscription);
        }
    }

    /// Says that all of a subscription's rows are on disk alone.
    fn unload(&mut self, subscription: u32) {
        let windows = self.windows.entry(subscription).or_default();
        windows.unload();
        self.low.extend(windows.lanes(subscription));
    }

    pub(super) fn in_flight(&self, subscription: u32) -> u64 {
        self.machine.in_flight(SubscriptionNumber(subscription)) as u64
    }

    /// Takes a lease for settling; none where it does not hold.
    pub(super) fn claim(&mut self, token: LeaseToken, now: Instant) -> Option<Lease> {
        let lease = self.machine.claim(token, now)?;
        let Carried {
            block,
            since,
            attempts,
            failures,
            batch_max,
            replay,
        } = lease.carried;
        Some(Lease {
            key: lease.key.into(),
            block: block.map(NonZeroU64::get),
            due: lease.due,
            since,
            attempts,
            failures,
            batch_max,
            order_key: lease.order_key,
            replay,
            origin: lease.attached.clone(),
        })
    }

    /// Takes a delivery out of the queue, so that nobody leases it; false where it is in flight.
    pub(super) fn withhold(&mut self, key: RowKey, due: Due) -> bool {
        if self.machine.is_in_flight(key.into()) {
            return false;
        }
        self.remove(key, due);
        true
    }

    /// Leases nothing of a subscription until a transaction has come to its end, which takes
    /// deliveries out of it.
    pub(super) fn pause(&mut self, subscription: u32) {
        self.machine.pause(SubscriptionNumber(subscription));
    }

    /// The deliveries of a subscription that are in flight: sequence and run.
    pub(super) fn leased(&self, subscription: u32) -> HashSet<(u64, u64)> {
        self.machine.leased(SubscriptionNumber(subscription))
    }

    /// Undoes what a transaction that did not happen had claimed and withheld.
    pub(super) fn undo(&mut self, claimed: &[LeaseToken], withheld: &BTreeSet<u32>) {
        for token in claimed {
            self.machine.unclaim(*token);
        }
        for number in withheld {
            let Some(windows) = self.windows.get_mut(number) else {
                continue;
            };
            windows.spoil_loading();
            self.machine.clear(SubscriptionNumber(*number));
            self.machine.resume(SubscriptionNumber(*number));
            self.unload(*number);
        }
    }

    pub(super) fn apply(&mut self, effects: impl IntoIterator<Item = Effect>, time: Timestamp) {
        self.machine.advance_time(time);
        for effect in effects {
            match effect {
                Effect::Insert(row) => self.insert(row),
                Effect::Remove { key, due } => {
                    self.remove(key, due);
                    self.fill_where_empty(key.subscription);
                }
                Effect::Made(watch, sequence, made) => watch.made(Sequence(sequence), made),
                Effect::Cache(sequence, stored) => self.cache.insert(sequence, stored),
                Effect::End(token) => drop(self.machine.end(token)),
                Effect::Release(token) => self.machine.release(token),
                Effect::Open(subscription, open) => {
                    self.machine
                        .set_open(SubscriptionNumber(subscription), open);
                    self.fill_where_empty(subscription);
                }
                Effect::Resume(subscription) => {
                    self.machine.resume(SubscriptionNumber(subscription));
                    self.fill_where_empty(subscription);
                }
                Effect::Forget(subscription) => {
                    self.machine
                        .remove_subscription(SubscriptionNumber(subscription));
                    if let Some(windows) = self.windows.remove(&subscription) {
                        for lane in windows.lanes(subscription) {
                            self.low.remove(&lane);
                        }
                    }
                }
            }
        }
    }

    fn insert(&mut self, row: PendingRow) {
        let (number, ready_key) = (row.key.subscription, row.ready_key());
        let subscription = SubscriptionNumber(number);
        let capacity = self.capacity();
        let priority = row.due.priority();
        let (window, is_low) = self.windows.entry(number).or_default().of(priority);
        if is_low {
            self.low.insert(Lane {
                subscription: number,
                priority,
            });
        }
        if row.immediate {
            window.immediate_until = window.immediate_until.max(row.due.time());
        }
        // What waits for the one of its order key that is in flight takes no place in the window.
        let is_behind = row
            .order_key
            .is_some_and(|order_key| self.machine.is_busy(subscription, order_key));
        if !is_behind {
            if window.beyond.is_none()
                && self.machine.ready_of(subscription, priority) >= capacity
                && self
                    .machine
                    .last_ready_key(subscription, priority)
                    .is_none_or(|last| last < ready_key)
            {
                window.beyond = Some(ready_key);
            }
            if window.beyond.is_some_and(|beyond| ready_key >= beyond) {
                if let Some(loading) = &mut window.loading {
                    let skipped = loading.skipped;
                    loading.skipped =
                        Some(skipped.map_or(ready_key, |skipped| skipped.min(ready_key)));
                }
                return;
            }
        }
        self.machine.insert(subscription, ready_key, slot(row));
    }

    fn remove(&mut self, key: RowKey, due: Due) {
        if let Some(windows) = self.windows.get_mut(&key.subscription) {
            windows.spoil_loading();
        }
        self.machine.remove(key.into(), due);
    }

    /// Brings the queues up to a moment.
    pub(super) fn advance(&mut self, now: Moment) {
        self.machine.advance(now);
    }

    /// The subscriptions that may have something to lease which they had not before.
    pub(super) fn take_ready(&mut self) -> Option<Vec<SubscriptionNumber>> {
        self.machine.take_ready()
    }

    /// Whether whoever sleeps is to be woken.
    pub(super) fn should_wake(&self) -> bool {
        self.machine.should_wake()
    }

    /// How long the caller may sleep, who is woken when that changes.
    pub(super) fn sleep(&mut self, now: Moment) -> Duration {
        self.machine.sleep(now)
    }
}

/// A row as it waits in the window.
fn slot(row: PendingRow) -> Slot<Carried> {
    let is_block = row.is_block();
    let carried = Carried {
        block: NonZeroU64::new(row.key.sequence).filter(|_| is_block),
        since: row.since,
        attempts: row.attempts,
        failures: row.failures,
        batch_max: row.batch_max,
        replay: row.replay,
    };
    if is_block {
        Slot::block(row.sequences, carried)
    } else {
        Slot::one(row.key.sequence, row.immediate, row.order_key, carried)
    }
}
