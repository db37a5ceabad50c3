//! What an operator does to deliveries and dead letters.

use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber, Timestamp};

use super::state::{DeadKey, Delivery, State, not_found};
use crate::queue::{DeliveryKey, ReadyKey, Slot};
use crate::{DeadReason, DeadSelection, Happening, JournalError, NewDelivery, TaskState};

impl State {
    pub(super) fn cancel(&mut self, deliveries: &[DeliveryId]) -> u64 {
        let (mut count, epoch) = (0, self.epoch);
        for id in deliveries.iter().filter(|id| id.epoch == epoch) {
            let key = DeliveryKey {
                subscription: id.subscription,
                sequence: id.sequence.0,
                run: id.run,
            };
            if self.cancel_one(key).is_some() {
                count += 1;
                self.unpin(key.sequence);
            }
        }
        count
    }

    /// Makes dead letters of deliveries that are not in flight, whose events stay pinned.
    pub(super) fn skip(&mut self, deliveries: &[DeliveryId]) -> u64 {
        let epoch = self.epoch;
        let skipped = deliveries.iter().filter(|id| id.epoch == epoch);
        let skipped = skipped.filter(|id| {
            let key = DeliveryKey {
                subscription: id.subscription,
                sequence: id.sequence.0,
                run: id.run,
            };
            self.skip_one(key).is_some()
        });
        skipped.count() as u64
    }

    fn skip_one(&mut self, key: DeliveryKey) -> Option<()> {
        let subscribed = self.subscribed(key.subscription)?;
        let pending_key = (Sequence(key.sequence), key.run);
        let due = subscribed.pending.get(&pending_key)?.queued_at();
        self.happens(key, Happening::Skip)?;
        self.queues.remove(key, due);
        let delivery = self.take(key)?;
        self.note_dead(key, DeadReason::Skipped);
        self.dead_letter(key, delivery, DeadReason::Skipped, None);
        Some(())
    }

    /// Ends a delivery that is not in flight; its event stays pinned.
    fn cancel_one(&mut self, key: DeliveryKey) -> Option<Delivery> {
        let subscribed = self.subscribed(key.subscription)?;
        let pending_key = (Sequence(key.sequence), key.run);
        let due = subscribed.pending.get(&pending_key)?.queued_at();
        let stopped = self.happens(key, Happening::Cancel)?;
        self.queues.remove(key, due);
        let delivery = self.take(key)?;
        self.subscribed(key.subscription)?.counts.cancelled += 1;
        self.note(key, stopped);
        Some(delivery)
    }

    /// The state that something leads to that an operator does to a waiting delivery; none where it
    /// is not there, is in flight, or is in no state for that.
    fn happens(&mut self, key: DeliveryKey, happening: Happening) -> Option<TaskState> {
        if self.queues.is_in_flight(key) {
            return None;
        }
        let now = self.now.time;
        let pending_key = (Sequence(key.sequence), key.run);
        let one = self
            .subscribed(key.subscription)?
            .pending
            .get(&pending_key)?;
        let waiting = TaskState::waiting(false, one.attempts, one.due.time(), now);
        let state = TaskState::waiting(one.suspended, one.attempts, one.due.time(), now);
        state.after(happening, waiting).ok()
    }

    /// Does something to each of some deliveries that wait, where their states admit it.
    fn steer(
        &mut self,
        deliveries: &[DeliveryId],
        happening: Happening,
        change: impl Fn(&mut Delivery, Timestamp),
    ) -> u64 {
        let (mut count, epoch, now) = (0, self.epoch, self.now.time);
        for id in deliveries.iter().filter(|id| id.epoch == epoch) {
            let key = DeliveryKey {
                subscription: id.subscription,
                sequence: id.sequence.0,
                run: id.run,
            };
            let Some(state) = self.happens(key, happening) else {
                continue;
            };
            let subscribed = self.subscribed(key.subscription);
            let Some(delivery) = subscribed
                .and_then(|subscribed| subscribed.pending.get_mut(&(id.sequence, id.run)))
            else {
                continue;
            };
            let before = delivery.queued_at();
            change(delivery, now);
            let (after, order_key) = (delivery.queued_at(), delivery.order_key);
            if before != after {
                self.queues.remove(key, before);
                let slot = Slot::one(key.sequence, false, order_key, ());
                self.queues
                    .insert(key.subscription, ReadyKey::of(&key, after), slot);
            }
            self.note(key, state);
            count += 1;
        }
        count
    }

    pub(super) fn suspend(&mut self, deliveries: &[DeliveryId]) -> u64 {
        self.steer(deliveries, Happening::Suspend, |delivery, _| {
            delivery.suspended = true
        })
    }

    pub(super) fn resume(&mut self, deliveries: &[DeliveryId]) -> u64 {
        self.steer(deliveries, Happening::Resume, |delivery, _| {
            delivery.suspended = false
        })
    }

    pub(super) fn retry(&mut self, deliveries: &[DeliveryId]) -> u64 {
        self.steer(deliveries, Happening::TryNow, |delivery, now| {
            delivery.due = delivery.due.at(delivery.due.time().min(now));
            delivery.since = delivery.since.min(now);
        })
    }

    /// Takes everything pending out of a subscription, and gives it to another one where there is
    /// one.
    pub(super) fn empty(
        &mut self,
        from: SubscriptionNumber,
        to: Option<SubscriptionNumber>,
    ) -> Result<u64, JournalError> {
        let own = self.subscribed(from).ok_or_else(|| not_found(from))?;
        let (tenant, pending) = (
            own.identity.tenant.clone(),
            own.pending.keys().copied().collect::<Vec<_>>(),
        );
        if let Some(to) = to {
            self.subscribed(to)
                .filter(|other| other.identity.tenant == tenant)
                .ok_or_else(|| not_found(to))?;
        }
        if to == Some(from) {
            return Ok(0);
        }
        // What its replay would still make is ended with the rest.
        let replay = self.catching_up(from).filter(|_| to.is_none());
        if let Some(replay) = replay {
            self.cancel_start(replay);
        }
        let mut count = 0;
        for (Sequence(sequence), run) in pending {
            let Some(delivery) = self.cancel_one(DeliveryKey {
                subscription: from,
                sequence,
                run,
            }) else {
                continue;
            };
            count += 1;
            if let Some(subscription) = to {
                let due = delivery.due.time();
                let is_delayed = delivery.attempts == 0 && due > self.now.time;
                let new = NewDelivery {
                    subscription,
                    order_key: delivery.order_key,
                    due: is_delayed.then_some(due),
                    priority: delivery.due.priority(),
                };
                self.deliver(sequence, self.last_run + 1, new, delivery.replay);
            }
            self.unpin(sequence);
        }
        Ok(count)
    }

    pub(super) fn purge(&mut self, selection: &DeadSelection) -> u64 {
        let selected = self.select(selection);
        for dead_key in &selected {
            self.dead.remove(dead_key);
            let (Sequence(sequence), subscription, run) = *dead_key;
            if subscription.0 > 0 {
                let key = DeliveryKey {
                    subscription,
                    sequence,
                    run,
                };
                self.note(key, TaskState::Purged);
            }
            if let Some(subscribed) = self.subscribed(subscription) {
                subscribed.counts.dead -= 1;
                subscribed.counts.purged += 1;
                self.unpin(sequence);
            }
        }
        selected.len() as u64
    }

    pub(super) fn select(&self, selection: &DeadSelection) -> Vec<DeadKey> {
        let selected = self
            .dead
            .iter()
            .filter(|(_, dead)| selection.selects(&dead.letter));
        selected.map(|(dead_key, _)| *dead_key).collect()
    }
}
