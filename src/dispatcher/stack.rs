//! What happens inside one attempt: the one tower stack, the same for every target.
//!
//! Rate, concurrency, circuit and fairness are no layers of it: they are granted before a delivery
//! is leased, since a request that waits inside a stack waits with its lease running.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, Either, FutureExt, Map, Ready, ready};
use pointsman_connectors::{Attempt, AttemptEnd, AttemptError, Delivery, TargetService};
use pointsman_schemas::{Class, DeliveryId, Event, Name, Outcome, Timestamp, TraceContext};
use smallvec::SmallVec;
use tower::{Service, ServiceBuilder, ServiceExt};
use tracing::instrument::Instrumented;
use tracing::{Instrument, Level};

use super::plan::Route;
use super::record::CalledSlot;

/// How long a target may take to end what it began once its time is over: less than a lease
/// outlasts the timeout.
const END_MAX: Duration = Duration::from_secs(30);

/// A request for one attempt.
#[derive(Debug)]
pub struct AttemptRequest {
    /// At one delivery, or at all those of a batch.
    pub deliveries: SmallVec<[RequestedDelivery; 1]>,
    pub tenant: Name,
    /// How they are sent.
    pub route: Arc<Route>,
    /// When it is abandoned.
    pub deadline: Timestamp,
    /// Lets a connector end it in its own way then.
    pub end: AttemptEnd,
    /// Is told what it calls.
    pub called: CalledSlot,
}

/// A delivery that an attempt is to be made at.
#[derive(Debug)]
pub struct RequestedDelivery {
    pub id: DeliveryId,
    /// Its event, as it was stored.
    pub event: Arc<Event>,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

/// What an attempt came to.
#[derive(Debug, PartialEq)]
pub enum AttemptResponse {
    /// The target was called, or would have been but for the network: with the one delivery, or
    /// with a batch of which all have this outcome.
    Answered(Outcome),
    /// The target was not called: the transform or a template failed, for the reason in this line.
    NotPrepared(String),
    /// What a batch came to whose deliveries fared differently.
    Batch(BatchResponse),
    /// Somebody has stopped it before it came to anything.
    Stopped,
}

/// What became of the deliveries of a batch.
#[derive(Debug, PartialEq)]
pub struct BatchResponse {
    /// The deliveries that did not go out, by their index, and why: as
    /// [`NotPrepared`](AttemptResponse::NotPrepared).
    pub unprepared: Vec<(usize, String)>,
    /// The outcomes of the others, in their order; one alone holds for all of them.
    pub outcomes: Vec<Outcome>,
}

/// The stack around a target.
pub type Stack = Trace<Timeout<Call>>;

/// Puts the layers around a target.
#[must_use]
pub fn stack(target: TargetService) -> Stack {
    ServiceBuilder::new()
        // Outermost, so that whatever a layer or a connector logs says of which delivery it speaks.
        .layer_fn(Trace)
        // Around all that can wait: a target that is not ready, a connection, an answer. Dropping
        // what is inside abandons the attempt.
        .layer_fn(Timeout)
        // Inside the span, so that a transform that fails is logged with its delivery; innermost,
        // since the target is called with what it makes, and not at all where it makes nothing.
        .layer_fn(Call)
        .service(target)
}

/// Puts each attempt into a tracing span, where somebody looks that closely, and one of a trace that
/// is recorded in any case: making one costs as much as several steps of an attempt.
#[derive(Clone, Debug)]
pub struct Trace<S>(S);

impl<S: Service<AttemptRequest>> Service<AttemptRequest> for Trace<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: AttemptRequest) -> Self::Future {
        let identity = &request.route.identity;
        let first = request.deliveries.first();
        macro_rules! attempt_span {
            ($level:expr, $trace_id:expr) => {
                tracing::span!(
                    $level,
                    "attempt",
                    delivery = first.map(|first| display(first.id)),
                    deliveries = request.deliveries.len(),
                    rule = identity.rule.as_str(),
                    target = identity.target.as_str(),
                    attempt = first.map(|first| first.attempt),
                    trace_id = $trace_id
                )
            };
        }
        let traces = request.route.observer.traces();
        let span = match first.and_then(|first| traces.trace_id(&first.event)) {
            Some(trace_id) => attempt_span!(Level::ERROR, display(trace_id)),
            None => attempt_span!(
                Level::DEBUG,
                first
                    .and_then(|first| TraceContext::of(&first.event))
                    .map(|context| display(context.parent.trace_id))
            ),
        };
        let future = span.in_scope(|| self.0.call(request));
        future.instrument(span)
    }
}

/// Abandons an attempt after its subscription's timeout, as a failure.
#[derive(Clone, Debug)]
pub struct Timeout<S>(S);

impl<S> Service<AttemptRequest> for Timeout<S>
where
    S: Service<AttemptRequest, Response = AttemptResponse, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = AttemptResponse;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<AttemptResponse, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: AttemptRequest) -> Self::Future {
        let timeout = request.route.policy.timeout();
        let end = request.end.clone();
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = pin!(answer);
            if let Ok(answer) = tokio::time::timeout(timeout, &mut answer).await {
                return answer;
            }
            if end.tell() {
                // What comes of it now is too late; that it has ended is what matters.
                let _too_late = tokio::time::timeout(END_MAX, answer).await;
            }
            Ok(AttemptResponse::Answered(Outcome::new(
                Class::Failed,
                format!("no answer within {timeout:?}; it was given up"),
            )))
        })
    }
}

/// A call under way, and what it ends with.
type Calling = tower::util::Oneshot<TargetService, Attempt>;
type Answer = Result<Vec<Outcome>, AttemptError>;

/// Makes what the target is given, calls it, and reads the outcome.
#[derive(Clone, Debug)]
pub struct Call(TargetService);

impl Service<AttemptRequest> for Call {
    type Response = AttemptResponse;
    type Error = Infallible;
    /// Boxed for batches alone, each of which is many deliveries.
    type Future = Either<
        Ready<Result<AttemptResponse, Infallible>>,
        Either<
            Map<Calling, fn(Answer) -> Result<AttemptResponse, Infallible>>,
            Map<Calling, Box<dyn FnOnce(Answer) -> Result<AttemptResponse, Infallible> + Send>>,
        >,
    >;

    /// Always ready: the target's own readiness is waited for inside the call, so that the timeout
    /// covers it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: AttemptRequest) -> Self::Future {
        let is_batch = request.route.batch.is_some();
        let traces = request.route.observer.traces();
        let mut deliveries = Vec::with_capacity(request.deliveries.len());
        let mut unprepared = Vec::new();
        for (index, one) in request.deliveries.into_iter().enumerate() {
            match request.route.preparation.prepare(&one.event) {
                Ok((event, texts)) => deliveries.push(Delivery {
                    id: one.id,
                    attempt: one.attempt,
                    event,
                    texts,
                    trace: traces
                        .context(&one.event, one.id, one.attempt)
                        .map(Box::new),
                }),
                Err(message) if is_batch => unprepared.push((index, message)),
                Err(message) => return not_called(AttemptResponse::NotPrepared(message)),
            }
        }
        if deliveries.is_empty() {
            return not_called(AttemptResponse::Batch(BatchResponse {
                unprepared,
                outcomes: Vec::new(),
            }));
        }
        if let Some(first) = deliveries.first() {
            request.route.recording.fill(&request.called, &first.texts);
        }
        let count = deliveries.len();
        let attempt = Attempt {
            tenant: request.tenant,
            rule: request.route.identity.rule.clone(),
            deadline: request.deadline,
            timeout: request.route.policy.timeout(),
            deliveries,
            is_batch,
            end: request.end,
        };
        let answer = self.0.clone().oneshot(attempt);
        if is_batch {
            let read = move |answer| {
                Ok(AttemptResponse::Batch(BatchResponse {
                    unprepared,
                    outcomes: of_batch(answer, count),
                }))
            };
            return Either::Right(Either::Right(answer.map(Box::new(read) as Box<_>)));
        }
        let read: fn(_) -> _ = |answer: Answer| {
            Ok(AttemptResponse::Answered(match answer {
                Ok(outcomes) => only(outcomes),
                Err(error) => Outcome::new(error.class, error.message),
            }))
        };
        Either::Right(Either::Left(answer.map(read)))
    }
}

fn not_called(response: AttemptResponse) -> <Call as Service<AttemptRequest>>::Future {
    Either::Left(ready(Ok(response)))
}

/// The outcomes of a batch of so many deliveries: one for each, or one for all.
fn of_batch(answer: Answer, count: usize) -> Vec<Outcome> {
    match answer {
        Ok(outcomes) if outcomes.len() == count || outcomes.len() == 1 => outcomes,
        Ok(outcomes) => vec![Outcome::new(
            Class::Failed,
            format!(
                "the connector told {} outcomes of a batch of {count}",
                outcomes.len()
            ),
        )],
        Err(error) => vec![Outcome::new(error.class, error.message)],
    }
}

/// The one outcome of an attempt at one delivery.
fn only(mut outcomes: Vec<Outcome>) -> Outcome {
    match (outcomes.pop(), outcomes.len()) {
        (Some(outcome), 0) => outcome,
        (_, more) => Outcome::new(
            Class::Failed,
            format!("the connector told {more} outcomes beside the one of its delivery"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tower::util::BoxCloneSyncService;

    use super::*;
    use crate::dispatcher::Preparation;
    use crate::dispatcher::testing::{event, id, policy, preparation, route};

    fn service<F>(answer: impl Fn(Attempt) -> F + Clone + Send + Sync + 'static) -> TargetService
    where
        F: Future<Output = Result<Vec<Outcome>, AttemptError>> + Send + 'static,
    {
        BoxCloneSyncService::new(tower::service_fn(answer))
    }

    async fn reached(target: TargetService, preparation: Preparation) -> AttemptResponse {
        let route = Arc::new(Route {
            preparation,
            ..route("r", 0, policy())
        });
        let request = AttemptRequest {
            deliveries: SmallVec::from_buf([RequestedDelivery {
                id: id(),
                event: event("e"),
                attempt: 3,
            }]),
            tenant: Name::default_tenant(),
            route,
            deadline: Timestamp(9),
            end: AttemptEnd::default(),
            called: CalledSlot::default(),
        };
        stack(target)
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {})
    }

    #[tokio::test(start_paused = true)]
    async fn the_target_is_given_what_was_prepared() {
        let target = service(|attempt: Attempt| async move {
            let delivery = &attempt.deliveries[0];
            assert_eq!(
                (
                    attempt.rule.as_str(),
                    attempt.deadline,
                    delivery.attempt,
                    delivery.id
                ),
                ("r", Timestamp(9), 3, id())
            );
            Ok(vec![Outcome::new(
                Class::Delivered,
                format!("{:?} {:?}", delivery.event.subject(), delivery.texts),
            )])
        });
        let made = preparation(
            json!({ "set": { "subject": "made" } }),
            &["<$.subject>", "b"],
        );
        let AttemptResponse::Answered(outcome) = reached(target, made).await else {
            panic!("the target was not called")
        };
        assert_eq!(outcome.message, r#"Some("made") ["made", "b"]"#);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_can_be_prepared_the_target_is_not_called() {
        let target = service(|_| async { panic!("it was called") });
        for nothing in [
            preparation(json!({}), &["<$.data.bucket>"]),
            preparation(json!({ "jq": r#"error("no $.data.bucket")"# }), &["a"]),
        ] {
            let AttemptResponse::NotPrepared(why) = reached(target.clone(), nothing).await else {
                panic!("the target was called")
            };
            assert!(why.contains("$.data.bucket"), "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_given_up_after_its_timeout_and_says_so() {
        for target in [
            service(|_| std::future::pending()),
            BoxCloneSyncService::new(NeverReady),
        ] {
            let started = tokio::time::Instant::now();
            let AttemptResponse::Answered(outcome) = reached(target, Preparation::default()).await
            else {
                panic!("the target was not called")
            };
            assert_eq!(
                (outcome.class, started.elapsed()),
                (Class::Failed, Duration::from_secs(30))
            );
            assert_eq!(outcome.message, "no answer within 30s; it was given up");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_sees_to_its_own_end_is_over_when_it_has_ended() {
        for (takes, expect) in [(Duration::from_secs(2), 32), (Duration::from_secs(999), 60)] {
            let target = service(move |attempt: Attempt| async move {
                let is_over = attempt.end.see_to_it();
                is_over.cancelled().await;
                tokio::time::sleep(takes).await;
                Ok(vec![Outcome::delivered()])
            });
            let started = tokio::time::Instant::now();
            let AttemptResponse::Answered(outcome) = reached(target, Preparation::default()).await
            else {
                panic!("the target was not called")
            };
            assert_eq!(
                (outcome.class, started.elapsed().as_secs()),
                (Class::Failed, expect)
            );
        }
    }

    #[derive(Clone)]
    struct NeverReady;

    impl Service<Attempt> for NeverReady {
        type Response = Vec<Outcome>;
        type Error = AttemptError;
        type Future = std::future::Ready<Result<Vec<Outcome>, AttemptError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptError>> {
            Poll::Pending
        }

        fn call(&mut self, _: Attempt) -> Self::Future {
            panic!("it was called before it was ready")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_wrong_numbers_of_outcomes_are_outcomes() {
        let down = service(|_| async { Err(AttemptError::new(Class::Unavailable, "no route")) });
        assert_eq!(
            reached(down, Preparation::default()).await,
            AttemptResponse::Answered(Outcome::new(Class::Unavailable, "no route"))
        );
        for count in [0, 2] {
            let target = service(move |_| async move { Ok(vec![Outcome::delivered(); count]) });
            let AttemptResponse::Answered(outcome) = reached(target, Preparation::default()).await
            else {
                panic!("the target was not called")
            };
            assert_eq!(outcome.class, Class::Failed, "{count}");
        }
    }
}
