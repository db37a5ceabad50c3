//! Several nodes over the simulated log, on paused time, with everything that goes wrong decided by
//! a seed: nothing acknowledged is lost, no two nodes act at once with one shard, all stores come to
//! the same, and the shards are spread over the nodes in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use pointsman_journal::disk::{ApplyError, Commit, OpenError, Refused};
use pointsman_log::simulated::{Engine, Faults, Node as Way};
use pointsman_log::{Cluster, Log, Shard};
use pointsman_schemas::Name;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::heart::Heart;
use crate::{Handover, Identity, Node, Ownership, Store, Taken};

const NODES: usize = 3;
/// How long things go wrong, and how long they may take to come right.
const ROUGH: Duration = Duration::from_secs(300);
const CALM: Duration = Duration::from_secs(200);

/// What a node has on disk, which outlives its process.
#[derive(Clone, Debug, Default)]
struct Disk {
    rows: BTreeMap<u64, u64>,
    mark: Option<Bytes>,
}

/// A store in memory: a change is a key with its value, or with none.
struct Memory(Arc<Mutex<Disk>>);

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
        self.0.lock().mark.clone()
    }

    fn is_embedded(&self) -> bool {
        false
    }

    fn apply(&mut self, commits: &[Commit], mark: &[u8]) -> Result<(), ApplyError> {
        let mut disk = self.0.lock();
        for commit in commits {
            disk.apply(commit, mark);
        }
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), OpenError> {
        *self.0.lock() = Disk::default();
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

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    ownerships: u64,
    trims: u64,
    handovers: u64,
}

struct World {
    /// By shard.
    seen: Vec<Mutex<Seen>>,
    counts: Mutex<Counts>,
    engine: Arc<Engine>,
    cluster: Cluster,
    /// Whether owners give up what they own after a while, without a reason.
    is_restless: bool,
}

impl World {
    fn seen(&self, shard: Shard) -> parking_lot::MutexGuard<'_, Seen> {
        self.seen[usize::from(shard.0)].lock()
    }
}

/// Acts for as long as it is there.
struct Acting<'a>(&'a World, Shard);

impl<'a> Acting<'a> {
    fn begin(world: &'a World, shard: Shard, node: usize) -> Self {
        let acting = world.seen(shard).acting.replace(node);
        assert_eq!(
            acting, None,
            "two nodes act with shard {shard}, one is {node}"
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
    way: Way,
    number: usize,
    disks: Disks,
    heart: Arc<Mutex<Option<Arc<Heart>>>>,
    mut random: StdRng,
) {
    let log = loop {
        if let Ok(log) = way.open(world.cluster.clone()).await {
            break Arc::new(log) as Arc<dyn Log>;
        }
        sleep(Duration::from_millis(500)).await;
    };
    let identity = Identity {
        node: Name::new(&format!("node-{number}")).unwrap(),
        incarnation: random.random(),
        takeover: Duration::from_secs(10),
        address: String::new(),
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
            .stand_by(shard, Memory(Arc::clone(disk)))
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
    let commits = match world.is_restless {
        true => random.random_range(50..500),
        false => u32::MAX,
    };
    for _ in 0..commits {
        tokio::select! {
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
async fn commit(ownership: &Ownership, disk: &Mutex<Disk>, commit: Commit) -> bool {
    let mut appended = ownership.sequencer.lock().await.append(&commit).await;
    while let Err(Refused::Unknown(_)) = appended {
        sleep(Duration::from_millis(100)).await;
        appended = ownership.sequencer.lock().await.resume().await;
    }
    let Ok(mark) = appended else { return false };
    disk.lock().apply(&commit, &mark);
    true
}

struct Process {
    way: Way,
    disks: Disks,
    heart: Arc<Mutex<Option<Arc<Heart>>>>,
    task: JoinHandle<()>,
}

impl World {
    fn new(seed: u64, faults: Faults, shards: u16, is_restless: bool) -> Arc<Self> {
        Arc::new(Self {
            seen: (0..shards).map(|_| Mutex::default()).collect(),
            counts: Mutex::default(),
            engine: Engine::new(seed, faults),
            cluster: Cluster::new(Name::new("c").unwrap(), shards).unwrap(),
            is_restless,
        })
    }

    /// The disks of a new node.
    fn empty(&self) -> Disks {
        self.seen.iter().map(|_| Arc::default()).collect()
    }
}

fn start(
    world: &Arc<World>,
    number: usize,
    way: Way,
    disks: Disks,
    random: &mut StdRng,
) -> Process {
    let random = StdRng::seed_from_u64(random.random());
    let heart = Arc::default();
    let life = live(
        Arc::clone(world),
        way.clone(),
        number,
        disks.clone(),
        Arc::clone(&heart),
        random,
    );
    Process {
        way,
        disks,
        heart,
        task: tokio::spawn(life),
    }
}

async fn play(seed: u64, faults: Faults, shards: u16) -> Counts {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new(seed, faults, shards, true);
    let mut processes: Vec<_> = (0..NODES)
        .map(|number| {
            start(
                &world,
                number,
                world.engine.node(),
                world.empty(),
                &mut random,
            )
        })
        .collect();
    let end = Instant::now() + ROUGH;
    while Instant::now() < end {
        sleep(Duration::from_millis(random.random_range(100..20_000))).await;
        let number = random.random_range(0..NODES);
        match random.random_range(0..15) {
            0..=3 => {
                processes[number].way.cut(true);
                let way = processes[number].way.clone();
                let healed = Duration::from_millis(random.random_range(100..30_000));
                tokio::spawn(async move {
                    sleep(healed).await;
                    way.cut(false);
                });
            }
            4..=7 => {
                let Process {
                    way, disks, task, ..
                } = &processes[number];
                task.abort();
                // What a process had in its hands is gone before another has its lock.
                while !task.is_finished() {
                    tokio::task::yield_now().await;
                }
                let is_whole = |disk: &Arc<Mutex<Disk>>| disk.lock().mark.is_some();
                let others_are_whole = (0..NODES)
                    .filter(|other| *other != number)
                    .all(|other| processes[other].disks.iter().all(is_whole));
                if random.random_bool(0.3) && others_are_whole {
                    for disk in disks {
                        *disk.lock() = Disk::default();
                    }
                }
                processes[number] = start(&world, number, way.clone(), disks.clone(), &mut random);
            }
            8 => world.engine.crash(),
            // It claims what another one owns and works with.
            9..=11 => {
                if let Some(heart) = &*processes[number].heart.lock() {
                    heart.is_hasty.store(true, Ordering::Relaxed);
                }
            }
            12..=13 => {
                if let Some(heart) = &*processes[number].heart.lock() {
                    heart.is_draining.store(random.random(), Ordering::Relaxed);
                }
            }
            _ => world
                .engine
                .stall(Duration::from_millis(random.random_range(10..8_000))),
        }
    }
    for process in &processes {
        process.way.cut(false);
        if let Some(heart) = &*process.heart.lock() {
            heart.is_draining.store(false, Ordering::Relaxed);
        }
    }
    settle(&world, &processes, seed, &mut random).await;
    for process in &processes {
        process.task.abort();
    }
    *world.counts.lock()
}

/// Everything comes right: somebody owns each shard, all stores of one come to the same with all
/// that was acknowledged, and no node owns two shards more than another.
async fn settle(world: &World, processes: &[Process], seed: u64, random: &mut StdRng) {
    let acknowledged = |seen: &Mutex<Seen>| seen.lock().acknowledged.len();
    let before: Vec<_> = world.seen.iter().map(acknowledged).collect();
    let settled = async {
        let mut open: BTreeSet<_> = (0..world.seen.len()).collect();
        while !open.is_empty() || !is_spread(world) {
            sleep(Duration::from_millis(random.random_range(1..500))).await;
            open.retain(|shard| !is_settled(world, processes, *shard, before[*shard], seed));
        }
    };
    if timeout(CALM, settled).await.is_err() {
        let acting: Vec<_> = world.seen.iter().map(|seen| seen.lock().acting).collect();
        panic!("seed {seed}: nothing comes right: {acting:?}");
    }
}

/// Whether all stores of a shard have come to the same, with more than there was.
fn is_settled(
    world: &World,
    processes: &[Process],
    shard: usize,
    before: usize,
    seed: u64,
) -> bool {
    let disks: Vec<_> = processes
        .iter()
        .map(|process| process.disks[shard].lock())
        .collect();
    let seen = world.seen[shard].lock();
    if seen.acknowledged.len() <= before || disks.windows(2).any(|two| two[0].rows != two[1].rows) {
        return false;
    }
    for (key, value) in &seen.acknowledged {
        let found = disks[0].rows.get(key);
        let is_kept = found == Some(value) || seen.doomed.contains(key);
        assert!(is_kept, "seed {seed}: {key} of shard {shard} is lost");
    }
    true
}

fn is_spread(world: &World) -> bool {
    let mut owned = [0_usize; NODES];
    for seen in &world.seen {
        match seen.lock().acting {
            Some(node) => owned[node] += 1,
            None => return false,
        }
    }
    owned.iter().max().unwrap() - owned.iter().min().unwrap() <= 1
}

/// So many seeds; more where `POINTSMAN_SEEDS` says so, from `POINTSMAN_SEED` on.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("POINTSMAN_SEED").unwrap_or(0);
    first..first + number("POINTSMAN_SEEDS").unwrap_or(usual)
}

fn play_all(usual: u64, faults: &Faults, shards: u16) -> Counts {
    let mut all = Counts::default();
    for seed in seeds(usual) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let counts = runtime.block_on(play(seed, faults.clone(), shards));
        all.ownerships += counts.ownerships;
        all.trims += counts.trims;
        all.handovers += counts.handovers;
    }
    all
}

#[test]
fn with_a_sound_engine_nothing_is_lost_and_no_two_nodes_act() {
    let counts = play_all(15, &Faults::none(), 1);
    assert!(counts.ownerships > 30 && counts.trims > 10, "{counts:?}");
    assert!(
        counts.handovers < counts.ownerships / 4,
        "{counts:?}: one shard stays where it is"
    );
}

#[test]
fn in_a_rough_network_nothing_is_lost_and_no_two_nodes_act() {
    let counts = play_all(15, &Faults::rough(), 1);
    assert!(counts.ownerships > 15 && counts.trims > 0, "{counts:?}");
}

#[test]
fn shards_spread_over_the_nodes_and_nothing_is_lost_on_the_way() {
    let counts = play_all(3, &Faults::none(), 5);
    assert!(counts.handovers > 8, "{counts:?}");
}

#[test]
fn shards_spread_over_the_nodes_of_a_rough_network() {
    let counts = play_all(3, &Faults::rough(), 4);
    assert!(counts.handovers > 3, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_join_get_their_part_from_one_that_has_everything() {
    let mut random = StdRng::seed_from_u64(7);
    let world = World::new(7, Faults::none(), 5, false);
    let all_act = |nodes: &[usize]| {
        let acting = world.seen.iter().map(|seen| seen.lock().acting);
        acting
            .into_iter()
            .all(|node| node.is_some_and(|node| nodes.contains(&node)))
    };
    let mut join = |number| {
        let (way, disks) = (world.engine.node(), world.empty());
        start(&world, number, way, disks, &mut random)
    };
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        let holds = async {
            while !holds() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(CALM, holds).await.is_ok(), "{what}");
    };
    let first = join(0);
    until("the first owns everything", &|| all_act(&[0])).await;
    let others = [join(1), join(2)];
    until("all have their part", &|| is_spread(&world)).await;
    let before = world.counts.lock().handovers;
    assert_eq!(before, 3, "of five shards one node keeps two");
    sleep(CALM).await;
    assert_eq!(world.counts.lock().handovers, before, "then they stay");
    for process in others.into_iter().chain([first]) {
        process.task.abort();
    }
}
