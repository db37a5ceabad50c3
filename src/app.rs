//! The bus as a whole: what is started in which order, who owns which task, and how it all stops.
//!
//! Start: rule files, store, listeners (so that an address in use is told before anything happens),
//! dispatcher, sources. Stop, the other way round, so that each part still has those it hands over
//! to: the listener finishes its requests, the sources stop and what they took in is stored while
//! the dispatcher finishes its attempts, the store is closed, and the admin API last.

mod background;
mod digest;
mod overview;
mod renewal;
mod sources;
mod targets;
pub mod watch;
mod wiring;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pointsman_connectors::OpenError;
use pointsman_connectors::http::Ingress;
use pointsman_connectors::listener::{Limits, Listener};
use pointsman_schemas::{Clock, Name, SubscriptionNumber, SystemClock, Timestamp};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminError, AdminListener, AdminSettings};
use crate::config::paths::STANDARD_INPUT;
use crate::config::{Config, Diagnostic};
use crate::dispatcher::schedule::InvalidPolicy;
use crate::dispatcher::{self, Dispatcher, Plan};
use crate::pipes::Piped;
use crate::router::{Matcher, Router};
use crate::telemetry::{Listeners, Metrics};
use pointsman_journal::disk::{self, DiskJournal, DiskOptions};
use pointsman_journal::{Journal, JournalError, SubscriptionIdentity};

use self::background::Background;
use self::digest::Digest;
use self::overview::Running;
use self::renewal::{Renewals, Watched};
use self::sources::Sources;
use self::targets::Targets;
use self::watch::{Watch, WatchError};
use self::wiring::Means;

/// How long attempts in flight may take to finish once the bus is asked to stop. Longer than most
/// functions take, and shorter than the 30 seconds after which service managers lose patience.
const ATTEMPTS_GRACE: Duration = Duration::from_secs(20);

/// Subscriptions whose rule is gone that the log is told of by name, at one reload.
const DETACHED_TOLD_MAX: usize = 20;

/// How long a stop waits for requests in flight; they only wait for a sync.
const REQUESTS_GRACE: Duration = Duration::from_secs(5);

/// Why the bus did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The rule files have mistakes, which have been shown.
    #[error("the rule files have mistakes; nothing was started")]
    Rules(Vec<Diagnostic>),
    /// Rules cannot be read again from where they came.
    #[error(
        "rules from standard input cannot be read again when they change; write them into a file (`check` and `test` read `-`)"
    )]
    StandardInput,
    /// The store cannot be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] disk::OpenError),
    /// The store works no more.
    #[error("cannot read the store: {0}")]
    Journal(#[from] JournalError),
    /// A delivery setting makes no sense.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// The dispatcher is not there to take a plan.
    #[error(transparent)]
    Dispatcher(#[from] dispatcher::Stopped),
    /// The listener cannot be opened.
    #[error("cannot open the listener: {0}")]
    Listen(OpenError),
    /// The admin API cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The rule files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The system refuses something basic.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Runs the bus until SIGTERM or SIGINT. Paths in the rule files are relative to the folder that
/// holds them, which becomes the process's own.
///
/// # Errors
/// [`RunError`].
pub async fn run(paths: &[PathBuf], show: impl Fn(&[Diagnostic])) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| RunError::System("listen for SIGTERM", error))?;
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| RunError::System("listen for SIGINT", error))?;
    if paths.iter().any(|path| path.as_os_str() == STANDARD_INPUT) {
        return Err(RunError::StandardInput);
    }
    let paths = absolute(paths)
        .map_err(|error| RunError::System("resolve the paths of the rule files", error))?;
    let (config, warnings) = Config::load(&paths).map_err(RunError::Rules)?;
    show(&warnings);
    enter_folder_of(&paths)
        .map_err(|error| RunError::System("enter the folder of the rule files", error))?;
    let mut watch = Watch::begin(paths.clone())?;
    let background =
        Background::start().map_err(|error| RunError::System("start a thread", error))?;
    let mut bus = Bus::start(config).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = watch.changed() => {
                // On a thread of its own: a file system that does not answer must not keep the bus
                // from stopping.
                let paths = paths.clone();
                let reading = background.run(move || Config::load(&paths));
                let read = tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    read = reading => read,
                };
                match read {
                    Ok((config, warnings)) => {
                        show(&warnings);
                        let runtime = tokio::runtime::Handle::current();
                        let reload = move || {
                            runtime.block_on(bus.reload(config));
                            bus
                        };
                        bus = background.run(reload).await;
                    }
                    Err(mistakes) if mistakes.iter().any(Diagnostic::may_pass) => {
                        tracing::warn!("the rule files cannot be read now; the old rules stay in force, and it is tried again");
                        watch.look_again();
                    }
                    Err(mistakes) => {
                        show(&mistakes);
                        tracing::error!(mistakes = mistakes.len(), "the changed rule files have mistakes; the old rules stay in force");
                    }
                }
            }
        }
    }
    let hasten = bus.hasten.clone();
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!(
            "asked to stop again: giving up the attempts under way; they are made again after the next start"
        );
        hasten.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = bus.stop() => {}
        () = again => {}
    }
    Ok(())
}

fn absolute(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    paths.iter().map(std::path::absolute).collect()
}

/// Makes the folder of the first rule file the process's own: paths in the rule files are relative
/// to it.
///
/// # Errors
/// It cannot be entered.
pub(crate) fn enter_folder_of(paths: &[PathBuf]) -> std::io::Result<()> {
    let Some(first) = paths.first() else {
        return Ok(());
    };
    let folder = if first.is_dir() {
        Some(first.as_path())
    } else {
        first.parent()
    };
    folder.map_or(Ok(()), std::env::set_current_dir)
}

/// A running bus.
struct Bus {
    journal: Arc<Piped>,
    router: Arc<ArcSwap<Router>>,
    sources: Arc<Sources>,
    means: Means,
    digest: Task,
    dispatcher: Task,
    /// Ends the grace of the attempts under way when the bus stops.
    hasten: CancellationToken,
    handle: dispatcher::Handle,
    renewals: Arc<Renewals>,
    /// Looks after them.
    renewing: Task,
    overview: Arc<Running>,
    listener: Task,
    admin: Task,
    /// The configuration in force, without its sources, targets and rules.
    config: Option<Config>,
    /// Subscriptions that hold something and whose rule is gone, as the log was told.
    detached: HashSet<SubscriptionNumber>,
}

/// A task with its stop.
struct Task {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Task {
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = CancellationToken::new();
        Self {
            task: tokio::spawn(run(stop.clone())),
            stop,
        }
    }

    async fn stop(self, what: &'static str) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the {what} has failed");
        }
    }
}

impl Bus {
    async fn start(config: Config) -> Result<Self, RunError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry, Timestamp::now());
        let limits = Limits {
            drain_timeout: REQUESTS_GRACE,
            ..Limits::default()
        };
        let listener = Listener::bind(&config.listen, limits)
            .await
            .map_err(RunError::Listen)?;
        let admin_listener = AdminListener::bind(&AdminSettings {
            address: config.admin.address.clone(),
            auth: config.admin.auth.clone(),
        })
        .await?;
        let counts = vec![
            ("ingress", listener.counts()),
            ("admin", admin_listener.counts()),
        ];
        registry.register_collector(Box::new(Listeners(counts)));
        let options = DiskOptions {
            retention: config.store.retention,
            max_size_bytes: config.store.max_size_bytes,
        };
        let journal = DiskJournal::open(&config.store.path, options, Arc::clone(&clock))?;
        let own_time = journal.clock();
        let journal = Piped::over(journal, own_time);
        let (address, admin_address) = (listener.local_addr(), admin_listener.address());

        let router = Arc::new(ArcSwap::from_pointee(Router::default()));
        let digest = Arc::<Digest>::default();
        let means = Means {
            targets: Targets::default(),
            metrics: metrics.clone(),
            digest: Arc::clone(&digest),
        };
        let replies = Matcher::new(Arc::clone(&router), metrics.unordered());
        let (dispatcher, handle) = Dispatcher::new(
            Arc::clone(&journal) as Arc<dyn Journal>,
            Arc::clone(&clock),
            replies,
            Plan::default(),
            dispatcher::Options::default(),
        );
        let hasten = CancellationToken::new();
        let dispatcher = dispatcher.hastened_by(hasten.clone());
        let sources = Arc::new(Sources::new(
            Arc::clone(&journal),
            Arc::clone(&router),
            listener.routes(),
            Arc::clone(&clock),
            metrics,
        ));
        let ingress =
            Ingress::open(&config.listen, &listener.routes()).map_err(RunError::Listen)?;
        sources.run_always(
            Name::default_tenant(),
            Name::ingress(),
            "http",
            Box::new(ingress),
        );

        let overview = Arc::new(Running::new(
            Arc::clone(&sources),
            Arc::clone(&router),
            handle.clone(),
            means.metrics.clone(),
        ));
        let admin = Arc::new(Admin {
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            overview: Arc::clone(&overview) as _,
            registry: Arc::new(registry),
            clock,
            started: Timestamp::now(),
        });
        let renewals = Arc::<Renewals>::default();
        let mut bus = Self {
            journal,
            router,
            sources,
            means,
            digest: Task::spawn(async move |stop| digest.run(stop).await),
            hasten,
            dispatcher: Task::spawn(async |stop| {
                let summary = dispatcher.run(stop, ATTEMPTS_GRACE).await;
                tracing::info!(
                    settled = summary.settled,
                    abandoned = summary.abandoned,
                    unsettled = summary.unsettled,
                    "the dispatcher has stopped"
                );
            }),
            renewals: Arc::clone(&renewals),
            renewing: Task::spawn({
                let handle = handle.clone();
                |stop| renewals.run(handle, stop)
            }),
            handle,
            overview,
            admin: Task::spawn(|stop| admin_listener.serve(admin, stop)),
            // Requests are taken once the rules are in force: until then nobody would be told of
            // what they bring.
            listener: Task::spawn(|_| async {}),
            config: None,
            detached: HashSet::new(),
        };
        bus.put_in_force(config).await?;
        bus.sources.opened().await;
        bus.listener = Task::spawn(|stop| listener.serve(stop));
        bus.overview.set_ready();
        tracing::info!(%address, admin = %admin_address, "ready");
        Ok(bus)
    }

    /// Puts a configuration in force: subscriptions first, so that whatever matches has somewhere
    /// to go, then targets, rules and sources.
    async fn put_in_force(&mut self, mut config: Config) -> Result<(), RunError> {
        let subscriptions = wiring::subscriptions(&config);
        let watched = Watched::of(&config, &subscriptions);
        let numbers = self.journal.subscribe(subscriptions).await?;
        self.renewals.watch(watched, &numbers);
        self.overview.set_config(&config);
        let sources = std::mem::take(&mut config.sources);
        let (router, plan) = wiring::connect(&mut config, &numbers, &self.means).await?;
        self.handle.reload(plan).await?;
        let old = self.router.swap(Arc::new(router));
        self.sources.reload(sources).await;
        drop(old);
        self.tell_detached().await;
        self.config = Some(config);
        Ok(())
    }

    /// Tells the log of each subscription that no rule wants and that still holds something, once.
    async fn tell_detached(&mut self) {
        let statuses = match self.journal.reader().subscriptions().await {
            Ok(statuses) => statuses,
            Err(error) => {
                return tracing::warn!(%error, "cannot look for subscriptions whose rule is gone");
            }
        };
        let detached: Vec<_> = statuses
            .into_iter()
            .filter(|status| !status.attached)
            .collect();
        let untold = detached
            .iter()
            .filter(|status| !self.detached.contains(&status.number));
        for status in untold.clone().take(DETACHED_TOLD_MAX) {
            let (
                SubscriptionIdentity {
                    tenant,
                    rule,
                    target,
                    ..
                },
                counts,
            ) = (&status.identity, &status.counts);
            let (subscription, pending, dead) = (status.number.0, counts.pending, counts.dead);
            tracing::warn!(subscription, %tenant, %rule, to = %target, pending, dead,
                "no rule wants these deliveries any more; they are kept: bring the rule back, or see pointsman subscriptions cancel and move");
        }
        let more = untold.clone().skip(DETACHED_TOLD_MAX);
        if let (more @ 1.., pending) = more.fold((0, 0), |(count, pending), status| {
            (count + 1, pending + status.counts.pending)
        }) {
            tracing::warn!(
                more,
                pending,
                "there are more of these; see pointsman subscriptions list --detached"
            );
        }
        self.detached = detached.into_iter().map(|status| status.number).collect();
    }

    /// Takes over a changed configuration, or stays as it is and says why.
    async fn reload(&mut self, config: Config) {
        if let Some(setting) = self
            .config
            .as_ref()
            .and_then(|old| old.needs_restart(&config))
        {
            tracing::error!(
                setting,
                "`{setting}` has changed, which needs a restart; the old rules stay in force"
            );
            return;
        }
        match self.put_in_force(config).await {
            Ok(()) => tracing::info!("the changed rules are in force"),
            Err(error) => {
                tracing::error!(%error, "cannot put the changed rules in force; change the files again once the store works")
            }
        }
    }

    async fn stop(self) {
        tracing::info!("stopping: finishing what is in hand");
        self.overview.set_stopping();
        self.renewing.stop("watch over secrets").await;
        self.listener.stop("listener").await;
        // A pipe's source is told of attempts under way as they end: it stays until they have.
        let sources = Arc::clone(&self.sources);
        let dispatcher = async {
            self.dispatcher.stop("dispatcher").await;
            sources.abandon();
        };
        tokio::join!(self.sources.stop(), dispatcher);
        self.digest.stop("log of dead letters").await;
        self.journal.close().await;
        self.admin.stop("admin API").await;
        tracing::info!("stopped");
    }
}
