//! Charging what is granted to the quotas of tenants and rules.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::{Scheduler, Timer};
use crate::dispatcher::fair::Turn;
use crate::dispatcher::quota::Charged;

impl Scheduler {
    /// Charges turns at a target, each with how many deliveries it may take, as far as there is
    /// room. A subscription that finds none waits.
    pub(super) fn charge(&mut self, index: usize, turns: &mut Vec<(Turn, usize)>, now: Instant) {
        if self.quotas.is_empty() {
            return;
        }
        for (turn, deliveries_max) in turns.iter_mut() {
            let number = turn.subscription;
            let Some(state) = self.subscriptions.get_mut(&number) else {
                continue;
            };
            let (available, tightest) = self.quotas.available(state.quotas, now);
            let over = turn.count.saturating_sub(available);
            turn.count -= over;
            let batch = state.route.batch.map_or(1, |batch| batch.events);
            *deliveries_max = turn.count.saturating_mul(batch).min(*deliveries_max);
            self.quotas.take(state.quotas, turn.count, now);
            if over == 0 {
                continue;
            }
            let waits = turn.count == 0;
            state.waits_for_quota = waits;
            if let Some(target) = self.targets.get_mut(index).and_then(Option::as_mut) {
                target.turns.refund(*turn, over);
                if waits {
                    target.turns.remove(number);
                }
            }
            if let Some(quota) = tightest.filter(|_| waits) {
                self.quotas.wait(quota, number);
                self.set_quota_timer(quota, now);
            }
        }
        turns.retain(|(turn, _)| turn.count > 0);
        self.wake(index);
    }

    fn set_quota_timer(&mut self, quota: usize, now: Instant) {
        if let Some(at) = self.quotas.timer(quota, now) {
            self.timers.push(Reverse((at, Timer::Quota(quota))));
        }
    }

    /// There are tokens of a quota again.
    pub(super) fn quota_timer(&mut self, quota: usize, now: Instant) {
        self.quotas.timer_fired(quota, now);
        self.call(quota, now);
    }

    /// Lets those take turns again that a quota has room for.
    pub(super) fn call(&mut self, quota: usize, now: Instant) {
        for number in self.quotas.called(quota, now) {
            if let Some(state) = self.subscriptions.get_mut(&number) {
                state.waits_for_quota = false;
                self.enter(number);
            }
        }
        self.set_quota_timer(quota, now);
    }

    /// So many deliveries that were charged are not under way any more, or never were.
    pub(super) fn uncharge(&mut self, charged: Charged, count: usize, is_used: bool, now: Instant) {
        if count == 0 || charged == [None, None] {
            return;
        }
        match is_used {
            true => self.quotas.ended(charged, count),
            false => self.quotas.give_back(charged, count),
        }
        for quota in charged.into_iter().flatten() {
            self.call(quota, now);
        }
    }
}
