//! One node: it follows until it may take over, and owns until it must stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pointsman_journal::disk::CommitLog;
use pointsman_log::{Log, LogError, Place, Shard};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::fold::Fold;
use crate::follower::Following;
use crate::heart::{Beating, Doing, Heart, Identity, Member, Role};
use crate::record::{Owner, What};
use crate::sequencer::{Appender, Sequencer};
use crate::watch::{Look, Watch};
use crate::{StandByError, Store};

/// The shard of a cluster that has one.
const SHARD: Shard = Shard(0);

/// How long to wait before a store that could not follow is filled anew.
const AGAIN: Duration = Duration::from_secs(2);

/// How long a release may take: nobody needs to wait for it longer than others would without it.
const RELEASE: Duration = Duration::from_secs(3);

/// A node of a cluster. It beats for as long as it is there.
pub struct Node {
    log: Arc<dyn Log>,
    pub(crate) heart: Arc<Heart>,
    /// The last epoch in which it has stopped to own the log.
    stopped: Arc<AtomicU64>,
    _beating: Beating,
}

/// An ownership, with the store that is the owner's now.
pub struct Taken<S> {
    /// The store, with everything that the log has come to.
    pub store: S,
    /// The right to append.
    pub ownership: Ownership,
}

/// The right of a node to run the bus, until it ends.
pub struct Ownership {
    pub(crate) sequencer: Arc<Mutex<Sequencer>>,
    epoch: u64,
    ended: CancellationToken,
    log: Arc<dyn Log>,
    stopped: Arc<AtomicU64>,
    _guard: JoinSet<()>,
}

impl Node {
    /// Joins the cluster of a log, and beats from then on.
    #[must_use]
    pub fn join(log: Arc<dyn Log>, me: Identity) -> Self {
        let (heart, beating) = Heart::start(&log, me);
        Self {
            log,
            heart,
            stopped: Arc::default(),
            _beating: beating,
        }
    }

    /// What was heard of the other nodes.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.heart.members()
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.heart.me
    }

    /// Follows the log, until this node owns it.
    ///
    /// Dropping it gives the store up: it can be opened anew and goes on where it was.
    ///
    /// # Errors
    /// [`StandByError`], where this node can follow no more, or must not own.
    pub async fn stand_by<S: Store>(&self, store: S) -> Result<Taken<S>, StandByError> {
        let log = &*self.log;
        let mut following = Following::begin(log, SHARD, store);
        let mut watch = Watch::new(&self.heart, self.stopped.load(Ordering::Relaxed));
        self.note(&following.fold);
        let mut ticks = interval(self.heart.me.beat());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut claims = JoinSet::new();
        loop {
            let read = tokio::select! {
                _ = ticks.tick() => None,
                read = following.next() => Some(read),
            };
            if let Some(read) = read {
                let taken = following.take(log, SHARD, read).await;
                self.recover(taken, &mut following).await?;
                self.note(&following.fold);
                continue;
            }
            if let Some(other) = self.heart.namesake() {
                return Err(StandByError::Namesake(other.node, other.pulse.address));
            }
            match watch.look(&following, claims.is_empty()) {
                Look::Follow => {}
                Look::Claim(owner) => {
                    let claim = What::Claim(owner).encode(following.fold.epoch() + 1);
                    let log = Arc::clone(&self.log);
                    claims.spawn(async move { log.append(SHARD, claim).await });
                }
                Look::Own(owner) => return self.own(following, owner).await,
            }
            while let Some(claimed) = claims.try_join_next() {
                if let Ok(Err(error)) = claimed {
                    tracing::warn!(%error, "a claim has not come into the log");
                }
            }
        }
    }

    /// Says what this node does.
    fn note(&self, fold: &Fold) {
        let role = if fold.is_complete() {
            Role::Spare
        } else {
            Role::Filling
        };
        let epoch = fold.epoch();
        self.heart.set_doing(Doing { role, epoch });
        self.heart.place.store(fold.place().0, Ordering::Relaxed);
    }

    /// What is left to do where that failed: a store that fails is filled anew, and a log that cannot be
    /// followed ends it.
    async fn recover<S: Store>(
        &self,
        taken: Result<(), StandByError>,
        following: &mut Following<S>,
    ) -> Result<(), StandByError> {
        let mut failed = taken;
        while let Err(error) = failed {
            if !matches!(error, StandByError::Store(_)) {
                return Err(error);
            }
            tracing::error!(%error, "the store is filled anew from the log");
            sleep(AGAIN).await;
            failed = following.begin_anew(&*self.log, SHARD).await;
        }
        Ok(())
    }

    /// Makes the store the owner's.
    async fn own<S: Store>(
        &self,
        mut following: Following<S>,
        owner: Owner,
    ) -> Result<Taken<S>, StandByError> {
        if !following.fold.is_complete() && !following.is_embedded {
            // Nothing that was acknowledged can be in it.
            following.empty().await?;
        }
        let (store, fold) = following.into_store().ok_or(StandByError::Interrupted)?;
        let epoch = fold.epoch();
        self.heart.set_doing(Doing {
            role: Role::Owner,
            epoch,
        });
        tracing::info!(epoch, "this node owns the store");
        let ended = CancellationToken::new();
        let mut guard = JoinSet::new();
        guard.spawn(Arc::clone(&self.heart).guard(epoch, ended.clone()));
        let log = Arc::clone(&self.log);
        let told = Arc::clone(&self.heart.place);
        let sequencer = Sequencer::new(Arc::clone(&log), SHARD, owner, fold, told, ended.clone());
        Ok(Taken {
            store,
            ownership: Ownership {
                sequencer: Arc::new(Mutex::new(sequencer)),
                epoch,
                ended,
                log,
                stopped: Arc::clone(&self.stopped),
                _guard: guard,
            },
        })
    }
}

impl Ownership {
    /// Where the store's commits go.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn commit_log(&self) -> Box<dyn CommitLog> {
        Box::new(Appender {
            sequencer: Arc::clone(&self.sequencer),
            runtime: Handle::current(),
        })
    }

    /// The number of this ownership.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Waits until this node must stop at once.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends when this node must stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Why it has ended, as far as that is known; none while it has not.
    pub async fn why(&self) -> Option<String> {
        self.sequencer.lock().await.why().map(str::to_owned)
    }

    /// Whether other nodes can follow from the log alone. Until then nobody must be served.
    pub async fn has_walked(&self) -> bool {
        self.sequencer.lock().await.fold().has_walked()
    }

    /// Bytes in the log that the next walk through the store makes superfluous, about.
    pub async fn bytes_since_walked(&self) -> u64 {
        self.sequencer.lock().await.fold().bytes_since_walked()
    }

    /// Removes from the log what nobody needs: what lies before the last walk.
    ///
    /// # Errors
    /// As [`Log::trim`].
    pub async fn trim(&self) -> Result<(), LogError> {
        let walked = self.sequencer.lock().await.fold().walked();
        self.log.trim(SHARD, walked.unwrap_or(Place::START)).await
    }

    /// Gives the store up once it is closed, so that another node can take over at once.
    pub async fn release(self) {
        if self.ended.is_cancelled() {
            return;
        }
        let release = async { self.sequencer.lock().await.release().await };
        match timeout(RELEASE, release).await {
            Ok(Ok(())) => tracing::info!(epoch = self.epoch, "this node has given the store up"),
            Ok(Err(error)) => tracing::warn!(%error, "giving the store up"),
            Err(_) => tracing::warn!("giving the store up takes too long; others wait for it"),
        }
        self.ended.cancel();
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.stopped.store(self.epoch, Ordering::Relaxed);
        self.ended.cancel();
    }
}
