//! An event written into a message.

use bytes::Bytes;
use pointsman_schemas::trace::{TRACEPARENT, TRACESTATE};
use pointsman_schemas::{Data, DataKind, json};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::mqtt::packet::{Properties, property};
use crate::trace::headers;
use crate::{Delivery, structured};

/// How an event is written into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "MqttMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes as user properties, the data as the payload: MQTT 5 alone.
    Binary,
    /// The event in the JSON format as the payload.
    Structured,
    /// The data as the payload, and no attributes.
    Data,
}

/// The properties and the payload of a delivery's message. Properties are of MQTT 5.
///
/// # Errors
/// Why it cannot be written, in words.
pub(in crate::mqtt) fn encode(
    delivery: &Delivery,
    rule: &str,
    mode: Mode,
) -> Result<(Properties, Bytes), String> {
    let mut properties = Properties::default();
    let trace = headers(delivery).map(|(name, value)| (Bytes::from(name), Bytes::from(value)));
    properties.user.extend(trace);
    let data = delivery.event.data().map(|data| data.bytes().clone());
    let payload = match mode {
        Mode::Structured => {
            let document = structured::encode(delivery, rule);
            let document = document.map_err(|invalid| invalid.to_string())?;
            let media_type = Bytes::from(json::MEDIA_TYPE);
            properties.texts.push((property::CONTENT_TYPE, media_type));
            document
        }
        Mode::Data => {
            properties.texts.extend(content_type(delivery));
            data.unwrap_or_default()
        }
        Mode::Binary => {
            properties.texts.extend(content_type(delivery));
            properties.user.extend(attributes(delivery, rule));
            data.unwrap_or_default()
        }
    };
    Ok((properties, payload))
}

fn content_type(delivery: &Delivery) -> Option<(u8, Bytes)> {
    let event = &delivery.event;
    let implied = match event.data().map(Data::kind) {
        Some(DataKind::Json) => Some("application/json"),
        Some(DataKind::Text) => Some("text/plain"),
        Some(DataKind::Binary) | None => None,
    };
    let media_type = event.datacontenttype().or(implied)?;
    let media_type = Bytes::copy_from_slice(media_type.as_bytes());
    Some((property::CONTENT_TYPE, media_type))
}

/// The attributes, and what is told of the delivery: user properties have no prefix that would tell
/// them apart, so that these are extensions, as they are in a structured event.
fn attributes(delivery: &Delivery, rule: &str) -> Vec<(Bytes, Bytes)> {
    let told = [
        (structured::TASK, delivery.id.to_string()),
        (structured::ATTEMPT, delivery.attempt.to_string()),
        (structured::RULE, rule.to_owned()),
    ];
    let has_trace = delivery.trace.is_some();
    let is_left_out = |name: &str| {
        name == "datacontenttype"
            || told.iter().any(|(told, _)| *told == name)
            // Who sends it on takes the place of its origin.
            || has_trace && [TRACEPARENT, TRACESTATE].contains(&name)
    };
    let attributes = delivery.event.attributes();
    let attributes = attributes
        .filter(|(name, _)| !is_left_out(name))
        .map(|(name, value)| (name.to_owned(), value.to_string()));
    let mut all: Vec<_> = attributes.collect();
    all.extend(
        told.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    let pair = |(name, value): (String, String)| (Bytes::from(name), Bytes::from(value));
    all.into_iter().map(pair).collect()
}
