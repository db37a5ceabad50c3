//! Filters: what `filters` holds, in the dialects of the CloudEvents Subscriptions API (section
//! 3.2.4 of `subscriptions/spec.md`).
//!
//! `exact`, `prefix` and `suffix` compare context attributes and extensions with texts, `all`,
//! `any` and `not` combine filters, `sql` is a [CESQL expression](crate::cesql). An attribute that
//! is an integer or a boolean is compared by its canonical text. A `sql` that fails is false, and
//! so `not` over it true.

use std::fmt::Write;

use indexmap::IndexMap;
use pointsman_schemas::{AttributeValue, Event, Problem, suggest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cesql::{Cesql, Kind};
use crate::fields::{FieldsBuilder, ROOT};
use crate::literal::{self, Compared};

/// How deeply `all`, `any` and `not` may nest.
const DEPTH_MAX: usize = 32;

/// What every CloudEvent may have, besides extensions of any name.
const ATTRIBUTES: [&str; 8] = [
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "specversion",
];

/// Attributes that are texts in every event.
const TEXTS: [&str; 4] = ["id", "source", "type", "subject"];

/// One of `filters` as a rule file holds it: one dialect.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Filter")]
pub enum RawFilter {
    /// Attributes that are these texts, all of them.
    Exact(IndexMap<String, String>),
    /// Attributes that begin with these texts, all of them.
    Prefix(IndexMap<String, String>),
    /// Attributes that end with these texts, all of them.
    Suffix(IndexMap<String, String>),
    /// All of these hold.
    All(Vec<RawFilter>),
    /// At least one of these holds.
    Any(Vec<RawFilter>),
    /// This does not hold.
    Not(Box<RawFilter>),
    /// A CESQL expression.
    Sql(String),
}

/// Compiled filters: all must hold.
#[derive(Debug)]
pub struct Filters {
    pub(crate) all: Vec<Filter>,
    warnings: Vec<Problem>,
}

#[derive(Debug)]
pub(crate) enum Filter {
    Attributes(Comparison, Vec<(Box<str>, Box<str>)>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Sql(Cesql),
}

/// How an attribute is compared with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Exact,
    Prefix,
    Suffix,
}

impl Filters {
    /// Compiles filters.
    ///
    /// # Errors
    /// Every mistake in them, each with its path from the list.
    pub fn compile(filters: &[RawFilter]) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if filters.is_empty() {
            // The specification allows it.
            problems.push(
                Problem::new("this list is empty: it takes every event")
                    .help("write a filter, or leave `filters` out")
                    .warn(),
            );
        }
        let all = compile_list(filters, 1, &mut problems);
        if problems.iter().all(|problem| problem.warning) {
            Ok(Self {
                all,
                warnings: problems,
            })
        } else {
            Err(problems)
        }
    }

    /// What is odd about the filters but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Names the attributes by which the index may find the rule.
    pub(crate) fn register(&self, builder: &mut FieldsBuilder) {
        self.all.iter().for_each(|filter| filter.register(builder));
    }

    /// Whether all of them hold.
    #[must_use]
    pub fn hold(&self, event: &Event) -> bool {
        self.all.iter().all(|filter| filter.holds(event))
    }
}

fn compile_list(filters: &[RawFilter], depth: usize, problems: &mut Vec<Problem>) -> Vec<Filter> {
    let mut compiled = Vec::with_capacity(filters.len());
    for (index, filter) in filters.iter().enumerate() {
        let mut own = Vec::new();
        compiled.extend(compile(filter, depth, &mut own));
        problems.extend(own.into_iter().map(|problem| problem.at(index)));
    }
    compiled
}

/// Compiles one filter. The recursion ends at the bound of the depth.
fn compile(filter: &RawFilter, depth: usize, problems: &mut Vec<Problem>) -> Option<Filter> {
    if depth > DEPTH_MAX {
        problems.push(Problem::new(format!(
            "filters nest deeper than {DEPTH_MAX} levels"
        )));
        return None;
    }
    let mut own = Vec::new();
    let list = |list: &[RawFilter], own: &mut Vec<Problem>| {
        if list.is_empty() {
            own.push(Problem::new("this list is empty").help("write at least one filter"));
        }
        compile_list(list, depth + 1, own)
    };
    let (key, compiled) = match filter {
        RawFilter::Exact(texts) => ("exact", attributes(Comparison::Exact, texts, &mut own)),
        RawFilter::Prefix(texts) => ("prefix", attributes(Comparison::Prefix, texts, &mut own)),
        RawFilter::Suffix(texts) => ("suffix", attributes(Comparison::Suffix, texts, &mut own)),
        RawFilter::All(filters) => ("all", Some(Filter::All(list(filters, &mut own)))),
        RawFilter::Any(filters) => ("any", Some(Filter::Any(list(filters, &mut own)))),
        RawFilter::Not(filter) => (
            "not",
            compile(filter, depth + 1, &mut own).map(|filter| Filter::Not(Box::new(filter))),
        ),
        RawFilter::Sql(text) => ("sql", sql(text, &mut own)),
    };
    problems.extend(own.into_iter().map(|problem| problem.at(key)));
    compiled
}

fn sql(text: &str, problems: &mut Vec<Problem>) -> Option<Filter> {
    match Cesql::parse(text) {
        Ok(sql) => {
            problems.extend(sql.mistakes());
            problems.extend_from_slice(sql.warnings());
            Some(Filter::Sql(sql))
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

fn attributes(
    comparison: Comparison,
    texts: &IndexMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Option<Filter> {
    if texts.is_empty() {
        problems.push(
            Problem::new("there is no attribute here")
                .help("name one with its text: { type: order.paid }"),
        );
    }
    for (name, text) in texts {
        problems.extend(attribute_problem(name).map(|problem| problem.key().at(name.as_str())));
        if text.is_empty() {
            let problem = Problem::new("this text is empty").at(name.as_str());
            problems.push(problem.help(
                "write what the attribute is compared with; `EXISTS` in a `sql` asks whether it \
                 is there",
            ));
        }
        let compared = match comparison {
            Comparison::Exact => Compared::Whole,
            Comparison::Prefix => Compared::Beginning,
            Comparison::Suffix => Compared::End,
        };
        let odd = literal::odd_in_filter(name, text, compared);
        problems.extend(odd.map(|problem| problem.at(name.as_str())));
    }
    Some(Filter::Attributes(
        comparison,
        texts
            .iter()
            .map(|(name, text)| (name.as_str().into(), text.as_str().into()))
            .collect(),
    ))
}

fn attribute_problem(name: &str) -> Option<Problem> {
    if name == "data" || name.starts_with("data.") || name == "data_base64" {
        let problem = Problem::new("filters see the context attributes alone, not the data");
        return Some(problem.help("hold the data against `match` or `where` beside `filters`"));
    }
    let meant = suggest::nearest(name, ATTRIBUTES);
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        let problem = Problem::new(format!(
            "{name:?} is not the name of an attribute: those are made of a-z and 0-9"
        ));
        return Some(match meant {
            Some(meant) => problem.help(format!("write {meant}")),
            None => problem,
        });
    }
    let meant = meant.filter(|_| !ATTRIBUTES.contains(&name))?;
    Some(
        Problem::new(format!("{name:?} is taken as an extension attribute"))
            .help(format!("was {meant} meant?"))
            .warn(),
    )
}

impl Filter {
    fn register(&self, builder: &mut FieldsBuilder) {
        match self {
            Self::Attributes(_, texts) => {
                for (name, _) in texts {
                    builder.field(ROOT, name);
                }
            }
            Self::Sql(sql) => sql.root.each(&mut |part| {
                if let Kind::Attribute(name) = &part.kind {
                    builder.field(ROOT, name);
                }
            }),
            Self::All(filters) | Self::Any(filters) => {
                filters.iter().for_each(|filter| filter.register(builder))
            }
            Self::Not(_) => {}
        }
    }

    pub(crate) fn holds(&self, event: &Event) -> bool {
        match self {
            Self::Attributes(comparison, texts) => texts.iter().all(|(name, text)| {
                event
                    .attribute(name)
                    .is_some_and(|value| comparison.holds(value, text))
            }),
            Self::All(filters) => filters.iter().all(|filter| filter.holds(event)),
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(event)),
            Self::Not(filter) => !filter.holds(event),
            Self::Sql(sql) => sql.holds(event),
        }
    }
}

/// Whether an attribute that has this text in it is a text itself: an extension may be an integer
/// or a boolean, which is compared by its text, or with what CESQL casts the text to.
pub(crate) fn is_text(attribute: &str, part: &str) -> bool {
    let is_of_number = part
        .bytes()
        .all(|byte| matches!(byte, b'+' | b'-' | b'0'..=b'9'));
    let is_of_boolean = ["true", "false"]
        .iter()
        .any(|text| text.contains(&part.to_ascii_lowercase()));
    TEXTS.contains(&attribute) || !(is_of_number || is_of_boolean)
}

impl Comparison {
    pub(crate) fn holds(self, value: AttributeValue<'_>, text: &str) -> bool {
        let holds = |value: &str| match self {
            Self::Exact => value == text,
            Self::Prefix => value.starts_with(text),
            Self::Suffix => value.ends_with(text),
        };
        match value {
            AttributeValue::String(value) => holds(value),
            AttributeValue::Boolean(value) => holds(if value { "true" } else { "false" }),
            AttributeValue::Integer(number) => {
                let mut digits = Digits::default();
                // They fit, and so this never fails.
                write!(digits, "{number}").is_ok() && digits.as_str().is_some_and(holds)
            }
        }
    }
}

/// Room for an integer's text, so that comparing one allocates nothing.
#[derive(Default)]
struct Digits {
    bytes: [u8; 11],
    length: usize,
}

impl Digits {
    fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(..self.length)?).ok()
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self
            .bytes
            .get_mut(self.length..self.length + text.len())
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
