//! Operands of an expression: attributes, literals, calls, parentheses, and the signs, `NOT` and
//! `EXISTS` before them.

use pointsman_schemas::{Problem, suggest};

use super::{Keyword, Parser};
use crate::cesql::lexer::Token;
use crate::cesql::{Expression, Function, Kind, Operator};

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

impl Parser<'_> {
    pub(super) fn unary(&mut self) -> Result<Expression, Problem> {
        let span = self.span();
        if self.keyword() == Some(Keyword::Exists) {
            return self.exists(span.start);
        }
        let sign = match (self.keyword(), self.token()) {
            (Some(Keyword::Not), _) => None,
            (_, Token::Operator(operator @ (Operator::Subtract | Operator::Add))) => Some(operator),
            _ => return self.primary(),
        };
        self.advance();
        // A sign belongs to the digits that it touches: only so can the least integer be written.
        if let (Some(sign), Token::Digits(digits)) = (sign, self.token())
            && self.span().start == span.end
        {
            let text = if sign == Operator::Add {
                digits
            } else {
                self.source(&(span.start..self.span().end))
            };
            return self.integer(text, span.start);
        }
        if sign == Some(Operator::Add) {
            let problem =
                Problem::new("+ stands before digits alone, or between two values").inside(span);
            return Err(problem.help("leave it out"));
        }
        let operand = Box::new(self.nested(Self::unary)?);
        let span = span.start..operand.span.end;
        Ok(Expression {
            kind: if sign.is_some() {
                Kind::Negate(operand)
            } else {
                Kind::Not(operand)
            },
            span,
        })
    }

    fn exists(&mut self, start: usize) -> Result<Expression, Problem> {
        self.advance();
        let name = match self.token() {
            Token::Word(word) if Keyword::of(word).is_none() => self.attribute(word)?,
            Token::Digits(digits) => digits.into(),
            _ => {
                return Err(self.wanted(
                    "the name of an attribute is wanted after EXISTS",
                    "write EXISTS subject",
                ));
            }
        };
        Ok(Expression {
            kind: Kind::Exists(name),
            span: start..self.advance(),
        })
    }

    fn primary(&mut self) -> Result<Expression, Problem> {
        let span = self.span();
        let kind = match self.token() {
            Token::Digits(digits) => return self.integer(digits, span.start),
            Token::Text(text) => Kind::String(text.into()),
            Token::Open => {
                self.advance();
                let inner = self.expression()?;
                if self.token() != Token::Close {
                    return Err(self.unclosed(span));
                }
                return Ok(Expression {
                    kind: inner.kind,
                    span: span.start..self.advance(),
                });
            }
            Token::Word(word) => match Keyword::of(word) {
                Some(Keyword::True) => Kind::Boolean(true),
                Some(Keyword::False) => Kind::Boolean(false),
                Some(_) => {
                    return Err(self.wanted(
                        "a value is wanted here",
                        "an operator stands between two values",
                    ));
                }
                None if self.next_token() == Token::Open => return self.call(word, span.start),
                None => Kind::Attribute(self.attribute(word)?),
            },
            Token::Operator(Operator::Equal) => {
                return Err(self.wanted("a value is wanted here", "equality is a single ="));
            }
            _ => {
                return Err(self.wanted(
                    "a value is wanted here",
                    "write an attribute, a literal, a call or parentheses",
                ));
            }
        };
        self.advance();
        Ok(Expression { kind, span })
    }

    fn integer(&mut self, text: &str, start: usize) -> Result<Expression, Problem> {
        let span = start..self.advance();
        match text.parse() {
            Ok(number) => Ok(Expression {
                kind: Kind::Integer(number),
                span,
            }),
            Err(_) => {
                let problem =
                    Problem::new("an integer has 32 bits here: from -2147483648 to 2147483647")
                        .inside(span);
                Err(problem.help("quote it to make a string of it"))
            }
        }
    }

    fn call(&mut self, name: &str, start: usize) -> Result<Expression, Problem> {
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            || name.starts_with('_')
        {
            return Err(
                Problem::new(format!("{name:?} is not the name of a function")).inside(self.span()),
            );
        }
        self.advance();
        let (arguments, end) = self.list()?;
        let function = Function::find(name, arguments.len());
        Ok(Expression {
            kind: Kind::Call {
                name: name.into(),
                function,
                arguments,
            },
            span: start..end,
        })
    }

    /// The attribute that the word at hand names (CloudEvents 1.0, "Naming conventions").
    fn attribute(&mut self, word: &str) -> Result<Box<str>, Problem> {
        if word.contains('_') {
            let problem = Problem::new(format!(
                "{word:?} is not the name of an attribute: those are made of a-z and 0-9"
            ));
            return Err(problem.inside(self.span()));
        }
        let name = word.to_ascii_lowercase();
        if let (false, Some(meant)) = (
            ATTRIBUTES.contains(&name.as_str()),
            suggest::nearest(&name, ATTRIBUTES),
        ) {
            let problem = Problem::new(format!("{name:?} is taken as an extension attribute"))
                .inside(self.span());
            self.warnings
                .push(problem.help(format!("was {meant} meant?")).warn());
        }
        Ok(name.into())
    }
}
