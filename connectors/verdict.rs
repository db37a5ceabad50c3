//! What a source is told of each message.

use std::time::Duration;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything in it is on disk: it may be acknowledged.
    Stored,
    /// Nothing of it is stored because there is no room now: hand it over again after about this
    /// long.
    Later(Duration),
    /// Nothing of it is stored because storing failed: hand it over again.
    Failed,
    /// It will never be taken (a mapping failed and the sender is there to hear it).
    Rejected {
        /// Why.
        reason: String,
        /// Which of its events is meant, from 0, where there are several.
        event: Option<usize>,
    },
}
