//! A client of RabbitMQ that publishes events, apart from the connector that the tests are about.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a confirmation may take; without one the message is published again.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

/// A client that connects again whenever it has to. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    url: String,
    line: Arc<Mutex<Option<Line>>>,
}

struct Line {
    connection: Connection,
    channel: Channel,
}

impl Client {
    /// A client of the server at a URL; it connects when it is used.
    #[must_use]
    pub fn of(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            line: Arc::default(),
        }
    }

    /// A channel with confirmations, on the connection that stands or on a new one.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn channel(&self) -> lapin::Result<Channel> {
        let mut line = self.line.lock().await;
        if let Some(Line {
            connection,
            channel,
        }) = &*line
            && connection.status().connected()
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        *line = None;
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        *line = Some(Line {
            connection,
            channel: channel.clone(),
        });
        Ok(channel)
    }

    /// Makes a durable queue of a type.
    ///
    /// # Panics
    /// Where the server refuses.
    pub async fn make_queue(&self, queue: &str, kind: &str) {
        self.make(queue, kind, FieldTable::default()).await;
    }

    /// Makes a quorum queue that hands a message out again this often.
    ///
    /// # Panics
    /// Where that fails.
    pub async fn make_limited_queue(&self, queue: &str, limit: i64) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        self.make(queue, "quorum", arguments).await;
    }

    async fn make(&self, queue: &str, kind: &str, mut arguments: FieldTable) {
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString(LongString::from(kind)),
        );
        let channel = self.channel().await.expect("the server is there");
        channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
            .await
            .expect("a queue can be made");
    }

    /// Publishes an event in binary mode to a queue and tells whether the server has it.
    pub async fn publish(self, queue: &'static str, id: String) -> bool {
        let mut headers = FieldTable::default();
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", &*id),
            ("source", "/test"),
            ("type", "order.paid"),
        ] {
            headers.insert(
                ShortString::from(format!("cloudEvents:{name}")),
                AMQPValue::LongString(LongString::from(value)),
            );
        }
        self.send(
            queue,
            BasicProperties::default()
                .with_content_type("application/json".into())
                .with_headers(headers),
            crate::storm::DATA,
        )
        .await
    }

    /// Publishes anything to a queue and tells whether the server has it.
    pub async fn send(&self, queue: &str, properties: BasicProperties, body: &str) -> bool {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = async {
            let channel = self.channel().await?;
            channel
                .basic_publish(
                    "".into(),
                    queue.into(),
                    options,
                    body.as_bytes(),
                    properties.with_delivery_mode(2),
                )
                .await?
                .await
        };
        match timeout(CONFIRMED_WITHIN, sent).await {
            Ok(Ok(confirmation)) => confirmation.is_ack() && confirmation.take_message().is_none(),
            _ => {
                // A confirmation that does not come never will.
                *self.line.lock().await = None;
                false
            }
        }
    }

    /// How many messages wait in a queue and are in nobody's hands.
    ///
    /// # Panics
    /// Where there is no such queue.
    pub async fn waiting(&self, queue: &str) -> u32 {
        let channel = self.channel().await.expect("the server is there");
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::durable()
        };
        channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .expect("the queue is there")
            .message_count()
    }

    /// Takes everything that waits out of a queue and gives the header of each message that holds
    /// the event's id.
    ///
    /// # Panics
    /// Where the server breaks off.
    pub async fn drain(&self, queue: &str) -> Vec<String> {
        let messages = usize::try_from(self.waiting(queue).await).unwrap_or(usize::MAX);
        let channel = self.channel().await.expect("the server is there");
        let consuming = channel.basic_consume(
            queue.into(),
            "drain".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let taken = consuming.await.expect("the queue is there").take(messages);
        let ids = taken.then(async |message| {
            let message = message.expect("the server is there");
            message
                .ack(BasicAckOptions::default())
                .await
                .expect("the server is there");
            let headers = message.properties.headers().clone().unwrap_or_default();
            let id = ["cloudEvents:id", "cloudEvents_id"]
                .iter()
                .find_map(|name| headers.inner().get(*name));
            id.and_then(AMQPValue::as_long_string)
                .map(ToString::to_string)
                .unwrap_or_default()
        });
        ids.collect().await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.url)
    }
}
