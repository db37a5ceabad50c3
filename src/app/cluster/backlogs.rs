//! Has the shards of this node count what waits in those of the others, against the bounds that hold
//! for all of them together, and tells the others what waits here.

use std::collections::HashMap;
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
        let shards = here.iter().map(|(number, waiting)| {
            let waiting = waiting.iter().map(|one| Waiting {
                key: key(&one.of),
                count: one.count,
                most: one.max,
            });
            (Shard(number.get()), waiting.collect())
        });
        node.count_waiting(shards.collect());
        let by_key = node.waits_elsewhere();
        let mut elsewhere = HashMap::new();
        // Most of what is bounded waits nowhere, and is not looked for.
        if !by_key.is_empty() {
            let known = journal.bounded().into_iter();
            elsewhere.extend(known.filter_map(|of| {
                let count = *by_key.get(&key(&of))?;
                Some((of, count))
            }));
        }
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
