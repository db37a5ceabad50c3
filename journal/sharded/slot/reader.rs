//! What is to be seen of a shard, wherever it is.

use async_trait::async_trait;
use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber};

use super::Slot;
use crate::{
    BlockedPage, DeadLetter, DeadSelection, EndedPage, EndedSelection, EventPage, EventsFrom,
    HistoryPlace, JournalError, Lookup, Pending, Reader, RememberedKey, Replay, StoredEvent,
    SubscriptionStatus, TaskLife, Totals,
};

#[async_trait]
impl Reader for Slot {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        self.read(async |reader| reader.subscriptions().await).await
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        self.read(async |reader| reader.dead(selection, after, limit).await)
            .await
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.read(async |reader| reader.pending(subscription, after, limit).await)
            .await
    }

    async fn pending_of(
        &self,
        event: Sequence,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.read(async |reader| reader.pending_of(event, limit).await)
            .await
    }

    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError> {
        self.read(async |reader| reader.blocked(subscription, after, limit).await)
            .await
    }

    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError> {
        self.read(async |reader| reader.life(id).await).await
    }

    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError> {
        self.read(async |reader| reader.ended(selection, after, limit).await)
            .await
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        self.read(async |reader| reader.event(sequence).await).await
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        self.read(async |reader| reader.last_event().await).await
    }

    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        self.read(async |reader| reader.events(from, limit, bytes_max).await)
            .await
    }

    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError> {
        self.read(async |reader| reader.keys(lookup).await).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        self.read(async |reader| reader.replays().await).await
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        self.read(async |reader| reader.totals().await).await
    }
}
