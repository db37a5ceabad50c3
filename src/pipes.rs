//! Pipes: from one source straight to one target, without the journal in between.
//!
//! ```text
//! source ──▶ intake ──▶ queue (memory) ──▶ dispatcher ──▶ target
//!    ▲                                         │
//!    └─ acknowledged once they have ended ◀────┘── dead letters, replies, reports ──▶ journal
//! ```
//!
//! There is one dispatcher. It leases from the journal and from the pipes, and settles each lease
//! with the [owner](pointsman_journal::LeaseOwner) that its token names; what goes through the
//! journal does not come by here. A pipe's subscription is one like others there: it has its
//! number, its activity and its dead letters in the journal, and what is redriven goes through it.
//!
//! # Invariants
//!
//! - A message is acknowledged as [stored](pointsman_connectors::Verdict) only once each of its
//!   deliveries is delivered, or a durable dead letter, and what follows from it is durable too.
//!   Where the journal fails, that waits; it is never acknowledged away.
//! - A cursor is stored once everything handed over before it has ended like that.
//! - What a source has handed over here is bounded in number and bytes, whatever state it is in.
//!   Past the bound, and while the subscription is paused, the source is not asked for more.
//! - Whatever ends early (a reload, a stop, a source that breaks off) leaves its messages to be
//!   handed over again by their source.
//! - Per subscription the law of the journal's counters holds for the sum of both: what is handed
//!   back counts as cancelled.
//! - Deliveries have ids of a journal id that is random in each process: none is ever used again.

pub mod intake;
mod queues;
mod reader;
mod source_state;
mod writes;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use pointsman_schemas::{Clock, DeliveryId, Epoch, SubscriptionNumber};
use tokio::sync::Notify;

pub use self::intake::PipeIntake;
use self::queues::PipeQueues;
use self::reader::PipesReader;
use pointsman_journal::{
    Activity, BacklogQuota, Grant, Journal, JournalError, Leases, Reader, SettleAnswer, Settlement,
    Subscription,
};

/// Unacknowledged deliveries of one pipe at most, those that wait for a retry included; the batch
/// that crosses the bound may exceed it. Enough for a target to be busy while a few hundred others
/// wait out their backoff.
const IN_FLIGHT_MAX: usize = 1_000;

/// Bytes of their events, likewise.
const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The queues of all pipes, and the journal that has their subscriptions and dead letters.
pub struct Pipes {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    queues: Arc<Mutex<PipeQueues>>,
    wake: Notify,
    /// Held while activities are read or changed, so that what memory knows of them is what the
    /// journal knows.
    activities: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Pipes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipes")
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

impl Pipes {
    /// Empty pipes beside a journal, which go by this clock.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let queues = Arc::new(Mutex::new(PipeQueues::new(Epoch(rand::random()))));
        Arc::new(Self {
            journal,
            clock,
            queues,
            wake: Notify::new(),
            activities: tokio::sync::Mutex::new(()),
        })
    }

    fn queues(&self) -> MutexGuard<'_, PipeQueues> {
        self.queues.lock()
    }

    /// Changes the queues, and wakes whoever waits for what came of it.
    fn change<T>(&self, change: impl FnOnce(&mut PipeQueues) -> T) -> T {
        let mut queues = self.queues();
        let answer = change(&mut queues);
        if queues.should_wake() {
            self.wake.notify_one();
        }
        answer
    }

    /// Leases what is due to what has been leased already, within the grants and a limit of bytes
    /// in all. What the journal has goes first: it has been redriven, and is older than anything
    /// in memory. Leases of what lies in memory do not run out: they live in the same process as
    /// whoever holds them.
    pub fn lease(&self, grants: &[Grant], bytes_max: usize, leases: &mut Leases) {
        let now = self.clock.now();
        self.change(|queues| {
            for grant in grants {
                queues.lease(grant, bytes_max, now, leases);
            }
        });
    }

    /// Ends leases of what lies in memory; there is always room for that. What has to be durable
    /// because of that is stored by the pipe's intake, which holds back the acknowledgement until
    /// then.
    pub fn settle(&self, settlements: Vec<Settlement>) -> Vec<SettleAnswer> {
        let now = self.clock.now();
        self.change(|queues| {
            settlements
                .into_iter()
                .map(|one| SettleAnswer::of(queues.settle(one, now)))
                .collect()
        })
    }

    /// Waits until some subscription may have something to lease that it had not, as
    /// [`Journal::due`].
    pub async fn due(&self) -> Vec<SubscriptionNumber> {
        loop {
            let asleep = {
                let (now, mut queues) = (self.clock.now(), self.queues());
                if let Some(ready) = queues.take_ready(now) {
                    return ready;
                }
                queues.sleep(now)
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(asleep) => {}
            }
        }
    }

    /// Makes the wanted subscriptions the attached ones, of the journal and here.
    ///
    /// # Errors
    /// As [`Journal::subscribe`].
    pub async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let _one_at_a_time = self.activities.lock().await;
        let numbers = self.journal.subscribe(wanted).await?;
        let statuses = self.journal.reader().subscriptions().await?;
        self.change(|queues| {
            statuses
                .iter()
                .for_each(|status| queues.set_activity(status.number, status.activity))
        });
        Ok(numbers)
    }

    /// Bounds what waits for tenants and rules in the journal. What a pipe holds is bounded by
    /// itself, and waits in its source.
    ///
    /// # Errors
    /// As [`Journal::set_quotas`].
    pub async fn set_quotas(&self, quotas: Vec<BacklogQuota>) -> Result<(), JournalError> {
        self.journal.set_quotas(quotas).await
    }

    /// Suspends or resumes a subscription, or marks it as gone, in the journal and here.
    ///
    /// # Errors
    /// As [`Journal::set_activity`].
    pub async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        let _one_at_a_time = self.activities.lock().await;
        self.journal.set_activity(subscription, activity).await?;
        self.change(|queues| queues.set_activity(subscription, activity));
        Ok(())
    }

    /// Ends deliveries without an attempt, in the journal and here, but for those in flight, and
    /// returns how many. The messages of those that were here count them as done.
    ///
    /// # Errors
    /// As [`Journal::cancel`].
    pub async fn cancel(&self, ids: &[DeliveryId]) -> Result<u64, JournalError> {
        let there = self.journal.cancel(ids).await?;
        let here = self.change(|queues| ids.iter().filter(|id| queues.cancel(**id)).count());
        Ok(here as u64 + there)
    }

    /// Ends every pending delivery of a subscription, in the journal and here, but for those in
    /// flight, and returns how many. The messages of those that were here count them as done.
    ///
    /// # Errors
    /// As [`Journal::cancel_all`].
    pub async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        let there = self.journal.cancel_all(subscription).await?;
        let here = self.change(|queues| {
            let waiting = queues.pending(subscription, None, usize::MAX);
            waiting
                .iter()
                .filter(|pending| queues.cancel(pending.id))
                .count()
        });
        Ok(here as u64 + there)
    }

    /// Reads the journal and the pipes as one.
    pub fn reader(&self) -> Arc<dyn Reader> {
        self.over(self.journal.reader())
    }

    /// The same, of what of the journal is on this machine.
    pub fn reader_here(&self) -> Arc<dyn Reader> {
        self.over(self.journal.reader_here())
    }

    fn over(&self, inner: Arc<dyn Reader>) -> Arc<dyn Reader> {
        Arc::new(PipesReader {
            inner,
            queues: Arc::clone(&self.queues),
            clock: Arc::clone(&self.clock),
        })
    }
}
