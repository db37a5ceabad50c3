//! Publishes events to an exchange.
//!
//! | what the server does | class |
//! |---|---|
//! | confirms | delivered |
//! | returns the message: no queue is bound to where it went | failed |
//! | refuses it (nack): a queue is full, or broken; or blocks publishers, being short of memory or disk | throttled |
//! | 404: there is no such exchange | failed |
//! | 403 | refused |
//! | 406, 311: too large | rejected |
//! | does not confirm in time | failed |
//! | cannot be reached, or breaks off | unavailable |
//!
//! Messages share a channel, on which many confirmations are outstanding. The server closes a
//! channel for one message's mistake, and takes with it whatever else was on its way there. So a
//! message has a channel to itself unless it is tried for the first time and its exchange has taken
//! one as large before; and what was on its way when the shared channel went is published once
//! more, each on its own.

mod connection;
mod shared_channel;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, LongString, ShortString};
use lapin::{BasicProperties, Confirmation};
use pointsman_schemas::{Class, DeliveryId, Outcome};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout_at};

use self::connection::{LONE_MAX, PublishConnection};
use self::shared_channel::{Published, SharedChannel};
use super::connection::{Address, short};
use super::declare::{ExchangeType, declare_exchange};
use super::error::BrokerError;
use super::mapping::{MessageMode, encode};
use crate::files::Files;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, OpenError, trace};

/// The delivery's id, the same over all attempts.
const TASK: &str = "pointsman-task";

/// The number of the attempt.
const ATTEMPT: &str = "pointsman-attempt";

/// Survives a restart of the server, in queues that do.
const PERSISTENT: u8 = 2;

const BLOCKED: &str = "RabbitMQ takes no messages for now: it is short of memory or disk";

const NOT_TAKEN: &str = "RabbitMQ did not take the message";

/// The publisher of one target.
pub(super) struct Publisher {
    /// Read anew for each connection, with the files that its secrets are in.
    pub(super) address: Box<dyn Fn() -> Result<Address, OpenError> + Send + Sync>,
    pub(super) exchange: Parameter<ShortString>,
    pub(super) routing_key: Parameter<ShortString>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
    pub(super) mode: MessageMode,
    pub(super) persistent: bool,
    pub(super) mandatory: bool,
    /// The exchange is declared at each connection.
    pub(super) declare: Option<(String, ExchangeType)>,
    pub(super) connection: AsyncMutex<SharedConnection>,
}

/// The one connection of a target, and how the last attempt at one ended.
pub(super) struct SharedConnection {
    open: Option<Arc<PublishConnection>>,
    failed: Option<(Instant, BrokerError)>,
    /// The files that connections depend on.
    files: Files,
}

impl SharedConnection {
    /// None yet.
    pub(super) fn of(files: Files) -> Self {
        Self {
            open: None,
            failed: None,
            files,
        }
    }
}

/// A message ready to go.
struct Publication {
    id: DeliveryId,
    attempt: u32,
    exchange: ShortString,
    routing_key: ShortString,
    body: Bytes,
    properties: BasicProperties,
}

/// A message that is being published.
enum Publishing {
    /// By the channel that is shared.
    Shared(Arc<SharedChannel>, oneshot::Receiver<Published>),
    Done(Outcome),
}

impl Publisher {
    /// Publishes all deliveries of an attempt, then waits for what becomes of each.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
        let until = Instant::now()
            + attempt
                .timeout
                .saturating_sub((attempt.timeout / 10).min(Duration::from_secs(1)));
        let ready: Vec<_> = attempt
            .deliveries
            .iter()
            .map(|delivery| self.publication(attempt, delivery))
            .collect();
        if ready.iter().all(Result::is_err) {
            return Ok(ready.into_iter().filter_map(Result::err).collect());
        }
        let whole = |broken: BrokerError| AttemptError::new(broken.class, broken.message);
        let connection = self.connection().await.map_err(whole)?;
        if connection.is_blocked() {
            return Err(AttemptError::new(Class::Throttled, BLOCKED));
        }
        let mut publishing = Vec::with_capacity(ready.len());
        for publication in ready {
            publishing.push(match publication {
                Ok(publication) => self.begin(&connection, publication, until).await,
                Err(outcome) => Publishing::Done(outcome),
            });
        }
        let mut outcomes = Vec::with_capacity(publishing.len());
        for (one, delivery) in publishing.into_iter().zip(&attempt.deliveries) {
            outcomes.push(match one {
                Publishing::Done(outcome) => outcome,
                Publishing::Shared(channel, published) => {
                    match timeout_at(until, published).await {
                        Ok(Ok(Published::Settled(outcome))) => outcome,
                        Ok(Ok(Published::ChannelGone(broken))) if connection.is_lost() => {
                            broken.outcome()
                        }
                        // Another message's mistake, or its own: alone it is seen which.
                        Ok(_) => match self.publication(attempt, delivery) {
                            Ok(publication) => self.alone(&connection, publication, until).await,
                            Err(outcome) => outcome,
                        },
                        Err(_) => {
                            connection.retire(&channel).await;
                            connection.late()
                        }
                    }
                }
            });
        }
        Ok(outcomes)
    }

    /// Publishes beside other messages where that is safe, and else alone, which takes until it is
    /// confirmed.
    async fn begin(
        &self,
        connection: &PublishConnection,
        publication: Publication,
        until: Instant,
    ) -> Publishing {
        if connection.may_share(&publication) {
            match connection.shared().await {
                Ok(Some(channel)) => {
                    let published = channel.publish(publication);
                    return Publishing::Shared(channel, published);
                }
                Ok(None) => {}
                Err(broken) => return Publishing::Done(broken.outcome()),
            }
        }
        Publishing::Done(self.alone(connection, publication, until).await)
    }

    /// Publishes by a channel that nothing else goes by meanwhile.
    async fn alone(
        &self,
        connection: &PublishConnection,
        publication: Publication,
        until: Instant,
    ) -> Outcome {
        let Ok(Ok(_room)) = timeout_at(until, connection.lone.acquire()).await else {
            return Outcome::new(
                Class::Throttled,
                format!("all {LONE_MAX} channels wait for RabbitMQ"),
            );
        };
        let channel = match connection.channel().await {
            Ok(channel) => channel,
            Err(broken) => return broken.outcome(),
        };
        let Publication {
            exchange,
            routing_key,
            body,
            properties,
            ..
        } = publication;
        let options = self.options();
        let published =
            channel.basic_publish(exchange.clone(), routing_key, options, &body, properties);
        let confirm = match timeout_at(until, published).await {
            Ok(Ok(confirm)) => confirm,
            Ok(Err(error)) => return BrokerError::of("cannot publish", &error).outcome(),
            Err(_) => {
                return Outcome::new(
                    Class::Unavailable,
                    "the message could not be written to RabbitMQ in time",
                );
            }
        };
        match timeout_at(until, confirm).await {
            Ok(Ok(confirmation)) => {
                connection.passed(exchange.as_str(), body.len());
                connection.give_back(channel);
                let (outcome, returned) = confirmed(confirmation);
                returned.map_or(outcome, |message| unroutable(&message))
            }
            Ok(Err(error)) => BrokerError::of(NOT_TAKEN, &error).outcome(),
            Err(_) => connection.late(),
        }
    }

    fn options(&self) -> BasicPublishOptions {
        BasicPublishOptions {
            mandatory: self.mandatory,
            immediate: false,
        }
    }

    fn publication(&self, attempt: &Attempt, delivery: &Delivery) -> Result<Publication, Outcome> {
        check_texts(delivery, self.texts)?;
        let rejected = |mistake: String| Outcome::new(Class::Rejected, mistake);
        let filled = |what: &str, parameter: &Parameter<ShortString>| match parameter {
            Parameter::Constant(text) => Ok(text.clone()),
            Parameter::Filled(index) => {
                short(what, delivery.texts.get(*index).map_or("", String::as_str)).map_err(rejected)
            }
        };
        let (body, mut headers, properties) =
            encode(&delivery.event, self.mode).map_err(rejected)?;
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        headers.insert(TASK.into(), text(&delivery.id.to_string()));
        headers.insert(
            ATTEMPT.into(),
            AMQPValue::LongLongInt(delivery.attempt.into()),
        );
        headers.insert("pointsman-rule".into(), text(attempt.rule.as_str()));
        for (name, value) in trace::headers(delivery) {
            headers.insert(name.into(), text(&value));
        }
        let properties = properties
            .with_headers(headers)
            .with_delivery_mode(if self.persistent { PERSISTENT } else { 1 });
        Ok(Publication {
            id: delivery.id,
            attempt: delivery.attempt,
            exchange: filled("the exchange's name", &self.exchange)?,
            routing_key: filled("the routing key", &self.routing_key)?,
            body,
            properties,
        })
    }

    /// The connection, made where there is none. Whoever waits for one that then cannot be made
    /// hears so, and does not try again.
    async fn connection(&self) -> Result<Arc<PublishConnection>, BrokerError> {
        let asked = Instant::now();
        let mut shared = self.connection.lock().await;
        let open = shared
            .open
            .clone()
            .filter(|connection| !connection.is_lost());
        let changed = shared.files.have_changed(false);
        if let Some(connection) = open.as_ref().filter(|_| !changed) {
            return Ok(Arc::clone(connection));
        }
        if let Some((_, broken)) = shared.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(broken.clone());
        }
        shared.open = None;
        match self.dial().await {
            Ok(connection) => Ok(Arc::clone(shared.open.insert(Arc::new(connection)))),
            // What has changed is no good, or not yet: the connection that stands still is.
            Err(broken) if let Some(connection) = open.clone() => {
                tracing::warn!(
                    error = broken.message,
                    "a target of RabbitMQ goes on with what its settings were before"
                );
                Ok(Arc::clone(shared.open.insert(connection)))
            }
            Err(broken) => {
                shared.failed = Some((Instant::now(), broken.clone()));
                Err(broken)
            }
        }
    }

    async fn dial(&self) -> Result<PublishConnection, BrokerError> {
        let address = (self.address)()
            .map_err(|OpenError(problem)| BrokerError::unavailable(problem.to_string()))?;
        let connection = address.connect().await?;
        let connection = PublishConnection::new(connection, self.options());
        if let Some((exchange, kind)) = &self.declare {
            let channel = connection.channel().await?;
            declare_exchange(&channel, exchange, *kind).await?;
            connection.give_back(channel);
        }
        Ok(connection)
    }
}

/// What a confirmation says of its message, with a message that came back, which may be another.
fn confirmed(confirmation: Confirmation) -> (Outcome, Option<BasicReturnMessage>) {
    let outcome = match &confirmation {
        Confirmation::Ack(_) => Outcome::delivered(),
        Confirmation::Nack(_) => Outcome::new(
            Class::Throttled,
            "RabbitMQ refused the message (nack): a queue is full or out of order",
        ),
        Confirmation::NotRequested => {
            Outcome::new(Class::Failed, "RabbitMQ confirms nothing on this channel")
        }
    };
    (outcome, confirmation.take_message())
}

fn unroutable(message: &BasicReturnMessage) -> Outcome {
    let (exchange, key) = (
        message.delivery.exchange.as_str(),
        message.delivery.routing_key.as_str(),
    );
    let why = match exchange {
        "" => format!("RabbitMQ returned the message: there is no queue {key:?}"),
        _ => format!(
            "RabbitMQ returned the message: no queue is bound to the exchange {exchange} for the \
             routing key {key:?}"
        ),
    };
    Outcome {
        code: Some(i32::from(message.reply_code)),
        ..Outcome::new(Class::Failed, why)
    }
}

/// The delivery's id and the number of the attempt that a message carries.
fn task(message: &BasicReturnMessage) -> Option<(String, u32)> {
    let headers = message.delivery.properties.headers().as_ref()?.inner();
    match (headers.get(TASK)?, headers.get(ATTEMPT)?) {
        (AMQPValue::LongString(task), AMQPValue::LongLongInt(attempt)) => {
            Some((task.to_string(), u32::try_from(*attempt).ok()?))
        }
        _ => None,
    }
}
