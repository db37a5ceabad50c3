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

mod actual;
mod attachment;
mod ballast;
mod capacity;
mod check;
mod committed;
mod epochs;
mod full;
mod leasing;
mod loader;
mod look;
mod open;
mod paging;
mod portable;
mod position;
mod queues;
mod raw;
mod reader;
mod record;
mod replication;
mod row;
mod salvage;
mod schema;
mod settling;
mod shared;
mod store;
mod sweep;
mod tables;
mod transaction;
mod trouble;
mod upkeep;
mod writer;

pub use open::OpenError;
pub use portable::{Carried, Exported, Imported, PortableError, export_stores, import_stores};
pub use reader::DiskReader;
pub use replication::{
    ApplyError, CarriedTo, Commit, CommitLog, Part, Refused, Replica, commit_format, mark_of,
};

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Event, JournalId, Name, PositionRow, SubscriptionNumber,
};
use tokio::sync::mpsc;

use self::ballast::Share;
use self::shared::Shared;
use self::store::Lock;
use self::transaction::{Failure, Steer, Transaction};
use self::writer::{Ask, Job};
use super::{
    Activity, Append, Appended, BacklogQuota, Bounded, DeadSelection, Grant, Journal, JournalError,
    Leases, NewReplay, Numbered, Reader, Redrive, Redriven, Replay, ReplayId, ReplayState,
    ReplayStep, Replayed, SettleAnswer, Settlement, Shard, ShardNumber, Subscription,
};
use crate::numbers;

/// How a store is kept.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// How long settled and unmatched events are kept where there is room.
    pub retention: Duration,
    /// What the store may take on disk, write-ahead log included. Below 2 MiB little fits beside
    /// what is kept free for settling.
    pub max_size_bytes: u64,
    /// How long the history of deliveries is kept, and what it may take of that. Where the store is
    /// nearly full it goes before any event does.
    pub history: HistoryBounds,
}

/// How much is kept of the history of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// How long.
    pub keep: Duration,
    /// What it may take on disk.
    pub max_size_bytes: u64,
}

impl Default for HistoryBounds {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(24 * 60 * 60),
            max_size_bytes: 1024 * 1024 * 1024,
        }
    }
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(24 * 60 * 60),
            max_size_bytes: 20 * 1024 * 1024 * 1024,
            history: HistoryBounds::default(),
        }
    }
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
    /// Held while subscriptions are given numbers.
    numbering: tokio::sync::Mutex<()>,
}

impl fmt::Debug for DiskJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskJournal")
            .field("directory", &self.shared.directory)
            .finish_non_exhaustive()
    }
}

impl DiskJournal {
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

    /// Has rows go once more to the log that has the journal's commits, about so many bytes of them
    /// from where the last call has come to; returns where to go on, and none at the end. A walk
    /// over all rows begins with none. Without a log it does nothing.
    ///
    /// # Errors
    /// [`JournalError::Io`]: the call is to be made again.
    pub async fn carry(
        &self,
        after: Option<CarriedTo>,
        bytes: usize,
    ) -> Result<Option<CarriedTo>, JournalError> {
        self.ask(Share::Freeing, bytes as u64, move |transaction| {
            transaction.carry(after.clone(), bytes)
        })
        .await
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
        let (job, answer) = Ask::new(share, size_bytes, work);
        jobs.send(job).await.map_err(|_| JournalError::Closed)?;
        drop(jobs);
        answer.await.map_err(|_| JournalError::Closed)?
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
            .suspect(trouble::corrupt(format!("{what}: {damage}")));
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
                .partition(|thread| thread.thread().name() == Some(writer::THREAD));
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
        self.lease_from_memory(grants, bytes_max).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        self.settle_in_parts(settlements).await
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        self.next_due().await
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        self.attach_only(wanted).await
    }

    async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        self.ask(Share::Freeing, 0, move |transaction| {
            transaction.set_quotas(quotas.clone());
            Ok(())
        })
        .await
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
        self.to_each(Share::Freeing, deliveries, |transaction, page| {
            transaction.cancel(page)
        })
        .await
    }

    async fn skip(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.to_each(Share::Freeing, deliveries, |transaction, page| {
            transaction.skip(page)
        })
        .await
    }

    async fn suspend(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.steer(deliveries, Steer::Suspend).await
    }

    async fn resume(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.steer(deliveries, Steer::Resume).await
    }

    async fn retry(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        self.steer(deliveries, Steer::TryNow).await
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
        let mut redrive = Redrive {
            selection: selection.clone(),
            to: None,
            before: self.shared.clock.now(),
            after: None,
            limit: u64::MAX,
            replay: None,
        };
        let mut count = 0;
        loop {
            let redriven = self.redrive_some(&redrive).await?;
            count += redriven.count;
            if redriven.next.is_none() {
                return Ok(count);
            }
            redrive.after = redriven.next;
        }
    }

    async fn edit_dead(
        &self,
        id: DeliveryId,
        event: Option<Arc<Event>>,
    ) -> Result<(), JournalError> {
        let bytes = event.as_ref().map_or(0, |event| event.size_bytes() as u64);
        self.ask(Share::Known, bytes, move |transaction| {
            transaction.edit_dead(id, event.as_ref())
        })
        .await
    }

    async fn redrive_some(&self, redrive: &Redrive) -> Result<Redriven, JournalError> {
        self.redrive_page(redrive).await
    }

    async fn begin_replay(&self, replay: NewReplay) -> Result<Replay, JournalError> {
        self.begin_replay_as(ReplayId::random(), replay).await
    }

    async fn replay(&self, step: ReplayStep) -> Result<Replayed, JournalError> {
        self.ask(Share::Known, 0, move |transaction| {
            transaction.replay(&step)
        })
        .await
    }

    async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        message: &str,
    ) -> Result<Replay, JournalError> {
        let message = message.to_owned();
        self.ask(Share::Freeing, 0, move |transaction| {
            transaction.end_replay(id, state, &message)
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

#[async_trait]
impl Shard for DiskJournal {
    fn number(&self) -> Option<ShardNumber> {
        self.shared.shard
    }

    fn waiting(&self, of: &[Bounded]) -> Vec<u64> {
        let committed = self.shared.committed.read();
        of.iter().map(|one| committed.waiting(one)).collect()
    }

    fn set_elsewhere(&self, elsewhere: Vec<(Bounded, u64)>) {
        *self.shared.elsewhere.lock() = Some(elsewhere);
    }

    async fn subscribe_as(&self, wanted: Vec<Numbered>) -> Result<(), JournalError> {
        self.attach_only_as(wanted).await
    }

    async fn last_subscription(&self) -> Result<SubscriptionNumber, JournalError> {
        self.ask(Share::Freeing, 0, |transaction| {
            Ok(transaction.last_subscription())
        })
        .await
    }

    async fn assign(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let _alone = self.numbering.lock().await;
        numbers::assign(self, &wanted).await
    }

    async fn begin_replay_as(
        &self,
        id: ReplayId,
        replay: NewReplay,
    ) -> Result<Replay, JournalError> {
        self.ask(Share::Known, 0, move |transaction| {
            transaction.begin_replay(id, replay.clone())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
