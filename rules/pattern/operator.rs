//! What a leaf list of a pattern can hold, each held against one scalar.

use ipnet::IpNet;

use super::list::List;
use super::network::address;
use super::wildcard::Wildcard;
use crate::comparator::Comparator;
use crate::document::Document;
use crate::json::Scalar;
use crate::number::Number;
use crate::path::Path;
use crate::workings::Workings;

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
    AnythingBut(List),
    Numeric(Range),
    Cidr(IpNet),
    /// Fits what compares like this to the one value that the path finds, which has this number
    /// among all such paths.
    CompareTo(Comparator, Path, usize),
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
        Self {
            from: Some((number, true)),
            to: Some((number, true)),
        }
    }

    /// A range of exact numbers, which have one order, with all in it that this one contains.
    pub(crate) fn widened(&self) -> Self {
        let bound = |bound: Option<(Number, bool)>, side: fn((Number, Number)) -> Number| {
            bound.map(|(number, itself)| match number.bounds() {
                (from, to) if from == to => (number, itself),
                bounds => (side(bounds), true),
            })
        };
        Self {
            from: bound(self.from, |(from, _)| from),
            to: bound(self.to, |(_, to)| to),
        }
    }

    /// The places that the range takes among sorted numbers, where place 2n is the gap before the
    /// number n, and 2n + 1 the number itself.
    pub(crate) fn places(&self, numbers: &[Number]) -> std::ops::Range<usize> {
        let below = |number: Number| numbers.partition_point(|one| *one < number);
        let start = self.from.map_or(0, |(from, itself)| {
            2 * below(from) + if itself { 1 } else { 2 }
        });
        let end = self.to.map_or(2 * numbers.len() + 1, |(to, itself)| {
            2 * below(to) + if itself { 2 } else { 1 }
        });
        start..end.max(start)
    }

    pub(crate) fn contains(&self, number: Number) -> bool {
        self.from
            .is_none_or(|(from, itself)| number > from || itself && number == from)
            && self
                .to
                .is_none_or(|(to, itself)| number < to || itself && number == to)
    }
}

/// A text whose case does not matter, folded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folded(Box<str>);

impl Folded {
    pub(crate) fn new(text: &str) -> Self {
        let mut folded = String::new();
        fold(text.as_bytes(), &mut folded);
        Self(folded.into())
    }

    /// Without its case.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn equals(&self, text: &[u8], folded: &mut String) -> bool {
        if text.is_ascii() {
            return text.eq_ignore_ascii_case(self.0.as_bytes());
        }
        fold(text, folded) && *folded == *self.0
    }

    fn starts(&self, text: &[u8], folded: &mut String) -> bool {
        if text.is_ascii() {
            return text
                .get(..self.0.len())
                .is_some_and(|text| text.eq_ignore_ascii_case(self.0.as_bytes()));
        }
        fold(text, folded) && folded.starts_with(&*self.0)
    }

    fn ends(&self, text: &[u8], folded: &mut String) -> bool {
        if text.is_ascii() {
            let end = text
                .len()
                .checked_sub(self.0.len())
                .and_then(|start| text.get(start..));
            return end.is_some_and(|text| text.eq_ignore_ascii_case(self.0.as_bytes()));
        }
        fold(text, folded) && folded.ends_with(&*self.0)
    }
}

/// Writes a text without its case, as Unicode's full case folding (CaseFolding.txt, C and F) has
/// it: `straße` and `STRASSE` are one, and so are `σ`, `ς` and `Σ`, while `ı` is no `i`. False
/// where the text is not UTF-8.
///
/// EventBridge takes of each character of a rule the upper and the lower case, and looks at the
/// event's text as it stands. What is one there is one here, but for `ı` and `I`; it also is where
/// the rule has the `STRASSE`, and the event the `straße`.
pub(crate) fn fold(text: &[u8], folded: &mut String) -> bool {
    folded.clear();
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    if text.is_ascii() {
        folded.push_str(text);
        folded.make_ascii_lowercase();
        return true;
    }
    for character in text.chars() {
        match character {
            'A'..='Z' => folded.push(character.to_ascii_lowercase()),
            // The upper case of `ı` is that of `i`, which is another letter.
            '\0'..='\x7f' | 'ı' => folded.push(character),
            _ => folded.extend(
                character
                    .to_lowercase()
                    .flat_map(char::to_uppercase)
                    .flat_map(char::to_lowercase),
            ),
        }
    }
    true
}

impl Operator {
    /// Whether a scalar of a document fits.
    pub(crate) fn fits(
        &self,
        scalar: Scalar<'_>,
        document: &Document<'_>,
        workings: &mut Workings,
    ) -> bool {
        match (self, scalar) {
            (Self::Text(expected), Scalar::Text(text)) => **expected == *text,
            (Self::Number(expected), Scalar::Number(number)) => *expected == number,
            (Self::Boolean(expected), Scalar::Boolean(value)) => *expected == value,
            (Self::Null, Scalar::Null) => true,
            (Self::Prefix(prefix), Scalar::Text(text)) => text.starts_with(prefix),
            (Self::PrefixIgnoreCase(prefix), Scalar::Text(text)) => {
                prefix.starts(text, &mut workings.folded)
            }
            (Self::Suffix(suffix), Scalar::Text(text)) => text.ends_with(suffix),
            (Self::SuffixIgnoreCase(suffix), Scalar::Text(text)) => {
                suffix.ends(text, &mut workings.folded)
            }
            (Self::EqualsIgnoreCase(expected), Scalar::Text(text)) => {
                expected.equals(text, &mut workings.folded)
            }
            (Self::Contains(part), Scalar::Text(text)) => {
                memchr::memmem::find(text, part).is_some()
            }
            (Self::Wildcard(wildcard), Scalar::Text(text)) => wildcard.matches(text),
            (Self::AnythingBut(listed), scalar) => !listed.fits(scalar, document, workings),
            (Self::All(listed), scalar) => listed.iter().all(|operator| {
                workings.steps += 1;
                operator.fits(scalar, document, workings)
            }),
            (Self::Numeric(range), Scalar::Number(number)) => range.contains(number),
            (Self::Cidr(net), Scalar::Text(text)) => {
                address(text).is_some_and(|address| net.contains(&address))
            }
            (Self::CompareTo(comparator, path, number), scalar) => {
                workings.compares(scalar, *comparator, path, *number, document)
            }
            (Self::Exists(expected), _) => *expected,
            _ => false,
        }
    }

    /// Visits the operator and those within it.
    pub(super) fn each_mut(&mut self, visit: &mut impl FnMut(&mut Self)) {
        visit(self);
        match self {
            Self::All(listed) => listed
                .iter_mut()
                .for_each(|operator| operator.each_mut(visit)),
            Self::AnythingBut(listed) => listed.each_mut(visit),
            _ => {}
        }
    }

    pub(crate) fn fits_absence(&self) -> bool {
        matches!(self, Self::Exists(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        Folded::new(text).as_str().to_owned()
    }

    #[test]
    fn each_character_folds_like_its_upper_and_its_lower_case() {
        for character in '\0'..=char::MAX {
            let fold = folded(&character.to_string());
            assert_eq!(folded(&fold), fold, "{character:?} is folded at once");
            // What EventBridge takes for one is one.
            let cases = [
                character.to_lowercase().to_string(),
                character.to_uppercase().to_string(),
            ];
            for case in cases.iter().filter(|_| character != 'ı') {
                assert_eq!(folded(case), fold, "{character:?} and {case:?}");
            }
        }
    }

    #[test]
    fn texts_are_folded_as_unicode_says() {
        for (text, expect) in [
            ("AbC", "abc"),
            ("STRASSE", "strasse"),
            ("Straße", "strasse"),
            ("STRAẞE", "strasse"),
            ("ΣΕΙΣΜΟΣ", "σεισμοσ"),
            ("σεισμος", "σεισμοσ"),
            ("ǅ", "ǆ"),
            ("ﬃ", "ffi"),
            ("İ", "i\u{307}"),
            ("ı", "ı"),
            ("I", "i"),
            ("\u{212a}", "k"),
            ("𐐀", "𐐨"),
            ("ᾼ", "αι"),
        ] {
            assert_eq!(folded(text), expect, "{text}");
        }
        assert!(!fold(b"\xff", &mut String::new()));
    }
}
