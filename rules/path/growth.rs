//! What a query can cost on a document: its library has no bound of its own.
//!
//! Each `..` finds a value once for each value above it that was found, and what is selected twice stays twice: `$..*..*..*..*` on sixty
//! nested lists, 125 bytes, finds half a million values, each with its path as text. So the steps are counted before, from above.

use std::collections::HashSet;

use jsonpath_rust::parser::model::{Comparable, Filter, FilterAtom, FnArg, JpQuery, Segment, Selector, Test, TestFunction};
use serde_json::Value;

use crate::condition::compile_regex;

/// Steps that one query may take on one document. About a second, and much more than is looked for in earnest: `$..a..b` takes a third of
/// it on an event of fifty thousand values.
const STEPS_MAX: u64 = 10_000_000;

/// What a regular expression counts for that comes with the event, by how many bytes it takes compiled: the library compiles it anew for
/// each value. One that takes more is not looked for at all.
const FOREIGN_REGEX_STEPS: [(usize, u64); 3] = [(16 * 1024, 1_000), (64 * 1024, 4_000), (256 * 1024, 16_000)];

/// What a query can cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    growth: Growth,
    /// Where in a document the regular expressions are that it takes from there.
    foreign: Vec<Foreign>,
}

/// Where a regular expression is taken from a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Foreign {
    /// Members of this name.
    Named(Box<str>),
    /// Any text.
    Anywhere,
}

impl Cost {
    pub(super) fn of(query: &JpQuery) -> Self {
        let mut foreign = Vec::new();
        let growth = Growth::segments(&query.segments, &mut foreign);
        Self { growth, foreign }
    }

    /// Whether the query takes more steps on a document than it may.
    pub(super) fn exceeds(&self, tree: &Value) -> bool {
        if self.growth == Growth::NONE {
            return false;
        }
        let mut dearest = Some(1);
        if !self.foreign.is_empty() {
            let mut known = HashSet::new();
            self.dearest(tree, None, &mut known, &mut dearest);
        }
        dearest.is_none_or(|each| self.growth.steps(tree).saturating_mul(each) > STEPS_MAX)
    }

    /// What the dearest regular expression of a document costs; none where one is too large. Each text is compiled once.
    fn dearest<'t>(&self, value: &'t Value, name: Option<&str>, known: &mut HashSet<&'t str>, dearest: &mut Option<u64>) {
        match value {
            Value::String(text) if dearest.is_some() && self.foreign.iter().any(|foreign| foreign.takes(name)) && known.insert(text) => {
                let more = regex_steps(text).filter(|steps| known.len() as u64 * steps <= STEPS_MAX);
                *dearest = dearest.zip(more).map(|(dearest, steps)| dearest.max(steps));
            }
            Value::Array(items) => items.iter().for_each(|item| self.dearest(item, None, known, dearest)),
            Value::Object(members) => members.iter().for_each(|(name, value)| self.dearest(value, Some(name), known, dearest)),
            _ => {}
        }
    }
}

impl Foreign {
    /// Where an argument that is a query takes it from.
    fn of(argument: &FnArg) -> Option<Self> {
        let segments = match argument {
            FnArg::Literal(_) => return None,
            FnArg::Test(test) => match &**test {
                Test::RelQuery(segments) => segments.as_slice(),
                Test::AbsQuery(query) => query.segments.as_slice(),
                Test::Function(_) => &[],
            },
            FnArg::Filter(_) => &[],
        };
        Some(match segments.last() {
            Some(Segment::Selector(Selector::Name(name))) => Self::Named(name.as_str().into()),
            _ => Self::Anywhere,
        })
    }

    fn takes(&self, member: Option<&str>) -> bool {
        match self {
            Self::Named(name) => member == Some(name),
            Self::Anywhere => true,
        }
    }
}

/// What compiling a text as a regular expression counts for; none where it is too large. One that is wrong is found so at once.
fn regex_steps(text: &str) -> Option<u64> {
    for (bytes_max, steps) in FOREIGN_REGEX_STEPS {
        match compile_regex(text, false, bytes_max) {
            Err(regex::Error::CompiledTooBig(_)) => {}
            _ => return Some(steps.max(text.len() as u64)),
        }
    }
    None
}

/// The steps of a query, as a formula over the document: the sum over its values of (depth + 1)^`descents`, times `copies`, times the number of its
/// values to the power of `absolutes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Growth {
    descents: u32,
    copies: u64,
    /// Queries from the root in a filter, which run for each value that the filter looks at.
    absolutes: u32,
}

impl Growth {
    /// No more than one look at each value.
    const NONE: Self = Self { descents: 0, copies: 1, absolutes: 0 };

    /// How many steps the query takes on a document at most.
    fn steps(self, tree: &Value) -> u64 {
        let (mut values, mut steps) = (0, 0);
        count(tree, 1, self.descents, &mut values, &mut steps);
        steps.saturating_mul(self.copies).saturating_mul(values.saturating_pow(self.absolutes))
    }

    /// For each of the one, the other.
    fn times(self, other: Self) -> Self {
        Self {
            descents: self.descents + other.descents,
            copies: self.copies.saturating_mul(other.copies),
            absolutes: self.absolutes + other.absolutes,
        }
    }

    /// The one after the other, at most.
    fn plus(self, other: Self) -> Self {
        Self {
            descents: self.descents.max(other.descents),
            copies: self.copies.saturating_add(other.copies),
            absolutes: self.absolutes.max(other.absolutes),
        }
    }

    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().reduce(Self::plus).unwrap_or(Self::NONE)
    }

    fn segments(segments: &[Segment], foreign: &mut Vec<Foreign>) -> Self {
        let (mut found, mut filters) = (Self::NONE, None);
        for segment in segments {
            let (mut selecting, mut descents) = (segment, 0);
            while let Segment::Descendant(inner) = selecting {
                (selecting, descents) = (inner, descents + 1);
            }
            let selectors = match selecting {
                Segment::Selectors(many) => many.as_slice(),
                Segment::Selector(one) => std::slice::from_ref(one),
                Segment::Descendant(_) => &[],
            };
            found = found.times(Self { descents, copies: overlaps(selectors), ..Self::NONE });
            for selector in selectors {
                if let Selector::Filter(filter) = selector {
                    let cost = found.times(Self::filter(filter, foreign));
                    filters = Some(filters.map_or(cost, |before| cost.plus(before)));
                }
            }
        }
        filters.map_or(found, |filters| if found == Self::NONE { filters } else { found.plus(filters) })
    }

    fn filter(filter: &Filter, foreign: &mut Vec<Foreign>) -> Self {
        match filter {
            Filter::Or(parts) | Filter::And(parts) => Self::all(parts.iter().map(|part| Self::filter(part, foreign))),
            Filter::Atom(FilterAtom::Filter { expr, .. }) => Self::filter(expr, foreign),
            Filter::Atom(FilterAtom::Test { expr, .. }) => Self::test(expr, foreign),
            Filter::Atom(FilterAtom::Comparison(comparison)) => {
                let (left, right) = comparison.vals();
                Self::all([left, right].into_iter().filter_map(|side| match side {
                    Comparable::Function(function) => Some(Self::function(function, foreign)),
                    Comparable::Literal(_) | Comparable::SingularQuery(_) => None,
                }))
            }
        }
    }

    fn test(test: &Test, foreign: &mut Vec<Foreign>) -> Self {
        let is_single = |segment: &Segment| matches!(segment, Segment::Selector(Selector::Name(_) | Selector::Index(_)));
        match test {
            Test::AbsQuery(query) if query.segments.iter().all(is_single) => Self::NONE,
            Test::AbsQuery(query) => Self::segments(&query.segments, foreign).times(Self { absolutes: 1, ..Self::NONE }),
            Test::RelQuery(segments) => Self::segments(segments, foreign),
            Test::Function(function) => Self::function(function, foreign),
        }
    }

    fn function(function: &TestFunction, foreign: &mut Vec<Foreign>) -> Self {
        let mut argument = |argument: &FnArg| match argument {
            FnArg::Literal(_) => Self::NONE,
            FnArg::Test(test) => Self::test(test, foreign),
            FnArg::Filter(filter) => Self::filter(filter, foreign),
        };
        match function {
            TestFunction::Length(one) => argument(one),
            TestFunction::Value(one) | TestFunction::Count(one) => argument(one),
            TestFunction::Search(one, other) | TestFunction::Match(one, other) => {
                let both = Self::all([argument(one), argument(other)]);
                foreign.extend(Foreign::of(other));
                both
            }
            TestFunction::Custom(_, all) => Self::all(all.iter().map(&mut argument)),
        }
    }
}

/// How often one value can be selected: by one of different names alone once.
fn overlaps(selectors: &[Selector]) -> u64 {
    let names = selectors.iter().filter_map(|selector| if let Selector::Name(name) = selector { Some(name) } else { None });
    let different = names.collect::<HashSet<_>>().len();
    (selectors.len() - different.saturating_sub(1)) as u64
}

/// Counts values and steps. The recursion ends at the depth to which JSON is read.
fn count(value: &Value, depth: u64, descents: u32, values: &mut u64, steps: &mut u64) {
    *values += 1;
    *steps = steps.saturating_add(depth.saturating_pow(descents));
    match value {
        Value::Array(items) => items.iter().for_each(|item| count(item, depth + 1, descents, values, steps)),
        Value::Object(members) => members.values().for_each(|item| count(item, depth + 1, descents, values, steps)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use jsonpath_rust::parser::parse_json_path;
    use serde_json::json;

    use super::*;
    use crate::document::Document;
    use crate::path::{Found, Path};

    #[test]
    fn the_formula_follows_the_query() {
        for (query, descents, copies, absolutes) in [
            ("$.a.*[1:2]", 0, 1, 0),
            ("$['a','b']['c','d']", 0, 1, 0),
            ("$['a','a'][*,0]", 0, 4, 0),
            ("$..a..*", 2, 1, 0),
            ("$[?@.a > 1 && match(@.b, 'x')]", 0, 3, 0),
            ("$..[?@..[?@..b]]", 3, 3, 0),
            ("$..[?count($..a) > $.b]", 2, 2, 1),
            ("$[?$.a]", 0, 1, 0),
            ("$[?search(@.a, 'x')]", 0, 2, 0),
            ("$[?search(@.a, $.b)]", 0, 2, 0),
        ] {
            let Cost { growth, .. } = Cost::of(&parse_json_path(query).unwrap());
            assert_eq!(growth, Growth { descents, copies, absolutes }, "{query}");
        }
    }

    #[test]
    fn a_query_that_would_multiply_a_document_finds_nothing() {
        let nested = format!("{}1{}", "[".repeat(60), "]".repeat(60));
        let wide = json!({ "a": (0..5_000).collect::<Vec<_>>() }).to_string();
        let twice = format!("${}", "[*,*]".repeat(60));
        for (query, text, finds) in [
            ("$..*", &nested, true),
            ("$..*..*", &nested, true),
            ("$..*..*..*..*", &nested, false),
            ("$..[?@..[?@..[?@..*]]]", &nested, false),
            (&twice, &nested, false),
            ("$..[?@ > 4990]", &wide, true),
            ("$.a[?$..b || @ == 1]", &wide, false),
            ("$.a[?$.a[1] && @ == 1]", &wide, true),
            ("$.a[?search('1', '1')]", &wide, true),
            ("$.a[?search('1', $.b) || @ == 1]", &wide, true),
        ] {
            let document = Document::json(text.as_bytes()).unwrap();
            let found = Path::parse(query).unwrap();
            assert_eq!(!matches!(found.find(&document), Found::Nothing), finds, "{query}");
        }
    }
    #[test]
    fn regular_expressions_from_an_event_are_counted_by_their_size() {
        let listed = |pattern: &str, length: usize| json!({ "list": vec![json!({ "t": "abc", "p": pattern }); length] });
        for (query, pattern, length, finds) in [
            ("$.list[?search(@.t, @.p)]", "b", 100, true),
            ("$.list[?search(@.t, @.p)]", "[a-z]{2,5}", 1_000, true),
            ("$.list[?match(@.t, @.p)]", r"\p{L}+", 50, true),
            ("$.list[?search(@.t, @.p)]", r"(\p{L}{9}){9}x|b", 100, false),
            ("$.list[?search(@['t'], $.list[0]['p'])]", r"(\p{L}{9}){9}x|b", 1, false),
            ("$.list[?search(@.t, value(@..p))]", r"(\p{L}{9}){9}x|b", 1, false),
            // Of another name, and so never compiled.
            ("$.list[?search(@.t, @.t)]", r"(\p{L}{9}){9}x|b", 100, true),
            (r"$.list[?search(@.t, '(\\p{L}{9}){2}x|b')]", "", 2, true),
        ] {
            let text = listed(pattern, length).to_string();
            let document = Document::json(text.as_bytes()).unwrap();
            let start = std::time::Instant::now();
            let found = !matches!(Path::parse(query).unwrap().find(&document), Found::Nothing);
            assert_eq!(found, finds, "{query} {pattern}");
            // Hundreds of times what it takes, and a fraction of what it took.
            assert!(finds || start.elapsed() < std::time::Duration::from_secs(1), "{query} {pattern}");
        }
    }
}
