//! The source: what it hands over.

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::Reject;
use smallvec::SmallVec;

use super::mapping::Decoder;
use super::queue::{Message as Incoming, Queue};
use crate::leased::{Reading, Received};
use crate::{Batch, Message, Source, SourceError};

/// So many messages a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 96;

/// A queue, as the bus reads it.
pub(super) struct Reader {
    pub(super) reading: Reading<Queue>,
    pub(super) decoder: Decoder,
}

impl Reader {
    fn message(&self, received: Received<Incoming>) -> Message {
        let Received {
            message,
            acknowledgement,
        } = received;
        let (mut arrivals, mut rejects) = (SmallVec::new(), Vec::new());
        match self.decoder.arrival(&message) {
            Ok(arrival) => arrivals.push(arrival),
            Err(reason) => {
                let (id, queue) = (&message.id, &self.decoder.queue);
                rejects.push(Reject {
                    reason: format!("{reason} (message {id} of the queue {queue})"),
                    raw: Bytes::from(message.body),
                });
            }
        }
        Message {
            arrivals,
            rejects,
            acknowledgement,
            positions: Vec::new(),
        }
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let received = self.reading.next(BATCH_MESSAGES_MAX).await?;
        let messages = received.into_iter().map(|received| self.message(received));
        Ok(Batch {
            messages: messages.collect(),
            cursor: None,
        })
    }
}
