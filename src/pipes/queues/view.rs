//! Read access to the queues: counters, pending deliveries, their events.

use std::sync::Arc;

use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber, Timestamp};

use super::{PendingDelivery, PipeQueues};
use pointsman_journal::{Counts, Pending, Priority, StoredEvent};

impl PipeQueues {
    /// A subscription's numbers in memory, and since when the oldest waits.
    pub(in crate::pipes) fn status(
        &self,
        number: SubscriptionNumber,
    ) -> Option<(Counts, Option<Timestamp>)> {
        let state = self.subscriptions.get(&number)?;
        let oldest = if state.counts.pending == 0 {
            None
        } else {
            self.of(number).map(|(_, delivery)| delivery.since).min()
        };
        let counts = Counts {
            in_flight: self.machine.in_flight(number) as u64,
            ..state.counts
        };
        Some((counts, oldest))
    }

    fn of(&self, number: SubscriptionNumber) -> impl Iterator<Item = (u64, &PendingDelivery)> {
        self.deliveries
            .iter()
            .filter(move |(_, delivery)| delivery.subscription == number)
            .map(|(sequence, delivery)| (*sequence, delivery))
    }

    pub(in crate::pipes) fn pending(
        &self,
        number: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Vec<Pending> {
        let mut deliveries: Vec<_> = self
            .of(number)
            .filter(|(sequence, _)| after.is_none_or(|after| *sequence > after.0))
            .collect();
        deliveries.sort_unstable_by_key(|(sequence, _)| *sequence);
        let shown = deliveries
            .into_iter()
            .take(limit)
            .map(|(sequence, delivery)| Pending {
                id: DeliveryId {
                    epoch: self.epoch,
                    sequence: Sequence(sequence),
                    subscription: number,
                    run: 0,
                },
                due: delivery.due,
                since: delivery.since,
                attempts: delivery.attempts,
                last: delivery.last.clone(),
                in_flight: delivery.lease.is_some(),
                suspended: false,
                order_key: delivery.order_key,
                priority: Priority::USUAL,
            });
        shown.collect()
    }

    pub(in crate::pipes) fn event(&self, sequence: Sequence) -> Option<StoredEvent> {
        let delivery = self.deliveries.get(&sequence.0)?;
        let (tenant, origin, event) = (
            delivery.tenant.clone(),
            delivery.origin.clone(),
            Arc::clone(&delivery.event),
        );
        Some(StoredEvent {
            sequence,
            tenant,
            origin,
            at: delivery.since,
            kept_until: None,
            event,
        })
    }
}
