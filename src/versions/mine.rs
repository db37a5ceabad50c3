//! How one node stands to the versions: which one it works with, and whether it can.

use pointsman_cluster::RulesPulse;
use tokio::time::{Instant, sleep_until, timeout};

use super::kept::{Objection, Version};
use super::moving::Stopped;
use super::{AGAIN, Unready, Versions};
use crate::config::{Config, RuleFiles};

/// How this node stands.
#[derive(Default)]
pub(super) struct Mine {
    /// The hash of its own files.
    pub(super) hash: String,
    /// Why what they say now is not proposed.
    pub(super) refused_files: Option<String>,
    /// The version that it works with.
    pub(super) in_force: Option<Version>,
    /// The last one that it has prepared, until it is in force.
    pub(super) prepared: Option<(u64, Config)>,
    /// The last one that it has said of that it cannot.
    pub(super) refused: u64,
    /// Before then nothing is put in force.
    pub(super) not_before: Option<Instant>,
    /// The version for whose sake it takes in nothing of some tenants.
    pub(super) stopped: Option<Stopped>,
    /// It owns nothing because it has no rules to work with.
    pub(super) is_drained: bool,
}

impl Versions {
    /// The first version for this node to work with; where the cluster has none yet, its own files
    /// become that. Safe to cancel.
    pub async fn first(&self, files: &RuleFiles) -> (Version, Config) {
        let mut told = self.told.subscribe();
        let mut has_proposed = false;
        loop {
            let kept = told.borrow_and_update().clone();
            let is_empty = kept.as_ref().is_some_and(|kept| kept.in_force.is_none());
            if kept.is_some() && !is_empty {
                return self.next().await;
            }
            if is_empty && !has_proposed {
                has_proposed = self.propose_first(files).await;
            }
            // It is tried again where that did not go.
            let _waited = timeout(AGAIN, told.changed()).await;
        }
    }

    /// Proposes this node's files for a cluster that has no version yet; false where they were not.
    async fn propose_first(&self, files: &RuleFiles) -> bool {
        let config = match self.compile(files.clone()).await {
            Ok(config) => config,
            Err(why) => {
                self.cannot(&why.join("; "));
                return false;
            }
        };
        let proposed = self.propose(files, config.shards, true).await;
        if let Err(error) = &proposed {
            tracing::warn!(%error, "proposing the rule files of this node; it is tried again");
        }
        proposed.is_ok()
    }

    /// Waits until another version is in force than this node works with, and returns what it says.
    /// Safe to cancel.
    pub async fn next(&self) -> (Version, Config) {
        let mut told = self.told.subscribe();
        loop {
            let not_before = self.mine.lock().not_before;
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
            let kept = told.borrow_and_update().clone();
            let version = kept.as_ref().and_then(|kept| kept.in_force.clone());
            let Some(version) = version.filter(|one| one.number != self.number()) else {
                // Only with the sender, which is here, would it fail.
                let _changed = told.changed().await;
                continue;
            };
            let prepared = self
                .mine
                .lock()
                .prepared
                .take_if(|(own, _)| *own == version.number);
            let read = match prepared {
                Some((_, config)) => Ok(config),
                None => self.read(&version).await,
            };
            match read {
                Ok(config) => return (version, config),
                Err(Unready::Away(why)) => tracing::debug!(why, "reading the rules in force"),
                Err(Unready::Mistakes(why)) => self.cannot(&why.join("; ")),
            }
            let _waited = timeout(AGAIN, told.changed()).await;
        }
    }

    /// This node cannot work with the version in force: it says so, and owns nothing meanwhile where
    /// another node can.
    fn cannot(&self, why: &str) {
        let mut is_new = false;
        self.nodes.say_of_rules(|rules| {
            is_new = rules.trouble.as_deref() != Some(why);
            rules.trouble = Some(why.to_owned());
        });
        if is_new {
            tracing::error!(
                why,
                "this node cannot work with the rules of the cluster; it is tried again"
            );
        }
        // What an operator drains stays so when it is well again.
        if !self.nodes.0.pulse().draining {
            self.nodes.0.drain(true);
            self.mine.lock().is_drained = true;
        }
    }

    /// The version that this node works with; 0 where it has none yet.
    fn number(&self) -> u64 {
        let mine = self.mine.lock();
        mine.in_force.as_ref().map_or(0, |one| one.number)
    }

    /// This node works with a version from now on.
    pub fn is_in_force(&self, version: Version) {
        let number = version.number;
        {
            let mut mine = self.mine.lock();
            mine.in_force = Some(version);
            mine.not_before = None;
            if std::mem::take(&mut mine.is_drained) {
                self.nodes.0.drain(false);
            }
        }
        tracing::info!(
            version = number,
            "the rules of the cluster are in force here"
        );
        self.compare(|rules| {
            (rules.in_force, rules.trouble) = (number, None);
            rules.prepared = rules.prepared.max(number);
        });
    }

    /// A version could not be put in force here: it is tried again in a while.
    pub fn is_not_in_force(&self) {
        self.mine.lock().not_before = Some(Instant::now() + AGAIN);
    }

    /// The files of this node say something else from now on.
    pub fn has_files(&self, files: &RuleFiles) {
        {
            let mut mine = self.mine.lock();
            (mine.hash, mine.refused_files) = (files.hash(), None);
        }
        self.compare(|_| {});
    }

    /// The files of this node say something else that is not proposed, for this reason.
    pub fn refuse_files(&self, why: String) {
        self.mine.lock().refused_files = Some(why);
    }

    /// Why a change of the rule files is not in force, for a person: of this node's, else of the
    /// last that was proposed by any.
    pub fn refused_change(&self) -> Option<String> {
        let own = self.mine.lock().refused_files.clone();
        own.or_else(|| {
            let kept = self.told.borrow();
            let Objection { number, node, why } = kept.as_ref()?.refused()?;
            let why = why.join("\n");
            Some(format!(
                "version {number} is refused by the node {node}:\n{why}"
            ))
        })
    }

    /// Whether the files of this node say something else than the version that it works with.
    pub fn differs(&self) -> bool {
        let mine = self.mine.lock();
        let in_force = mine.in_force.as_ref();
        in_force.is_some_and(|one| one.proposal.hash != mine.hash)
    }

    /// Says whether its files differ, and in the same breath what else there is to say.
    fn compare(&self, say: impl FnOnce(&mut RulesPulse)) {
        let (differs, version) = (self.differs(), self.number());
        let mut is_new = false;
        self.nodes.say_of_rules(|rules| {
            say(rules);
            is_new = rules.differs != differs;
            rules.differs = differs;
        });
        if is_new && differs {
            tracing::warn!(
                version,
                "the rule files of this node say something else than the rules of the cluster, \
                 which are in force; change the files while it runs, or see pointsman rules put"
            );
        }
    }
}
