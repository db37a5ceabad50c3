//! Collects an event's parts, and checks them.

use bytestring::ByteString;

use super::check::{is_attribute_name, is_rfc3339, is_string, is_uri_reference, shorten};
use super::{
    AttributeValue, Core, EXTENSIONS_MAX, Event, ExtensionValue, InvalidEvent, Span, Spans, Value,
};
use crate::data::Data;
use crate::media_type::is_media_type;

/// Collects an event's parts and checks them all in [`EventBuilder::build`].
#[derive(Clone, Debug, Default)]
pub struct EventBuilder {
    text: Text,
    spans: Spans,
    data: Option<Data>,
    /// True once a decoder has read it.
    specversion: bool,
    /// The first mistake found while collecting.
    invalid: Option<InvalidEvent>,
}

/// The text that the attributes are parts of.
#[derive(Clone, Debug)]
enum Text {
    /// What came in: parts of it are not copied.
    Shared(ByteString),
    /// Put together from copies.
    Own(String),
}

impl Default for Text {
    fn default() -> Self {
        Self::Own(String::new())
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Shared(text) => text,
            Self::Own(text) => text,
        }
    }
}

/// What most attributes need that are set later.
const OPTIONAL_BYTES: usize = 128;

impl EventBuilder {
    pub(super) fn new(id: &str, source: &str, ty: &str) -> Self {
        let length = id.len() + source.len() + ty.len();
        let mut builder = Self::with_capacity(length + OPTIONAL_BYTES);
        builder.set_core(Core::Id, id);
        builder.set_core(Core::Source, source);
        builder.set_core(Core::Type, ty);
        builder
    }

    /// For an event whose attributes are parts of this text, but for a few.
    pub(crate) fn over(text: ByteString) -> Self {
        Self {
            text: Text::Shared(text),
            ..Self::default()
        }
    }

    /// For an event whose attributes take so many bytes, names of extensions included.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            text: Text::Own(String::with_capacity(bytes)),
            ..Self::default()
        }
    }

    pub(super) fn changing(event: Event) -> Self {
        Self {
            text: Text::Shared(event.text),
            spans: event.spans,
            data: event.data,
            specversion: true,
            invalid: None,
        }
    }

    /// Sets any attribute by name; a later value replaces an earlier one.
    ///
    /// `specversion` may only be `1.0`. Mistakes are kept and returned by [`EventBuilder::build`].
    #[must_use]
    pub fn attribute(mut self, name: impl AsRef<str>, value: ExtensionValue) -> Self {
        self.set(name.as_ref(), value.borrow());
        self
    }

    /// As [`EventBuilder::attribute`], in place.
    pub fn set(&mut self, name: &str, value: AttributeValue<'_>) {
        match (Core::named(name), value) {
            (Some(attribute), AttributeValue::String(text)) => self.set_core(attribute, text),
            (Some(_), value) => self.note(InvalidEvent::Value {
                name: name.to_owned(),
                value: value.to_string(),
                expected: "a text",
            }),
            (None, value) if name == "specversion" => {
                if value != AttributeValue::String("1.0") {
                    self.note(InvalidEvent::SpecVersion(value.to_string()));
                }
            }
            (None, value) => {
                let at = self.extension(name);
                self.set_extension(at, name, value);
            }
        }
    }

    /// True where the attribute has a value already.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match Core::named(name) {
            Some(attribute) => self.core(attribute).is_some(),
            None if name == "specversion" => self.specversion,
            None => self.extension(name).is_some(),
        }
    }

    /// Takes an attribute away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        match Core::named(name) {
            Some(attribute) => self.spans.set(attribute, Span::NONE),
            None => {
                if let Some(at) = self.extension(name) {
                    self.spans.extensions.remove(at);
                }
            }
        }
        self
    }

    /// Sets `subject`.
    #[must_use]
    pub fn subject(mut self, subject: impl AsRef<str>) -> Self {
        self.set_core(Core::Subject, subject.as_ref());
        self
    }

    /// Sets `time`, RFC 3339.
    #[must_use]
    pub fn time(mut self, time: impl AsRef<str>) -> Self {
        self.set_core(Core::Time, time.as_ref());
        self
    }

    /// Sets `datacontenttype`.
    #[must_use]
    pub fn datacontenttype(mut self, datacontenttype: impl AsRef<str>) -> Self {
        self.set_core(Core::DataContentType, datacontenttype.as_ref());
        self
    }

    /// Sets the data, which may be none.
    #[must_use]
    pub fn data(mut self, data: impl Into<Option<Data>>) -> Self {
        self.data = data.into();
        self
    }

    /// The data that it has so far.
    #[must_use]
    pub fn data_ref(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    fn core(&self, attribute: Core) -> Option<&str> {
        self.spans.core(attribute).of(&self.text)
    }

    fn set_core(&mut self, attribute: Core, text: &str) {
        let span = self.place(text);
        self.spans.set(attribute, span);
    }

    /// The place of an extension among the others.
    fn extension(&self, name: &str) -> Option<usize> {
        let mut extensions = self.spans.extensions.iter();
        extensions.position(|(key, _)| key.of(&self.text) == Some(name))
    }

    /// Sets the extension at a place, or a new one.
    fn set_extension(&mut self, at: Option<usize>, name: &str, value: AttributeValue<'_>) {
        // To place a text may move all others: so the name is entered before its value is placed.
        let at = at.unwrap_or_else(|| {
            let name = self.place(name);
            self.spans.extensions.push((name, Value::Boolean(false)));
            self.spans.extensions.len() - 1
        });
        let value = match value {
            AttributeValue::String(text) => Value::Text(self.place(text)),
            AttributeValue::Integer(number) => Value::Integer(number),
            AttributeValue::Boolean(value) => Value::Boolean(value),
        };
        if let Some((_, place)) = self.spans.extensions.get_mut(at) {
            *place = value;
        }
    }

    /// A place in the text that says this: it is copied there unless it is a part of it already.
    #[inline]
    fn place(&mut self, part: &str) -> Span {
        if let Text::Shared(text) = &self.text
            && let Some(span) = Span::within(text, part)
        {
            return span;
        }
        self.append(part)
    }

    fn append(&mut self, part: &str) -> Span {
        let mut text = match std::mem::take(&mut self.text) {
            Text::Own(text) => text,
            Text::Shared(shared) => {
                // Only what attributes are made of moves along.
                let mut text = String::with_capacity(part.len() + OPTIONAL_BYTES);
                for span in self.spans.each_mut() {
                    if let Some(part) = span.of(&shared) {
                        let start = text.len();
                        text.push_str(part);
                        *span = Span::new(start, text.len()).unwrap_or(Span::NONE);
                    }
                }
                text
            }
        };
        let start = text.len();
        text.push_str(part);
        let span = Span::new(start, text.len());
        self.text = Text::Own(text);
        span.unwrap_or_else(|| {
            self.note(InvalidEvent::Malformed(
                "the attributes are longer than 4 GiB together".to_owned(),
            ));
            Span::NONE
        })
    }

    fn note(&mut self, invalid: InvalidEvent) {
        self.invalid.get_or_insert(invalid);
    }

    /// Checks every part and makes the event.
    ///
    /// # Errors
    /// The first rule of the CloudEvents specification 1.0.2 that the parts break: required
    /// attributes present, no attribute empty, names of `[a-z0-9]+`, `source` a URI-reference,
    /// `dataschema` a URI (a reference is let through: it is common and harmless), `time` RFC 3339
    /// and `datacontenttype` a media type.
    pub fn build(self) -> Result<Event, InvalidEvent> {
        self.check()?;
        Ok(self.into_event())
    }

    fn check(&self) -> Result<(), InvalidEvent> {
        if let Some(invalid) = &self.invalid {
            return Err(invalid.clone());
        }
        for attribute in Core::ALL {
            match self.core(attribute) {
                Some("") => return Err(InvalidEvent::Empty(attribute.name().to_owned())),
                None if matches!(attribute, Core::Id | Core::Source | Core::Type) => {
                    return Err(InvalidEvent::Missing(attribute.name()));
                }
                _ => {}
            }
        }
        type Check = (Core, fn(&str) -> bool, &'static str);
        let checks: [Check; 4] = [
            (Core::Source, is_uri_reference, "a URI-reference"),
            (Core::DataSchema, is_uri_reference, "a URI"),
            (
                Core::Time,
                is_rfc3339,
                "an RFC 3339 time such as 2026-01-31T09:30:00Z",
            ),
            (
                Core::DataContentType,
                is_media_type,
                "a media type such as application/json",
            ),
        ];
        let not = |name: &str, value: &str, expected| {
            Err(InvalidEvent::Value {
                name: name.to_owned(),
                value: shorten(value),
                expected,
            })
        };
        for (attribute, is_right, expected) in checks {
            if let Some(text) = self.core(attribute)
                && !is_right(text)
            {
                return not(attribute.name(), text, expected);
            }
        }
        let own = [Core::Id, Core::Type, Core::Subject]
            .into_iter()
            .filter_map(|attribute| Some((attribute.name(), self.core(attribute)?)));
        let extensions =
            self.spans
                .extensions(&self.text)
                .filter_map(|(name, value)| match value {
                    AttributeValue::String(text) => Some((name, text)),
                    AttributeValue::Integer(_) | AttributeValue::Boolean(_) => None,
                });
        for (name, text) in own.chain(extensions) {
            if !is_string(text) {
                return not(
                    name,
                    text,
                    "free of control characters and of Unicode noncharacters",
                );
            }
        }
        let count = self.spans.extensions.len();
        if count > EXTENSIONS_MAX {
            return Err(InvalidEvent::Extensions(count));
        }
        let mut names = self.spans.extensions(&self.text).map(|(name, _)| name);
        match names.find(|name| !is_attribute_name(name)) {
            Some(name) => Err(InvalidEvent::Name(shorten(name))),
            None => Ok(()),
        }
    }

    /// The event, whose parts have been checked.
    ///
    /// This is apart from the checks so that an event is written once, to where it is wanted.
    #[inline]
    pub(crate) fn into_event(self) -> Event {
        Event {
            text: match self.text {
                Text::Shared(text) => text,
                Text::Own(text) => text.into(),
            },
            spans: self.spans,
            data: self.data,
        }
    }

    /// Sets an attribute, as a decoder reads it: it must not be set yet, and `specversion` must
    /// come among them.
    pub(crate) fn read(
        &mut self,
        name: &str,
        value: AttributeValue<'_>,
    ) -> Result<(), InvalidEvent> {
        let duplicate = || Err(InvalidEvent::Duplicate(shorten(name)));
        let mistyped = || {
            Err(InvalidEvent::Value {
                name: name.to_owned(),
                value: value.to_string(),
                expected: "a text",
            })
        };
        if let Some(attribute) = Core::named(name) {
            let AttributeValue::String(text) = value else {
                return mistyped();
            };
            if self.core(attribute).is_some() {
                return duplicate();
            }
            self.set_core(attribute, text);
            return Ok(());
        }
        if name == "specversion" {
            return match value {
                _ if self.specversion => duplicate(),
                AttributeValue::String("1.0") => {
                    self.specversion = true;
                    Ok(())
                }
                AttributeValue::String(text) => Err(InvalidEvent::SpecVersion(shorten(text))),
                AttributeValue::Integer(_) | AttributeValue::Boolean(_) => mistyped(),
            };
        }
        if self.extension(name).is_some() {
            return duplicate();
        }
        if self.spans.extensions.len() >= EXTENSIONS_MAX {
            return Err(InvalidEvent::Extensions(EXTENSIONS_MAX + 1));
        }
        self.set_extension(None, name, value);
        Ok(())
    }

    /// The media type that the attributes read so far declare.
    pub(crate) fn declared_type(&self) -> Option<&str> {
        self.core(Core::DataContentType)
    }

    /// The data of what a decoder reads.
    pub(crate) fn set_data(&mut self, data: Data) {
        self.data = Some(data);
    }

    /// Checks what a decoder has read.
    pub(crate) fn check_read(&self) -> Result<(), InvalidEvent> {
        if self.specversion {
            self.check()
        } else {
            Err(InvalidEvent::Missing("specversion"))
        }
    }
}
