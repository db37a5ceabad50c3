//! The delivery queue: what of every subscription may be leased next, who has leased what, and when
//! something falls due.
//!
//! ```text
//!            ┌──────────── release, retry, a lease that runs out ───────────┐
//!            ▼                                                              │
//! insert ─▶ ready queue, by (due time, sequence, run) ── take ──▶ in flight ┴─ end ─▶ gone
//!            ▲                                                              │
//!  behind an earlier one of its order key ◀──────── which is freed ─────────┘
//! ```
//!
//! It is a machine without IO and without a clock: its caller says what time it is, keeps what the
//! deliveries are made of, and looks after their durability. The journal on disk, the one in memory
//! and the pipes are its callers. It carries a value `T` for each delivery that waits, and a value
//! `L` beside it while that is in flight.
//!
//! # Invariants
//!
//! - A delivery waits or is in flight, never both, and is leased to one token at a time. A token is
//!   given out once; after its lease has ended, in whatever way, it does nothing.
//! - Of one subscription and one [priority](crate::Priority), what is due is leased by due time,
//!   then sequence, then run. Of the first ones of several priorities the one goes that fell due
//!   first, where each is taken to have done so ten minutes earlier for every priority above the
//!   usual one.
//! - Of one order key at most one delivery is in the ready queue or in flight: the one with the
//!   lowest sequence and run, unless a later one was in flight when an earlier one came.
//! - Whenever something becomes leasable that was not, its subscription is among the next
//!   [ready ones](DeliveryQueues::take_ready), and whoever sleeps is to be
//!   [woken](DeliveryQueues::should_wake).

mod batch;
mod lease;
mod order;
mod waking;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use pointsman_schemas::{Clock, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;
use tokio::time::Instant;

pub use self::batch::{Filling, Fit, Member};
pub use self::lease::Lease;
use self::order::KeyQueue;
use self::waking::Alarm;
use crate::{Due, LeaseOwner, NumberMap, Priority};

/// How far in the future a lease may end: "for ever", and no overflow.
const LEASE_MAX: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// The time by which deliveries fall due and the time by which leases run out, read together.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time of the journal's clock.
    pub time: Timestamp,
    /// The runtime's time.
    pub instant: Instant,
}

impl Moment {
    /// Reads both clocks.
    #[must_use]
    pub fn now(clock: &dyn Clock) -> Self {
        Self {
            time: clock.now(),
            instant: Instant::now(),
        }
    }

    /// Returns the end of a lease that begins now; a year from now at the latest.
    #[must_use]
    pub fn after(&self, lease: Duration) -> Instant {
        self.instant + lease.min(LEASE_MAX)
    }
}

/// Identifies a delivery within a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// The subscription that it is for.
    pub subscription: SubscriptionNumber,
    /// Its event's sequence.
    pub sequence: u64,
    /// Its run.
    pub run: u64,
}

/// The key of an entry in the ready queue of a subscription; keys of one priority are ordered as
/// their entries are leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyKey {
    /// The due time, and how urgent it is then.
    pub due: Due,
    /// The event's sequence; of a block the lowest that it has or had.
    pub sequence: u64,
    /// The run, or [`ReadyKey::BLOCK`].
    pub run: i64,
}

impl ReadyKey {
    /// The run in the key of a block. A block is made of first runs, and goes before one of them
    /// that stands alone.
    pub const BLOCK: i64 = -1;

    /// The key before all others of a priority.
    #[must_use]
    pub fn first(priority: Priority) -> Self {
        Self {
            due: Due::first(priority),
            sequence: 0,
            run: Self::BLOCK,
        }
    }

    /// The key of a delivery that stands alone.
    #[must_use]
    pub fn of(key: &DeliveryKey, due: impl Into<Due>) -> Self {
        Self {
            due: due.into(),
            sequence: key.sequence,
            run: key.run.cast_signed(),
        }
    }

    /// The delivery of this sequence under this key.
    #[must_use]
    pub fn delivery(&self, subscription: SubscriptionNumber, sequence: u64) -> DeliveryKey {
        DeliveryKey {
            subscription,
            sequence,
            run: self.delivery_run(),
        }
    }

    /// The run of the deliveries under this key.
    fn delivery_run(&self) -> u64 {
        self.run.max(0).cast_unsigned()
    }

    /// The rank among the deliveries of one order key, which ignores due times.
    fn rank(&self) -> (u64, i64) {
        (self.sequence, self.run)
    }
}

/// What waits under one key: a delivery, or a block of several that differ in their sequence alone.
/// A block has no order key.
#[derive(Clone, Debug)]
pub struct Slot<T> {
    /// The sequences, of which the last goes first.
    sequences: SmallVec<[u64; 1]>,
    /// Made to be due at once: it is due, even where the clock is behind its due time.
    immediate: bool,
    order_key: Option<u64>,
    carried: T,
}

impl<T> Slot<T> {
    /// A slot of one delivery.
    pub fn one(sequence: u64, immediate: bool, order_key: Option<u64>, carried: T) -> Self {
        Self {
            sequences: SmallVec::from_buf([sequence]),
            immediate,
            order_key,
            carried,
        }
    }

    /// A block of these sequences, in increasing order, all due at once.
    pub fn block(mut sequences: SmallVec<[u64; 1]>, carried: T) -> Self {
        sequences.reverse();
        Self {
            sequences,
            immediate: true,
            order_key: None,
            carried,
        }
    }

    /// What it carries.
    pub fn carried(&self) -> &T {
        &self.carried
    }

    /// Whether it is due under its key.
    fn is_due(&self, ready_key: ReadyKey, time: Timestamp) -> bool {
        self.immediate || ready_key.due.time() <= time
    }
}

/// Where the deliveries of an order key wait that may not be leased yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// Here: the caller inserts all deliveries, and the machine finds the first of each key.
    Here,
    /// With the caller, who inserts the first delivery of each key alone, and the next one when
    /// that has ended. Where an earlier one comes, the caller removes the first one before. So a
    /// delivery takes no more memory for having an order key.
    AtCaller,
}

/// The queues of all subscriptions. See the [module](self).
#[derive(Debug)]
pub struct DeliveryQueues<T, L = ()> {
    owner: LeaseOwner,
    parking: Parking,
    queues: NumberMap<SubscriptionNumber, Queue<T>>,
    /// Deliveries in all ready queues.
    ready: usize,
    leases: NumberMap<u64, Lease<T, L>>,
    /// Tokens by when their leases run out, those that were given out one after the other together.
    deadlines: BTreeMap<Instant, Vec<Range<u64>>>,
    last_token: u64,
    /// The next due time in the future of each queue that has one.
    timers: BTreeSet<(Timestamp, SubscriptionNumber)>,
    newly_ready: BTreeSet<SubscriptionNumber>,
    /// What whoever waits for something to lease sleeps for.
    sleeper: Option<Alarm>,
    /// The latest time that anybody has brought here.
    time: Timestamp,
}

#[derive(Debug)]
struct Queue<T> {
    is_open: bool,
    /// Nothing is leased until whoever is taking deliveries out has come to an end.
    is_paused: bool,
    slots: BTreeMap<ReadyKey, Slot<T>>,
    /// Deliveries in the slots, by priority.
    ready: [usize; Priority::COUNT],
    in_flight: usize,
    /// Up to here there are immediate slots: those are due, whatever the time is.
    immediate_until: Timestamp,
    timer: Option<Timestamp>,
    /// The order keys that have somebody in flight or behind; with [`Parking::Here`] all of them.
    order_keys: BTreeMap<u64, KeyQueue<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            is_open: false,
            is_paused: false,
            slots: BTreeMap::new(),
            ready: [0; Priority::COUNT],
            in_flight: 0,
            immediate_until: Timestamp(i64::MIN),
            timer: None,
            order_keys: BTreeMap::new(),
        }
    }
}

impl<T: Clone, L> DeliveryQueues<T, L> {
    /// No queues yet. Tokens are numbered from `last_token` on, which is that of the machine in
    /// whose place this one comes, so that none is given out twice.
    #[must_use]
    pub fn new(owner: LeaseOwner, parking: Parking, last_token: u64) -> Self {
        Self {
            owner,
            parking,
            queues: NumberMap::default(),
            ready: 0,
            leases: NumberMap::default(),
            deadlines: BTreeMap::new(),
            last_token,
            timers: BTreeSet::new(),
            newly_ready: BTreeSet::new(),
            sleeper: None,
            time: Timestamp(i64::MIN),
        }
    }

    /// The number of the token that was given out last.
    #[must_use]
    pub fn last_token(&self) -> u64 {
        self.last_token
    }

    /// The latest time that the machine knows of.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Opens a subscription for leasing or closes it, and makes it known where it was not.
    pub fn set_open(&mut self, subscription: SubscriptionNumber, is_open: bool) {
        self.queues.entry(subscription).or_default().is_open = is_open;
        self.announce(subscription);
    }

    /// Whether a subscription may be leased from.
    #[must_use]
    pub fn is_open(&self, subscription: SubscriptionNumber) -> bool {
        self.queues
            .get(&subscription)
            .is_some_and(|queue| queue.is_open && !queue.is_paused)
    }

    /// Leases nothing of a subscription until [`DeliveryQueues::resume`]: somebody takes deliveries
    /// out of it, and may still fail.
    pub fn pause(&mut self, subscription: SubscriptionNumber) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.is_paused = true;
        }
    }

    /// Ends a [`pause`](DeliveryQueues::pause).
    pub fn resume(&mut self, subscription: SubscriptionNumber) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.is_paused = false;
        }
        self.announce(subscription);
    }

    /// Removes a subscription with everything that waits in it; leases of it end.
    pub fn remove_subscription(&mut self, subscription: SubscriptionNumber) {
        let Some(queue) = self.queues.remove(&subscription) else {
            return;
        };
        self.ready -= queue.all_ready();
        if let Some(timer) = queue.timer {
            self.timers.remove(&(timer, subscription));
        }
        self.newly_ready.remove(&subscription);
        if queue.in_flight > 0 {
            self.leases
                .retain(|_, lease| lease.key.subscription != subscription);
        }
    }

    /// Puts a slot into its queue. What waits under the same key or, with an order key, as the same
    /// delivery is replaced.
    pub fn insert(&mut self, subscription: SubscriptionNumber, ready_key: ReadyKey, slot: Slot<T>) {
        match slot.order_key {
            Some(order_key) => self.insert_ordered(subscription, order_key, ready_key, slot),
            None => self.push(subscription, ready_key, slot),
        }
    }

    /// Puts a slot into the ready queue, and sees to it that somebody hears of it in time.
    fn push(&mut self, subscription: SubscriptionNumber, ready_key: ReadyKey, slot: Slot<T>) {
        let queue = self.queues.entry(subscription).or_default();
        let due = ready_key.due.time();
        if slot.immediate {
            queue.immediate_until = queue.immediate_until.max(due);
        }
        let (is_due, count) = (slot.immediate || due <= self.time, slot.sequences.len());
        let replaced = queue.slots.insert(ready_key, slot);
        let replaced = replaced.map_or(0, |slot| slot.sequences.len());
        queue.count(ready_key, |ready| ready + count - replaced);
        self.ready = self.ready + count - replaced;
        if !is_due {
            self.set_timer(subscription, due);
        } else if queue.is_open {
            self.newly_ready.insert(subscription);
        }
    }

    /// Takes a waiting delivery out of the queue; false where it does not wait.
    pub fn remove(&mut self, key: DeliveryKey, due: impl Into<Due>) -> bool {
        let due = due.into();
        let Some(queue) = self.queues.get_mut(&key.subscription) else {
            return false;
        };
        let from = ReadyKey {
            due,
            sequence: 0,
            run: ReadyKey::BLOCK,
        };
        let to = ReadyKey {
            due,
            sequence: key.sequence,
            run: i64::MAX,
        };
        // From behind: the keys of blocks are those of their first ones.
        let found = queue
            .slots
            .range_mut(from..=to)
            .rev()
            .find(|(ready_key, slot)| {
                ready_key.delivery_run() == key.run && slot.sequences.contains(&key.sequence)
            });
        let Some((&ready_key, slot)) = found else {
            return self.remove_behind(key);
        };
        slot.sequences.retain(|sequence| *sequence != key.sequence);
        let (is_empty, order_key) = (slot.sequences.is_empty(), slot.order_key);
        if is_empty {
            queue.slots.remove(&ready_key);
        }
        queue.count(ready_key, |ready| ready - 1);
        self.ready -= 1;
        self.leave_key(key.subscription, order_key);
        true
    }

    /// Empties the ready queue of a subscription. What is in flight stays so, with what waits
    /// behind it.
    pub fn clear(&mut self, subscription: SubscriptionNumber) {
        let Some(queue) = self.queues.get_mut(&subscription) else {
            return;
        };
        self.ready -= queue.all_ready();
        queue.ready = [0; Priority::COUNT];
        queue.slots.clear();
        queue
            .order_keys
            .retain(|_, key_queue| key_queue.is_in_flight());
    }

    /// Whether a delivery is in the ready queue, under a key of its own.
    #[must_use]
    pub fn is_ready(&self, key: DeliveryKey, due: Due) -> bool {
        let queue = self.queues.get(&key.subscription);
        queue.is_some_and(|queue| queue.slots.contains_key(&ReadyKey::of(&key, due)))
    }

    /// Deliveries in the ready queue of a subscription, due or not.
    #[must_use]
    pub fn ready(&self, subscription: SubscriptionNumber) -> usize {
        self.queues.get(&subscription).map_or(0, Queue::all_ready)
    }

    /// The same of one priority.
    #[must_use]
    pub fn ready_of(&self, subscription: SubscriptionNumber, priority: Priority) -> usize {
        let queue = self.queues.get(&subscription);
        queue.map_or(0, |queue| queue.ready_of(priority))
    }

    /// Deliveries in all ready queues.
    #[must_use]
    pub fn all_ready(&self) -> usize {
        self.ready
    }

    /// The last key of a priority in a ready queue.
    #[must_use]
    pub fn last_ready_key(
        &self,
        subscription: SubscriptionNumber,
        priority: Priority,
    ) -> Option<ReadyKey> {
        let queue = self.queues.get(&subscription)?;
        let mut lane = queue
            .slots
            .range(ReadyKey::first(priority)..=last_until(Due::last(priority)));
        lane.next_back().map(|(ready_key, _)| *ready_key)
    }
}

/// The last key that may be due at a time.
fn last_until(due: Due) -> ReadyKey {
    ReadyKey {
        due,
        sequence: u64::MAX,
        run: i64::MAX,
    }
}

impl<T> Queue<T> {
    fn all_ready(&self) -> usize {
        self.ready.iter().sum()
    }

    fn ready_of(&self, priority: Priority) -> usize {
        let ready = self.ready.get(priority.index());
        ready.copied().unwrap_or_default()
    }

    /// Counts the deliveries of a key's priority anew.
    fn count(&mut self, ready_key: ReadyKey, count: impl FnOnce(usize) -> usize) {
        if let Some(ready) = self.ready.get_mut(ready_key.due.priority().index()) {
            *ready = count(*ready);
        }
    }

    /// The priorities that anything waits with.
    fn priorities(&self) -> impl Iterator<Item = Priority> {
        Priority::all().filter(|priority| self.ready_of(*priority) > 0)
    }

    /// The slots of a priority that are due, in order.
    fn due_of(
        &self,
        priority: Priority,
        time: Timestamp,
    ) -> impl Iterator<Item = (&ReadyKey, &Slot<T>)> {
        let until = last_until(Due::new(priority, time.max(self.immediate_until)));
        self.slots
            .range(ReadyKey::first(priority)..=until)
            .filter(move |(ready_key, slot)| slot.is_due(**ready_key, time))
    }

    /// The slots that are due, in the order in which they are leased.
    fn due(&self, time: Timestamp) -> impl Iterator<Item = (&ReadyKey, &Slot<T>)> {
        let mut lanes: SmallVec<[_; 1]> = self
            .priorities()
            .map(|priority| self.due_of(priority, time).peekable())
            .collect();
        std::iter::from_fn(move || {
            let heads = lanes.iter_mut().enumerate();
            let heads = heads.filter_map(|(at, lane)| Some((turn(*lane.peek()?.0), at)));
            let (_, at) = heads.min()?;
            lanes.get_mut(at)?.next()
        })
    }

    /// The first due time after this one.
    fn next_due(&self, time: Timestamp) -> Option<Timestamp> {
        let later = Timestamp(time.0.saturating_add(1));
        let nexts = self.priorities().filter_map(|priority| {
            let after = ReadyKey {
                due: Due::new(priority, later),
                ..ReadyKey::first(priority)
            };
            let mut lane = self.slots.range(after..=last_until(Due::last(priority)));
            lane.next().map(|(ready_key, _)| ready_key.due.time())
        });
        nexts.min()
    }
}

/// By what the first ones of several priorities are compared: the least goes next, of two alike the
/// more urgent one.
#[must_use]
pub fn turn(ready_key: ReadyKey) -> (Timestamp, Reverse<Priority>) {
    (ready_key.due.turn(), Reverse(ready_key.due.priority()))
}
