//! What an onlooker asks a shard for.

use bytes::Bytes;
use pointsman_journal::{DeadSelection, EndedSelection, EventsFrom, HistoryPlace, Lookup, Reader};
use pointsman_schemas::{DeliveryId, Sequence, SubscriptionNumber};
use serde::{Deserialize, Serialize};

use crate::message::answer;

/// A function of [`Reader`] with what it is called with; the answer is what it returns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Read {
    Subscriptions,
    Dead {
        selection: DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    },
    Pending {
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    },
    Blocked {
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    },
    Life(DeliveryId),
    Ended {
        selection: EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    },
    Event(Sequence),
    LastEvent,
    Events {
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    },
    Keys(Lookup),
    Replays,
    Totals,
    PendingOf {
        event: Sequence,
        limit: usize,
    },
}

impl Read {
    /// Reads it, and writes the answer.
    pub(crate) async fn carry_out(self, reader: &dyn Reader) -> Bytes {
        match self {
            Self::Subscriptions => answer(reader.subscriptions().await),
            Self::Dead {
                selection,
                after,
                limit,
            } => answer(reader.dead(&selection, after, limit).await),
            Self::Pending {
                subscription,
                after,
                limit,
            } => answer(reader.pending(subscription, after, limit).await),
            Self::Blocked {
                subscription,
                after,
                limit,
            } => answer(reader.blocked(subscription, after, limit).await),
            Self::Life(id) => answer(reader.life(id).await),
            Self::Ended {
                selection,
                after,
                limit,
            } => answer(reader.ended(&selection, after, limit).await),
            Self::Event(sequence) => answer(reader.event(sequence).await),
            Self::LastEvent => answer(reader.last_event().await),
            Self::Events {
                from,
                limit,
                bytes_max,
            } => answer(reader.events(from, limit, bytes_max).await),
            Self::Keys(lookup) => answer(reader.keys(lookup).await),
            Self::Replays => answer(reader.replays().await),
            Self::Totals => answer(reader.totals().await),
            Self::PendingOf { event, limit } => answer(reader.pending_of(event, limit).await),
        }
    }
}
