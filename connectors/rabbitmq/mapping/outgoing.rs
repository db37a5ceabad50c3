//! An event written into a message.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use pointsman_schemas::{AttributeValue, Data, DataKind, Event, json};
use schemars::JsonSchema;
use serde::Deserialize;

use super::PREFIXES;
use crate::rabbitmq::connection::short;

/// How an event is written into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageMode {
    /// Attributes as headers, the data as the body.
    #[default]
    Binary,
    /// The event in the JSON format as the body.
    Structured,
    /// The data as the body, and no attributes.
    Data,
}

/// Writes an event: the message's body, and its properties without what the way out adds.
///
/// # Errors
/// What does not fit into a message.
pub(in crate::rabbitmq) fn encode(
    event: &Event,
    mode: MessageMode,
) -> Result<(Bytes, FieldTable, BasicProperties), String> {
    let mut headers = FieldTable::default();
    let mut properties = BasicProperties::default();
    // Both are told once more for those who look at messages with no eye for CloudEvents; neither
    // is needed to read the event.
    if let Ok(id) = ShortString::try_new(event.id()) {
        properties = properties.with_message_id(id);
    }
    if let Ok(kind) = ShortString::try_new(event.ty()) {
        properties = properties.with_type(kind);
    }
    if mode == MessageMode::Structured {
        let mut body = Vec::with_capacity(event.size_bytes());
        json::encode(event, &mut body);
        return Ok((
            body.into(),
            headers,
            properties.with_content_type(json::MEDIA_TYPE.into()),
        ));
    }
    let implied = match event.data().map(Data::kind) {
        Some(DataKind::Json) => Some("application/json"),
        Some(DataKind::Text) => Some("text/plain"),
        Some(DataKind::Binary) | None => None,
    };
    if let Some(declared) = event.datacontenttype().or(implied) {
        properties = properties.with_content_type(short("datacontenttype", declared)?);
    }
    if mode == MessageMode::Binary {
        for (name, value) in event
            .attributes()
            .filter(|(name, _)| *name != "datacontenttype")
        {
            let value = match value {
                AttributeValue::String(text) => AMQPValue::LongString(LongString::from(text)),
                AttributeValue::Integer(number) => AMQPValue::LongLongInt(number.into()),
                AttributeValue::Boolean(value) => AMQPValue::Boolean(value),
            };
            headers.insert(
                short("an attribute's name", &format!("{}{name}", PREFIXES[0]))?,
                value,
            );
        }
    }
    Ok((
        event
            .data()
            .map(|data| data.bytes().clone())
            .unwrap_or_default(),
        headers,
        properties,
    ))
}
