//! Deliveries that go together: which ones a call carries, and when it goes.

use std::num::NonZeroU32;

use pointsman_schemas::{SubscriptionNumber, Timestamp};

use super::{DeliveryKey, DeliveryQueues, ReadyKey};
use crate::{Batching, Grant};

/// What a call has to know of a delivery that may go in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The size of its event; nothing where it is not known.
    pub event_bytes: usize,
    /// Whether it was tried before.
    pub is_tried: bool,
    /// How many deliveries a call may carry that carries this one, where that is less than usual.
    pub batch_max: Option<NonZeroU32>,
}

impl Member {
    fn events_max(&self) -> usize {
        self.batch_max.map_or(usize::MAX, |max| max.get() as usize)
    }
}

/// How the next delivery of a grant goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// In the call that is being filled.
    Joins,
    /// In another call, which it begins.
    Begins,
    /// Not in this grant, whose calls are full.
    Exceeds,
}

impl Fit {
    /// How a leased delivery went.
    #[must_use]
    pub fn of(begins_call: bool) -> Self {
        if begins_call {
            Self::Begins
        } else {
            Self::Joins
        }
    }
}

/// The calls of one grant, as they are being filled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filling {
    calls: usize,
    /// In the last one.
    events: usize,
    /// As many as each of them allows.
    events_max: usize,
    bytes: usize,
}

impl Filling {
    /// How a delivery goes. Without batching each begins a call.
    #[must_use]
    pub fn fit(&self, grant: &Grant, member: Member) -> Fit {
        let Some(batching) = &grant.batching else {
            return Fit::Begins;
        };
        let events_max = batching
            .events
            .min(self.events_max)
            .min(member.events_max());
        let fits = self.events < events_max && self.bytes + member.event_bytes <= batching.bytes;
        if self.events > 0 && fits {
            Fit::Joins
        } else if self.calls < batching.calls {
            Fit::Begins
        } else {
            Fit::Exceeds
        }
    }

    /// Ends the call that is being filled: the next delivery begins another one.
    pub fn close(&mut self) {
        (self.events, self.bytes) = (0, 0);
    }

    /// Counts a delivery that goes like this.
    pub fn add(&mut self, fit: Fit, member: Member) {
        if fit == Fit::Begins {
            *self = Self {
                calls: self.calls + 1,
                events: 0,
                events_max: usize::MAX,
                bytes: 0,
            };
        }
        self.events += 1;
        self.events_max = self.events_max.min(member.events_max());
        self.bytes += member.event_bytes;
    }
}

impl<T: Clone, L> DeliveryQueues<T, L> {
    /// What is carried by what waits under this key.
    pub fn carried(&self, subscription: SubscriptionNumber, ready_key: ReadyKey) -> Option<&T> {
        let queue = self.queues.get(&subscription)?;
        Some(queue.slots.get(&ready_key)?.carried())
    }

    /// Until when the next call of a subscription waits for more deliveries, of which it may have
    /// at most `events`. None where it goes now: it is full, or its first one has waited long
    /// enough.
    pub fn gathers_until(
        &self,
        subscription: SubscriptionNumber,
        batching: &Batching,
        events: usize,
        member: impl Fn(DeliveryKey, &T) -> Member,
    ) -> Option<Timestamp> {
        if batching.window.is_zero() {
            return None;
        }
        let queue = self.queues.get(&subscription)?;
        let mut due = queue.due(self.time).peekable();
        let until = due.peek()?.0.due.time().plus(batching.window);
        if until <= self.time {
            return None;
        }
        let (mut count, mut bytes) = (0, 0);
        let each = due.flat_map(|(ready_key, slot)| {
            let sequences = slot.sequences.iter().rev();
            sequences.map(|sequence| (ready_key.delivery(subscription, *sequence), &slot.carried))
        });
        for (key, carried) in each {
            let Member {
                event_bytes,
                is_tried,
                ..
            } = member(key, carried);
            count += 1;
            bytes += event_bytes;
            if is_tried || count >= events.min(batching.events) || bytes >= batching.bytes {
                return None;
            }
        }
        Some(until)
    }
}
