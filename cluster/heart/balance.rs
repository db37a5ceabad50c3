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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_log::simulated::{Engine, Faults};
    use pointsman_log::{Cluster, Log};
    use tokio::time::advance;

    use super::super::{Identity, Pulse, ShardPulse};
    use super::*;

    const SHARD: Shard = Shard(0);
    const TAKEOVER: Duration = Duration::from_secs(10);

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn pulse(incarnation: u64, number: u64, role: Role) -> Pulse {
        Pulse {
            incarnation,
            number,
            takeover_ms: 10_000,
            address: String::new(),
            version: String::new(),
            draining: false,
            shards: vec![ShardPulse {
                role,
                epoch: 1,
                place: 1,
            }],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_node_that_was_restarted_its_last_process_counts() {
        let way = Engine::new(1, Faults::none()).node();
        let log = way.open(Cluster::new(name("c"), 1).unwrap()).await.unwrap();
        let me = Identity {
            node: name("a"),
            incarnation: 1,
            takeover: TAKEOVER,
            address: String::new(),
        };
        let (heart, _beating) = Heart::start(&(Arc::new(log) as Arc<dyn Log>), me, 1);
        heart.doing(SHARD).set(Role::Owner, 1);
        heart.is_draining.store(true, Ordering::Relaxed);
        heart.hear(name("b"), pulse(2, 1, Role::Spare));
        assert_eq!(heart.heir(SHARD), None, "it has just been heard first");
        advance(TAKEOVER).await;
        heart.hear(name("b"), pulse(2, 2, Role::Spare));
        assert_eq!(heart.heir(SHARD), Some(name("b")));
        // The process before this one is no other node.
        heart.hear(name("a"), pulse(3, 1, Role::Spare));
        assert_eq!(heart.members().len(), 1);
        advance(TAKEOVER / 10).await;
        heart.hear(name("b"), pulse(4, 1, Role::Filling));
        let members = heart.members();
        let members: Vec<_> = members.iter().map(|one| one.pulse.incarnation).collect();
        assert_eq!(members, [4]);
        assert_eq!(heart.heir(SHARD), None, "it has not everything yet");
        assert_eq!(heart.rank(SHARD), 0);
    }
}
