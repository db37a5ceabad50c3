//! Subscriptions that pause: their target refuses them, or is gone for good.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pointsman_schemas::{DeliveryId, SubscriptionNumber};
use tokio::time::Instant;

use super::{Pause, Permit, Probe, Scheduler, Timer};
use crate::dispatcher::refusals::Refusal;
use crate::dispatcher::status::Paused;

impl Scheduler {
    /// A target that refused a subscription was to be asked again, but there was no delivery to ask
    /// it with: the next one will do.
    pub(super) fn ask_again(&mut self, number: SubscriptionNumber) {
        if let Some(state) = self.subscriptions.get_mut(&number)
            && state.pause == Some(Pause::Refused(Probe::Out))
        {
            state.pause = Some(Pause::Refused(Probe::Due));
            self.enter(number);
        }
    }

    /// The target refused a delivery. Returns what the refusal is about.
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

    /// The target accepted a delivery.
    pub(in crate::dispatcher) fn passed(&mut self, permit: Permit, at: Instant) {
        if let Some(state) = self.subscriptions.get_mut(&permit.subscription) {
            state.refusals.passed(at);
        }
    }

    /// The target refused a subscription: it pauses until `probe_at`. Returns true if it was not
    /// paused before.
    pub(in crate::dispatcher) fn pause_refused(
        &mut self,
        permit: Permit,
        probe_at: Instant,
    ) -> bool {
        let number = permit.subscription;
        let Some(state) = self.subscriptions.get_mut(&number) else {
            return false;
        };
        let was_running = state.pause.is_none();
        if was_running || permit.asks {
            state.pause = Some(Pause::Refused(Probe::Waiting(probe_at)));
            self.timers
                .push(Reverse((probe_at, Timer::Refused(number))));
            self.leave(number);
        }
        was_running
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

    /// The target is gone for good: nothing is leased until the journal knows. Returns true if that
    /// was not known before.
    pub(in crate::dispatcher) fn pause_gone(&mut self, number: SubscriptionNumber) -> bool {
        let Some(state) = self.subscriptions.get_mut(&number) else {
            return false;
        };
        let is_new = state.pause != Some(Pause::Gone);
        state.pause = Some(Pause::Gone);
        self.leave(number);
        is_new
    }

    /// The journal knows now that a target is gone, and holds its deliveries back by itself.
    pub(in crate::dispatcher) fn resume_gone(&mut self, number: SubscriptionNumber) {
        if let Some(state) = self.subscriptions.get_mut(&number)
            && state.pause == Some(Pause::Gone)
        {
            state.pause = None;
            self.enter(number);
        }
    }

    /// The target accepted a subscription's delivery, or failed in some other way than refusing it.
    /// Returns true if it was paused until now.
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

    /// Removes what is no longer paused.
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
