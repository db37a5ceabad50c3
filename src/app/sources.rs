//! Keeps each source running: opens it, serves it by an intake, and opens it again after a backoff
//! when it ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_connectors::listener::Routes;
use pointsman_connectors::{
    Alarms, Guarantee, Link, Source, SourceContext, SourceError, SourceSettings, StoredPositions,
};
use pointsman_schemas::{Backoff, Clock, Name, PositionRow, backoff::spread};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::wiring;
use crate::config;
use crate::intake::{Intake, MessageReader};
use crate::pipes::{PipeIntake, Pipes};
use crate::router::{Matcher, Router};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::SourceMetrics;
use pointsman_journal::Journal;

/// First and longest pause before a source is opened again, of which at least half is waited:
/// sources that broke together come back one by one. The longest keeps the promise to be back
/// within 30 seconds of the outside system.
const REOPEN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));

/// How long the bus waits for its sources to open before it takes requests. What is slower goes on
/// opening meanwhile.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// A source that served this long starts over with the shortest pause.
const SERVED_WELL: Duration = Duration::from_secs(60);

/// How long a reload waits for attempts under way of a pipe whose source has changed; their
/// deliveries come again after it.
const RELOAD_GRACE: Duration = Duration::from_secs(5);

/// A source at work.
pub struct RunningSource {
    pub kind: &'static str,
    /// How safe its messages are before they are stored.
    pub guarantee: Guarantee,
    /// What it tells of its connection.
    pub link: Link,
    /// What it has brought.
    pub metrics: SourceMetrics,
    fingerprint: u64,
    stop: CancellationToken,
    /// Ends the wait for a pipe's attempts under way.
    abandon: CancellationToken,
    task: JoinHandle<()>,
}

/// All sources at work, by tenant and name.
pub struct Sources {
    journal: Arc<dyn Journal>,
    pipes: Arc<Pipes>,
    router: Arc<ArcSwap<Router>>,
    routes: Routes,
    clock: Arc<dyn Clock>,
    alarms: Alarms,
    metrics: Metrics,
    running: Mutex<HashMap<(Name, Name), RunningSource>>,
    abandon: CancellationToken,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.running.lock().keys()).finish()
    }
}

impl Sources {
    /// No sources yet.
    #[must_use]
    pub fn new(
        journal: Arc<dyn Journal>,
        pipes: Arc<Pipes>,
        router: Arc<ArcSwap<Router>>,
        routes: Routes,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            journal,
            pipes,
            router,
            routes,
            alarms: Alarms::new(Arc::clone(&clock)),
            clock,
            metrics,
            running: Mutex::default(),
            abandon: CancellationToken::new(),
        }
    }

    /// Runs a source that is open already and never ends, such as the HTTP ingress, whose callers
    /// may wait for the ends of tasks.
    pub fn run_always(
        &self,
        (tenant, name): (Name, Name),
        kind: &'static str,
        reader: MessageReader,
        mut source: Box<dyn Source>,
    ) {
        let metrics = reader.metrics.clone();
        let mut intake = Intake::new(reader, Arc::clone(&self.journal));
        let stop = CancellationToken::new();
        let (link, abandon) = (self.link(&name), self.abandon.child_token());
        link.up();
        let (token, origin) = (stop.clone(), name.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = intake.run(&mut *source, &token).await {
                tracing::error!(source = %origin, %error, "the source has ended");
            }
        });
        self.running.lock().insert(
            (tenant, name),
            RunningSource {
                kind,
                guarantee: Guarantee::AtLeastOnce,
                link,
                metrics,
                fingerprint: 0,
                stop,
                abandon,
                task,
            },
        );
    }

    /// Makes these the sources, besides those that always run: stops what is not wanted or has
    /// changed, and starts what is new.
    pub async fn reload(&self, wanted: Vec<config::Source>) {
        let keep: HashMap<_, _> = wanted
            .iter()
            .map(|one| ((one.tenant.clone(), one.name.clone()), one.fingerprint))
            .collect();
        let gone: Vec<RunningSource> = {
            let mut running = self.running.lock();
            let ends = |key: &(Name, Name), one: &RunningSource| {
                one.fingerprint != 0 && keep.get(key) != Some(&one.fingerprint)
            };
            let keys: Vec<_> = running
                .iter()
                .filter(|(key, one)| ends(key, one))
                .map(|(key, _)| key.clone())
                .collect();
            keys.iter().filter_map(|key| running.remove(key)).collect()
        };
        stop(gone, RELOAD_GRACE).await;
        for one in wanted {
            let key = (one.tenant.clone(), one.name.clone());
            if !self.running.lock().contains_key(&key) {
                let running = self.start(one);
                self.running.lock().insert(key, running);
            }
        }
    }

    /// Waits until every source has been opened once or could not be, so that a caller of a webhook
    /// does not find it missing at the start.
    pub async fn opened(&self) {
        let links: Vec<Link> = self
            .running
            .lock()
            .values()
            .map(|source| source.link.clone())
            .collect();
        let all = futures::future::join_all(links.iter().map(Link::opened));
        // One that takes longer is opened all the same; the others must not wait for it.
        let _ = tokio::time::timeout(OPEN_WITHIN, all).await;
    }

    /// Stops all sources and waits for what they have handed to the journal, and for the attempts
    /// under way of pipes until [`Sources::abandon`].
    pub async fn stop(&self) {
        let all = std::mem::take(&mut *self.running.lock());
        stop(all.into_values().collect(), Duration::MAX).await;
    }

    /// No attempt is under way any more: what pipes still wait for comes again.
    pub fn abandon(&self) {
        self.abandon.cancel();
    }

    /// Looks at each source at work.
    pub fn each<T>(&self, mut look: impl FnMut(&Name, &Name, &RunningSource) -> T) -> Vec<T> {
        self.running
            .lock()
            .iter()
            .map(|((tenant, name), running)| look(tenant, name, running))
            .collect()
    }

    /// Reads what comes from a source.
    pub fn reader(&self, tenant: &Name, name: &Name) -> MessageReader {
        let matcher = Matcher::new(
            Arc::clone(&self.router),
            self.journal.clock(),
            self.metrics.matching(),
        );
        let metrics = self.metrics.source(tenant, name);
        MessageReader::new(tenant.clone(), name.clone(), matcher, metrics)
    }

    fn link(&self, name: &Name) -> Link {
        Link::new(name.clone(), Arc::clone(&self.clock))
    }

    fn start(&self, wanted: config::Source) -> RunningSource {
        let config::Source {
            tenant,
            name,
            kind,
            fingerprint,
            settings,
            mapping,
            deduplicate,
            retention,
            pipe,
        } = wanted;
        let (guarantee, link) = (settings.guarantee(), self.link(&name));
        let (stop, abandon) = (CancellationToken::new(), self.abandon.child_token());
        let mapped = mapping.is_some();
        let reader = self.reader(&tenant, &name).mapping(mapping);
        let metrics = reader.metrics.clone();
        let intake = if pipe {
            let intake =
                PipeIntake::new(Arc::clone(&self.pipes), reader, guarantee, abandon.clone());
            AnyIntake::Pipe(Box::new(intake))
        } else {
            let reader = reader.with_stable_ids(settings.has_stable_ids());
            let reader = reader.deduplicating(deduplicate.map(wiring::deduplicate));
            let reader = reader.retaining(retention);
            AnyIntake::Bus(Box::new(Intake::new(reader, Arc::clone(&self.journal))))
        };
        let positions = JournalPositions {
            journal: Arc::clone(&self.journal),
            tenant: tenant.clone(),
            source: name.clone(),
        };
        let context = SourceContext {
            name,
            tenant,
            cursor: None,
            positions: Arc::new(positions),
            mapped,
            clock: Arc::clone(&self.clock),
            alarms: self.alarms.clone(),
            routes: self.routes.clone(),
            link: link.clone(),
        };
        let keeper = Keeper {
            settings,
            context,
            intake,
            stop: stop.clone(),
        };
        RunningSource {
            kind,
            guarantee,
            link,
            metrics,
            fingerprint,
            stop,
            abandon,
            task: tokio::spawn(keeper.run()),
        }
    }
}

/// Stops sources, and waits for the attempts under way of their pipes for so long.
async fn stop(sources: Vec<RunningSource>, grace: Duration) {
    for source in &sources {
        source.stop.cancel();
    }
    let abandons: Vec<CancellationToken> = sources
        .iter()
        .map(|source| source.abandon.clone())
        .collect();
    let abandon = async {
        tokio::time::sleep(grace).await;
        abandons.iter().for_each(CancellationToken::cancel);
        std::future::pending().await
    };
    let ended = async {
        for source in sources {
            if let Err(error) = source.task.await {
                tracing::error!(%error, "a source's task has failed");
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = abandon => {}
    }
}

/// Opens one source again and again.
struct Keeper {
    settings: Box<dyn SourceSettings>,
    context: SourceContext,
    intake: AnyIntake,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = REOPEN.initial;
        while !self.stop.is_cancelled() {
            let begin = tokio::time::Instant::now();
            let (error, passes) = match self.serve().await {
                Ok(()) => return,
                Err(Ended::Open(error)) => (error, true),
                Err(Ended::Source(error)) => (
                    error.to_string(),
                    matches!(error, SourceError::Unavailable(_)),
                ),
            };
            if begin.elapsed() > SERVED_WELL {
                pause = REOPEN.initial;
            }
            if !passes {
                return self.context.link.stopped(error);
            }
            self.context.link.down(error);
            tokio::select! {
                () = tokio::time::sleep(spread(pause, rand::random())) => {}
                () = self.stop.cancelled() => return,
            }
            pause = REOPEN.longer(pause);
        }
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        let journal = match &self.intake {
            AnyIntake::Bus(intake) => intake.journal(),
            AnyIntake::Pipe(intake) => intake.journal(),
        };
        let (tenant, name) = (&self.context.tenant, &self.context.name);
        let cursor = journal.cursor(tenant, name).await;
        let context = SourceContext {
            cursor: cursor.map_err(|error| Ended::Open(error.to_string()))?,
            ..self.context.clone()
        };
        let opened = tokio::select! {
            opened = self.settings.open(context) => opened,
            () = self.stop.cancelled() => return Ok(()),
        };
        let mut source = opened.map_err(|error| Ended::Open(error.to_string()))?;
        self.context.link.up();
        let ended = match &mut self.intake {
            AnyIntake::Bus(intake) => intake.run(&mut *source, &self.stop).await,
            AnyIntake::Pipe(intake) => intake.run(&mut *source, &self.stop).await,
        };
        ended.map_err(Ended::Source)
    }
}

/// The rows of one source's position in the journal.
#[derive(Debug)]
struct JournalPositions {
    journal: Arc<dyn Journal>,
    tenant: Name,
    source: Name,
}

#[async_trait]
impl StoredPositions for JournalPositions {
    async fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<PositionRow>, String> {
        let (tenant, source) = (&self.tenant, &self.source);
        let page = self.journal.positions(tenant, source, after, limit).await;
        page.map_err(|error| error.to_string())
    }
}

/// Where what a source brings goes: into the journal, or through its pipe.
enum AnyIntake {
    Bus(Box<Intake>),
    Pipe(Box<PipeIntake>),
}

/// Why a source no longer serves.
enum Ended {
    Open(String),
    Source(SourceError),
}
