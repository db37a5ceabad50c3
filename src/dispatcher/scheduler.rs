//! Which subscriptions may have something to lease, and what each may be granted.
//!
//! Nothing here waits or does IO. Work is in proportion to what happens: a subscription costs
//! something only while it may have something to lease, a target only when something has changed
//! for it.

mod grant;
mod pause;
mod reload;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{DeliveryId, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::bytes::{Bytes, Place};
use super::fair::Turn;
use super::lane::{Ended, Lane};
use super::plan::Route;
use super::refusals::Refusals;

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
pub(super) struct Scheduler {
    /// By slots that are used again once a target is gone and nothing of it is under way.
    lanes: Vec<Option<Lane>>,
    subscriptions: HashMap<SubscriptionNumber, SubscriptionState>,
    /// The lanes to look at, and those for which there was no room among all deliveries in flight.
    awake: VecDeque<usize>,
    starved: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    bytes: Bytes,
    /// Those whose next event has no room among the bytes in flight, the first to come
    /// first.
    short_of_bytes: VecDeque<SubscriptionNumber>,
    /// Have not been asked for since a reload brought them.
    new: VecDeque<SubscriptionNumber>,
}

/// The subscriptions of a plan that is in force no more.
pub(super) type Replaced = HashMap<SubscriptionNumber, SubscriptionState>;

#[derive(Debug)]
pub(super) struct SubscriptionState {
    route: Arc<Route>,
    lane: usize,
    /// Whether it may have something to lease.
    is_ready: bool,
    /// Whether it has been told so again while a lease was under way, which may not have seen that.
    is_due_again: bool,
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

/// An attempt under way, as the scheduler knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permit {
    subscription: SubscriptionNumber,
    lane: usize,
    epoch: u64,
    charged: f64,
    is_probe: bool,
    asks: bool,
    place: Place,
    event_bytes: usize,
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
            lanes: Vec::new(),
            subscriptions: HashMap::new(),
            awake: VecDeque::new(),
            starved: Vec::new(),
            timers: BinaryHeap::new(),
            bytes: Bytes::new(bytes_max),
            short_of_bytes: VecDeque::new(),
            new: VecDeque::new(),
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
            && matches!(state.pause, None | Some(Pause::Refused(Probe::Due)));
        let index = state.lane;
        if may && let Some(lane) = self.lane(index) {
            lane.turns.add(number);
            self.wake(index);
        }
    }

    fn leave(&mut self, number: SubscriptionNumber) {
        if let Some(index) = self.subscriptions.get(&number).map(|state| state.lane)
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

    /// A leased delivery, whose event has so many bytes, becomes an attempt.
    pub(super) fn begin(
        &mut self,
        granted: &mut Granted,
        event_bytes: usize,
        now: Instant,
    ) -> Option<(super::stack::Stack, Permit)> {
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
            Permit {
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
        // Bytes beside the shares were set aside when it was granted; those of a share are counted
        // only once an attempt begins.
        if place != Place::Share && begun == 0 {
            self.give_back(number, place, bytes_max);
        }
        if let Some(state) = self.subscriptions.get_mut(&number) {
            if !failed {
                state.next_bytes = next_bytes;
            }
            // It came short, so there is no more of it; unless it was told of more while the lease
            // was under way, or the lease ended for want of bytes.
            if leased < turn.count && next_bytes.is_none() && !failed && !state.is_due_again {
                state.is_ready = false;
                self.leave(number);
            }
            if asks && begun == 0 {
                self.ask_again(number);
            }
        }
        self.wake(index);
        self.drop_unwanted(index);
    }

    /// An attempt has ended. `random` is uniform in `0.0..1.0`.
    pub(super) fn ended(&mut self, permit: Permit, ended: Outcome, time: Timestamp, random: f64) {
        let Permit {
            subscription,
            lane: index,
            epoch,
            charged,
            is_probe,
            place,
            event_bytes,
            ..
        } = permit;
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
    pub(super) fn ended_uncalled(&mut self, permit: Permit, started: Instant, now: Instant) {
        if let Some(lane) = self.lane(permit.lane) {
            lane.give_back(permit.place, permit.event_bytes);
            lane.turns.ended(permit.subscription, permit.charged, 0.0);
            lane.end_uncalled(
                permit.subscription,
                started,
                permit.epoch,
                permit.is_probe,
                now,
            );
        }
        self.give_back(permit.subscription, permit.place, permit.event_bytes);
        if permit.asks {
            self.ask_again(permit.subscription);
        }
        self.wake(permit.lane);
        self.drop_unwanted(permit.lane);
    }

    /// When [`Scheduler::fire`] has something to do.
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
                Timer::Refused(number) => self.probe_is_due(number, now),
                Timer::New => self.ask_new(now),
            }
        }
    }
}

/// What an attempt came to, as the scheduler needs to know it.
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
