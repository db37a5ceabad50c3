//! Where events, deliveries and cursors live.
//!
//! The journal knows records and deliveries. It does not know connectors, rules, HTTP, or what an outcome's class means: it is told
//! what to keep, who waits for it, and what became of that.
//!
//! # Invariants
//!
//! Every implementation keeps these, and the one conformance suite (`suite`) holds each of them to it:
//!
//! 1. What a call has answered with `Ok` is durable. What it has answered with an error has not happened, or, after
//!    [`JournalError::Io`], may have: the caller tells nobody that it did.
//! 2. An [`Append`] is all or nothing: its events, their deliveries, its rejects and its cursor.
//! 3. Ids of deliveries are never used again, whatever becomes of the store. Sequences and subscription numbers grow and are never used again, also after everything has been deleted.
//! 4. A delivery is pending, in flight, or ended, and ends once per run. In flight means leased and not yet durably settled. A lease that
//!    runs out makes it pending again, and the token of that lease then settles nothing.
//! 5. Per subscription, at every commit: created = delivered + dead + redriven + purged + cancelled + quarantined + pending. Created counts
//!    matches, replays and redrives; pending includes what is in flight.
//! 6. Within one subscription, deliveries with the same order key are leased one at a time, in the order of their sequences; a later one
//!    waits until the earlier one has ended. Others are leased in the order in which they fall due.
//! 7. An event is kept as long as a delivery or a dead letter refers to it, and for the retention time in any case while there is room.
//! 8. A damaged record is set aside (quarantined), counted and reported, and everything else is still read.

pub mod disk;
pub mod memory;
pub mod steady;
#[cfg(any(test, feature = "test-util"))]
pub mod suite;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::{Class, Clock, Cursor, DeliveryId, Event, JournalId, Name, Reject, Sequence, SubscriptionNumber, Timestamp};
use smallvec::SmallVec;

/// Deliveries that one append may make; a larger batch is cut by the intake, never inside an event.
pub const DELIVERIES_PER_APPEND_MAX: usize = 10_000;

/// The journal, as the intake, the dispatcher and the admin API see it.
///
/// Futures may be dropped at any time: an operation that has been handed over still happens, whole.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// The journal's identity, given at its creation.
    fn id(&self) -> JournalId;

    /// The journal's own time, by which leased deliveries are due and old: it does not jump when the time of day is set. What a [`Reader`]
    /// shows is the time of day.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Stores events, deliveries, rejects and a cursor, all or nothing, and tells per entry what became of it. Appends that wait
    /// together share one sync.
    ///
    /// # Errors
    /// [`JournalError::Full`], [`JournalError::DiskFull`] and [`JournalError::Backlog`] where there is no room: nothing of this append is
    /// stored and a later one may succeed. [`JournalError::NotFound`] where a delivery is for a subscription that was never made.
    /// [`JournalError::Io`] where storing failed.
    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError>;

    /// Leases due deliveries: at most `count` of each grant and no more event bytes than its `bytes_max`, and in all no more event bytes
    /// than `bytes_max`. A grant ends at the first delivery that does not fit, which the answer tells; the next grant goes on with what is left.
    /// Answers at once, also with nothing.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError>;

    /// Ends or puts back leased deliveries, and appends what follows from them in the same transaction. Tells per settlement whether
    /// its token still held; where it did not, nothing of that settlement has happened.
    ///
    /// # Errors
    /// [`JournalError::Io`]. Never [`JournalError::Full`]: settling has room kept for it.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, JournalError>;

    /// Waits until some subscription may have something to lease that it had not when this was last called, and tells which: a delivery
    /// was appended, fell due, was freed by an earlier one of its order key, or came back. There is one caller.
    async fn due(&self) -> Vec<SubscriptionNumber>;

    /// Makes the wanted subscriptions the attached ones: finds or creates each, and detaches every other. A detached subscription keeps
    /// its deliveries, dead letters and number until its identity is wanted again. Once it holds nothing it is dropped with its counters;
    /// an append that still comes for it brings it back. Numbers come back in the order wanted.
    ///
    /// It may take many transactions, between which others happen; nothing is detached before everything wanted is attached. Where it fails or is
    /// dropped part of it has happened, and the next call makes it whole. There is one caller at a time.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn subscribe(&self, wanted: Vec<Subscription>) -> Result<Vec<SubscriptionNumber>, JournalError>;

    /// Suspends, resumes, or marks as gone. Of a subscription that is not active nothing is leased.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::NotFound`].
    async fn set_activity(&self, subscription: SubscriptionNumber, activity: Activity) -> Result<(), JournalError>;

    /// The cursor that a source has stored last.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError>;

    /// Ends pending deliveries without an attempt; those in flight are left alone. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError>;

    /// Ends every pending delivery of a subscription that was there when this was called, as [`Journal::cancel`] does. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::NotFound`].
    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError>;

    /// Moves every pending delivery of a subscription that was there when this was called to another one of the same tenant, where it is a new
    /// run with no attempts used; one that was delayed still waits. Those in flight are left alone. It counts as cancelled in the one and created in the
    /// other, and is never refused for a full backlog. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::NotFound`] where either is not there, or the other is another tenant's.
    async fn move_all(&self, from: SubscriptionNumber, to: SubscriptionNumber) -> Result<u64, JournalError>;

    /// Makes a new run of each selected dead letter: due now, with a fresh age and no attempts used. Tells how many.
    /// Rejects of sources have nothing to run and are passed over.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError>;

    /// Makes a delivery of each retained event of the range for one subscription, as if it had just matched; events of which the subscription has a
    /// delivery pending or dead are passed over. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::NotFound`], [`JournalError::Full`].
    async fn replay(&self, subscription: SubscriptionNumber, events: std::ops::RangeInclusive<Sequence>) -> Result<u64, JournalError>;

    /// Deletes the selected dead letters. Tells how many.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError>;

    /// What is there to be seen.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Why nothing is acknowledged at the moment; none where all is well.
    fn trouble(&self) -> Option<JournalError>;

    /// Ends the journal: waits for what has been handed over, then closes the store. Calls after it fail with [`JournalError::Closed`].
    async fn close(&self);
}

/// The journal as an onlooker sees it: also from another process, while the bus runs.
#[async_trait]
pub trait Reader: fmt::Debug + Send + Sync {
    /// Every subscription, detached ones included, by number. `in_flight` is known only inside the process that runs the bus.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError>;

    /// Dead letters, oldest first, from after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn dead(&self, selection: &DeadSelection, after: Option<DeliveryId>, limit: usize) -> Result<Vec<DeadLetter>, JournalError>;

    /// Pending deliveries of a subscription in the order of their sequences, from after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn pending(&self, subscription: SubscriptionNumber, after: Option<Sequence>, limit: usize) -> Result<Vec<Pending>, JournalError>;

    /// A retained event.
    ///
    /// # Errors
    /// [`JournalError::Io`]; [`JournalError::Damaged`] where its record is.
    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError>;

    /// Retained events in the order of their sequences, whoever's they are: at most `limit`, and no more than `bytes_max` in all, but at least
    /// one where there is one. Damaged ones are passed over and counted.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn events(&self, from: EventsFrom, limit: usize, bytes_max: usize) -> Result<EventPage, JournalError>;

    /// Totals of the whole store.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    async fn totals(&self) -> Result<Totals, JournalError>;
}

/// Why the journal did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// Reading or writing failed. The store is being opened anew.
    #[error("the store failed: {0}")]
    Io(String),
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

/// What a source hands over at once, matched.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose; every entry, reject and cursor of an append has one tenant.
    pub tenant: Name,
    /// The source's name, `ingress` or `replies`.
    pub origin: Name,
    /// The events.
    pub entries: Vec<Entry>,
    /// What could not be read: kept as dead letters of the source.
    pub rejects: Vec<Reject>,
    /// How far the source has been read with these; replaces its stored cursor.
    pub cursor: Option<Cursor>,
}

/// One event with who waits for it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event.
    pub event: Arc<Event>,
    /// Who waits for it; empty where no rule took it. Of two for one subscription the first counts.
    pub deliveries: SmallVec<[NewDelivery; 2]>,
    /// Where set, an event with the same tenant, origin, `source` and `id` that was stored less than this long ago makes this one a duplicate.
    /// Only events that were stored with this set are remembered, for as long as it said then.
    pub deduplicate: Option<Duration>,
    /// A delivery of it that has ended already, without having been stored before. Where `deliveries` has one for the same subscription,
    /// that one counts.
    pub dead: Option<NewDead>,
}

/// A dead letter of a delivery that was never pending here. It counts as created and dead at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDead {
    /// For whom it was.
    pub subscription: SubscriptionNumber,
    /// Hash of the value that `order_by` found: a redrive of it is ordered again.
    pub order_key: Option<u64>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// Tries made.
    pub attempts: u32,
    /// What the last attempt came to.
    pub last: Option<LastOutcome>,
}

/// A delivery to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// For whom.
    pub subscription: SubscriptionNumber,
    /// Hash of the value that `order_by` found; none where it is unordered.
    pub order_key: Option<u64>,
    /// When it falls due by [`Journal::clock`]; none for at once.
    pub due: Option<Timestamp>,
}

impl NewDelivery {
    /// An unordered delivery that is due at once.
    #[must_use]
    pub fn now(subscription: SubscriptionNumber) -> Self {
        Self { subscription, order_key: None, due: None }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is stored, under this sequence.
    Stored(Sequence),
    /// It had been stored before, under this sequence; nothing was added.
    Duplicate(Sequence),
}

/// The right to lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Of which subscription.
    pub subscription: SubscriptionNumber,
    /// How many at most.
    pub count: usize,
    /// How long the leases hold; longer than the attempt's timeout.
    pub lease: Duration,
    /// How many bytes the events may have together, at most.
    pub bytes_max: usize,
}

/// What a lease call has brought.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// The deliveries, grant by grant.
    pub leased: Vec<Leased>,
    /// The grants that ended at a limit of bytes, in their order.
    pub cut: Vec<Cut>,
}

/// A grant ended because the next delivery's event did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Whose.
    pub subscription: SubscriptionNumber,
    /// The size of that event.
    pub event_bytes: usize,
}

/// The key to one lease. Never used again within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub u64);

/// A leased delivery.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Settles it.
    pub token: LeaseToken,
    /// Which delivery.
    pub id: DeliveryId,
    /// Its event.
    pub event: Arc<Event>,
    /// Whose.
    pub tenant: Name,
    /// The source that the event came from.
    pub origin: Name,
    /// Tries made before.
    pub attempts: u32,
    /// Of those, the ones that used up one of the declared `attempts`.
    pub failures: u32,
    /// When its run began by [`Journal::clock`]: at the append or the redrive, plus any delay. The maximum age runs from here.
    pub since: Timestamp,
}

/// What becomes of a leased delivery.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Which lease.
    pub token: LeaseToken,
    /// What becomes of the delivery.
    pub ending: Ending,
    /// What follows from it, appended in the same transaction.
    pub follow_ups: Vec<FollowUp>,
}

/// How an attempt leaves its delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// Delivered.
    Delivered,
    /// To be tried again.
    Retry {
        /// Not before, by [`Journal::clock`].
        at: Timestamp,
        /// Whether the attempt used up one of the declared `attempts`.
        failure: bool,
        /// What the attempt came to.
        last: LastOutcome,
    },
    /// Not delivered; kept as a dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
        /// What the attempt came to; none where none was made in this lease: then no try is counted and what an earlier one came to is kept.
        last: Option<LastOutcome>,
    },
    /// Put back as if it had never been leased: no try is counted.
    Released,
}

/// What follows from a settlement.
#[derive(Clone, Debug)]
pub enum FollowUp {
    /// An event is stored, with its deliveries: a reply, a report.
    Append {
        /// The source that it counts as coming from.
        origin: Name,
        /// The event and who waits for it.
        entry: Entry,
    },
    /// Something that no event can be made of becomes a dead letter, as of a source: what a target answered.
    Reject {
        /// The source that it counts as coming from.
        origin: Name,
        /// What, and why.
        reject: Reject,
    },
    /// The settled delivery's own event goes to somebody else, each time as a run of its own. It is never refused for a full backlog.
    Original(NewDelivery),
}

/// What an attempt came to, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LastOutcome {
    /// When.
    pub at: Timestamp,
    /// The outcome's class.
    pub class: Class,
    /// The target's own code.
    pub code: Option<i32>,
    /// One line for a person.
    pub message: String,
    /// The beginning of what the target answered, as text.
    pub response: String,
}

/// Why a delivery is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadReason {
    /// The target said that it will never succeed.
    Rejected,
    /// All declared attempts failed.
    Exhausted,
    /// The maximum age has passed.
    Expired,
    /// The transform or a template in an address or header failed.
    Transform,
    /// It went round too often.
    Hops,
    /// Its subscription's backlog is full and is declared `when_full: dead`.
    Backlog,
    /// A source could not make an event of it.
    Unreadable,
}

impl DeadReason {
    /// The reason as it is shown and stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Exhausted => "exhausted",
            Self::Expired => "expired",
            Self::Transform => "transform",
            Self::Hops => "hops",
            Self::Backlog => "backlog",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The place of a subscription in its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// One of the rule's `to`.
    To,
    /// The rule's `on_success`.
    OnSuccess,
    /// The rule's `on_failure`.
    OnFailure,
}

impl Role {
    /// The role as it is shown and stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::OnSuccess => "on-success",
            Self::OnFailure => "on-failure",
        }
    }
}

/// The identity of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SubscriptionIdentity {
    /// Whose.
    pub tenant: Name,
    /// The rule.
    pub rule: Name,
    /// Which of the rule's destinations.
    pub role: Role,
    /// The target.
    pub target: Name,
}

/// A subscription as the rules in force want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which.
    pub identity: SubscriptionIdentity,
    /// A rule name that it had before: where that subscription is there and detached, it goes on under the new identity.
    pub renamed_from: Option<Name>,
    /// The bound on what waits in it.
    pub backlog: Option<Backlog>,
}

/// The bound on what waits in a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Pending deliveries at most.
    pub max: u64,
    /// True where more are dead-lettered at once; false where they stop what matches.
    pub dead_when_full: bool,
}

/// Whether a subscription's deliveries go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// They do.
    Active,
    /// Somebody has stopped them.
    Suspended,
    /// The target said that it is gone for good.
    Gone,
}

/// A subscription as it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SubscriptionStatus {
    /// Its number.
    pub number: SubscriptionNumber,
    /// Its identity.
    #[serde(flatten)]
    pub identity: SubscriptionIdentity,
    /// False where no rule in force wants it.
    pub attached: bool,
    /// Whether its deliveries go out.
    pub activity: Activity,
    /// Its counters.
    pub counts: Counts,
    /// When the oldest pending delivery's run began; of a long queue as far as its beginning tells.
    pub oldest_pending: Option<Timestamp>,
}

/// A subscription's counters since its creation, and its present numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Deliveries made, by matches, replays and redrives.
    pub created: u64,
    /// Ended with success.
    pub delivered: u64,
    /// Dead letters that lie there now.
    pub dead: u64,
    /// Dead letters that a new run was made of.
    pub redriven: u64,
    /// Dead letters that somebody deleted.
    pub purged: u64,
    /// Ended by somebody without an attempt.
    pub cancelled: u64,
    /// Set aside because a record was damaged.
    pub quarantined: u64,
    /// Waiting, in flight included.
    pub pending: u64,
    /// Of the pending: tried before and waiting to be tried again.
    pub retrying: u64,
    /// Of the pending: leased.
    pub in_flight: u64,
}

/// Which dead letters are meant: all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadSelection {
    /// These.
    pub ids: Option<Vec<DeliveryId>>,
    /// Of this tenant.
    pub tenant: Option<Name>,
    /// Of this rule.
    pub rule: Option<Name>,
    /// For this target.
    pub target: Option<Name>,
    /// With this reason.
    pub reason: Option<DeadReason>,
}

impl DeadSelection {
    /// Whether a dead letter is meant.
    #[must_use]
    pub fn selects(&self, letter: &DeadLetter) -> bool {
        let is = |wanted: &Option<Name>, name: Option<&Name>| wanted.as_ref().is_none_or(|wanted| Some(wanted) == name);
        self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && is(&self.tenant, Some(&letter.tenant))
            && is(&self.rule, letter.subscription.as_ref().map(|identity| &identity.rule))
            && is(&self.target, letter.subscription.as_ref().map(|identity| &identity.target))
            && self.reason.is_none_or(|reason| reason == letter.reason)
    }
}

/// A dead letter: of a delivery, or of something that a source could not read.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The delivery; of a reject an id of its own, with subscription number 0.
    pub id: DeliveryId,
    /// Whose.
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// The subscription; none of a reject.
    pub subscription: Option<SubscriptionIdentity>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// One line for a person, where there is more to say than the reason.
    pub message: String,
    /// When it died.
    pub at: Timestamp,
    /// Tries made.
    pub attempts: u32,
    /// What the last attempt came to.
    pub last: Option<LastOutcome>,
    /// The bytes that could not be read; empty of a delivery.
    pub raw: Bytes,
}

/// A pending delivery.
#[derive(Clone, Debug, PartialEq)]
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
}

/// A retained event.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its place.
    pub sequence: Sequence,
    /// Whose.
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// When it was appended.
    pub at: Timestamp,
    /// The event.
    pub event: Arc<Event>,
}

/// Where a reading of retained events begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsFrom {
    /// With the first that was appended at this time or later. Where the clock was once set back, with one of those.
    Time(Timestamp),
    /// Behind this one.
    After(Sequence),
}

/// Some of the retained events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<StoredEvent>,
    /// How many were passed over because their records are damaged.
    pub damaged: u64,
    /// Behind which event to go on; none at the end.
    pub next: Option<Sequence>,
}

/// Totals of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Events retained.
    pub events: u64,
    /// Dead letters, rejects included.
    pub dead: u64,
    /// Rejects among them.
    pub rejects: u64,
    /// Damaged records found and set aside since the store's creation.
    pub quarantined: u64,
    /// Commits that were found lost, by the number of the last one that is written beside the store.
    pub lost_commits: u64,
    /// What the store takes on disk, write-ahead log included.
    pub bytes: u64,
    /// What it may take.
    pub bytes_max: u64,
    /// The last sequence given out.
    pub last_sequence: u64,
}
