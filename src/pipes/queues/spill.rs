//! Spills deliveries from memory into the journal: those whose source would take them back before
//! their target has had them.
//!
//! Such a delivery waits in the journal like any other, and its source is told that it is stored.
//! The deliveries that are ordered behind it go with it.

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{PipeQueues, SourceKey};
use crate::pipes::writes::PendingWrite;
use pointsman_journal::{Entry, NewDelivery, Priority};

impl PipeQueues {
    /// When the next delivery of a source has to be spilled.
    pub(in crate::pipes) fn next_late(&self, key: SourceKey) -> Option<Instant> {
        self.sources
            .get(&key)?
            .until
            .first()
            .map(|(until, _)| *until)
    }

    /// Spills what may not wait here any longer. A delivery whose attempt is under way follows if
    /// that does not end it.
    pub(in crate::pipes) fn spill_overdue(
        &mut self,
        key: SourceKey,
        time: Instant,
        now: Timestamp,
    ) {
        self.advance(now);
        while let Some(source) = self.sources.get_mut(&key)
            && let Some(&(until, sequence)) = source.until.first()
            && until <= time
        {
            source.until.pop_first();
            self.spill(sequence);
        }
    }

    /// Spills a delivery, with all that are behind it or before it by their order key.
    pub(super) fn spill(&mut self, sequence: u64) {
        let Some(delivery) = self.deliveries.get(&sequence) else {
            return;
        };
        let Some(state) = self.subscriptions.get_mut(&delivery.subscription) else {
            return;
        };
        state.no_earlier &= delivery.order_key.is_none();
        let ordered: Vec<u64> = match delivery.order_key {
            None => vec![sequence],
            Some(order_key) => self
                .machine
                .with_order_key(delivery.subscription, order_key),
        };
        // Where an attempt is under way, it is the first's; the others must not overtake it.
        let waits = ordered
            .first()
            .and_then(|first| self.deliveries.get(first))
            .is_some_and(|first| first.lease.is_some());
        for sequence in &ordered {
            if let Some(delivery) = self.deliveries.get_mut(sequence) {
                delivery.is_late = waits;
            }
        }
        if !waits {
            ordered
                .into_iter()
                .for_each(|sequence| self.spill_one(sequence));
        }
    }

    fn spill_one(&mut self, sequence: u64) {
        let Some(delivery) = self.deliveries.get(&sequence) else {
            return;
        };
        if self
            .sources
            .get(&delivery.source)
            .is_none_or(|source| source.goes_back(delivery.message))
        {
            return self.hand_back(sequence);
        }
        let Some(delivery) = self.take_out(sequence) else {
            return;
        };
        let Some(source) = self.sources.get_mut(&delivery.source) else {
            return;
        };
        let due = (delivery.due > self.machine.time()).then_some(delivery.due);
        let waiting = NewDelivery {
            subscription: delivery.subscription,
            order_key: delivery.order_key,
            due,
            priority: Priority::USUAL,
        };
        let entry = Entry {
            event: delivery.event.clone(),
            deliveries: SmallVec::from_iter([waiting]),
            deduplicate: None,
            dead: None,
            terms: None,
        };
        *source.moving.entry(delivery.subscription).or_default() += 1;
        source.writes.push(PendingWrite {
            bytes: delivery.event.size_bytes(),
            entries: vec![entry],
            moves_delivery_of: Some(delivery.subscription),
            ..PendingWrite::of(delivery.message, delivery.origin)
        });
        source.wake.notify_one();
        self.spilled += 1;
    }

    /// Returns how many deliveries have been spilled so far, if ordered ones may wait in the
    /// journal and none is on its way there.
    pub(in crate::pipes) fn may_have_earlier(
        &self,
        key: SourceKey,
        number: SubscriptionNumber,
    ) -> Option<u64> {
        let is_settled = self
            .sources
            .get(&key)
            .is_some_and(|source| source.writes.is_empty());
        let is_known = self
            .subscriptions
            .get(&number)
            .is_some_and(|state| state.no_earlier);
        (is_settled && !is_known).then_some(self.spilled)
    }

    /// The journal has been looked at, and nothing waits in it. `spilled` is what
    /// [`PipeQueues::may_have_earlier`] returned before: if more has been spilled since, the look
    /// says nothing.
    pub(in crate::pipes) fn has_no_earlier(&mut self, number: SubscriptionNumber, spilled: u64) {
        if self.spilled == spilled {
            self.subscription_state(number).no_earlier = true;
        }
    }
}
