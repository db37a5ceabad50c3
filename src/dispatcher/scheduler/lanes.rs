//! Moving subscriptions into lanes of their own, and back.

use std::collections::BTreeMap;

use pointsman_schemas::{Class, SubscriptionNumber};
use tokio::time::Instant;

use super::{Permit, Scheduler, SubscriptionState};
use crate::dispatcher::lane::{Lane, LaneReason};

impl Scheduler {
    /// So many deliveries of a subscription are under way: they count apart where its lane says so,
    /// and its lane is looked at in a while.
    pub(super) fn watch(
        &mut self,
        number: SubscriptionNumber,
        index: usize,
        deliveries: usize,
        now: Instant,
    ) {
        let Some(state) = self.subscriptions.get_mut(&number) else {
            return;
        };
        if !std::mem::replace(&mut state.lane.is_watched, true) {
            self.watched
                .push_back((Lane::check_at(now, self.base), number));
        }
        if state.target != index {
            return;
        }
        state.deliveries += deliveries;
        if state.lane.is_apart() {
            self.apart += deliveries;
            if let Some(target) = self.target(index) {
                target.apart += deliveries;
            }
        }
    }

    /// An attempt has ended, in this class at this time where its target was called.
    pub(super) fn leave_lane(&mut self, permit: &Permit, ended: Option<(Class, Instant)>) {
        let Some(state) = self.subscriptions.get_mut(&permit.subscription) else {
            return;
        };
        if let Some((class, at)) = ended {
            state.lane.ended(class, at);
        }
        if state.target != permit.target {
            return;
        }
        // Attempts of before its rule went and came back are not among its own.
        let deliveries = permit.deliveries.min(state.deliveries);
        state.deliveries -= deliveries;
        if state.lane.is_apart() {
            self.apart = self.apart.saturating_sub(deliveries);
            if let Some(target) = self.target(permit.target) {
                target.apart = target.apart.saturating_sub(deliveries);
            }
        }
    }

    /// Looks at the lanes whose time has come.
    pub(super) fn check_lanes(&mut self, now: Instant) {
        while let Some((at, number)) = self.watched.front().copied()
            && at <= now
        {
            self.watched.pop_front();
            self.check_lane(number, now);
        }
    }

    fn check_lane(&mut self, number: SubscriptionNumber, now: Instant) {
        let Some(state) = self.subscriptions.get_mut(&number) else {
            return;
        };
        let Some(target) = self.targets.get_mut(state.target).and_then(Option::as_mut) else {
            return;
        };
        let held = target.held(number, now);
        let was_apart = state.lane.is_apart();
        let has_moved = state.lane.check(held, now);
        match (was_apart, state.lane.is_apart()) {
            (false, true) => {
                target.apart += state.deliveries;
                self.apart += state.deliveries;
            }
            (true, false) => {
                target.apart = target.apart.saturating_sub(state.deliveries);
                self.apart = self.apart.saturating_sub(state.deliveries);
            }
            _ => {}
        }
        state.lane.is_watched = state.lane.is_worth_watching(held);
        if state.lane.is_watched {
            self.watched
                .push_back((Lane::check_at(now, self.base), number));
        }
        if has_moved {
            self.moved.push((number, state.lane.own()));
            let index = state.target;
            self.wake(index);
            // What it holds is counted elsewhere now.
            self.settled();
        }
    }

    /// The subscriptions that have a lane of their own, and why.
    pub(in crate::dispatcher) fn own_lanes(&self) -> BTreeMap<SubscriptionNumber, LaneReason> {
        let own = |(number, state): (&SubscriptionNumber, &SubscriptionState)| {
            Some((*number, state.lane.own()?))
        };
        self.subscriptions.iter().filter_map(own).collect()
    }

    /// Counts anew what is counted apart, and looks at all lanes soon: a plan has come into force.
    pub(super) fn recount_lanes(&mut self, now: Instant) {
        self.apart = 0;
        self.watched.clear();
        for target in self.targets.iter_mut().flatten() {
            target.apart = 0;
        }
        let check_at = Lane::check_at(now, self.base);
        for (number, state) in &mut self.subscriptions {
            let Some(target) = self.targets.get_mut(state.target).and_then(Option::as_mut) else {
                continue;
            };
            let held = target.held(*number, now);
            if state.lane.is_apart() {
                target.apart += state.deliveries;
                self.apart += state.deliveries;
            }
            state.lane.is_watched = state.lane.is_worth_watching(held);
            if state.lane.is_watched {
                self.watched.push_back((check_at, *number));
            }
        }
    }
}
