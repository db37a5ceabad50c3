//! A queue as a source: what it hands over.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::Reject;

use super::{Bounds, Queue, Reading, Received, settings};
use crate::{Arrival, Batch, Link, Message, Source, SourceError};

/// Makes events of the messages of a queue.
pub(crate) trait Decoder: Send + 'static {
    /// A message as it came.
    type Message;

    /// The queue's name, as a dead letter tells it.
    fn queue(&self) -> &str;

    /// What a message brings.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn arrival(&self, message: &Self::Message) -> Result<Arrival, String>;

    /// Which message it is.
    fn id(message: &Self::Message) -> &str;

    /// Its body as it came.
    fn body(message: Self::Message) -> Bytes;
}

/// A queue, as the bus reads it: each message brings one event, or is a dead letter.
pub(crate) struct Reader<Q: Queue, D> {
    reading: Reading<Q>,
    decoder: D,
    batch_messages_max: usize,
}

/// How a queue is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// How long a call waits where nothing is there.
    pub(crate) wait: Duration,
    /// How many messages are in hand at most.
    pub(crate) prefetch: usize,
    /// How many a batch holds at most.
    pub(crate) batch_messages_max: usize,
}

impl<Q: Queue, D: Decoder<Message = Q::Message>> Reader<Q, D> {
    /// Begins to read.
    pub(crate) fn begin(queue: Q, decoder: D, way: Way, link: Link) -> Box<dyn Source> {
        let bounds = Bounds {
            messages: way.prefetch,
            bytes: settings::IN_HAND_BYTES,
        };
        Box::new(Self {
            reading: Reading::begin(queue, way.wait, bounds, link),
            decoder,
            batch_messages_max: way.batch_messages_max,
        })
    }

    fn message(&self, received: Received<Q::Message>) -> Message {
        let Received {
            message,
            acknowledgement,
        } = received;
        let arrival = self.decoder.arrival(&message).map_err(|reason| {
            let (id, queue) = (D::id(&message), self.decoder.queue());
            let reason = format!("{reason} (message {id} of the {} {queue})", Q::KIND);
            let raw = D::body(message);
            Reject { raw, reason }
        });
        Message::of(arrival, acknowledgement)
    }
}

#[async_trait]
impl<Q, D> Source for Reader<Q, D>
where
    Q: Queue,
    D: Decoder<Message = Q::Message>,
{
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let received = self.reading.next(self.batch_messages_max).await?;
        let messages = received.into_iter().map(|received| self.message(received));
        Ok(Batch {
            messages: messages.collect(),
            cursor: None,
        })
    }
}
