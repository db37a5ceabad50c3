//! What a beat says.

use pointsman_log::Shard;
use serde::{Deserialize, Serialize};

use crate::backlogs::Waits;
use crate::shares::Words;

/// What a node does with a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It owns it, and runs the bus with it.
    Owner,
    /// It follows, and has everything.
    Spare,
    /// It does not follow, since enough others do.
    Idle,
    /// It follows, and has not everything yet. So is said of what a later version may call
    /// otherwise.
    #[default]
    #[serde(other)]
    Filling,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// The process.
    pub incarnation: u64,
    /// Counts the beats of the process.
    pub number: u64,
    /// Its takeover time, in milliseconds.
    pub takeover_ms: u64,
    /// Where its admin API is.
    pub address: String,
    /// Its version.
    pub version: String,
    /// What it writes into logs, and understands.
    #[serde(default)]
    pub format: Format,
    /// Whether it is to own nothing while another node can.
    #[serde(default)]
    pub draining: bool,
    /// What it does with each shard, from the first on.
    pub shards: Vec<ShardPulse>,
    /// Which rules it works with.
    #[serde(default)]
    pub rules: RulesPulse,
    /// What it says of limits that hold for all nodes together; none of a node that divides none, and
    /// of one that was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Words>,
    /// What waits in its shards of what has a bound; nothing of a node that was heard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Waits>,
}

/// The formats of what a node writes into logs. It understands those and all before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Format {
    /// Of its stores' commits.
    pub store: u16,
    /// The last version of records.
    pub records: u8,
}

/// What a node says of the versions of the rules. What they are is nothing of this crate's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesPulse {
    /// Where it owns the first shard: counts the changes of what that keeps of versions.
    pub revision: u64,
    /// The version that it works with; 0 where it has none yet.
    pub in_force: u64,
    /// The last proposed version that it could work with.
    pub prepared: u64,
    /// Whether its own files say something else than the version that it works with.
    pub differs: bool,
    /// Why it cannot work with the version in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a node says of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPulse {
    /// What it does with it.
    pub role: Role,
    /// The epoch of the ownership that it knows of.
    pub epoch: u64,
    /// How far it has come in the shard's log.
    pub place: u64,
}

impl Pulse {
    /// What it says of a shard.
    #[must_use]
    pub fn of(&self, shard: Shard) -> ShardPulse {
        let shard = self.shards.get(usize::from(shard.0));
        shard.copied().unwrap_or_default()
    }

    /// How many shards the node owns.
    #[must_use]
    pub fn owned(&self) -> usize {
        owned(&self.shards)
    }
}

pub(super) fn owned(shards: &[ShardPulse]) -> usize {
    let is_owned = |shard: &&ShardPulse| shard.role == Role::Owner;
    shards.iter().filter(is_owned).count()
}
