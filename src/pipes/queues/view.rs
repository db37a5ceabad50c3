//! What is to be seen of the queues.

use std::sync::Arc;

use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber, Timestamp};

use super::{PipeQueues, Slot};
use pointsman_journal::{Counts, Pending, StoredEvent};

impl PipeQueues {
    /// A subscription's numbers in memory, and since when the oldest waits.
    pub(in crate::pipes) fn status(
        &self,
        number: SubscriptionNumber,
    ) -> Option<(Counts, Option<Timestamp>)> {
        let subscribed = self.subscriptions.get(&number)?;
        let oldest = if subscribed.counts.pending == 0 {
            None
        } else {
            self.of(number).map(|(_, slot)| slot.since).min()
        };
        let counts = Counts {
            in_flight: self.machine.in_flight(number) as u64,
            ..subscribed.counts
        };
        Some((counts, oldest))
    }

    fn of(&self, number: SubscriptionNumber) -> impl Iterator<Item = (u64, &Slot)> {
        self.slots
            .iter()
            .filter(move |(_, slot)| slot.subscription == number)
            .map(|(sequence, slot)| (*sequence, slot))
    }

    pub(in crate::pipes) fn pending(
        &self,
        number: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Vec<Pending> {
        let mut slots: Vec<_> = self
            .of(number)
            .filter(|(sequence, _)| after.is_none_or(|after| *sequence > after.0))
            .collect();
        slots.sort_unstable_by_key(|(sequence, _)| *sequence);
        let shown = slots
            .into_iter()
            .take(limit)
            .map(|(sequence, slot)| Pending {
                id: DeliveryId {
                    epoch: self.epoch,
                    sequence: Sequence(sequence),
                    subscription: number,
                    run: 0,
                },
                due: slot.due,
                since: slot.since,
                attempts: slot.attempts,
                last: slot.last.clone(),
            });
        shown.collect()
    }

    pub(in crate::pipes) fn event(&self, sequence: Sequence) -> Option<StoredEvent> {
        let slot = self.slots.get(&sequence.0)?;
        let (tenant, origin, event) = (
            slot.tenant.clone(),
            slot.origin.clone(),
            Arc::clone(&slot.event),
        );
        Some(StoredEvent {
            sequence,
            tenant,
            origin,
            at: slot.since,
            event,
        })
    }
}
