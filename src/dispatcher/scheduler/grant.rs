//! Granting leases: whose turn it is at each target, and how many bytes its events may have.

use std::cmp::Reverse;

use pointsman_schemas::SubscriptionNumber;
use tokio::time::Instant;

use super::{Granted, LEASE_MARGIN, LOOKED_AT_FOR_BYTES, Pause, Probe, Scheduler, Timer};
use crate::dispatcher::bytes::{Bytes, Place};
use crate::dispatcher::fair::Turn;
use crate::dispatcher::lane::Capacity;

impl Scheduler {
    /// Grants leases of what is ready: at most `budget` in all. Gives with them how many bytes they
    /// may bring together.
    pub(in crate::dispatcher) fn grants(
        &mut self,
        mut budget: usize,
        now: Instant,
    ) -> (Vec<Granted>, usize) {
        let mut all = Vec::new();
        let mut free = self.bytes.free();
        let mut bytes_max = free;
        while budget > 0 {
            let Some(index) = self.awake.pop_front() else {
                break;
            };
            let Some((turns, capacity)) = self.turns(index, budget, now) else {
                continue;
            };
            let mut share = Bytes::share(free, self.lane(index).map_or(0, |lane| lane.bytes));
            let each = share / turns.len().max(1);
            for turn in turns {
                let is_exact = self
                    .subscriptions
                    .get(&turn.subscription)
                    .is_some_and(|state| state.next_bytes.is_some());
                let Some((place, bytes)) = self.find_bytes(turn, share, each) else {
                    continue;
                };
                match place {
                    Place::Share if is_exact => (free, share) = (free - bytes, share - bytes),
                    Place::Share => {}
                    Place::Beside | Place::Giant => bytes_max = bytes_max.saturating_add(bytes),
                }
                budget = budget.saturating_sub(turn.count);
                all.extend(self.granting(turn, capacity.is_probe, (place, bytes), now));
            }
        }
        // What waits for its room gets it before others take it.
        all.sort_by_key(|granted| {
            self.subscriptions
                .get(&granted.turn.subscription)
                .is_none_or(|state| state.next_bytes.is_none())
        });
        (all, bytes_max)
    }

    /// Whose turn it is at a target, as far as that has room and may take so many.
    fn turns(
        &mut self,
        index: usize,
        budget: usize,
        now: Instant,
    ) -> Option<(Vec<Turn>, Capacity)> {
        let subscriptions = &self.subscriptions;
        let lane = self.lanes.get_mut(index).and_then(Option::as_mut)?;
        lane.is_awake = false;
        if !lane.is_wanted || lane.turns.is_empty() {
            return None;
        }
        let capacity = lane.capacity(now);
        if capacity.slots == 0 {
            if let Some(at) = capacity
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
            subscriptions
                .get(&number)
                .is_some_and(|state| state.pause.is_some() || state.next_bytes.is_some())
        };
        let turns = lane.grant_turns(
            capacity.slots.min(share),
            |number| if goes_alone(number) { 1 } else { usize::MAX },
            now,
        );
        Some((turns, capacity))
    }

    /// Where the events of a turn are counted, and how many bytes they may have. A subscription
    /// whose next event has no room gives its turn back and waits for some.
    fn find_bytes(&mut self, turn: Turn, share: usize, each: usize) -> Option<(Place, usize)> {
        let number = turn.subscription;
        let state = self.subscriptions.get_mut(&number)?;
        let Some(event_bytes) = state.next_bytes else {
            return Some((Place::Share, each));
        };
        let beside = || {
            self.bytes
                .place_beside(event_bytes)
                .filter(|_| !state.has_beside)
        };
        if let Some(place) = if event_bytes <= share {
            Some(Place::Share)
        } else {
            beside()
        } {
            if place != Place::Share {
                state.has_beside = true;
                self.bytes.take(place, event_bytes);
            }
            self.look_for_bytes();
            return Some((place, event_bytes));
        }
        let index = state.lane;
        if !std::mem::replace(&mut state.is_short, true) {
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
        let state = self.subscriptions.get_mut(&turn.subscription)?;
        let index = state.lane;
        let lane = self.lanes.get_mut(index).and_then(Option::as_mut)?;
        lane.grant(turn.count, is_probe, now);
        state.is_due_again = false;
        let asks = state.pause == Some(Pause::Refused(Probe::Due));
        if asks {
            state.pause = Some(Pause::Refused(Probe::Out));
            lane.turns.remove(turn.subscription);
        }
        let (lease, epoch) = (state.route.policy.timeout() + LEASE_MARGIN, lane.epoch);
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
            if let Some(state) = self.subscriptions.get_mut(&number) {
                state.is_short = false;
                self.enter(number);
            }
        }
    }

    /// Bytes are in flight no more.
    pub(super) fn give_back(
        &mut self,
        number: SubscriptionNumber,
        place: Place,
        event_bytes: usize,
    ) {
        self.bytes.give_back(place, event_bytes);
        if place != Place::Share
            && let Some(state) = self.subscriptions.get_mut(&number)
        {
            state.has_beside = false;
        }
        self.look_for_bytes();
    }
}
