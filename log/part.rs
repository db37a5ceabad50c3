//! Which of several engines of a cluster one is, and what it may not be taken for.

use std::fmt;

#[cfg(any(feature = "nats", feature = "postgres", feature = "test-util"))]
use crate::{Cluster, OpenError};

/// Which of the engines of a cluster one is. Each keeps every so-manieth shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place among them, from 0 on.
    pub index: u16,
    /// How many there are.
    pub engines: u16,
    /// The same for all engines of a cluster, and drawn when the first one is made; none of an
    /// engine that may be of any cluster with this name.
    pub set: Option<u64>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine {} of {}", self.index + 1, self.engines)
    }
}

/// What an engine has of a cluster.
#[cfg(any(feature = "nats", feature = "postgres"))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) part: Option<Part>,
    pub(crate) is_used: bool,
}

#[cfg(any(feature = "nats", feature = "postgres", feature = "test-util"))]
impl Part {
    /// The same with a set, which is that of a new cluster where none is given.
    pub(crate) fn founded(self, new: impl FnOnce() -> u64) -> Self {
        let set = self.set.or_else(|| Some(new()));
        Self { set, ..self }
    }
}

#[cfg(any(feature = "nats", feature = "postgres"))]
impl Part {
    /// As an engine keeps it.
    pub(crate) fn written(self) -> String {
        let Self { index, engines, .. } = self;
        let set = self.founded(rand::random).set.unwrap_or_default();
        format!("{index}/{engines}/{set:016x}")
    }

    /// Reads what an engine has kept.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (index, engines, set) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            index: index.parse().ok()?,
            engines: engines.parse().ok()?,
            set: Some(u64::from_str_radix(set, 16).ok()?),
        })
    }
}

#[cfg(any(feature = "nats", feature = "postgres", feature = "test-util"))]
impl Cluster {
    /// Refuses the log that an engine has under the name of this cluster, of so many shards and this
    /// part of them, where it is another one.
    pub(crate) fn admit(&self, shards: u16, found: Option<Part>) -> Result<(), OpenError> {
        let cluster = self.name().to_string();
        if shards != self.shards() {
            return Err(OpenError::Shards {
                cluster,
                found: shards,
                wanted: self.shards(),
            });
        }
        let why = match (found, self.part()) {
            (None, None) => return Ok(()),
            (None, Some(_)) => Foreign::Whole,
            (Some(found), None) => Foreign::OneOf(found.engines),
            (Some(found), Some(wanted)) if found.engines != wanted.engines => {
                Foreign::Count(found.engines, wanted.engines)
            }
            (Some(found), Some(wanted)) if found.index != wanted.index => {
                Foreign::Place(found.index, wanted.index)
            }
            (Some(found), Some(wanted)) => match wanted.set.is_none_or(|_| found.set == wanted.set)
            {
                true => return Ok(()),
                false => Foreign::Set,
            },
        };
        Err(OpenError::Part { cluster, why })
    }
}

/// Why the log of an engine is not the part of a cluster that it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// It is all of its cluster.
    #[error("has its whole log in this engine alone: list no other one with it")]
    Whole,
    /// It is one of so many.
    #[error("has its log in {0} engines, of which this is one: list all of them, in their order")]
    OneOf(u16),
    /// It is one of another number.
    #[error("has its log in {0} engines, and {1} are listed: list the same ones, in their order")]
    Count(u16, u16),
    /// It is another one of them, as counted from 0.
    #[error(
        "was made with this engine as number {}, and it is listed as number {}: list each engine \
         once, in the order that they had then",
        .0 + 1,
        .1 + 1
    )]
    Place(u16, u16),
    /// There is nothing, though there has to be.
    #[error(
        "has no log in this engine, and one that is in use in those before it: this is not the \
         engine that it was, or it has lost its log"
    )]
    Missing,
    /// It is one of the engines of another cluster.
    #[error(
        "is not the one that the first engine has: that is another cluster of this name, or the \
         first engine has lost its log"
    )]
    Set,
}

#[cfg(all(test, feature = "nats"))]
mod tests {
    use super::*;
    use pointsman_schemas::Name;

    fn part(index: u16, engines: u16, set: Option<u64>) -> Part {
        Part {
            index,
            engines,
            set,
        }
    }

    #[test]
    fn what_an_engine_keeps_of_it_is_read_as_it_was() {
        for known in [part(0, 2, Some(7)), part(15, 16, Some(u64::MAX))] {
            assert_eq!(Part::read(&known.written()), Some(known));
        }
        let drawn = Part::read(&part(1, 3, None).written()).unwrap();
        assert_eq!((drawn.index, drawn.engines), (1, 3));
        for text in ["", "1/2", "1/2/x", "-1/2/0"] {
            assert_eq!(Part::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_log_that_is_another_part_or_of_another_cluster_is_refused() {
        let check = |found: Option<Part>, wanted: Option<Part>, expect: Option<Foreign>| {
            let cluster = Cluster::new(Name::new("c").unwrap(), 4).unwrap();
            let cluster = match wanted {
                Some(wanted) => cluster.of_part(wanted),
                None => cluster,
            };
            let why = match cluster.admit(4, found) {
                Ok(()) => None,
                Err(OpenError::Part { why, .. }) => Some(why),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(why, expect, "{found:?} for {wanted:?}");
            assert!(matches!(
                cluster.admit(5, found),
                Err(OpenError::Shards { found: 5, .. })
            ));
        };
        let set = Some(7);
        check(None, None, None);
        check(Some(part(1, 2, set)), Some(part(1, 2, set)), None);
        check(Some(part(0, 2, set)), Some(part(0, 2, None)), None);
        check(None, Some(part(0, 2, None)), Some(Foreign::Whole));
        check(Some(part(0, 2, set)), None, Some(Foreign::OneOf(2)));
        check(
            Some(part(1, 2, set)),
            Some(part(1, 3, set)),
            Some(Foreign::Count(2, 3)),
        );
        check(
            Some(part(1, 2, set)),
            Some(part(0, 2, None)),
            Some(Foreign::Place(1, 0)),
        );
        check(
            Some(part(1, 2, set)),
            Some(part(1, 2, Some(8))),
            Some(Foreign::Set),
        );
    }
}
