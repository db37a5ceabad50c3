//! Sources that run where they are at home.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use pointsman_connectors::{
    Batch, OpenError, RunsOn, SourceContext, SourceError, SourceSettings, SourceState,
};
use pointsman_journal::JournalError;
use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use pointsman_schemas::{Cursor, Problem, SystemClock, Timestamp};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What a fake source does, and has done.
#[derive(Debug, Default)]
struct Log {
    opened: AtomicUsize,
    running: AtomicUsize,
    /// The most that ran at one time.
    most: AtomicUsize,
    /// Its end takes longer than anybody waits.
    is_slow: AtomicBool,
    /// It ends as soon as it is opened.
    ends: AtomicBool,
    /// It hands over a cursor once.
    cursor: Mutex<Option<Cursor>>,
}

impl Log {
    fn count(of: &AtomicUsize) -> usize {
        of.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Fake {
    runs_on: RunsOn,
    log: Arc<Log>,
}

#[async_trait]
impl SourceSettings for Fake {
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn always_cloudevents(&self) -> bool {
        true
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        self.runs_on
    }

    async fn probe(&self) -> Result<String, OpenError> {
        Ok(String::new())
    }

    async fn open(&self, _: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let log = Arc::clone(&self.log);
        log.opened.fetch_add(1, Ordering::Relaxed);
        let running = log.running.fetch_add(1, Ordering::Relaxed) + 1;
        log.most.fetch_max(running, Ordering::Relaxed);
        Ok(Box::new(Opened(log)))
    }
}

/// Runs until it is dropped.
struct Opened(Arc<Log>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Source for Opened {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if self.0.ends.load(Ordering::Relaxed) {
            return Err(SourceError::Ended);
        }
        loop {
            let cursor = self.0.cursor.lock().take();
            if cursor.is_some() {
                return Ok(Batch {
                    messages: Vec::new(),
                    cursor,
                });
            }
            tokio::time::sleep(MS).await;
        }
    }

    async fn finish(&mut self) -> Option<Batch> {
        if self.0.is_slow.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        None
    }
}

/// All sources are at home here, or none is.
#[derive(Debug, Default)]
struct AllOrNone(watch::Sender<u64>, AtomicBool);

impl AllOrNone {
    fn turn(&self, is_here: bool) {
        self.1.store(is_here, Ordering::Relaxed);
        self.0.send_modify(|moves| *moves += 1);
    }
}

impl Homes for AllOrNone {
    fn is_home(&self, _: &Name, _: &Name) -> bool {
        self.1.load(Ordering::Relaxed)
    }

    fn moves(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

struct Bench {
    journal: Arc<MemoryJournal>,
    homes: Arc<AllOrNone>,
    sources: Sources,
    log: Arc<Log>,
}

impl Bench {
    fn new(has_homes: bool) -> Self {
        let clock = Arc::new(RuntimeClock::new(Timestamp(1_700_000_000_000_000)));
        let journal = MemoryJournal::new(clock, MemoryOptions::default());
        let homes = Arc::<AllOrNone>::default();
        let pipes = Pipes::new(Arc::clone(&journal) as Arc<dyn Journal>, journal.clock());
        let sources = Sources::new(
            Arc::clone(&journal) as Arc<dyn Journal>,
            pipes,
            Arc::default(),
            Routes::default(),
            Arc::new(SystemClock),
            Metrics::new(&mut Registry::default(), Timestamp(0)),
        );
        let own = Arc::clone(&homes) as Arc<dyn Homes>;
        Self {
            journal,
            homes,
            sources: sources.at_home(has_homes.then_some(own)),
            log: Arc::default(),
        }
    }

    /// Makes this the one source there is.
    async fn reload(&self, fingerprint: u64, runs_on: RunsOn) {
        let source = config::Source {
            name: name(),
            tenant: Name::default_tenant(),
            kind: "fake",
            settings: Box::new(Fake {
                runs_on,
                log: Arc::clone(&self.log),
            }),
            mapping: None,
            deduplicate: None,
            retention: None,
            pipe: false,
            is_ordered: false,
            fingerprint,
        };
        self.sources.reload(vec![source]).await;
    }

    fn state(&self) -> SourceState {
        self.sources.each(|_, _, one| one.link.status().state)[0]
    }

    /// Waits until so many run and the source is shown like this, no longer than an hour.
    async fn until(&self, running: usize, state: SourceState) {
        for _ in 0..3_600_000 {
            if Log::count(&self.log.running) == running && self.state() == state {
                return;
            }
            tokio::time::sleep(MS).await;
        }
        panic!("{:?}, shown as {:?}", self.log, self.state());
    }
}

fn name() -> Name {
    Name::new("orders").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_tied_source_runs_whenever_its_home_is_here() {
    let bench = Bench::new(true);
    bench.reload(1, RunsOn::One).await;
    for opened in 1..=3 {
        bench.until(0, SourceState::Away).await;
        bench.homes.turn(false);
        tokio::time::sleep(MS * 100).await;
        assert_eq!(bench.state(), SourceState::Away);
        bench.homes.turn(true);
        bench.until(1, SourceState::Running).await;
        // Other shards come and go, too.
        bench.homes.turn(true);
        tokio::time::sleep(MS * 100).await;
        assert_eq!(Log::count(&bench.log.opened), opened);
        bench.homes.turn(false);
    }
    bench.until(0, SourceState::Away).await;
    bench.homes.turn(true);
    bench.until(1, SourceState::Running).await;
    bench.sources.stop().await;
    assert_eq!(Log::count(&bench.log.running), 0);
    assert_eq!(Log::count(&bench.log.most), 1);
}

#[tokio::test(start_paused = true)]
async fn others_run_wherever_they_are_wanted_and_so_do_all_of_one_node() {
    for (has_homes, runs_on) in [
        (true, RunsOn::Each),
        (true, RunsOn::EachUnlessOrdered),
        (false, RunsOn::One),
    ] {
        let bench = Bench::new(has_homes);
        bench.reload(1, runs_on).await;
        bench.until(1, SourceState::Running).await;
        bench.homes.turn(true);
        bench.homes.turn(false);
        tokio::time::sleep(RELOAD_GRACE * 2).await;
        assert_eq!(Log::count(&bench.log.running), 1, "{runs_on:?}");
        bench.sources.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_slow_to_stop_is_dropped_and_opened_again_only_after_that() {
    let bench = Bench::new(true);
    bench.homes.turn(true);
    bench.reload(1, RunsOn::One).await;
    bench.until(1, SourceState::Running).await;
    bench.log.is_slow.store(true, Ordering::Relaxed);
    let left = Instant::now();
    bench.homes.turn(false);
    tokio::time::sleep(RELOAD_GRACE / 2).await;
    assert_eq!(Log::count(&bench.log.running), 1, "it has its time");
    bench.homes.turn(true);
    while Log::count(&bench.log.opened) == 1 {
        tokio::time::sleep(MS).await;
    }
    let took = left.elapsed();
    assert!(
        (RELOAD_GRACE..RELOAD_GRACE * 2).contains(&took),
        "opened again after {took:?}"
    );
    bench.until(1, SourceState::Running).await;
    assert_eq!(Log::count(&bench.log.most), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_meanwhile_changes_what_runs_and_never_runs_it_twice() {
    let bench = Bench::new(true);
    bench.reload(1, RunsOn::One).await;
    bench.until(0, SourceState::Away).await;
    // Away: the new one waits for its home as the old one did.
    bench.reload(2, RunsOn::One).await;
    bench.until(0, SourceState::Away).await;
    bench.homes.turn(true);
    bench.until(1, SourceState::Running).await;
    bench.reload(2, RunsOn::One).await;
    assert_eq!(Log::count(&bench.log.opened), 1, "nothing has changed");
    // While it is being stopped.
    bench.log.is_slow.store(true, Ordering::Relaxed);
    bench.homes.turn(false);
    tokio::time::sleep(MS).await;
    bench.homes.turn(true);
    bench.reload(3, RunsOn::One).await;
    bench.until(1, SourceState::Running).await;
    bench.log.is_slow.store(false, Ordering::Relaxed);
    // A rule that needs no order any more.
    bench.homes.turn(false);
    bench.until(0, SourceState::Away).await;
    bench.reload(3, RunsOn::Each).await;
    bench.until(1, SourceState::Running).await;
    assert_eq!(Log::count(&bench.log.most), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_ended_by_itself_is_opened_again_when_its_home_comes_back() {
    let bench = Bench::new(true);
    bench.homes.turn(true);
    bench.log.ends.store(true, Ordering::Relaxed);
    bench.reload(1, RunsOn::One).await;
    bench.until(0, SourceState::Stopped).await;
    bench.homes.turn(true);
    tokio::time::sleep(RELOAD_GRACE).await;
    assert_eq!(Log::count(&bench.log.opened), 1);
    bench.homes.turn(false);
    bench.until(0, SourceState::Away).await;
    bench.log.ends.store(false, Ordering::Relaxed);
    bench.homes.turn(true);
    bench.until(1, SourceState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn how_far_it_was_read_is_not_stored_once_its_home_is_elsewhere() {
    let cursor = Cursor {
        fingerprint: 1,
        position: bytes::Bytes::from_static(b"1"),
    };
    for is_home in [true, false] {
        let bench = Bench::new(true);
        bench.homes.turn(true);
        bench.reload(1, RunsOn::One).await;
        bench.until(1, SourceState::Running).await;
        let away = JournalError::Away("on its way".to_owned());
        bench.journal.set_trouble(Some(away));
        *bench.log.cursor.lock() = Some(cursor.clone());
        while bench.log.cursor.lock().is_some() {
            tokio::time::sleep(MS).await;
        }
        tokio::time::sleep(MS).await;
        bench.homes.turn(is_home);
        tokio::time::sleep(MS).await;
        bench.journal.set_trouble(None);
        tokio::time::sleep(RELOAD_GRACE * 2).await;
        let (tenant, name) = (Name::default_tenant(), name());
        let stored = bench.journal.cursor(&tenant, &name).await.unwrap();
        assert_eq!(stored, is_home.then(|| cursor.clone()));
    }
}
