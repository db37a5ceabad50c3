//! What a leaf list of a pattern can hold, each held against one scalar.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Leaf;
use super::wildcard::Wildcard;
use crate::condition::Comparator;
use crate::document::{Document, Node};
use crate::json::{self, Scalar};
use crate::number::Number;
use crate::path::{Found, Path};

/// One alternative of a leaf list.
#[derive(Debug)]
pub(crate) enum Operator {
    Text(Box<[u8]>),
    Number(Number),
    Boolean(bool),
    Null,
    Prefix(Box<[u8]>),
    PrefixIgnoreCase(Folded),
    Suffix(Box<[u8]>),
    SuffixIgnoreCase(Folded),
    EqualsIgnoreCase(Folded),
    Contains(Box<[u8]>),
    Wildcard(Wildcard),
    /// Fits every scalar that fits none of these.
    AnythingBut(Vec<Operator>),
    Numeric(Range),
    Cidr(IpNet),
    /// Fits what compares like this to the one value that the path finds.
    CompareTo(Comparator, Path),
    /// Fits what fits every one of these.
    All(Vec<Operator>),
    /// With `false` it fits no scalar: where there is none is told by [`Operator::fits_absence`].
    Exists(bool),
}

/// Bounds of `numeric`: each a number and whether it belongs to the range itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) from: Option<(Number, bool)>,
    pub(crate) to: Option<(Number, bool)>,
}

impl Range {
    /// The range of one number.
    pub(crate) fn only(number: Number) -> Self {
        Self { from: Some((number, true)), to: Some((number, true)) }
    }

    /// A range of exact numbers, which have one order, with all in it that this one contains.
    pub(crate) fn widened(&self) -> Self {
        let bound = |bound: Option<(Number, bool)>, side: fn((Number, Number)) -> Number| {
            bound.map(|(number, itself)| match number.bounds() {
                (from, to) if from == to => (number, itself),
                bounds => (side(bounds), true),
            })
        };
        Self { from: bound(self.from, |(from, _)| from), to: bound(self.to, |(_, to)| to) }
    }

    /// The places that the range takes among sorted numbers, where place 2n is the gap before the number n, and 2n + 1 the number itself.
    pub(crate) fn places(&self, numbers: &[Number]) -> std::ops::Range<usize> {
        let below = |number: Number| numbers.partition_point(|one| *one < number);
        let start = self.from.map_or(0, |(from, itself)| 2 * below(from) + if itself { 1 } else { 2 });
        let end = self.to.map_or(2 * numbers.len() + 1, |(to, itself)| 2 * below(to) + if itself { 2 } else { 1 });
        start..end.max(start)
    }

    pub(crate) fn contains(&self, number: Number) -> bool {
        self.from.is_none_or(|(from, itself)| number > from || itself && number == from)
            && self.to.is_none_or(|(to, itself)| number < to || itself && number == to)
    }
}

/// A text whose case does not matter, held in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folded(Box<str>);

impl Folded {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().flat_map(char::to_lowercase).collect())
    }

    /// In lower case.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn equals(&self, text: &[u8]) -> bool {
        if text.is_ascii() {
            return text.eq_ignore_ascii_case(self.0.as_bytes());
        }
        std::str::from_utf8(text).is_ok_and(|text| text.chars().flat_map(char::to_lowercase).eq(self.0.chars()))
    }

    fn starts(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let mut characters = text.chars().flat_map(char::to_lowercase);
        self.0.chars().all(|expected| characters.next() == Some(expected))
    }

    fn ends(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let mut characters = text.chars().rev().flat_map(|character| character.to_lowercase().rev());
        self.0.chars().rev().all(|expected| characters.next() == Some(expected))
    }
}

impl Operator {
    /// Whether a scalar of a document fits.
    pub(crate) fn fits(&self, scalar: Scalar<'_>, document: &Document<'_>) -> bool {
        match (self, scalar) {
            (Self::Text(expected), Scalar::Text(text)) => **expected == *text,
            (Self::Number(expected), Scalar::Number(number)) => *expected == number,
            (Self::Boolean(expected), Scalar::Boolean(value)) => *expected == value,
            (Self::Null, Scalar::Null) => true,
            (Self::Prefix(prefix), Scalar::Text(text)) => text.starts_with(prefix),
            (Self::PrefixIgnoreCase(prefix), Scalar::Text(text)) => prefix.starts(text),
            (Self::Suffix(suffix), Scalar::Text(text)) => text.ends_with(suffix),
            (Self::SuffixIgnoreCase(suffix), Scalar::Text(text)) => suffix.ends(text),
            (Self::EqualsIgnoreCase(expected), Scalar::Text(text)) => expected.equals(text),
            (Self::Contains(part), Scalar::Text(text)) => memchr::memmem::find(text, part).is_some(),
            (Self::Wildcard(wildcard), Scalar::Text(text)) => wildcard.matches(text),
            (Self::AnythingBut(listed), scalar) => !listed.iter().any(|operator| operator.fits(scalar, document)),
            (Self::All(listed), scalar) => listed.iter().all(|operator| operator.fits(scalar, document)),
            (Self::Numeric(range), Scalar::Number(number)) => range.contains(number),
            (Self::Cidr(net), Scalar::Text(text)) => {
                std::str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok_and(|address| net.contains(&address)))
            }
            (Self::CompareTo(comparator, path), scalar) => match path.find(document) {
                Found::One(node) => compares(scalar, *comparator, node),
                _ => false,
            },
            (Self::Exists(expected), _) => *expected,
            _ => false,
        }
    }

    pub(crate) fn fits_absence(&self) -> bool {
        matches!(self, Self::Exists(false))
    }
}

/// Numbers are ordered by value and texts by their characters; all others are equal or not.
fn compares(left: Scalar<'_>, comparator: Comparator, right: Node<'_>) -> bool {
    let mut buffer = Vec::new();
    let right = match right {
        Node::Text(text) => Scalar::Text(text.as_bytes()),
        Node::Integer(number) => Scalar::Number(Number::Whole(number.into())),
        Node::Boolean(value) => Scalar::Boolean(value),
        Node::Json(raw) => match json::scalar(raw, &mut buffer) {
            Some(scalar) => scalar,
            None => return false,
        },
        Node::Value(_) | Node::Binary(_) | Node::Root(_) => return false,
    };
    let order = match (left, right) {
        (Scalar::Number(left), Scalar::Number(right)) => Some(left.cmp(&right)),
        (Scalar::Text(left), Scalar::Text(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match comparator {
        Comparator::Equal => left == right,
        Comparator::Unequal => left != right,
        Comparator::Less => order.is_some_and(Ordering::is_lt),
        Comparator::LessOrEqual => order.is_some_and(Ordering::is_le),
        Comparator::Greater => order.is_some_and(Ordering::is_gt),
        Comparator::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    }
}

impl Leaf {
    /// Whether one of its operators fits.
    pub(crate) fn fits(&self, scalar: Scalar<'_>, document: &Document<'_>) -> bool {
        self.operators.iter().any(|operator| operator.fits(scalar, document))
    }
}
