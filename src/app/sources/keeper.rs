//! What runs one source: opens it, serves it by an intake, and opens it again after a backoff when
//! it ends.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pointsman_connectors::listener::Routes;
use pointsman_connectors::{Alarms, Link, SourceContext, SourceError, StoredPositions};
use pointsman_journal::Journal;
use pointsman_schemas::{Backoff, Clock, Name, PositionRow, backoff::spread};
use tokio_util::sync::CancellationToken;

use crate::app::wiring;
use crate::config;
use crate::intake::{Intake, MessageReader};
use crate::pipes::{PipeIntake, Pipes};
use crate::router::{Matcher, Router};
use crate::telemetry::Metrics;

/// First and longest pause before a source is opened again, of which at least half is waited:
/// sources that broke together come back one by one. The longest keeps the promise to be back
/// within 30 seconds of the outside system.
const REOPEN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));

/// A source that served this long starts over with the shortest pause.
const SERVED_WELL: Duration = Duration::from_secs(60);

/// What all sources are run with.
pub(super) struct Surroundings {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) pipes: Arc<Pipes>,
    pub(super) router: Arc<ArcSwap<Router>>,
    pub(super) routes: Routes,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) alarms: Alarms,
    pub(super) metrics: Metrics,
}

/// What ends the run of a source.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// Ends it, once what it has handed over is stored.
    pub(super) stop: CancellationToken,
    /// Ends the wait for a pipe's attempts under way.
    pub(super) abandon: CancellationToken,
    /// Another node may go on where it has been stored that the source stands.
    pub(super) left: CancellationToken,
}

impl Surroundings {
    /// Reads what comes from a source.
    pub(super) fn reader(&self, tenant: &Name, name: &Name) -> MessageReader {
        let matcher = Matcher::new(
            Arc::clone(&self.router),
            self.journal.clock(),
            self.metrics.matching(),
        );
        let metrics = self.metrics.source(tenant, name);
        MessageReader::new(tenant.clone(), name.clone(), matcher, metrics)
    }

    pub(super) fn link(&self, name: &Name) -> Link {
        Link::new(name.clone(), Arc::clone(&self.clock))
    }

    /// What runs a source once, until one of its ends.
    pub(super) fn keeper(&self, source: &Arc<config::Source>, link: Link, ends: Ends) -> Keeper {
        let config::Source {
            tenant,
            name,
            settings,
            mapping,
            deduplicate,
            retention,
            pipe,
            ..
        } = &**source;
        let reader = self.reader(tenant, name).mapping(mapping.clone());
        let intake = if *pipe {
            let (pipes, guarantee) = (Arc::clone(&self.pipes), settings.guarantee());
            let intake = PipeIntake::new(pipes, reader, guarantee, ends.abandon.clone());
            AnyIntake::Pipe(Box::new(intake))
        } else {
            let reader = reader.with_stable_ids(settings.has_stable_ids());
            let reader = reader.deduplicating(deduplicate.clone().map(wiring::deduplicate));
            let reader = reader.retaining(*retention);
            let intake = Intake::new(reader, Arc::clone(&self.journal));
            AnyIntake::Bus(Box::new(intake.left_with(ends.left)))
        };
        let positions = JournalPositions {
            journal: Arc::clone(&self.journal),
            tenant: tenant.clone(),
            source: name.clone(),
        };
        let context = SourceContext {
            name: name.clone(),
            tenant: tenant.clone(),
            cursor: None,
            positions: Arc::new(positions),
            mapped: mapping.is_some(),
            clock: Arc::clone(&self.clock),
            alarms: self.alarms.clone(),
            routes: self.routes.clone(),
            link,
        };
        Keeper {
            source: Arc::clone(source),
            context,
            intake,
            stop: ends.stop,
        }
    }
}

/// Opens one source again and again.
pub(super) struct Keeper {
    source: Arc<config::Source>,
    context: SourceContext,
    intake: AnyIntake,
    stop: CancellationToken,
}

impl Keeper {
    pub(super) async fn run(mut self) {
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
            opened = self.source.settings.open(context) => opened,
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
