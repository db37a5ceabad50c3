//! An entry as it came, and the event that is made of it.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use pointsman_schemas::{
    Clock, Event, EventBuilder, ExtensionValue, InvalidEvent, Name, Timestamp, json,
};
use serde_json::{Map, Value, json};

use super::{DATA, PREFIX};
use crate::redis::queue::Entry;
use crate::structured::is_cloudevent;
use crate::{Arrival, Plain, body, leased};

/// The type of an event that is made of a plain entry.
pub(super) const PLAIN_TYPE: &str = "com.pointsman.redis.entry";

/// An id that begins with less was given by somebody who does not count milliseconds: it would be a
/// time before 2001.
const MILLISECONDS_MIN: i64 = 1_000_000_000_000;

/// Makes events of entries.
#[derive(Clone, Debug)]
pub(in crate::redis) struct Decoder {
    /// The source's name.
    pub(in crate::redis) name: Name,
    /// The streams' names, and all of them for a person.
    pub(in crate::redis) streams: Vec<String>,
    pub(in crate::redis) shown: String,
    /// The field that is the body; all of them, where none is named.
    pub(in crate::redis) body: Option<String>,
    /// How often an entry may be handed out.
    pub(in crate::redis) deliveries_max: u64,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    pub(in crate::redis) mapped: bool,
    pub(in crate::redis) clock: Arc<dyn Clock>,
}

impl leased::Decoder for Decoder {
    type Message = Entry;

    fn queue(&self) -> &str {
        &self.shown
    }

    fn arrival(&self, entry: &Entry) -> Result<Arrival, String> {
        if entry.deliveries > self.deliveries_max {
            return Err(format!(
                "it was handed out {} times, and whoever had it went away each time",
                entry.deliveries
            ));
        }
        if let Some(event) = self.event(entry) {
            let event = event.map_err(|invalid| invalid.to_string())?;
            return Ok(Arrival::Event(Arc::new(event)));
        }
        let time = time(&entry.id).unwrap_or_else(|| self.clock.now());
        let defaults = self.plain(entry, time)?;
        let fields = || self.fields(entry, time);
        Arrival::made(defaults, self.mapped.then(fields))
            .map_err(|invalid| format!("no event can be made of this: {invalid}"))
    }

    fn id(entry: &Entry) -> &str {
        &entry.id
    }

    fn body(entry: Entry) -> Bytes {
        document(&entry.fields)
    }
}

impl Decoder {
    /// The CloudEvent that an entry is, right or wrong; none where it is a plain one.
    fn event(&self, entry: &Entry) -> Option<Result<Event, InvalidEvent>> {
        const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
        if attributes(entry).any(|(name, _)| REQUIRED.contains(&&*name)) {
            return Some(self.binary(entry));
        }
        let document = match (&self.body, entry.fields.as_slice()) {
            (Some(name), _) => value(entry, name)?,
            (None, [(_, value)]) => value,
            (None, _) => return None,
        };
        is_cloudevent(document).then(|| json::decode(document))
    }

    fn binary(&self, entry: &Entry) -> Result<Event, InvalidEvent> {
        let mut event = EventBuilder::default();
        let (mut has_version, mut media_type) = (false, None);
        for (name, value) in attributes(entry) {
            let text = std::str::from_utf8(value).map_err(|_| InvalidEvent::Value {
                name: name.clone().into_owned(),
                value: String::from_utf8_lossy(value).into_owned(),
                expected: "UTF-8",
            })?;
            if event.has(&name) || has_version && name == "specversion" {
                return Err(InvalidEvent::Duplicate(name.into_owned()));
            }
            match &*name {
                "specversion" => has_version = true,
                "datacontenttype" => media_type = Some(text),
                _ => {}
            }
            event = event.attribute(&*name, ExtensionValue::from(text));
        }
        if !has_version {
            return Err(InvalidEvent::Missing("specversion"));
        }
        let name = self.body.as_deref().unwrap_or(DATA);
        let value = value(entry, name).cloned().unwrap_or_default();
        let (data, _) = body::read(media_type, value)?;
        event.data(data).build()
    }

    /// What a plain entry becomes by default.
    fn plain(&self, entry: &Entry, time: Timestamp) -> Result<EventBuilder, String> {
        let (declared, value) = match &self.body {
            Some(name) => {
                let missing = || format!("it has no field {name}");
                (None, value(entry, name).ok_or_else(missing)?.clone())
            }
            None => (Some("application/json"), document(&entry.fields)),
        };
        let read = body::read(declared, value);
        let (data, media_type) = read.map_err(|invalid| invalid.to_string())?;
        let stream = self.stream(entry);
        let (id, source) = (
            format!("{stream}.{}", entry.id),
            format!("/redis/{}", self.name),
        );
        let event = Event::builder(id, source, PLAIN_TYPE)
            .subject(stream)
            .time(time.to_string())
            .data(data);
        Ok(match media_type {
            Some(media_type) => event.datacontenttype(media_type),
            None => event,
        })
    }

    /// What an `event:` mapping sees beside the body.
    fn fields(&self, entry: &Entry, time: Timestamp) -> Map<String, Value> {
        let beside = entry.fields.iter().filter(|(name, _)| {
            let body = self.body.as_ref();
            body.is_some_and(|body| body.as_bytes() != &**name)
        });
        let headers: Map<_, _> = beside
            .map(|(name, value)| (text(name).into_owned(), shown(value)))
            .collect();
        Plain::fields([
            ("headers", headers.into()),
            ("stream", self.stream(entry).into()),
            ("id", entry.id.as_str().into()),
            ("time", time.to_string().into()),
            ("deliveries", entry.deliveries.into()),
        ])
    }

    fn stream(&self, entry: &Entry) -> &str {
        self.streams.get(entry.stream).map_or("", String::as_str)
    }
}

/// The fields that are attributes, by the attributes' names.
fn attributes(entry: &Entry) -> impl Iterator<Item = (Cow<'_, str>, &Bytes)> {
    entry.fields.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(PREFIX.as_bytes())?;
        Some((String::from_utf8_lossy(name), value))
    })
}

fn value<'e>(entry: &'e Entry, name: &str) -> Option<&'e Bytes> {
    let mut fields = entry.fields.iter();
    let found = fields.find(|(found, _)| found == name.as_bytes());
    found.map(|(_, value)| value)
}

/// When an entry was added, as its id says.
fn time(id: &str) -> Option<Timestamp> {
    let (milliseconds, _) = id.split_once('-')?;
    let milliseconds: i64 = milliseconds.parse().ok()?;
    let micros = milliseconds.checked_mul(1_000)?;
    (milliseconds >= MILLISECONDS_MIN).then_some(Timestamp(micros))
}

/// The fields as a JSON object, in their order; one that stands there twice does so there as well.
fn document(fields: &[(Bytes, Bytes)]) -> Bytes {
    let members = fields.iter().map(|(name, value)| {
        let name = Value::from(&*text(name));
        format!("{name}:{}", shown(value))
    });
    let members: Vec<_> = members.collect();
    format!("{{{}}}", members.join(",")).into()
}

/// A value as JSON has it: a text, or bytes in base64, which say so.
fn shown(value: &Bytes) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(value) }),
    }
}

fn text(bytes: &Bytes) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
