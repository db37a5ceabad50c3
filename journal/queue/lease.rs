//! Leases: given out, claimed for settling, ended, or run out.

use std::cmp::Reverse;
use std::collections::HashSet;

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::{DeliveryKey, DeliveryQueues, ReadyKey, Slot, turn};
use crate::{Due, LeaseToken, Priority};

/// A delivery in flight, with all that is needed to put it back or to settle it.
#[derive(Clone, Debug)]
pub struct Lease<T, L = ()> {
    /// The delivery.
    pub key: DeliveryKey,
    /// The due time that it was leased at, and how urgent it was.
    pub due: Due,
    /// Its order key.
    pub order_key: Option<u64>,
    /// What it carried while it waited.
    pub carried: T,
    /// What it carries while it is in flight.
    pub attached: L,
    immediate: bool,
    /// When it runs out; never where there is none.
    until: Option<Instant>,
    /// Somebody is settling it: it does not run out any more.
    is_claimed: bool,
}

impl<T: Clone, L> DeliveryQueues<T, L> {
    /// Returns the delivery that is leased next: its key and its sequence.
    pub fn next(&mut self, subscription: SubscriptionNumber) -> Option<(ReadyKey, u64)> {
        let queue = self.queues.get(&subscription)?;
        let head = |priority: Priority| {
            let (ready_key, _) = queue.due_of(priority, self.time).next()?;
            Some(turn(*ready_key))
        };
        let (_, Reverse(priority)) = queue.priorities().filter_map(head).min()?;
        self.next_of(subscription, priority)
    }

    /// The same among those of one priority.
    pub fn next_of(
        &mut self,
        subscription: SubscriptionNumber,
        priority: Priority,
    ) -> Option<(ReadyKey, u64)> {
        let time = self.time;
        let queue = self
            .queues
            .get_mut(&subscription)
            .filter(|queue| queue.is_open && !queue.is_paused)?;
        loop {
            let mut due = queue.due_of(priority, time);
            let (&ready_key, slot) = due.next()?;
            let sequence = *slot.sequences.last()?;
            // The first of a block may have gone, and what is left of it come behind others that
            // fell due at the same time: it moves behind them.
            let is_behind = due
                .next()
                .is_some_and(|(next, _)| next.due == ready_key.due && next.sequence < sequence);
            drop(due);
            if is_behind && let Some(slot) = queue.slots.remove(&ready_key) {
                queue.slots.insert(
                    ReadyKey {
                        sequence,
                        ..ready_key
                    },
                    slot,
                );
                continue;
            }
            return Some((ready_key, sequence));
        }
    }

    /// The sequences of what is due of a subscription, about in the order of leasing.
    pub fn due_sequences(&self, subscription: SubscriptionNumber) -> impl Iterator<Item = u64> {
        let queue = self.queues.get(&subscription).into_iter();
        queue
            .flat_map(|queue| queue.due(self.time))
            .flat_map(|(_, slot)| slot.sequences.iter().rev().copied())
    }

    /// Leases the [next](DeliveryQueues::next) delivery under this key until then, or until it is
    /// settled. None where nothing waits there.
    pub fn take(
        &mut self,
        subscription: SubscriptionNumber,
        ready_key: ReadyKey,
        until: Option<Instant>,
        attached: L,
    ) -> Option<(LeaseToken, &Lease<T, L>)> {
        let (key, slot) = self.pop(subscription, ready_key)?;
        self.last_token += 1;
        let number = self.last_token;
        if let Some(order_key) = slot.order_key {
            self.lease_of_key(key, order_key);
        }
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.in_flight += 1;
        }
        if let Some(until) = until {
            self.set_deadline(until, number);
        }
        let lease = Lease {
            key,
            due: ready_key.due,
            order_key: slot.order_key,
            carried: slot.carried,
            attached,
            immediate: slot.immediate,
            until,
            is_claimed: false,
        };
        let lease = self.leases.entry(number).insert_entry(lease).into_mut();
        Some((LeaseToken::new(self.owner, number), lease))
    }

    /// Takes the [next](DeliveryQueues::next) delivery under this key out of the queue without a
    /// lease: it is of no use to anybody.
    pub fn withdraw(
        &mut self,
        subscription: SubscriptionNumber,
        ready_key: ReadyKey,
    ) -> Option<(DeliveryKey, T)> {
        let (key, slot) = self.pop(subscription, ready_key)?;
        self.leave_key(subscription, slot.order_key);
        Some((key, slot.carried))
    }

    /// Takes the next delivery of a slot out of the ready queue, in a slot of its own.
    fn pop(
        &mut self,
        subscription: SubscriptionNumber,
        ready_key: ReadyKey,
    ) -> Option<(DeliveryKey, Slot<T>)> {
        let queue = self.queues.get_mut(&subscription)?;
        let slot = queue.slots.get_mut(&ready_key)?;
        let sequence = slot.sequences.pop()?;
        let alone = Slot::one(
            sequence,
            slot.immediate,
            slot.order_key,
            slot.carried.clone(),
        );
        if slot.sequences.is_empty() {
            queue.slots.remove(&ready_key);
        }
        queue.count(ready_key, |ready| ready - 1);
        self.ready -= 1;
        let run = ready_key.delivery_run();
        let key = DeliveryKey {
            subscription,
            sequence,
            run,
        };
        Some((key, alone))
    }

    fn set_deadline(&mut self, until: Instant, token: u64) {
        let tokens = self.deadlines.entry(until).or_default();
        match tokens.last_mut() {
            Some(last) if last.end == token => last.end += 1,
            _ => tokens.push(token..token + 1),
        }
    }

    /// Takes a lease for settling, after which it does not run out. None where it does not hold
    /// (any more), or is claimed already.
    pub fn claim(&mut self, token: LeaseToken, now: Instant) -> Option<&Lease<T, L>> {
        let lease = self.leases.get_mut(&self.number(token)?)?;
        if lease.is_claimed || lease.until.is_some_and(|until| until <= now) {
            return None;
        }
        lease.is_claimed = true;
        Some(lease)
    }

    /// Undoes a claim: its settlement has not happened.
    pub fn unclaim(&mut self, token: LeaseToken) {
        let number = self.number(token);
        if let Some(number) = number
            && let Some(lease) = self.leases.get_mut(&number)
        {
            lease.is_claimed = false;
            if let Some(until) = lease.until {
                self.set_deadline(until, number);
            }
        }
    }

    /// Ends a lease, and with it its delivery: the next one of its order key is free. None where
    /// there is no such lease.
    pub fn end(&mut self, token: LeaseToken) -> Option<Lease<T, L>> {
        let lease = self.end_lease(self.number(token)?)?;
        self.leave_key(lease.key.subscription, lease.order_key);
        Some(lease)
    }

    /// Ends a lease as if it had never been.
    pub fn release(&mut self, token: LeaseToken) {
        if let Some(lease) = self.number(token).and_then(|number| self.end_lease(number)) {
            self.put_back(lease);
        }
    }

    /// Ends a lease; its delivery is due again at `due`.
    pub fn retry(&mut self, token: LeaseToken, due: Timestamp) {
        if let Some(lease) = self.number(token).and_then(|number| self.end_lease(number)) {
            self.put_back(Lease {
                due: lease.due.at(due),
                immediate: false,
                ..lease
            });
        }
    }

    /// The number of a token of this machine's own.
    fn number(&self, token: LeaseToken) -> Option<u64> {
        (token.owner() == self.owner).then(|| token.number())
    }

    fn end_lease(&mut self, number: u64) -> Option<Lease<T, L>> {
        let lease = self.leases.remove(&number)?;
        if let Some(queue) = self.queues.get_mut(&lease.key.subscription) {
            queue.in_flight -= 1;
        }
        Some(lease)
    }

    fn put_back(&mut self, lease: Lease<T, L>) {
        let Lease {
            key,
            due,
            immediate,
            order_key,
            carried,
            ..
        } = lease;
        let ready_key = ReadyKey::of(&key, due);
        let slot = Slot::one(key.sequence, immediate, order_key, carried);
        match order_key {
            Some(order_key) => self.return_to_key(key.subscription, order_key, ready_key, slot),
            None => self.push(key.subscription, ready_key, slot),
        }
    }

    /// Ends the leases that have run out.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.deadlines.first_entry()
            && *entry.key() <= now
        {
            for number in entry.remove().into_iter().flatten() {
                if self
                    .leases
                    .get(&number)
                    .is_some_and(|lease| !lease.is_claimed)
                    && let Some(lease) = self.end_lease(number)
                {
                    self.put_back(lease);
                }
            }
        }
    }

    /// How many deliveries of a subscription are in flight.
    #[must_use]
    pub fn in_flight(&self, subscription: SubscriptionNumber) -> usize {
        self.queues
            .get(&subscription)
            .map_or(0, |queue| queue.in_flight)
    }

    /// Whether a delivery is in flight.
    #[must_use]
    pub fn is_in_flight(&self, key: DeliveryKey) -> bool {
        self.in_flight(key.subscription) > 0 && self.leases.values().any(|lease| lease.key == key)
    }

    /// The deliveries of a subscription that are in flight: sequence and run.
    #[must_use]
    pub fn leased(&self, subscription: SubscriptionNumber) -> HashSet<(u64, u64)> {
        if self.in_flight(subscription) == 0 {
            return HashSet::new();
        }
        let leases = self.leases.values();
        leases
            .filter(|lease| lease.key.subscription == subscription)
            .map(|lease| (lease.key.sequence, lease.key.run))
            .collect()
    }
}
