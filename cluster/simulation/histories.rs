//! Histories of several processes, each decided by its seed, and what must have come of them.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_log::simulated::{Engine, Faults, Node as Way};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Counts, Disk, Disks, Seen, Ways, World, live};
use crate::heart::{Heart, Role, ShardPulse};

const NODES: usize = 3;
/// How long things go wrong, and how long they may take to come right.
const ROUGH: Duration = Duration::from_secs(300);
const CALM: Duration = Duration::from_secs(600);

struct Process {
    ways: Ways,
    disks: Disks,
    heart: Arc<Mutex<Option<Arc<Heart>>>>,
    task: JoinHandle<()>,
}

fn start(
    world: &Arc<World>,
    number: usize,
    ways: Ways,
    disks: Disks,
    random: &mut StdRng,
) -> Process {
    start_with(world, (number, 1), ways, disks, random)
}

/// The same, of a program with this format.
fn start_with(
    world: &Arc<World>,
    program: (usize, u16),
    ways: Ways,
    disks: Disks,
    random: &mut StdRng,
) -> Process {
    let random = StdRng::seed_from_u64(random.random());
    let heart = Arc::default();
    let life = live(
        Arc::clone(world),
        ways.clone(),
        program,
        disks.clone(),
        Arc::clone(&heart),
        random,
    );
    Process {
        ways,
        disks,
        heart,
        task: tokio::spawn(life),
    }
}

/// Returns beside what happened what tells this history from any other.
async fn play(seed: u64, faults: Faults, shards: u16, engines: u64) -> (Counts, u64) {
    let began = Instant::now();
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::over(engines, seed, faults, shards, true);
    let mut processes: Vec<_> = (0..NODES)
        .map(|number| start(&world, number, world.ways(), world.empty(), &mut random))
        .collect();
    let end = Instant::now() + ROUGH;
    while Instant::now() < end {
        sleep(Duration::from_millis(random.random_range(100..20_000))).await;
        let number = random.random_range(0..NODES);
        match random.random_range(0..15) {
            0..=3 => cut_some(&world, &processes, number, &mut random),
            4..=7 => {
                let Process {
                    ways, disks, task, ..
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
                processes[number] = start(&world, number, ways.clone(), disks.clone(), &mut random);
            }
            8 => any_engine(&world, &mut random).crash(),
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
            _ => {
                let stall = Duration::from_millis(random.random_range(10..8_000));
                any_engine(&world, &mut random).stall(stall);
            }
        }
    }
    world.is_restless.store(false, Ordering::Relaxed);
    for process in &processes {
        process.ways.cut(false);
        if let Some(heart) = &*process.heart.lock() {
            heart.is_draining.store(false, Ordering::Relaxed);
        }
    }
    settle(&world, &processes, seed, &mut random).await;
    for process in &processes {
        process.task.abort();
    }
    let mut trace = DefaultHasher::new();
    began.elapsed().hash(&mut trace);
    for seen in &world.seen {
        seen.lock().acknowledged.hash(&mut trace);
    }
    (*world.counts.lock(), trace.finish())
}

/// Cuts a node off from the engine for a time; where there are several, from all or one of them, or
/// all nodes from one.
fn cut_some(world: &World, processes: &[Process], number: usize, random: &mut StdRng) {
    let engine = any(world.engines.len(), random);
    // Of one engine there is one way to do it.
    let ways: Vec<Way> = match any(world.engines.len().min(2) * 2 - 1, random) {
        0 => processes[number].ways.0.clone(),
        1 => vec![processes[number].ways.0[engine].clone()],
        _ => {
            let ways = processes.iter().map(|one| one.ways.0[engine].clone());
            ways.collect()
        }
    };
    let healed = Duration::from_millis(random.random_range(100..30_000));
    ways.iter().for_each(|way| way.cut(true));
    tokio::spawn(async move {
        sleep(healed).await;
        ways.iter().for_each(|way| way.cut(false));
    });
}

fn any_engine<'a>(world: &'a World, random: &mut StdRng) -> &'a Engine {
    &world.engines[any(world.engines.len(), random)]
}

/// One of so many. Of one nothing is drawn.
fn any(of: usize, random: &mut StdRng) -> usize {
    match of {
        1 => 0,
        _ => random.random_range(0..of),
    }
}

/// What each process says that it does.
fn roles(processes: &[Process]) -> Vec<Option<Vec<ShardPulse>>> {
    let role = |process: &Process| process.heart.lock().as_ref().map(|heart| heart.shards());
    processes.iter().map(role).collect()
}

/// Everything comes right: somebody owns each shard and one other node follows it, their stores come
/// to the same with all that was acknowledged, and no node owns two shards more than another.
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
        panic!(
            "seed {seed}: nothing comes right: {acting:?}, {:?}",
            roles(processes)
        );
    }
}

/// Whether the stores of a shard's owner and of its spare have come to the same, with more than
/// there was.
fn is_settled(
    world: &World,
    processes: &[Process],
    shard: usize,
    before: usize,
    seed: u64,
) -> bool {
    let role = |process: &Process| {
        let heart = process.heart.lock();
        heart.as_ref().map(|heart| heart.shards()[shard].role)
    };
    let in_role = |wanted| {
        let mut found = processes
            .iter()
            .filter(move |one| role(one) == Some(wanted));
        let found = (found.next(), found.next());
        match found {
            (Some(only), None) => Some(only.disks[shard].lock()),
            _ => None,
        }
    };
    let (Some(owner), Some(spare)) = (in_role(Role::Owner), in_role(Role::Spare)) else {
        return false;
    };
    let disks = [owner, spare];
    let seen = world.seen[shard].lock();
    if seen.acknowledged.len() <= before || disks[0].rows != disks[1].rows {
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
    play_over(1, usual, faults, shards)
}

fn play_over(engines: u64, usual: u64, faults: &Faults, shards: u16) -> Counts {
    let mut all = Counts::default();
    for seed in seeds(usual) {
        let (counts, _) = played(seed, faults, shards, engines);
        all.ownerships += counts.ownerships;
        all.trims += counts.trims;
        all.handovers += counts.handovers;
    }
    all
}

fn played(seed: u64, faults: &Faults, shards: u16, engines: u64) -> (Counts, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play(seed, faults.clone(), shards, engines))
}

#[test]
fn a_history_is_decided_by_its_seed() {
    let [one, same, other] = [1, 1, 2].map(|seed| played(seed, &Faults::rough(), 2, 1));
    assert_eq!(one, same);
    assert_ne!(one, other);
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

#[test]
fn over_two_engines_nothing_is_lost_and_no_two_nodes_act() {
    let counts = play_over(2, 4, &Faults::none(), 3);
    assert!(counts.ownerships > 30 && counts.handovers > 4, "{counts:?}");
}

#[test]
fn over_two_engines_in_a_rough_network_nothing_is_lost_and_no_two_nodes_act() {
    let counts = play_over(2, 8, &Faults::rough(), 3);
    assert!(counts.ownerships > 20 && counts.trims > 0, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_misses_one_of_two_engines_stops_and_what_he_owned_moves() {
    let mut random = StdRng::seed_from_u64(9);
    let world = World::over(2, 9, Faults::none(), 6, false);
    let processes: Vec<_> = (0..NODES)
        .map(|number| start(&world, number, world.ways(), world.empty(), &mut random))
        .collect();
    let acting = || -> Vec<_> { world.seen.iter().map(|seen| seen.lock().acting).collect() };
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        let holds = async {
            while !holds() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(CALM, holds).await.is_ok(), "{what}: {:?}", acting());
    };
    until("all have their part", &|| is_spread(&world)).await;
    sleep(CALM / 10).await;
    let before = acting();
    // A short absence moves nothing.
    processes[0].ways.0[1].cut(true);
    sleep(Duration::from_secs(5)).await;
    processes[0].ways.0[1].cut(false);
    sleep(CALM / 10).await;
    assert_eq!(acting(), before);
    // With a longer one of the others own also what lies in the engine that it can reach.
    processes[0].ways.0[1].cut(true);
    let have_moved = || {
        acting()
            .iter()
            .all(|node| node.is_some_and(|node| node != 0))
    };
    let cut_at = Instant::now();
    until("others own it all", &have_moved).await;
    let took = cut_at.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    sleep(CALM / 10).await;
    assert!(have_moved(), "{:?}", acting());
    processes[0].ways.0[1].cut(false);
    until("it has its part again", &|| is_spread(&world)).await;
    // Where nobody can reach one engine nobody acts, and nobody takes over.
    let cut_all = |cut| processes.iter().for_each(|one| one.ways.0[0].cut(cut));
    cut_all(true);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(acting(), [None; 6]);
    sleep(CALM / 10).await;
    assert_eq!(acting(), [None; 6]);
    cut_all(false);
    let healed = Instant::now();
    until("all goes on", &|| acting().iter().all(Option::is_some)).await;
    let took = healed.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    settle(&world, &processes, 9, &mut random).await;
    for process in &processes {
        process.task.abort();
    }
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
        let (ways, disks) = (world.ways(), world.empty());
        start(&world, number, ways, disks, &mut random)
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

#[tokio::test(start_paused = true)]
async fn a_node_that_rests_takes_over_where_the_owner_and_its_spare_are_gone() {
    let mut random = StdRng::seed_from_u64(8);
    let world = World::new(8, Faults::none(), 1, false);
    let processes: Vec<_> = (0..NODES)
        .map(|number| {
            let (ways, disks) = (world.ways(), world.empty());
            start(&world, number, ways, disks, &mut random)
        })
        .collect();
    let in_role = |wanted| {
        let mut numbers = (0..NODES).filter(|number| {
            let heart = processes[*number].heart.lock();
            let role = heart.as_ref().map(|heart| heart.shards()[0].role);
            role == Some(wanted)
        });
        numbers.next()
    };
    let idle = timeout(CALM, async {
        loop {
            sleep(Duration::from_millis(50)).await;
            if let (Some(_), Some(_), Some(idle)) = (
                in_role(Role::Owner),
                in_role(Role::Spare),
                in_role(Role::Idle),
            ) {
                return idle;
            }
        }
    });
    let idle = idle.await.expect("one owns, one follows, one rests");
    sleep(Duration::from_secs(60)).await;
    let kept = |number: usize| processes[number].disks[0].lock().rows.len();
    let owner = in_role(Role::Owner).unwrap();
    assert!(kept(idle) < kept(owner), "it does not follow");
    for number in (0..NODES).filter(|number| *number != idle) {
        processes[number].task.abort();
    }
    let before = world.seen[0].lock().acknowledged.clone();
    let taken = async {
        while world.seen[0].lock().acting != Some(idle) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(CALM, taken).await.expect("it takes over");
    let rows = processes[idle].disks[0].lock().rows.clone();
    let doomed = world.seen[0].lock().doomed.clone();
    for (key, value) in &before {
        assert!(rows.get(key) == Some(value) || doomed.contains(key));
    }
    processes[idle].task.abort();
}

/// Nodes are replaced one after the other by those of a later version, each as soon as every shard
/// has an owner and a spare again. What they write the others must be able to read.
async fn replace_all(seed: u64) {
    const SHARDS: u16 = 4;
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new(seed, Faults::none(), SHARDS, false);
    let mut processes: Vec<_> = (0..NODES)
        .map(|number| {
            let (ways, disks) = (world.ways(), world.empty());
            start_with(&world, (number, 1), ways, disks, &mut random)
        })
        .collect();
    let whole = async |processes: &[Process], random: &mut StdRng| {
        let mut open: BTreeSet<_> = (0..usize::from(SHARDS)).collect();
        let settled = async {
            while !open.is_empty() {
                sleep(Duration::from_millis(random.random_range(1..500))).await;
                open.retain(|shard| !is_settled(&world, processes, *shard, 0, seed));
            }
        };
        let is_whole = timeout(CALM, settled).await.is_ok();
        for (number, process) in processes.iter().enumerate() {
            assert!(!process.task.is_finished(), "seed {seed}: {number} ended");
        }
        let roles = roles(processes);
        assert!(
            is_whole,
            "seed {seed}: a shard has no owner, or no spare: {roles:?}"
        );
    };
    whole(&processes, &mut random).await;
    for number in 0..NODES {
        processes[number].task.abort();
        while !processes[number].task.is_finished() {
            tokio::task::yield_now().await;
        }
        sleep(Duration::from_millis(random.random_range(0..20_000))).await;
        let Process { ways, disks, .. } = &processes[number];
        let (ways, disks) = (ways.clone(), disks.clone());
        processes[number] = start_with(&world, (number, 2), ways, disks, &mut random);
        sleep(Duration::from_millis(random.random_range(0..60_000))).await;
        whole(&processes, &mut random).await;
    }
    // In the end all of them have their part.
    let spread = async {
        while !is_spread(&world) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(CALM, spread).await.is_ok(), "seed {seed}");
    for process in &processes {
        process.task.abort();
    }
}

#[test]
fn nodes_are_replaced_by_those_of_a_later_version_and_all_read_what_is_written() {
    for seed in seeds(5) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(replace_all(seed));
    }
}
