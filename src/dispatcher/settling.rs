//! Outcomes on their way into the journal.
//!
//! One settle call is under way at a time, and what ends meanwhile gathers for the next, so that
//! one sync serves many. Nothing is lost while the store fails: what could not be settled is tried
//! again, with what has gathered, until it is or its leases have gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::plan::Route;
use pointsman_journal::{Journal, JournalError, Settlement};

/// First and longest pause between two calls to a journal that fails.
pub(super) const JOURNAL_AGAIN: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(5));

/// Settlements in one call, at most: an event that has many follow-ups must not make one
/// transaction without end.
const BATCH_MAX: usize = 2_048;

/// One settlement, with whom to tell.
#[derive(Debug)]
pub(super) struct Settled {
    /// None where the subscription is no longer in the plan.
    pub(super) route: Option<Arc<Route>>,
    pub(super) settlement: Settlement,
}

/// What is not settled yet.
#[derive(Default)]
pub(super) struct Settling {
    waiting: VecDeque<Settled>,
    /// What the call under way is about.
    handed_over: Vec<Settled>,
    call: Option<BoxFuture<'static, Result<Vec<bool>, JournalError>>>,
    again_at: Option<Instant>,
    pause: Option<Duration>,
}

impl Settling {
    pub(super) fn push(&mut self, settled: Settled) {
        self.waiting.push_back(settled);
    }

    /// Settlements that are not durable yet.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.handed_over.len()
    }

    pub(super) fn is_calling(&self) -> bool {
        self.call.is_some()
    }

    /// When a failed call is made again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at.filter(|_| self.call.is_none())
    }

    /// Hands what waits to the journal, unless a call is under way or the last one has just failed.
    pub(super) fn start(&mut self, journal: &Arc<dyn Journal>, now: Instant) {
        if self.call.is_some()
            || self.waiting.is_empty()
            || self.again_at.is_some_and(|at| at > now)
        {
            return;
        }
        self.again_at = None;
        self.handed_over
            .extend(self.waiting.drain(..self.waiting.len().min(BATCH_MAX)));
        let settlements: Vec<_> = self
            .handed_over
            .iter()
            .map(|settled| settled.settlement.clone())
            .collect();
        let journal = Arc::clone(journal);
        self.call = Some(Box::pin(async move { journal.settle(settlements).await }));
    }

    /// Waits for the call under way, for ever where there is none; gives how many are settled. Safe
    /// to cancel.
    pub(super) async fn next(&mut self) -> usize {
        let Some(call) = &mut self.call else {
            return std::future::pending().await;
        };
        let answer = call.await;
        self.call = None;
        match answer {
            Ok(held) => {
                self.pause = None;
                let settled = self.handed_over.len();
                let lost = held.iter().filter(|held| !**held).count();
                if lost > 0 {
                    tracing::warn!(
                        lost,
                        "leases were gone before their deliveries were settled; these are delivered again"
                    );
                }
                for (settled, held) in self.handed_over.drain(..).zip(held) {
                    if let Some(route) = settled.route.filter(|_| held) {
                        route.observe.settled(&settled.settlement.ending);
                    }
                }
                settled
            }
            Err(error) => {
                let pause = self
                    .pause
                    .map_or(JOURNAL_AGAIN.0, |pause| (pause * 2).min(JOURNAL_AGAIN.1));
                tracing::warn!(%error, again_in = ?pause, unsettled = self.len(), "cannot settle deliveries");
                (self.pause, self.again_at) = (Some(pause), Some(Instant::now() + pause));
                for settled in self.handed_over.drain(..).rev() {
                    self.waiting.push_front(settled);
                }
                0
            }
        }
    }
}
