//! A message as it came, and the event that is made of it.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{
    Clock, Event, EventBuilder, ExtensionValue, InvalidEvent, Name, Timestamp, json,
};
use serde_json::{Map, Value};

use super::RETAINED;
use crate::mqtt::packet::{Publish, property};
use crate::structured::is_cloudevent;
use crate::trace::adopt;
use crate::{Arrival, Plain, body};

/// The type of an event that is made of a plain message.
pub(super) const PLAIN_TYPE: &str = "com.pointsman.mqtt.message";

/// What the media types of events as a whole begin with.
const STRUCTURED: &str = "application/cloudevents";

/// The user property that only a CloudEvent has.
const VERSION: &[u8] = b"specversion";

/// Makes events of messages.
#[derive(Clone, Debug)]
pub(in crate::mqtt) struct Decoder {
    /// The source's name.
    pub(in crate::mqtt) name: Name,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    pub(in crate::mqtt) mapped: bool,
    pub(in crate::mqtt) clock: Arc<dyn Clock>,
    /// Differs from one connection to the next; with a number it makes an id.
    pub(in crate::mqtt) nonce: u128,
}

impl Decoder {
    /// What a message brings, which is the one of this number over its connection.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(in crate::mqtt) fn arrival(
        &self,
        publish: &Publish,
        number: u64,
    ) -> Result<Arrival, String> {
        if let Some(why) = publish.unreadable {
            return Err(why.to_owned());
        }
        let topic = str::from_utf8(&publish.topic).map_err(|_| "its topic is not UTF-8")?;
        let arrival = self.decode(publish, topic, number);
        let mut arrival = arrival.map_err(|reason| format!("{reason} (topic {topic:?})"))?;
        let properties = publish.properties.user.iter();
        let headers = properties
            .filter_map(|(name, value)| Some((str::from_utf8(name).ok()?, value.as_ref())));
        adopt(slice::from_mut(&mut arrival), headers);
        Ok(arrival)
    }

    fn decode(&self, publish: &Publish, topic: &str, number: u64) -> Result<Arrival, String> {
        let content_type = content_type(publish).map_err(|invalid| invalid.to_string())?;
        if let Some(event) = event(publish, content_type) {
            let event = event.and_then(|event| marked(event, publish));
            let event = event.map_err(|invalid| invalid.to_string())?;
            return Ok(Arrival::Event(Arc::new(event)));
        }
        let time = self.clock.now();
        let defaults = self.plain(publish, content_type, topic, number, time);
        let defaults = defaults.map_err(|invalid| invalid.to_string())?;
        let fields = || fields(publish, content_type, topic, time);
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    /// What a plain message becomes by default.
    fn plain(
        &self,
        publish: &Publish,
        content_type: Option<&str>,
        topic: &str,
        number: u64,
        time: Timestamp,
    ) -> Result<EventBuilder, InvalidEvent> {
        let (data, media_type) = body::read(content_type, publish.payload.clone())?;
        let id = format!("{:032x}-{number:x}", self.nonce);
        let mut event = Event::builder(id, format!("/mqtt/{}", self.name), PLAIN_TYPE)
            .subject(topic)
            .time(time.to_string())
            .data(data);
        if let Some(media_type) = media_type {
            event = event.datacontenttype(media_type);
        }
        if publish.retain {
            event = event.attribute(RETAINED, true.into());
        }
        Ok(event)
    }
}

/// An event that a broker had retained says so.
fn marked(event: Event, publish: &Publish) -> Result<Event, InvalidEvent> {
    match publish.retain {
        true => event
            .into_builder()
            .attribute(RETAINED, true.into())
            .build(),
        false => Ok(event),
    }
}

/// The media type that a message declares.
fn content_type(publish: &Publish) -> Result<Option<&str>, InvalidEvent> {
    let Some(value) = publish.properties.text(property::CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = text("the content type", value)?.trim();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The CloudEvent that a message is, right or wrong; none where it is a plain one.
fn event(publish: &Publish, content_type: Option<&str>) -> Option<Result<Event, InvalidEvent>> {
    let declared = content_type.unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(json::MEDIA_TYPE) {
        return Some(json::decode(&publish.payload));
    }
    let start = essence.get(..STRUCTURED.len()).unwrap_or_default();
    if start.eq_ignore_ascii_case(STRUCTURED) {
        let mistake = format!(
            "the content type {essence} is no format of CloudEvents that is understood; send {}",
            json::MEDIA_TYPE
        );
        return Some(Err(InvalidEvent::Malformed(mistake)));
    }
    let mut properties = publish.properties.user.iter();
    if properties.any(|(name, _)| name == VERSION) {
        return Some(binary(publish, content_type));
    }
    is_cloudevent(&publish.payload).then(|| json::decode(&publish.payload))
}

/// Section 3.1. A user property whose name no attribute may have is none of the event's.
fn binary(publish: &Publish, content_type: Option<&str>) -> Result<Event, InvalidEvent> {
    let mut event = EventBuilder::default();
    let (mut has_version, mut attribute_type) = (false, None);
    for (name, value) in &publish.properties.user {
        let Some(name) = str::from_utf8(name).ok().filter(|name| is_attribute(name)) else {
            continue;
        };
        let value = text(name, value)?;
        if event.has(name) || has_version && name == "specversion" {
            return Err(InvalidEvent::Duplicate(name.to_owned()));
        }
        match name {
            "specversion" => has_version = true,
            "datacontenttype" => attribute_type = Some(value),
            _ => {}
        }
        event = event.attribute(name, ExtensionValue::from(value));
    }
    if let Some(declared) = content_type {
        event = event.datacontenttype(declared);
    }
    let (data, _) = body::read(content_type.or(attribute_type), publish.payload.clone())?;
    event.data(data).build()
}

fn is_attribute(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.bytes().all(is_part)
}

fn text<'v>(name: &str, value: &'v Bytes) -> Result<&'v str, InvalidEvent> {
    str::from_utf8(value).map_err(|_| InvalidEvent::Value {
        name: name.to_owned(),
        value: String::from_utf8_lossy(value).into_owned(),
        expected: "UTF-8",
    })
}

/// What an `event:` mapping sees beside the body.
fn fields(
    publish: &Publish,
    content_type: Option<&str>,
    topic: &str,
    time: Timestamp,
) -> Map<String, Value> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let properties = publish.properties.user.iter();
    let headers: Map<_, _> = properties
        .map(|(name, value)| (text(name), text(value).into()))
        .collect();
    Plain::fields([
        ("headers", headers.into()),
        ("topic", topic.into()),
        ("content_type", content_type.into()),
        ("qos", (publish.qos as u8).into()),
        ("retained", publish.retain.into()),
        ("time", time.to_string().into()),
    ])
}
