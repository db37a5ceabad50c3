//! A query held against a tree: RFC 9535, sections 2.3 to 2.5.
//!
//! Whoever writes a query, or sends an event, may make it dear: each `..` finds a value once for
//! each value above it that was found, and what is selected twice stays twice, so that
//! `$..*..*..*..*` on sixty nested lists, 125 bytes, finds half a million values. So every step is
//! counted, and a query that takes too many finds nothing. A regular expression is compiled once
//! for each document, wherever it comes from.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, JpQuery, Literal, Segment, Selector,
    SingularQuery, SingularQuerySegment, Test, TestFunction,
};
use serde_json::Value;

use super::operand::{Operand, Text};
use super::select::{children, element, slice};
use crate::i_regexp;

/// Steps that one query may take on one document: looks at a value, bytes of a text that a regular
/// expression reads. A fraction of a second, and much more than is looked for in earnest: `$..a..b`
/// takes a third of it on an event of fifty thousand values.
const STEPS_MAX: u64 = 10_000_000;

/// What a regular expression of up to so many bytes, compiled, counts for: once where it is
/// compiled, and for each byte that it reads. One that takes more fits nothing.
const REGEX_STEPS: [(usize, u64, u64); 3] = [
    (16 * 1024, 1_000, 1),
    (64 * 1024, 4_000, 4),
    (256 * 1024, 16_000, 16),
];

/// What one that is written out in a rule may take; it has been compiled before, when the rule was.
const LITERAL_REGEX_BYTES_MAX: usize = 1024 * 1024;

/// The values that a query finds, in the RFC's order; none where it takes too many steps.
pub(super) fn find<'d>(query: &JpQuery, root: &'d Value) -> Option<Vec<&'d Value>> {
    Run {
        root,
        steps: 0,
        regexes: HashMap::new(),
    }
    .segments(&query.segments, root)
}

/// A query under way.
struct Run<'q, 'd> {
    root: &'d Value,
    steps: u64,
    /// By their text, and whether all of a text must fit.
    regexes: HashMap<(Text<'q, 'd>, bool), Option<Rc<Compiled>>>,
}

struct Compiled {
    regex: regex::Regex,
    steps_per_byte: u64,
}

/// None: too many steps.
type Bounded<T> = Option<T>;

impl<'q, 'd> Run<'q, 'd> {
    fn step(&mut self, steps: u64) -> Bounded<()> {
        self.steps = self.steps.saturating_add(steps);
        (self.steps <= STEPS_MAX).then_some(())
    }

    fn segments(&mut self, segments: &'q [Segment], from: &'d Value) -> Bounded<Vec<&'d Value>> {
        let mut found = vec![from];
        for segment in segments {
            let mut next = Vec::new();
            for value in found {
                self.segment(segment, value, &mut next)?;
            }
            found = next;
        }
        Some(found)
    }

    fn segment(
        &mut self,
        segment: &'q Segment,
        value: &'d Value,
        found: &mut Vec<&'d Value>,
    ) -> Bounded<()> {
        match segment {
            Segment::Selector(selector) => self.select(selector, value, found),
            Segment::Selectors(selectors) => selectors
                .iter()
                .try_for_each(|selector| self.select(selector, value, found)),
            // Each value, and then what is in it, as deep as JSON is read.
            Segment::Descendant(inner) => {
                self.segment(inner, value, found)?;
                children(value).try_for_each(|child| self.segment(segment, child, found))
            }
        }
    }

    fn select(
        &mut self,
        selector: &'q Selector,
        value: &'d Value,
        found: &mut Vec<&'d Value>,
    ) -> Bounded<()> {
        self.step(1)?;
        let before = found.len();
        match selector {
            Selector::Name(name) => {
                found.extend(value.as_object().and_then(|members| members.get(name)))
            }
            Selector::Index(index) => found.extend(element(value, *index)),
            Selector::Wildcard => found.extend(children(value)),
            Selector::Slice(start, end, step) => {
                slice(value, *start, *end, step.unwrap_or(1), found)
            }
            Selector::Filter(filter) => {
                for child in children(value) {
                    self.step(1)?;
                    if self.filter(filter, child)? {
                        found.push(child);
                    }
                }
            }
        }
        self.step((found.len() - before) as u64)
    }

    fn filter(&mut self, filter: &'q Filter, current: &'d Value) -> Bounded<bool> {
        match filter {
            Filter::Or(parts) => {
                for part in parts {
                    if self.filter(part, current)? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            Filter::And(parts) => {
                for part in parts {
                    if !self.filter(part, current)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
            Filter::Atom(FilterAtom::Filter { expr, not }) => {
                Some(self.filter(expr, current)? != *not)
            }
            Filter::Atom(FilterAtom::Test { expr, not }) => Some(self.test(expr, current)? != *not),
            Filter::Atom(FilterAtom::Comparison(comparison)) => {
                self.comparison(comparison, current)
            }
        }
    }

    fn test(&mut self, test: &'q Test, current: &'d Value) -> Bounded<bool> {
        match test {
            Test::RelQuery(_) | Test::AbsQuery(_) => Some(!self.nodes(test, current)?.is_empty()),
            Test::Function(function) => match &**function {
                TestFunction::Match(text, pattern) => self.fits(text, pattern, true, current),
                TestFunction::Search(text, pattern) => self.fits(text, pattern, false, current),
                other => Some(!matches!(self.function(other, current)?, Operand::Nothing)),
            },
        }
    }

    /// The values that a query in a filter finds; none of a function.
    fn nodes(&mut self, test: &'q Test, current: &'d Value) -> Bounded<Vec<&'d Value>> {
        match test {
            Test::RelQuery(segments) => self.segments(segments, current),
            Test::AbsQuery(query) => self.segments(&query.segments, self.root),
            Test::Function(_) => Some(Vec::new()),
        }
    }

    fn comparison(&mut self, comparison: &'q Comparison, current: &'d Value) -> Bounded<bool> {
        let (left, right) = comparison.vals();
        let (left, right) = (
            self.comparable(left, current)?,
            self.comparable(right, current)?,
        );
        self.step(1)?;
        Some(match comparison {
            Comparison::Eq(..) => left.equals(right),
            Comparison::Ne(..) => !left.equals(right),
            Comparison::Lt(..) => left.order(right) == Some(Ordering::Less),
            Comparison::Gt(..) => left.order(right) == Some(Ordering::Greater),
            Comparison::Lte(..) => left.order(right) == Some(Ordering::Less) || left.equals(right),
            Comparison::Gte(..) => {
                left.order(right) == Some(Ordering::Greater) || left.equals(right)
            }
        })
    }

    fn comparable(
        &mut self,
        comparable: &'q Comparable,
        current: &'d Value,
    ) -> Bounded<Operand<'q, 'd>> {
        let (from, segments) = match comparable {
            Comparable::Literal(literal) => return Some(Operand::Literal(literal)),
            Comparable::Function(function) => return self.function(function, current),
            Comparable::SingularQuery(SingularQuery::Current(segments)) => (current, segments),
            Comparable::SingularQuery(SingularQuery::Root(segments)) => (self.root, segments),
        };
        let found = segments
            .iter()
            .try_fold(from, |value, segment| match segment {
                SingularQuerySegment::Name(name) => value.as_object()?.get(name),
                SingularQuerySegment::Index(index) => element(value, *index),
            });
        Some(found.map_or(Operand::Nothing, Operand::Found))
    }

    /// What a function results in: section 2.4.4 and those behind it.
    fn function(
        &mut self,
        function: &'q TestFunction,
        current: &'d Value,
    ) -> Bounded<Operand<'q, 'd>> {
        Some(match function {
            TestFunction::Length(argument) => match self.argument(argument, current)? {
                Operand::Found(Value::String(text)) => self.length(text)?,
                Operand::Literal(Literal::String(text)) => self.length(text)?,
                Operand::Found(Value::Array(items)) => Operand::Count(items.len()),
                Operand::Found(Value::Object(members)) => Operand::Count(members.len()),
                _ => Operand::Nothing,
            },
            TestFunction::Count(argument) => {
                Operand::Count(self.argument_nodes(argument, current)?.len())
            }
            TestFunction::Value(argument) => {
                match self.argument_nodes(argument, current)?.as_slice() {
                    [value] => Operand::Found(value),
                    _ => Operand::Nothing,
                }
            }
            // These result in no value, and others are not known.
            TestFunction::Match(..) | TestFunction::Search(..) | TestFunction::Custom(..) => {
                Operand::Nothing
            }
        })
    }

    fn length(&mut self, text: &str) -> Bounded<Operand<'q, 'd>> {
        self.step(text.len() as u64 / 16)?;
        Some(Operand::Count(text.chars().count()))
    }

    fn argument(&mut self, argument: &'q FnArg, current: &'d Value) -> Bounded<Operand<'q, 'd>> {
        match argument {
            FnArg::Literal(literal) => Some(Operand::Literal(literal)),
            FnArg::Test(test) => match &**test {
                Test::Function(function) => self.function(function, current),
                query => Some(
                    self.nodes(query, current)?
                        .first()
                        .copied()
                        .map_or(Operand::Nothing, Operand::Found),
                ),
            },
            FnArg::Filter(_) => Some(Operand::Nothing),
        }
    }

    fn argument_nodes(
        &mut self,
        argument: &'q FnArg,
        current: &'d Value,
    ) -> Bounded<Vec<&'d Value>> {
        match argument {
            FnArg::Test(test) => self.nodes(test, current),
            FnArg::Literal(_) | FnArg::Filter(_) => Some(Vec::new()),
        }
    }

    fn fits(
        &mut self,
        text: &'q FnArg,
        pattern: &'q FnArg,
        whole: bool,
        current: &'d Value,
    ) -> Bounded<bool> {
        let (text, pattern) = (
            self.argument(text, current)?,
            self.argument(pattern, current)?,
        );
        let (Some(text), Some(pattern)) = (text.text(), pattern.text()) else {
            return Some(false);
        };
        let known = self.regexes.get(&(pattern, whole)).cloned();
        let compiled = match known {
            Some(compiled) => compiled,
            None => {
                let compiled = self.compile(pattern, whole)?.map(Rc::new);
                self.regexes
                    .entry((pattern, whole))
                    .or_insert(compiled)
                    .clone()
            }
        };
        let Some(compiled) = compiled else {
            return Some(false);
        };
        self.step(
            compiled
                .steps_per_byte
                .saturating_mul(text.as_str().len() as u64),
        )?;
        Some(compiled.regex.is_match(text.as_str()))
    }

    /// Nothing where the text is no regular expression, or too large a one.
    fn compile(&mut self, pattern: Text<'q, 'd>, whole: bool) -> Bounded<Option<Compiled>> {
        if let Text::Query(text) = pattern {
            let regex = i_regexp::compile(text, whole, LITERAL_REGEX_BYTES_MAX).ok();
            return Some(regex.map(|regex| Compiled {
                regex,
                steps_per_byte: 1,
            }));
        }
        let text = pattern.as_str();
        for (bytes_max, steps, steps_per_byte) in REGEX_STEPS {
            self.step(steps.max(text.len() as u64))?;
            match i_regexp::compile(text, whole, bytes_max) {
                Ok(regex) => {
                    return Some(Some(Compiled {
                        regex,
                        steps_per_byte,
                    }));
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => return Some(None),
            }
        }
        Some(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::document::Document;
    use crate::path::{Found, Path};

    fn finds(query: &str, text: &str) -> bool {
        let document = Document::json(text.as_bytes()).unwrap();
        !matches!(Path::parse(query).unwrap().find(&document), Found::Nothing)
    }

    #[test]
    fn a_query_that_would_multiply_a_document_finds_nothing() {
        let nested = format!("{}1{}", "[".repeat(60), "]".repeat(60));
        let wide = json!({ "a": (0..5_000).collect::<Vec<_>>() }).to_string();
        let twice = format!("${}", "[*,*]".repeat(60));
        for (query, text, expect) in [
            ("$..*", &nested, true),
            ("$..*..*", &nested, true),
            ("$..*..*..*..*..*..*..*", &nested, false),
            ("$..[?@..[?@..[?@..[?@..[?@..*]]]]]", &nested, false),
            (&twice, &nested, false),
            ("$..[?@ > 4990]", &wide, true),
            ("$.a[?$..b || @ == 1]", &wide, false),
            ("$.a[?$.a[1] && @ == 1]", &wide, true),
            ("$.a[?search('1', '1')]", &wide, true),
            ("$.a[?search('1', $.b) || @ == 1]", &wide, true),
        ] {
            assert_eq!(finds(query, text), expect, "{query}");
        }
    }

    #[test]
    fn regular_expressions_from_an_event_are_compiled_once_and_bounded_by_their_size() {
        let listed = |pattern: &str, length: usize| {
            json!({ "list": vec![json!({ "t": "abc", "p": pattern }); length] }).to_string()
        };
        let different = |pattern: fn(usize) -> String| {
            json!({ "list": (0..3_000).map(|n| json!({ "t": "abc", "p": pattern(n) })).collect::<Vec<_>>() }).to_string()
        };
        let long = json!({ "list": vec![json!({ "t": "a".repeat(100_000), "p": "x|y" }); 110] })
            .to_string();
        for (query, text, expect) in [
            ("$.list[?search(@.t, @.p)]", listed("b", 100), true),
            // More than could be compiled for each value.
            (
                "$.list[?search(@.t, @.p)]",
                listed(r"\p{L}+b", 50_000),
                true,
            ),
            ("$.list[?match(@.t, @.p)]", listed(r"\p{L}+", 50), true),
            (
                "$.list[?search(@.t, @.p)]",
                listed(r"(\p{L}{9}){9}x|b", 100),
                false,
            ),
            (
                "$.list[?search(@['t'], $.list[0]['p'])]",
                listed(r"(\p{L}{9}){9}x|b", 1),
                false,
            ),
            (
                "$.list[?search(@.t, value(@..p))]",
                listed(r"(\p{L}{9}){9}x|b", 1),
                false,
            ),
            (
                "$.list[?search(@.t, @.t)]",
                listed(r"(\p{L}{9}){9}x|b", 100),
                true,
            ),
            // One that is too large fits nothing; what else there is, is found.
            (
                "$.list[?search(@.t, @.p) || @.t == 'abc']",
                listed(r"(\p{L}{9}){9}x|b", 100),
                true,
            ),
            (
                r"$.list[?search(@.t, '(\\p{L}{9}){2}x|b')]",
                listed("", 2),
                true,
            ),
            (
                "$.list[?search(@.t, @.p)]",
                different(|n| format!("b|x{n}")),
                true,
            ),
            (
                "$.list[?search(@.t, @.p)]",
                different(|n| format!("b|[a-z]{{{n}}}")),
                false,
            ),
            ("$.list[?search(@.t, @.p) || @.p]", long, false),
        ] {
            assert_eq!(finds(query, &text), expect, "{query}");
        }
    }

    #[test]
    fn numbers_in_filters_are_compared_by_value() {
        for (filter, value, expect) in [
            ("@ > 9007199254740991", "9007199254740993", true),
            ("@ == 9007199254740991", "9007199254740993", false),
            ("@ == 300", "3.0e2", true),
            ("@ == 1e30", "1000000000000000000000000000000", true),
            ("@ == $[0]", "9007199254740993", true),
        ] {
            let text = format!("[{value}]");
            let query = Path::parse(&format!("$[?{filter}]")).unwrap();
            let document = Document::json(text.as_bytes()).unwrap();
            assert_eq!(
                !matches!(query.find(&document), Found::Nothing),
                expect,
                "{filter} {value}"
            );
        }
    }
}
