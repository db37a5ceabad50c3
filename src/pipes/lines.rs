//! What waits in memory for the targets of pipes. No waiting, no IO and no clock: the caller tells
//! the time.
//!
//! ```text
//! queue (one per subscription):  ready, by (due, sequence) ──lease──▶ leased ──settle──▶ ended
//!                                  ▲   ▲                                │
//!        the earlier one of its key ┘   └──────── retry, release ◀──────┘
//!        has ended: parked ones
//! ```

mod keep;
mod source;
mod view;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use pointsman_schemas::{
    Class, DeliveryId, Epoch, Event, Name, Reject, Sequence, SubscriptionNumber, Timestamp,
};
use smallvec::SmallVec;
use tokio::time::Instant;

pub(super) use self::source::Offered;
use super::closing::Closing;
use super::hold::Hold;
use pointsman_journal::{
    Activity, Counts, Cut, Ending, Entry, FollowUp, Grant, LastOutcome, LeaseOwner, LeaseToken,
    Leased, Leases, NewDead, Settlement,
};

/// Sequences in memory begin here: behind all that a journal gives out in a century, and exact in a
/// double.
const FIRST_SEQUENCE: u64 = 1 << 52;

/// A source's [`Hold`], by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct HoldKey(u64);

/// The lines of all pipes.
pub(super) struct Lines {
    epoch: Epoch,
    queues: HashMap<SubscriptionNumber, Queue>,
    slots: HashMap<u64, Slot>,
    leases: HashMap<LeaseToken, u64>,
    holds: HashMap<HoldKey, Hold>,
    /// Subscriptions that may have something to lease and have not been told of.
    news: BTreeSet<SubscriptionNumber>,
    /// When others will.
    falling_due: BTreeSet<(Timestamp, SubscriptionNumber)>,
    inactive: HashSet<SubscriptionNumber>,
    last_sequence: u64,
    last_token: u64,
    /// How many deliveries have gone from memory into the journal.
    kept: u64,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("deliveries", &self.slots.len())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    /// What may be leased once it is due.
    ready: BTreeSet<(Timestamp, u64)>,
    /// Of each order key all that have not ended, in order; the first is ready or leased, the
    /// others are parked.
    keys: HashMap<u64, VecDeque<u64>>,
    counts: Counts,
    /// True where the target refused what it was given last.
    is_refused: bool,
    /// True once it is known that no delivery with an order key waits in the journal, which later
    /// ones in memory must not overtake.
    nothing_before: bool,
}

/// A delivery.
struct Slot {
    hold: HoldKey,
    message: u64,
    subscription: SubscriptionNumber,
    tenant: Name,
    origin: Name,
    event: Arc<Event>,
    order_key: Option<u64>,
    since: Timestamp,
    due: Timestamp,
    attempts: u32,
    failures: u32,
    last: Option<LastOutcome>,
    lease: Option<LeaseToken>,
    /// Until when it may wait here.
    until: Option<Instant>,
    /// True where it goes into the journal unless the attempt under way ends it.
    is_late: bool,
}

impl Lines {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            queues: HashMap::new(),
            slots: HashMap::new(),
            leases: HashMap::new(),
            holds: HashMap::new(),
            news: BTreeSet::new(),
            falling_due: BTreeSet::new(),
            inactive: HashSet::new(),
            last_sequence: FIRST_SEQUENCE,
            last_token: 0,
            kept: 0,
        }
    }

    fn make_ready(&mut self, sequence: u64, now: Timestamp) {
        let Some(&Slot {
            due,
            subscription,
            is_late,
            ..
        }) = self.slots.get(&sequence)
        else {
            return;
        };
        if is_late {
            return self.move_to_journal(sequence, now);
        }
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.ready.insert((due, sequence));
        }
        if due <= now {
            self.news.insert(subscription);
        } else {
            self.falling_due.insert((due, subscription));
        }
    }

    pub(super) fn is_own(token: LeaseToken) -> bool {
        token.owner() == LeaseOwner::Pipes
    }

    /// Whether something of a subscription may be leased.
    pub(super) fn has_due(&self, number: SubscriptionNumber, now: Timestamp) -> bool {
        let first = self
            .queues
            .get(&number)
            .and_then(|queue| queue.ready.first());
        first.is_some_and(|(due, _)| *due <= now) && !self.inactive.contains(&number)
    }

    /// Leases what is due of a subscription to what is leased already, within a grant and a limit
    /// of bytes in all.
    pub(super) fn lease(
        &mut self,
        grant: &Grant,
        bytes_max: usize,
        now: Timestamp,
        leases: &mut Leases,
    ) {
        let number = grant.subscription;
        let Some(queue) = self.queues.get_mut(&number) else {
            return;
        };
        let Leases { leased, cut } = leases;
        let mut bytes: usize = leased.iter().map(|one| one.event.size_bytes()).sum();
        let own = leased.iter().filter(|one| one.id.subscription == number);
        let (count, mut own_bytes) = own.fold((0, 0), |(count, bytes), one| {
            (count + 1, bytes + one.event.size_bytes())
        });
        // What is older in the journal goes first, and did not fit.
        if cut.iter().any(|cut| cut.subscription == number) {
            return;
        }
        for _ in count..grant.count {
            let Some(&(due, sequence)) = queue.ready.first().filter(|(due, _)| *due <= now) else {
                return;
            };
            let Some(slot) = self.slots.get_mut(&sequence) else {
                return;
            };
            let event_bytes = slot.event.size_bytes();
            if bytes + event_bytes > bytes_max || own_bytes + event_bytes > grant.bytes_max {
                cut.push(Cut {
                    subscription: number,
                    event_bytes,
                });
                return;
            }
            bytes += event_bytes;
            own_bytes += event_bytes;
            queue.ready.remove(&(due, sequence));
            queue.counts.in_flight += 1;
            self.last_token += 1;
            let token = LeaseToken::new(LeaseOwner::Pipes, self.last_token);
            slot.lease = Some(token);
            self.leases.insert(token, sequence);
            leased.push(Leased {
                token,
                id: DeliveryId {
                    epoch: self.epoch,
                    sequence: Sequence(sequence),
                    subscription: number,
                    run: 0,
                },
                event: Arc::clone(&slot.event),
                tenant: slot.tenant.clone(),
                origin: slot.origin.clone(),
                attempts: slot.attempts,
                failures: slot.failures,
                since: slot.since,
            });
        }
    }

    /// Ends a lease as told; false where it had ended before.
    pub(super) fn settle(&mut self, settlement: Settlement, now: Timestamp) -> bool {
        let Settlement {
            token,
            ending,
            follow_ups,
        } = settlement;
        let Some(sequence) = self.leases.remove(&token) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(&sequence) else {
            return false;
        };
        slot.lease = None;
        let hold = slot.hold;
        let goes_back = self
            .holds
            .get(&slot.hold)
            .is_none_or(|hold| hold.goes_back(slot.message));
        let Some(queue) = self.queues.get_mut(&slot.subscription) else {
            return false;
        };
        queue.counts.in_flight -= 1;
        queue.is_refused = match &ending {
            Ending::Retry { last, .. } => last.class == Class::Refused,
            Ending::Released => queue.is_refused,
            Ending::Delivered | Ending::Dead { .. } => false,
        };
        match ending {
            Ending::Released | Ending::Retry { .. } if goes_back => self.hand_back(sequence, now),
            Ending::Released => self.make_ready(sequence, now),
            Ending::Retry { at, failure, last } => {
                queue.counts.retrying += u64::from(slot.attempts == 0);
                slot.attempts += 1;
                slot.failures += u32::from(failure);
                (slot.due, slot.last) = (at, Some(last));
                self.make_ready(sequence, now);
            }
            Ending::Delivered => {
                if let Some(slot) = self.take_out(sequence, now) {
                    if let Some(queue) = self.queues.get_mut(&slot.subscription) {
                        queue.counts.pending -= 1;
                        queue.counts.delivered += 1;
                    }
                    self.close(&slot, None, follow_ups);
                }
            }
            Ending::Dead { reason, last } => {
                if self.slots.get(&sequence).is_some_and(|slot| {
                    self.holds
                        .get(&slot.hold)
                        .is_none_or(|hold| hold.is_orphan(slot.message))
                }) {
                    self.hand_back(sequence, now);
                } else if let Some(mut slot) = self.take_out(sequence, now) {
                    let attempts = slot.attempts + u32::from(last.is_some());
                    let (subscription, order_key, last) =
                        (slot.subscription, slot.order_key, last.or(slot.last.take()));
                    self.close(
                        &slot,
                        Some(NewDead {
                            subscription,
                            order_key,
                            reason,
                            attempts,
                            last,
                        }),
                        follow_ups,
                    );
                }
            }
        }
        // Whether its target refuses, and with it whether there may be more, can have changed.
        if let Some(hold) = self.holds.get(&hold) {
            hold.wake.notify_one();
        }
        true
    }

    /// Takes a delivery out of its line, which frees the next of its order key. Its message still
    /// has it as a part.
    fn take_out(&mut self, sequence: u64, now: Timestamp) -> Option<Slot> {
        let slot = self.slots.remove(&sequence)?;
        if let Some(token) = slot.lease {
            self.leases.remove(&token);
        }
        if let (Some(until), Some(hold)) = (slot.until, self.holds.get_mut(&slot.hold)) {
            hold.until.remove(&(until, sequence));
        }
        let queue = self.queues.get_mut(&slot.subscription)?;
        queue.ready.remove(&(slot.due, sequence));
        queue.counts.in_flight -= u64::from(slot.lease.is_some());
        queue.counts.retrying -= u64::from(slot.attempts > 0);
        if let Some(key) = slot.order_key
            && let Some(line) = queue.keys.get_mut(&key)
        {
            let was_first = line.front() == Some(&sequence);
            line.retain(|one| *one != sequence);
            match line.front().copied() {
                None => drop(queue.keys.remove(&key)),
                Some(next) if was_first => self.make_ready(next, now),
                Some(_) => {}
            }
        }
        Some(slot)
    }

    /// Sees to what follows from a delivery's end, and ends it as a part of its message.
    fn close(&mut self, slot: &Slot, dead: Option<NewDead>, follow_ups: Vec<FollowUp>) {
        let Some(hold) = self.holds.get_mut(&slot.hold) else {
            return;
        };
        let mut original = Entry {
            event: Arc::clone(&slot.event),
            deliveries: SmallVec::new(),
            deduplicate: None,
            dead,
        };
        let mut others: Vec<(Name, Vec<Entry>, Vec<Reject>)> = Vec::new();
        for follow_up in follow_ups {
            match follow_up {
                FollowUp::Original(delivery) => original.deliveries.push(delivery),
                FollowUp::Append { origin, entry } => {
                    others.push((origin, vec![entry], Vec::new()))
                }
                FollowUp::Reject { origin, reject } => {
                    others.push((origin, Vec::new(), vec![reject]))
                }
            }
        }
        let buries = original.dead.as_ref().map(|dead| dead.subscription);
        let mut own = Closing {
            message: slot.message,
            origin: slot.origin.clone(),
            entries: Vec::new(),
            rejects: Vec::new(),
            bytes: slot.event.size_bytes(),
            buries,
        };
        if let Some(subscription) = buries {
            *hold.unburied.entry(subscription).or_default() += 1;
        }
        if buries.is_some() || !original.deliveries.is_empty() {
            own.entries.push(original);
        }
        for (origin, mut entries, mut rejects) in others {
            if origin == own.origin {
                own.entries.append(&mut entries);
                own.rejects.append(&mut rejects);
            } else {
                let bytes = entries
                    .iter()
                    .map(|entry| entry.event.size_bytes())
                    .chain(rejects.iter().map(|one| one.raw.len()))
                    .sum();
                hold.begin_part(slot.message, bytes);
                let message = slot.message;
                hold.closings.push(Closing {
                    message,
                    origin,
                    entries,
                    rejects,
                    bytes,
                    buries: None,
                });
            }
        }
        if own.entries.is_empty() {
            hold.part_ended(slot.message, own.bytes, false);
        } else {
            hold.closings.push(own);
            hold.wake.notify_one();
        }
    }

    /// What was to be stored is durable, or is not going to be.
    pub(super) fn closed(&mut self, key: HoldKey, closing: &Closing, goes_back: bool) {
        let Some(hold) = self.holds.get_mut(&key) else {
            return;
        };
        if let Some(subscription) = closing.buries {
            if let Some(unburied) = hold.unburied.get_mut(&subscription) {
                *unburied -= 1;
            }
            if let Some(queue) = self.queues.get_mut(&subscription) {
                queue.counts.pending -= 1;
                // From here on the journal counts it.
                queue.counts.created -= u64::from(!goes_back);
                queue.counts.cancelled += u64::from(goes_back);
            }
        }
        hold.part_ended(closing.message, closing.bytes, goes_back);
    }

    /// A delivery goes back to its source.
    fn hand_back(&mut self, sequence: u64, now: Timestamp) {
        let Some(slot) = self.take_out(sequence, now) else {
            return;
        };
        self.cancelled(slot.subscription);
        if let Some(hold) = self.holds.get_mut(&slot.hold) {
            hold.part_ended(slot.message, slot.event.size_bytes(), true);
        }
    }

    fn cancelled(&mut self, subscription: SubscriptionNumber) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.counts.pending -= 1;
            queue.counts.cancelled += 1;
        }
    }

    /// Somebody ends a delivery that is not in flight: its message counts it as done. Tells whether
    /// it was there.
    pub(super) fn cancel(&mut self, id: DeliveryId) -> bool {
        let is_meant = |slot: &&Slot| slot.subscription == id.subscription && slot.lease.is_none();
        if id.epoch != self.epoch
            || id.run != 0
            || self.slots.get(&id.sequence.0).filter(is_meant).is_none()
        {
            return false;
        }
        // Due times only move forward from here: what the end of this one frees is told of at once.
        let Some(slot) = self.take_out(id.sequence.0, Timestamp(i64::MAX)) else {
            return false;
        };
        self.cancelled(slot.subscription);
        if let Some(hold) = self.holds.get_mut(&slot.hold) {
            hold.part_ended(slot.message, slot.event.size_bytes(), false);
        }
        true
    }

    pub(super) fn set_activity(&mut self, number: SubscriptionNumber, activity: Activity) {
        let is_active = activity == Activity::Active;
        let has_changed = if is_active {
            self.inactive.remove(&number)
        } else {
            self.inactive.insert(number)
        };
        if has_changed {
            if is_active && self.queues.contains_key(&number) {
                self.news.insert(number);
            }
            // Intakes look again whether they may ask for more.
            self.holds.values().for_each(|hold| hold.wake.notify_one());
        }
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The subscriptions of which something has become due and has not been told.
    pub(super) fn take_news(&mut self, now: Timestamp) -> Vec<SubscriptionNumber> {
        while let Some((_, number)) = self
            .falling_due
            .first()
            .copied()
            .filter(|(due, _)| *due <= now)
        {
            self.falling_due.pop_first();
            self.news.insert(number);
        }
        std::mem::take(&mut self.news).into_iter().collect()
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.falling_due.first().map(|(due, _)| *due)
    }
}
