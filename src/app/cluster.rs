//! One of several nodes: each runs the whole bus, with the shards that it owns, and asks others for
//! theirs.

mod backlogs;
mod engine;
mod engines;
mod keeper;
mod peers;
mod shares;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pointsman_cluster::{Identity, Node};
use pointsman_journal::Journal;
use pointsman_journal::disk::{DiskOptions, commit_format};
use pointsman_journal::sharded::{Sharded, Slot};
use pointsman_journal::steady::JournalClock;
use pointsman_log::OpenError;
use pointsman_schemas::{Backoff, Clock, JournalId, Name, Secret, SystemClock};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::keeper::Keeper;
use super::bus::{self, Bus, InCluster, Reloaded};
use super::spare::SpareServers;
use super::watch::Watch;
use super::{Process, RunError, changed, reload};
use crate::admin::spare::Joined;
use crate::background::Background;
use crate::config::{Config, Diagnostic, Own, RuleFiles, StoreLog};
use crate::nodes::Nodes;
use crate::versions::{ProposeError, Versions};

pub(crate) use self::engines::{LogEngine, LookAtLog, log_engines};
pub(super) use self::peers::OwnShards;
pub(super) use self::shares::Shares;

/// Between two tries to open a log whose engine cannot be reached: from, to.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// How long names are in beats.
const KEY_BITS: u32 = 48;

/// Runs a node until the process is to stop.
pub(super) async fn run<S: Fn(&[Diagnostic])>(
    process: &mut Process<S>,
    config: Config,
) -> Result<(), RunError> {
    let Some(settings) = config.store.log.clone() else {
        return Ok(());
    };
    let ((_, files), _) = RuleFiles::read(&process.paths).map_err(RunError::Rules)?;
    let joined = Joined::default();
    let spare = SpareServers::start(&config, Arc::clone(&joined)).await;
    let node = tokio::select! {
        () = process.signals.any() => return Ok(()),
        node = join(&settings, &config) => Arc::new(node?),
    };
    let nodes = joined.get_or_init(|| Nodes(Arc::clone(&node))).clone();
    let clock: Arc<dyn Clock> = Arc::new(JournalClock::new(Arc::new(SystemClock)));
    let (journal, slots) = Sharded::of_slots(node.shards(), identity(&settings), &clock)
        .map_err(|error| RunError::Log(error.to_string()))?;
    let Some(first) = slots.first().cloned() else {
        return Ok(());
    };
    let first = (Arc::clone(&journal), first);
    let folder = std::env::current_dir()
        .map_err(|error| RunError::System("find the folder of the rule files", error))?;
    let (background, own) = (Arc::clone(&process.background), Own::of(&config));
    let versions = Versions::new(first, nodes.clone(), background, folder, own, &files);
    let mut cluster = Running {
        journal,
        slots,
        nodes,
        versions: Arc::new(versions),
        keepers: JoinSet::new(),
        stop: CancellationToken::new(),
        beside: JoinSet::new(),
    };
    cluster.begin(&node, &config);
    let ended = cluster.serve(process, &files, spare).await;
    // Others take over at once what is given up.
    cluster.stop.cancel();
    while cluster.keepers.join_next().await.is_some() {}
    ended
}

/// The parts of a node that are there for as long as it is one.
struct Running {
    journal: Arc<Sharded>,
    slots: Vec<Slot>,
    nodes: Nodes,
    versions: Arc<Versions>,
    /// One for each shard.
    keepers: JoinSet<Result<(), RunError>>,
    stop: CancellationToken,
    /// What learns where the shards are that this node does not own, and which rules are in force.
    beside: JoinSet<()>,
}

impl Running {
    fn begin(&mut self, node: &Arc<Node>, config: &Config) {
        for slot in &self.slots {
            let keeper = Keeper {
                node: Arc::clone(node),
                journal: Arc::clone(&self.journal),
                slot: slot.clone(),
                directory: directory(config, slot),
                options: options(config, node.shards()),
                stop: self.stop.clone(),
            };
            self.keepers.spawn(keeper.keep());
        }
        let met = peers::meet(Arc::clone(node), self.slots.clone(), key(config));
        self.beside.spawn(met);
        if node.shards() > 1 {
            let exchange = backlogs::exchange(Arc::clone(node), Arc::clone(&self.journal));
            self.beside.spawn(exchange);
        }
        self.beside.spawn(Arc::clone(&self.versions).run());
    }

    /// Runs the bus until the process is to stop, or a shard cannot be kept any longer.
    async fn serve<S: Fn(&[Diagnostic])>(
        &mut self,
        process: &mut Process<S>,
        files: &RuleFiles,
        spare: SpareServers,
    ) -> Result<(), RunError> {
        let versions = Arc::clone(&self.versions);
        let opened = Arc::clone(&self.journal) as Arc<dyn Journal>;
        let parts = InCluster {
            nodes: self.nodes.clone(),
            versions: Arc::clone(&versions),
            slots: self.slots.clone(),
            homes: Arc::clone(&self.journal) as _,
        };
        let Process {
            signals,
            watch,
            background,
            paths,
            show,
        } = &mut *process;
        let mut proposing = Box::pin(propose_changes(watch, background, paths, show, &versions));
        let first = tokio::select! {
            () = signals.any() => Ok(None),
            failed = failure(&mut self.keepers) => Err(failed),
            () = &mut proposing => Ok(None),
            first = versions.first(files) => Ok(Some(first)),
        };
        spare.stop().await;
        let Some((version, config)) = first? else {
            return Ok(());
        };
        let never = CancellationToken::new();
        let mut bus = tokio::select! {
            () = signals.any() => return Ok(()),
            bus = Bus::start(config, &never, Some(parts), move |_| Ok(opened)) => bus?,
        };
        versions.is_in_force(version);
        let failed = loop {
            let (version, config) = tokio::select! {
                () = signals.any() => break None,
                failed = failure(&mut self.keepers) => break Some(failed),
                () = &mut proposing => break None,
                next = versions.next() => next,
            };
            let reloaded;
            (bus, reloaded) = reload(background, bus, config).await;
            match reloaded {
                Reloaded::InForce => versions.is_in_force(version),
                Reloaded::Refused | Reloaded::Away => versions.is_not_in_force(),
            }
        };
        drop(proposing);
        process.stop(bus).await;
        failed.map_or(Ok(()), Err)
    }
}

/// Proposes what the rule files say whenever they have changed. Never ends.
async fn propose_changes(
    watch: &mut Watch,
    background: &Background,
    paths: &[PathBuf],
    show: &impl Fn(&[Diagnostic]),
    versions: &Versions,
) {
    let show = |diagnostics: &[Diagnostic]| {
        show(diagnostics);
        if !diagnostics.iter().all(Diagnostic::is_warning) {
            versions.refuse_files(bus::page(diagnostics));
        }
    };
    loop {
        let (config, files) = changed(watch, background, paths, &show, RuleFiles::read).await;
        if let Some(setting) = versions.own().needs_restart(&config) {
            let why = format!("`{setting}` has changed, which needs a restart");
            tracing::error!(setting, "{why}; the old rules stay in force");
            versions.refuse_files(why);
            continue;
        }
        versions.has_files(&files);
        match versions.propose(&files, config.shards, false).await {
            Ok(_) => tracing::info!("the changed rule files are proposed to the cluster"),
            Err(ProposeError::Large) => {
                tracing::error!("{}", ProposeError::Large);
                versions.refuse_files(ProposeError::Large.to_string());
            }
            Err(error) => {
                tracing::warn!(%error, "proposing the changed rule files; it is tried again");
                watch.look_again();
            }
        }
    }
}

/// Waits until a keeper has failed.
async fn failure(keepers: &mut JoinSet<Result<(), RunError>>) -> RunError {
    loop {
        match keepers.join_next().await {
            Some(Ok(Err(error))) => return error,
            Some(Err(error)) => return RunError::System("keep a shard", error.into()),
            Some(Ok(Ok(()))) => {}
            None => std::future::pending().await,
        }
    }
}

/// The identity of a cluster's journal: the same on all nodes.
fn identity(settings: &StoreLog) -> JournalId {
    JournalId(stable_hash(settings.cluster.name().as_str()))
}

/// A hash that stays the same over versions: FNV-1a.
fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// What beats call something by: no two of a kind have the same, and beats are short.
fn short_hash(text: &str) -> u64 {
    stable_hash(text) >> (u64::BITS - KEY_BITS)
}

/// Where the store of a shard is: that of the first where a bus on one machine has its own.
fn directory(config: &Config, slot: &Slot) -> PathBuf {
    match slot.shard().get() {
        0 => config.store.path.clone(),
        number => config.store.path.join(format!("shard-{number}")),
    }
}

/// What other nodes ask for, as this one does: they have the same rule files.
fn key(config: &Config) -> Option<Secret> {
    let first = config.admin.auth.first()?;
    // The admin listener says what is wrong with one that has no value.
    first.resolve().ok()
}

/// How the store of each shard is kept: all of them share the room of one.
fn options(config: &Config, shards: u16) -> DiskOptions {
    let shards = u64::from(shards.max(1));
    let mut options = bus::options(config);
    options.max_size_bytes /= shards;
    options.history.max_size_bytes /= shards;
    options
}

/// Opens the cluster's log, however long its engine is away, and joins the cluster.
async fn join(settings: &StoreLog, config: &Config) -> Result<Node, RunError> {
    let unresolved = |error: &dyn std::fmt::Display| RunError::Log(error.to_string());
    let name = match &settings.node {
        Some(node) => node
            .resolve()
            .map_err(|error| unresolved(&error))?
            .expose()
            .to_owned(),
        None => machine(),
    };
    let node = Name::new(&name).map_err(|error| {
        RunError::Log(format!(
            "{error}; give the node a name: store: {{ log: {{ node: … }} }}"
        ))
    })?;
    let address = settings.address.as_ref().unwrap_or(&config.admin.address);
    let address = address.resolve().map_err(|error| unresolved(&error))?;
    let is_unspecified = |address: SocketAddr| address.ip().is_unspecified();
    if address.expose().parse().is_ok_and(is_unspecified) {
        return Err(RunError::Log(format!(
            "other nodes cannot reach this one at {}; say where they can: store: {{ log: {{ \
             address: … }} }}",
            address.expose()
        )));
    }
    let mut pause = BACKOFF.initial;
    let log = loop {
        match engines::open(settings, &node).await {
            Ok(log) => break log,
            Err(OpenError::Unavailable(why)) => {
                tracing::warn!(
                    why,
                    "the engine of the cluster's log cannot be reached; it is tried again"
                );
            }
            Err(error) => return Err(unresolved(&error)),
        }
        sleep(pause).await;
        pause = BACKOFF.longer(pause);
    };
    Ok(Node::join(
        log,
        Identity {
            node,
            incarnation: rand::random(),
            takeover: settings.takeover,
            address: address.expose().to_owned(),
            store_format: commit_format(),
        },
        settings.cluster.shards(),
    ))
}

/// The machine's name, as the name of a node.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fit = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '-',
    };
    name.trim().chars().take(63).map(fit).collect()
}
