//! Writers that append again what may not have been appended, and what has to be true of the log
//! afterwards.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::*;

/// What writers know of what they have appended.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Bodies with their places, each writer's in its order.
    acknowledged: Vec<(Place, Bytes)>,
    /// How often each may be there.
    copies: BTreeMap<Bytes, usize>,
}

/// Starts writers, each of which appends records one after the other.
pub(super) fn writers(
    nodes: &[Arc<dyn Log>],
    shard: Shard,
    writers: usize,
    records: usize,
) -> JoinSet<Load> {
    let mut running = JoinSet::new();
    for writer in 0..writers {
        let log = Arc::clone(&nodes[writer % nodes.len()]);
        running.spawn(write(log, shard, writer, records));
    }
    running
}

async fn write(log: Arc<dyn Log>, shard: Shard, writer: usize, records: usize) -> Load {
    let mut load = Load::default();
    for number in 0..records {
        let head = format!("{writer}/{number}");
        let body = [head.as_bytes(), &noise(number as u64, 50 * number)].concat();
        let body = Bytes::from(body);
        let (place, calls) = surely(|| log.append(shard, body.clone())).await;
        load.acknowledged.push((place, body.clone()));
        load.copies.insert(body, calls);
    }
    load
}

impl Load {
    /// Waits for all writers.
    pub(super) async fn all(mut writers: JoinSet<Load>) -> Self {
        let mut all = Self::default();
        while let Some(load) = writers.join_next().await {
            let load = load.unwrap();
            // A writer appends the next once it knows the place of the last.
            let places = load.acknowledged.iter().map(|(place, _)| *place);
            assert!(places.is_sorted(), "a writer's own order is lost");
            all.acknowledged.extend(load.acknowledged);
            all.copies.extend(load.copies);
        }
        all
    }

    /// The last place that somebody was told.
    pub(super) fn last(&self) -> Place {
        let places = self.acknowledged.iter().map(|(place, _)| *place);
        places.max().unwrap()
    }

    /// Checks a log, read from its beginning.
    pub(super) fn check(&self, log: &[Bytes]) {
        for (place, body) in &self.acknowledged {
            let index = usize::try_from(place.0 - 1).unwrap();
            assert!(
                log.get(index) == Some(body),
                "what was acknowledged at {place} is not there"
            );
        }
        let mut copies: BTreeMap<&Bytes, usize> = BTreeMap::new();
        for body in log {
            *copies.entry(body).or_default() += 1;
        }
        for (body, copies) in copies {
            let calls = self.copies.get(body).copied().unwrap_or_default();
            assert!(copies <= calls, "{copies} copies of {calls} calls");
        }
    }
}
