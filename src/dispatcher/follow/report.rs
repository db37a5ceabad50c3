//! Reports on deliveries that have ended.

use std::borrow::Cow;

use base64::Engine as _;
use bytes::Bytes;
use pointsman_journal::{DeadReason, Ending, Leased};
use pointsman_schemas::event::is_json_media_type;
use pointsman_schemas::{
    AttributeValue, Class, Data, DataKind, Event, InvalidEvent, Name, Outcome, Timestamp,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{HOPS, hops, hops_value};
use crate::dispatcher::plan::Route;

/// The type of the report on a delivery that succeeded.
pub const SUCCEEDED: &str = "com.pointsman.delivery.succeeded";

/// The type of the report on a delivery that became a dead letter.
pub const FAILED: &str = "com.pointsman.delivery.failed";

/// The data of a report, in the shape of an AWS Lambda destination's record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'r> {
    request_context: RequestContext<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_payload: Option<Payload<'r>>,
    response_context: Option<ResponseContext<'r>>,
    response_payload: Option<Payload<'r>>,
}

#[derive(Serialize)]
struct RequestContext<'r> {
    task: String,
    rule: &'r Name,
    target: &'r Name,
    /// `delivered`, or why the delivery is dead.
    condition: &'static str,
    attempts: u32,
    /// The event's attributes.
    event: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct ResponseContext<'r> {
    class: &'static str,
    code: Option<i32>,
    message: &'r str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'r> {
    Json(&'r RawValue),
    Text(Cow<'r, str>),
    Binary { data_base64: String },
}

/// What a report is about.
pub(super) struct EndedDelivery<'e> {
    task: String,
    rule: &'e Name,
    target: &'e Name,
    event: &'e Event,
    attempts: u32,
    /// None of a success.
    dead: Option<DeadReason>,
    /// None where the target was not called.
    outcome: Option<&'e Outcome>,
}

impl<'e> EndedDelivery<'e> {
    pub(super) fn of(
        route: &'e Route,
        leased: &'e Leased,
        ending: &Ending,
        outcome: Option<&'e Outcome>,
    ) -> Self {
        let (rule, target) = (&route.identity.rule, &route.identity.target);
        let attempts = leased.attempts.saturating_add(u32::from(outcome.is_some()));
        let dead = if let Ending::Dead { reason, .. } = ending {
            Some(*reason)
        } else {
            None
        };
        Self {
            task: leased.id.to_string(),
            rule,
            target,
            event: &leased.event,
            attempts,
            dead,
            outcome,
        }
    }
}

/// The report that a rule's `on_success` or `on_failure` would be sent of an event, as far as that
/// is known before any target has answered: the target has taken it, or has failed at every
/// attempt, and its answer is empty.
///
/// # Errors
/// The event is so large or deep that no report can be made of it.
pub fn example_report(
    rule: &Name,
    target: &Name,
    event: &Event,
    succeeded: bool,
) -> Result<Event, InvalidEvent> {
    let (outcome, attempts, dead) = if succeeded {
        (
            Outcome {
                code: Some(200),
                ..Outcome::new(Class::Delivered, "")
            },
            1,
            None,
        )
    } else {
        (
            Outcome {
                code: Some(500),
                ..Outcome::new(Class::Failed, "answered 500")
            },
            4,
            Some(DeadReason::Exhausted),
        )
    };
    let ended = EndedDelivery {
        task: "example".to_owned(),
        rule,
        target,
        event,
        attempts,
        dead,
        outcome: Some(&outcome),
    };
    of(ended, Timestamp::now())
}

/// Makes a report.
///
/// # Errors
/// As of [`example_report`].
pub(super) fn of(ended: EndedDelivery<'_>, now: Timestamp) -> Result<Event, InvalidEvent> {
    let EndedDelivery {
        task,
        rule,
        target,
        event: subject,
        attempts,
        dead,
        outcome,
    } = ended;
    let (ty, condition) = dead.map_or((SUCCEEDED, "delivered"), |reason| (FAILED, reason.as_str()));
    let attributes = subject.attributes().map(|(name, value)| {
        let value = match value {
            AttributeValue::String(text) => text.into(),
            AttributeValue::Integer(number) => number.into(),
            AttributeValue::Boolean(value) => value.into(),
        };
        (name.to_owned(), value)
    });
    let mut report = Report {
        request_context: RequestContext {
            task: task.clone(),
            rule,
            target,
            condition,
            attempts,
            event: attributes.collect(),
        },
        request_payload: subject.data().map(request_payload),
        response_context: outcome.map(|outcome| ResponseContext {
            class: outcome.class.as_str(),
            code: outcome.code,
            message: &outcome.message,
        }),
        response_payload: outcome.and_then(response_payload),
    };
    let data = json(&report).or_else(|_| {
        // Both lie one level deeper in the report than they came, which may be one too many.
        (report.request_payload, report.response_payload) = (None, None);
        json(&report)
    })?;
    let mut event = Event::builder(task, format!("/rules/{rule}"), ty)
        .subject(subject.id())
        .time(now.to_string())
        .datacontenttype("application/json")
        .data(data);
    // A report can be answered with an event too: the count goes on, or rules that do so would
    // never end.
    if hops(subject) > 0 {
        event = event.attribute(HOPS, hops_value(hops(subject)));
    }
    event.build()
}

fn json(report: &Report<'_>) -> Result<Data, InvalidEvent> {
    let bytes =
        serde_json::to_vec(report).map_err(|error| InvalidEvent::Malformed(error.to_string()))?;
    Data::json(Bytes::from(bytes))
}

fn request_payload(data: &Data) -> Payload<'_> {
    match data.kind() {
        DataKind::Json => as_json(data.bytes())
            .unwrap_or_else(|| Payload::Text(String::from_utf8_lossy(data.bytes()))),
        DataKind::Text => Payload::Text(String::from_utf8_lossy(data.bytes())),
        DataKind::Binary => Payload::Binary {
            data_base64: base64::engine::general_purpose::STANDARD.encode(data.bytes()),
        },
    }
}

fn response_payload(outcome: &Outcome) -> Option<Payload<'_>> {
    let is_json = outcome
        .response_type
        .as_deref()
        .is_none_or(is_json_media_type);
    // What was cut off, undeclared text, or only said to be JSON, is shown as it is.
    let json = is_json.then(|| as_json(&outcome.response)).flatten();
    (!outcome.response.is_empty())
        .then(|| json.unwrap_or_else(|| Payload::Text(String::from_utf8_lossy(&outcome.response))))
}

fn as_json(bytes: &[u8]) -> Option<Payload<'_>> {
    serde_json::from_slice(bytes).ok().map(Payload::Json)
}
