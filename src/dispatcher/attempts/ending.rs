//! How an answered attempt leaves its delivery: delivered, to be tried again, dead, or kept back
//! with its subscription.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pointsman_journal::{
    Activity, DeadReason, Ending, JournalError, LastOutcome, Leased, WaitReason,
};
use pointsman_schemas::{Class, Outcome, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use crate::dispatcher::plan::Route;
use crate::dispatcher::policy::{Decision, EndedAttempt, decide, wait_reason};
use crate::dispatcher::record::answer_of;
use crate::dispatcher::refusals::Refusal;
use crate::dispatcher::scheduler::Permit;
use crate::dispatcher::settling::JOURNAL_AGAIN;
use crate::dispatcher::status::Paused;
use crate::dispatcher::{Dispatcher, Now};

/// How soon a delivery is tried again that was refused and of which nobody can tell yet whether it
/// is its own fault: whoever mends what is wrong sees that soon.
const REFUSED_ALONE_AGAIN: Duration = Duration::from_secs(15);

/// A target's answer to an attempt at one delivery.
pub(super) struct TargetAnswer<'a> {
    pub(super) leased: &'a Leased,
    pub(super) route: &'a Arc<Route>,
    pub(super) permit: Permit,
    pub(super) outcome: &'a Outcome,
    /// What a refusal is about.
    pub(super) refusal: Option<Refusal>,
    /// Where a batch of several has failed whole and is to be halved: how many go together then.
    pub(super) half: Option<NonZeroU32>,
    /// The class that the outcome counts as.
    pub(super) class: Class,
    pub(super) at: Instant,
    pub(super) now: Now,
}

impl TargetAnswer<'_> {
    fn last(&self) -> LastOutcome {
        last_outcome(self.outcome, self.class, self.now.time)
    }

    fn dead(&self, reason: DeadReason) -> Ending {
        Ending::Dead {
            reason,
            last: Some(self.last()),
        }
    }

    /// Another attempt soon, with half of those that have failed together. Whose fault it is nobody
    /// knows, so that it ends none of them, whatever attempts they have used up.
    fn halved(&self, half: NonZeroU32, random: f64) -> Ending {
        let (now, policy) = (self.now.due, &self.route.policy);
        let at = now.plus(policy.backoff(0).mul_f64(random.clamp(0.0, 1.0)));
        if policy.is_expired(self.leased.since, at) {
            return self.dead(DeadReason::Expired);
        }
        Ending::Retry {
            at,
            failure: true,
            batch_max: Some(half),
            last: self.last(),
        }
    }

    /// Another attempt at `at`; `failure` where this one used up one of the declared attempts.
    fn retry(&self, at: Timestamp, failure: bool) -> Ending {
        Ending::Retry {
            at,
            failure,
            batch_max: None,
            last: self.last(),
        }
    }
}

impl Dispatcher {
    /// What becomes of a delivery, and what decides when it is tried again. `random` is uniform in
    /// `0.0..1.0`.
    pub(super) fn ending(
        &mut self,
        answered: &TargetAnswer<'_>,
        random: f64,
    ) -> (Ending, Option<WaitReason>) {
        let TargetAnswer {
            leased,
            route,
            permit,
            ..
        } = *answered;
        let now = answered.now.due;
        let is_at_fault = match answered.class {
            Class::Failed | Class::Rejected => true,
            Class::Refused => answered.refusal == Some(Refusal::OfDelivery),
            _ => false,
        };
        if let Some(half) = answered.half
            && is_at_fault
        {
            let ending = self.ending_if_stopped(leased.token, answered.halved(half, random));
            return (ending, Some(WaitReason::Backoff));
        }
        let tried = EndedAttempt {
            class: answered.class,
            retry_after: answered.outcome.retry_after,
            attempts: leased.attempts,
            failures: leased.failures,
            since: leased.since,
            now,
        };
        let (ending, wait) = match decide(&route.policy, &tried, random) {
            Decision::Delivered => (Ending::Delivered, None),
            Decision::RetryAt { at, failure } => {
                let wait = wait_reason(&tried, at);
                (answered.retry(at, failure), Some(wait))
            }
            Decision::Dead(reason) => (answered.dead(reason), None),
            Decision::PauseRefused { probe_at } => {
                self.refused(answered, now, answered.at + probe_at.since(now), random)
            }
            // Where an event decides the address, only that address is gone.
            Decision::Gone if route.is_templated => (answered.dead(DeadReason::Rejected), None),
            // The pause keeps the deliveries back, and not their due time: whoever resumes the
            // subscription, reloads or restarts has them tried at once.
            Decision::Gone => {
                self.gone(permit.subscription(), route);
                (answered.retry(now, false), Some(WaitReason::Paused))
            }
        };
        (self.ending_if_stopped(leased.token, ending), wait)
    }

    /// A target does not know us (401, 403): either this delivery is not allowed, or the whole
    /// subscription's credentials are wrong. Which of the two, the deliveries around it tell.
    fn refused(
        &mut self,
        answered: &TargetAnswer<'_>,
        now: Timestamp,
        probe_at: Instant,
        random: f64,
    ) -> (Ending, Option<WaitReason>) {
        let TargetAnswer {
            leased,
            route,
            permit,
            at,
            ..
        } = *answered;
        let refusal = answered.refusal;
        let refusal = refusal.unwrap_or_else(|| self.scheduler.refused(permit, leased.id, at));
        match refusal {
            Refusal::OfDelivery => (answered.dead(DeadReason::Rejected), None),
            // As with a target that is gone, the pause keeps the delivery back.
            Refusal::OfSubscription => {
                self.pause_refused(permit, route, answered.outcome, probe_at);
                (answered.retry(now, false), Some(WaitReason::Paused))
            }
            Refusal::Unclear => {
                self.scheduler.ask_again_later(permit, probe_at);
                let wait = route
                    .policy
                    .backoff(leased.attempts)
                    .min(REFUSED_ALONE_AGAIN);
                let at = now.plus(wait.mul_f64(random));
                (answered.retry(at, false), Some(WaitReason::Refused))
            }
        }
    }

    fn pause_refused(
        &mut self,
        permit: Permit,
        route: &Route,
        outcome: &Outcome,
        probe_at: Instant,
    ) {
        if !self.scheduler.pause_refused(permit, probe_at) {
            return;
        }
        let (rule, target) = (&route.identity.rule, &route.identity.target);
        let reason = match outcome.message.as_str() {
            "" => "the target refused a delivery",
            message => message,
        };
        tracing::warn!(
            %rule, %target, reason,
            "the target does not know us: paused, nothing is lost; mend its auth and resume it or \
             reload"
        );
        let paused = Paused {
            reason: reason.to_owned(),
            since: self.clock.now(),
        };
        let mut all = self.shared.paused.lock();
        all.insert(permit.subscription(), paused);
    }

    /// Pauses a subscription in memory at once, and in the journal however long that takes.
    fn gone(&mut self, number: SubscriptionNumber, route: &Route) {
        if !self.scheduler.pause_gone(number) {
            return;
        }
        let (rule, target) = (&route.identity.rule, &route.identity.target);
        tracing::warn!(
            %rule, %target,
            "the target is gone for good: paused until somebody resumes it, its deliveries are kept"
        );
        let pipes = Arc::clone(&self.owners.pipes);
        self.gone.spawn(async move {
            let mut pause = JOURNAL_AGAIN.initial;
            while let Err(error) = pipes.set_activity(number, Activity::Gone).await {
                if matches!(error, JournalError::NotFound(_) | JournalError::Closed) {
                    break;
                }
                tracing::warn!(%error, again_in = ?pause, "cannot note that a target is gone");
                tokio::time::sleep(pause).await;
                pause = JOURNAL_AGAIN.longer(pause);
            }
            number
        });
    }

    /// The journal knows that a target is gone: from here on its word decides when the subscription
    /// goes on.
    pub(in crate::dispatcher) fn noted_gone(&mut self, number: Option<SubscriptionNumber>) {
        if let Some(number) = number {
            self.scheduler.resume_gone(number);
        }
    }
}

pub(super) fn last_outcome(outcome: &Outcome, class: Class, at: Timestamp) -> LastOutcome {
    LastOutcome {
        at,
        class,
        code: outcome.code,
        message: outcome.message.clone(),
        response: answer_of(outcome),
    }
}
