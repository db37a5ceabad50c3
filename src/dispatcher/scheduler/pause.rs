//! Subscriptions that pause: their target refuses them, or is gone for good.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pointsman_schemas::{DeliveryId, SubscriptionNumber};
use tokio::time::Instant;

use super::{Pause, Permit, Probe, Scheduler, Timer};
use crate::dispatcher::refusals::Refusal;
use crate::dispatcher::status::Paused;

impl Scheduler {
    /// Nothing was there to ask a target with that refused a subscription: the next delivery does.
    pub(super) fn ask_again(&mut self, number: SubscriptionNumber) {
        if let Some(state) = self.subscriptions.get_mut(&number)
            && state.pause == Some(Pause::Refused(Probe::Out))
        {
            state.pause = Some(Pause::Refused(Probe::Due));
            self.enter(number);
        }
    }

    /// The target refused a delivery. Says what of.
    pub(in crate::dispatcher) fn refused(
        &mut self,
        permit: Permit,
        delivery: DeliveryId,
        at: Instant,
    ) -> Refusal {
        let state = self.subscriptions.get_mut(&permit.subscription);
        state.map_or(Refusal::OfSubscription, |state| {
            state.refusals.refused(delivery, at)
        })
    }

    /// The target took a delivery.
    pub(in crate::dispatcher) fn passed(&mut self, permit: Permit, at: Instant) {
        if let Some(state) = self.subscriptions.get_mut(&permit.subscription) {
            state.refusals.passed(at);
        }
    }

    /// The target refused a subscription: it pauses until `probe_at`. Tells whether it went until
    /// now.
    pub(in crate::dispatcher) fn pause_refused(
        &mut self,
        permit: Permit,
        probe_at: Instant,
    ) -> bool {
        let number = permit.subscription;
        let Some(state) = self.subscriptions.get_mut(&number) else {
            return false;
        };
        let went = state.pause.is_none();
        if went || permit.asks {
            state.pause = Some(Pause::Refused(Probe::Waiting(probe_at)));
            self.timers
                .push(Reverse((probe_at, Timer::Refused(number))));
            self.leave(number);
        }
        went
    }

    /// Asks the targets that refused these subscriptions again at once.
    pub(in crate::dispatcher) fn probe(&mut self, numbers: Vec<SubscriptionNumber>) {
        for number in numbers {
            if let Some(state) = self.subscriptions.get_mut(&number)
                && matches!(state.pause, Some(Pause::Refused(Probe::Waiting(_))))
            {
                state.pause = Some(Pause::Refused(Probe::Due));
                state.is_ready = true;
                self.enter(number);
            }
        }
    }

    /// A probe of a paused subscription was refused: the next one asks in a while.
    pub(in crate::dispatcher) fn ask_again_later(&mut self, permit: Permit, probe_at: Instant) {
        if permit.asks {
            self.pause_refused(permit, probe_at);
        }
    }

    /// The target is gone for good: nothing is leased until the journal knows. Tells whether that
    /// is news.
    pub(in crate::dispatcher) fn pause_gone(&mut self, number: SubscriptionNumber) -> bool {
        let Some(state) = self.subscriptions.get_mut(&number) else {
            return false;
        };
        let is_news = state.pause != Some(Pause::Gone);
        state.pause = Some(Pause::Gone);
        self.leave(number);
        is_news
    }

    /// The journal knows that a target is gone, and keeps its deliveries back by itself.
    pub(in crate::dispatcher) fn resume_gone(&mut self, number: SubscriptionNumber) {
        if let Some(state) = self.subscriptions.get_mut(&number)
            && state.pause == Some(Pause::Gone)
        {
            state.pause = None;
            self.enter(number);
        }
    }

    /// The target took a subscription's delivery, or failed in some other way than refusing it.
    /// Tells whether it was paused until now.
    pub(in crate::dispatcher) fn resume_refused(
        &mut self,
        permit: Permit,
        is_success: bool,
    ) -> bool {
        let Some(state) = self.subscriptions.get_mut(&permit.subscription) else {
            return false;
        };
        let resumes = matches!(state.pause, Some(Pause::Refused(_))) && (permit.asks || is_success);
        if resumes {
            state.pause = None;
            state.is_ready = true;
            self.enter(permit.subscription);
        }
        resumes
    }

    /// Of what is shown as paused, what still is.
    pub(in crate::dispatcher) fn retain_paused(
        &self,
        paused: &mut BTreeMap<SubscriptionNumber, Paused>,
    ) {
        paused.retain(|number, _| {
            self.subscriptions
                .get(number)
                .is_some_and(|state| state.pause.is_some())
        });
    }

    /// The time has come to ask a target that refused a subscription again.
    pub(super) fn probe_is_due(&mut self, number: SubscriptionNumber, now: Instant) {
        if let Some(state) = self.subscriptions.get_mut(&number)
            && matches!(state.pause, Some(Pause::Refused(Probe::Waiting(until))) if until <= now)
        {
            state.pause = Some(Pause::Refused(Probe::Due));
            state.is_ready = true;
            self.enter(number);
        }
    }
}
