//! The right to make an attempt, and what it comes to.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use pointsman_schemas::{Class, DeliveryId, Event, Name, Reject, SubscriptionNumber, Timestamp};

use crate::{
    DeadReason, Entry, Happening, IllegalTransition, NewDelivery, Record, ReplayId, TaskState,
};

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
    /// How they go together; none where each goes alone.
    pub batching: Option<Batching>,
}

/// How the deliveries of a grant go together: several in one call.
///
/// A call that may still grow waits for the next delivery, until its first one has been due for
/// [`window`](Batching::window). Where one of them was tried before, it waits for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// How many calls at most.
    pub calls: usize,
    /// How many deliveries one call carries, at most.
    pub events: usize,
    /// How many bytes the events of one call have, at most; a larger event goes alone.
    pub bytes: usize,
    /// How long the first delivery of a call waits for others.
    pub window: Duration,
}

/// What a lease call has brought.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// The deliveries, grant by grant.
    pub leased: Vec<Leased>,
    /// The grants that ended at a limit of bytes, in their order.
    pub cut: Vec<Cut>,
    /// The grants that ended because a call waits for more deliveries.
    pub gathering: Vec<Gathering>,
}

/// What is due of a subscription is to go out in one call with what comes until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// Whose.
    pub subscription: SubscriptionNumber,
    /// When it goes, by [`Journal::clock`](crate::Journal::clock), be it full or not.
    pub until: Timestamp,
}

/// A grant ended because the next delivery's event did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Whose.
    pub subscription: SubscriptionNumber,
    /// The size of that event.
    pub event_bytes: usize,
}

/// Who gives out leases, and settles them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseOwner {
    /// The journal on disk.
    Disk,
    /// The journal in memory.
    Memory,
    /// The pipes.
    Pipes,
}

/// The key to one lease. Never used again within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    owner: LeaseOwner,
    number: u64,
}

impl LeaseToken {
    /// The token with this number of an owner, which numbers its own.
    #[must_use]
    pub fn new(owner: LeaseOwner, number: u64) -> Self {
        Self { owner, number }
    }

    /// Whoever gave out the lease, and alone can settle it.
    #[must_use]
    pub fn owner(self) -> LeaseOwner {
        self.owner
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }
}

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
    /// The replay that made it, where one did: so is what becomes of it by a retry, a redrive or a
    /// move.
    pub replay: Option<ReplayId>,
    /// The source that the event came from.
    pub origin: Name,
    /// Tries made before.
    pub attempts: u32,
    /// Of those, the ones that used up one of the declared `attempts`.
    pub failures: u32,
    /// When its run began by [`Journal::clock`](crate::Journal::clock): at the append or the
    /// redrive, plus any delay. The maximum age runs from here.
    pub since: Timestamp,
    /// Whether it begins a call, or goes in one with the delivery before it.
    pub begins_call: bool,
    /// Ends the lease before its time where another machine may take over what it is of: no attempt
    /// is begun, or goes on, once this is cancelled. None where that cannot be.
    pub fence: Option<CancellationToken>,
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
    /// What the history is to say of it.
    pub record: Record,
}

impl Settlement {
    /// A settlement from which nothing follows, and of which the history says nothing.
    #[must_use]
    pub fn new(token: LeaseToken, ending: Ending) -> Self {
        Self {
            token,
            ending,
            follow_ups: Vec::new(),
            record: Record::Nothing,
        }
    }
}

/// What came of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAnswer {
    /// It is durable.
    Settled,
    /// Its lease had ended, and nothing has happened: the delivery is pending again, leased again,
    /// or has ended.
    Gone,
    /// The disk has no room for it, or, of several shards, its own has failed. Its lease still holds
    /// where nothing has happened: the same settlement may be tried again until that runs out.
    NoRoom,
}

impl SettleAnswer {
    /// The answer of a lease that was there or gone.
    #[must_use]
    pub fn of(is_settled: bool) -> Self {
        if is_settled {
            Self::Settled
        } else {
            Self::Gone
        }
    }
}

/// How an attempt leaves its delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// Delivered.
    Delivered,
    /// To be tried again.
    Retry {
        /// Not before, by [`Journal::clock`](crate::Journal::clock).
        at: Timestamp,
        /// Whether the attempt used up one of the declared `attempts`.
        failure: bool,
        /// How many deliveries a call may carry that carries this one; none where it is as before.
        batch_max: Option<NonZeroU32>,
        /// What the attempt came to.
        last: LastOutcome,
    },
    /// Not delivered; kept as a dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
        /// What the attempt came to; none where none was made in this lease: then no try is counted
        /// and what an earlier one came to is kept.
        last: Option<LastOutcome>,
    },
    /// Ended during an attempt, since somebody stopped it: it counts as cancelled.
    Stopped,
    /// Put back as if it had never been leased: no try is counted.
    Released,
}

impl Ending {
    /// What happens to a task that is settled like this.
    #[must_use]
    pub fn happening(&self) -> Happening {
        match self {
            Self::Delivered => Happening::Succeed,
            Self::Retry { .. } => Happening::Retry,
            Self::Dead { reason, .. } => Happening::of_dead(*reason),
            Self::Stopped => Happening::Stop,
            Self::Released => Happening::PutBack,
        }
    }

    /// The state that it leads to; `waiting` where the delivery waits as it did.
    ///
    /// # Errors
    /// [`IllegalTransition`] where no attempt may end like this.
    pub fn leads_to(&self, waiting: TaskState) -> Result<TaskState, IllegalTransition> {
        let running = match self {
            // Whoever ends an attempt like this has been asked to.
            Self::Stopped => TaskState::Running.after(Happening::Cancel, waiting)?,
            _ => TaskState::Running,
        };
        running.after(self.happening(), waiting)
    }

    /// What the attempt came to, where it has failed.
    #[must_use]
    pub fn last(&self) -> Option<&LastOutcome> {
        match self {
            Self::Retry { last, .. } => Some(last),
            Self::Dead { last, .. } => last.as_ref(),
            _ => None,
        }
    }
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
    /// Something that no event can be made of becomes a dead letter, as of a source: what a target
    /// answered.
    Reject {
        /// The source that it counts as coming from.
        origin: Name,
        /// What, and why.
        reject: Reject,
    },
    /// The settled delivery's own event goes to somebody else, each time as a run of its own. It is
    /// never refused for a full backlog.
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
