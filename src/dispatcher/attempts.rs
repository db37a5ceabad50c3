//! One attempt: from its lease to how its delivery leaves the dispatcher.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt;
use pointsman_connectors::AttemptEnd;
use pointsman_journal::{
    Activity, DeadReason, Ending, JournalError, LastOutcome, LeaseToken, Leased, Leases, Role,
};
use pointsman_schemas::{Class, Outcome, SubscriptionNumber, Timestamp};
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::follow::{HOPS_MAX, hops};
use super::leasing::LeaseReply;
use super::plan::Route;
use super::policy::{Decision, EndedAttempt, class_in_force, decide};
use super::refusals::Refusal;
use super::scheduler::{LeaseGrant, Permit};
use super::settling::JOURNAL_AGAIN;
use super::stack::{AttemptRequest, AttemptResponse};
use super::status::Paused;
use super::target_state::AttemptResult;
use super::{Dispatcher, Now};

/// How much of a target's answer is kept with a delivery that is tried again or dead. A report
/// carries all that was read.
const LAST_RESPONSE_BYTES_MAX: usize = 4 * 1024;

/// How soon a delivery is tried again that was refused and of which nobody can tell yet whether it
/// is its own fault: whoever mends what is wrong sees that soon.
const REFUSED_ALONE_AGAIN: Duration = Duration::from_secs(15);

/// An attempt under way, with its delivery.
pub(super) struct RunningAttempt {
    pub(super) leased: Leased,
    pub(super) route: Arc<Route>,
    permit: Permit,
    started: Instant,
    /// Ends it, where it has not ended, with whoever gives this up: no attempt outlives the
    /// dispatcher.
    pub(super) task: AbortOnDropHandle<()>,
}

/// An attempt that has ended.
pub(super) struct Finished {
    token: LeaseToken,
    reached: AttemptResponse,
    at: Instant,
}

/// A target's answer to an attempt.
struct TargetAnswer<'a> {
    attempt: &'a RunningAttempt,
    outcome: &'a Outcome,
    /// The class that the outcome counts as.
    class: Class,
    at: Instant,
    now: Now,
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

    /// Another attempt at `at`; `failure` where this one used up one of the declared attempts.
    fn retry(&self, at: Timestamp, failure: bool) -> Ending {
        Ending::Retry {
            at,
            failure,
            last: self.last(),
        }
    }
}

impl Dispatcher {
    /// A lease call has been answered. What was leased becomes attempts, or is put back where the
    /// dispatcher stops.
    pub(super) fn leased(&mut self, answer: LeaseReply, stops: bool) {
        let LeaseReply {
            mut granted,
            leases,
        } = answer;
        // After a failure all of them stay ready.
        let failed = leases.is_none();
        let Leases { leased, cut } = leases.unwrap_or_default();
        let next_bytes: HashMap<_, _> = cut
            .into_iter()
            .map(|cut| (cut.subscription, cut.event_bytes))
            .collect();
        granted.sort_unstable_by_key(|granted| granted.turn.subscription);
        let now = self.now();
        for leased in leased {
            let found = granted
                .binary_search_by_key(&leased.id.subscription, |granted| granted.turn.subscription);
            match found.ok().and_then(|index| granted.get_mut(index)) {
                Some(granted) if !stops => {
                    granted.leased += 1;
                    self.begin(leased, granted, now);
                }
                _ => self.put_back(leased),
            }
        }
        for granted in granted {
            let next_bytes = next_bytes.get(&granted.turn.subscription).copied();
            self.scheduler
                .end_grant(granted, failed, next_bytes, now.instant);
        }
        self.show_in_flight();
    }

    fn begin(&mut self, leased: Leased, granted: &mut LeaseGrant, now: Now) {
        // A reload may have taken the subscription away while it was being leased.
        let Some(route) = self.scheduler.route(leased.id.subscription).map(Arc::clone) else {
            return self.put_back(leased);
        };
        let never_tried = |reason| Ending::Dead { reason, last: None };
        if route.policy.is_expired(leased.since, now.due) {
            return self.end(leased, route, never_tried(DeadReason::Expired), None, now);
        }
        // Whoever redrives it wants it to go round once more, and what follows from its end is no
        // further round.
        if hops(&leased.event) > HOPS_MAX && leased.id.run == 0 && route.identity.role == Role::To {
            return self.end(leased, route, never_tried(DeadReason::Hops), None, now);
        }
        let size = leased.event.size_bytes();
        let Some((stack, permit)) = self.scheduler.begin(granted, size, now.instant) else {
            return self.put_back(leased);
        };
        let token = leased.token;
        let request = AttemptRequest {
            id: leased.id,
            tenant: leased.tenant.clone(),
            event: Arc::clone(&leased.event),
            attempt: leased.attempts.saturating_add(1),
            route: Arc::clone(&route),
            deadline: now.time.plus(route.policy.timeout()),
            end: AttemptEnd::default(),
        };
        let finished = self.finished.0.clone();
        let task = self.attempts.spawn(async move {
            // A connector that panics costs its own attempt, and no other.
            let reached = match AssertUnwindSafe(stack.oneshot(request))
                .catch_unwind()
                .await
            {
                Ok(Ok(reached)) => reached,
                Ok(Err(never)) => match never {},
                Err(_panic) => AttemptResponse::Answered(Outcome::new(
                    Class::Failed,
                    "the connector panicked; this is a bug in it",
                )),
            };
            // Where the dispatcher is gone nobody asks any more.
            let _ = finished.send(Finished {
                token,
                reached,
                at: Instant::now(),
            });
        });
        let under_way = RunningAttempt {
            leased,
            route,
            permit,
            started: now.instant,
            task: AbortOnDropHandle::new(task),
        };
        self.under_way.insert(token, under_way);
    }

    fn put_back(&mut self, leased: Leased) {
        self.settle(leased.token, None, Ending::Released, Vec::new());
    }

    /// Attempts have ended.
    pub(super) fn finished(&mut self, some: &mut Vec<Finished>) {
        let now = self.now();
        for finished in some.drain(..) {
            self.finished_one(finished, now);
        }
        self.show_in_flight();
    }

    fn finished_one(&mut self, Finished { token, reached, at }: Finished, now: Now) {
        let Some(attempt) = self.under_way.remove(&token) else {
            return;
        };
        match reached {
            AttemptResponse::Answered(outcome) => self.answered(attempt, outcome, at, now),
            // Nothing was sent, and nothing ever will be: the same rule makes the same mistake of
            // the same event at every attempt.
            AttemptResponse::NotPrepared(message) => {
                self.scheduler
                    .ended_uncalled(attempt.permit, attempt.started, at);
                let outcome = Outcome::new(Class::Rejected, message);
                let ending = Ending::Dead {
                    reason: DeadReason::Transform,
                    last: Some(last_outcome(&outcome, Class::Rejected, now.time)),
                };
                self.end(attempt.leased, attempt.route, ending, None, now);
            }
        }
    }

    /// A target has answered: first the scheduler learns from it, then it is decided what becomes
    /// of the delivery.
    fn answered(&mut self, attempt: RunningAttempt, mut outcome: Outcome, at: Instant, now: Now) {
        let RunningAttempt {
            leased,
            route,
            permit,
            started,
            ..
        } = &attempt;
        let answered = TargetAnswer {
            attempt: &attempt,
            outcome: &outcome,
            class: class_in_force(outcome.class, outcome.retry_after),
            at,
            now,
        };
        let (class, permit) = (answered.class, *permit);
        let result = AttemptResult {
            delivery: leased.id,
            started: *started,
            at,
            class,
            retry_after: outcome.retry_after,
            message: &outcome.message,
        };
        self.scheduler
            .ended(permit, result, now.time, self.random.random());
        route
            .observer
            .attempted(class, at.saturating_duration_since(*started));
        let is_success = class == Class::Delivered;
        if is_success {
            self.scheduler.passed(permit, at);
        }
        // Any answer but another refusal says that the target knows us again.
        if class != Class::Refused && self.scheduler.resume_refused(permit, is_success) {
            tracing::info!(
                rule = %route.identity.rule, target = %route.identity.target,
                "the target no longer refuses; going on"
            );
            self.shared.paused.lock().remove(&leased.id.subscription);
        }
        let ending = self.ending(&answered);
        let RunningAttempt { leased, route, .. } = attempt;
        self.end(leased, route, ending, Some(&mut outcome), now);
    }

    fn ending(&mut self, answered: &TargetAnswer<'_>) -> Ending {
        let RunningAttempt {
            leased,
            route,
            permit,
            ..
        } = answered.attempt;
        let now = answered.now.due;
        let tried = EndedAttempt {
            class: answered.class,
            retry_after: answered.outcome.retry_after,
            attempts: leased.attempts,
            failures: leased.failures,
            since: leased.since,
            now,
        };
        match decide(&route.policy, &tried, self.random.random()) {
            Decision::Delivered => Ending::Delivered,
            Decision::RetryAt { at, failure } => answered.retry(at, failure),
            Decision::Dead(reason) => answered.dead(reason),
            Decision::PauseRefused { probe_at } => {
                self.refused(answered, now, answered.at + probe_at.since(now))
            }
            // Where an event decides the address, only that address is gone.
            Decision::Gone if route.is_templated => answered.dead(DeadReason::Rejected),
            // The pause keeps the deliveries back, and not their due time: whoever resumes the
            // subscription, reloads or restarts has them tried at once.
            Decision::Gone => {
                self.gone(permit.subscription(), route);
                answered.retry(now, false)
            }
        }
    }

    /// A target does not know us (401, 403): either this delivery is not allowed, or the whole
    /// subscription's credentials are wrong. Which of the two, the deliveries around it tell.
    fn refused(
        &mut self,
        answered: &TargetAnswer<'_>,
        now: Timestamp,
        probe_at: Instant,
    ) -> Ending {
        let RunningAttempt {
            leased,
            route,
            permit,
            ..
        } = answered.attempt;
        match self.scheduler.refused(*permit, leased.id, answered.at) {
            Refusal::OfDelivery => answered.dead(DeadReason::Rejected),
            // As with a target that is gone, the pause keeps the delivery back.
            Refusal::OfSubscription => {
                self.pause_refused(*permit, route, answered.outcome, probe_at);
                answered.retry(now, false)
            }
            Refusal::Unclear => {
                self.scheduler.ask_again_later(*permit, probe_at);
                let wait = route
                    .policy
                    .backoff(leased.attempts)
                    .min(REFUSED_ALONE_AGAIN);
                answered.retry(now.plus(wait.mul_f64(self.random.random())), false)
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
    pub(super) fn noted_gone(&mut self, number: Option<SubscriptionNumber>) {
        if let Some(number) = number {
            self.scheduler.resume_gone(number);
        }
    }
}

fn last_outcome(outcome: &Outcome, class: Class, at: Timestamp) -> LastOutcome {
    let response = outcome
        .response
        .get(..LAST_RESPONSE_BYTES_MAX)
        .unwrap_or(&outcome.response);
    LastOutcome {
        at,
        class,
        code: outcome.code,
        message: outcome.message.clone(),
        response: String::from_utf8_lossy(response).into_owned(),
    }
}
