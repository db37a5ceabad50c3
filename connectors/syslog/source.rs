//! An open source.

use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::connection::{AT_ONCE_MAX, Received};
use super::event::Mapper;
use super::receiver::Receiver;
use crate::{Batch, Source, SourceError};

/// How many messages a batch holds at most.
pub(super) const BATCH_MESSAGES_MAX: usize = 1_024;

/// How many bytes of messages a batch holds at most, and what one read brings beside them.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How long is read on at the end, since nobody sends again what is on its way, and how long nothing
/// comes before that is the end.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(50);

/// Sockets that messages come in by.
pub(super) struct Syslog {
    receiver: Receiver,
    mapper: Mapper,
    /// When it ends, once nobody asks for more.
    ends_at: Option<Instant>,
}

impl Syslog {
    pub(super) fn new(receiver: Receiver, mapper: Mapper) -> Self {
        Self {
            receiver,
            mapper,
            ends_at: None,
        }
    }

    /// A batch of what has come, and of what else is there.
    fn batch(&mut self, mut received: Vec<Received>) -> Batch {
        let mut bytes = size(&received);
        while received.len() + AT_ONCE_MAX <= BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            let Some(more) = self.receiver.receive().now_or_never() else {
                break;
            };
            bytes += size(&more);
            received.extend(more);
        }
        let messages = received.into_iter();
        Batch {
            messages: messages.map(|one| self.mapper.message(one)).collect(),
            cursor: None,
        }
    }
}

fn size(received: &[Received]) -> usize {
    let all = received.iter();
    all.map(|received| received.frame.bytes.len()).sum()
}

#[async_trait]
impl Source for Syslog {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let received = self.receiver.receive().await;
        // Nothing is waited for from here on: what has been read is handed over.
        Ok(self.batch(received))
    }

    async fn finish(&mut self) -> Option<Batch> {
        let now = Instant::now();
        let ends_at = *self.ends_at.get_or_insert(now + FINISH_WITHIN);
        self.receiver.stop_accepting();
        self.receiver.count_dropped();
        if now >= ends_at {
            return None;
        }
        let quiet = ends_at.min(now + QUIET);
        let received = timeout_at(quiet, self.receiver.receive()).await.ok()?;
        Some(self.batch(received))
    }
}
