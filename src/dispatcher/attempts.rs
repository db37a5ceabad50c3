//! One attempt: from its lease to how its delivery leaves the dispatcher.

mod ending;

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;

use futures::future::FutureExt;
use pointsman_connectors::AttemptEnd;
use pointsman_journal::{DeadReason, Ending, Gathering, LeaseToken, Leased, Leases, Role};
use pointsman_schemas::{AttributeValue, Class, Event, Name, Outcome};
use rand::RngExt;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use self::ending::{TargetAnswer, last_outcome};
use super::follow::{HOPS_MAX, hops};
use super::leasing::LeaseReply;
use super::plan::Route;
use super::policy::class_in_force;
use super::record::{CalledSlot, EndedCall};
use super::scheduler::{LeaseGrant, Permit};
use super::stack::{AttemptRequest, AttemptResponse, BatchResponse, RequestedDelivery};
use super::target_state::AttemptResult;
use super::{Dispatcher, Now};
use crate::telemetry::traces::Batch;

/// The extension attribute of an event that a replay delivers: the id of the replay.
pub const REPLAY: &str = "pointsmanreplay";

/// The deliveries of one call: one, or those of a batch.
pub(super) type LeasedCall = SmallVec<[Leased; 1]>;

/// An attempt under way, with its deliveries.
pub(super) struct RunningAttempt {
    pub(super) call: LeasedCall,
    pub(super) route: Arc<Route>,
    permit: Permit,
    started: Instant,
    /// Ends it before its time, where its connector sees to that.
    pub(super) end: AttemptEnd,
    /// What it calls, once that is filled in.
    called: CalledSlot,
    /// Ends it, where it has not ended, with whoever gives this up: no attempt outlives the
    /// dispatcher.
    pub(super) task: AbortOnDropHandle<()>,
}

/// An attempt that has ended.
pub(super) struct Finished {
    /// Of its first delivery.
    pub(super) token: LeaseToken,
    pub(super) reached: AttemptResponse,
    pub(super) at: Instant,
}

impl RunningAttempt {
    /// The attempt as the history is told of it, which has ended at `at`.
    pub(super) fn ended(&self, at: Instant, now: Now) -> EndedCall {
        EndedCall {
            began: now.due_at(self.started),
            began_at: now
                .time
                .minus(now.instant.saturating_duration_since(self.started)),
            ran: at.saturating_duration_since(self.started),
            called: self.called.clone(),
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
        let Leases {
            leased,
            cut,
            gathering,
        } = leases.unwrap_or_default();
        let next_bytes: HashMap<_, _> = cut
            .into_iter()
            .map(|cut| (cut.subscription, cut.event_bytes))
            .collect();
        granted.sort_unstable_by_key(|granted| granted.turn.subscription);
        let now = self.now();
        for Gathering {
            subscription,
            until,
        } in gathering
        {
            let until = now.instant + until.since(now.due);
            self.scheduler.gathers(subscription, until);
        }
        let mut leased = leased.into_iter().peekable();
        while let Some(first) = leased.next() {
            let found = granted
                .binary_search_by_key(&first.id.subscription, |granted| granted.turn.subscription);
            let mut call = LeasedCall::from_buf([first]);
            while let Some(next) = leased.next_if(|next| !next.begins_call) {
                call.push(next);
            }
            match found.ok().and_then(|index| granted.get_mut(index)) {
                Some(granted) if !stops => {
                    granted.leased += call.len();
                    granted.calls += 1;
                    self.begin(call, granted, now);
                }
                _ => self.put_back(call),
            }
        }
        for granted in granted {
            let next_bytes = next_bytes.get(&granted.turn.subscription).copied();
            self.scheduler
                .end_grant(granted, failed, next_bytes, now.instant);
        }
        self.show_in_flight();
    }

    fn begin(&mut self, mut call: LeasedCall, granted: &mut LeaseGrant, now: Now) {
        // A call is of one shard, and so has one fence.
        let fence = call.first_mut().and_then(|first| first.fence.take());
        let is_ended = fence.as_ref().is_some_and(CancellationToken::is_cancelled);
        // A reload may have taken the subscription away while it was being leased.
        let route = self.scheduler.route(granted.turn.subscription);
        let Some(route) = route.filter(|_| !is_ended).map(Arc::clone) else {
            return self.put_back(call);
        };
        self.end_never_tried(&mut call, &route, now);
        let Some(token) = call.first().map(|first| first.token) else {
            return;
        };
        let size = call.iter().map(|one| one.event.size_bytes()).sum();
        let begun = self.scheduler.begin(granted, call.len(), size, now.instant);
        let Some((stack, permit)) = begun else {
            return self.put_back(call);
        };
        let end = AttemptEnd::default();
        let called = route.recording.slot();
        let request = AttemptRequest {
            deliveries: call.iter().map(requested).collect(),
            tenant: call
                .first()
                .map_or_else(Name::default_tenant, |first| first.tenant.clone()),
            route: Arc::clone(&route),
            deadline: now.time.plus(route.policy.timeout()),
            end: end.clone(),
            called: called.clone(),
        };
        let finished = self.finished.0.clone();
        // A connector that panics costs its own attempt, and no other. It is boxed, since what is
        // spawned is moved several times.
        let attempt = Box::pin(AssertUnwindSafe(stack.oneshot(request)).catch_unwind());
        let task = self.attempts.spawn(async move {
            let ended = match fence {
                None => Some(attempt.await),
                // Looked at first, so that it takes not one step more; and one that sees to its
                // end itself is dropped too, since another machine may begin the same by now.
                Some(fence) => tokio::select! {
                    biased;
                    () = fence.cancelled() => None,
                    ended = attempt => Some(ended),
                },
            };
            // Where the dispatcher is gone nobody asks any more.
            let _ = finished.send(Finished {
                token,
                reached: reached(ended),
                at: Instant::now(),
            });
        });
        self.more_under_way += call.len() - 1;
        let under_way = RunningAttempt {
            call,
            route,
            permit,
            started: now.instant,
            end,
            called,
            task: AbortOnDropHandle::new(task),
        };
        self.under_way.insert(token, under_way);
    }

    /// Takes out of a call what is dead before it is tried.
    fn end_never_tried(&mut self, call: &mut LeasedCall, route: &Arc<Route>, now: Now) {
        let is_dead = |one: &Leased| never_tried(one, route, now).is_some();
        if !call.iter().any(is_dead) {
            return;
        }
        for leased in std::mem::take(call) {
            match never_tried(&leased, route, now) {
                None => call.push(leased),
                Some(reason) => {
                    let ending = Ending::Dead { reason, last: None };
                    let record = route.recording.end();
                    self.end(leased, Arc::clone(route), ending, None, record, now);
                }
            }
        }
    }

    fn put_back(&mut self, call: LeasedCall) {
        for leased in call {
            self.release(&leased, None);
        }
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
        self.more_under_way -= attempt.call.len() - 1;
        match reached {
            AttemptResponse::Answered(outcome) => self.answered(attempt, outcome, at, now),
            // Somebody has stopped it, or its fence: what the target did of it is not known.
            AttemptResponse::Stopped => {
                self.scheduler
                    .ended_uncalled(attempt.permit, attempt.started, at);
                let call = attempt.ended(at, now);
                let outcome = Outcome::new(Class::Failed, "stopped before it had answered");
                for leased in attempt.call {
                    let route = Arc::clone(&attempt.route);
                    let ending = self.ending_if_stopped(leased.token, Ending::Released);
                    let batch = Batch::default();
                    route
                        .observer
                        .tried(&leased, &outcome, &ending, &call, &batch);
                    let record = route.recording.attempt(&ending, &call, &outcome, None);
                    self.end(leased, route, ending, None, record, now);
                }
            }
            AttemptResponse::NotPrepared(message) => {
                self.scheduler
                    .ended_uncalled(attempt.permit, attempt.started, at);
                let call = attempt.ended(at, now);
                for leased in attempt.call {
                    self.not_prepared(leased, &attempt.route, &call, message.clone(), now);
                }
            }
            AttemptResponse::Batch(response) => self.batch_answered(attempt, response, at, now),
        }
    }

    /// Nothing was sent of a delivery, and nothing ever will be: the same rule makes the same
    /// mistake of the same event at every attempt.
    fn not_prepared(
        &mut self,
        leased: Leased,
        route: &Arc<Route>,
        call: &EndedCall,
        message: String,
        now: Now,
    ) {
        let outcome = Outcome::new(Class::Rejected, message);
        let ending = Ending::Dead {
            reason: DeadReason::Transform,
            last: Some(last_outcome(&outcome, Class::Rejected, now.time)),
        };
        let ending = self.ending_if_stopped(leased.token, ending);
        let batch = Batch::default();
        route
            .observer
            .tried(&leased, &outcome, &ending, call, &batch);
        let record = route.recording.attempt(&ending, call, &outcome, None);
        self.end(leased, Arc::clone(route), ending, None, record, now);
    }

    /// The deliveries of a batch fared differently.
    fn batch_answered(
        &mut self,
        mut attempt: RunningAttempt,
        BatchResponse {
            unprepared,
            mut outcomes,
        }: BatchResponse,
        at: Instant,
        now: Now,
    ) {
        let ended = attempt.ended(at, now);
        let mut unprepared = unprepared.into_iter().peekable();
        for (index, leased) in std::mem::take(&mut attempt.call).into_iter().enumerate() {
            match unprepared.next_if(|(of, _)| *of == index) {
                None => attempt.call.push(leased),
                Some((_, message)) => {
                    self.not_prepared(leased, &attempt.route, &ended, message, now)
                }
            }
        }
        if attempt.call.is_empty() || outcomes.is_empty() {
            self.scheduler
                .ended_uncalled(attempt.permit, attempt.started, at);
            return self.put_back(attempt.call);
        }
        if outcomes.len() == 1 {
            return self.answered(attempt, outcomes.remove(0), at, now);
        }
        // The target works where it took any of them.
        let of_call = outcomes
            .iter()
            .find(|outcome| outcome.class == Class::Delivered)
            .or(outcomes.first());
        if let Some(of_call) = of_call {
            self.call_ended(&attempt, of_call, at, now);
        }
        let random = self.random.random();
        let RunningAttempt {
            call,
            route,
            permit,
            ..
        } = attempt;
        let batch = route.observer.batch(&call);
        for (leased, mut outcome) in call.into_iter().zip(outcomes) {
            let answered = TargetAnswer {
                leased: &leased,
                route: &route,
                permit,
                outcome: &outcome,
                refusal: None,
                half: None,
                class: class_in_force(outcome.class, outcome.retry_after),
                at,
                now,
            };
            let (ending, wait) = self.ending(&answered, random);
            route
                .observer
                .tried(&leased, &outcome, &ending, &ended, &batch);
            let record = route.recording.attempt(&ending, &ended, &outcome, wait);
            let outcome = Some(&mut outcome);
            self.end(leased, Arc::clone(&route), ending, outcome, record, now);
        }
    }

    /// A target has answered, to all deliveries of an attempt alike: first the scheduler learns
    /// from it, then it is decided what becomes of them.
    fn answered(&mut self, attempt: RunningAttempt, mut outcome: Outcome, at: Instant, now: Now) {
        let class = self.call_ended(&attempt, &outcome, at, now);
        let ended = attempt.ended(at, now);
        let RunningAttempt {
            mut call,
            route,
            permit,
            ..
        } = attempt;
        let refusal = call
            .first()
            .filter(|_| class == Class::Refused)
            .map(|first| self.scheduler.refused(permit, first.id, at));
        // Events in the answer go round with whichever delivery has come the farthest.
        if outcome.replies.is_some() {
            call.sort_by_key(|leased| std::cmp::Reverse(hops(&leased.event)));
        }
        // What failed together comes back together.
        let random = self.random.random();
        let halves = route.batch.is_some_and(|batch| batch.bisect) && call.len() > 1;
        let half = u32::try_from(call.len().div_ceil(2)).ok();
        let half = half.filter(|_| halves).and_then(NonZeroU32::new);
        let batch = route.observer.batch(&call);
        for leased in call {
            let answered = TargetAnswer {
                leased: &leased,
                route: &route,
                permit,
                outcome: &outcome,
                refusal,
                half,
                class,
                at,
                now,
            };
            let (ending, wait) = self.ending(&answered, random);
            route
                .observer
                .tried(&leased, &outcome, &ending, &ended, &batch);
            let record = route.recording.attempt(&ending, &ended, &outcome, wait);
            let outcome = Some(&mut outcome);
            self.end(leased, Arc::clone(&route), ending, outcome, record, now);
        }
    }

    /// A call of a target has ended like this: the scheduler learns from it. Returns the class that
    /// it counts as.
    fn call_ended(
        &mut self,
        attempt: &RunningAttempt,
        outcome: &Outcome,
        at: Instant,
        now: Now,
    ) -> Class {
        let RunningAttempt {
            call,
            route,
            permit,
            started,
            ..
        } = attempt;
        let class = class_in_force(outcome.class, outcome.retry_after);
        let Some(first) = call.first() else {
            return class;
        };
        let result = AttemptResult {
            delivery: first.id,
            started: *started,
            at,
            class,
            retry_after: outcome.retry_after,
            message: &outcome.message,
        };
        self.scheduler
            .ended(*permit, result, now.time, self.random.random());
        let took = at.saturating_duration_since(*started);
        route.observer.attempted(call, class, took);
        let is_success = class == Class::Delivered;
        if is_success {
            self.scheduler.passed(*permit, at);
        }
        // Any answer but another refusal says that the target knows us again.
        if class != Class::Refused && self.scheduler.resume_refused(*permit, is_success) {
            tracing::info!(
                rule = %route.identity.rule, target = %route.identity.target,
                "the target no longer refuses; going on"
            );
            self.shared.paused.lock().remove(&permit.subscription());
        }
        class
    }
}

fn requested(leased: &Leased) -> RequestedDelivery {
    RequestedDelivery {
        id: leased.id,
        event: marked(leased),
        attempt: leased.attempts.saturating_add(1),
    }
}

/// What an attempt came to that ended like this; none where its fence has ended it.
fn reached(ended: Option<thread::Result<Result<AttemptResponse, Infallible>>>) -> AttemptResponse {
    match ended {
        Some(Ok(Ok(reached))) => reached,
        Some(Ok(Err(never))) => match never {},
        Some(Err(_panic)) => AttemptResponse::Answered(Outcome::new(
            Class::Failed,
            "the connector panicked; this is a bug in it",
        )),
        None => AttemptResponse::Stopped,
    }
}

/// Why a leased delivery is dead before it is tried, if it is.
fn never_tried(leased: &Leased, route: &Route, now: Now) -> Option<DeadReason> {
    if route.policy.is_expired(leased.since, now.due) {
        return Some(DeadReason::Expired);
    }
    // Whoever redrives it wants it to go round once more, and what follows from its end is no
    // further round.
    let goes_round = leased.id.run == 0 && route.identity.role == Role::To;
    (goes_round && hops(&leased.event) > HOPS_MAX).then_some(DeadReason::Hops)
}

/// The event as it goes out: one that a replay delivers says so.
fn marked(leased: &Leased) -> Arc<Event> {
    match leased.replay {
        None => Arc::clone(&leased.event),
        Some(replay) => {
            let mut event = Event::clone(&leased.event).into_builder();
            event.set(REPLAY, AttributeValue::String(&replay.to_string()));
            // What was an event is one with another attribute.
            let marked = event.build().map(Arc::new);
            marked.unwrap_or_else(|_| Arc::clone(&leased.event))
        }
    }
}
