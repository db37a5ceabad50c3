//! One bus on many machines: which node owns a shard's store, and how the others follow it.
//!
//! ```text
//! owner:  journal ─ commit ─▶ sequencer ─▶ log ─ place ─▶ the journal commits
//! spare:  log ─▶ fold ─▶ the store's copy            heart: beats, and who is silent
//! ```
//!
//! A log has shards, each with a store and one owner, whose bus works with it. What the owner's
//! journal commits goes into the replicated log first, as the rows that change, and is committed
//! where the log has it in its place. Every other node applies the same rows to a store of its own
//! and takes over where the owner is silent.
//!
//! Shards spread over the nodes by their numbers alone: a node that owns two more than another one
//! gives it one, and of those that can take over the one with the fewest comes first.
//!
//! # Invariants
//!
//! 1. What the journal acknowledges is in the log, in the epoch of an owner that nobody had
//!    followed then: the order of the log decides, never a clock.
//! 2. A node acts for a shard (leases, calls targets) from when its claim holds and the owner before it
//!    has said that it stopped, or was silent for its takeover time, until it is told of a later
//!    claim or until its last acknowledged beat, counted from when that began, is older than its
//!    takeover time less a fifth. That takes clocks that run alike, not clocks that agree. Where the
//!    log lies in several engines a beat is acknowledged once all of them have it, and whoever is
//!    not heard through one of them is silent.
//! 3. A store is complete, or does not become an owner's.

mod backlogs;
mod fold;
mod follower;
mod heart;
mod node;
mod record;
mod sequencer;
mod shares;
#[cfg(test)]
mod simulation;
mod store;
mod watch;

pub use backlogs::{Waiting, Waits};
pub use fold::{Broken, Progress};
pub use heart::{Format, Identity, Member, Pulse, Role, RulesPulse, ShardPulse};
pub use node::{Handover, Node, Ownership, Taken};
pub use shares::{Demand, Limit, Share, Words};
pub use store::Store;

use pointsman_journal::disk::ApplyError;
use pointsman_log::FollowError;
use pointsman_schemas::Name;

/// Why a node can follow no more, or must not own.
#[derive(Debug, thiserror::Error)]
pub enum StandByError {
    /// The log cannot be read any further.
    #[error("{0}")]
    Log(#[from] FollowError),
    /// What the log says cannot be right.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The store cannot take it.
    #[error("{0}")]
    Store(#[from] ApplyError),
    /// The store was used without a log.
    #[error(
        "the store holds a journal of its own, and the cluster has one already; give this node \
         another store.path"
    )]
    TwoJournals,
    /// Another living process has the node's name.
    #[error(
        "another node of the cluster is called {0} as well, and says that it is at {1}; give each a \
         name of its own"
    )]
    Namesake(Name, String),
    /// The work on the store was cut short.
    #[error("the work on the store was cut short")]
    Interrupted,
}
