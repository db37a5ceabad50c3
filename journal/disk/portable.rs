//! Everything that stores hold, as lines of text that make other stores: of more shards or fewer,
//! or on another machine.
//!
//! ```text
//! head, subscriptions, replays, cursors and positions,
//! deliveries that have not ended, events with their dead letters and rejects (by time),
//! identities and keys, history (by time), end
//! ```
//!
//! The end has counts and a checksum over all lines before it, so that an export that was cut or
//! altered makes no store. The order is such that neither side keeps more in memory than
//! subscriptions and what is running: see [`import`].
//!
//! Times are those of the day, whatever the clock of a store has been through; a store that is made
//! of them begins with a clock that has never been set.

mod event;
mod export;
mod import;
mod line;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::path::PathBuf;

pub use self::export::{Exported, export_stores};
pub use self::import::{Imported, import_stores};
pub use self::line::Carried;
use super::{OpenError, Part};
use crate::sharded::SHARDS_MAX;

/// Why something could not be exported or imported. Nothing is in place then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortableError {
    /// A store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A store is no part of the journal that others beside it are parts of.
    #[error("the store in {0:?} is not {1}, as its place says")]
    Stranger(PathBuf, Part),
    /// A journal has no such number of shards.
    #[error("there are 1 to {SHARDS_MAX} shards, and not {0}")]
    Shards(usize),
    /// What is exported cannot be written.
    #[error("writing the export: {0}")]
    Write(String),
    /// What is imported cannot be read.
    #[error("reading the export: {0}")]
    Read(String),
    /// It is no export.
    #[error("it is no export of a store: {0}")]
    Foreign(String),
    /// Another version has written it, in a format that this one does not read.
    #[error(
        "the export has format {found}, and this version reads format {understood}; import it \
         with the version that wrote it, or a later one"
    )]
    Format {
        /// The format found.
        found: u32,
        /// The format that is read.
        understood: u32,
    },
    /// It ends before its last line.
    #[error("the export is cut off: it ends behind line {0}, and the line that ends it is missing")]
    Cut(u64),
    /// It does not say what was written.
    #[error("the export is not what was written: {0}")]
    Altered(String),
    /// What a line says cannot be.
    #[error("{0}")]
    Line(String),
    /// There is something where the new stores are to lie.
    #[error("{0:?} is not empty; name a folder that is, or one that is not there yet")]
    Occupied(PathBuf),
    /// The folder for the new stores cannot be made.
    #[error("{doing} {path:?}: {what}")]
    Folder {
        /// What was being done.
        doing: &'static str,
        /// To which folder.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
    /// SQLite failed.
    #[error("the database: {0}")]
    Database(String),
}

impl From<rusqlite::Error> for PortableError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
