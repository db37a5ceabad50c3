//! Order keys: of the deliveries with one key, one at a time.

use std::collections::BTreeMap;

use pointsman_schemas::{SubscriptionNumber, Timestamp};

use super::{DeliveryKey, DeliveryQueues, Parking, Place, Slot};

/// The deliveries with one order key.
#[derive(Debug)]
pub(super) struct Line<T> {
    first: First,
    /// The others, by sequence and run.
    behind: BTreeMap<(u64, i64), (Timestamp, Slot<T>)>,
}

/// Where the delivery is that the others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// In the ready queue, at this place.
    Ready(Place),
    /// In flight: its sequence and run.
    InFlight((u64, i64)),
    /// Gone: the next one takes its place.
    Gone,
}

impl<T> Line<T> {
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
        queue.is_some_and(|queue| queue.lines.contains_key(&order_key))
    }

    /// The sequences of the deliveries with an order key, in flight or not, in their order; with
    /// [`Parking::AtCaller`] those that are here.
    #[must_use]
    pub fn with_order_key(&self, subscription: SubscriptionNumber, order_key: u64) -> Vec<u64> {
        let queue = self.queues.get(&subscription);
        let Some(line) = queue.and_then(|queue| queue.lines.get(&order_key)) else {
            return Vec::new();
        };
        let first = match line.first {
            First::Ready(place) => Some(place.sequence),
            First::InFlight((sequence, _)) => Some(sequence),
            First::Gone => None,
        };
        let behind = line.behind.keys().map(|(sequence, _)| *sequence);
        first.into_iter().chain(behind).collect()
    }

    pub(super) fn insert_ordered(
        &mut self,
        subscription: SubscriptionNumber,
        order_key: u64,
        place: Place,
        slot: Slot<T>,
    ) {
        let queue = self.queues.entry(subscription).or_default();
        match queue.lines.get_mut(&order_key) {
            // Who parks says so that it is the first again: an earlier one has come and gone.
            Some(line) if line.first == First::InFlight(place.in_line()) => {}
            Some(line) => {
                line.behind.insert(place.in_line(), (place.due, slot));
                self.advance_line(subscription, order_key);
            }
            None => {
                if self.parking == Parking::Here {
                    queue
                        .lines
                        .insert(order_key, Line::new(First::Ready(place)));
                }
                self.push(subscription, place, slot);
            }
        }
    }

    /// Puts the earliest delivery of a key into the ready queue, unless one is in flight.
    fn advance_line(&mut self, subscription: SubscriptionNumber, order_key: u64) {
        let Some(queue) = self.queues.get_mut(&subscription) else {
            return;
        };
        let Some(line) = queue.lines.get_mut(&order_key) else {
            return;
        };
        let next = line.behind.first_key_value().map(|(in_line, _)| *in_line);
        if let (First::Ready(place), Some(next)) = (line.first, next)
            && next <= place.in_line()
        {
            if let Some(later) = queue.slots.remove(&place) {
                queue.ready -= later.sequences.len();
                self.ready -= later.sequences.len();
                // The same delivery, put in anew, stands for the one that was there.
                line.behind
                    .entry(place.in_line())
                    .or_insert((place.due, later));
            }
            line.first = First::Gone;
        }
        let mut ready = None;
        if line.first == First::Gone
            && let Some(((sequence, run), (due, slot))) = line.behind.pop_first()
        {
            let place = Place { due, sequence, run };
            line.first = First::Ready(place);
            ready = Some((place, slot));
        }
        let is_needed = match line.first {
            First::InFlight(_) => true,
            First::Ready(_) => self.parking == Parking::Here || !line.behind.is_empty(),
            First::Gone => false,
        };
        if !is_needed {
            queue.lines.remove(&order_key);
        }
        if let Some((place, slot)) = ready {
            self.push(subscription, place, slot);
        }
    }

    /// The delivery of this key that was in the ready queue or in flight is not any more: the next
    /// one is free.
    pub(super) fn left_line(&mut self, subscription: SubscriptionNumber, order_key: Option<u64>) {
        let Some(order_key) = order_key else { return };
        if let Some(queue) = self.queues.get_mut(&subscription)
            && let Some(line) = queue.lines.get_mut(&order_key)
        {
            line.first = First::Gone;
            self.advance_line(subscription, order_key);
        }
    }

    /// The delivery of this key that was in the ready queue is in flight.
    pub(super) fn leased_of_line(&mut self, key: DeliveryKey, order_key: u64) {
        if let Some(queue) = self.queues.get_mut(&key.subscription) {
            let line = queue.lines.entry(order_key);
            let first = First::InFlight((key.sequence, key.run.cast_signed()));
            line.or_insert_with(|| Line::new(first)).first = first;
        }
    }

    /// The delivery of this key that was in flight waits again: in the ready queue, or behind an
    /// earlier one that has come meanwhile.
    pub(super) fn return_to_line(
        &mut self,
        subscription: SubscriptionNumber,
        order_key: u64,
        place: Place,
        slot: Slot<T>,
    ) {
        let line = self
            .queues
            .get_mut(&subscription)
            .and_then(|queue| queue.lines.get_mut(&order_key));
        let Some(line) = line else {
            return self.insert_ordered(subscription, order_key, place, slot);
        };
        line.first = First::Gone;
        let is_overtaken = line
            .behind
            .first_key_value()
            .is_some_and(|(earlier, _)| *earlier < place.in_line());
        // Its caller parks what an earlier one has overtaken, and inserts it when that has ended.
        if !is_overtaken || self.parking == Parking::Here {
            line.behind.insert(place.in_line(), (place.due, slot));
        }
        self.advance_line(subscription, order_key);
    }

    /// Takes a delivery out that waits behind another one of its key; false where it does not.
    pub(super) fn remove_behind(&mut self, key: DeliveryKey) -> bool {
        let Some(queue) = self.queues.get_mut(&key.subscription) else {
            return false;
        };
        let in_line = (key.sequence, key.run.cast_signed());
        let found = queue
            .lines
            .iter_mut()
            .find_map(|(order_key, line)| line.behind.remove(&in_line).map(|_| *order_key));
        if let Some(order_key) = found {
            self.advance_line(key.subscription, order_key);
        }
        found.is_some()
    }
}
