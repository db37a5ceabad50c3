//! What the journal's threads do with what they share.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::ballast::Share;
use super::queues::{Moment, Queues};
use super::transaction::{CommittedState, Failure, Transaction};
use super::writer::Ask;
use super::{Shared, check, loader, upkeep};
use crate::Activity;

impl Shared {
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
    pub(super) fn rebuild(&self, committed: &CommittedState) {
        let mut queues = self.queues.lock();
        let mut anew = Queues::new(queues.last_token(), Arc::clone(&committed.epochs));
        for (number, subscribed) in &committed.subscriptions {
            let open = subscribed.attached && subscribed.activity == Activity::Active;
            anew.know(*number, open, subscribed.counts.pending > 0);
        }
        *queues = anew;
        drop(queues);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.loader.wake();
    }

    /// Loads the front of every queue that runs low.
    pub(super) fn fill(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.queues.lock().turn(Moment::now(&*self.clock));
        loop {
            let Some(subscription) = self.queues.lock().take_low() else {
                return Ok(());
            };
            loader::load(self, connection, subscription)?;
        }
    }

    /// Hands a job to the writer without waiting for it; false where the writer cannot take it.
    pub(super) fn hand_over(
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
        let (job, told) = Ask::new(share, 0, work);
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
