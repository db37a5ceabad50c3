//! Order keys: of the deliveries with one key, one at a time.

use std::collections::BTreeMap;

use pointsman_schemas::SubscriptionNumber;

use super::{DeliveryKey, DeliveryQueues, Parking, ReadyKey, Slot};
use crate::Due;

/// The deliveries with one order key.
#[derive(Debug)]
pub(super) struct KeyQueue<T> {
    first: First,
    /// The others, by sequence and run.
    behind: BTreeMap<(u64, i64), (Due, Slot<T>)>,
}

/// Where the delivery is that the others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// In the ready queue, under this key.
    Ready(ReadyKey),
    /// In flight: its sequence and run.
    InFlight((u64, i64)),
    /// Gone: the next one takes its place.
    Gone,
}

impl<T> KeyQueue<T> {
    fn new(first: First) -> Self {
        Self {
            first,
            behind: BTreeMap::new(),
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.first, First::InFlight(_))
    }
}

impl<T: Clone, L> DeliveryQueues<T, L> {
    /// Whether a delivery with this order key has to wait for one that is in flight, or behind one.
    /// With [`Parking::Here`] for any.
    #[must_use]
    pub fn is_busy(&self, subscription: SubscriptionNumber, order_key: u64) -> bool {
        let queue = self.queues.get(&subscription);
        queue.is_some_and(|queue| queue.order_keys.contains_key(&order_key))
    }

    /// The sequences of the deliveries with an order key, in flight or not, in their order; with
    /// [`Parking::AtCaller`] those that are here.
    #[must_use]
    pub fn with_order_key(&self, subscription: SubscriptionNumber, order_key: u64) -> Vec<u64> {
        let queue = self.queues.get(&subscription);
        let Some(key_queue) = queue.and_then(|queue| queue.order_keys.get(&order_key)) else {
            return Vec::new();
        };
        let first = match key_queue.first {
            First::Ready(ready_key) => Some(ready_key.sequence),
            First::InFlight((sequence, _)) => Some(sequence),
            First::Gone => None,
        };
        let behind = key_queue.behind.keys().map(|(sequence, _)| *sequence);
        first.into_iter().chain(behind).collect()
    }

    pub(super) fn insert_ordered(
        &mut self,
        subscription: SubscriptionNumber,
        order_key: u64,
        ready_key: ReadyKey,
        slot: Slot<T>,
    ) {
        let queue = self.queues.entry(subscription).or_default();
        match queue.order_keys.get_mut(&order_key) {
            // Who parks says so that it is the first again: an earlier one has come and gone.
            Some(key_queue) if key_queue.first == First::InFlight(ready_key.rank()) => {}
            Some(key_queue) => {
                key_queue
                    .behind
                    .insert(ready_key.rank(), (ready_key.due, slot));
                self.advance_key(subscription, order_key);
            }
            None => {
                if self.parking == Parking::Here {
                    queue
                        .order_keys
                        .insert(order_key, KeyQueue::new(First::Ready(ready_key)));
                }
                self.push(subscription, ready_key, slot);
            }
        }
    }

    /// Puts the earliest delivery of a key into the ready queue, unless one is in flight.
    fn advance_key(&mut self, subscription: SubscriptionNumber, order_key: u64) {
        let Some(queue) = self.queues.get_mut(&subscription) else {
            return;
        };
        let Some(key_queue) = queue.order_keys.get_mut(&order_key) else {
            return;
        };
        let next = key_queue.behind.first_key_value().map(|(rank, _)| *rank);
        if let (First::Ready(ready_key), Some(next)) = (key_queue.first, next)
            && next <= ready_key.rank()
        {
            if let Some(later) = queue.slots.remove(&ready_key) {
                let priority = ready_key.due.priority().index();
                if let Some(ready) = queue.ready.get_mut(priority) {
                    *ready -= later.sequences.len();
                }
                self.ready -= later.sequences.len();
                // The same delivery, put in anew, stands for the one that was there.
                key_queue
                    .behind
                    .entry(ready_key.rank())
                    .or_insert((ready_key.due, later));
            }
            key_queue.first = First::Gone;
        }
        let mut ready = None;
        if key_queue.first == First::Gone
            && let Some(((sequence, run), (due, slot))) = key_queue.behind.pop_first()
        {
            let ready_key = ReadyKey { due, sequence, run };
            key_queue.first = First::Ready(ready_key);
            ready = Some((ready_key, slot));
        }
        let is_needed = match key_queue.first {
            First::InFlight(_) => true,
            First::Ready(_) => self.parking == Parking::Here || !key_queue.behind.is_empty(),
            First::Gone => false,
        };
        if !is_needed {
            queue.order_keys.remove(&order_key);
        }
        if let Some((ready_key, slot)) = ready {
            self.push(subscription, ready_key, slot);
        }
    }

    /// The delivery of this key that was in the ready queue or in flight is not any more: the next
    /// one is free.
    pub(super) fn leave_key(&mut self, subscription: SubscriptionNumber, order_key: Option<u64>) {
        let Some(order_key) = order_key else { return };
        if let Some(queue) = self.queues.get_mut(&subscription)
            && let Some(key_queue) = queue.order_keys.get_mut(&order_key)
        {
            key_queue.first = First::Gone;
            self.advance_key(subscription, order_key);
        }
    }

    /// The delivery of this key that was in the ready queue is in flight.
    pub(super) fn lease_of_key(&mut self, key: DeliveryKey, order_key: u64) {
        if let Some(queue) = self.queues.get_mut(&key.subscription) {
            let key_queue = queue.order_keys.entry(order_key);
            let first = First::InFlight((key.sequence, key.run.cast_signed()));
            key_queue.or_insert_with(|| KeyQueue::new(first)).first = first;
        }
    }

    /// The delivery of this key that was in flight waits again: in the ready queue, or behind an
    /// earlier one that has come meanwhile.
    pub(super) fn return_to_key(
        &mut self,
        subscription: SubscriptionNumber,
        order_key: u64,
        ready_key: ReadyKey,
        slot: Slot<T>,
    ) {
        let key_queue = self
            .queues
            .get_mut(&subscription)
            .and_then(|queue| queue.order_keys.get_mut(&order_key));
        let Some(key_queue) = key_queue else {
            return self.insert_ordered(subscription, order_key, ready_key, slot);
        };
        key_queue.first = First::Gone;
        let is_overtaken = key_queue
            .behind
            .first_key_value()
            .is_some_and(|(earlier, _)| *earlier < ready_key.rank());
        // Its caller parks what an earlier one has overtaken, and inserts it when that has ended.
        if !is_overtaken || self.parking == Parking::Here {
            key_queue
                .behind
                .insert(ready_key.rank(), (ready_key.due, slot));
        }
        self.advance_key(subscription, order_key);
    }

    /// Takes a delivery out that waits behind another one of its key; false where it does not.
    pub(super) fn remove_behind(&mut self, key: DeliveryKey) -> bool {
        let Some(queue) = self.queues.get_mut(&key.subscription) else {
            return false;
        };
        let rank = (key.sequence, key.run.cast_signed());
        let found = queue
            .order_keys
            .iter_mut()
            .find_map(|(order_key, key_queue)| key_queue.behind.remove(&rank).map(|_| *order_key));
        if let Some(order_key) = found {
            self.advance_key(key.subscription, order_key);
        }
        found.is_some()
    }
}
