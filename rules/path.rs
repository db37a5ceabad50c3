//! JSONPath (RFC 9535).
//!
//! A query that can find one value at most (`$.data.items[0]['name']`, section 2.3.5.1) is compiled
//! to steps and read from the raw text without building anything. All others are evaluated over the
//! document's tree. `jsonpath-rust` parses them; what it takes beyond the RFC is refused here: see
//! [`Path::parse`]. Its own evaluation has no bound, and compiles a regular expression anew for
//! each value.
//!
//! A query that would multiply a document beyond all bounds, as `$..*..*..*..*` does a deep one,
//! finds nothing there.

mod check;
mod evaluate;
mod operand;
mod select;

use std::fmt;

use jsonpath_rust::parser::model::{JpQuery, Segment, Selector};
use jsonpath_rust::parser::parse_json_path;
use pointsman_schemas::Problem;
use serde_json::Value;

use crate::document::{Document, Node, Step};

pub(crate) use check::{check_filter, check_text, parse_problem};

/// A compiled JSONPath query.
#[derive(Clone, Debug)]
pub struct Path {
    text: Box<str>,
    query: Query,
}

#[derive(Clone, Debug)]
enum Query {
    /// With whether a name in it has dots.
    Singular(Vec<Step>, bool),
    Nodes(Box<JpQuery>),
}

/// What a query found.
#[derive(Debug)]
pub enum Found<'d> {
    /// Nothing.
    Nothing,
    /// The value of a query that can find one at most.
    One(Node<'d>),
    /// The values of any other query: at least one.
    Many(Vec<&'d Value>),
}

impl Query {
    fn singular(steps: Vec<Step>) -> Self {
        let has_dots = steps
            .iter()
            .any(|step| matches!(step, Step::Name(name) if name.contains('.')));
        Self::Singular(steps, has_dots)
    }
}

impl Path {
    /// Compiles a query.
    ///
    /// # Errors
    /// Where the text is not a query of RFC 9535, with the place inside the text as far as it is
    /// known. Function calls that the RFC does not know or whose arguments are of the wrong type
    /// (section 2.4.3), and indexes past 2⁵³, are mistakes too.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        check_text(text)?;
        let query = parse_json_path(text).map_err(|error| parse_problem(text, text, 0, &error))?;
        check::check_query(&query)?;
        Ok(Self::from_query(text, query))
    }

    /// A query that has been checked.
    pub(crate) fn from_query(text: &str, query: JpQuery) -> Self {
        let steps: Option<Vec<Step>> = query
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Selector(Selector::Name(name)) => Some(Step::Name(name.as_str().into())),
                Segment::Selector(Selector::Index(index)) => Some(Step::Index(*index)),
                _ => None,
            })
            .collect();
        Self {
            text: text.into(),
            query: steps.map_or_else(|| Query::Nodes(Box::new(query)), Query::singular),
        }
    }

    pub(crate) fn from_steps(steps: Vec<Step>) -> Self {
        let mut text = String::from("$");
        for step in &steps {
            text.push_str(&step.to_string());
        }
        Self {
            text: text.into(),
            query: Query::singular(steps),
        }
    }

    /// The query as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True where the query can find one value at most (RFC 9535, section 2.3.5.1).
    #[must_use]
    pub fn is_singular(&self) -> bool {
        matches!(self.query, Query::Singular(..))
    }

    /// The context attribute that the query finds, where it is one for that.
    pub(crate) fn attribute(&self) -> Option<&str> {
        match self.steps()? {
            [Step::Name(name)] if !matches!(&**name, "data" | "data_base64") => Some(name),
            _ => None,
        }
    }

    /// True of a query for one value at most that names a key with dots in it.
    pub(crate) fn has_dots(&self) -> bool {
        matches!(&self.query, Query::Singular(_, true))
    }

    pub(crate) fn steps(&self) -> Option<&[Step]> {
        match &self.query {
            Query::Singular(steps, _) => Some(steps),
            Query::Nodes(..) => None,
        }
    }

    /// Runs the query.
    #[must_use]
    pub fn find<'d>(&self, document: &'d Document<'d>) -> Found<'d> {
        match &self.query {
            Query::Singular(steps, _) => match steps
                .iter()
                .try_fold(Node::Root(document), |node, step| node.step(step))
            {
                Some(node) => Found::One(node),
                None => Found::Nothing,
            },
            Query::Nodes(query) => match evaluate::find(query, document.tree()) {
                Some(found) if !found.is_empty() => Found::Many(found),
                _ => Found::Nothing,
            },
        }
    }

    /// What the query found as text: texts raw, all else as JSON; none where it found nothing.
    #[must_use]
    pub fn find_text(&self, document: &Document<'_>) -> Option<String> {
        match self.find(document) {
            Found::Nothing => None,
            Found::One(node) => Some(node.to_text().into_owned()),
            Found::Many(values) => Some(list(&values)),
        }
    }
}

/// Values as one JSON array.
pub(crate) fn list(values: &[&Value]) -> String {
    let texts: Vec<_> = values.iter().map(|value| value.to_string()).collect();
    format!("[{}]", texts.join(","))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) if is_shorthand(name) => write!(f, ".{name}"),
            Self::Name(name) => write!(f, "['{}']", name.replace('\\', r"\\").replace('\'', r"\'")),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A query as text. Its filters are shortened: the parsed form has lost how they were written.
pub(crate) fn query_text(query: &JpQuery) -> String {
    let selector = |selector: &Selector| match selector {
        Selector::Name(name) => format!("'{name}'"),
        Selector::Wildcard => "*".to_owned(),
        Selector::Index(index) => index.to_string(),
        Selector::Slice(from, to, step) => {
            let text = |bound: &Option<i64>| bound.map_or(String::new(), |bound| bound.to_string());
            format!(
                "{}:{}{}",
                text(from),
                text(to),
                step.map_or(String::new(), |step| format!(":{step}"))
            )
        }
        Selector::Filter(_) => "?…".to_owned(),
    };
    query.segments.iter().fold("$".to_owned(), |text, part| {
        text + &segment_text(part, &selector)
    })
}

fn segment_text(segment: &Segment, selector: &dyn Fn(&Selector) -> String) -> String {
    match segment {
        Segment::Descendant(inner) => format!(
            "..{}",
            segment_text(inner, selector).trim_start_matches('.')
        ),
        Segment::Selector(Selector::Name(name)) => Step::Name(name.as_str().into()).to_string(),
        Segment::Selector(one) => format!("[{}]", selector(one)),
        Segment::Selectors(many) => format!(
            "[{}]",
            many.iter().map(selector).collect::<Vec<_>>().join(",")
        ),
    }
}

/// RFC 9535, section 2.5.1.1, `member-name-shorthand`.
fn is_shorthand(name: &str) -> bool {
    let first = |character: char| {
        character.is_ascii_alphabetic() || character == '_' || !character.is_ascii()
    };
    name.chars().next().is_some_and(first)
        && name
            .chars()
            .all(|character| first(character) || character.is_ascii_digit())
}
