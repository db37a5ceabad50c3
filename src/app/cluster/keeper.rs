//! What a node does with one shard of its cluster, over and over: it follows the shard's log until
//! it may own it, has the bus run with it, and gives it up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_cluster::{Handover, Node, Ownership, StandByError, Taken};
use pointsman_journal::Journal;
use pointsman_journal::disk::{self, ApplyError, DiskJournal, DiskOptions, Part, Replica};
use pointsman_journal::sharded::{Sharded, Slot};
use pointsman_log::Shard;
use pointsman_schemas::SystemClock;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::app::RunError;

/// How much of the store goes to the log once more at a time.
const CARRIED_BYTES: usize = 256 * 1024;

/// The pause between two such times, while the bus runs.
const CARRY_PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether the log has grown too long.
const LOOK: Duration = Duration::from_secs(5);

/// A log below this is never too long, shared by all shards.
const LOG_BYTES: u64 = 64 << 20;

/// How long attempts under way may take to end before another node gets the shard, where they are
/// made again.
const HANDOVER_GRACE: Duration = Duration::from_secs(5);

/// What is needed to keep one shard.
pub(super) struct Keeper {
    pub(super) node: Arc<Node>,
    pub(super) journal: Arc<Sharded>,
    pub(super) slot: Slot,
    /// Where the shard's store is.
    pub(super) directory: PathBuf,
    pub(super) options: DiskOptions,
    /// The bus has stopped: what is owned is given up.
    pub(super) stop: CancellationToken,
}

/// Why a shard is not owned any more.
enum End {
    /// The process ends.
    Process,
    /// This node must not own it.
    Ownership,
    /// Another node is to own it.
    Handover(Handover),
}

impl Keeper {
    fn shard(&self) -> Shard {
        Shard(self.slot.shard().get())
    }

    /// Keeps the shard until the process ends.
    ///
    /// # Errors
    /// This node can do so no longer.
    pub(super) async fn keep(self) -> Result<(), RunError> {
        loop {
            let taken = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                taken = self.stand_by() => taken,
            };
            let taken = match taken {
                Err(RunError::StandBy(error)) if self.is_of_this_shard_alone(&error) => {
                    let shard = self.shard();
                    tracing::error!(
                        %shard, %error,
                        "this node follows the shard no more, and goes on with the others; restart \
                         it once that is mended"
                    );
                    self.stop.cancelled().await;
                    return Ok(());
                }
                taken => taken?,
            };
            let Taken { store, ownership } = taken;
            let Some(journal) = self.open(store, &ownership).await? else {
                continue;
            };
            let end = self.own(&ownership, &journal).await;
            self.slot.take_away().await;
            journal.close().await;
            match end {
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
                        let shard = self.shard();
                        tracing::error!(%shard, why, "this node does not own the shard any more");
                    }
                }
            }
        }
    }

    /// Whether what cannot be followed any more is the log of this shard, and there are others.
    fn is_of_this_shard_alone(&self, error: &StandByError) -> bool {
        let is_of_shard = matches!(
            error,
            StandByError::Log(_)
                | StandByError::Broken(_)
                | StandByError::Store(ApplyError::Later { .. })
        );
        is_of_shard && self.node.shards() > 1
    }

    async fn stand_by(&self) -> Result<Taken<Replica>, RunError> {
        let directory = self.directory.clone();
        let opened = tokio::task::spawn_blocking(move || Replica::open(&directory)).await;
        let store = opened.map_err(|error| RunError::System("open the store", error.into()))??;
        let (shard, shards) = (self.shard(), self.node.shards());
        let own = Part {
            shard: shard.0,
            shards,
        };
        if store.is_embedded() && shards > 1 && Part::of(&self.directory) != Some(own) {
            return Err(RunError::Log(format!(
                "the store in {} is not {own} but that of a bus on one machine or of another \
                 cluster; a bus on one machine becomes a cluster of one shard: say store: {{ log: \
                 {{ shards: 1 }} }}, or another store.path",
                self.directory.display()
            )));
        }
        tracing::info!(%shard, "following the cluster's log");
        Ok(self.node.stand_by(shard, store).await?)
    }

    /// Makes the journal of a store; none where it is to be made anew.
    async fn open(
        &self,
        store: Replica,
        ownership: &Ownership,
    ) -> Result<Option<Arc<DiskJournal>>, RunError> {
        let (number, options, log) = (self.slot.shard(), self.options, ownership.commit_log());
        // On a thread of its own: beats must go on meanwhile.
        let open = move || store.into_shard(number, options, Arc::new(SystemClock), log);
        let opened = tokio::task::spawn_blocking(open).await;
        match opened.map_err(|error| RunError::System("open the store", error.into()))? {
            Ok(journal) => Ok(Some(journal)),
            Err(disk::OpenError::Damaged { what, .. }) => {
                let shard = self.shard();
                tracing::error!(%shard, what, "the store is not what the log says; it is made anew");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has the bus run with the shard for as long as this node owns it.
    async fn own(&self, ownership: &Ownership, journal: &Arc<DiskJournal>) -> End {
        let at_work = async {
            // Nobody is served before other nodes could follow.
            if !(ownership.has_walked().await || walk(journal, Duration::ZERO).await) {
                return End::Ownership;
            }
            let fence = ownership.token().child_token();
            let shard = Arc::clone(journal) as Arc<dyn pointsman_journal::Shard>;
            if let Err(error) = self.journal.take_in(&self.slot, shard, fence).await {
                tracing::error!(shard = %self.shard(), %error, "the shard cannot be taken over");
                return End::Ownership;
            }
            let bounded = keep_bounded(ownership, journal, &self.directory, self.node.shards());
            let handover = tokio::select! {
                () = bounded => return End::Ownership,
                handover = ownership.handover() => handover,
            };
            self.slot.settle_within(HANDOVER_GRACE).await;
            End::Handover(handover)
        };
        tokio::select! {
            () = ownership.ended() => End::Ownership,
            () = self.stop.cancelled() => End::Process,
            end = at_work => end,
        }
    }
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
/// before that is removed. Never ends.
async fn keep_bounded(ownership: &Ownership, journal: &DiskJournal, directory: &Path, shards: u16) {
    // What the last walk has put into the log itself, which the file of the store may not show yet.
    let mut walked = 0;
    loop {
        sleep(LOOK).await;
        let store = directory.join("journal.db").metadata();
        let store_bytes = store.map_or(0, |store| store.len());
        let least = LOG_BYTES / u64::from(shards.max(1));
        if ownership.bytes_since_walked().await <= store_bytes.max(least).max(2 * walked) {
            continue;
        }
        if !walk(journal, CARRY_PAUSE).await {
            std::future::pending::<()>().await;
        }
        walked = ownership.bytes_since_walked().await;
        match ownership.trim().await {
            Ok(()) => tracing::debug!("the log was trimmed"),
            Err(error) => tracing::warn!(%error, "trimming the log"),
        }
    }
}
