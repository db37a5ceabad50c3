//! Settling.

use pointsman_schemas::SubscriptionNumber;
use tokio::time::Instant;

use super::append::identity;
use super::{Cause, Failure, Transaction, leave_pending};
use crate::disk::queues::{Effect, Lease};
use crate::disk::record::DeadRow;
use crate::disk::row::PendingRow;
use crate::{DeadReason, Ending, FollowUp, LastOutcome, LeaseToken, Settlement};

impl Transaction<'_> {
    pub(in crate::disk) fn settle(
        &mut self,
        settlements: &[Settlement],
        now: Instant,
    ) -> Result<Vec<bool>, Failure> {
        let leases: Vec<_> = {
            let mut queues = self.queues.lock();
            settlements
                .iter()
                .map(|settlement| queues.claim(settlement.token, now))
                .collect()
        };
        self.claimed.extend(
            settlements
                .iter()
                .zip(&leases)
                .filter(|(_, lease)| lease.is_some())
                .map(|(settlement, _)| settlement.token),
        );
        let mut settled = Vec::with_capacity(settlements.len());
        for (settlement, lease) in settlements.iter().zip(leases) {
            settled.push(match lease {
                None => false,
                Some(lease) => self.settle_one(settlement, &lease)?,
            });
        }
        Ok(settled)
    }

    fn settle_one(&mut self, settlement: &Settlement, lease: &Lease) -> Result<bool, Failure> {
        let token = settlement.token;
        let held = match &settlement.ending {
            Ending::Released => {
                self.changes.effects.push(Effect::Release(token));
                true
            }
            Ending::Delivered => {
                let held = self.end(token, lease)?;
                if held {
                    self.count(lease.key.subscription, |counts| counts.delivered += 1);
                }
                held
            }
            Ending::Retry {
                at,
                failure,
                batch_max,
                last,
            } => {
                let row = PendingRow {
                    due: lease.due.at(*at),
                    since: lease.since,
                    immediate: false,
                    order_key: lease.order_key,
                    replay: lease.replay,
                    attempts: lease.attempts + 1,
                    failures: lease.failures + u32::from(*failure),
                    batch_max: batch_max.or(lease.batch_max),
                    last: Some(last.clone()),
                    ..PendingRow::immediate(lease.key, *at)
                };
                self.changes.effects.push(Effect::End(token));
                let held = self.take(lease.key, lease.block)?;
                if held {
                    self.count(lease.key.subscription, |counts| {
                        counts.retrying += u64::from(lease.attempts == 0)
                    });
                    self.insert(row)?;
                }
                held
            }
            Ending::Stopped => {
                let held = self.end(token, lease)?;
                if held {
                    self.count(lease.key.subscription, |counts| counts.cancelled += 1);
                }
                held
            }
            Ending::Dead { reason, last } => self.end_dead(token, lease, *reason, last.as_ref())?,
        };
        if held {
            self.note_settled(lease, &settlement.ending, &settlement.record)?;
            self.follow_up(&settlement.follow_ups, lease)?;
        }
        Ok(held)
    }

    /// Makes a dead letter of a leased delivery; false as [`Transaction::end`] says.
    fn end_dead(
        &mut self,
        token: LeaseToken,
        lease: &Lease,
        reason: DeadReason,
        last: Option<&LastOutcome>,
    ) -> Result<bool, Failure> {
        let earlier = if last.is_none() && lease.attempts > 0 {
            self.row(lease.key)?.and_then(|row| row.last)
        } else {
            None
        };
        let held = self.end(token, lease)?;
        if held && let Some(subscribed) = self.subscription(lease.key.subscription) {
            let attempts = lease.attempts + u32::from(last.is_some());
            let last: Option<LastOutcome> = last.cloned().or(earlier);
            let tenant = subscribed.identity.tenant.clone();
            let origin = lease.origin.clone();
            let (at, order_key, reject) = (self.now(), lease.order_key, None);
            self.dead_letter(
                lease.key,
                &DeadRow {
                    tenant,
                    origin,
                    reason,
                    at,
                    attempts,
                    order_key,
                    last,
                    reject,
                    replay: lease.replay,
                    edited: None,
                },
            )?;
        }
        Ok(held)
    }

    /// Ends a leased delivery, whatever it counts as; false where its row is gone, quarantined
    /// under it.
    fn end(&mut self, token: LeaseToken, lease: &Lease) -> Result<bool, Failure> {
        self.changes.effects.push(Effect::End(token));
        if !self.take(lease.key, lease.block)? {
            return Ok(false);
        }
        self.count(lease.key.subscription, |counts| {
            leave_pending(counts, lease.attempts > 0)
        });
        if let Some(order_key) = lease.order_key {
            self.promote(lease.key.subscription, order_key)?;
        }
        Ok(true)
    }

    fn follow_up(&mut self, follow_ups: &[FollowUp], lease: &Lease) -> Result<(), Failure> {
        for follow_up in follow_ups {
            match follow_up {
                FollowUp::Append { origin, entry } => {
                    let Some(tenant) = self
                        .subscription(lease.key.subscription)
                        .map(|subscribed| subscribed.identity.tenant.clone())
                    else {
                        continue;
                    };
                    let identity = identity(&tenant, origin, entry);
                    self.store(&tenant, origin, entry, identity)?;
                }
                FollowUp::Reject { origin, reject } => {
                    if let Some(tenant) = self
                        .subscription(lease.key.subscription)
                        .map(|subscribed| subscribed.identity.tenant.clone())
                    {
                        self.reject(&tenant, origin, reject)?;
                    }
                }
                FollowUp::Original(new) => {
                    let SubscriptionNumber(number) = new.subscription;
                    if number == 0 || number > self.changes.ledger.last_subscription {
                        continue;
                    }
                    let run = self.changes.ledger.last_run + 1;
                    self.pinned.insert(lease.key.sequence);
                    self.deliver(
                        lease.key.sequence,
                        run,
                        *new,
                        &lease.origin,
                        Cause::Run(None),
                    )?;
                }
            }
        }
        Ok(())
    }
}
