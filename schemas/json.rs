//! The JSON event format, CloudEvents 1.0.2.
//!
//! Decoding reads the text once. Attributes and data are slices of it: nothing is copied but
//! strings with escapes in them, and `data` stays as it was written, whitespace, long integers and
//! duplicate keys included. The slices keep the whole text in memory.
//!
//! What the specification leaves open (section 3.1.2) is decided so:
//!
//! | member | `datacontenttype` | data |
//! |---|---|---|
//! | `data` | JSON, or none | JSON; `null` is data, too |
//! | `data`, a string | another | text |
//! | `data`, no string | another | JSON as it stands |
//! | `data_base64` | any, or none | the decoded bytes, read as [`Data::read`] says: exactly as in binary mode |
//! | `data_base64` that is `null` | any | as if the member were not there |
//!
//! A byte order mark in front of the text is passed over.
//!
//! Stricter than many readers: duplicate attributes, numbers that are no 32-bit integers, arrays
//! and objects as attributes, text behind the event and more than 128 levels in the data are
//! refused.

mod encode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;

pub use self::encode::{encode, encode_batch, encode_data, encode_with};
use crate::data::{Data, ITEMS_MAX, unmarked, without_mark};
use crate::event::{
    AttributeValue, EXTENSIONS_MAX, Event, EventBuilder, InvalidEvent, is_attribute_name, shorten,
};
use crate::media_type::is_json_media_type;
use crate::outcome::{Replies, Unreadable};
pub use crate::scan::outline::Item;
use crate::scan::outline::{self, Notes};
use crate::scan::{self, Scanner, Syntax, tree};
pub use crate::scan::{JSON_DEPTH_MAX, JsonString, elements, members};

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
    let mut builder = EventBuilder::over(text.clone());
    read_event(&text, &mut scanner, &mut builder)
        .and_then(|()| Ok(scanner.end()?))
        .map_err(|mistake| mistake.describe(&text))?;
    Ok(builder.into_event())
}

/// Reads any JSON as the data of events is read: at most
/// [`JSON_DEPTH_MAX`] levels.
///
/// What a tree cannot hold comes as near as it can: numbers beyond the largest float are that
/// float, halves of surrogate pairs U+FFFD. Of duplicate keys the last one counts.
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn parse(bytes: &[u8]) -> Result<serde_json::Value, InvalidEvent> {
    let bytes = without_mark(bytes);
    if let Some(value) = tree::parse(bytes) {
        return Ok(value);
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| InvalidEvent::Malformed(error.to_string()))?;
    scan::validate(text).map_err(|mistake| InvalidEvent::Malformed(mistake.describe(text)))?;
    Err(InvalidEvent::Malformed("it is no JSON".to_owned()))
}

/// Where all values of a JSON text stand: the first item is the whole, what is in it comes behind
/// it. Nothing where the text is not one JSON value of at most
/// [`JSON_DEPTH_MAX`] levels, or longer than 2 GiB.
#[must_use]
pub fn outline(text: &[u8]) -> Vec<Item> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| outline::outline(text).ok())
        .unwrap_or_default()
}

/// Reads a batch of at most `events_max` events; it may be empty.
///
/// # Errors
/// The first mistake, with the index of the event that it lies in.
pub fn decode_batch(bytes: &Bytes, events_max: usize) -> Result<Vec<Event>, BatchError> {
    let text = utf8(bytes).map_err(BatchError::Malformed)?;
    let mut scanner = Scanner::new(&text);
    let outside = |mistake: Syntax| BatchError::Malformed(Mistake::from(mistake).describe(&text));
    let mut events = Vec::new();
    scanner
        .expect(b'[', "expected an array of events")
        .map_err(outside)?;
    if !scanner.eat(b']') {
        loop {
            if events.len() >= events_max {
                return Err(BatchError::TooMany { events_max });
            }
            let mut builder = EventBuilder::over(text.clone());
            read_event(&text, &mut scanner, &mut builder).map_err(|mistake| BatchError::Event {
                index: events.len(),
                error: mistake.describe(&text),
            })?;
            events.push(builder.into_event());
            if scanner.eat(b']') {
                break;
            }
            scanner.expect(b',', "expected , or ]").map_err(outside)?;
        }
    }
    scanner.end().map_err(outside)?;
    Ok(events)
}

/// Reads what it can of a batch: the events, and each element that is none with its bytes. Where
/// the JSON itself breaks off, all from there on is one of these.
#[must_use]
pub fn decode_each(bytes: &Bytes) -> Replies {
    let text = match utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Replies::unreadable(bytes.clone(), error.to_string()),
    };
    let mut scanner = Scanner::new(&text);
    let mut replies = Replies::default();
    let mut rest = 0;
    let mut read = || -> Result<(), Syntax> {
        scanner.expect(b'[', "expected an array of events")?;
        let mut more = !scanner.eat(b']');
        while more {
            scanner.peek();
            rest = scanner.at();
            let element = bytes.slice_ref(scanner.value()?.as_bytes());
            let index = replies.events.len() + replies.unreadable.len();
            match decode(&element) {
                Ok(event) => replies.events.push(event),
                Err(error) => replies.unreadable.push(Unreadable {
                    raw: element,
                    reason: format!("event {index} of the batch: {error}"),
                }),
            }
            rest = scanner.at();
            more = !scanner.eat(b']');
            if more {
                scanner.expect(b',', "expected , or ]")?;
            }
        }
        rest = scanner.at();
        scanner.end()
    };
    if let Err(mistake) = read() {
        let reason = Mistake::from(mistake).describe(&text).to_string();
        replies.unreadable.push(Unreadable {
            raw: bytes.slice(rest..),
            reason,
        });
    }
    replies
}

fn utf8(bytes: &Bytes) -> Result<ByteString, InvalidEvent> {
    ByteString::try_from(unmarked(bytes.clone())).map_err(|_| {
        let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        InvalidEvent::Malformed(format!("the event is not UTF-8 from byte {valid} on"))
    })
}

/// What is wrong, small enough to be returned from everywhere: results as large as [`InvalidEvent`]
/// slow down the good case measurably.
enum Mistake {
    Syntax(Syntax),
    Event(Box<InvalidEvent>),
}

impl From<Syntax> for Mistake {
    fn from(mistake: Syntax) -> Self {
        Self::Syntax(mistake)
    }
}

impl From<InvalidEvent> for Mistake {
    fn from(invalid: InvalidEvent) -> Self {
        Self::Event(Box::new(invalid))
    }
}

impl Mistake {
    #[cold]
    fn describe(self, text: &str) -> InvalidEvent {
        match self {
            Self::Syntax(mistake) => {
                InvalidEvent::Malformed(format!("the JSON is broken: {}", mistake.describe(text)))
            }
            Self::Event(invalid) => *invalid,
        }
    }
}

/// `data` or `data_base64`, kept until `datacontenttype` is known: members have no order.
#[derive(Clone, Copy)]
enum DataMember<'t> {
    String(JsonString<'t>),
    Other(&'t str),
    Base64(JsonString<'t>),
}

/// Where the values of `data` stand; nothing where it is a text, or has too many.
type Outline = Option<Vec<Item>>;

/// Reads the event that begins at the next token into a builder over the text, and checks it.
///
/// It is not returned, so that its some hundred bytes are moved once.
fn read_event(
    text: &ByteString,
    scanner: &mut Scanner<'_>,
    builder: &mut EventBuilder,
) -> Result<(), Mistake> {
    // Where names and values with escapes are decoded.
    let (mut name_decoded, mut decoded) = (String::new(), String::new());
    let mut nulls: Vec<String> = Vec::new();
    let (mut data, mut outline) = (None, None);
    scanner.expect(b'{', "expected an object")?;
    let mut more = !scanner.eat(b'}');
    while more {
        let key = scanner.key()?;
        let name = unescaped(key, &mut name_decoded)?;
        match name {
            "data" => {
                let member = data_member(scanner, &mut outline)?;
                set_data(&mut data, name, member)?;
            }
            "data_base64" => {
                if let Some(member) = base64_member(scanner)? {
                    set_data(&mut data, name, member)?;
                }
            }
            _ => {
                let value = attribute(scanner, name, &mut decoded)?;
                if nulls.iter().any(|null| null == name) || (value.is_none() && builder.has(name)) {
                    return Err(InvalidEvent::Duplicate(shorten(name)).into());
                }
                match value {
                    Some(value) => builder.read(name, value)?,
                    None if !is_attribute_name(name) => {
                        return Err(InvalidEvent::Name(shorten(name)).into());
                    }
                    None if nulls.len() >= EXTENSIONS_MAX => {
                        return Err(InvalidEvent::Extensions(nulls.len() + 1).into());
                    }
                    None => nulls.push(name.to_owned()),
                }
            }
        }
        more = !scanner.eat(b'}');
        if more {
            scanner.expect(b',', "expected , or }")?;
        }
    }
    if let Some(member) = data {
        let data = interpret(text, member, outline, builder.declared_type())?;
        builder.set_data(data);
    }
    builder.check_read()?;
    Ok(())
}

/// Reads an attribute's value; none is `null`: section 2.2.
fn attribute<'d, 't: 'd>(
    scanner: &mut Scanner<'t>,
    name: &str,
    decoded: &'d mut String,
) -> Result<Option<AttributeValue<'d>>, Mistake> {
    let mistyped = |value: &str| InvalidEvent::Value {
        name: shorten(name),
        value: shorten(value),
        expected: "a text, a boolean or a whole number of 32 bits",
    };
    Ok(Some(match scanner.peek() {
        Some(b'"') => AttributeValue::String(unescaped(scanner.string()?, decoded)?),
        Some(b'-' | b'0'..=b'9') => {
            let number = scanner.number()?;
            AttributeValue::Integer(number.parse().map_err(|_| mistyped(number))?)
        }
        _ => match scanner.value()? {
            "true" => AttributeValue::Boolean(true),
            "false" => AttributeValue::Boolean(false),
            "null" => return Ok(None),
            other => return Err(mistyped(other).into()),
        },
    }))
}

/// The string's text: a part of what came in where nothing in it is escaped, else decoded into the
/// room given for it.
#[inline(always)]
fn unescaped<'t>(string: JsonString<'t>, decoded: &'t mut String) -> Result<&'t str, Mistake> {
    if string.escaped {
        *decoded = decode_string(string)?;
        Ok(decoded)
    } else {
        Ok(string.inner)
    }
}

#[cold]
fn decode_string(string: JsonString<'_>) -> Result<String, Mistake> {
    let decoded = serde_json::from_str(string.quoted).map_err(|error| {
        InvalidEvent::Malformed(format!(
            "the string {} is broken: {error}",
            shorten(string.quoted)
        ))
    });
    Ok(decoded?)
}

fn data_member<'t>(
    scanner: &mut Scanner<'t>,
    outline: &mut Outline,
) -> Result<DataMember<'t>, Mistake> {
    Ok(match scanner.peek() {
        Some(b'"') => DataMember::String(scanner.string()?),
        _ => {
            let mut notes = Notes::of(scanner.at(), scanner.length(), ITEMS_MAX);
            let value = scanner.walk(&mut notes)?;
            *outline = notes.finish();
            DataMember::Other(value)
        }
    })
}

fn base64_member<'t>(scanner: &mut Scanner<'t>) -> Result<Option<DataMember<'t>>, Mistake> {
    if scanner.peek() == Some(b'"') {
        return Ok(Some(DataMember::Base64(scanner.string()?)));
    }
    match scanner.value()? {
        "null" => Ok(None),
        other => Err(InvalidEvent::DataNotBase64(format!(
            "it is no string but {}",
            shorten(other)
        ))
        .into()),
    }
}

fn set_data<'t>(
    data: &mut Option<DataMember<'t>>,
    name: &str,
    member: DataMember<'t>,
) -> Result<(), InvalidEvent> {
    let is_base64 = |member| matches!(member, DataMember::Base64(_));
    match data.replace(member) {
        None => Ok(()),
        Some(before) if is_base64(before) == is_base64(member) => {
            Err(InvalidEvent::Duplicate(name.to_owned()))
        }
        Some(_) => Err(InvalidEvent::DataTwice),
    }
}

fn interpret(
    text: &ByteString,
    member: DataMember<'_>,
    outline: Outline,
    declared: Option<&str>,
) -> Result<Data, Mistake> {
    let json = |raw, outline| Data::outlined(text.slice_ref(raw).into_bytes(), outline);
    Ok(match member {
        DataMember::Other(raw) => json(raw, outline),
        DataMember::String(raw) if declared.is_none_or(is_json_media_type) => {
            json(raw.quoted, None)
        }
        DataMember::String(raw) if raw.escaped => Data::text(decode_string(raw)?.into()),
        DataMember::String(raw) => Data::text(text.slice_ref(raw.inner)),
        DataMember::Base64(raw) => {
            let mut decoded = String::new();
            let encoded = unescaped(raw, &mut decoded)?;
            let bytes = STANDARD
                .decode(encoded)
                .map_err(|error| InvalidEvent::DataNotBase64(error.to_string()))?;
            Data::read(declared, bytes.into())?
        }
    })
}

#[cfg(test)]
mod tests;
