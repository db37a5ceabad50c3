//! What is seen of an event and of an attempt.

use std::sync::Arc;
use std::time::Duration;

use pointsman_journal::{DeadReason, Ending, SubscriptionIdentity};
use pointsman_schemas::{Class, DeliveryId, Event, Name, Sequence, Timestamp};

/// Something that has passed.
#[derive(Clone, Debug)]
pub enum Passing {
    Event(PassedEvent),
    Attempt(Box<PassedAttempt>),
}

impl Passing {
    /// The event that it is about.
    #[must_use]
    pub fn event(&self) -> &Event {
        match self {
            Self::Event(passed) => &passed.event,
            Self::Attempt(passed) => &passed.event,
        }
    }
}

/// An event that has been stored, or taken into a pipe.
#[derive(Clone, Debug)]
pub struct PassedEvent {
    pub at: Timestamp,
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// Its place among the retained events; none in a pipe.
    pub sequence: Option<Sequence>,
    pub event: Arc<Event>,
    /// Whether it was known before, so that nothing was added.
    pub is_duplicate: bool,
    /// How many deliveries it was given.
    pub deliveries: usize,
}

/// An attempt at a delivery, which has ended.
#[derive(Clone, Debug)]
pub struct PassedAttempt {
    /// When it ended.
    pub at: Timestamp,
    pub subscription: SubscriptionIdentity,
    /// The source that the event came from.
    pub origin: Name,
    /// The task.
    pub id: DeliveryId,
    pub event: Arc<Event>,
    /// Which attempt at the task it was; the first is 1.
    pub attempt: u32,
    pub class: Class,
    /// The target's own code.
    pub code: Option<i32>,
    /// What went wrong, in one line; empty where nothing did.
    pub message: String,
    pub took: Duration,
    pub next: Next,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is delivered, or was stopped.
    Ended,
    /// It is tried again, not before this.
    Retry(Timestamp),
    /// It is a dead letter.
    Dead(DeadReason),
    /// It is tried again when its target can be called.
    Waits,
}

impl From<&Ending> for Next {
    fn from(ending: &Ending) -> Self {
        match ending {
            Ending::Delivered | Ending::Stopped => Self::Ended,
            Ending::Retry { at, .. } => Self::Retry(*at),
            Ending::Dead { reason, .. } => Self::Dead(*reason),
            Ending::Released => Self::Waits,
        }
    }
}
