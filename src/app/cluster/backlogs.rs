//! Has the shards of this node count what waits in those of the others, against the bounds that hold
//! for all of them together, and tells the others what waits here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pointsman_cluster::{Node, Waiting};
use pointsman_journal::sharded::Sharded;
use pointsman_journal::{Bounded, QuotaOwner};
use pointsman_log::Shard;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is counted anew within a takeover time: four times from one beat to the next.
const LOOKS: u32 = 40;

/// Tells and counts for as long as the node is there.
pub(super) async fn exchange(node: Arc<Node>, journal: Arc<Sharded>) {
    let mut looks = interval(node.identity().takeover / LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let here = journal.waiting();
        let mut by_key: BTreeMap<u64, &Bounded> = BTreeMap::new();
        let shards = here.iter().map(|(number, waiting)| {
            let waiting = waiting.iter().map(|one| {
                let key = key(&one.of);
                by_key.insert(key, &one.of);
                let (count, most) = (one.count, one.max);
                Waiting { key, count, most }
            });
            (Shard(number.get()), waiting.collect())
        });
        let shards = shards.collect();
        node.count_waiting(shards);
        let elsewhere = node.waits_elsewhere().into_iter();
        let known = elsewhere.filter_map(|(key, count)| {
            let of = by_key.get(&key).copied()?;
            Some((of.clone(), count))
        });
        let elsewhere: HashMap<Bounded, u64> = known.collect();
        journal.count_elsewhere(&here, &elsewhere);
    }
}

/// The key of a bound: the same on all nodes, and in all versions.
fn key(of: &Bounded) -> u64 {
    // A name has no spaces.
    let text = match of {
        Bounded::Subscription(number) => format!("backlog {}", number.0),
        Bounded::Quota(QuotaOwner { tenant, rule: None }) => format!("backlog tenant {tenant}"),
        Bounded::Quota(QuotaOwner {
            tenant,
            rule: Some(rule),
        }) => format!("backlog rule {tenant} {rule}"),
    };
    super::short_hash(&text)
}
