//! An event written into a message.

use std::collections::BTreeMap;

use bytes::Bytes;
use pointsman_schemas::trace::{TRACEPARENT, TRACESTATE};
use pointsman_schemas::{Data, DataKind, json};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CONTENT_TYPE, NO_DATA, PREFIX};
use crate::trace::headers;
use crate::{Delivery, structured};

/// The delivery's id, the same over all attempts.
pub(super) const TASK: &str = "pointsman-task";

/// The number of the attempt.
const ATTEMPT: &str = "pointsman-attempt";

/// The rule that made the delivery.
const RULE: &str = "pointsman-rule";

/// How an event is written into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "RocketmqMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes as properties `CE_…`, the data as the body.
    #[default]
    Binary,
    /// The event in the JSON format as the body.
    Structured,
    /// The data as the body, and no attributes.
    Data,
}

/// The properties and the body of a delivery's message.
///
/// # Errors
/// Why it cannot be written, in words.
pub(in crate::rocketmq) fn encode(
    delivery: &Delivery,
    rule: &str,
    mode: Mode,
) -> Result<(BTreeMap<String, String>, Bytes), String> {
    let told = [
        (TASK, delivery.id.to_string()),
        (ATTEMPT, delivery.attempt.to_string()),
        (RULE, rule.to_owned()),
    ];
    let mut properties: BTreeMap<_, _> = headers(delivery)
        .chain(told)
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let event = &delivery.event;
    let data = event.data().map(|data| data.bytes().clone());
    let body = match mode {
        Mode::Structured => {
            let document = structured::encode(delivery, rule);
            properties.insert(CONTENT_TYPE.to_owned(), json::MEDIA_TYPE.to_owned());
            document.map_err(|invalid| invalid.to_string())?
        }
        Mode::Data => {
            let data = data.filter(|data| !data.is_empty());
            data.ok_or("the event has no data, and RocketMQ takes no empty body")?
        }
        Mode::Binary => {
            properties.extend(attributes(delivery));
            let data = data.filter(|data| !data.is_empty());
            data.unwrap_or(Bytes::from_static(NO_DATA))
        }
    };
    Ok((properties, body))
}

fn attributes(delivery: &Delivery) -> Vec<(String, String)> {
    let event = &delivery.event;
    let has_trace = delivery.trace.is_some();
    let implied = match event.data().map(Data::kind) {
        Some(DataKind::Json) => Some("application/json"),
        Some(DataKind::Text) => Some("text/plain"),
        Some(DataKind::Binary) | None => None,
    };
    let media_type = event.datacontenttype().or(implied);
    let media_type = media_type.map(|declared| (CONTENT_TYPE.to_owned(), declared.to_owned()));
    let is_left_out = |name: &str| {
        name == "datacontenttype"
            // Who sends it on takes the place of its origin.
            || has_trace && [TRACEPARENT, TRACESTATE].contains(&name)
    };
    let attributes = event
        .attributes()
        .filter(|(name, _)| !is_left_out(name))
        .map(|(name, value)| (format!("{PREFIX}{name}"), value.to_string()));
    attributes.chain(media_type).collect()
}
