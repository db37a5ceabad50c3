//! How the nodes of a cluster divide a limit that holds for all of them together.
//!
//! ```text
//! node:     what it wants, what it holds ──▶ in its beats ──▶ grantor: divides, grants
//!                 obeys ◀── what it is granted, in the grantor's beats ◀──┘
//! ```
//!
//! The grantor of a limit is the node that owns the shard where the limit has its home. Amounts are
//! whole numbers of any unit: attempts at once, or thousandths of the attempts in a period.
//!
//! # Invariants
//!
//! 1. What all nodes hold together never exceeds the limit, by what the grantor counts: of each
//!    node the most that it may hold still, until that node has said that it holds less and has
//!    heard the grant by which it does. So a share is lowered before another one is raised.
//! 2. What a node holds lapses once the grantor has not said for four fifths of the takeover time
//!    that it hears the node, counted from when the beat began that was heard. The grantor counts a
//!    node that has fallen silent until its takeover time has passed.
//! 3. A node obeys grants of the last ownership of the home shard that it has heard of, and no
//!    earlier ones. A new grantor raises nothing before every living node has heard of it: what
//!    they say that they hold after that is what the earlier grants have come to.
//! 4. A node that has been granted nothing, or less, uses the floor: a single one. All of them
//!    together exceed the limit by that at most.
//!
//! Pure: the time is given, and beats come and go elsewhere.

mod divide;
mod grant;
mod ledger;
mod own;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod words;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pointsman_log::Shard;
use tokio::time::Instant;

use self::divide::coarse;
use self::ledger::Ledger;
use self::own::{Granted, Own};
use self::words::Statement;
pub use self::words::Words;

/// How many limits are divided by demand. Those behind them, in the order of their keys, are
/// divided evenly among the nodes that own a shard: beats must stay small.
const DIVIDED_MAX: usize = 512;

/// For how many beats a node goes on to want what it wanted.
const WANTED_BEATS: u32 = 2;

/// A limit that holds for all nodes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which one it is: the same on all nodes.
    pub key: u64,
    /// The shard whose owner divides it.
    pub home: Shard,
    /// What all nodes may use together.
    pub most: u64,
    /// How much a single one is.
    pub one: u64,
}

impl Limit {
    /// What any node may use without being granted it, where so many nodes have shards: a single
    /// one, or the node's even part where that is less.
    fn floor(&self, nodes: u64) -> u64 {
        self.one.min((self.most / nodes.max(1)).max(1))
    }
}

/// What a node could use of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The limit's key.
    pub key: u64,
    /// How much it could use now.
    pub wants: u64,
    /// How much it cannot give back at once, since it is in use.
    pub in_use: u64,
}

/// What a node may use of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The limit's key.
    pub key: u64,
    /// How much.
    pub amount: u64,
}

/// How a node stands to a shard, as its beat says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The last epoch that it knows of.
    pub(crate) epoch: u64,
    /// Whether it owns the shard in that epoch.
    pub(crate) owns: bool,
}

/// A beat of another process, as far as it concerns shares.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) number: u64,
    pub(crate) takeover: Duration,
    /// By shard.
    pub(crate) standing: Vec<Standing>,
    pub(crate) words: Words,
}

/// How this node stands when it beats.
#[derive(Clone, Debug)]
pub(crate) struct Stance {
    /// By shard.
    pub(crate) standing: Vec<Standing>,
    /// Since when it hears the others without interruption; none where it hears nobody just now.
    pub(crate) live_since: Option<Instant>,
    /// When its last beat began that was acknowledged.
    pub(crate) acknowledged: Option<Instant>,
}

/// What is known of another process.
#[derive(Debug)]
struct Other {
    heard: Said,
    /// What it says of limits, by their keys.
    statements: BTreeMap<u64, Statement>,
    /// When a beat of it came last.
    stirred: Instant,
}

/// The shares of a node in all limits, and what it grants to others.
#[derive(Debug)]
pub(crate) struct Shares {
    me: u64,
    takeover: Duration,
    limits: BTreeMap<u64, Limit>,
    own: BTreeMap<u64, Own>,
    others: BTreeMap<u64, Other>,
    /// The last epoch of each shard that anybody has told of.
    epochs: Vec<u64>,
    /// Own beats of late, with when they began.
    beats: VecDeque<(u64, Instant)>,
    /// Of the shards that this node owns.
    ledgers: BTreeMap<Shard, Ledger>,
    /// What this node has found to be open.
    open: BTreeSet<u64>,
    /// What it has said last, and whether somebody waits for what it says next.
    said: Words,
    is_asked: bool,
}

impl Shares {
    /// Of a process without limits.
    pub(crate) fn new(me: u64, takeover: Duration) -> Self {
        Self {
            me,
            takeover,
            limits: BTreeMap::new(),
            own: BTreeMap::new(),
            others: BTreeMap::new(),
            epochs: Vec::new(),
            beats: VecDeque::new(),
            ledgers: BTreeMap::new(),
            open: BTreeSet::new(),
            said: Words::default(),
            is_asked: false,
        }
    }

    /// Puts these limits in force. All of them are told anew by [`Shares::shares`].
    pub(crate) fn set_limits(&mut self, limits: Vec<Limit>) {
        self.limits = limits.into_iter().map(|limit| (limit.key, limit)).collect();
        let limits = &self.limits;
        self.own.retain(|key, _| limits.contains_key(key));
        self.own.values_mut().for_each(|own| own.told = None);
        for ledger in self.ledgers.values_mut() {
            ledger.retain(|key| limits.contains_key(&key));
        }
    }

    /// What this node wants now of the limits that it wants or uses anything of, and what it has
    /// found to be open. Whoever works by the shares obeys what was last told.
    pub(crate) fn demand(&mut self, demands: &[Demand], open: BTreeSet<u64>, now: Instant) {
        self.open = open;
        let wanted_for = self.takeover / 10 * WANTED_BEATS;
        for own in self.own.values_mut() {
            (own.in_use, own.obeyed) = (0, own.telling);
            let is_past = |wanted| now.saturating_duration_since(wanted) > wanted_for;
            if own.wanted.is_none_or(is_past) {
                own.wants = 0;
            }
        }
        for demand in demands {
            if self.limits.contains_key(&demand.key) {
                let own = self.own.entry(demand.key).or_default();
                own.in_use = demand.in_use;
                let wants = demand.wants.max(demand.in_use);
                if wants > 0 && wants >= own.wants {
                    (own.wants, own.wanted) = (wants, Some(now));
                }
            }
        }
    }

    /// Whether others wait for what this node would say now.
    pub(crate) fn has_news(&self, now: Instant) -> bool {
        let said = (&self.said.says, &self.said.open);
        let open = self.open.iter().copied().collect();
        self.is_asked || (&self.statements(now), &open) != said
    }

    /// What this node may use now of the limits of which that has changed since it was told last.
    /// From then on it may be obeyed.
    pub(crate) fn shares(&mut self, now: Instant) -> Vec<Share> {
        let nodes = self.nodes(now);
        let even = self.even();
        let mut changed = Vec::new();
        for (key, limit) in &self.limits {
            let own = self.own.entry(*key).or_default();
            let granted = own.granted(now);
            let amount = match even.is_some_and(|even| *key >= even) {
                true => limit.most / nodes,
                false => granted.min(limit.most),
            };
            let amount = amount.max(limit.floor(nodes));
            (own.telling, own.obeyed) = (granted, own.obeyed.max(granted));
            if own.told != Some(amount) {
                own.told = Some(amount);
                changed.push(Share { key: *key, amount });
            }
        }
        changed
    }

    /// What other nodes have found to be open, and see to. Of several nodes that have, the first by
    /// its process does.
    pub(crate) fn open_elsewhere(&self, now: Instant) -> BTreeSet<u64> {
        let living = self.others.iter().filter(|(_, other)| other.is_living(now));
        let open = living.flat_map(|(process, other)| {
            let open = other.heard.words.open.iter().copied();
            open.filter(move |key| !self.open.contains(key) || *process < self.me)
        });
        open.collect()
    }

    /// A beat of another process has come.
    pub(crate) fn hear(&mut self, process: u64, heard: Said, now: Instant) {
        let statements = heard.words.says.iter();
        let statements = statements.map(|said| (said.key(), *said)).collect();
        match self.others.entry(process) {
            Entry::Occupied(mut other) => {
                let other = other.get_mut();
                other.stirred = now;
                // One that came late says nothing of now.
                if heard.number <= other.heard.number {
                    return;
                }
                let differs = heard.words.differs(&other.heard.words);
                self.is_asked |= differs && !self.ledgers.is_empty();
                (other.heard, other.statements) = (heard, statements);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Other {
                    heard,
                    statements,
                    stirred: now,
                });
            }
        }
        self.take_grants(process);
    }

    /// Takes over what a process grants to this one.
    fn take_grants(&mut self, process: u64) {
        let Some(other) = self.others.get(&process) else {
            return;
        };
        // Who grants now waits until all have heard of that.
        self.is_asked |= note_epochs(&mut self.epochs, &other.heard.standing);
        let words = &other.heard.words;
        let Some((place, number)) = words.hears(self.me) else {
            return;
        };
        let Some((_, began)) = self.beats.iter().find(|(beat, _)| *beat == number) else {
            return;
        };
        let until = *began + lease(self.takeover);
        for grant in &words.grants {
            let Some(limit) = self.limits.get(&grant.key()) else {
                continue;
            };
            let home = usize::from(limit.home.0);
            let last = self.epochs.get(home).copied().unwrap_or(0);
            let standing = other.heard.standing.get(home);
            if !standing.is_some_and(|standing| standing.owns && standing.epoch == last) {
                continue;
            }
            if let Some(amount) = grant.to(place) {
                let own = self.own.entry(limit.key).or_default();
                own.granted = Some(Granted { amount, until });
            }
        }
    }

    /// What this node says in its beat of this number, which begins now.
    pub(crate) fn say(&mut self, number: u64, stance: &Stance, now: Instant) -> Words {
        note_epochs(&mut self.epochs, &stance.standing);
        self.beats.push_back((number, now));
        while let Some((_, began)) = self.beats.front()
            && now.saturating_duration_since(*began) > self.takeover
        {
            self.beats.pop_front();
        }
        if let Some(live_since) = stance.live_since {
            let own = self.takeover;
            self.others.retain(|_, other| {
                let silence = now.saturating_duration_since(other.stirred.max(live_since));
                silence < own.max(other.heard.takeover)
            });
        }
        self.keep_ledgers(number, stance, now);
        let heard = self.others.iter();
        let heard: Vec<_> = heard
            .map(|(process, other)| (*process, other.heard.number))
            .collect();
        let grants = self.grant(number, stance, &heard, now);
        self.is_asked = false;
        self.said = Words {
            heard,
            says: self.statements(now),
            grants,
            open: self.open.iter().copied().collect(),
        };
        self.said.clone()
    }

    /// What this node says of limits.
    fn statements(&self, now: Instant) -> Vec<Statement> {
        let even = self.even();
        let own = self.own.iter();
        let divided = own.filter(|(key, _)| even.is_none_or(|even| **key < even));
        let statements = divided.filter_map(|(key, own)| {
            let limit = self.limits.get(key)?;
            let wants = coarse(own.wants, limit.most);
            let held = own.held(now);
            (held > 0 || wants > 0).then(|| Statement::new(*key, held, wants))
        });
        statements.collect()
    }

    /// How many living nodes have shards, this one included.
    fn nodes(&self, now: Instant) -> u64 {
        let has_shards = |other: &&Other| {
            let mut standing = other.heard.standing.iter();
            other.is_living(now) && standing.any(|standing| standing.owns)
        };
        let others = self.others.values().filter(has_shards).count();
        u64::try_from(others + 1).unwrap_or(u64::MAX)
    }

    /// The first of the limits that are divided evenly.
    fn even(&self) -> Option<u64> {
        self.limits.keys().nth(DIVIDED_MAX).copied()
    }
}

impl Other {
    fn is_living(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.stirred) < self.heard.takeover
    }
}

/// For how long a grant holds from when the beat began that its grantor has heard.
fn lease(takeover: Duration) -> Duration {
    takeover - takeover / 5
}

/// Notes later epochs; true where there is one.
fn note_epochs(epochs: &mut Vec<u64>, standing: &[Standing]) -> bool {
    if epochs.len() < standing.len() {
        epochs.resize(standing.len(), 0);
    }
    let mut has_later = false;
    for (epoch, standing) in epochs.iter_mut().zip(standing) {
        has_later |= standing.epoch > *epoch;
        *epoch = standing.epoch.max(*epoch);
    }
    has_later
}
