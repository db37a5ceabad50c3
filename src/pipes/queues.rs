//! What waits in memory for the targets of pipes. No waiting, no IO and no clock: the caller says
//! what time it is. What is leased in which order, and when, is up to the machine that the journals
//! have too ([`pointsman_journal::queue`]).

mod settle;
mod source;
mod spill;
mod view;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{DeliveryId, Epoch, Event, Name, Sequence, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

pub(super) use self::source::Offered;
use super::source_state::SourceState;
use pointsman_journal::queue::{
    DeliveryKey, DeliveryQueues, Filling, Fit, Member, Moment, Parking, ReadyKey,
};
use pointsman_journal::{
    Activity, Counts, Cut, Gathering, Grant, LastOutcome, LeaseOwner, LeaseToken, Leased, Leases,
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
    batch_max: Option<NonZeroU32>,
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
    fn advance(&mut self, time: Timestamp) {
        // Leases do not run out here: they live in the same process as whoever holds them.
        let instant = Instant::now();
        self.machine.advance(Moment { time, instant });
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
        self.advance(now);
        if self.machine.next(number).is_none() {
            return;
        }
        // What is older in the journal goes first, and did not fit, or waits for more.
        if leases.cut.iter().any(|cut| cut.subscription == number)
            || leases
                .gathering
                .iter()
                .any(|gathering| gathering.subscription == number)
        {
            return;
        }
        let mut bytes: usize = leases.leased.iter().map(|one| one.event.size_bytes()).sum();
        let (mut count, mut own_bytes, mut filling) = (0, 0, Filling::default());
        for one in &leases.leased {
            if one.id.subscription == number {
                let event_bytes = one.event.size_bytes();
                let member = Member {
                    event_bytes,
                    ..Member::default()
                };
                filling.add(Fit::of(one.begins_call), member);
                (count, own_bytes) = (count + 1, own_bytes + event_bytes);
            }
        }
        // What is leased from the journal stands elsewhere in the list.
        filling.close();
        while count < grant.count {
            let Some((ready_key, sequence)) = self.machine.next(number) else {
                return;
            };
            let Some(delivery) = self.deliveries.get(&sequence) else {
                return;
            };
            let event_bytes = delivery.event.size_bytes();
            let member = delivery.member();
            let fit = filling.fit(grant, member);
            if fit == Fit::Exceeds {
                return;
            }
            if fit == Fit::Begins
                && let Some(until) = self.gathers_until(grant, grant.count - count)
            {
                leases.gathering.push(Gathering {
                    subscription: number,
                    until,
                });
                return;
            }
            if bytes + event_bytes > bytes_max || own_bytes + event_bytes > grant.bytes_max {
                leases.cut.push(Cut {
                    subscription: number,
                    event_bytes,
                });
                return;
            }
            let leased = self.take(number, ready_key, sequence, fit == Fit::Begins);
            let Some(leased) = leased else { return };
            leases.leased.push(leased);
            filling.add(fit, member);
            (count, bytes, own_bytes) = (count + 1, bytes + event_bytes, own_bytes + event_bytes);
        }
    }

    /// Until when the next call of a grant waits for more deliveries, if it does.
    fn gathers_until(&self, grant: &Grant, events: usize) -> Option<Timestamp> {
        let member = |key: DeliveryKey, (): &()| {
            let delivery = self.deliveries.get(&key.sequence);
            delivery.map_or_else(Member::default, PendingDelivery::member)
        };
        let number = grant.subscription;
        self.machine
            .gathers_until(number, &grant.batching?, events, member)
    }

    fn take(
        &mut self,
        number: SubscriptionNumber,
        ready_key: ReadyKey,
        sequence: u64,
        begins_call: bool,
    ) -> Option<Leased> {
        let delivery = self.deliveries.get_mut(&sequence)?;
        let (token, _) = self.machine.take(number, ready_key, None, ())?;
        delivery.lease = Some(token);
        Some(Leased {
            token,
            id: DeliveryId {
                epoch: self.epoch,
                sequence: Sequence(sequence),
                subscription: number,
                run: 0,
            },
            event: Arc::clone(&delivery.event),
            tenant: delivery.tenant.clone(),
            replay: None,
            origin: delivery.origin.clone(),
            attempts: delivery.attempts,
            failures: delivery.failures,
            since: delivery.since,
            begins_call,
            fence: None,
        })
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
    pub(super) fn should_wake(&self) -> bool {
        self.machine.should_wake()
    }

    /// The subscriptions of which something has become due since this was last asked.
    pub(super) fn take_ready(&mut self, now: Timestamp) -> Option<Vec<SubscriptionNumber>> {
        self.advance(now);
        self.machine.take_ready()
    }

    /// How long a waiting caller may sleep unless it is woken.
    pub(super) fn sleep(&mut self, time: Timestamp) -> Duration {
        let instant = Instant::now();
        self.machine.sleep(Moment { time, instant })
    }
}

impl PendingDelivery {
    /// What a call has to know of it.
    fn member(&self) -> Member {
        Member {
            event_bytes: self.event.size_bytes(),
            is_tried: self.attempts > 0,
            batch_max: self.batch_max,
        }
    }

    fn key(&self, sequence: u64) -> DeliveryKey {
        DeliveryKey {
            subscription: self.subscription,
            sequence,
            run: 0,
        }
    }

    fn ready_key(&self, sequence: u64) -> ReadyKey {
        ReadyKey::of(&self.key(sequence), self.due)
    }
}
