//! Which subscriptions may have something to lease, and what each may be granted.
//!
//! Nothing here waits or does IO. Work is in proportion to what happens: a subscription costs
//! something only while it may have something to lease, a target only when something has changed
//! for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{DeliveryId, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::bytes::{Bytes, Place};
use super::fair::Turn;
use super::lane::{Ended, Lane, Room};
use super::plan::{Route, Target};
use super::refusals::{Refusal, Refusals};
use super::status::{Gauge, Paused};

/// By how much a lease outlasts its attempt: what starting it, and a store that is slow to settle
/// it, may take. A lease that runs out earlier is a second delivery while the first is still under
/// way.
const LEASE_MARGIN: Duration = Duration::from_secs(60);

/// So many subscriptions that wait for bytes are looked at when some are given back, and as many
/// again for each that finds its room.
const LOOKED_AT_FOR_BYTES: usize = 16;

/// So many new subscriptions are asked for at once, and as many again after this time: a reload may
/// bring ten thousand.
const NEW_AT_ONCE: usize = 64;
const NEW_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Every subscription and target of the plan in force.
pub(super) struct Queues {
    /// By slots that are used again once a target is gone and nothing of it is under way.
    lanes: Vec<Option<Lane>>,
    queues: HashMap<SubscriptionNumber, Queue>,
    /// The lanes to look at, and those for which there was no room among all deliveries in flight.
    awake: VecDeque<usize>,
    starved: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    bytes: Bytes,
    /// Those whose next event has no room among the bytes in flight, the first to come the first in
    /// line.
    short_of_bytes: VecDeque<SubscriptionNumber>,
    /// Have not been asked for since a reload brought them.
    new: VecDeque<SubscriptionNumber>,
}

/// The subscriptions of a plan that is in force no more.
pub(super) type Replaced = HashMap<SubscriptionNumber, Queue>;

/// One subscription.
#[derive(Debug)]
pub(super) struct Queue {
    route: Arc<Route>,
    lane: usize,
    /// Whether it may have something to lease.
    is_ready: bool,
    /// Whether it has been told so again while a lease was under way, which may not have seen that.
    is_told_again: bool,
    /// The size of its next event, once that did not fit into what was granted.
    next_bytes: Option<usize>,
    /// Whether it waits in `short_of_bytes`.
    is_short: bool,
    /// Whether an event of it is in flight beside the shares.
    has_beside: bool,
    refusals: Refusals,
    pause: Option<Pause>,
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
    Lane(usize),
    Refused(SubscriptionNumber),
    New,
}

/// The right of one subscription to so many leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) turn: Turn,
    pub(super) lease: Duration,
    pub(super) bytes_max: usize,
    place: Place,
    lane: usize,
    epoch: u64,
    is_probe: bool,
    asks: bool,
    /// Of these the journal had so many, and so many became attempts.
    pub(super) leased: usize,
    pub(super) begun: usize,
}

/// An attempt under way, as the queues know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    subscription: SubscriptionNumber,
    lane: usize,
    epoch: u64,
    charged: f64,
    is_probe: bool,
    asks: bool,
    place: Place,
    event_bytes: usize,
}

impl Ticket {
    pub(super) fn subscription(&self) -> SubscriptionNumber {
        self.subscription
    }
}

impl Queues {
    /// Without a plan; the events in flight may have so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            lanes: Vec::new(),
            queues: HashMap::new(),
            awake: VecDeque::new(),
            starved: Vec::new(),
            timers: BinaryHeap::new(),
            bytes: Bytes::new(bytes_max),
            short_of_bytes: VecDeque::new(),
            new: VecDeque::new(),
        }
    }

    /// Puts a plan in force. Subscriptions that were not there before are asked for; those that a
    /// target refused are tried again. What was in force comes back beside the gauges.
    pub(super) fn reload(
        &mut self,
        targets: Vec<Target>,
        routes: Vec<(SubscriptionNumber, Arc<Route>)>,
        now: Instant,
        time: Timestamp,
    ) -> (Vec<Arc<Gauge>>, Replaced) {
        for lane in self.lanes.iter_mut().flatten() {
            (
                lane.is_wanted,
                lane.is_awake,
                lane.wake_at,
                lane.subscriptions,
            ) = (false, false, None, 0);
        }
        let known = self.lanes.iter().enumerate();
        let known = known.filter_map(|(index, lane)| {
            lane.as_ref()
                .map(|lane| ((lane.tenant.clone(), lane.name.clone()), index))
        });
        let known: HashMap<_, _> = known.collect();
        let free = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| lane.is_none())
            .map(|(index, _)| index);
        let mut free = free
            .collect::<Vec<_>>()
            .into_iter()
            .chain(self.lanes.len()..);
        let slots: Vec<usize> = targets
            .into_iter()
            .map(|target| {
                let index = known
                    .get(&(target.tenant.clone(), target.name.clone()))
                    .copied()
                    .or_else(|| free.next())
                    .unwrap_or(usize::MAX);
                self.place(index, target, now, time);
                index
            })
            .collect();
        let old = std::mem::replace(&mut self.queues, HashMap::with_capacity(routes.len()));
        for (number, route) in routes {
            let Some(lane) = slots.get(route.target).copied() else {
                continue;
            };
            let fresh = Queue {
                route,
                lane,
                is_ready: false,
                is_told_again: false,
                next_bytes: None,
                is_short: false,
                has_beside: false,
                refusals: Refusals::default(),
                pause: None,
            };
            let queue = match old.get(&number) {
                None => {
                    self.new.push_back(number);
                    fresh
                }
                Some(old) => {
                    let pause = match old.pause {
                        Some(Pause::Refused(Probe::Waiting(_))) => Some(Pause::Refused(Probe::Due)),
                        pause => pause,
                    };
                    let (next_bytes, has_beside) = (old.next_bytes, old.has_beside);
                    Queue {
                        is_ready: old.is_ready || pause.is_some(),
                        is_told_again: true,
                        next_bytes,
                        has_beside,
                        pause,
                        ..fresh
                    }
                }
            };
            self.queues.insert(number, queue);
        }
        self.timers.clear();
        self.awake.clear();
        self.starved.clear();
        self.short_of_bytes.clear();
        let queues = &self.queues;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(lane) = lane {
                lane.keep(|number| queues.get(&number).is_some_and(|queue| queue.lane == index));
            }
        }
        for queue in self.queues.values() {
            if let Some(Some(lane)) = self.lanes.get_mut(queue.lane) {
                lane.subscriptions += 1;
            }
        }
        let numbers: Vec<_> = self.queues.keys().copied().collect();
        for number in numbers {
            self.enter(number);
        }
        self.ask_new(now);
        let lanes = (0..self.lanes.len()).collect::<Vec<_>>();
        for lane in lanes {
            self.wake(lane);
            self.drop_unwanted(lane);
        }
        let gauges = slots
            .iter()
            .filter_map(|slot| self.lanes.get(*slot)?.as_ref())
            .map(|lane| Arc::clone(&lane.gauge));
        (gauges.collect(), old)
    }

    /// Puts a target into a slot: that of its lane, a free one, or the one behind the last.
    fn place(&mut self, index: usize, target: Target, now: Instant, time: Timestamp) {
        match self.lanes.get_mut(index) {
            Some(Some(lane)) => lane.renew(target, now, time),
            Some(slot) => *slot = Some(Lane::new(target, now, time)),
            None => self.lanes.push(Some(Lane::new(target, now, time))),
        }
    }

    fn lane(&mut self, index: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(index)?.as_mut()
    }

    fn drop_unwanted(&mut self, index: usize) {
        if let Some(slot) = self.lanes.get_mut(index)
            && slot
                .as_ref()
                .is_some_and(|lane| !lane.is_wanted && lane.in_use() == 0)
        {
            *slot = None;
        }
    }

    pub(super) fn route(&self, number: SubscriptionNumber) -> Option<&Arc<Route>> {
        self.queues.get(&number).map(|queue| &queue.route)
    }

    /// The journal says that these may have something to lease.
    pub(super) fn tell(&mut self, numbers: impl IntoIterator<Item = SubscriptionNumber>) {
        for number in numbers {
            if let Some(queue) = self.queues.get_mut(&number) {
                (queue.is_ready, queue.is_told_again) = (true, true);
                self.enter(number);
            }
        }
    }

    fn ask_new(&mut self, now: Instant) {
        let some = self
            .new
            .drain(..self.new.len().min(NEW_AT_ONCE))
            .collect::<Vec<_>>();
        self.tell(some);
        if !self.new.is_empty() {
            self.timers
                .push(Reverse((now + NEW_AGAIN_AFTER, Timer::New)));
        }
    }

    /// Lets a subscription take turns, where it may.
    fn enter(&mut self, number: SubscriptionNumber) {
        let Some(queue) = self.queues.get(&number) else {
            return;
        };
        let may = queue.is_ready
            && !queue.is_short
            && matches!(queue.pause, None | Some(Pause::Refused(Probe::Due)));
        let index = queue.lane;
        if may && let Some(lane) = self.lane(index) {
            lane.turns.add(number);
            self.wake(index);
        }
    }

    fn leave(&mut self, number: SubscriptionNumber) {
        if let Some(index) = self.queues.get(&number).map(|queue| queue.lane)
            && let Some(lane) = self.lane(index)
        {
            lane.turns.remove(number);
        }
    }

    fn wake(&mut self, index: usize) {
        if let Some(lane) = self.lane(index)
            && !lane.is_awake
            && !lane.turns.is_empty()
        {
            lane.is_awake = true;
            self.awake.push_back(index);
        }
    }

    pub(super) fn has_awake(&self) -> bool {
        !self.awake.is_empty()
    }

    /// Something in flight has been settled: lanes for which there was no room may have some.
    pub(super) fn settled(&mut self) {
        for lane in std::mem::take(&mut self.starved) {
            self.wake(lane);
        }
    }

    /// Grants leases of what is ready: at most `budget` in all. Gives with them how many bytes they
    /// may bring together.
    pub(super) fn grants(&mut self, mut budget: usize, now: Instant) -> (Vec<Granted>, usize) {
        let mut all = Vec::new();
        let mut free = self.bytes.free();
        let mut bytes_max = free;
        while budget > 0 {
            let Some(index) = self.awake.pop_front() else {
                break;
            };
            let Some((turns, room)) = self.turns(index, budget, now) else {
                continue;
            };
            let mut share = Bytes::share(free, self.lane(index).map_or(0, |lane| lane.bytes));
            let each = share / turns.len().max(1);
            for turn in turns {
                let is_exact = self
                    .queues
                    .get(&turn.subscription)
                    .is_some_and(|queue| queue.next_bytes.is_some());
                let Some((place, bytes)) = self.find_room(turn, share, each) else {
                    continue;
                };
                match place {
                    Place::Share if is_exact => (free, share) = (free - bytes, share - bytes),
                    Place::Share => {}
                    Place::Beside | Place::Giant => bytes_max = bytes_max.saturating_add(bytes),
                }
                budget = budget.saturating_sub(turn.count);
                all.extend(self.granting(turn, room.is_probe, (place, bytes), now));
            }
        }
        // What waits for its room gets it before others take it.
        all.sort_by_key(|granted| {
            self.queues
                .get(&granted.turn.subscription)
                .is_none_or(|queue| queue.next_bytes.is_none())
        });
        (all, bytes_max)
    }

    /// Whose turn it is at a target, as far as that has room and may take so many.
    fn turns(&mut self, index: usize, budget: usize, now: Instant) -> Option<(Vec<Turn>, Room)> {
        let queues = &self.queues;
        let lane = self.lanes.get_mut(index).and_then(Option::as_mut)?;
        lane.is_awake = false;
        if !lane.is_wanted || lane.turns.is_empty() {
            return None;
        }
        let room = lane.room(now);
        if room.slots == 0 {
            if let Some(at) = room
                .again_at
                .filter(|at| lane.wake_at.is_none_or(|earlier| *at < earlier))
            {
                lane.wake_at = Some(at);
                self.timers.push(Reverse((at, Timer::Lane(index))));
            }
            return None;
        }
        // A target may use as much as it leaves free (dynamic thresholds, Choudhury and Hahne
        // 1998): one that answers nothing takes up half of what may be in flight at most, a second
        // one half of the rest.
        let share = (budget + lane.in_use())
            .div_ceil(2)
            .saturating_sub(lane.in_use());
        if share == 0 {
            self.starved.push(index);
            return None;
        }
        let goes_alone = |number| {
            queues
                .get(&number)
                .is_some_and(|queue| queue.pause.is_some() || queue.next_bytes.is_some())
        };
        let turns = lane.grant_turns(
            room.slots.min(share),
            |number| if goes_alone(number) { 1 } else { usize::MAX },
            now,
        );
        Some((turns, room))
    }

    /// Where the events of a turn are counted, and how many bytes they may have. A subscription
    /// whose next event has no room gives its turn back and waits for some.
    fn find_room(&mut self, turn: Turn, share: usize, each: usize) -> Option<(Place, usize)> {
        let number = turn.subscription;
        let queue = self.queues.get_mut(&number)?;
        let Some(event_bytes) = queue.next_bytes else {
            return Some((Place::Share, each));
        };
        let beside = || {
            self.bytes
                .place_beside(event_bytes)
                .filter(|_| !queue.has_beside)
        };
        if let Some(place) = if event_bytes <= share {
            Some(Place::Share)
        } else {
            beside()
        } {
            if place != Place::Share {
                queue.has_beside = true;
                self.bytes.take(place, event_bytes);
            }
            self.look_for_bytes();
            return Some((place, event_bytes));
        }
        let index = queue.lane;
        if !std::mem::replace(&mut queue.is_short, true) {
            self.short_of_bytes.push_back(number);
        }
        if let Some(lane) = self.lane(index) {
            lane.turns.remove(number);
            lane.turns.refund(turn, turn.count);
        }
        self.wake(index);
        None
    }

    fn granting(
        &mut self,
        turn: Turn,
        is_probe: bool,
        (place, bytes_max): (Place, usize),
        now: Instant,
    ) -> Option<Granted> {
        let queue = self.queues.get_mut(&turn.subscription)?;
        let index = queue.lane;
        let lane = self.lanes.get_mut(index).and_then(Option::as_mut)?;
        lane.grant(turn.count, is_probe, now);
        queue.is_told_again = false;
        let asks = queue.pause == Some(Pause::Refused(Probe::Due));
        if asks {
            queue.pause = Some(Pause::Refused(Probe::Out));
            lane.turns.remove(turn.subscription);
        }
        let (lease, epoch) = (queue.route.policy.timeout() + LEASE_MARGIN, lane.epoch);
        Some(Granted {
            turn,
            lease,
            bytes_max,
            place,
            lane: index,
            epoch,
            is_probe,
            asks,
            leased: 0,
            begun: 0,
        })
    }

    /// Lets some of those that wait for bytes take turns again.
    fn look_for_bytes(&mut self) {
        let some = self
            .short_of_bytes
            .drain(..self.short_of_bytes.len().min(LOOKED_AT_FOR_BYTES))
            .collect::<Vec<_>>();
        for number in some {
            if let Some(queue) = self.queues.get_mut(&number) {
                queue.is_short = false;
                self.enter(number);
            }
        }
    }

    /// Bytes are in flight no more.
    fn give_back(&mut self, number: SubscriptionNumber, place: Place, event_bytes: usize) {
        self.bytes.give_back(place, event_bytes);
        if place != Place::Share
            && let Some(queue) = self.queues.get_mut(&number)
        {
            queue.has_beside = false;
        }
        self.look_for_bytes();
    }

    /// A leased delivery, whose event has so many bytes, becomes an attempt.
    pub(super) fn begin(
        &mut self,
        granted: &mut Granted,
        event_bytes: usize,
        now: Instant,
    ) -> Option<(super::stack::Stack, Ticket)> {
        let Granted {
            turn,
            place,
            lane: index,
            epoch,
            is_probe,
            asks,
            ..
        } = *granted;
        let subscription = turn.subscription;
        let lane = self.lane(index)?;
        lane.begin(subscription, now);
        let stack = lane.stack.clone();
        if place == Place::Share {
            lane.bytes += event_bytes;
        } else {
            // Only as much was asked for as the event had when it was looked at; the next one may
            // be smaller.
            self.bytes.give_back(place, granted.bytes_max);
        }
        self.bytes.take(place, event_bytes);
        granted.begun += 1;
        Some((
            stack,
            Ticket {
                subscription,
                lane: index,
                epoch,
                charged: turn.charged,
                is_probe,
                asks,
                place,
                event_bytes,
            },
        ))
    }

    /// A grant is over. It `failed` where nothing is known of what there is; `next_bytes` is the
    /// size of the event at which it ended for want of bytes.
    pub(super) fn granted(
        &mut self,
        granted: Granted,
        failed: bool,
        next_bytes: Option<usize>,
        now: Instant,
    ) {
        let Granted {
            turn,
            bytes_max,
            place,
            lane: index,
            epoch,
            is_probe,
            asks,
            leased,
            begun,
            ..
        } = granted;
        let number = turn.subscription;
        let unused = turn.count.saturating_sub(begun);
        if let Some(lane) = self.lane(index) {
            lane.turns.refund(turn, unused);
            lane.granted(turn.count, unused, epoch, is_probe, now);
        }
        if place != Place::Share && begun == 0 {
            self.give_back(number, place, bytes_max);
        }
        if let Some(queue) = self.queues.get_mut(&number) {
            if !failed {
                queue.next_bytes = next_bytes;
            }
            if leased < turn.count && next_bytes.is_none() && !failed && !queue.is_told_again {
                queue.is_ready = false;
                self.leave(number);
            }
            if asks && begun == 0 {
                self.ask_again(number);
            }
        }
        self.wake(index);
        self.drop_unwanted(index);
    }

    /// Nothing was there to ask a target with that refused a subscription: the next delivery does.
    fn ask_again(&mut self, number: SubscriptionNumber) {
        if let Some(queue) = self.queues.get_mut(&number)
            && queue.pause == Some(Pause::Refused(Probe::Out))
        {
            queue.pause = Some(Pause::Refused(Probe::Due));
            self.enter(number);
        }
    }

    /// An attempt has ended. `random` is uniform in `0.0..1.0`.
    pub(super) fn ended(&mut self, ticket: Ticket, ended: Outcome, time: Timestamp, random: f64) {
        let Ticket {
            subscription,
            lane: index,
            epoch,
            charged,
            is_probe,
            place,
            event_bytes,
            ..
        } = ticket;
        let Outcome {
            delivery,
            started,
            at,
            class,
            retry_after,
            message,
        } = ended;
        let sequence = delivery.sequence.0;
        if let Some(lane) = self.lane(index) {
            lane.give_back(place, event_bytes);
            if class != pointsman_schemas::Class::Delivered {
                lane.gauge.set_error(message);
            }
            lane.turns.ended(
                subscription,
                charged,
                at.saturating_duration_since(started).as_secs_f64(),
            );
            lane.end(
                Ended {
                    subscription,
                    sequence,
                    epoch,
                    is_probe,
                    started,
                    at,
                    class,
                    retry_after,
                    message,
                },
                time,
                random,
            );
        }
        self.give_back(subscription, place, event_bytes);
        self.wake(index);
        self.drop_unwanted(index);
    }

    /// An attempt has ended without the target being called.
    pub(super) fn ended_uncalled(&mut self, ticket: Ticket, started: Instant, now: Instant) {
        if let Some(lane) = self.lane(ticket.lane) {
            lane.give_back(ticket.place, ticket.event_bytes);
            lane.turns.ended(ticket.subscription, ticket.charged, 0.0);
            lane.end_uncalled(
                ticket.subscription,
                started,
                ticket.epoch,
                ticket.is_probe,
                now,
            );
        }
        self.give_back(ticket.subscription, ticket.place, ticket.event_bytes);
        if ticket.asks {
            self.ask_again(ticket.subscription);
        }
        self.wake(ticket.lane);
        self.drop_unwanted(ticket.lane);
    }

    /// The target refused a delivery. Says what of.
    pub(super) fn refused(&mut self, ticket: Ticket, delivery: DeliveryId, at: Instant) -> Refusal {
        let queue = self.queues.get_mut(&ticket.subscription);
        queue.map_or(Refusal::OfSubscription, |queue| {
            queue.refusals.refused(delivery, at)
        })
    }

    /// The target took a delivery.
    pub(super) fn passed(&mut self, ticket: Ticket, at: Instant) {
        if let Some(queue) = self.queues.get_mut(&ticket.subscription) {
            queue.refusals.passed(at);
        }
    }

    /// The target refused a subscription: it pauses until `probe_at`. Tells whether it went until
    /// now.
    pub(super) fn pause_refused(&mut self, ticket: Ticket, probe_at: Instant) -> bool {
        let number = ticket.subscription;
        let Some(queue) = self.queues.get_mut(&number) else {
            return false;
        };
        let went = queue.pause.is_none();
        if went || ticket.asks {
            queue.pause = Some(Pause::Refused(Probe::Waiting(probe_at)));
            self.timers
                .push(Reverse((probe_at, Timer::Refused(number))));
            self.leave(number);
        }
        went
    }

    /// Asks the targets that refused these subscriptions again at once.
    pub(super) fn probe(&mut self, numbers: Vec<SubscriptionNumber>) {
        for number in numbers {
            if let Some(queue) = self.queues.get_mut(&number)
                && matches!(queue.pause, Some(Pause::Refused(Probe::Waiting(_))))
            {
                queue.pause = Some(Pause::Refused(Probe::Due));
                queue.is_ready = true;
                self.enter(number);
            }
        }
    }

    /// A probe of a paused subscription was refused: the next one asks in a while.
    pub(super) fn ask_again_later(&mut self, ticket: Ticket, probe_at: Instant) {
        if ticket.asks {
            self.pause_refused(ticket, probe_at);
        }
    }

    /// The target is gone for good: nothing is leased until the journal knows. Tells whether that
    /// is news.
    pub(super) fn pause_gone(&mut self, number: SubscriptionNumber) -> bool {
        let Some(queue) = self.queues.get_mut(&number) else {
            return false;
        };
        let is_news = queue.pause != Some(Pause::Gone);
        queue.pause = Some(Pause::Gone);
        self.leave(number);
        is_news
    }

    /// The journal knows that a target is gone, and keeps its deliveries back by itself.
    pub(super) fn resume_gone(&mut self, number: SubscriptionNumber) {
        if let Some(queue) = self.queues.get_mut(&number)
            && queue.pause == Some(Pause::Gone)
        {
            queue.pause = None;
            self.enter(number);
        }
    }

    /// The target took a subscription's delivery, or failed in some other way than refusing it.
    /// Tells whether it was paused until now.
    pub(super) fn resume_refused(&mut self, ticket: Ticket, is_success: bool) -> bool {
        let Some(queue) = self.queues.get_mut(&ticket.subscription) else {
            return false;
        };
        let resumes = matches!(queue.pause, Some(Pause::Refused(_))) && (ticket.asks || is_success);
        if resumes {
            queue.pause = None;
            queue.is_ready = true;
            self.enter(ticket.subscription);
        }
        resumes
    }

    /// Of what is shown as paused, what still is.
    pub(super) fn retain_paused(
        &self,
        paused: &mut std::collections::BTreeMap<SubscriptionNumber, Paused>,
    ) {
        paused.retain(|number, _| {
            self.queues
                .get(number)
                .is_some_and(|queue| queue.pause.is_some())
        });
    }

    /// When [`Queues::fire`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Does what has fallen due.
    pub(super) fn fire(&mut self, now: Instant) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            match timer {
                Timer::Lane(index) => {
                    if let Some(lane) = self.lane(index) {
                        lane.wake_at = None;
                    }
                    self.wake(index);
                }
                Timer::Refused(number) => {
                    if let Some(queue) = self.queues.get_mut(&number)
                        && matches!(queue.pause, Some(Pause::Refused(Probe::Waiting(until))) if until <= now)
                    {
                        queue.pause = Some(Pause::Refused(Probe::Due));
                        queue.is_ready = true;
                        self.enter(number);
                    }
                }
                Timer::New => self.ask_new(now),
            }
        }
    }
}

/// What an attempt came to, as the queues need to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'o> {
    pub(super) delivery: DeliveryId,
    pub(super) started: Instant,
    pub(super) at: Instant,
    /// The class in force.
    pub(super) class: pointsman_schemas::Class,
    pub(super) retry_after: Option<Duration>,
    pub(super) message: &'o str,
}
