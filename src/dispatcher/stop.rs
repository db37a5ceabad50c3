//! Stopping attempts under way: somebody has cancelled their tasks.
//!
//! A connector that sees to the end of its attempts is told that the time is over, as after a
//! timeout: a command's process group gets SIGTERM and, after a grace, SIGKILL. Every other attempt
//! is dropped, which closes its connection. Where an attempt has come to an outcome before that,
//! this outcome counts, but that it is not tried again. An attempt at a batch is ended only once
//! all its deliveries are to be stopped.

use std::sync::Arc;

use foldhash::HashSet;
use pointsman_journal::{Ending, LeaseToken};
use pointsman_schemas::DeliveryId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Dispatcher;
use super::attempts::Finished;
use super::stack::AttemptResponse;
use super::status::SharedStatus;

/// Tells of an attempt that was to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReport {
    /// It is being ended.
    Stopping,
    /// It has ended, durably.
    Ended {
        /// False where its own outcome counts.
        is_stopped: bool,
    },
}

/// Somebody wants the attempts at these deliveries stopped.
#[derive(Debug)]
pub(super) struct StopRequest {
    pub(super) ids: Vec<DeliveryId>,
    pub(super) told: mpsc::UnboundedSender<StopReport>,
}

/// A delivery whose attempt is being stopped, and whoever waits for that.
#[derive(Debug)]
pub(super) struct Stopping {
    id: DeliveryId,
    told: Vec<mpsc::UnboundedSender<StopReport>>,
    /// Whether the connector was told to end it, so that a failure is no outcome of its own.
    is_told: bool,
    shared: Arc<SharedStatus>,
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.shared.stopping.lock().remove(&self.id);
    }
}

impl Stopping {
    /// It has ended like this, durably.
    pub(super) fn ended(&self, ending: &Ending) {
        let is_stopped = *ending == Ending::Stopped;
        for told in &self.told {
            // Whoever asked may have gone.
            let _nobody_waits = told.send(StopReport::Ended { is_stopped });
        }
    }

    /// How a delivery ends of which the attempt ended like this.
    fn ending(&self, ending: Ending) -> Ending {
        match ending {
            Ending::Dead { .. } if !self.is_told => ending,
            Ending::Delivered => ending,
            _ => Ending::Stopped,
        }
    }
}

impl Dispatcher {
    /// Stops the attempts that somebody wants to be stopped.
    pub(super) fn stop_attempts(&mut self) {
        let requests = std::mem::take(&mut *self.shared.stops.lock());
        for StopRequest { ids, told } in requests {
            let wanted: HashSet<DeliveryId> = ids.into_iter().collect();
            let attempts: Vec<LeaseToken> = self.under_way.keys().copied().collect();
            for attempt in attempts {
                self.stop_deliveries(attempt, &wanted, &told);
            }
        }
    }

    /// Stops those deliveries of an attempt that are wanted, and the attempt itself where that are
    /// all: one that others go by as well goes on, and its outcome counts for the others.
    fn stop_deliveries(
        &mut self,
        attempt_token: LeaseToken,
        wanted: &HashSet<DeliveryId>,
        told: &mpsc::UnboundedSender<StopReport>,
    ) {
        let Some(attempt) = self.under_way.get_mut(&attempt_token) else {
            return;
        };
        let mut are_new = false;
        for leased in attempt
            .call
            .iter()
            .filter(|leased| wanted.contains(&leased.id))
        {
            // Whoever asked may have gone.
            let _nobody_waits = told.send(StopReport::Stopping);
            let stopping = self.stopping.entry(leased.token).or_insert_with(|| {
                are_new = true;
                self.shared.stopping.lock().insert(leased.id);
                Box::new(Stopping {
                    id: leased.id,
                    told: Vec::new(),
                    is_told: false,
                    shared: Arc::clone(&self.shared),
                })
            });
            stopping.told.push(told.clone());
        }
        let stopping = &mut self.stopping;
        if !are_new
            || !attempt
                .call
                .iter()
                .all(|one| stopping.contains_key(&one.token))
        {
            return;
        }
        if attempt.end.tell() {
            for leased in &attempt.call {
                if let Some(stopping) = stopping.get_mut(&leased.token) {
                    stopping.is_told = true;
                }
            }
            return;
        }
        let token = attempt_token;
        // A task of its own drops the attempt, and tells when that is done; where the attempt has
        // ended before, it has told so itself, and is believed.
        let (give, take) = oneshot::channel::<AbortOnDropHandle<()>>();
        let finished = self.finished.0.clone();
        let dropping = self.attempts.spawn(async move {
            if let Ok(attempt) = take.await {
                attempt.abort();
                // That it was cancelled is what is wanted.
                let _cancelled = attempt.await;
            }
            let _nobody_asks = finished.send(Finished {
                token,
                reached: AttemptResponse::Stopped,
                at: Instant::now(),
            });
        });
        let dropped = std::mem::replace(&mut attempt.task, AbortOnDropHandle::new(dropping));
        // The one that takes it was started just now.
        let _taken = give.send(dropped);
    }

    /// How a delivery ends whose attempt ended like this.
    pub(super) fn ending_if_stopped(&self, token: LeaseToken, ending: Ending) -> Ending {
        match self.stopping.get(&token) {
            None => ending,
            Some(stopping) => stopping.ending(ending),
        }
    }
}
