//! Putting a plan in force while attempts of the plan before it are under way.

use std::sync::Arc;

use foldhash::HashMap;
use pointsman_schemas::{SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::{Pause, Probe, Replaced, Scheduler, SubscriptionState};
use crate::dispatcher::lane::Lane;
use crate::dispatcher::plan::{Plan, Route, Target};
use crate::dispatcher::refusals::Refusals;
use crate::dispatcher::status::TargetGauge;
use crate::dispatcher::target_state::TargetState;

impl Scheduler {
    /// Puts a plan in force. Subscriptions that were not there before are asked for; those that a
    /// target refused are tried again. Returns the gauges of the new targets, and the subscriptions
    /// that were in force before.
    pub(in crate::dispatcher) fn reload(
        &mut self,
        plan: Plan,
        now: Instant,
        time: Timestamp,
    ) -> (Vec<Arc<TargetGauge>>, Replaced) {
        let Plan {
            targets,
            routes,
            quotas,
        } = plan;
        let quotas = self.quotas.reload(quotas, now);
        if self.shares_limits {
            self.quotas.begin_to_share(now);
        }
        let slots = self.reload_targets(targets, now, time);
        self.timers.clear();
        self.awake.clear();
        self.starved.clear();
        self.short_of_bytes.clear();
        let (old, ready) = self.reload_subscriptions(routes, &slots, &quotas);
        let subscriptions = &self.subscriptions;
        for (index, target) in self.targets.iter_mut().enumerate() {
            if let Some(target) = target {
                target.keep(|number| {
                    subscriptions
                        .get(&number)
                        .is_some_and(|state| state.target == index)
                });
            }
        }
        for number in ready {
            self.enter(number);
        }
        self.ask_new(now);
        for index in 0..self.targets.len() {
            self.wake(index);
            self.drop_unwanted(index);
        }
        self.recount_lanes(now);
        let gauges = slots
            .iter()
            .filter_map(|slot| self.targets.get(*slot)?.as_ref())
            .map(|target| Arc::clone(&target.gauge));
        (gauges.collect(), old)
    }

    /// Gives each target its state: that of the same name, so that what was learned about it stays,
    /// or a new one. Returns the indexes of the states. The others are unwanted, and go once none
    /// of their attempts is under way.
    fn reload_targets(
        &mut self,
        targets: Vec<Target>,
        now: Instant,
        time: Timestamp,
    ) -> Vec<usize> {
        let (mut known, mut free) = (HashMap::default(), Vec::new());
        for (index, target) in self.targets.iter_mut().enumerate() {
            let Some(target) = target else {
                free.push(index);
                continue;
            };
            (target.is_wanted, target.is_awake) = (false, false);
            (target.wake_at, target.subscriptions) = (None, 0);
            known.insert((target.tenant.clone(), target.name.clone()), index);
        }
        let mut free = free.into_iter().chain(self.targets.len()..);
        targets
            .into_iter()
            .map(|target| {
                let key = (target.tenant.clone(), target.name.clone());
                let index = known.get(&key).copied().or_else(|| free.next());
                let index = index.unwrap_or(usize::MAX);
                self.put(index, target, now, time);
                index
            })
            .collect()
    }

    /// Returns the subscriptions that were in force before, and those of the new ones that may have
    /// something to lease.
    fn reload_subscriptions(
        &mut self,
        routes: Vec<(SubscriptionNumber, Arc<Route>)>,
        slots: &[usize],
        quotas: &[usize],
    ) -> (Replaced, Vec<SubscriptionNumber>) {
        let mut ready = Vec::new();
        let mut fresh = HashMap::default();
        fresh.reserve(routes.len());
        let old = std::mem::replace(&mut self.subscriptions, fresh);
        for (number, route) in routes {
            let Some(target) = slots.get(route.target).copied() else {
                continue;
            };
            let quota = |index: Option<usize>| quotas.get(index?).copied();
            let state = SubscriptionState {
                quotas: route.quotas.map(quota),
                waits_for_quota: false,
                route,
                target,
                is_ready: false,
                is_due_again: false,
                next_bytes: None,
                gathers_until: None,
                is_short: false,
                has_overflow: false,
                refusals: Refusals::default(),
                pause: None,
                lane: Lane::default(),
                deliveries: 0,
            };
            let state = match old.get(&number) {
                None => {
                    self.new.push_back(number);
                    state
                }
                Some(old) => state.taking_over(old),
            };
            if state.is_ready {
                ready.push(number);
            }
            if let Some(target) = self.target(target) {
                target.subscriptions += 1;
            }
            self.subscriptions.insert(number, state);
        }
        (old, ready)
    }

    /// Puts a target into a slot: its own, a free one, or the one behind the last.
    fn put(&mut self, index: usize, target: Target, now: Instant, time: Timestamp) {
        match self.targets.get_mut(index) {
            Some(Some(state)) => state.renew(target, now, time),
            Some(slot) => *slot = Some(TargetState::new(target, now, time)),
            None => self.targets.push(Some(TargetState::new(target, now, time))),
        }
        if self.shares_limits
            && let Some(target) = self.target(index)
        {
            target.begin_to_share(now);
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
            // The route may wait for less now.
            is_ready: old.is_ready || pause.is_some() || old.gathers_until.is_some(),
            is_due_again: true,
            next_bytes: old.next_bytes,
            has_overflow: old.has_overflow,
            pause,
            lane: old.lane,
            deliveries: if self.target == old.target {
                old.deliveries
            } else {
                0
            },
            ..self
        }
    }
}
