//! Everything that the journal in memory knows, and what its operations do to it. No waiting and no
//! locks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use pointsman_schemas::Reject;
use pointsman_schemas::{
    Cursor, DeliveryId, Epoch, Event, Name, Sequence, SubscriptionNumber, Timestamp,
};
use tokio::time::Instant;

use super::{CLOCK_TRUSTED_FOR, MemoryOptions};
use crate::{
    Activity, Append, Appended, Backlog, Counts, Cut, DeadLetter, DeadReason, DeadSelection,
    Ending, Entry, EventPage, EventsFrom, FollowUp, Grant, JournalError, LastOutcome, LeaseToken,
    Leased, Leases, NewDead, NewDelivery, Pending, Settlement, StoredEvent, Subscription,
    SubscriptionIdentity, SubscriptionStatus, Totals,
};

pub(super) struct Book {
    epoch: Epoch,
    options: MemoryOptions,
    now: Timestamp,
    pub(super) trouble: Option<JournalError>,
    /// Subscriptions to tell of.
    pub(super) due: BTreeSet<SubscriptionNumber>,
    pub(super) cursors: HashMap<(Name, Name), Cursor>,
    last_sequence: u64,
    /// The highest run given out: what runs an event anew takes the next.
    last_run: u64,
    last_token: u64,
    bytes: u64,
    events: BTreeMap<Sequence, Kept>,
    seen: HashMap<Identity, (Sequence, Timestamp)>,
    /// The index is the number less one: numbers are never used again.
    subscriptions: Vec<Queue>,
    dead: BTreeMap<Place, Dead>,
    leases: HashMap<LeaseToken, (Place, Instant)>,
}

/// A delivery's id without its journal, in the order in which dead letters are shown.
type Place = (Sequence, SubscriptionNumber, u64);

/// What deduplication knows an event by: tenant, origin, `source`, `id`.
type Identity = (Name, Name, ByteString, ByteString);

struct Kept {
    stored: StoredEvent,
    /// Deliveries and dead letters that refer to it.
    pins: usize,
}

struct Queue {
    identity: SubscriptionIdentity,
    attached: bool,
    activity: Activity,
    backlog: Option<Backlog>,
    counts: Counts,
    /// No rule wants it and it holds nothing: for everybody but who comes late with something for
    /// it, it is not there.
    is_dropped: bool,
    pending: BTreeMap<(Sequence, u64), Delivery>,
}

#[derive(Clone)]
struct Delivery {
    order_key: Option<u64>,
    due: Timestamp,
    since: Timestamp,
    attempts: u32,
    failures: u32,
    last: Option<LastOutcome>,
    lease: Option<LeaseToken>,
    /// Whether [`Book::due`] has told of it since it fell due.
    told: bool,
}

struct Dead {
    order_key: Option<u64>,
    letter: DeadLetter,
}

impl Book {
    pub(super) fn new(epoch: Epoch, options: MemoryOptions, now: Timestamp) -> Self {
        Self {
            epoch,
            options,
            now,
            trouble: None,
            due: BTreeSet::new(),
            cursors: HashMap::new(),
            last_sequence: 0,
            last_run: 0,
            last_token: 0,
            bytes: 0,
            events: BTreeMap::new(),
            seen: HashMap::new(),
            subscriptions: Vec::new(),
            dead: BTreeMap::new(),
            leases: HashMap::new(),
        }
    }

    fn queue(&mut self, number: SubscriptionNumber) -> Option<&mut Queue> {
        self.subscriptions
            .get_mut((number.0 as usize).checked_sub(1)?)
            .filter(|queue| !queue.is_dropped)
    }

    fn queues(&mut self) -> impl Iterator<Item = (SubscriptionNumber, &mut Queue)> {
        (1..)
            .map(SubscriptionNumber)
            .zip(&mut self.subscriptions)
            .filter(|(_, queue)| !queue.is_dropped)
    }

    /// The number under which something is to be kept: that of who has the identity of a dropped
    /// one now, if anybody has.
    fn resolve(&self, number: SubscriptionNumber) -> SubscriptionNumber {
        let own = (number.0 as usize)
            .checked_sub(1)
            .and_then(|index| self.subscriptions.get(index));
        let Some(own) = own.filter(|queue| queue.is_dropped) else {
            return number;
        };
        let heir = self
            .subscriptions
            .iter()
            .position(|queue| !queue.is_dropped && queue.identity == own.identity);
        heir.and_then(|index| u32::try_from(index + 1).ok())
            .map_or(number, SubscriptionNumber)
    }

    /// Drops what no rule wants and what holds nothing.
    fn drop_detached(&mut self) {
        for (_, queue) in self.queues().filter(|(_, queue)| {
            !queue.attached && queue.pending.is_empty() && queue.counts.dead == 0
        }) {
            *queue = Queue {
                attached: false,
                is_dropped: true,
                ..Queue::new(queue.identity.clone())
            };
        }
    }

    /// Brings the book up to a time: leases run out, deliveries fall due, old events go.
    pub(super) fn turn(&mut self, now: Timestamp) {
        self.now = now;
        let instant = Instant::now();
        let expired: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, (_, until))| *until <= instant)
            .map(|(token, _)| *token)
            .collect();
        for token in expired {
            self.unlease(token);
        }
        let mut due = std::mem::take(&mut self.due);
        for (number, queue) in self.queues() {
            for delivery in queue.eligible(now).filter(|delivery| !delivery.1.told) {
                delivery.1.told = true;
                due.insert(number);
            }
        }
        self.due = due;
        self.retain(self.now.minus(self.options.retention), 0);
        self.drop_detached();
    }

    /// How long nothing happens by itself.
    pub(super) fn next_turn(&mut self) -> Duration {
        let now = self.now;
        let mut next = CLOCK_TRUSTED_FOR;
        for (_, queue) in self.queues() {
            for delivery in queue.pending.values().filter(|delivery| delivery.due > now) {
                next = next.min(delivery.due.since(now));
            }
        }
        let leases = self
            .leases
            .values()
            .map(|(_, until)| until.saturating_duration_since(Instant::now()));
        leases
            .fold(next, Duration::min)
            .max(Duration::from_micros(1))
    }

    /// Drops events that nothing refers to: those stored before `before`, and the oldest beyond it
    /// until `room` more bytes fit.
    fn retain(&mut self, before: Timestamp, room: u64) {
        let max = self.options.bytes_max;
        let bytes = &mut self.bytes;
        self.events.retain(|_, kept| {
            let stays =
                kept.pins > 0 || (kept.stored.at > before && bytes.saturating_add(room) <= max);
            if !stays {
                *bytes -= kept.stored.event.size_bytes() as u64;
            }
            stays
        });
    }

    pub(super) fn append(&mut self, append: Append) -> Result<Vec<Appended>, JournalError> {
        let size = append
            .entries
            .iter()
            .map(|entry| entry.event.size_bytes() as u64)
            .sum::<u64>();
        self.retain(Timestamp(i64::MIN), size);
        if self.bytes.saturating_add(size) > self.options.bytes_max {
            return Err(JournalError::Full(
                "raise store.max_size, or let the targets catch up".to_owned(),
            ));
        }
        let mut arriving: HashMap<SubscriptionNumber, u64> = HashMap::new();
        let mut ids = HashSet::new();
        for entry in &append.entries {
            let twice = entry.deduplicate.is_some()
                && !ids.insert(identity(&append.tenant, &append.origin, &entry.event));
            if twice
                || self
                    .duplicate_of(&append.tenant, &append.origin, entry)
                    .is_some()
            {
                continue;
            }
            for delivery in &entry.deliveries {
                *arriving.entry(delivery.subscription).or_default() += 1;
            }
            if let Some(dead) = &entry.dead {
                arriving.entry(dead.subscription).or_default();
            }
        }
        for (number, count) in arriving {
            let is_known = (1..=self.subscriptions.len()).contains(&(number.0 as usize));
            let Some(queue) = self.queue(number) else {
                // One that was there and has been dropped comes back.
                if is_known {
                    continue;
                }
                return Err(JournalError::NotFound(format!("subscription {}", number.0)));
            };
            let is_full = |backlog: Backlog| {
                count > 0
                    && !backlog.dead_when_full
                    && queue.counts.pending > 0
                    && queue.counts.pending + count > backlog.max
            };
            if queue.backlog.is_some_and(is_full) {
                return Err(JournalError::Backlog(number));
            }
        }
        let Append {
            tenant,
            origin,
            entries,
            rejects,
            cursor,
        } = append;
        let appended = entries
            .into_iter()
            .map(|entry| self.store(&tenant, &origin, entry))
            .collect();
        for reject in rejects {
            self.reject(&tenant, &origin, reject);
        }
        if let Some(cursor) = cursor {
            self.cursors.insert((tenant, origin), cursor);
        }
        Ok(appended)
    }

    fn duplicate_of(&self, tenant: &Name, origin: &Name, entry: &Entry) -> Option<Sequence> {
        let window = entry.deduplicate?;
        let (sequence, at) = self.seen.get(&identity(tenant, origin, &entry.event))?;
        (self.now.since(*at) < window).then_some(*sequence)
    }

    fn store(&mut self, tenant: &Name, origin: &Name, entry: Entry) -> Appended {
        if let Some(sequence) = self.duplicate_of(tenant, origin, &entry) {
            return Appended::Duplicate(sequence);
        }
        self.last_sequence += 1;
        let sequence = Sequence(self.last_sequence);
        if entry.deduplicate.is_some() {
            self.seen
                .insert(identity(tenant, origin, &entry.event), (sequence, self.now));
        }
        self.bytes += entry.event.size_bytes() as u64;
        let stored = StoredEvent {
            sequence,
            tenant: tenant.clone(),
            origin: origin.clone(),
            at: self.now,
            event: entry.event,
        };
        self.events.insert(sequence, Kept { stored, pins: 0 });
        for (index, delivery) in entry.deliveries.iter().enumerate() {
            if !entry
                .deliveries
                .iter()
                .take(index)
                .any(|earlier| earlier.subscription == delivery.subscription)
            {
                self.deliver(sequence, 0, *delivery);
            }
        }
        let is_new = |dead: &NewDead| {
            entry
                .deliveries
                .iter()
                .all(|delivery| delivery.subscription != dead.subscription)
        };
        if let Some(dead) = entry.dead.filter(is_new) {
            self.deliver_dead(sequence, dead);
        }
        Appended::Stored(sequence)
    }

    fn deliver_dead(&mut self, sequence: Sequence, dead: NewDead) {
        let NewDead {
            subscription,
            order_key,
            reason,
            attempts,
            last,
        } = dead;
        let (now, subscription) = (self.now, self.resolve(subscription));
        let Some(kept) = self.events.get_mut(&sequence) else {
            return;
        };
        let Some(queue) = (subscription.0 as usize)
            .checked_sub(1)
            .and_then(|index| self.subscriptions.get_mut(index))
        else {
            return;
        };
        kept.pins += 1;
        queue.is_dropped = false;
        queue.counts.created += 1;
        let ended = Delivery {
            order_key,
            due: now,
            since: now,
            attempts,
            failures: 0,
            last: None,
            lease: None,
            told: false,
        };
        self.bury((sequence, subscription, 0), ended, reason, last);
    }

    /// Makes a delivery, or a dead letter where the backlog is full and declared so.
    fn deliver(&mut self, sequence: Sequence, run: u64, new: NewDelivery) {
        let (now, number) = (self.now, self.resolve(new.subscription));
        let Some(kept) = self.events.get_mut(&sequence) else {
            return;
        };
        let Some(queue) = (number.0 as usize)
            .checked_sub(1)
            .and_then(|index| self.subscriptions.get_mut(index))
        else {
            return;
        };
        kept.pins += 1;
        queue.is_dropped = false;
        queue.counts.created += 1;
        self.last_run = self.last_run.max(run);
        let since = new.due.unwrap_or(now);
        let NewDelivery { order_key, .. } = new;
        let delivery = Delivery {
            order_key,
            due: since,
            since,
            attempts: 0,
            failures: 0,
            last: None,
            lease: None,
            told: false,
        };
        let pending = queue.counts.pending;
        if queue
            .backlog
            .is_some_and(|backlog| backlog.dead_when_full && pending >= backlog.max)
        {
            self.bury((sequence, number, run), delivery, DeadReason::Backlog, None);
        } else {
            queue.counts.pending += 1;
            queue.pending.insert((sequence, run), delivery);
        }
    }

    fn reject(&mut self, tenant: &Name, origin: &Name, reject: Reject) {
        self.last_sequence += 1;
        let place = (Sequence(self.last_sequence), SubscriptionNumber(0), 0);
        let letter = DeadLetter {
            id: delivery_id(self.epoch, place),
            tenant: tenant.clone(),
            origin: origin.clone(),
            subscription: None,
            reason: DeadReason::Unreadable,
            message: reject.reason,
            at: self.now,
            attempts: 0,
            last: None,
            raw: reject.raw,
        };
        self.dead.insert(
            place,
            Dead {
                order_key: None,
                letter,
            },
        );
    }

    pub(super) fn lease(&mut self, grants: &[Grant], bytes_max: usize) -> Leases {
        let (now, instant, epoch) = (self.now, Instant::now(), self.epoch);
        let (mut leases, mut bytes) = (Leases::default(), 0);
        for grant in grants {
            let mut grant_bytes = 0;
            let Some(queue) = (grant.subscription.0 as usize)
                .checked_sub(1)
                .and_then(|index| self.subscriptions.get_mut(index))
            else {
                continue;
            };
            let mut eligible: Vec<_> = queue.eligible(now).collect();
            eligible.sort_by_key(|(place, delivery)| (delivery.due, *place));
            for ((sequence, run), delivery) in eligible.into_iter().take(grant.count) {
                let Some(kept) = self.events.get(&sequence) else {
                    continue;
                };
                let size = kept.stored.event.size_bytes();
                if bytes + size > bytes_max || grant_bytes + size > grant.bytes_max {
                    leases.cut.push(Cut {
                        subscription: grant.subscription,
                        event_bytes: size,
                    });
                    break;
                }
                bytes += size;
                grant_bytes += size;
                self.last_token += 1;
                let token = LeaseToken(self.last_token);
                let place = (sequence, grant.subscription, run);
                self.leases.insert(token, (place, instant + grant.lease));
                delivery.lease = Some(token);
                leases.leased.push(Leased {
                    token,
                    id: delivery_id(epoch, place),
                    event: Arc::clone(&kept.stored.event),
                    tenant: kept.stored.tenant.clone(),
                    origin: kept.stored.origin.clone(),
                    attempts: delivery.attempts,
                    failures: delivery.failures,
                    since: delivery.since,
                });
            }
        }
        leases
    }

    /// Ends a lease and leaves its delivery pending.
    fn unlease(&mut self, token: LeaseToken) -> Option<Place> {
        let (place, _) = self.leases.remove(&token)?;
        let queue = self.queue(place.1)?;
        let delivery = queue.pending.get_mut(&(place.0, place.2))?;
        (delivery.lease, delivery.told) = (None, false);
        Some(place)
    }

    pub(super) fn settle(&mut self, settlement: Settlement) -> bool {
        let Some(place) = self.unlease(settlement.token) else {
            return false;
        };
        match settlement.ending {
            Ending::Released => {}
            Ending::Delivered => {
                self.end(place);
                self.unpin(place.0);
                if let Some(queue) = self.queue(place.1) {
                    queue.counts.delivered += 1;
                }
            }
            Ending::Retry { at, failure, last } => {
                if let Some(queue) = self.queue(place.1)
                    && let Some(delivery) = queue.pending.get_mut(&(place.0, place.2))
                {
                    queue.counts.retrying += u64::from(delivery.attempts == 0);
                    delivery.attempts += 1;
                    delivery.failures += u32::from(failure);
                    (delivery.due, delivery.last) = (at, Some(last));
                }
            }
            Ending::Dead { reason, last } => {
                if let Some(mut delivery) = self.end(place) {
                    delivery.attempts += u32::from(last.is_some());
                    self.bury(place, delivery, reason, last);
                }
            }
        }
        for follow_up in settlement.follow_ups {
            match follow_up {
                FollowUp::Append { origin, entry } => {
                    if let Some(tenant) = self
                        .queue(place.1)
                        .map(|queue| queue.identity.tenant.clone())
                    {
                        self.store(&tenant, &origin, entry);
                    }
                }
                FollowUp::Reject { origin, reject } => {
                    if let Some(tenant) = self
                        .queue(place.1)
                        .map(|queue| queue.identity.tenant.clone())
                    {
                        self.reject(&tenant, &origin, reject);
                    }
                }
                FollowUp::Original(new) => {
                    let run = self.last_run + 1;
                    self.deliver(place.0, run, new);
                }
            }
        }
        true
    }

    /// Takes a delivery out of its queue; its event stays pinned.
    fn end(&mut self, (sequence, number, run): Place) -> Option<Delivery> {
        let queue = self.queue(number)?;
        let delivery = queue.pending.remove(&(sequence, run))?;
        queue.counts.pending -= 1;
        queue.counts.retrying -= u64::from(delivery.attempts > 0);
        Some(delivery)
    }

    fn unpin(&mut self, sequence: Sequence) {
        if let Some(kept) = self.events.get_mut(&sequence) {
            kept.pins -= 1;
        }
    }

    fn bury(
        &mut self,
        place: Place,
        delivery: Delivery,
        reason: DeadReason,
        last: Option<LastOutcome>,
    ) {
        let (epoch, at) = (self.epoch, self.now);
        let Some((tenant, origin)) = self
            .events
            .get(&place.0)
            .map(|kept| (kept.stored.tenant.clone(), kept.stored.origin.clone()))
        else {
            return;
        };
        let Some(queue) = self.queue(place.1) else {
            return;
        };
        queue.counts.dead += 1;
        let last = last.or(delivery.last);
        let message = last
            .as_ref()
            .map(|last| last.message.clone())
            .unwrap_or_default();
        let (id, subscription, raw) = (
            delivery_id(epoch, place),
            Some(queue.identity.clone()),
            Bytes::new(),
        );
        let letter = DeadLetter {
            id,
            tenant,
            origin,
            subscription,
            reason,
            message,
            at,
            attempts: delivery.attempts,
            last,
            raw,
        };
        self.dead.insert(
            place,
            Dead {
                order_key: delivery.order_key,
                letter,
            },
        );
    }

    pub(super) fn subscribe(&mut self, wanted: Vec<Subscription>) -> Vec<SubscriptionNumber> {
        let identities: HashSet<_> = wanted
            .iter()
            .map(|subscription| subscription.identity.clone())
            .collect();
        for queue in &mut self.subscriptions {
            queue.attached = !queue.is_dropped && identities.contains(&queue.identity);
        }
        let numbers = wanted.into_iter().map(
            |Subscription {
                 identity,
                 renamed_from,
                 backlog,
             }| {
                let find = |queues: &[Queue], identity: &SubscriptionIdentity| {
                    queues
                        .iter()
                        .position(|queue| !queue.is_dropped && queue.identity == *identity)
                };
                let earlier = |queues: &[Queue]| {
                    let old = SubscriptionIdentity {
                        rule: renamed_from.clone()?,
                        ..identity.clone()
                    };
                    find(queues, &old)
                        .filter(|index| queues.get(*index).is_some_and(|queue| !queue.attached))
                };
                let index = find(&self.subscriptions, &identity)
                    .or_else(|| earlier(&self.subscriptions))
                    .unwrap_or(self.subscriptions.len());
                if index == self.subscriptions.len() {
                    self.subscriptions.push(Queue::new(identity.clone()));
                }
                if let Some(queue) = self.subscriptions.get_mut(index) {
                    (queue.identity, queue.attached, queue.backlog) = (identity, true, backlog);
                    queue.tell_again();
                }
                SubscriptionNumber(u32::try_from(index + 1).unwrap_or(u32::MAX))
            },
        );
        numbers.collect()
    }

    pub(super) fn set_activity(
        &mut self,
        number: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        let queue = self
            .queue(number)
            .ok_or_else(|| JournalError::NotFound(format!("subscription {}", number.0)))?;
        queue.activity = activity;
        queue.tell_again();
        Ok(())
    }

    pub(super) fn cancel(&mut self, deliveries: &[DeliveryId]) -> u64 {
        let (mut count, epoch) = (0, self.epoch);
        for id in deliveries.iter().filter(|id| id.epoch == epoch) {
            let place = (id.sequence, id.subscription, id.run);
            let Some(queue) = self.queue(id.subscription) else {
                continue;
            };
            if queue
                .pending
                .get(&(id.sequence, id.run))
                .is_some_and(|delivery| delivery.lease.is_none())
            {
                queue.counts.cancelled += 1;
                count += 1;
                self.end(place);
                self.unpin(id.sequence);
            }
        }
        count
    }

    /// Takes everything pending out of a subscription, and gives it to another one where there is
    /// one.
    pub(super) fn empty(
        &mut self,
        from: SubscriptionNumber,
        to: Option<SubscriptionNumber>,
    ) -> Result<u64, JournalError> {
        let not_found = |number: SubscriptionNumber| {
            JournalError::NotFound(format!("subscription {}", number.0))
        };
        let tenant = self
            .queue(from)
            .ok_or_else(|| not_found(from))?
            .identity
            .tenant
            .clone();
        if let Some(to) = to {
            self.queue(to)
                .filter(|queue| queue.identity.tenant == tenant)
                .ok_or_else(|| not_found(to))?;
        }
        let Some(queue) = self.queue(from).filter(|_| to != Some(from)) else {
            return Ok(0);
        };
        let free = queue
            .pending
            .iter()
            .filter(|(_, delivery)| delivery.lease.is_none())
            .map(|(place, _)| *place);
        let free: Vec<_> = free.collect();
        for (sequence, run) in &free {
            let Some(delivery) = self.end((*sequence, from, *run)) else {
                continue;
            };
            if let Some(queue) = self.queue(from) {
                queue.counts.cancelled += 1;
            }
            if let Some(to) = to {
                let due =
                    Some(delivery.due).filter(|due| delivery.attempts == 0 && *due > self.now);
                let run = self.last_run + 1;
                self.deliver(
                    *sequence,
                    run,
                    NewDelivery {
                        subscription: to,
                        order_key: delivery.order_key,
                        due,
                    },
                );
            }
            self.unpin(*sequence);
        }
        Ok(free.len() as u64)
    }

    pub(super) fn redrive(&mut self, selection: &DeadSelection) -> u64 {
        let places = self.select(selection);
        let mut count = 0;
        for place in places.into_iter().filter(|place| place.1.0 != 0) {
            let Some(dead) = self.dead.remove(&place) else {
                continue;
            };
            let Some(queue) = self.queue(place.1) else {
                continue;
            };
            queue.counts.dead -= 1;
            queue.counts.redriven += 1;
            queue.counts.created += 1;
            queue.counts.pending += 1;
            // Not one more than the letter's own: the event may have been sent on to this
            // subscription under that one.
            self.last_run += 1;
            let (now, run) = (self.now, self.last_run);
            let fresh = Delivery {
                order_key: dead.order_key,
                due: now,
                since: now,
                attempts: 0,
                failures: 0,
                last: None,
                lease: None,
                told: false,
            };
            if let Some(queue) = self.queue(place.1) {
                queue.pending.insert((place.0, run), fresh);
            }
            count += 1;
        }
        count
    }

    pub(super) fn replay(
        &mut self,
        number: SubscriptionNumber,
        events: std::ops::RangeInclusive<Sequence>,
    ) -> Result<u64, JournalError> {
        let queue = self
            .queue(number)
            .ok_or_else(|| JournalError::NotFound(format!("subscription {}", number.0)))?;
        let tenant = queue.identity.tenant.clone();
        let there: HashSet<_> = queue
            .pending
            .keys()
            .map(|(sequence, _)| *sequence)
            .collect();
        let dead: HashSet<_> = self
            .dead
            .keys()
            .filter(|place| place.1 == number)
            .map(|place| place.0)
            .collect();
        if events.is_empty() {
            return Ok(0);
        }
        let chosen: Vec<_> = self
            .events
            .range(events)
            .filter(|(sequence, kept)| {
                kept.stored.tenant == tenant
                    && !there.contains(sequence)
                    && !dead.contains(sequence)
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        let run = self.last_run + 1;
        for sequence in &chosen {
            self.deliver(*sequence, run, NewDelivery::now(number));
        }
        Ok(chosen.len() as u64)
    }

    pub(super) fn purge(&mut self, selection: &DeadSelection) -> u64 {
        let places = self.select(selection);
        for place in &places {
            self.dead.remove(place);
            if let Some(queue) = self.queue(place.1) {
                queue.counts.dead -= 1;
                queue.counts.purged += 1;
                self.unpin(place.0);
            }
        }
        places.len() as u64
    }

    fn select(&self, selection: &DeadSelection) -> Vec<Place> {
        self.dead
            .iter()
            .filter(|(_, dead)| selection.selects(&dead.letter))
            .map(|(place, _)| *place)
            .collect()
    }

    pub(super) fn statuses(&mut self) -> Vec<SubscriptionStatus> {
        let statuses = self.queues().map(|(number, queue)| SubscriptionStatus {
            number,
            identity: queue.identity.clone(),
            attached: queue.attached,
            activity: queue.activity,
            counts: Counts {
                in_flight: queue
                    .pending
                    .values()
                    .filter(|delivery| delivery.lease.is_some())
                    .count() as u64,
                ..queue.counts
            },
            oldest_pending: queue.pending.values().map(|delivery| delivery.since).min(),
        });
        statuses.collect()
    }

    pub(super) fn dead_letters(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let after = after.map(|id| (id.sequence, id.subscription, id.run));
        let later = self.dead.iter().filter(|(place, dead)| {
            after.is_none_or(|after| **place > after) && selection.selects(&dead.letter)
        });
        later
            .take(limit)
            .map(|(_, dead)| dead.letter.clone())
            .collect()
    }

    pub(super) fn pending(
        &mut self,
        number: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Vec<Pending> {
        let epoch = self.epoch;
        let Some(queue) = self.queue(number) else {
            return Vec::new();
        };
        let later = queue
            .pending
            .iter()
            .filter(|((sequence, _), _)| after.is_none_or(|after| *sequence > after));
        let shown = later
            .take(limit)
            .map(|((sequence, run), delivery)| Pending {
                id: delivery_id(epoch, (*sequence, number, *run)),
                due: delivery.due,
                since: delivery.since,
                attempts: delivery.attempts,
                last: delivery.last.clone(),
            });
        shown.collect()
    }

    pub(super) fn events(&self, from: EventsFrom, limit: usize, bytes_max: usize) -> EventPage {
        let after = match from {
            EventsFrom::After(after) => after,
            EventsFrom::Time(time) => {
                let before = self
                    .events
                    .iter()
                    .take_while(|(_, kept)| kept.stored.at < time)
                    .last();
                before.map_or(Sequence(0), |(sequence, _)| *sequence)
            }
        };
        let mut page = EventPage::default();
        let mut bytes = 0_usize;
        for (sequence, kept) in self
            .events
            .range((Bound::Excluded(after), Bound::Unbounded))
        {
            bytes = bytes.saturating_add(kept.stored.event.size_bytes());
            if page.events.len() >= limit || (bytes > bytes_max && !page.events.is_empty()) {
                page.next = page.events.last().map(|last| last.sequence);
                break;
            }
            debug_assert_eq!(*sequence, kept.stored.sequence);
            page.events.push(kept.stored.clone());
        }
        page
    }

    pub(super) fn last_event(&self) -> Option<StoredEvent> {
        self.events
            .values()
            .next_back()
            .map(|kept| kept.stored.clone())
    }

    pub(super) fn event(&self, sequence: Sequence) -> Option<StoredEvent> {
        self.events.get(&sequence).map(|kept| kept.stored.clone())
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            events: self.events.len() as u64,
            dead: self.dead.len() as u64,
            rejects: self.dead.keys().filter(|place| place.1.0 == 0).count() as u64,
            quarantined: 0,
            lost_commits: 0,
            bytes: self.bytes,
            bytes_max: self.options.bytes_max,
            last_sequence: self.last_sequence,
        }
    }
}

impl Queue {
    fn new(identity: SubscriptionIdentity) -> Self {
        let (counts, pending) = (Counts::default(), BTreeMap::new());
        Self {
            identity,
            attached: true,
            activity: Activity::Active,
            backlog: None,
            counts,
            is_dropped: false,
            pending,
        }
    }

    /// What may be leased now: due, not leased, and of every order key the earliest alone, unless a
    /// later one is already in flight.
    fn eligible(
        &mut self,
        now: Timestamp,
    ) -> impl Iterator<Item = ((Sequence, u64), &mut Delivery)> {
        let is_open = self.attached && self.activity == Activity::Active;
        let leased = self
            .pending
            .values()
            .filter(|delivery| delivery.lease.is_some());
        let mut keys: HashSet<_> = leased.filter_map(|delivery| delivery.order_key).collect();
        self.pending
            .iter_mut()
            .filter(move |_| is_open)
            .filter_map(move |(place, delivery)| {
                let is_head = delivery.order_key.is_none_or(|key| keys.insert(key));
                (is_head && delivery.lease.is_none() && delivery.due <= now)
                    .then_some((*place, delivery))
            })
    }

    fn tell_again(&mut self) {
        for delivery in self.pending.values_mut() {
            delivery.told = false;
        }
    }
}

fn identity(tenant: &Name, origin: &Name, event: &Event) -> Identity {
    (
        tenant.clone(),
        origin.clone(),
        event.source().clone(),
        event.id().clone(),
    )
}

fn delivery_id(epoch: Epoch, (sequence, subscription, run): Place) -> DeliveryId {
    DeliveryId {
        epoch,
        sequence,
        subscription,
        run,
    }
}
