//! Opening a store, and why that may fail.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pointsman_schemas::{Clock, JournalId, Timestamp};
use rusqlite::Connection;
use tokio::sync::{Notify, mpsc};

use super::ballast::{self, Ballast};
use super::capacity::reserve_bytes;
use super::check::{self, Checked, Occasion};
use super::committed::CommittedState;
use super::loader::{Loader, LoaderHandle};
use super::look::{self, LookHandle};
use super::queues::Queues;
use super::raw::DatabaseFile;
use super::reader::Live;
use super::replication::{self, CommitLog, Part};
use super::schema::{self, Purpose};
use super::store::{self, Lock, Mark};
use super::trouble::is_corrupt;
use super::upkeep::{Upkeep, UpkeepHandle};
use super::writer::{JOBS_WAITING_MAX, THREAD, Writer};
use super::{DiskJournal, DiskOptions, DiskReader, Job, Shared};
use crate::ShardNumber;
use crate::shard::before_first_token;
use crate::steady::JournalClock;

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store in {path:?} is in use by process {process}; stop that one, or give this one a \
         store.path of its own"
    )]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// The other process's id.
        process: String,
    },
    /// A later version of this software has written it.
    #[error(
        "the store in {path:?} has format {found}, and this version understands formats up to \
         {understood}; run a newer pointsman"
    )]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The format found.
        found: i32,
        /// The newest format understood.
        understood: i32,
    },
    /// Its commits are in the log of a cluster, and would come apart from that.
    #[error(
        "the store in {0:?} is a copy of a cluster's; give store.log in the rule file, as the \
         cluster's other nodes do, or another store.path"
    )]
    InCluster(PathBuf),
    /// It has a part of what a cluster had.
    #[error(
        "the store in {path:?} is {part} of a cluster, and not the whole of a bus; see `pointsman \
         store`"
    )]
    Part {
        /// The store's directory.
        path: PathBuf,
        /// Which part.
        part: Part,
    },
    /// There is no store to look into.
    #[error("there is no store in {0:?}; check store.path, or start the bus once")]
    Missing(PathBuf),
    /// What a store is made of makes no sense, and could not be saved.
    #[error(
        "the store in {path:?} is damaged: {what}; keep a copy of the directory, and restore one \
         from before"
    )]
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What the database said.
        what: String,
    },
    /// Reading or writing failed, which says nothing of what the files hold.
    #[error(
        "the store in {path:?} cannot be used now: {what}; nothing of it was given up; mend the \
         disk (see dmesg), then start again"
    )]
    Unreadable {
        /// The store's directory.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
    /// There is no room on the disk.
    #[error(
        "the disk that holds the store in {path:?} is full, and the store cannot be opened \
         without some room on it; make some, then start again: nothing of the store is lost"
    )]
    DiskFull {
        /// The store's directory.
        path: PathBuf,
    },
    /// A file could not be opened or written.
    #[error("{doing} {path:?}: {what}; check that the directory exists, is writable and has room")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
}

impl OpenError {
    pub(super) fn damaged(path: &Path, what: &dyn fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }

    pub(super) fn database(path: &Path, error: &rusqlite::Error) -> Self {
        if is_corrupt(error) {
            Self::damaged(path, error)
        } else {
            Self::unreadable(path, error)
        }
    }

    pub(super) fn unreadable(path: &Path, what: &dyn fmt::Display) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }

    pub(super) fn files(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        if ballast::is_no_room(error) {
            Self::DiskFull {
                path: path.to_owned(),
            }
        } else {
            Self::io(doing, path, error)
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            what: error.to_string(),
        }
    }
}

impl DiskJournal {
    /// Opens the store in a directory, or makes one there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        directory: &Path,
        options: DiskOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_numbered(directory, options, clock, None)
    }

    /// Opens the store of one of several journals, or makes one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_shard(
        directory: &Path,
        options: DiskOptions,
        clock: Arc<dyn Clock>,
        shard: ShardNumber,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_numbered(directory, options, clock, Some(shard))
    }

    fn open_numbered(
        directory: &Path,
        options: DiskOptions,
        clock: Arc<dyn Clock>,
        shard: Option<ShardNumber>,
    ) -> Result<Arc<Self>, OpenError> {
        let lock = prepare(directory)?;
        if replication::is_copy(directory) {
            return Err(OpenError::InCluster(directory.to_owned()));
        }
        if let Some(part) = Part::of(directory) {
            let path = directory.to_owned();
            return Err(OpenError::Part { path, part });
        }
        Self::open_locked(lock, directory, (options, shard), clock, None)
    }

    /// Opens the store whose lock is held, as one whose commits go to a log or as one of its own.
    pub(super) fn open_locked(
        lock: Lock,
        directory: &Path,
        (options, shard): (DiskOptions, Option<ShardNumber>),
        clock: Arc<dyn Clock>,
        log: Option<Box<dyn CommitLog>>,
    ) -> Result<Arc<Self>, OpenError> {
        let database_error = |error| OpenError::database(directory, &error);
        let mut ballast = Ballast::of(directory, reserve_bytes(options.max_size_bytes) / 2);
        let database = Arc::new(DatabaseFile::default());
        let mark = Mark::open(directory)
            .map_err(|error| OpenError::files("opening", &directory.join("mark"), &error))?;
        let Checked {
            mut connection,
            mut committed,
            findings: mut warnings,
            is_whole,
        } = open_patiently(directory, &database, &*clock, &mut ballast)?;
        let in_log = replication::read_log_mark(&connection).map_err(database_error)?;
        let mut mark = match (&log, in_log) {
            (None, Some(_)) => return Err(OpenError::InCluster(directory.to_owned())),
            (None, None) => Some(mark),
            (Some(_), in_log) => {
                follow_log(directory, &connection, in_log.is_some(), &warnings)?;
                None
            }
        };
        let now = clock.now();
        let id = begin(
            directory,
            &connection,
            mark.as_mut(),
            &mut committed,
            &mut warnings,
            (now, shard),
        )?;
        let clock = Arc::new(JournalClock::resume(
            clock,
            committed.ledger.clock_offset,
            committed.ledger.time,
        ));
        ballast.refill();

        let (sender, jobs) = mpsc::channel(JOBS_WAITING_MAX);
        let queues = Queues::new(before_first_token(shard), Arc::default());
        let queues = Arc::new(Mutex::new(queues));
        let shared = Arc::new(Shared::new(
            directory,
            (options, shard),
            Arc::clone(&database),
            clock,
            Arc::clone(&queues),
            ballast,
            sender.downgrade(),
        ));
        shared.rebuild(&committed);
        let reading = schema::connect(directory, Purpose::Load).map_err(database_error)?;
        shared.fill(&reading).map_err(database_error)?;
        (shared.count_log_pages(&mut connection)).map_err(database_error)?;
        let writer = Writer::new(&shared, connection, committed, log, mark, jobs);
        let threads = start(&shared, writer, reading, is_whole)?;
        let live = Live {
            queues: Arc::downgrade(&queues),
            clock: Arc::clone(&shared.clock),
            epoch: Arc::clone(&shared.epoch),
            _database: database,
        };
        let reader = DiskReader::inside(directory, id, options.max_size_bytes, Some(live));
        Ok(Arc::new(Self {
            id,
            shared,
            reader,
            warnings,
            jobs: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
            lock: Mutex::new(Some(lock)),
            numbering: tokio::sync::Mutex::default(),
        }))
    }
}

impl Shared {
    /// What the parts of a store share, before anything has been loaded.
    fn new(
        directory: &Path,
        (options, shard): (DiskOptions, Option<ShardNumber>),
        database: Arc<DatabaseFile>,
        clock: Arc<JournalClock>,
        queues: Arc<Mutex<Queues>>,
        ballast: Ballast,
        jobs: mpsc::WeakSender<Box<dyn Job>>,
    ) -> Self {
        Shared {
            directory: directory.to_owned(),
            database,
            options,
            shard,
            clock,
            queues,
            wake: Notify::new(),
            committed: RwLock::default(),
            elsewhere: Mutex::default(),
            exclusive: Mutex::new(()),
            gate: Mutex::new(()),
            trouble: Mutex::new(None),
            ballast: Mutex::new(ballast),
            disk_full: Mutex::new(None),
            sweep: Mutex::new(None),
            epoch: Arc::new(AtomicU64::new(0)),
            loader: LoaderHandle::default(),
            upkeep: UpkeepHandle::default(),
            look: LookHandle::default(),
            log_pages: Arc::default(),
            jobs,
            #[cfg(test)]
            fault: super::tests::Fault::default(),
        }
    }
}

/// Begins another life of the store: what its mark tells of lost commits is counted, and ids go on
/// where nobody has any.
fn begin(
    directory: &Path,
    connection: &Connection,
    mark: Option<&mut Mark>,
    committed: &mut CommittedState,
    warnings: &mut Vec<String>,
    (now, shard): (Timestamp, Option<ShardNumber>),
) -> Result<JournalId, OpenError> {
    committed.number(shard);
    let is_alone = mark.is_some();
    if let Some(warning) = mark.and_then(|mark| hold_against_mark(mark, committed)) {
        warnings.push(warning);
        if let Err(error) = schema::write_ledger(connection, &committed.ledger) {
            tracing::warn!(%error, "counting lost commits");
        }
    }
    let id =
        schema::journal_id(connection).map_err(|error| OpenError::database(directory, &error))?;
    let id = id.map_err(|damage| OpenError::damaged(directory, &damage))?;
    let file = schema::file(directory);
    let skip = is_alone && (!warnings.is_empty() || !committed.epochs.is_of(file));
    committed.begin_epoch(now, skip, file);
    for warning in warnings {
        tracing::error!("{warning}");
    }
    Ok(id)
}

/// Has a store follow a log: that makes its commits durable. One that was not sound is no copy of
/// the log any more.
fn follow_log(
    directory: &Path,
    connection: &Connection,
    is_in_log: bool,
    warnings: &[String],
) -> Result<(), OpenError> {
    if is_in_log && !warnings.is_empty() {
        replication::want_anew(directory);
        return Err(OpenError::damaged(directory, &warnings.join("; ")));
    }
    connection
        .execute_batch("PRAGMA synchronous = NORMAL;")
        .map_err(|error| OpenError::database(directory, &error))
}

/// Starts the store's threads.
fn start(
    shared: &Arc<Shared>,
    writer: Writer,
    reading: Connection,
    is_whole: bool,
) -> Result<Vec<JoinHandle<()>>, OpenError> {
    let loader = Loader {
        shared: Arc::clone(shared),
        connection: Some((shared.epoch(), reading)),
    };
    let upkeep = Upkeep::new(Arc::clone(shared));
    let mut threads = vec![
        spawn(THREAD, &shared.directory, move || writer.work())?,
        spawn("journal-loader", &shared.directory, move || loader.work())?,
        spawn("journal-upkeep", &shared.directory, move || upkeep.work())?,
    ];
    shared.look.set_done(is_whole);
    if !is_whole {
        let looked = Arc::clone(shared);
        let look = move || look::work(&looked);
        threads.push(spawn("journal-look", &shared.directory, look)?);
    }
    Ok(threads)
}

/// Makes the directory where it is not there, takes it for this process, and keeps others from
/// reading in it.
pub(super) fn prepare(directory: &Path) -> Result<Lock, OpenError> {
    store::create_directory(directory)
        .map_err(|error| OpenError::files("creating", directory, &error))?;
    let lock = Lock::take(directory)?;
    let keep_private = || {
        store::keep_private(directory)?;
        let database = schema::database(directory);
        // One that is there is not opened: closing it would drop the locks of whoever in this
        // process looks into it.
        if database.exists() {
            Ok(())
        } else {
            store::create_file(&database).map(drop)
        }
    };
    keep_private().map_err(|error| OpenError::files("opening", directory, &error))?;
    Ok(lock)
}

/// Opens a store whose disk may fail for a moment, or be full: then the ballast gives up some of
/// its room.
fn open_patiently(
    directory: &Path,
    database: &DatabaseFile,
    clock: &dyn Clock,
    ballast: &mut Ballast,
) -> Result<Checked, OpenError> {
    let (mut pauses, mut draws) = (OPEN_PAUSES.into_iter(), 0..DRAWS_TO_OPEN);
    loop {
        match check::open(directory, database, clock, Occasion::Start) {
            Err(OpenError::Unreadable { path, what }) => {
                if draws.next().is_some() && ballast.is_disk_full() {
                    if !ballast.draw_for_opening() {
                        return Err(OpenError::DiskFull { path });
                    }
                    tracing::warn!(
                        what,
                        "the disk is full; the store is opened with room of its ballast"
                    );
                    continue;
                }
                let Some(pause) = pauses.next() else {
                    return Err(OpenError::Unreadable { path, what });
                };
                tracing::error!(what, "the store cannot be opened now; it is tried again");
                std::thread::sleep(pause);
            }
            other => return other,
        }
    }
}

/// Finds out by the mark whether commits have been lost, and counts them.
pub(super) fn hold_against_mark(mark: &mut Mark, committed: &mut CommittedState) -> Option<String> {
    let commit = committed.ledger.commit;
    match mark.read() {
        Ok(Some(Ok(marked))) if marked > commit => {
            // Commit numbers go on behind the mark, so that the store is behind it once and not for
            // ever.
            (committed.ledger.commit, committed.ledger.lost_commits) =
                (marked, committed.ledger.lost_commits + (marked - commit));
            Some(format!(
                "the store is behind its mark: commits {} to {marked} are lost; its write-ahead \
                 log was damaged, cut or replaced",
                commit + 1
            ))
        }
        Ok(Some(Ok(_))) => None,
        // Nothing has been committed yet: an earlier start has come no further than this.
        Ok(None) if commit == 0 => None,
        Ok(None | Some(Err(()))) => Some(
            "the mark of the last commit cannot be read: lost commits would not be noticed"
                .to_owned(),
        ),
        Err(error) => Some(format!("reading the mark of the last commit: {error}")),
    }
}

/// How long to wait before a store is tried again that could not be opened.
const OPEN_PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
];

/// How often the ballast is drawn on for that; more than once where others take what becomes free.
const DRAWS_TO_OPEN: usize = 16;

fn spawn(
    name: &str,
    directory: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    thread.map_err(|error| OpenError::io("starting the threads of", directory, &error))
}
