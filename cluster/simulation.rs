//! Several nodes over the simulated log, on paused time, with everything that goes wrong decided by
//! a seed: nothing acknowledged is lost, no two nodes act at once, and all stores come to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use pointsman_journal::disk::{ApplyError, Commit, OpenError, Refused};
use pointsman_log::simulated::{Engine, Faults, Node as Way};
use pointsman_log::{Cluster, Log};
use pointsman_schemas::Name;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::heart::Heart;
use crate::{Identity, Node, Ownership, Store, Taken};

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

/// What is seen from outside.
#[derive(Debug, Default)]
struct Seen {
    acting: BTreeSet<usize>,
    acknowledged: BTreeMap<u64, u64>,
    /// Keys that somebody has tried to delete.
    doomed: BTreeSet<u64>,
    ownerships: u64,
    trims: u64,
}

struct World {
    seen: Mutex<Seen>,
    engine: Arc<Engine>,
    cluster: Cluster,
}

/// Acts for as long as it is there.
struct Acting<'a>(&'a World, usize);

impl<'a> Acting<'a> {
    fn begin(world: &'a World, node: usize) -> Self {
        let mut seen = world.seen.lock();
        assert!(
            seen.acting.is_empty(),
            "{node} acts while {:?} does",
            seen.acting
        );
        seen.acting.insert(node);
        seen.ownerships += 1;
        Self(world, node)
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        self.0.seen.lock().acting.remove(&self.1);
    }
}

/// The life of one process.
async fn live(
    world: Arc<World>,
    way: Way,
    number: usize,
    disk: Arc<Mutex<Disk>>,
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
    let node = Node::join(log, identity);
    *heart.lock() = Some(Arc::clone(&node.heart));
    loop {
        let taken = node.stand_by(Memory(Arc::clone(&disk))).await.unwrap();
        let Taken { ownership, .. } = taken;
        let acting = Acting::begin(&world, number);
        let is_done = tokio::select! {
            biased;
            () = ownership.ended() => false,
            is_done = own(&world, &ownership, &disk, &mut random) => is_done,
        };
        drop(acting);
        if is_done {
            ownership.release().await;
        }
    }
}

/// What an owner does; true where it gives the ownership up by itself.
async fn own(
    world: &World,
    ownership: &Ownership,
    disk: &Mutex<Disk>,
    random: &mut StdRng,
) -> bool {
    if !ownership.has_walked().await && !walk(world, ownership, disk, random).await {
        return false;
    }
    for _ in 0..random.random_range(50..500) {
        sleep(Duration::from_millis(random.random_range(1..200))).await;
        let puts = (0..random.random_range(1..4)).map(|_| (random.random(), Some(random.random())));
        let mut puts: Vec<_> = puts.collect();
        if random.random_bool(0.2)
            && let Some(key) = disk.lock().rows.keys().next().copied()
        {
            world.seen.lock().doomed.insert(key);
            puts.push((key, None));
        }
        if !commit(ownership, disk, commit_of(changes(&puts))).await {
            continue;
        }
        let acknowledged = puts
            .iter()
            .filter_map(|(key, value)| Some((*key, (*value)?)));
        world.seen.lock().acknowledged.extend(acknowledged);
        if random.random_bool(0.02) {
            if !walk(world, ownership, disk, random).await {
                continue;
            }
            if ownership.trim().await.is_ok() {
                world.seen.lock().trims += 1;
            }
        }
    }
    true
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
            world
                .seen
                .lock()
                .acknowledged
                .extend([(put.0, put.1.unwrap())]);
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
    disk: Arc<Mutex<Disk>>,
    heart: Arc<Mutex<Option<Arc<Heart>>>>,
    task: JoinHandle<()>,
}

async fn play(seed: u64, faults: Faults) -> Seen {
    let mut random = StdRng::seed_from_u64(seed);
    let world = Arc::new(World {
        seen: Mutex::default(),
        engine: Engine::new(seed, faults),
        cluster: Cluster::new(Name::new("c").unwrap(), 1).unwrap(),
    });
    let start = |number: usize, way: Way, disk: Arc<Mutex<Disk>>, random: &mut StdRng| {
        let random = StdRng::seed_from_u64(random.random());
        let heart = Arc::default();
        let life = live(
            Arc::clone(&world),
            way.clone(),
            number,
            Arc::clone(&disk),
            Arc::clone(&heart),
            random,
        );
        Process {
            way,
            disk,
            heart,
            task: tokio::spawn(life),
        }
    };
    let mut processes: Vec<_> = (0..NODES)
        .map(|number| start(number, world.engine.node(), Arc::default(), &mut random))
        .collect();
    let end = Instant::now() + ROUGH;
    while Instant::now() < end {
        sleep(Duration::from_millis(random.random_range(100..20_000))).await;
        let number = random.random_range(0..NODES);
        match random.random_range(0..13) {
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
                    way, disk, task, ..
                } = &processes[number];
                task.abort();
                // What a process had in its hands is gone before another has its lock.
                while !task.is_finished() {
                    tokio::task::yield_now().await;
                }
                let others_are_whole = (0..NODES)
                    .filter(|other| *other != number)
                    .all(|other| processes[other].disk.lock().mark.is_some());
                if random.random_bool(0.3) && others_are_whole {
                    *disk.lock() = Disk::default();
                }
                processes[number] = start(number, way.clone(), Arc::clone(disk), &mut random);
            }
            8 => world.engine.crash(),
            // It claims what another one owns and works with.
            9..=11 => {
                if let Some(heart) = &*processes[number].heart.lock() {
                    heart.is_hasty.store(true, Ordering::Relaxed);
                }
            }
            _ => world
                .engine
                .stall(Duration::from_millis(random.random_range(10..8_000))),
        }
    }
    for process in &processes {
        process.way.cut(false);
    }
    settle(&world, &processes, seed, &mut random).await;
    for process in &processes {
        process.task.abort();
    }
    std::mem::take(&mut *world.seen.lock())
}

/// Everything comes right: somebody owns the log, and all stores come to the same, with all that
/// was acknowledged.
async fn settle(world: &World, processes: &[Process], seed: u64, random: &mut StdRng) {
    let before = world.seen.lock().acknowledged.len();
    let settled = async {
        loop {
            sleep(Duration::from_millis(random.random_range(1..500))).await;
            let disks: Vec<_> = processes
                .iter()
                .map(|process| process.disk.lock())
                .collect();
            let seen = world.seen.lock();
            if seen.acknowledged.len() > before
                && disks.windows(2).all(|two| two[0].rows == two[1].rows)
            {
                for (key, value) in &seen.acknowledged {
                    let found = disks[0].rows.get(key);
                    let is_kept = found == Some(value) || seen.doomed.contains(key);
                    assert!(is_kept, "seed {seed}: {key} is lost");
                }
                return;
            }
        }
    };
    let settled = timeout(CALM, settled).await;
    settled.unwrap_or_else(|_| {
        let marks: Vec<_> = processes
            .iter()
            .map(|process| process.disk.lock().mark.clone())
            .collect();
        panic!(
            "seed {seed}: nothing comes right: {:?}, {marks:?}",
            world.seen.lock().acting
        )
    });
}

/// So many seeds; more where `POINTSMAN_SEEDS` says so, from `POINTSMAN_SEED` on.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("POINTSMAN_SEED").unwrap_or(0);
    first..first + number("POINTSMAN_SEEDS").unwrap_or(usual)
}

fn play_all(usual: u64, faults: &Faults) -> (u64, u64) {
    let (mut ownerships, mut trims) = (0, 0);
    for seed in seeds(usual) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let seen = runtime.block_on(play(seed, faults.clone()));
        ownerships += seen.ownerships;
        trims += seen.trims;
    }
    (ownerships, trims)
}

#[test]
fn with_a_sound_engine_nothing_is_lost_and_no_two_nodes_act() {
    let (ownerships, trims) = play_all(15, &Faults::none());
    assert!(ownerships > 30 && trims > 10, "{ownerships}, {trims}");
}

#[test]
fn in_a_rough_network_nothing_is_lost_and_no_two_nodes_act() {
    let (ownerships, trims) = play_all(15, &Faults::rough());
    assert!(ownerships > 15 && trims > 0, "{ownerships}, {trims}");
}
