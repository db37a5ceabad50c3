//! Where events, deliveries and cursors live.
//!
//! The journal knows records and deliveries. It does not know connectors, rules, HTTP, or what an
//! outcome's class means: it is told what to keep, who waits for it, and what became of that.
//!
//! # Invariants
//!
//! Every implementation keeps these, and the one conformance suite (`suite`) holds each of them to
//! it:
//!
//! 1. What a call has answered with `Ok` is durable. What it has answered with an error has not
//!    happened, or, after [`JournalError::Io`], may have: the caller tells nobody that it did.
//! 2. An [`Append`] is all or nothing: its events, their deliveries, its rejects, its cursor and
//!    its rows of the source's position.
//! 3. Ids of deliveries are never used again, whatever becomes of the store. Sequences and
//!    subscription numbers grow and are never used again, also after everything has been deleted.
//! 4. A delivery is pending, in flight, or ended, and ends once per run. In flight means leased and
//!    not yet durably settled. A lease that runs out makes it pending again, and the token of that
//!    lease then settles nothing.
//! 5. Per subscription, at every commit: created = delivered + dead + redriven + purged +
//!    cancelled + quarantined + pending. Created counts matches, replays and redrives; pending
//!    includes what is in flight.
//! 6. Within one subscription, deliveries with the same order key are leased one at a time, in the
//!    order of their sequences; a later one waits until the earlier one has ended. Others are
//!    leased in the order in which they fall due.
//! 7. An event is kept as long as a delivery or a dead letter refers to it, and for the retention
//!    time in any case while there is room: its own, where it was stored with one, else the
//!    journal's.
//! 8. A damaged record is set aside (quarantined), counted and reported, and everything else is
//!    still read.
//!
//! Where a journal is made of shards, 2 and 6 hold in each of them: see [`sharded`].

#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "a test may tell a long story")
)]

mod append;
mod dead_letter;
pub mod disk;
pub mod encoding;
mod history;
mod key;
mod lease;
pub mod memory;
mod numbers;
mod priority;
pub mod queue;
mod quota;
mod reader;
mod replay;
mod shard;
pub mod sharded;
mod state;
pub mod steady;
mod subscription;
#[cfg(any(test, feature = "test-util"))]
pub mod suite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Event, JournalId, Name, PositionRow, SubscriptionNumber,
};

pub use append::{
    Append, Appended, Entry, MadeDelivery, NewDead, NewDelivery, Retention, Terms, Watch,
};
pub use dead_letter::{DeadLetter, DeadReason, DeadSelection};
pub use history::{
    ANSWER_BYTES_MAX, AttemptEntry, AttemptMade, ENTRIES_OF_ONE_MAX, EndedPage, EndedSelection,
    HistoryEntry, HistoryPlace, InvalidHistoryPlace, Record, TaskLife, WaitReason,
};
pub use key::{Guards, Identity, Key, KnownKeys, Lookup, RememberedKey};
pub use lease::{
    Batching, Cut, Ending, FollowUp, Gathering, Grant, LastOutcome, LeaseOwner, LeaseToken, Leased,
    Leases, SettleAnswer, Settlement,
};
pub use priority::{Due, Priority};
pub use quota::{BacklogQuota, Bounded, QuotaOwner};
pub use reader::{
    BEHIND_MAX, BlockedKey, BlockedPage, EventPage, EventsFrom, Pending, Reader, StoredEvent,
    Totals,
};
pub use replay::{
    AfterStep, ENDED_REPLAYS_MAX, InvalidReplayId, NewReplay, REPLAY_PENDING_MAX, Redrive,
    Redriven, Replay, ReplayId, ReplayKind, ReplayState, ReplayStep, Replayed, Start,
};
pub use shard::{Numbered, Shard, ShardNumber};
pub use state::{FIRST_STATES, Happening, IllegalTransition, InvalidTaskState, TaskState};
pub use subscription::{
    Activity, Backlog, Counts, Role, Subscription, SubscriptionIdentity, SubscriptionStatus,
};

/// Deliveries that one append may make; a larger batch is cut by the intake, never inside an event.
pub const DELIVERIES_PER_APPEND_MAX: usize = 10_000;

/// A map by numbers that the journal itself gives out: nobody can choose them so that they collide,
/// and a hash against that would cost several times what the look-up does.
type NumberMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// The journal, as the intake, the dispatcher and the admin API see it.
///
/// Futures may be dropped at any time: an operation that has been handed over still happens, whole.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// The journal's identity, given at its creation.
    fn id(&self) -> JournalId;

    /// The journal's own time, by which leased deliveries are due and old: it does not jump when
    /// the time of day is set. What a [`Reader`] shows is the time of day.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Stores events, deliveries, rejects, a cursor and changes of the source's position, all or
    /// nothing, and tells per entry what became of it. Appends that wait together share one sync.
    ///
    /// # Errors
    /// [`JournalError::Full`], [`JournalError::DiskFull`], [`JournalError::Backlog`] and
    /// [`JournalError::Quota`] where there is no room: nothing of this append is stored and a later
    /// one may succeed.
    /// [`JournalError::NotFound`] where a delivery is for a subscription that was never made.
    /// [`JournalError::Io`] where storing failed.
    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError>;

    /// Leases due deliveries: at most `count` of each grant and no more event bytes than its
    /// `bytes_max`, and in all no more event bytes than `bytes_max`. A grant ends at the first
    /// delivery that does not fit, which the answer tells; the next grant goes on with what is
    /// left. A grant with [`Batching`] ends as well where its next call waits for more deliveries.
    /// Answers at once, also with nothing.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError>;

    /// Ends or puts back leased deliveries, and appends what follows from them in the same
    /// transaction. Answers each settlement, in their order.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::DiskFull`] where the disk has no room for any of them.
    /// Never [`JournalError::Full`]: settling has room kept for it.
    async fn settle(&self, settlements: Vec<Settlement>)
    -> Result<Vec<SettleAnswer>, JournalError>;

    /// Waits until some subscription may have something to lease that it had not when this was last
    /// called, and tells which: a delivery was appended, fell due, was freed by an earlier one of
    /// its order key, or came back. There is one caller.
    async fn due(&self) -> Vec<SubscriptionNumber>;

    /// Makes the wanted subscriptions the attached ones: finds or creates each, and detaches every
    /// other. A detached subscription keeps its deliveries, dead letters and number until its
    /// identity is wanted again. Once it holds nothing it is dropped with its counters; an append
    /// that still comes for it brings it back. Numbers come back in the order wanted. What was
    /// dropped gets a new one, but in a journal of several shards, where it keeps its own.
    ///
    /// It may take many transactions, between which others happen; nothing is detached before
    /// everything wanted is attached. Where it fails or is dropped part of it has happened, and the
    /// next call makes it whole. There is one caller at a time.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError>;

    /// Bounds what waits in all subscriptions of tenants and rules, in the place of all such bounds
    /// before. Nothing that waits is touched. The bounds are not stored: whoever opens a journal
    /// says them, and again after each [`subscribe`](Journal::subscribe).
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError>;

    /// Suspends, resumes, or marks as gone. Of a subscription that is not active nothing is leased.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::NotFound`].
    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError>;

    /// The cursor that a source has stored last.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::Damaged`] where it is damaged: it is being set aside,
    /// and later there is none.
    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError>;

    /// Returns rows of a source's position in the order of their keys: those behind `after`, or
    /// from the first, at most `limit`. Fewer than `limit` are the last. A source reads them while
    /// nothing of it is being appended.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::Damaged`] where one of the rows is damaged: it is
    /// being set aside, and later the others are read without it.
    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError>;

    /// Ends pending deliveries without an attempt; those in flight are left alone. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError>;

    /// Makes dead letters of waiting deliveries ([`DeadReason::Skipped`]), so that what waits
    /// behind them goes on; those in flight are left alone. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError>;

    /// Holds waiting deliveries back: none of them is leased until it is resumed or ended. It keeps
    /// its due time and its age, and holds up later ones of its order key. Those in flight, and
    /// those that are held back already, are left alone. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError>;

    /// Lets deliveries go on that are held back. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError>;

    /// Makes waiting deliveries due now, whatever they wait for but an earlier one of their order
    /// key; those that are held back stay so, and those in flight are left alone. One that was put
    /// off is as old as it is: its run begins now. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError>;

    /// Ends every pending delivery of a subscription that was there when this was called, as
    /// [`Journal::cancel`] does. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::NotFound`].
    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError>;

    /// Moves every pending delivery of a subscription that was there when this was called to
    /// another one of the same tenant, where it is a new run with no attempts used; one that was
    /// delayed still waits. Those in flight are left alone. It counts as cancelled in the one and
    /// created in the other, and is never refused for a full backlog. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::NotFound`] where either is not there, or the other is
    /// another tenant's.
    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError>;

    /// Makes a new run of each selected dead letter: due now, with a fresh age and no attempts
    /// used. Tells how many. Rejects of sources have nothing to run and are passed over. One that
    /// was [edited](Journal::edit_dead) is a run of a new event, which no rule sees.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError>;

    /// Gives a dead letter the event that its redrive sends in the place of its own, or takes that
    /// back. The letter's own event stays as it is. With an event even a reject of a source can be
    /// redriven, to a subscription that is named.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::NotFound`] where there is no such letter;
    /// [`JournalError::Full`] and [`JournalError::DiskFull`] where there is no room for the event.
    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError>;

    /// As [`Journal::redrive`], some at a time, and for another subscription where one is named:
    /// there it counts as created, and in its own as redriven.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::NotFound`] where the other subscription or the replay
    /// is not there.
    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError>;

    /// Keeps a replay, which is running from now on until it is [ended](Journal::end_replay) or
    /// ends with a [step](Journal::replay). Of those that have ended the last
    /// [`ENDED_REPLAYS_MAX`] are kept.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::NotFound`] where its subscription is not there.
    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError>;

    /// Makes deliveries of retained events for a replay's subscription, as if they had just
    /// matched, and keeps how far it has come, all or nothing. An event of which the subscription
    /// has a delivery pending or dead already, or that is not retained, is passed over; where the
    /// subscription's backlog has no room for more the step ends before the first that does not
    /// fit, as [`Replay::after`] then tells. Whoever drives it goes on from there, also where that
    /// is another place than it has read to: then nothing is told as made, and no room.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::NotFound`] where there is no such replay.
    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError>;

    /// Ends a replay that is running: what it has made stays. One that began with its subscription
    /// passes over what is from before that and then ends. Returns it as it stands.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::NotFound`] where there is no such replay.
    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError>;

    /// Deletes the selected dead letters. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError>;

    /// What is there to be seen.
    fn reader(&self) -> Arc<dyn Reader>;

    /// The same, of what is on this machine alone.
    fn reader_here(&self) -> Arc<dyn Reader> {
        self.reader()
    }

    /// Why nothing is acknowledged at the moment; none where all is well.
    fn trouble(&self) -> Option<JournalError>;

    /// Ends the journal: waits for what has been handed over, then closes the store. Calls after it
    /// fail with [`JournalError::Closed`].
    async fn close(&self);
}

/// Why the journal did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum JournalError {
    /// `store.max_size` is reached.
    #[error("the store is full; {0}")]
    Full(String),
    /// The disk is.
    #[error("the disk is full; make room on it")]
    DiskFull,
    /// A subscription's own backlog limit is reached, and it stops what matches it.
    #[error("the backlog of subscription {} is full", .0.0)]
    Backlog(SubscriptionNumber),
    /// What may wait for a tenant or a rule is reached, and that stops what is for this
    /// subscription.
    #[error("the backlog of {1} is full: its quota is used up")]
    Quota(SubscriptionNumber, QuotaOwner),
    /// Reading or writing failed. The store is being opened anew.
    #[error("the store failed: {0}")]
    Io(String),
    /// Of several shards the one that this is for has no owner that can be reached just now. Nothing
    /// has happened.
    #[error("{0}")]
    Away(String),
    /// A record is damaged; it has been set aside.
    #[error("the record of {0} is damaged and has been set aside")]
    Damaged(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    NotFound(String),
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// The subscription that has no room, where its backlog or its quota is full.
    #[must_use]
    pub fn full_subscription(&self) -> Option<SubscriptionNumber> {
        match self {
            Self::Backlog(number) | Self::Quota(number, _) => Some(*number),
            _ => None,
        }
    }
}
