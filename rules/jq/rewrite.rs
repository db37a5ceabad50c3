//! Programs made to pay for what they do, and kept from calling themselves.
//!
//! A program's work is bounded where three things hold, and each is seen to here, term by term:
//!
//! 1. **It ends.** A definition cannot call itself, and the filters whose definition does
//!    (`repeat`, `while`, `until`, `recurse(f)`) are not offered. What goes round is then `reduce`,
//!    `foreach` and whatever yields many values, and the depth of the stack and of the chains of
//!    closures follows the text of the program.
//! 2. **Each round is paid for.** Every term that can yield more than one value (`,`, `.[]`, `..`,
//!    a call) is followed by [`STEP`].
//! 3. **Each value is paid for.** Every term that makes a value (`[…]`, `{…}`, arithmetic, text, a
//!    call) is followed by [`WEIGH`], and so is whatever is handed to something whose cost follows
//!    the size of its input: comparisons, updates, iteration, most filters.

mod refusal;

use std::collections::HashSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};

pub(super) use self::refusal::Refusal;
use super::filters::{KEY, MULTIPLY, STEP, Signature, WEIGH};

/// Binds the right side of `+=` and its kin; no program can spell it.
const OPERAND: &str = "$!operand";

/// Offered inside of the prelude alone: jaq frees a path step within step, and one that `reduce`
/// makes can be of any length.
const PATH: &str = "path";

/// Rewrites terms.
pub(super) struct Rewriting<'s, 'f> {
    /// The whole program.
    text: &'s str,
    filters: &'f [Signature],
    /// The definitions that every program can call.
    prelude: HashSet<(&'s str, usize)>,
    /// Definitions and arguments in scope, of which the last one of a name counts, each with
    /// whether it is a definition in whose body this is.
    known: Vec<((&'s str, usize), bool)>,
    inside_prelude: bool,
    pub(super) refusals: Vec<Refusal<'s>>,
}

fn call<'s>(name: &'static str, arguments: Vec<Term<&'s str>>) -> Term<&'s str> {
    Term::Call(name, arguments)
}

fn pipe<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

fn binary<'s>(
    left: Term<&'s str>,
    operator: BinaryOp<&'s str>,
    right: Term<&'s str>,
) -> Term<&'s str> {
    Term::BinOp(Box::new(left), operator, Box::new(right))
}

fn stepped(term: Term<&str>) -> Term<&str> {
    pipe(term, call(STEP, Vec::new()))
}

/// Whether nothing in a text is computed.
fn is_constant<T>(parts: &[StrPart<&str, T>]) -> bool {
    !parts.iter().any(|part| matches!(part, StrPart::Term(_)))
}

/// Pays for the size of each value, where it is not known to be small.
fn weighed(term: Term<&str>) -> Term<&str> {
    let small = match &term {
        Term::Num(_) => true,
        Term::Str(None, parts) => is_constant(parts),
        Term::Call(name, arguments) => {
            arguments.is_empty() && ["true", "false", "null"].contains(name)
        }
        _ => false,
    };
    if small {
        term
    } else {
        pipe(term, call(WEIGH, Vec::new()))
    }
}

impl<'s, 'f> Rewriting<'s, 'f> {
    pub(super) fn new(text: &'s str, filters: &'f [Signature]) -> Self {
        Self {
            text,
            filters,
            prelude: HashSet::new(),
            known: Vec::new(),
            inside_prelude: false,
            refusals: Vec::new(),
        }
    }

    /// Rewrites the definitions that every program can call; each sees those before it.
    pub(super) fn prelude(
        &mut self,
        definitions: impl IntoIterator<Item = Def<&'s str>>,
    ) -> Vec<Def<&'s str>> {
        self.inside_prelude = true;
        let rewritten = definitions.into_iter().map(|definition| {
            let signature = (definition.name, definition.args.len());
            let definition = self.definition(definition);
            self.prelude.insert(signature);
            definition
        });
        let rewritten = rewritten.collect();
        self.inside_prelude = false;
        rewritten
    }

    fn definition(&mut self, definition: Def<&'s str>) -> Def<&'s str> {
        let Def { name, args, body } = definition;
        let scope = self.known.len();
        // In this order, as jaq looks them up: the definition itself comes before arguments and
        // before others of its name.
        self.known.extend(
            args.iter()
                .filter(|argument| !argument.starts_with('$'))
                .map(|argument| ((*argument, 0), false)),
        );
        self.known.push(((name, args.len()), true));
        let body = self.term(body);
        self.known.truncate(scope);
        Def { name, args, body }
    }

    fn boxed(&mut self, mut term: Box<Term<&'s str>>) -> Box<Term<&'s str>> {
        *term = self.term(std::mem::take(&mut *term));
        term
    }

    fn terms(&mut self, terms: Vec<Term<&'s str>>) -> Vec<Term<&'s str>> {
        terms.into_iter().map(|term| self.term(term)).collect()
    }

    /// Rewrites a term.
    pub(super) fn term(&mut self, term: Term<&'s str>) -> Term<&'s str> {
        match term {
            Term::Id | Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => term,
            Term::Recurse => stepped(Term::Recurse),
            Term::Str(format, parts) => self.text(format, parts),
            Term::Arr(Some(inner)) => weighed(Term::Arr(Some(self.boxed(inner)))),
            Term::Obj(entries) => {
                let mut entry = |(key, value): (Term<&'s str>, Option<Term<&'s str>>)| {
                    let key = if matches!(key, Term::Var(_)) {
                        key
                    } else {
                        self.term(key)
                    };
                    (key, value.map(|value| self.term(value)))
                };
                let entries = entries.into_iter().map(&mut entry).collect();
                weighed(Term::Obj(entries))
            }
            Term::Neg(inner) => Term::Neg(self.boxed(inner)),
            Term::BinOp(left, operator, right) => self.binary(*left, operator, *right),
            Term::Label(name, inner) => Term::Label(name, self.boxed(inner)),
            Term::Fold(name, items, pattern, arguments) => {
                let (items, pattern) = (self.boxed(items), self.pattern(pattern));
                let arguments = arguments.into_iter().enumerate().map(|(index, argument)| {
                    let argument = self.term(argument);
                    if index == 0 {
                        argument
                    } else {
                        stepped(argument)
                    }
                });
                Term::Fold(name, items, pattern, arguments.collect())
            }
            Term::TryCatch(inner, catch) => {
                Term::TryCatch(self.boxed(inner), catch.map(|catch| self.boxed(catch)))
            }
            Term::IfThenElse(cases, otherwise) => {
                let cases = cases
                    .into_iter()
                    .map(|(test, then)| (self.term(test), self.term(then)))
                    .collect();
                Term::IfThenElse(cases, otherwise.map(|otherwise| self.boxed(otherwise)))
            }
            Term::Def(definitions, inner) => {
                let scope = self.known.len();
                let definitions = definitions.into_iter().map(|definition| {
                    let signature = (definition.name, definition.args.len());
                    let definition = self.definition(definition);
                    self.known.push((signature, false));
                    definition
                });
                let definitions = definitions.collect();
                let inner = self.boxed(inner);
                self.known.truncate(scope);
                Term::Def(definitions, inner)
            }
            Term::Call(name, arguments) => self.call(name, arguments),
            Term::Path(head, path) => self.path(*head, path),
        }
    }

    fn text(
        &mut self,
        format: Option<&'s str>,
        parts: Vec<StrPart<&'s str, Term<&'s str>>>,
    ) -> Term<&'s str> {
        if let Some(name) = format {
            // Resolved like a call of the format's name.
            self.call(name, Vec::new());
        }
        let is_constant = is_constant(&parts);
        let parts = parts.into_iter().map(|part| match part {
            StrPart::Term(inner) => StrPart::Term(weighed(self.term(inner))),
            constant => constant,
        });
        let text = Term::Str(format, parts.collect());
        if is_constant { text } else { weighed(text) }
    }

    fn pattern(&mut self, pattern: Pattern<&'s str>) -> Pattern<&'s str> {
        match pattern {
            Pattern::Var(name) => Pattern::Var(name),
            Pattern::Arr(inner) => Pattern::Arr(
                inner
                    .into_iter()
                    .map(|pattern| self.pattern(pattern))
                    .collect(),
            ),
            Pattern::Obj(entries) => Pattern::Obj(
                entries
                    .into_iter()
                    .map(|(key, pattern)| {
                        (
                            pipe(self.term(key), call(KEY, Vec::new())),
                            self.pattern(pattern),
                        )
                    })
                    .collect(),
            ),
        }
    }

    fn binary(
        &mut self,
        left: Term<&'s str>,
        operator: BinaryOp<&'s str>,
        right: Term<&'s str>,
    ) -> Term<&'s str> {
        let left = self.term(left);
        let pattern = match operator {
            BinaryOp::Pipe(Some(pattern)) => {
                let pattern = self.pattern(pattern);
                return binary(left, BinaryOp::Pipe(Some(pattern)), self.term(right));
            }
            other => other,
        };
        let right = self.term(right);
        match pattern {
            BinaryOp::Comma => stepped(binary(left, BinaryOp::Comma, right)),
            BinaryOp::Math(operator) => calculation(left, operator, right),
            BinaryOp::Cmp(operator) => {
                binary(weighed(left), BinaryOp::Cmp(operator), weighed(right))
            }
            BinaryOp::Assign | BinaryOp::UpdateAlt => pipe(
                call(WEIGH, Vec::new()),
                binary(left, pattern, weighed(right)),
            ),
            BinaryOp::Update => pipe(
                call(WEIGH, Vec::new()),
                binary(left, BinaryOp::Update, stepped(right)),
            ),
            BinaryOp::UpdateMath(operator) => {
                let new = calculation(Term::Id, operator, Term::Var(OPERAND));
                let update = pipe(call(WEIGH, Vec::new()), binary(left, BinaryOp::Update, new));
                binary(right, BinaryOp::Pipe(Some(Pattern::Var(OPERAND))), update)
            }
            operator => binary(left, operator, right),
        }
    }

    fn path(&mut self, head: Term<&'s str>, path: Path<Term<&'s str>>) -> Term<&'s str> {
        let head = self.term(head);
        let many = path
            .0
            .iter()
            .any(|(part, _)| matches!(part, Part::Range(..)));
        let parts = path.0.into_iter().map(|(part, optional)| {
            let part = match part {
                Part::Index(index) => {
                    let constant = match &index {
                        Term::Num(_) => true,
                        Term::Str(None, parts) => is_constant(parts),
                        _ => false,
                    };
                    let index = self.term(index);
                    Part::Index(if constant {
                        index
                    } else {
                        pipe(index, call(KEY, Vec::new()))
                    })
                }
                Part::Range(from, to) => {
                    Part::Range(from.map(|from| self.term(from)), to.map(|to| self.term(to)))
                }
            };
            (part, optional)
        });
        let path = Path(parts.collect());
        if many {
            stepped(Term::Path(Box::new(weighed(head)), path))
        } else {
            Term::Path(Box::new(head), path)
        }
    }

    fn call(&mut self, name: &'s str, arguments: Vec<Term<&'s str>>) -> Term<&'s str> {
        let signature = (name, arguments.len());
        let arguments = self.terms(arguments);
        match self
            .known
            .iter()
            .rev()
            .find(|(known, _)| *known == signature)
        {
            Some((_, false)) => return Term::Call(name, arguments),
            Some((_, true)) => {
                return self.refuse(
                    name,
                    format!("`{name}` calls itself, and a program here may not"),
                    "say it with reduce, foreach, map or ..",
                );
            }
            None => {}
        }
        let filter = self
            .filters
            .iter()
            .find(|(known, count, _)| (*known, *count) == signature);
        if let Some((name, _, cheap)) =
            filter.filter(|(name, ..)| self.inside_prelude || *name != PATH)
        {
            let arguments = if *name == "has" {
                arguments
                    .into_iter()
                    .map(|key| pipe(key, call(KEY, Vec::new())))
                    .collect()
            } else {
                arguments
            };
            return match cheap {
                true => stepped(Term::Call(name, arguments)),
                false => pipe(
                    call(WEIGH, Vec::new()),
                    weighed(Term::Call(name, arguments)),
                ),
            };
        }
        if self.prelude.contains(&signature) {
            return Term::Call(name, arguments);
        }
        self.refuse_unknown(name, signature.1)
    }
}

fn calculation<'s>(left: Term<&'s str>, operator: Math, right: Term<&'s str>) -> Term<&'s str> {
    weighed(match operator {
        Math::Mul => call(MULTIPLY, vec![weighed(left), weighed(right)]),
        Math::Sub | Math::Div => binary(weighed(left), BinaryOp::Math(operator), weighed(right)),
        Math::Add | Math::Rem => binary(left, BinaryOp::Math(operator), right),
    })
}
