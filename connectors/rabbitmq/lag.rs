//! How many messages wait in a queue.

use std::future::pending;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Queue};
use tokio::time::{Instant, sleep_until};

use super::error::BrokerError;
use crate::Link;

/// How often the server is asked how many messages wait.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// Asks now and then how many messages wait. It has a channel of its own, since a queue that is
/// deleted closes it.
pub(super) struct LagProbe {
    /// None where the number would say nothing, or the channel has gone.
    channel: Option<Channel>,
    queue: ShortString,
    due: Instant,
    asking: Option<BoxFuture<'static, lapin::Result<Queue>>>,
}

impl LagProbe {
    pub(super) fn new(channel: Option<Channel>, queue: ShortString) -> Self {
        Self {
            channel,
            queue,
            due: Instant::now(),
            asking: None,
        }
    }

    /// Ends where the queue is gone, which the server may have failed to say. What it has begun
    /// goes on at the next call.
    pub(super) async fn measure(&mut self, link: &Link) {
        loop {
            let Some(channel) = &self.channel else {
                return pending().await;
            };
            if self.asking.is_none() {
                sleep_until(self.due).await;
                let (channel, queue) = (channel.clone(), self.queue.clone());
                let ask = async move {
                    channel
                        .queue_declare(
                            queue,
                            QueueDeclareOptions::default().passive(),
                            FieldTable::default(),
                        )
                        .await
                };
                self.asking = Some(ask.boxed());
            }
            let Some(asking) = &mut self.asking else {
                continue;
            };
            let answer = asking.await;
            self.asking = None;
            self.due = Instant::now() + LAG_EVERY;
            if answer.is_err() {
                self.channel = None;
            }
            let is_gone =
                matches!(&answer, Err(error) if BrokerError::of("", error).code == Some(404));
            link.lag(answer.ok().map(|queue| u64::from(queue.message_count())));
            if is_gone {
                return;
            }
        }
    }
}
