//! What the journal's threads share, and what they do with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use tokio::sync::{Notify, mpsc};

use super::ballast::{Ballast, Share};
use super::committed::CommittedState;
use super::loader::LoaderHandle;
use super::look::LookHandle;
use super::queues::{Moment, Queues};
use super::raw::DatabaseFile;
use super::sweep::Sweep;
use super::transaction::{Failure, Transaction};
use super::trouble::is_corrupt;
use super::upkeep::UpkeepHandle;
use super::writer::{Ask, Job};
use super::{DiskOptions, loader, upkeep};
use crate::steady::JournalClock;
use crate::{Bounded, JournalError, ShardNumber};

/// What the journal's threads share.
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) database: Arc<DatabaseFile>,
    pub(super) options: DiskOptions,
    /// Which of several journals this is.
    pub(super) shard: Option<ShardNumber>,
    pub(super) clock: Arc<JournalClock>,
    pub(super) queues: Arc<Mutex<Queues>>,
    pub(super) wake: Notify,
    /// What the last commit left. The writer alone changes it: whoever else did would wait for as
    /// long as a transaction takes.
    pub(super) committed: RwLock<CommittedState>,
    /// What was said anew of what waits in other shards, until the writer begins to count it.
    pub(super) elsewhere: Mutex<Option<Vec<(Bounded, u64)>>>,
    /// Held by the writer while it works on the database, and by whoever needs it to itself.
    pub(super) exclusive: Mutex<()>,
    /// Held by the writer from its commit until memory has followed, and by a load while its
    /// snapshot begins.
    pub(super) gate: Mutex<()>,
    pub(super) trouble: Mutex<Option<JournalError>>,
    /// Room to settle in on a full disk.
    pub(super) ballast: Mutex<Ballast>,
    /// When an append last failed for want of room on the disk.
    pub(super) disk_full: Mutex<Option<Instant>>,
    /// What is committed while retention looks for events that nothing refers to.
    pub(super) sweep: Mutex<Option<Sweep>>,
    /// Counts the openings: a connection from an earlier one may be to files that have been
    /// replaced.
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) loader: LoaderHandle,
    pub(super) upkeep: UpkeepHandle,
    pub(super) look: LookHandle,
    /// Pages in the write-ahead log after the last commit.
    pub(super) log_pages: Arc<AtomicU64>,
    /// Ends with the journal; the journal's own threads hold nothing that would keep it.
    pub(super) jobs: mpsc::WeakSender<Box<dyn Job>>,
    #[cfg(test)]
    pub(super) fault: super::tests::Fault,
}

impl Shared {
    /// Begins to look at events up to this one: what any transaction does to them that has not been
    /// committed yet is noted until the look ends.
    pub(super) fn begin_sweep(&self, until: u64) {
        // A transaction that has begun does not know of it.
        let _exclusive = self.exclusive.lock();
        *self.sweep.lock() = Some(Sweep {
            until,
            ..Sweep::default()
        });
    }

    /// What has been noted so far.
    pub(super) fn swept(&self) -> Sweep {
        self.sweep.lock().clone().unwrap_or_default()
    }

    /// How large the write-ahead log may become before it is moved into the database.
    pub(super) fn log_bytes_max(&self) -> u64 {
        let max = upkeep::LOG_BYTES.min(self.options.max_size_bytes / 8);
        let ballast = self.ballast.lock();
        if ballast.leaves_room_for(max) {
            max
        } else {
            max.min(ballast.log_bytes_max())
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Has the writer look through the store: a page of it could not be read.
    pub(super) fn suspect(&self, error: rusqlite::Error) {
        if is_corrupt(&error) {
            let mut error = Some(error);
            self.submit(Share::Known, move |_| {
                error
                    .take()
                    .map_or(Ok(()), |error| Err(Failure::Database(error)))
            });
        }
    }

    /// Has what waits in other shards count, where that was said anew. The writer does this between
    /// two transactions.
    pub(super) fn count_elsewhere(&self) {
        if let Some(elsewhere) = self.elsewhere.lock().take() {
            self.committed.write().set_elsewhere(elsewhere);
        }
    }

    /// Makes the queues anew from what is on disk; leases are dropped.
    pub(super) fn rebuild(&self, committed: &CommittedState) {
        let mut queues = self.queues.lock();
        let mut anew = Queues::new(queues.last_token(), Arc::clone(&committed.epochs));
        for (number, subscribed) in &committed.subscriptions {
            anew.add(*number, subscribed.is_open(), subscribed.counts.pending > 0);
        }
        *queues = anew;
        drop(queues);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.loader.wake();
    }

    /// Loads the front of every queue that runs low.
    pub(super) fn fill(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.queues.lock().advance(Moment::now(&*self.clock));
        loop {
            let Some(subscription) = self.queues.lock().take_low() else {
                return Ok(());
            };
            loader::load(self, connection, subscription)?;
        }
    }

    /// Hands a job to the writer without waiting for it; false where the writer cannot take it.
    pub(super) fn submit(
        &self,
        share: Share,
        work: impl FnMut(&mut Transaction<'_>) -> Result<(), Failure> + Send + 'static,
    ) -> bool {
        let (job, _) = Ask::new(share, 0, work);
        self.jobs
            .upgrade()
            .is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// Has the writer do a job, from a thread of the journal's own; false where it was not done.
    pub(super) fn ask_blocking<T: Send + 'static>(
        &self,
        share: Share,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> bool {
        let (job, answer) = Ask::new(share, 0, work);
        let Some(jobs) = self.jobs.upgrade() else {
            return false;
        };
        if jobs.blocking_send(job).is_err() {
            return false;
        }
        drop(jobs);
        matches!(answer.blocking_recv(), Ok(Ok(_)))
    }
}
