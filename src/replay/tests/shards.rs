//! Replays of a journal of two shards, which two machines have between them.

use pointsman_journal::Shard;
use pointsman_journal::sharded::{Sharded, Slot};
use pointsman_schemas::{Clock, JournalId};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A machine.
struct Node {
    journal: Arc<Sharded>,
    slots: Vec<Slot>,
    replays: Arc<Replays>,
}

struct Cluster {
    shards: Vec<Arc<MemoryJournal>>,
    nodes: Vec<Node>,
    number: SubscriptionNumber,
}

impl Cluster {
    /// Two machines with the same rule, of which the first has both shards, with so many events
    /// each. Nothing is driven yet.
    async fn new(start: Option<Start>, events: usize) -> Self {
        let clock = Arc::new(RuntimeClock::new(START)) as Arc<dyn Clock>;
        let shard = |number| {
            let options = MemoryOptions::default();
            let number = ShardNumber::new(number).unwrap();
            MemoryJournal::shard(Arc::clone(&clock), options, number)
        };
        let shards: Vec<_> = [0, 1].map(shard).into();
        for shard in &shards {
            append(shard, 0..events, &[]).await;
        }
        let router = Arc::<ArcSwap<Router>>::default();
        let node = |_| {
            let (journal, slots) = Sharded::of_slots(2, JournalId(1), &clock).unwrap();
            let own = LocalShards::new(slots.clone(), journal.moves());
            let whole = Arc::clone(&journal) as Arc<dyn Journal>;
            Node {
                replays: Replays::new(whole, Arc::clone(&router), Some(own)),
                journal,
                slots,
            }
        };
        let mut cluster = Self {
            shards,
            nodes: [0, 1].map(node).into(),
            number: SubscriptionNumber(0),
        };
        cluster.have(0, 0).await;
        cluster.have(1, 0).await;
        for node in &cluster.nodes {
            let numbers = node.journal.subscribe(vec![wanted(start)]).await.unwrap();
            cluster.number = numbers[0];
        }
        router.store(Arc::new(Router::new(vec![rule(cluster.number)])));
        cluster
    }

    /// A shard comes to a node, and leaves the others.
    async fn have(&self, shard: usize, owner: usize) {
        let own = Arc::clone(&self.shards[shard]) as Arc<dyn Shard>;
        for node in &self.nodes {
            node.slots[shard].take_away().await;
            node.slots[shard].put_there(Some(Arc::clone(&own)));
        }
        let (node, fence) = (&self.nodes[owner], CancellationToken::new());
        let taken_in = node.journal.take_in(&node.slots[shard], own, fence);
        taken_in.await.unwrap();
    }

    /// The rules are in force on a node.
    async fn resume(&self, node: usize) {
        self.nodes[node].replays.resume().await.unwrap();
    }

    async fn begin(&self, rate: Option<&str>) -> ReplayId {
        let events = EventSelection {
            rate: rate.map(str::to_owned),
            ..EventSelection::default()
        };
        let request = EventReplay {
            subscription: self.number.0,
            events,
        };
        self.nodes[0].replays.begin(&request).await.unwrap().id
    }

    /// A replay as a shard has it.
    async fn part(&self, shard: usize) -> Replay {
        let all = self.shards[shard].reader().replays().await.unwrap();
        all.into_iter().next().unwrap()
    }

    /// A replay as each node shows it.
    async fn shown(&self) -> Replay {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.extend(node.journal.reader().replays().await.unwrap());
        }
        assert_eq!((all.len(), &all[0]), (2, &all[1]));
        all.remove(0)
    }

    /// The replay once it has ended, within so long.
    async fn ended(&self, within: Duration) -> Replay {
        let until = Instant::now() + within;
        loop {
            let replay = self.shown().await;
            if !replay.is_running() {
                return replay;
            }
            assert!(Instant::now() < until, "{replay:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Checks that each event that the rule takes has one delivery.
    async fn each_is_made_once(&self, events: usize) {
        for shard in &self.shards {
            let pending = shard.reader().pending(self.number, None, 10_000).await;
            let mut sequences: Vec<_> =
                pending.unwrap().iter().map(|one| one.id.sequence).collect();
            let made = sequences.len();
            sequences.dedup();
            assert_eq!((sequences.len(), made), (events * 2 / 3, events * 2 / 3));
        }
    }

    fn driven(&self, node: usize) -> usize {
        self.nodes[node].replays.running.lock().len()
    }
}

#[tokio::test(start_paused = true)]
async fn each_machine_drives_what_goes_through_its_shards() {
    let cluster = Cluster::new(None, 90).await;
    cluster.have(1, 1).await;
    cluster.resume(0).await;
    cluster.begin(None).await;
    sleep(SECOND * 10).await;
    let (own, other) = (cluster.part(0).await, cluster.part(1).await);
    assert_eq!((own.state, own.made), (ReplayState::Finished, 60));
    assert_eq!((other.state, other.seen), (ReplayState::Running, 0));
    cluster.resume(1).await;
    let ended = cluster.ended(SECOND).await;
    assert_eq!(
        (ended.state, ended.seen, ended.made),
        (ReplayState::Finished, 180, 120)
    );
    cluster.each_is_made_once(90).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_another_machine_has_begun_or_stopped_is_noticed() {
    let cluster = Cluster::new(None, 90).await;
    cluster.have(1, 1).await;
    cluster.resume(0).await;
    cluster.resume(1).await;
    sleep(SECOND * 3).await;
    let began = Instant::now();
    let id = cluster.begin(Some("10/s")).await;
    while cluster.part(1).await.made < 10 {
        sleep(Duration::from_millis(10)).await;
        assert!(began.elapsed() < SECOND * 5, "{:?}", cluster.part(1).await);
        // The two of them together keep the rate.
        let (made, took) = (cluster.shown().await.made, began.elapsed().as_secs_f64());
        assert!(made as f64 <= took * 10.0 + 2.0, "{made} after {took} s");
    }
    assert_eq!((cluster.driven(0), cluster.driven(1)), (1, 1));
    let stopped = cluster.nodes[0].replays.stop(id).await.unwrap();
    assert_eq!(stopped.state, ReplayState::Stopped);
    sleep(SECOND * 5).await;
    assert_eq!((cluster.driven(0), cluster.driven(1)), (0, 0));
    assert_eq!(cluster.shown().await.made, stopped.made);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_the_shard_next_goes_on_and_makes_nothing_twice() {
    for step in [3, 170, 1_300] {
        let cluster = Cluster::new(None, 90).await;
        cluster.resume(0).await;
        cluster.resume(1).await;
        cluster.begin(Some("20/s")).await;
        let mut owner = 0;
        for _ in 0..12 {
            sleep(Duration::from_millis(step)).await;
            owner = 1 - owner;
            cluster.have(1, owner).await;
            // Its former owner makes nothing more.
            sleep(Duration::from_millis(1)).await;
            assert!(cluster.driven(1 - owner) <= owner, "{owner}");
        }
        let ended = cluster.ended(SECOND * 30).await;
        assert_eq!((ended.seen, ended.made), (180, 120), "{step}");
        assert_eq!(ended.state, ReplayState::Finished);
        cluster.each_is_made_once(90).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_begins_with_a_replay_gets_everything_of_each_shard() {
    let cluster = Cluster::new(Some(Start::Earliest), 90).await;
    cluster.have(1, 1).await;
    cluster.resume(0).await;
    cluster.resume(1).await;
    let ended = cluster.ended(SECOND * 10).await;
    assert_eq!((ended.kind, ended.made), (ReplayKind::Start, 120));
    cluster.each_is_made_once(90).await;
    for node in [0, 1] {
        assert_eq!(cluster.driven(node), 0);
    }
}
