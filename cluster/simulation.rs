//! Several nodes over the simulated log, on paused time, with everything that goes wrong decided by
//! a seed: nothing acknowledged is lost, no two nodes act at once with one shard, all stores come to
//! the same, and the shards are spread over the nodes in the end.

mod histories;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use pointsman_journal::disk::{ApplyError, Commit, OpenError, Refused};
use pointsman_log::several::{Kept, Several};
use pointsman_log::simulated::{Engine, Faults, Node as Way};
use pointsman_log::{Cluster, Log, OpenError as NoLog, Part, Shard};
use pointsman_schemas::Name;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::heart::Heart;
use crate::{Handover, Identity, Node, Ownership, Store, Taken};

/// What a node has on disk, which outlives its process.
#[derive(Clone, Debug, Default)]
struct Disk {
    rows: BTreeMap<u64, u64>,
    mark: Option<Bytes>,
}

/// A store in memory: a change is a key with its value, or with none.
struct Memory {
    disk: Arc<Mutex<Disk>>,
    /// It understands commits up to this format.
    format: u16,
}

fn changes(of: &[(u64, Option<u64>)]) -> Bytes {
    let mut out = BytesMut::new();
    for (key, value) in of {
        out.put_u64(*key);
        out.put_u8(u8::from(value.is_some()));
        out.put_u64(value.unwrap_or_default());
    }
    out.freeze()
}

impl Disk {
    fn apply(&mut self, commit: &Commit, mark: &[u8]) {
        let mut from = commit.changes.clone();
        while from.has_remaining() {
            let (key, is_put, value) = (from.get_u64(), from.get_u8() == 1, from.get_u64());
            if is_put {
                self.rows.insert(key, value);
            } else {
                self.rows.remove(&key);
            }
        }
        self.mark = Some(Bytes::copy_from_slice(mark));
    }
}

impl Store for Memory {
    fn mark(&self) -> Option<Bytes> {
        self.disk.lock().mark.clone()
    }

    fn is_embedded(&self) -> bool {
        false
    }

    fn apply(&mut self, commits: &[Commit], mark: &[u8]) -> Result<(), ApplyError> {
        let mut disk = self.disk.lock();
        for commit in commits {
            if commit.format > self.format {
                let (found, understood) = (commit.format, self.format);
                return Err(ApplyError::Later { found, understood });
            }
            disk.apply(commit, mark);
        }
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), OpenError> {
        *self.disk.lock() = Disk::default();
        Ok(())
    }
}

/// What is seen of a shard from outside.
#[derive(Debug, Default)]
struct Seen {
    acting: Option<usize>,
    acknowledged: BTreeMap<u64, u64>,
    /// Keys that somebody has tried to delete.
    doomed: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    ownerships: u64,
    trims: u64,
    handovers: u64,
}

struct World {
    /// By shard.
    seen: Vec<Mutex<Seen>>,
    counts: Mutex<Counts>,
    /// Of several each keeps its part of the shards.
    engines: Vec<Arc<Engine>>,
    cluster: Cluster,
    /// Whether owners give up what they own after a while, without a reason.
    is_restless: AtomicBool,
}

impl World {
    fn new(seed: u64, faults: Faults, shards: u16, is_restless: bool) -> Arc<Self> {
        Self::over(1, seed, faults, shards, is_restless)
    }

    fn over(engines: u64, seed: u64, faults: Faults, shards: u16, is_restless: bool) -> Arc<Self> {
        // The first has the seed itself.
        let engine = |number| Engine::new(seed ^ (number << 32), faults.clone());
        Arc::new(Self {
            seen: (0..shards).map(|_| Mutex::default()).collect(),
            counts: Mutex::default(),
            engines: (0..engines).map(engine).collect(),
            cluster: Cluster::new(Name::new("c").unwrap(), shards).unwrap(),
            is_restless: is_restless.into(),
        })
    }

    /// The ways of a new node to the engines.
    fn ways(&self) -> Ways {
        Ways(self.engines.iter().map(Engine::node).collect())
    }

    /// The disks of a new node.
    fn empty(&self) -> Disks {
        self.seen.iter().map(|_| Arc::default()).collect()
    }

    fn seen(&self, shard: Shard) -> parking_lot::MutexGuard<'_, Seen> {
        self.seen[usize::from(shard.0)].lock()
    }
}

/// The ways of a node to all engines.
#[derive(Clone)]
struct Ways(Vec<Way>);

impl Ways {
    fn cut(&self, cut: bool) {
        self.0.iter().for_each(|way| way.cut(cut));
    }

    /// Opens the log, as the program does.
    async fn open(&self, cluster: &Cluster) -> Result<Arc<dyn Log>, NoLog> {
        if let [way] = &*self.0 {
            return Ok(Arc::new(way.open(cluster.clone()).await?));
        }
        let (mut engines, mut set, mut in_use) = (Vec::new(), None, false);
        for (index, way) in (0..).zip(&self.0) {
            let part = Part {
                index,
                engines: u16::try_from(self.0.len()).unwrap(),
                set,
            };
            let mut cluster = cluster.of_part(part);
            if in_use {
                cluster = cluster.existing();
            }
            let opened = way.open_part(cluster).await?;
            in_use |= opened.is_used;
            set = opened.part.and_then(|part| part.set);
            let (name, log) = (format!("engine {index}"), Arc::new(opened.log));
            engines.push(Kept { name, log });
        }
        Ok(Arc::new(Several::new(engines)))
    }
}

/// Acts for as long as it is there.
struct Acting<'a>(&'a World, Shard);

impl<'a> Acting<'a> {
    fn begin(world: &'a World, shard: Shard, node: usize) -> Self {
        let acting = world.seen(shard).acting.replace(node);
        assert_eq!(
            acting, None,
            "two nodes act with shard {shard}, one is {node}, {:?}",
            world.engines
        );
        world.counts.lock().ownerships += 1;
        Self(world, shard)
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        self.0.seen(self.1).acting = None;
    }
}

/// What a node has of each shard.
type Disks = Vec<Arc<Mutex<Disk>>>;

/// The life of one process.
async fn live(
    world: Arc<World>,
    ways: Ways,
    (number, format): (usize, u16),
    disks: Disks,
    heart: Arc<Mutex<Option<Arc<Heart>>>>,
    mut random: StdRng,
) {
    let log = loop {
        if let Ok(log) = ways.open(&world.cluster).await {
            break log;
        }
        sleep(Duration::from_millis(500)).await;
    };
    let identity = Identity {
        node: Name::new(&format!("node-{number}")).unwrap(),
        incarnation: random.random(),
        takeover: Duration::from_secs(10),
        address: String::new(),
        store_format: format,
    };
    let node = Node::join(log, identity, world.cluster.shards());
    *heart.lock() = Some(Arc::clone(&node.heart));
    // In one task, so that all of it is gone with that.
    let shards = disks.iter().zip(0..).map(|(disk, shard)| {
        let random = StdRng::seed_from_u64(random.random());
        tend(&world, &node, Shard(shard), number, disk, random)
    });
    futures::future::join_all(shards.collect::<Vec<_>>()).await;
}

/// What a process does with one shard.
async fn tend(
    world: &World,
    node: &Node,
    shard: Shard,
    number: usize,
    disk: &Arc<Mutex<Disk>>,
    mut random: StdRng,
) {
    loop {
        let taken = node
            .stand_by(
                shard,
                Memory {
                    disk: Arc::clone(disk),
                    format: node.identity().store_format,
                },
            )
            .await
            .unwrap();
        let Taken { ownership, .. } = taken;
        let acting = Acting::begin(world, shard, number);
        let done = tokio::select! {
            biased;
            () = ownership.ended() => Done::Lost,
            done = own(world, shard, &ownership, disk, &mut random) => done,
        };
        drop(acting);
        match done {
            Done::Lost => {}
            Done::Enough => ownership.release().await,
            Done::HandsOver(handover) => {
                world.counts.lock().handovers += 1;
                ownership.release().await;
                tokio::spawn(handover.arrived());
            }
        }
    }
}

/// How an owner comes to its end.
enum Done {
    /// Another node has taken over, or it can do nothing more.
    Lost,
    /// It gives the ownership up by itself.
    Enough,
    HandsOver(Handover),
}

/// What an owner does.
async fn own(
    world: &World,
    shard: Shard,
    ownership: &Ownership,
    disk: &Mutex<Disk>,
    random: &mut StdRng,
) -> Done {
    if !ownership.has_walked().await && !walk(world, shard, ownership, disk, random).await {
        return Done::Lost;
    }
    let handover = ownership.handover();
    tokio::pin!(handover);
    let enough = random.random_range(50..500);
    let has_enough = |commits| commits >= enough && world.is_restless.load(Ordering::Relaxed);
    for _ in (0..).take_while(|commits| !has_enough(*commits)) {
        tokio::select! {
            biased;
            () = sleep(Duration::from_millis(random.random_range(1..200))) => {}
            handover = &mut handover => return Done::HandsOver(handover),
        }
        let puts = (0..random.random_range(1..4)).map(|_| (random.random(), Some(random.random())));
        let mut puts: Vec<_> = puts.collect();
        if random.random_bool(0.2)
            && let Some(key) = disk.lock().rows.keys().next().copied()
        {
            world.seen(shard).doomed.insert(key);
            puts.push((key, None));
        }
        if !commit(ownership, disk, commit_of(changes(&puts))).await {
            continue;
        }
        let acknowledged = puts
            .iter()
            .filter_map(|(key, value)| Some((*key, (*value)?)));
        world.seen(shard).acknowledged.extend(acknowledged);
        if random.random_bool(0.02) {
            if !walk(world, shard, ownership, disk, random).await {
                continue;
            }
            if ownership.trim().await.is_ok() {
                world.counts.lock().trims += 1;
            }
        }
    }
    Done::Enough
}

fn commit_of(changes: Bytes) -> Commit {
    Commit {
        format: 1,
        begins_carry: false,
        ends_carry: false,
        changes,
    }
}

/// Puts every row once more, with other commits in between.
async fn walk(
    world: &World,
    shard: Shard,
    ownership: &Ownership,
    disk: &Mutex<Disk>,
    random: &mut StdRng,
) -> bool {
    let mut from = Some(0);
    let mut begins = true;
    while let Some(key) = from {
        let (chunk, next) = {
            let disk = disk.lock();
            let mut rows = disk
                .rows
                .range(key..)
                .map(|(key, value)| (*key, Some(*value)));
            let chunk: Vec<_> = rows.by_ref().take(random.random_range(1..400)).collect();
            (chunk, rows.next().map(|(key, _)| key))
        };
        let carried = Commit {
            begins_carry: begins,
            ends_carry: next.is_none(),
            ..commit_of(changes(&chunk))
        };
        if !commit(ownership, disk, carried).await {
            return false;
        }
        (from, begins) = (next, false);
        if next.is_some() && random.random_bool(0.5) {
            let put = (random.random(), Some(random.random()));
            if !commit(ownership, disk, commit_of(changes(&[put]))).await {
                return false;
            }
            let put = (put.0, put.1.unwrap());
            world.seen(shard).acknowledged.extend([put]);
        }
    }
    true
}

/// As the journal's writer does it.
async fn commit(ownership: &Ownership, disk: &Mutex<Disk>, mut commit: Commit) -> bool {
    commit.format = ownership.heart.me.store_format;
    let mut appended = ownership.sequencer.lock().await.append(&commit).await;
    while let Err(Refused::Unknown(_)) = appended {
        sleep(Duration::from_millis(100)).await;
        appended = ownership.sequencer.lock().await.resume().await;
    }
    let Ok(mark) = appended else { return false };
    disk.lock().apply(&commit, &mark);
    true
}
