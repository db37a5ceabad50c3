//! Finds out what a queue is, and begins to read it.

use std::sync::Arc;

use lapin::Connection;
use lapin::options::BasicQosOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::settings::{Offset, RabbitmqSource};
use crate::OpenError;
use crate::rabbitmq::connection::{Address, answer};
use crate::rabbitmq::consume::QueueSource;
use crate::rabbitmq::declare::QueueType;
use crate::rabbitmq::error::BrokerError;
use crate::rabbitmq::greeting::Version;
use crate::rabbitmq::lag::LagProbe;
use crate::rabbitmq::message::Decoder;
use crate::rabbitmq::queue::{DEFAULT_SINCE, QueueFacts, facts};
use crate::rabbitmq::stream::StreamPosition;
use crate::rabbitmq::subscription::Subscription;
use crate::rabbitmq::subscription::look;

impl RabbitmqSource {
    pub(in crate::rabbitmq) async fn consume(
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
    pub(super) async fn try_to_read(
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
}

/// The server's version, where it says it.
async fn version(address: &Address) -> Option<Version> {
    address.greeting().await?.version()
}

pub(super) fn missing(broken: BrokerError) -> OpenError {
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
