//! A shard that another node owns, as an onlooker sees it.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_journal::{
    BlockedPage, DeadLetter, DeadSelection, EndedPage, EndedSelection, EventPage, EventsFrom,
    HistoryPlace, JournalError, Lookup, Pending, Reader, RememberedKey, Replay, StoredEvent,
    SubscriptionStatus, TaskLife, Totals,
};
use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber};
use serde::de::DeserializeOwned;

use super::Line;
use crate::call::Call;
use crate::read::Read;

/// Reads a shard that another node owns.
#[derive(Debug)]
pub(super) struct RemoteReader {
    line: Arc<Line>,
}

impl RemoteReader {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self { line }
    }

    async fn read<T: DeserializeOwned>(&self, read: Read) -> Result<T, JournalError> {
        self.line.ask(&Call::Read(read), 0).await
    }
}

#[async_trait]
impl Reader for RemoteReader {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        self.read(Read::Subscriptions).await
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        self.read(Read::Dead {
            selection: selection.clone(),
            after,
            limit,
        })
        .await
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.read(Read::Pending {
            subscription,
            after,
            limit,
        })
        .await
    }

    async fn pending_of(
        &self,
        event: Sequence,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        self.read(Read::PendingOf { event, limit }).await
    }

    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError> {
        self.read(Read::Blocked {
            subscription,
            after,
            limit,
        })
        .await
    }

    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError> {
        self.read(Read::Life(id)).await
    }

    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError> {
        self.read(Read::Ended {
            selection: selection.clone(),
            after,
            limit,
        })
        .await
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        self.read(Read::Event(sequence)).await
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        self.read(Read::LastEvent).await
    }

    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        self.read(Read::Events {
            from,
            limit,
            bytes_max,
        })
        .await
    }

    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError> {
        self.read(Read::Keys(lookup)).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        self.read(Read::Replays).await
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        self.read(Read::Totals).await
    }
}
