//! Where notifications come from.

use futures::future::pending;

use crate::SourceError;
use crate::object_storage::BATCH_MESSAGES_MAX;
use crate::object_storage::sqs::{Raw, Reading};
use crate::requests::Queued;

/// Where notifications come from.
pub(in crate::object_storage) enum Feed {
    Sqs(Reading),
    Hook(Queued<Raw>),
    Nothing,
}

impl Feed {
    /// What came. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Vec<Raw>, SourceError> {
        match self {
            Self::Sqs(queue) => queue.next().await,
            Self::Hook(queue) => queue.take_up_to(BATCH_MESSAGES_MAX).await,
            Self::Nothing => pending().await,
        }
    }
}
