//! The JSON event format, CloudEvents 1.0.2.
//!
//! Decoding reads the text once. Attributes and data are slices of it: nothing is copied but strings with escapes in them, and `data`
//! stays as it was written, whitespace, long integers and duplicate keys included. The slices keep the whole text in memory.
//!
//! What the specification leaves open (section 3.1.2) is decided so:
//!
//! | member | `datacontenttype` | data |
//! |---|---|---|
//! | `data` | JSON, or none | JSON; `null` is data, too |
//! | `data`, a string | another | text |
//! | `data`, no string | another | JSON as it stands |
//! | `data_base64` | JSON | the decoded bytes, which have to be JSON |
//! | `data_base64` | another, or none | binary |
//! | `data_base64` that is `null` | any | as if the member were not there |
//!
//! Stricter than many readers: duplicate attributes, numbers that are no 32-bit integers, arrays and objects as attributes, text
//! behind the event and more than 128 levels in the data are refused.

pub(crate) mod scan;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;

use crate::data::{Data, DataKind};
use crate::event::{AttributeValue, Event, EventBuilder, ExtensionValue, InvalidEvent, is_attribute_name, shorten};
use crate::media_type::is_json_media_type;
use scan::{JsonString, Scanner, Syntax};

/// The media type of one event: section 3.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";

/// The media type of a batch: section 4.2.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// Why a text is no batch of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The text is not an array.
    #[error(transparent)]
    Malformed(InvalidEvent),
    /// An event in it is wrong.
    #[error("event {index} of the batch: {error}")]
    Event {
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

/// Reads one event.
///
/// # Errors
/// What is wrong with it, with line and column where its JSON is broken.
pub fn decode(bytes: &Bytes) -> Result<Event, InvalidEvent> {
    let text = utf8(bytes)?;
    let mut scanner = Scanner::new(&text);
    let event = event(&text, &mut scanner)?;
    scanner.end().map_err(|mistake| malformed(mistake, &text))?;
    Ok(event)
}

/// Reads a batch of at most `events_max` events; it may be empty.
///
/// # Errors
/// The first mistake, with the index of the event that it lies in.
pub fn decode_batch(bytes: &Bytes, events_max: usize) -> Result<Vec<Event>, BatchError> {
    let text = utf8(bytes).map_err(BatchError::Malformed)?;
    let mut scanner = Scanner::new(&text);
    let outside = |mistake| BatchError::Malformed(malformed(mistake, &text));
    let mut events = Vec::new();
    scanner.expect(b'[', "expected an array of events").map_err(outside)?;
    if !scanner.eat(b']') {
        loop {
            if events.len() >= events_max {
                return Err(BatchError::TooMany { events_max });
            }
            events.push(event(&text, &mut scanner).map_err(|error| BatchError::Event { index: events.len(), error })?);
            if scanner.eat(b']') {
                break;
            }
            scanner.expect(b',', "expected , or ]").map_err(outside)?;
        }
    }
    scanner.end().map_err(outside)?;
    Ok(events)
}

fn utf8(bytes: &Bytes) -> Result<ByteString, InvalidEvent> {
    ByteString::try_from(bytes.clone()).map_err(|_| {
        let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        InvalidEvent::Malformed(format!("the event is not UTF-8 from byte {valid} on"))
    })
}

fn malformed(mistake: Syntax, text: &str) -> InvalidEvent {
    InvalidEvent::Malformed(format!("the JSON is broken: {}", mistake.describe(text)))
}

/// `data` or `data_base64`, kept until `datacontenttype` is known: members have no order.
enum Member<'t> {
    String(JsonString<'t>),
    Other(&'t str),
    Base64(JsonString<'t>),
}

/// Reads the event that begins at the next token.
fn event(text: &ByteString, scanner: &mut Scanner<'_>) -> Result<Event, InvalidEvent> {
    let mut builder = EventBuilder::default();
    let mut nulls: Vec<ByteString> = Vec::new();
    let mut data = None;
    members(text, scanner, |scanner, name| {
        if &*name == "data" || &*name == "data_base64" {
            let is_base64 = name.len() > "data".len();
            let member = match (scanner.peek(), is_base64) {
                (Some(b'"'), false) => Member::String(scanner.string().map_err(|mistake| malformed(mistake, text))?),
                (_, false) => Member::Other(scanner.value().map_err(|mistake| malformed(mistake, text))?),
                (Some(b'"'), true) => Member::Base64(scanner.string().map_err(|mistake| malformed(mistake, text))?),
                (Some(b'n'), true) => return scanner.literal("null").map_err(|mistake| malformed(mistake, text)),
                (_, true) => {
                    let value = scanner.value().map_err(|mistake| malformed(mistake, text))?;
                    return Err(InvalidEvent::DataNotBase64(format!("it is no string but {}", shorten(value))));
                }
            };
            return match data.replace((is_base64, member)) {
                None => Ok(()),
                Some((before, _)) if before == is_base64 => Err(InvalidEvent::Duplicate(name.to_string())),
                Some(_) => Err(InvalidEvent::DataTwice),
            };
        }
        if nulls.contains(&name) {
            return Err(InvalidEvent::Duplicate(shorten(&name)));
        }
        match attribute(text, scanner, &name)? {
            Some(value) => builder.read(name, value),
            None if builder.has(&name) => Err(InvalidEvent::Duplicate(shorten(&name))),
            None if !is_attribute_name(&name) => Err(InvalidEvent::Name(shorten(&name))),
            None if nulls.len() >= crate::event::EXTENSIONS_MAX => Err(InvalidEvent::Extensions(nulls.len() + 1)),
            None => {
                nulls.push(name);
                Ok(())
            }
        }
    })?;
    let data = data.map(|(_, member)| interpret(text, member, builder.declared_type())).transpose()?;
    builder.data(data).build_read()
}

/// Reads an object and hands every key to `member`, with the scanner before its value.
fn members<'t>(
    text: &ByteString,
    scanner: &mut Scanner<'t>,
    mut member: impl FnMut(&mut Scanner<'t>, ByteString) -> Result<(), InvalidEvent>,
) -> Result<(), InvalidEvent> {
    let broken = |mistake| malformed(mistake, text);
    scanner.expect(b'{', "expected an object").map_err(broken)?;
    if scanner.eat(b'}') {
        return Ok(());
    }
    loop {
        let key = scanner.key().map_err(broken)?;
        member(scanner, string(text, key)?)?;
        if scanner.eat(b'}') {
            return Ok(());
        }
        scanner.expect(b',', "expected , or }").map_err(broken)?;
    }
}

/// Reads an attribute's value; none is `null`: section 2.2.
fn attribute(text: &ByteString, scanner: &mut Scanner<'_>, name: &str) -> Result<Option<ExtensionValue>, InvalidEvent> {
    const EXPECTED: &str = "a text, a boolean or a whole number of 32 bits";
    let broken = |mistake| malformed(mistake, text);
    let mistyped = |value: &str| InvalidEvent::Value { name: shorten(name), value: shorten(value), expected: EXPECTED };
    Ok(Some(match scanner.peek() {
        Some(b'"') => ExtensionValue::String(string(text, scanner.string().map_err(broken)?)?),
        Some(b'-' | b'0'..=b'9') => {
            let number = scanner.number().map_err(broken)?;
            ExtensionValue::Integer(number.parse().map_err(|_| mistyped(number))?)
        }
        _ => match scanner.value().map_err(broken)? {
            "true" => ExtensionValue::Boolean(true),
            "false" => ExtensionValue::Boolean(false),
            "null" => return Ok(None),
            other => return Err(mistyped(other)),
        },
    }))
}

/// The string's text: a slice of what came in where nothing is escaped.
fn string(text: &ByteString, string: JsonString<'_>) -> Result<ByteString, InvalidEvent> {
    if !string.escaped {
        return Ok(text.slice_ref(string.inner));
    }
    let decoded: String = serde_json::from_str(string.quoted)
        .map_err(|error| InvalidEvent::Malformed(format!("the string {} is broken: {error}", shorten(string.quoted))))?;
    Ok(decoded.into())
}

fn interpret(text: &ByteString, member: Member<'_>, declared: Option<&str>) -> Result<Data, InvalidEvent> {
    let json = |raw| Data::new_unchecked(DataKind::Json, text.slice_ref(raw).into_bytes());
    Ok(match member {
        Member::Other(raw) => json(raw),
        Member::String(raw) if declared.is_none_or(is_json_media_type) => json(raw.quoted),
        Member::String(raw) => Data::text(string(text, raw)?),
        Member::Base64(raw) => {
            let encoded = string(text, raw)?;
            let bytes = STANDARD.decode(&*encoded).map_err(|error| InvalidEvent::DataNotBase64(error.to_string()))?;
            if declared.is_some_and(is_json_media_type) { Data::json(bytes.into())? } else { Data::binary(bytes.into()) }
        }
    })
}

/// Writes one event behind what is in `out`.
///
/// Text data without a `datacontenttype` is declared `text/plain`, because without one a string is JSON: section 3.1.2.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, value) in event.attributes() {
        write_attribute(name, value, out);
    }
    if let Some(data) = event.data() {
        if data.kind() == DataKind::Text && event.datacontenttype().is_none() {
            write_attribute("datacontenttype", AttributeValue::String("text/plain"), out);
        }
        match data.kind() {
            DataKind::Json => {
                out.extend_from_slice(b"\"data\":");
                out.extend_from_slice(data.bytes());
            }
            DataKind::Text => {
                out.extend_from_slice(b"\"data\":");
                write_string(&String::from_utf8_lossy(data.bytes()), out);
            }
            DataKind::Binary => {
                out.extend_from_slice(b"\"data_base64\":\"");
                out.extend_from_slice(STANDARD.encode(data.bytes()).as_bytes());
                out.push(b'"');
            }
        }
    } else {
        // The comma behind the last attribute; `specversion` is always there.
        out.pop();
    }
    out.push(b'}');
}

/// Writes a batch behind what is in `out`.
pub fn encode_batch<'e>(events: impl IntoIterator<Item = &'e Event>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode(event, out);
    }
    out.push(b']');
}

fn write_attribute(name: &str, value: AttributeValue<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    match value {
        AttributeValue::String(text) => write_string(text, out),
        AttributeValue::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        AttributeValue::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
    }
    out.push(b',');
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some((plain, byte, behind)) = scan::split_plain(rest) {
        out.extend_from_slice(plain);
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
