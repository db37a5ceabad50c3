//! Shards that come to a machine, leave it, and are on another one.

use std::time::Duration;

use super::*;
use crate::suite::{self, entry, last};
use crate::{Entry, NewDelivery, QuotaOwner};

/// Nodes that have the slots of so many shards each.
pub(super) struct Nodes {
    shards: Vec<Arc<MemoryJournal>>,
    nodes: Vec<(Arc<Sharded>, Vec<Slot>)>,
}

impl Nodes {
    pub(super) fn new(nodes: usize, count: u16) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new(START));
        let shard = |place| {
            let clock = Arc::clone(&clock);
            MemoryJournal::shard(clock, MemoryOptions::default(), number(place))
        };
        let node = |_| Sharded::of_slots(count, JournalId(7), &clock).unwrap();
        Self {
            shards: (0..count).map(shard).collect(),
            nodes: (0..nodes).map(node).collect(),
        }
    }

    /// Has a shard come to a node, and the others know.
    pub(super) async fn own(&self, node: usize, shard: usize) -> CancellationToken {
        let fence = CancellationToken::new();
        let (journal, slots) = &self.nodes[node];
        let shared = Arc::clone(&self.shards[shard]) as Arc<dyn Shard>;
        journal
            .take_in(&slots[shard], shared, fence.clone())
            .await
            .unwrap();
        for (other, (_, others)) in self.nodes.iter().enumerate() {
            if other != node {
                others[shard].put_there(Some(Arc::new(slots[shard].unforwarded())));
            }
        }
        fence
    }

    pub(super) fn journal(&self, node: usize) -> &Arc<Sharded> {
        &self.nodes[node].0
    }

    async fn lease(&self, node: usize, subscription: SubscriptionNumber) -> Vec<Leased> {
        suite::lease(&**self.journal(node), subscription, 9).await
    }
}

/// A key whose shard is the second of two.
async fn key_of_second() -> u64 {
    let bench = Bench::new(2).await;
    for key in 0.. {
        let stored = bench.keyed(key..key + 1, |key| key).await;
        if ShardNumber::of(stored[0]) == number(1) {
            return key;
        }
    }
    unreachable!("there are more keys")
}

#[tokio::test(start_paused = true)]
async fn what_is_for_rules_that_its_owner_does_not_have_yet_waits_for_them() {
    let nodes = Nodes::new(2, 2);
    nodes.own(0, 0).await;
    nodes.own(1, 1).await;
    let key = key_of_second().await;
    let own = nodes.journal(0).subscribe(vec![wanted("r")]).await;
    let subscription = own.unwrap()[0];
    let append = async || {
        let append = append_of(vec![keyed("e", subscription, key)]);
        nodes.journal(0).append(append).await
    };
    let refused = append().await;
    let said = matches!(&refused, Err(JournalError::Away(why)) if why.contains("other rules"));
    assert!(said, "{refused:?}");
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        nodes.journal(1).subscribe(vec![wanted("r")]).await
    };
    let (appended, subscribed) = tokio::join!(append(), later);
    assert_eq!(subscribed.unwrap(), [subscription]);
    assert_eq!(ShardNumber::of(stored(appended.unwrap()[0])), number(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_for_a_shard_elsewhere_goes_there_and_is_leased_there() {
    let nodes = Nodes::new(2, 2);
    nodes.own(0, 0).await;
    nodes.own(1, 1).await;
    let mut numbers = Vec::new();
    for node in 0..2 {
        let own = nodes.journal(node).subscribe(vec![wanted("r")]).await;
        numbers.push(own.unwrap()[0]);
    }
    assert_eq!(
        numbers[0], numbers[1],
        "both have the numbers of the first shard"
    );
    let subscription = numbers[0];
    let key = key_of_second().await;
    let append = append_of(vec![keyed("e", subscription, key)]);
    let appended = nodes.journal(0).append(append).await.unwrap();
    assert_eq!(ShardNumber::of(stored(appended[0])), number(1));
    assert!(nodes.lease(0, subscription).await.is_empty());
    let leased = nodes.lease(1, subscription).await;
    assert_eq!(leased.len(), 1);
    // Seen and steered from either, settled where it was leased.
    for node in 0..2 {
        let pending = nodes
            .journal(node)
            .reader()
            .pending(subscription, None, 9)
            .await;
        assert_eq!(pending.unwrap().len(), 1);
    }
    let settlement = Settlement::new(leased[0].token, Ending::Delivered);
    let elsewhere = nodes.journal(0).settle(vec![settlement.clone()]).await;
    assert_eq!(elsewhere.unwrap(), [SettleAnswer::Gone]);
    let settled = nodes.journal(1).settle(vec![settlement]).await;
    assert_eq!(settled.unwrap(), [SettleAnswer::Settled]);
}

#[tokio::test(start_paused = true)]
async fn entries_without_a_key_stay_on_their_machine() {
    let nodes = Nodes::new(2, 4);
    for (node, shard) in [(0, 0), (1, 1), (0, 2), (1, 3)] {
        nodes.own(node, shard).await;
    }
    let journal = nodes.journal(1);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..2 * TURN_ENTRIES {
        let append = append_of(vec![entry(&round.to_string(), &[])]);
        seen.insert(ShardNumber::of(stored(
            journal.append(append).await.unwrap()[0],
        )));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [number(1), number(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_its_shard_and_not_for_ever() {
    let nodes = Nodes::new(1, 1);
    let journal = Arc::clone(nodes.journal(0));
    let append = || journal.append(append_of(vec![entry("e", &[])]));
    let away = append().await;
    assert!(matches!(away, Err(JournalError::Away(_))), "{away:?}");
    let (appended, _) = tokio::join!(append(), async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        nodes.own(0, 0).await
    });
    assert!(matches!(appended.unwrap()[0], Appended::Stored(_)));
}

#[tokio::test(start_paused = true)]
async fn a_position_changes_where_its_shard_is_alone() {
    let nodes = Nodes::new(2, 1);
    nodes.own(1, 0).await;
    let append = || {
        let mut append = append_of(vec![entry("e", &[])]);
        append.cursor = Some(Cursor {
            fingerprint: 1,
            position: bytes::Bytes::from_static(b"1"),
        });
        append
    };
    let began = tokio::time::Instant::now();
    let away = nodes.journal(0).append(append()).await;
    assert!(matches!(away, Err(JournalError::Away(_))), "{away:?}");
    assert!(
        began.elapsed().is_zero(),
        "its source may be elsewhere by then"
    );
    assert_eq!(nodes.shards[0].reader().totals().await.unwrap().events, 0);
    nodes.journal(1).append(append()).await.unwrap();
    let (tenant, source) = (Name::new("default").unwrap(), Name::new("suite").unwrap());
    // It can be read from anywhere.
    let cursor = nodes.journal(0).cursor(&tenant, &source).await.unwrap();
    assert_eq!(cursor, append().cursor);
    assert!(nodes.journal(1).is_home_here(&tenant, &source));
    assert!(!nodes.journal(0).is_home_here(&tenant, &source));
}

#[tokio::test(start_paused = true)]
async fn leases_end_with_the_shard_that_leaves() {
    let nodes = Nodes::new(2, 1);
    let fence = nodes.own(0, 0).await;
    let moves = nodes.journal(0).moves();
    let subscription = nodes.journal(0).subscribe(vec![wanted("r")]).await.unwrap()[0];
    let entries = ["a", "b"].map(|id| entry(id, &[subscription]));
    nodes
        .journal(0)
        .append(append_of(entries.to_vec()))
        .await
        .unwrap();
    let leased = nodes.lease(0, subscription).await;
    let [first, second] = &leased[..] else {
        panic!("{leased:?}")
    };
    assert!(
        leased
            .iter()
            .all(|one| !one.fence.as_ref().unwrap().is_cancelled())
    );
    let slot = &nodes.nodes[0].1[0];
    let settle = |one: &Leased| {
        let settlement = Settlement::new(one.token, Ending::Delivered);
        async { nodes.journal(0).settle(vec![settlement]).await.unwrap()[0] }
    };
    // It waits for what is under way, and leases nothing more.
    let hour = MINUTE * 60;
    let began = tokio::time::Instant::now();
    let ((), first) = tokio::join!(slot.settle_within(hour), async {
        nodes
            .journal(0)
            .append(append_of(vec![entry("c", &[subscription])]))
            .await
            .unwrap();
        assert!(nodes.lease(0, subscription).await.is_empty());
        let answers = [settle(first).await, settle(second).await];
        tokio::time::sleep(MINUTE).await;
        answers
    });
    assert_eq!(first, [SettleAnswer::Settled; 2]);
    assert!(began.elapsed() < hour);
    slot.take_away().await;
    assert!(fence.is_cancelled() && moves.has_changed().unwrap());
    assert_eq!(settle(second).await, SettleAnswer::Gone);
    // It goes on elsewhere.
    nodes.own(1, 0).await;
    nodes.journal(1).subscribe(vec![wanted("r")]).await.unwrap();
    assert_eq!(nodes.lease(1, subscription).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_comes_later_is_told_what_the_others_were() {
    let nodes = Nodes::new(1, 2);
    nodes.own(0, 0).await;
    let journal = nodes.journal(0);
    let subscription = journal.subscribe(vec![wanted("r")]).await.unwrap()[0];
    let quota = BacklogQuota {
        owner: QuotaOwner {
            tenant: Name::new("default").unwrap(),
            rule: None,
        },
        backlog: crate::Backlog {
            max: 1,
            dead_when_full: false,
        },
    };
    journal.set_quotas(vec![quota]).await.unwrap();
    let reader = journal.reader();
    assert_eq!(reader.subscriptions().await.unwrap().len(), 1);
    assert_eq!(reader.incomplete(), [number(1)]);
    let mut moves = journal.moves();
    let (_, ()) = tokio::join!(nodes.own(0, 1), async { moves.changed().await.unwrap() });
    let reader = nodes.shards[1].reader();
    let status = &reader.subscriptions().await.unwrap()[0];
    assert_eq!((status.number, status.attached), (subscription, true));
    let key = key_of_second().await;
    let append = |id| journal.append(append_of(vec![keyed(id, subscription, key)]));
    append("a").await.unwrap();
    let full = append("b").await;
    assert!(matches!(full, Err(JournalError::Quota(..))), "{full:?}");
    let reader = journal.reader();
    reader.subscriptions().await.unwrap();
    assert!(reader.incomplete().is_empty());
}

#[tokio::test(start_paused = true)]
async fn times_go_from_the_clock_of_a_node_to_that_of_its_shard() {
    let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new(START));
    let hour = MINUTE * 60;
    let (journal, slots) = Sharded::of_slots(1, JournalId(7), &clock).unwrap();
    let ahead = Arc::new(RuntimeClock::new(START.plus(hour)));
    let shard = MemoryJournal::shard(ahead, MemoryOptions::default(), number(0));
    let fence = CancellationToken::new();
    journal.take_in(&slots[0], shard, fence).await.unwrap();
    let subscription = journal.subscribe(vec![wanted("r")]).await.unwrap()[0];
    let delayed = NewDelivery {
        due: Some(clock.now().plus(MINUTE)),
        ..NewDelivery::now(subscription)
    };
    let entry = Entry {
        deliveries: smallvec::SmallVec::from_slice(&[delayed]),
        ..entry("e", &[])
    };
    journal.append(append_of(vec![entry])).await.unwrap();
    let grant = Grant {
        subscription,
        count: 9,
        lease: MINUTE,
        bytes_max: usize::MAX,
        batching: None,
    };
    let lease = async || journal.lease(&[grant], usize::MAX).await.unwrap().leased;
    assert!(lease().await.is_empty(), "it is delayed");
    tokio::time::advance(MINUTE).await;
    let leased = lease().await;
    assert_eq!(
        leased[0].since,
        clock.now(),
        "its age is by the node's clock"
    );
    let retry = Ending::Retry {
        at: clock.now().plus(MINUTE),
        failure: true,
        batch_max: None,
        last: last(clock.now()),
    };
    let retry = Settlement::new(leased[0].token, retry);
    assert_eq!(
        journal.settle(vec![retry]).await.unwrap(),
        [SettleAnswer::Settled]
    );
    assert!(lease().await.is_empty());
    tokio::time::advance(MINUTE).await;
    assert_eq!(lease().await.len(), 1);
}

#[tokio::test]
async fn what_was_leased_before_a_shard_was_away_settles_nothing_after_it() {
    let directory = TempDir::new().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(pointsman_schemas::SystemClock);
    let (journal, slots) = Sharded::of_slots(1, JournalId(7), &clock).unwrap();
    let mut leased = Vec::new();
    let mut subscription = SubscriptionNumber(0);
    for round in 0..2 {
        let options = DiskOptions::default();
        let shard =
            DiskJournal::open_shard(directory.path(), options, Arc::clone(&clock), number(0));
        let shard = shard.unwrap();
        let fence = CancellationToken::new();
        journal
            .take_in(&slots[0], Arc::clone(&shard) as _, fence)
            .await
            .unwrap();
        if round == 0 {
            subscription = journal.subscribe(vec![wanted("r")]).await.unwrap()[0];
            let entry = entry("e", &[subscription]);
            journal.append(append_of(vec![entry])).await.unwrap();
        }
        let grant = Grant {
            subscription,
            count: 1,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: None,
        };
        leased.extend(journal.lease(&[grant], usize::MAX).await.unwrap().leased);
        if round == 0 {
            slots[0].take_away().await;
            shard.close().await;
        }
    }
    let settle = async |one: &Leased| {
        let settlement = Settlement::new(one.token, Ending::Delivered);
        journal.settle(vec![settlement]).await.unwrap()[0]
    };
    assert_eq!(leased.len(), 2, "it is delivered again");
    assert_eq!(settle(&leased[0]).await, SettleAnswer::Gone);
    assert_eq!(settle(&leased[1]).await, SettleAnswer::Settled);
}

#[tokio::test(start_paused = true)]
async fn a_bound_holds_over_all_shards_here_and_elsewhere() {
    let nodes = Nodes::new(2, 3);
    for (node, shard) in [(0, 0), (0, 1), (1, 2)] {
        nodes.own(node, shard).await;
    }
    let backlog = crate::Backlog {
        max: 12,
        dead_when_full: false,
    };
    let bounded = crate::Subscription {
        backlog: Some(backlog),
        ..wanted("r")
    };
    let mut numbers = Vec::new();
    for node in 0..2 {
        let wanted = vec![bounded.clone(), wanted("free")];
        numbers = nodes.journal(node).subscribe(wanted).await.unwrap();
    }
    let subscription = numbers[0];
    let told = std::cell::Cell::new(0);
    let append = async |key| {
        told.set(told.get() + 1);
        let append = append_of(vec![keyed(&told.get().to_string(), subscription, key)]);
        nodes.journal(0).append(append).await
    };
    // What each node has, as the other hears it.
    let exchange = || {
        let waiting = [0, 1].map(|node| nodes.journal(node).waiting());
        let sums = [0, 1].map(|node: usize| {
            let counts = waiting[node].iter().flat_map(|(_, waiting)| waiting);
            counts.map(|waiting| waiting.count).sum::<u64>()
        });
        for node in 0..2 {
            let of = crate::Bounded::Subscription(subscription);
            let elsewhere = [(of, sums[1 - node])].into();
            nodes
                .journal(node)
                .count_elsewhere(&waiting[node], &elsewhere);
        }
        sums
    };
    // Keys fall on all shards.
    for key in 0..11 {
        append(key).await.unwrap();
        exchange();
    }
    let sums = exchange();
    assert!(
        sums[0] > sums[1] && sums[1] > 0 && sums[0] + sums[1] == 11,
        "{sums:?}"
    );
    append(11).await.unwrap();
    exchange();
    for key in 0..20 {
        let refused = append(key).await;
        assert_eq!(refused, Err(JournalError::Backlog(subscription)), "{key}");
    }
    // What one shard gets rid of makes room in all.
    let leased = nodes.lease(1, subscription).await.swap_remove(0);
    let settlement = Settlement::new(leased.token, Ending::Delivered);
    nodes.journal(1).settle(vec![settlement]).await.unwrap();
    exchange();
    append(0).await.unwrap();
    // Without a bound nothing is counted.
    for node in 0..2 {
        nodes
            .journal(node)
            .subscribe(vec![wanted("r")])
            .await
            .unwrap();
        assert!(nodes.journal(node).waiting().is_empty());
    }
}
