//! What a caller may ask beyond whether his events are stored: what was made of them, and how that
//! ends.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
#[cfg(doc)]
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use pointsman_schemas::{DeliveryId, Name, Sequence};
use serde::{Serialize, Serializer};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::verdict::Verdict;

/// A caller who waits to hear more than a [`Verdict`]. Dropping it unsent counts as
/// [`Verdict::Failed`].
#[derive(Debug)]
pub struct Inquiry {
    /// Where he waits.
    pub caller: oneshot::Sender<Result<Made, Verdict>>,
    /// What he sent counts as taken in for as long as it lives.
    pub held: Option<OwnedSemaphorePermit>,
    /// Whether he waits until the tasks have ended.
    pub waits: bool,
    /// A number that tells him from other callers of the source, where they show keys of their own:
    /// what he has sent makes no duplicate of what another sends.
    pub sender: Option<u64>,
}

impl Inquiry {
    /// Tells what became of the message, and nothing of what was made of it.
    pub(crate) fn send(self, verdict: Verdict) {
        let told = match verdict {
            Verdict::Stored => Ok(Made::default()),
            verdict => Err(verdict),
        };
        // A caller who has gone away does not hear it.
        drop(self.caller.send(told));
    }
}

/// What was made of a message that is stored.
#[derive(Debug, Default)]
pub struct Made {
    /// Its events, in their order.
    pub events: Vec<MadeEvent>,
    /// Whether nothing was stored because tasks of the same ids had been made before; their states
    /// are told.
    pub is_taken: bool,
    /// How the tasks end, for a caller who waits. None where he does not, where there is nothing
    /// to wait for, and where too many wait already.
    pub ends: Option<Ends>,
}

/// What was made of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MadeEvent {
    /// Its place in the journal; of a duplicate that of the event that came first.
    pub sequence: Sequence,
    /// Whether it had been stored before, so that nothing was added.
    pub duplicate: bool,
    /// The tasks made of it; none of a duplicate.
    pub tasks: Vec<Task>,
}

/// A task that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// The delivery's id, as its target sees it.
    #[serde(serialize_with = "as_text")]
    pub id: DeliveryId,
    /// The rule that made it.
    pub rule: Name,
    /// For whom.
    pub target: Name,
    /// Where it stands, where that is known.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
}

/// Where a task stands, or how it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskStatus {
    /// Its state, by the name that the bus shows it under.
    pub state: &'static str,
    /// Whether its target has taken it.
    #[serde(skip)]
    pub has_succeeded: bool,
    /// Why it failed: the reason of the dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Tries made.
    pub attempts: u32,
    /// The target's own code in its last answer: an HTTP status, a process's exit code.
    #[serde(rename = "status", skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// What went wrong: one line for a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What the target answered last, up to [`RESPONSE_BYTES_MAX`] of it.
    #[serde(skip)]
    pub response: Bytes,
    /// Its media type.
    #[serde(skip)]
    pub response_type: Option<String>,
    /// Whether the target answered with more than that.
    #[serde(skip)]
    pub is_cut: bool,
}

impl TaskStatus {
    /// A state after so many tries, with nothing more to say.
    #[must_use]
    pub fn new(state: &'static str, attempts: u32) -> Self {
        Self {
            state,
            has_succeeded: false,
            reason: None,
            attempts,
            code: None,
            message: String::new(),
            response: Bytes::new(),
            response_type: None,
            is_cut: false,
        }
    }
}

/// The ends of tasks, as they come.
pub struct Ends {
    /// Each task's end, once; closed where no more will come, as when the bus stops.
    pub tasks: mpsc::UnboundedReceiver<(DeliveryId, TaskStatus)>,
    /// Keeps whoever tells of them from forgetting the caller.
    pub registered: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").finish_non_exhaustive()
    }
}

fn as_text<S: Serializer>(id: &DeliveryId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}
