//! The seam through which events go out.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{
    Class, DeliveryId, Event, Name, Outcome, Problem, TemplateText, Timestamp, TraceContext,
};
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

use crate::net::Names;
use crate::{Files, OpenError};

/// A target: one call is one attempt.
///
/// It answers with one [`Outcome`] for each delivery, in the deliveries' order; of a batch also
/// with one alone, which holds for all of them. It does not retry, limit, queue or time out: those
/// are the dispatcher's. Dropping the future abandons the attempt.
pub type TargetService = BoxCloneSyncService<Attempt, Vec<Outcome>, AttemptError>;

/// One attempt at one or more deliveries of one subscription.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whose.
    pub tenant: Name,
    /// The rule that made the deliveries.
    pub rule: Name,
    /// When the attempt is given up.
    pub deadline: Timestamp,
    /// How long that is from its start.
    pub timeout: Duration,
    /// What to deliver; never empty.
    pub deliveries: Vec<Delivery>,
    /// Whether they are to go out together, as one message, be it one delivery or many.
    pub is_batch: bool,
    /// What happens when the time is over.
    pub end: AttemptEnd,
}

/// How an attempt ends whose time is over: it is dropped, unless it has asked to see to its end
/// itself.
#[derive(Clone, Debug, Default)]
pub struct AttemptEnd {
    /// Tells that the time is over; there once somebody has asked for it.
    is_over: Arc<OnceLock<CancellationToken>>,
}

impl AttemptEnd {
    /// From here on the attempt is not dropped when its time is over but told so by this token, and
    /// goes on until it has ended what it began, which must not take long.
    #[must_use]
    pub fn see_to_it(&self) -> CancellationToken {
        self.is_over.get_or_init(CancellationToken::new).clone()
    }

    /// Tells that the time is over. True where the attempt sees to its end itself.
    #[must_use]
    pub fn tell(&self) -> bool {
        self.is_over.get().is_some_and(|is_over| {
            is_over.cancel();
            true
        })
    }
}

/// One delivery, ready to go out.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The same over all attempts.
    pub id: DeliveryId,
    /// From 1; every try counts.
    pub attempt: u32,
    /// The event after the rule's transform.
    pub event: Arc<Event>,
    /// [`TargetSettings::templates`], filled in from the event, in their order.
    pub texts: Vec<String>,
    /// Where the attempt belongs in a trace, which the target is told of where messages have
    /// headers.
    pub trace: Option<Box<TraceContext>>,
}

/// What an attempt calls, as a person reads it.
#[derive(Clone)]
pub enum Called {
    /// The same at every attempt.
    Always(Arc<str>),
    /// Made of [`Delivery::texts`].
    Filled(FilledCall),
}

/// Says what is called of the texts that were filled in.
pub type FilledCall = Arc<dyn Fn(&[String]) -> String + Send + Sync>;

impl Called {
    /// The same at every attempt.
    #[must_use]
    pub fn always(text: impl Into<Arc<str>>) -> Self {
        Self::Always(text.into())
    }
}

impl fmt::Debug for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(text) => f.debug_tuple("Always").field(text).finish(),
            Self::Filled(_) => f.write_str("Filled"),
        }
    }
}

/// The whole attempt came to nothing, for all its deliveries alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AttemptError {
    /// What follows.
    pub class: Class,
    /// What happened: one line for a person.
    pub message: String,
}

impl AttemptError {
    /// An error of a class.
    #[must_use]
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
}

/// The settings of a target, read from the rule file and not yet opened.
#[async_trait]
pub trait TargetSettings: fmt::Debug + Send + Sync {
    /// Every mistake that can be found without touching the outside world; paths are relative to
    /// these settings.
    fn check(&self) -> Vec<Problem>;

    /// The texts to be filled in from each event, in a fixed order.
    fn templates(&self) -> Vec<TemplateText>;

    /// What an attempt calls, for the history of tasks: a method and an address, a subject, a
    /// command. Without secrets: no user, no query, no value that comes from the environment or a
    /// file.
    fn called(&self) -> Called;

    /// The files that secrets and the like are taken from, which this target reads again once they
    /// have changed: where it has refused what came, their change is a reason to ask it again.
    fn files(&self) -> Files {
        Files::of([])
    }

    /// Why the target cannot be given a batch, if it cannot: several deliveries as one message.
    fn refuses_batches(&self) -> Option<Problem> {
        Some(Problem::new(
            "this kind of target takes one event at a time",
        ))
    }

    /// Tries the connection without delivering or changing anything, and tells in a line for a
    /// person what was found. The caller bounds how long that may take.
    ///
    /// # Errors
    /// What is wrong, in words, and what to do.
    async fn probe(&self) -> Result<String, OpenError>;

    /// Makes the target ready. It connects when it is first called, not here, so that a target that
    /// is down stops nothing.
    ///
    /// # Errors
    /// What is missing, in words: a variable, a certificate.
    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError>;
}

/// What the bus hands to a target when it opens.
#[derive(Clone, Debug)]
pub struct TargetContext {
    /// Its name in the rule file.
    pub name: Name,
    /// Whose it is.
    pub tenant: Name,
    /// Whether private, loopback and link-local addresses may be called at all; where an event
    /// decides the host, the target's own settings have to allow them too.
    pub allow_private_addresses: bool,
    /// Looks names up.
    pub names: Names,
}
