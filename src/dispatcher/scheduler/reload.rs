//! Putting a plan in force, beside what is under way by the one before.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::{Pause, Probe, Replaced, Scheduler, SubscriptionState};
use crate::dispatcher::lane::Lane;
use crate::dispatcher::plan::{Route, Target};
use crate::dispatcher::refusals::Refusals;
use crate::dispatcher::status::Gauge;

impl Scheduler {
    /// Puts a plan in force. Subscriptions that were not there before are asked for; those that a
    /// target refused are tried again. What was in force comes back beside the gauges.
    pub(in crate::dispatcher) fn reload(
        &mut self,
        targets: Vec<Target>,
        routes: Vec<(SubscriptionNumber, Arc<Route>)>,
        now: Instant,
        time: Timestamp,
    ) -> (Vec<Arc<Gauge>>, Replaced) {
        let slots = self.reload_lanes(targets, now, time);
        let old = self.reload_subscriptions(routes, &slots);
        self.timers.clear();
        self.awake.clear();
        self.starved.clear();
        self.short_of_bytes.clear();
        let subscriptions = &self.subscriptions;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(lane) = lane {
                lane.keep(|number| {
                    subscriptions
                        .get(&number)
                        .is_some_and(|state| state.lane == index)
                });
            }
        }
        for state in self.subscriptions.values() {
            if let Some(Some(lane)) = self.lanes.get_mut(state.lane) {
                lane.subscriptions += 1;
            }
        }
        let numbers: Vec<_> = self.subscriptions.keys().copied().collect();
        for number in numbers {
            self.enter(number);
        }
        self.ask_new(now);
        for lane in 0..self.lanes.len() {
            self.wake(lane);
            self.drop_unwanted(lane);
        }
        let gauges = slots
            .iter()
            .filter_map(|slot| self.lanes.get(*slot)?.as_ref())
            .map(|lane| Arc::clone(&lane.gauge));
        (gauges.collect(), old)
    }

    /// Gives each target its lane: that of the same name, so that what was learned about it stays,
    /// or a free one. Returns their places. The others are unwanted, and go once nothing of them is
    /// under way.
    fn reload_lanes(&mut self, targets: Vec<Target>, now: Instant, time: Timestamp) -> Vec<usize> {
        let (mut known, mut free) = (HashMap::new(), Vec::new());
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane else {
                free.push(index);
                continue;
            };
            (lane.is_wanted, lane.is_awake) = (false, false);
            (lane.wake_at, lane.subscriptions) = (None, 0);
            known.insert((lane.tenant.clone(), lane.name.clone()), index);
        }
        let mut free = free.into_iter().chain(self.lanes.len()..);
        targets
            .into_iter()
            .map(|target| {
                let key = (target.tenant.clone(), target.name.clone());
                let index = known.get(&key).copied().or_else(|| free.next());
                let index = index.unwrap_or(usize::MAX);
                self.place(index, target, now, time);
                index
            })
            .collect()
    }

    fn reload_subscriptions(
        &mut self,
        routes: Vec<(SubscriptionNumber, Arc<Route>)>,
        slots: &[usize],
    ) -> Replaced {
        let fresh = HashMap::with_capacity(routes.len());
        let old = std::mem::replace(&mut self.subscriptions, fresh);
        for (number, route) in routes {
            let Some(lane) = slots.get(route.target).copied() else {
                continue;
            };
            let state = SubscriptionState {
                route,
                lane,
                is_ready: false,
                is_due_again: false,
                next_bytes: None,
                is_short: false,
                has_beside: false,
                refusals: Refusals::default(),
                pause: None,
            };
            let state = match old.get(&number) {
                None => {
                    self.new.push_back(number);
                    state
                }
                Some(old) => state.taking_over(old),
            };
            self.subscriptions.insert(number, state);
        }
        old
    }

    /// Puts a target into a slot: that of its lane, a free one, or the one behind the last.
    fn place(&mut self, index: usize, target: Target, now: Instant, time: Timestamp) {
        match self.lanes.get_mut(index) {
            Some(Some(lane)) => lane.renew(target, now, time),
            Some(slot) => *slot = Some(Lane::new(target, now, time)),
            None => self.lanes.push(Some(Lane::new(target, now, time))),
        }
    }
}

impl SubscriptionState {
    /// What a reload leaves as it was. Whoever mended a target's auth has reloaded: it is asked
    /// again at once.
    fn taking_over(self, old: &Self) -> Self {
        let pause = match old.pause {
            Some(Pause::Refused(Probe::Waiting(_))) => Some(Pause::Refused(Probe::Due)),
            pause => pause,
        };
        Self {
            is_ready: old.is_ready || pause.is_some(),
            is_due_again: true,
            next_bytes: old.next_bytes,
            has_beside: old.has_beside,
            pause,
            ..self
        }
    }
}
