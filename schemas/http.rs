//! The HTTP protocol binding, CloudEvents 1.0.2: headers and bodies to events and back, without IO.
//!
//! What the specification leaves open is decided so:
//!
//! - A body of no bytes is no data, in binary mode: empty text and empty bytes are lost in it.
//! - In binary mode data is what [`Data::read`] makes of `Content-Type` and the bytes: undeclared
//!   bytes that are JSON are JSON. All are carried byte for byte (but for a byte order mark in
//!   front of JSON), and what binary mode brought in leaves it unchanged. JSON of a type that is
//!   not JSON, which the JSON format can bring, arrives as that type's text or bytes.
//! - What was not declared is not added to the event: `datacontenttype` stays unset. The recipient
//!   is told what the data is, because the specification asks for that where an event changes its
//!   format ("datacontenttype"), and the event does not know by which it came.
//! - A header's value is text: integers and booleans come back from binary mode as `"5"` and
//!   `"true"` (section 3.1.3.2).
//! - Several SDKs neither encode nor decode header values. Where a value cannot have been encoded
//!   (a `%` that two hexadecimal digits do not follow, no UTF-8 behind it, a quoted string that
//!   does not end), or where its attribute may not have the decoded value and may have the raw one,
//!   the raw one is taken. Bytes above ASCII are taken where they are UTF-8.
//! - `ce-datacontenttype` must not be there (section 3.1.1), nor one attribute twice. In structured
//!   mode `ce-` headers are not looked at.

mod value;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::data::{Data, DataKind};
use crate::event::{AttributeValue, Event, EventBuilder, InvalidEvent, may_hold, shorten};
use crate::json::{self, BatchError};
use crate::media_type::{charset, essence, is_utf8, starts_with};
use crate::outcome::Replies;

/// How events travel in an HTTP message: section 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One event: attributes in headers, data as the body.
    Binary,
    /// One event, all of it in the body.
    Structured,
    /// Any number of events in the body.
    Batch,
}

/// What an HTTP message brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// How it brought them.
    pub mode: Mode,
    /// The events: exactly one but for a batch, which may even be empty.
    pub events: Vec<Event>,
}

/// Why no events could be taken from an HTTP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is no CloudEvent, or none in a format that is understood.
    #[error(
        "no CloudEvent in a format that is understood: Content-Type is {content_type:?}; send {}, \
         {}, or ce- headers",
        json::MEDIA_TYPE,
        json::BATCH_MEDIA_TYPE
    )]
    Unsupported {
        /// What was declared, perhaps nothing.
        content_type: String,
    },
    /// The event is wrong.
    #[error(transparent)]
    Event(#[from] InvalidEvent),
    /// An event of a batch is wrong.
    #[error("event {index} of the batch: {error}")]
    BatchEvent {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: InvalidEvent,
    },
    /// More events than are taken at once.
    #[error("the batch has more than {events_max} events; send it in parts")]
    TooMany {
        /// How many are taken.
        events_max: usize,
    },
}

impl DecodeError {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Event(_) | Self::BatchEvent { .. } => StatusCode::BAD_REQUEST,
            Self::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

impl From<BatchError> for DecodeError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Malformed(error) => Self::Event(error),
            BatchError::Event { index, error } => Self::BatchEvent { index, error },
            BatchError::TooMany { events_max } => Self::TooMany { events_max },
        }
    }
}

/// What every `ce-` header's name begins with: section 3.1.3.1.
const PREFIX: &str = "ce-";

const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
const CE_ID: HeaderName = HeaderName::from_static("ce-id");
const CE_SOURCE: HeaderName = HeaderName::from_static("ce-source");
const CE_TYPE: HeaderName = HeaderName::from_static("ce-type");
const CE_SUBJECT: HeaderName = HeaderName::from_static("ce-subject");
const CE_TIME: HeaderName = HeaderName::from_static("ce-time");
const CE_DATASCHEMA: HeaderName = HeaderName::from_static("ce-dataschema");
const VERSION: HeaderValue = HeaderValue::from_static("1.0");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// How many headers there is room for beside those of extensions: all attributes, and as many again
/// for whoever sends them on.
const HEADERS_USUAL: usize = 16;

/// True where the headers announce a CloudEvent in any mode, be it right or wrong.
#[must_use]
pub fn is_cloudevent(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion") || is_cloudevent_body(headers)
}

/// True where the headers announce that the body alone holds the event or events (structured or
/// batch mode), be they right or wrong.
#[must_use]
pub fn is_cloudevent_body(headers: &HeaderMap) -> bool {
    let declared = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    starts_with(declared.trim_start(), "application/cloudevents")
}

/// Takes the events from an HTTP request or response; a batch may have at most `events_max`.
///
/// # Errors
/// [`DecodeError`], which knows the status to answer with.
pub fn decode(headers: &HeaderMap, body: Bytes, events_max: usize) -> Result<Decoded, DecodeError> {
    let mut types = headers.get_all(CONTENT_TYPE).into_iter();
    let declared = match types.next().map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) => Some(text.trim()).filter(|text| !text.is_empty()),
        Some(Err(_)) => {
            return Err(
                InvalidEvent::Malformed("the header Content-Type is not ASCII".into()).into(),
            );
        }
    };
    if types.next().is_some() {
        return Err(InvalidEvent::Duplicate("Content-Type".into()).into());
    }
    let unsupported = || DecodeError::Unsupported {
        content_type: shorten(declared.unwrap_or_default()),
    };
    // Section 3 asks for the mode by prefix, so that a format unknown here is not taken for data in
    // binary mode.
    let Some(declared) =
        declared.filter(|declared| starts_with(declared, "application/cloudevents"))
    else {
        return match binary(headers, body, declared) {
            Some(event) => Ok(Decoded {
                mode: Mode::Binary,
                events: vec![event?],
            }),
            None => Err(unsupported()),
        };
    };
    if !charset(declared).is_none_or(is_utf8) {
        return Err(unsupported());
    }
    let essence = essence(declared);
    if essence.eq_ignore_ascii_case(json::MEDIA_TYPE) {
        Ok(Decoded {
            mode: Mode::Structured,
            events: vec![json::decode(&body)?],
        })
    } else if essence.eq_ignore_ascii_case(json::BATCH_MEDIA_TYPE) {
        Ok(Decoded {
            mode: Mode::Batch,
            events: json::decode_batch(&body, events_max)?,
        })
    } else {
        Err(unsupported())
    }
}

/// Takes what can be read from an HTTP message that announces CloudEvents; see
/// [`json::decode_each`] for what becomes of a batch.
#[must_use]
pub fn decode_each(headers: &HeaderMap, body: Bytes) -> Replies {
    let mut types = headers
        .get_all(CONTENT_TYPE)
        .iter()
        .map(|value| value.to_str().unwrap_or_default().trim());
    let declared = types.next().unwrap_or_default();
    if types.next().is_none()
        && essence(declared).eq_ignore_ascii_case(json::BATCH_MEDIA_TYPE)
        && charset(declared).is_none_or(is_utf8)
    {
        return json::decode_each(&body);
    }
    match decode(headers, body.clone(), 1) {
        Ok(decoded) => Replies {
            events: decoded.events,
            unreadable: Vec::new(),
        },
        Err(error) => Replies::unreadable(body, error.to_string()),
    }
}

/// Reads binary mode; none where no `ce-` header says that there is an event.
fn binary(
    headers: &HeaderMap,
    body: Bytes,
    declared: Option<&str>,
) -> Option<Result<Event, InvalidEvent>> {
    const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
    attribute_headers(headers)
        .any(|(name, _)| REQUIRED.contains(&name))
        .then(|| {
            let mut builder = attributes(headers, declared)?;
            if !body.is_empty() {
                builder.set_data(Data::read(declared, body)?);
            }
            builder.check_read()?;
            Ok(builder.into_event())
        })
}

/// The attributes' names and values.
fn attribute_headers(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix(PREFIX)?, value.as_bytes())))
}

/// All attributes share one allocation.
fn attributes(headers: &HeaderMap, declared: Option<&str>) -> Result<EventBuilder, InvalidEvent> {
    let length: usize = attribute_headers(headers)
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let mut builder = EventBuilder::with_capacity(length + declared.map_or(0, str::len));
    for (name, value) in attribute_headers(headers) {
        if name == "datacontenttype" {
            return Err(InvalidEvent::Malformed(
                "the header ce-datacontenttype must not be there: Content-Type says it".into(),
            ));
        }
        let text = value::decode(value, |decoded| may_hold(name, decoded)).map_err(|expected| {
            InvalidEvent::Value {
                name: shorten(name),
                value: shorten(&String::from_utf8_lossy(value)),
                expected,
            }
        })?;
        builder.read(name, AttributeValue::String(&text))?;
    }
    if let Some(declared) = declared {
        builder.read("datacontenttype", AttributeValue::String(declared))?;
    }
    Ok(builder)
}

/// Writes an event in binary mode: section 3.1. The body is the event's data, not a copy.
///
/// Where the event has data and no `datacontenttype`, JSON is declared as such, because the JSON
/// format implies it, and text as `text/plain`.
#[must_use]
pub fn encode_binary(event: &Event) -> (HeaderMap, Bytes) {
    let text = |text| value::encode(event, text);
    let mut headers = HeaderMap::with_capacity(HEADERS_USUAL + event.extensions().len());
    let mut insert = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    insert(CE_SPECVERSION, Some(VERSION));
    insert(CE_ID, text(event.id()));
    insert(CE_SOURCE, text(event.source()));
    insert(CE_TYPE, text(event.ty()));
    insert(CE_SUBJECT, event.subject().and_then(text));
    insert(CE_TIME, event.time().and_then(text));
    insert(CE_DATASCHEMA, event.dataschema().and_then(text));
    for (name, value) in event.extensions() {
        let value = match value {
            AttributeValue::String(value) => text(value),
            AttributeValue::Integer(number) => Some(HeaderValue::from(number)),
            AttributeValue::Boolean(value) => Some(HeaderValue::from_static(if value {
                "true"
            } else {
                "false"
            })),
        };
        if let Ok(name) = HeaderName::try_from(format!("{PREFIX}{name}")) {
            insert(name, value);
        }
    }
    let implied = match event.data().map(Data::kind) {
        Some(DataKind::Json) => Some(JSON),
        Some(DataKind::Text) => Some(TEXT),
        Some(DataKind::Binary) | None => None,
    };
    // A media type is printable ASCII, which needs no escapes.
    let declared = event
        .datacontenttype()
        .map(|declared| HeaderValue::from_maybe_shared(event.shared(declared).into_bytes()).ok());
    insert(CONTENT_TYPE, declared.unwrap_or(implied));
    (
        headers,
        event
            .data()
            .map(|data| data.bytes().clone())
            .unwrap_or_default(),
    )
}

/// Writes an event in structured mode: section 3.2, in the JSON format.
#[must_use]
pub fn encode_structured(event: &Event) -> (HeaderMap, Bytes) {
    let mut body = Vec::with_capacity(event.size_bytes());
    json::encode(event, &mut body);
    (typed(json::MEDIA_TYPE), body.into())
}

/// Writes events in batched mode: section 3.3, in the JSON batch format.
#[must_use]
pub fn encode_batch<'e>(events: impl IntoIterator<Item = &'e Event>) -> (HeaderMap, Bytes) {
    let mut body = Vec::new();
    json::encode_batch(events, &mut body);
    (typed(json::BATCH_MEDIA_TYPE), body.into())
}

fn typed(media_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))])
}

#[cfg(test)]
mod tests;
