//! Messages to events and back: the AMQP protocol binding of CloudEvents 1.0.2, over the headers
//! and properties of AMQP 0.9.1.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use pointsman_schemas::event::InvalidEvent;
use pointsman_schemas::media_type::is_media_type;
use pointsman_schemas::{
    AttributeValue, Data, DataKind, Event, EventBuilder, ExtensionValue, Name, Timestamp, json,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::amqp10;
use super::connection::short;
use crate::Plain;

/// What the names of attributes begin with: the specification's spelling, which is also written,
/// and that of clients in whose names no colon can stand.
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

/// Where the offset of a message of a stream stands.
const OFFSET: &str = "x-stream-offset";

/// Where quorum queues write how often a message has come back.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// How many of a plain message's headers become extension attributes.
const HEADERS_MAX: usize = 64;

/// Names that a plain message's header must not take.
const RESERVED: [&str; 9] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
];

/// How deep tables are read.
const DEPTH_MAX: usize = 32;

/// A message as it came.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) redelivered: bool,
    /// Why its body cannot be read.
    pub(super) unreadable: Option<String>,
}

impl Incoming {
    /// Takes the body out of what another protocol has put around it.
    pub(super) fn unwrapped(mut self) -> Self {
        if self
            .properties
            .kind()
            .as_ref()
            .is_some_and(|kind| kind.as_str() == amqp10::TYPE)
        {
            match amqp10::body(&self.body) {
                Ok(body) => self.body = body,
                Err(what) => self.unreadable = Some(what),
            }
        }
        self
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &AMQPValue)> {
        self.properties
            .headers()
            .iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value))
    }

    fn content_type(&self) -> Option<&str> {
        self.properties
            .content_type()
            .as_ref()
            .map(|text| text.as_str().trim())
            .filter(|text| !text.is_empty())
    }

    /// Its place in the stream, where it lies in one.
    pub(super) fn offset(&self) -> Option<u64> {
        match self.properties.headers().as_ref()?.inner().get(OFFSET)? {
            AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
            _ => None,
        }
    }

    /// How often it has come back to its queue, where the queue counts that.
    pub(super) fn returns(&self) -> Option<u64> {
        u64::try_from(integer(
            self.properties
                .headers()
                .as_ref()?
                .inner()
                .get(DELIVERY_COUNT)?,
        )?)
        .ok()
    }

    /// The CloudEvent that it is, right or wrong; none where it is a plain message.
    pub(super) fn event(&self) -> Option<Result<Event, InvalidEvent>> {
        let declared = self.content_type().unwrap_or_default();
        let essence = declared.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(json::MEDIA_TYPE) {
            return Some(json::decode(&self.body));
        }
        if declared
            .get(.."application/cloudevents".len())
            .is_some_and(|start| start.eq_ignore_ascii_case("application/cloudevents"))
        {
            let mistake = format!(
                "the content type {essence} is no format of CloudEvents that is understood; send \
                 {}",
                json::MEDIA_TYPE
            );
            return Some(Err(InvalidEvent::Malformed(mistake)));
        }
        const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
        self.headers()
            .filter_map(|(name, _)| attribute(name))
            .any(|name| REQUIRED.contains(&name))
            .then(|| self.binary())
    }

    /// Section 3.1.
    fn binary(&self) -> Result<Event, InvalidEvent> {
        let mut event = EventBuilder::default();
        let (mut versions, mut attribute_type) = (0, None);
        for (header, value) in self.headers() {
            let Some(name) = attribute(header) else {
                continue;
            };
            let value = extension(value).ok_or_else(|| InvalidEvent::Value {
                name: name.to_owned(),
                value: format!("a {:?}", value.get_type()),
                expected: "a text, a whole number of 32 bits, a boolean, bytes or a time",
            })?;
            versions += usize::from(name == "specversion");
            if event.has(name) || versions > 1 {
                return Err(InvalidEvent::Duplicate(name.to_owned()));
            }
            if let ("datacontenttype", ExtensionValue::String(media_type)) = (name, &value) {
                attribute_type = Some(media_type.clone());
            }
            event = event.attribute(name, value);
        }
        if versions == 0 {
            return Err(InvalidEvent::Missing("specversion"));
        }
        let declared = self.content_type();
        if let Some(declared) = declared {
            if event.has("datacontenttype") {
                return Err(InvalidEvent::Duplicate("datacontenttype".to_owned()));
            }
            event = event.datacontenttype(declared);
        }
        event
            .data(declared_data(
                declared.or(attribute_type.as_deref()),
                self.body.clone(),
            )?)
            .build()
    }

    /// What a plain message becomes by default. `id` is taken where the message brings none of its
    /// own that lasts.
    ///
    /// # Errors
    /// The body is not what it is declared to be.
    pub(super) fn plain(
        &self,
        source: &Name,
        id: impl FnOnce() -> String,
        now: Timestamp,
    ) -> Result<EventBuilder, InvalidEvent> {
        let properties = &self.properties;
        let of = |property: &Option<ShortString>| {
            property.as_ref().and_then(|text| plain_text(text.as_str()))
        };
        let offset = self
            .offset()
            .map(|offset| ByteString::from(offset.to_string()));
        let identity = offset
            .clone()
            .or_else(|| of(properties.message_id()))
            .unwrap_or_else(|| id().into());
        let kind = of(properties.kind())
            .filter(|kind| &**kind != amqp10::TYPE)
            .unwrap_or_else(|| format!("com.pointsman.rabbitmq.{source}").into());
        let mut event = Event::builder(identity, format!("/rabbitmq/{source}"), kind);
        if let Some(subject) = plain_text(&self.routing_key) {
            event = event.subject(subject);
        }
        event = event.time(
            properties
                .timestamp()
                .and_then(rfc3339)
                .unwrap_or_else(|| now.to_string()),
        );

        let message_id = offset.and_then(|_| of(properties.message_id()));
        let texts = [
            ("messageid", message_id),
            ("correlationid", of(properties.correlation_id())),
            ("replyto", of(properties.reply_to())),
            ("contentencoding", of(properties.content_encoding())),
            ("expiration", of(properties.expiration())),
            ("userid", of(properties.user_id())),
            ("appid", of(properties.app_id())),
            ("exchange", plain_text(&self.exchange)),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                event = event.attribute(name, ExtensionValue::String(text));
            }
        }
        if let Some(priority) = properties.priority() {
            event = event.attribute("priority", i32::from(*priority).into());
        }
        for (name, value) in self
            .headers()
            .filter(|(name, _)| *name != OFFSET)
            .take(HEADERS_MAX)
        {
            let name: String = name
                .bytes()
                .map(|byte| char::from(byte.to_ascii_lowercase()))
                .filter(char::is_ascii_alphanumeric)
                .collect();
            let taken = name.is_empty() || event.has(&name) || RESERVED.contains(&name.as_str());
            let value = extension(value).filter(|value| !matches!(value, ExtensionValue::String(text) if plain_text(text).is_none()));
            if let (Some(value), false) = (value, taken) {
                event = event.attribute(name, value);
            }
        }
        let (data, declared) = self.plain_data()?;
        if let Some(declared) = declared {
            event = event.datacontenttype(declared);
        }
        Ok(event.data(data))
    }

    fn plain_data(&self) -> Result<(Option<Data>, Option<&str>), InvalidEvent> {
        let encoding = self
            .properties
            .content_encoding()
            .as_ref()
            .map_or("", ShortString::as_str);
        let declared = self
            .content_type()
            .filter(|declared| is_media_type(declared));
        if !["", "identity", "utf-8", "utf8"]
            .iter()
            .any(|plain| encoding.eq_ignore_ascii_case(plain))
        {
            // What is compressed is not what its type says until somebody unpacks it.
            return Ok((
                (!self.body.is_empty()).then(|| Data::binary(self.body.clone())),
                Some("application/octet-stream"),
            ));
        }
        if declared.is_some() || self.body.is_empty() {
            return Ok((declared_data(declared, self.body.clone())?, declared));
        }
        let data = Data::read(None, self.body.clone())?;
        let declared = match data.kind() {
            DataKind::Json => "application/json",
            DataKind::Text => "text/plain",
            DataKind::Binary => "application/octet-stream",
        };
        Ok((Some(data), Some(declared)))
    }

    /// What an `event:` mapping sees beside the body.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let headers: Map<_, _> = self
            .headers()
            .map(|(name, value)| (name.to_owned(), tree(value, DEPTH_MAX)))
            .collect();
        Plain::fields([
            ("headers", headers.into()),
            ("properties", self.properties().into()),
            ("exchange", self.exchange.as_str().into()),
            ("routing_key", self.routing_key.as_str().into()),
            ("redelivered", self.redelivered.into()),
        ])
    }

    fn properties(&self) -> Map<String, Value> {
        let own = &self.properties;
        let texts = [
            ("content_type", own.content_type()),
            ("content_encoding", own.content_encoding()),
            ("correlation_id", own.correlation_id()),
            ("reply_to", own.reply_to()),
            ("expiration", own.expiration()),
            ("message_id", own.message_id()),
            ("type", own.kind()),
            ("user_id", own.user_id()),
            ("app_id", own.app_id()),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, Value::from(text.as_ref()?.as_str()))));
        let numbers = [
            ("delivery_mode", own.delivery_mode()),
            ("priority", own.priority()),
        ];
        let numbers = numbers
            .into_iter()
            .filter_map(|(name, number)| Some((name, Value::from((*number)?))));
        let timestamp = own
            .timestamp()
            .and_then(rfc3339)
            .map(|time| ("timestamp", Value::from(time)));
        texts
            .chain(numbers)
            .chain(timestamp)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// The attribute that a header's name stands for.
fn attribute(header: &str) -> Option<&str> {
    PREFIXES
        .iter()
        .find_map(|prefix| header.strip_prefix(prefix))
}

fn declared_data(declared: Option<&str>, body: Bytes) -> Result<Option<Data>, InvalidEvent> {
    if body.is_empty() {
        Ok(None)
    } else {
        Data::read(declared, body).map(Some)
    }
}

/// Section 3.1.3.2; none of what an attribute cannot be.
fn extension(value: &AMQPValue) -> Option<ExtensionValue> {
    let text = |text: String| Some(ExtensionValue::String(text.into()));
    match value {
        AMQPValue::Boolean(value) => Some((*value).into()),
        AMQPValue::LongString(value) => {
            text(std::str::from_utf8(value.as_bytes()).ok()?.to_owned())
        }
        AMQPValue::ShortString(value) => text(value.to_string()),
        AMQPValue::ByteArray(value) => text(BASE64_STANDARD.encode(value.as_slice())),
        AMQPValue::Timestamp(seconds) => text(rfc3339(*seconds)?),
        AMQPValue::Void => None,
        other => Some(i32::try_from(integer(other)?).ok()?.into()),
    }
}

fn integer(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(number) => i64::from(*number),
        AMQPValue::ShortShortUInt(number) => i64::from(*number),
        AMQPValue::ShortInt(number) => i64::from(*number),
        AMQPValue::ShortUInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        _ => return None,
    })
}

fn tree(value: &AMQPValue, depth: usize) -> Value {
    match value {
        _ if depth == 0 => Value::Null,
        AMQPValue::Boolean(value) => Value::from(*value),
        AMQPValue::Float(number) => Value::from(*number),
        AMQPValue::Double(number) => Value::from(*number),
        AMQPValue::DecimalValue(number) => {
            Value::from(f64::from(number.value) / 10_f64.powi(i32::from(number.scale)))
        }
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).map_or_else(
            |_| Value::from(BASE64_STANDARD.encode(text.as_bytes())),
            Value::from,
        ),
        AMQPValue::ByteArray(bytes) => Value::from(BASE64_STANDARD.encode(bytes.as_slice())),
        AMQPValue::Timestamp(seconds) => {
            rfc3339(*seconds).map_or_else(|| Value::from(*seconds), Value::from)
        }
        AMQPValue::FieldArray(items) => items
            .as_slice()
            .iter()
            .map(|item| tree(item, depth - 1))
            .collect(),
        AMQPValue::FieldTable(table) => table
            .into_iter()
            .map(|(name, value)| (name.as_str().to_owned(), tree(value, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
        other => integer(other).map_or(Value::Null, Value::from),
    }
}

/// A time of AMQP, in seconds since 1970.
fn rfc3339(seconds: u64) -> Option<String> {
    jiff::Timestamp::from_second(i64::try_from(seconds).ok()?)
        .ok()
        .map(|time| time.to_string())
}

/// A text that an attribute of its own right can be.
fn plain_text(text: &str) -> Option<ByteString> {
    let bad = |c: char| {
        c.is_control() || matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE
    };
    (!text.is_empty() && !text.chars().any(bad)).then(|| ByteString::from(text))
}

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
pub(super) fn encode(
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

#[cfg(test)]
mod tests;
