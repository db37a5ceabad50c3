//! What rules look at: an event, or any other root, seen as one JSON document of which nothing is
//! built until somebody asks.

use std::ops::Range;
use std::sync::OnceLock;

use base64::Engine;
use pointsman_schemas::json::{Item, outline, parse};
use pointsman_schemas::{AttributeValue, DataKind, Event, InvalidEvent, Timestamp};
use serde_json::{Map, Value};

use crate::json;

/// A JSON document over borrowed parts.
///
/// Of an event the context attributes stand at the top, JSON data under `data`, text data there as
/// a string, and binary data under `data_base64`, as in the JSON event format. Paths to single
/// values read the raw text; whatever needs a tree shares one.
#[derive(Debug)]
pub struct Document<'e> {
    root: Owned<'e>,
    tree: OnceLock<Value>,
    text: OnceLock<Vec<u8>>,
    now: OnceLock<Timestamp>,
    outline: OnceLock<Vec<Item>>,
}

#[derive(Debug)]
enum Owned<'e> {
    Event(&'e Event),
    Json(&'e [u8]),
    Fields(Vec<(&'e str, Node<'e>)>),
}

#[derive(Clone, Copy)]
pub(crate) enum Root<'a> {
    Event(&'a Event),
    Json,
    Fields,
}

/// A JSON text, and where its values stand. No items are what is not JSON.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outlined<'d> {
    pub(crate) text: &'d [u8],
    pub(crate) items: &'d [Item],
}

impl<'d> Outlined<'d> {
    pub(crate) fn item(self, number: usize) -> Option<Item> {
        self.items.get(number).copied()
    }

    /// The text between two places.
    pub(crate) fn get(self, range: Range<usize>) -> &'d [u8] {
        self.text.get(range).unwrap_or_default()
    }

    /// The numbers of the items in an object or array, without what lies in those.
    pub(crate) fn inner(self, number: usize) -> impl Iterator<Item = (usize, Item)> + 'd {
        let end = self.item(number).map_or(0, |item| item.next());
        let mut at = number + 1;
        std::iter::from_fn(move || {
            let item = self.item(at).filter(|_| at < end)?;
            Some((std::mem::replace(&mut at, item.next()), item))
        })
    }
}

/// One step down from a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Name(Box<str>),
    Index(i64),
}

/// A value in a document, in the form in which it lies there.
#[derive(Clone, Copy, Debug)]
pub enum Node<'d> {
    /// A text.
    Text(&'d str),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// The source text of any JSON value.
    Json(&'d [u8]),
    /// A JSON value already parsed.
    Value(&'d Value),
    /// Bytes, shown as base64.
    Binary(&'d [u8]),
    /// All of a document.
    Root(&'d Document<'d>),
}

impl<'e> Document<'e> {
    /// An event as a document. Costs nothing.
    #[must_use]
    pub fn event(event: &'e Event) -> Self {
        Self::new(Owned::Event(event))
    }

    /// Any JSON text as a document, read as an event's data is.
    ///
    /// # Errors
    /// Where the text is not one JSON value of at most 128 levels.
    pub fn json(text: &'e [u8]) -> Result<Self, InvalidEvent> {
        let tree = parse(text)?;
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let document = Self::new(Owned::Json(json::trim(text)));
        let _ = document.tree.set(tree);
        Ok(document)
    }

    /// An object of these fields: what a source has received, before it is an event.
    #[must_use]
    pub fn fields(fields: Vec<(&'e str, Node<'e>)>) -> Self {
        Self::new(Owned::Fields(fields))
    }

    fn new(root: Owned<'e>) -> Self {
        Self {
            root,
            tree: OnceLock::new(),
            text: OnceLock::new(),
            now: OnceLock::new(),
            outline: OnceLock::new(),
        }
    }

    /// Says what `now` is in templates and programs over it.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        Self {
            now: now.into(),
            ..self
        }
    }

    /// The time of day for templates and programs: what [`Document::at`] said, else the system
    /// clock's reading at the first call. It is one and the same for all that look at this
    /// document.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        *self.now.get_or_init(Timestamp::now)
    }

    pub(crate) fn root(&self) -> Root<'_> {
        match &self.root {
            Owned::Event(event) => Root::Event(event),
            Owned::Json(_) => Root::Json,
            Owned::Fields(_) => Root::Fields,
        }
    }

    /// About how many bytes a look through the document reads.
    pub(crate) fn len(&self) -> usize {
        match &self.root {
            Owned::Json(text) => text.len(),
            Owned::Event(event) => event.data().map_or(0, |data| data.bytes().len()),
            Owned::Fields(fields) => fields.len(),
        }
    }

    /// The whole document as a tree, built at the first call.
    ///
    /// Numbers past 64 bits lose digits in it, and of duplicate keys the last one counts.
    #[must_use]
    pub fn tree(&self) -> &Value {
        self.tree.get_or_init(|| match &self.root {
            Owned::Json(text) => parse(text).unwrap_or_default(),
            Owned::Event(event) => {
                // The event keeps what it has read of its data.
                let parsed = event.data().and_then(|data| data.value());
                let value = |name: &str, node: Node<'_>| match parsed {
                    Some(parsed) if name == "data" => parsed.clone(),
                    _ => node.to_value(),
                };
                self.members()
                    .map(|(name, node)| (name.to_owned(), value(name, node)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Owned::Fields(_) => self
                .members()
                .map(|(name, node)| (name.to_owned(), node.to_value()))
                .collect::<Map<_, _>>()
                .into(),
        })
    }

    /// The whole document as JSON text, written at the first call.
    pub(crate) fn text(&self) -> &[u8] {
        self.text.get_or_init(|| {
            let mut text = Vec::new();
            Node::Root(self).write_json(&mut text);
            text
        })
    }

    /// The text that patterns look into, an event's JSON data or else the whole document, and where
    /// its values stand: as far as it is JSON.
    pub(crate) fn outlined(&self) -> Outlined<'_> {
        let (text, known) = match &self.root {
            Owned::Event(event) => match event.data() {
                Some(data) if data.kind() == DataKind::Json => {
                    (json::trim(data.bytes()), data.outline())
                }
                _ => return Outlined::default(),
            },
            Owned::Json(text) => (*text, None),
            Owned::Fields(_) => (self.text(), None),
        };
        Outlined {
            text,
            items: known.unwrap_or_else(|| self.outline.get_or_init(|| outline(text))),
        }
    }

    /// What stands at the top of an event or of given fields; nothing of any other JSON.
    fn members(&self) -> Box<dyn Iterator<Item = (&str, Node<'_>)> + '_> {
        match &self.root {
            Owned::Event(event) => Box::new(
                event
                    .attributes()
                    .map(|(name, value)| (name, attribute(value)))
                    .chain(data(event)),
            ),
            Owned::Fields(fields) => Box::new(fields.iter().copied()),
            Owned::Json(_) => Box::new(std::iter::empty()),
        }
    }

    fn member(&self, name: &str) -> Option<Node<'_>> {
        match &self.root {
            Owned::Event(event) => match name {
                "data" | "data_base64" => data(event)
                    .filter(|(key, _)| *key == name)
                    .map(|(_, node)| node),
                _ => event.attribute(name).map(attribute),
            },
            Owned::Fields(fields) => fields
                .iter()
                .rev()
                .find(|(key, _)| *key == name)
                .map(|(_, node)| *node),
            Owned::Json(text) => json::member(text, name).map(Node::Json),
        }
    }
}

fn attribute(value: AttributeValue<'_>) -> Node<'_> {
    match value {
        AttributeValue::String(text) => Node::Text(text),
        AttributeValue::Integer(number) => Node::Integer(number.into()),
        AttributeValue::Boolean(value) => Node::Boolean(value),
    }
}

/// An event's data with the name under which the JSON format carries it.
fn data(event: &Event) -> Option<(&'static str, Node<'_>)> {
    let data = event.data()?;
    let bytes: &[u8] = data.bytes();
    Some(match data.kind() {
        DataKind::Json => ("data", Node::Json(json::trim(bytes))),
        DataKind::Text => match std::str::from_utf8(bytes) {
            Ok(text) => ("data", Node::Text(text)),
            Err(_) => ("data_base64", Node::Binary(bytes)),
        },
        DataKind::Binary => ("data_base64", Node::Binary(bytes)),
    })
}

impl<'d> Node<'d> {
    /// One step down; none where it leads nowhere.
    pub(crate) fn step(self, step: &Step) -> Option<Self> {
        match (self, step) {
            (Self::Root(document), Step::Name(name)) => document.member(name),
            (
                Self::Root(Document {
                    root: Owned::Json(text),
                    ..
                }),
                Step::Index(index),
            ) => json::element(text, *index).map(Node::Json),
            (Self::Json(text), Step::Name(name)) => json::member(text, name).map(Node::Json),
            (Self::Json(text), Step::Index(index)) => json::element(text, *index).map(Node::Json),
            (Self::Value(value), Step::Name(name)) => value.get(&**name).map(Node::Value),
            (Self::Value(value), Step::Index(index)) => {
                let list = value.as_array()?;
                let at = usize::try_from(*index).ok().or_else(|| {
                    list.len()
                        .checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
                })?;
                list.get(at).map(Node::Value)
            }
            _ => None,
        }
    }

    /// Appends the value as JSON, raw text as it came.
    pub fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => json::write_string(text, out),
            Self::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Self::Json(text) => out.extend_from_slice(text),
            Self::Value(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Binary(bytes) => json::write_string(
                &base64::engine::general_purpose::STANDARD.encode(bytes),
                out,
            ),
            Self::Root(Document {
                root: Owned::Json(text),
                ..
            }) => out.extend_from_slice(text),
            Self::Root(document) => {
                out.push(b'{');
                for (index, (name, node)) in document.members().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    json::write_string(name, out);
                    out.push(b':');
                    node.write_json(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The value as it is written into text: texts raw, all else as JSON without needless
    /// whitespace.
    #[must_use]
    pub fn to_text(self) -> std::borrow::Cow<'d, str> {
        let raw = match self {
            Self::Text(text) => return text.into(),
            Self::Value(Value::String(text)) => return text.as_str().into(),
            Self::Json(text) => text,
            _ => &[],
        };
        let mut out = Vec::new();
        match raw.first() {
            Some(b'"') => {
                let (inner, escaped) = json::between_quotes(raw).unwrap_or_default();
                if !escaped && let Ok(text) = std::str::from_utf8(inner) {
                    return text.into();
                }
                json::unescape(inner, &mut out);
            }
            Some(b'{' | b'[') => json::write_compact(raw, &mut out),
            _ => self.write_json(&mut out),
        }
        String::from_utf8(out)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
            .into()
    }

    /// The value as a tree.
    pub(crate) fn to_value(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Integer(number) => number.into(),
            Self::Boolean(value) => value.into(),
            Self::Json(text) => parse(text).unwrap_or_default(),
            Self::Value(value) => value.clone(),
            Self::Binary(bytes) => base64::engine::general_purpose::STANDARD
                .encode(bytes)
                .into(),
            Self::Root(document) => document.tree().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pointsman_schemas::{Data, ExtensionValue};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_document() {
        let event = |data: Data| {
            Event::builder("1", "/s", "t")
                .attribute("n", ExtensionValue::Integer(7))
                .data(data)
                .build()
                .unwrap()
        };
        let head = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "n": 7});
        for (data, name, expect) in [
            (
                Data::json(Bytes::from_static(b" {\"a\": [1, 2]}\n")).unwrap(),
                "data",
                json!({"a": [1, 2]}),
            ),
            (Data::text("a\"b".into()), "data", json!("a\"b")),
            (
                Data::binary(Bytes::from_static(&[0, 255])),
                "data_base64",
                json!("AP8="),
            ),
        ] {
            let event = event(data);
            let document = Document::event(&event);
            let mut expected = head.clone();
            expected[name] = expect;
            assert_eq!(document.tree(), &expected);
            assert_eq!(
                serde_json::from_slice::<Value>(document.text()).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn data_that_is_not_what_it_says_is_survived() {
        let broken = Data::new_unchecked(DataKind::Json, Bytes::from_static(b"{\"a\":"));
        let event = Event::builder("1", "/s", "t").data(broken).build().unwrap();
        assert_eq!(Document::event(&event).tree()["data"], Value::Null);
    }
}
