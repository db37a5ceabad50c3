//! A message as it came, and the event that is made of it.

use bytes::Bytes;
use bytestring::ByteString;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};
use pointsman_schemas::event::{InvalidEvent, is_string};
use pointsman_schemas::media_type::is_media_type;
use pointsman_schemas::trace::{TRACEPARENT, TRACESTATE};
use pointsman_schemas::{Data, Event, EventBuilder, ExtensionValue, Name, Timestamp, json};
use serde_json::{Map, Value};

use super::PREFIXES;
use super::values::{self, extension, integer, rfc3339};
use crate::Plain;
use crate::body;
use crate::rabbitmq::amqp10;

/// Where the offset of a message of a stream stands.
pub(super) const OFFSET: &str = "x-stream-offset";

/// Where quorum queues write how often a message has come back.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// How many of a plain message's headers become extension attributes.
const HEADERS_MAX: usize = 64;

/// Names that a plain message's header must not take, and those that are read of any message.
const RESERVED: [&str; 11] = [
    TRACEPARENT,
    TRACESTATE,
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

/// A message as it came.
#[derive(Debug, Default)]
pub(in crate::rabbitmq) struct Incoming {
    pub(in crate::rabbitmq) body: Bytes,
    pub(in crate::rabbitmq) properties: BasicProperties,
    pub(in crate::rabbitmq) exchange: String,
    pub(in crate::rabbitmq) routing_key: String,
    pub(in crate::rabbitmq) redelivered: bool,
    /// Why its body cannot be read.
    pub(in crate::rabbitmq) unreadable: Option<String>,
}

impl Incoming {
    /// Takes the body out of what another protocol has put around it.
    pub(in crate::rabbitmq) fn unwrapped(mut self) -> Self {
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

    /// Its headers that are texts.
    pub(in crate::rabbitmq) fn texts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers().filter_map(|(name, value)| match value {
            AMQPValue::LongString(text) => Some((name, text.as_bytes())),
            AMQPValue::ShortString(text) => Some((name, text.as_str().as_bytes())),
            _ => None,
        })
    }

    fn content_type(&self) -> Option<&str> {
        self.properties
            .content_type()
            .as_ref()
            .map(|text| text.as_str().trim())
            .filter(|text| !text.is_empty())
    }

    /// Its place in the stream, where it lies in one.
    pub(in crate::rabbitmq) fn offset(&self) -> Option<u64> {
        match self.properties.headers().as_ref()?.inner().get(OFFSET)? {
            AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
            _ => None,
        }
    }

    /// How often it has come back to its queue, where the queue counts that.
    pub(in crate::rabbitmq) fn returns(&self) -> Option<u64> {
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
    pub(in crate::rabbitmq) fn event(&self) -> Option<Result<Event, InvalidEvent>> {
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
        let declared = declared.or(attribute_type.as_deref());
        let (data, _) = body::read(declared, self.body.clone())?;
        event.data(data).build()
    }

    /// What a plain message becomes by default. `id` is taken where the message brings none of its
    /// own that lasts.
    ///
    /// # Errors
    /// The body is not what it is declared to be.
    pub(in crate::rabbitmq) fn plain(
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
        body::read(declared, self.body.clone())
    }

    /// What an `event:` mapping sees beside the body.
    pub(in crate::rabbitmq) fn fields(&self) -> Map<String, Value> {
        let headers: Map<_, _> = self
            .headers()
            .map(|(name, value)| (name.to_owned(), values::json(value)))
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

/// A text that an attribute of its own right can be.
fn plain_text(text: &str) -> Option<ByteString> {
    (!text.is_empty() && is_string(text)).then(|| ByteString::from(text))
}
