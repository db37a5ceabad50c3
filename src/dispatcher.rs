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
//! - No attempt begins or goes on once the fence of its lease is cancelled.
//! - This module does not know HTTP, rules or what a store is made of.

mod attempts;
mod byte_budget;
mod circuit;
mod fair;
pub mod follow;
mod handle;
mod lane;
mod leasing;
mod limit;
mod observer;
mod occupancy;
mod owners;
mod part;
mod plan;
pub mod policy;
mod preparation;
mod quota;
pub mod rate;
mod record;
mod refusals;
mod scheduler;
mod settling;
mod share;
mod shutdown;
#[cfg(test)]
mod simulation;
mod stack;
mod status;
mod stop;
mod target_state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::HashMap;
use futures::future::FutureExt;
use pointsman_connectors::LogLimit;
use pointsman_journal::{Ending, Journal, LeaseToken, Leased, Record, Settlement};
use pointsman_schemas::{Clock, Outcome, SubscriptionNumber, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::attempts::{Finished, RunningAttempt};
use self::follow::follow_ups;
use self::handle::Command;
use self::leasing::Leasing;
use self::owners::Owners;
use self::scheduler::{Replaced, Scheduler};
use self::settling::{Settled, Settling};
use self::status::SharedStatus;
use self::stop::Stopping;
use crate::aside::aside;
use crate::pipes::Pipes;
use crate::router::Matcher;
use crate::waiting::Waiting;

pub use self::handle::{Handle, Options, Stopped, Summary};
pub use self::lane::LaneReason;
pub use self::observer::Observer;
pub use self::plan::{Batch, FollowUpPayload, FollowUpRoute, Plan, Quota, Route, Target};
pub use self::preparation::Preparation;
pub use self::record::{HistoryLevel, Recording};
pub use self::share::{LimitDemand, LimitShare, Limited};
pub use self::status::{CircuitStatus, TargetStatus};
pub use self::stop::StopReport;

/// How many attempts that have ended are looked at before something else has its turn.
const FINISHED_AT_ONCE: usize = 256;

/// One moment by all clocks, read once for all that is done at it.
#[derive(Clone, Copy)]
struct Now {
    instant: Instant,
    /// The time of day.
    time: Timestamp,
    /// The journal's time.
    due: Timestamp,
}

impl Now {
    /// What the journal's time was at an earlier instant.
    fn due_at(&self, earlier: Instant) -> Timestamp {
        let ago = self.instant.saturating_duration_since(earlier);
        self.due.minus(ago)
    }
}

/// Makes the attempts that are due. It begins with [`Dispatcher::run`].
pub struct Dispatcher {
    owners: Owners,
    /// The time of day, for what is shown.
    clock: Arc<dyn Clock>,
    /// The journal's time, by which deliveries are due and old.
    due_clock: Arc<dyn Clock>,
    options: Options,
    random: StdRng,
    scheduler: Scheduler,
    /// Matches the events that targets answer with.
    replies: Matcher,
    /// By the lease of their first deliveries.
    under_way: HashMap<LeaseToken, RunningAttempt>,
    /// How many more deliveries those have than one each.
    more_under_way: usize,
    /// Of those, the ones that are being stopped.
    stopping: HashMap<LeaseToken, Box<Stopping>>,
    attempts: TaskTracker,
    /// What each attempt sends when it has ended; one that is aborted sends nothing.
    finished: (
        mpsc::UnboundedSender<Finished>,
        mpsc::UnboundedReceiver<Finished>,
    ),
    leasing: Leasing,
    settling: Settling,
    /// Tells the journal which subscriptions are gone.
    gone: JoinSet<SubscriptionNumber>,
    commands: mpsc::Receiver<Command>,
    shared: Arc<SharedStatus>,
    settled: u64,
    /// One line about lanes in ten seconds.
    lane_log: LogLimit,
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

impl Dispatcher {
    /// A dispatcher with its first plan. `replies` matches the events that targets answer with.
    #[must_use]
    pub fn new(
        journal: Arc<dyn Journal>,
        pipes: Arc<Pipes>,
        clock: Arc<dyn Clock>,
        replies: Matcher,
        plan: Plan,
        options: Options,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(1);
        let shared = Arc::new(SharedStatus::default());
        let mut dispatcher = Self {
            due_clock: journal.clock(),
            owners: Owners { journal, pipes },
            clock,
            random: StdRng::seed_from_u64(options.seed),
            options,
            scheduler: Scheduler::new(options.in_flight_bytes_max),
            replies,
            under_way: HashMap::default(),
            more_under_way: 0,
            stopping: HashMap::default(),
            attempts: TaskTracker::new(),
            finished: mpsc::unbounded_channel(),
            leasing: Leasing::default(),
            settling: Settling::default(),
            gone: JoinSet::new(),
            commands,
            shared: Arc::clone(&shared),
            settled: 0,
            lane_log: LogLimit::default(),
            hasten: CancellationToken::new(),
        };
        dispatcher.reload(plan);
        (
            dispatcher,
            Handle {
                commands: sender,
                shared,
            },
        )
    }

    /// Lets somebody end the grace of a stop before its time.
    #[must_use]
    pub fn hastened_by(self, hasten: CancellationToken) -> Self {
        Self { hasten, ..self }
    }

    /// Has it use no more of each target and quota than its share, since other nodes use them too.
    /// Until a share is known it is the least that there is.
    #[must_use]
    pub fn sharing_limits(mut self) -> Self {
        self.scheduler.share_limits(Instant::now());
        self
    }

    /// Tells these of the ends of the tasks that they wait for.
    #[must_use]
    pub fn waited_for_by(mut self, waiting: Arc<Waiting>) -> Self {
        self.settling.waiting_callers = waiting;
        self
    }

    /// Dispatches until `shutdown` is cancelled. Then nothing more is leased; attempts under way
    /// have `grace` to finish, those that have not are abandoned and their deliveries put back, and
    /// everything is settled.
    pub async fn run(mut self, shutdown: CancellationToken, grace: Duration) -> Summary {
        let owners = self.owners.clone();
        let shared = Arc::clone(&self.shared);
        let mut due = pin!(owners.due().fuse());
        // Made once: each costs several locks.
        let mut stopped = pin!(shutdown.cancelled());
        let mut probed = pin!(shared.has_probes.notified());
        let mut finished = Vec::new();
        let timer = sleep_until(Instant::now());
        let mut timer = pin!(timer);
        loop {
            let now = Instant::now();
            self.settling.start(&self.owners, now);
            self.start_lease(now);
            let wake_at = self.wake_at();
            if let Some(at) = wake_at.filter(|at| *at != timer.deadline()) {
                timer.as_mut().reset(at);
            }
            tokio::select! {
                () = &mut stopped => break,
                Some(command) = self.commands.recv() => self.obey(command),
                () = &mut probed => {
                    probed.set(shared.has_probes.notified());
                    let numbers = std::mem::take(&mut *self.shared.probes.lock());
                    self.scheduler.probe(numbers);
                    self.stop_attempts();
                }
                numbers = &mut due => {
                    self.scheduler.note_due(numbers);
                    due.set(owners.due().fuse());
                }
                answer = self.leasing.next(), if self.leasing.is_calling() => self.leased(answer, false),
                settled = self.settling.next(), if self.settling.is_calling() => self.settled_some(settled),
                _ = self.finished.1.recv_many(&mut finished, FINISHED_AT_ONCE), if !self.under_way.is_empty() => {
                    // Lets the attempts go first that have their answers too, so that all of them
                    // are settled and replaced together.
                    yield_now().await;
                    while finished.len() < FINISHED_AT_ONCE && let Ok(more) = self.finished.1.try_recv() {
                        finished.push(more);
                    }
                    self.finished(&mut finished);
                }
                Some(number) = self.gone.join_next(), if !self.gone.is_empty() => self.noted_gone(number.ok()),
                () = &mut timer, if wake_at.is_some() => {
                    self.scheduler.fire(Instant::now());
                    self.show_lanes();
                }
            }
        }
        self.stop(grace).await
    }

    /// Does what it is told. Whoever asked may have gone meanwhile.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Plan(plan, done) => {
                // A plan may have ten thousand routes.
                let old = aside(|| self.reload(plan));
                let _nobody_waits = done.send(old);
            }
            Command::Shares(shares, done) => {
                let (now, time) = (Instant::now(), self.clock.now());
                let demands = self.scheduler.share(&shares, now, time);
                let _nobody_waits = done.send(demands);
            }
        }
    }

    /// Hands back what is in force no more.
    fn reload(&mut self, plan: Plan) -> Replaced {
        let (gauges, old) = self
            .scheduler
            .reload(plan, Instant::now(), self.clock.now());
        *self.shared.targets.lock() = gauges;
        self.scheduler.retain_paused(&mut self.shared.paused.lock());
        *self.shared.lanes.lock() = self.scheduler.own_lanes();
        old
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            time: self.clock.now(),
            due: self.due_clock.now(),
        }
    }

    fn in_flight(&self) -> usize {
        self.under_way.len() + self.more_under_way + self.settling.len()
    }

    fn wake_at(&self) -> Option<Instant> {
        [
            self.scheduler.next_timer(),
            self.settling.again_at(),
            self.leasing.again_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn start_lease(&mut self, now: Instant) {
        if self.leasing.may_start(now) && self.scheduler.has_awake() {
            let (granted, bytes_max) =
                self.scheduler
                    .grants(self.options.in_flight_max, self.in_flight(), now);
            if !granted.is_empty() {
                self.leasing.start(&self.owners, granted, bytes_max);
            }
        }
    }

    /// A delivery leaves with what follows from that.
    fn end(
        &mut self,
        leased: Leased,
        route: Arc<Route>,
        ending: Ending,
        outcome: Option<&mut Outcome>,
        record: Record,
        now: Now,
    ) {
        let ending = self.ending_if_stopped(leased.token, ending);
        let waiting = &self.settling.waiting_callers;
        let tried = leased.attempts + u32::from(outcome.is_some());
        let waited_for = waiting.status_of(&leased.id, &ending, tried, outcome.as_deref());
        let replies = &mut self.replies;
        let follow_ups = follow_ups(&route, &leased, &ending, outcome, replies, now.time);
        self.settling.push(Settled {
            route: Some(route),
            stopping: self.stopping.remove(&leased.token),
            settlement: Settlement {
                follow_ups,
                record,
                ..Settlement::new(leased.token, ending)
            },
            waited_for,
        });
    }

    /// Puts a delivery back as if it had not been leased, or ends it where somebody has stopped it.
    fn release(&mut self, leased: &Leased, route: Option<Arc<Route>>) {
        let ending = self.ending_if_stopped(leased.token, Ending::Released);
        let waiting = &self.settling.waiting_callers;
        let waited_for = waiting.status_of(&leased.id, &ending, leased.attempts, None);
        self.settling.push(Settled {
            route,
            stopping: self.stopping.remove(&leased.token),
            settlement: Settlement::new(leased.token, ending),
            waited_for,
        });
    }

    fn settled_some(&mut self, count: usize) {
        self.settled += count as u64;
        self.scheduler.settled();
        self.show_in_flight();
    }

    /// Tells of the subscriptions that have moved to another lane.
    fn show_lanes(&mut self) {
        if self.scheduler.moved.is_empty() {
            return;
        }
        let moved = std::mem::take(&mut self.scheduler.moved);
        let mut lanes = self.shared.lanes.lock();
        for (number, reason) in moved {
            match reason {
                Some(reason) => lanes.insert(number, reason),
                None => lanes.remove(&number),
            };
            let (Some(route), Some(moves)) = (self.scheduler.route(number), self.lane_log.admit(1))
            else {
                continue;
            };
            let (rule, target) = (&route.identity.rule, &route.identity.target);
            let in_own_lane = lanes.len();
            match reason.map(LaneReason::as_str) {
                Some(reason) => tracing::info!(
                    %rule, %target, reason, moves, in_own_lane,
                    "a subscription has a lane of its own now, so that it delays no others"
                ),
                None => tracing::info!(
                    %rule, %target, moves, in_own_lane,
                    "a subscription is well again, and back in the shared lane"
                ),
            }
        }
    }

    fn show_in_flight(&self) {
        self.shared
            .in_flight
            .store(self.in_flight(), Ordering::Relaxed);
    }
}
