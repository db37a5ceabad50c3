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
//! - Of one subscription, what is due is leased by due time, then sequence, then run.
//! - Of one order key at most one delivery is in the ready queue or in flight: the one with the
//!   lowest sequence and run, unless a later one was in flight when an earlier one came.
//! - Whenever something becomes leasable that was not, its subscription is among the next
//!   [news](DeliveryQueues::take_news), and the sleeper is to be [woken](DeliveryQueues::wakes).

mod lease;
mod order;
mod waking;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::Duration;

use pointsman_schemas::{Clock, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;
use tokio::time::Instant;

pub use self::lease::Lease;
use self::order::KeyQueue;
use self::waking::Alarm;
use crate::LeaseOwner;

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

/// A place in the ready queue of a subscription; places are ordered as they are leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The due time.
    pub due: Timestamp,
    /// The event's sequence; of a block the lowest that it has or had.
    pub sequence: u64,
    /// The run, or [`Place::BLOCK`].
    pub run: i64,
}

impl Place {
    /// The run in the place of a block. A block is made of first runs, and goes before one of them
    /// that stands alone.
    pub const BLOCK: i64 = -1;

    /// The place before all others.
    pub const FIRST: Self = Self {
        due: Timestamp(i64::MIN),
        sequence: 0,
        run: Self::BLOCK,
    };

    /// The place of a delivery that stands alone.
    #[must_use]
    pub fn of(key: &DeliveryKey, due: Timestamp) -> Self {
        Self {
            due,
            sequence: key.sequence,
            run: key.run.cast_signed(),
        }
    }

    /// The run of the deliveries at this place.
    fn delivery_run(&self) -> u64 {
        self.run.max(0).cast_unsigned()
    }

    /// The place among the deliveries of one order key, which ignores due times.
    fn rank(&self) -> (u64, i64) {
        (self.sequence, self.run)
    }
}

/// What waits at one place: a delivery, or a block of several that differ in their sequence alone.
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
}

/// Where the deliveries of an order key wait that may not be leased yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// Here: the caller inserts all deliveries, and the machine finds the first of each key.
    Here,
    /// With the caller, who inserts the first delivery of each key alone, and the next one when
    /// that has ended. Where an earlier one takes its place he removes it first. So a delivery
    /// takes no more memory for having an order key.
    AtCaller,
}

/// The queues of all subscriptions. See the [module](self).
#[derive(Debug)]
pub struct DeliveryQueues<T, L = ()> {
    owner: LeaseOwner,
    parking: Parking,
    queues: HashMap<SubscriptionNumber, Queue<T>>,
    /// Deliveries in all ready queues.
    ready: usize,
    leases: HashMap<u64, Lease<T, L>>,
    /// Tokens by when their leases run out, those that were given out one after the other together.
    deadlines: BTreeMap<Instant, Vec<Range<u64>>>,
    last_token: u64,
    /// The next due time in the future of each queue that has one.
    timers: BTreeSet<(Timestamp, SubscriptionNumber)>,
    news: BTreeSet<SubscriptionNumber>,
    /// What whoever waits for news sleeps for.
    sleeper: Option<Alarm>,
    /// The latest time that anybody has brought here.
    time: Timestamp,
}

#[derive(Debug)]
struct Queue<T> {
    is_open: bool,
    /// Nothing is leased until whoever is taking deliveries out has come to an end.
    is_held: bool,
    slots: BTreeMap<Place, Slot<T>>,
    /// Deliveries in the slots.
    ready: usize,
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
            is_held: false,
            slots: BTreeMap::new(),
            ready: 0,
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
            queues: HashMap::new(),
            ready: 0,
            leases: HashMap::new(),
            deadlines: BTreeMap::new(),
            last_token,
            timers: BTreeSet::new(),
            news: BTreeSet::new(),
            sleeper: None,
            time: Timestamp(i64::MIN),
        }
    }

    /// The number of the token that was given out last.
    #[must_use]
    pub fn last_token(&self) -> u64 {
        self.last_token
    }

    /// The latest time that the machine has been told.
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
            .is_some_and(|queue| queue.is_open && !queue.is_held)
    }

    /// Leases nothing of a subscription until [`DeliveryQueues::resume`]: somebody takes deliveries
    /// out of it, and does not know yet whether he will succeed.
    pub fn hold(&mut self, subscription: SubscriptionNumber) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.is_held = true;
        }
    }

    /// Ends a [`hold`](DeliveryQueues::hold).
    pub fn resume(&mut self, subscription: SubscriptionNumber) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.is_held = false;
        }
        self.announce(subscription);
    }

    /// Removes a subscription with everything that waits in it; leases of it end.
    pub fn remove_subscription(&mut self, subscription: SubscriptionNumber) {
        let Some(queue) = self.queues.remove(&subscription) else {
            return;
        };
        self.ready -= queue.ready;
        if let Some(timer) = queue.timer {
            self.timers.remove(&(timer, subscription));
        }
        self.news.remove(&subscription);
        if queue.in_flight > 0 {
            self.leases
                .retain(|_, lease| lease.key.subscription != subscription);
        }
    }

    /// Puts a slot into its queue. What waits at the same place or, with an order key, as the same
    /// delivery is replaced.
    pub fn insert(&mut self, subscription: SubscriptionNumber, place: Place, slot: Slot<T>) {
        match slot.order_key {
            Some(order_key) => self.insert_ordered(subscription, order_key, place, slot),
            None => self.push(subscription, place, slot),
        }
    }

    /// Puts a slot into the ready queue, and sees to it that somebody hears of it in time.
    fn push(&mut self, subscription: SubscriptionNumber, place: Place, slot: Slot<T>) {
        let queue = self.queues.entry(subscription).or_default();
        if slot.immediate {
            queue.immediate_until = queue.immediate_until.max(place.due);
        }
        let (is_due, count) = (
            slot.immediate || place.due <= self.time,
            slot.sequences.len(),
        );
        let replaced = queue.slots.insert(place, slot);
        let replaced = replaced.map_or(0, |slot| slot.sequences.len());
        queue.ready = queue.ready + count - replaced;
        self.ready = self.ready + count - replaced;
        if !is_due {
            self.set_timer(subscription, place.due);
        } else if queue.is_open {
            self.news.insert(subscription);
        }
    }

    /// Takes a waiting delivery out of the queue; false where it does not wait.
    pub fn remove(&mut self, key: DeliveryKey, due: Timestamp) -> bool {
        let Some(queue) = self.queues.get_mut(&key.subscription) else {
            return false;
        };
        let from = Place {
            due,
            sequence: 0,
            run: Place::BLOCK,
        };
        let to = Place {
            due,
            sequence: key.sequence,
            run: i64::MAX,
        };
        // From behind: the places of blocks are those of their first ones.
        let found = queue
            .slots
            .range_mut(from..=to)
            .rev()
            .find(|(place, slot)| {
                place.delivery_run() == key.run && slot.sequences.contains(&key.sequence)
            });
        let Some((&place, slot)) = found else {
            return self.remove_behind(key);
        };
        slot.sequences.retain(|sequence| *sequence != key.sequence);
        let (is_empty, order_key) = (slot.sequences.is_empty(), slot.order_key);
        if is_empty {
            queue.slots.remove(&place);
        }
        queue.ready -= 1;
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
        self.ready -= std::mem::take(&mut queue.ready);
        queue.slots.clear();
        queue
            .order_keys
            .retain(|_, key_queue| key_queue.is_in_flight());
    }

    /// Whether a delivery is in the ready queue, at a place of its own.
    #[must_use]
    pub fn is_ready(&self, key: DeliveryKey, due: Timestamp) -> bool {
        let queue = self.queues.get(&key.subscription);
        queue.is_some_and(|queue| queue.slots.contains_key(&Place::of(&key, due)))
    }

    /// Deliveries in the ready queue of a subscription, due or not.
    #[must_use]
    pub fn ready(&self, subscription: SubscriptionNumber) -> usize {
        self.queues
            .get(&subscription)
            .map_or(0, |queue| queue.ready)
    }

    /// Deliveries in all ready queues.
    #[must_use]
    pub fn all_ready(&self) -> usize {
        self.ready
    }

    /// The last place of a ready queue.
    #[must_use]
    pub fn last_place(&self, subscription: SubscriptionNumber) -> Option<Place> {
        let (place, _) = self.queues.get(&subscription)?.slots.last_key_value()?;
        Some(*place)
    }
}

impl<T> Queue<T> {
    /// The slots that are due, in order.
    fn due(&self, time: Timestamp) -> impl Iterator<Item = (&Place, &Slot<T>)> {
        let until = Place {
            due: time.max(self.immediate_until),
            sequence: u64::MAX,
            run: i64::MAX,
        };
        self.slots
            .range(..=until)
            .filter(move |(place, slot)| place.due <= time || slot.immediate)
    }

    /// The first due time after this one.
    fn next_due(&self, time: Timestamp) -> Option<Timestamp> {
        let after = Place {
            due: Timestamp(time.0.saturating_add(1)),
            sequence: 0,
            run: i64::MIN,
        };
        self.slots.range(after..).next().map(|(place, _)| place.due)
    }
}
