//! From the journal to the targets: lease → attempt → settle.
//!
//! One task owns it all. It grants what each subscription may take now (concurrency, circuit, rate
//! and turns of its target, and what may be in flight in all), leases that in one call, runs each
//! attempt as a task of its own through its target's stack, and settles what has ended in batches.
//! At most one lease and one settle call are under way; what happens meanwhile gathers for the
//! next, so the busier it is the less each delivery costs.
//!
//! # Invariants
//!
//! - A delivery is leased only where its attempt may begin at once. Nothing waits with a lease, and
//!   nothing waits in memory for a retry: that is a row in the journal.
//! - Whatever is leased is settled: as what its attempt came to, or released. A settlement leaves
//!   memory only once the journal has taken it, or has said that its lease is gone.
//! - A slot of a target is free when its attempt has ended; a place among all deliveries in flight
//!   only when that is durable.
//! - Stopping ends nothing: what has no outcome is put back as if it had never been leased.
//! - This module does not know HTTP, rules or what a store is made of.

mod bytes;
pub mod circuit;
pub mod fair;
pub mod follow;
mod handle;
mod lane;
mod leasing;
pub mod limit;
mod occupancy;
pub mod plan;
mod queues;
pub mod rate;
mod refusals;
pub mod schedule;
mod settling;
pub mod stack;
pub mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::FutureExt;
use pointsman_connectors::AttemptEnd;
use pointsman_schemas::{Class, Clock, Outcome, SubscriptionNumber};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use self::follow::{HOPS_MAX, follow_ups, hops};
use self::handle::Command;
pub use self::handle::{Handle, Options, Stopped, Summary};
use self::leasing::{Answer, Leasing};
pub use self::plan::{Follow, FollowWith, Observe, Plan, Prepare, Route, Target};
use self::queues::{Granted, Queues, Replaced, Ticket};
use self::refusals::Refusal;

use self::schedule::{Decision, Tried, class_in_force, decide};
use self::settling::{JOURNAL_AGAIN, Settled, Settling};
use self::stack::{Reached, Try};
use self::status::{Board, Paused};
pub use self::status::{CircuitStatus, TargetStatus};
use crate::router::Matcher;
use pointsman_journal::{
    Activity, DeadReason, Ending, FollowUp, Journal, JournalError, LastOutcome, LeaseToken, Leased,
    Leases, Role, Settlement,
};

/// How much of a target's answer is kept with a delivery that is tried again or dead. A report
/// carries all that was read.
const LAST_RESPONSE_BYTES_MAX: usize = 4 * 1024;

/// How soon a delivery is tried again that was refused and of which nobody can tell yet whether it
/// is its own fault: whoever mends what is wrong sees that soon.
const REFUSED_ALONE_AGAIN: Duration = Duration::from_secs(15);

/// How long the last settlements may take after the grace, while the store fails: what is not
/// settled then is delivered again.
const LAST_SETTLE_WITHIN: Duration = Duration::from_secs(10);

/// Makes the attempts that are due. It begins with [`Dispatcher::run`].
pub struct Dispatcher {
    journal: Arc<dyn Journal>,
    /// The time of day, for what is shown.
    clock: Arc<dyn Clock>,
    /// The journal's time, by which deliveries are due and old.
    due_clock: Arc<dyn Clock>,
    options: Options,
    random: StdRng,
    queues: Queues,
    /// Matches the events that targets answer with.
    replies: Matcher,
    flights: HashMap<LeaseToken, Flight>,
    attempts: JoinSet<Landed>,
    leasing: Leasing,
    settling: Settling,
    /// Tells the journal which subscriptions are gone.
    gone: JoinSet<SubscriptionNumber>,
    commands: mpsc::Receiver<Command>,
    board: Arc<Board>,
    settled: u64,
    /// Ends the grace of a stop before its time.
    hasten: CancellationToken,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("options", &self.options)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// A delivery whose attempt is under way.
struct Flight {
    leased: Leased,
    route: Arc<Route>,
    ticket: Ticket,
    started: Instant,
}

/// An attempt that has ended.
struct Landed {
    token: LeaseToken,
    reached: Reached,
    at: Instant,
}

impl Dispatcher {
    /// A dispatcher with its first plan. `replies` matches the events that targets answer with.
    #[must_use]
    pub fn new(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        replies: Matcher,
        plan: Plan,
        options: Options,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(1);
        let board = Arc::new(Board::default());
        let mut dispatcher = Self {
            due_clock: journal.clock(),
            journal,
            clock,
            random: StdRng::seed_from_u64(options.seed),
            options,
            queues: Queues::new(options.in_flight_bytes_max),
            replies,
            flights: HashMap::new(),
            attempts: JoinSet::new(),
            leasing: Leasing::default(),
            settling: Settling::default(),
            gone: JoinSet::new(),
            commands,
            board: Arc::clone(&board),
            settled: 0,
            hasten: CancellationToken::new(),
        };
        dispatcher.reload(plan);
        (
            dispatcher,
            Handle {
                commands: sender,
                board,
            },
        )
    }

    /// Lets somebody end the grace of a stop before its time.
    #[must_use]
    pub fn hastened_by(self, hasten: CancellationToken) -> Self {
        Self { hasten, ..self }
    }

    /// Dispatches until `shutdown` is cancelled. Then nothing more is leased; attempts under way
    /// have `grace` to finish, those that have not are abandoned and their deliveries put back, and
    /// everything is settled.
    pub async fn run(mut self, shutdown: CancellationToken, grace: Duration) -> Summary {
        let journal = Arc::clone(&self.journal);
        let mut due = std::pin::pin!(journal.due().fuse());
        let timer = sleep_until(Instant::now());
        let mut timer = std::pin::pin!(timer);
        loop {
            let now = Instant::now();
            self.settling.start(&self.journal, now);
            self.start_lease(now);
            let wake_at = self.wake_at();
            if let Some(at) = wake_at.filter(|at| *at != timer.deadline()) {
                timer.as_mut().reset(at);
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(Command { plan, done }) = self.commands.recv() => {
                    let old = self.reload(plan);
                    // Whoever asked may have gone meanwhile.
                    let _nobody_waits = done.send(old);
                }
                () = self.board.has_probes.notified() => {
                    let numbers = std::mem::take(&mut *self.board.probes.lock());
                    self.queues.probe(numbers);
                }
                numbers = &mut due => {
                    self.queues.tell(numbers);
                    due.set(journal.due().fuse());
                }
                answer = self.leasing.next(), if self.leasing.is_calling() => self.leased(answer, false),
                settled = self.settling.next(), if self.settling.is_calling() => self.on_settled(settled),
                Some(landed) = self.attempts.join_next(), if !self.attempts.is_empty() => self.on_landed(landed.ok()),
                Some(number) = self.gone.join_next(), if !self.gone.is_empty() => self.on_gone(number.ok()),
                () = &mut timer, if wake_at.is_some() => self.queues.fire(Instant::now()),
            }
        }
        self.stop(grace).await
    }

    /// Ends what is under way and settles everything, each within its time.
    async fn stop(mut self, grace: Duration) -> Summary {
        let until = Instant::now() + grace;
        self.commands.close();
        self.finish_lease(until).await;
        while !self.attempts.is_empty() {
            self.settling.start(&self.journal, Instant::now());
            let again_at = self.settling.again_at();
            tokio::select! {
                () = sleep_until(until) => break,
                () = self.hasten.cancelled() => break,
                settled = self.settling.next(), if self.settling.is_calling() => self.on_settled(settled),
                Some(landed) = self.attempts.join_next() => self.on_landed(landed.ok()),
                () = sleep_until(again_at.unwrap_or(until)), if again_at.is_some() => {}
            }
        }
        // Those that have ended in this very moment count; the others are cancelled and leave their
        // flight behind.
        self.attempts.abort_all();
        while let Some(landed) = self.attempts.join_next().await {
            self.on_landed(landed.ok());
        }
        let abandoned = self.flights.len();
        let flights: Vec<Flight> = self.flights.drain().map(|(_, flight)| flight).collect();
        for flight in flights {
            self.settle(
                flight.leased.token,
                Some(flight.route),
                Ending::Released,
                Vec::new(),
            );
        }
        let last = Instant::now() + LAST_SETTLE_WITHIN;
        while self.settling.len() > 0 && Instant::now() < last {
            self.settling.start(&self.journal, Instant::now());
            let again_at = self.settling.again_at();
            tokio::select! {
                () = sleep_until(last) => break,
                settled = self.settling.next(), if self.settling.is_calling() => self.on_settled(settled),
                () = sleep_until(again_at.unwrap_or(last)), if again_at.is_some() => {}
            }
        }
        // What the journal has not been told is found out again by the next attempt.
        drop(
            timeout_at(last, async {
                while self.gone.join_next().await.is_some() {}
            })
            .await,
        );
        self.gone.shutdown().await;
        Summary {
            settled: self.settled,
            abandoned,
            unsettled: self.settling.len(),
        }
    }

    /// Waits for the lease under way, and puts back what it brings.
    async fn finish_lease(&mut self, until: Instant) {
        if self.leasing.is_calling()
            && let Ok(answer) = timeout_at(until, self.leasing.next()).await
        {
            self.leased(answer, true);
        }
    }

    /// Hands back what is in force no more.
    fn reload(&mut self, plan: Plan) -> Replaced {
        let (gauges, old) =
            self.queues
                .reload(plan.targets, plan.routes, Instant::now(), self.clock.now());
        *self.board.targets.lock() = gauges;
        self.queues.retain_paused(&mut self.board.paused.lock());
        old
    }

    fn in_flight(&self) -> usize {
        self.flights.len() + self.settling.len()
    }

    fn wake_at(&self) -> Option<Instant> {
        [
            self.queues.next_timer(),
            self.settling.again_at(),
            self.leasing.again_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn start_lease(&mut self, now: Instant) {
        if self.leasing.may_start(now) && self.queues.has_awake() {
            let (granted, bytes_max) = self.queues.grants(
                self.options.in_flight_max.saturating_sub(self.in_flight()),
                now,
            );
            if !granted.is_empty() {
                self.leasing.start(&self.journal, granted, bytes_max);
            }
        }
    }

    /// A lease call has been answered. What it brings becomes attempts, or is put back where the
    /// dispatcher stops.
    fn leased(&mut self, answer: Answer, stops: bool) {
        let Answer {
            mut granted,
            leases,
        } = answer;
        // After a failure all of them stay ready.
        let failed = leases.is_none();
        let Leases { leased, cut } = leases.unwrap_or_default();
        let next_bytes: HashMap<_, _> = cut
            .into_iter()
            .map(|cut| (cut.subscription, cut.event_bytes))
            .collect();
        granted.sort_unstable_by_key(|granted| granted.turn.subscription);
        for leased in leased {
            let found = granted
                .binary_search_by_key(&leased.id.subscription, |granted| granted.turn.subscription);
            match found
                .ok()
                .and_then(|index| granted.get_mut(index))
                .filter(|_| !stops)
            {
                Some(granted) => {
                    granted.leased += 1;
                    self.begin(leased, granted);
                }
                None => self.settle(leased.token, None, Ending::Released, Vec::new()),
            }
        }
        let now = Instant::now();
        for granted in granted {
            let next_bytes = next_bytes.get(&granted.turn.subscription).copied();
            self.queues.granted(granted, failed, next_bytes, now);
        }
        self.show_in_flight();
    }

    fn begin(&mut self, leased: Leased, granted: &mut Granted) {
        // A reload may have taken the subscription away while it was being leased.
        let Some(route) = self.queues.route(leased.id.subscription).map(Arc::clone) else {
            return self.settle(leased.token, None, Ending::Released, Vec::new());
        };
        let time = self.clock.now();
        if route.policy.is_expired(leased.since, self.due_clock.now()) {
            return self.end(
                leased,
                route,
                Ending::Dead {
                    reason: DeadReason::Expired,
                    last: None,
                },
                None,
            );
        }
        // Whoever redrives it wants it to go round once more, and what follows from its end is no
        // further round.
        if hops(&leased.event) > HOPS_MAX && leased.id.run == 0 && route.identity.role == Role::To {
            return self.end(
                leased,
                route,
                Ending::Dead {
                    reason: DeadReason::Hops,
                    last: None,
                },
                None,
            );
        }
        let started = Instant::now();
        let Some((stack, ticket)) = self
            .queues
            .begin(granted, leased.event.size_bytes(), started)
        else {
            return self.settle(leased.token, None, Ending::Released, Vec::new());
        };
        let token = leased.token;
        let one = Try {
            id: leased.id,
            tenant: leased.tenant.clone(),
            event: Arc::clone(&leased.event),
            attempt: leased.attempts.saturating_add(1),
            route: Arc::clone(&route),
            deadline: time.plus(route.policy.timeout()),
            end: AttemptEnd::default(),
        };
        self.flights.insert(
            token,
            Flight {
                leased,
                route,
                ticket,
                started,
            },
        );
        self.attempts.spawn(async move {
            let reached = match AssertUnwindSafe(stack.oneshot(one)).catch_unwind().await {
                Ok(Ok(reached)) => reached,
                Ok(Err(never)) => match never {},
                Err(_panic) => Reached::Target(Outcome::new(
                    Class::Failed,
                    "the connector panicked; this is a bug in it",
                )),
            };
            Landed {
                token,
                reached,
                at: Instant::now(),
            }
        });
    }

    /// An attempt has ended, and with it as many others as have ended too; none where it was
    /// cancelled.
    fn on_landed(&mut self, landed: Option<Landed>) {
        let mut next = landed;
        loop {
            if let Some(landed) = next {
                self.landed(landed);
            }
            match self.attempts.try_join_next() {
                Some(landed) => next = landed.ok(),
                None => break,
            }
        }
        self.show_in_flight();
    }

    fn landed(&mut self, Landed { token, reached, at }: Landed) {
        let Some(Flight {
            leased,
            route,
            ticket,
            started,
        }) = self.flights.remove(&token)
        else {
            return;
        };
        let time = self.clock.now();
        let mut outcome = match reached {
            Reached::Target(outcome) => outcome,
            Reached::Nothing(message) => {
                self.queues.ended_uncalled(ticket, started, at);
                let last = last_outcome(
                    &Outcome::new(Class::Rejected, message),
                    Class::Rejected,
                    time,
                );
                return self.end(
                    leased,
                    route,
                    Ending::Dead {
                        reason: DeadReason::Transform,
                        last: Some(last),
                    },
                    None,
                );
            }
        };
        let (class, retry_after) = (
            class_in_force(outcome.class, outcome.retry_after),
            outcome.retry_after,
        );
        let ended = queues::Outcome {
            delivery: leased.id,
            started,
            at,
            class,
            retry_after,
            message: &outcome.message,
        };
        self.queues.ended(ticket, ended, time, self.random.random());
        route
            .observe
            .attempted(class, at.saturating_duration_since(started));
        let number = leased.id.subscription;
        if class == Class::Delivered {
            self.queues.passed(ticket, at);
        }
        if class != Class::Refused
            && self
                .queues
                .resume_refused(ticket, class == Class::Delivered)
        {
            tracing::info!(rule = %route.identity.rule, target = %route.identity.target, "the target no longer refuses; going on");
            self.board.paused.lock().remove(&number);
        }
        let (attempts, failures, since) = (leased.attempts, leased.failures, leased.since);
        let now = self.due_clock.now();
        let tried = Tried {
            class,
            retry_after,
            attempts,
            failures,
            since,
            now,
        };
        // Of a subscription that pauses, the pause keeps the deliveries back and not their due
        // time: a reload or restart asks at once.
        let retry = |at, failure, outcome: &Outcome| Ending::Retry {
            at,
            failure,
            last: last_outcome(outcome, class, time),
        };
        let ending = match decide(&route.policy, &tried, self.random.random()) {
            Decision::Delivered => Ending::Delivered,
            Decision::RetryAt { at, failure } => retry(at, failure, &outcome),
            Decision::Dead(reason) => Ending::Dead {
                reason,
                last: Some(last_outcome(&outcome, class, time)),
            },
            Decision::PauseRefused { probe_at } => match self.queues.refused(ticket, leased.id, at)
            {
                Refusal::OfDelivery => Ending::Dead {
                    reason: DeadReason::Rejected,
                    last: Some(last_outcome(&outcome, class, time)),
                },
                Refusal::OfSubscription => {
                    self.refused(ticket, &route, &outcome, at + probe_at.since(now));
                    retry(now, false, &outcome)
                }
                Refusal::Unclear => {
                    self.queues
                        .ask_again_later(ticket, at + probe_at.since(now));
                    let wait = route.policy.backoff(attempts).min(REFUSED_ALONE_AGAIN);
                    retry(
                        now.plus(wait.mul_f64(self.random.random())),
                        false,
                        &outcome,
                    )
                }
            },
            // Where an event decides the address, that alone is gone.
            Decision::Gone if route.is_templated => Ending::Dead {
                reason: DeadReason::Rejected,
                last: Some(last_outcome(&outcome, class, time)),
            },
            Decision::Gone => {
                self.gone(number, &route);
                retry(now, false, &outcome)
            }
        };
        self.end(leased, route, ending, Some(&mut outcome));
    }

    fn refused(&mut self, ticket: Ticket, route: &Route, outcome: &Outcome, probe_at: Instant) {
        let number = ticket.subscription();
        if self.queues.pause_refused(ticket, probe_at) {
            let (rule, target) = (&route.identity.rule, &route.identity.target);
            let reason = match outcome.message.as_str() {
                "" => "the target refused a delivery",
                message => message,
            };
            tracing::warn!(%rule, %target, reason, "the target does not know us: paused, nothing is lost; mend its auth and resume it or reload");
            let paused = Paused {
                reason: reason.to_owned(),
                since: self.clock.now(),
            };
            self.board.paused.lock().insert(number, paused);
        }
    }

    fn gone(&mut self, number: SubscriptionNumber, route: &Route) {
        if !self.queues.pause_gone(number) {
            return;
        }
        let (rule, target) = (&route.identity.rule, &route.identity.target);
        tracing::warn!(%rule, %target, "the target is gone for good: paused until somebody resumes it, its deliveries are kept");
        let journal = Arc::clone(&self.journal);
        self.gone.spawn(async move {
            let mut pause = JOURNAL_AGAIN.0;
            while let Err(error) = journal.set_activity(number, Activity::Gone).await {
                if matches!(error, JournalError::NotFound(_) | JournalError::Closed) {
                    break;
                }
                tracing::warn!(%error, again_in = ?pause, "cannot note that a target is gone");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(JOURNAL_AGAIN.1);
            }
            number
        });
    }

    fn on_gone(&mut self, number: Option<SubscriptionNumber>) {
        if let Some(number) = number {
            self.queues.resume_gone(number);
        }
    }

    /// A delivery leaves with what follows from that.
    fn end(
        &mut self,
        leased: Leased,
        route: Arc<Route>,
        ending: Ending,
        outcome: Option<&mut Outcome>,
    ) {
        let follow_ups = follow_ups(
            &route,
            &leased,
            &ending,
            outcome,
            &mut self.replies,
            self.clock.now(),
        );
        self.settle(leased.token, Some(route), ending, follow_ups);
    }

    fn settle(
        &mut self,
        token: LeaseToken,
        route: Option<Arc<Route>>,
        ending: Ending,
        follow_ups: Vec<FollowUp>,
    ) {
        self.settling.push(Settled {
            route,
            settlement: Settlement {
                token,
                ending,
                follow_ups,
            },
        });
    }

    fn on_settled(&mut self, count: usize) {
        self.settled += count as u64;
        self.queues.settled();
        self.show_in_flight();
    }

    fn show_in_flight(&self) {
        self.board
            .in_flight
            .store(self.in_flight(), Ordering::Relaxed);
    }
}

fn last_outcome(outcome: &Outcome, class: Class, at: pointsman_schemas::Timestamp) -> LastOutcome {
    let response = outcome
        .response
        .get(..LAST_RESPONSE_BYTES_MAX)
        .unwrap_or(&outcome.response);
    let response = String::from_utf8_lossy(response).into_owned();
    LastOutcome {
        at,
        class,
        code: outcome.code,
        message: outcome.message.clone(),
        response,
    }
}
