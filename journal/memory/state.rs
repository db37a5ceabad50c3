//! Everything that the journal in memory knows. No waiting and no locks.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use bytes::Bytes;
use pointsman_schemas::{
    Cursor, DeliveryId, Epoch, Event, Name, Sequence, SubscriptionNumber, Timestamp,
};

use super::MemoryOptions;
use crate::queue::{DeliveryKey, DeliveryQueues, Moment, Parking, ReadyKey, Slot};
use crate::quota::Quotas;
use crate::shard::before_first;
use crate::{
    Activity, Backlog, BacklogQuota, Bounded, Counts, DeadLetter, Due, HistoryEntry, HistoryPlace,
    Identity, JournalError, LastOutcome, LeaseOwner, Pending, RememberedKey, Replay, ReplayId,
    ShardNumber, StoredEvent, SubscriptionIdentity,
};

pub(super) struct State {
    pub(super) epoch: Epoch,
    pub(super) shard: Option<ShardNumber>,
    pub(super) options: MemoryOptions,
    pub(super) now: Moment,
    pub(super) trouble: Option<JournalError>,
    /// What of the pending deliveries may be leased, and what is in flight.
    pub(super) queues: DeliveryQueues<()>,
    pub(super) cursors: HashMap<(Name, Name), Cursor>,
    /// The rows of sources' positions, by tenant and source, then by key.
    pub(super) positions: HashMap<(Name, Name), BTreeMap<Bytes, Bytes>>,
    pub(super) last_sequence: u64,
    /// The highest run given out: what runs an event anew takes the next.
    pub(super) last_run: u64,
    /// Of events and of rows of positions.
    pub(super) bytes: u64,
    pub(super) events: BTreeMap<Sequence, Retained>,
    pub(super) seen: HashMap<EventIdentity, (Sequence, Timestamp)>,
    pub(super) keys: BTreeMap<Identity, RememberedKey>,
    /// The index is the number less one: numbers are never used again.
    pub(super) subscriptions: Vec<Subscribed>,
    /// What those had counted that are dropped.
    pub(super) dropped: Counts,
    pub(super) dead: BTreeMap<DeadKey, Dead>,
    pub(super) history: BTreeMap<HistoryPlace, HistoryEntry>,
    pub(super) last_history: u64,
    /// What may wait for tenants and rules.
    pub(super) quotas: Quotas,
    pub(super) replays: Vec<Replay>,
}

/// The id of a dead letter without its journal, in the order in which they are shown: sequence,
/// subscription, run. What belongs to no subscription has the number 0.
pub(super) type DeadKey = (Sequence, SubscriptionNumber, u64);

/// What deduplication knows an event by: tenant, origin, `source`, `id`.
pub(super) type EventIdentity = (Name, Name, String, String);

/// An event, as long as something refers to it or the retention lasts.
pub(super) struct Retained {
    pub(super) stored: StoredEvent,
    /// Deliveries and dead letters that refer to it.
    pub(super) pins: usize,
}

pub(super) struct Subscribed {
    pub(super) identity: SubscriptionIdentity,
    pub(super) attached: bool,
    pub(super) activity: Activity,
    pub(super) backlog: Option<Backlog>,
    pub(super) counts: Counts,
    /// How much of it waits in other shards, as far as that is known.
    pub(super) elsewhere: u64,
    /// No rule wants it and it holds nothing: for everybody but who comes late with something for
    /// it, it is not there.
    pub(super) is_dropped: bool,
    /// Until this replay has ended it is not given what it should have, and once the replay hands
    /// over nothing is leased.
    pub(super) catching_up: Option<CatchingUp>,
    /// Its pending deliveries, in flight or not, by sequence and run.
    pub(super) pending: BTreeMap<(Sequence, u64), Delivery>,
}

impl Subscribed {
    /// How much of it waits, here and in other shards.
    pub(super) fn waits(&self) -> u64 {
        self.counts.pending + self.elsewhere
    }
}

/// A time that does not come.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// A subscription that came with a replay, which has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct CatchingUp {
    pub(super) replay: ReplayId,
    pub(super) hands_over: bool,
}

/// A pending delivery.
pub(super) struct Delivery {
    pub(super) order_key: Option<u64>,
    pub(super) due: Due,
    pub(super) since: Timestamp,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) batch_max: Option<NonZeroU32>,
    pub(super) last: Option<LastOutcome>,
    /// Held back: it is not in the queue.
    pub(super) suspended: bool,
    pub(super) replay: Option<ReplayId>,
}

impl Delivery {
    /// The due time under which it is in the queue: one that is held back is never due, and holds up
    /// what waits behind it.
    pub(super) fn queued_at(&self) -> Due {
        if self.suspended {
            self.due.at(NEVER)
        } else {
            self.due
        }
    }

    /// It as it is shown.
    pub(super) fn shown(&self, id: DeliveryId, in_flight: bool) -> Pending {
        Pending {
            id,
            due: self.due.time(),
            since: self.since,
            attempts: self.attempts,
            last: self.last.clone(),
            in_flight,
            suspended: self.suspended,
            order_key: self.order_key,
            priority: self.due.priority(),
        }
    }

    /// A delivery that nobody has tried.
    pub(super) fn fresh(order_key: Option<u64>, due: Due) -> Self {
        Self {
            order_key,
            due,
            since: due.time(),
            attempts: 0,
            failures: 0,
            batch_max: None,
            last: None,
            suspended: false,
            replay: None,
        }
    }
}

pub(super) struct Dead {
    pub(super) order_key: Option<u64>,
    pub(super) replay: Option<ReplayId>,
    pub(super) letter: DeadLetter,
}

impl State {
    pub(super) fn new(
        epoch: Epoch,
        shard: Option<ShardNumber>,
        options: MemoryOptions,
        now: Moment,
    ) -> Self {
        let before_first = before_first(shard);
        Self {
            epoch,
            shard,
            options,
            now,
            trouble: None,
            queues: DeliveryQueues::new(LeaseOwner::Memory, Parking::Here, before_first),
            cursors: HashMap::new(),
            positions: HashMap::new(),
            last_sequence: before_first,
            last_run: 0,
            bytes: 0,
            events: BTreeMap::new(),
            seen: HashMap::new(),
            keys: BTreeMap::new(),
            subscriptions: Vec::new(),
            dropped: Counts::default(),
            quotas: Quotas::default(),
            dead: BTreeMap::new(),
            history: BTreeMap::new(),
            last_history: 0,
            replays: Vec::new(),
        }
    }

    /// A subscription that is there.
    pub(super) fn subscribed(&mut self, number: SubscriptionNumber) -> Option<&mut Subscribed> {
        self.numbered(number)
            .filter(|subscribed| !subscribed.is_dropped)
    }

    /// A subscription that is there, or was once.
    pub(super) fn numbered(&mut self, number: SubscriptionNumber) -> Option<&mut Subscribed> {
        self.subscriptions
            .get_mut((number.0 as usize).checked_sub(1)?)
    }

    /// All subscriptions that are there.
    pub(super) fn all_subscribed(
        &self,
    ) -> impl Iterator<Item = (SubscriptionNumber, &Subscribed)> + use<'_> {
        (1..)
            .map(SubscriptionNumber)
            .zip(&self.subscriptions)
            .filter(|(_, subscribed)| !subscribed.is_dropped)
    }

    /// Brings everything up to a moment: leases run out, deliveries fall due, old events go, and
    /// so do subscriptions that no rule wants and that hold nothing.
    pub(super) fn advance(&mut self, now: Moment) {
        self.now = now;
        self.queues.advance(now);
        self.retain(0);
        self.forget_history();
        self.drop_detached();
    }

    /// Drops events that nothing refers to: those whose time is over, and the oldest of the others
    /// until `room` more bytes fit.
    pub(super) fn retain(&mut self, room: u64) {
        let (max, now, usual) = (
            self.options.bytes_max,
            self.now.time,
            self.options.retention,
        );
        let pinned = |needs_room| {
            let replays = self.replays.iter();
            let pins = replays.filter_map(move |replay| replay.pinned(needs_room));
            pins.collect::<Vec<_>>()
        };
        let (pinned, pinned_in_need) = (pinned(false), pinned(true));
        let bytes = &mut self.bytes;
        self.events.retain(|sequence, retained| {
            let is_in = |pins: &[(Sequence, Sequence)]| {
                pins.iter()
                    .any(|(behind, until)| behind < sequence && sequence <= until)
            };
            let has_room = bytes.saturating_add(room) <= max;
            let stored = &retained.stored;
            let until = stored.kept_until.unwrap_or_else(|| stored.at.plus(usual));
            let stays = retained.pins > 0
                || is_in(&pinned_in_need)
                || ((until > now || is_in(&pinned)) && has_room);
            if !stays {
                *bytes -= stored.event.size_bytes() as u64;
            }
            stays
        });
    }

    /// Makes a delivery pending. Its event is pinned and counted already.
    pub(super) fn insert(&mut self, key: DeliveryKey, delivery: Delivery, immediate: bool) {
        let slot = Slot::one(key.sequence, immediate, delivery.order_key, ());
        let ready_key = ReadyKey::of(&key, delivery.due);
        self.count(key.subscription, 0, 1);
        if let Some(subscribed) = self.subscribed(key.subscription) {
            subscribed.counts.pending += 1;
            let pending_key = (Sequence(key.sequence), key.run);
            subscribed.pending.insert(pending_key, delivery);
        }
        self.queues.insert(key.subscription, ready_key, slot);
    }

    /// Takes a delivery from the pending ones; its event stays pinned.
    pub(super) fn take(&mut self, key: DeliveryKey) -> Option<Delivery> {
        let subscribed = self.subscribed(key.subscription)?;
        let delivery = subscribed
            .pending
            .remove(&(Sequence(key.sequence), key.run))?;
        subscribed.counts.pending -= 1;
        subscribed.counts.retrying -= u64::from(delivery.attempts > 0);
        self.count(key.subscription, 1, 0);
        Some(delivery)
    }

    /// Counts what of a subscription waits against its quotas: so many fewer, so many more.
    fn count(&mut self, number: SubscriptionNumber, before: u64, now: u64) {
        if self.quotas.is_empty() {
            return;
        }
        let index = (number.0 as usize).checked_sub(1);
        if let Some(subscribed) = index.and_then(|index| self.subscriptions.get(index)) {
            self.quotas
                .changed(number.0, &subscribed.identity, before, now);
        }
    }

    pub(super) fn set_quotas(&mut self, quotas: Vec<BacklogQuota>) {
        let counted = self.all_subscribed().map(|(number, subscribed)| {
            (number.0, &subscribed.identity, subscribed.counts.pending)
        });
        self.quotas = Quotas::new(quotas, &self.quotas, counted);
    }

    /// How much waits here of what has a bound.
    pub(super) fn waiting(&mut self, of: &Bounded) -> u64 {
        match of {
            Bounded::Subscription(number) => {
                let subscribed = self.subscribed(*number);
                subscribed.map_or(0, |subscribed| subscribed.counts.pending)
            }
            Bounded::Quota(owner) => self.quotas.waiting(owner),
        }
    }

    /// Counts so much that waits in other shards, and nothing else.
    pub(super) fn set_elsewhere(&mut self, elsewhere: Vec<(Bounded, u64)>) {
        let all = self.subscriptions.iter_mut();
        all.for_each(|subscribed| subscribed.elsewhere = 0);
        self.quotas.forget_elsewhere();
        for (of, count) in elsewhere {
            match of {
                Bounded::Subscription(number) => {
                    if let Some(subscribed) = self.subscribed(number) {
                        subscribed.elsewhere = count;
                    }
                }
                Bounded::Quota(owner) => self.quotas.set_elsewhere(&owner, count),
            }
        }
    }

    pub(super) fn unpin(&mut self, sequence: u64) {
        if let Some(retained) = self.events.get_mut(&Sequence(sequence)) {
            retained.pins -= 1;
        }
    }

    pub(super) fn id(&self, key: DeliveryKey) -> DeliveryId {
        DeliveryId {
            epoch: self.epoch,
            sequence: Sequence(key.sequence),
            subscription: key.subscription,
            run: key.run,
        }
    }
}

pub(super) fn identity(tenant: &Name, origin: &Name, event: &Event) -> EventIdentity {
    (
        tenant.clone(),
        origin.clone(),
        event.source().to_owned(),
        event.id().to_owned(),
    )
}

pub(super) fn not_found(number: SubscriptionNumber) -> JournalError {
    JournalError::NotFound(format!("subscription {}", number.0))
}
