//! One node: it follows until it may take over, and owns until it must stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_journal::disk::{ApplyError, CommitLog};
use pointsman_log::{Log, LogError, Place, Shard};
use pointsman_schemas::Name;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::backlogs::Waiting;
use crate::follower::Following;
use crate::heart::{Beating, Doing, Heart, Identity, Member, Pulse, Role, RulesPulse};
use crate::record::{Owner, What};
use crate::sequencer::{Appender, Sequencer};
use crate::shares::{Demand, Limit, Share};
use crate::watch::{Look, Watch};
use crate::{StandByError, Store};

/// How often a node looks between two beats whether it may take over.
const LOOKS: u32 = 10;

/// How often it looks between two beats whether its shares have changed.
const SHARE_LOOKS: u32 = 4;

/// How long records are gathered before a store takes them: one transaction for many costs
/// it hardly more than one for each, and rows that come and go in between cost it nothing. Nobody
/// waits for a follower while the shard has an owner.
const GATHER: Duration = Duration::from_millis(200);

/// How long to wait before a store that could not follow is filled anew.
const AGAIN: Duration = Duration::from_secs(2);

/// How long a release may take: nobody needs to wait for it longer than others would without it.
const RELEASE: Duration = Duration::from_secs(3);

/// A node of a cluster. It beats for as long as it is there.
pub struct Node {
    log: Arc<dyn Log>,
    pub(crate) heart: Arc<Heart>,
    /// Held while a shard moves to another node, so that one does at a time.
    moving: Arc<Mutex<()>>,
    _beating: Beating,
}

/// An ownership, with the store that is the owner's now.
pub struct Taken<S> {
    /// The store, with everything that the log has come to.
    pub store: S,
    /// The right to append.
    pub ownership: Ownership,
}

/// The right of a node to run the bus with a shard, until it ends.
pub struct Ownership {
    pub(crate) sequencer: Arc<Mutex<Sequencer>>,
    shard: Shard,
    epoch: u64,
    ended: CancellationToken,
    log: Arc<dyn Log>,
    pub(crate) heart: Arc<Heart>,
    doing: Arc<Doing>,
    moving: Arc<Mutex<()>>,
    _guard: JoinSet<()>,
}

/// A shard on its way to another node.
pub struct Handover {
    shard: Shard,
    heir: Name,
    heart: Arc<Heart>,
    _moving: OwnedMutexGuard<()>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("node", &self.heart.me.node)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Joins the cluster of a log that has so many shards, and beats from then on.
    #[must_use]
    pub fn join(log: Arc<dyn Log>, me: Identity, shards: u16) -> Self {
        let (heart, beating) = Heart::start(&log, me, shards);
        Self {
            log,
            heart,
            moving: Arc::default(),
            _beating: beating,
        }
    }

    /// What was heard of the other nodes: of each the process that was heard last.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.heart.members()
    }

    /// What this node says of itself in its next beat.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.heart.own_pulse(0)
    }

    /// How many shards the log has.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.heart.shards().len()).unwrap_or(u16::MAX)
    }

    /// By the engine of the log, how long ago this node heard itself through that; none where it never
    /// has. Shard s lies in that with the index s modulo their number.
    #[must_use]
    pub fn echoes(&self) -> Vec<Option<Duration>> {
        self.heart.echoes()
    }

    /// Has this node own nothing while another one can, or ends that. It is forgotten with the
    /// process.
    pub fn drain(&self, is_draining: bool) {
        self.heart.is_draining.store(is_draining, Ordering::Relaxed);
    }

    /// Changes what this node says of the rules. Where that makes a difference the others hear it at
    /// once.
    pub fn say_of_rules(&self, change: impl FnOnce(&mut RulesPulse)) {
        self.heart.say_of_rules(change);
    }

    /// Puts limits in force that hold for all nodes together. What this node may use of each is
    /// told anew by [`Node::shares`].
    pub fn share(&self, limits: Vec<Limit>) {
        self.heart.shares().set_limits(limits);
    }

    /// What this node may use of the limits of which that has changed since it was told last. From
    /// then on it may be obeyed.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        self.heart.shares().shares(Instant::now())
    }

    /// Says what this node could use of the limits that it could use anything of, and what it has
    /// found to be open. By then all that was told by [`Node::shares`] is obeyed.
    pub fn demand(&self, demands: &[Demand], open: BTreeSet<u64>) {
        self.heart.shares().demand(demands, open, Instant::now());
        self.heart.tell_shares();
    }

    /// What other nodes have found to be open, and see to: it is open until they say no more that
    /// it is.
    #[must_use]
    pub fn open_elsewhere(&self) -> BTreeSet<u64> {
        self.heart.shares().open_elsewhere(Instant::now())
    }

    /// Says what waits in the shards that this node owns and works with, of what has a bound.
    pub fn count_waiting(&self, shards: Vec<(Shard, Vec<Waiting>)>) {
        self.heart.backlogs().count(shards);
    }

    /// What waits in the shards of which this node has counted nothing, by the keys of bounds, as
    /// their owners have said.
    #[must_use]
    pub fn waits_elsewhere(&self) -> BTreeMap<u64, u64> {
        self.heart.backlogs().elsewhere(Instant::now())
    }

    /// Waits until a share may have changed: beats have come, or the time has that passes between
    /// two looks. Safe to cancel.
    pub async fn shared_anew(&self) {
        let looks = self.heart.me.beat() / SHARE_LOOKS;
        let _only_time = timeout(looks, self.heart.is_shared_anew.notified()).await;
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.heart.me
    }

    /// Follows the log of a shard, until this node owns it.
    ///
    /// Dropping it gives the store up: it can be opened anew and goes on where it was.
    ///
    /// # Errors
    /// [`StandByError`], where this node can follow no more, or must not own. Others hear that it
    /// could not take the shard over.
    pub async fn stand_by<S: Store>(
        &self,
        shard: Shard,
        store: S,
    ) -> Result<Taken<S>, StandByError> {
        let taken = self.follow(shard, store).await;
        if taken.is_err() {
            self.heart.doing(shard).cannot_follow();
        }
        taken
    }

    async fn follow<S: Store>(&self, shard: Shard, store: S) -> Result<Taken<S>, StandByError> {
        let log = &*self.log;
        let mut following = Following::begin(log, shard, store);
        let mut watch = Watch::new(&self.heart, shard);
        let doing = self.heart.doing(shard);
        self.note(&doing, &mut following);
        let mut ticks = interval(self.heart.me.beat() / LOOKS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut claims = JoinSet::new();
        let mut taken_at = Instant::now();
        loop {
            let has_owner = following.fold.owner().is_some() && self.heart.is_owned(shard);
            let gathered = async {
                if has_owner && !following.has_more {
                    sleep_until(taken_at + GATHER).await;
                }
                following.next().await
            };
            let read = tokio::select! {
                biased;
                _ = ticks.tick() => None,
                read = gathered => Some(read),
            };
            if let Some(read) = read {
                let taken = following
                    .take(log, shard, read, self.heart.known(shard))
                    .await;
                self.recover(shard, taken, &mut following).await?;
                self.note(&doing, &mut following);
                taken_at = Instant::now();
                continue;
            }
            self.rest_or_go_on(shard, &mut following, claims.is_empty());
            self.note(&doing, &mut following);
            if let Some(other) = self.heart.namesake() {
                return Err(StandByError::Namesake(other.node, other.pulse.address));
            }
            if following.rests() {
                continue;
            }
            match watch.look(&following, claims.is_empty()) {
                Look::Follow => {}
                Look::Claim(owner) => {
                    let claim = What::Claim(owner).encode(following.fold.epoch() + 1);
                    let log = Arc::clone(&self.log);
                    claims.spawn(async move { log.append(shard, claim).await });
                }
                Look::Own(owner, claimed) => {
                    return self.own(shard, following, (owner, claimed)).await;
                }
            }
            while let Some(claimed) = claims.try_join_next() {
                if let Ok(Err(error)) = claimed {
                    tracing::warn!(%shard, %error, "a claim has not come into the log");
                }
            }
        }
    }

    /// Follows no further while other nodes that come before this one do, unless this one has to do
    /// with who owns the shard. An owner that has not appended anything yet may wait to hear that
    /// this one knows of it.
    fn rest_or_go_on<S: Store>(
        &self,
        shard: Shard,
        following: &mut Following<S>,
        claims_nothing: bool,
    ) {
        let owner = following.fold.owner();
        let is_other = owner.is_some_and(|owner| owner.node != self.heart.me.node);
        let is_settled = following.fold.before().is_empty() && claims_nothing;
        let may_rest =
            is_other && is_settled && !following.is_embedded && self.heart.is_spared(shard);
        match (following.rests(), may_rest) {
            (false, true) => following.rest(),
            (true, false) => following.go_on(&*self.log, shard),
            _ => {}
        }
    }

    /// Says what a node that does not own a shard does with it.
    fn note<S: Store>(&self, doing: &Doing, following: &mut Following<S>) {
        let silence = self.heart.me.beat() / 2;
        let role = if following.rests() {
            Role::Idle
        } else if following.fold.is_complete() && following.has_caught_up(silence) {
            Role::Spare
        } else {
            Role::Filling
        };
        doing.set(role, following.fold.epoch());
        let place = following.fold.place().0;
        doing.place.store(place, Ordering::Relaxed);
    }

    /// What is left to do where that failed: a store that fails is filled anew, and a log that cannot be
    /// followed ends it.
    async fn recover<S: Store>(
        &self,
        shard: Shard,
        taken: Result<(), StandByError>,
        following: &mut Following<S>,
    ) -> Result<(), StandByError> {
        let mut failed = taken;
        while let Err(error) = failed {
            // What a later version has written it will not understand next time either.
            if !matches!(&error, StandByError::Store(ApplyError::Store(_))) {
                return Err(error);
            }
            tracing::error!(%shard, %error, "the store is filled anew from the log");
            sleep(AGAIN).await;
            failed = following.begin_anew(&*self.log, shard).await;
        }
        Ok(())
    }

    /// Makes the store the owner's.
    async fn own<S: Store>(
        &self,
        shard: Shard,
        mut following: Following<S>,
        (owner, claimed): (Owner, Instant),
    ) -> Result<Taken<S>, StandByError> {
        if !following.fold.is_complete() && !following.is_embedded {
            // Nothing that was acknowledged can be in it.
            following.empty().await?;
        }
        let (store, fold) = following.into_store().ok_or(StandByError::Interrupted)?;
        let epoch = fold.epoch();
        let doing = self.heart.doing(shard);
        doing.set(Role::Owner, epoch);
        tracing::info!(%shard, epoch, "this node owns the store");
        let ended = CancellationToken::new();
        let mut guard = JoinSet::new();
        guard.spawn(Arc::clone(&self.heart).guard(shard, (epoch, claimed), ended.clone()));
        let (log, heart) = (Arc::clone(&self.log), Arc::clone(&self.heart));
        let sequencer = Sequencer::new(Arc::clone(&log), shard, owner, fold, heart, ended.clone());
        Ok(Taken {
            store,
            ownership: Ownership {
                sequencer: Arc::new(Mutex::new(sequencer)),
                shard,
                epoch,
                ended,
                log,
                heart: Arc::clone(&self.heart),
                doing,
                moving: Arc::clone(&self.moving),
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
        self.log
            .trim(self.shard, walked.unwrap_or(Place::START))
            .await
    }

    /// Waits until another node should have the shard: one that has everything of it, and owns at
    /// least two shards less than this one, or is there while this one is drained. One shard of a node moves at a time: no other one does
    /// until what is returned is gone. Safe to cancel.
    pub async fn handover(&self) -> Handover {
        let mut looks = interval(self.heart.me.beat());
        loop {
            looks.tick().await;
            if self.heart.heir(self.shard).is_none() {
                continue;
            }
            let moving = Arc::clone(&self.moving).lock_owned().await;
            // Another one may have moved meanwhile.
            if let Some(heir) = self.heart.heir(self.shard) {
                tracing::info!(shard = %self.shard, %heir, "the shard goes to another node");
                return Handover {
                    shard: self.shard,
                    heir,
                    heart: Arc::clone(&self.heart),
                    _moving: moving,
                };
            }
        }
    }

    /// Gives the store up once it is closed, so that another node can take over at once.
    pub async fn release(self) {
        if self.ended.is_cancelled() {
            return;
        }
        let release = async { self.sequencer.lock().await.release().await };
        match timeout(RELEASE, release).await {
            Ok(Ok(())) => {
                tracing::info!(shard = %self.shard, epoch = self.epoch, "this node has given the store up");
            }
            Ok(Err(error)) => tracing::warn!(%error, "giving the store up"),
            Err(_) => tracing::warn!("giving the store up takes too long; others wait for it"),
        }
        self.ended.cancel();
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.doing.stopped.store(self.epoch, Ordering::Relaxed);
        self.ended.cancel();
    }
}

impl Handover {
    /// Waits until the shard has arrived, or has not in the time that a takeover takes.
    pub async fn arrived(self) {
        let arrived = async {
            while !self.heart.owns(&self.heir, self.shard) {
                sleep(self.heart.me.beat() / LOOKS).await;
            }
        };
        if timeout(self.heart.me.takeover, arrived).await.is_err() {
            tracing::warn!(shard = %self.shard, heir = %self.heir, "the shard has not arrived there");
        }
    }
}
