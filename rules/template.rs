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
mod value;

use std::borrow::Cow;

use pointsman_schemas::template::NO_VALUE;
use pointsman_schemas::{Placement, Problem};
use serde_json::Value;

use crate::document::{Document, Node};
use crate::path::{Found, Path};
use dated::Dated;
pub use value::JsonTemplate;

/// The most bytes that one template may write: a template can repeat what an event holds, and must
/// not multiply it without end.
pub const TEMPLATE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A template could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Nothing was found where a value is needed.
    #[error(
        "{query} finds nothing; give a default as in <{query} ?? \"x\"> or match only events that \
         have it"
    )]
    Nothing {
        /// The query.
        query: String,
    },
    /// A value that is to be written as a date is none.
    #[error(
        "what {query} finds is no point in time: {found}; there is wanted a text such as \
         2026-11-27T09:00:00Z, or a number of seconds since 1970"
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

    /// Whether it stands for null, or for nothing.
    fn is_null(&self, document: &Document<'_>) -> Result<bool, RenderError> {
        let mut value = Vec::new();
        self.write_json(document, |_| {}, &mut value)?;
        Ok(matches!(&*value, b"" | b"null"))
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
        let is_column = self.placement == Placement::Column;
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Slot(slot)
                    if is_column && self.pieces.len() == 1 && slot.is_null(document)? =>
                {
                    out.push_str(NO_VALUE);
                }
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

#[cfg(test)]
mod tests;
