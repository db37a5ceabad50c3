//! A store that follows the commits of another machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Clock, Timestamp};
use rusqlite::Connection;

use super::{
    ANEW, Commit, CommitLog, changes, commit_format, is_copy, note_copy, read_log_mark,
    write_log_mark,
};
use crate::ShardNumber;
use crate::disk::open::prepare;
use crate::disk::schema::{self, Purpose};
use crate::disk::store::{Lock, create_file};
use crate::disk::trouble::is_corrupt;
use crate::disk::{DiskJournal, DiskOptions, OpenError};

/// The size past which the write-ahead log is moved into the database.
const LOG_BYTES: u64 = 64 << 20;

/// The files of a store that are made anew: what SQLite has, and the mark of its commits.
const FILES: [&str; 4] = ["journal.db", "journal.db-wal", "journal.db-shm", "mark"];

/// Why a store could not apply commits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A node that runs a later version has written them.
    #[error(
        "the commits have format {found}, and this version understands formats up to \
         {understood}; run a newer pointsman here too"
    )]
    Later {
        /// The format found.
        found: u16,
        /// The newest format understood.
        understood: u16,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// A store that follows the commits of another machine. Its directory is locked for as long as it
/// is there.
pub struct Replica {
    pub(super) directory: PathBuf,
    pub(super) connection: Connection,
    lock: Lock,
    mark: Option<Bytes>,
    is_embedded: bool,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// Opens the store in a directory, or makes an empty one there.
    ///
    /// A copy that is damaged is made empty: the log has everything.
    ///
    /// # Errors
    /// [`OpenError`]: the store is in use, of a later version, or cannot be read or written; or it
    /// is damaged, and has what no log has.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let lock = prepare(directory)?;
        if is_copy(directory) && directory.join(ANEW).exists() {
            tracing::warn!(
                ?directory,
                "the store was damaged; it is made anew from the log"
            );
            remove(directory)?;
        }
        let opened = match open(directory) {
            Err(OpenError::Damaged { what, .. }) if is_copy(directory) => {
                tracing::error!(
                    ?directory,
                    what,
                    "the store is damaged; it is made anew from the log"
                );
                remove(directory)?;
                open(directory)?
            }
            opened => opened?,
        };
        Ok(Self::of(lock, directory, opened))
    }

    /// Opens the store in a directory and leaves it as it is, also where it is damaged: its log may
    /// be gone.
    ///
    /// # Errors
    /// As [`Replica::open`], and [`OpenError::Damaged`].
    pub fn open_as_it_is(directory: &Path) -> Result<Self, OpenError> {
        let lock = prepare(directory)?;
        if is_copy(directory) && directory.join(ANEW).exists() {
            let what = "it was to be made anew from the log of its cluster";
            return Err(OpenError::damaged(directory, &what));
        }
        Ok(Self::of(lock, directory, open(directory)?))
    }

    fn of(lock: Lock, directory: &Path, opened: (Connection, Option<Bytes>, bool)) -> Self {
        let (connection, mark, is_embedded) = opened;
        Self {
            directory: directory.to_owned(),
            connection,
            lock,
            mark,
            is_embedded,
        }
    }

    /// The mark of the last commit; none of a store that has never followed.
    #[must_use]
    pub fn mark(&self) -> Option<&[u8]> {
        self.mark.as_deref()
    }

    /// Whether it holds a journal of its own that never was in a log.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.is_embedded
    }

    /// Applies commits in their order and keeps the mark with them, all or nothing.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing of them is applied then.
    pub fn apply(&mut self, commits: &[Commit], mark: &[u8]) -> Result<(), ApplyError> {
        let understood = commit_format();
        if let Some(later) = commits.iter().find(|commit| commit.format > understood) {
            let found = later.format;
            return Err(ApplyError::Later { found, understood });
        }
        self.apply_all(commits, mark)
            .map_err(|error| OpenError::database(&self.directory, &error))?;
        self.mark = Some(Bytes::copy_from_slice(mark));
        Ok(())
    }

    fn apply_all(&mut self, commits: &[Commit], mark: &[u8]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        changes::apply(&transaction, commits.iter().map(|commit| &*commit.changes))?;
        write_log_mark(&transaction, mark)?;
        transaction.commit()?;
        let log = schema::log(&self.directory).metadata();
        if log.is_ok_and(|log| log.len() > LOG_BYTES) {
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            self.connection.query_row(checkpoint, [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Removes everything, the mark too.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn wipe(&mut self) -> Result<(), OpenError> {
        // The files are removed under a connection that does not write any more.
        self.connection = Connection::open_in_memory()
            .map_err(|error| OpenError::database(&self.directory, &error))?;
        remove(&self.directory)?;
        let (connection, mark, is_embedded) = open(&self.directory)?;
        (self.connection, self.mark, self.is_embedded) = (connection, mark, is_embedded);
        Ok(())
    }

    /// A digest over all rows but the mark: the same in all stores that have applied the same.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn digest(&self) -> Result<u64, OpenError> {
        changes::digest(&self.connection)
            .map_err(|error| OpenError::database(&self.directory, &error))
    }

    /// Opens the store as the journal whose commits go to a log.
    ///
    /// # Errors
    /// [`OpenError`]; with [`OpenError::Damaged`] it is made anew when it is opened next.
    pub fn into_journal(
        self,
        options: DiskOptions,
        clock: Arc<dyn Clock>,
        log: Box<dyn CommitLog>,
    ) -> Result<Arc<DiskJournal>, OpenError> {
        self.into_numbered(None, options, clock, log)
    }

    /// The same, of a store that is one of several.
    ///
    /// # Errors
    /// As there.
    pub fn into_shard(
        self,
        shard: ShardNumber,
        options: DiskOptions,
        clock: Arc<dyn Clock>,
        log: Box<dyn CommitLog>,
    ) -> Result<Arc<DiskJournal>, OpenError> {
        self.into_numbered(Some(shard), options, clock, log)
    }

    fn into_numbered(
        self,
        shard: Option<ShardNumber>,
        options: DiskOptions,
        clock: Arc<dyn Clock>,
        log: Box<dyn CommitLog>,
    ) -> Result<Arc<DiskJournal>, OpenError> {
        let Self {
            directory,
            connection,
            lock,
            mark,
            is_embedded,
        } = self;
        drop(connection);
        if mark.is_none() && !is_embedded {
            remove(&directory)?;
        }
        DiskJournal::open_locked(lock, &directory, (options, shard), clock, Some(log))
    }
}

/// Opens the database, makes its tables where it is new, and looks whose it is.
fn open(directory: &Path) -> Result<(Connection, Option<Bytes>, bool), OpenError> {
    let look = || -> rusqlite::Result<Option<(Connection, Option<Bytes>, bool)>> {
        let mut connection = schema::connect(directory, Purpose::Write)?;
        if schema::later_format(&connection)?.is_some() {
            return Ok(None);
        }
        if schema::format(&connection)? == 0 {
            note_copy(directory);
            schema::create(&mut connection, Timestamp(0))?;
            connection.execute_batch("DELETE FROM meta")?;
        }
        connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
        let mark = read_log_mark(&connection)?;
        let is_embedded = mark.is_none() && !is_copy(directory);
        if !is_embedded {
            schema::upgrade(&mut connection)?;
            schema::check_tables(&connection)?;
        }
        Ok(Some((connection, mark, is_embedded)))
    };
    match look() {
        Ok(Some(opened)) => Ok(opened),
        Ok(None) => {
            let connection = schema::connect(directory, Purpose::Look)
                .map_err(|error| OpenError::database(directory, &error))?;
            schema::check_format(&connection, directory)?;
            Err(OpenError::damaged(directory, &"its format is damaged"))
        }
        // A copy is made anew. A journal of its own is mended when it becomes the journal.
        Err(error) if is_corrupt(&error) => Err(OpenError::damaged(directory, &error)),
        Err(error) => Err(OpenError::unreadable(directory, &error)),
    }
}

/// Removes the files of a store that can be made anew.
fn remove(directory: &Path) -> Result<(), OpenError> {
    for name in FILES {
        let path = directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::io("removing", &path, &error));
            }
            _ => {}
        }
    }
    let database = schema::database(directory);
    create_file(&database).map_err(|error| OpenError::files("creating", &database, &error))?;
    match std::fs::remove_file(directory.join(ANEW)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(OpenError::io("removing", &directory.join(ANEW), &error))
        }
        _ => Ok(()),
    }
}
