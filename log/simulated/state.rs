//! What the simulated engine has stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use pointsman_schemas::Name;
use tokio::time::Instant;

use crate::{Cluster, Part, Place, Shard};

/// Everything, of all clusters.
#[derive(Debug, Default)]
pub(super) struct State {
    clusters: BTreeMap<Name, ClusterState>,
    /// The nodes that cannot reach the engine.
    pub(super) cut: BTreeSet<u64>,
    /// How often the engine has crashed.
    pub(super) crashes: u64,
    /// The engine does nothing before.
    pub(super) stalled_until: Option<Instant>,
    /// How many calls have been made, and nodes: what each draws of the seed.
    pub(super) calls: u64,
    pub(super) nodes: u64,
}

impl State {
    /// Whether the cluster is there.
    pub(super) fn has(&self, cluster: &Cluster) -> bool {
        self.clusters.contains_key(cluster.name())
    }

    /// The cluster, which is made where it is not there yet.
    pub(super) fn cluster(&mut self, cluster: &Cluster) -> &mut ClusterState {
        // Drawn by what has happened so far, which the seed decides.
        let set = self.calls;
        self.clusters
            .entry(cluster.name().clone())
            .or_insert_with(|| ClusterState::new(cluster, set))
    }
}

#[derive(Debug)]
pub(super) struct ClusterState {
    shards: Vec<ShardState>,
    part: Option<Part>,
    beats: BTreeMap<Name, (u64, Bytes)>,
    beaten: u64,
}

#[derive(Debug, Default)]
struct ShardState {
    /// How many records have been trimmed.
    trimmed: u64,
    /// The others, with when each was appended.
    records: VecDeque<(Bytes, Instant)>,
}

impl ShardState {
    fn last(&self) -> Place {
        Place(self.trimmed + self.records.len() as u64)
    }
}

/// What lies behind a place.
#[derive(Debug)]
pub(super) enum Look {
    Record { body: Bytes, at: Instant },
    Trimmed { first: Place },
    Ahead { last: Place },
    Nothing,
}

impl ClusterState {
    fn new(cluster: &Cluster, set: u64) -> Self {
        let shards = 0..cluster.shards();
        Self {
            shards: shards.map(|_| ShardState::default()).collect(),
            part: cluster.part().map(|part| part.founded(|| set)),
            beats: BTreeMap::new(),
            beaten: 0,
        }
    }

    pub(super) fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn part(&self) -> Option<Part> {
        self.part
    }

    pub(super) fn is_used(&self) -> bool {
        self.shards.iter().any(|shard| shard.last() > Place::START)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the log has asked its cluster, which was opened with this number of shards"
    )]
    fn shard(&mut self, shard: Shard) -> &mut ShardState {
        &mut self.shards[usize::from(shard.0)]
    }

    pub(super) fn append(&mut self, shard: Shard, body: Bytes) -> Place {
        let shard = self.shard(shard);
        shard.records.push_back((body, Instant::now()));
        shard.last()
    }

    pub(super) fn trim(&mut self, shard: Shard, before: Place) {
        let shard = self.shard(shard);
        while shard.trimmed + 1 < before.0 && shard.records.pop_front().is_some() {
            shard.trimmed += 1;
        }
    }

    pub(super) fn look(&mut self, shard: Shard, after: Place) -> Look {
        let shard = self.shard(shard);
        let last = shard.last();
        if after > last {
            return Look::Ahead { last };
        }
        let Some(index) = after.0.checked_sub(shard.trimmed) else {
            let first = Place(shard.trimmed).next();
            return Look::Trimmed { first };
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        match shard.records.get(index) {
            Some((body, at)) => Look::Record {
                body: body.clone(),
                at: *at,
            },
            None => Look::Nothing,
        }
    }

    pub(super) fn beat(&mut self, node: Name, body: Bytes) {
        self.beaten += 1;
        self.beats.insert(node, (self.beaten, body));
    }

    /// A beat that is newer than the one that was seen of its node, with its number.
    pub(super) fn beat_after(&self, seen: &BTreeMap<Name, u64>) -> Option<(Name, u64, Bytes)> {
        let mut beats = self.beats.iter();
        let (node, (count, body)) =
            beats.find(|(node, (count, _))| seen.get(*node).is_none_or(|seen| seen < count))?;
        Some((node.clone(), *count, body.clone()))
    }
}
