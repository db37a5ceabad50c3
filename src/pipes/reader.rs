//! What is to be seen of a journal with pipes laid over it.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{Clock, DeliveryId, Sequence, SubscriptionNumber};

use super::queues::PipeQueues;
use pointsman_journal::{
    BlockedPage, DeadLetter, DeadSelection, EndedPage, EndedSelection, EventPage, EventsFrom,
    HistoryPlace, JournalError, Lookup, Pending, Reader, RememberedKey, Replay, ShardNumber,
    StoredEvent, SubscriptionStatus, TaskLife, Totals,
};

/// Both as one: counters are sums, lists follow one another.
#[derive(Debug)]
pub(super) struct PipesReader {
    pub(super) inner: Arc<dyn Reader>,
    pub(super) queues: Arc<Mutex<PipeQueues>>,
    /// The one that times in memory are of.
    pub(super) clock: Arc<dyn Clock>,
}

impl PipesReader {
    /// A delivery in memory with the time of day.
    fn shown(&self, one: Pending) -> Pending {
        Pending {
            due: self.clock.shown(one.due),
            since: self.clock.shown(one.since),
            ..one
        }
    }
}

#[async_trait]
impl Reader for PipesReader {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        let mut statuses = self.inner.subscriptions().await?;
        let queues = self.queues.lock();
        for status in &mut statuses {
            if let Some((counts, oldest)) = queues.status(status.number) {
                status.counts += &counts;
                let oldest = oldest.map(|oldest| self.clock.shown(oldest));
                status.oldest_pending = status.oldest_pending.into_iter().chain(oldest).min();
            }
        }
        Ok(statuses)
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        self.inner.dead(selection, after, limit).await
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        let mut pending = self.inner.pending(subscription, after, limit).await?;
        // Sequences in memory lie behind all that the journal will ever give out.
        let room = limit.saturating_sub(pending.len());
        let here = self.queues.lock().pending(subscription, after, room);
        pending.extend(here.into_iter().map(|one| self.shown(one)));
        Ok(pending)
    }

    /// Nothing is in memory of an event that the journal has.
    async fn pending_of(
        &self,
        event: Sequence,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.inner.pending_of(event, limit).await
    }

    /// Of what is only in memory nothing is told: nor could it be skipped.
    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError> {
        self.inner.blocked(subscription, after, limit).await
    }

    /// Of what is only in memory no history is kept.
    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError> {
        let after = Sequence(id.sequence.0.saturating_sub(1));
        let here = self.queues.lock().pending(id.subscription, Some(after), 1);
        let Some(one) = here.into_iter().find(|one| one.id == id) else {
            return self.inner.life(id).await;
        };
        let pending = self.shown(one);
        Ok(Some(TaskLife {
            state: pending.state(self.clock.shown(self.clock.now())),
            pending: Some(pending),
            dead: None,
            history: Vec::new(),
        }))
    }

    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError> {
        self.inner.ended(selection, after, limit).await
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        let here = self.queues.lock().event(sequence);
        match here {
            Some(event) => Ok(Some(StoredEvent {
                at: self.clock.shown(event.at),
                ..event
            })),
            None => self.inner.event(sequence).await,
        }
    }

    fn incomplete(&self) -> Vec<ShardNumber> {
        self.inner.incomplete()
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        self.inner.last_event().await
    }

    /// What is only in memory is not retained.
    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        self.inner.events(from, limit, bytes_max).await
    }

    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError> {
        self.inner.keys(lookup).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        self.inner.replays().await
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        self.inner.totals().await
    }
}
