//! The event: a CloudEvent 1.0.
//!
//! Attributes are validated once, when an [`Event`] is built; data is carried byte for byte and
//! parsed only when somebody looks. Every text is a slice of what came in where the codec could
//! make it so, and cloning an event copies no text.

mod builder;
mod check;
mod text;

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

pub use crate::data::{Data, DataKind};
pub use crate::invalid::{EXTENSIONS_MAX, InvalidEvent};
pub use crate::media_type::is_json_media_type;
pub use crate::scan::JSON_DEPTH_MAX;
pub use builder::EventBuilder;
pub(crate) use check::{is_attribute_name, is_rfc3339, may_hold, shorten};
pub use check::{is_string, is_string_char};
use text::{Core, Span, Spans, Value};

/// The longest attribute name accepted. The specification asks for at most 20 characters as a
/// SHOULD; this is a guard, not a style.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 128;

/// A CloudEvent 1.0, valid by construction.
///
/// Its attributes are parts of one text, which may be the one that it came in: so a clone counts
/// one reference up, and not one for each attribute.
///
/// Follows the CloudEvents specification 1.0.2, section "Context Attributes".
#[derive(Clone)]
pub struct Event {
    text: ByteString,
    spans: Spans,
    data: Option<Data>,
}

/// An extension attribute's value, in the types that the JSON format can tell apart.
///
/// The other types of the CloudEvents type system (binary, URI, timestamp) have a canonical text
/// and travel as that.
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

impl Event {
    /// Starts an event from what every event must have.
    #[must_use]
    pub fn builder(
        id: impl AsRef<str>,
        source: impl AsRef<str>,
        ty: impl AsRef<str>,
    ) -> EventBuilder {
        EventBuilder::new(id.as_ref(), source.as_ref(), ty.as_ref())
    }

    /// `id`: with `source` the event's identity.
    #[must_use]
    pub fn id(&self) -> &str {
        self.core(Core::Id).unwrap_or_default()
    }

    /// `source`: a non-empty URI-reference.
    #[must_use]
    pub fn source(&self) -> &str {
        self.core(Core::Source).unwrap_or_default()
    }

    /// `type`.
    #[must_use]
    pub fn ty(&self) -> &str {
        self.core(Core::Type).unwrap_or_default()
    }

    /// `subject`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.core(Core::Subject)
    }

    /// `time`: RFC 3339, with the offset it came with.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        self.core(Core::Time)
    }

    /// `datacontenttype`.
    #[must_use]
    pub fn datacontenttype(&self) -> Option<&str> {
        self.core(Core::DataContentType)
    }

    /// `dataschema`: a URI.
    #[must_use]
    pub fn dataschema(&self) -> Option<&str> {
        self.core(Core::DataSchema)
    }

    fn core(&self, attribute: Core) -> Option<&str> {
        self.spans.core(attribute).of(&self.text)
    }

    /// The extension attributes, in the order in which they came.
    pub fn extensions(&self) -> impl ExactSizeIterator<Item = (&str, AttributeValue<'_>)> {
        self.spans.extensions(&self.text)
    }

    /// A part of the event's attributes that shares their memory.
    ///
    /// # Panics
    /// Where the text is no part of an attribute of this event.
    pub(crate) fn shared(&self, part: &str) -> ByteString {
        self.text.slice_ref(part)
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    /// A context attribute by its name, `specversion` and extensions included.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        if let Some(attribute) = Core::named(name) {
            return self.core(attribute).map(AttributeValue::String);
        }
        if name == "specversion" {
            return Some(AttributeValue::String("1.0"));
        }
        self.extensions()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Every context attribute that is set, `specversion` first, extensions last.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, AttributeValue<'_>)> {
        let core = Core::ALL.into_iter().filter_map(|attribute| {
            Some((
                attribute.name(),
                AttributeValue::String(self.core(attribute)?),
            ))
        });
        [("specversion", AttributeValue::String("1.0"))]
            .into_iter()
            .chain(core)
            .chain(self.extensions())
    }

    /// The event's parts again, to change some of them.
    #[must_use]
    pub fn into_builder(self) -> EventBuilder {
        EventBuilder::changing(self)
    }

    /// The same event with this data, which keeps no more memory than its own: the attributes are
    /// copied out of what they came in, which may be much larger. The data has to be of the same
    /// kind as before, which is not checked; without any the event has none either.
    #[must_use]
    pub fn with_own_memory(&self, data: Option<Bytes>) -> Self {
        let mut spans = self.spans.clone();
        let length = spans.each_mut().map(|span| span.len()).sum();
        let mut text = String::with_capacity(length);
        for span in spans.each_mut() {
            if let Some(part) = span.of(&self.text) {
                let start = text.len();
                text.push_str(part);
                *span = Span::new(start, text.len()).unwrap_or(Span::NONE);
            }
        }
        let kind = self.data.as_ref().map(Data::kind);
        Self {
            text: text.into(),
            spans,
            data: kind
                .zip(data)
                .map(|(kind, bytes)| Data::new_unchecked(kind, bytes)),
        }
    }

    /// Roughly what the event takes in memory and on disk, for bounds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + self.spans.size_bytes()
            + self.data.as_ref().map_or(0, |data| data.bytes().len())
    }
}

/// Two events are equal where their attributes and their data are.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.attributes().eq(other.attributes()) && self.data == other.data
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.attributes())
            .entries(self.data.iter().map(|data| ("data", data)))
            .finish()
    }
}

impl ExtensionValue {
    /// The value, borrowed.
    #[must_use]
    pub fn borrow(&self) -> AttributeValue<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_in_memory_of_its_own_is_the_same_and_leaves_what_it_came_in() {
        let json = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"a\"b",
            "one":"x","two":-2,"three":true,"data":{"a":[1,2]},"time":"2026-01-01T00:00:00Z"}"#;
        let arrived = Bytes::from(json.to_vec());
        let event = crate::json::decode(&arrived).unwrap();
        let data = Bytes::copy_from_slice(event.data().unwrap().bytes());
        let own = event.with_own_memory(Some(data.clone()));
        assert_eq!(own, event);
        assert_eq!(own.size_bytes(), event.size_bytes());
        assert_eq!(own.data().unwrap().bytes().as_ptr(), data.as_ptr());
        drop(event);
        assert!(arrived.is_unique(), "{own:?} still holds on to it");
        assert_eq!(own.with_own_memory(None).data(), None);
    }

    #[test]
    fn an_events_size_is_that_of_its_attributes_and_data() {
        let event = minimal()
            .subject("ü")
            .attribute("ext", 7.into())
            .attribute("flag", true.into())
            .attribute("text", "abc".into())
            .data(Data::text("data".into()))
            .build()
            .unwrap();
        let attributes = ["specversion1.0", "id1", "source/s", "typet", "subjectü"];
        let extensions = ["ext", "four", "flag", "four", "textabc"];
        let texts = attributes.into_iter().chain(extensions).chain(["data"]);
        let bytes: usize = texts.map(str::len).sum();
        assert_eq!(event.size_bytes(), size_of::<Event>() + bytes);
    }

    fn minimal() -> EventBuilder {
        Event::builder("1", "/s", "t")
    }

    #[test]
    fn what_the_specification_asks_for_is_checked() {
        let with = |name: &'static str, value: &'static str| {
            minimal().attribute(name, value.into()).build()
        };
        assert_eq!(
            Event::builder("", "/s", "t").build(),
            Err(InvalidEvent::Empty("id".into()))
        );
        assert_eq!(
            EventBuilder::default().build(),
            Err(InvalidEvent::Missing("id"))
        );
        // What every event has cannot be left out.
        for name in ["id", "source", "type"] {
            assert_eq!(
                with(name, "").unwrap_err().to_string(),
                format!("the attribute {name:?} is empty; give it a value")
            );
        }
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
