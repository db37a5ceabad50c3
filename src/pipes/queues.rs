//! What waits in memory for the targets of pipes. No waiting, no IO and no clock: the caller says
//! what time it is. What is leased in which order, and when, is up to the machine that the journals
//! have too ([`pointsman_journal::queue`]).

mod keep;
mod source;
mod view;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{
    Class, DeliveryId, Epoch, Event, Name, Reject, Sequence, SubscriptionNumber, Timestamp,
};
use smallvec::SmallVec;
use tokio::time::Instant;

pub(super) use self::source::Offered;
use super::closing::Closing;
use super::hold::Hold;
use pointsman_journal::queue::{DeliveryKey, DeliveryQueues, Moment, Parking, Place};
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

/// The queues of all pipes.
pub(super) struct PipeQueues {
    epoch: Epoch,
    /// What may be leased, and what is in flight.
    machine: DeliveryQueues<()>,
    subscriptions: HashMap<SubscriptionNumber, Subscribed>,
    /// The deliveries, by sequence.
    slots: HashMap<u64, Slot>,
    holds: HashMap<HoldKey, Hold>,
    inactive: HashSet<SubscriptionNumber>,
    last_sequence: u64,
    /// How many deliveries have gone from memory into the journal.
    kept: u64,
}

impl fmt::Debug for PipeQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeQueues")
            .field("deliveries", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// What is known of a subscription that has been given something.
#[derive(Default)]
struct Subscribed {
    /// Without what is in flight.
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

impl PipeQueues {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            machine: DeliveryQueues::new(LeaseOwner::Pipes, Parking::Here, 0),
            subscriptions: HashMap::new(),
            slots: HashMap::new(),
            holds: HashMap::new(),
            inactive: HashSet::new(),
            last_sequence: FIRST_SEQUENCE,
            kept: 0,
        }
    }

    /// Brings the queues up to a time.
    fn turn(&mut self, time: Timestamp) {
        // Leases do not run out here: they live in the same process as whoever holds them.
        let instant = Instant::now();
        self.machine.turn(Moment { time, instant });
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
        self.turn(now);
        if self.machine.next(number).is_none() {
            return;
        }
        let Leases { leased, cut } = leases;
        // What is older in the journal goes first, and did not fit.
        if cut.iter().any(|cut| cut.subscription == number) {
            return;
        }
        let mut bytes: usize = leased.iter().map(|one| one.event.size_bytes()).sum();
        let own = leased.iter().filter(|one| one.id.subscription == number);
        let (count, mut own_bytes) = own.fold((0, 0), |(count, bytes), one| {
            (count + 1, bytes + one.event.size_bytes())
        });
        for _ in count..grant.count {
            let Some((place, sequence)) = self.machine.next(number) else {
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
            let Some((token, _)) = self.machine.take(number, place, None, ()) else {
                return;
            };
            bytes += event_bytes;
            own_bytes += event_bytes;
            slot.lease = Some(token);
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
        self.turn(now);
        let lease = self.machine.claim(token, Instant::now());
        let Some(sequence) = lease.map(|lease| lease.key.sequence) else {
            return false;
        };
        let Some(slot) = self.slots.get(&sequence) else {
            return false;
        };
        let (hold, message, subscription) = (slot.hold, slot.message, slot.subscription);
        let holds = self.holds.get(&hold);
        let (goes_back, is_orphan) = holds.map_or((true, true), |hold| {
            (hold.goes_back(message), hold.is_orphan(message))
        });
        if let Some(subscribed) = self.subscriptions.get_mut(&subscription) {
            subscribed.is_refused = match &ending {
                Ending::Retry { last, .. } => last.class == Class::Refused,
                Ending::Released => subscribed.is_refused,
                Ending::Delivered | Ending::Dead { .. } => false,
            };
        }
        match ending {
            Ending::Released | Ending::Retry { .. } if goes_back => self.hand_back(sequence),
            Ending::Dead { .. } if is_orphan => self.hand_back(sequence),
            Ending::Released => self.put_back(sequence, token, None),
            Ending::Retry { at, failure, last } => {
                self.put_back(sequence, token, Some((at, failure, last)))
            }
            Ending::Delivered => {
                if let Some(slot) = self.take_out(sequence) {
                    if let Some(subscribed) = self.subscriptions.get_mut(&slot.subscription) {
                        subscribed.counts.pending -= 1;
                        subscribed.counts.delivered += 1;
                    }
                    self.close(&slot, None, follow_ups);
                }
            }
            Ending::Dead { reason, last } => {
                if let Some(mut slot) = self.take_out(sequence) {
                    let dead = NewDead {
                        subscription: slot.subscription,
                        order_key: slot.order_key,
                        reason,
                        attempts: slot.attempts + u32::from(last.is_some()),
                        last: last.or(slot.last.take()),
                    };
                    self.close(&slot, Some(dead), follow_ups);
                }
            }
        }
        // Whether its target refuses, and with it whether there may be more, can have changed.
        if let Some(hold) = self.holds.get(&hold) {
            hold.wake.notify_one();
        }
        true
    }

    /// Ends a lease whose delivery waits again: as before, or after one more attempt, until its
    /// next.
    fn put_back(
        &mut self,
        sequence: u64,
        token: LeaseToken,
        retry: Option<(Timestamp, bool, LastOutcome)>,
    ) {
        let Some(slot) = self.slots.get_mut(&sequence) else {
            return;
        };
        slot.lease = None;
        match retry {
            None => self.machine.release(token),
            Some((at, failure, last)) => {
                if let Some(subscribed) = self.subscriptions.get_mut(&slot.subscription) {
                    subscribed.counts.retrying += u64::from(slot.attempts == 0);
                }
                slot.attempts += 1;
                slot.failures += u32::from(failure);
                (slot.due, slot.last) = (at, Some(last));
                self.machine.retry(token, at);
            }
        }
        if slot.is_late {
            self.move_to_journal(sequence);
        }
    }

    /// Takes a delivery out of its queue, which frees the next of its order key. Its message still
    /// has it as a part.
    fn take_out(&mut self, sequence: u64) -> Option<Slot> {
        let slot = self.slots.remove(&sequence)?;
        match slot.lease {
            Some(token) => drop(self.machine.end(token)),
            None => drop(self.machine.remove(slot.key(sequence), slot.due)),
        }
        if let (Some(until), Some(hold)) = (slot.until, self.holds.get_mut(&slot.hold)) {
            hold.until.remove(&(until, sequence));
        }
        if let Some(subscribed) = self.subscriptions.get_mut(&slot.subscription) {
            subscribed.counts.retrying -= u64::from(slot.attempts > 0);
        }
        // What is behind it may have waited for its attempt alone to go into the journal.
        if let Some(order_key) = slot.order_key {
            let ordered = self.machine.with_order_key(slot.subscription, order_key);
            let next = ordered.into_iter().next();
            let is_late = |next: &u64| {
                let next = self.slots.get(next);
                next.is_some_and(|next| next.is_late && next.lease.is_none())
            };
            if let Some(next) = next.filter(is_late) {
                self.move_to_journal(next);
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
            if let Some(subscribed) = self.subscriptions.get_mut(&subscription) {
                subscribed.counts.pending -= 1;
                // From here on the journal counts it.
                subscribed.counts.created -= u64::from(!goes_back);
                subscribed.counts.cancelled += u64::from(goes_back);
            }
        }
        hold.part_ended(closing.message, closing.bytes, goes_back);
    }

    /// A delivery goes back to its source.
    fn hand_back(&mut self, sequence: u64) {
        let Some(slot) = self.take_out(sequence) else {
            return;
        };
        self.cancelled(slot.subscription);
        if let Some(hold) = self.holds.get_mut(&slot.hold) {
            hold.part_ended(slot.message, slot.event.size_bytes(), true);
        }
    }

    fn cancelled(&mut self, subscription: SubscriptionNumber) {
        if let Some(subscribed) = self.subscriptions.get_mut(&subscription) {
            subscribed.counts.pending -= 1;
            subscribed.counts.cancelled += 1;
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
        let Some(slot) = self.take_out(id.sequence.0) else {
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
            if self.subscriptions.contains_key(&number) {
                self.machine.set_open(number, is_active);
            }
            // Intakes look again whether they may ask for more.
            self.holds.values().for_each(|hold| hold.wake.notify_one());
        }
    }

    /// Whether whoever waits for news is to be woken.
    pub(super) fn wakes(&self) -> bool {
        self.machine.wakes()
    }

    /// The subscriptions of which something has become due and has not been told.
    pub(super) fn take_news(&mut self, now: Timestamp) -> Option<Vec<SubscriptionNumber>> {
        self.turn(now);
        self.machine.take_news()
    }

    /// How long whoever waits for news may sleep, unless he is woken.
    pub(super) fn sleep(&mut self, time: Timestamp) -> Duration {
        let instant = Instant::now();
        self.machine.sleep(Moment { time, instant })
    }
}

impl Slot {
    fn key(&self, sequence: u64) -> DeliveryKey {
        DeliveryKey {
            subscription: self.subscription,
            sequence,
            run: 0,
        }
    }

    fn place(&self, sequence: u64) -> Place {
        Place::of(&self.key(sequence), self.due)
    }
}
