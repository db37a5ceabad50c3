//! JSON values with templates in their texts.

use pointsman_schemas::Problem;
use serde_json::Value;

use super::{Missing, Piece, RenderError, Slot, TEMPLATE_BYTES_MAX, omits_text, parse};
use crate::document::Document;
use crate::json;
use crate::path::Path;

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
    /// Every mistake, with its path inside the value: what
    /// [`TextTemplate::compile`](super::TextTemplate::compile) refuses, and a template as an
    /// object's key.
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
