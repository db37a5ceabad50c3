//! One span, before it is written for whoever collects it.

use pointsman_schemas::trace::{SpanId, TraceFlags, TraceId, TraceState};
use pointsman_schemas::{Timestamp, TraceContext};

use super::Link;

/// Something that happened, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) trace_id: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) flags: TraceFlags,
    pub(super) state: Option<TraceState>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) links: Vec<Link>,
    /// What went wrong.
    pub(super) error: Option<String>,
}

/// What part it has in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Internal,
    /// It takes what others sent.
    Consumer,
    /// It asks others for something.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl Span {
    /// A span in the trace of `context`.
    pub(super) fn new(
        context: &TraceContext,
        (id, parent): (SpanId, Option<SpanId>),
        name: String,
        (began, ended): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            trace_id: context.parent.trace_id,
            id,
            parent,
            flags: context.parent.flags.sampled(),
            state: context.state.clone(),
            name,
            kind: Kind::Internal,
            began,
            // Clocks are set.
            ended: ended.max(began),
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.attributes.push((name, Value::Text(text.to_owned())));
    }

    pub(super) fn number(&mut self, name: &'static str, number: impl TryInto<i64>) {
        let number = number.try_into().unwrap_or(i64::MAX);
        self.attributes.push((name, Value::Number(number)));
    }

    pub(super) fn flag(&mut self, name: &'static str, flag: bool) {
        self.attributes.push((name, Value::Flag(flag)));
    }
}
