//! A log in memory that fails as real ones do, on the runtime's time and by a seed.
//!
//! An [`Engine`] is what nodes share; [`Engine::node`] is the way of one node to it, which can be
//! cut. On a runtime of one thread whose time is paused, everything that happens is decided by the
//! seed and by what the caller does.

mod engine;
mod faults;
mod state;

pub use engine::Engine;
pub use faults::Faults;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use pointsman_schemas::Name;

use crate::{Beat, Beats, Cluster, FollowError, Follower, Log, LogError, Next, OpenError, Opened};
use crate::{Place, Shard, fits};
use state::{ClusterState, Look, State};

/// The way of one node to an engine.
#[derive(Clone, Debug)]
pub struct Node {
    engine: Arc<Engine>,
    number: u64,
}

impl Node {
    /// Opens the log of a cluster.
    ///
    /// # Errors
    /// [`OpenError::Shards`] where the cluster has another number of shards, [`OpenError::Part`]
    /// where the engine keeps another part of it, or none that has to be there, and [`OpenError::Unavailable`] where nothing has
    /// come of it in time.
    pub async fn open(&self, cluster: Cluster) -> Result<SimulatedLog, OpenError> {
        Ok(self.open_part(cluster).await?.log)
    }

    /// The same, and which part of the cluster the engine keeps.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub async fn open_part(&self, cluster: Cluster) -> Result<Opened<SimulatedLog>, OpenError> {
        let wanted = cluster.clone();
        let look = move |state: &mut State| {
            if !state.has(&wanted) {
                wanted.may_be_made()?;
            }
            let found = state.cluster(&wanted);
            wanted.admit(found.shards(), found.part())?;
            Ok((found.part(), found.is_used()))
        };
        let looked = self.engine.call(self.number, look).await;
        let (part, is_used) =
            looked.unwrap_or_else(|error| Err(OpenError::Unavailable(error.to_string())))?;
        let node = self.clone();
        Ok(Opened {
            log: SimulatedLog { node, cluster },
            part,
            is_used,
            warnings: Vec::new(),
        })
    }

    /// Cuts the node off from the engine, or lets it reach the engine again.
    pub fn cut(&self, cut: bool) {
        self.engine.cut(self.number, cut);
    }
}

/// The log of a cluster in an [`Engine`].
#[derive(Clone, Debug)]
pub struct SimulatedLog {
    node: Node,
    cluster: Cluster,
}

impl SimulatedLog {
    async fn call<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut ClusterState) -> T + Send + 'static,
    ) -> Result<T, LogError> {
        let cluster = self.cluster.clone();
        self.node
            .engine
            .call(self.node.number, move |state| {
                action(state.cluster(&cluster))
            })
            .await
    }
}

#[async_trait]
impl Log for SimulatedLog {
    async fn append(&self, shard: Shard, body: Bytes) -> Result<Place, LogError> {
        fits(&body)?;
        self.cluster.check(shard)?;
        self.call(move |cluster| cluster.append(shard, body)).await
    }

    fn follow(&self, shard: Shard, after: Place) -> Follower {
        let reader = Reader {
            log: self.clone(),
            shard,
            after,
            is_over: false,
        };
        stream::unfold(reader, async |mut reader| {
            let next = reader.next().await?;
            Some((next, reader))
        })
        .boxed()
    }

    async fn trim(&self, shard: Shard, before: Place) -> Result<(), LogError> {
        self.cluster.check(shard)?;
        self.call(move |cluster| cluster.trim(shard, before)).await
    }

    async fn beat(&self, node: &Name, body: Bytes) -> Result<(), LogError> {
        fits(&body)?;
        let node = node.clone();
        self.call(move |cluster| cluster.beat(node, body)).await
    }

    fn beats(&self) -> Vec<Beats> {
        let seen: BTreeMap<Name, u64> = BTreeMap::new();
        let beats = stream::unfold((self.clone(), seen), async |(log, mut seen)| {
            let Node { engine, number } = &log.node;
            let mut changed = engine.changes();
            loop {
                let look = engine.look(*number, |state| {
                    state.cluster(&log.cluster).beat_after(&seen)
                });
                if let Some((node, count, body)) = look.flatten() {
                    seen.insert(node.clone(), count);
                    return Some((Beat { node, body }, (log, seen)));
                }
                changed.changed().await.ok()?;
            }
        });
        vec![beats.boxed()]
    }
}

/// What follows one shard for one node.
struct Reader {
    log: SimulatedLog,
    shard: Shard,
    after: Place,
    is_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Next, FollowError>> {
        if self.is_over {
            return None;
        }
        let next = self.read().await;
        self.is_over = next.is_err();
        Some(next)
    }

    async fn read(&mut self) -> Result<Next, FollowError> {
        let (shard, after) = (self.shard, self.after);
        let Node { engine, number } = &self.log.node;
        if !self.log.cluster.has(shard) {
            return Err(FollowError::NoShard(shard));
        }
        let mut changed = engine.changes();
        loop {
            let look = engine.look(*number, |state| {
                state.cluster(&self.log.cluster).look(shard, after)
            });
            match look {
                Some(Look::Record { body, at }) => {
                    let place = after.next();
                    let lag = engine.lag(*number, shard, place);
                    tokio::time::sleep_until(at + lag).await;
                    // It may have been cut off or trimmed meanwhile.
                    let is_there = engine.look(*number, |state| {
                        let look = state.cluster(&self.log.cluster).look(shard, after);
                        matches!(look, Look::Record { .. })
                    });
                    if is_there == Some(true) {
                        self.after = place;
                        return Ok(Next::Record { place, body });
                    }
                }
                Some(Look::Trimmed { first }) => {
                    self.after = Place(first.0 - 1);
                    return Ok(Next::Trimmed { first });
                }
                Some(Look::Ahead { last }) => {
                    return Err(FollowError::Ahead { shard, after, last });
                }
                None | Some(Look::Nothing) => {
                    if changed.changed().await.is_err() {
                        return Err(FollowError::Ended(shard));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
