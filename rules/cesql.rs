//! CESQL 1.0, the CloudEvents SQL expression language: what `sql` in `filters` holds.
//!
//! ```text
//! text ── lexer ──▶ tokens ── parser ──▶ Expression ── evaluate ──▶ a value, and an error where there was one
//! ```
//!
//! It follows "CloudEvents SQL Expression Language – Version 1.0.0" (`cesql/spec.md` of the
//! CloudEvents specification). Evaluation is the one that it suggests for filters (section 4.1,
//! "fail fast mode"): the first error ends it. Where the specification leaves room:
//!
//! - What an operator or a function gives whose operand failed is the zero value of its own type,
//!   whatever the error was, as section 3.2 lays down for missing attributes. The technology
//!   compatibility kit expects the same of a division by zero.
//! - `AND`, `OR` and `XOR` have one precedence and are read from left to right (section 3.6); mixed
//!   without parentheses they are warned about.
//! - An integer that leaves 32 bits is a math error and 0.
//! - `NOT` takes no integer, against the table of section 3.7: the kit wants a cast error of `NOT
//!   10`. `BOOL(10)` and `10 AND true` do cast.
//! - Identifiers may be written in capitals and mean the lower-case attribute, as in the kit.
//! - In a string literal a backslash escapes the quote that opened it, and stays before anything
//!   else. A backslash right before it keeps it from doing so.
//! - `IS_INT` and `IS_BOOL`, which its drafts had, are here still.
//!
//! Texts, nesting and results are bounded, and each operator and function takes time linear in its
//! operands. Only strings that are made are allocated.

mod evaluate;
mod function;
mod lexer;
mod like;
mod parser;
mod value;

use std::fmt;
use std::ops::Range;

use pointsman_schemas::{Event, Problem};

pub use evaluate::{ErrorKind, Evaluation, EvaluationError};
pub use value::{Type, Value};

pub(crate) use evaluate::evaluate;
pub(crate) use function::Function;
pub(crate) use like::{Like, Literals};

/// A compiled expression.
#[derive(Debug)]
pub struct Cesql {
    text: Box<str>,
    pub(crate) root: Expression,
    warnings: Vec<Problem>,
}

/// A part of an expression, and where in the text it stands, parentheses included.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Boolean(bool),
    Integer(i32),
    String(Box<str>),
    /// A context attribute, in lower case.
    Attribute(Box<str>),
    Exists(Box<str>),
    Not(Box<Expression>),
    Negate(Box<Expression>),
    Like {
        text: Box<Expression>,
        like: Like,
        negated: bool,
    },
    In {
        value: Box<Expression>,
        set: Vec<Expression>,
        negated: bool,
    },
    /// Operators of one precedence, applied from left to right: so that a long chain is no deep
    /// tree.
    Chain {
        first: Box<Expression>,
        rest: Vec<(Operator, Expression)>,
    },
    /// Without a function where none has that name and takes that many arguments.
    Call {
        name: Box<str>,
        function: Option<Function>,
        arguments: Vec<Expression>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    And,
    Or,
    Xor,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// The precedences of the binary operators, the loosest first (section 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Logic,
    Comparison,
    Additive,
    Multiplicative,
}

impl Cesql {
    /// Parses an expression.
    ///
    /// # Errors
    /// The first mistake, with its place inside the text. A function that there is not is none yet:
    /// see [`Cesql::mistakes`].
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let (root, warnings) = parser::parse(text)?;
        Ok(Self {
            text: text.into(),
            root,
            warnings,
        })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What is odd about the expression but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// What keeps the expression from ever being true without an error, as far as that is known
    /// without an event.
    #[must_use]
    pub fn mistakes(&self) -> Vec<Problem> {
        let mut mistakes = Vec::new();
        self.root.each(&mut |part| match &part.kind {
            Kind::Call {
                name,
                function: None,
                arguments,
            } => {
                mistakes.push(function::unknown(name, arguments.len()).inside(part.span.clone()));
            }
            Kind::Attribute(name) | Kind::Exists(name) if &**name == "data" => {
                let problem = Problem::new("CESQL sees the context attributes alone, not the data")
                    .inside(part.span.clone());
                mistakes.push(
                    problem.help("hold the data against `match` or `where` beside `filters`"),
                );
            }
            _ => {}
        });
        if let (true, Some(other @ (Type::Integer | Type::String))) =
            (mistakes.is_empty(), self.root.type_of())
        {
            let problem = Problem::new(format!(
                "this gives {other}, and a filter holds only where its expression is true"
            ));
            mistakes.push(problem.help("compare it, as in LENGTH(subject) > 3"));
        }
        mistakes
    }

    /// Evaluates the expression.
    #[must_use]
    pub fn evaluate<'a>(&'a self, event: &'a Event) -> Evaluation<'a> {
        evaluate(&self.root, event)
    }

    /// Whether the expression is true, and no error occurred (section 1.2).
    #[must_use]
    pub fn holds(&self, event: &Event) -> bool {
        let Evaluation { value, error } = self.evaluate(event);
        error.is_none() && value == Value::Boolean(true)
    }
}

impl fmt::Display for Cesql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    /// The parts right under it, in the order of the text.
    pub(crate) fn parts(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Boolean(_)
            | Kind::Integer(_)
            | Kind::String(_)
            | Kind::Attribute(_)
            | Kind::Exists(_) => Vec::new(),
            Kind::Not(part) | Kind::Negate(part) | Kind::Like { text: part, .. } => vec![part],
            Kind::In { value, set, .. } => std::iter::once(&**value).chain(set).collect(),
            Kind::Chain { first, rest } => std::iter::once(&**first)
                .chain(rest.iter().map(|(_, part)| part))
                .collect(),
            Kind::Call { arguments, .. } => arguments.iter().collect(),
        }
    }

    /// Visits it and all under it.
    pub(crate) fn each<'e>(&'e self, visit: &mut impl FnMut(&'e Self)) {
        visit(self);
        for part in self.parts() {
            part.each(visit);
        }
    }

    /// What it gives, where that is known without an event.
    pub(crate) fn type_of(&self) -> Option<Type> {
        Some(match &self.kind {
            Kind::Attribute(_) => return None,
            Kind::Boolean(_)
            | Kind::Exists(_)
            | Kind::Not(_)
            | Kind::Like { .. }
            | Kind::In { .. } => Type::Boolean,
            Kind::Integer(_) | Kind::Negate(_) => Type::Integer,
            Kind::String(_) => Type::String,
            Kind::Chain { rest, .. } => rest
                .first()
                .map_or(Type::Boolean, |(operator, _)| operator.gives()),
            Kind::Call { function, .. } => function.map_or(Type::Boolean, Function::gives),
        })
    }
}

impl Operator {
    pub(crate) fn level(self) -> Level {
        match self {
            Self::And | Self::Or | Self::Xor => Level::Logic,
            Self::Equal
            | Self::Unequal
            | Self::Less
            | Self::LessOrEqual
            | Self::Greater
            | Self::GreaterOrEqual => Level::Comparison,
            Self::Add | Self::Subtract => Level::Additive,
            Self::Multiply | Self::Divide | Self::Remainder => Level::Multiplicative,
        }
    }

    pub(crate) fn gives(self) -> Type {
        match self.level() {
            Level::Logic | Level::Comparison => Type::Boolean,
            Level::Additive | Level::Multiplicative => Type::Integer,
        }
    }
}

#[cfg(test)]
mod tests;
