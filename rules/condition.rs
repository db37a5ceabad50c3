//! Conditions: what `where` holds.
//!
//! Either a JSONPath query, which holds where it finds anything, or a logical expression as in the
//! filters of RFC 9535 (section 2.3.5), rooted at `$`: comparisons, `&&`, `||`, `!`, parentheses
//! and the functions of section 2.4. `jsonpath-rust` reads it; comparisons of single values are
//! then evaluated here on the raw text, and only queries that can find many values go back to that
//! crate.

mod evaluate;

use std::fmt;

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, JpQuery, Literal, Segment, Selector,
    SingularQuery, SingularQuerySegment, Test, TestFunction,
};
use jsonpath_rust::parser::parse_json_path;
use pointsman_schemas::Problem;

use crate::comparator::Comparator;
use crate::document::Step;
use crate::fields::{FieldId, FieldsBuilder, ROOT};
use crate::i_regexp;
use crate::literal;
use crate::number::Number;
use crate::path::{Path, check_filter, check_text, parse_problem, query_text};

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
    /// Compiles a condition.
    ///
    /// # Errors
    /// Every mistake that is found, with the place inside the text as far as it is known.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        const BEFORE: &str = "$[?";
        let trimmed = text.trim();
        let shift = text.len() - text.trim_start().len();
        let shifted = |mut problem: Problem| {
            problem.within = problem
                .within
                .map(|within| within.start + shift..within.end + shift);
            problem
        };
        let one = |problem: Problem| vec![shifted(problem)];
        if trimmed.is_empty() {
            return Err(one(Problem::new("the condition is empty").help(
                "write a condition such as $.data.total > 100, or leave `where` out",
            )));
        }
        check_text(trimmed).map_err(one)?;
        let parsed = format!("{BEFORE}{trimmed}]");
        let unparsed = |mut problem: Problem| {
            "this is neither a JSONPath query nor a logical expression of them (RFC 9535)"
                .clone_into(&mut problem.message);
            problem
        };
        let query = parse_json_path(&parsed).map_err(|error| {
            one(unparsed(parse_problem(
                trimmed,
                &parsed,
                BEFORE.len(),
                &error,
            )))
        })?;
        // Brackets in the text might have closed ours: `$.a][0`.
        let filter = match query.segments.as_slice() {
            [Segment::Selector(Selector::Filter(filter))] => filter,
            _ => {
                return Err(one(unparsed(Problem::new("").help(
                    "a bracket is closed that was not opened, or a comma separates two conditions",
                ))));
            }
        };
        check_filter(filter).map_err(one)?;
        let mut compiler = Compiler {
            text: trimmed,
            problems: Vec::new(),
        };
        let expression = compiler.filter(filter);
        let problems: Vec<_> = compiler.problems.into_iter().map(shifted).collect();
        match expression {
            Some(expression) if problems.iter().all(|problem| problem.warning) => Ok(Self {
                text: trimmed.into(),
                expression,
                warnings: problems,
            }),
            _ => Err(problems),
        }
    }

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

struct Compiler<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn filter(&mut self, filter: &Filter) -> Option<Expression> {
        Some(match filter {
            Filter::Or(parts) => Expression::Any(self.filters(parts)?),
            Filter::And(parts) => Expression::All(self.filters(parts)?),
            Filter::Atom(FilterAtom::Filter { expr, not }) => negated(self.filter(expr)?, *not),
            Filter::Atom(FilterAtom::Test { expr, not }) => negated(self.test(expr)?, *not),
            Filter::Atom(FilterAtom::Comparison(comparison)) => self.comparison(comparison)?,
        })
    }

    fn filters(&mut self, parts: &[Filter]) -> Option<Vec<Expression>> {
        // All parts are read before giving up, so that all mistakes are told.
        let parts: Vec<_> = parts.iter().map(|part| self.filter(part)).collect();
        parts.into_iter().collect()
    }

    fn test(&mut self, test: &Test) -> Option<Expression> {
        match test {
            Test::AbsQuery(query) => {
                let operand = self.query(query);
                if let Operand::One(path, _) = &operand {
                    let problem = Problem::new(format!(
                        "{path} tests that there is a value, not that it is true"
                    ))
                    .warn();
                    let problem = problem.help(format!("write {path} == true to test its truth"));
                    self.problems.push(self.place(problem, path.as_str()));
                }
                Some(Expression::Finds(operand))
            }
            Test::RelQuery(_) => self.current(),
            Test::Function(function) => match &**function {
                TestFunction::Match(text, pattern) => self.fits(text, pattern, true),
                TestFunction::Search(text, pattern) => self.fits(text, pattern, false),
                // Refused by the check before.
                _ => None,
            },
        }
    }

    /// Narrows a problem to a part of the text, where that stands in it once.
    fn place(&self, problem: Problem, part: &str) -> Problem {
        let mut found = self.text.match_indices(part);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => problem.inside(at..at + part.len()),
            _ => problem,
        }
    }

    /// `@` has no meaning outside a filter.
    fn current<T>(&mut self) -> Option<T> {
        let problem = Problem::new("@ stands for nothing here")
            .help("a condition is rooted at $: write $.data.total");
        self.problems.push(self.place(problem, "@"));
        None
    }

    fn query(&mut self, query: &JpQuery) -> Operand {
        let path = Path::from_query("", query.clone());
        match path.steps() {
            Some(steps) => Operand::One(Path::from_steps(steps.to_vec()), None),
            None => {
                // The crate does not tell where in the text a query stands: alone it is all of it.
                let alone = Path::parse(self.text).ok();
                Operand::Many(
                    alone.unwrap_or_else(|| Path::from_query(&query_text(query), query.clone())),
                )
            }
        }
    }

    fn comparison(&mut self, comparison: &Comparison) -> Option<Expression> {
        let comparator = match comparison {
            Comparison::Eq(..) => Comparator::Equal,
            Comparison::Ne(..) => Comparator::Unequal,
            Comparison::Gt(..) => Comparator::Greater,
            Comparison::Gte(..) => Comparator::GreaterOrEqual,
            Comparison::Lt(..) => Comparator::Less,
            Comparison::Lte(..) => Comparator::LessOrEqual,
        };
        let (left, right) = comparison.vals();
        if matches!(comparator, Comparator::Equal | Comparator::Unequal) {
            for side in [&left, &right] {
                if let Comparable::Literal(Literal::String(text)) = side {
                    let how = "`match` has wildcards, and `search` takes a regular expression";
                    let odd = literal::odd_in_text(text, how);
                    self.problems
                        .extend(odd.map(|problem| self.place(problem, text)));
                }
            }
        }
        let (left, right) = (self.comparable(left), self.comparable(right));
        Some(Expression::Compare(left?, comparator, right?))
    }

    fn comparable(&mut self, comparable: &Comparable) -> Option<Operand> {
        match comparable {
            Comparable::Literal(literal) => Some(operand(literal)),
            Comparable::Function(function) => self.function(function),
            Comparable::SingularQuery(SingularQuery::Current(_)) => self.current(),
            Comparable::SingularQuery(SingularQuery::Root(segments)) => {
                let steps = segments.iter().map(|segment| match segment {
                    SingularQuerySegment::Index(index) => Step::Index(*index),
                    SingularQuerySegment::Name(name) => Step::Name(name.as_str().into()),
                });
                Some(Operand::One(Path::from_steps(steps.collect()), None))
            }
        }
    }

    fn function(&mut self, function: &TestFunction) -> Option<Operand> {
        Some(match function {
            TestFunction::Length(argument) => Operand::Length(Box::new(self.argument(argument)?)),
            TestFunction::Count(argument) => Operand::Count(Box::new(self.argument(argument)?)),
            TestFunction::Value(argument) => Operand::Value(Box::new(self.argument(argument)?)),
            // Refused by the check before.
            _ => return None,
        })
    }

    fn argument(&mut self, argument: &FnArg) -> Option<Operand> {
        match argument {
            FnArg::Literal(literal) => Some(operand(literal)),
            FnArg::Test(test) => match &**test {
                Test::AbsQuery(query) => Some(self.query(query)),
                Test::RelQuery(_) => self.current(),
                Test::Function(function) => self.function(function),
            },
            FnArg::Filter(_) => None,
        }
    }

    fn fits(&mut self, text: &FnArg, pattern: &FnArg, whole: bool) -> Option<Expression> {
        let (text, pattern) = (self.argument(text), self.argument(pattern));
        let pattern = match pattern? {
            Operand::Text(pattern) => {
                match i_regexp::compile(&pattern, whole, evaluate::REGEX_BYTES_MAX) {
                    Ok(regex) => Regex::Known(Box::new(regex), pattern),
                    Err(error) => {
                        let reason = error.to_string();
                        let problem = Problem::new(format!(
                            "{pattern:?} is not a regular expression (RFC 9485)"
                        ));
                        self.problems.push(
                            problem
                                .help(reason.lines().last().unwrap_or_default().trim().to_owned()),
                        );
                        return None;
                    }
                }
            }
            found => Regex::Found(found),
        };
        Some(Expression::Fits {
            text: text?,
            pattern,
            whole,
        })
    }
}

fn negated(expression: Expression, not: bool) -> Expression {
    if not {
        Expression::Not(Box::new(expression))
    } else {
        expression
    }
}

fn operand(literal: &Literal) -> Operand {
    match literal {
        Literal::Int(whole) => {
            Operand::Number(Number::Whole((*whole).into()), whole.to_string().into())
        }
        Literal::Float(double) => {
            Operand::Number(Number::literal(*double), double.to_string().into())
        }
        Literal::String(text) => Operand::Text(text.as_str().into()),
        Literal::Bool(value) => Operand::Boolean(*value),
        Literal::Null => Operand::Null,
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

impl fmt::Display for Comparator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
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
