//! The settings of a source, and how it is opened.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::Connection;
use lapin::options::{BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use pointsman_schemas::{Class, Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::connection::{Address, answer, short};
use super::consume::{MismatchedSource, QueueSource, Subscription};
use super::declare::{DeclareQueue, QueueType};
use super::error::BrokerError;
use super::fault::Advice;
use super::greeting::{Greeting, Version};
use super::lag::LagProbe;
use super::message::Decoder;
use super::queue::{DEFAULT_SINCE, QueueFacts, facts};
use super::queue_info::QueueInfo;
use super::settings::{ConnectionSettings, TlsSettings};
use super::stream::StreamPosition;
use crate::net::guard::Guard;
use crate::parameter::resolve;
use crate::source::fingerprint;
use crate::{Guarantee, OpenError, Source, SourceContext, SourceSettings};

/// What is in hand and not yet stored is in memory, so that there is a bound: with messages of 64
/// KiB this is 640 MB.
const PREFETCH_MAX: u16 = 10_000;

/// Below this nothing would go by the pipe's own way.
const HOLD_MIN: Duration = Duration::from_secs(1);

/// Reads a queue of RabbitMQ.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RabbitmqSource {
    /// The server: `amqp://127.0.0.1:5672`, or `amqps://…`; a vhost may stand behind it.
    #[schemars(extend("pattern" = "^amqps?://", "examples" = ["amqp://127.0.0.1:5672"]))]
    url: Text,
    /// The user; `guest` unless it is given, and where there is a client certificate the one that
    /// this names.
    username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// The virtual host, where the URL does not name one; `/` by default.
    vhost: Option<String>,
    /// How often the two sides tell that they live; 15s unless it is given.
    heartbeat: Option<Interval>,
    /// Certificates, for `amqps`.
    tls: Option<TlsSettings>,
    /// The queue.
    #[schemars(extend("minLength" = 1))]
    queue: Text,
    /// How many messages may be in hand, handed over and not yet acknowledged.
    #[serde(default = "prefetch")]
    #[schemars(range(min = 1, max = 10_000))]
    prefetch: u16,
    /// Says that the queue is a stream, and where to begin at the very first start: `first`,
    /// `last`, `next`, or a time.
    offset: Option<Offset>,
    /// Whether publishers never use a message's id twice, so that a message that comes again can be
    /// known by it.
    #[serde(default)]
    deduplicate: bool,
    /// How long a pipe holds a message whose target does not take it before that waits in the
    /// journal; 10m unless it is given. It must be below the server's `consumer_timeout`.
    hold: Option<Interval>,
    /// A queue to declare, which is not done unless this is given.
    declare: Option<DeclareQueue>,
    #[serde(skip)]
    #[schemars(skip)]
    queue_info: Arc<QueueInfo>,
}

fn prefetch() -> u16 {
    500
}

/// Where to begin in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Offset {
    /// With the oldest message that there is.
    First,
    /// With the youngest chunk that there is.
    Last,
    /// With what is published from now on.
    Next,
    /// With what was published at this time, in seconds since 1970.
    Time(u64),
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = || {
            text.parse::<jiff::Timestamp>()
                .ok()
                .and_then(|time| u64::try_from(time.as_second()).ok())
        };
        Ok(match text {
            "first" => Self::First,
            "last" => Self::Last,
            "next" => Self::Next,
            _ => Self::Time(time().ok_or_else(|| {
                format!("{text:?} is not first, last, next or a time such as 2026-01-31T09:30:00Z")
            })?),
        })
    }
}

impl TryFrom<String> for Offset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl RabbitmqSource {
    fn access(&self) -> ConnectionSettings<'_> {
        ConnectionSettings {
            url: &self.url,
            username: self.username.as_ref(),
            password: self.password.as_ref(),
            vhost: self.vhost.as_deref(),
            heartbeat: self.heartbeat,
            tls: self.tls.as_ref(),
        }
    }

    pub(super) fn resolved(&self, client: String) -> Result<(Address, ShortString), OpenError> {
        // A source's address is the operator's own: no event takes part in it.
        let address = self.access().resolve(
            client,
            Guard {
                allow_private_addresses: true,
            },
        )?;
        let queue = resolve(&self.queue, &["queue".into()])?;
        let queue = short("the queue's name", &queue)
            .map_err(|mistake| OpenError(Problem::new(mistake).at("queue")))?;
        Ok((address, queue))
    }

    pub(super) async fn consume(
        &self,
        address: &Address,
        queue: &ShortString,
        after: Option<StreamPosition>,
        decoder: Decoder,
        link: crate::Link,
    ) -> Result<QueueSource, BrokerError> {
        let connection = address.connect().await?;
        let facts = self.facts(address, &connection, queue).await?;
        self.queue_info.hold(self.hold.map(|hold| hold.0));
        if let Some(broken) = self.unfit(facts.kind, queue) {
            return Err(broken);
        }
        let channel = answer("cannot open a channel", connection.create_channel()).await?;
        let qos = channel.basic_qos(self.prefetch, BasicQosOptions::default());
        answer("cannot bound how many messages are sent ahead", qos).await?;
        let mut arguments = FieldTable::default();
        if let Some(offset) = &self.offset {
            let text = |text: &str| AMQPValue::LongString(LongString::from(text));
            let offset = match (
                after.and_then(|after| i64::try_from(after.offset).ok()),
                offset,
            ) {
                // What is expected to be there first tells whether anything is missing.
                (Some(last), _) => AMQPValue::LongLongInt(last),
                (None, Offset::First) => text("first"),
                (None, Offset::Last) => text("last"),
                (None, Offset::Next) => text("next"),
                (None, Offset::Time(seconds)) => AMQPValue::Timestamp(*seconds),
            };
            arguments.insert("x-stream-offset".into(), offset);
        }
        let subscription = Subscription {
            channel,
            queue: queue.clone(),
            arguments,
        };
        let consumer = subscription.clone().consume(address.vhost()).await?;
        let measured = match self.offset {
            // What waits is what lies behind the cursor, and the server counts the whole stream.
            Some(_) => None,
            None => Some(answer("cannot open a channel", connection.create_channel()).await?),
        };
        let (place, lag) = (
            (subscription, address.vhost().to_owned()),
            LagProbe::new(measured, queue.clone()),
        );
        Ok(QueueSource::new(
            decoder,
            connection,
            place,
            consumer,
            Arc::clone(&self.queue_info),
            after,
            (lag, link),
        ))
    }

    /// What it declares.
    #[cfg(test)]
    pub(super) fn declaration(&self) -> &DeclareQueue {
        self.declare.as_ref().unwrap()
    }

    /// Finds out what the queue is, declaring it where that is asked for. The server is asked once
    /// in a source's life, since it logs each question.
    async fn facts(
        &self,
        address: &Address,
        connection: &Connection,
        queue: &ShortString,
    ) -> Result<QueueFacts, BrokerError> {
        let before = self.queue_info.facts();
        let facts = match (&self.declare, before) {
            (Some(declare), _) => {
                let version = if declare.kind == QueueType::Quorum {
                    version(address).await
                } else {
                    None
                };
                declare
                    .declare(connection, queue.as_str(), version)
                    .await?
                    .at(version)
            }
            (None, Some(facts)) => return Ok(facts),
            (None, None) => {
                look(connection, queue).await?;
                let version = version(address).await;
                facts(connection, queue, version).await.at(version)
            }
        };
        self.queue_info.learn(facts);
        if let (None, Some(warning)) = (before, facts.warning()) {
            tracing::warn!(queue = queue.as_str(), "{warning}");
        }
        Ok(facts)
    }

    /// Finds out whether the queue may be read, without a message being sent: a reader that grants
    /// no credit. Only before version 4 is credit to be had with this protocol.
    async fn try_to_read(
        &self,
        connection: &Connection,
        address: &Address,
        queue: &ShortString,
        version: Option<Version>,
    ) -> Result<(), OpenError> {
        if self.offset.is_some() || version.is_none_or(|version| version >= DEFAULT_SINCE) {
            return Ok(());
        }
        let channel = answer("cannot open a channel", connection.create_channel())
            .await
            .map_err(missing)?;
        let mut credit = FieldTable::default();
        credit.insert("credit".into(), AMQPValue::LongLongInt(0));
        credit.insert("drain".into(), AMQPValue::Boolean(false));
        let mut arguments = FieldTable::default();
        arguments.insert("x-credit".into(), AMQPValue::FieldTable(credit));
        let subscription = Subscription {
            channel,
            queue: queue.clone(),
            arguments,
        };
        subscription
            .consume(address.vhost())
            .await
            .map(drop)
            .map_err(missing)
    }

    /// What is wrong with reading a queue of this type by these settings.
    fn unfit(&self, kind: Option<QueueType>, queue: &ShortString) -> Option<BrokerError> {
        let kind = kind?;
        let declared = self.declare.as_ref().map(|declare| declare.kind);
        let (at, what, help) = match (kind, &self.offset) {
            _ if declared.is_some_and(|declared| declared != kind) => (
                "declare",
                "which is another type than declared",
                "write under declare what it is, or delete it",
            ),
            (QueueType::Stream, None) => (
                "offset",
                "which is read from a place in it",
                "say where to begin: offset: first, last, next or a time",
            ),
            (QueueType::Classic | QueueType::Quorum, Some(_)) => (
                "offset",
                "and only streams have offsets",
                "leave offset out",
            ),
            _ => return None,
        };
        Some(BrokerError {
            class: Class::Rejected,
            code: None,
            message: format!("cannot read the queue {queue}: it is a {kind}, {what}"),
            advice: Some(Advice {
                at: Some(at),
                what: None,
                help,
            }),
        })
    }
}

#[async_trait]
impl SourceSettings for RabbitmqSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        if self
            .queue
            .literal()
            .is_some_and(|queue| queue.is_empty() || queue.len() > 255)
        {
            problems.push(Problem::new("a queue's name has 1 to 255 bytes").at("queue"));
        }
        if !(1..=PREFETCH_MAX).contains(&self.prefetch) {
            problems.push(
                Problem::new(format!(
                    "between 1 and {PREFETCH_MAX} messages can be in hand"
                ))
                .at("prefetch"),
            );
        }
        if self.hold.is_some_and(|hold| hold.0 < HOLD_MIN) {
            problems.push(Problem::new("a message is held for a second at least").at("hold"));
        }
        if let Some(declare) = &self.declare {
            problems.extend(
                declare
                    .check()
                    .into_iter()
                    .map(|problem| problem.at("declare")),
            );
            match (declare.kind, &self.offset) {
                (QueueType::Stream, None) => problems.push(
                    Problem::new("where to begin in the stream is missing")
                        .at("declare")
                        .help("write offset: first, last, next or a time"),
                ),
                (QueueType::Classic | QueueType::Quorum, Some(_)) => {
                    problems.push(
                        Problem::new("only streams have offsets, and this declares another queue")
                            .at("offset"),
                    );
                }
                _ => {}
            }
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        self.deduplicate || self.offset.is_some()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (address, queue) = self.resolved("pointsman check".into())?;
        let connection = address
            .connect()
            .await
            .map_err(|broken| broken.problem("username"))?;
        let channel = answer("cannot open a channel", connection.create_channel())
            .await
            .map_err(|broken| broken.problem("url"))?;
        let greeting = address.greeting().await;
        let server = address.describe(greeting.as_ref());
        drop(channel);
        match look(&connection, &queue).await {
            Ok(found) => {
                let facts = facts(
                    &connection,
                    &queue,
                    greeting.as_ref().and_then(Greeting::version),
                )
                .await;
                if let Some(broken) = self.unfit(facts.kind, &queue) {
                    return Err(missing(broken));
                }
                self.try_to_read(
                    &connection,
                    &address,
                    &queue,
                    greeting.as_ref().and_then(Greeting::version),
                )
                .await?;
                let warning = facts
                    .warning()
                    .map(|warning| format!("; warning: {warning}"))
                    .unwrap_or_default();
                let (messages, consumers) = (found.message_count(), found.consumer_count());
                // Only declaring would tell, and that may change something.
                let declared = if self.declare.is_some() {
                    "; whether it is as declared shows when the source starts"
                } else {
                    ""
                };
                Ok(format!(
                    "{server}: the queue {queue} holds {messages} messages and has {consumers} \
                     consumers{declared}{warning}"
                ))
            }
            Err(BrokerError {
                code: Some(404), ..
            }) if self.declare.is_some() => Ok(format!(
                "{server}: the queue {queue} is not there and will be declared"
            )),
            Err(broken) => Err(missing(broken)),
        }
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let files = self.access().files();
        let (address, queue) =
            self.resolved(format!("pointsman {}/{}", context.tenant, context.name))?;
        let stream = self
            .offset
            .is_some()
            .then(|| fingerprint(&["rabbitmq", &address.host(), address.vhost(), queue.as_str()]));
        let after = match (&context.cursor, stream) {
            (Some(cursor), Some(fingerprint)) => match StreamPosition::read(cursor, fingerprint) {
                Ok(position) => Some(position),
                Err(mismatch) => return Ok(Box::new(MismatchedSource(mismatch))),
            },
            _ => None,
        };
        let decoder = Decoder {
            name: context.name,
            mapped: context.mapped,
            clock: context.clock,
            stream,
            nonce: rand::random(),
        };
        let consuming = self
            .consume(&address, &queue, after, decoder, context.link)
            .await
            .map_err(missing)?;
        Ok(Box::new(consuming.until_changed(files)))
    }
}

/// Looks at a queue that should be there.
async fn look(connection: &Connection, queue: &ShortString) -> Result<lapin::Queue, BrokerError> {
    let channel = answer("cannot open a channel", connection.create_channel()).await?;
    let passive = channel.queue_declare(
        queue.clone(),
        QueueDeclareOptions::default().passive(),
        FieldTable::default(),
    );
    answer(&format!("cannot look at the queue {queue}"), passive).await
}

/// The server's version, where it says it.
async fn version(address: &Address) -> Option<Version> {
    address.greeting().await?.version()
}

fn missing(broken: BrokerError) -> OpenError {
    let at = match broken.code {
        Some(404..=406) => "queue",
        _ => "username",
    };
    let is_missing = broken.code == Some(404);
    let OpenError(problem) = broken.problem(at);
    OpenError(if is_missing {
        problem.help("make it, or write declare: {} to have it made")
    } else {
        problem
    })
}
