//! A queue: looked at, and read by a consumer.

use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};

use super::connection::answer;
use super::error::BrokerError;

/// A queue on a channel, and how it is read.
#[derive(Clone)]
pub(super) struct Subscription {
    pub(super) channel: Channel,
    pub(super) queue: ShortString,
    pub(super) arguments: FieldTable,
}

impl Subscription {
    /// Starts a consumer on the channel.
    pub(super) async fn consume(self, vhost: &str) -> Result<Consumer, BrokerError> {
        let doing = format!("cannot read the queue {} in the vhost {vhost}", self.queue);
        let consumer = self.channel.basic_consume(
            self.queue,
            "".into(),
            BasicConsumeOptions::default(),
            self.arguments,
        );
        answer(&doing, consumer).await
    }
}

/// Looks at a queue that should be there.
pub(super) async fn look(
    connection: &Connection,
    queue: &ShortString,
) -> Result<lapin::Queue, BrokerError> {
    let channel = answer("cannot open a channel", connection.create_channel()).await?;
    let passive = channel.queue_declare(
        queue.clone(),
        QueueDeclareOptions::default().passive(),
        FieldTable::default(),
    );
    answer(&format!("cannot look at the queue {queue}"), passive).await
}
