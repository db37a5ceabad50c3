//! What must be right about a query beyond its grammar.

use jsonpath_rust::parser::errors::JsonPathError;
use jsonpath_rust::parser::model::{
    Comparable, Filter, FilterAtom, FnArg, JpQuery, Segment, Selector, SingularQuery,
    SingularQuerySegment, Test, TestFunction,
};
use pointsman_schemas::Problem;
use pointsman_schemas::template::lexer;

/// The longest query that is read.
const QUERY_BYTES_MAX: usize = 16 * 1024;

/// How deeply function calls may nest: the parser's work doubles with each level.
const CALLS_MAX: usize = 4;

/// The largest index of RFC 9535, section 2.1 (the integers of I-JSON).
const INDEX_MAX: u64 = (1 << 53) - 1;

/// Refuses texts that would take the parser long, before it sees them.
pub(crate) fn check_text(text: &str) -> Result<(), Problem> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(Problem::new(format!(
            "the query is longer than {QUERY_BYTES_MAX} bytes"
        )));
    }
    // For each open bracket, whether it opens a call.
    let (mut open, mut calls, mut quote, mut escaped) = (Vec::new(), 0_usize, None, false);
    let (mut before, mut solid) = (' ', ' ');
    let is_name = |character: char| {
        character.is_ascii_alphanumeric() || character == '_' || !character.is_ascii()
    };
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(mark), _) if mark == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '(' | '[') => {
                let call = character == '(' && before.is_ascii_alphanumeric();
                open.push(call);
                calls += usize::from(call);
                if calls > CALLS_MAX {
                    return Err(Problem::new(format!(
                        "function calls are nested deeper than {CALLS_MAX} levels"
                    ))
                    .inside(at..at + 1));
                }
            }
            (None, ')' | ']') => {
                calls = calls.saturating_sub(usize::from(open.pop().unwrap_or(false)))
            }
            // The parser would take `$.a b` for the name "a b".
            (None, _) if before.is_ascii_whitespace() && is_name(character) && is_name(solid) => {
                let problem = Problem::new("two words stand side by side")
                    .inside(at..at + character.len_utf8());
                return Err(problem.help(
                    mistake(text)
                        .unwrap_or_else(|| "write ['a b'] for a name with a space".to_owned()),
                ));
            }
            (None, _) => {}
        }
        before = character;
        if !character.is_ascii_whitespace() {
            solid = character;
        }
    }
    Ok(())
}

/// A parser's error as a problem in the text that a user wrote, of which `parsed` is the form given
/// to the parser, `shift` bytes longer in front.
pub(crate) fn parse_problem(
    text: &str,
    parsed: &str,
    shift: usize,
    error: &JsonPathError,
) -> Problem {
    let problem = Problem::new("this is not a JSONPath query (RFC 9535)");
    let shown = error.to_string();
    // The parser tells the place within a picture of it: " --> line:column".
    let place = shown.split_once("--> ").and_then(|(_, rest)| {
        let (line, rest) = rest.split_once(':')?;
        let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((
            line.trim().parse::<usize>().ok()?,
            column.parse::<usize>().ok()?,
        ))
    });
    let problem = match place {
        Some((line, column)) => {
            let before: usize = parsed
                .split_inclusive('\n')
                .take(line.saturating_sub(1))
                .map(str::len)
                .sum();
            let rest = parsed.get(before..).unwrap_or_default();
            let within: usize = rest
                .chars()
                .take(column.saturating_sub(1))
                .map(char::len_utf8)
                .sum();
            let at = (before + within).saturating_sub(shift).min(text.len());
            let end = text
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .map_or(at, |character| at + character.len_utf8());
            problem.inside(at..end)
        }
        None => match shown.lines().next() {
            Some(reason) if !reason.is_empty() => problem.help(reason.to_owned()),
            _ => problem,
        },
    };
    match mistake(text) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// What was probably meant.
fn mistake(text: &str) -> Option<String> {
    let spaced = format!(" {} ", text.to_lowercase());
    let single_equals = || {
        let bytes = text.as_bytes();
        bytes.iter().enumerate().any(|(at, byte)| {
            let near = |at: Option<usize>| at.and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
            *byte == b'='
                && !b"=!<>".contains(&near(at.checked_sub(1)))
                && near(Some(at + 1)) != b'='
        })
    };
    // One name after the other, at the front: an attribute, or a field of the data.
    let is_path = |text: &str| {
        text.split('.').all(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    };
    let bare = text.trim();
    if let Some(template) = lexer::only_slot(bare).filter(|inside| !inside.contains("??")) {
        return Some(format!(
            "this is a query by itself, and no template: write {template}"
        ));
    }
    if bare.contains(['\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}']) {
        return Some("these quotes are those of prose: write ' or \"".to_owned());
    }
    if is_path(bare) && !bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("a query begins with $: write $.{bare}"));
    }
    let help = if bare.is_empty() {
        Some("write a query such as $.data.total")
    } else if spaced.contains(" and ") || spaced.contains(" or ") || spaced.contains(" not ") {
        Some("write && for and, || for or, ! for not")
    } else if !text.contains('$') && !text.contains('@') {
        Some("a query begins with $: write $.data.total")
    } else if single_equals() {
        Some("write == to compare")
    } else if (text.contains("[*]") || text.contains(".."))
        && ["==", "!=", "<", ">"]
            .iter()
            .any(|comparison| text.contains(comparison))
    {
        Some(
            "a query that can find many values cannot be compared: compare inside it, as in \
             $.data.items[?@.price > 10]",
        )
    } else {
        None
    };
    help.map(str::to_owned)
}

pub(crate) fn check_query(query: &JpQuery) -> Result<(), Problem> {
    query.segments.iter().try_for_each(check_segment)
}

fn check_segment(segment: &Segment) -> Result<(), Problem> {
    match segment {
        Segment::Descendant(segment) => check_segment(segment),
        Segment::Selector(selector) => check_selector(selector),
        Segment::Selectors(selectors) => selectors.iter().try_for_each(check_selector),
    }
}

fn check_index(index: i64) -> Result<(), Problem> {
    if index.unsigned_abs() > INDEX_MAX {
        Err(Problem::new(format!("the index {index} is too large")))
    } else {
        Ok(())
    }
}

fn check_selector(selector: &Selector) -> Result<(), Problem> {
    match selector {
        Selector::Filter(filter) => check_filter(filter),
        Selector::Index(index) => check_index(*index),
        Selector::Slice(from, to, step) => [from, to, step]
            .into_iter()
            .flatten()
            .try_for_each(|index| check_index(*index)),
        Selector::Name(_) | Selector::Wildcard => Ok(()),
    }
}

/// Checks the functions in a filter: RFC 9535, sections 2.4.3 to 2.4.8.
pub(crate) fn check_filter(filter: &Filter) -> Result<(), Problem> {
    match filter {
        Filter::Or(filters) | Filter::And(filters) => filters.iter().try_for_each(check_filter),
        Filter::Atom(FilterAtom::Filter { expr, .. }) => check_filter(expr),
        Filter::Atom(FilterAtom::Test { expr, .. }) => match &**expr {
            Test::RelQuery(segments) => segments.iter().try_for_each(check_segment),
            Test::AbsQuery(query) => check_query(query),
            Test::Function(function) => match &**function {
                TestFunction::Match(..) | TestFunction::Search(..) => check_function(function),
                TestFunction::Custom(name, _) => Err(unknown(name)),
                function => Err(Problem::new(format!(
                    "{} gives a value, which is neither true nor false",
                    name(function)
                ))
                .help("compare it, as in length($.data.items) > 0")),
            },
        },
        Filter::Atom(FilterAtom::Comparison(comparison)) => {
            let (left, right) = comparison.vals();
            check_comparable(left)?;
            check_comparable(right)
        }
    }
}

fn check_comparable(comparable: &Comparable) -> Result<(), Problem> {
    match comparable {
        Comparable::Literal(_) => Ok(()),
        Comparable::Function(function) => check_function(function),
        Comparable::SingularQuery(
            SingularQuery::Current(segments) | SingularQuery::Root(segments),
        ) => segments.iter().try_for_each(|segment| match segment {
            SingularQuerySegment::Index(index) => check_index(*index),
            SingularQuerySegment::Name(_) => Ok(()),
        }),
    }
}

fn check_function(function: &TestFunction) -> Result<(), Problem> {
    match function {
        TestFunction::Length(argument) => check_value(argument),
        TestFunction::Count(argument) | TestFunction::Value(argument) => check_nodes(argument),
        TestFunction::Match(text, pattern) | TestFunction::Search(text, pattern) => {
            check_value(text)?;
            check_value(pattern)
        }
        TestFunction::Custom(name, _) => Err(unknown(name)),
    }
}

fn name(function: &TestFunction) -> &str {
    match function {
        TestFunction::Length(_) => "length",
        TestFunction::Count(_) => "count",
        TestFunction::Value(_) => "value",
        TestFunction::Match(..) => "match",
        TestFunction::Search(..) => "search",
        TestFunction::Custom(name, _) => name,
    }
}

fn unknown(name: &str) -> Problem {
    Problem::new(format!("there is no function {name:?}"))
        .help("RFC 9535 has length, count, value, match and search")
}

/// An argument that must be a value: a literal, a query for one value at most, or a function that
/// gives a value.
fn check_value(argument: &FnArg) -> Result<(), Problem> {
    let singular = |segments: &[Segment]| {
        segments.iter().all(|segment| {
            matches!(
                segment,
                Segment::Selector(Selector::Name(_) | Selector::Index(_))
            )
        })
    };
    let wrong = || {
        Problem::new("this function takes one value, and the query can find many")
            .help("wrap it: length(value($..a)), or count($..a)")
    };
    match argument {
        FnArg::Literal(_) => Ok(()),
        FnArg::Test(test) => match &**test {
            Test::RelQuery(segments) if singular(segments) => Ok(()),
            Test::AbsQuery(query) if singular(&query.segments) => check_query(query),
            Test::Function(function) => match &**function {
                TestFunction::Length(_) | TestFunction::Count(_) | TestFunction::Value(_) => {
                    check_function(function)
                }
                function => Err(Problem::new(format!("{} gives no value", name(function)))),
            },
            _ => Err(wrong()),
        },
        FnArg::Filter(_) => Err(Problem::new("this function takes a value, not a condition")),
    }
}

/// An argument that must be a query.
fn check_nodes(argument: &FnArg) -> Result<(), Problem> {
    match argument {
        FnArg::Test(test) => match &**test {
            Test::RelQuery(segments) => segments.iter().try_for_each(check_segment),
            Test::AbsQuery(query) => check_query(query),
            Test::Function(_) => Err(Problem::new("this function takes a query, not a value")),
        },
        _ => Err(Problem::new("this function takes a query").help("write count($.data.items[*])")),
    }
}
