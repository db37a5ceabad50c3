//! Which node is to own a shard, as far as beats tell.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_log::Shard;
use pointsman_schemas::Name;
use tokio::time::Instant;

use super::{Heart, Member, Role, owned};

/// How many nodes follow a shard beside its owner, of those that could.
const SPARES: usize = 1;

/// How many shards less than another one a node owns that is to get some of its.
const LESS: usize = 2;

impl Heart {
    /// How many other nodes that could take a shard over come before this one: those that are
    /// not being drained do, then those that own fewer shards, and of those that own as many the
    /// one that a hash puts first.
    pub(crate) fn rank(&self, shard: Shard) -> u32 {
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        let own = (
            is_draining,
            owned(&self.shards()),
            weight(&self.me.node, shard),
        );
        let spares = self.spares(shard, Duration::ZERO);
        let comes_before = |spare: &&Member| {
            let Member { node, pulse, .. } = spare;
            (pulse.draining, pulse.owned(), weight(node, shard)) < own
        };
        let count = spares.iter().filter(comes_before).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The node that is to have a shard of this one's: one that owns at least two shards less, or
    /// any where this one is being drained.
    pub(crate) fn heir(&self, shard: Shard) -> Option<Name> {
        let own = owned(&self.shards());
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        self.spares(shard, self.me.takeover)
            .into_iter()
            .filter(|spare| !spare.pulse.draining)
            .filter(|spare| is_draining || spare.pulse.owned() + LESS <= own)
            .min_by_key(|spare| (spare.pulse.owned(), weight(&spare.node, shard)))
            .map(|spare| spare.node)
    }

    /// Whether enough living nodes that come before this one have everything of a shard that another
    /// one owns: this one need not follow it. Those come first that are not being drained, of them
    /// those that are to get some of its owner's shards, and of them the ones that a hash puts first.
    pub(crate) fn is_spared(&self, shard: Shard) -> bool {
        let Some(owners) = self.owned_by_owner(shard) else {
            return false;
        };
        let place = |is_draining: bool, owned: usize, node: &Name| {
            let is_heir = owned + LESS <= owners;
            (is_draining, !is_heir, weight(node, shard))
        };
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        let own = place(is_draining, owned(&self.shards()), &self.me.node);
        let comes_before =
            |spare: &&Member| place(spare.pulse.draining, spare.pulse.owned(), &spare.node) < own;
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

    /// The living nodes that have everything of a shard, and have been heard for so long.
    fn spares(&self, shard: Shard, since: Duration) -> Vec<Member> {
        let now = Instant::now();
        let is_spare = |member: &Member| {
            let takeover = Duration::from_millis(member.pulse.takeover_ms);
            member.pulse.of(shard).role == Role::Spare
                && now - member.heard < takeover
                && now - member.since >= since
        };
        self.members().into_iter().filter(is_spare).collect()
    }
}

/// Spreads the nodes differently over each shard (rendezvous hashing).
fn weight(node: &Name, shard: Shard) -> u64 {
    let mut hasher = DefaultHasher::new();
    (node.as_str(), shard.0).hash(&mut hasher);
    hasher.finish()
}
