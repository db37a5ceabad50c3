//! Outcomes on their way into the journal.
//!
//! One settle call is under way at a time, and what ends meanwhile gathers for the next, so that
//! one sync serves many. Nothing is lost while the store fails: what could not be settled is tried
//! again, with what has gathered, until it is or its leases have gone. What a full disk has no room
//! for is tried again by itself, and the rest, which makes room, does not wait for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::owners::Owners;
use super::plan::Route;
use super::stop::Stopping;
use crate::waiting::Waiting;
use pointsman_connectors::TaskStatus;
use pointsman_journal::{JournalError, SettleAnswer, Settlement};
use pointsman_schemas::{Backoff, DeliveryId};

/// First and longest pause between two calls to a journal that fails.
pub(super) const JOURNAL_AGAIN: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// Settlements in one call, at most: an event that has many follow-ups must not make one
/// transaction without end.
const BATCH_MAX: usize = 2_048;

/// Settlements that are kept for which there was no room: they count as in flight, and most of what
/// may be must be left for deliveries that make some. The others come again with their leases.
const WITHOUT_ROOM_MAX: usize = 1_024;

/// One settlement, with the route whose observer counts it.
#[derive(Debug)]
pub(super) struct Settled {
    /// None where the subscription is no longer in the plan.
    pub(super) route: Option<Arc<Route>>,
    /// There where its attempt was to be stopped; boxed, since that is rare.
    pub(super) stopping: Option<Box<Stopping>>,
    pub(super) settlement: Settlement,
    /// Of a delivery that ends while somebody waits for that.
    pub(super) waited_for: Option<Box<(DeliveryId, TaskStatus)>>,
}

/// What is not settled yet.
#[derive(Default)]
pub(super) struct Settling {
    /// Who wants to hear of ends.
    pub(super) waiting_callers: Arc<Waiting>,
    waiting: VecDeque<Settled>,
    /// The settlements of the call under way.
    handed_over: Vec<Settled>,
    call: Option<BoxFuture<'static, Result<Vec<SettleAnswer>, JournalError>>>,
    again_at: Option<Instant>,
    pause: Option<Duration>,
    /// What the disk had no room for, and when and after which pause it is tried again.
    without_room: Vec<Settled>,
    room_again: Option<(Instant, Duration)>,
}

/// The pause after another one.
fn next_pause(before: Option<Duration>) -> Duration {
    JOURNAL_AGAIN.next(before)
}

impl Settling {
    pub(super) fn push(&mut self, settled: Settled) {
        self.waiting.push_back(settled);
    }

    /// Settlements that are not durable yet.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.handed_over.len() + self.without_room.len()
    }

    pub(super) fn is_calling(&self) -> bool {
        self.call.is_some()
    }

    /// When a failed call is made again, or what found no room is tried again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        let room_again = self.room_again.map(|(at, _)| at);
        let room_again = room_again.filter(|_| !self.without_room.is_empty());
        let again_at = self.again_at.into_iter().chain(room_again).min();
        again_at.filter(|_| self.call.is_none())
    }

    /// Hands what waits to the journal, unless a call is under way or the last one has just failed.
    pub(super) fn start(&mut self, owners: &Owners, now: Instant) {
        if self.call.is_none() && self.room_again.is_some_and(|(at, _)| at <= now) {
            self.waiting.extend(self.without_room.drain(..));
        }
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
        let owners = owners.clone();
        self.call = Some(Box::pin(async move { owners.settle(settlements).await }));
    }

    /// Waits for the call under way, for ever where there is none, and returns how many deliveries
    /// are settled. Safe to cancel.
    pub(super) async fn next(&mut self) -> usize {
        let Some(call) = &mut self.call else {
            return std::future::pending().await;
        };
        let answer = call.await;
        self.call = None;
        match answer {
            Ok(answers) => {
                self.pause = None;
                self.take_answers(answers)
            }
            Err(error) => {
                let pause = next_pause(self.pause);
                tracing::warn!(
                    %error, again_in = ?pause, unsettled = self.len(),
                    "cannot settle deliveries"
                );
                (self.pause, self.again_at) = (Some(pause), Some(Instant::now() + pause));
                for settled in self.handed_over.drain(..).rev() {
                    self.waiting.push_front(settled);
                }
                0
            }
        }
    }

    /// Ends what was handed over, as the journal has answered. Returns how many are done with.
    fn take_answers(&mut self, answers: Vec<SettleAnswer>) -> usize {
        let (mut done, mut gone) = (0, 0);
        let before = self.without_room.len();
        for (settled, answer) in self.handed_over.drain(..).zip(answers) {
            match answer {
                SettleAnswer::Settled => {
                    if let Some(stopping) = &settled.stopping {
                        stopping.ended(&settled.settlement.ending);
                    }
                    if let Some(route) = settled.route {
                        route.observer.settled(&settled.settlement.ending);
                    }
                    if let Some(ended) = settled.waited_for {
                        self.waiting_callers.tell(*ended);
                    }
                }
                SettleAnswer::NoRoom if self.without_room.len() < WITHOUT_ROOM_MAX => {
                    self.without_room.push(settled);
                    continue;
                }
                SettleAnswer::Gone | SettleAnswer::NoRoom => gone += 1,
            }
            done += 1;
        }
        if gone > 0 {
            tracing::warn!(
                gone,
                "leases were gone before their deliveries were settled; these are delivered again"
            );
        }
        if self.without_room.is_empty() {
            self.room_again = None;
        } else if self.without_room.len() > before {
            let pause = next_pause(self.room_again.map(|(_, pause)| pause));
            self.room_again = Some((Instant::now() + pause, pause));
        }
        done
    }
}
