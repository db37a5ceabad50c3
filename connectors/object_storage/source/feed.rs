//! Where notifications come from.

use futures::future::pending;

use bytes::Bytes;

use crate::SourceError;
use crate::aws::queue::Queue;
use crate::leased::Reading;
use crate::object_storage::BATCH_MESSAGES_MAX;
use crate::object_storage::notification::Raw;
use crate::requests::Queued;

/// Where notifications come from.
pub(in crate::object_storage) enum Feed {
    Sqs(Reading<Queue>),
    Hook(Queued<Raw>),
    Nothing,
}

impl Feed {
    /// What came. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Vec<Raw>, SourceError> {
        match self {
            Self::Sqs(queue) => {
                let received = queue.next(BATCH_MESSAGES_MAX).await?.into_iter();
                let raw = received.map(|received| Raw {
                    body: Bytes::from(received.message.body.unwrap_or_default()),
                    acknowledgement: received.acknowledgement,
                });
                Ok(raw.collect())
            }
            Self::Hook(queue) => queue.take_up_to(BATCH_MESSAGES_MAX).await,
            Self::Nothing => pending().await,
        }
    }
}
