//! A condition checked and compiled; every mistake in it is found.

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, JpQuery, Literal, Segment, Selector,
    SingularQuery, SingularQuerySegment, Test, TestFunction,
};
use jsonpath_rust::parser::parse_json_path;
use pointsman_schemas::Problem;

use super::evaluate::REGEX_BYTES_MAX;
use super::{Condition, Expression, Operand, Regex};
use crate::comparator::Comparator;
use crate::document::Step;
use crate::i_regexp;
use crate::literal;
use crate::number::Number;
use crate::path::{Path, check_filter, check_text, parse_problem, query_text};

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
            Operand::Text(pattern) => match i_regexp::compile(&pattern, whole, REGEX_BYTES_MAX) {
                Ok(regex) => Regex::Known(Box::new(regex), pattern),
                Err(error) => {
                    let reason = error.to_string();
                    let problem = Problem::new(format!(
                        "{pattern:?} is not a regular expression (RFC 9485)"
                    ));
                    self.problems.push(
                        problem.help(reason.lines().last().unwrap_or_default().trim().to_owned()),
                    );
                    return None;
                }
            },
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
