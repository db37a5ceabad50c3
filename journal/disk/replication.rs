//! Stores on many machines that hold the same: where the commits of one go, and how another follows
//! them.
//!
//! A transaction notes the keys of the rows that it writes or deletes. Before it is committed those
//! rows are read back and go to a [`CommitLog`] as what they have become: a row to be put, or a key
//! to be deleted. Only when that is durable is the transaction committed, together with the **mark**
//! that the log gives for it: how far this store has come in the log. A [`Replica`] applies the same
//! rows with the same marks.
//!
//! Rows and deletions can be applied again, and over a later state that is overtaken at once. So
//! every row that has not changed for long can be **carried**, put once more in some later commit,
//! and a store can begin in the middle of a log: with the first commit of a walk over all rows, it is
//! complete with the last.
//!
//! The store itself is synced by checkpoints alone: after a power cut it is as it was some commits
//! before, and so is its mark. What is found damaged in it is not mended: it is made anew from the
//! log.

mod changes;
mod part;
mod replica;

use std::path::Path;

use bytes::Bytes;

use self::changes::MARK;
pub(super) use self::changes::{Touched, read_log_mark, write_log_mark};
pub use self::part::{Part, mark_of};
pub use self::replica::{ApplyError, Replica};
use super::schema;
use super::store::create_file;
use super::tables::Key;

/// The format of the commits that this software writes; it understands those up to it.
#[must_use]
pub fn commit_format() -> u16 {
    u16::try_from(schema::FORMAT).unwrap_or(u16::MAX)
}

/// What one transaction changed, as other stores apply it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The format of the store that wrote it.
    pub format: u16,
    /// A walk over all rows begins with it.
    pub begins_carry: bool,
    /// A walk over all rows ends with it.
    pub ends_carry: bool,
    /// The rows put and the keys deleted.
    pub changes: Bytes,
}

/// Where the commits of a store become durable before they are made.
///
/// It is called on the writer's thread, for one commit after the other, and may block.
pub trait CommitLog: Send + 'static {
    /// Appends a commit and returns the mark to keep with it, once it is durable.
    ///
    /// # Errors
    /// [`Refused`].
    fn append(&mut self, commit: &Commit) -> Result<Bytes, Refused>;

    /// Goes on with a commit of which it was not known whether it is durable.
    ///
    /// # Errors
    /// [`Refused`].
    fn resume(&mut self) -> Result<Bytes, Refused>;

    /// The store could not follow: what the log has may not be in it. It takes no more commits.
    fn failed(&mut self, why: &str);
}

/// Why a commit has no mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not in the log, and will not be. A later one may succeed.
    #[error("{0}")]
    NotAppended(String),
    /// It may be in the log, now or later: to be [resumed](CommitLog::resume), again and again.
    #[error("{0}")]
    Unknown(String),
    /// This store is to take no more commits: another one does, or nobody knows any more what
    /// became of this one.
    #[error("{0}")]
    Ended(String),
}

/// How far a walk over all rows has come.
#[derive(Clone, Debug, PartialEq)]
pub struct CarriedTo {
    table: usize,
    key: Option<Key>,
}

/// In the directory of a store that has nothing which is not in the log.
const COPY: &str = "copy";

/// In the directory of such a store that is to be made anew from the log.
const ANEW: &str = "anew";

/// Says that the store in a directory has nothing which is not in the log.
pub(super) fn note_copy(directory: &Path) {
    if let Err(error) = create_file(&directory.join(COPY)) {
        tracing::error!(%error, "the store cannot be marked as a copy of the cluster's");
    }
}

/// Whether the store in a directory has nothing which is not in the log.
pub(super) fn is_copy(directory: &Path) -> bool {
    directory.join(COPY).exists()
}

/// Has the store in a directory made anew from the log when it is opened next, if that has
/// everything.
pub(super) fn want_anew(directory: &Path) {
    if !is_copy(directory) {
        return;
    }
    if let Err(error) = create_file(&directory.join(ANEW)) {
        tracing::error!(%error, "the store cannot be marked as one to be made anew; remove it");
    }
}
