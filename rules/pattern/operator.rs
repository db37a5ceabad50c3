//! What a leaf list of a pattern can hold, each held against one scalar.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Leaf;
use super::wildcard::Wildcard;
use crate::json::Scalar;
use crate::number::Number;

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
    /// With `false` it fits no scalar: where there is none is told by [`Operator::fits_absence`].
    Exists(bool),
}

/// Bounds of `numeric`: each a number and whether it belongs to the range itself.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) from: Option<(Number, bool)>,
    pub(crate) to: Option<(Number, bool)>,
}

impl Range {
    fn contains(&self, number: Number) -> bool {
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
    pub(crate) fn fits(&self, scalar: Scalar<'_>) -> bool {
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
            (Self::AnythingBut(listed), scalar) => !listed.iter().any(|operator| operator.fits(scalar)),
            (Self::Numeric(range), Scalar::Number(number)) => range.contains(number),
            (Self::Cidr(net), Scalar::Text(text)) => {
                std::str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok_and(|address| net.contains(&address)))
            }
            (Self::Exists(expected), _) => *expected,
            _ => false,
        }
    }

    pub(crate) fn fits_absence(&self) -> bool {
        matches!(self, Self::Exists(false))
    }
}

impl Leaf {
    pub(crate) fn fits(&self, scalar: Scalar<'_>) -> bool {
        self.operators.iter().any(|operator| operator.fits(scalar))
    }
}
