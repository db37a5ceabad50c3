//! Ends leases and deliveries: what is delivered or dead leaves the queue with the writes that its
//! end needs, and what is not waits again or goes back to its source.

use std::sync::Arc;

use pointsman_journal::{Ending, Entry, FollowUp, LastOutcome, LeaseToken, NewDead, Settlement};
use pointsman_schemas::{Class, DeliveryId, Name, Reject, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{PendingDelivery, PipeQueues, SourceKey};
use crate::pipes::writes::PendingWrite;

impl PipeQueues {
    /// Ends a lease. Returns false where it had ended before.
    pub(in crate::pipes) fn settle(&mut self, settlement: Settlement, now: Timestamp) -> bool {
        let Settlement {
            token,
            ending,
            follow_ups,
            record: _,
        } = settlement;
        self.advance(now);
        let lease = self.machine.claim(token, Instant::now());
        let Some(sequence) = lease.map(|lease| lease.key.sequence) else {
            return false;
        };
        let Some(delivery) = self.deliveries.get(&sequence) else {
            return false;
        };
        let (source, message, subscription) =
            (delivery.source, delivery.message, delivery.subscription);
        let sources = self.sources.get(&source);
        let (goes_back, is_orphan) = sources.map_or((true, true), |source| {
            (source.goes_back(message), source.is_orphan(message))
        });
        self.note_refusal(subscription, &ending);
        match ending {
            Ending::Released | Ending::Retry { .. } if goes_back => self.hand_back(sequence),
            Ending::Dead { .. } if is_orphan => self.hand_back(sequence),
            Ending::Released => self.put_back(sequence, token, None),
            Ending::Retry {
                at,
                failure,
                batch_max,
                last,
            } => {
                if let Some(delivery) = self.deliveries.get_mut(&sequence) {
                    delivery.batch_max = batch_max.or(delivery.batch_max);
                }
                self.put_back(sequence, token, Some((at, failure, last)))
            }
            Ending::Stopped => {
                if let Some(delivery) = self.take_out(sequence) {
                    self.cancelled(delivery.subscription);
                    self.end_delivery(&delivery, None, follow_ups);
                }
            }
            Ending::Delivered => {
                if let Some(delivery) = self.take_out(sequence) {
                    if let Some(state) = self.subscriptions.get_mut(&delivery.subscription) {
                        state.counts.pending -= 1;
                        state.counts.delivered += 1;
                    }
                    self.end_delivery(&delivery, None, follow_ups);
                }
            }
            Ending::Dead { reason, last } => {
                if let Some(mut delivery) = self.take_out(sequence) {
                    let dead = NewDead {
                        subscription: delivery.subscription,
                        order_key: delivery.order_key,
                        reason,
                        attempts: delivery.attempts + u32::from(last.is_some()),
                        edited: None,
                        last: last.or(delivery.last.take()),
                    };
                    self.end_delivery(&delivery, Some(dead), follow_ups);
                }
            }
        }
        // Whether its target refuses, and with it whether there may be more, can have changed.
        if let Some(source) = self.sources.get(&source) {
            source.wake.notify_one();
        }
        true
    }

    /// Notes whether a subscription's target refuses, as the end of an attempt tells.
    fn note_refusal(&mut self, subscription: SubscriptionNumber, ending: &Ending) {
        if let Some(state) = self.subscriptions.get_mut(&subscription) {
            state.is_refused = match ending {
                Ending::Retry { last, .. } => last.class == Class::Refused,
                Ending::Released => state.is_refused,
                Ending::Delivered | Ending::Stopped | Ending::Dead { .. } => false,
            };
        }
    }

    /// Ends a lease whose delivery waits again: as before, or for its next attempt.
    pub(super) fn put_back(
        &mut self,
        sequence: u64,
        token: LeaseToken,
        retry: Option<(Timestamp, bool, LastOutcome)>,
    ) {
        let Some(delivery) = self.deliveries.get_mut(&sequence) else {
            return;
        };
        delivery.lease = None;
        match retry {
            None => self.machine.release(token),
            Some((at, failure, last)) => {
                if let Some(state) = self.subscriptions.get_mut(&delivery.subscription) {
                    state.counts.retrying += u64::from(delivery.attempts == 0);
                }
                delivery.attempts += 1;
                delivery.failures += u32::from(failure);
                (delivery.due, delivery.last) = (at, Some(last));
                self.machine.retry(token, at);
            }
        }
        if delivery.is_late {
            self.spill(sequence);
        }
    }

    /// Takes a delivery out of its queue, which frees the next of its order key. Its message still
    /// has it as a part.
    pub(super) fn take_out(&mut self, sequence: u64) -> Option<PendingDelivery> {
        let delivery = self.deliveries.remove(&sequence)?;
        match delivery.lease {
            Some(token) => drop(self.machine.end(token)),
            None => drop(self.machine.remove(delivery.key(sequence), delivery.due)),
        }
        if let (Some(until), Some(source)) =
            (delivery.until, self.sources.get_mut(&delivery.source))
        {
            source.until.remove(&(until, sequence));
        }
        if let Some(state) = self.subscriptions.get_mut(&delivery.subscription) {
            state.counts.retrying -= u64::from(delivery.attempts > 0);
        }
        // The delivery behind it may have waited only for this one's attempt before it is spilled.
        if let Some(order_key) = delivery.order_key {
            let ordered = self
                .machine
                .with_order_key(delivery.subscription, order_key);
            let next = ordered.into_iter().next();
            let is_late = |next: &u64| {
                let next = self.deliveries.get(next);
                next.is_some_and(|next| next.is_late && next.lease.is_none())
            };
            if let Some(next) = next.filter(is_late) {
                self.spill(next);
            }
        }
        Some(delivery)
    }

    /// Queues the writes that a delivery's end needs, and ends it as a part of its message.
    fn end_delivery(
        &mut self,
        delivery: &PendingDelivery,
        dead: Option<NewDead>,
        follow_ups: Vec<FollowUp>,
    ) {
        let Some(source) = self.sources.get_mut(&delivery.source) else {
            return;
        };
        let mut original = Entry {
            event: Arc::clone(&delivery.event),
            deliveries: SmallVec::new(),
            deduplicate: None,
            dead,
            terms: None,
        };
        let mut others: Vec<(Name, Vec<Entry>, Vec<Reject>)> = Vec::new();
        for follow_up in follow_ups {
            match follow_up {
                FollowUp::Original(delivery) => original.deliveries.push(delivery),
                FollowUp::Append { origin, entry } => {
                    others.push((origin, vec![entry], Vec::new()))
                }
                FollowUp::Reject { origin, reject } => {
                    others.push((origin, Vec::new(), vec![reject]))
                }
            }
        }
        let moves_delivery_of = original.dead.as_ref().map(|dead| dead.subscription);
        let mut own = PendingWrite {
            bytes: delivery.event.size_bytes(),
            moves_delivery_of,
            ..PendingWrite::of(delivery.message, delivery.origin.clone())
        };
        if let Some(subscription) = moves_delivery_of {
            *source.moving.entry(subscription).or_default() += 1;
        }
        if moves_delivery_of.is_some() || !original.deliveries.is_empty() {
            own.entries.push(original);
        }
        for (origin, mut entries, mut rejects) in others {
            if origin == own.origin {
                own.entries.append(&mut entries);
                own.rejects.append(&mut rejects);
            } else {
                let bytes = entries
                    .iter()
                    .map(|entry| entry.event.size_bytes())
                    .chain(rejects.iter().map(|one| one.raw.len()))
                    .sum();
                source.begin_part(delivery.message, bytes);
                source.writes.push(PendingWrite {
                    entries,
                    rejects,
                    bytes,
                    ..PendingWrite::of(delivery.message, origin)
                });
            }
        }
        if own.entries.is_empty() {
            source.part_ended(delivery.message, own.bytes, false);
        } else {
            source.writes.push(own);
            source.wake.notify_one();
        }
    }

    /// A write is durable, or has been given up.
    pub(in crate::pipes) fn write_ended(
        &mut self,
        key: SourceKey,
        write: &PendingWrite,
        goes_back: bool,
    ) {
        let Some(source) = self.sources.get_mut(&key) else {
            return;
        };
        if let Some(subscription) = write.moves_delivery_of {
            if let Some(moving) = source.moving.get_mut(&subscription) {
                *moving -= 1;
            }
            if let Some(state) = self.subscriptions.get_mut(&subscription) {
                state.counts.pending -= 1;
                // From here on the journal counts it.
                state.counts.created -= u64::from(!goes_back);
                state.counts.cancelled += u64::from(goes_back);
            }
        }
        source.part_ended(write.message, write.bytes, goes_back);
    }

    /// A delivery goes back to its source.
    pub(super) fn hand_back(&mut self, sequence: u64) {
        let Some(delivery) = self.take_out(sequence) else {
            return;
        };
        self.cancelled(delivery.subscription);
        if let Some(source) = self.sources.get_mut(&delivery.source) {
            source.part_ended(delivery.message, delivery.event.size_bytes(), true);
        }
    }

    pub(super) fn cancelled(&mut self, subscription: SubscriptionNumber) {
        if let Some(state) = self.subscriptions.get_mut(&subscription) {
            state.counts.pending -= 1;
            state.counts.cancelled += 1;
        }
    }

    /// Cancels a delivery that is not in flight: its message counts it as done. Returns whether it
    /// was there.
    pub(in crate::pipes) fn cancel(&mut self, id: DeliveryId) -> bool {
        let is_meant = |delivery: &&PendingDelivery| {
            delivery.subscription == id.subscription && delivery.lease.is_none()
        };
        if id.epoch != self.epoch
            || id.run != 0
            || self
                .deliveries
                .get(&id.sequence.0)
                .filter(is_meant)
                .is_none()
        {
            return false;
        }
        let Some(delivery) = self.take_out(id.sequence.0) else {
            return false;
        };
        self.cancelled(delivery.subscription);
        if let Some(source) = self.sources.get_mut(&delivery.source) {
            source.part_ended(delivery.message, delivery.event.size_bytes(), false);
        }
        true
    }
}
