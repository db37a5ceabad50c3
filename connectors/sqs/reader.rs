//! The source: what it hands over.

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::Reject;
use smallvec::SmallVec;

use super::mapping::Decoder;
use crate::aws::queue::Queue;
use crate::leased::{Reading, Received};
use crate::{Batch, Message, Source, SourceError};

/// So many messages a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// A queue, as the bus reads it.
pub(super) struct Reader {
    reading: Reading<Queue>,
    decoder: Decoder,
}

impl Reader {
    pub(super) fn new(reading: Reading<Queue>, decoder: Decoder) -> Self {
        Self { reading, decoder }
    }

    fn message(&self, received: Received<aws_sdk_sqs::types::Message>) -> Message {
        let Received {
            message,
            acknowledgement,
        } = received;
        let (mut arrivals, mut rejects) = (SmallVec::new(), Vec::new());
        match self.decoder.arrival(&message) {
            Ok(arrival) => arrivals.push(arrival),
            Err(reason) => {
                let (id, queue) = (
                    message.message_id().unwrap_or_default(),
                    &self.decoder.queue,
                );
                rejects.push(Reject {
                    raw: Bytes::from(message.body.clone().unwrap_or_default()),
                    reason: format!("{reason} (message {id} of the queue {queue})"),
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
