//! What one node asks another about a shard that the other owns.
//!
//! ```text
//! Remote ──Call──▶ message ──bytes──▶ Transport ══▶ serve ──▶ the shard, where it is owned
//!    ▲                                                 │
//!    └───────────── Result<_, JournalError> ◀──bytes───┘
//! ```
//!
//! The caller has a [`Remote`], which is a [`Shard`](pointsman_journal::Shard) like any other; the
//! owner answers with [`serve`]. How bytes get from one to the other is the [`Transport`]'s affair:
//! nothing here knows HTTP, addresses or keys.
//!
//! Appends, commands and reads go over. Leases, settlements and what is due do not: they are the
//! owner's own. Nor does what each node tells the shards that are on it
//! ([`subscribe_as`](pointsman_journal::Shard::subscribe_as), quotas, the close).
//!
//! # What is written
//!
//! A version, then a call or its answer in the format of [postcard](https://postcard.jamesmunns.com),
//! which is that of the journal's own types, field by field: so whoever changes one of them changes
//! the version too, which a test asks for. An event is one run of bytes, as it is on disk. What a
//! version wrote that is not known here is refused, never guessed at.
//!
//! # What an error says
//!
//! [`JournalError::Away`](pointsman_journal::JournalError::Away): nothing has happened, for the
//! owner was not reached or is not the owner. [`JournalError::Io`](pointsman_journal::JournalError::Io):
//! it may have happened. Every other one is the owner's own.

#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "a test may tell a long story")
)]

mod append;
mod call;
mod command;
mod message;
mod read;
mod remote;
mod serve;
#[cfg(test)]
mod tests;
mod transport;

pub use message::MESSAGE_BYTES_MAX;
pub use remote::Remote;
pub use serve::{Shards, not_owned, serve, serve_one_of};
pub use transport::{CallError, Transport};
