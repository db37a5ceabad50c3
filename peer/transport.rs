//! How a call gets to the node that owns a shard, and its answer back.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_journal::ShardNumber;

/// A way to another node.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync {
    /// Has the other node [serve](crate::serve) a call to a shard, and returns what it answered.
    /// Where the future is dropped the call may have been served or not.
    ///
    /// # Errors
    /// [`CallError`], which says whether the call may have been served.
    async fn call(&self, shard: ShardNumber, call: Bytes) -> Result<Bytes, CallError>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The call was not sent, or the other node has refused it unread: nothing has happened.
    #[error("{0}")]
    Unsent(String),
    /// Sending had begun: it may have happened.
    #[error("{0}")]
    Lost(String),
}
