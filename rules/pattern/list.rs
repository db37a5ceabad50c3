//! A list of alternatives, held against one scalar.
//!
//! Of a long list whatever can be is looked up and not tried in turn: texts by hash, beginnings and
//! ends by a search among sorted ones, ranges of numbers and of addresses by a search for the last
//! one that begins early enough. What is left is tried one by one; the compiler of patterns bounds
//! how much that may be.

use std::collections::HashSet;
use std::net::IpAddr;

use aho_corasick::AhoCorasick;
use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::network::address;
use super::operator::{Operator, Range, fold};
use super::wildcard::Wildcard;
use crate::document::Document;
use crate::json::Scalar;
use crate::number::Number;
use crate::workings::Workings;

/// Up to so many alternatives are tried in turn, which is as fast.
const IN_TURN_MAX: usize = 8;

/// Alternatives, one of which must fit.
#[derive(Debug, Default)]
pub(crate) struct List {
    operators: Vec<Operator>,
    /// None where they are few.
    lookup: Option<Box<Lookup>>,
}

/// The operators of a list, by what they look for.
#[derive(Debug, Default)]
struct Lookup {
    /// Every scalar fits.
    all: bool,
    /// Every text fits.
    all_texts: bool,
    null: bool,
    truth: [bool; 2],
    texts: HashSet<Box<[u8]>, RandomState>,
    folded: HashSet<Box<str>, RandomState>,
    beginnings: Vec<Box<[u8]>>,
    /// Each from its end.
    ends: Vec<Box<[u8]>>,
    folded_beginnings: Vec<Box<[u8]>>,
    folded_ends: Vec<Box<[u8]>>,
    anywhere: Option<AhoCorasick>,
    ranges: Ranges,
    /// Past 2⁵³, and so apart from those that are exact.
    doubles: Vec<Number>,
    /// Of IPv4 and IPv6.
    networks: [Networks; 2],
    /// All others, by their places.
    rest: Vec<usize>,
}

/// Ranges of numbers, sorted by where they begin. Each with the farthest end up to there, none for
/// no end at all: so a number lies in one of those that begin before it if it does not lie behind
/// that end.
#[derive(Debug, Default)]
struct Ranges(Vec<Range>);

/// First and last addresses, sorted and with the farthest ends like [`Ranges`].
#[derive(Debug, Default)]
struct Networks(Vec<(u128, u128)>);

impl List {
    pub(crate) fn new(operators: Vec<Operator>) -> Self {
        let lookup = (operators.len() > IN_TURN_MAX).then(|| Box::new(Lookup::new(&operators)));
        Self { operators, lookup }
    }

    pub(crate) fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// Visits each operator, to number what it compares with.
    pub(super) fn each_mut(&mut self, visit: &mut impl FnMut(&mut Operator)) {
        self.operators
            .iter_mut()
            .for_each(|operator| operator.each_mut(visit));
    }

    /// Whether one of the operators fits.
    pub(crate) fn fits(
        &self,
        scalar: Scalar<'_>,
        document: &Document<'_>,
        workings: &mut Workings,
    ) -> bool {
        let tried = |operator: &Operator, workings: &mut Workings| {
            workings.steps += 1;
            operator.fits(scalar, document, workings)
        };
        match &self.lookup {
            None => self
                .operators
                .iter()
                .any(|operator| tried(operator, workings)),
            Some(lookup) => {
                let mut rest = lookup
                    .rest
                    .iter()
                    .filter_map(|place| self.operators.get(*place));
                lookup.has(scalar, workings) || rest.any(|operator| tried(operator, workings))
            }
        }
    }
}

impl Lookup {
    fn new(operators: &[Operator]) -> Self {
        let (mut lookup, mut anywhere) = (Self::default(), Vec::new());
        for (place, operator) in operators.iter().enumerate() {
            lookup.enter(place, operator, &mut anywhere);
        }
        for sorted in [
            &mut lookup.beginnings,
            &mut lookup.ends,
            &mut lookup.folded_beginnings,
            &mut lookup.folded_ends,
        ] {
            sorted.sort_unstable();
            // What begins with a shorter one says no more than that.
            sorted.dedup_by(|next, before| next.starts_with(before));
        }
        lookup.doubles.sort_unstable();
        lookup.ranges.sort();
        lookup.networks.iter_mut().for_each(Networks::sort);
        if !anywhere.is_empty() {
            match AhoCorasick::new(&anywhere) {
                Ok(searcher) => lookup.anywhere = Some(searcher),
                Err(_) => lookup.rest.extend(
                    (0..)
                        .zip(operators)
                        .filter(|(_, one)| matches!(one, Operator::Contains(_)))
                        .map(|(at, _)| at),
                ),
            }
        }
        lookup
    }

    fn enter<'o>(&mut self, place: usize, operator: &'o Operator, anywhere: &mut Vec<&'o [u8]>) {
        let reversed = |text: &[u8]| text.iter().rev().copied().collect();
        match operator {
            Operator::Text(text) => _ = self.texts.insert(text.clone()),
            Operator::EqualsIgnoreCase(text) => _ = self.folded.insert(text.as_str().into()),
            Operator::Prefix(text) => self.beginnings.push(text.clone()),
            Operator::Suffix(text) => self.ends.push(reversed(text)),
            Operator::PrefixIgnoreCase(text) => {
                self.folded_beginnings.push(text.as_str().as_bytes().into())
            }
            Operator::SuffixIgnoreCase(text) => {
                self.folded_ends.push(reversed(text.as_str().as_bytes()))
            }
            Operator::Contains(text) if text.is_empty() => self.all_texts = true,
            Operator::Contains(text) => anywhere.push(text),
            Operator::Wildcard(wildcard) => match wildcard.parts().as_slice() {
                [(Part::Whole, text)] => _ = self.texts.insert((*text).into()),
                [(Part::Beginning, text)] => self.beginnings.push((*text).into()),
                [(Part::End, text)] => self.ends.push(reversed(text)),
                [] => self.all_texts = true,
                _ => self.rest.push(place),
            },
            Operator::Number(number) => self.number(Range::only(*number), place),
            Operator::Numeric(range) => self.number(*range, place),
            Operator::Boolean(value) => {
                self.truth = [self.truth[0] || !value, self.truth[1] || *value]
            }
            Operator::Null => self.null = true,
            Operator::Cidr(net) => match net {
                IpNet::V4(net) => self.networks[0].0.push((
                    net.network().to_bits().into(),
                    net.broadcast().to_bits().into(),
                )),
                IpNet::V6(net) => self.networks[1]
                    .0
                    .push((net.network().to_bits(), net.broadcast().to_bits())),
            },
            Operator::Exists(true) => self.all = true,
            Operator::Exists(false) => {}
            Operator::AnythingBut(_) | Operator::CompareTo(..) | Operator::All(_) => {
                self.rest.push(place)
            }
        }
    }

    fn number(&mut self, range: Range, place: usize) {
        match range.from {
            _ if range == range.widened() => self.ranges.0.push(range),
            Some((number, true)) if range.to == range.from => self.doubles.push(number),
            _ => self.rest.push(place),
        }
    }

    /// Whether the scalar fits one of those that are looked up.
    fn has(&self, scalar: Scalar<'_>, workings: &mut Workings) -> bool {
        workings.steps += 1;
        self.all
            || match scalar {
                Scalar::Text(text) => self.all_texts || self.has_text(text, workings),
                Scalar::Number(number) => {
                    self.ranges.contain(number) || self.doubles.binary_search(&number).is_ok()
                }
                Scalar::Boolean(true) => self.truth[1],
                Scalar::Boolean(false) => self.truth[0],
                Scalar::Null => self.null,
            }
    }

    fn has_text(&self, text: &[u8], workings: &mut Workings) -> bool {
        self.texts.contains(text)
            || begins(&self.beginnings, text.iter())
            || begins(&self.ends, text.iter().rev())
            || self
                .anywhere
                .as_ref()
                .is_some_and(|anywhere| anywhere.is_match(text))
            || self.has_address(text)
            || self.has_folded(text, &mut workings.folded)
    }

    fn has_folded(&self, text: &[u8], folded: &mut String) -> bool {
        if self.folded.is_empty()
            && self.folded_beginnings.is_empty()
            && self.folded_ends.is_empty()
        {
            return false;
        }
        if !fold(text, folded) {
            return false;
        }
        self.folded.contains(folded.as_str())
            || begins(&self.folded_beginnings, folded.as_bytes().iter())
            || begins(&self.folded_ends, folded.as_bytes().iter().rev())
    }

    fn has_address(&self, text: &[u8]) -> bool {
        if self.networks.iter().all(|networks| networks.0.is_empty()) {
            return false;
        }
        match address(text) {
            Some(IpAddr::V4(address)) => self.networks[0].contain(address.to_bits().into()),
            Some(IpAddr::V6(address)) => self.networks[1].contain(address.to_bits()),
            None => false,
        }
    }
}

/// Whether a text begins with one of these, which are sorted and of which none begins with another.
fn begins<'t>(sorted: &[Box<[u8]>], text: impl Iterator<Item = &'t u8> + Clone) -> bool {
    let after = sorted.partition_point(|one| one.iter().le(text.clone()));
    let last = after.checked_sub(1).and_then(|at| sorted.get(at));
    last.is_some_and(|last| last.iter().eq(text.take(last.len())))
}

impl Ranges {
    fn sort(&mut self) {
        // At one number the range that has it begins before the one that does not.
        let begins = |range: &Range| range.from.map(|(number, itself)| (number, !itself));
        self.0.sort_unstable_by_key(begins);
        let mut farthest: Option<Range> = None;
        for range in &mut self.0 {
            if let Some(before) = &farthest {
                range.to = before.to.zip(range.to).map(|(before, own)| before.max(own));
            }
            farthest = Some(*range);
        }
    }

    fn contain(&self, number: Number) -> bool {
        let begun = |range: &Range| {
            range
                .from
                .is_none_or(|(from, itself)| number > from || itself && number == from)
        };
        let last = self
            .0
            .partition_point(begun)
            .checked_sub(1)
            .and_then(|at| self.0.get(at));
        last.is_some_and(|last| last.contains(number))
    }
}

impl Networks {
    fn sort(&mut self) {
        self.0.sort_unstable();
        let mut farthest = 0;
        for (_, end) in &mut self.0 {
            farthest = farthest.max(*end);
            *end = farthest;
        }
    }

    fn contain(&self, address: u128) -> bool {
        let last = self
            .0
            .partition_point(|(start, _)| *start <= address)
            .checked_sub(1)
            .and_then(|at| self.0.get(at));
        last.is_some_and(|(_, end)| address <= *end)
    }
}

/// Where in a text a part of a wildcard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Beginning,
    Anywhere,
    End,
}

impl Wildcard {
    /// The texts that it asks for, each with its place.
    pub(super) fn parts(&self) -> Vec<(Part, &[u8])> {
        let Some(last) = self.last() else {
            return vec![(Part::Whole, self.first())];
        };
        let ends = [(Part::Beginning, self.first()), (Part::End, last)];
        let middle = self.middle().map(|part| (Part::Anywhere, part));
        ends.into_iter()
            .chain(middle)
            .filter(|(_, text)| !text.is_empty())
            .collect()
    }
}

impl Wildcard {
    /// Whether it asks for a whole text, a beginning or an end, and for nothing else.
    pub(crate) fn is_one_end(&self) -> bool {
        matches!(
            self.parts().as_slice(),
            [(Part::Whole | Part::Beginning | Part::End, _)]
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::json;
    use crate::pattern::{Body, Pattern};
    use crate::workings::Workings;
    use crate::{Document, Scratch};

    fn number() -> impl Strategy<Value = Value> {
        let odd = [
            "1e30",
            "1.0000000000000002e30",
            "9007199254740993",
            "9007199254740992.0",
            "-0.0",
            "0.5",
            "2.5",
            "18446744073709551615",
        ];
        let odd = odd.map(|text| serde_json::from_str::<Value>(text).unwrap());
        prop_oneof![2 => (-4..5_i32).prop_map(Value::from), 1 => prop::sample::select(odd.to_vec())]
    }

    fn operator() -> impl Strategy<Value = Value> {
        let text = || "[abAß]{0,3}";
        let compare = |names: &'static [&'static str]| prop::sample::select(names);
        let nets = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "0.0.0.0/31",
            "255.255.255.255/32",
            "::/1",
            "2001:db8::/32",
            "::1/128",
        ];
        prop_oneof![
            2 => text().prop_map(Value::from),
            2 => number(),
            1 => prop::sample::select(vec![json!(true), json!(false), Value::Null, json!({ "exists": false })]),
            1 => text().prop_map(|text| json!({ "prefix": format!("b{text}") })),
            1 => text().prop_map(|text| json!({ "suffix": format!("{text}b") })),
            1 => text().prop_map(|text| json!({ "equals-ignore-case": text })),
            1 => text()
                .prop_map(|text| json!({ "prefix": { "equals-ignore-case": format!("B{text}") } })),
            1 => text()
                .prop_map(|text| json!({ "suffix": { "equals-ignore-case": format!("{text}B") } })),
            1 => text().prop_map(|text| json!({ "contains": format!("{text}aa") })),
            1 => "[abA]{0,2}\\*?[ab]{1,3}\\*?".prop_map(|text| json!({ "wildcard": text })),
            1 => (compare(&["=", ">", ">=", "<", "<="]), number())
                .prop_map(|(comparison, number)| json!({ "numeric": [comparison, number] })),
            2 => (compare(&[">", ">="]), 1..8_i32, compare(&["<", "<="]), 1..3_i32)
                .prop_map(|(lower, from, upper, length)| json!({ "numeric": [lower, from, upper, from + length] })),
            2 => prop::sample::select(nets.to_vec()).prop_map(|net| json!({ "cidr": net })),
            1 => Just(json!({ "all": [{ "prefix": "a" }, { "suffix": "A" }] })),
        ]
    }

    fn scalar() -> impl Strategy<Value = String> {
        let addresses = [
            "10.0.0.1",
            "10.1.2.3",
            "11.0.0.0",
            "9.255.255.255",
            "0.0.0.1",
            "::1",
            "2001:db8::5",
            "8000::",
            "::ffff:10.0.0.1",
        ];
        prop_oneof![
            3 => "[abAß]{0,5}".prop_map(|text| Value::from(text).to_string()),
            3 => number().prop_map(|number| number.to_string()),
            1 => (0..80_i32).prop_map(|eighths| (f64::from(eighths) / 8.0).to_string()),
            1 => prop::sample::select(vec!["1e30", "1.0e30", "9007199254740993.0", "1e400", "-1e-400"])
                .prop_map(ToOwned::to_owned),
            1 => prop::sample::select(addresses.to_vec())
                .prop_map(|text| Value::from(text).to_string()),
            1 => prop::sample::select(vec!["true", "false", "null"]).prop_map(ToOwned::to_owned),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_looked_up_is_what_is_found_in_turn(operators in prop::collection::vec(operator(), 9..40), scalars in prop::collection::vec(scalar(), 1..20)) {
            let Ok(pattern) = Pattern::compile_for_any_json(&json!({ "x": operators })) else { return Ok(()) };
            let Body::Leaf(leaf) = &pattern.root.fields[0].body else { unreachable!() };
            let mut workings = Workings::default();
            for text in scalars {
                let (document, mut buffer) = (Document::json(b"{}").unwrap(), Vec::new());
                let scalar = json::scalar(text.as_bytes(), &mut buffer).unwrap();
                let expected = leaf.list.operators().iter().any(|operator| operator.fits(scalar, &document, &mut workings));
                prop_assert_eq!(leaf.list.fits(scalar, &document, &mut workings), expected, "{}", text);
            }
        }
    }

    #[test]
    fn what_is_compared_with_is_that_of_the_document_at_hand() {
        let pattern = Pattern::compile_for_any_json(
            &json!({ "x": [{ "compare-to": [">", "$.limit"] }], "y": [{ "compare-to": ["=", "$.limit"] }] }),
        );
        let (pattern, mut scratch) = (pattern.unwrap(), Scratch::default());
        for (text, expect) in [
            (r#"{"x": [1, 5], "y": 3, "limit": 3}"#, true),
            (r#"{"x": [1, 5], "y": "t", "limit": "t"}"#, false),
            (r#"{"x": "u", "y": "t", "limit": "t"}"#, true),
            (r#"{"x": [1, 5], "y": 3}"#, false),
            (r#"{"x": [1, 5], "y": 4, "limit": 4}"#, true),
        ] {
            assert_eq!(
                pattern.matches(&Document::json(text.as_bytes()).unwrap(), &mut scratch),
                expect,
                "{text}"
            );
        }
    }
}
