//! What one node asks another.

use serde::{Deserialize, Serialize};

use crate::append::Sent;
use crate::command::Command;
use crate::read::Read;

/// What a shard is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// To store these, beginning with each in this order. The answer is a list of
    /// [`Made`](crate::append::Made) or errors.
    Append(Vec<Sent>),
    /// To change something, or what [`Journal`](pointsman_journal::Journal) itself answers.
    Command(Command),
    /// What a [`Reader`](pointsman_journal::Reader) answers.
    Read(Read),
}
