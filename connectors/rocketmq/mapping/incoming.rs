//! A message as it came, and the event that is made of it.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::event::is_string;
use pointsman_schemas::{
    Clock, Event, EventBuilder, ExtensionValue, InvalidEvent, Name, Timestamp, json,
};
use serde_json::{Map, Value};

use super::{CONTENT_TYPE, NO_DATA, PREFIX};
use crate::rocketmq::content;
use crate::rocketmq::proto::{Message, SystemProperties};
use crate::structured::is_cloudevent;
use crate::trace::adopt;
use crate::{Arrival, Plain, body, leased};

/// The type of an event that is made of a plain message.
pub(super) const PLAIN_TYPE: &str = "com.pointsman.rocketmq.message";

/// The attribute that is the message's group.
const PARTITION_KEY: &str = "partitionkey";

/// What the media types of events as a whole begin with.
const STRUCTURED: &str = "application/cloudevents";

/// Makes events of messages.
#[derive(Clone, Debug)]
pub(in crate::rocketmq) struct Decoder {
    /// The source's name.
    pub(in crate::rocketmq) name: Name,
    pub(in crate::rocketmq) topic: String,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    pub(in crate::rocketmq) mapped: bool,
    pub(in crate::rocketmq) clock: Arc<dyn Clock>,
}

impl leased::Decoder for Decoder {
    type Message = Message;

    fn queue(&self) -> &str {
        &self.topic
    }

    fn arrival(&self, message: &Message) -> Result<Arrival, String> {
        let none = SystemProperties::default();
        let system = message.system_properties.as_ref().unwrap_or(&none);
        let body = content::read(system, &message.body)?;
        let read = Read {
            message,
            system,
            body,
        };
        let mut arrival = self.decode(&read)?;
        let properties = message.user_properties.iter();
        let headers = properties.map(|(name, value)| (name.as_str(), value.as_bytes()));
        adopt(slice::from_mut(&mut arrival), headers);
        Ok(arrival)
    }

    fn id(message: &Message) -> &str {
        let system = message.system_properties.as_ref();
        system.map_or("", |system| &system.message_id)
    }

    fn body(message: Message) -> Bytes {
        message.body
    }
}

/// A message whose body has been read.
struct Read<'m> {
    message: &'m Message,
    system: &'m SystemProperties,
    body: Bytes,
}

impl Decoder {
    fn decode(&self, read: &Read<'_>) -> Result<Arrival, String> {
        if let Some(event) = read.event() {
            let event = event.map_err(|invalid| invalid.to_string())?;
            return Ok(Arrival::Event(Arc::new(event)));
        }
        let time = read.born().unwrap_or_else(|| self.clock.now());
        let defaults = self.plain(read, time);
        let defaults = defaults.map_err(|invalid| invalid.to_string())?;
        let fields = || self.fields(read, time);
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    /// What a plain message becomes by default.
    fn plain(&self, read: &Read<'_>, time: Timestamp) -> Result<EventBuilder, InvalidEvent> {
        let (data, media_type) = body::read(read.content_type(), read.body.clone())?;
        let source = format!("/rocketmq/{}", self.name);
        let mut event = Event::builder(&*read.system.message_id, source, PLAIN_TYPE)
            .subject(&*self.topic)
            .time(time.to_string())
            .data(data);
        if let Some(media_type) = media_type {
            event = event.datacontenttype(media_type);
        }
        let group = read.system.message_group.as_deref();
        if let Some(group) = group.filter(|group| !group.is_empty() && is_string(group)) {
            event = event.attribute(PARTITION_KEY, group.into());
        }
        Ok(event)
    }

    /// What an `event:` mapping sees beside the body.
    fn fields(&self, read: &Read<'_>, time: Timestamp) -> Map<String, Value> {
        let system = read.system;
        let headers: Map<_, _> = read
            .message
            .user_properties
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        Plain::fields([
            ("headers", headers.into()),
            ("topic", self.topic.as_str().into()),
            ("tag", system.tag.as_deref().into()),
            ("keys", system.keys.clone().into()),
            ("group", system.message_group.as_deref().into()),
            ("message_id", system.message_id.as_str().into()),
            ("queue", system.queue_id.into()),
            ("offset", system.queue_offset.into()),
            ("attempt", system.delivery_attempt.into()),
            ("host", system.born_host.as_str().into()),
            ("time", time.to_string().into()),
        ])
    }
}

impl Read<'_> {
    /// When the message was made.
    fn born(&self) -> Option<Timestamp> {
        let born = self.system.born_timestamp?;
        born.micros().map(Timestamp)
    }

    /// The media type, which the SDK and its binding write differently.
    fn content_type(&self) -> Option<&str> {
        let properties = &self.message.user_properties;
        let found = properties
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE))?;
        Some(found.1.trim()).filter(|text| !text.is_empty())
    }

    /// Attributes by their names.
    fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let properties = self.message.user_properties.iter();
        properties.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value.as_str())))
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
        is_cloudevent(&self.body).then(|| json::decode(&self.body))
    }

    fn binary(&self) -> Result<Event, InvalidEvent> {
        let mut event = EventBuilder::default();
        let (mut has_version, mut media_type) = (false, self.content_type());
        for (name, value) in self.attributes() {
            match name {
                "specversion" => has_version = true,
                "datacontenttype" => media_type = media_type.or(Some(value)),
                name if name.eq_ignore_ascii_case("contenttype") => continue,
                _ => {}
            }
            event = event.attribute(name, ExtensionValue::from(value));
        }
        if !has_version {
            return Err(InvalidEvent::Missing("specversion"));
        }
        if let Some(declared) = media_type {
            event = event.datacontenttype(declared);
        }
        let body = match &self.body[..] {
            NO_DATA => Bytes::new(),
            _ => self.body.clone(),
        };
        let (data, _) = body::read(media_type, body)?;
        event.data(data).build()
    }
}
