//! `jq:` programs in transforms, run by [jaq](https://github.com/01mf02/jaq).
//!
//! A program sees the whole event as a template does (`.type`, `.data.total`) and yields exactly
//! one value, the new data. It is parsed and compiled once. It sees nothing but the event and the
//! time of day: no environment, no files; filters that look there are refused when it is compiled,
//! and so are recursion and what is built on it. Regular expressions are not offered.
//!
//! jaq knows no bounds of its own: `[range(1e9)]`, `"x" * 1e9` and `def f: 1 + f; f` would take all
//! time, memory or stack. So every program is rewritten before it is compiled (see `rewrite`) such
//! that it pays for each value that it makes and each that it passes on, out of a budget of
//! [`STEPS_MAX`]. jaq-core, jaq-std and jaq-json are used without their filters of the outer world.

mod budget;
mod dates;
mod filters;
mod meant;
mod rewrite;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};
use jaq_core::load::parse::{self, Def, Parser, Term};
use jaq_core::load::{Arena, File, Loader, span};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use pointsman_schemas::Problem;

use self::budget::{Bounded, Budget, Data};
use self::rewrite::Rewriting;
use crate::document::Document;
use crate::template::TEMPLATE_BYTES_MAX;

/// Steps that one run may take: some tens of milliseconds, and not more than about 25 MiB of
/// values.
pub const STEPS_MAX: u64 = 250_000;

/// Steps beside them for a large event: what it costs to look at all of it so many times.
const LOOKS_AT_ALL: u64 = 16;

/// Bytes that a program may have.
pub const PROGRAM_BYTES_MAX: usize = 16 * 1024;

/// How deeply values may be nested.
const DEPTH_MAX: usize = 128;

/// How deeply the text of a program may be nested, and how many operators and keywords may follow
/// one another: both become depth of the stack.
const NESTING_MAX: usize = 64;
const CHAIN_MAX: usize = 128;

/// What the reading and compiling of the deepest program allowed takes, many times over; only what
/// is used of it is ever there.
const COMPILER_STACK_BYTES: usize = 64 * 1024 * 1024;

const PRELUDE: &str = include_str!("jq/prelude.jq");

/// The name under which a program is compiled.
const MAIN: &str = "main";

/// A program failed on an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JqError {
    /// It takes too much work.
    #[error(
        "it takes more than {STEPS_MAX} steps, and some for the event's size; make the event or \
         the program smaller"
    )]
    Steps,
    /// Values or calls are nested too deeply.
    #[error("it nests values or calls too deeply; {DEPTH_MAX} levels are allowed")]
    Deep,
    /// A number is too long to calculate with.
    #[error("it makes an integer of more than a thousand digits")]
    Number,
    /// It yields nothing.
    #[error("it yields nothing; end it with // and a default")]
    Nothing,
    /// It yields several values.
    #[error("it yields more than one value; put [ ] around it to make a list of them")]
    Several,
    /// What it yields is too long.
    #[error("what it yields is longer than {TEMPLATE_BYTES_MAX} bytes")]
    TooLong,
    /// An object that it yields has a key that is no text.
    #[error("an object that it yields has a key that is no text")]
    Key,
    /// It raised an error, or the event is not as it expects.
    #[error("it fails: {0}")]
    Failed(String),
}

/// A compiled program.
pub struct Jq {
    filter: Filter<Bounded>,
}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jq").finish_non_exhaustive()
    }
}

impl Jq {
    /// Compiles a program.
    ///
    /// # Errors
    /// Every mistake in it that was found, each with its place inside the text.
    pub fn compile(text: &str) -> Result<Self, Vec<Problem>> {
        let cannot = |why: String| {
            Err(vec![Problem::new(format!(
                "cannot compile this jq program: {why}"
            ))])
        };
        // Done in a thread of its own, since parser and compiler take several KiB of stack for each
        // level of a program.
        std::thread::scope(|scope| {
            let compiler = std::thread::Builder::new()
                .stack_size(COMPILER_STACK_BYTES)
                .spawn_scoped(scope, || Self::compile_here(text));
            match compiler.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(compiled)) => compiled,
                Ok(Err(_)) => cannot("the compiler panicked".to_owned()),
                Err(error) => cannot(error.to_string()),
            }
        })
    }

    fn compile_here(text: &str) -> Result<Self, Vec<Problem>> {
        let term = parse(text).map_err(|problems| meant::mended(text, problems))?;
        let (funs, signatures) = filters::all();
        let mut rewriting = Rewriting::new(text, &signatures);
        let mut definitions = rewriting
            .prelude(jaq_core::load::parse(PRELUDE, |parser| parser.defs()).unwrap_or_default());
        definitions.push(Def {
            name: MAIN,
            args: Vec::new(),
            body: rewriting.term(term),
        });
        if !rewriting.refusals.is_empty() {
            let problem = |refusal: rewrite::Refusal<'_>| {
                placed(Problem::new(refusal.message), text, refusal.at).help(refusal.help)
            };
            return Err(rewriting.refusals.into_iter().map(problem).collect());
        }
        // What is compiled is the program as a definition, which alone can be handed over
        // rewritten.
        let arena = Arena::default();
        let broken = |_| vec![Problem::new("this jq program cannot be used")];
        let modules = Loader::new(definitions)
            .load(
                &arena,
                File {
                    code: MAIN,
                    path: (),
                },
            )
            .map_err(broken)?;
        let compiled = Compiler::default().with_funs(funs).compile(modules);
        compiled.map(|filter| Self { filter }).map_err(|errors| {
            let errors = errors.into_iter().flat_map(|(_, errors)| errors);
            errors
                .map(|(at, undefined)| {
                    placed(
                        Problem::new(format!("there is no {} `{at}`", undefined.as_str())),
                        text,
                        at,
                    )
                })
                .collect()
        })
    }

    /// Appends what the program makes of a document as JSON.
    ///
    /// # Errors
    /// [`JqError`]; `out` may then hold a part of the value.
    pub fn run(&self, document: &Document<'_>, out: &mut Vec<u8>) -> Result<(), JqError> {
        self.run_within(STEPS_MAX, document, out)
    }

    fn run_within(
        &self,
        steps: u64,
        document: &Document<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), JqError> {
        let input = value::of_json(document.tree());
        let budget = Budget::of(&input, steps);
        let context = Ctx::<Bounded>::new(
            Data {
                lut: &self.filter.lut,
                budget: &budget,
                document,
            },
            Vars::new([]),
        );
        let two = || {
            let mut values = self.filter.id.run((context, input));
            let first = values.next();
            let second = values.next().is_some();
            first.map(|first| (first, second))
        };
        // No program is known that makes jaq panic; were there one, its events would be dead
        // letters and not take others along.
        let yielded = catch_unwind(AssertUnwindSafe(two))
            .map_err(|_| JqError::Failed("jaq panicked".to_owned()))?;
        if let Some(spent) = budget.spent() {
            return Err(spent);
        }
        match yielded {
            None => Err(JqError::Nothing),
            Some((Ok(_), true)) => Err(JqError::Several),
            Some((Ok(value), false)) => value::write(&value, 0, out),
            Some((Err(exception), _)) => Err(JqError::Failed(match exception.get_err() {
                Ok(error) => beginning(&error),
                Err(_) => "it breaks out of itself".to_owned(),
            })),
        }
    }
}

/// The beginning of what an error says: it may hold values of any length.
fn beginning(error: &jaq_json::Error) -> String {
    const BYTES_MAX: usize = 200;
    struct Short(String);
    impl fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.push_str(text);
            if self.0.len() > BYTES_MAX {
                Err(fmt::Error)
            } else {
                Ok(())
            }
        }
    }
    let mut short = Short(String::new());
    let whole = write!(short, "{error}").is_ok();
    let end = short.0.floor_char_boundary(BYTES_MAX);
    if whole {
        short.0
    } else {
        format!("{}…", short.0.get(..end).unwrap_or_default())
    }
}

/// Gives a problem the place of a slice of the program, or of all of it where it is none.
fn placed(problem: Problem, whole: &str, part: &str) -> Problem {
    let bytes = whole.as_bytes().as_ptr_range();
    let within = bytes.start <= part.as_ptr() && part.as_ptr() <= bytes.end;
    if within {
        problem.inside(span(whole, part))
    } else {
        problem
    }
}

fn parse(text: &str) -> Result<Term<&str>, Vec<Problem>> {
    if text.trim().is_empty() {
        return Err(vec![
            Problem::new("this jq program is empty")
                .help("write . for the whole event, .data for its data"),
        ]);
    }
    if text.len() > PROGRAM_BYTES_MAX {
        return Err(vec![Problem::new(format!(
            "this jq program is longer than {PROGRAM_BYTES_MAX} bytes"
        ))]);
    }
    // Looked at before anything reads the text, since all readers of it go as deep as it does.
    let mut nesting = 0_usize;
    for character in text.chars() {
        match character {
            '(' | '[' | '{' => nesting += 1,
            ')' | ']' | '}' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        if nesting > NESTING_MAX {
            return Err(vec![too_deep()]);
        }
    }
    let lexed = Lexer::new(text).lex().map_err(|mut errors| {
        // Where something else stands than what closes a bracket, it may be nothing that it knows
        // either.
        errors.dedup_by_key(|(_, at)| at.as_ptr());
        let problem = |(expected, at): (jaq_core::load::lex::Expect<&str>, &str)| {
            // The place reaches to the end of the text: its first character is where it went wrong.
            let first = at.chars().next().map_or(0, char::len_utf8);
            placed(
                Problem::new(format!(
                    "{} is wanted here",
                    with_article(expected.as_str())
                )),
                text,
                at.get(..first).unwrap_or(at),
            )
        };
        errors.into_iter().map(problem).collect::<Vec<_>>()
    })?;
    if chain(&lexed) > CHAIN_MAX {
        return Err(vec![too_deep()]);
    }
    let parsed = Parser::new(&lexed).parse(|parser| parser.term());
    parsed.map_err(|errors| {
        let problem = |(expected, found): parse::TError<'_, &str>| match found {
            Some(Token(found, _)) => placed(
                Problem::new(format!("{} is wanted here", wanted(&expected))),
                text,
                found,
            ),
            None => Problem::new(format!(
                "the program ends where {} is wanted",
                wanted(&expected)
            )),
        };
        errors.into_iter().map(problem).collect()
    })
}

fn too_deep() -> Problem {
    Problem::new("this jq program is nested too deeply, or strings too much together")
        .help("split it, or let the function do it")
}

fn wanted(expected: &parse::Expect<&str>) -> String {
    match expected {
        parse::Expect::Just(symbol) => format!("`{symbol}`"),
        parse::Expect::Nothing => "an operator or the end".to_owned(),
        parse::Expect::ElseOrEnd => "`else` or `end`".to_owned(),
        other => with_article(other.as_str()),
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}

/// How deep the reading of tokens, and later their running, can go: operators and keywords side by
/// side nest in one another.
fn chain(tokens: &[Token<&str>]) -> usize {
    let own = tokens.iter().filter(|Token(text, token)| match token {
        Tok::Sym => !text.starts_with('.') && !matches!(*text, ":" | ";" | "?" | ")" | "]" | "}"),
        Tok::Word => {
            matches!(
                *text,
                "as" | "and"
                    | "or"
                    | "def"
                    | "if"
                    | "elif"
                    | "else"
                    | "try"
                    | "catch"
                    | "label"
                    | "reduce"
                    | "foreach"
            )
        }
        Tok::Str(parts) => parts.len() > 8,
        _ => false,
    });
    let inner = tokens.iter().map(|Token(_, token)| match token {
        Tok::Block(tokens) => chain(tokens),
        Tok::Str(parts) => {
            let inner = parts.iter().map(|part| match part {
                StrPart::Term(Token(_, Tok::Block(tokens))) => chain(tokens),
                _ => 0,
            });
            parts.len() + inner.max().unwrap_or(0)
        }
        _ => 0,
    });
    own.count() + inner.max().unwrap_or(0)
}
