//! The embedded journal: SQLite in a directory of its own.
//!
//! ```text
//! callers ──jobs──▶ writer thread ── one transaction, one sync ──▶ journal.db, journal.db-wal
//!    ▲                   │ after the commit
//!    └── lease, due ◀── queues (memory: the front of each) ◀── loader thread (reads what memory lacks)
//!                        upkeep thread: checkpoints, retention, giving space back
//! ```
//!
//! One thread writes and commits whatever waits. Memory follows each commit and never runs ahead of
//! it. Leases live in memory alone. Files: `journal.db` with its `-wal` and `-shm`, `mark` (number
//! of the last commit), `ballast` (room for a full disk), `lock`, and in `damaged-…` what was found
//! damaged.

mod attachment;
mod ballast;
mod capacity;
mod check;
mod epochs;
mod full;
mod loader;
mod look;
mod position;
mod queues;
mod raw;
mod reader;
mod record;
mod row;
mod salvage;
mod schema;
mod settling;
mod store;
mod transaction;
mod upkeep;
mod writer;

pub use reader::DiskReader;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, JournalId, Name, PositionRow, Sequence, SubscriptionNumber,
};
use rusqlite::Connection;
use tokio::sync::{Notify, mpsc, oneshot};

use self::ballast::{Ballast, Share};
use self::check::{Checked, Occasion};
use self::loader::{LeaseCall, Loader, LoaderDesk};
use self::look::LookDesk;
use self::queues::{Found, Leasing, Moment, Need, Queues};
use self::raw::DatabaseFile;
use self::reader::Live;
use self::schema::Purpose;
use self::store::{Lock, Mark};
use self::transaction::{Books, Failure, Page, ROWS_PER_PAGE, Transaction};
use self::upkeep::{Upkeep, UpkeepDesk};
use self::writer::{Ask, JOBS_WAITING_MAX, Job, Writer};
use super::steady::JournalClock;
use super::{
    Activity, Append, Appended, DeadSelection, Grant, Journal, JournalError, Leases, Reader,
    SettleAnswer, Settlement, Subscription,
};

/// How a store is kept.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// How long settled and unmatched events are kept where there is room.
    pub retention: Duration,
    /// What the store may take on disk, write-ahead log included. Below 2 MiB little fits beside
    /// what is kept free for settling.
    pub max_size_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(24 * 60 * 60),
            max_size_bytes: 20 * 1024 * 1024 * 1024,
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store in {path:?} is in use by process {process}; stop that one, or give this one a store.path of its own"
    )]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// The other process's id.
        process: String,
    },
    /// A later version of this software has written it.
    #[error(
        "the store in {path:?} has format {found}, and this version understands formats up to {understood}; run a newer pointsman"
    )]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The format found.
        found: i32,
        /// The newest format understood.
        understood: i32,
    },
    /// There is no store to look into.
    #[error("there is no store in {0:?}; check store.path, or start the bus once")]
    Missing(PathBuf),
    /// What a store is made of makes no sense, and could not be saved.
    #[error(
        "the store in {path:?} is damaged: {what}; keep a copy of the directory, and restore one from before"
    )]
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What the database said.
        what: String,
    },
    /// Reading or writing failed, which says nothing of what the files hold.
    #[error(
        "the store in {path:?} cannot be used now: {what}; nothing of it was given up; mend the disk (see dmesg), then start again"
    )]
    Unreadable {
        /// The store's directory.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
    /// There is no room on the disk.
    #[error(
        "the disk that holds the store in {path:?} is full, and the store cannot be opened without some room on it; make some, then start again: nothing of the store is lost"
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
    fn damaged(path: &Path, what: &dyn fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }

    fn database(path: &Path, error: &rusqlite::Error) -> Self {
        if check::is_corrupt(error) {
            Self::damaged(path, error)
        } else {
            Self::unreadable(path, error)
        }
    }

    fn unreadable(path: &Path, what: &dyn fmt::Display) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }

    fn files(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        if ballast::is_no_room(error) {
            Self::DiskFull {
                path: path.to_owned(),
            }
        } else {
            Self::io(doing, path, error)
        }
    }

    fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            what: error.to_string(),
        }
    }
}

/// What the journal's threads share.
struct Shared {
    directory: PathBuf,
    database: Arc<DatabaseFile>,
    options: DiskOptions,
    clock: Arc<JournalClock>,
    queues: Arc<Mutex<Queues>>,
    wake: Notify,
    /// Held by the writer while it works on the database, and by whoever needs it to itself.
    turn: Mutex<()>,
    /// Held by the writer from its commit until memory has followed, and by a load while its
    /// snapshot begins.
    gate: Mutex<()>,
    trouble: Mutex<Option<JournalError>>,
    /// Room to settle in on a full disk.
    ballast: Mutex<Ballast>,
    /// When an append last failed for want of room on the disk.
    disk_full: Mutex<Option<std::time::Instant>>,
    /// Events that got a new reference while retention looks for those that have none.
    sweep: Mutex<Option<HashSet<u64>>>,
    /// Counts the openings: a connection from an earlier one may be to files that have been
    /// replaced.
    epoch: Arc<AtomicU64>,
    loader: LoaderDesk,
    upkeep: UpkeepDesk,
    look: LookDesk,
    /// Ends with the journal; the journal's own threads hold nothing that would keep it.
    jobs: mpsc::WeakSender<Box<dyn Job>>,
    #[cfg(test)]
    fault: tests::Fault,
}

/// The journal on disk. Dropping it closes it too, and waits for its threads; [`Journal::close`]
/// does that without blocking a runtime.
pub struct DiskJournal {
    id: JournalId,
    shared: Arc<Shared>,
    reader: Arc<DiskReader>,
    warnings: Vec<String>,
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
}

impl fmt::Debug for DiskJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskJournal")
            .field("directory", &self.shared.directory)
            .finish_non_exhaustive()
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
        let lock = prepare(directory)?;
        let mut ballast = Ballast::of(directory, reserve_bytes(options.max_size_bytes) / 2);
        let database = Arc::new(DatabaseFile::default());
        let mut mark = Mark::open(directory)
            .map_err(|error| OpenError::files("opening", &directory.join("mark"), &error))?;
        let Checked {
            connection,
            mut books,
            findings: mut warnings,
            is_whole,
        } = open_patiently(directory, &database, &*clock, &mut ballast)?;
        if let Some(warning) = hold_against_mark(&mut mark, &mut books) {
            warnings.push(warning);
            if let Err(error) = schema::write_ledger(&connection, &books.ledger) {
                tracing::warn!(%error, "counting lost commits");
            }
        }
        let id = schema::journal_id(&connection)
            .map_err(|error| OpenError::database(directory, &error))?;
        let id = id.map_err(|damage| OpenError::damaged(directory, &damage))?;
        let file = schema::file(directory);
        let skip = !warnings.is_empty() || !books.epochs.is_of(file);
        books.begin_epoch(clock.now(), skip, file);
        let clock = Arc::new(JournalClock::resume(
            clock,
            books.ledger.clock_offset,
            books.ledger.time,
        ));
        for warning in &warnings {
            tracing::error!("{warning}");
        }
        ballast.refill();

        let (sender, jobs) = mpsc::channel(JOBS_WAITING_MAX);
        let queues = Arc::new(Mutex::new(Queues::new(0, Arc::default())));
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            database: Arc::clone(&database),
            options,
            clock,
            queues: Arc::clone(&queues),
            wake: Notify::new(),
            turn: Mutex::new(()),
            gate: Mutex::new(()),
            trouble: Mutex::new(None),
            ballast: Mutex::new(ballast),
            disk_full: Mutex::new(None),
            sweep: Mutex::new(None),
            epoch: Arc::new(AtomicU64::new(0)),
            loader: LoaderDesk::default(),
            upkeep: UpkeepDesk::default(),
            look: LookDesk::default(),
            jobs: sender.downgrade(),
            #[cfg(test)]
            fault: tests::Fault::default(),
        });
        shared.rebuild(&books);
        let reading = schema::connect(directory, Purpose::Load)
            .map_err(|error| OpenError::database(directory, &error))?;
        shared
            .fill(&reading)
            .map_err(|error| OpenError::database(directory, &error))?;
        let writer = Writer {
            shared: Arc::clone(&shared),
            connection: Some(connection),
            books,
            mark: Some(mark),
            jobs,
            log_bytes: 0,
            capacity: None,
        };
        let loader = Loader {
            shared: Arc::clone(&shared),
            connection: Some((shared.epoch(), reading)),
        };
        let upkeep = Upkeep::new(Arc::clone(&shared));
        let mut threads = vec![
            spawn(WRITER, directory, move || writer.work())?,
            spawn("journal-loader", directory, move || loader.work())?,
            spawn("journal-upkeep", directory, move || upkeep.work())?,
        ];
        shared.look.set_done(is_whole);
        if !is_whole {
            let shared = Arc::clone(&shared);
            threads.push(spawn("journal-look", directory, move || {
                look::work(&shared)
            })?);
        }
        let (clock, epoch) = (Arc::clone(&shared.clock), Arc::clone(&shared.epoch));
        let live = Live {
            queues: Arc::downgrade(&queues),
            clock,
            epoch,
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
        }))
    }

    /// What was found wrong with the store when it was opened: for a person, once.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Does now what the journal would do by itself in time: checkpoint, retention, giving space
    /// back.
    pub async fn upkeep(&self) {
        let _ = self.shared.upkeep.round().await;
    }

    /// Hands a job to the writer and waits for its answer. Once it is handed over it happens,
    /// whoever waits.
    async fn ask<T: Send + 'static>(
        &self,
        share: Share,
        size_bytes: u64,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, JournalError> {
        let Some(jobs) = self.jobs.lock().clone() else {
            return Err(JournalError::Closed);
        };
        let (tell, told) = oneshot::channel();
        let job = Box::new(Ask {
            work,
            share,
            size_bytes,
            value: None,
            tell,
        });
        jobs.send(job).await.map_err(|_| JournalError::Closed)?;
        drop(jobs);
        told.await.map_err(|_| JournalError::Closed)?
    }

    /// Takes everything pending out of a subscription, and gives it to another one where there is
    /// one.
    async fn empty(&self, from: u32, to: Option<u32>) -> Result<u64, JournalError> {
        let share = if to.is_some() {
            Share::Known
        } else {
            Share::Freeing
        };
        let now = Moment::now(&*self.shared.clock);
        let until = self
            .ask(share, 0, move |transaction| {
                transaction.begin_emptying(from, to, now)
            })
            .await?;
        self.in_pages(share, move |transaction, after, rows| {
            transaction.empty(from, to, until, after, rows)
        })
        .await
    }

    /// Does an operation on many rows, one page of them after the other. Where the disk has no room
    /// for a page a smaller one is tried, down to a single row. Tells how many it was done to.
    async fn in_pages<K: Copy + Send + 'static>(
        &self,
        share: Share,
        work: impl Fn(&mut Transaction<'_>, Option<K>, usize) -> Result<Page<K>, Failure>
        + Clone
        + Send
        + 'static,
    ) -> Result<u64, JournalError> {
        let (mut count, mut after, mut rows) = (0, None, ROWS_PER_PAGE);
        loop {
            let work = work.clone();
            let done = self.ask(share, 0, move |transaction| work(transaction, after, rows));
            match done.await {
                Ok(page) => {
                    (count, after) = (count + page.count, page.next);
                    if after.is_none() {
                        return Ok(count);
                    }
                }
                Err(JournalError::DiskFull) if rows > 1 => rows /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Why nothing can be read or written; a full disk only keeps what is new out.
    fn broken(&self) -> Option<JournalError> {
        if self.jobs.lock().is_none() {
            return Some(JournalError::Closed);
        }
        self.shared.trouble.lock().clone()
    }

    /// Has the store looked through for a record that was read and is damaged, and set it aside.
    fn damaged(&self, what: &str, damage: &record::Damage) -> JournalError {
        self.shared
            .suspect(check::corrupt(format!("{what}: {damage}")));
        JournalError::Damaged(what.to_owned())
    }

    fn check_open(&self) -> Result<(), JournalError> {
        self.broken().map_or(Ok(()), Err)
    }

    /// Takes no more calls; what has been handed over still happens. What is returned waits for the
    /// threads.
    fn stop(&self) -> impl FnOnce() + Send + 'static {
        let jobs = self.jobs.lock().take();
        self.shared.loader.close();
        self.shared.upkeep.close();
        self.shared.look.stop();
        self.shared.wake.notify_one();
        self.reader.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        let lock = self.lock.lock().take();
        move || {
            let join = |thread: JoinHandle<()>| drop(thread.join());
            let (writer, others): (Vec<_>, Vec<_>) = threads
                .into_iter()
                .partition(|thread| thread.thread().name() == Some(WRITER));
            // The writer's connection is the last to be closed, so that it moves the write-ahead
            // log into the database.
            others.into_iter().for_each(join);
            drop(jobs);
            writer.into_iter().for_each(join);
            drop(lock);
        }
    }
}

impl Drop for DiskJournal {
    fn drop(&mut self) {
        self.stop()();
    }
}

/// Makes the directory where it is not there, takes it for this process, and keeps others from
/// reading in it.
fn prepare(directory: &Path) -> Result<Lock, OpenError> {
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
fn hold_against_mark(mark: &mut Mark, books: &mut Books) -> Option<String> {
    let commit = books.ledger.commit;
    match mark.read() {
        Ok(Some(Ok(marked))) if marked > commit => {
            // Commit numbers go on behind the mark, so that the store is behind it once and not for
            // ever.
            (books.ledger.commit, books.ledger.lost_commits) =
                (marked, books.ledger.lost_commits + (marked - commit));
            Some(format!(
                "the store is behind its mark: commits {} to {marked} are lost; its write-ahead log was damaged, cut or replaced",
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

/// Room kept for settling: a sixteenth, but enough for the largest transactions of a small store.
/// Half of it is the ballast's.
fn reserve_bytes(bytes_max: u64) -> u64 {
    (bytes_max / 16).clamp(512 * 1024, 256 * 1024 * 1024)
}

/// How long to wait before a store is tried again that could not be opened.
const OPEN_PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
];

/// How often the ballast is drawn on for that; more than once where others take what becomes free.
const DRAWS_TO_OPEN: usize = 16;

/// The name of the writer's thread.
const WRITER: &str = "journal-writer";

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

impl Shared {
    /// How large the write-ahead log may become before it is moved into the database.
    fn log_bytes_max(&self) -> u64 {
        let max = upkeep::LOG_BYTES.min(self.options.max_size_bytes / 8);
        let ballast = self.ballast.lock();
        if ballast.leaves_room_for(max) {
            max
        } else {
            max.min(ballast.log_bytes_max())
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Has the writer look through the store: a page of it could not be read.
    fn suspect(&self, error: rusqlite::Error) {
        if check::is_corrupt(&error) {
            let mut error = Some(error);
            self.hand_over(Share::Known, move |_| {
                error
                    .take()
                    .map_or(Ok(()), |error| Err(Failure::Database(error)))
            });
        }
    }

    /// Makes the queues anew from what is on disk; leases are dropped.
    fn rebuild(&self, books: &Books) {
        let mut queues = self.queues.lock();
        let mut anew = Queues::new(queues.last_token(), Arc::clone(&books.epochs));
        for (number, subscribed) in &books.subscriptions {
            let open = subscribed.attached && subscribed.activity == Activity::Active;
            anew.know(*number, open, subscribed.counts.pending > 0);
        }
        *queues = anew;
        drop(queues);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.loader.wake();
    }

    /// Loads the front of every queue that runs low.
    fn fill(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.queues.lock().turn(Moment::now(&*self.clock));
        loop {
            let Some(subscription) = self.queues.lock().take_low() else {
                return Ok(());
            };
            loader::load(self, connection, subscription)?;
        }
    }

    /// Hands a job to the writer without waiting for it; false where the writer cannot take it.
    fn hand_over(
        &self,
        share: Share,
        work: impl FnMut(&mut Transaction<'_>) -> Result<(), Failure> + Send + 'static,
    ) -> bool {
        let (tell, _) = oneshot::channel();
        let job = Box::new(Ask {
            work,
            share,
            size_bytes: 0,
            value: None,
            tell,
        });
        self.jobs
            .upgrade()
            .is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// Has the writer do a job, from a thread of the journal's own; false where it was not done.
    fn ask_blocking<T: Send + 'static>(
        &self,
        share: Share,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> bool {
        let (tell, told) = oneshot::channel();
        let job = Box::new(Ask {
            work,
            share,
            size_bytes: 0,
            value: None,
            tell,
        });
        let Some(jobs) = self.jobs.upgrade() else {
            return false;
        };
        if jobs.blocking_send(job).is_err() {
            return false;
        }
        drop(jobs);
        matches!(told.blocking_recv(), Ok(Ok(_)))
    }
}

#[async_trait]
impl Journal for DiskJournal {
    fn id(&self) -> JournalId {
        self.id
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock) as Arc<dyn Clock>
    }

    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        let refused = self
            .ask(
                Share::New,
                transaction::size_bytes(&append),
                move |transaction| transaction.append(&append),
            )
            .await;
        if matches!(refused, Err(JournalError::Full(_))) {
            self.shared.upkeep.make_room();
        }
        refused
    }

    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        self.check_open()?;
        let now = Moment::now(&*self.shared.clock);
        let mut leasing = Leasing::new(grants.to_vec(), bytes_max, now);
        let (need, low, wakes) = {
            let mut queues = self.shared.queues.lock();
            (
                leasing.run(&mut queues, &Found::new()),
                queues.has_low(),
                queues.wakes(),
            )
        };
        if wakes {
            self.shared.wake.notify_one();
        }
        if matches!(need, Need::Nothing) && leasing.damaged.is_empty() {
            if low {
                self.shared.loader.wake();
            }
            return Ok(leasing.leases);
        }
        let (tell, told) = oneshot::channel();
        self.shared.loader.call(LeaseCall { leasing, tell });
        told.await.map_err(|_| JournalError::Closed)?
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        self.settle_in_parts(settlements).await
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        loop {
            let quiet_for = {
                let now = Moment::now(&*self.shared.clock);
                let mut queues = self.shared.queues.lock();
                queues.turn(now);
                if let Some(news) = queues.take_news() {
                    return news;
                }
                queues.sleep(now)
            };
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(quiet_for) => {}
            }
        }
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.attach_only(wanted).await
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        self.ask(Share::Freeing, 0, move |transaction| {
            transaction.set_activity(subscription.0, activity)
        })
        .await
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.check_open()?;
        let found = self.reader.cursor(tenant.clone(), source.clone()).await?;
        found.map_err(|damage| self.damaged(&format!("the cursor of source {source}"), &damage))
    }

    async fn positions(
        &self,
        tenant: &Name,
        source: &Name,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<PositionRow>, JournalError> {
        self.check_open()?;
        let after = after.map(<[u8]>::to_vec);
        let (tenant, name) = (tenant.clone(), source.clone());
        let found = self.reader.positions(tenant, name, after, limit).await?;
        found.map_err(|damage| self.damaged(&format!("the position of source {source}"), &damage))
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        let deliveries: Arc<[DeliveryId]> = deliveries.into();
        self.in_pages(Share::Freeing, move |transaction, from, rows| {
            let rest = deliveries.get(from.unwrap_or(0)..).unwrap_or_default();
            let page = rest.get(..rows).unwrap_or(rest);
            Ok(Page {
                count: transaction.cancel(page)?,
                next: (page.len() < rest.len()).then(|| from.unwrap_or(0) + page.len()),
            })
        })
        .await
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        self.empty(subscription.0, None).await
    }

    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.empty(from.0, Some(to.0)).await
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        let (began, selection) = (self.shared.clock.now(), Arc::new(selection.clone()));
        self.in_pages(Share::Known, move |transaction, after, rows| {
            transaction.redrive(&selection, after, began, rows)
        })
        .await
    }

    async fn replay(
        &self,
        subscription: SubscriptionNumber,
        events: std::ops::RangeInclusive<Sequence>,
    ) -> Result<u64, JournalError> {
        let (number, from, to) = (subscription.0, *events.start(), *events.end());
        self.in_pages(Share::New, move |transaction, next, rows| {
            transaction.replay(number, next.unwrap_or(from), to, rows)
        })
        .await
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        let selection = Arc::new(selection.clone());
        self.in_pages(Share::Freeing, move |transaction, after, rows| {
            transaction.purge(&selection, after, rows)
        })
        .await
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.reader) as Arc<dyn Reader>
    }

    fn trouble(&self) -> Option<JournalError> {
        self.broken()
            .or_else(|| self.shared.is_disk_full().then_some(JournalError::DiskFull))
    }

    async fn close(&self) {
        // Nobody is left to hear that a thread has panicked: it has said so on its own.
        let _ = tokio::task::spawn_blocking(self.stop()).await;
    }
}

#[cfg(test)]
mod tests;
