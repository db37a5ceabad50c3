//! Templates: texts and JSON values with `<$…>` in them.
//!
//! `<$` opens a JSONPath query and the first `>` outside brackets and quotes closes it; any other
//! `<` is plain, and `<$$` is a literal `<$`. `<$>` is the whole document. `<$.a ?? "x">` gives a
//! default, a JSON value, for a query that finds nothing, and `<$.a ?? omit>` leaves out the key or
//! item that it stands in. `<$.time | strftime("%d.%m.%Y"; "Europe/Berlin")>` writes a date: see
//! `dated`.
//!
//! - Alone in a leaf of a [`JsonTemplate`] a query keeps the JSON type it finds: of a query for one
//!   value at most the value itself, byte for byte as it stands in the event, of any other an
//!   array. Finding nothing is null.
//! - Inside text, what is found is written into it: texts raw, all else as JSON. Finding nothing is
//!   the empty text, or an error where the text is an address or a header ([`Placement`]). A null
//!   that is there is found: it is written `null`.
//!
//! There is no other logic in templates, and what they write is bounded by [`TEMPLATE_BYTES_MAX`].

mod dated;
mod parse;
mod placement;

use std::borrow::Cow;

use pointsman_schemas::{Placement, Problem};
use serde_json::Value;

use crate::document::{Document, Node};
use crate::json;
use crate::path::{Found, Path};
use dated::Dated;

/// The most bytes that one template may write: a template can repeat what an event holds, and must
/// not multiply it without end.
pub const TEMPLATE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A template could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Nothing was found where a value is needed.
    #[error(
        "{query} finds nothing; give a default as in <{query} ?? \"x\"> or match only events that have it"
    )]
    Nothing {
        /// The query.
        query: String,
    },
    /// A value that is to be written as a date is none.
    #[error(
        "what {query} finds is no point in time: {found}; there is wanted a text such as 2026-11-27T09:00:00Z, or a number of seconds since 1970"
    )]
    NoDate {
        /// The query.
        query: String,
        /// The beginning of what it finds.
        found: String,
    },
    /// A value has a character that cannot stand there.
    #[error("what {query} finds cannot stand in {place}: it has {what}")]
    Forbidden {
        /// The query.
        query: String,
        /// Where the value was to stand.
        place: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The result is too long.
    #[error("the result is longer than {TEMPLATE_BYTES_MAX} bytes")]
    TooLong,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    Slot(Slot),
}

impl Piece {
    fn omits(&self) -> bool {
        matches!(
            self,
            Self::Slot(Slot {
                missing: Missing::Omit,
                ..
            })
        )
    }
}

fn omits_text() -> Problem {
    Problem::new("`omit` leaves out a key or an item, and this is text")
        .help(r#"write ?? "" to write nothing there"#)
}

/// One `<$…>`.
#[derive(Clone, Debug)]
struct Slot {
    path: Path,
    /// What is made of a point in time that it finds.
    dated: Option<Box<Dated>>,
    missing: Missing,
}

/// What stands where a query finds nothing.
#[derive(Clone, Debug)]
enum Missing {
    /// Null alone; inside text what its place says.
    Unsaid,
    /// What stands behind `??`.
    Default(Value),
    /// The key or item is left out: `?? omit`, which is no JSON and so collides with no default.
    Omit,
}

impl Slot {
    /// The query, and whether it must find something; none where nothing is looked for.
    fn query(&self) -> Option<(&Path, bool)> {
        let looks = self.dated.as_ref().is_none_or(|dated| dated.looks());
        looks.then_some((&self.path, matches!(self.missing, Missing::Unsaid)))
    }

    /// What is to be written into text; none where nothing is found and there is no default.
    fn text<'d>(&'d self, document: &'d Document<'d>) -> Result<Option<Cow<'d, str>>, RenderError> {
        let found = match &self.dated {
            Some(dated) => dated
                .find(&self.path, document)?
                .map(|found| found.to_text().into()),
            None => match self.path.find(document) {
                Found::One(node) => Some(node.to_text()),
                Found::Many(values) => Some(crate::path::list(&values).into()),
                Found::Nothing => None,
            },
        };
        Ok(found.or_else(|| match &self.missing {
            Missing::Default(value) => Some(Node::Value(value).to_text()),
            Missing::Unsaid | Missing::Omit => None,
        }))
    }

    /// Appends what is found behind a prefix; nothing at all where it is to be left out.
    fn write_json(
        &self,
        document: &Document<'_>,
        prefix: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        if let Some(dated) = &self.dated {
            match dated.find(&self.path, document)? {
                Some(found) => {
                    prefix(out);
                    found.write_json(out);
                }
                None => self.write_missing(prefix, out),
            }
            return Ok(());
        }
        match self.path.find(document) {
            Found::One(node) => {
                prefix(out);
                node.write_json(out);
            }
            Found::Many(values) => {
                prefix(out);
                out.extend_from_slice(crate::path::list(&values).as_bytes());
            }
            Found::Nothing => self.write_missing(prefix, out),
        }
        Ok(())
    }

    fn write_missing(&self, prefix: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        match &self.missing {
            Missing::Omit => {}
            Missing::Default(value) => {
                prefix(out);
                out.extend_from_slice(value.to_string().as_bytes());
            }
            Missing::Unsaid => {
                prefix(out);
                out.extend_from_slice(b"null");
            }
        }
    }
}

/// A text with templates in it, compiled for where its result will stand.
#[derive(Clone, Debug)]
pub struct TextTemplate {
    pieces: Vec<Piece>,
    placement: Placement,
}

impl TextTemplate {
    /// Compiles a text.
    ///
    /// # Errors
    /// An unclosed `<$`, a broken query or a default that is no JSON, each with its place inside
    /// the text.
    pub fn compile(text: &str, placement: Placement) -> Result<Self, Problem> {
        let pieces = parse::pieces(text)?;
        if pieces.iter().any(Piece::omits) {
            return Err(omits_text());
        }
        Ok(Self { pieces, placement })
    }

    /// True where there is no template in it: it renders to the same text for every event.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.pieces
            .iter()
            .all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// The queries in it, each with whether something must be found: it has no default.
    pub fn queries(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => slot.query(),
            Piece::Text(_) => None,
        })
    }

    /// Where its result stands.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Appends the filled-in text.
    ///
    /// # Errors
    /// [`RenderError`]; `out` may then hold a part of the text.
    pub fn render(&self, document: &Document<'_>, out: &mut String) -> Result<(), RenderError> {
        let start = out.len();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Slot(slot) => placement::write(
                    slot.text(document)?,
                    slot.path.as_str(),
                    self.placement,
                    out,
                )?,
            }
            if out.len() - start > TEMPLATE_BYTES_MAX {
                return Err(RenderError::TooLong);
            }
        }
        placement::check_whole(
            out.get(start..).unwrap_or_default(),
            self.placement,
            self.is_constant(),
        )
    }
}

/// A JSON value with templates in its texts.
#[derive(Clone, Debug)]
pub struct JsonTemplate {
    parts: Vec<Part>,
}

/// What is written one behind the other.
#[derive(Clone, Debug)]
enum Part {
    /// JSON as it stands.
    Raw(Vec<u8>),
    /// A query alone in a leaf.
    Value(Slot),
    /// An entry of an object or a list that may be left out: a comma where one is due, the key, the
    /// value.
    Entry(Vec<u8>, Slot),
    /// A comma behind entries that may all have been left out.
    Comma,
    /// A string with queries in it.
    Text(Vec<Piece>),
}

impl JsonTemplate {
    /// Compiles a value.
    ///
    /// # Errors
    /// Every mistake, with its path inside the value: what [`TextTemplate::compile`] refuses, and a
    /// template as an object's key.
    pub fn compile(value: &Value) -> Result<Self, Vec<Problem>> {
        let mut compiler = JsonCompiler {
            parts: vec![Part::Raw(Vec::new())],
            problems: Vec::new(),
        };
        compiler.value(value, 0);
        if let Some(Part::Value(Slot {
            missing: Missing::Omit,
            ..
        })) = compiler.parts.last()
        {
            let problem =
                Problem::new("`omit` leaves out a key or an item, and this is the whole value");
            compiler
                .problems
                .push(problem.help("give a default, or remove `?? omit`"));
        }
        if compiler.problems.is_empty() {
            Ok(Self {
                parts: compiler.parts,
            })
        } else {
            Err(compiler.problems)
        }
    }

    /// True where there is no template in it.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Raw(_)))
    }

    /// The queries in it.
    pub fn queries(&self) -> impl Iterator<Item = &Path> {
        let slots = self.parts.iter().flat_map(|part| {
            let (one, pieces) = match part {
                Part::Value(slot) | Part::Entry(_, slot) => (Some(slot), &[][..]),
                Part::Text(pieces) => (None, pieces.as_slice()),
                Part::Raw(_) | Part::Comma => (None, &[][..]),
            };
            one.into_iter()
                .chain(pieces.iter().filter_map(|piece| match piece {
                    Piece::Slot(slot) => Some(slot),
                    Piece::Text(_) => None,
                }))
        });
        slots.filter_map(|slot| slot.query().map(|(path, _)| path))
    }

    /// Appends the filled-in value as JSON. What a query for one value finds is copied byte for
    /// byte.
    ///
    /// # Errors
    /// [`RenderError::TooLong`] and [`RenderError::NoDate`]; `out` may then hold a part of the
    /// value.
    pub fn render(&self, document: &Document<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let start = out.len();
        for part in &self.parts {
            match part {
                Part::Raw(raw) => out.extend_from_slice(raw),
                Part::Value(slot) => slot.write_json(document, |_| {}, out)?,
                Part::Entry(key, slot) => {
                    let prefix = |out: &mut Vec<u8>| {
                        comma(out);
                        out.extend_from_slice(key);
                    };
                    slot.write_json(document, prefix, out)?;
                }
                Part::Comma => comma(out),
                Part::Text(pieces) => {
                    let mut text = String::new();
                    for piece in pieces {
                        match piece {
                            Piece::Text(literal) => text.push_str(literal),
                            Piece::Slot(slot) => {
                                text.push_str(&slot.text(document)?.unwrap_or_default())
                            }
                        }
                        if text.len() > TEMPLATE_BYTES_MAX {
                            return Err(RenderError::TooLong);
                        }
                    }
                    json::write_string(&text, out);
                }
            }
            if out.len() - start > TEMPLATE_BYTES_MAX {
                return Err(RenderError::TooLong);
            }
        }
        Ok(())
    }
}

/// Writes a comma unless an object or a list has just been opened: nothing else that is written
/// ends so.
fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// How deeply a template may nest; what it makes must be readable JSON again.
const DEPTH_MAX: usize = 64;

struct JsonCompiler {
    parts: Vec<Part>,
    problems: Vec<Problem>,
}

impl JsonCompiler {
    fn raw(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Part::Raw(raw)) = self.parts.last_mut() {
            return write(raw);
        }
        let mut raw = Vec::new();
        write(&mut raw);
        self.parts.push(Part::Raw(raw));
    }

    fn value(&mut self, value: &Value, depth: usize) {
        if depth > DEPTH_MAX {
            self.problems.push(Problem::new(format!(
                "the template is nested deeper than {DEPTH_MAX} levels"
            )));
            return;
        }
        match value {
            Value::String(text) => self.text(text),
            Value::Array(list) => {
                self.raw(|raw| raw.push(b'['));
                let mut omits = false;
                for (index, item) in list.iter().enumerate() {
                    let before = self.problems.len();
                    omits |= self.entry(None, item, index > 0, omits, depth);
                    self.under(before, |problem| problem.at(index));
                }
                self.raw(|raw| raw.push(b']'));
            }
            Value::Object(map) => {
                self.raw(|raw| raw.push(b'{'));
                let mut omits = false;
                for (index, (key, item)) in map.iter().enumerate() {
                    let before = self.problems.len();
                    omits |= self.entry(Some(key), item, index > 0, omits, depth);
                    self.under(before, |problem| problem.at(key.as_str()));
                }
                self.raw(|raw| raw.push(b'}'));
            }
            plain => self.raw(|raw| raw.extend_from_slice(plain.to_string().as_bytes())),
        }
    }

    /// An entry of an object or an item of a list; true where it may be left out, as `omits` says
    /// of one before it.
    fn entry(
        &mut self,
        key: Option<&str>,
        item: &Value,
        follows: bool,
        omits: bool,
        depth: usize,
    ) -> bool {
        let mut prefix = Vec::new();
        if let Some(key) = key {
            self.key(key, &mut prefix);
        }
        if let Value::String(text) = item
            && let Ok(mut pieces) = parse::pieces(text)
            && pieces.len() == 1
            && pieces.iter().any(Piece::omits)
            && let Some(Piece::Slot(slot)) = pieces.pop()
        {
            self.parts.push(Part::Entry(prefix, slot));
            return true;
        }
        match (follows, omits) {
            (true, true) => self.parts.push(Part::Comma),
            (true, false) => self.raw(|raw| raw.push(b',')),
            (false, _) => {}
        }
        self.raw(|raw| raw.extend_from_slice(&prefix));
        self.value(item, depth + 1);
        false
    }

    /// Puts a step in front of the paths of the problems found since.
    fn under(&mut self, before: usize, step: impl Fn(Problem) -> Problem) {
        let found = self.problems.split_off(before);
        self.problems.extend(found.into_iter().map(step));
    }

    fn key(&mut self, key: &str, out: &mut Vec<u8>) {
        let literal = match parse::pieces(key).as_deref() {
            Ok([]) => Some(String::new()),
            Ok([Piece::Text(text)]) => Some(text.to_string()),
            _ => None,
        };
        match literal {
            Some(literal) => {
                json::write_string(&literal, out);
                out.push(b':');
            }
            None => {
                let problem = Problem::new("a template cannot be a key").key();
                self.problems
                    .push(problem.help("keys are fixed; write <$$ for a literal <$"));
            }
        }
    }

    fn text(&mut self, text: &str) {
        match parse::pieces(text) {
            Err(problem) => self.problems.push(problem),
            Ok(pieces) if pieces.len() > 1 && pieces.iter().any(Piece::omits) => {
                self.problems.push(omits_text())
            }
            Ok(mut pieces) => match (pieces.pop(), pieces.is_empty()) {
                (Some(Piece::Slot(slot)), true) => self.parts.push(Part::Value(slot)),
                (Some(Piece::Text(text)), true) => self.raw(|raw| json::write_string(&text, raw)),
                (None, _) => self.raw(|raw| raw.extend_from_slice(b"\"\"")),
                (Some(last), false) => {
                    pieces.push(last);
                    self.parts.push(Part::Text(pieces));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
