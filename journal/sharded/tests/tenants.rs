//! Tenants that have few of the shards, and what is given more or fewer.

use std::num::NonZeroU16;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::tenants::Places;
use super::moving::Nodes;
use super::*;
use crate::suite::{entry, paused};
use crate::{Entry, NewDelivery};

fn tenant() -> Name {
    Name::default_tenant()
}

/// So many shards for `default`.
pub(super) fn with(count: u16) -> TenantShards {
    TenantShards([(tenant(), NonZeroU16::new(count))].into())
}

fn stopped() -> BTreeSet<Name> {
    [tenant()].into()
}

/// Events of every kind: with a key, known by an identity, with neither.
async fn append_all(bench: &Bench) -> Vec<u16> {
    let mut all = bench.keyed(0..40, |id| id).await;
    let identified = |id: usize| Entry {
        deduplicate: Some(MINUTE),
        ..entry(&format!("identified-{id}"), &bench.numbers)
    };
    let entries = (0..40).map(identified);
    let free = (0..2 * TURN_ENTRIES).map(|id| entry(&format!("free-{id}"), &bench.numbers));
    let append = append_of(entries.chain(free).collect());
    let appended = bench.journal.append(append).await.unwrap();
    all.extend(appended.into_iter().map(stored));
    shards_of(&all)
}

#[test]
fn events_of_a_tenant_lie_in_as_many_shards_as_it_has() {
    paused(async {
        let mut before = Vec::new();
        for count in 1..=4 {
            let bench = Bench::new(4).await;
            bench.journal.divide_by(&with(count), BTreeSet::new());
            let shards = append_all(&bench).await;
            assert_eq!(shards.len(), usize::from(count));
            assert!(
                before.iter().all(|shard| shards.contains(shard)),
                "{before:?} {shards:?}"
            );
            before = shards;
        }
    });
}

#[test]
fn a_tenant_with_all_shards_has_everything_where_it_was() {
    paused(async {
        let place = async |shards: Option<TenantShards>| {
            let bench = Bench::new(4).await;
            if let Some(shards) = shards {
                bench.journal.divide_by(&shards, BTreeSet::new());
            }
            let sequences = bench.keyed(0..40, |id| id).await;
            let shards = sequences.into_iter().map(|one| ShardNumber::of(one).get());
            shards.collect::<Vec<_>>()
        };
        // As it is in every version: what was stored waits there.
        let first = [0, 2, 0, 3, 1, 1, 1, 1];
        for shards in [None, Some(with(4)), Some(with(9))] {
            assert_eq!(place(shards).await[..first.len()], first);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn turns_go_among_those_of_a_tenant_that_are_here_or_else_any_of_them() {
    for own in [true, false] {
        let nodes = Nodes::new(2, 4);
        for shard in 0..4 {
            nodes.own(usize::from(!own || shard % 2 > 0), shard).await;
        }
        let journal = nodes.journal(0);
        for node in 0..2 {
            nodes.journal(node).divide_by(&with(3), BTreeSet::new());
        }
        let mut seen = Vec::new();
        for id in 0..4 * TURN_ENTRIES {
            let append = append_of(vec![entry(&id.to_string(), &[])]);
            seen.push(stored(journal.append(append).await.unwrap()[0]));
        }
        let mut expect: Vec<u16> = match with(3).places(&tenant(), 4) {
            Places::Few(places) => places.iter().map(|place| *place as u16).collect(),
            Places::All(_) => unreachable!("three are not all"),
        };
        expect.retain(|shard| !own || shard % 2 == 0);
        expect.sort_unstable();
        assert_eq!(shards_of(&seen), expect);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_stopped_tenant_nothing_comes_in_from_here_or_elsewhere_until_it_goes_on() {
    let nodes = Nodes::new(2, 2);
    nodes.own(0, 0).await;
    nodes.own(1, 1).await;
    for node in 0..2 {
        nodes
            .journal(node)
            .subscribe(vec![wanted("r")])
            .await
            .unwrap();
    }
    let append = async |node: usize, name: &str, key: u64| {
        let append = Append {
            tenant: Name::new(name).unwrap(),
            ..append_of(vec![keyed(&key.to_string(), SubscriptionNumber(1), key)])
        };
        nodes.journal(node).append(append).await
    };
    // Only the second node knows: what the first one sends there waits, and what it has itself not.
    nodes
        .journal(1)
        .divide_by(&TenantShards::default(), stopped());
    let mut taken_in = [0, 0];
    for key in 0..8 {
        match append(0, "default", key).await {
            Ok(appended) => taken_in[usize::from(ShardNumber::of(stored(appended[0])).get())] += 1,
            Err(JournalError::Away(why)) => assert!(why.contains("another number"), "{why}"),
            Err(error) => panic!("{error}"),
        }
        let here = append(1, "default", key).await;
        assert!(matches!(here, Err(JournalError::Away(_))), "{here:?}");
        append(1, "other", key).await.unwrap();
    }
    assert!(taken_in[0] > 0 && taken_in[1] == 0, "{taken_in:?}");
    let again = async {
        sleep(Duration::from_secs(1)).await;
        nodes
            .journal(1)
            .divide_by(&TenantShards::default(), BTreeSet::new());
    };
    let (appended, ()) = tokio::join!(append(1, "default", 9), again);
    stored(appended.unwrap()[0]);
}

#[tokio::test(start_paused = true)]
async fn what_another_node_has_divided_otherwise_is_not_taken_in() {
    let nodes = Nodes::new(2, 2);
    for shard in 0..2 {
        nodes.own(1, shard).await;
    }
    let subscription = nodes.journal(1).subscribe(vec![wanted("r")]).await.unwrap()[0];
    let append = async |node: usize, key: u64| {
        let append = append_of(vec![keyed(&format!("{node}-{key}"), subscription, key)]);
        nodes.journal(node).append(append).await
    };
    nodes.journal(0).divide_by(&with(1), BTreeSet::new());
    let mut refused = 0;
    for key in 0..8 {
        let own = stored(append(1, key).await.unwrap()[0]);
        match append(0, key).await {
            Ok(appended) => assert_eq!(shards_of(&[stored(appended[0]), own]).len(), 1),
            Err(JournalError::Away(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..8).contains(&refused), "{refused}");
    nodes.journal(0).divide_by(&with(2), BTreeSet::new());
    for key in 0..8 {
        append(0, key + 8).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_at_home_elsewhere_is_taken_in_there_whatever_its_tenant_has() {
    let nodes = Nodes::new(2, 4);
    for shard in 0..4 {
        nodes.own(1, shard).await;
    }
    for node in 0..2 {
        nodes.journal(node).divide_by(&with(1), BTreeSet::new());
    }
    let Places::Few(own) = with(1).places(&tenant(), 4) else {
        unreachable!("one is not all");
    };
    let home = |origin: &Name| route::home(&tenant(), origin) % 4;
    let mut origins = (0..).map(|number| Name::new(&format!("source-{number}")).unwrap());
    let origin = origins.find(|origin| home(origin) != own[0]).unwrap();
    let append = |id: &str, cursor| Append {
        origin: origin.clone(),
        cursor,
        ..append_of(vec![entry(id, &[])])
    };
    let cursor = Cursor {
        fingerprint: 1,
        position: bytes::Bytes::from_static(b"1"),
    };
    nodes
        .journal(1)
        .append(append("a", Some(cursor)))
        .await
        .unwrap();
    // As a source that runs on every node does.
    nodes.journal(0).cursor(&tenant(), &origin).await.unwrap();
    let appended = nodes.journal(0).append(append("b", None)).await.unwrap();
    assert_eq!(shards_of(&[stored(appended[0])]), [home(&origin) as u16]);
}

#[tokio::test(start_paused = true)]
async fn what_was_divided_before_ends_before_a_change_goes_on() {
    let nodes = Nodes::new(1, 2);
    nodes.own(0, 0).await;
    let journal = Arc::clone(nodes.journal(0));
    let append = tokio::spawn({
        let journal = Arc::clone(&journal);
        // The other shard is nowhere: it waits.
        let entries = (0..16).map(|key| keyed(&key.to_string(), SubscriptionNumber(1), key));
        let append = append_of(entries.collect());
        async move { journal.append(append).await }
    });
    tokio::task::yield_now().await;
    for _ in 0..2 {
        // For the sake of another tenant.
        journal.divide_by(&with(1), [Name::new("other").unwrap()].into());
        let early = timeout(Duration::from_secs(1), journal.divided_so()).await;
        assert!(early.is_err(), "it waits for what is under way");
    }
    journal.divided_so().await.unwrap();
    assert!(append.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_node_that_has_stopped_ends_once_its_own_node_stops() {
    let nodes = Nodes::new(2, 2);
    for shard in 0..2 {
        nodes.own(1, shard).await;
    }
    let subscription = nodes.journal(1).subscribe(vec![wanted("r")]).await.unwrap()[0];
    nodes.journal(1).divide_by(&with(2), stopped());
    let journal = Arc::clone(nodes.journal(0));
    let append = tokio::spawn({
        let journal = Arc::clone(&journal);
        let append = append_of(vec![keyed("e", subscription, 7)]);
        async move { journal.append(append).await }
    });
    let second = Duration::from_secs(1);
    sleep(second).await;
    assert!(!append.is_finished());
    journal.divide_by(&with(2), stopped());
    timeout(second, journal.divided_so())
        .await
        .unwrap()
        .unwrap();
    let ended = append.await.unwrap();
    assert!(matches!(ended, Err(JournalError::Away(_))), "{ended:?}");
}

/// What two nodes take in and deliver meanwhile.
struct Load {
    nodes: Nodes,
    subscription: SubscriptionNumber,
    /// What was delivered: keys with what was counted up for each.
    delivered: Mutex<Vec<(u64, u64)>>,
}

const KEYS: u64 = 12;
const EACH: u64 = 60;

impl Load {
    async fn new() -> Self {
        let nodes = Nodes::new(2, 4);
        for shard in 0..4 {
            nodes.own(shard % 2, shard).await;
        }
        let mut numbers = Vec::new();
        for node in 0..2 {
            nodes.journal(node).divide_by(&with(1), BTreeSet::new());
            numbers = nodes
                .journal(node)
                .subscribe(vec![wanted("r")])
                .await
                .unwrap();
        }
        Self {
            nodes,
            subscription: numbers[0],
            delivered: Mutex::default(),
        }
    }

    /// Counts up for a key, each time on the other node.
    async fn send(self: Arc<Self>, key: u64) {
        for count in 0..EACH {
            let delivery = NewDelivery {
                order_key: Some(key),
                ..NewDelivery::now(self.subscription)
            };
            let entry = Entry {
                deliveries: smallvec::SmallVec::from_slice(&[delivery]),
                ..entry(&format!("{key}-{count}"), &[])
            };
            let node = (key + count) as usize % 2;
            let journal = self.nodes.journal(node);
            while journal
                .append(append_of(vec![entry.clone()]))
                .await
                .is_err()
            {}
            sleep(Duration::from_millis(7)).await;
        }
    }

    /// Delivers what a node has, each delivery in a while.
    async fn deliver(self: Arc<Self>, node: usize) {
        loop {
            let journal = self.nodes.journal(node);
            let leased = suite::lease(&**journal, self.subscription, 3).await;
            sleep(Duration::from_millis(10)).await;
            for one in leased {
                let (key, count) = one.event.id().split_once('-').unwrap();
                let delivered = (key.parse().unwrap(), count.parse().unwrap());
                self.delivered.lock().push(delivered);
                let delivered = Settlement::new(one.token, Ending::Delivered);
                journal.settle(vec![delivered]).await.unwrap();
            }
        }
    }

    /// Has the tenant have so many shards, on one node after the other, as a cluster does.
    async fn change(&self, count: u16) {
        let before = [1, 4][usize::from(count < 4)];
        for node in 0..2 {
            self.nodes.journal(node).divide_by(&with(before), stopped());
            self.nodes.journal(node).divided_so().await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        let waits = async || {
            let reader = self.nodes.journal(0).reader();
            let all = reader.subscriptions().await.unwrap();
            all.iter().map(|one| one.counts.pending).sum::<u64>()
        };
        while waits().await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
        for node in 0..2 {
            self.nodes
                .journal(node)
                .divide_by(&with(count), BTreeSet::new());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_order_of_a_key_holds_over_a_change() {
    let load = Arc::new(Load::new().await);
    let (mut senders, mut delivering) = (JoinSet::new(), JoinSet::new());
    for key in 0..KEYS {
        senders.spawn(Arc::clone(&load).send(key));
    }
    for node in 0..2 {
        delivering.spawn(Arc::clone(&load).deliver(node));
    }
    for count in [4, 1, 4] {
        sleep(Duration::from_millis(60)).await;
        assert!(!senders.is_empty());
        load.change(count).await;
    }
    senders.join_all().await;
    while load.delivered.lock().len() < (KEYS * EACH) as usize {
        sleep(Duration::from_millis(10)).await;
    }
    let delivered = load.delivered.lock();
    for key in 0..KEYS {
        let own = delivered.iter().filter(|(of, _)| *of == key);
        let counts: Vec<u64> = own.map(|(_, count)| *count).collect();
        assert_eq!(counts, (0..EACH).collect::<Vec<_>>(), "of {key}");
    }
}
