//! What a node needs of its store while it follows.

use bytes::Bytes;
use pointsman_journal::disk::{ApplyError, Commit, OpenError, Replica};

/// A store that follows the commits of another node.
pub trait Store: Send + 'static {
    /// The mark of the last commit; none of a store that has never followed.
    fn mark(&self) -> Option<Bytes>;

    /// Whether it holds a journal of its own that never was in a log.
    fn is_embedded(&self) -> bool;

    /// Applies commits in their order, and keeps the mark with them, all or nothing.
    ///
    /// # Errors
    /// [`ApplyError`].
    fn apply(&mut self, commits: &[Commit], mark: &[u8]) -> Result<(), ApplyError>;

    /// Removes everything, the mark too.
    ///
    /// # Errors
    /// [`OpenError`].
    fn wipe(&mut self) -> Result<(), OpenError>;
}

impl Store for Replica {
    fn mark(&self) -> Option<Bytes> {
        Replica::mark(self).map(Bytes::copy_from_slice)
    }

    fn is_embedded(&self) -> bool {
        Replica::is_embedded(self)
    }

    fn apply(&mut self, commits: &[Commit], mark: &[u8]) -> Result<(), ApplyError> {
        Replica::apply(self, commits, mark)
    }

    fn wipe(&mut self) -> Result<(), OpenError> {
        Replica::wipe(self)
    }
}
