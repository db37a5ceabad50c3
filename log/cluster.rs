//! Which log it is: the name of a cluster and how many shards it has.

use pointsman_schemas::Name;

use crate::{Part, Shard};

/// The most shards of a cluster. Each is followed and costs the engine a stream; nodes that share a
/// cluster are no more than its shards.
pub const SHARDS_MAX: u16 = 256;

/// The longest name of a cluster: with what is put before it, it has to fit into the 63 bytes that
/// PostgreSQL leaves for a name, since it cuts longer ones without a word.
const NAME_BYTES_MAX: usize = 32;

/// A cluster's name and the number of its shards, all of them or those that one of several engines
/// keeps.
///
/// The first node that opens the log of a cluster creates it, with as many shards as it says. Every
/// later one adopts it, and is refused where it says another number, or another part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    name: Name,
    shards: u16,
    part: Option<Part>,
    /// Whether nobody may make it any more.
    exists: bool,
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
        Ok(Self {
            name,
            shards,
            part: None,
            exists: false,
        })
    }

    /// The part of it that one of several engines keeps: shard s lies in that with the index s modulo
    /// their number.
    #[must_use]
    pub fn of_part(&self, part: Part) -> Self {
        Self {
            part: Some(part),
            ..self.clone()
        }
    }

    /// The same, which is there already: where it is not it is not made, and that is an error.
    #[must_use]
    pub fn existing(self) -> Self {
        Self {
            exists: true,
            ..self
        }
    }

    /// Which part of it this is; none where it is the whole.
    #[must_use]
    pub fn part(&self) -> Option<Part> {
        self.part
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many shards it has, wherever they lie.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Refuses to make it where it has to be there.
    #[cfg(any(feature = "nats", feature = "postgres", feature = "test-util"))]
    pub(crate) fn may_be_made(&self) -> Result<(), crate::OpenError> {
        match self.exists {
            false => Ok(()),
            true => Err(crate::OpenError::Part {
                cluster: self.name.to_string(),
                why: crate::Foreign::Missing,
            }),
        }
    }

    /// Whether it has this shard, in this part where it is one.
    #[must_use]
    pub fn has(&self, shard: Shard) -> bool {
        let is_kept = |part: Part| shard.0.checked_rem(part.engines) == Some(part.index);
        shard.0 < self.shards && self.part.is_none_or(is_kept)
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

    #[test]
    fn each_shard_is_in_one_of_the_parts() {
        let whole = Cluster::new(Name::new("c").unwrap(), 5).unwrap();
        let kept = |index| {
            let part = whole.of_part(Part {
                index,
                engines: 3,
                set: None,
            });
            (0..9).filter(|shard| part.has(Shard(*shard))).collect()
        };
        let kept: [Vec<u16>; 3] = [kept(0), kept(1), kept(2)];
        assert_eq!(kept, [vec![0, 3], vec![1, 4], vec![2]]);
    }
}
