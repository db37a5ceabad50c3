//! An event's own bytes: what its row on disk consists of, and what goes to another node. Its data
//! is written once and never parsed.

use bytes::Bytes;
use pointsman_schemas::{AttributeValue, Data, DataKind, Event, Timestamp};

use super::{Damage, Decoder, Encoder};

const HAS_SUBJECT: u8 = 1;

const HAS_TIME: u8 = 2;

const HAS_CONTENT_TYPE: u8 = 4;

const HAS_SCHEMA: u8 = 8;

const HAS_RETENTION: u8 = 16;

/// Writes an event, and until when it is kept where it has a time of its own. The data comes last.
pub(crate) fn encode(out: &mut Encoder, event: &Event, kept_until: Option<Timestamp>) {
    out.bytes(event.id().as_bytes())
        .bytes(event.source().as_bytes())
        .bytes(event.ty().as_bytes());
    let optional = [
        event.subject(),
        event.time(),
        event.datacontenttype(),
        event.dataschema(),
    ];
    let flags = [HAS_SUBJECT, HAS_TIME, HAS_CONTENT_TYPE, HAS_SCHEMA];
    let given = optional.iter().zip(flags);
    let given: u8 = given
        .filter(|(text, _)| text.is_some())
        .map(|(_, flag)| flag)
        .sum();
    out.byte(given | kept_until.map_or(0, |_| HAS_RETENTION));
    for text in optional.into_iter().flatten() {
        out.bytes(text.as_bytes());
    }
    if let Some(until) = kept_until {
        out.time(until);
    }
    out.number(event.extensions().len() as u64);
    for (name, value) in event.extensions() {
        out.bytes(name.as_bytes());
        match value {
            AttributeValue::String(text) => out.byte(0).bytes(text.as_bytes()),
            AttributeValue::Integer(number) => {
                out.byte(1).number(u64::from(number.cast_unsigned()))
            }
            AttributeValue::Boolean(value) => out.byte(2).byte(u8::from(value)),
        };
    }
    match event.data() {
        None => out.byte(0),
        Some(data) => {
            let kind = match data.kind() {
                DataKind::Json => 1,
                DataKind::Text => 2,
                DataKind::Binary => 3,
            };
            out.byte(kind).bytes(data.bytes())
        }
    };
}

/// Reads what [`encode`] has written. `own` makes the event's data of the part that is its bytes.
pub(crate) fn decode<'v>(
    from: &mut Decoder<'v>,
    own: impl FnOnce(&'v [u8]) -> Bytes,
) -> Result<(Event, Option<Timestamp>), Damage> {
    let mut event = Event::builder(from.text()?, from.text()?, from.text()?);
    let flags = from.byte()?;
    for (flag, name) in [
        (HAS_SUBJECT, "subject"),
        (HAS_TIME, "time"),
        (HAS_CONTENT_TYPE, "datacontenttype"),
        (HAS_SCHEMA, "dataschema"),
    ] {
        if flags & flag != 0 {
            event.set(name, AttributeValue::String(from.text()?));
        }
    }
    let kept_until = if flags & HAS_RETENTION == 0 {
        None
    } else {
        Some(from.time()?)
    };
    for _ in 0..from.number()? {
        let name = from.text()?;
        let value = match from.byte()? {
            0 => AttributeValue::String(from.text()?),
            1 => AttributeValue::Integer(from.narrow::<u32>()?.cast_signed()),
            _ => AttributeValue::Boolean(from.byte()? != 0),
        };
        event.set(name, value);
    }
    let kind = match from.byte()? {
        0 => None,
        1 => Some(DataKind::Json),
        2 => Some(DataKind::Text),
        _ => Some(DataKind::Binary),
    };
    if let Some(kind) = kind {
        event = event.data(Data::new_unchecked(kind, own(from.bytes()?)));
    }
    let event = event.build().map_err(|_| Damage("it is no CloudEvent"))?;
    debug_assert!(event.attribute("specversion") == Some(AttributeValue::String("1.0")));
    Ok((event, kept_until))
}

/// An event for serde, in a format of bytes.
pub mod shared {
    use std::fmt;
    use std::sync::Arc;

    use bytes::Bytes;
    use pointsman_schemas::Event;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    use super::{Decoder, Encoder};

    /// Writes an event.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(event: &Event, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = Encoder::bare(event.size_bytes());
        super::encode(&mut out, event, None);
        serializer.serialize_bytes(&out.into_bytes())
    }

    /// Reads an event, which keeps nothing of what it is read from.
    ///
    /// # Errors
    /// Those of the format, and where the bytes are no event.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Event>, D::Error> {
        deserializer.deserialize_bytes(EventVisitor)
    }

    struct EventVisitor;

    impl Visitor<'_> for EventVisitor {
        type Value = Arc<Event>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an event's bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Arc<Event>, E> {
            let mut from = Decoder::bare(bytes);
            let (event, _) = super::decode(&mut from, Bytes::copy_from_slice).map_err(E::custom)?;
            Ok(Arc::new(event))
        }
    }
}

/// An event that there may be, likewise.
pub mod optional {
    use std::sync::Arc;

    use pointsman_schemas::Event;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Borrowed<'e>(#[serde(with = "super::shared")] &'e Event);

    #[derive(Deserialize)]
    struct Owned(#[serde(with = "super::shared")] Arc<Event>);

    /// Writes an event, or that there is none.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(
        event: &Option<Arc<Event>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        event.as_deref().map(Borrowed).serialize(serializer)
    }

    /// Reads one.
    ///
    /// # Errors
    /// Those of the format, and where the bytes are no event.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<Event>>, D::Error> {
        Ok(Option::<Owned>::deserialize(deserializer)?.map(|Owned(event)| event))
    }
}
