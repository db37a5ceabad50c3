//! Appending, and what an append makes of an entry.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pointsman_schemas::{Name, PositionChange, Reject, Sequence, SubscriptionNumber};

use super::state::{Dead, Delivery, Retained, State, identity, not_found};
use crate::queue::DeliveryKey;
use crate::quota::Arrived;
use crate::{
    Append, Appended, Backlog, DeadLetter, DeadReason, Entry, JournalError, LastOutcome,
    MadeDelivery, NewDead, NewDelivery, ReplayId, StoredEvent,
};

/// What a row of a position takes; nothing where it is deleted.
fn change_bytes(change: &PositionChange) -> u64 {
    let row = |value: &Bytes| (change.key.len() + value.len()) as u64;
    change.value.as_ref().map_or(0, row)
}

pub(super) fn full() -> JournalError {
    JournalError::Full("raise store.max_size, or let the targets catch up".to_owned())
}

impl State {
    pub(super) fn append(&mut self, append: Append) -> Result<Vec<Appended>, JournalError> {
        let events = append.entries.iter().map(|entry| &entry.event);
        let events = events.map(|event| event.size_bytes() as u64);
        let rows = append.positions.iter().map(change_bytes);
        let size = events.chain(rows).sum::<u64>();
        self.retain(size);
        if self.bytes.saturating_add(size) > self.options.bytes_max {
            return Err(full());
        }
        self.check_backlogs(&append)?;
        let Append {
            tenant,
            origin,
            entries,
            rejects,
            cursor,
            positions,
        } = append;
        let appended = entries
            .into_iter()
            .map(|entry| self.store(&tenant, &origin, entry))
            .collect();
        for reject in rejects {
            self.reject(&tenant, &origin, reject);
        }
        if !positions.is_empty() {
            self.change_positions(tenant.clone(), origin.clone(), positions);
        }
        if let Some(cursor) = cursor {
            self.cursors.insert((tenant, origin), cursor);
        }
        Ok(appended)
    }

    fn change_positions(&mut self, tenant: Name, source: Name, changes: Vec<PositionChange>) {
        let rows = self.positions.entry((tenant, source)).or_default();
        for change in changes {
            let (key, bytes) = (change.key.clone(), change_bytes(&change));
            let key_bytes = key.len();
            let before = match change.value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
            self.bytes += bytes;
            self.bytes -= before.map_or(0, |value| (key_bytes + value.len()) as u64);
        }
    }

    /// Refuses what is for nobody, and what a full backlog stops.
    fn check_backlogs(&mut self, append: &Append) -> Result<(), JournalError> {
        let arriving = self.arriving(append);
        for (number, count) in arriving.clone() {
            let is_known = (1..=self.subscriptions.len()).contains(&(number.0 as usize));
            let Some(subscribed) = self.subscribed(number) else {
                // One that was there and has been dropped comes back.
                if is_known {
                    continue;
                }
                return Err(not_found(number));
            };
            let is_full = |backlog: Backlog| {
                count > 0
                    && !backlog.dead_when_full
                    && subscribed.waits() > 0
                    && subscribed.waits() + count > backlog.max
            };
            if subscribed.backlog.is_some_and(is_full) {
                return Err(JournalError::Backlog(number));
            }
        }
        let arriving = arriving
            .into_iter()
            .map(|(number, count)| (number.0, count));
        self.quotas.check(arriving, &Arrived::default())
    }

    /// How many deliveries an append makes, by subscription; duplicates make none.
    fn arriving(&self, append: &Append) -> HashMap<SubscriptionNumber, u64> {
        let mut arriving: HashMap<SubscriptionNumber, u64> = HashMap::new();
        let mut ids = HashSet::new();
        for entry in &append.entries {
            let is_twice = entry.deduplicate.is_some()
                && !ids.insert(identity(&append.tenant, &append.origin, &entry.event));
            let duplicate = self.duplicate_of(&append.tenant, &append.origin, entry);
            if is_twice || duplicate.is_some() {
                continue;
            }
            let Ok((left_out, _)) = self.known_by_key(entry) else {
                continue;
            };
            let deliveries = entry.deliveries.iter();
            for delivery in deliveries.filter(|one| !left_out.contains(&one.subscription)) {
                let is_late = self.is_catching_up(delivery.subscription);
                *arriving.entry(delivery.subscription).or_default() += u64::from(!is_late);
            }
            if let Some(dead) = &entry.dead {
                arriving.entry(dead.subscription).or_default();
            }
        }
        arriving
    }

    fn duplicate_of(&self, tenant: &Name, origin: &Name, entry: &Entry) -> Option<Sequence> {
        let window = entry.deduplicate?;
        let (sequence, at) = self.seen.get(&identity(tenant, origin, &entry.event))?;
        (self.now.time.since(*at) < window).then_some(*sequence)
    }

    pub(super) fn store(&mut self, tenant: &Name, origin: &Name, entry: Entry) -> Appended {
        if let Some(sequence) = self.duplicate_of(tenant, origin, &entry) {
            return Appended::Duplicate(sequence);
        }
        let (left_out, known) = match self.known_by_key(&entry) {
            Ok(known) => known,
            Err(told) => return told,
        };
        self.last_sequence += 1;
        let (sequence, at) = (Sequence(self.last_sequence), self.now.time);
        let retention = entry.terms.as_ref().and_then(|terms| terms.retention);
        let kept_until = retention.map(|own| at.plus(own.or(self.options.retention)));
        if entry.deduplicate.is_some() {
            let identity = identity(tenant, origin, &entry.event);
            self.seen.insert(identity, (sequence, at));
        }
        self.bytes += entry.event.size_bytes() as u64;
        let stored = StoredEvent {
            sequence,
            tenant: tenant.clone(),
            origin: origin.clone(),
            at,
            kept_until,
            event: entry.event,
        };
        self.events.insert(sequence, Retained { stored, pins: 0 });
        let mut subscriptions = HashSet::new();
        let mut made = Vec::new();
        for delivery in entry.deliveries {
            let is_left_out = left_out.contains(&delivery.subscription)
                || self.is_catching_up(delivery.subscription);
            if subscriptions.insert(delivery.subscription) && !is_left_out {
                made.extend(self.deliver(sequence.0, 0, delivery, None));
            }
        }
        if let Some(terms) = entry.terms {
            self.remember_keys(&terms, sequence, &made);
            if let Some(watch) = terms.watch {
                watch.made(sequence, made);
            }
        }
        if let Some(dead) = entry.dead
            && subscriptions.insert(dead.subscription)
        {
            self.deliver_dead(sequence.0, dead);
        }
        if known.is_empty() {
            Appended::Stored(sequence)
        } else {
            Appended::Reduced(sequence, known)
        }
    }

    /// Counts a delivery that is made now, and returns whom it is for.
    fn create(&mut self, sequence: u64, subscription: SubscriptionNumber) -> Option<DeliveryKey> {
        let subscription = self.resolve(subscription);
        // Whoever is for nobody pins nothing.
        self.numbered(subscription)?;
        self.events.get_mut(&Sequence(sequence))?.pins += 1;
        let subscribed = self.numbered(subscription)?;
        subscribed.is_dropped = false;
        subscribed.counts.created += 1;
        Some(DeliveryKey {
            subscription,
            sequence,
            run: 0,
        })
    }

    /// Makes a delivery, or a dead letter where the backlog is full and declared so.
    pub(super) fn deliver(
        &mut self,
        sequence: u64,
        run: u64,
        new: NewDelivery,
        replay: Option<ReplayId>,
    ) -> Option<MadeDelivery> {
        let key = self.create(sequence, new.subscription)?;
        let key = DeliveryKey { run, ..key };
        self.last_run = self.last_run.max(run);
        let delivery = Delivery {
            replay,
            ..Delivery::fresh(new.order_key, new.due_from(self.now.time))
        };
        let id = self.id(key);
        let subscribed = self.subscribed(key.subscription)?;
        let waits = subscribed.waits();
        let is_full = |backlog: Backlog| backlog.dead_when_full && waits >= backlog.max;
        let is_dead = subscribed.backlog.is_some_and(is_full);
        let subscription = subscribed.identity.clone();
        let number = key.subscription.0;
        let is_dead = is_dead || self.quotas.is_dead(number, &Arrived::default());
        if is_dead {
            self.dead_letter(key, delivery, DeadReason::Backlog, None);
        } else {
            self.insert(key, delivery, new.due.is_none());
        }
        Some(MadeDelivery {
            id,
            subscription,
            is_dead,
        })
    }

    fn deliver_dead(&mut self, sequence: u64, dead: NewDead) {
        let Some(key) = self.create(sequence, dead.subscription) else {
            return;
        };
        let ended = Delivery {
            attempts: dead.attempts,
            ..Delivery::fresh(dead.order_key, self.now.time.into())
        };
        self.dead_letter(key, ended, dead.reason, dead.last);
        let dead_key = (Sequence(key.sequence), key.subscription, key.run);
        if let Some(letter) = self.dead.get_mut(&dead_key) {
            letter.letter.edited = dead.edited;
        }
    }

    /// Makes a dead letter of a delivery that is not pending (any more).
    pub(super) fn dead_letter(
        &mut self,
        key: DeliveryKey,
        delivery: Delivery,
        reason: DeadReason,
        last: Option<LastOutcome>,
    ) {
        let (id, at) = (self.id(key), self.now.time);
        let Some(retained) = self.events.get(&Sequence(key.sequence)) else {
            return;
        };
        let (tenant, origin) = (
            retained.stored.tenant.clone(),
            retained.stored.origin.clone(),
        );
        let Some(subscribed) = self.subscribed(key.subscription) else {
            return;
        };
        subscribed.counts.dead += 1;
        let subscription = Some(subscribed.identity.clone());
        let last = last.or(delivery.last);
        let message = last.as_ref().map(|last| last.message.clone());
        let letter = DeadLetter {
            id,
            tenant,
            origin,
            subscription,
            reason,
            message: message.unwrap_or_default(),
            at,
            attempts: delivery.attempts,
            last,
            raw: Bytes::new(),
            edited: None,
        };
        let dead = Dead {
            order_key: delivery.order_key,
            replay: delivery.replay,
            letter,
        };
        if reason == DeadReason::Backlog {
            self.note_dead(key, reason);
        }
        let dead_key = (id.sequence, id.subscription, id.run);
        self.dead.insert(dead_key, dead);
    }

    /// Makes a dead letter of what no event could be made of.
    pub(super) fn reject(&mut self, tenant: &Name, origin: &Name, reject: Reject) {
        self.last_sequence += 1;
        let id = self.id(DeliveryKey {
            subscription: SubscriptionNumber(0),
            sequence: self.last_sequence,
            run: 0,
        });
        let letter = DeadLetter {
            id,
            tenant: tenant.clone(),
            origin: origin.clone(),
            subscription: None,
            reason: DeadReason::Unreadable,
            message: reject.reason,
            at: self.now.time,
            attempts: 0,
            last: None,
            raw: reject.raw,
            edited: None,
        };
        let dead = Dead {
            order_key: None,
            replay: None,
            letter,
        };
        self.dead
            .insert((id.sequence, id.subscription, id.run), dead);
    }
}
