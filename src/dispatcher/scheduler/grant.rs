//! Granting leases: whose turn it is at each target, how many bytes its events may have, and what
//! is given back when a grant is over.

use std::cmp::Reverse;
use std::time::Duration;

use pointsman_schemas::SubscriptionNumber;
use tokio::time::Instant;

use super::{Pause, Probe, Scheduler, Timer};
use crate::dispatcher::byte_budget::{ByteBudget, Pool};
use crate::dispatcher::fair::Turn;
use crate::dispatcher::lane::{Lane, Room};
use crate::dispatcher::occupancy::Claim;
use crate::dispatcher::plan::Batch;
use crate::dispatcher::quota::Charged;
use crate::dispatcher::target_state::Capacity;

/// By how much a lease outlasts its attempt: what starting it, and a store that is slow to settle
/// it, may take. A lease that runs out earlier is a second delivery while the first is still under
/// way.
const LEASE_MARGIN: Duration = Duration::from_secs(60);

/// So many subscriptions that wait for bytes are looked at when some are given back, and as many
/// again for each that finds its room.
const LOOKED_AT_FOR_BYTES: usize = 16;

/// A grant to lease deliveries of one subscription.
#[derive(Clone, Copy, Debug)]
pub(in crate::dispatcher) struct LeaseGrant {
    /// Of each slot one call may be made.
    pub(in crate::dispatcher) turn: Turn,
    /// How many deliveries may be leased: without a batch one for each slot.
    pub(in crate::dispatcher) deliveries_max: usize,
    pub(in crate::dispatcher) batch: Option<Batch>,
    pub(in crate::dispatcher) lease: Duration,
    pub(in crate::dispatcher) bytes_max: usize,
    pub(super) pool: Pool,
    pub(super) target: usize,
    pub(super) epoch: u64,
    pub(super) is_probe: bool,
    pub(super) asks: bool,
    pub(super) quotas: Charged,
    /// How many deliveries the journal leased, and how many calls they make.
    pub(in crate::dispatcher) leased: usize,
    pub(in crate::dispatcher) calls: usize,
    /// How many of those became attempts.
    pub(in crate::dispatcher) begun: usize,
}

impl Scheduler {
    /// Grants leases of what is ready, where `in_flight` deliveries of at most `max` are in flight.
    /// Returns them with the number of bytes that their events may have together.
    pub(in crate::dispatcher) fn grants(
        &mut self,
        max: usize,
        in_flight: usize,
        now: Instant,
    ) -> (Vec<LeaseGrant>, usize) {
        let mut room = Room::new(max, in_flight, self.apart);
        let mut all = Vec::new();
        let mut free = self.bytes.free();
        let mut bytes_max = free;
        while !room.is_empty() {
            let Some(index) = self.awake.pop_front() else {
                break;
            };
            let Some((mut turns, capacity)) = self.turns(index, &mut room, now) else {
                continue;
            };
            self.charge(index, &mut turns, now);
            let mut share =
                ByteBudget::share(free, self.target(index).map_or(0, |target| target.bytes));
            let each = share / turns.len().max(1);
            for (turn, deliveries_max) in turns {
                let state = self.subscriptions.get(&turn.subscription);
                let is_exact = state.is_some_and(|state| state.next_bytes.is_some());
                let apart = state.is_some_and(|state| state.lane.is_apart());
                let batch = state.and_then(|state| state.route.batch);
                let Some((pool, bytes)) = self.find_bytes(turn, share, each) else {
                    continue;
                };
                match pool {
                    Pool::Share if is_exact => (free, share) = (free - bytes, share - bytes),
                    Pool::Share => {}
                    Pool::Overflow | Pool::Oversized => bytes_max = bytes_max.saturating_add(bytes),
                }
                room.take(apart, deliveries_max);
                let granted = self.granting(turn, capacity.is_probe, (pool, bytes), now);
                all.extend(granted.map(|granted| LeaseGrant {
                    deliveries_max,
                    batch,
                    ..granted
                }));
            }
        }
        // Whoever waits for bytes gets them before the others.
        all.sort_by_key(|granted| {
            self.subscriptions
                .get(&granted.turn.subscription)
                .is_none_or(|state| state.next_bytes.is_none())
        });
        (all, bytes_max)
    }

    /// Whose turn it is at a target, as far as that has room and may take so many; with how many
    /// deliveries it may take.
    fn turns(
        &mut self,
        index: usize,
        room: &mut Room,
        now: Instant,
    ) -> Option<(Vec<(Turn, usize)>, Capacity)> {
        let subscriptions = &self.subscriptions;
        let target = self.targets.get_mut(index).and_then(Option::as_mut)?;
        target.is_awake = false;
        if !target.is_wanted || target.turns.is_empty() {
            return None;
        }
        let capacity = target.capacity(now);
        if capacity.slots == 0 {
            if let Some(at) = capacity
                .again_at
                .filter(|at| target.wake_at.is_none_or(|earlier| *at < earlier))
            {
                target.wake_at = Some(at);
                self.timers.push(Reverse((at, Timer::Target(index))));
            }
            return None;
        }
        let [mut shared, mut apart] =
            [false, true].map(|apart| room.share(apart, target.in_use_of(apart)));
        if (shared, apart) == (0, 0) {
            self.starved.push(index);
            return None;
        }
        let lane = |number| subscriptions.get(&number).map(|state| &state.lane);
        let is_apart = |number| lane(number).is_some_and(Lane::is_apart);
        let goes_alone = |number| {
            subscriptions
                .get(&number)
                .is_some_and(|state| state.pause.is_some() || state.next_bytes.is_some())
        };
        let most = |number| match (goes_alone(number), is_apart(number)) {
            (true, _) => 1,
            (false, true) => apart,
            (false, false) => shared,
        };
        let claim = |number| {
            let state = subscriptions.get(&number);
            Claim {
                yields: state.is_some_and(|state| state.lane.own().is_some()),
                weight: state.map_or(1, |state| state.route.priority.share()),
            }
        };
        let turns = target.grant_turns(
            capacity.slots.min(shared.saturating_add(apart)),
            most,
            claim,
            now,
        );
        // Each has no more than its pool's share; several may have, together.
        let mut granted = Vec::with_capacity(turns.len());
        for mut turn in turns {
            let share = match is_apart(turn.subscription) {
                true => &mut apart,
                false => &mut shared,
            };
            let over = turn.count.saturating_sub(*share);
            target.turns.refund(turn, over);
            turn.count -= over;
            let state = subscriptions.get(&turn.subscription);
            let batch = state.and_then(|state| state.route.batch);
            let events = batch.map_or(1, |batch| batch.events);
            let deliveries_max = turn.count.saturating_mul(events).min(*share);
            *share -= deliveries_max;
            if turn.count > 0 {
                granted.push((turn, deliveries_max));
            }
        }
        if granted.is_empty() && (shared == 0 || apart == 0) {
            self.starved.push(index);
        }
        Some((granted, capacity))
    }

    /// The pool that the events of a turn are counted in, and how many bytes they may have. A
    /// subscription whose next event does not fit gives its turn back and waits until bytes are
    /// free.
    fn find_bytes(&mut self, turn: Turn, share: usize, each: usize) -> Option<(Pool, usize)> {
        let number = turn.subscription;
        let state = self.subscriptions.get_mut(&number)?;
        let Some(event_bytes) = state.next_bytes else {
            return Some((Pool::Share, each));
        };
        let overflow = || {
            self.bytes
                .overflow_pool(event_bytes)
                .filter(|_| !state.has_overflow)
        };
        if let Some(pool) = if event_bytes <= share {
            Some(Pool::Share)
        } else {
            overflow()
        } {
            if pool != Pool::Share {
                state.has_overflow = true;
                self.bytes.take(pool, event_bytes);
            }
            self.look_for_bytes();
            return Some((pool, event_bytes));
        }
        let index = state.target;
        self.quotas.give_back(state.quotas, turn.count);
        if !std::mem::replace(&mut state.is_short, true) {
            self.short_of_bytes.push_back(number);
        }
        if let Some(target) = self.target(index) {
            target.turns.remove(number);
            target.turns.refund(turn, turn.count);
        }
        self.wake(index);
        None
    }

    fn granting(
        &mut self,
        turn: Turn,
        is_probe: bool,
        (pool, bytes_max): (Pool, usize),
        now: Instant,
    ) -> Option<LeaseGrant> {
        let state = self.subscriptions.get_mut(&turn.subscription)?;
        let index = state.target;
        let target = self.targets.get_mut(index).and_then(Option::as_mut)?;
        target.grant(turn.count, is_probe, now);
        state.is_due_again = false;
        let asks = state.pause == Some(Pause::Refused(Probe::Due));
        if asks {
            state.pause = Some(Pause::Refused(Probe::Out));
            target.turns.remove(turn.subscription);
        }
        let quotas = state.quotas;
        let (lease, epoch) = (state.route.policy.timeout() + LEASE_MARGIN, target.epoch);
        Some(LeaseGrant {
            turn,
            deliveries_max: turn.count,
            batch: None,
            lease,
            bytes_max,
            pool,
            target: index,
            epoch,
            is_probe,
            asks,
            quotas,
            leased: 0,
            calls: 0,
            begun: 0,
        })
    }

    /// A grant is over. It `failed` where nothing is known of what there is; `next_bytes` is the
    /// size of the event at which it ended for want of bytes.
    pub(in crate::dispatcher) fn end_grant(
        &mut self,
        grant: LeaseGrant,
        failed: bool,
        next_bytes: Option<usize>,
        now: Instant,
    ) {
        let LeaseGrant {
            turn,
            deliveries_max,
            bytes_max,
            pool,
            target: index,
            epoch,
            is_probe,
            asks,
            leased,
            calls,
            begun,
            quotas,
            ..
        } = grant;
        let is_short = calls < turn.count && leased < deliveries_max;
        let number = turn.subscription;
        let unused = turn.count.saturating_sub(begun);
        if let Some(target) = self.target(index) {
            target.turns.refund(turn, unused);
            target.end_grant(turn.count, unused, epoch, is_probe, now);
        }
        self.uncharge(quotas, unused, false, now);
        // Bytes of the overflow were set aside when it was granted; those of a share are counted
        // only once an attempt begins.
        if pool != Pool::Share && begun == 0 {
            self.give_back(number, pool, bytes_max);
        }
        if let Some(state) = self.subscriptions.get_mut(&number) {
            if !failed {
                state.next_bytes = next_bytes;
                state.lane.granted(!is_short, now);
            }
            // It came short, so there is no more of it; unless it was told of more while the lease
            // was under way, or the lease ended for want of bytes.
            if is_short && next_bytes.is_none() && !failed && !state.is_due_again {
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

    /// Lets some of those that wait for bytes take turns again.
    fn look_for_bytes(&mut self) {
        let some = self
            .short_of_bytes
            .drain(..self.short_of_bytes.len().min(LOOKED_AT_FOR_BYTES))
            .collect::<Vec<_>>();
        for number in some {
            if let Some(state) = self.subscriptions.get_mut(&number) {
                state.is_short = false;
                self.enter(number);
            }
        }
    }

    /// Frees the bytes of an event that is no longer in flight.
    pub(super) fn give_back(&mut self, number: SubscriptionNumber, pool: Pool, event_bytes: usize) {
        self.bytes.give_back(pool, event_bytes);
        if pool != Pool::Share
            && let Some(state) = self.subscriptions.get_mut(&number)
        {
            state.has_overflow = false;
        }
        self.look_for_bytes();
    }
}
