//! Which subscriptions may have something to lease, and what each may be granted.
//!
//! Nothing here waits or does IO. Work is in proportion to what happens: a subscription costs
//! something only while it may have something to lease, a target only when something has changed
//! for it.

mod grant;
mod lanes;
mod pause;
mod quotas;
mod reload;
mod share;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use pointsman_schemas::{Class, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

pub(super) use self::grant::LeaseGrant;
use super::byte_budget::{ByteBudget, Pool};
use super::lane::{Lane, LaneReason};
use super::plan::Route;
use super::quota::{Charged, Quotas};
use super::refusals::Refusals;
use super::target_state::{AttemptResult, TargetState};

/// So many new subscriptions are asked for at once, and as many again after this time: a reload may
/// bring ten thousand.
const NEW_AT_ONCE: usize = 64;
const NEW_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Every subscription and target of the plan in force.
pub(super) struct Scheduler {
    /// By index; a slot is used again once its target is gone and has no attempt under way.
    targets: Vec<Option<TargetState>>,
    subscriptions: HashMap<SubscriptionNumber, SubscriptionState>,
    /// The targets to look at.
    awake: VecDeque<usize>,
    /// Those that may be given nothing until fewer deliveries are in flight.
    starved: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    bytes: ByteBudget,
    quotas: Quotas,
    /// Those whose next event does not fit among the bytes in flight, the first to come first.
    short_of_bytes: VecDeque<SubscriptionNumber>,
    /// Those that nothing has been leased of since a reload brought them.
    new: VecDeque<SubscriptionNumber>,
    /// Those whose lane is looked at again, by when.
    watched: VecDeque<(Instant, SubscriptionNumber)>,
    /// Checks of lanes fall together, counted from here.
    base: Instant,
    /// Deliveries under way of subscriptions whose deliveries are counted apart.
    apart: usize,
    /// Whether other nodes use the targets and quotas too.
    shares_limits: bool,
    /// Those that have moved to another lane, and nobody knows yet.
    pub(super) moved: Vec<(SubscriptionNumber, Option<LaneReason>)>,
}

/// The subscriptions of a plan that is in force no more.
pub(super) type Replaced = HashMap<SubscriptionNumber, SubscriptionState>;

#[derive(Debug)]
pub(super) struct SubscriptionState {
    route: Arc<Route>,
    target: usize,
    /// Whether it may have something to lease.
    is_ready: bool,
    /// Whether it has been told so again while a lease was under way, which may not have seen that.
    is_due_again: bool,
    /// The size of its next event, once that did not fit into what was granted.
    next_bytes: Option<usize>,
    /// When its next call has waited long enough for more deliveries, where that has been told.
    gathers_until: Option<Instant>,
    /// Whether it waits in `short_of_bytes`.
    is_short: bool,
    /// Whether an event of it is in flight in the overflow.
    has_overflow: bool,
    refusals: Refusals,
    pause: Option<Pause>,
    lane: Lane,
    /// Its deliveries under way.
    deliveries: usize,
    /// Where it is charged.
    quotas: Charged,
    /// Whether it waits for one of these.
    waits_for_quota: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// The target does not know us.
    Refused(Probe),
    /// The target is gone, and the journal is being told.
    Gone,
}

/// Asking a target that refused a subscription whether it still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Not before its timer.
    Waiting(Instant),
    /// With the next delivery.
    Due,
    /// A delivery is on its way.
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Target(usize),
    Refused(SubscriptionNumber),
    Gathered(SubscriptionNumber),
    New,
    Quota(usize),
}

/// An attempt under way, as the scheduler knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permit {
    subscription: SubscriptionNumber,
    target: usize,
    epoch: u64,
    charged: f64,
    is_probe: bool,
    asks: bool,
    pool: Pool,
    deliveries: usize,
    event_bytes: usize,
    quotas: Charged,
}

impl Permit {
    pub(super) fn subscription(&self) -> SubscriptionNumber {
        self.subscription
    }
}

impl Scheduler {
    /// Without a plan; the events in flight may have so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            targets: Vec::new(),
            subscriptions: HashMap::default(),
            awake: VecDeque::new(),
            starved: Vec::new(),
            timers: BinaryHeap::new(),
            bytes: ByteBudget::new(bytes_max),
            quotas: Quotas::default(),
            short_of_bytes: VecDeque::new(),
            new: VecDeque::new(),
            watched: VecDeque::new(),
            base: Instant::now(),
            apart: 0,
            shares_limits: false,
            moved: Vec::new(),
        }
    }

    fn target(&mut self, index: usize) -> Option<&mut TargetState> {
        self.targets.get_mut(index)?.as_mut()
    }

    fn drop_unwanted(&mut self, index: usize) {
        if let Some(slot) = self.targets.get_mut(index)
            && slot
                .as_ref()
                .is_some_and(|target| !target.is_wanted && target.in_use() == 0)
        {
            *slot = None;
        }
    }

    pub(super) fn route(&self, number: SubscriptionNumber) -> Option<&Arc<Route>> {
        self.subscriptions.get(&number).map(|state| &state.route)
    }

    /// The journal says that these may have something to lease.
    pub(super) fn note_due(&mut self, numbers: impl IntoIterator<Item = SubscriptionNumber>) {
        for number in numbers {
            if let Some(state) = self.subscriptions.get_mut(&number) {
                (state.is_ready, state.is_due_again) = (true, true);
                self.enter(number);
            }
        }
    }

    fn ask_new(&mut self, now: Instant) {
        let some = self
            .new
            .drain(..self.new.len().min(NEW_AT_ONCE))
            .collect::<Vec<_>>();
        self.note_due(some);
        if !self.new.is_empty() {
            self.timers
                .push(Reverse((now + NEW_AGAIN_AFTER, Timer::New)));
        }
    }

    /// Lets a subscription take turns, where it may.
    fn enter(&mut self, number: SubscriptionNumber) {
        let Some(state) = self.subscriptions.get(&number) else {
            return;
        };
        let may = state.is_ready
            && !state.is_short
            && !state.waits_for_quota
            && matches!(state.pause, None | Some(Pause::Refused(Probe::Due)));
        let (index, priority) = (state.target, state.route.priority);
        if may && let Some(target) = self.target(index) {
            target.turns.add(number, priority);
            self.wake(index);
        }
    }

    fn leave(&mut self, number: SubscriptionNumber) {
        if let Some(index) = self.subscriptions.get(&number).map(|state| state.target)
            && let Some(target) = self.target(index)
        {
            target.turns.remove(number);
        }
    }

    fn wake(&mut self, index: usize) {
        if let Some(target) = self.target(index)
            && !target.is_awake
            && !target.turns.is_empty()
        {
            target.is_awake = true;
            self.awake.push_back(index);
        }
    }

    pub(super) fn has_awake(&self) -> bool {
        !self.awake.is_empty()
    }

    /// Something in flight has been settled: targets that were given nothing may be given
    /// something.
    pub(super) fn settled(&mut self) {
        for index in std::mem::take(&mut self.starved) {
            self.wake(index);
        }
    }

    /// Leased deliveries, whose events have so many bytes, become an attempt.
    pub(super) fn begin(
        &mut self,
        grant: &mut LeaseGrant,
        deliveries: usize,
        event_bytes: usize,
        now: Instant,
    ) -> Option<(super::stack::Stack, Permit)> {
        let LeaseGrant {
            turn,
            pool,
            target: index,
            epoch,
            is_probe,
            asks,
            ..
        } = *grant;
        let subscription = turn.subscription;
        let target = self.target(index)?;
        target.begin(subscription, deliveries, now);
        let stack = target.stack.clone();
        if pool == Pool::Share {
            target.bytes += event_bytes;
        } else {
            // Only as much was asked for as the event had when it was looked at; the next one may
            // be smaller.
            self.bytes.give_back(pool, grant.bytes_max);
        }
        self.bytes.take(pool, event_bytes);
        grant.begun += 1;
        self.watch(subscription, index, deliveries, now);
        Some((
            stack,
            Permit {
                subscription,
                target: index,
                epoch,
                charged: turn.charged,
                is_probe,
                asks,
                pool,
                deliveries,
                event_bytes,
                quotas: grant.quotas,
            },
        ))
    }

    /// The next call of a subscription waits for more deliveries until then.
    pub(super) fn gathers(&mut self, number: SubscriptionNumber, until: Instant) {
        if let Some(state) = self.subscriptions.get_mut(&number)
            && state.gathers_until.is_none_or(|earlier| until < earlier)
        {
            state.gathers_until = Some(until);
            self.timers.push(Reverse((until, Timer::Gathered(number))));
        }
    }

    /// An attempt has ended. `random` is uniform in `0.0..1.0`.
    pub(super) fn ended(
        &mut self,
        permit: Permit,
        result: AttemptResult<'_>,
        time: Timestamp,
        random: f64,
    ) {
        let Permit {
            subscription,
            target: index,
            epoch,
            charged,
            is_probe,
            pool,
            deliveries,
            event_bytes,
            quotas,
            ..
        } = permit;
        self.uncharge(quotas, 1, true, result.at);
        self.leave_lane(&permit, Some((result.class, result.at)));
        if let Some(target) = self.target(index) {
            target.give_back(pool, deliveries, event_bytes);
            if result.class != Class::Delivered {
                target.gauge.set_error(result.message);
            }
            let took = result.at.saturating_duration_since(result.started);
            target
                .turns
                .ended(subscription, charged, took.as_secs_f64());
            target.end(result, epoch, is_probe, time, random);
        }
        self.give_back(subscription, pool, event_bytes);
        self.wake(index);
        self.drop_unwanted(index);
    }

    /// An attempt has ended without the target being called.
    pub(super) fn ended_uncalled(&mut self, permit: Permit, started: Instant, now: Instant) {
        self.uncharge(permit.quotas, 1, true, now);
        self.leave_lane(&permit, None);
        if let Some(target) = self.target(permit.target) {
            target.give_back(permit.pool, permit.deliveries, permit.event_bytes);
            target.turns.ended(permit.subscription, permit.charged, 0.0);
            target.end_uncalled(
                permit.subscription,
                started,
                permit.epoch,
                permit.is_probe,
                now,
            );
        }
        self.give_back(permit.subscription, permit.pool, permit.event_bytes);
        if permit.asks {
            self.ask_again(permit.subscription);
        }
        self.wake(permit.target);
        self.drop_unwanted(permit.target);
    }

    /// When [`Scheduler::fire`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let check = self.watched.front().map(|(at, _)| *at);
        timer.into_iter().chain(check).min()
    }

    /// Does what has fallen due.
    pub(super) fn fire(&mut self, now: Instant) {
        self.check_lanes(now);
        while let Some(Reverse((at, timer))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            match timer {
                Timer::Target(index) => {
                    if let Some(target) = self.target(index) {
                        target.wake_at = None;
                    }
                    self.wake(index);
                }
                Timer::Refused(number) => self.probe_is_due(number, now),
                Timer::Gathered(number) => {
                    if let Some(state) = self.subscriptions.get_mut(&number) {
                        state.gathers_until = None;
                    }
                    self.note_due([number]);
                }
                Timer::New => self.ask_new(now),
                Timer::Quota(quota) => self.quota_timer(quota, now),
            }
        }
    }
}
