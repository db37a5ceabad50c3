//! Messages as events and back: the NATS protocol binding of CloudEvents 1.0.3, and what is no
//! CloudEvent.
//!
//! Of what the specification leaves open:
//!
//! - The data's media type is `ce-datacontenttype` and, where that is missing, `Content-Type`,
//!   which other writers use.
//! - A message without headers whose JSON has a `specversion` and is a CloudEvent is one: so the
//!   binding was until 1.0.2, and so some libraries still write.
//! - Header names are compared without regard to case, as the binding says, although servers keep
//!   it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::HeaderName;
use async_nats::header::HeaderMap;
use async_nats::jetstream::message::Info;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pointsman_schemas::http::{decode, encode_binary, encode_structured};
use pointsman_schemas::{Clock, Event, Name, Reject, Timestamp, json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use crate::trace::adopt;
use crate::{Arrival, Plain, body};

/// The type of an event that is made of a plain message.
pub const PLAIN_TYPE: &str = "com.pointsman.nats.message";

/// Events in one message at most, should somebody send a batch.
const MESSAGE_EVENTS_MAX: usize = 1_000;

/// How the data's media type is written: section 3.1.3.1.
const DATACONTENTTYPE: &str = "ce-datacontenttype";

/// Makes events of messages.
#[derive(Clone, Debug)]
pub(super) struct Mapper {
    name: Name,
    /// Whether an `event:` mapping wants what is no CloudEvent.
    mapped: bool,
    clock: Arc<dyn Clock>,
}

type Arrivals = SmallVec<[Arrival; 1]>;

impl Mapper {
    pub(super) fn new(name: Name, mapped: bool, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            mapped,
            clock,
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// What a message brings, with where it lies in its stream.
    pub(super) fn read(
        &self,
        message: &async_nats::Message,
        stored: Option<&Info<'_>>,
    ) -> (Arrivals, Vec<Reject>) {
        match self.arrivals(message, stored) {
            Ok(mut arrivals) => {
                if let Some(headers) = &message.headers {
                    adopt(&mut arrivals, values(headers));
                }
                (arrivals, Vec::new())
            }
            Err(reason) => {
                let place = stored.map_or_else(String::new, |at| {
                    format!(
                        ", number {} of the stream {}",
                        at.stream_sequence, at.stream
                    )
                });
                let reason = format!("{reason} (subject {}{place})", message.subject);
                (
                    Arrivals::new(),
                    vec![Reject {
                        raw: message.payload.clone(),
                        reason,
                    }],
                )
            }
        }
    }

    fn arrivals(
        &self,
        message: &async_nats::Message,
        stored: Option<&Info<'_>>,
    ) -> Result<Arrivals, String> {
        let event = |event| Ok(smallvec![Arrival::Event(Arc::new(event))]);
        let Some(headers) = message
            .headers
            .as_ref()
            .filter(|headers| !headers.is_empty())
        else {
            // A guess: what is none after all is a plain message.
            if message.payload.first() == Some(&b'{')
                && memchr::memmem::find(&message.payload, b"\"specversion\"").is_some()
                && let Ok(decoded) = json::decode(&message.payload)
            {
                return event(decoded);
            }
            return self.plain(message, None, stored);
        };
        if !announces_event(headers) {
            return self.plain(message, Some(headers), stored);
        }
        let headers = http_headers(headers)?;
        let declared = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if declared
            .trim()
            .eq_ignore_ascii_case("application/cloudevents")
        {
            return event(json::decode(&message.payload).map_err(|error| error.to_string())?);
        }
        let decoded = decode(&headers, message.payload.clone(), MESSAGE_EVENTS_MAX)
            .map_err(|error| error.to_string())?;
        if decoded.events.is_empty() {
            return Err("the batch has no events".to_owned());
        }
        Ok(decoded
            .events
            .into_iter()
            .map(|event| Arrival::Event(Arc::new(event)))
            .collect())
    }

    /// An event of what is none.
    fn plain(
        &self,
        message: &async_nats::Message,
        headers: Option<&HeaderMap>,
        stored: Option<&Info<'_>>,
    ) -> Result<Arrivals, String> {
        let declared = headers.and_then(|headers| {
            headers
                .iter()
                .find(|(name, _)| is_header(name, CONTENT_TYPE.as_str()))
                .and_then(|(_, values)| Some(values.last()?.as_str()))
        });
        let (data, media_type) =
            body::read(declared, message.payload.clone()).map_err(|error| error.to_string())?;
        let id = match stored {
            // The time tells a message from one of the same number in a stream that was made anew.
            Some(at) => format!(
                "{}.{}.{}",
                at.stream,
                at.stream_sequence,
                at.published.unix_timestamp_nanos()
            ),
            None => format!("{:032x}", rand::random::<u128>()),
        };
        let time = match stored {
            Some(at) => Timestamp(
                i64::try_from(at.published.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX),
            ),
            None => self.clock.now(),
        };
        let mut event = Event::builder(id, format!("/nats/{}", self.name), PLAIN_TYPE)
            .subject(message.subject.as_str())
            .time(time.to_string())
            .data(data);
        if let Some(media_type) = media_type {
            event = event.datacontenttype(media_type);
        }
        let fields = || fields(message, headers, stored, time);
        let made = Arrival::made(event, self.mapped.then(fields));
        let made = made.map_err(|error| format!("no event can be made of this: {error}"))?;
        Ok(smallvec![made])
    }
}

fn is_header(name: &HeaderName, spec: &str) -> bool {
    AsRef::<str>::as_ref(name).eq_ignore_ascii_case(spec)
}

/// Each value under the name of its header.
fn values(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values
            .iter()
            .map(move |value| (name, value.as_str().as_bytes()))
    })
}

/// True where the headers announce a CloudEvent, be it right or wrong.
fn announces_event(headers: &HeaderMap) -> bool {
    const REQUIRED: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
    const STRUCTURED: &str = "application/cloudevents";
    headers.iter().any(|(name, values)| {
        REQUIRED.iter().any(|required| is_header(name, required))
            || is_header(name, CONTENT_TYPE.as_str())
                && values.iter().any(|value| {
                    value
                        .as_str()
                        .get(..STRUCTURED.len())
                        .is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
                })
    })
}

/// The headers as the HTTP binding has them, which writes all attributes the same way but the
/// data's media type.
fn http_headers(headers: &HeaderMap) -> Result<http::HeaderMap, String> {
    let mut map = http::HeaderMap::with_capacity(headers.len());
    let mut media_type = None;
    for (name, values) in headers.iter() {
        let text: &str = name.as_ref();
        for value in values {
            if is_header(name, DATACONTENTTYPE) {
                let decoded = percent_encoding::percent_decode_str(value.as_str()).decode_utf8();
                let decoded = decoded
                    .ok()
                    .and_then(|text| http::HeaderValue::from_str(&text).ok());
                media_type =
                    Some(decoded.ok_or_else(|| format!("the header {text} is no media type"))?);
                continue;
            }
            // A name that HTTP does not have is no attribute's.
            let Ok(name) = http::HeaderName::try_from(text) else {
                continue;
            };
            let broken = |_| format!("the header {text} has control characters in its value");
            let value = http::HeaderValue::from_bytes(value.as_str().as_bytes()).map_err(broken)?;
            map.try_append(name, value)
                .map_err(|_| "there are too many headers".to_owned())?;
        }
    }
    if let Some(media_type) = media_type {
        map.insert(CONTENT_TYPE, media_type);
    }
    Ok(map)
}

/// What an `event:` mapping sees beside the body.
fn fields(
    message: &async_nats::Message,
    headers: Option<&HeaderMap>,
    stored: Option<&Info<'_>>,
    time: Timestamp,
) -> Map<String, Value> {
    let mut texts = BTreeMap::<String, String>::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        for value in values {
            let joined = texts
                .entry(AsRef::<str>::as_ref(name).to_ascii_lowercase())
                .or_default();
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(value.as_str());
        }
    }
    let headers: Map<_, _> = texts
        .into_iter()
        .map(|(name, text)| (name, text.into()))
        .collect();
    let mut fields = Plain::fields([
        ("headers", headers.into()),
        ("subject", message.subject.as_str().into()),
        ("time", time.to_string().into()),
    ]);
    if let Some(at) = stored {
        fields.insert("stream".to_owned(), at.stream.into());
        fields.insert("sequence".to_owned(), at.stream_sequence.into());
    }
    fields
}

/// How an event is written into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "NatsMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes as `ce-` headers, the data as the payload.
    #[default]
    Binary,
    /// The event in the JSON format as the payload.
    Structured,
    /// The data as the payload, and no attributes.
    Data,
}

/// Writes an event as headers and a payload.
pub(super) fn write(event: &Event, mode: Mode) -> (HeaderMap, Bytes) {
    let (http, payload) = match mode {
        Mode::Binary => encode_binary(event),
        Mode::Structured => encode_structured(event),
        Mode::Data => {
            let (mut headers, payload) = encode_binary(event);
            let media_type = headers.remove(CONTENT_TYPE);
            (
                media_type
                    .into_iter()
                    .map(|media_type| (CONTENT_TYPE, media_type))
                    .collect(),
                payload,
            )
        }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &http {
        // Visible ASCII, and no line break, which the client would panic of.
        let Ok(value) = value.to_str() else { continue };
        if mode == Mode::Binary && name == CONTENT_TYPE {
            // Section 3.1.3.2: a space is percent-encoded in every attribute, and what the HTTP
            // binding does not encode is this alone.
            headers.insert(
                HeaderName::from_static(DATACONTENTTYPE),
                encoded(value).into_owned(),
            );
        } else if let Some(name) = header_name(name.as_str()) {
            headers.insert(name, value);
        }
    }
    (headers, payload)
}

/// A header's name; those that nearly every event has are not made anew for each.
fn header_name(name: &str) -> Option<HeaderName> {
    const COMMON: [&str; 6] = [
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-subject",
        "ce-time",
    ];
    match COMMON.into_iter().find(|common| *common == name) {
        Some(common) => Some(HeaderName::from_static(common)),
        None => HeaderName::try_from(name).ok(),
    }
}

fn encoded(media_type: &str) -> Cow<'_, str> {
    /// What a media type may have that a header's value must not: section 3.1.3.2.
    const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(b' ').add(b'"');
    utf8_percent_encode(media_type, ESCAPED).into()
}
