//! Collects an event's parts, and checks them.

use bytestring::ByteString;

use super::check::{
    is_attribute_name, is_cloudevents_string, is_rfc3339, is_uri_reference, shorten,
};
use super::{EXTENSIONS_MAX, Event, ExtensionValue, InvalidEvent};
use crate::data::Data;
use crate::media_type::is_media_type;

/// Collects an event's parts and checks them all in [`EventBuilder::build`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBuilder {
    pub(super) id: Option<ByteString>,
    pub(super) source: Option<ByteString>,
    pub(super) ty: Option<ByteString>,
    pub(super) subject: Option<ByteString>,
    pub(super) time: Option<ByteString>,
    pub(super) datacontenttype: Option<ByteString>,
    pub(super) dataschema: Option<ByteString>,
    pub(super) extensions: Vec<(ByteString, ExtensionValue)>,
    pub(super) data: Option<Data>,
    /// True once a decoder has read it.
    pub(super) specversion: bool,
    /// The first mistake found while collecting.
    pub(super) invalid: Option<InvalidEvent>,
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
            } else if let Some((_, old)) = self.extensions.iter_mut().find(|(key, _)| *key == name)
            {
                *old = value;
            } else {
                self.extensions.push((name, value));
            }
            return self;
        };
        if let ExtensionValue::String(text) = value {
            *slot = Some(text);
        } else {
            self.note(InvalidEvent::Value {
                name: name.to_string(),
                value: value.borrow().to_string(),
                expected: "a text",
            });
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

    /// The data that it has so far.
    #[must_use]
    pub fn data_ref(&self) -> Option<&Data> {
        self.data.as_ref()
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
        type Check<'b> = (
            &'static str,
            &'b Option<ByteString>,
            fn(&str) -> bool,
            &'static str,
        );
        let checks: [Check<'_>; 4] = [
            ("source", &self.source, is_uri_reference, "a URI-reference"),
            ("dataschema", &self.dataschema, is_uri_reference, "a URI"),
            (
                "time",
                &self.time,
                is_rfc3339,
                "an RFC 3339 time such as 2026-01-31T09:30:00Z",
            ),
            (
                "datacontenttype",
                &self.datacontenttype,
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
        for (name, value, is_right, expected) in checks {
            if let Some(text) = value
                && !is_right(text)
            {
                return not(name, text, expected);
            }
        }
        let own = [
            ("id", &self.id),
            ("type", &self.ty),
            ("subject", &self.subject),
        ];
        let own = own
            .into_iter()
            .filter_map(|(name, text)| Some((name, &**text.as_ref()?)));
        let extensions = self
            .extensions
            .iter()
            .filter_map(|(name, value)| match value {
                ExtensionValue::String(text) => Some((&**name, &**text)),
                _ => None,
            });
        for (name, text) in own.chain(extensions) {
            if !is_cloudevents_string(text) {
                return not(
                    name,
                    text,
                    "free of control characters and of Unicode noncharacters",
                );
            }
        }
        if self.extensions.len() > EXTENSIONS_MAX {
            return Err(InvalidEvent::Extensions(self.extensions.len()));
        }
        match self
            .extensions
            .iter()
            .find(|(name, _)| !is_attribute_name(name))
        {
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

    /// Sets an attribute, as a decoder reads it: it must not be set yet, and `specversion` must
    /// come among them. Only an extension's name is kept, so only that is asked for with `owned`.
    pub(crate) fn read(
        &mut self,
        name: &str,
        value: ExtensionValue,
        owned: impl FnOnce() -> ByteString,
    ) -> Result<(), InvalidEvent> {
        let duplicate = || Err(InvalidEvent::Duplicate(shorten(name)));
        let mistyped = |value: ExtensionValue| {
            Err(InvalidEvent::Value {
                name: name.to_owned(),
                value: value.borrow().to_string(),
                expected: "a text",
            })
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
        if self.specversion {
            self.check()
        } else {
            Err(InvalidEvent::Missing("specversion"))
        }
    }
}
