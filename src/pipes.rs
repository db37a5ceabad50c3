//! Pipes: from one source straight to one target, without the journal in between.
//!
//! ```text
//! source ──▶ intake ──▶ line (memory) ──▶ dispatcher ──▶ target
//!    ▲                                        │
//!    └── told once its deliveries have ended ◀┘── dead letters, replies, reports ──▶ journal
//! ```
//!
//! There is one dispatcher, and it does not know pipes: [`Piped`] is the journal that it works on,
//! and lays what waits in memory over what waits in the journal. A pipe's subscription is one like
//! others there: it has its number, its activity and its dead letters in the journal, and what is
//! redriven goes through it.
//!
//! # Invariants
//!
//! - A message is told [`Verdict::Stored`](pointsman_connectors::Verdict) only once each of its
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

mod closing;
mod hold;
pub mod intake;
mod lines;
mod reader;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use pointsman_schemas::{
    Clock, Cursor, DeliveryId, Epoch, JournalId, Name, Sequence, SubscriptionNumber,
};
use tokio::sync::Notify;

pub use self::intake::PipeIntake;
use self::lines::Lines;
use self::reader::PipedReader;
use pointsman_journal::{
    Activity, Append, Appended, DeadSelection, Grant, Journal, JournalError, Leases, Reader,
    SettleAnswer, Settlement, Subscription,
};

/// Deliveries of one pipe that are in hand at most, those that wait for a retry included; the batch
/// that crosses the bound may exceed it. Enough for a target to be busy while a few hundred others
/// wait out their backoff.
const IN_FLIGHT_MAX: usize = 1_000;

/// Bytes of their events, likewise.
const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A journal, with the lines of pipes laid over it.
pub struct Piped {
    inner: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    lines: Arc<Mutex<Lines>>,
    wake: Notify,
    /// Held while activities are read or changed, so that what memory knows of them is what the
    /// journal knows.
    activities: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Piped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piped")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Piped {
    /// Lays lines over a journal; they are empty.
    #[must_use]
    pub fn over(inner: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let lines = Arc::new(Mutex::new(Lines::new(Epoch(rand::random()))));
        Arc::new(Self {
            inner,
            clock,
            lines,
            wake: Notify::new(),
            activities: tokio::sync::Mutex::new(()),
        })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock()
    }

    /// Changes the lines, and wakes whoever waits for what came of it.
    fn change<T>(&self, change: impl FnOnce(&mut Lines) -> T) -> T {
        let mut lines = self.lines();
        let answer = change(&mut lines);
        if lines.wakes() {
            self.wake.notify_one();
        }
        answer
    }
}

#[async_trait]
impl Journal for Piped {
    fn id(&self) -> JournalId {
        self.inner.id()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }

    async fn append(&self, append: Append) -> Result<Vec<Appended>, JournalError> {
        self.inner.append(append).await
    }

    /// What the journal has goes first: it has been redriven, and is older than anything in memory.
    /// Leases of what lies in memory do not run out: they live in the same process as who holds
    /// them.
    async fn lease(&self, grants: &[Grant], bytes_max: usize) -> Result<Leases, JournalError> {
        let mut leases = self.inner.lease(grants, bytes_max).await?;
        let now = self.clock.now();
        self.change(|lines| {
            for grant in grants {
                lines.lease(grant, bytes_max, now, &mut leases);
            }
        });
        Ok(leases)
    }

    /// Settlements of what lies in memory are taken at once: what has to be durable because of them
    /// is seen to by the pipe's intake, which holds back the acknowledgement until then.
    async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        let is_here: Vec<bool> = settlements
            .iter()
            .map(|one| Lines::is_own(one.token))
            .collect();
        let (here, there): (Vec<_>, Vec<_>) = settlements
            .into_iter()
            .partition(|one| Lines::is_own(one.token));
        // The journal first: where it fails, nothing has happened, and the whole call is made
        // again.
        let there = if there.is_empty() && !here.is_empty() {
            Vec::new()
        } else {
            self.inner.settle(there).await?
        };
        let now = self.clock.now();
        let here: Vec<_> = self.change(|lines| {
            here.into_iter()
                .map(|one| SettleAnswer::of(lines.settle(one, now)))
                .collect()
        });
        let (mut here, mut there) = (here.into_iter(), there.into_iter());
        Ok(is_here
            .into_iter()
            .map(|is_here| if is_here { here.next() } else { there.next() })
            .map(|answer| answer.unwrap_or(SettleAnswer::Gone))
            .collect())
    }

    async fn due(&self) -> Vec<SubscriptionNumber> {
        loop {
            let quiet_for = {
                let (now, mut lines) = (self.clock.now(), self.lines());
                if let Some(news) = lines.take_news(now) {
                    return news;
                }
                lines.sleep(now)
            };
            tokio::select! {
                numbers = self.inner.due() => return numbers,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(quiet_for) => {}
            }
        }
    }

    async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let _one_at_a_time = self.activities.lock().await;
        let numbers = self.inner.subscribe(wanted).await?;
        let statuses = self.inner.reader().subscriptions().await?;
        self.change(|lines| {
            statuses
                .iter()
                .for_each(|status| lines.set_activity(status.number, status.activity))
        });
        Ok(numbers)
    }

    async fn set_activity(
        &self,
        subscription: SubscriptionNumber,
        activity: Activity,
    ) -> Result<(), JournalError> {
        let _one_at_a_time = self.activities.lock().await;
        self.inner.set_activity(subscription, activity).await?;
        self.change(|lines| lines.set_activity(subscription, activity));
        Ok(())
    }

    async fn cursor(&self, tenant: &Name, source: &Name) -> Result<Option<Cursor>, JournalError> {
        self.inner.cursor(tenant, source).await
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, JournalError> {
        let here = self.change(|lines| deliveries.iter().filter(|id| lines.cancel(**id)).count());
        Ok(here as u64 + self.inner.cancel(deliveries).await?)
    }

    async fn cancel_all(&self, subscription: SubscriptionNumber) -> Result<u64, JournalError> {
        let there = self.inner.cancel_all(subscription).await?;
        let here = self.change(|lines| {
            let waiting = lines.pending(subscription, None, usize::MAX);
            waiting
                .iter()
                .filter(|pending| lines.cancel(pending.id))
                .count()
        });
        Ok(here as u64 + there)
    }

    /// What lies in memory is its source's, and stays.
    async fn move_all(
        &self,
        from: SubscriptionNumber,
        to: SubscriptionNumber,
    ) -> Result<u64, JournalError> {
        self.inner.move_all(from, to).await
    }

    async fn redrive(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.inner.redrive(selection).await
    }

    async fn replay(
        &self,
        subscription: SubscriptionNumber,
        events: RangeInclusive<Sequence>,
    ) -> Result<u64, JournalError> {
        self.inner.replay(subscription, events).await
    }

    async fn purge(&self, selection: &DeadSelection) -> Result<u64, JournalError> {
        self.inner.purge(selection).await
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(PipedReader {
            inner: self.inner.reader(),
            lines: Arc::clone(&self.lines),
            clock: Arc::clone(&self.clock),
        })
    }

    fn trouble(&self) -> Option<JournalError> {
        self.inner.trouble()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
