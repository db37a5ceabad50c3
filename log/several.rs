//! The log of a cluster in several engines, each of which keeps a part of the shards.
//!
//! ```text
//! shard 0 ─▶ engine 0      shard 1 ─▶ engine 1      shard 2 ─▶ engine 0 …
//! beat    ─▶ engine 0 and engine 1
//! ```
//!
//! A shard lies in one engine, with everything that [`Log`] promises of it. A beat goes to all of
//! them and counts once each has it: whoever reads from any engine then knows that its node lives,
//! and nobody has to reach all of them to tell.

mod verdict;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use pointsman_schemas::Name;

use crate::{Beats, FollowError, Follower, Log, LogError, Place, Shard};

/// One of several engines.
#[derive(Clone)]
pub struct Kept {
    /// What errors call it.
    pub name: String,
    /// The log of its part, opened with a [`Cluster`](crate::Cluster) of that.
    pub log: Arc<dyn Log>,
}

/// The log of a cluster in several engines.
#[derive(Clone)]
pub struct Several {
    engines: Vec<Kept>,
}

impl fmt::Debug for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.engines.iter().map(|engine| &engine.name);
        f.debug_list().entries(names).finish()
    }
}

impl Several {
    /// Makes one log of all engines, which are given in the order of their parts.
    #[must_use]
    pub fn new(engines: Vec<Kept>) -> Self {
        Self { engines }
    }

    /// The engine that keeps a shard.
    fn of(&self, shard: Shard) -> Option<&Kept> {
        let index = usize::from(shard.0).checked_rem(self.engines.len())?;
        self.engines.get(index)
    }
}

impl Kept {
    fn named<T>(&self, done: Result<T, LogError>) -> Result<T, LogError> {
        done.map_err(|error| verdict::named(&self.name, error))
    }
}

#[async_trait]
impl Log for Several {
    async fn append(&self, shard: Shard, body: Bytes) -> Result<Place, LogError> {
        let engine = self.of(shard).ok_or(LogError::NoShard(shard))?;
        engine.named(engine.log.append(shard, body).await)
    }

    fn follow(&self, shard: Shard, after: Place) -> Follower {
        match self.of(shard) {
            Some(engine) => engine.log.follow(shard, after),
            None => stream::iter([Err(FollowError::NoShard(shard))]).boxed(),
        }
    }

    async fn trim(&self, shard: Shard, before: Place) -> Result<(), LogError> {
        let engine = self.of(shard).ok_or(LogError::NoShard(shard))?;
        engine.named(engine.log.trim(shard, before).await)
    }

    async fn beat(&self, node: &Name, body: Bytes) -> Result<(), LogError> {
        // All at once, so that one that is away does not hold up the others.
        let beats = self.engines.iter().map(async |engine| {
            let body = body.clone();
            engine.named(engine.log.beat(node, body).await)
        });
        verdict::of_all(join_all(beats).await)
    }

    fn beats(&self) -> Vec<Beats> {
        let engines = self.engines.iter();
        engines.flat_map(|engine| engine.log.beats()).collect()
    }
}

#[cfg(test)]
mod tests;
