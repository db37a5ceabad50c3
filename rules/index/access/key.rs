//! What an event may have by which rules are found, and what of it an operator asks for.

use std::sync::Arc;

use ipnet::IpNet;

use crate::fields::FieldId;
use crate::origin::Origin;
use crate::pattern::{Leaf, Operator, Range};

/// What an event may have, by which rules are found.
#[derive(Clone, Debug)]
pub(in crate::index) enum Key<'r> {
    /// It comes from there.
    Origin(Origin),
    /// There is no scalar at the field.
    Absent(FieldId),
    /// One scalar at the field fits.
    Scalar(FieldId, Test<'r>),
}

/// What one scalar may fit.
#[derive(Clone, Debug)]
pub(in crate::index) enum Test<'r> {
    /// A text that is, begins with, ends with or holds these bytes.
    Text(Part, &'r [u8]),
    /// The same of a text in lower case.
    Folded(Part, &'r [u8]),
    Boolean(bool),
    Null,
    Number(Range),
    Network(IpNet),
    /// Whatever the leaf takes: it is held against the scalar itself.
    Leaf(&'r Arc<Leaf>),
}

/// Where in a text the bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::index) enum Part {
    Whole,
    Beginning,
    End,
    Anywhere,
}

/// What one operator of a leaf list allows: each way alone is one to all that it fits.
pub(super) fn ways<'r>(operator: &'r Operator, field: FieldId) -> Vec<Key<'r>> {
    let text = |part, bytes: &'r [u8]| {
        (!bytes.is_empty() || part == Part::Whole).then_some(Test::Text(part, bytes))
    };
    let folded = |part, text: &'r str| {
        (!text.is_empty() || part == Part::Whole).then_some(Test::Folded(part, text.as_bytes()))
    };
    let test = match operator {
        Operator::Exists(false) => return vec![Key::Absent(field)],
        Operator::All(listed) => {
            return listed
                .iter()
                .flat_map(|operator| ways(operator, field))
                .collect();
        }
        Operator::Wildcard(wildcard) => {
            let Some(last) = wildcard.last() else {
                return vec![Key::Scalar(
                    field,
                    Test::Text(Part::Whole, wildcard.first()),
                )];
            };
            let ends = [
                text(Part::Beginning, wildcard.first()),
                text(Part::End, last),
            ]
            .into_iter()
            .flatten();
            return ends
                .chain(
                    wildcard
                        .middle()
                        .map(|part| Test::Text(Part::Anywhere, part)),
                )
                .map(|test| Key::Scalar(field, test))
                .collect();
        }
        Operator::Text(expected) => text(Part::Whole, expected),
        Operator::Prefix(prefix) => text(Part::Beginning, prefix),
        Operator::Suffix(suffix) => text(Part::End, suffix),
        Operator::Contains(part) => text(Part::Anywhere, part),
        Operator::EqualsIgnoreCase(expected) => folded(Part::Whole, expected.as_str()),
        Operator::PrefixIgnoreCase(prefix) => folded(Part::Beginning, prefix.as_str()),
        Operator::SuffixIgnoreCase(suffix) => folded(Part::End, suffix.as_str()),
        Operator::Number(number) => Some(Test::Number(Range::only(*number).widened())),
        Operator::Numeric(range) => Some(Test::Number(range.widened())),
        Operator::Boolean(value) => Some(Test::Boolean(*value)),
        Operator::Null => Some(Test::Null),
        Operator::Cidr(net) => Some(Test::Network(*net)),
        Operator::AnythingBut(_) | Operator::CompareTo(..) | Operator::Exists(true) => None,
    };
    test.into_iter()
        .map(|test| Key::Scalar(field, test))
        .collect()
}
