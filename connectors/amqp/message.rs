//! Messages (part 3, section 3.2): their sections, read and written.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::value::{Malformed, Reader, Value, write};

mod code {
    pub(super) const HEADER: u64 = 0x70;
    pub(super) const DELIVERY_ANNOTATIONS: u64 = 0x71;
    pub(super) const ANNOTATIONS: u64 = 0x72;
    pub(super) const PROPERTIES: u64 = 0x73;
    pub(super) const APPLICATION: u64 = 0x74;
    pub(super) const DATA: u64 = 0x75;
    pub(super) const SEQUENCE: u64 = 0x76;
    pub(super) const VALUE: u64 = 0x77;
    pub(super) const FOOTER: u64 = 0x78;
}

/// The properties of a message, in their order (section 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    MessageId,
    UserId,
    To,
    Subject,
    ReplyTo,
    CorrelationId,
    ContentType,
    ContentEncoding,
    AbsoluteExpiryTime,
    CreationTime,
    GroupId,
    GroupSequence,
    ReplyToGroupId,
}

/// The properties with the names that mappings know them by.
pub(super) const PROPERTIES: [(Property, &str); 13] = [
    (Property::MessageId, "message_id"),
    (Property::UserId, "user_id"),
    (Property::To, "to"),
    (Property::Subject, "subject"),
    (Property::ReplyTo, "reply_to"),
    (Property::CorrelationId, "correlation_id"),
    (Property::ContentType, "content_type"),
    (Property::ContentEncoding, "content_encoding"),
    (Property::AbsoluteExpiryTime, "absolute_expiry_time"),
    (Property::CreationTime, "creation_time"),
    (Property::GroupId, "group_id"),
    (Property::GroupSequence, "group_sequence"),
    (Property::ReplyToGroupId, "reply_to_group_id"),
];

/// A message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) is_durable: bool,
    pub(super) priority: Option<u8>,
    /// How long it is of use, in milliseconds.
    pub(super) ttl_ms: Option<u32>,
    /// How often it was tried in vain to hand it over.
    pub(super) delivery_count: u32,
    /// What brokers say of it.
    pub(super) annotations: Vec<(Value, Value)>,
    /// By the numbers of [`Property`].
    pub(super) properties: Vec<Value>,
    pub(super) application: Vec<(Value, Value)>,
    pub(super) body: Body,
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    Data(Bytes),
    /// Lists, one after the other.
    Sequence(Vec<Value>),
    Value(Value),
}

impl Default for Body {
    fn default() -> Self {
        Self::Data(Bytes::new())
    }
}

impl Message {
    /// Reads the sections.
    ///
    /// # Errors
    /// They do not follow the specification.
    pub(super) fn read(bytes: Bytes) -> Result<Self, Malformed> {
        let mut message = Self::default();
        let mut data: Vec<Bytes> = Vec::new();
        let mut sequence = None;
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let section = reader.value()?;
            let unknown = Malformed("the message has a section that there is not");
            let (code, _) = section.as_described().ok_or(unknown)?;
            let Value::Described(section) = section else {
                return Err(unknown);
            };
            match (code, section.1) {
                (code::HEADER, Value::List(fields)) => message.header(&fields),
                (code::ANNOTATIONS, Value::Map(pairs)) => message.annotations = pairs,
                (code::PROPERTIES, Value::List(fields)) => message.properties = fields,
                (code::APPLICATION, Value::Map(pairs)) => message.application = pairs,
                (code::DATA, Value::Binary(bytes)) => data.push(bytes),
                (code::SEQUENCE, Value::List(values)) => {
                    sequence.get_or_insert_with(Vec::new).extend(values);
                }
                (code::VALUE, value) => message.body = Body::Value(value),
                (code::DELIVERY_ANNOTATIONS | code::FOOTER, _) => {}
                // Some write a section of nothing.
                (code::HEADER..=code::FOOTER, Value::Null) => {}
                _ => return Err(unknown),
            }
        }
        if let Some(values) = sequence {
            message.body = Body::Sequence(values);
        } else if data.len() == 1 {
            message.body = Body::Data(data.swap_remove(0));
        } else if !data.is_empty() {
            message.body = Body::Data(data.concat().into());
        }
        Ok(message)
    }

    fn header(&mut self, fields: &[Value]) {
        let number = |index: usize| fields.get(index).and_then(Value::as_u32);
        self.is_durable = fields.first().and_then(Value::as_bool).unwrap_or(false);
        self.priority = number(1).and_then(|priority| u8::try_from(priority).ok());
        self.ttl_ms = number(2);
        self.delivery_count = number(4).unwrap_or(0);
    }

    /// A property that the message has.
    pub(super) fn property(&self, property: Property) -> Option<&Value> {
        let value = self.properties.get(property as usize);
        value.filter(|value| !value.is_null())
    }

    /// A property that is a text with something in it.
    pub(super) fn text(&self, property: Property) -> Option<&ByteString> {
        let text = self.property(property)?.as_text()?;
        (!text.trim().is_empty()).then_some(text)
    }

    pub(super) fn set(&mut self, property: Property, value: Value) {
        let index = property as usize;
        if self.properties.len() <= index {
            self.properties.resize(index + 1, Value::Null);
        }
        if let Some(place) = self.properties.get_mut(index) {
            *place = value;
        }
    }

    /// Writes the sections.
    pub(super) fn write(self) -> Bytes {
        let mut out = BytesMut::new();
        let mut section = |code, value| write(&Value::described(code, value), &mut out);
        let mut header = vec![Value::Boolean(self.is_durable)];
        header.push(self.priority.map_or(Value::Null, Value::Ubyte));
        header.extend(self.ttl_ms.map(Value::Uint));
        section(code::HEADER, Value::List(header));
        if !self.annotations.is_empty() {
            section(code::ANNOTATIONS, Value::Map(self.annotations));
        }
        if !self.properties.is_empty() {
            section(code::PROPERTIES, Value::List(self.properties));
        }
        if !self.application.is_empty() {
            section(code::APPLICATION, Value::Map(self.application));
        }
        match self.body {
            Body::Data(bytes) => section(code::DATA, Value::Binary(bytes)),
            Body::Sequence(values) => section(code::SEQUENCE, Value::List(values)),
            Body::Value(value) => section(code::VALUE, value),
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_the_same() {
        let mut message = Message {
            is_durable: true,
            priority: Some(9),
            ttl_ms: Some(70_000),
            annotations: vec![(Value::symbol("x-opt-offset"), Value::Ulong(300))],
            application: vec![(Value::string("kind"), Value::Boolean(true))],
            body: Body::Data(Bytes::from_static(b"\xff\0")),
            ..Message::default()
        };
        message.set(Property::GroupId, Value::string("g"));
        message.set(Property::MessageId, Value::Uuid([7; 16]));
        assert_eq!(message.text(Property::GroupId).unwrap(), "g");
        assert_eq!(message.text(Property::To), None);
        for body in [
            message.body.clone(),
            Body::Sequence(vec![Value::Int(1), Value::Null]),
            Body::Value(Value::string("text")),
        ] {
            message.body = body;
            assert_eq!(Message::read(message.clone().write()), Ok(message.clone()));
        }
    }

    #[test]
    fn sections_in_other_forms() {
        let read = |bytes: &'static [u8]| Message::read(Bytes::from_static(bytes));
        let body = |bytes| read(bytes).map(|message| message.body);
        let data = |bytes: &'static [u8]| Ok(Body::Data(Bytes::from_static(bytes)));
        assert_eq!(body(b""), data(b""));
        assert_eq!(
            body(b"\0\x53\x75\xa0\x01a\0\x53\x75\xa0\x01b\0\x53\x78\xc1\x01\0"),
            data(b"ab")
        );
        assert_eq!(body(b"\0\x80\0\0\0\0\0\0\0\x75\xa0\x01a"), data(b"a"));
        assert_eq!(
            body(b"\0\x53\x76\xc0\x02\x01\x41\0\x53\x76\xc0\x02\x01\x42"),
            Ok(Body::Sequence(vec![
                Value::Boolean(true),
                Value::Boolean(false)
            ]))
        );
        let counted = read(b"\0\x53\x70\xc0\x09\x05\x41\x40\x40\x42\x52\x03");
        assert_eq!(
            counted.map(|message| message.delivery_count),
            Err(Malformed("a value of AMQP breaks off"))
        );
        let counted = read(b"\0\x53\x70\xc0\x07\x05\x41\x40\x40\x42\x52\x03");
        assert_eq!(counted.map(|message| message.delivery_count), Ok(3));
        for broken in [
            &b"\x41"[..],
            b"\0\x53\x10\x45",
            b"\0\x53\x75\x41",
            b"\0\x53\x75\xa0\x05a",
        ] {
            assert!(read(broken).is_err(), "{broken:?}");
        }
    }
}
