//! The event: a CloudEvent 1.0.
//!
//! Attributes are validated once, when an [`Event`] is built; data is carried byte for byte and parsed only when somebody looks.
//! Every text is a slice of what came in where the codec could make it so, and cloning an event copies no text.

use std::fmt;

use bytestring::ByteString;
use iri_string::types::UriReferenceStr;

pub use crate::data::{Data, DataKind, JSON_DEPTH_MAX};
pub use crate::media_type::is_json_media_type;
use crate::media_type::is_media_type;

/// The longest attribute name accepted. The specification asks for at most 20 characters as a SHOULD; this is a guard, not a style.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 128;

/// The most extension attributes that an event may have: they are looked up one by one, and each becomes an HTTP header.
pub const EXTENSIONS_MAX: usize = 256;

/// A CloudEvent 1.0, valid by construction.
///
/// Follows the CloudEvents specification 1.0.2, section "Context Attributes".
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    id: ByteString,
    source: ByteString,
    ty: ByteString,
    subject: Option<ByteString>,
    time: Option<ByteString>,
    datacontenttype: Option<ByteString>,
    dataschema: Option<ByteString>,
    /// In the order in which they came.
    extensions: Vec<(ByteString, ExtensionValue)>,
    data: Option<Data>,
}

/// An extension attribute's value, in the types that the JSON format can tell apart.
///
/// The other types of the CloudEvents type system (binary, URI, timestamp) have a canonical text and travel as that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionValue {
    /// A text.
    String(ByteString),
    /// A whole number of 32 bits.
    Integer(i32),
    /// True or false.
    Boolean(bool),
}

/// A context attribute's value, borrowed from its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeValue<'e> {
    /// A text.
    String(&'e str),
    /// A whole number of 32 bits.
    Integer(i32),
    /// True or false.
    Boolean(bool),
}

impl fmt::Display for AttributeValue<'_> {
    /// The canonical text of the CloudEvents type system.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(value) => write!(f, "{value}"),
        }
    }
}

/// Why something is no CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// A required attribute is not there.
    #[error("the required attribute {0:?} is missing")]
    Missing(&'static str),
    /// An attribute that must not be empty is.
    #[error("the attribute {0:?} is empty; leave it out or give it a value")]
    Empty(String),
    /// An attribute's name is not `[a-z0-9]+`, or is reserved.
    #[error("{0:?} is not an attribute name: it must be made of a-z and 0-9 and must not be \"data\"")]
    Name(String),
    /// An attribute stands there twice.
    #[error("the attribute {0:?} is given twice")]
    Duplicate(String),
    /// An attribute's value is not of its type.
    #[error("the attribute {name:?} is {value:?}, which is not {expected}")]
    Value {
        /// Which attribute.
        name: String,
        /// What it was.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A version that this software does not speak.
    #[error("specversion is {0:?}; only \"1.0\" is understood")]
    SpecVersion(String),
    /// More extension attributes than [`EXTENSIONS_MAX`].
    #[error("there are {0} extension attributes; at most {EXTENSIONS_MAX} are taken")]
    Extensions(usize),
    /// `data` and `data_base64` stand there together.
    #[error("data and data_base64 exclude each other")]
    DataTwice,
    /// Data is declared as JSON and is not.
    #[error("the data is declared as JSON and is not: {0}")]
    DataNotJson(String),
    /// `data_base64` is not base64.
    #[error("data_base64 is not base64: {0}")]
    DataNotBase64(String),
    /// The encoding around the event is broken.
    #[error("{0}")]
    Malformed(String),
}

impl Event {
    /// Starts an event from what every event must have.
    #[must_use]
    pub fn builder(id: impl Into<ByteString>, source: impl Into<ByteString>, ty: impl Into<ByteString>) -> EventBuilder {
        EventBuilder { id: Some(id.into()), source: Some(source.into()), ty: Some(ty.into()), ..EventBuilder::default() }
    }

    /// `id`: with `source` the event's identity.
    #[must_use]
    pub fn id(&self) -> &ByteString {
        &self.id
    }

    /// `source`: a non-empty URI-reference.
    #[must_use]
    pub fn source(&self) -> &ByteString {
        &self.source
    }

    /// `type`.
    #[must_use]
    pub fn ty(&self) -> &ByteString {
        &self.ty
    }

    /// `subject`.
    #[must_use]
    pub fn subject(&self) -> Option<&ByteString> {
        self.subject.as_ref()
    }

    /// `time`: RFC 3339, with the offset it came with.
    #[must_use]
    pub fn time(&self) -> Option<&ByteString> {
        self.time.as_ref()
    }

    /// `datacontenttype`.
    #[must_use]
    pub fn datacontenttype(&self) -> Option<&ByteString> {
        self.datacontenttype.as_ref()
    }

    /// `dataschema`: a URI.
    #[must_use]
    pub fn dataschema(&self) -> Option<&ByteString> {
        self.dataschema.as_ref()
    }

    /// The extension attributes, in the order in which they came.
    #[must_use]
    pub fn extensions(&self) -> &[(ByteString, ExtensionValue)] {
        &self.extensions
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    /// A context attribute by its name, `specversion` and extensions included.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        match name {
            "id" => Some(AttributeValue::String(&self.id)),
            "source" => Some(AttributeValue::String(&self.source)),
            "type" => Some(AttributeValue::String(&self.ty)),
            "specversion" => Some(AttributeValue::String("1.0")),
            "subject" => self.subject.as_deref().map(AttributeValue::String),
            "time" => self.time.as_deref().map(AttributeValue::String),
            "datacontenttype" => self.datacontenttype.as_deref().map(AttributeValue::String),
            "dataschema" => self.dataschema.as_deref().map(AttributeValue::String),
            _ => self.extensions.iter().find(|(key, _)| &**key == name).map(|(_, value)| value.borrow()),
        }
    }

    /// Every context attribute that is set, `specversion` first, extensions last.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, AttributeValue<'_>)> {
        const OWN: [&str; 8] = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];
        OWN.into_iter()
            .filter_map(|name| self.attribute(name).map(|value| (name, value)))
            .chain(self.extensions.iter().map(|(name, value)| (&**name, value.borrow())))
    }

    /// The event's parts again, to change some of them.
    #[must_use]
    pub fn into_builder(self) -> EventBuilder {
        EventBuilder {
            id: Some(self.id),
            source: Some(self.source),
            ty: Some(self.ty),
            subject: self.subject,
            time: self.time,
            datacontenttype: self.datacontenttype,
            dataschema: self.dataschema,
            extensions: self.extensions,
            data: self.data,
            specversion: true,
            invalid: None,
        }
    }

    /// Roughly what the event takes in memory and on disk, for bounds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let texts =
            [Some(&self.id), Some(&self.source), Some(&self.ty), self.subject(), self.time(), self.datacontenttype(), self.dataschema()];
        let extensions = self
            .extensions
            .iter()
            .map(|(name, value)| name.len() + if let ExtensionValue::String(text) = value { text.len() } else { size_of::<i32>() });
        size_of::<Self>()
            + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
            + extensions.sum::<usize>()
            + self.data.as_ref().map_or(0, |data| data.bytes().len())
    }
}

impl ExtensionValue {
    fn borrow(&self) -> AttributeValue<'_> {
        match self {
            Self::String(text) => AttributeValue::String(text),
            Self::Integer(number) => AttributeValue::Integer(*number),
            Self::Boolean(value) => AttributeValue::Boolean(*value),
        }
    }
}

impl From<bool> for ExtensionValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for ExtensionValue {
    fn from(number: i32) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for ExtensionValue {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

/// Collects an event's parts and checks them all in [`EventBuilder::build`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBuilder {
    id: Option<ByteString>,
    source: Option<ByteString>,
    ty: Option<ByteString>,
    subject: Option<ByteString>,
    time: Option<ByteString>,
    datacontenttype: Option<ByteString>,
    dataschema: Option<ByteString>,
    extensions: Vec<(ByteString, ExtensionValue)>,
    data: Option<Data>,
    /// True once a decoder has read it.
    specversion: bool,
    /// The first mistake found while collecting.
    invalid: Option<InvalidEvent>,
}

impl EventBuilder {
    /// Sets any attribute by name; a later value replaces an earlier one.
    ///
    /// `specversion` may only be `1.0`. Mistakes are kept and told by [`EventBuilder::build`].
    #[must_use]
    pub fn attribute(mut self, name: impl Into<ByteString>, value: ExtensionValue) -> Self {
        let name = name.into();
        let Some(slot) = self.slot(&name) else {
            if &*name == "specversion" {
                if value != ExtensionValue::String("1.0".into()) {
                    self.note(InvalidEvent::SpecVersion(value.borrow().to_string()));
                }
            } else if let Some((_, old)) = self.extensions.iter_mut().find(|(key, _)| *key == name) {
                *old = value;
            } else {
                self.extensions.push((name, value));
            }
            return self;
        };
        if let ExtensionValue::String(text) = value {
            *slot = Some(text);
        } else {
            self.note(InvalidEvent::Value { name: name.to_string(), value: value.borrow().to_string(), expected: "a text" });
        }
        self
    }

    /// True where the attribute has a value already.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match name {
            "id" => self.id.is_some(),
            "source" => self.source.is_some(),
            "type" => self.ty.is_some(),
            "subject" => self.subject.is_some(),
            "time" => self.time.is_some(),
            "datacontenttype" => self.datacontenttype.is_some(),
            "dataschema" => self.dataschema.is_some(),
            "specversion" => self.specversion,
            _ => self.extensions.iter().any(|(key, _)| &**key == name),
        }
    }

    /// Takes an attribute away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        match self.slot(name) {
            Some(slot) => *slot = None,
            None => self.extensions.retain(|(key, _)| &**key != name),
        }
        self
    }

    /// Sets `subject`.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<ByteString>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets `time`, RFC 3339.
    #[must_use]
    pub fn time(mut self, time: impl Into<ByteString>) -> Self {
        self.time = Some(time.into());
        self
    }

    /// Sets `datacontenttype`.
    #[must_use]
    pub fn datacontenttype(mut self, datacontenttype: impl Into<ByteString>) -> Self {
        self.datacontenttype = Some(datacontenttype.into());
        self
    }

    /// Sets the data, which may be none.
    #[must_use]
    pub fn data(mut self, data: impl Into<Option<Data>>) -> Self {
        self.data = data.into();
        self
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<ByteString>> {
        Some(match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.ty,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.datacontenttype,
            "dataschema" => &mut self.dataschema,
            _ => return None,
        })
    }

    fn note(&mut self, invalid: InvalidEvent) {
        self.invalid.get_or_insert(invalid);
    }

    /// Checks every part and makes the event.
    ///
    /// # Errors
    /// The first rule of the CloudEvents specification 1.0.2 that the parts break: required attributes present, no attribute
    /// empty, names of `[a-z0-9]+`, `source` a URI-reference, `dataschema` a URI (a reference is let through: it is common and harmless),
    /// `time` RFC 3339 and `datacontenttype` a media type.
    pub fn build(self) -> Result<Event, InvalidEvent> {
        self.check()?;
        Ok(self.into_event())
    }

    fn check(&self) -> Result<(), InvalidEvent> {
        if let Some(invalid) = &self.invalid {
            return Err(invalid.clone());
        }
        let required = |value: &Option<ByteString>, name: &'static str| match value {
            None => Err(InvalidEvent::Missing(name)),
            Some(text) if text.is_empty() => Err(InvalidEvent::Empty(name.to_owned())),
            Some(_) => Ok(()),
        };
        required(&self.id, "id")?;
        required(&self.source, "source")?;
        required(&self.ty, "type")?;
        let optional = [
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.datacontenttype),
            ("dataschema", &self.dataschema),
        ];
        for (name, value) in optional {
            if value.as_ref().is_some_and(|text| text.is_empty()) {
                return Err(InvalidEvent::Empty(name.to_owned()));
            }
        }
        type Check<'b> = (&'static str, &'b Option<ByteString>, fn(&str) -> bool, &'static str);
        let checks: [Check<'_>; 4] = [
            ("source", &self.source, is_uri_reference, "a URI-reference"),
            ("dataschema", &self.dataschema, is_uri_reference, "a URI"),
            ("time", &self.time, is_rfc3339, "an RFC 3339 time such as 2026-01-31T09:30:00Z"),
            ("datacontenttype", &self.datacontenttype, is_media_type, "a media type such as application/json"),
        ];
        let not = |name: &str, value: &str, expected| Err(InvalidEvent::Value { name: name.to_owned(), value: shorten(value), expected });
        for (name, value, is_right, expected) in checks {
            if let Some(text) = value
                && !is_right(text)
            {
                return not(name, text, expected);
            }
        }
        let own = [("id", &self.id), ("type", &self.ty), ("subject", &self.subject)];
        let own = own.into_iter().filter_map(|(name, text)| Some((name, &**text.as_ref()?)));
        let extensions = self.extensions.iter().filter_map(|(name, value)| match value {
            ExtensionValue::String(text) => Some((&**name, &**text)),
            _ => None,
        });
        for (name, text) in own.chain(extensions) {
            if !is_cloudevents_string(text) {
                return not(name, text, "free of control characters and of Unicode noncharacters");
            }
        }
        if self.extensions.len() > EXTENSIONS_MAX {
            return Err(InvalidEvent::Extensions(self.extensions.len()));
        }
        match self.extensions.iter().find(|(name, _)| !is_attribute_name(name)) {
            Some((name, _)) => Err(InvalidEvent::Name(shorten(name))),
            None => Ok(()),
        }
    }

    /// The event, whose parts have been checked.
    ///
    /// This is apart from the checks so that an event is written once, to where it is wanted.
    #[inline]
    pub(crate) fn into_event(self) -> Event {
        Event {
            id: self.id.unwrap_or_default(),
            source: self.source.unwrap_or_default(),
            ty: self.ty.unwrap_or_default(),
            subject: self.subject,
            time: self.time,
            datacontenttype: self.datacontenttype,
            dataschema: self.dataschema,
            extensions: self.extensions,
            data: self.data,
        }
    }

    /// Sets an attribute, as a decoder reads it: it must not be set yet, and `specversion` must come among them. Only an extension's name is
    /// kept, so only that is asked for with `owned`.
    pub(crate) fn read(&mut self, name: &str, value: ExtensionValue, owned: impl FnOnce() -> ByteString) -> Result<(), InvalidEvent> {
        let duplicate = || Err(InvalidEvent::Duplicate(shorten(name)));
        let mistyped = |value: ExtensionValue| {
            Err(InvalidEvent::Value { name: name.to_owned(), value: value.borrow().to_string(), expected: "a text" })
        };
        if let Some(slot) = self.slot(name) {
            return match value {
                ExtensionValue::String(_) if slot.is_some() => duplicate(),
                ExtensionValue::String(text) => {
                    *slot = Some(text);
                    Ok(())
                }
                other => mistyped(other),
            };
        }
        if name == "specversion" {
            return match value {
                _ if self.specversion => duplicate(),
                ExtensionValue::String(text) if text == "1.0" => {
                    self.specversion = true;
                    Ok(())
                }
                ExtensionValue::String(text) => Err(InvalidEvent::SpecVersion(shorten(&text))),
                other => mistyped(other),
            };
        }
        if self.extensions.iter().any(|(key, _)| **key == *name) {
            return duplicate();
        }
        if self.extensions.len() >= EXTENSIONS_MAX {
            return Err(InvalidEvent::Extensions(EXTENSIONS_MAX + 1));
        }
        self.extensions.push((owned(), value));
        Ok(())
    }

    /// The media type that the attributes read so far declare.
    pub(crate) fn declared_type(&self) -> Option<&str> {
        self.datacontenttype.as_deref()
    }

    /// The data of what a decoder reads.
    pub(crate) fn set_data(&mut self, data: Data) {
        self.data = Some(data);
    }

    /// Checks what a decoder has read.
    pub(crate) fn check_read(&self) -> Result<(), InvalidEvent> {
        if self.specversion { self.check() } else { Err(InvalidEvent::Missing("specversion")) }
    }
}

/// True for the names that an extension attribute may have.
pub(crate) fn is_attribute_name(name: &str) -> bool {
    (1..=ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && name != "data"
}

/// A text for a message: somebody else sent it, and it may be long.
pub(crate) fn shorten(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// True where an attribute of this name may have this value, as [`EventBuilder::build`] decides.
pub(crate) fn may_hold(name: &str, value: &str) -> bool {
    match name {
        "source" | "dataschema" => !value.is_empty() && is_uri_reference(value),
        "time" => is_rfc3339(value),
        "specversion" => value == "1.0",
        _ => is_cloudevents_string(value),
    }
}

/// The "String" of the CloudEvents type system: no control characters and no noncharacters.
fn is_cloudevents_string(text: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE;
    // Without an early end, so that many bytes are looked at together.
    text.bytes().fold(true, |is_plain, byte| is_plain & (0x20..0x7F).contains(&byte)) || !text.chars().any(bad)
}

/// RFC 3986, section 4.1.
fn is_uri_reference(text: &str) -> bool {
    // Of these characters any path is one, and so is one behind a scheme: most need no grammar.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    let colon = text.bytes().position(|byte| byte == b':');
    let path = match colon.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) {
        Some((scheme, path)) if is_scheme(scheme) => path,
        Some(_) => return UriReferenceStr::new(text).is_ok(),
        None => text,
    };
    path.bytes().fold(true, |is_path, byte| is_path & is_plain(byte)) || UriReferenceStr::new(text).is_ok()
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// RFC 3339, section 5.6, `date-time`, with the calendar's own bounds.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        bytes.get(from..to)?.iter().try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|byte| any.contains(byte));
    let check = || {
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let separators = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let mut at = 19;
        if is(at, b".") {
            let digits = bytes.get(at + 1..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            at += 1 + digits;
        }
        let zone = if is(at, b"Zz") {
            at + 1 == bytes.len()
        } else {
            is(at, b"+-") && is(at + 3, b":") && at + 6 == bytes.len() && number(at + 1, at + 3)? <= 23 && number(at + 4, at + 6)? <= 59
        };
        Some(separators && (1..=days).contains(&day) && hour <= 23 && minute <= 59 && second <= 60 && zone)
    };
    check().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> EventBuilder {
        Event::builder("1", "/s", "t")
    }

    proptest::proptest! {
        #[test]
        fn a_uri_reference_is_what_the_grammar_says(text in "[a1:/?#%@.~ü\\[\\]+-]{0,12}") {
            proptest::prop_assert_eq!(is_uri_reference(&text), UriReferenceStr::new(&text).is_ok());
        }
    }

    #[test]
    fn what_the_specification_asks_for_is_checked() {
        let with = |name: &'static str, value: &'static str| minimal().attribute(name, value.into()).build();
        assert_eq!(Event::builder("", "/s", "t").build(), Err(InvalidEvent::Empty("id".into())));
        assert_eq!(EventBuilder::default().build(), Err(InvalidEvent::Missing("id")));
        for (name, bad) in [
            ("source", "a b"),
            ("source", "ü"),
            ("time", "2026-02-29T00:00:00Z"),
            ("time", "2026-01-01"),
            ("time", "2026-01-01T00:00:00"),
            ("time", "2026-01-01T00:00:00.Z"),
            ("time", "2026-01-01T00:00:00+2:00"),
            ("datacontenttype", "json"),
            ("datacontenttype", "a/b/c"),
            ("dataschema", "a b"),
            ("subject", "a\nb"),
            ("ext", "\u{FFFE}"),
            ("subject", ""),
            ("specversion", "0.3"),
            ("Ext", "x"),
            ("a-b", "x"),
            ("data", "x"),
        ] {
            assert!(with(name, bad).is_err(), "{name}: {bad:?}");
        }
        for (name, good) in [
            ("source", "../a?b#c"),
            ("source", "urn:x:y"),
            ("time", "2024-02-29T23:59:60.123456789+05:30"),
            ("time", "2026-01-01t00:00:00z"),
            ("datacontenttype", "APPLICATION/JSON; charset=utf-8"),
            ("dataschema", "schema.json"),
            ("subject", "ü"),
            ("specversion", "1.0"),
        ] {
            let event = with(name, good).unwrap();
            assert_eq!(event.attribute(name), Some(AttributeValue::String(good)));
        }
    }
}
