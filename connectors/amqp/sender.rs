//! Sends messages, and waits until the broker has settled each.
//!
//! | what happens | class |
//! |---|---|
//! | accepted | delivered |
//! | rejected: for want of room, or by a broker that is busy | throttled |
//! | rejected: too large, malformed, not allowed | rejected |
//! | rejected: who connects may not | refused |
//! | rejected otherwise, released, or modified | failed |
//! | modified, and not to be delivered here again | rejected |
//! | no credit: the broker takes no message of the address for now | throttled |
//! | no connection, or it broke before the message was sent | unavailable |
//! | the connection or the link breaks, or nothing is settled in time | failed |
//! | the address is refused | by the same conditions; where there is none such, failed |
//!
//! What one attempt has goes out in its order, for each address. A message that was sent and not
//! settled may be there twice, both with the delivery's id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use pointsman_schemas::{Class, Outcome};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::client::{Connected, Plan, Unreachable};
use super::driver::Driver;
use super::fault::Fault;
use super::frame::State;
use super::mapping::{Mode, Properties, encode};
use super::settings::Kind;
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::shared::SharedConnection;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, OpenError};

/// Messages that wait for the task that holds the connection.
const QUEUE_MAX: usize = 64;

const NO_CREDIT: &str =
    "the AMQP broker gives no credit: it takes no message of this address for now";

/// What sends the messages of one target.
pub(super) struct Sender {
    pub(super) plan: Box<dyn Fn() -> Result<Plan, OpenError> + Send + Sync>,
    pub(super) guard: Guard,
    pub(super) names: Names,
    pub(super) line: SharedConnection<Line, Unreachable>,
    pub(super) address: Parameter,
    pub(super) subject: Option<Parameter>,
    pub(super) group: Option<Parameter>,
    pub(super) kind: Option<Kind>,
    pub(super) mode: Mode,
    pub(super) is_durable: bool,
    pub(super) priority: Option<u8>,
    pub(super) ttl_ms: Option<u32>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// A connection that messages go out over.
pub(super) struct Line {
    requests: mpsc::Sender<Request>,
    driving: AbortOnDropHandle<()>,
}

/// A message to send, and who waits for what becomes of it.
pub(super) struct Request {
    pub(super) address: String,
    pub(super) message: Bytes,
    pub(super) claim: Claim,
    pub(super) waiting: oneshot::Sender<Answer>,
}

/// Whether a message goes out, which the task that sends it and whoever waits for it decide once.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicU8>);

const OPEN: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Claim {
    fn turn(&self, to: u8) -> bool {
        let turned = self
            .0
            .compare_exchange(OPEN, to, Ordering::AcqRel, Ordering::Acquire);
        turned.is_ok()
    }

    /// It is sent now, unless it has been withdrawn.
    pub(super) fn send(&self) -> bool {
        self.turn(SENT)
    }

    /// It is not sent any more, unless it has been.
    fn withdraw(&self) -> bool {
        self.turn(WITHDRAWN)
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// The broker has settled it.
    Settled(Option<State>),
    /// The broker does not take messages of its address.
    Refused(Option<Fault>),
    /// It is larger than the broker takes.
    TooLarge(u64),
    /// The connection broke before it was sent.
    Unsent(String),
    /// The connection or the link broke behind it.
    Cut(String),
}

/// Whoever waits for a message; it is withdrawn where he goes away.
struct Waiter {
    claim: Claim,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.claim.withdraw();
    }
}

impl Sender {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn connect(&self) -> Result<Connected, Unreachable> {
        let plan = (self.plan)();
        let plan = plan.map_err(|OpenError(problem)| Unreachable::unavailable(problem))?;
        plan.connect(self.guard, self.names.clone()).await
    }

    async fn line(&self) -> Result<Line, Unreachable> {
        let connected = self.connect().await?;
        let (requests, asked) = mpsc::channel(QUEUE_MAX);
        let capability = self.kind.map(Kind::capability);
        let driver = Driver::new(connected, asked, capability);
        Ok(Line {
            requests,
            driving: AbortOnDropHandle::new(tokio::spawn(driver.run())),
        })
    }

    /// Sends what an attempt has, in its order.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
        // Before the attempt is given up, so that it can be told what was sent.
        let spare = (attempt.timeout / 10).min(Duration::from_secs(1));
        let until = Instant::now() + attempt.timeout.saturating_sub(spare);
        let rule = attempt.rule.as_str();
        let deliveries = attempt.deliveries.iter();
        let messages: Vec<_> = deliveries
            .map(|delivery| self.message(delivery, rule))
            .collect();
        let is_usable = |line: &Line| !line.driving.is_finished();
        let line = self.line.get(is_usable, self.line()).await;
        let line = line.map_err(|unreachable| {
            AttemptError::new(unreachable.class, unreachable.problem.to_string())
        })?;
        let (outcomes, is_silent) = send(&line, messages, until).await;
        if is_silent {
            // A connection that does not settle is of no use to the next attempt.
            self.line.forget(&line).await;
        }
        Ok(outcomes)
    }

    /// The address and the message of a delivery.
    fn message(&self, delivery: &Delivery, rule: &str) -> Result<(String, Bytes), Outcome> {
        check_texts(delivery, self.texts)?;
        let address = self.address.text(delivery);
        if address.is_empty() {
            let why = "the address is empty: the template finds nothing in this event";
            return Err(Outcome::new(Class::Rejected, why));
        }
        let text =
            |text: &'_ Option<Parameter>| text.as_ref().map(|text| text.text(delivery).to_owned());
        let (subject, group) = (text(&self.subject), text(&self.group));
        let properties = Properties {
            address,
            subject: subject.as_deref(),
            group: group.as_deref(),
            is_durable: self.is_durable,
            priority: self.priority,
            ttl_ms: self.ttl_ms,
        };
        let message = encode(delivery, rule, self.mode, &properties);
        Ok((address.to_owned(), message.write()))
    }
}

/// Sends messages in their order, and waits for what becomes of each; tells also whether one was
/// sent of which nothing is heard.
async fn send(
    line: &Line,
    messages: Vec<Result<(String, Bytes), Outcome>>,
    until: Instant,
) -> (Vec<Outcome>, bool) {
    let mut waiting = Vec::with_capacity(messages.len());
    for message in messages {
        waiting.push(match message {
            Ok((address, message)) => {
                let (waiting, answer) = oneshot::channel();
                let claim = Claim::default();
                let waiter = Waiter {
                    claim: claim.clone(),
                    answer,
                };
                let request = Request {
                    address,
                    message,
                    claim,
                    waiting,
                };
                match timeout_at(until, line.requests.send(request)).await {
                    // Where the connection has gone, the answer never comes.
                    Ok(_) => Ok(waiter),
                    Err(_elapsed) => Err(Outcome::new(Class::Throttled, NO_CREDIT)),
                }
            }
            Err(outcome) => Err(outcome),
        });
    }
    let answers = waiting.into_iter().map(async |waiting| match waiting {
        Ok(waiter) => wait(waiter, until).await,
        Err(outcome) => (outcome, false),
    });
    let answers = join_all(answers).await;
    let is_silent = answers.iter().any(|(_, is_silent)| *is_silent);
    let outcomes = answers.into_iter().map(|(outcome, _)| outcome);
    (outcomes.collect(), is_silent)
}

async fn wait(mut waiter: Waiter, until: Instant) -> (Outcome, bool) {
    let answered = timeout_at(until, &mut waiter.answer).await;
    let was_sent = !waiter.claim.withdraw();
    let gone = || "the connection to the AMQP broker has gone".to_owned();
    match answered {
        Ok(Ok(answer)) => (outcome(answer), false),
        Ok(Err(_)) if was_sent => (outcome(Answer::Cut(gone())), false),
        Ok(Err(_)) => (outcome(Answer::Unsent(gone())), false),
        Err(_elapsed) if was_sent => {
            let why = "the AMQP broker does not settle the message in time; it may be there";
            (Outcome::new(Class::Failed, why), true)
        }
        Err(_elapsed) => (Outcome::new(Class::Throttled, NO_CREDIT), false),
    }
}

fn outcome(answer: Answer) -> Outcome {
    let failed = |why: String| Outcome::new(Class::Failed, why);
    match answer {
        Answer::Settled(Some(State::Accepted)) => Outcome::delivered(),
        Answer::Settled(Some(State::Rejected(Some(fault)))) => Outcome::new(
            fault.class(),
            format!("the AMQP broker rejects the message: {fault}"),
        ),
        Answer::Settled(Some(State::Rejected(None))) => {
            failed("the AMQP broker rejects the message and does not say why".to_owned())
        }
        Answer::Settled(Some(State::Released)) => failed(
            "the AMQP broker gives the message back: nothing is there that it could go to"
                .to_owned(),
        ),
        Answer::Settled(Some(State::Modified {
            undeliverable_here: true,
            ..
        })) => Outcome::new(
            Class::Rejected,
            "the AMQP broker gives the message back, and says that it cannot be delivered there",
        ),
        Answer::Settled(Some(State::Modified { .. })) => {
            failed("the AMQP broker gives the message back".to_owned())
        }
        Answer::Settled(Some(State::Received) | None) => failed(
            "the AMQP broker settles the message without an outcome; it may be there".to_owned(),
        ),
        Answer::Refused(Some(fault)) => Outcome::new(
            fault.class(),
            format!("the AMQP broker takes no messages of this address: {fault}"),
        ),
        Answer::Refused(None) => {
            failed("the AMQP broker takes no messages of this address".to_owned())
        }
        Answer::TooLarge(bytes) => Outcome::new(
            Class::Rejected,
            format!("the message is larger than the {bytes} bytes that the AMQP broker takes"),
        ),
        Answer::Unsent(why) => Outcome::new(Class::Unavailable, why),
        Answer::Cut(why) => failed(format!("{why}; the message may be there")),
    }
}
