//! Positions that are kept in rows, one for each thing that a source follows, and one of no key for
//! all of them together. Earlier versions listed everything in the cursor.

use crate::SourceContext;

/// How a position is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// It is not, or not yet whole: this is the very first start.
    #[default]
    Nothing,
    /// In the cursor, by an earlier version.
    Cursor,
    /// In rows.
    Rows,
}

impl Form {
    /// The form of what is stored, where `rows` in the cursor says that there are rows; and what an
    /// earlier version has listed there.
    pub(crate) fn of<'c>(context: &'c SourceContext, rows: &[u8]) -> (Self, Option<&'c [u8]>) {
        match context.cursor.as_ref().map(|cursor| &*cursor.position) {
            None => (Self::Nothing, None),
            Some(cursor) if cursor == rows => (Self::Rows, None),
            Some(listing) => (Self::Cursor, Some(listing)),
        }
    }
}

/// The generation of a key that comes next, where the row that said it was damaged and set aside:
/// none of before is given out again.
pub(crate) fn next_generation(generations: impl Iterator<Item = u64>) -> u64 {
    generations.max().map_or(0, |last| last.saturating_add(1))
}
