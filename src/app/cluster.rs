//! One of several nodes: a spare that follows the log, the owner that runs the bus, and a spare
//! again where it can be that no longer.

mod engine;

use std::sync::Arc;
use std::time::Duration;

use pointsman_cluster::{Handover, Identity, Node, Ownership, Taken};
use pointsman_journal::Journal;
use pointsman_journal::disk::{self, DiskJournal, Replica};
use pointsman_log::{OpenError, Shard};
use pointsman_schemas::{Backoff, Name, SystemClock};
use tokio::time::sleep;

use super::bus::{self, Bus};
use super::spare::SpareServers;
use super::{Process, RunError, next_config};
use crate::admin::spare::Joined;
use crate::config::{Config, Diagnostic, StoreLog};
use crate::nodes::Nodes;

pub(crate) use self::engine::probe;

/// Between two tries to open a log whose engine cannot be reached: from, to.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// The shard of a cluster that has one.
const SHARD: Shard = Shard(0);

/// How much of the store goes to the log once more at a time.
const CARRIED_BYTES: usize = 256 * 1024;

/// The pause between two such times, while the bus runs.
const CARRY_PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether the log has grown too long.
const LOOK: Duration = Duration::from_secs(5);

/// A log below this is never too long.
const LOG_BYTES: u64 = 64 << 20;

/// Runs a node until the process is to stop.
pub(super) async fn run<S: Fn(&[Diagnostic])>(
    process: &mut Process<S>,
    mut config: Config,
) -> Result<(), RunError> {
    let Some(settings) = config.store.log.clone() else {
        return Ok(());
    };
    let joined = Joined::default();
    let mut spare = Some(SpareServers::start(&config, Arc::clone(&joined)).await);
    let node = tokio::select! {
        () = process.signals.any() => return Ok(()),
        node = join(&settings, &config) => Arc::new(node?),
    };
    let nodes = joined.get_or_init(|| Nodes(Arc::clone(&node))).clone();
    loop {
        let spare = match spare.take() {
            Some(spare) => spare,
            None => SpareServers::start(&config, Arc::clone(&joined)).await,
        };
        let taken = stand_by(process, &node, &mut config).await;
        spare.stop().await;
        let Some(Taken { store, ownership }) = taken? else {
            return Ok(());
        };
        // A change may have been in the middle of being read.
        if let Ok((now, _)) = process.load().await
            && config.needs_restart(&now).is_none()
        {
            config = now;
        }
        // On a thread of its own: beats must go on meanwhile.
        let (options, log) = (bus::options(&config), ownership.commit_log());
        let open = move || store.into_journal(options, Arc::new(SystemClock), log);
        let opened = tokio::task::spawn_blocking(open).await;
        let opened = opened.map_err(|error| RunError::System("open the store", error.into()))?;
        let journal = match opened {
            Ok(journal) => journal,
            Err(disk::OpenError::Damaged { what, .. }) => {
                tracing::error!(what, "the store is not what the log says; it is made anew");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match own(process, &ownership, &journal, config, &nodes).await? {
            End::Process => {
                ownership.release().await;
                return Ok(());
            }
            End::Handover(handover) => {
                ownership.release().await;
                tokio::spawn(handover.arrived());
            }
            End::Ownership => {
                if let Some(why) = ownership.why().await {
                    tracing::error!(why, "this node does not own the store any more");
                }
                drop(ownership);
            }
        }
        let Some(again) = process.load_again().await else {
            return Ok(());
        };
        config = again;
    }
}

/// Follows until this node owns the log; none where the process is to stop.
async fn stand_by<S: Fn(&[Diagnostic])>(
    process: &mut Process<S>,
    node: &Node,
    config: &mut Config,
) -> Result<Option<Taken<Replica>>, RunError> {
    let store = Replica::open(&config.store.path)?;
    tracing::info!(node = %node.identity().node, "following the cluster's log");
    let standing = node.stand_by(SHARD, store);
    tokio::pin!(standing);
    loop {
        let Process {
            signals,
            watch,
            background,
            paths,
            show,
        } = &mut *process;
        let changed = tokio::select! {
            () = signals.any() => return Ok(None),
            taken = &mut standing => return Ok(Some(taken?)),
            changed = next_config(watch, background, paths, show) => changed,
        };
        match config.needs_restart(&changed) {
            Some(setting) => tracing::error!(
                setting,
                "`{setting}` has changed, which needs a restart; the old rules stay in force"
            ),
            None => *config = changed,
        }
    }
}

/// What has ended.
enum End {
    /// The process is to stop.
    Process,
    /// This node must not own the log any more.
    Ownership,
    /// Another node is to own it.
    Handover(Handover),
}

/// Runs the bus for as long as this node owns the log.
async fn own<S: Fn(&[Diagnostic])>(
    process: &mut Process<S>,
    ownership: &Ownership,
    journal: &Arc<DiskJournal>,
    config: Config,
    nodes: &Nodes,
) -> Result<End, RunError> {
    // Nobody is served before other nodes could follow.
    let has_walked = tokio::select! {
        () = ownership.ended() => false,
        () = process.signals.any() => {
            journal.close().await;
            return Ok(End::Process);
        }
        has_walked = first_walk(ownership, journal) => has_walked,
    };
    if !has_walked {
        journal.close().await;
        return Ok(End::Ownership);
    }
    let path = config.store.path.clone();
    let opened = Arc::clone(journal) as Arc<dyn Journal>;
    let end = ownership.token();
    let bus = match Bus::start(config, &end, Some(nodes.clone()), None, move |_| Ok(opened)).await {
        Ok(bus) => bus,
        Err(error) => {
            journal.close().await;
            return if end.is_cancelled() {
                Ok(End::Ownership)
            } else {
                Err(error)
            };
        }
    };
    let mut why = End::Ownership;
    let watching = async {
        tokio::select! {
            () = ownership.ended() => {}
            () = keep_bounded(ownership, journal, &path) => {}
            handover = ownership.handover() => why = End::Handover(handover),
        }
    };
    let (bus, is_stopping) = process.serve(bus, watching).await;
    if is_stopping {
        process.stop(bus).await;
        return Ok(End::Process);
    }
    bus.stop().await;
    Ok(why)
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
    let address = config
        .admin
        .address
        .resolve()
        .map_err(|error| unresolved(&error))?;
    let mut pause = BACKOFF.initial;
    let log = loop {
        match engine::open(settings, &node).await {
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

/// Brings the whole store into the log where that has not happened yet; false where it cannot be.
async fn first_walk(ownership: &Ownership, journal: &DiskJournal) -> bool {
    ownership.has_walked().await || walk(journal, Duration::ZERO).await
}

/// Has every row of the store go to the log once more; false where the store takes no more.
async fn walk(journal: &DiskJournal, pause: Duration) -> bool {
    let mut carried = None;
    loop {
        match journal.carry(carried.clone(), CARRIED_BYTES).await {
            Ok(None) => return true,
            Ok(next) => {
                carried = next;
                sleep(pause).await;
            }
            Err(error) if journal.trouble().is_some() => {
                tracing::warn!(%error, "the store cannot go to the log");
                return false;
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Keeps the log as long as the store or so: past that every row goes to it once more, and what is
/// before that is removed. Ends where the store takes no more.
async fn keep_bounded(ownership: &Ownership, journal: &DiskJournal, path: &std::path::Path) {
    loop {
        sleep(LOOK).await;
        let store = path.join("journal.db").metadata();
        let store_bytes = store.map_or(0, |store| store.len());
        if ownership.bytes_since_walked().await <= store_bytes.max(LOG_BYTES) {
            continue;
        }
        if !walk(journal, CARRY_PAUSE).await {
            std::future::pending::<()>().await;
        }
        match ownership.trim().await {
            Ok(()) => tracing::debug!("the log was trimmed"),
            Err(error) => tracing::warn!(%error, "trimming the log"),
        }
    }
}
