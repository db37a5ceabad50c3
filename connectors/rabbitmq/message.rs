//! A message of a queue: decoded into an event, and acknowledged.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use lapin::Acker;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use pointsman_schemas::{Clock, Name};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout};

use super::mapping::Incoming;
use crate::trace::adopt;
use crate::{Arrival, Verdict};

/// How long a message rests that could not be stored.
const FAILED_AGAIN: Duration = Duration::from_secs(1);

/// How long the client library may take to write an acknowledgement.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);

/// A message that the server keeps until it is acknowledged.
pub(super) struct UnackedMessage {
    pub(super) incoming: Incoming,
    tag: u64,
    pub(super) acker: Acker,
}

/// A message that is to be tried again, with the time and its delivery tag.
pub(super) type Retry = ((Instant, u64), Arc<UnackedMessage>);

/// Decodes messages into events.
pub(super) struct Decoder {
    pub(super) name: Name,
    pub(super) mapped: bool,
    pub(super) clock: Arc<dyn Clock>,
    /// The fingerprint of the cursor, where the queue is a stream.
    pub(super) stream: Option<u64>,
    /// Differs from one connection to the next; with a tag it makes an id.
    pub(super) nonce: u128,
}

impl Decoder {
    pub(super) fn arrival(&self, held: &UnackedMessage) -> Result<Arrival, String> {
        let mut arrival = self.decode(held)?;
        adopt(slice::from_mut(&mut arrival), held.incoming.texts());
        Ok(arrival)
    }

    fn decode(&self, held: &UnackedMessage) -> Result<Arrival, String> {
        let incoming = &held.incoming;
        if let Some(why) = &incoming.unreadable {
            return Err(why.clone());
        }
        if let Some(event) = incoming.event() {
            return event
                .map(|event| Arrival::Event(Arc::new(event)))
                .map_err(|error| error.to_string());
        }
        let id = || format!("{:032x}-{:x}", self.nonce, held.tag);
        let defaults = incoming
            .plain(&self.name, id, self.clock.now())
            .map_err(|error| error.to_string())?;
        Arrival::made(defaults, self.mapped.then(|| incoming.fields()))
            .map_err(|error| format!("no event can be made of this: {error}"))
    }
}

impl From<Delivery> for UnackedMessage {
    fn from(delivery: Delivery) -> Self {
        let Delivery {
            delivery_tag,
            exchange,
            routing_key,
            redelivered,
            properties,
            data,
            acker,
        } = delivery;
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        let incoming = Incoming {
            body: data.into(),
            properties,
            exchange,
            routing_key,
            redelivered,
            unreadable: None,
        };
        Self {
            incoming: incoming.unwrapped(),
            tag: delivery_tag,
            acker,
        }
    }
}

impl UnackedMessage {
    /// Acknowledges the message as the verdict says, or keeps it to try it again.
    ///
    /// An acknowledgement goes by the channel that brought the message and by no other: where that
    /// has gone, the message comes again.
    pub(super) async fn settle(
        self: Arc<Self>,
        verdict: Verdict,
        give_back: &UnboundedSender<Retry>,
    ) {
        let answer = match verdict {
            Verdict::Stored => {
                timeout(
                    ACKNOWLEDGE_TIMEOUT,
                    self.acker.ack(BasicAckOptions::default()),
                )
                .await
            }
            // Not again: the queue's own dead letter exchange may have it.
            Verdict::Rejected { .. } => {
                timeout(
                    ACKNOWLEDGE_TIMEOUT,
                    self.acker.nack(BasicNackOptions::default()),
                )
                .await
            }
            Verdict::Later(after) => return self.again(after, give_back),
            Verdict::Failed => return self.again(FAILED_AGAIN, give_back),
        };
        match answer {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::debug!(
                tag = self.tag,
                "the channel has gone before the acknowledgement; the message comes again"
            ),
            Ok(Err(error)) => {
                tracing::debug!(
                    tag = self.tag, %error,
                    "cannot acknowledge; the message comes again"
                )
            }
            Err(_) => tracing::debug!(
                tag = self.tag,
                "the acknowledgement is not written; the message may come again"
            ),
        }
    }

    fn again(self: Arc<Self>, after: Duration, give_back: &UnboundedSender<Retry>) {
        // Where the source has gone, its connection has, too, and the server hands the message over
        // again.
        let _ = give_back.send(((Instant::now() + after, self.tag), self));
    }
}
