//! The calls of a slot: each goes to its shard, wherever that is, with times by the clock of the
//! journal that is here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Event, JournalId, Name, PositionChange, PositionRow,
    SubscriptionNumber, Timestamp,
};

use super::{Here, Place, Slot};
use crate::{
    Activity, Append, Appended, BacklogQuota, Bounded, DeadSelection, Ending, FollowUp, Grant,
    Journal, JournalError, Leases, NewDelivery, NewReplay, Numbered, Reader, Redrive, Redriven,
    Replay, ReplayId, ReplayState, ReplayStep, Replayed, SettleAnswer, Settlement, Shard,
    ShardNumber, Subscription,
};

fn shift(time: &mut Timestamp, by: i64) {
    time.0 = time.0.saturating_add(by);
}

fn shift_due(delivery: &mut NewDelivery, by: i64) {
    delivery.due.iter_mut().for_each(|due| shift(due, by));
}

/// Changes the times of what is to be appended.
fn shift_append(append: &mut Append, by: i64) {
    let entries = append.entries.iter_mut();
    entries
        .flat_map(|entry| &mut entry.deliveries)
        .for_each(|delivery| shift_due(delivery, by));
}

fn shift_settlement(settlement: &mut Settlement, by: i64) {
    if let Ending::Retry { at, .. } = &mut settlement.ending {
        shift(at, by);
    }
    for follow_up in &mut settlement.follow_ups {
        match follow_up {
            FollowUp::Append { entry, .. } => {
                let deliveries = entry.deliveries.iter_mut();
                deliveries.for_each(|delivery| shift_due(delivery, by));
            }
            FollowUp::Original(delivery) => shift_due(delivery, by),
            FollowUp::Reject { .. } => {}
        }
    }
}

#[async_trait]
impl Journal for Slot {
    fn id(&self) -> JournalId {
        self.inner.id
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }

    /// What has a cursor, or rows of a position, is taken by a journal that is here now alone, and
    /// waits for none: its source may have gone on elsewhere meanwhile.
    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        let shifted = |shard: &dyn Shard, mut append: Append| {
            shift_append(&mut append, self.ahead(shard));
            append
        };
        if append.cursor.is_some() || !append.positions.is_empty() {
            let append = async |here: Here| {
                let append = shifted(&*here.shard, append);
                here.shard.append(append).await.map(Some)
            };
            return self.call_here(append).await?.ok_or_else(|| self.away());
        }
        let _held = self.admit(&append)?;
        // Before its tenant can have other shards, what was divided among the old ones has to end:
        // what waits gives up, and is divided anew when it is sent again.
        let goes_on = |append: &Append| !self.inner.placements.stops(append);
        self.call_while(goes_on, append, |shard, append| {
            let is_here = self.is(&shard);
            let append = if is_here {
                shifted(&*shard, append)
            } else {
                append
            };
            let number = self.inner.number.get();
            async move {
                let appended = shard.append(append).await;
                appended.map_err(|error| match error {
                    // It will soon know what this one knows.
                    JournalError::NotFound(what) if !is_here => JournalError::Away(format!(
                        "the node that owns shard {number} works with other rules just now: it \
                         knows no {what}"
                    )),
                    other => other,
                })
            }
        })
        .await
    }

    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        self.call_here(async |here: Here| {
            if here.is_leaving {
                return Ok(Leases::default());
            }
            let mut leases = here.shard.lease(grants, bytes_max).await?;
            here.leases
                .count
                .fetch_add(leases.leased.len(), Ordering::AcqRel);
            let behind = self.ahead(&*here.shard).saturating_neg();
            for leased in &mut leases.leased {
                leased.fence = Some(here.fence.clone());
                shift(&mut leased.since, behind);
            }
            for gathering in &mut leases.gathering {
                shift(&mut gathering.until, behind);
            }
            Ok(leases)
        })
        .await
    }

    async fn settle(
        &self,
        mut settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        let count = settlements.len();
        let answers = self
            .call_here(async |here: Here| {
                let ahead = self.ahead(&*here.shard);
                for settlement in &mut settlements {
                    shift_settlement(settlement, ahead);
                }
                let answers = here.shard.settle(settlements).await?;
                let settled = answers.iter();
                let settled = settled
                    .filter(|answer| **answer != SettleAnswer::NoRoom)
                    .count();
                let was =
                    here.leases
                        .count
                        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                            Some(count.saturating_sub(settled))
                        });
                if was.is_ok_and(|was| was <= settled) {
                    here.leases.settled.notify_waiters();
                }
                Ok(answers)
            })
            .await;
        let gone = || vec![SettleAnswer::Gone; count];
        answers.map(|answers: Vec<SettleAnswer>| if answers.is_empty() { gone() } else { answers })
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        let mut seen = self.inner.place.subscribe();
        loop {
            let place = seen.borrow_and_update().clone();
            let due = async {
                match place {
                    Place::Here(here) if !here.is_leaving => here.shard.due().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                due = due => return due,
                changed = seen.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.call_here(async |here: Here| here.shard.subscribe(wanted).await)
            .await
    }

    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        self.call_here(async |here: Here| here.shard.set_quotas(quotas).await)
            .await
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.call(async |shard| shard.set_activity(subscription, activity).await)
            .await
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.call(async |shard| shard.cursor(tenant, source).await)
            .await
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        self.call(async |shard| shard.positions(tenant, source, after, limit).await)
            .await
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.cancel(deliveries).await)
            .await
    }

    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.skip(deliveries).await).await
    }

    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.suspend(deliveries).await)
            .await
    }

    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.resume(deliveries).await)
            .await
    }

    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.call(async |shard| shard.retry(deliveries).await).await
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        self.call(async |shard| shard.cancel_all(subscription).await)
            .await
    }

    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.call(async |shard| shard.move_all(from, to).await)
            .await
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.call(async |shard| shard.redrive(selection).await)
            .await
    }

    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        self.call_with(event, async |shard, event| shard.edit_dead(id, event).await)
            .await
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.call(async |shard| shard.redrive_some(redrive).await)
            .await
    }

    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.call_with(replay, async |shard, replay| {
            shard.begin_replay(replay).await
        })
        .await
    }

    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.call_with(step, async |shard, step| shard.replay(step).await)
            .await
    }

    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        self.call(async |shard| shard.end_replay(id, state, message).await)
            .await
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.call(async |shard| shard.purge(selection).await).await
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }

    fn trouble(&self) -> Option<JournalError> {
        self.here()?.trouble()
    }

    async fn close(&self) {
        let here = self.here();
        self.inner.place.send_replace(Place::Closed);
        if let Some(here) = here {
            here.close().await;
        }
    }
}

#[async_trait]
impl Shard for Slot {
    fn number(&self) -> Option<ShardNumber> {
        Some(self.inner.number)
    }

    fn is_here(&self) -> bool {
        self.here().is_some()
    }

    fn waiting(&self, of: &[Bounded]) -> Vec<u64> {
        self.here().map_or_else(Vec::new, |here| here.waiting(of))
    }

    fn set_elsewhere(&self, elsewhere: Vec<(Bounded, u64)>) {
        if let Some(here) = self.here() {
            here.set_elsewhere(elsewhere);
        }
    }

    async fn subscribe_as(&self, wanted: Vec<Numbered>) -> Result<(), JournalError> {
        self.call_here(async |here: Here| here.shard.subscribe_as(wanted).await)
            .await
    }

    async fn last_subscription(&self) -> Result<SubscriptionNumber, JournalError> {
        self.call(async |shard| shard.last_subscription().await)
            .await
    }

    async fn assign(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.call_with(wanted, |shard, wanted| {
            let is_here = self.is(&shard);
            async move {
                match shard.assign(wanted).await {
                    // What has a number keeps it: this can be asked again.
                    Err(JournalError::Io(why)) if !is_here => Err(JournalError::Away(why)),
                    assigned => assigned,
                }
            }
        })
        .await
    }

    async fn note(
        &self,
        tenant: Name,
        source: Name,
        changes: Vec<PositionChange>,
    ) -> Result<(), JournalError> {
        let noted = (tenant, source, changes);
        self.call_with(noted, async |shard, (tenant, source, changes)| {
            shard.note(tenant, source, changes).await
        })
        .await
    }

    async fn begin_replay_as(
        &self,
        id: ReplayId,
        replay: NewReplay,
    ) -> Result<Replay, JournalError> {
        self.call_with(replay, async |shard, replay| {
            shard.begin_replay_as(id, replay).await
        })
        .await
    }
}
