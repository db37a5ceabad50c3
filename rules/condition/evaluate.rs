//! A condition held against a document: RFC 9535, sections 2.3.5.2.2 (comparisons) and 2.4
//! (functions).

use std::borrow::Cow;
use std::cmp::Ordering;

use pointsman_schemas::DataKind;
use pointsman_schemas::json::parse;
use serde_json::Value;

use super::{Condition, Expression, Operand, Regex};
use crate::comparator::Comparator;
use crate::document::{Document, Node, Root};
use crate::fields::{FieldId, Fields};
use crate::i_regexp;
use crate::json::{self, Scalar};
use crate::number::Number;
use crate::path::Found;
use crate::pattern::Evaluation;
use crate::scratch::Scratch;

/// The most memory that a regular expression of a rule may need.
pub(super) const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// The most memory that one may need which comes with an event: what takes more takes more than a
/// few milliseconds to compile.
const FOREIGN_REGEX_BYTES_MAX: usize = 256 * 1024;

/// A value that has been looked up.
#[derive(Debug)]
enum Seen<'a> {
    Nothing,
    Scalar(Scalar<'a>),
    /// An object or an array.
    Compound(Cow<'a, [u8]>),
}

impl Condition {
    /// Whether the condition holds for a document.
    #[must_use]
    pub fn holds(&self, document: &Document<'_>, scratch: &mut Scratch) -> bool {
        Look {
            fields: None,
            document,
        }
        .holds(&self.expression, scratch)
    }

    /// As [`Condition::holds`], with the fields of a whole set of rules, which the scratch may have
    /// read already.
    pub(crate) fn holds_in(
        &self,
        fields: &Fields,
        document: &Document<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        Look {
            fields: Some(fields),
            document,
        }
        .holds(&self.expression, scratch)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) fields: Option<&'a Fields>,
    pub(crate) document: &'a Document<'a>,
}

impl<'a> Look<'a> {
    pub(crate) fn holds(self, expression: &Expression, scratch: &mut Scratch) -> bool {
        match expression {
            Expression::All(parts) => parts.iter().all(|part| self.holds(part, scratch)),
            Expression::Any(parts) => parts.iter().any(|part| self.holds(part, scratch)),
            Expression::Not(part) => !self.holds(part, scratch),
            Expression::Finds(Operand::Many(path)) => {
                !matches!(path.find(self.document), Found::Nothing)
            }
            Expression::Finds(operand) => {
                let mut buffer = std::mem::take(&mut scratch.buffer);
                let found = !matches!(self.seen(operand, scratch, &mut buffer), Seen::Nothing);
                scratch.buffer = buffer;
                found
            }
            Expression::Compare(left, comparator, right) => {
                self.with(left, right, scratch, |left, right| {
                    compare(&left, *comparator, &right)
                })
            }
            Expression::Fits {
                text,
                pattern: Regex::Known(regex, _),
                ..
            } => self.with(text, &Operand::Null, scratch, |text, _| {
                as_text(&text).is_some_and(|text| regex.is_match(text))
            }),
            Expression::Fits {
                text,
                pattern: Regex::Found(pattern),
                whole,
            } => self.with(text, pattern, scratch, |text, pattern| {
                as_text(&text)
                    .zip(as_text(&pattern))
                    .is_some_and(|(text, pattern)| {
                        i_regexp::compile(pattern, *whole, FOREIGN_REGEX_BYTES_MAX)
                            .is_ok_and(|regex| regex.is_match(text))
                    })
            }),
        }
    }

    /// Looks two values up; the buffers hold their texts if those have escapes.
    fn with(
        self,
        left: &Operand,
        right: &Operand,
        scratch: &mut Scratch,
        judge: impl FnOnce(Seen<'_>, Seen<'_>) -> bool,
    ) -> bool {
        let (mut first, mut second) = (
            std::mem::take(&mut scratch.buffer),
            std::mem::take(&mut scratch.second),
        );
        let holds = {
            let left = self.seen(left, scratch, &mut first);
            let right = self.seen(right, scratch, &mut second);
            judge(left, right)
        };
        (scratch.buffer, scratch.second) = (first, second);
        holds
    }

    fn seen<'b>(
        self,
        operand: &'b Operand,
        scratch: &mut Scratch,
        buffer: &'b mut Vec<u8>,
    ) -> Seen<'b>
    where
        'a: 'b,
    {
        match operand {
            Operand::Text(text) => Seen::Scalar(Scalar::Text(text.as_bytes())),
            Operand::Number(number, _) => Seen::Scalar(Scalar::Number(*number)),
            Operand::Boolean(value) => Seen::Scalar(Scalar::Boolean(*value)),
            Operand::Null => Seen::Scalar(Scalar::Null),
            Operand::One(path, id) => match self.slot(id.filter(|_| !path.has_dots()), scratch) {
                Some(found) => found.map_or(Seen::Nothing, |raw| of_raw(raw, buffer)),
                None => match path.find(self.document) {
                    Found::One(node) => of_node(node, buffer),
                    _ => Seen::Nothing,
                },
            },
            Operand::Many(_) => Seen::Nothing,
            Operand::Length(operand) => {
                let length = match self.seen(operand, scratch, buffer) {
                    Seen::Scalar(Scalar::Text(text)) => std::str::from_utf8(text)
                        .ok()
                        .map(|text| text.chars().count()),
                    Seen::Compound(raw) => length(&raw),
                    _ => None,
                };
                length.map_or(Seen::Nothing, number)
            }
            Operand::Count(operand) => match &**operand {
                Operand::Many(path) => match path.find(self.document) {
                    Found::Many(values) => number(values.len()),
                    _ => number(0),
                },
                operand => match self.seen(operand, scratch, buffer) {
                    Seen::Nothing => number(0),
                    _ => number(1),
                },
            },
            Operand::Value(operand) => match &**operand {
                Operand::Many(path) => match path.find(self.document) {
                    Found::Many(values) => match values.as_slice() {
                        [value] => of_node(Node::Value(value), buffer),
                        _ => Seen::Nothing,
                    },
                    _ => Seen::Nothing,
                },
                operand => self.seen(operand, scratch, buffer),
            },
        }
    }

    /// The raw value of a numbered field of an event's JSON data; the outer option is none where
    /// there are no numbers to go by.
    fn slot(self, id: Option<FieldId>, scratch: &mut Scratch) -> Option<Option<&'a [u8]>> {
        let (fields, id) = self.fields.zip(id)?;
        match self.document.root() {
            Root::Event(event)
                if event
                    .data()
                    .is_some_and(|data| data.kind() == DataKind::Json) => {}
            _ => return None,
        }
        Some(Evaluation::new(fields, self.document, scratch).nested(id))
    }

    /// What an operand is in this document, for a person to read.
    pub(crate) fn shown(self, operand: &Operand, scratch: &mut Scratch) -> Option<String> {
        let mut buffer = Vec::new();
        match operand {
            Operand::One(path, _) | Operand::Many(path) => match path.find(self.document) {
                Found::Nothing => None,
                Found::One(node) => {
                    let mut text = Vec::new();
                    node.write_json(&mut text);
                    Some(String::from_utf8_lossy(&text).into_owned())
                }
                Found::Many(values) => Some(crate::path::list(&values)),
            },
            operand => match self.seen(operand, scratch, &mut buffer) {
                Seen::Scalar(Scalar::Number(Number::Whole(whole))) => Some(whole.to_string()),
                Seen::Scalar(Scalar::Text(text)) => {
                    Some(Value::from(String::from_utf8_lossy(text)).to_string())
                }
                Seen::Compound(raw) => Some(String::from_utf8_lossy(&raw).into_owned()),
                _ => None,
            },
        }
    }
}

fn number(count: usize) -> Seen<'static> {
    Seen::Scalar(Scalar::Number(Number::Whole(count as i128)))
}

/// How many elements or members there are.
fn length(raw: &[u8]) -> Option<usize> {
    match parse(raw).ok()? {
        Value::Array(list) => Some(list.len()),
        Value::Object(map) => Some(map.len()),
        _ => None,
    }
}

fn of_raw<'b>(raw: &'b [u8], buffer: &'b mut Vec<u8>) -> Seen<'b> {
    match raw.first() {
        Some(b'{' | b'[') => Seen::Compound(raw.into()),
        _ => json::scalar(raw, buffer).map_or(Seen::Nothing, Seen::Scalar),
    }
}

fn of_node<'b>(node: Node<'b>, buffer: &'b mut Vec<u8>) -> Seen<'b> {
    match node {
        Node::Json(raw) => of_raw(raw, buffer),
        Node::Text(text) => Seen::Scalar(Scalar::Text(text.as_bytes())),
        Node::Value(Value::String(text)) => Seen::Scalar(Scalar::Text(text.as_bytes())),
        Node::Integer(number) => Seen::Scalar(Scalar::Number(Number::Whole(number.into()))),
        Node::Boolean(value) => Seen::Scalar(Scalar::Boolean(value)),
        Node::Value(Value::Bool(value)) => Seen::Scalar(Scalar::Boolean(*value)),
        Node::Value(Value::Number(number)) => Seen::Scalar(Scalar::Number(number.into())),
        Node::Value(Value::Null) => Seen::Scalar(Scalar::Null),
        other => {
            let mut text = Vec::new();
            other.write_json(&mut text);
            match text.first() {
                Some(b'{' | b'[') => Seen::Compound(text.into()),
                // Binary data, as base64.
                Some(b'"') => {
                    buffer.clear();
                    buffer.extend_from_slice(
                        text.get(1..text.len().saturating_sub(1))
                            .unwrap_or_default(),
                    );
                    Seen::Scalar(Scalar::Text(buffer))
                }
                _ => Seen::Nothing,
            }
        }
    }
}

fn as_text<'s>(seen: &'s Seen<'_>) -> Option<&'s str> {
    match seen {
        Seen::Scalar(Scalar::Text(text)) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

fn compare(left: &Seen<'_>, comparator: Comparator, right: &Seen<'_>) -> bool {
    let order = |wanted: Ordering| match (left, right) {
        (Seen::Scalar(Scalar::Number(left)), Seen::Scalar(Scalar::Number(right))) => {
            left.partial_cmp(right) == Some(wanted)
        }
        // UTF-8 sorts as the characters do.
        (Seen::Scalar(Scalar::Text(left)), Seen::Scalar(Scalar::Text(right))) => {
            left.cmp(right) == wanted
        }
        _ => false,
    };
    match comparator {
        Comparator::Equal => equal(left, right),
        Comparator::Unequal => !equal(left, right),
        Comparator::Less => order(Ordering::Less),
        Comparator::LessOrEqual => order(Ordering::Less) || equal(left, right),
        Comparator::Greater => order(Ordering::Greater),
        Comparator::GreaterOrEqual => order(Ordering::Greater) || equal(left, right),
    }
}

fn equal(left: &Seen<'_>, right: &Seen<'_>) -> bool {
    match (left, right) {
        (Seen::Nothing, Seen::Nothing) => true,
        (Seen::Scalar(left), Seen::Scalar(right)) => left == right,
        (Seen::Compound(left), Seen::Compound(right)) => match (parse(left), parse(right)) {
            (Ok(left), Ok(right)) => equal_values(&left, &right),
            _ => false,
        },
        _ => false,
    }
}

fn equal_values(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Number::from(left) == Number::from(right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| equal_values(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| {
                    right
                        .get(key)
                        .is_some_and(|right| equal_values(left, right))
                })
        }
        (left, right) => left == right,
    }
}
