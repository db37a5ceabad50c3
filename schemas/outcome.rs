//! What an attempt came to.

use std::time::Duration;

use crate::Event;

/// The class of an outcome, which alone decides what follows.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The target took it.
    Delivered,
    /// The target asks to be left alone for a while; none of `attempts` is used up.
    Throttled,
    /// The target could not be reached; tried again until the event's maximum age.
    Unavailable,
    /// The target was reached and failed; one of `attempts` is used up.
    Failed,
    /// The target does not know us (401, 403); the subscription pauses and nothing is lost.
    Refused,
    /// The target says that it is gone for good (410); the subscription pauses for good.
    Gone,
    /// The target says that this delivery will never succeed; dead-lettered at once.
    Rejected,
}

impl Class {
    /// The class as it is shown and stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Rejected => "rejected",
        }
    }
}

/// What one delivery's attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What follows.
    pub class: Class,
    /// How long the target asked to be left alone, uncapped.
    pub retry_after: Option<Duration>,
    /// The target's own code: an HTTP status, a process's exit code.
    pub code: Option<i32>,
    /// One line for a person: what went wrong; empty where nothing did.
    pub message: String,
    /// The beginning of what the target answered, for reports and dead letters; bounded by
    /// [`RESPONSE_BYTES_MAX`].
    pub response: bytes::Bytes,
    /// The media type of `response`, where the target told it.
    pub response_type: Option<String>,
    /// Whether the target answered with more than that, or broke off.
    pub is_response_cut: bool,
    /// The CloudEvents that the target answered with: they go back onto the bus.
    pub replies: Option<Box<Replies>>,
}

/// What a target's answer holds where it announces CloudEvents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replies {
    /// The events, in their order.
    pub events: Vec<Event>,
    /// What is announced as an event and is none.
    pub unreadable: Vec<Unreadable>,
}

/// Something that no event can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its bytes; of an event in headers and body the body.
    pub raw: bytes::Bytes,
    /// Why: one line for a person.
    pub reason: String,
}

impl Replies {
    /// One event.
    #[must_use]
    pub fn one(event: Event) -> Self {
        Self {
            events: vec![event],
            unreadable: Vec::new(),
        }
    }

    /// Nothing but what cannot be read.
    #[must_use]
    pub fn unreadable(raw: bytes::Bytes, reason: impl Into<String>) -> Self {
        Self {
            events: Vec::new(),
            unreadable: vec![Unreadable {
                raw,
                reason: reason.into(),
            }],
        }
    }
}

/// How much of a target's answer is read.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;

impl Outcome {
    /// An outcome of a class with nothing to say but one line.
    #[must_use]
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            retry_after: None,
            code: None,
            message: message.into(),
            response: bytes::Bytes::new(),
            response_type: None,
            is_response_cut: false,
            replies: None,
        }
    }

    /// The target took it.
    #[must_use]
    pub fn delivered() -> Self {
        Self::new(Class::Delivered, "")
    }
}
