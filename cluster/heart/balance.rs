//! Which node is to own a shard, as far as beats tell.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_log::Shard;
use pointsman_schemas::Name;
use tokio::time::Instant;

use super::{Heart, Member, Role, owned};

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
            .filter(|spare| is_draining || spare.pulse.owned() + 2 <= own)
            .min_by_key(|spare| (spare.pulse.owned(), weight(&spare.node, shard)))
            .map(|spare| spare.node)
    }

    /// Whether a node says that it owns a shard.
    pub(crate) fn owns(&self, node: &Name, shard: Shard) -> bool {
        let owns =
            |member: &Member| member.node == *node && member.pulse.of(shard).role == Role::Owner;
        self.members().iter().any(owns)
    }

    /// Whether another node owns a shard, as the one says that has heard of its last owner.
    pub(crate) fn is_owned(&self, shard: Shard) -> bool {
        let heard = self.heard.lock();
        let said = heard.members.values().map(|member| member.pulse.of(shard));
        let last = said.max_by_key(|said| (said.epoch, said.role == Role::Owner));
        last.is_some_and(|said| said.role == Role::Owner)
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
