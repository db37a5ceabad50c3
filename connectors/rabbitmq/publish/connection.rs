//! The connection of a target, its channels, and what is known of where messages go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Connection};
use parking_lot::Mutex;
use pointsman_schemas::{Backoff, Class, Outcome};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::Instant;

use super::shared_channel::SharedChannel;
use super::{BLOCKED, Publication};
use crate::rabbitmq::connection::answer;
use crate::rabbitmq::error::BrokerError;

/// How many attempts are on their way to the server at once with a channel to themselves.
pub(super) const LONE_MAX: usize = 64;

/// Exchanges that are remembered as good.
const EXCHANGES_MAX: usize = 256;

/// Bodies up to this many bytes are none that a server finds too large, which takes 16 MiB unless
/// it is told otherwise.
const SMALL_BYTES: usize = 64 * 1024;

/// How long every message has a channel to itself after the server has closed the shared one: what
/// it closes it for, such as a routing key that the user may not write to, may come again.
const ALONE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

/// A connection with its channels.
pub(super) struct PublishConnection {
    connection: Connection,
    options: BasicPublishOptions,
    idle: Mutex<Vec<Channel>>,
    pub(super) lone: Semaphore,
    shared: AsyncMutex<SharedSlot>,
    /// The largest body that each exchange has taken, in bytes.
    good: Mutex<HashMap<String, usize>>,
}

#[derive(Default)]
struct SharedSlot {
    channel: Option<Arc<SharedChannel>>,
    /// There is none before this, and after which pause.
    closed: Option<(Instant, Duration)>,
}

impl PublishConnection {
    pub(super) fn new(connection: Connection, options: BasicPublishOptions) -> Self {
        Self {
            connection,
            options,
            idle: Mutex::default(),
            lone: Semaphore::new(LONE_MAX),
            shared: AsyncMutex::default(),
            good: Mutex::default(),
        }
    }

    /// True while the server takes no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// True once it has broken off.
    pub(super) fn is_lost(&self) -> bool {
        !self.connection.status().connected()
    }

    /// The outcome of a message whose confirmation is not there in time.
    pub(super) fn late(&self) -> Outcome {
        if self.is_blocked() {
            return Outcome::new(Class::Throttled, BLOCKED);
        }
        Outcome::new(
            Class::Failed,
            "RabbitMQ did not confirm the message in time; it may have it or not",
        )
    }

    /// A channel that nobody else uses, with confirmations on.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
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

    /// Gives back a channel on which nothing is on its way.
    pub(super) fn give_back(&self, channel: Channel) {
        if channel.status().connected() {
            self.idle.lock().push(channel);
        }
    }

    /// The channel that messages share; none for a while after the server has closed one.
    pub(super) async fn shared(&self) -> Result<Option<Arc<SharedChannel>>, BrokerError> {
        let mut slot = self.shared.lock().await;
        match &slot.channel {
            Some(channel) if channel.is_open() => return Ok(Some(Arc::clone(channel))),
            Some(_) => {
                let pause = ALONE.next(slot.closed.map(|(_, pause)| pause));
                *slot = SharedSlot {
                    channel: None,
                    closed: Some((Instant::now() + pause, pause)),
                };
            }
            None => {}
        }
        if slot.closed.is_some_and(|(until, _)| Instant::now() < until) {
            return Ok(None);
        }
        let channel = SharedChannel::share(self.channel().await?, self.options);
        Ok(Some(Arc::clone(slot.channel.insert(Arc::new(channel)))))
    }

    /// Has nothing more published by a channel that owes a confirmation. What is on its way there
    /// is still waited for.
    pub(super) async fn retire(&self, channel: &Arc<SharedChannel>) {
        let mut slot = self.shared.lock().await;
        slot.channel.take_if(|one| Arc::ptr_eq(one, channel));
    }

    /// The server has taken a message, or told what it has against it, and kept the channel open.
    pub(super) fn passed(&self, exchange: &str, bytes: usize) {
        let (mut good, bytes) = (self.good.lock(), bytes.max(SMALL_BYTES));
        if let Some(largest) = good.get_mut(exchange) {
            *largest = bytes.max(*largest);
            return;
        }
        if good.len() >= EXCHANGES_MAX {
            good.clear();
        }
        good.insert(exchange.to_owned(), bytes);
    }

    /// Whether a message may be published beside others: it is tried for the first time, and its
    /// exchange has taken one as large.
    pub(super) fn may_share(&self, publication: &Publication) -> bool {
        publication.attempt == 1
            && self
                .good
                .lock()
                .get(publication.exchange.as_str())
                .is_some_and(|largest| publication.body.len() <= *largest)
    }
}
