//! What was acknowledged is delivered, whatever happens to the process in between.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pointsman_integration_tests::power::Power;
use pointsman_integration_tests::{Bus, Caller, Sink, until};
use rand::RngExt;
use tokio::task::JoinSet;

const CALLERS: usize = 8;

fn rules(sink: &Sink) -> String {
    format!(
        "targets:\n  function:\n    http: {{ url: \"{}\" }}\n    delivery: {{ retry: {{ backoff: {{ initial: 10ms, max: 100ms }} }} }}\nrules:\n  all:\n    to: function\n",
        sink.url()
    )
}

/// Callers that send events as fast as they are answered until told to stop, and report the ids
/// that were answered 202.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<String>>,
}

impl Load {
    fn start(url: &str, next: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (url, next, stop) = (url.to_owned(), Arc::clone(next), Arc::clone(&stop));
            callers.spawn(async move {
                let caller = Caller::new();
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = next.fetch_add(1, Ordering::Relaxed).to_string();
                    if matches!(caller.event(&url, &id, "test.event", "{}").await, Ok(202)) {
                        acknowledged.push(id);
                    } else {
                        tokio::task::yield_now().await;
                    }
                }
                acknowledged
            });
        }
        Self { stop, callers }
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.concat()
    }
}

async fn missing(acknowledged: &BTreeSet<String>, sink: &Sink) -> Vec<String> {
    let ids = sink.ids();
    acknowledged
        .iter()
        .filter(|id| !ids.contains_key(*id))
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_under_load_lose_nothing_that_was_acknowledged() {
    let sink = Sink::start().await;
    let mut bus = Bus::start(&rules(&sink)).await;
    let next = Arc::new(AtomicU64::new(0));
    let mut acknowledged = BTreeSet::new();
    for _ in 0..100 {
        let load = Load::start(&bus.url("/events"), &next);
        // When in its work the process is hit is left to chance: that is the point.
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(1..60))).await;
        bus.kill();
        acknowledged.extend(load.stop().await);
        bus.spawn();
        bus.ready().await;
    }
    // On a slow disk a round brings a few events only.
    assert!(
        acknowledged.len() > 100,
        "only {} events were acknowledged: the load was no load",
        acknowledged.len()
    );
    until("every acknowledged event has arrived", async || {
        missing(&acknowledged, &sink).await.is_empty()
    })
    .await;

    // Twice at most what was in flight at each kill: no more than the dispatcher leases at once.
    let again: usize = sink.ids().values().map(|times| times - 1).sum();
    println!(
        "{} acknowledged, {again} delivered again over 100 kills",
        acknowledged.len()
    );
    until("the journal agrees", async || {
        bus.counts("all").await["pending"] == 0
    })
    .await;
    let counts = bus.counts("all").await;
    let number = |name: &str| counts[name].as_u64().unwrap();
    assert_eq!(
        number("created"),
        number("delivered")
            + number("dead")
            + number("redriven")
            + number("purged")
            + number("cancelled")
            + number("quarantined")
    );
    assert_eq!(number("dead"), 0);
}

/// Cuts the power `cuts` times under load and tells which acknowledged events never arrive.
async fn lost_in_power_cuts(cuts: usize, syncs: bool) -> usize {
    // Nothing is delivered before the last cut: what arrives comes from the disk.
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let sink = Sink::answering(move |_| {
        pointsman_integration_tests::Answer::status(if gate.load(Ordering::Relaxed) {
            204
        } else {
            503
        })
    })
    .await;
    let mut bus = Bus::prepare(&rules(&sink));
    std::fs::create_dir(bus.path("store")).unwrap();
    let power = Power::over(&bus.path("store"));
    bus.set_environment(power.environment(syncs));
    bus.spawn();
    bus.ready().await;
    let next = Arc::new(AtomicU64::new(0));
    let mut acknowledged = BTreeSet::new();
    let mut forgotten = 0;
    for _ in 0..cuts {
        let load = Load::start(&bus.url("/events"), &next);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(20..120))).await;
        bus.kill();
        acknowledged.extend(load.stop().await);
        forgotten += power.cut();
        bus.spawn();
        if syncs {
            bus.ready().await;
        } else if bus.try_ready().await.is_err() {
            // A store that cannot even be opened any more has lost everything.
            return acknowledged.len();
        }
    }
    assert!(
        !acknowledged.is_empty(),
        "nothing was acknowledged: the load was no load"
    );
    assert!(forgotten > 0, "no power cut hit an unsynced write");
    open.store(true, Ordering::Relaxed);
    if syncs {
        until("every acknowledged event has arrived", async || {
            missing(&acknowledged, &sink).await.is_empty()
        })
        .await;
    } else {
        until("what is left has arrived", async || {
            bus.counts("all").await["pending"] == 0
        })
        .await;
    }
    missing(&acknowledged, &sink).await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_lose_nothing_that_was_acknowledged() {
    assert_eq!(lost_in_power_cuts(20, true).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_cut_test_can_fail_where_nothing_is_synced() {
    assert!(
        lost_in_power_cuts(3, false).await > 0,
        "a disk without syncs lost nothing: the test proves nothing"
    );
}

/// Sends events of 2 KiB until told to stop or refused so many times in a row, and tells which were
/// acknowledged.
async fn send_large(bus: &Bus, from: usize, count: usize) -> (BTreeSet<String>, bool) {
    let (caller, data) = (Caller::new(), format!("\"{}\"", "x".repeat(2_000)));
    let mut acknowledged = BTreeSet::new();
    for id in from..from + count {
        match caller
            .event(
                &bus.url("/events"),
                &id.to_string(),
                "test.event",
                data.clone(),
            )
            .await
        {
            Ok(202) => {
                acknowledged.insert(id.to_string());
            }
            Ok(503) => return (acknowledged, true),
            _ => {}
        }
    }
    (acknowledged, false)
}

/// A function that is down until the gate opens.
async fn gated() -> (Sink, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let answer = move |_: &pointsman_integration_tests::sink::Received| {
        pointsman_integration_tests::Answer::status(if gate.load(Ordering::Relaxed) {
            204
        } else {
            503
        })
    };
    (Sink::answering(answer).await, open)
}

fn adds_up(counts: &serde_json::Value) -> bool {
    let number = |name: &str| counts[name].as_u64().unwrap();
    let parts = [
        "delivered",
        "dead",
        "redriven",
        "purged",
        "cancelled",
        "quarantined",
        "pending",
    ];
    number("created") == parts.iter().map(|part| number(part)).sum::<u64>()
}

/// How long reads fail.
const READS_FAIL_FOR: Duration = Duration::from_secs(4);

async fn reads_fail_for_a_while(per_mille: u32) {
    let (sink, open) = gated().await;
    let mut bus = Bus::prepare(&rules(&sink));
    std::fs::create_dir(bus.path("store")).unwrap();
    let power = Power::over(&bus.path("store"));
    bus.set_environment(power.environment(true));
    bus.spawn();
    bus.ready().await;
    let (acknowledged, _) = send_large(&bus, 0, 2_000).await;
    assert_eq!(acknowledged.len(), 2_000);
    bus.kill();
    // What is to be delivered must be read from a disk that fails now and then, at the start as
    // well.
    power.fail_reads(per_mille);
    open.store(true, Ordering::Relaxed);
    bus.spawn();
    let end = tokio::time::Instant::now() + READS_FAIL_FOR;
    while tokio::time::Instant::now() < end {
        match tokio::time::timeout_at(end, bus.try_ready()).await {
            // It said why and ended; a service manager starts it again.
            Ok(Err(_)) => bus.spawn(),
            Ok(Ok(())) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => {}
        }
    }
    power.fail_reads(0);
    if bus.try_ready().await.is_err() {
        bus.spawn();
        bus.ready().await;
    }
    until("every acknowledged event has arrived", async || {
        missing(&acknowledged, &sink).await.is_empty()
    })
    .await;
    until("nothing is pending", async || {
        bus.counts("all").await["pending"] == 0
    })
    .await;
    let counts = bus.counts("all").await;
    assert!(
        adds_up(&counts) && counts["quarantined"] == 0 && counts["dead"] == 0,
        "{counts}"
    );
    let aside = std::fs::read_dir(bus.path("store"))
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().contains("damaged"));
    assert!(aside.is_none(), "nothing was damaged:\n{}", bus.log());
    println!(
        "{per_mille} of 1000 reads failed: {} lines tell of it",
        bus.log().matches("I/O error").count()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_fail_for_a_while_are_taken_for_no_damage() {
    let rounds = if std::env::var_os("POINTSMAN_LONG").is_some() {
        10
    } else {
        1
    };
    for _ in 0..rounds {
        for per_mille in [20, 80, 300] {
            reads_fail_for_a_while(per_mille).await;
        }
    }
}

/// A file system of its own in memory, of so many MiB; gone when this is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this user may not mount one.
    fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(folder)),
            other => {
                eprintln!("NOT TESTED: a file system of its own cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes what room is left with a file that belongs to somebody else.
    fn fill(&self) {
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("foreign"))
            .unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}

/// Sends events of 2 KB from several callers, until each is told that there is no room.
async fn send_until_refused(bus: &Bus) -> BTreeSet<String> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (url, next) = (bus.url("/events"), Arc::clone(&next));
        callers.spawn(async move {
            let (caller, data, mut acknowledged) = (
                Caller::new(),
                format!("\"{}\"", "x".repeat(2_000)),
                Vec::new(),
            );
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed).to_string();
                match caller.event(&url, &id, "test.event", data.clone()).await {
                    Ok(202) => acknowledged.push(id),
                    other => {
                        assert!(matches!(other, Ok(503)), "{other:?}");
                        return acknowledged;
                    }
                }
            }
        });
    }
    callers.join_all().await.concat().into_iter().collect()
}

async fn drains_itself(end: impl AsyncFnOnce(&mut Bus)) {
    let Some(disk) = SmallDisk::mount(12) else {
        return;
    };
    let (sink, open) = gated().await;
    let mut bus = Bus::start(&format!(
        "store: {{ path: {:?} }}\n{}",
        disk.path().join("store"),
        rules(&sink)
    ))
    .await;
    let acknowledged = send_until_refused(&bus).await;
    assert!(
        acknowledged.len() > 500,
        "only {} events fit",
        acknowledged.len()
    );
    end(&mut bus).await;
    disk.fill();
    bus.spawn();
    let caller = Caller::new();
    until("the bus answers", async || {
        caller
            .get(&bus.admin_url("/healthz"))
            .await
            .is_ok_and(|(status, _)| status == 200)
    })
    .await;
    open.store(true, Ordering::Relaxed);
    until("every acknowledged event has arrived", async || {
        missing(&acknowledged, &sink).await.is_empty()
    })
    .await;
    until("nothing is pending", async || {
        bus.counts("all").await["pending"] == 0
    })
    .await;
    let mut id = 1_000_000;
    until("events are taken in again", async || {
        id += 1;
        caller
            .event(&bus.url("/events"), &id.to_string(), "test.event", "{}")
            .await
            .is_ok_and(|status| status == 202)
    })
    .await;
    until("what is new arrives", async || {
        sink.ids().contains_key(&id.to_string())
    })
    .await;
    let counts = bus.counts("all").await;
    assert!(
        adds_up(&counts) && counts["dead"] == 0 && counts["quarantined"] == 0,
        "{counts}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_drains_itself_also_from_a_start() {
    drains_itself(async |bus: &mut Bus| bus.kill()).await;
    drains_itself(async |bus: &mut Bus| assert!(bus.terminate().await.success())).await;
}
