//! Publishes with QoS 1.
//!
//! | what happens | class |
//! |---|---|
//! | the broker acknowledges | delivered |
//! | no connection, or it broke before the message was written | unavailable |
//! | the connection breaks, or no acknowledgement comes in time; an error of no known code | failed |
//! | the credentials are wrong, or may not | refused |
//! | a quota or a rate is exceeded | throttled |
//! | the topic, the format or the size is none that the broker takes | rejected |
//!
//! MQTT 3.1.1 has no codes: what a broker refuses there it acknowledges, or it ends the connection.
//! What one attempt has goes out in its order. A message that was sent and not acknowledged may be
//! there twice, both with the delivery's id.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use pointsman_schemas::{Class, Outcome, Problem};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::client::{Connected, Plan, Unreachable};
use super::mapping::{Mode, encode};
use super::packet::{Incoming, Outgoing, Properties, Publish, Qos, Reason, property};
use super::pulse::Pulse;
use super::reason::class;
use super::topic::check_topic;
use super::wire::Wire;
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::shared::SharedConnection;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, OpenError};

/// Messages that wait to be written.
const QUEUE_MAX: usize = 64;

/// Past so many bytes that wait to be written no further message joins them.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// What publishes the messages of one target.
pub(super) struct Publisher {
    pub(super) plan: Box<dyn Fn() -> Result<Plan, OpenError> + Send + Sync>,
    pub(super) guard: Guard,
    pub(super) names: Names,
    pub(super) line: SharedConnection<Line, Unreachable>,
    pub(super) topic: Parameter,
    pub(super) mode: Mode,
    pub(super) retain: bool,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// A connection that messages go out over.
pub(super) struct Line {
    requests: mpsc::Sender<Request>,
    driving: AbortOnDropHandle<()>,
}

/// A message to publish, and who waits for what becomes of it.
struct Request {
    publish: Publish,
    waiting: oneshot::Sender<Answer>,
}

/// What became of a message.
enum Answer {
    /// The broker has said so.
    Told(Reason),
    /// It cannot be written.
    Unsendable(String),
    /// The connection broke before it was written.
    Unsent(String),
    /// The connection broke behind it.
    Cut(String),
}

impl Publisher {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection, or none that does.
    pub(super) async fn connect(&self) -> Result<Connected, Unreachable> {
        let plan = (self.plan)();
        let plan = plan.map_err(|OpenError(problem)| Unreachable::unavailable(problem))?;
        let connected = plan.connect(self.guard, self.names.clone()).await?;
        let is_off = |property| connected.properties.number(property) == Some(0);
        let problem = if is_off(property::MAXIMUM_QOS) {
            Problem::new("the MQTT broker acknowledges no message: it takes QoS 0 alone").at("url")
        } else if self.retain && is_off(property::RETAIN_AVAILABLE) {
            let problem = Problem::new("the MQTT broker retains nothing");
            problem.help("leave out retain").at("retain")
        } else {
            return Ok(connected);
        };
        Err(Unreachable::unavailable(problem))
    }

    async fn line(&self) -> Result<Line, Unreachable> {
        let connected = self.connect().await?;
        let (requests, asked) = mpsc::channel(QUEUE_MAX);
        let properties = &connected.properties;
        let most = properties.number(property::RECEIVE_MAXIMUM);
        let most = most.and_then(|most| usize::try_from(most).ok());
        let driver = Driver {
            wire: connected.wire,
            asked,
            unacknowledged: HashMap::new(),
            most: most.unwrap_or(usize::from(u16::MAX)),
            last_id: 0,
        };
        let driving = tokio::spawn(driver.run(connected.ping_every));
        Ok(Line {
            requests,
            driving: AbortOnDropHandle::new(driving),
        })
    }

    /// Publishes what an attempt has, in its order.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
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
        // Before the attempt is given up, so that a connection that does not answer is.
        let spare = (attempt.timeout / 10).min(Duration::from_secs(1));
        let within = attempt.timeout.saturating_sub(spare);
        match timeout(within, send(&line, messages)).await {
            Ok(outcomes) => Ok(outcomes),
            Err(_elapsed) => {
                self.line.forget(&line).await;
                let message = "the MQTT broker does not acknowledge in time; the message may be \
                               there";
                Err(AttemptError::new(Class::Failed, message))
            }
        }
    }

    /// The message of a delivery.
    fn message(&self, delivery: &Delivery, rule: &str) -> Result<Publish, Outcome> {
        check_texts(delivery, self.texts)?;
        let rejected = |why: &str| Outcome::new(Class::Rejected, why);
        let topic = self.topic.text(delivery);
        check_topic(topic).map_err(rejected)?;
        let encoded = encode(delivery, rule, self.mode);
        let (properties, payload): (Properties, _) = encoded.map_err(|why| rejected(&why))?;
        Ok(Publish {
            qos: Qos::AtLeastOnce,
            retain: self.retain,
            again: false,
            id: 0,
            topic: topic.as_bytes().to_vec().into(),
            properties,
            payload,
            unreadable: None,
        })
    }
}

/// Sends messages in their order, and waits for what becomes of each.
async fn send(line: &Line, messages: Vec<Result<Publish, Outcome>>) -> Vec<Outcome> {
    let mut waiting = Vec::with_capacity(messages.len());
    for message in messages {
        waiting.push(match message {
            Ok(publish) => {
                let (waiting, answer) = oneshot::channel();
                let request = Request { publish, waiting };
                // Where the connection has gone, the answer never comes.
                let is_sent = line.requests.send(request).await.is_ok();
                Ok((answer, is_sent))
            }
            Err(outcome) => Err(outcome),
        });
    }
    let outcomes = waiting.into_iter().map(async |waiting| match waiting {
        Ok((answer, is_sent)) => {
            let gone = || "the connection to the MQTT broker has gone".to_owned();
            outcome(match answer.await {
                Ok(answer) => answer,
                Err(_) if is_sent => Answer::Cut(gone()),
                Err(_) => Answer::Unsent(gone()),
            })
        }
        Err(outcome) => outcome,
    });
    join_all(outcomes).await
}

fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Told(reason) => match class(reason.code) {
            Class::Delivered => Outcome::delivered(),
            class => {
                let why = reason.words();
                Outcome::new(
                    class,
                    format!("the MQTT broker does not take the message: {why}"),
                )
            }
        },
        Answer::Unsendable(why) => Outcome::new(Class::Rejected, why),
        Answer::Unsent(why) => Outcome::new(Class::Unavailable, why),
        Answer::Cut(why) => Outcome::new(Class::Failed, format!("{why}; the message may be there")),
    }
}

/// Writes messages, and reads what became of them.
struct Driver {
    wire: Wire,
    asked: mpsc::Receiver<Request>,
    unacknowledged: HashMap<u16, oneshot::Sender<Answer>>,
    /// Messages that the broker takes before it acknowledges one.
    most: usize,
    last_id: u16,
}

impl Driver {
    async fn run(mut self, ping_every: Duration) {
        let Err(why) = self.drive(Pulse::new(ping_every)).await else {
            return;
        };
        self.asked.close();
        for (_, waiting) in self.unacknowledged.drain() {
            // Whoever has gone away does not hear it.
            let _ = waiting.send(Answer::Cut(why.clone()));
        }
        while let Ok(request) = self.asked.try_recv() {
            let _ = request.waiting.send(Answer::Unsent(why.clone()));
        }
    }

    /// Goes on until nobody asks any more, or the connection breaks.
    async fn drive(&mut self, mut pulse: Pulse) -> Result<(), String> {
        loop {
            while let Some(packet) = self.wire.take().map_err(|broken| broken.words())? {
                self.receive(packet)?;
            }
            let has_room = self.unacknowledged.len() < self.most
                && self.wire.unwritten_bytes() < UNWRITTEN_BYTES_MAX;
            tokio::select! {
                biased;
                () = pulse.due() => pulse.beat(&mut self.wire)?,
                request = self.asked.recv(), if has_room => match request {
                    Some(request) => self.publish(request),
                    None => return Ok(()),
                },
                turned = self.wire.turn(true) => turned.map_err(|broken| broken.words())?,
            }
        }
    }

    fn publish(&mut self, request: Request) {
        let Request {
            mut publish,
            waiting,
        } = request;
        publish.id = self.free_id();
        match self.wire.put(Outgoing::Publish(&publish)) {
            Ok(()) => drop(self.unacknowledged.insert(publish.id, waiting)),
            // Whoever has gone away does not hear it.
            Err(why) => drop(waiting.send(Answer::Unsendable(why.to_string()))),
        }
    }

    /// A packet identifier that no message has which is not acknowledged. There is one: there are no
    /// more of these than `most`.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.unacknowledged.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn receive(&mut self, packet: Incoming) -> Result<(), String> {
        match packet {
            Incoming::Acknowledged { id, reason } => {
                if let Some(waiting) = self.unacknowledged.remove(&id) {
                    // Whoever has gone away does not hear it.
                    let _ = waiting.send(Answer::Told(reason));
                }
                Ok(())
            }
            Incoming::Disconnect(reason) => {
                let why = reason.words();
                Err(format!("the MQTT broker has ended the connection: {why}"))
            }
            _ => Ok(()),
        }
    }
}
