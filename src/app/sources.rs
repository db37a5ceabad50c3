//! Keeps each source running, as long as it is wanted here.

mod home;
mod keeper;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pointsman_connectors::listener::Routes;
use pointsman_connectors::{Alarms, Guarantee, Link, Source};
use pointsman_journal::Journal;
use pointsman_schemas::{Clock, Name};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::home::Homes;
use self::home::{RELOAD_GRACE, Resident};
use self::keeper::{Ends, Surroundings};
use crate::config;
use crate::intake::{Intake, MessageReader};
use crate::pipes::Pipes;
use crate::router::Router;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::SourceMetrics;

/// How long the bus waits for its sources to open before it takes requests. What is slower goes on
/// opening meanwhile.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

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
    /// Whether it runs only where it is at home.
    is_tied: bool,
    stop: CancellationToken,
    /// Ends the wait for a pipe's attempts under way.
    abandon: CancellationToken,
    task: JoinHandle<()>,
}

/// All sources at work, by tenant and name.
pub struct Sources {
    surroundings: Arc<Surroundings>,
    /// Where the tied ones are at home; none where there is one node.
    homes: Option<Arc<dyn Homes>>,
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
        let surroundings = Surroundings {
            journal,
            pipes,
            router,
            routes,
            alarms: Alarms::new(Arc::clone(&clock)),
            clock,
            metrics,
        };
        Self {
            surroundings: Arc::new(surroundings),
            homes: None,
            running: Mutex::default(),
            abandon: CancellationToken::new(),
        }
    }

    /// Has those that one node alone may run be run where they are at home.
    #[must_use]
    pub fn at_home(self, homes: Option<Arc<dyn Homes>>) -> Self {
        Self { homes, ..self }
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
        let mut intake = Intake::new(reader, Arc::clone(&self.surroundings.journal));
        let stop = CancellationToken::new();
        let (link, abandon) = (self.surroundings.link(&name), self.abandon.child_token());
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
                is_tied: false,
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
            .map(|one| {
                let own = (one.fingerprint, self.is_tied(one));
                ((one.tenant.clone(), one.name.clone()), own)
            })
            .collect();
        let gone: Vec<RunningSource> = {
            let mut running = self.running.lock();
            let ends = |key: &(Name, Name), one: &RunningSource| {
                one.fingerprint != 0 && keep.get(key) != Some(&(one.fingerprint, one.is_tied))
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
        self.surroundings.reader(tenant, name)
    }

    fn is_tied(&self, wanted: &config::Source) -> bool {
        self.homes.is_some() && wanted.is_tied()
    }

    fn start(&self, wanted: config::Source) -> RunningSource {
        let is_tied = self.is_tied(&wanted);
        let source = Arc::new(wanted);
        let link = self.surroundings.link(&source.name);
        let (stop, abandon) = (CancellationToken::new(), self.abandon.child_token());
        let ends = Ends {
            stop: stop.clone(),
            abandon: abandon.clone(),
            left: CancellationToken::new(),
        };
        let surroundings = Arc::clone(&self.surroundings);
        let task = match self.homes.clone().filter(|_| is_tied) {
            None => tokio::spawn(surroundings.keeper(&source, link.clone(), ends).run()),
            Some(homes) => {
                let resident = Resident {
                    surroundings,
                    source: Arc::clone(&source),
                    homes,
                    link: link.clone(),
                    ends,
                };
                tokio::spawn(resident.run())
            }
        };
        RunningSource {
            kind: source.kind,
            guarantee: source.settings.guarantee(),
            link,
            metrics: self
                .surroundings
                .metrics
                .source(&source.tenant, &source.name),
            fingerprint: source.fingerprint,
            is_tied,
            stop,
            abandon,
            task,
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
