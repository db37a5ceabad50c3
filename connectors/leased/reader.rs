//! A queue as a source: what it hands over.

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::Reject;

use super::{Queue, Reading, Received};
use crate::{Arrival, Batch, Message, Source, SourceError};

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
    pub(crate) reading: Reading<Q>,
    pub(crate) decoder: D,
    /// So many messages a batch holds at most.
    pub(crate) batch_messages_max: usize,
}

impl<Q: Queue, D: Decoder<Message = Q::Message>> Reader<Q, D> {
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
