//! What is known in memory of the deliveries on disk: the front of every queue, and who has leased
//! what.
//!
//! ```text
//! by due time:   [ window: in memory ]  beyond │ rows that only the disk knows
//! ```
//!
//! Each queue holds a window: every row on disk whose key lies before `beyond` and that is not
//! leased. Where `beyond` is none the window is all there is. Fresh rows past it are left to the
//! disk and loaded when the window runs low, so that a backlog takes no memory. Everything here
//! follows a commit and never runs ahead of it.

mod cache;
mod lease;

pub(super) use cache::Cache;
pub(super) use lease::{Damaged, Found, Leasing, Need};

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Clock, Name, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::epochs::Epochs;
use super::record::Kept;
use super::row::{PendingRow, RowKey};
use crate::queue::CLOCK_TRUSTED_FOR;
use crate::{LeaseOwner, LeaseToken};

/// Deliveries of one subscription in memory: enough for the widest grant between two loads.
const WINDOW_DELIVERIES: usize = 1024;
/// Deliveries of all subscriptions in memory, about 100 bytes each where they lie alone; past it
/// every window is as small as the next.
const WINDOWS_DELIVERIES: usize = 200_000;
const WINDOW_DELIVERIES_LEAST: usize = 8;

/// The time of day and the runtime's time, read together by who asks: the journal's own threads
/// have no runtime.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) time: Timestamp,
    pub(super) instant: Instant,
}

impl Moment {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self {
            time: clock.now(),
            instant: Instant::now(),
        }
    }
}

/// Due time, sequence, run: the order in which a queue is leased.
pub(super) type SlotKey = (i64, u64, i64);

/// A row, or what is left of it, in a window.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The sequence in the row's key.
    row: u64,
    /// Its deliveries lie in a block on disk.
    in_block: bool,
    /// The last one goes first.
    sequences: SmallVec<[u64; 1]>,
    immediate: bool,
    since: Timestamp,
    attempts: u32,
    failures: u32,
    order_key: Option<u64>,
}

/// A leased delivery, with all that is needed to put it back or to settle it.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) key: RowKey,
    /// The sequence in the key of the block that it lies in; none where it has a row of its own.
    pub(super) block: Option<u64>,
    pub(super) due: Timestamp,
    pub(super) since: Timestamp,
    pub(super) immediate: bool,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) order_key: Option<u64>,
    pub(super) origin: Name,
    pub(super) until: Instant,
    /// Handed to the writer: it does not run out any more.
    pub(super) settling: bool,
}

/// What a commit changes here.
#[derive(Debug)]
pub(super) enum Effect {
    /// A row is there (again), not leased.
    Insert(PendingRow),
    /// A delivery is gone from the queue without having been leased.
    Remove { key: RowKey, due: Timestamp },
    /// A lease has ended; what became of its delivery is told by other effects.
    End(u64),
    /// A lease has ended and its delivery is as it was.
    Release(u64),
    /// An event was stored that somebody waits for.
    Keep(u64, Arc<Kept>),
    /// A subscription is leased from, or is not.
    Open(u32, bool),
    /// What a transaction took out of a subscription is out: it is leased from again.
    Resume(u32),
    /// A subscription is there no more.
    Forget(u32),
}

#[derive(Debug, Default)]
struct Queue {
    open: bool,
    /// A transaction under way takes deliveries out of it: until that is committed nothing is
    /// leased.
    held: bool,
    window: BTreeMap<SlotKey, Slot>,
    /// Deliveries in the window.
    waiting: usize,
    /// Rows from here on are on disk alone.
    beyond: Option<SlotKey>,
    loading: Option<Loading>,
    /// Up to here rows that were due at once when they were made are due, whatever the clock says
    /// now.
    newest: i64,
    timer: Option<i64>,
    in_flight: u64,
}

/// What happened to a queue while it was being loaded.
#[derive(Debug, Default)]
struct Loading {
    /// The first of the rows that were left to the disk meanwhile.
    skipped: Option<SlotKey>,
    /// Something was removed that the load may have read.
    stale: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: HashMap<u32, Queue>,
    leases: HashMap<u64, Lease>,
    /// Tokens that one grant gave out together, by when they run out.
    deadlines: BTreeMap<Instant, Vec<Range<u64>>>,
    /// Order keys with a delivery in flight; with what has become the first of its key meanwhile.
    keys: HashMap<(u32, u64), Option<PendingRow>>,
    timers: BTreeSet<(i64, u32)>,
    told: BTreeSet<u32>,
    /// What whoever waits for something to fall due sleeps for.
    sleeper: Option<Alarm>,
    /// Queues that the loader should fill.
    low: BTreeSet<u32>,
    pub(super) cache: Cache,
    waiting: usize,
    last_token: u64,
    epochs: Arc<Epochs>,
    /// The last time of day that somebody brought here.
    time: Timestamp,
}

/// What happens by itself next: the earliest time of day at which something falls due, and the
/// earliest end of a lease. None is latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alarm {
    timer: Reverse<Option<Reverse<i64>>>,
    deadline: Reverse<Option<Reverse<Instant>>>,
}

impl Queues {
    /// Empty queues whose tokens go on after `last_token`, of deliveries made in these epochs.
    pub(super) fn new(last_token: u64, epochs: Arc<Epochs>) -> Self {
        Self {
            last_token,
            epochs,
            ..Self::default()
        }
    }

    pub(super) fn last_token(&self) -> u64 {
        self.last_token
    }

    /// Makes a subscription known, with all of its rows on disk alone.
    pub(super) fn know(&mut self, subscription: u32, open: bool, has_rows: bool) {
        if has_rows {
            self.unload(subscription, open);
        } else {
            self.queues.entry(subscription).or_default().open = open;
        }
    }

    /// Says that all of a subscription's rows are on disk alone.
    fn unload(&mut self, subscription: u32, open: bool) {
        let queue = self.queues.entry(subscription).or_default();
        (queue.open, queue.beyond) = (open, Some((i64::MIN, 0, 0)));
        self.low.insert(subscription);
    }

    pub(super) fn in_flight(&self, subscription: u32) -> u64 {
        self.queues
            .get(&subscription)
            .map_or(0, |queue| queue.in_flight)
    }

    /// Takes a lease for settling; none where it does not hold.
    pub(super) fn claim(&mut self, token: LeaseToken, now: Instant) -> Option<Lease> {
        let lease = self
            .leases
            .get_mut(&token.number())
            .filter(|_| token.owner() == LeaseOwner::Disk)
            .filter(|lease| !lease.settling && lease.until > now)?;
        lease.settling = true;
        Some(lease.clone())
    }

    /// Takes a delivery out of the queue, so that nobody leases it; false where it is in flight.
    pub(super) fn withhold(&mut self, key: RowKey, due: Timestamp) -> bool {
        if self.leases.values().any(|lease| lease.key == key) {
            return false;
        }
        self.remove(key, due);
        true
    }

    /// Leases nothing of a subscription until a transaction has come to its end, which takes
    /// deliveries out of it.
    pub(super) fn hold(&mut self, subscription: u32) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.held = true;
        }
    }

    /// The deliveries of a subscription that are in flight: sequence and run.
    pub(super) fn leased(&self, subscription: u32) -> HashSet<(u64, u64)> {
        let leases = self
            .leases
            .values()
            .filter(|lease| lease.key.subscription == subscription);
        leases
            .map(|lease| (lease.key.sequence, lease.key.run))
            .collect()
    }

    /// Undoes what a transaction that did not happen had claimed and withheld.
    pub(super) fn undo(&mut self, claimed: &[u64], withheld: &BTreeSet<u32>) {
        for token in claimed {
            if let Some(lease) = self.leases.get_mut(token) {
                lease.settling = false;
                self.deadlines
                    .entry(lease.until)
                    .or_default()
                    .push(*token..token + 1);
            }
        }
        for subscription in withheld {
            let Some(queue) = self.queues.get_mut(subscription) else {
                continue;
            };
            self.waiting -= std::mem::take(&mut queue.waiting);
            queue.window.clear();
            queue.held = false;
            if let Some(loading) = &mut queue.loading {
                loading.stale = true;
            }
            let open = queue.open;
            self.unload(*subscription, open);
        }
    }

    pub(super) fn apply(&mut self, effects: impl IntoIterator<Item = Effect>, time: Timestamp) {
        self.time = self.time.max(time);
        for effect in effects {
            match effect {
                Effect::Insert(row) => self.insert(row),
                Effect::Remove { key, due } => self.remove(key, due),
                Effect::Keep(sequence, kept) => self.cache.insert(sequence, kept),
                Effect::End(token) => {
                    if let Some(lease) = self.leases.remove(&token) {
                        self.landed(&lease);
                    }
                }
                Effect::Release(token) => self.give_back(token),
                Effect::Open(subscription, open) => {
                    let queue = self.queues.entry(subscription).or_default();
                    queue.open = open;
                    self.tell(subscription);
                }
                Effect::Resume(subscription) => {
                    if let Some(queue) = self.queues.get_mut(&subscription) {
                        queue.held = false;
                    }
                    self.tell(subscription);
                }
                Effect::Forget(subscription) => self.forget(subscription),
            }
        }
    }

    fn forget(&mut self, subscription: u32) {
        let Some(queue) = self.queues.remove(&subscription) else {
            return;
        };
        self.waiting -= queue.waiting;
        if let Some(timer) = queue.timer {
            self.timers.remove(&(timer, subscription));
        }
        self.told.remove(&subscription);
        self.low.remove(&subscription);
    }

    fn capacity(&self) -> usize {
        if self.waiting < WINDOWS_DELIVERIES {
            WINDOW_DELIVERIES
        } else {
            WINDOW_DELIVERIES_LEAST
        }
    }

    fn insert(&mut self, row: PendingRow) {
        let (subscription, key) = (row.key.subscription, row.slot_key());
        if let Some(order_key) = row.order_key
            && let Some(held) = self.keys.get_mut(&(subscription, order_key))
        {
            *held = Some(row);
            return;
        }
        let capacity = self.capacity();
        let queue = self.queues.entry(subscription).or_default();
        if row.immediate {
            queue.newest = queue.newest.max(row.due.0);
        }
        let is_last = queue
            .window
            .last_key_value()
            .is_none_or(|(last, _)| *last < key);
        if queue.beyond.is_none() && queue.waiting >= capacity && is_last {
            queue.beyond = Some(key);
        }
        if queue.beyond.is_some_and(|beyond| key >= beyond) {
            if let Some(loading) = &mut queue.loading {
                loading.skipped = Some(loading.skipped.map_or(key, |skipped| skipped.min(key)));
            }
            return;
        }
        self.push(subscription, key, Slot::of(row));
    }

    /// Puts a slot into the window, told or timed.
    fn push(&mut self, subscription: u32, key: SlotKey, slot: Slot) {
        let Some(queue) = self.queues.get_mut(&subscription) else {
            return;
        };
        let (is_due, count) = (slot.immediate || key.0 <= self.time.0, slot.sequences.len());
        queue.waiting += count;
        self.waiting += count;
        queue.window.insert(key, slot);
        if is_due && queue.open {
            self.told.insert(subscription);
        }
        if !is_due {
            self.arm(subscription, key.0);
        }
    }

    fn arm(&mut self, subscription: u32, due: i64) {
        let Some(queue) = self.queues.get_mut(&subscription) else {
            return;
        };
        if queue.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = queue.timer.replace(due) {
                self.timers.remove(&(timer, subscription));
            }
            self.timers.insert((due, subscription));
        }
    }

    /// Tells of a queue where something in it may be leased, and sees to the next that falls due.
    fn tell(&mut self, subscription: u32) {
        let Some(queue) = self.queues.get(&subscription) else {
            return;
        };
        let (time, is_due) = (self.time.0, queue.front(self.time.0).is_some());
        let next = queue
            .window
            .range((time.saturating_add(1), 0, 0)..)
            .next()
            .map(|(key, _)| key.0);
        let needs_load = queue.window.is_empty() && queue.beyond.is_some();
        if queue.open && is_due {
            self.told.insert(subscription);
        }
        if needs_load {
            self.low.insert(subscription);
        }
        if let Some(due) = next {
            self.arm(subscription, due);
        }
    }

    fn remove(&mut self, key: RowKey, due: Timestamp) {
        for held in self.keys.values_mut() {
            if held.as_ref().is_some_and(|held| held.key == key) {
                *held = None;
            }
        }
        let Some(queue) = self.queues.get_mut(&key.subscription) else {
            return;
        };
        if let Some(loading) = &mut queue.loading {
            loading.stale = true;
        }
        let range = (due.0, 0, -1)..=(due.0, key.sequence, i64::MAX);
        let holds = |at: &SlotKey, slot: &Slot| {
            slot.run(at) == key.run && slot.sequences.contains(&key.sequence)
        };
        let found = queue
            .window
            .range_mut(range)
            .map(|(at, slot)| (*at, slot))
            .find(|(at, slot)| holds(at, slot));
        if let Some((slot_key, slot)) = found {
            slot.sequences.retain(|sequence| *sequence != key.sequence);
            let is_empty = slot.sequences.is_empty();
            queue.waiting -= 1;
            self.waiting -= 1;
            if is_empty {
                queue.window.remove(&slot_key);
            }
        }
    }

    /// A delivery is not in flight any more: its order key is free for who waited.
    fn landed(&mut self, lease: &Lease) -> bool {
        if let Some(queue) = self.queues.get_mut(&lease.key.subscription) {
            queue.in_flight -= 1;
        }
        let held = lease
            .order_key
            .and_then(|key| self.keys.remove(&(lease.key.subscription, key)))
            .flatten();
        let was_held = held.is_some();
        if let Some(row) = held {
            self.insert(row);
        }
        was_held
    }

    /// Ends a lease as if it had never been.
    fn give_back(&mut self, token: u64) {
        let Some(lease) = self.leases.remove(&token) else {
            return;
        };
        // Where an earlier one of its key has come meanwhile, this one waits on disk until that has
        // ended.
        if self.landed(&lease) {
            return;
        }
        let Lease {
            key,
            block,
            due,
            since,
            immediate,
            attempts,
            failures,
            order_key,
            ..
        } = lease;
        let (row, in_block, sequences) = (
            block.unwrap_or(key.sequence),
            block.is_some(),
            SmallVec::from_buf([key.sequence]),
        );
        let slot = Slot {
            row,
            in_block,
            sequences,
            immediate,
            since,
            attempts,
            failures,
            order_key,
        };
        self.push(
            key.subscription,
            (due.0, key.sequence, key.run_column()),
            slot,
        );
    }

    fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.deadlines.first_entry()
            && *entry.key() <= now
        {
            for token in entry.remove().into_iter().flatten() {
                if self.leases.get(&token).is_some_and(|lease| !lease.settling) {
                    self.give_back(token);
                }
            }
        }
    }

    /// Brings the queues up to a moment.
    pub(super) fn turn(&mut self, now: Moment) {
        self.time = now.time;
        self.expire(now.instant);
        while let Some((due, subscription)) = self.timers.first().copied()
            && due <= now.time.0
        {
            self.timers.pop_first();
            if let Some(queue) = self.queues.get_mut(&subscription) {
                queue.timer = None;
            }
            self.tell(subscription);
        }
    }

    /// What there is to tell now.
    pub(super) fn take_told(&mut self) -> Option<Vec<SubscriptionNumber>> {
        let told = std::mem::take(&mut self.told);
        (!told.is_empty()).then(|| told.into_iter().map(SubscriptionNumber).collect())
    }

    /// Whether the sleeper is to be woken: there is something to tell, or something that falls due
    /// or runs out before what he sleeps for.
    pub(super) fn wakes(&self) -> bool {
        let sooner = |sleeper: &Alarm| {
            let now = self.alarm();
            now.timer < sleeper.timer || now.deadline < sleeper.deadline
        };
        !self.told.is_empty() || self.sleeper.as_ref().is_some_and(sooner)
    }

    /// How long the caller may sleep, who is woken when that changes.
    pub(super) fn sleep(&mut self, now: Moment) -> Duration {
        self.sleeper = Some(self.alarm());
        self.quiet_for(now)
    }

    fn alarm(&self) -> Alarm {
        Alarm {
            timer: Reverse(self.timers.first().map(|(due, _)| Reverse(*due))),
            deadline: Reverse(
                self.deadlines
                    .first_key_value()
                    .map(|(until, _)| Reverse(*until)),
            ),
        }
    }

    /// How long nothing falls due or runs out by itself.
    fn quiet_for(&self, now: Moment) -> Duration {
        let timer = self
            .timers
            .first()
            .map(|(due, _)| Timestamp(*due).since(now.time));
        let deadline = self
            .deadlines
            .first_key_value()
            .map(|(until, _)| until.saturating_duration_since(now.instant));
        timer
            .into_iter()
            .chain(deadline)
            .fold(CLOCK_TRUSTED_FOR, Duration::min)
            .max(Duration::from_micros(1))
    }

    /// Takes a queue that should be filled from the disk.
    pub(super) fn take_low(&mut self) -> Option<u32> {
        self.low.pop_first()
    }

    pub(super) fn has_low(&self) -> bool {
        !self.low.is_empty()
    }

    /// Begins to fill a queue: from which key on, and how many deliveries; none where there is
    /// nothing to do.
    ///
    /// Between this call and the beginning of the read transaction no commit may be applied.
    pub(super) fn begin_load(&mut self, subscription: u32) -> Option<(SlotKey, usize)> {
        let capacity = self.capacity();
        let queue = self.queues.get_mut(&subscription)?;
        let beyond = queue.beyond?;
        queue.loading = Some(Loading::default());
        Some((beyond, capacity.saturating_sub(queue.waiting).max(1)))
    }

    /// Takes what was read; `next` is the key of the first row that was not, none where the end was
    /// reached. Tells whether it was of use.
    pub(super) fn end_load(
        &mut self,
        subscription: u32,
        rows: Vec<PendingRow>,
        next: Option<SlotKey>,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(&subscription) else {
            return true;
        };
        let Some(loading) = queue.loading.take() else {
            return true;
        };
        if loading.stale {
            self.low.insert(subscription);
            return false;
        }
        let beyond = next.into_iter().chain(loading.skipped).min();
        queue.beyond = None;
        let leased = self.leased(subscription);
        for mut row in rows {
            let key = row.slot_key();
            if beyond.is_some_and(|beyond| key >= beyond) {
                break;
            }
            let run = if row.is_block() { 0 } else { row.key.run };
            row.sequences
                .retain(|sequence| !leased.contains(&(*sequence, run)));
            if row.sequences.is_empty() {
                continue;
            }
            if let Some(order_key) = row.order_key
                && let Some(held) = self.keys.get_mut(&(subscription, order_key))
            {
                *held = Some(row);
                continue;
            }
            if row.immediate
                && let Some(queue) = self.queues.get_mut(&subscription)
            {
                queue.newest = queue.newest.max(row.due.0);
            }
            self.push(subscription, key, Slot::of(row));
        }
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.beyond = beyond;
        }
        true
    }
}

impl Queue {
    /// The first slot that may be leased at a time.
    fn front(&self, time: i64) -> Option<SlotKey> {
        let until = time.max(self.newest);
        let mut due = self
            .window
            .range(..=(until, u64::MAX, i64::MAX))
            .filter(|(key, slot)| key.0 <= time || slot.immediate);
        due.next().map(|(key, _)| *key)
    }
}

impl Slot {
    /// The run of its deliveries, where this is its key.
    fn run(&self, key: &SlotKey) -> u64 {
        if self.in_block {
            0
        } else {
            key.2.cast_unsigned()
        }
    }

    fn of(row: PendingRow) -> Self {
        let in_block = row.is_block();
        let PendingRow {
            key,
            immediate,
            since,
            attempts,
            failures,
            order_key,
            mut sequences,
            ..
        } = row;
        sequences.reverse();
        Self {
            row: key.sequence,
            in_block,
            sequences,
            immediate,
            since,
            attempts,
            failures,
            order_key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_is_woken_for_what_falls_due_before_he_would_wake() {
        let now = Moment {
            time: Timestamp(0),
            instant: Instant::now(),
        };
        let row = |sequence, seconds: i64| {
            let key = RowKey {
                subscription: 1,
                sequence,
                run: 0,
            };
            Effect::Insert(PendingRow {
                immediate: false,
                ..PendingRow::immediate(key, Timestamp(seconds * 1_000_000))
            })
        };
        let mut queues = Queues::new(0, Arc::default());
        queues.know(1, true, false);
        assert_eq!(queues.sleep(now), CLOCK_TRUSTED_FOR);
        assert!(!queues.wakes());
        queues.apply([row(1, 5)], now.time);
        assert!(queues.wakes());
        assert_eq!(queues.sleep(now), Duration::from_secs(5));
        queues.apply([row(2, 9)], now.time);
        assert!(!queues.wakes());
        queues.apply([row(3, 2)], now.time);
        assert!(queues.wakes());
    }
}
