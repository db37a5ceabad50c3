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
//! Every attempt has a channel to itself while it lasts. A channel is closed by the server for one
//! message's mistake, and takes with it whatever else was on its way there; and a returned message
//! is told from others by its own headers alone, which holds only where all confirmations of its
//! channel are awaited together.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connection::{Address, answer, short};
use super::declare::{ExchangeType, declare_exchange};
use super::error::BrokerError;
use super::mapping::{MessageMode, encode};
use crate::files::Files;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, OpenError};

/// How many channels there are, and so how many attempts are on their way to the server at once.
const CHANNELS_MAX: usize = 64;

/// The delivery's id, the same over all attempts.
const TASK: &str = "pointsman-task";

/// Survives a restart of the server, in queues that do.
const PERSISTENT: u8 = 2;

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

/// A connection with its channels.
struct PublishConnection {
    connection: Connection,
    idle: Mutex<Vec<Channel>>,
    permits: Semaphore,
}

/// A message ready to go.
struct Publication {
    exchange: ShortString,
    routing_key: ShortString,
    body: Bytes,
    properties: BasicProperties,
}

/// The state of a message that is being published.
enum PublishState {
    /// It is with the server.
    Sent(PublisherConfirm),
    /// The server has it, unless it came back.
    Confirmed,
    Done(Outcome),
}

impl Publisher {
    /// Publishes all deliveries of an attempt in their order, then waits for what becomes of each.
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
        if connection.connection.status().blocked() {
            return Err(AttemptError::new(
                Class::Throttled,
                "RabbitMQ takes no messages for now: it is short of memory or disk",
            ));
        }
        let Ok(Ok(_room)) = timeout_at(until, connection.permits.acquire()).await else {
            return Err(AttemptError::new(
                Class::Throttled,
                format!("all {CHANNELS_MAX} channels wait for RabbitMQ"),
            ));
        };
        let channel = connection.channel().await.map_err(whole)?;

        let mut steps = Vec::with_capacity(ready.len());
        for publication in ready {
            steps.push(match publication {
                Ok(publication) => self.send(&channel, publication, until).await,
                Err(outcome) => PublishState::Done(outcome),
            });
        }
        let mut returned = Vec::new();
        let mut settled = true;
        for step in &mut steps {
            if let PublishState::Sent(confirm) = step {
                let confirmed = timeout_at(until, confirm).await;
                settled &= confirmed.is_ok();
                *step = confirmed.map_or_else(
                    |_| PublishState::Done(late(&connection)),
                    |confirmed| Self::confirmed(confirmed, &mut returned),
                );
            }
        }
        if settled && channel.status().connected() {
            connection.idle.lock().push(channel);
        }
        let alone = attempt.deliveries.len() == 1;
        let outcomes = attempt
            .deliveries
            .iter()
            .zip(steps)
            .map(|(delivery, step)| match step {
                PublishState::Done(outcome) => outcome,
                PublishState::Sent(_) | PublishState::Confirmed => {
                    let came_back = returned.iter().find(|message| {
                        alone || task(message).is_some_and(|task| task == delivery.id.to_string())
                    });
                    came_back.map_or_else(Outcome::delivered, unroutable)
                }
            });
        Ok(outcomes.collect())
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
            "pointsman-attempt".into(),
            AMQPValue::LongLongInt(delivery.attempt.into()),
        );
        headers.insert("pointsman-rule".into(), text(attempt.rule.as_str()));
        let properties = properties
            .with_headers(headers)
            .with_delivery_mode(if self.persistent { PERSISTENT } else { 1 });
        Ok(Publication {
            exchange: filled("the exchange's name", &self.exchange)?,
            routing_key: filled("the routing key", &self.routing_key)?,
            body,
            properties,
        })
    }

    async fn send(
        &self,
        channel: &Channel,
        publication: Publication,
        until: Instant,
    ) -> PublishState {
        let Publication {
            exchange,
            routing_key,
            body,
            properties,
        } = publication;
        let options = BasicPublishOptions {
            mandatory: self.mandatory,
            immediate: false,
        };
        let published = channel.basic_publish(exchange, routing_key, options, &body, properties);
        match timeout_at(until, published).await {
            Ok(Ok(confirm)) => PublishState::Sent(confirm),
            Ok(Err(error)) => {
                PublishState::Done(BrokerError::of("cannot publish", &error).outcome())
            }
            Err(_) => PublishState::Done(Outcome::new(
                Class::Unavailable,
                "the message could not be written to RabbitMQ in time",
            )),
        }
    }

    fn confirmed(
        confirmed: lapin::Result<Confirmation>,
        returned: &mut Vec<BasicReturnMessage>,
    ) -> PublishState {
        let confirmation = match confirmed {
            Ok(confirmation) => confirmation,
            Err(error) => {
                return PublishState::Done(
                    BrokerError::of("RabbitMQ did not take the message", &error).outcome(),
                );
            }
        };
        let step = match &confirmation {
            Confirmation::Ack(_) => PublishState::Confirmed,
            Confirmation::Nack(_) => PublishState::Done(Outcome::new(
                Class::Throttled,
                "RabbitMQ refused the message (nack): a queue is full or out of order",
            )),
            Confirmation::NotRequested => PublishState::Done(Outcome::new(
                Class::Failed,
                "RabbitMQ confirms nothing on this channel",
            )),
        };
        returned.extend(confirmation.take_message());
        step
    }

    /// The connection, made where there is none. Whoever waits for one that then cannot be made
    /// hears so, and does not try again.
    async fn connection(&self) -> Result<Arc<PublishConnection>, BrokerError> {
        let asked = Instant::now();
        let mut shared = self.connection.lock().await;
        let open = shared
            .open
            .clone()
            .filter(|connection| connection.connection.status().connected());
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
        let connection = PublishConnection {
            connection,
            idle: Mutex::default(),
            permits: Semaphore::new(CHANNELS_MAX),
        };
        if let Some((exchange, kind)) = &self.declare {
            let channel = connection.channel().await?;
            declare_exchange(&channel, exchange, *kind).await?;
            connection.idle.lock().push(channel);
        }
        Ok(connection)
    }
}

impl PublishConnection {
    /// A channel that nobody else uses, with confirmations on.
    async fn channel(&self) -> Result<Channel, BrokerError> {
        while let Some(channel) = { self.idle.lock().pop() } {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = answer("cannot open a channel", self.connection.create_channel()).await?;
        answer(
            "cannot ask for confirmations",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await?;
        Ok(channel)
    }
}

fn late(connection: &PublishConnection) -> Outcome {
    if connection.connection.status().blocked() {
        return Outcome::new(
            Class::Throttled,
            "RabbitMQ takes no messages for now: it is short of memory or disk",
        );
    }
    Outcome::new(
        Class::Failed,
        "RabbitMQ did not confirm the message in time; it may have it or not",
    )
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

/// The delivery's id that a message carries.
fn task(message: &BasicReturnMessage) -> Option<String> {
    match message
        .delivery
        .properties
        .headers()
        .as_ref()?
        .inner()
        .get(TASK)?
    {
        AMQPValue::LongString(task) => Some(task.to_string()),
        _ => None,
    }
}
