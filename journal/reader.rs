//! The journal as an onlooker sees it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{DeliveryId, Event, Name, Sequence, SubscriptionNumber, Timestamp};

use crate::{
    Counts, DeadLetter, DeadSelection, EndedPage, EndedSelection, HistoryPlace, JournalError,
    LastOutcome, Lookup, Priority, RememberedKey, Replay, ShardNumber, SubscriptionStatus,
    TaskLife, TaskState,
};

/// The journal as an onlooker sees it: also from another process, while the bus runs.
#[async_trait]
pub trait Reader: fmt::Debug + Send + Sync {
    /// Every subscription, detached ones included, by number. `in_flight` is known only inside the
    /// process that runs the bus.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError>;

    /// Dead letters, oldest first, from after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError>;

    /// Pending deliveries of a subscription in the order of their sequences, from after `after`, at
    /// most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError>;

    /// Pending deliveries of one event, in the order of their subscriptions, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn pending_of(&self, event: Sequence, limit: usize)
    -> Result<Vec<Pending>, JournalError>;

    /// Order keys of a subscription of which the first delivery was tried, or is held back, and now
    /// waits, so that all others of the key wait for it: behind `after` in an order that does not
    /// change, at most `limit`. One call looks at a bounded number of rows.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn blocked(
        &self,
        subscription: SubscriptionNumber,
        after: Option<u64>,
        limit: usize,
    ) -> Result<BlockedPage, JournalError>;

    /// Everything that is known of one delivery; none where nothing is, or is any more.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn life(&self, id: DeliveryId) -> Result<Option<TaskLife>, JournalError>;

    /// Deliveries that have ended and of which the history tells, behind `after` in the order that
    /// the selection asks for, at most `limit`. Each run is told of once. Page by page none is
    /// missed and none shown twice, whatever ends meanwhile. One call looks at a bounded number of
    /// entries.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn ended(
        &self,
        selection: &EndedSelection,
        after: Option<HistoryPlace>,
        limit: usize,
    ) -> Result<EndedPage, JournalError>;

    /// A retained event.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::Damaged`] where its record is.
    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError>;

    /// The last retained event, whoever's it is. Damaged ones are passed over.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError>;

    /// Retained events in the order of their sequences, whoever's they are: at most `limit`, and no
    /// more than `bytes_max` in all, but at least one where there is one. Damaged ones are passed
    /// over and counted.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError>;

    /// Keys that are remembered, as far as their rows are still there.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn keys(&self, lookup: Lookup) -> Result<Vec<RememberedKey>, JournalError>;

    /// The replays that are running, and the last that have ended, by the time of their beginning.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn replays(&self) -> Result<Vec<Replay>, JournalError>;

    /// Totals of the whole store.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn totals(&self) -> Result<Totals, JournalError>;

    /// The shards that could not be asked since this reader was made: what was shown lacks what is
    /// in them. Always none of a journal that stands alone.
    fn incomplete(&self) -> Vec<ShardNumber> {
        Vec::new()
    }
}

/// A pending delivery.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    /// Which.
    pub id: DeliveryId,
    /// Not before.
    pub due: Timestamp,
    /// When its run began.
    pub since: Timestamp,
    /// Tries made.
    pub attempts: u32,
    /// What the last attempt came to.
    pub last: Option<LastOutcome>,
    /// Whether it is leased; known only inside the process that runs the bus.
    pub in_flight: bool,
    /// Whether it is held back.
    pub suspended: bool,
    /// Its order key, in the journal's own form.
    pub order_key: Option<u64>,
    /// How urgent it is.
    pub priority: Priority,
}

impl Pending {
    /// Whether it was tried, or is held back, and waits: then so does all that has its order key.
    #[must_use]
    pub(crate) fn blocks(&self) -> bool {
        !self.in_flight && (self.suspended || self.attempts > 0)
    }

    /// Its state at a time of day.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> TaskState {
        if self.in_flight {
            TaskState::Running
        } else {
            TaskState::waiting(self.suspended, self.attempts, self.due, now)
        }
    }
}

/// An order key that is blocked.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BlockedKey {
    /// The delivery that the others of the key wait for.
    pub head: Pending,
    /// How many wait behind it; [`BEHIND_MAX`] stands for so many or more.
    pub behind: u64,
}

/// Of what waits behind the head of an order key no more than this is counted.
pub const BEHIND_MAX: u64 = 10_000;

/// Some of the order keys of a subscription that are blocked.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BlockedPage {
    /// The keys, in the order of their signed numbers.
    pub keys: Vec<BlockedKey>,
    /// Behind which key, in the journal's own form, to go on; none at the end.
    pub next: Option<u64>,
    /// How many rows were looked at.
    pub looked_at: u64,
}

/// A retained event.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StoredEvent {
    /// Its place.
    pub sequence: Sequence,
    /// Whose.
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// When it was appended.
    pub at: Timestamp,
    /// Until when it is kept, where it was stored with a [`Retention`](crate::Retention) of its
    /// own; longer as long as something refers to it.
    pub kept_until: Option<Timestamp>,
    /// The event.
    #[serde(with = "crate::encoding::event::shared")]
    pub event: Arc<Event>,
}

impl StoredEvent {
    /// Changes every time of it.
    pub(crate) fn show_by(&mut self, show: impl Fn(&mut Timestamp)) {
        show(&mut self.at);
        self.kept_until.iter_mut().for_each(show);
    }
}

/// Where a reading of retained events begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum EventsFrom {
    /// With the first that was appended at this time or later. Where the clock was once set back,
    /// with one of those.
    Time(Timestamp),
    /// Behind this one.
    After(Sequence),
    /// Behind this one; of a journal that is several, in those behind its own with the first that
    /// was appended at this time or later.
    AfterSince(Sequence, Timestamp),
}

/// Some of the retained events.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EventPage {
    /// The events.
    pub events: Vec<StoredEvent>,
    /// How many were passed over because their records are damaged.
    pub damaged: u64,
    /// Behind which event to go on; none at the end.
    pub next: Option<Sequence>,
}

/// Totals of a store.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct Totals {
    /// Events retained.
    pub events: u64,
    /// Dead letters, rejects included.
    pub dead: u64,
    /// Rejects among them.
    pub rejects: u64,
    /// Damaged records found and set aside since the store's creation.
    pub quarantined: u64,
    /// Commits that were found lost, by the number of the last one that is written beside the
    /// store.
    pub lost_commits: u64,
    /// What the store takes on disk, write-ahead log included.
    pub bytes: u64,
    /// What it may take.
    pub bytes_max: u64,
    /// Keys that deduplication remembers: those that sources and rules declare, and ids of tasks.
    #[serde(default)]
    pub keys: u64,
    /// The last sequence given out.
    pub last_sequence: u64,
    /// What the subscriptions had counted that were there once and are dropped: with the counters
    /// of those that are there, the sum never goes back.
    pub dropped: Counts,
}
