//! A shard that another node owns, as its callers see it.

mod appends;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::pending;
use pointsman_journal::{
    Activity, Append, Appended, BacklogQuota, Bounded, DeadSelection, Grant, Journal, JournalError,
    Leases, NewReplay, Numbered, Reader, Redrive, Redriven, Replay, ReplayId, ReplayState,
    ReplayStep, Replayed, SettleAnswer, Settlement, Shard, ShardNumber, Subscription,
};
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Event, JournalId, Name, PositionChange, PositionRow,
    SubscriptionNumber, SystemClock,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use self::appends::Appends;
use self::reader::RemoteReader;
use crate::call::Call;
use crate::command::Command;
use crate::message::{self, Unreadable};
use crate::transport::{CallError, Transport};

/// An answer is waited for no longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A shard that another node owns.
///
/// It passes on appends, commands and reads. It has nothing to lease, nothing falls due in it, and
/// what it is told of subscriptions, quotas, what waits elsewhere and the close is its owner's
/// affair, who is told by its own node. Its [clock](Journal::clock) is this node's, and its
/// [id](Journal::id) is 0: the owner's are known there.
///
/// Appends are sent in the order in which they were called, one call at a time, and those that wait
/// meanwhile go together with the next. One that was handed over is sent though nobody waits for
/// it, unless the `Remote` itself is dropped before. Whoever
/// [watches](pointsman_journal::Watch) an entry is told once the answer is there: its deliveries may
/// have been leased by then, where they are.
///
/// An append with a cursor or rows of a position is not sent: whoever runs such a source runs where
/// its shard is.
#[derive(Debug)]
pub struct Remote {
    line: Arc<Line>,
    appends: Appends,
}

impl Remote {
    /// The shard of this number, which is asked over `transport`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(number: ShardNumber, transport: Arc<dyn Transport>) -> Self {
        let line = Arc::new(Line { number, transport });
        let appends = Appends::new(Arc::clone(&line));
        Self { line, appends }
    }

    async fn command<T: DeserializeOwned>(&self, command: Command) -> Result<T, JournalError> {
        self.line.ask(&Call::Command(command), 0).await
    }
}

/// The way to the owner of a shard.
#[derive(Debug)]
struct Line {
    number: ShardNumber,
    transport: Arc<dyn Transport>,
}

impl Line {
    /// Sends a call of about `size_hint` bytes and reads its answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call,
        size_hint: usize,
    ) -> Result<T, JournalError> {
        let call = message::write(call, size_hint)
            .map_err(|why| self.away(format_args!("the call cannot be sent: {why}")))?;
        let answered = self.transport.call(self.number, call);
        let answer = match timeout(ANSWER_TIME_MAX, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(CallError::Unsent(why))) => return Err(self.away(why)),
            Ok(Err(CallError::Lost(why))) => return Err(self.lost(why)),
            Err(_) => {
                let seconds = ANSWER_TIME_MAX.as_secs();
                return Err(self.lost(format_args!("no answer within {seconds} s")));
            }
        };
        let answer: Result<Result<T, JournalError>, Unreadable> = message::read(&answer);
        match answer {
            Ok(Err(JournalError::Away(why))) => Err(self.away(why)),
            Ok(answer) => answer,
            Err(why) => Err(self.unreadable(why)),
        }
    }

    /// Nothing has happened.
    fn away(&self, why: impl std::fmt::Display) -> JournalError {
        JournalError::Away(format!("shard {}: {why}", self.number.get()))
    }

    /// It may have happened.
    fn lost(&self, why: impl std::fmt::Display) -> JournalError {
        JournalError::Io(format!(
            "shard {}, which another node owns: {why}",
            self.number.get()
        ))
    }

    fn unreadable(&self, why: impl std::fmt::Display) -> JournalError {
        self.lost(format_args!("the answer cannot be read: {why}"))
    }
}

#[async_trait]
impl Journal for Remote {
    fn id(&self) -> JournalId {
        JournalId(0)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        if append.cursor.is_some() || !append.positions.is_empty() {
            let why = "how far a source was read is only stored by the node that owns the shard";
            return Err(self.line.away(why));
        }
        self.appends.append(append).await
    }

    async fn lease(&self, _grants: &[Grant], _bytes_max: usize) -> Result<Leases, JournalError> {
        Ok(Leases::default())
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        Ok(vec![SettleAnswer::Gone; settlements.len()])
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        pending().await
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.command(Command::Subscribe(wanted)).await
    }

    async fn set_quotas(&self, _quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        Ok(())
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.command(Command::SetActivity(subscription, activity))
            .await
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.command(Command::Cursor(tenant.clone(), source.clone()))
            .await
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        self.command(Command::Positions {
            tenant: tenant.clone(),
            source: source.clone(),
            after: after.map(Bytes::copy_from_slice),
            limit,
        })
        .await
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.command(Command::Cancel(deliveries.to_vec())).await
    }

    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.command(Command::Skip(deliveries.to_vec())).await
    }

    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.command(Command::Suspend(deliveries.to_vec())).await
    }

    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.command(Command::Resume(deliveries.to_vec())).await
    }

    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.command(Command::Retry(deliveries.to_vec())).await
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        self.command(Command::CancelAll(subscription)).await
    }

    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.command(Command::MoveAll(from, to)).await
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.command(Command::Redrive(selection.clone())).await
    }

    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        self.command(Command::EditDead(id, event)).await
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.command(Command::RedriveSome(redrive.clone())).await
    }

    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.command(Command::BeginReplay(replay)).await
    }

    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.command(Command::Replay(step)).await
    }

    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        self.command(Command::EndReplay(id, state, message.to_owned()))
            .await
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.command(Command::Purge(selection.clone())).await
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(RemoteReader::new(Arc::clone(&self.line)))
    }

    fn trouble(&self) -> Option<JournalError> {
        None
    }

    async fn close(&self) {}
}

#[async_trait]
impl Shard for Remote {
    fn number(&self) -> Option<ShardNumber> {
        Some(self.line.number)
    }

    fn is_here(&self) -> bool {
        false
    }

    fn waiting(&self, _of: &[Bounded]) -> Vec<u64> {
        Vec::new()
    }

    fn set_elsewhere(&self, _elsewhere: Vec<(Bounded, u64)>) {}

    async fn subscribe_as(&self, _wanted: Vec<Numbered>) -> Result<(), JournalError> {
        Ok(())
    }

    async fn last_subscription(&self) -> Result<SubscriptionNumber, JournalError> {
        self.command(Command::LastSubscription).await
    }

    async fn assign(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.command(Command::Assign(wanted)).await
    }

    async fn note(
        &self,
        tenant: Name,
        source: Name,
        changes: Vec<PositionChange>,
    ) -> Result<(), JournalError> {
        self.command(Command::Note {
            tenant,
            source,
            changes,
        })
        .await
    }

    async fn begin_replay_as(
        &self,
        id: ReplayId,
        replay: NewReplay,
    ) -> Result<Replay, JournalError> {
        self.command(Command::BeginReplayAs(id, replay)).await
    }
}
