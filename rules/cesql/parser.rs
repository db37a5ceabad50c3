//! Tokens made into an expression (section 2, with the precedences of section 3.6).

mod operand;

use std::ops::Range;

use pointsman_schemas::Problem;

use super::lexer::{Token, tokens};
use super::{Expression, Kind, Level, Like, Operator};
use crate::literal;

/// The longest expression that is read.
const EXPRESSION_BYTES_MAX: usize = 16 * 1024;

/// How deeply parentheses, calls, sets and unary operators may nest.
const DEPTH_MAX: usize = 64;

/// How many `LIKE` and `IN` may follow one another on one operand, each of which is a level too.
const TESTS_MAX: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    And,
    Or,
    Xor,
    Not,
    Like,
    In,
    Exists,
    True,
    False,
}

impl Keyword {
    fn of(word: &str) -> Option<Self> {
        const KEYWORDS: [(&str, Keyword); 9] = [
            ("AND", Keyword::And),
            ("OR", Keyword::Or),
            ("XOR", Keyword::Xor),
            ("NOT", Keyword::Not),
            ("LIKE", Keyword::Like),
            ("IN", Keyword::In),
            ("EXISTS", Keyword::Exists),
            ("TRUE", Keyword::True),
            ("FALSE", Keyword::False),
        ];
        KEYWORDS
            .into_iter()
            .find(|(keyword, _)| keyword.eq_ignore_ascii_case(word))
            .map(|(_, keyword)| keyword)
    }
}

/// Parses a whole expression; with it comes what is odd about it.
pub(super) fn parse(text: &str) -> Result<(Expression, Vec<Problem>), Problem> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(Problem::new(format!(
            "the expression is longer than {EXPRESSION_BYTES_MAX} bytes"
        )));
    }
    if text.trim().is_empty() {
        return Err(
            Problem::new("the expression is empty").help("write one such as type = 'order.paid'")
        );
    }
    let mut parser = Parser {
        text,
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        warnings: Vec::new(),
    };
    let expression = parser.expression()?;
    match parser.token() {
        Token::End => Ok((expression, parser.warnings)),
        _ => Err(parser.left_over()),
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token<'t>, Range<usize>)>,
    at: usize,
    depth: usize,
    warnings: Vec<Problem>,
}

impl<'t> Parser<'t> {
    fn token(&self) -> Token<'t> {
        self.tokens
            .get(self.at)
            .map_or(Token::End, |(token, _)| token.clone())
    }

    fn next_token(&self) -> Token<'t> {
        self.tokens
            .get(self.at + 1)
            .map_or(Token::End, |(token, _)| token.clone())
    }

    fn span(&self) -> Range<usize> {
        self.tokens
            .get(self.at)
            .map_or(self.text.len()..self.text.len(), |(_, span)| span.clone())
    }

    fn keyword(&self) -> Option<Keyword> {
        match self.token() {
            Token::Word(word) => Keyword::of(word),
            _ => None,
        }
    }

    /// Goes on to the next token; where the one before ended.
    fn advance(&mut self) -> usize {
        let end = self.span().end;
        self.at += 1;
        end
    }

    fn source(&self, span: &Range<usize>) -> &'t str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    fn expression(&mut self) -> Result<Expression, Problem> {
        self.nested(|parser| parser.chain(Level::Logic))
    }

    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if self.depth == DEPTH_MAX {
            return Err(Problem::new(format!(
                "the expression nests deeper than {DEPTH_MAX} levels"
            ))
            .inside(self.span()));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Operands of one precedence with the operators between them.
    fn chain(&mut self, level: Level) -> Result<Expression, Problem> {
        let operand = |parser: &mut Self| match level {
            Level::Logic => parser.chain(Level::Comparison),
            Level::Comparison => parser.chain(Level::Additive),
            Level::Additive => parser.chain(Level::Multiplicative),
            Level::Multiplicative => parser.tested(),
        };
        let bare_not = self.keyword() == Some(Keyword::Not);
        let first = operand(self)?;
        let mut rest: Vec<(Operator, Expression)> = Vec::new();
        while let Some(operator) = self.operator().filter(|operator| operator.level() == level) {
            self.warn(
                level,
                bare_not && matches!(first.kind, Kind::Not(_)) && rest.is_empty(),
                operator,
                rest.last(),
            );
            self.advance();
            rest.push((operator, operand(self)?));
        }
        let Some((_, last)) = rest.last() else {
            return Ok(first);
        };
        let span = first.span.start..last.span.end;
        Ok(Expression {
            kind: Kind::Chain {
                first: Box::new(first),
                rest,
            },
            span,
        })
    }

    fn operator(&self) -> Option<Operator> {
        match (self.token(), self.keyword()) {
            (Token::Operator(operator), _) => Some(operator),
            (_, Some(Keyword::And)) => Some(Operator::And),
            (_, Some(Keyword::Or)) => Some(Operator::Or),
            (_, Some(Keyword::Xor)) => Some(Operator::Xor),
            _ => None,
        }
    }

    /// Warns of what reads otherwise than it is meant to most people.
    fn warn(
        &mut self,
        level: Level,
        after_not: bool,
        operator: Operator,
        before: Option<&(Operator, Expression)>,
    ) {
        let span = self.span();
        if level == Level::Logic && before.is_some_and(|(before, _)| *before != operator) {
            let problem = Problem::new(
                "AND, OR and XOR are of one precedence in CESQL, and read from left to right",
            )
            .inside(span);
            self.warnings.push(
                problem
                    .help("put parentheses around what belongs together")
                    .warn(),
            );
        } else if level == Level::Comparison && after_not {
            self.warn_of_not(span);
        }
    }

    fn warn_of_not(&mut self, span: Range<usize>) {
        let operator = self.source(&span);
        let problem = Problem::new(format!(
            "NOT binds tighter than {operator}: it negates what stands before {operator} alone"
        ));
        self.warnings.push(
            problem
                .inside(span)
                .help("write NOT (…), or the negated operator")
                .warn(),
        );
    }

    /// An operand with the `LIKE` and `IN` that follow it.
    fn tested(&mut self) -> Result<Expression, Problem> {
        let bare_not = self.keyword() == Some(Keyword::Not);
        let mut operand = self.unary()?;
        for tests in 0.. {
            let negated = self.keyword() == Some(Keyword::Not);
            let keyword = match (negated, self.next_token()) {
                (true, Token::Word(word)) => Keyword::of(word),
                (true, _) => None,
                (false, _) => self.keyword(),
            };
            if !matches!(keyword, Some(Keyword::Like | Keyword::In)) {
                break;
            }
            if tests == TESTS_MAX {
                return Err(Problem::new(format!(
                    "more than {TESTS_MAX} LIKE and IN follow one another"
                ))
                .inside(self.span()));
            }
            if bare_not && tests == 0 && matches!(operand.kind, Kind::Not(_)) {
                self.warn_of_not(self.span());
            }
            self.at += usize::from(negated) + 1;
            operand = if keyword == Some(Keyword::Like) {
                self.like(operand, negated)?
            } else {
                self.set(operand, negated)?
            };
        }
        Ok(operand)
    }

    fn like(&mut self, text: Expression, negated: bool) -> Result<Expression, Problem> {
        let Token::Text(pattern) = self.token() else {
            return Err(self.wanted(
                "a string literal is wanted after LIKE",
                "write the pattern between quotes, as in type LIKE 'order.%'",
            ));
        };
        let like = Like::new(&pattern).map_err(|problem| problem.inside(self.span()))?;
        let how = "in LIKE, % stands for any text and _ for one character";
        self.warnings
            .extend(literal::odd_in_text(&pattern, how).map(|problem| problem.inside(self.span())));
        let span = text.span.start..self.advance();
        Ok(Expression {
            kind: Kind::Like {
                text: Box::new(text),
                like,
                negated,
            },
            span,
        })
    }

    fn set(&mut self, value: Expression, negated: bool) -> Result<Expression, Problem> {
        if self.token() != Token::Open {
            return Err(self.wanted(
                "a list in parentheses is wanted after IN",
                "write type IN ('a', 'b')",
            ));
        }
        if self.next_token() == Token::Close {
            return Err(Problem::new("this list is empty")
                .inside(self.span().start..self.span().end + 1)
                .help("write at least one value"));
        }
        let (set, end) = self.list()?;
        let span = value.span.start..end;
        Ok(Expression {
            kind: Kind::In {
                value: Box::new(value),
                set,
                negated,
            },
            span,
        })
    }

    /// What stands between parentheses, separated by commas, and where that ends. The token at hand
    /// opens it.
    fn list(&mut self) -> Result<(Vec<Expression>, usize), Problem> {
        let open = self.span();
        self.advance();
        let mut items = Vec::new();
        if self.token() == Token::Close {
            return Ok((items, self.advance()));
        }
        loop {
            items.push(self.expression()?);
            match self.token() {
                Token::Comma => self.advance(),
                Token::Close => return Ok((items, self.advance())),
                _ => return Err(self.unclosed(open)),
            };
        }
    }

    fn wanted(&self, message: &str, help: &str) -> Problem {
        let problem = Problem::new(message).inside(self.span()).help(help);
        if self.token() == Token::End {
            Problem {
                message: format!("{message}, and the expression ends"),
                ..problem
            }
        } else {
            problem
        }
    }

    fn unclosed(&self, open: Range<usize>) -> Problem {
        match self.token() {
            Token::End => Problem::new("this parenthesis is never closed").inside(open),
            _ => self.left_over(),
        }
    }

    /// A value ended, and what follows is none of what could.
    fn left_over(&self) -> Problem {
        let (before, span) = (
            self.at.checked_sub(1).and_then(|at| self.tokens.get(at)),
            self.span(),
        );
        let help = match (self.token(), before) {
            (Token::Close, _) => {
                return Problem::new("this parenthesis was never opened").inside(span);
            }
            (Token::Comma, _) => {
                "a comma stands between the arguments of a call or the values of a list"
            }
            (Token::Text(_), Some((Token::Text(_), _))) => {
                "inside a string its own quote is written with a backslash: \\'"
            }
            _ => "write AND, OR or another operator between two values",
        };
        Problem::new("an operator is wanted here")
            .inside(span)
            .help(help)
    }
}
