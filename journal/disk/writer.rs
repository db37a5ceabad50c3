//! The one thread that writes: it takes whatever jobs wait, does them in one transaction, commits,
//! and then answers them all.

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Backoff, Timestamp};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{mpsc, oneshot};

use super::ballast::Share;
use super::capacity::Capacity;
use super::check::{self, Checked, Occasion};
use super::committed::CommittedState;
use super::full::share_of;
use super::reader::io;
use super::replication::{self, CommitLog, Refused};
use super::schema;
use super::store::Mark;
use super::transaction::{Changes, Failure, Transaction};
use super::trouble::is_corrupt;
use super::{OpenError, Shared};
use crate::JournalError;
use crate::key::keys_max;

/// The name of the thread.
pub(super) const THREAD: &str = "journal-writer";

/// Jobs that may wait; whoever brings one more waits with it in hand.
pub(super) const JOBS_WAITING_MAX: usize = 1024;

/// Jobs in one transaction: enough for one sync to serve all who wait, and no more than the first
/// of them may wait for.
const JOBS_PER_COMMIT: usize = 256;

/// Bytes brought along by the jobs of one transaction, about.
const BYTES_PER_COMMIT: u64 = 8 * 1024 * 1024;

/// Those of one that goes to a log, so that it is one record as a rule.
const BYTES_PER_RECORD: u64 = 768 * 1024;

/// Less room than this for what is new, and no history is written: it is the first thing that is
/// done without.
const HISTORY_ROOM_LEAST: u64 = 64 * 1024;

/// How long to wait before a store that failed is opened anew: from, to.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Something to be done in a transaction, and who waits for its outcome.
pub(super) trait Job: Send {
    /// Does it. It may be called again where the first transaction was rolled back. What it refuses
    /// is kept for the answer.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), rusqlite::Error>;

    /// Of which room it may use how much.
    fn share(&self) -> Share;

    /// Roughly what it brings along.
    fn size_bytes(&self) -> u64;

    /// Tells what came of it.
    fn answer(self: Box<Self>, committed: Result<(), JournalError>);
}

/// A job made of a closure.
pub(super) struct Ask<T, F> {
    work: F,
    share: Share,
    size_bytes: u64,
    value: Option<Result<T, JournalError>>,
    reply: oneshot::Sender<Result<T, JournalError>>,
}

/// Where the answer of the writer to an [`Ask`] comes.
type Answer<T> = oneshot::Receiver<Result<T, JournalError>>;

impl<T, F> Ask<T, F> {
    /// A job of the writer, and where its answer comes.
    pub(super) fn new(share: Share, size_bytes: u64, work: F) -> (Box<Self>, Answer<T>) {
        let (reply, answer) = oneshot::channel();
        let ask = Self {
            work,
            share,
            size_bytes,
            value: None,
            reply,
        };
        (Box::new(ask), answer)
    }
}

impl<T, F> Job for Ask<T, F>
where
    T: Send,
    F: FnMut(&mut Transaction<'_>) -> Result<T, Failure> + Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), rusqlite::Error> {
        self.value = Some(match (self.work)(transaction) {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Database(error)) => return Err(error),
        });
        Ok(())
    }

    fn share(&self) -> Share {
        self.share
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn answer(self: Box<Self>, committed: Result<(), JournalError>) {
        let value = self.value.unwrap_or_else(|| {
            Err(JournalError::Io(
                "the journal did not come to it".to_owned(),
            ))
        });
        // Whoever has gone away meanwhile does not hear it; it has happened all the same.
        let _ = self.reply.send(committed.and(value));
    }
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The database would have no room for what is in the log.
    Growth,
    Store(rusqlite::Error),
    /// The log of many machines has not taken it.
    Log(Refused),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => Self::Store(error),
            Failure::Refused(_) => Self::Store(rusqlite::Error::InvalidQuery),
        }
    }
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Option<Connection>,
    pub(super) mark: Option<Mark>,
    pub(super) jobs: mpsc::Receiver<Box<dyn Job>>,
    /// The size past which the write-ahead log is emptied by the writer itself; 0 where nothing has
    /// kept it from that.
    pub(super) log_bytes: u64,
    /// None where it is to be looked at.
    pub(super) capacity: Option<Capacity>,
    /// What is being done has found no room on the disk before.
    pub(super) is_disk_full: bool,
    /// Where commits become durable before they are made here, if not here.
    log: Option<Box<dyn CommitLog>>,
    /// It takes no more commits.
    is_over: bool,
}

impl Writer {
    /// The writer of a store that has just been opened.
    pub(super) fn new(
        shared: &Arc<Shared>,
        connection: Connection,
        committed: CommittedState,
        log: Option<Box<dyn CommitLog>>,
        mark: Option<Mark>,
        jobs: mpsc::Receiver<Box<dyn Job>>,
    ) -> Self {
        *shared.committed.write() = committed;
        Self {
            shared: Arc::clone(shared),
            connection: Some(connection),
            mark,
            jobs,
            log_bytes: 0,
            capacity: None,
            is_disk_full: false,
            log,
            is_over: false,
        }
    }

    /// Works until nobody can bring a job any more, and then closes the database.
    pub(super) fn work(mut self) {
        let mut bytes_max = BYTES_PER_COMMIT.min(self.shared.ballast.lock().commit_bytes_max());
        if self.log.is_some() {
            bytes_max = bytes_max.min(BYTES_PER_RECORD);
        }
        while let Some(first) = self.jobs.blocking_recv() {
            let mut bytes = first.size_bytes();
            let mut group = vec![first];
            while group.len() < JOBS_PER_COMMIT
                && bytes < bytes_max
                && let Ok(job) = self.jobs.try_recv()
            {
                bytes += job.size_bytes();
                group.push(job);
            }
            self.serve(group);
        }
        self.close();
    }

    fn close(mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // On a full disk the log stays: what it gave back would be missing at the next start.
        if self.shared.ballast.lock().is_disk_tight()
            && let Err(error) =
                connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        {
            tracing::warn!(%error, "keeping the write-ahead log on a full disk");
        }
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "closing the store");
        }
    }

    fn serve(&mut self, mut group: Vec<Box<dyn Job>>) {
        if self.is_over {
            let over = self.shared.trouble.lock().clone();
            return answer(group, &Err(over.unwrap_or(JournalError::Closed)));
        }
        if !self.shared.ballast.lock().is_whole() {
            group = self.refuse_new(group);
            if group.is_empty() {
                return;
            }
        }
        match self.commit(&mut group) {
            Ok(()) => {
                if group.iter().any(|job| job.share() == Share::New)
                    && self.shared.disk_full.lock().take().is_some()
                {
                    tracing::info!("there is room on the disk again");
                }
                answer(group, &Ok(()));
                self.keep_log_small();
            }
            Err(Failed::Store(error)) if !self.shared.is_full(&error) => self.fail(group, error),
            Err(Failed::Log(refused)) => self.refuse(group, &refused),
            Err(Failed::Growth | Failed::Store(_)) => {
                self.is_disk_full = true;
                self.serve_on_full_disk(group);
                self.is_disk_full = false;
            }
        }
    }

    /// Tells a transaction what the time is, and what it may do.
    fn prepare(&self, transaction: &mut Transaction<'_>, room: u64) {
        let shared = &self.shared;
        transaction.note_time(shared.clock.offset());
        if self.is_disk_full || room < HISTORY_ROOM_LEAST || !shared.ballast.lock().is_whole() {
            transaction.leave_history();
        }
        transaction.is_of(shared.shard);
        transaction.limit_keys(keys_max(shared.options.max_size_bytes));
        let looked_at = shared.sweep.lock().as_ref().map_or(0, |sweep| sweep.until);
        transaction.retain(shared.options.retention, looked_at);
    }

    /// One transaction; where it fails nothing has changed in memory.
    pub(super) fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let shared = &self.shared;
        let connection = self
            .connection
            .as_ref()
            .ok_or(rusqlite::Error::InvalidQuery)?;
        let _exclusive = shared.exclusive.lock();
        let now = shared.clock.now();
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let bytes = group.iter().map(|job| job.size_bytes()).sum();
        let capacity = match self.capacity.take().filter(|known| known.holds(bytes)) {
            Some(capacity) => capacity,
            None => shared.capacity(connection)?,
        };
        let room = capacity.left();
        shared.count_elsewhere();
        let committed = shared.committed.read();
        let mut transaction = Transaction::new(connection, &committed, &shared.queues, now, room);
        self.prepare(&mut transaction, room);
        if self.log.is_some() {
            transaction.note_rows();
        }
        let done = group
            .iter_mut()
            .try_for_each(|job| job.run(&mut transaction));
        let finished = done
            .map_err(Failure::Database)
            .and_then(|()| transaction.finish());
        let share = share_of(group);
        let finished = finished.map_err(Failed::from).and_then(|()| {
            if shared.may_grow(connection, share)? {
                Ok(())
            } else {
                Err(Failed::Growth)
            }
        });
        let finished = finished
            .and_then(|()| append_to_log(self.log.as_deref_mut(), connection, &transaction));
        let (is_appended, is_copy) = (finished.is_ok(), matches!(finished, Ok(true)));
        // Held until memory follows: a load that begins in between would read what the queues do
        // not know of.
        let gate = shared.gate.lock();
        #[cfg(test)]
        let finished = finished.and_then(|_| Ok(shared.fault.strike()?));
        let done = finished.and_then(|_| Ok(connection.prepare_cached("COMMIT")?.execute([])?));
        if let Err(failed) = done {
            let _ = connection.execute_batch("ROLLBACK");
            transaction.abandon();
            return Err(match (&mut self.log, failed) {
                (Some(log), Failed::Store(error)) if is_appended => {
                    Failed::Log(end(&mut **log, &error))
                }
                (_, failed) => failed,
            });
        }
        if is_copy {
            replication::note_copy(&shared.directory);
        }
        self.capacity = Some(capacity.with_left(transaction.room()));
        let changes = transaction.into_changes();
        let number = changes.ledger.commit;
        drop(committed);
        let (should_wake, low) = follow(shared, &mut shared.committed.write(), changes, now);
        drop(gate);
        if let Some(mark) = &mut self.mark
            && let Err(error) = mark.write(number)
        {
            // The commit stands; what is missing is the means to notice that it was lost.
            tracing::warn!(%error, "writing the mark of the last commit");
        }
        wake_others(shared, should_wake, low);
        Ok(())
    }

    /// The log of many machines has not taken a commit.
    pub(super) fn refuse(&mut self, group: Vec<Box<dyn Job>>, refused: &Refused) {
        let why = match refused {
            Refused::Ended(why) => {
                tracing::error!(why, "the store takes no more commits");
                self.is_over = true;
                format!("the store takes no more commits here: {why}")
            }
            Refused::NotAppended(why) | Refused::Unknown(why) => {
                tracing::warn!(why, "the cluster's log has not taken a commit");
                format!("the cluster's log has not taken it, and it is not stored: {why}")
            }
        };
        let trouble = JournalError::Io(why);
        if self.is_over {
            *self.shared.trouble.lock() = Some(trouble.clone());
        }
        answer(group, &Err(trouble));
    }

    /// The store failed: nobody is told that anything was stored until it has been opened anew.
    /// Where its commits are in a log, it is not mended but over: it will be made anew from that.
    pub(super) fn fail(&mut self, group: Vec<Box<dyn Job>>, error: rusqlite::Error) {
        if let Some(log) = &mut self.log {
            if is_corrupt(&error) {
                replication::want_anew(&self.shared.directory);
            }
            let refused = end(&mut **log, &error);
            return self.refuse(group, &refused);
        }
        let (trouble, occasion) = (
            io(&error),
            if is_corrupt(&error) {
                Occasion::Damage
            } else {
                Occasion::Failure
            },
        );
        tracing::error!(%trouble, "the store failed; it is being opened anew");
        *self.shared.trouble.lock() = Some(trouble.clone());
        answer(group, &Err(trouble));
        (self.connection, self.capacity) = (None, None);
        let mut pause = BACKOFF.initial;
        loop {
            let until = std::time::Instant::now() + pause;
            while std::time::Instant::now() < until {
                let trouble = self
                    .shared
                    .trouble
                    .lock()
                    .clone()
                    .unwrap_or(JournalError::Closed);
                while let Ok(job) = self.jobs.try_recv() {
                    job.answer(Err(trouble.clone()));
                }
                if self.jobs.is_closed() {
                    return;
                }
                std::thread::sleep(BACKOFF.initial.min(pause) / 4);
            }
            match self.reopen(occasion) {
                Ok(()) => {
                    tracing::info!("the store is open again");
                    *self.shared.trouble.lock() = None;
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "opening the store anew");
                    *self.shared.trouble.lock() = Some(JournalError::Io(error.to_string()));
                }
            }
            pause = BACKOFF.longer(pause);
        }
    }

    fn reopen(&mut self, occasion: Occasion) -> Result<(), OpenError> {
        let opened = check::open(
            &self.shared.directory,
            &self.shared.database,
            &*self.shared.clock,
            occasion,
        );
        if opened.is_err() && self.shared.ballast.lock().is_disk_full() {
            self.shared.note_full_disk();
            self.shared.ballast.lock().give_up_for_opening();
        }
        let Checked {
            mut connection,
            mut committed,
            findings,
            is_whole,
        } = opened?;
        self.shared.look.set_done(is_whole);
        for finding in findings {
            tracing::error!("{finding}");
        }
        let mut before = self.shared.committed.write();
        committed.set_quotas(std::mem::take(&mut before.quotas).take());
        let (ledger, known) = (&mut committed.ledger, before.ledger);
        committed.dropped = std::mem::take(&mut before.dropped);
        // Where commits are lost, the numbers that they gave out are not given out again.
        ledger.commit = ledger.commit.max(known.commit);
        (ledger.last_sequence, ledger.last_run) = (
            ledger.last_sequence.max(known.last_sequence),
            ledger.last_run.max(known.last_run),
        );
        ledger.last_subscription = ledger.last_subscription.max(known.last_subscription);
        committed.begin_epoch(
            self.shared.clock.now(),
            false,
            schema::file(&self.shared.directory),
        );
        self.shared
            .count_log_pages(&mut connection)
            .map_err(|error| OpenError::database(&self.shared.directory, &error))?;
        self.shared.rebuild(&committed);
        *before = committed;
        self.connection = Some(connection);
        Ok(())
    }
}

/// The store could not do what the log may have.
fn end(log: &mut dyn CommitLog, error: &rusqlite::Error) -> Refused {
    let why = format!("the store failed: {error}");
    log.failed(&why);
    Refused::Ended(why)
}

/// Has memory follow a commit. Returns whether something fell due, and whether a window runs low.
fn follow(
    shared: &Shared,
    committed: &mut CommittedState,
    changes: Changes,
    now: Timestamp,
) -> (bool, bool) {
    committed.apply(
        changes.ledger,
        changes.walk,
        changes.subscriptions,
        changes.replays,
    );
    if let Some(quotas) = changes.quotas {
        committed.set_quotas(quotas);
    }
    if let Some(sweep) = shared.sweep.lock().as_mut() {
        sweep.pinned.extend(changes.pinned);
        sweep.freed.extend(changes.freed);
    }
    let mut queues = shared.queues.lock();
    queues.apply(changes.effects, now);
    (queues.should_wake(), queues.has_low())
}

/// Has the log take what a transaction has changed, and keeps the mark for it with that. Returns
/// whether the log has every row of the store with it.
fn append_to_log(
    log: Option<&mut dyn CommitLog>,
    connection: &Connection,
    transaction: &Transaction<'_>,
) -> Result<bool, Failed> {
    let (Some(log), Some(commit)) = (log, transaction.commit()?) else {
        return Ok(false);
    };
    let mut appended = log.append(&commit);
    while let Err(Refused::Unknown(why)) = appended {
        tracing::debug!(why, "it is not known whether the log has a commit");
        appended = log.resume();
    }
    let mark = appended.map_err(Failed::Log)?;
    let written = replication::write_log_mark(connection, &mark);
    written.map_err(|error| Failed::Log(end(log, &error)))?;
    Ok(commit.ends_carry)
}

pub(super) fn answer(group: Vec<Box<dyn Job>>, committed: &Result<(), JournalError>) {
    for job in group {
        job.answer(committed.clone());
    }
}

/// Wakes whoever something follows for from a commit: who leases, where something fell due; who
/// loads, where a window runs low; and who looks after the log.
fn wake_others(shared: &Shared, should_wake: bool, low: bool) {
    if should_wake {
        shared.wake.notify_one();
    }
    if low {
        shared.loader.wake();
    }
    shared.upkeep.written();
}
