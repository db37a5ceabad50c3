//! The parts of a running bus: how they start, change at a reload, and stop.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, join_all};
use pointsman_connectors::http::Ingress;
use pointsman_connectors::listener::{Limits, Listener};
use pointsman_journal::disk::{DiskJournal, DiskOptions, HistoryBounds};
use pointsman_journal::sharded::Slot;
use pointsman_journal::{Journal, JournalError, ShardNumber, SubscriptionIdentity};
use pointsman_schemas::{Clock, DeliveryId, Name, SubscriptionNumber, SystemClock, Timestamp};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::cluster::{OwnShards, Shares};
use super::overview::RunningParts;
use super::renewal::{Renewals, Watched};
use super::sources::{Homes, Sources};
use super::wiring::{self, Wiring};
use crate::admin::{Admin, AdminListener, AdminSettings, exposition};
use crate::config::{Config, Diagnostic, diagnostic};
use crate::console::{self, Console, History};
use crate::dispatcher::{self, Dispatcher, Plan};
use crate::nodes::Nodes;
use crate::output::Screen;
use crate::pipes::Pipes;
use crate::replay::{LocalShards, Replays};
use crate::router::{Matcher, Router};
use crate::telemetry::{Listeners, Metrics, metrics, traces};
use crate::versions::Versions;
use crate::waiting::Waiting;

/// How long attempts in flight may take to finish once the bus is asked to stop. Longer than most
/// functions take, and shorter than the 30 seconds after which service managers lose patience.
const ATTEMPTS_GRACE: Duration = Duration::from_secs(20);

/// Subscriptions whose rule is gone that the log is told of by name, at one reload.
const DETACHED_TOLD_MAX: usize = 20;

/// How long a stop waits for requests in flight; they only wait for a sync.
const REQUESTS_GRACE: Duration = Duration::from_secs(5);

/// A running bus.
pub(super) struct Bus {
    journal: Arc<dyn Journal>,
    pipes: Arc<Pipes>,
    router: Arc<ArcSwap<Router>>,
    replays: Arc<Replays>,
    sources: Arc<Sources>,
    wiring: Wiring,
    digest: Task,
    /// Export traces and metrics.
    exporters: [Option<Task>; 2],
    dispatcher: Task,
    /// Ends the grace of the attempts under way when the bus stops.
    pub(super) hasten: CancellationToken,
    handle: dispatcher::Handle,
    /// This node's part of what targets can take and quotas allow, in a cluster, and who keeps the
    /// dispatcher to it.
    shares: Option<(Shares, Task)>,
    /// Callers who wait for the ends of tasks.
    waiting: Arc<Waiting>,
    /// Looks at those of the tasks that other nodes run.
    elsewhere: Option<Task>,
    renewals: Arc<Renewals>,
    /// Looks after them.
    renewing: Task,
    overview: Arc<RunningParts>,
    listener: Task,
    admin: Task,
    /// The configuration in force, without its sources, targets and rules.
    config: Option<Config>,
    /// Subscriptions that hold something and whose rule is gone, as the log was told.
    detached: HashSet<SubscriptionNumber>,
}

/// What has become of a changed configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reloaded {
    InForce,
    /// It is not.
    Refused,
    /// It is not now, and may be when it is tried again.
    Away,
}

/// What a bus has of its cluster.
pub(super) struct InCluster {
    pub(super) nodes: Nodes,
    pub(super) versions: Arc<Versions>,
    /// Of each shard, in their order.
    pub(super) slots: Vec<Slot>,
    /// Which sources are at home on this node.
    pub(super) homes: Arc<dyn Homes>,
}

impl InCluster {
    fn shards(&self) -> LocalShards {
        LocalShards::new(self.slots.clone(), self.homes.moves())
    }

    /// Looks at tasks of shards that other nodes own, where callers here wait for their ends.
    fn look_elsewhere(&self, waiting: &Arc<Waiting>, journal: &Arc<dyn Journal>) -> Task {
        let (waiting, journal) = (Arc::clone(waiting), Arc::clone(journal));
        let slots = self.slots.clone();
        Task::spawn(async move |stop| {
            let is_elsewhere = |id: &DeliveryId| {
                let shard = ShardNumber::of(id.sequence);
                let own = slots.iter().find(|slot| slot.shard() == shard);
                own.is_some_and(|slot| slot.here().is_none())
            };
            let looking = waiting.look_elsewhere(&*journal, is_elsewhere);
            stop.run_until_cancelled(looking).await;
        })
    }
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
        Self::spawn_until(&CancellationToken::new(), run)
    }

    /// One that is stopped by `end`, too.
    fn spawn_until<F: Future<Output = ()> + Send + 'static>(
        end: &CancellationToken,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = end.child_token();
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
    /// Starts everything with a first configuration, on the journal that `open` opens. Addresses are
    /// bound before that, so that one in use is told before anything has happened; requests are
    /// taken last. All attempts end at once with `end`, whatever else the bus is doing then.
    /// `cluster` is what the journal is a part of, where it is.
    pub(super) async fn start(
        config: Config,
        end: &CancellationToken,
        cluster: Option<InCluster>,
        open: impl FnOnce(&Config) -> Result<Arc<dyn Journal>, RunError>,
    ) -> Result<Self, RunError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let nodes = cluster.as_ref().map(|cluster| cluster.nodes.clone());
        let homes = cluster.as_ref().map(|cluster| Arc::clone(&cluster.homes));
        let (mut registry, metrics, exports) = measured(&config, nodes.as_ref())?;
        let (listener, admin_listener) = listen(&config, &mut registry).await?;
        let (address, admin_address) = (listener.local_addr(), admin_listener.address());
        let journal = open(&config)?;
        let pipes = Pipes::new(Arc::clone(&journal), journal.clock());

        let router = Arc::new(ArcSwap::from_pointee(Router::default()));
        let wiring = Wiring::new(metrics.clone());
        let replies = Matcher::new(Arc::clone(&router), journal.clock(), metrics.matching());
        let (dispatcher, handle, hasten) = dispatcher_over(&journal, &pipes, &clock, replies, end);
        let waiting = Arc::<Waiting>::default();
        let mut dispatcher = dispatcher.waited_for_by(Arc::clone(&waiting));
        let shares = nodes.as_ref();
        let shares = shares.map(|nodes| share(nodes, &handle, &mut registry));
        if shares.is_some() {
            dispatcher = dispatcher.sharing_limits();
        }
        let sources = sources_over(&journal, &pipes, &router, &listener, &clock, &metrics);
        let sources = Arc::new(sources.at_home(homes));
        let overview = overview_of(&sources, &router, &handle, metrics, shares.as_ref());
        let parts = |own: &InCluster| (own.shards(), own.look_elsewhere(&waiting, &journal));
        let (local, elsewhere) = cluster.as_ref().map(parts).unzip();
        let admin = Arc::new(Admin {
            replays: Replays::new(Arc::clone(&journal), Arc::clone(&router), local),
            journal: Arc::clone(&journal),
            pipes: Arc::clone(&pipes),
            overview: Arc::clone(&overview) as _,
            waiting: Arc::clone(&waiting),
            registry: Arc::new(registry),
            histograms: wiring.metrics.histograms(),
            tap: Arc::clone(wiring.metrics.tap()),
            metrics: config.admin.metrics,
            clock: Arc::clone(&clock),
            started: Timestamp::now(),
            nodes,
            versions: cluster.as_ref().map(|own| Arc::clone(&own.versions)),
            shards: cluster.map(|cluster| Arc::new(OwnShards(cluster.slots)) as _),
        });
        run_ingress(&config, &listener, clock, Arc::clone(&waiting), &sources)?;

        let (renewals, digest) = (Arc::<Renewals>::default(), Arc::clone(&wiring.digest));
        let mut bus = Self {
            journal,
            pipes,
            router,
            replays: Arc::clone(&admin.replays),
            sources,
            wiring,
            digest: Task::spawn(async move |stop| digest.run(stop).await),
            exporters: exports.run(&admin),
            hasten,
            dispatcher: Task::spawn_until(end, |stop| dispatch(dispatcher, stop)),
            renewals: Arc::clone(&renewals),
            renewing: look_after(renewals, handle.clone()),
            handle,
            shares,
            waiting,
            elsewhere,
            overview,
            admin: Task::spawn(|stop| serve_admin(admin_listener, admin, stop)),
            // Requests are taken once the rules are in force: until then nobody would be told of
            // what they bring.
            listener: Task::spawn(|_| async {}),
            config: None,
            detached: HashSet::new(),
        };
        bus.take_requests(config, listener).await?;
        tracing::info!(%address, admin = %admin_address, "ready");
        Ok(bus)
    }

    /// Puts the first configuration in force, and takes requests then.
    async fn take_requests(&mut self, config: Config, listener: Listener) -> Result<(), RunError> {
        self.put_in_force(config).await?;
        self.sources.opened().await;
        self.listener = Task::spawn(|stop| listener.serve(stop));
        self.overview.set_ready();
        Ok(())
    }

    /// Puts a configuration in force: subscriptions first, so that whatever matches has somewhere
    /// to go, then targets, rules and sources.
    async fn put_in_force(&mut self, mut config: Config) -> Result<(), RunError> {
        let subscriptions = wiring::subscriptions(&config);
        let watched = Watched::of(&config, &subscriptions);
        let numbers = loop {
            match self.pipes.subscribe(subscriptions.clone()).await {
                // Nobody is served before that, so that it can be waited for.
                Err(JournalError::Away(why)) if self.config.is_none() => {
                    tracing::warn!(why, "waiting for the shard that numbers subscriptions");
                }
                numbers => break numbers?,
            }
        };
        let quotas = wiring::backlog_quotas(&config);
        self.pipes.set_quotas(quotas).await?;
        self.renewals.watch(watched, &numbers);
        self.overview.set_config(&config);
        let sources = std::mem::take(&mut config.sources);
        let (router, plan) = self.wiring.connect(&mut config, &numbers).await?;
        let limits = self.shares.as_ref().map(|_| Shares::limits(&plan));
        self.handle.reload(plan).await?;
        if let (Some((shares, _)), Some(limits)) = (&self.shares, limits) {
            shares.put_in_force(limits);
        }
        let old = self.router.swap(Arc::new(router));
        self.sources.reload(sources).await;
        drop(old);
        if let Err(error) = self.replays.resume().await {
            tracing::error!(%error, "cannot go on with replays; the next reload tries again");
        }
        self.log_detached().await;
        self.config = Some(config);
        Ok(())
    }

    /// Tells the log of each subscription that no rule wants and that still holds something, once.
    async fn log_detached(&mut self) {
        let statuses = match self.pipes.reader().subscriptions().await {
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
                "no rule wants these deliveries any more; they are kept: bring the rule back, or \
                 see pointsman subscriptions cancel and move");
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

    /// Shows in the console what is wrong with changed rule files, of which nothing else is taken
    /// over.
    pub(super) fn refuse(&self, mistakes: &[Diagnostic]) {
        self.overview.set_refused_change(Some(page(mistakes)));
    }

    /// Takes over a changed configuration, or stays as it is and says why.
    pub(super) async fn reload(&mut self, config: Config) -> Reloaded {
        if let Some(setting) = self
            .config
            .as_ref()
            .and_then(|old| old.needs_restart(&config))
        {
            let why = format!("`{setting}` has changed, which needs a restart");
            tracing::error!(setting, "{why}; the old rules stay in force");
            self.overview.set_refused_change(Some(why));
            return Reloaded::Refused;
        }
        match self.put_in_force(config).await {
            Ok(()) => {
                self.overview.set_refused_change(None);
                tracing::info!("the changed rules are in force");
                return Reloaded::InForce;
            }
            Err(RunError::Journal(JournalError::Away(why))) => {
                tracing::warn!(
                    why,
                    "the changed rules cannot be put in force now; it is tried again"
                );
                return Reloaded::Away;
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    "cannot put the changed rules in force; change the files again once the store \
                     works"
                );
                self.overview.set_refused_change(Some(error.to_string()));
            }
        }
        Reloaded::Refused
    }

    pub(super) async fn stop(self) {
        tracing::info!("stopping: finishing what is in hand");
        self.overview.set_stopping();
        self.renewing.stop("watch over secrets").await;
        // Their requests are in flight: the listener would wait for them.
        self.waiting.close();
        if let Some(elsewhere) = self.elsewhere {
            elsewhere.stop("look at tasks elsewhere").await;
        }
        self.replays.close().await;
        self.listener.stop("listener").await;
        // A pipe's source is told of attempts under way as they end: it stays until they have.
        let sources = Arc::clone(&self.sources);
        let dispatcher = async {
            self.dispatcher.stop("dispatcher").await;
            sources.abandon();
        };
        tokio::join!(self.sources.stop(), dispatcher);
        if let Some((_, keeping)) = self.shares {
            keeping.stop("share of targets").await;
        }
        self.digest.stop("log of dead letters").await;
        let exporters = self.exporters.into_iter().flatten();
        join_all(exporters.map(|one| one.stop("export of traces or metrics"))).await;
        self.journal.close().await;
        self.wiring.metrics.tap().close();
        self.admin.stop("admin API").await;
        tracing::info!("stopped");
    }
}

/// Serves the admin API and the console, which takes samples meanwhile.
async fn serve_admin(listener: AdminListener, admin: Arc<Admin>, stop: CancellationToken) {
    let history = Arc::<History>::default();
    let pages = console::pages(Console {
        admin: Arc::clone(&admin),
        guard: listener.guard(),
        history: Arc::clone(&history),
    });
    let keeping = history.keep(Arc::clone(&admin), stop.clone());
    tokio::join!(listener.serve(admin, pages, stop), keeping);
}

/// What exports traces and metrics, once it runs.
struct Exports {
    traces: Option<traces::Exporting>,
    metrics: Option<metrics::Exporting>,
}

impl Exports {
    /// Exports what is recorded, and what the admin API shows of the metrics.
    fn run(self, admin: &Arc<Admin>) -> [Option<Task>; 2] {
        let admin = Arc::clone(admin);
        let expose = Box::new(move || -> BoxFuture<'static, _> {
            let admin = Arc::clone(&admin);
            Box::pin(async move { exposition::take(&admin).await.ok() })
        });
        let metrics = |export: metrics::Exporting| Task::spawn(|stop| export(expose, stop));
        [self.traces.map(Task::spawn), self.metrics.map(metrics)]
    }
}

fn look_after(renewals: Arc<Renewals>, handle: dispatcher::Handle) -> Task {
    Task::spawn(|stop| renewals.run(handle, stop))
}

/// Has the dispatcher keep to this node's part of what targets can take and quotas allow.
fn share(nodes: &Nodes, handle: &dispatcher::Handle, registry: &mut Registry) -> (Shares, Task) {
    let shares = Shares::new(Arc::clone(&nodes.0));
    registry.register_collector(Box::new(shares.clone()));
    let (kept, handle) = (shares.clone(), handle.clone());
    (shares, Task::spawn(|stop| kept.keep(handle, stop)))
}

/// Sources that bring what they have through the router into the journal and the pipes.
fn sources_over(
    journal: &Arc<dyn Journal>,
    pipes: &Arc<Pipes>,
    router: &Arc<ArcSwap<Router>>,
    listener: &Listener,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Sources {
    Sources::new(
        Arc::clone(journal),
        Arc::clone(pipes),
        Arc::clone(router),
        listener.routes(),
        Arc::clone(clock),
        metrics.clone(),
    )
}

/// Mistakes as a page shows them.
pub(super) fn page(mistakes: &[Diagnostic]) -> String {
    let screen = Screen {
        colours: false,
        width: None,
    };
    diagnostic::render(mistakes, screen)
}

/// What the admin API shows of the parts.
fn overview_of(
    sources: &Arc<Sources>,
    router: &Arc<ArcSwap<Router>>,
    handle: &dispatcher::Handle,
    metrics: Metrics,
    shares: Option<&(Shares, Task)>,
) -> Arc<RunningParts> {
    let (sources, router) = (Arc::clone(sources), Arc::clone(router));
    let shares = shares.map(|(shares, _)| shares.clone());
    Arc::new(RunningParts::new(
        sources,
        router,
        handle.clone(),
        metrics,
        shares,
    ))
}

/// The metrics, which tell of the nodes of a cluster too, and record traces where these are to be
/// exported; and what exports both.
fn measured(
    config: &Config,
    nodes: Option<&Nodes>,
) -> Result<(Registry, Metrics, Exports), RunError> {
    let (mut registry, started) = (Registry::default(), Timestamp::now());
    let metrics = Metrics::new(&mut registry, started);
    metrics.set_detail(config.admin.metrics);
    if let Some(nodes) = nodes {
        registry.register_collector(Box::new(nodes.clone()));
    }
    let export = traces::export(&config.traces, &metrics.spans()).map_err(RunError::Traces)?;
    let (metrics, traces) = match export {
        Some((traces, exporting)) => (metrics.traced(traces), Some(exporting)),
        None => (metrics, None),
    };
    let export = metrics::export(&config.metrics, started).map_err(RunError::Metrics)?;
    let exports = Exports {
        traces,
        metrics: export,
    };
    Ok((registry, metrics, exports))
}

/// Binds the addresses of the ingress and of the admin API.
async fn listen(
    config: &Config,
    registry: &mut Registry,
) -> Result<(Listener, AdminListener), RunError> {
    let limits = Limits {
        drain_timeout: REQUESTS_GRACE,
        ..Limits::default()
    };
    let listener = Listener::bind(&config.listen, limits)
        .await
        .map_err(RunError::Listen)?;
    let admin = AdminListener::bind(&AdminSettings {
        address: config.admin.address.clone(),
        auth: config.admin.auth.clone(),
        viewers: config.admin.viewers.clone(),
    })
    .await?;
    let counts = vec![("ingress", listener.counts()), ("admin", admin.counts())];
    registry.register_collector(Box::new(Listeners(counts)));
    Ok((listener, admin))
}

/// Opens the store of a bus that has no other nodes.
pub(super) fn open_store(config: &Config) -> Result<Arc<dyn Journal>, RunError> {
    let clock = Arc::new(SystemClock);
    Ok(DiskJournal::open(
        &config.store.path,
        options(config),
        clock,
    )?)
}

/// How the store is kept.
pub(super) fn options(config: &Config) -> DiskOptions {
    DiskOptions {
        retention: config.store.retention,
        max_size_bytes: config.store.max_size_bytes,
        history: HistoryBounds {
            keep: config.store.history_keep,
            max_size_bytes: config.store.history_max_size_bytes,
        },
    }
}

/// A dispatcher that has nothing to do until the first plan is in force, its handle, and what ends
/// the grace of a stop before its time.
fn dispatcher_over(
    journal: &Arc<dyn Journal>,
    pipes: &Arc<Pipes>,
    clock: &Arc<dyn Clock>,
    replies: Matcher,
    end: &CancellationToken,
) -> (Dispatcher, dispatcher::Handle, CancellationToken) {
    let hasten = end.child_token();
    let (dispatcher, handle) = Dispatcher::new(
        Arc::clone(journal),
        Arc::clone(pipes),
        Arc::clone(clock),
        replies,
        Plan::default(),
        dispatcher::Options::default(),
    );
    (dispatcher.hastened_by(hasten.clone()), handle, hasten)
}

/// The HTTP ingress is a source like others, but always there.
fn run_ingress(
    config: &Config,
    listener: &Listener,
    clock: Arc<dyn Clock>,
    waiting: Arc<Waiting>,
    sources: &Sources,
) -> Result<(), RunError> {
    let ingress =
        Ingress::open(&config.listen, &listener.routes(), clock).map_err(RunError::Listen)?;
    let (tenant, name) = (Name::default_tenant(), Name::ingress());
    let reader = sources.reader(&tenant, &name).waiting(waiting);
    let deduplicate = config.deduplicate.clone().map(wiring::deduplicate);
    let retention = config.listen.retention.map(|interval| interval.0);
    let reader = reader.deduplicating(deduplicate).retaining(retention);
    sources.run_always((tenant, name), "http", reader, Box::new(ingress));
    Ok(())
}

async fn dispatch(dispatcher: Dispatcher, stop: CancellationToken) {
    let summary = dispatcher.run(stop, ATTEMPTS_GRACE).await;
    tracing::info!(
        settled = summary.settled,
        abandoned = summary.abandoned,
        unsettled = summary.unsettled,
        "the dispatcher has stopped"
    );
}
