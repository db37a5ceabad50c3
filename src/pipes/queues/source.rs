//! What a source does to the queues: it enters, hands over messages, stops, breaks off, leaves.

use std::sync::Arc;

use pointsman_connectors::Acknowledgement;
use pointsman_journal::queue;
use pointsman_schemas::{
    Cursor, Event, Name, PositionChange, Reject, SubscriptionNumber, Timestamp,
};
use tokio::sync::Notify;

use super::{PendingDelivery, PipeQueues, SourceKey, SubscriptionState};
use crate::pipes::source_state::SourceState;
use crate::pipes::writes::PendingWrite;

/// A message that a source hands over.
#[derive(Debug)]
pub(in crate::pipes) struct Offered {
    pub(in crate::pipes) acknowledgement: Acknowledgement,
    /// Each event with its subscription and order key.
    pub(in crate::pipes) deliveries: Vec<(Arc<Event>, SubscriptionNumber, Option<u64>)>,
    pub(in crate::pipes) rejects: Vec<Reject>,
    /// What changes in the source's position with it.
    pub(in crate::pipes) positions: Vec<PositionChange>,
    /// True where it is not accepted.
    pub(in crate::pipes) goes_back: bool,
}

impl PipeQueues {
    /// Registers a source.
    pub(in crate::pipes) fn enter(
        &mut self,
        tenant: Name,
        origin: Name,
        wake: Arc<Notify>,
    ) -> SourceKey {
        self.last_sequence += 1;
        let key = SourceKey(self.last_sequence);
        self.sources
            .insert(key, SourceState::new(tenant, origin, wake));
        key
    }

    pub(in crate::pipes) fn source(&mut self, key: SourceKey) -> Option<&mut SourceState> {
        self.sources.get_mut(&key)
    }

    /// Whether the source may be asked for more, which this subscription of its pipe would be
    /// given.
    pub(in crate::pipes) fn may_pull(
        &self,
        key: SourceKey,
        pipe: Option<SubscriptionNumber>,
    ) -> bool {
        // Of a target that refuses, what waits for it asks again; where nothing does, the next
        // message has to.
        let waits = |one: &SubscriptionState| one.is_refused && one.counts.pending > 0;
        let goes = |number| {
            !self.inactive.contains(&number) && !self.subscriptions.get(&number).is_some_and(waits)
        };
        pipe.is_some_and(goes)
            && self
                .sources
                .get(&key)
                .is_some_and(|source| !source.draining && source.has_room())
    }

    /// Takes a batch in.
    pub(in crate::pipes) fn offer(
        &mut self,
        key: SourceKey,
        messages: Vec<Offered>,
        cursor: Option<Cursor>,
        now: Timestamp,
    ) {
        self.advance(now);
        let Some(source) = self.sources.get_mut(&key) else {
            return;
        };
        let batch = source.begin_batch();
        for Offered {
            acknowledgement,
            deliveries,
            rejects,
            positions,
            goes_back,
        } in messages
        {
            let Some(source) = self.sources.get_mut(&key) else {
                return;
            };
            let message = source.begin_message(batch, acknowledgement, positions);
            if !rejects.is_empty() {
                let bytes = rejects.iter().map(|reject| reject.raw.len()).sum();
                source.begin_part(message, bytes);
                let origin = source.origin.clone();
                source.writes.push(PendingWrite {
                    rejects,
                    bytes,
                    ..PendingWrite::of(message, origin)
                });
            }
            for (event, subscription, order_key) in deliveries {
                self.take_in(key, message, event, subscription, order_key, now);
            }
            if let Some(source) = self.sources.get_mut(&key) {
                source.part_ended(message, 0, goes_back);
            }
        }
        if let Some(source) = self.sources.get_mut(&key) {
            source.end_batch(batch, cursor);
        }
    }

    fn take_in(
        &mut self,
        source_key: SourceKey,
        message: u64,
        event: Arc<Event>,
        subscription: SubscriptionNumber,
        order_key: Option<u64>,
        now: Timestamp,
    ) {
        let Some(source) = self.sources.get_mut(&source_key) else {
            return;
        };
        source.begin_part(message, event.size_bytes());
        let until = source.ack_deadline(message);
        let (tenant, origin) = (source.tenant.clone(), source.origin.clone());
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let (last, lease) = (None, None);
        let delivery = PendingDelivery {
            source: source_key,
            message,
            subscription,
            tenant,
            origin,
            event,
            order_key,
            since: now,
            due: now,
            attempts: 0,
            failures: 0,
            batch_max: None,
            last,
            lease,
            until,
            is_late: false,
        };
        source.until.extend(until.map(|until| (until, sequence)));
        let (ready_key, waits) = (delivery.ready_key(sequence), {
            let (is_immediate, carried) = (true, ());
            queue::Slot::one(sequence, is_immediate, order_key, carried)
        });
        self.deliveries.insert(sequence, delivery);
        let state = self.subscription_state(subscription);
        state.counts.created += 1;
        state.counts.pending += 1;
        // An earlier one of its key may wait in the journal.
        let may_follow = order_key.is_some() && !state.no_earlier;
        let is_behind = order_key.is_some_and(|key| self.machine.is_busy(subscription, key));
        self.machine.insert(subscription, ready_key, waits);
        if may_follow && !is_behind {
            self.spill(sequence);
        }
    }

    /// What is known of a subscription, which is open for leasing unless it is paused.
    pub(super) fn subscription_state(
        &mut self,
        number: SubscriptionNumber,
    ) -> &mut SubscriptionState {
        let is_active = !self.inactive.contains(&number);
        self.subscriptions.entry(number).or_insert_with(|| {
            self.machine.set_open(number, is_active);
            SubscriptionState::default()
        })
    }

    fn of_source(&self, key: SourceKey, also_leased: bool) -> Vec<u64> {
        let is_meant = |delivery: &PendingDelivery| {
            delivery.source == key && (also_leased || delivery.lease.is_none())
        };
        let mut sequences: Vec<u64> = self
            .deliveries
            .iter()
            .filter(|(_, delivery)| is_meant(delivery))
            .map(|(sequence, _)| *sequence)
            .collect();
        // The latest first, so that none becomes ready by the end of an earlier one of its key.
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        sequences
    }

    /// Accepts no more of a source: what has no attempt under way goes back. Returns how many
    /// deliveries have one.
    pub(in crate::pipes) fn drain(&mut self, key: SourceKey) -> usize {
        if let Some(source) = self.sources.get_mut(&key)
            && !std::mem::replace(&mut source.draining, true)
        {
            for sequence in self.of_source(key, false) {
                self.hand_back(sequence);
            }
        }
        self.of_source(key, true).len()
    }

    /// The source has broken off, and will hand over again whatever was not acknowledged.
    pub(in crate::pipes) fn orphan(&mut self, key: SourceKey) {
        let Some(source) = self.sources.get_mut(&key) else {
            return;
        };
        source.orphan();
        for write in std::mem::take(&mut source.writes) {
            self.write_ended(key, &write, true);
        }
        for sequence in self.of_source(key, false) {
            self.hand_back(sequence);
        }
    }

    /// Forgets what a source has handed over, attempts under way included.
    pub(in crate::pipes) fn forget(&mut self, key: SourceKey) {
        for sequence in self.of_source(key, true) {
            self.hand_back(sequence);
        }
    }

    /// The source is gone.
    pub(in crate::pipes) fn leave(&mut self, key: SourceKey) {
        self.forget(key);
        let Some(source) = self.sources.remove(&key) else {
            return;
        };
        for (subscription, moving) in source.moving {
            for _ in 0..moving {
                self.cancelled(subscription);
            }
        }
    }
}
