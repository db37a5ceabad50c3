//! What the filters of a query compare: RFC 9535, section 2.3.5.2.2.

use std::cmp::Ordering;

use jsonpath_rust::parser::model::Literal;
use serde_json::Value;

use crate::number::Number;

/// A text of the query or of the document.
#[derive(Clone, Copy)]
pub(super) enum Text<'q, 'd> {
    Query(&'q str),
    Document(&'d str),
}

/// What is compared, or given to a function.
#[derive(Clone, Copy)]
pub(super) enum Operand<'q, 'd> {
    Nothing,
    Found(&'d Value),
    Literal(&'q Literal),
    Count(usize),
}

impl Text<'_, '_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Query(text) => text,
            Self::Document(text) => text,
        }
    }
}

impl PartialEq for Text<'_, '_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text<'_, '_> {}

impl std::hash::Hash for Text<'_, '_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl<'q, 'd> Operand<'q, 'd> {
    pub(super) fn text(self) -> Option<Text<'q, 'd>> {
        match self {
            Self::Found(Value::String(text)) => Some(Text::Document(text)),
            Self::Literal(Literal::String(text)) => Some(Text::Query(text)),
            _ => None,
        }
    }

    pub(super) fn number(self) -> Option<Number> {
        match self {
            Self::Found(Value::Number(number)) => Some(of_document(number)),
            Self::Literal(Literal::Int(whole)) => Some(Number::Whole((*whole).into())),
            Self::Literal(Literal::Float(double)) => Some(Number::literal(*double)),
            Self::Count(count) => Some(Number::Whole(count as i128)),
            _ => None,
        }
    }

    pub(super) fn equals(self, other: Self) -> bool {
        if let (Some(left), Some(right)) = (self.number(), other.number()) {
            return left == right;
        }
        if let (Some(left), Some(right)) = (self.text(), other.text()) {
            return left == right;
        }
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Found(left), Self::Found(right)) => same(left, right),
            (Self::Found(found), Self::Literal(literal))
            | (Self::Literal(literal), Self::Found(found)) => match literal {
                Literal::Bool(value) => found.as_bool() == Some(*value),
                Literal::Null => found.is_null(),
                Literal::Int(_) | Literal::Float(_) | Literal::String(_) => false,
            },
            (Self::Literal(left), Self::Literal(right)) => left == right,
            _ => false,
        }
    }

    pub(super) fn order(self, other: Self) -> Option<Ordering> {
        if let (Some(left), Some(right)) = (self.number(), other.number()) {
            return Some(left.cmp(&right));
        }
        // UTF-8 sorts as the characters do.
        self.text()
            .zip(other.text())
            .map(|(left, right)| left.as_str().cmp(right.as_str()))
    }
}

/// A number of a tree. Of a whole one past an `i64` a query has only the nearest double, so it is
/// compared as that.
fn of_document(number: &serde_json::Number) -> Number {
    match number.as_u64().filter(|_| !number.is_i64()) {
        Some(whole) => Number::Spelt(whole.into()),
        None => number.into(),
    }
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => of_document(left) == of_document(right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, left)| right.get(key).is_some_and(|right| same(left, right)))
        }
        (left, right) => left == right,
    }
}
