//! What waits in memory for the targets of pipes. No waiting, no IO and no clock: the caller says
//! what time it is. What is leased in which order, and when, is up to the machine that the journals
//! have too ([`pointsman_journal::queue`]).

mod source;
mod spill;
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
use super::source_state::SourceState;
use super::writes::PendingWrite;
use pointsman_journal::queue::{DeliveryKey, DeliveryQueues, Moment, Parking, Place};
use pointsman_journal::{
    Activity, Counts, Cut, Ending, Entry, FollowUp, Grant, LastOutcome, LeaseOwner, LeaseToken,
    Leased, Leases, NewDead, Settlement,
};

/// Sequences in memory begin here: behind all that a journal gives out in a century, and exact in a
/// double.
const FIRST_SEQUENCE: u64 = 1 << 52;

/// The key of a source's [`SourceState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SourceKey(u64);

/// The queues of all pipes.
pub(super) struct PipeQueues {
    epoch: Epoch,
    /// What may be leased, and what is in flight.
    machine: DeliveryQueues<()>,
    subscriptions: HashMap<SubscriptionNumber, SubscriptionState>,
    /// The deliveries, by sequence.
    deliveries: HashMap<u64, PendingDelivery>,
    sources: HashMap<SourceKey, SourceState>,
    inactive: HashSet<SubscriptionNumber>,
    last_sequence: u64,
    /// How many deliveries have been spilled into the journal.
    spilled: u64,
}

impl fmt::Debug for PipeQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeQueues")
            .field("deliveries", &self.deliveries.len())
            .finish_non_exhaustive()
    }
}

/// The state of a subscription that has had a delivery.
#[derive(Default)]
struct SubscriptionState {
    /// Without what is in flight.
    counts: Counts,
    /// True where the target refused what it was given last.
    is_refused: bool,
    /// True once it is known that no delivery with an order key waits in the journal: those in
    /// memory are later, and must not overtake it.
    no_earlier: bool,
}

/// A delivery that has not ended.
struct PendingDelivery {
    source: SourceKey,
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
    /// True where it is spilled into the journal unless the attempt under way ends it.
    is_late: bool,
}

impl PipeQueues {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            machine: DeliveryQueues::new(LeaseOwner::Pipes, Parking::Here, 0),
            subscriptions: HashMap::new(),
            deliveries: HashMap::new(),
            sources: HashMap::new(),
            inactive: HashSet::new(),
            last_sequence: FIRST_SEQUENCE,
            spilled: 0,
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
            let Some(delivery) = self.deliveries.get_mut(&sequence) else {
                return;
            };
            let event_bytes = delivery.event.size_bytes();
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
            delivery.lease = Some(token);
            leased.push(Leased {
                token,
                id: DeliveryId {
                    epoch: self.epoch,
                    sequence: Sequence(sequence),
                    subscription: number,
                    run: 0,
                },
                event: Arc::clone(&delivery.event),
                tenant: delivery.tenant.clone(),
                origin: delivery.origin.clone(),
                attempts: delivery.attempts,
                failures: delivery.failures,
                since: delivery.since,
            });
        }
    }

    /// Ends a lease. Returns false where it had ended before.
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
        let Some(delivery) = self.deliveries.get(&sequence) else {
            return false;
        };
        let (source, message, subscription) =
            (delivery.source, delivery.message, delivery.subscription);
        let sources = self.sources.get(&source);
        let (goes_back, is_orphan) = sources.map_or((true, true), |source| {
            (source.goes_back(message), source.is_orphan(message))
        });
        if let Some(state) = self.subscriptions.get_mut(&subscription) {
            state.is_refused = match &ending {
                Ending::Retry { last, .. } => last.class == Class::Refused,
                Ending::Released => state.is_refused,
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
                if let Some(delivery) = self.take_out(sequence) {
                    if let Some(state) = self.subscriptions.get_mut(&delivery.subscription) {
                        state.counts.pending -= 1;
                        state.counts.delivered += 1;
                    }
                    self.end_delivery(&delivery, None, follow_ups);
                }
            }
            Ending::Dead { reason, last } => {
                if let Some(mut delivery) = self.take_out(sequence) {
                    let dead = NewDead {
                        subscription: delivery.subscription,
                        order_key: delivery.order_key,
                        reason,
                        attempts: delivery.attempts + u32::from(last.is_some()),
                        last: last.or(delivery.last.take()),
                    };
                    self.end_delivery(&delivery, Some(dead), follow_ups);
                }
            }
        }
        // Whether its target refuses, and with it whether there may be more, can have changed.
        if let Some(source) = self.sources.get(&source) {
            source.wake.notify_one();
        }
        true
    }

    /// Ends a lease whose delivery waits again: as before, or for its next attempt.
    fn put_back(
        &mut self,
        sequence: u64,
        token: LeaseToken,
        retry: Option<(Timestamp, bool, LastOutcome)>,
    ) {
        let Some(delivery) = self.deliveries.get_mut(&sequence) else {
            return;
        };
        delivery.lease = None;
        match retry {
            None => self.machine.release(token),
            Some((at, failure, last)) => {
                if let Some(state) = self.subscriptions.get_mut(&delivery.subscription) {
                    state.counts.retrying += u64::from(delivery.attempts == 0);
                }
                delivery.attempts += 1;
                delivery.failures += u32::from(failure);
                (delivery.due, delivery.last) = (at, Some(last));
                self.machine.retry(token, at);
            }
        }
        if delivery.is_late {
            self.spill(sequence);
        }
    }

    /// Takes a delivery out of its queue, which frees the next of its order key. Its message still
    /// has it as a part.
    fn take_out(&mut self, sequence: u64) -> Option<PendingDelivery> {
        let delivery = self.deliveries.remove(&sequence)?;
        match delivery.lease {
            Some(token) => drop(self.machine.end(token)),
            None => drop(self.machine.remove(delivery.key(sequence), delivery.due)),
        }
        if let (Some(until), Some(source)) =
            (delivery.until, self.sources.get_mut(&delivery.source))
        {
            source.until.remove(&(until, sequence));
        }
        if let Some(state) = self.subscriptions.get_mut(&delivery.subscription) {
            state.counts.retrying -= u64::from(delivery.attempts > 0);
        }
        // The delivery behind it may have waited only for this one's attempt before it is spilled.
        if let Some(order_key) = delivery.order_key {
            let ordered = self
                .machine
                .with_order_key(delivery.subscription, order_key);
            let next = ordered.into_iter().next();
            let is_late = |next: &u64| {
                let next = self.deliveries.get(next);
                next.is_some_and(|next| next.is_late && next.lease.is_none())
            };
            if let Some(next) = next.filter(is_late) {
                self.spill(next);
            }
        }
        Some(delivery)
    }

    /// Queues the writes that a delivery's end needs, and ends it as a part of its message.
    fn end_delivery(
        &mut self,
        delivery: &PendingDelivery,
        dead: Option<NewDead>,
        follow_ups: Vec<FollowUp>,
    ) {
        let Some(source) = self.sources.get_mut(&delivery.source) else {
            return;
        };
        let mut original = Entry {
            event: Arc::clone(&delivery.event),
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
        let moves_delivery_of = original.dead.as_ref().map(|dead| dead.subscription);
        let mut own = PendingWrite {
            message: delivery.message,
            origin: delivery.origin.clone(),
            entries: Vec::new(),
            rejects: Vec::new(),
            bytes: delivery.event.size_bytes(),
            moves_delivery_of,
        };
        if let Some(subscription) = moves_delivery_of {
            *source.moving.entry(subscription).or_default() += 1;
        }
        if moves_delivery_of.is_some() || !original.deliveries.is_empty() {
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
                source.begin_part(delivery.message, bytes);
                let message = delivery.message;
                source.writes.push(PendingWrite {
                    message,
                    origin,
                    entries,
                    rejects,
                    bytes,
                    moves_delivery_of: None,
                });
            }
        }
        if own.entries.is_empty() {
            source.part_ended(delivery.message, own.bytes, false);
        } else {
            source.writes.push(own);
            source.wake.notify_one();
        }
    }

    /// A write is durable, or has been given up.
    pub(super) fn write_ended(&mut self, key: SourceKey, write: &PendingWrite, goes_back: bool) {
        let Some(source) = self.sources.get_mut(&key) else {
            return;
        };
        if let Some(subscription) = write.moves_delivery_of {
            if let Some(moving) = source.moving.get_mut(&subscription) {
                *moving -= 1;
            }
            if let Some(state) = self.subscriptions.get_mut(&subscription) {
                state.counts.pending -= 1;
                // From here on the journal counts it.
                state.counts.created -= u64::from(!goes_back);
                state.counts.cancelled += u64::from(goes_back);
            }
        }
        source.part_ended(write.message, write.bytes, goes_back);
    }

    /// A delivery goes back to its source.
    fn hand_back(&mut self, sequence: u64) {
        let Some(delivery) = self.take_out(sequence) else {
            return;
        };
        self.cancelled(delivery.subscription);
        if let Some(source) = self.sources.get_mut(&delivery.source) {
            source.part_ended(delivery.message, delivery.event.size_bytes(), true);
        }
    }

    fn cancelled(&mut self, subscription: SubscriptionNumber) {
        if let Some(state) = self.subscriptions.get_mut(&subscription) {
            state.counts.pending -= 1;
            state.counts.cancelled += 1;
        }
    }

    /// Cancels a delivery that is not in flight: its message counts it as done. Returns whether it
    /// was there.
    pub(super) fn cancel(&mut self, id: DeliveryId) -> bool {
        let is_meant = |delivery: &&PendingDelivery| {
            delivery.subscription == id.subscription && delivery.lease.is_none()
        };
        if id.epoch != self.epoch
            || id.run != 0
            || self
                .deliveries
                .get(&id.sequence.0)
                .filter(is_meant)
                .is_none()
        {
            return false;
        }
        let Some(delivery) = self.take_out(id.sequence.0) else {
            return false;
        };
        self.cancelled(delivery.subscription);
        if let Some(source) = self.sources.get_mut(&delivery.source) {
            source.part_ended(delivery.message, delivery.event.size_bytes(), false);
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
            self.sources
                .values()
                .for_each(|source| source.wake.notify_one());
        }
    }

    /// Whether a waiting caller is to be woken.
    pub(super) fn wakes(&self) -> bool {
        self.machine.wakes()
    }

    /// The subscriptions of which something has become due since this was last asked.
    pub(super) fn take_news(&mut self, now: Timestamp) -> Option<Vec<SubscriptionNumber>> {
        self.turn(now);
        self.machine.take_news()
    }

    /// How long a waiting caller may sleep unless it is woken.
    pub(super) fn sleep(&mut self, time: Timestamp) -> Duration {
        let instant = Instant::now();
        self.machine.sleep(Moment { time, instant })
    }
}

impl PendingDelivery {
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
