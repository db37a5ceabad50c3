//! What is changed in a shard, and what the journal itself is asked for.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_journal::{
    Activity, DeadSelection, NewReplay, Redrive, ReplayId, ReplayState, ReplayStep, Shard,
    Subscription,
};
use pointsman_schemas::{DeliveryId, Event, Name, PositionChange, SubscriptionNumber};
use serde::{Deserialize, Serialize};

use crate::message::answer;

/// A function of [`Journal`](pointsman_journal::Journal) or [`Shard`] with what it is called with; the answer is what it
/// returns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Subscribe(Vec<Subscription>),
    LastSubscription,
    Assign(Vec<Subscription>),
    SetActivity(SubscriptionNumber, Activity),
    Cursor(Name, Name),
    Positions {
        tenant: Name,
        source: Name,
        after: Option<Bytes>,
        limit: usize,
    },
    Cancel(Vec<DeliveryId>),
    Skip(Vec<DeliveryId>),
    Suspend(Vec<DeliveryId>),
    Resume(Vec<DeliveryId>),
    Retry(Vec<DeliveryId>),
    CancelAll(SubscriptionNumber),
    MoveAll(SubscriptionNumber, SubscriptionNumber),
    Redrive(DeadSelection),
    EditDead(
        DeliveryId,
        #[serde(with = "pointsman_journal::encoding::event::optional")] Option<Arc<Event>>,
    ),
    RedriveSome(Redrive),
    BeginReplay(NewReplay),
    BeginReplayAs(ReplayId, NewReplay),
    Replay(ReplayStep),
    EndReplay(ReplayId, ReplayState, String),
    Purge(DeadSelection),
    Note {
        tenant: Name,
        source: Name,
        changes: Vec<PositionChange>,
    },
}

impl Command {
    /// Carries it out, and writes the answer.
    pub(crate) async fn carry_out(self, shard: &dyn Shard) -> Bytes {
        match self {
            Self::Subscribe(wanted) => answer(shard.subscribe(wanted).await),
            Self::LastSubscription => answer(shard.last_subscription().await),
            Self::Assign(wanted) => answer(shard.assign(wanted).await),
            Self::SetActivity(number, activity) => {
                answer(shard.set_activity(number, activity).await)
            }
            Self::Cursor(tenant, source) => answer(shard.cursor(&tenant, &source).await),
            Self::Positions {
                tenant,
                source,
                after,
                limit,
            } => answer(
                shard
                    .positions(&tenant, &source, after.as_deref(), limit)
                    .await,
            ),
            Self::Cancel(ids) => answer(shard.cancel(&ids).await),
            Self::Skip(ids) => answer(shard.skip(&ids).await),
            Self::Suspend(ids) => answer(shard.suspend(&ids).await),
            Self::Resume(ids) => answer(shard.resume(&ids).await),
            Self::Retry(ids) => answer(shard.retry(&ids).await),
            Self::CancelAll(number) => answer(shard.cancel_all(number).await),
            Self::MoveAll(from, to) => answer(shard.move_all(from, to).await),
            Self::Redrive(selection) => answer(shard.redrive(&selection).await),
            Self::EditDead(id, event) => answer(shard.edit_dead(id, event).await),
            Self::RedriveSome(redrive) => answer(shard.redrive_some(&redrive).await),
            Self::BeginReplay(replay) => answer(shard.begin_replay(replay).await),
            Self::BeginReplayAs(id, replay) => answer(shard.begin_replay_as(id, replay).await),
            Self::Replay(step) => answer(shard.replay(step).await),
            Self::EndReplay(id, state, message) => {
                answer(shard.end_replay(id, state, &message).await)
            }
            Self::Purge(selection) => answer(shard.purge(&selection).await),
            Self::Note {
                tenant,
                source,
                changes,
            } => answer(shard.note(tenant, source, changes).await),
        }
    }
}
