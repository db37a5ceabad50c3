//! From memory into the journal: what its source would take back before its target has had it.
//!
//! It waits there as a delivery like any other, and its source is told. What is ordered behind it
//! goes with it.

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{HoldKey, PipeQueues};
use crate::pipes::closing::Closing;
use pointsman_journal::{Entry, NewDelivery};

impl PipeQueues {
    /// When the next delivery of a source has to go.
    pub(in crate::pipes) fn next_late(&self, key: HoldKey) -> Option<Instant> {
        self.holds.get(&key)?.until.first().map(|(until, _)| *until)
    }

    /// Sends into the journal what may not wait here any longer; of what has an attempt under way,
    /// what that does not end.
    pub(in crate::pipes) fn keep(&mut self, key: HoldKey, time: Instant, now: Timestamp) {
        self.turn(now);
        while let Some(hold) = self.holds.get_mut(&key)
            && let Some(&(until, sequence)) = hold.until.first()
            && until <= time
        {
            hold.until.pop_first();
            self.move_to_journal(sequence);
        }
    }

    /// Sends a delivery into the journal, with all that are behind it or before it by their order
    /// key.
    pub(super) fn move_to_journal(&mut self, sequence: u64) {
        let Some(slot) = self.slots.get(&sequence) else {
            return;
        };
        let Some(subscribed) = self.subscriptions.get_mut(&slot.subscription) else {
            return;
        };
        subscribed.nothing_before &= slot.order_key.is_none();
        let ordered: Vec<u64> = match slot.order_key {
            None => vec![sequence],
            Some(order_key) => self.machine.with_order_key(slot.subscription, order_key),
        };
        // Where an attempt is under way, it is the first's; the others must not overtake it.
        let waits = ordered
            .first()
            .and_then(|first| self.slots.get(first))
            .is_some_and(|first| first.lease.is_some());
        for sequence in &ordered {
            if let Some(slot) = self.slots.get_mut(sequence) {
                slot.is_late = waits;
            }
        }
        if !waits {
            ordered
                .into_iter()
                .for_each(|sequence| self.keep_one(sequence));
        }
    }

    fn keep_one(&mut self, sequence: u64) {
        let Some(slot) = self.slots.get(&sequence) else {
            return;
        };
        if self
            .holds
            .get(&slot.hold)
            .is_none_or(|hold| hold.goes_back(slot.message))
        {
            return self.hand_back(sequence);
        }
        let Some(slot) = self.take_out(sequence) else {
            return;
        };
        let Some(hold) = self.holds.get_mut(&slot.hold) else {
            return;
        };
        let due = (slot.due > self.machine.time()).then_some(slot.due);
        let delivery = NewDelivery {
            subscription: slot.subscription,
            order_key: slot.order_key,
            due,
        };
        let entry = Entry {
            event: slot.event.clone(),
            deliveries: SmallVec::from_iter([delivery]),
            deduplicate: None,
            dead: None,
        };
        *hold.unburied.entry(slot.subscription).or_default() += 1;
        hold.closings.push(Closing {
            message: slot.message,
            origin: slot.origin,
            bytes: slot.event.size_bytes(),
            entries: vec![entry],
            rejects: Vec::new(),
            buries: Some(slot.subscription),
        });
        hold.wake.notify_one();
        self.kept += 1;
    }

    /// Tells how many have gone, where ordered deliveries may wait in the journal and none is on
    /// its way there.
    pub(in crate::pipes) fn may_have_before(
        &self,
        key: HoldKey,
        number: SubscriptionNumber,
    ) -> Option<u64> {
        let is_settled = self
            .holds
            .get(&key)
            .is_some_and(|hold| hold.closings.is_empty());
        let is_known = self
            .subscriptions
            .get(&number)
            .is_some_and(|subscribed| subscribed.nothing_before);
        (is_settled && !is_known).then_some(self.kept)
    }

    /// Nothing waits in the journal, as was found out since [`PipeQueues::may_have_before`] told
    /// this.
    pub(in crate::pipes) fn has_nothing_before(&mut self, number: SubscriptionNumber, kept: u64) {
        if self.kept == kept {
            self.subscribed(number).nothing_before = true;
        }
    }
}
