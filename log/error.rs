//! What can go wrong. No message has a URL or a password in it.

use crate::part::Foreign;
use crate::{BODY_BYTES_MAX, Place, Shard};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the log was to be opened with cannot be right.
    #[error("{0}")]
    Settings(String),
    /// The engine cannot be reached, or does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The engine is set up in a way that would lose records, or refuses.
    #[error("{0}")]
    Refused(String),
    /// The cluster is there with another number of shards, which never changes.
    #[error(
        "the cluster {cluster} has {found} shards, not {wanted}; give it the number it was made with"
    )]
    Shards {
        /// Its name.
        cluster: String,
        /// How many it has.
        found: u16,
        /// How many it was to be opened with.
        wanted: u16,
    },
    /// The engine is not this one of the engines of the cluster, which never change.
    #[error(
        "the cluster {cluster} {why}; other engines are another store.log.cluster, filled by store \
         export and store import"
    )]
    Part {
        /// Its name.
        cluster: String,
        /// What it is.
        why: Foreign,
    },
}

/// Why a call to a log has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The body is larger than [`BODY_BYTES_MAX`].
    #[error("a record of {bytes} bytes is larger than {BODY_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The cluster has no such shard.
    #[error("the cluster has no shard {0}")]
    NoShard(Shard),
    /// The engine has answered that it does not do it, for want of room or of a permission for
    /// instance.
    #[error("the engine refuses: {0}")]
    Refused(String),
    /// The engine was not reached.
    #[error("the engine cannot be reached: {0}")]
    Unavailable(String),
    /// The engine was told and has not answered. It may have done it, and may do it yet.
    #[error("the engine has not said whether it was done: {0}")]
    Unknown(String),
}

impl LogError {
    /// Returns true where the call may have been carried out, or may be yet.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Why a follower can read no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The cluster has no such shard.
    #[error("the cluster has no shard {0}")]
    NoShard(Shard),
    /// The log ends before the place that the follower has read up to.
    #[error("the log of shard {shard} ends at {last}, before {after}: the engine has lost records")]
    Ahead {
        /// The shard.
        shard: Shard,
        /// What the follower has read up to.
        after: Place,
        /// The place of the last record.
        last: Place,
    },
    /// A record is missing that nobody has trimmed.
    #[error("record {place} of shard {shard} is missing: the engine has lost it")]
    Lost {
        /// The shard.
        shard: Shard,
        /// Where the record should be.
        place: Place,
    },
    /// What reads for the follower has ended by a mistake in this program.
    #[error("the reader of shard {0} has ended")]
    Ended(Shard),
}
