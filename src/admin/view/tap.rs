//! What passes, as whoever looks at it live is told.

use pointsman_journal::{DeadReason, Role};
use pointsman_schemas::{Class, Event, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::structured;
use crate::telemetry::tap::{Next, PassedAttempt, PassedEvent};

/// An event that has been stored, or taken into a pipe.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TapEvent {
    /// When it was.
    pub at: String,
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// Its place among the retained events; none in a pipe.
    pub sequence: Option<u64>,
    /// Whether it was known before, so that nothing was added.
    pub duplicate: bool,
    /// How many deliveries it was given; 0 where no rule took it.
    pub deliveries: u64,
    /// The event in the JSON format, its data where that is asked for.
    #[schemars(with = "Option<super::Object>")]
    pub event: Option<Box<RawValue>>,
}

/// An attempt at a task, which has ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TapAttempt {
    /// When it ended.
    pub at: String,
    pub tenant: Name,
    pub rule: Name,
    pub role: Role,
    pub target: Name,
    /// The task.
    pub id: String,
    /// Which attempt at it this was; the first is 1.
    pub attempt: u32,
    /// What it came to.
    pub class: Class,
    /// The target's own code, such as an HTTP status.
    pub code: Option<i32>,
    /// What went wrong; empty where nothing did.
    pub message: String,
    pub seconds: f64,
    /// What becomes of the task.
    pub next: TapNext,
    /// Not before this it is tried again, where it is retried.
    pub due: Option<String>,
    /// Why it is a dead letter, where it is one.
    pub reason: Option<DeadReason>,
    /// The source that the event came from.
    pub origin: Name,
    /// The event in the JSON format, its data where that is asked for.
    #[schemars(with = "Option<super::Object>")]
    pub event: Option<Box<RawValue>>,
}

/// What becomes of a task after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TapNext {
    /// It has ended.
    Ended,
    /// It is tried again.
    Retry,
    /// It is a dead letter.
    Dead,
    /// It is tried again as soon as its target can be called.
    Waits,
}

/// What was left out, since more passed than was asked for or could be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TapLeftOut {
    /// How much, since this was said last.
    pub count: u64,
}

/// One of what passes, under the name that it has in the stream.
#[derive(Debug)]
pub enum TapItem {
    Event(TapEvent),
    Attempt(Box<TapAttempt>),
    LeftOut(TapLeftOut),
}

impl TapEvent {
    /// What is told of it, with or without its data.
    #[must_use]
    pub fn new(passed: &PassedEvent, with_data: bool) -> Self {
        Self {
            at: passed.at.to_string(),
            tenant: passed.tenant.clone(),
            origin: passed.origin.clone(),
            sequence: passed.sequence.map(|sequence| sequence.0),
            duplicate: passed.is_duplicate,
            deliveries: passed.deliveries as u64,
            event: shown(&passed.event, with_data),
        }
    }
}

impl TapAttempt {
    /// What is told of it, with the data of its event or without.
    #[must_use]
    pub fn new(passed: &PassedAttempt, with_data: bool) -> Self {
        let of = passed.subscription.clone();
        let (next, due, reason) = match passed.next {
            Next::Ended => (TapNext::Ended, None, None),
            Next::Retry(at) => (TapNext::Retry, Some(at.to_string()), None),
            Next::Dead(reason) => (TapNext::Dead, None, Some(reason)),
            Next::Waits => (TapNext::Waits, None, None),
        };
        Self {
            at: passed.at.to_string(),
            tenant: of.tenant,
            rule: of.rule,
            role: of.role,
            target: of.target,
            id: passed.id.to_string(),
            attempt: passed.attempt,
            class: passed.class,
            code: passed.code,
            message: passed.message.clone(),
            seconds: passed.took.as_secs_f64(),
            next,
            due,
            reason,
            origin: passed.origin.clone(),
            event: shown(&passed.event, with_data),
        }
    }
}

fn shown(event: &Event, with_data: bool) -> Option<Box<RawValue>> {
    if with_data {
        return structured(event);
    }
    let bare = event.clone().into_builder().data(None);
    structured(&bare.build().ok()?)
}
