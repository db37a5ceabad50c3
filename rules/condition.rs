//! Conditions: what `where` holds.
//!
//! Either a JSONPath query, which holds where it finds anything, or a logical expression as in the
//! filters of RFC 9535 (section 2.3.5), rooted at `$`: comparisons, `&&`, `||`, `!`, parentheses
//! and the functions of section 2.4. `jsonpath-rust` reads it; comparisons of single values are
//! then evaluated here on the raw text, and only queries that can find many values go back to that
//! crate.

mod compile;
mod evaluate;

use std::fmt;

use pointsman_schemas::Problem;

use crate::comparator::Comparator;
use crate::document::Step;
use crate::fields::{FieldId, FieldsBuilder, ROOT};
use crate::number::Number;
use crate::path::Path;

pub(crate) use evaluate::Look;

/// How deep a field may lie to be numbered; the few that lie deeper are looked up by name.
const DEPTH_MAX: usize = 64;

/// A compiled `where`.
#[derive(Debug)]
pub struct Condition {
    text: Box<str>,
    pub(crate) expression: Expression,
    warnings: Vec<Problem>,
}

/// A logical expression.
#[derive(Debug)]
pub(crate) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    /// The query finds anything.
    Finds(Operand),
    Compare(Operand, Comparator, Operand),
    /// A text fits a regular expression: all of it, or a part.
    Fits {
        text: Operand,
        pattern: Regex,
        whole: bool,
    },
}

/// A value to compare.
#[derive(Debug)]
pub(crate) enum Operand {
    Text(Box<str>),
    Number(Number, Box<str>),
    Boolean(bool),
    Null,
    /// A query for one value at most; with the number of its field where it goes by names through
    /// the data alone. The field has other values too, and where a name has dots in it, its own
    /// value is read from the text.
    One(Path, Option<FieldId>),
    /// A query that can find many.
    Many(Path),
    Length(Box<Operand>),
    Count(Box<Operand>),
    Value(Box<Operand>),
}

#[derive(Debug)]
pub(crate) enum Regex {
    Known(Box<regex::Regex>, Box<str>),
    /// Taken from the event, and compiled for each.
    Found(Operand),
}

impl Condition {
    /// The condition as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What is odd about the condition but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Enters the fields that it compares into a tree.
    pub(crate) fn register(&mut self, builder: &mut FieldsBuilder) {
        self.expression.each_field(&mut |path, id| {
            let names = path
                .steps()
                .unwrap_or_default()
                .iter()
                .map(|step| match step {
                    Step::Name(name) => Some(&**name),
                    Step::Index(_) => None,
                });
            let names: Option<Vec<_>> = names.collect();
            let depth = |names: &[&str]| {
                names
                    .iter()
                    .map(|name| name.split('.').count())
                    .sum::<usize>()
            };
            *id = names
                .filter(|names| {
                    depth(names) <= DEPTH_MAX && names.first().is_some_and(|name| *name == "data")
                })
                .map(|names| {
                    names
                        .iter()
                        .fold(ROOT, |parent, name| builder.dotted(parent, name))
                });
            // Attributes have no slots; the index knows them by their number.
            if let Some(name) = path.attribute().filter(|name| !name.contains('.')) {
                builder.field(ROOT, name);
            }
        });
    }

    pub(crate) fn renumber(&mut self, renumbered: &[FieldId]) {
        self.expression
            .each_field(&mut |_, id| *id = id.and_then(|id| renumbered.get(id as usize).copied()));
    }
}

impl Expression {
    fn each_field(&mut self, visit: &mut impl FnMut(&Path, &mut Option<FieldId>)) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().for_each(|part| part.each_field(visit))
            }
            Self::Not(part) => part.each_field(visit),
            Self::Finds(operand) => operand.each_field(visit),
            Self::Compare(left, _, right) => {
                left.each_field(visit);
                right.each_field(visit);
            }
            Self::Fits { text, pattern, .. } => {
                text.each_field(visit);
                if let Regex::Found(operand) = pattern {
                    operand.each_field(visit);
                }
            }
        }
    }
}

impl Operand {
    fn each_field(&mut self, visit: &mut impl FnMut(&Path, &mut Option<FieldId>)) {
        match self {
            Self::One(path, id) => visit(path, id),
            Self::Length(operand) | Self::Count(operand) | Self::Value(operand) => {
                operand.each_field(visit)
            }
            _ => {}
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", serde_json::Value::from(&**text)),
            Self::Number(_, text) => f.write_str(text),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Null => f.write_str("null"),
            Self::One(path, _) | Self::Many(path) => write!(f, "{path}"),
            Self::Length(operand) => write!(f, "length({operand})"),
            Self::Count(operand) => write!(f, "count({operand})"),
            Self::Value(operand) => write!(f, "value({operand})"),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = |f: &mut fmt::Formatter<'_>, parts: &[Self], between: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    f.write_str(between)?;
                }
                match part {
                    Self::All(_) | Self::Any(_) => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(all) => parts(f, all, " && "),
            Self::Any(any) => parts(f, any, " || "),
            Self::Not(part) if matches!(**part, Self::Finds(_) | Self::Fits { .. }) => {
                write!(f, "!{part}")
            }
            Self::Not(part) => write!(f, "!({part})"),
            Self::Finds(operand) => write!(f, "{operand}"),
            Self::Compare(left, comparator, right) => write!(f, "{left} {comparator} {right}"),
            Self::Fits {
                text,
                pattern,
                whole,
            } => {
                write!(f, "{}({text}, ", if *whole { "match" } else { "search" })?;
                match pattern {
                    Regex::Known(_, pattern) => {
                        write!(f, "{})", serde_json::Value::from(&**pattern))
                    }
                    Regex::Found(operand) => write!(f, "{operand})"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
