//! The versions of the rules of a cluster: all nodes work with the same one, and go over to the next
//! one at one moment.
//!
//! ```text
//! files that change ─┐                      every node: compiles it ─ prepared ─┐
//! `rules put`       ─┴▶ proposal ─▶ owner of the first shard ◀── or refuses ────┤
//!                                    └─ all living nodes: in force ─▶ every node goes over
//! ```
//!
//! What is kept of them is kept in the first shard ([`rows`]), and its owner alone decides
//! ([`kept`]), by nothing but what is kept there and what the nodes say in their beats: so whoever
//! owns the shard next goes on where the last one was. Beats say that there is something new; what
//! it is, each node reads from the shard.
//!
//! # Invariants
//!
//! 1. A version is in force once that is stored, and not before every node that lives then has
//!    compiled it, with what it takes from the environment and from files.
//! 2. A node goes over to what is stored as in force, never to what it proposed or prepared.
//! 3. What a node has for itself (`listen`, `admin`, `store`, `traces`, `metrics`) is in no version.
//! 4. A tenant has another number of shards from the moment at which a version is stored as in force,
//!    and each node divides events by that as soon as it has read it: see [`moving`].

pub mod kept;
mod mine;
mod moving;
mod rows;
pub mod view;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_journal::sharded::{Sharded, Slot, TenantShards};
use pointsman_journal::{JournalError, Shard};
use pointsman_schemas::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::kept::{End, Kept, Objection, Proposal, Version};
use self::mine::Mine;
pub use self::rows::FILES_BYTES_MAX;
use self::rows::Rows;
use crate::background::Background;
use crate::config::{Config, Diagnostic, Own, RuleFiles};
use crate::nodes::Nodes;

/// How often the beats are looked at, and what waits in the first shard.
const LOOK: Duration = Duration::from_millis(100);

/// How soon something is tried again that did not go.
const AGAIN: Duration = Duration::from_secs(2);

/// How many mistakes a node tells of a version that it refuses.
const MISTAKES_MAX: usize = 20;

/// What one node has to do with the versions.
pub struct Versions {
    /// The first shard, wherever it is.
    slot: Slot,
    journal: Arc<Sharded>,
    nodes: Nodes,
    background: Arc<Background>,
    /// Where relative paths begin.
    folder: PathBuf,
    own: Arc<Own>,
    /// What is kept, as it was read last; none before the first time.
    told: watch::Sender<Option<Arc<Kept>>>,
    mine: Mutex<Mine>,
}

/// Why files were not proposed, or nobody knows whether they were.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// There is too much of them.
    #[error("the rule files are larger than {} MiB in all, which no cluster keeps", FILES_BYTES_MAX >> 20)]
    Large,
    /// What the journal said.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why a version cannot be put in force here.
enum Unready {
    /// It cannot be read now.
    Away(String),
    /// It says what cannot be here.
    Mistakes(Vec<String>),
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions")
            .field("told", &*self.told.borrow())
            .finish_non_exhaustive()
    }
}

impl Versions {
    /// Those of the cluster that has this journal and its first shard, for a node whose own files are
    /// `files`. Relative paths begin in `folder`.
    pub fn new(
        (journal, slot): (Arc<Sharded>, Slot),
        nodes: Nodes,
        background: Arc<Background>,
        folder: PathBuf,
        own: Own,
        files: &RuleFiles,
    ) -> Self {
        Self {
            slot,
            journal,
            nodes,
            background,
            folder,
            own: Arc::new(own),
            told: watch::Sender::new(None),
            mine: Mutex::new(Mine {
                hash: files.hash(),
                ..Mine::default()
            }),
        }
    }

    /// What this node has for itself.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Looks at what the others say, decides while this node owns the first shard, and prepares what
    /// is proposed. Never ends.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.decide(), self.follow());
    }

    /// Decides, whenever this node owns the first shard.
    async fn decide(&self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            ticks.tick().await;
            // Of one ownership alone: what another one has kept since is not there to be seen.
            let Some(shard) = self.slot.here() else {
                continue;
            };
            match self.decide_once(&*shard).await {
                Ok(revision) => self.nodes.say_of_rules(|rules| rules.revision = revision),
                Err(JournalError::Damaged(what)) if told.as_ref() != Some(&what) => {
                    tracing::error!(what, "the versions of the rules cannot be read");
                    told = Some(what);
                }
                Err(error) => tracing::debug!(%error, "deciding about versions of the rules"),
            }
        }
    }

    async fn decide_once(&self, shard: &dyn Shard) -> Result<u64, JournalError> {
        let rows = Rows(shard);
        let mut kept = rows.kept().await?;
        let (inbox, looked_at) = rows.inbox().await?;
        let prepared = self.nodes.prepared();
        if let Some(dropped) = kept.go_on(&inbox, &prepared, Timestamp::now()) {
            rows.record(&kept, looked_at, &dropped).await?;
        }
        Ok(kept.revision)
    }

    /// Reads what is kept whenever its owner says that it is new, and prepares what is proposed.
    async fn follow(&self) {
        let mut ticks = interval(LOOK / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            let Some(revision) = self.nodes.revision() else {
                continue;
            };
            if seen != Some(revision) {
                match Rows(&self.slot).kept().await {
                    Ok(kept) => {
                        // What was read from who owned it before says less.
                        seen = Some(revision).filter(|revision| *revision <= kept.revision);
                        self.tell(kept);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "reading the versions of the rules");
                        continue;
                    }
                }
            }
            let kept = self.told.borrow().clone();
            if let Some(kept) = kept
                && let Some(version) = &kept.proposed
            {
                self.prepare(version, &kept).await;
            }
        }
    }

    /// Takes what was read, and says what ended since the last time.
    fn tell(&self, kept: Kept) {
        let before = self.told.borrow().clone();
        if before
            .as_ref()
            .is_some_and(|before| before.revision >= kept.revision)
        {
            return;
        }
        let is_new = |id: &str| {
            let before = before.as_ref();
            before.is_some_and(|before| !before.ended.iter().any(|one| one.id == id))
        };
        for ended in kept.ended.iter().filter(|one| is_new(&one.id)) {
            if let End::Refused(Objection { number, node, why }) = &ended.how {
                let why = why.join("; ");
                tracing::error!(
                    version = number, %node, why,
                    "a node refuses the proposed rules; the old rules stay in force"
                );
            }
        }
        self.divide(&kept, before.as_deref());
        self.told.send_replace(Some(Arc::new(kept)));
    }

    /// Compiles a proposed version, sees to it that its tenants can have the shards that it says, and
    /// says whether this node could work with it.
    async fn prepare(&self, version: &Version, kept: &Kept) {
        let number = version.number;
        let is_done = {
            let mine = self.mine.lock();
            mine.refused == number
                || mine
                    .prepared
                    .as_ref()
                    .is_some_and(|(own, _)| *own == number)
        };
        if is_done {
            if let Some(why) = self.has_been_stopped_for_long(number) {
                self.object(number, vec![why]).await;
            }
            return;
        }
        let prepared = match self.read(version).await {
            Ok(config) => self.make_way(version, kept, &config).await.map(|()| config),
            unready => unready,
        };
        match prepared {
            Ok(config) => {
                self.mine.lock().prepared = Some((number, config));
                self.nodes.say_of_rules(|rules| rules.prepared = number);
            }
            Err(Unready::Away(why)) => {
                tracing::debug!(number, why, "a proposed version cannot be read now");
            }
            Err(Unready::Mistakes(why)) => self.object(number, why).await,
        }
    }

    /// Refuses a proposed version.
    async fn object(&self, number: u64, why: Vec<String>) {
        let node = self.nodes.own_name();
        let objection = Objection { number, node, why };
        match Rows(&self.slot).object(&objection).await {
            Ok(()) => self.mine.lock().refused = number,
            Err(error) => tracing::debug!(number, %error, "refusing a proposed version"),
        }
    }

    /// What a version says on this node.
    async fn read(&self, version: &Version) -> Result<Config, Unready> {
        let files = Rows(&self.slot).files(&version.proposal).await;
        let files = files.map_err(|error| Unready::Away(error.to_string()))?;
        let gone = || Unready::Away("it is not kept any longer".to_owned());
        self.compile(files.ok_or_else(gone)?)
            .await
            .map_err(Unready::Mistakes)
    }

    /// What files say on this node.
    ///
    /// # Errors
    /// Each mistake, with its file and line, and each value that is not here.
    pub async fn compile(&self, files: RuleFiles) -> Result<Config, Vec<String>> {
        let (own, folder) = (Arc::clone(&self.own), self.folder.clone());
        let compile = move || files.compile(&folder, &own);
        let compiled = self.background.run(compile).await;
        compiled
            .map(|(config, _warnings)| config)
            .map_err(|mistakes| {
                let mistakes = mistakes.iter().filter(|one| !one.is_warning());
                let mut lines: Vec<_> = mistakes.map(Diagnostic::line).collect();
                let more = lines.len().saturating_sub(MISTAKES_MAX);
                lines.truncate(MISTAKES_MAX);
                lines.extend((more > 0).then(|| format!("and {more} more")));
                lines
            })
    }

    /// Proposes files whose tenants are to have these shards, and returns under which id. With
    /// `is_first` they count only where there is no version yet.
    ///
    /// # Errors
    /// [`ProposeError`]; of one of the journal's that is not [`JournalError::Away`] they may have been
    /// proposed.
    pub async fn propose(
        &self,
        files: &RuleFiles,
        shards: TenantShards,
        is_first: bool,
    ) -> Result<String, ProposeError> {
        if files.bytes() > FILES_BYTES_MAX {
            return Err(ProposeError::Large);
        }
        let id = format!("{:016x}", rand::random::<u64>());
        let proposal = Proposal {
            id: id.clone(),
            hash: files.hash(),
            rows: 0,
            by: self.nodes.own_name(),
            at: Timestamp::now(),
            is_first,
            shards,
        };
        Rows(&self.slot).propose(proposal, files).await?;
        Ok(id)
    }

    /// What is kept; as it was read last where it cannot be now.
    ///
    /// # Errors
    /// As [`Journal::positions`](pointsman_journal::Journal::positions).
    pub async fn kept(&self) -> Result<Arc<Kept>, JournalError> {
        let read = Rows(&self.slot).kept().await.map(Arc::new);
        read.or_else(|error| self.told.borrow().clone().ok_or(error))
    }

    /// The files of a version.
    ///
    /// # Errors
    /// As [`Versions::kept`].
    pub async fn files(&self, version: &Version) -> Result<Option<RuleFiles>, JournalError> {
        Rows(&self.slot).files(&version.proposal).await
    }

    /// Waits until what is kept of a proposal says more than that it waits, or for so long, and
    /// returns what is kept.
    ///
    /// # Errors
    /// As [`Versions::kept`].
    pub async fn decided(&self, id: &str, within: Duration) -> Result<Arc<Kept>, JournalError> {
        let until = Instant::now() + within;
        loop {
            let kept = self.kept().await?;
            let waits = matches!(kept.fate(id), None | Some(kept::Fate::Proposed(_)));
            if !waits || Instant::now() >= until {
                return Ok(kept);
            }
            sleep(LOOK).await;
        }
    }
}
