use pointsman_log::simulated::{Engine, Faults};
use pointsman_log::{Cluster, Log};
use tokio::time::advance;

use super::*;
use crate::shares::{Demand, Limit};

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
        format: Format {
            store: 5,
            records: VERSION_LAST,
        },
        draining: false,
        shards: vec![ShardPulse {
            role,
            epoch: 1,
            place: 1,
        }],
        rules: RulesPulse::default(),
        shares: None,
        waits: Vec::new(),
    }
}

async fn heart_of_a() -> (Arc<Heart>, Beating) {
    let way = Engine::new(1, Faults::none()).node();
    let log = way.open(Cluster::new(name("c"), 1).unwrap()).await.unwrap();
    let me = Identity {
        node: name("a"),
        incarnation: 1,
        takeover: TAKEOVER,
        address: String::new(),
        store_format: 5,
    };
    Heart::start(&(Arc::new(log) as Arc<dyn Log>), me, 1)
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_was_restarted_its_last_process_counts() {
    let (heart, _beating) = heart_of_a().await;
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

#[tokio::test(start_paused = true)]
async fn a_beat_that_came_late_may_hide_a_later_one() {
    let (heart, _beating) = heart_of_a().await;
    let silence = || heart.silence(2).unwrap();
    sleep_until(Instant::now() + TAKEOVER).await;
    heart.hear(name("b"), pulse(2, 8, Role::Owner));
    sleep_until(Instant::now() + TAKEOVER / 2).await;
    assert_eq!(silence(), TAKEOVER / 2);
    // The tenth was acknowledged, and this one has taken its place before anybody heard it.
    heart.hear(name("b"), pulse(2, 7, Role::Spare));
    assert_eq!(silence(), Duration::ZERO);
    let pulse = heart.pulse(2).unwrap();
    assert_eq!((pulse.number, pulse.of(SHARD).role), (8, Role::Owner));
}

#[tokio::test(start_paused = true)]
async fn what_is_new_of_the_rules_is_said_at_once() {
    let way = Engine::new(1, Faults::none()).node();
    let log = way.open(Cluster::new(name("c"), 1).unwrap()).await.unwrap();
    let log = Arc::new(log) as Arc<dyn Log>;
    let mut beats = log.beats();
    let me = Identity {
        node: name("a"),
        incarnation: 1,
        takeover: TAKEOVER,
        address: String::new(),
        store_format: 5,
    };
    let (heart, _beating) = Heart::start(&log, me, 1);
    let mut said = async || -> Pulse {
        let beat = beats.next().await.unwrap();
        serde_json::from_slice(&beat.body).unwrap()
    };
    assert_eq!(said().await.rules, RulesPulse::default());
    let began = Instant::now();
    heart.say_of_rules(|rules| rules.prepared = 7);
    assert_eq!(said().await.rules.prepared, 7);
    assert!(began.elapsed() < TAKEOVER / 20, "{:?}", began.elapsed());
    // What is said already is nothing new.
    heart.say_of_rules(|rules| rules.prepared = 7);
    said().await;
    assert!(began.elapsed() >= TAKEOVER / 20, "{:?}", began.elapsed());
}

#[test]
fn a_beat_of_an_earlier_version_says_nothing_of_rules() {
    let mut said = serde_json::to_value(pulse(1, 1, Role::Owner)).unwrap();
    said.as_object_mut().unwrap().remove("rules");
    let read: Pulse = serde_json::from_value(said).unwrap();
    assert_eq!(read, pulse(1, 1, Role::Owner));
}

#[tokio::test(start_paused = true)]
async fn what_is_set_for_all_nodes_is_shared_through_their_beats() {
    let engine = Engine::new(1, Faults::none());
    let cluster = Cluster::new(name("c"), 1).unwrap();
    let mut nodes = Vec::new();
    for (number, node) in (1..).zip(["a", "b", "c"]) {
        let log = engine.node().open(cluster.clone()).await.unwrap();
        let me = Identity {
            node: name(node),
            incarnation: number,
            takeover: TAKEOVER,
            address: String::new(),
            store_format: 5,
        };
        nodes.push(Heart::start(&(Arc::new(log) as Arc<dyn Log>), me, 1));
    }
    nodes[0].0.doing(SHARD).set(Role::Owner, 1);
    let limit = Limit {
        key: 1,
        home: SHARD,
        most: 12,
        one: 1,
    };
    let mut amounts = [0; 3];
    let began = Instant::now();
    for (place, (heart, _)) in nodes.iter().enumerate() {
        heart.shares().set_limits(vec![limit]);
        amounts[place] = heart.shares().shares(began)[0].amount;
    }
    assert_eq!(amounts, [1; 3]);
    while amounts != [4; 3] {
        sleep_until(Instant::now() + TAKEOVER / 40).await;
        let now = Instant::now();
        for (place, (heart, _)) in nodes.iter().enumerate() {
            let told = heart.shares().shares(now);
            amounts[place] = told.first().map_or(amounts[place], |share| share.amount);
            let demand = Demand {
                key: 1,
                wants: 12,
                in_use: 0,
            };
            heart.shares().demand(&[demand], Default::default(), now);
            heart.tell_shares();
        }
        assert!(now - began < TAKEOVER / 2, "{amounts:?}");
    }
}

#[test]
fn beats_of_nodes_that_share_nothing_are_read_and_read_as_before() {
    let written = serde_json::to_string(&pulse(1, 1, Role::Owner)).unwrap();
    assert!(!written.contains("shares"), "{written}");
    let read: Pulse = serde_json::from_str(&written).unwrap();
    assert_eq!(read, pulse(1, 1, Role::Owner));
}

#[test]
fn a_role_of_a_later_version_is_that_of_one_who_cannot_take_over() {
    let said = r#"{"role":"observer","epoch":3,"place":7}"#;
    let pulse: ShardPulse = serde_json::from_str(said).unwrap();
    assert_eq!((pulse.role, pulse.epoch), (Role::Filling, 3));
    for role in [Role::Owner, Role::Spare, Role::Idle, Role::Filling] {
        let said = serde_json::to_string(&role).unwrap();
        assert_eq!(serde_json::from_str::<Role>(&said).unwrap(), role);
    }
}
