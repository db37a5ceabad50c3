//! An event written into a message.

use pointsman_schemas::{AttributeValue, DataKind, json};
use schemars::JsonSchema;
use serde::Deserialize;

use super::PREFIXES;
use crate::Delivery;
use crate::amqp::message::{Body, Message, Property};
use crate::amqp::value::Value;
use crate::trace::headers;

/// Application properties that tell of the delivery.
const TASK: &str = "pointsman-task";
const ATTEMPT: &str = "pointsman-attempt";
const RULE: &str = "pointsman-rule";

/// How an event is written into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "AmqpMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes as application properties, the data as the body.
    #[default]
    Binary,
    /// The event in the JSON format as the body.
    Structured,
    /// The data as the body, and no attributes.
    Data,
}

/// What the settings say of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::amqp) struct Properties<'s> {
    pub(in crate::amqp) address: &'s str,
    pub(in crate::amqp) subject: Option<&'s str>,
    pub(in crate::amqp) group: Option<&'s str>,
    pub(in crate::amqp) is_durable: bool,
    pub(in crate::amqp) priority: Option<u8>,
    pub(in crate::amqp) ttl_ms: Option<u32>,
}

/// The message of a delivery.
pub(in crate::amqp) fn encode(
    delivery: &Delivery,
    rule: &str,
    mode: Mode,
    properties: &Properties<'_>,
) -> Message {
    let event = &delivery.event;
    let mut message = Message {
        is_durable: properties.is_durable,
        priority: properties.priority,
        ttl_ms: properties.ttl_ms,
        ..Message::default()
    };
    // The same over all attempts: a broker that knows duplicates knows them by it.
    message.set(Property::MessageId, Value::string(&delivery.id.to_string()));
    message.set(Property::To, Value::string(properties.address));
    for (property, text) in [
        (Property::Subject, properties.subject),
        (Property::GroupId, properties.group),
    ] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            message.set(property, Value::string(text));
        }
    }
    let mut content_type = match mode {
        Mode::Structured => Some(json::MEDIA_TYPE),
        Mode::Binary | Mode::Data => event.datacontenttype(),
    };
    if mode == Mode::Structured {
        let mut document = Vec::with_capacity(event.size_bytes());
        json::encode(event, &mut document);
        message.body = Body::Data(document.into());
    } else if let Some(data) = event.data() {
        content_type = content_type.or(match data.kind() {
            DataKind::Json => Some("application/json"),
            DataKind::Text => Some("text/plain"),
            DataKind::Binary => None,
        });
        message.body = Body::Data(data.bytes().clone());
    }
    if let Some(media_type) = content_type {
        message.set(Property::ContentType, Value::symbol_of(media_type));
    }
    if mode == Mode::Binary {
        let attributes = event.attributes();
        let attributes = attributes.filter(|(name, _)| *name != "datacontenttype");
        let pair = |(name, value): (&str, AttributeValue<'_>)| {
            let name = format!("{}{name}", PREFIXES[0]);
            (Value::string(&name), attribute(value))
        };
        message.application.extend(attributes.map(pair));
    }
    tell(delivery, rule, &mut message);
    message
}

/// Says which delivery a message is of, and which trace it belongs to.
fn tell(delivery: &Delivery, rule: &str, message: &mut Message) {
    let attempt = i32::try_from(delivery.attempt).unwrap_or(i32::MAX);
    let told = [
        (TASK, Value::string(&delivery.id.to_string())),
        (ATTEMPT, Value::Int(attempt.into())),
        (RULE, Value::string(rule)),
    ];
    let told = told.into_iter();
    let trace = headers(delivery).map(|(name, value)| (name, Value::string(&value)));
    let pairs = told.chain(trace);
    let pairs = pairs.map(|(name, value)| (Value::string(name), value));
    message.application.extend(pairs);
}

/// Section 3.1.3.2 of the binding. Times go out as the texts that they are: AMQP's own end with
/// milliseconds.
fn attribute(value: AttributeValue<'_>) -> Value {
    match value {
        AttributeValue::String(text) => Value::string(text),
        AttributeValue::Integer(number) => Value::Int(number.into()),
        AttributeValue::Boolean(value) => Value::Boolean(value),
    }
}
