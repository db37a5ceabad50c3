//! Leasing and settling.

use std::sync::Arc;

use pointsman_schemas::{Sequence, Timestamp};

use super::state::State;
use crate::queue::{DeliveryKey, Filling, Fit, Member};
use crate::{Cut, Ending, FollowUp, Gathering, Grant, Leased, Leases, Record, Settlement};

impl State {
    pub(super) fn lease(&mut self, grants: &[Grant], bytes_max: usize) -> Leases {
        let (mut leases, mut bytes) = (Leases::default(), 0);
        for grant in grants {
            bytes += self.lease_one(grant, bytes_max - bytes, &mut leases);
        }
        leases
    }

    /// Leases what one grant allows, and returns the bytes of its events.
    fn lease_one(&mut self, grant: &Grant, bytes_max: usize, leases: &mut Leases) -> usize {
        let (subscription, until) = (grant.subscription, self.now.after(grant.lease));
        let (bytes_max, mut bytes) = (bytes_max.min(grant.bytes_max), 0);
        let mut filling = Filling::default();
        for taken in 0..grant.count {
            let Some((ready_key, sequence)) = self.queues.next(subscription) else {
                break;
            };
            let Some(retained) = self.events.get(&Sequence(sequence)) else {
                break;
            };
            let event_bytes = retained.stored.event.size_bytes();
            let member = self.member_of(ready_key.delivery(subscription, sequence));
            let fit = filling.fit(grant, member);
            if fit == Fit::Exceeds {
                break;
            }
            if fit == Fit::Begins
                && let Some(until) = self.gathers_until(grant, grant.count - taken)
            {
                leases.gathering.push(Gathering {
                    subscription,
                    until,
                });
                break;
            }
            if bytes + event_bytes > bytes_max {
                leases.cut.push(Cut {
                    subscription,
                    event_bytes,
                });
                break;
            }
            let Some((token, lease)) = self.queues.take(subscription, ready_key, Some(until), ())
            else {
                break;
            };
            let key = lease.key;
            bytes += event_bytes;
            filling.add(fit, member);
            let leased = self.leased(token, key, fit == Fit::Begins);
            leases.leased.extend(leased);
        }
        bytes
    }

    /// Until when the next call of a grant waits for more deliveries, if it does.
    fn gathers_until(&self, grant: &Grant, events: usize) -> Option<Timestamp> {
        let batching = grant.batching?;
        let member = |key, (): &()| self.member_of(key);
        self.queues
            .gathers_until(grant.subscription, &batching, events, member)
    }

    fn member_of(&self, key: DeliveryKey) -> Member {
        let id = (Sequence(key.sequence), key.run);
        let index = (key.subscription.0 as usize).checked_sub(1);
        let subscribed = index.and_then(|index| self.subscriptions.get(index));
        let delivery = subscribed.and_then(|subscribed| subscribed.pending.get(&id));
        let event = self.events.get(&id.0);
        Member {
            event_bytes: event.map_or(0, |retained| retained.stored.event.size_bytes()),
            is_tried: delivery.is_some_and(|delivery| delivery.attempts > 0),
            batch_max: delivery.and_then(|delivery| delivery.batch_max),
        }
    }

    fn leased(
        &mut self,
        token: crate::LeaseToken,
        key: DeliveryKey,
        begins_call: bool,
    ) -> Option<Leased> {
        let id = self.id(key);
        let stored = self.events.get(&id.sequence)?.stored.clone();
        let subscribed = self.subscribed(key.subscription)?;
        let delivery = subscribed.pending.get(&(id.sequence, id.run))?;
        Some(Leased {
            token,
            id,
            event: Arc::clone(&stored.event),
            tenant: stored.tenant,
            replay: delivery.replay,
            origin: stored.origin,
            attempts: delivery.attempts,
            failures: delivery.failures,
            since: delivery.since,
            begins_call,
            fence: None,
        })
    }

    pub(super) fn settle(&mut self, settlement: Settlement) -> bool {
        let token = settlement.token;
        let Some(lease) = self.queues.claim(token, self.now.instant) else {
            return false;
        };
        let (key, due) = (lease.key, lease.due.time());
        if settlement.record != Record::Nothing {
            let attempts = self.attempts(key);
            self.note_settled(key, due, attempts, &settlement.ending, settlement.record);
        }
        match settlement.ending {
            Ending::Released => self.queues.release(token),
            Ending::Retry {
                at,
                failure,
                batch_max,
                last,
            } => {
                self.queues.retry(token, at);
                if let Some(subscribed) = self.subscribed(key.subscription)
                    && let Some(delivery) = subscribed
                        .pending
                        .get_mut(&(Sequence(key.sequence), key.run))
                {
                    subscribed.counts.retrying += u64::from(delivery.attempts == 0);
                    delivery.attempts += 1;
                    delivery.failures += u32::from(failure);
                    delivery.batch_max = batch_max.or(delivery.batch_max);
                    (delivery.due, delivery.last) = (delivery.due.at(at), Some(last));
                }
            }
            Ending::Delivered => {
                self.queues.end(token);
                self.take(key);
                self.unpin(key.sequence);
                if let Some(subscribed) = self.subscribed(key.subscription) {
                    subscribed.counts.delivered += 1;
                }
            }
            Ending::Stopped => {
                self.queues.end(token);
                self.take(key);
                self.unpin(key.sequence);
                if let Some(subscribed) = self.subscribed(key.subscription) {
                    subscribed.counts.cancelled += 1;
                }
            }
            Ending::Dead { reason, last } => {
                self.queues.end(token);
                if let Some(mut delivery) = self.take(key) {
                    delivery.attempts += u32::from(last.is_some());
                    self.dead_letter(key, delivery, reason, last);
                }
            }
        }
        for follow_up in settlement.follow_ups {
            self.follow_up(key, follow_up);
        }
        true
    }

    /// Tries made of a pending delivery.
    fn attempts(&mut self, key: DeliveryKey) -> u32 {
        let pending_key = (Sequence(key.sequence), key.run);
        self.subscribed(key.subscription)
            .and_then(|subscribed| subscribed.pending.get(&pending_key))
            .map_or(0, |delivery| delivery.attempts)
    }

    fn follow_up(&mut self, settled: DeliveryKey, follow_up: FollowUp) {
        let subscribed = self.subscribed(settled.subscription);
        let Some(tenant) = subscribed.map(|subscribed| subscribed.identity.tenant.clone()) else {
            return;
        };
        match follow_up {
            FollowUp::Append { origin, entry } => {
                self.store(&tenant, &origin, entry);
            }
            FollowUp::Reject { origin, reject } => self.reject(&tenant, &origin, reject),
            FollowUp::Original(new) => {
                drop(self.deliver(settled.sequence, self.last_run + 1, new, None));
            }
        }
    }
}
