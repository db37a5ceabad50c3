//! A copy of a cluster's that becomes a store of its own: to run without the cluster, or to begin
//! the log of another one.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::{ANEW, COPY, MARK, Replica, read_log_mark};
use crate::disk::OpenError;
use crate::disk::schema::{self, Purpose};
use crate::disk::store::{Mark, create_file, sync_directory};

/// In the directory of a store that is a part of a bus which had several.
const PART: &str = "part";

/// Which shard of how many a store has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0 on.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of {}", self.shard, self.shards)
    }
}

impl Part {
    /// What the store in a directory was a part of, where that had other parts.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join(PART)).ok()?;
        let rest = text.trim().strip_prefix("shard ")?;
        let (shard, shards) = rest.split_once(" of ")?;
        let (shard, shards) = (shard.parse().ok()?, shards.parse().ok()?);
        Some(Self { shard, shards })
    }

    /// Says in a directory what the store there is a part of.
    pub(in crate::disk) fn note(self, directory: &Path) -> io::Result<()> {
        let path = directory.join(PART);
        if self.shards == 1 {
            return remove(&path);
        }
        create_file(&path)?.set_len(0)?;
        fs::write(&path, format!("{self}\n"))?;
        fs::File::open(&path)?.sync_all()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How far the store in a directory has come in its log, whether a bus runs on it or not; none of
/// one that is in no log.
///
/// # Errors
/// [`OpenError`] where there is no store, or it cannot be read.
pub fn mark_of(directory: &Path) -> Result<Option<Bytes>, OpenError> {
    if !schema::database(directory).exists() {
        return Err(OpenError::Missing(directory.to_owned()));
    }
    let database = |error| OpenError::database(directory, &error);
    let connection = schema::connect(directory, Purpose::Look).map_err(database)?;
    schema::check_format(&connection, directory)?;
    read_log_mark(&connection).map_err(database)
}

impl Replica {
    /// Makes the copy a store of its own, which has everything that the copy had and follows no
    /// log. Cut short, it is a copy or a store of its own, and done again it comes to its end.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn detach(mut self, part: Part) -> Result<(), OpenError> {
        let directory = self.directory.clone();
        let files = |error: io::Error| OpenError::files("detaching", &directory, &error);
        part.note(&directory).map_err(files)?;
        // A copy without a mark would be taken for an empty one: so the mark goes last.
        for name in [COPY, ANEW] {
            remove(&directory.join(name)).map_err(files)?;
        }
        sync_directory(&directory).map_err(files)?;
        let commit = self
            .remove_mark()
            .map_err(|error| OpenError::database(&directory, &error))?;
        // Commits are counted by their store from here on.
        let mut mark = Mark::open(&directory).map_err(files)?;
        mark.write(commit).map_err(files)
    }

    /// Removes the mark, durably, with everything that was not synced. Returns the number of the
    /// last commit.
    fn remove_mark(&mut self) -> rusqlite::Result<u64> {
        self.connection.execute_batch("PRAGMA synchronous = FULL")?;
        let ledger = schema::read_ledger(&self.connection)?;
        self.connection
            .execute("DELETE FROM meta WHERE name = ?1", [MARK])?;
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.query_row(checkpoint, [], |_| Ok(()))?;
        Ok(ledger.map_or(0, |ledger| ledger.commit))
    }
}
