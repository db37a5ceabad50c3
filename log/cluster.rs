//! Which log it is: the name of a cluster and how many shards it has.

use pointsman_schemas::Name;

use crate::Shard;

/// The most shards of a cluster. Each is followed and costs the engine a stream; nodes that share a
/// cluster are no more than its shards.
pub const SHARDS_MAX: u16 = 256;

/// The longest name of a cluster: with what is put before it, it has to fit into the 63 bytes that
/// PostgreSQL leaves for a name, since it cuts longer ones without a word.
const NAME_BYTES_MAX: usize = 32;

/// A cluster's name and the number of its shards.
///
/// The first node that opens the log of a cluster creates it, with as many shards as it says. Every
/// later one adopts it, and is refused where it says another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    name: Name,
    shards: u16,
}

/// There can be no such cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCluster {
    /// The name is too long.
    #[error("the name {0} of a cluster is longer than {NAME_BYTES_MAX} characters")]
    Name(Name),
    /// It has none, or too many.
    #[error("a cluster has 1 to {SHARDS_MAX} shards, not {0}")]
    Shards(u16),
}

impl Cluster {
    /// Names a cluster and its number of shards.
    ///
    /// # Errors
    /// [`InvalidCluster`] where the name is longer than 32 characters, or the number is not within
    /// 1 to [`SHARDS_MAX`].
    pub fn new(name: Name, shards: u16) -> Result<Self, InvalidCluster> {
        if name.as_str().len() > NAME_BYTES_MAX {
            return Err(InvalidCluster::Name(name));
        }
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(InvalidCluster::Shards(shards));
        }
        Ok(Self { name, shards })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many shards it has.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Whether it has this shard.
    #[must_use]
    pub fn has(&self, shard: Shard) -> bool {
        shard.0 < self.shards
    }

    /// Refuses a shard that it does not have.
    #[cfg(any(feature = "nats", feature = "postgres", feature = "test-util"))]
    pub(crate) fn check(&self, shard: Shard) -> Result<(), crate::LogError> {
        match self.has(shard) {
            true => Ok(()),
            false => Err(crate::LogError::NoShard(shard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_engine_could_name_is_refused() {
        let of = |name: &str, shards| Cluster::new(Name::new(name).unwrap(), shards);
        assert!(of(&"c".repeat(32), 1).is_ok());
        assert!(of(&"c".repeat(33), 1).is_err());
        assert!(of("c", SHARDS_MAX).is_ok());
        assert_eq!(of("c", 0), Err(InvalidCluster::Shards(0)));
        assert_eq!(of("c", 257), Err(InvalidCluster::Shards(257)));
    }
}
