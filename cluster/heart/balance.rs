//! Which node is to own a shard, as far as beats tell.
//!
//! Nodes that run different versions of the program work together while they are replaced one after
//! the other. What an owner writes every other node has to read: so one that writes a later format
//! than another one does, be it of stores, owns shards as one that is being drained does, where no
//! other node can. Packed records are not written before all can read them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_log::Shard;
use pointsman_schemas::Name;
use tokio::time::Instant;

use super::{Format, Heart, Member, Pulse, Role, owned};

/// How many nodes follow a shard beside its owner, of those that could.
const SPARES: usize = 1;

/// How many shards less than another one a node owns that is to get some of its.
const LESS: usize = 2;

impl Heart {
    /// How many other nodes that could take a shard over come before this one: those that may own
    /// shards do, then those that own fewer, and of those that own as many the one that a hash puts
    /// first.
    pub(crate) fn rank(&self, shard: Shard) -> u32 {
        let oldest = self.oldest_format();
        let own = (
            self.yields(oldest),
            owned(&self.shards()),
            weight(&self.me.node, shard),
        );
        let spares = self.spares(shard, Duration::ZERO);
        let comes_before = |spare: &&Member| {
            let Member { node, pulse, .. } = spare;
            (yields(pulse, oldest), pulse.owned(), weight(node, shard)) < own
        };
        let count = spares.iter().filter(comes_before).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The node that is to have a shard of this one's: one that owns at least two shards less, or
    /// any where this one is to own none.
    pub(crate) fn heir(&self, shard: Shard) -> Option<Name> {
        let own = owned(&self.shards());
        let oldest = self.oldest_format();
        let is_yielding = self.yields(oldest);
        self.spares(shard, self.me.takeover)
            .into_iter()
            .filter(|spare| !yields(&spare.pulse, oldest))
            .filter(|spare| is_yielding || spare.pulse.owned() + LESS <= own)
            .min_by_key(|spare| (spare.pulse.owned(), weight(&spare.node, shard)))
            .map(|spare| spare.node)
    }

    /// Whether enough living nodes that come before this one have everything of a shard that another
    /// one owns: this one need not follow it. Those come first that may own shards, of them those that
    /// are to get some of its owner's, and of them the ones that a hash puts first.
    pub(crate) fn is_spared(&self, shard: Shard) -> bool {
        let Some(owners) = self.owned_by_owner(shard) else {
            return false;
        };
        let place = |is_yielding: bool, owned: usize, node: &Name| {
            let is_heir = owned + LESS <= owners;
            (is_yielding, !is_heir, weight(node, shard))
        };
        let oldest = self.oldest_format();
        let own = place(self.yields(oldest), owned(&self.shards()), &self.me.node);
        let comes_before = |spare: &&Member| {
            let Member { node, pulse, .. } = spare;
            place(yields(pulse, oldest), pulse.owned(), node) < own
        };
        let spares = self.spares(shard, Duration::ZERO);
        spares.iter().filter(comes_before).count() >= SPARES
    }

    /// Whether a node says that it owns a shard.
    pub(crate) fn owns(&self, node: &Name, shard: Shard) -> bool {
        let owns =
            |member: &Member| member.node == *node && member.pulse.of(shard).role == Role::Owner;
        self.members().iter().any(owns)
    }

    /// Whether another node owns a shard, as the one says that has heard of its last owner.
    pub(crate) fn is_owned(&self, shard: Shard) -> bool {
        self.owned_by_owner(shard).is_some()
    }

    /// How many shards the node owns that owns this one; none where none does.
    fn owned_by_owner(&self, shard: Shard) -> Option<usize> {
        let heard = self.heard.lock();
        let said = |member: &&Member| {
            let said = member.pulse.of(shard);
            (said.epoch, said.role == Role::Owner)
        };
        let last = heard.members.values().max_by_key(said);
        let owner = last.filter(|last| last.pulse.of(shard).role == Role::Owner);
        owner.map(|owner| owner.pulse.owned())
    }

    /// Whether all living nodes read records of a version.
    pub(crate) fn all_read(&self, records: u8) -> bool {
        let now = Instant::now();
        let heard = self.heard.lock();
        let mut members = heard.members.values();
        members.all(|member| member.pulse.format.records >= records || !member.speaks(now))
    }

    /// The oldest format that a node writes which speaks, and is not being drained.
    fn oldest_format(&self) -> Format {
        let now = Instant::now();
        let others = self.members().into_iter();
        let others = others.filter(|member| member.speaks(now) && !member.pulse.draining);
        let others = others.map(|member| member.pulse.format);
        others.fold(self.me.format(), Format::min)
    }

    /// Whether this node is to own nothing while another one can, or has not heard all of them yet.
    pub(crate) fn may_yield(&self) -> bool {
        let heard_for = self.live_since().map(|since| since.elapsed());
        heard_for.is_none_or(|heard_for| heard_for < self.me.beat() * 2)
            || self.yields(self.oldest_format())
    }

    /// Whether this node is to own nothing while another one can.
    fn yields(&self, oldest: Format) -> bool {
        self.is_draining.load(Ordering::Relaxed) || self.me.format().store > oldest.store
    }

    fn living(&self) -> impl Iterator<Item = Member> + use<> {
        let now = Instant::now();
        let members = self.members().into_iter();
        members.filter(move |member| member.is_alive(now))
    }

    /// The living nodes that have everything of a shard, and have been heard for so long.
    fn spares(&self, shard: Shard, since: Duration) -> Vec<Member> {
        let now = Instant::now();
        let is_spare = |member: &Member| {
            member.pulse.of(shard).role == Role::Spare && now - member.since >= since
        };
        self.living().filter(is_spare).collect()
    }
}

/// Whether a node that says this is to own nothing while another one can.
fn yields(pulse: &Pulse, oldest: Format) -> bool {
    pulse.draining || pulse.format.store > oldest.store
}

/// Spreads the nodes differently over each shard (rendezvous hashing).
fn weight(node: &Name, shard: Shard) -> u64 {
    let mut hasher = DefaultHasher::new();
    (node.as_str(), shard.0).hash(&mut hasher);
    hasher.finish()
}
