//! A message as it came, and the event that is made of it.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::event::is_string;
use pointsman_schemas::media_type::is_media_type;
use pointsman_schemas::{
    Clock, Data, Event, EventBuilder, ExtensionValue, InvalidEvent, Name, json,
};
use serde_json::{Map, Value as Json};

use super::values::{self, extension};
use super::{PARTITION_KEY, PREFIXES};
use crate::amqp::message::{Body, Message, PROPERTIES, Property};
use crate::amqp::value::Value;
use crate::structured::is_cloudevent;
use crate::trace::adopt;
use crate::{Arrival, Plain, body};

/// The type of an event that is made of a plain message.
const PLAIN_TYPE: &str = "com.pointsman.amqp.message";

/// What the media types of events as a whole begin with.
const STRUCTURED: &str = "application/cloudevents";

/// Makes events of messages.
#[derive(Clone, Debug)]
pub(in crate::amqp) struct Decoder {
    /// The source's name.
    pub(in crate::amqp) name: Name,
    pub(in crate::amqp) address: String,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    pub(in crate::amqp) mapped: bool,
    pub(in crate::amqp) clock: Arc<dyn Clock>,
    /// Makes ids of messages that bring none differ from those of earlier connections.
    pub(in crate::amqp) nonce: u128,
}

impl Decoder {
    /// The event of the message with this number.
    ///
    /// # Errors
    /// Why none can be made of it.
    pub(in crate::amqp) fn arrival(&self, bytes: &Bytes, number: u64) -> Result<Arrival, String> {
        let message = Message::read(bytes.clone()).map_err(|malformed| malformed.to_string())?;
        let read = Read::new(&message);
        let mut arrival = self.decode(&read, number)?;
        let texts = message.application.iter().filter_map(|(name, value)| {
            let (name, value) = (name.as_text()?, value.as_text()?);
            Some((&**name, value.as_bytes().as_ref()))
        });
        adopt(slice::from_mut(&mut arrival), texts);
        Ok(arrival)
    }

    fn decode(&self, read: &Read<'_>, number: u64) -> Result<Arrival, String> {
        if let Some(event) = read.event() {
            let event = event.map_err(|invalid| invalid.to_string())?;
            return Ok(Arrival::Event(Arc::new(event)));
        }
        let time = match read.message.property(Property::CreationTime) {
            Some(Value::Timestamp(milliseconds)) => values::rfc3339(*milliseconds),
            _ => None,
        };
        let time = time.unwrap_or_else(|| self.clock.now().to_string());
        let defaults = self.plain(read, number, &time);
        let defaults = defaults.map_err(|invalid| invalid.to_string())?;
        let fields = || self.fields(read, &time);
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    /// What a plain message becomes by default.
    fn plain(
        &self,
        read: &Read<'_>,
        number: u64,
        time: &str,
    ) -> Result<EventBuilder, InvalidEvent> {
        let text = |property| read.message.property(property).and_then(values::text);
        let usable = |text: &String| !text.is_empty() && is_string(text);
        let id = text(Property::MessageId).filter(usable);
        let id = id.unwrap_or_else(|| format!("{:032x}-{number:x}", self.nonce));
        let subject = text(Property::Subject).filter(usable);
        let (data, media_type) = read.plain_data()?;
        let mut event = Event::builder(&*id, format!("/amqp/{}", self.name), PLAIN_TYPE)
            .subject(subject.as_deref().unwrap_or(&self.address))
            .time(time)
            .data(data);
        if let Some(media_type) = media_type {
            event = event.datacontenttype(media_type);
        }
        if let Some(group) = text(Property::GroupId).filter(usable) {
            event = event.attribute(PARTITION_KEY, group.as_str().into());
        }
        Ok(event)
    }

    /// What an `event:` mapping sees beside the body.
    fn fields(&self, read: &Read<'_>, time: &str) -> Map<String, Json> {
        let message = read.message;
        let properties = PROPERTIES.into_iter().filter_map(|(property, name)| {
            Some((name.to_owned(), values::json(message.property(property)?)))
        });
        let properties: Map<_, _> = properties.collect();
        Plain::fields([
            ("headers", values::map(&message.application).into()),
            ("properties", properties.into()),
            ("annotations", values::map(&message.annotations).into()),
            ("address", self.address.as_str().into()),
            ("durable", message.is_durable.into()),
            ("priority", message.priority.into()),
            ("delivery_count", message.delivery_count.into()),
            ("time", time.into()),
        ])
    }
}

/// A message whose body is bytes, and what they are where the body itself says so.
struct Read<'m> {
    message: &'m Message,
    body: Bytes,
    implied: Option<&'static str>,
}

impl<'m> Read<'m> {
    fn new(message: &'m Message) -> Self {
        const JSON: Option<&str> = Some("application/json");
        let document = |value: Json| (Bytes::from(value.to_string()), JSON);
        let (body, implied) = match &message.body {
            Body::Data(bytes) | Body::Value(Value::Binary(bytes)) => (bytes.clone(), None),
            Body::Value(Value::Null) => (Bytes::new(), None),
            // Of a text it is not said what it is; most are JSON.
            Body::Value(Value::String(text)) => (text.clone().into_bytes(), None),
            Body::Value(value) => document(values::json(value)),
            Body::Sequence(list) => document(list.iter().map(values::json).collect()),
        };
        Self {
            message,
            body,
            implied,
        }
    }

    /// The media type that the message declares.
    fn content_type(&self) -> Option<&'m str> {
        let declared = self.message.text(Property::ContentType)?;
        Some(declared.trim())
    }

    /// Attributes by their names.
    fn attributes(&self) -> impl Iterator<Item = (&'m str, &'m Value)> {
        let properties = self.message.application.iter();
        properties.filter_map(|(name, value)| {
            let name = name.as_text()?;
            let mut prefixes = PREFIXES.iter();
            Some((
                prefixes.find_map(|prefix| name.strip_prefix(prefix))?,
                value,
            ))
        })
    }

    /// The CloudEvent that a message is, right or wrong; none where it is a plain one.
    fn event(&self) -> Option<Result<Event, InvalidEvent>> {
        const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
        let declared = self.content_type().unwrap_or_default();
        let essence = declared.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(json::MEDIA_TYPE) {
            return Some(json::decode(&self.body));
        }
        let start = essence.get(..STRUCTURED.len()).unwrap_or_default();
        if start.eq_ignore_ascii_case(STRUCTURED) {
            let mistake = format!(
                "the content type {essence} is no format of CloudEvents that is understood; send {}",
                json::MEDIA_TYPE
            );
            return Some(Err(InvalidEvent::Malformed(mistake)));
        }
        if self.attributes().any(|(name, _)| REQUIRED.contains(&name)) {
            return Some(self.binary());
        }
        // Senders that cannot set the content type.
        is_cloudevent(&self.body).then(|| json::decode(&self.body))
    }

    /// Section 3.1 of the binding.
    fn binary(&self) -> Result<Event, InvalidEvent> {
        let mut event = EventBuilder::default();
        let (mut versions, mut attribute_type) = (0, None);
        for (name, value) in self.attributes().filter(|(_, value)| !value.is_null()) {
            let value = extension(value).ok_or_else(|| InvalidEvent::Value {
                name: name.to_owned(),
                value: values::json(value).to_string(),
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
            event = event.datacontenttype(declared);
        }
        let declared = declared.or(attribute_type.as_deref()).or(self.implied);
        let (data, _) = body::read(declared, self.body.clone())?;
        event.data(data).build()
    }

    fn plain_data(&self) -> Result<(Option<Data>, Option<&'m str>), InvalidEvent> {
        let encoding = self.message.text(Property::ContentEncoding);
        let is_plain = encoding.is_none_or(|encoding| {
            let plain = ["identity", "utf-8", "utf8"];
            plain
                .iter()
                .any(|plain| encoding.eq_ignore_ascii_case(plain))
        });
        if !is_plain {
            // What is compressed is not what its type says until somebody unpacks it.
            let data = (!self.body.is_empty()).then(|| Data::binary(self.body.clone()));
            return Ok((data, Some("application/octet-stream")));
        }
        let declared = self
            .content_type()
            .filter(|declared| is_media_type(declared));
        body::read(declared.or(self.implied), self.body.clone())
    }
}
