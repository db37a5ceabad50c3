//! A record as it came, and the event that is made of it.

use std::slice;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use krafka::ConsumerRecord;
use pointsman_schemas::event::is_string;
use pointsman_schemas::{
    Clock, Event, EventBuilder, ExtensionValue, InvalidEvent, Name, Timestamp, json,
};
use serde_json::{Map, Value};

use super::{CONTENT_TYPE, PARTITION_KEY, PREFIX};
use crate::trace::adopt;
use crate::{Arrival, Plain, body};

/// The type of an event that is made of a plain record.
pub(in crate::kafka) const PLAIN_TYPE: &str = "com.pointsman.kafka.record";

/// Makes events of records.
#[derive(Clone, Debug)]
pub(in crate::kafka) struct Decoder {
    /// The source's name.
    pub(in crate::kafka) name: Name,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    pub(in crate::kafka) mapped: bool,
    pub(in crate::kafka) clock: Arc<dyn Clock>,
}

impl Decoder {
    /// What a record brings.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(in crate::kafka) fn arrival(&self, record: &ConsumerRecord) -> Result<Arrival, String> {
        let mut arrival = self.decode(record)?;
        let headers = record.headers.iter();
        let headers = headers.filter_map(|(name, value)| Some((&**name, &**value.as_ref()?)));
        adopt(slice::from_mut(&mut arrival), headers);
        Ok(arrival)
    }

    fn decode(&self, record: &ConsumerRecord) -> Result<Arrival, String> {
        if let Some(event) = event(record) {
            let event = event.map_err(|invalid| invalid.to_string())?;
            return Ok(Arrival::Event(Arc::new(event)));
        }
        let time = time(record).unwrap_or_else(|| self.clock.now());
        let defaults = self
            .plain(record, time)
            .map_err(|invalid| invalid.to_string())?;
        let fields = || fields(record, time);
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    /// What a plain record becomes by default.
    fn plain(
        &self,
        record: &ConsumerRecord,
        time: Timestamp,
    ) -> Result<EventBuilder, InvalidEvent> {
        let value = record.value.clone().unwrap_or_default();
        let (data, media_type) = body::read(content_type(record), value)?;
        // The time tells a record from one of the same number in a topic that was made anew.
        let id = format!(
            "{}.{}.{}.{}",
            record.topic, record.partition, record.offset, record.timestamp
        );
        let mut event = Event::builder(id, format!("/kafka/{}", self.name), PLAIN_TYPE)
            .subject(&*record.topic)
            .time(time.to_string())
            .data(data);
        if let Some(media_type) = media_type.filter(|_| record.value.is_some()) {
            event = event.datacontenttype(media_type);
        }
        let key = record
            .key_str()
            .filter(|key| !key.is_empty() && is_string(key));
        if let Some(key) = key {
            event = event.attribute(PARTITION_KEY, key.into());
        }
        Ok(event)
    }
}

/// When the record says that it was written.
fn time(record: &ConsumerRecord) -> Option<Timestamp> {
    let milliseconds = Some(record.timestamp).filter(|time| *time >= 0)?;
    milliseconds.checked_mul(1_000).map(Timestamp)
}

fn content_type(record: &ConsumerRecord) -> Option<&str> {
    let (_, value) = record
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE))?;
    let text = std::str::from_utf8(value.as_ref()?).ok()?.trim();
    (!text.is_empty()).then_some(text)
}

/// The CloudEvent that a record is, right or wrong; none where it is a plain one.
fn event(record: &ConsumerRecord) -> Option<Result<Event, InvalidEvent>> {
    const STRUCTURED: &str = "application/cloudevents";
    const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
    let declared = content_type(record).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(json::MEDIA_TYPE) {
        return Some(json::decode(record.value.as_ref().unwrap_or(&Bytes::new())));
    }
    if declared
        .get(..STRUCTURED.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
    {
        let mistake = format!(
            "the content type {essence} is no format of CloudEvents that is understood; send {}",
            json::MEDIA_TYPE
        );
        return Some(Err(InvalidEvent::Malformed(mistake)));
    }
    attributes(record)
        .any(|(name, _)| REQUIRED.contains(&name))
        .then(|| binary(record))
}

/// The attributes in the headers; a header without a value is none.
fn attributes(record: &ConsumerRecord) -> impl Iterator<Item = (&str, &Bytes)> {
    record
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value.as_ref()?)))
}

/// Section 3.2.
fn binary(record: &ConsumerRecord) -> Result<Event, InvalidEvent> {
    let mut event = EventBuilder::default();
    let (mut versions, mut attribute_type) = (0, None);
    for (name, value) in attributes(record) {
        let text = std::str::from_utf8(value).map_err(|_| InvalidEvent::Value {
            name: name.to_owned(),
            value: String::from_utf8_lossy(value).into_owned(),
            expected: "UTF-8",
        })?;
        versions += usize::from(name == "specversion");
        if event.has(name) || versions > 1 {
            return Err(InvalidEvent::Duplicate(name.to_owned()));
        }
        if name == "datacontenttype" {
            attribute_type = Some(text);
        }
        event = event.attribute(name, ExtensionValue::from(text));
    }
    if versions == 0 {
        return Err(InvalidEvent::Missing("specversion"));
    }
    let declared = content_type(record);
    if let Some(declared) = declared {
        event = event.datacontenttype(declared);
    }
    let value = record.value.clone().unwrap_or_default();
    let (data, _) = body::read(declared.or(attribute_type), value)?;
    event.data(data).build()
}

/// What an `event:` mapping sees beside the body.
fn fields(record: &ConsumerRecord, time: Timestamp) -> Map<String, Value> {
    let headers: Map<_, _> = record
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), text(value.as_ref())))
        .collect();
    Plain::fields([
        ("headers", headers.into()),
        ("key", text(record.key.as_ref())),
        ("topic", (&*record.topic).into()),
        ("partition", record.partition.into()),
        ("offset", record.offset.into()),
        ("time", time.to_string().into()),
    ])
}

/// Bytes as JSON has them: a text, or base64.
fn text(bytes: Option<&Bytes>) -> Value {
    bytes.map_or(Value::Null, |bytes| match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => STANDARD.encode(bytes).into(),
    })
}
