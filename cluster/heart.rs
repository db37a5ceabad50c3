//! Signs of life: what this node says of itself, what it hears of the others, and for how long it
//! may act.

mod balance;
mod hearing;
mod pulse;
mod shares;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use pointsman_log::{Beat, Beats, Log, Place, Shard};
use pointsman_schemas::Name;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::hearing::Heard;
pub use self::hearing::Member;
use self::pulse::owned;
pub use self::pulse::{Format, Pulse, Role, RulesPulse, ShardPulse};
use crate::backlogs::Backlogs;
use crate::record::VERSION_LAST;
use crate::shares::Shares;

/// How many beats a node makes within its takeover time.
const BEATS: u32 = 10;

/// Who a node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, which no other node of the cluster has.
    pub node: Name,
    /// The process: drawn at its start.
    pub incarnation: u64,
    /// For how long it has to be silent before another node may take over from it.
    pub takeover: Duration,
    /// Where its admin API is, as it tells the others.
    pub address: String,
    /// The format of its stores' commits: it understands those up to this one.
    pub store_format: u16,
}

impl Identity {
    /// How often it beats.
    pub(crate) fn beat(&self) -> Duration {
        self.takeover / BEATS
    }

    /// What it writes into logs.
    pub(crate) fn format(&self) -> Format {
        Format {
            store: self.store_format,
            records: VERSION_LAST,
        }
    }
}

/// What the node does with a shard.
#[derive(Debug, Default)]
pub(crate) struct Doing {
    /// Its role, and the epoch that it knows of.
    now: Mutex<(Role, u64)>,
    /// How far it has come in the shard's log.
    pub(crate) place: AtomicU64,
    /// The last epoch in which this process has stopped to own the shard.
    pub(crate) stopped: AtomicU64,
    /// The last epoch that this process has claimed, and when it did first.
    claimed: Mutex<Option<(u64, Instant)>>,
    /// Has the node beat at once.
    news: Arc<Notify>,
}

impl Doing {
    /// Says what the node does from the next beat on, which comes at once where it has begun or
    /// ended to own the shard: others send it what is for that.
    pub(crate) fn set(&self, role: Role, epoch: u64) {
        let (before, _) = std::mem::replace(&mut *self.now.lock(), (role, epoch));
        if before != role && (before == Role::Owner || role == Role::Owner) {
            self.news.notify_one();
        }
    }

    /// The node has not everything, and will not have it.
    pub(crate) fn cannot_follow(&self) {
        self.now.lock().0 = Role::Filling;
    }

    /// Claims an epoch from now on, or goes on with that.
    pub(crate) fn claim(&self, epoch: u64) {
        let mut claimed = self.claimed.lock();
        if claimed.is_none_or(|(last, _)| last != epoch) {
            *claimed = Some((epoch, Instant::now()));
        }
    }

    /// When this process first claimed an epoch; none where that is not its last claim.
    pub(crate) fn claimed(&self, epoch: u64) -> Option<Instant> {
        let claimed = *self.claimed.lock();
        claimed.filter(|(last, _)| *last == epoch).map(|(_, at)| at)
    }

    fn pulse(&self) -> ShardPulse {
        let (role, epoch) = *self.now.lock();
        let place = self.place.load(Ordering::Relaxed);
        ShardPulse { role, epoch, place }
    }
}

/// The beats of a node and those that it hears.
#[derive(Debug)]
pub(crate) struct Heart {
    pub(crate) me: Identity,
    /// By shard.
    doing: Vec<Arc<Doing>>,
    /// Whether this node is to own nothing while another one can.
    pub(crate) is_draining: AtomicBool,
    /// What it says of the rules.
    rules: Mutex<RulesPulse>,
    /// There is something to say before the next beat would.
    news: Arc<Notify>,
    heard: Mutex<Heard>,
    /// None where no beat has been acknowledged yet.
    life: Mutex<Option<Life>>,
    /// The limits that hold for all nodes together. Locked before what was heard.
    shares: Mutex<Shares>,
    /// What waits in all shards.
    backlogs: Mutex<Backlogs>,
    /// What was heard may have changed a share.
    pub(crate) is_shared_anew: Notify,
    /// Claims without a reason to: the order of the log alone must decide.
    #[cfg(test)]
    pub(crate) is_hasty: std::sync::atomic::AtomicBool,
}

/// The time in which a node may act without a break.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// When it began.
    since: Instant,
    /// When the last beat began that was acknowledged.
    beat: Instant,
}

/// Keeps the heart beating; dropping it stops that.
#[derive(Debug)]
pub(crate) struct Beating {
    _tasks: JoinSet<()>,
}

impl Heart {
    pub(crate) fn start(log: &Arc<dyn Log>, me: Identity, shards: u16) -> (Arc<Self>, Beating) {
        let news = Arc::<Notify>::default();
        let doing = |_| {
            let news = Arc::clone(&news);
            Arc::new(Doing {
                news,
                ..Doing::default()
            })
        };
        let engines = log.beats();
        let heart = Arc::new(Self {
            shares: Mutex::new(Shares::new(me.incarnation, me.takeover)),
            backlogs: Mutex::new(Backlogs::new(shards, me.takeover)),
            is_shared_anew: Notify::new(),
            doing: (0..shards).map(doing).collect(),
            news: Arc::clone(&news),
            is_draining: AtomicBool::default(),
            rules: Mutex::default(),
            heard: Mutex::new(Heard::begin(engines.len(), me.takeover / 2)),
            me,
            life: Mutex::new(None),
            #[cfg(test)]
            is_hasty: Default::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&heart).beat(Arc::clone(log)));
        for (engine, beats) in engines.into_iter().enumerate() {
            tasks.spawn(Arc::clone(&heart).listen(engine, beats));
        }
        (heart, Beating { _tasks: tasks })
    }

    /// What the node does with a shard.
    pub(crate) fn doing(&self, shard: Shard) -> Arc<Doing> {
        let doing = self.doing.get(usize::from(shard.0));
        doing.map_or_else(Arc::default, Arc::clone)
    }

    /// What this node says of its shards.
    pub(crate) fn shards(&self) -> Vec<ShardPulse> {
        self.doing.iter().map(|doing| doing.pulse()).collect()
    }

    /// What this node says of itself.
    pub(crate) fn own_pulse(&self, number: u64) -> Pulse {
        Pulse {
            incarnation: self.me.incarnation,
            number,
            takeover_ms: u64::try_from(self.me.takeover.as_millis()).unwrap_or(u64::MAX),
            address: self.me.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            format: self.me.format(),
            draining: self.is_draining.load(Ordering::Relaxed),
            shards: self.shards(),
            rules: self.rules.lock().clone(),
            shares: None,
            waits: Vec::new(),
        }
    }

    /// Changes what the node says of the rules; where that makes a difference it beats at once.
    pub(crate) fn say_of_rules(&self, change: impl FnOnce(&mut RulesPulse)) {
        let mut rules = self.rules.lock();
        let before = rules.clone();
        change(&mut rules);
        if *rules != before {
            self.news.notify_one();
        }
    }

    async fn beat(self: Arc<Self>, log: Arc<dyn Log>) {
        let mut ticks = interval(self.me.beat());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<Instant> = None;
        for number in 1.. {
            tokio::select! {
                biased;
                _ = ticks.tick() => {}
                () = self.news.notified() => {}
            }
            let pulse = self.whole_pulse(number);
            // It has nothing that JSON could not say.
            let body = serde_json::to_vec(&pulse).unwrap_or_default();
            let began = Instant::now();
            match log.beat(&self.me.node, body.into()).await {
                Ok(()) => self.live(began),
                Err(error) if told.is_none_or(|told| told.elapsed().as_secs() >= 10) => {
                    tracing::warn!(%error, "a beat of this node was not taken");
                    told = Some(began);
                }
                Err(_) => {}
            }
        }
    }

    async fn listen(self: Arc<Self>, engine: usize, mut beats: Beats) {
        while let Some(Beat { node, body }) = beats.next().await {
            match serde_json::from_slice(&body) {
                Ok(pulse) => self.hear(engine, node, pulse),
                Err(error) => tracing::debug!(%node, %error, "a beat that cannot be read"),
            }
        }
        tracing::error!("the beats of other nodes can be heard no more");
    }

    fn hear(&self, engine: usize, node: Name, mut pulse: Pulse) {
        let now = Instant::now();
        self.hear_shares(&mut pulse, now);
        self.hear_backlogs(&mut pulse, now);
        let mut heard = self.heard.lock();
        match pulse.incarnation == self.me.incarnation {
            true => heard.hear_itself(engine, now),
            false => heard.hear(engine, node, pulse, now),
        }
    }

    /// What was heard of other nodes: of each the process that was heard last.
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut last: BTreeMap<Name, Member> = BTreeMap::new();
        for member in self.heard.lock().members.values() {
            let is_later = |other: &Member| other.heard < member.heard;
            if member.node != self.me.node && last.get(&member.node).is_none_or(is_later) {
                last.insert(member.node.clone(), member.clone());
            }
        }
        last.into_values().collect()
    }

    /// Another living process that uses this node's name.
    pub(crate) fn namesake(&self) -> Option<Member> {
        // A beat of a process that is gone may come late.
        let least = self.me.takeover * 3;
        let is_namesake =
            |member: &&Member| member.node == self.me.node && member.heard - member.since > least;
        self.heard
            .lock()
            .members
            .values()
            .find(is_namesake)
            .cloned()
    }

    /// For how long nothing was heard of a process, through one of the engines at least, up to when
    /// this node last heard itself through that; none where it hears nobody just now.
    pub(crate) fn silence(&self, incarnation: u64) -> Option<Duration> {
        self.heard.lock().silence(incarnation, None)
    }

    /// The same, where this node has heard itself since then.
    pub(crate) fn silence_since(&self, incarnation: u64, since: Instant) -> Option<Duration> {
        self.heard.lock().silence(incarnation, Some(since))
    }

    /// Has the node beat at once.
    pub(crate) fn beat_now(&self) {
        self.news.notify_one();
    }

    /// By engine, how long ago this node heard itself through that; none where it never has.
    pub(crate) fn echoes(&self) -> Vec<Option<Duration>> {
        self.heard.lock().echoes(Instant::now())
    }

    /// Since when this node hears the others without interruption; none where it hears nobody just
    /// now.
    fn live_since(&self) -> Option<Instant> {
        self.heard.lock().live_since()
    }

    /// What a process has said last.
    pub(crate) fn pulse(&self, incarnation: u64) -> Option<Pulse> {
        let heard = self.heard.lock();
        heard
            .members
            .get(&incarnation)
            .map(|member| member.pulse.clone())
    }

    /// Up to which place there are records of a shard, as far as beats tell.
    pub(crate) fn known(&self, shard: Shard) -> Place {
        let heard = self.heard.lock();
        let places = heard.members.values().map(|one| one.pulse.of(shard).place);
        Place(places.max().unwrap_or_default())
    }

    /// Whether anybody has said that there is a later ownership of a shard than this one.
    pub(crate) fn is_followed(&self, shard: Shard, epoch: u64) -> bool {
        let is_later = |member: &Member| member.pulse.of(shard).epoch > epoch;
        self.heard.lock().members.values().any(is_later)
    }

    /// Whether this node may act just now.
    pub(crate) fn is_alive(&self) -> bool {
        self.deadline()
            .is_some_and(|deadline| deadline > Instant::now())
    }

    /// Until when this node may act; none where no beat of it has been taken yet.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (*self.life.lock()).map(|life| self.end(life))
    }

    fn end(&self, life: Life) -> Instant {
        let takeover = self.me.takeover;
        life.beat + takeover - takeover / 5
    }

    /// A beat that began then has just been acknowledged.
    fn live(&self, began: Instant) {
        let now = Instant::now();
        let mut life = self.life.lock();
        let before = life.filter(|before| self.end(*before) > now);
        *life = Some(Life {
            since: before.map_or(now, |before| before.since),
            beat: began,
        });
    }

    /// Until when this node may act, where it might without a break since a time.
    fn deadline_since(&self, since: Instant) -> Option<Instant> {
        let life = self.life.lock().filter(|life| life.since <= since)?;
        Some(self.end(life)).filter(|end| *end > Instant::now())
    }

    /// Whether this node may act just now, and might all the time since then.
    pub(crate) fn lives_since(&self, since: Instant) -> bool {
        self.deadline_since(since).is_some()
    }

    /// Ends an ownership, which was claimed at a time, once the node has been unable to say for too
    /// long since that it lives, or hears of a later ownership.
    pub(crate) async fn guard(
        self: Arc<Self>,
        shard: Shard,
        (epoch, claimed): (u64, Instant),
        ended: CancellationToken,
    ) {
        loop {
            let now = Instant::now();
            let Some(deadline) = self.deadline_since(claimed) else {
                tracing::error!(
                    "this node could not reach the log's engine, or one of several, for too long; it stops"
                );
                return ended.cancel();
            };
            if self.is_followed(shard, epoch) {
                tracing::error!(%shard, "another node has taken over; this one stops");
                return ended.cancel();
            }
            let look = now + self.me.beat() / 2;
            tokio::select! {
                biased;
                () = sleep_until(deadline.min(look)) => {}
                () = ended.cancelled() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
