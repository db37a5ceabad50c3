use bytes::Bytes;
use pointsman_journal::disk::{ApplyError, Commit, OpenError};
use pointsman_log::simulated::{self, Engine, Faults};
use pointsman_log::{Cluster, Log, Next, Place};
use tokio::time::advance;

use super::*;
use crate::Store;
use crate::fold::Fold;
use crate::follower::Following;
use crate::record::{Changes, Owner, Part, Record, What};
use crate::sequencer::Sequencer;
use crate::shares::{Demand, Limit};
use crate::watch::{Look, Watch};

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
    let (_, heart, beating) = heart_with_log().await;
    (heart, beating)
}

async fn heart_with_log() -> (Arc<dyn Log>, Arc<Heart>, Beating) {
    let (_, log, heart, beating) = heart_with_way().await;
    (log, heart, beating)
}

async fn heart_with_way() -> (simulated::Node, Arc<dyn Log>, Arc<Heart>, Beating) {
    let way = Engine::new(1, Faults::none()).node();
    let log = way.open(Cluster::new(name("c"), 1).unwrap()).await.unwrap();
    let log = Arc::new(log) as Arc<dyn Log>;
    let me = Identity {
        node: name("a"),
        incarnation: 1,
        takeover: TAKEOVER,
        address: String::new(),
        store_format: 5,
    };
    let (heart, beating) = Heart::start(&log, me, 1);
    (way, log, heart, beating)
}

fn owner(node: &str, incarnation: u64) -> Owner {
    Owner {
        node: name(node),
        incarnation,
        takeover_ms: 10_000,
        imports: false,
    }
}

/// A store that has come as far as its mark says.
struct Marked(Bytes);

impl Store for Marked {
    fn mark(&self) -> Option<Bytes> {
        Some(self.0.clone())
    }

    fn is_embedded(&self) -> bool {
        false
    }

    fn apply(&mut self, _: &[Commit], _: &[u8]) -> Result<(), ApplyError> {
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), OpenError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_was_restarted_its_last_process_counts() {
    let (heart, _beating) = heart_of_a().await;
    heart.doing(SHARD).set(Role::Owner, 1);
    heart.is_draining.store(true, Ordering::Relaxed);
    heart.hear(0, name("b"), pulse(2, 1, Role::Spare));
    assert_eq!(heart.heir(SHARD), None, "it has just been heard first");
    advance(TAKEOVER).await;
    heart.hear(0, name("b"), pulse(2, 2, Role::Spare));
    assert_eq!(heart.heir(SHARD), Some(name("b")));
    // The process before this one is no other node.
    heart.hear(0, name("a"), pulse(3, 1, Role::Spare));
    assert_eq!(heart.members().len(), 1);
    advance(TAKEOVER / 10).await;
    heart.hear(0, name("b"), pulse(4, 1, Role::Filling));
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
    heart.hear(0, name("b"), pulse(2, 8, Role::Owner));
    sleep_until(Instant::now() + TAKEOVER / 2).await;
    let since_last_echo = TAKEOVER / 2 - silence();
    assert!(since_last_echo < TAKEOVER / 10, "{since_last_echo:?}");
    // The tenth was acknowledged, and this one has taken its place before anybody heard it.
    heart.hear(0, name("b"), pulse(2, 7, Role::Spare));
    assert_eq!(silence(), Duration::ZERO);
    let pulse = heart.pulse(2).unwrap();
    assert_eq!((pulse.number, pulse.of(SHARD).role), (8, Role::Owner));
}

#[tokio::test(start_paused = true)]
async fn what_is_new_of_the_rules_is_said_at_once() {
    let way = Engine::new(1, Faults::none()).node();
    let log = way.open(Cluster::new(name("c"), 1).unwrap()).await.unwrap();
    let log = Arc::new(log) as Arc<dyn Log>;
    let mut beats = log.beats().remove(0);
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

#[tokio::test(start_paused = true)]
async fn a_node_does_not_act_on_a_claim_of_its_own_that_has_been_followed() {
    let (log, heart, _beating) = heart_with_log().await;
    // Its claim holds, behind that of an owner that has stopped since.
    let mut fold = Fold::default();
    for (place, owner) in [(1, owner("b", 2)), (2, owner("a", 1))] {
        let claim = What::Claim(owner).encode(place);
        fold.judge(Place(place), &claim).unwrap();
    }
    let following = Following::begin(&*log, SHARD, Marked(fold.mark()));
    let mut watch = Watch::new(&heart, SHARD);
    sleep_until(Instant::now() + TAKEOVER / 5).await;
    heart.doing(SHARD).claim(2);
    let mut acts_where_b_knows = |number: u64, epoch: u64| {
        let mut said = pulse(2, number, Role::Spare);
        said.shards[0].epoch = epoch;
        heart.hear(0, name("b"), said);
        matches!(watch.look(&following, false), Look::Own(..))
    };
    assert!(!acts_where_b_knows(1, 1), "it may act itself");
    assert!(!acts_where_b_knows(2, 3), "somebody has followed");
    assert!(acts_where_b_knows(3, 2));
}

#[tokio::test(start_paused = true)]
async fn nobody_acts_on_a_claim_that_others_may_have_judged_him_silent_by() {
    let (way, log, heart, _beating) = heart_with_way().await;
    let mut fold = Fold::default();
    let claim = What::Claim(owner("a", 1)).encode(1);
    fold.judge(Place(1), &claim).unwrap();
    let following = Following::begin(&*log, SHARD, Marked(fold.mark()));
    sleep_until(Instant::now() + TAKEOVER / 5).await;
    // It does not know when it has made it.
    let mut watch = Watch::new(&heart, SHARD);
    let look = |watch: &mut Watch<'_>| watch.look(&following, true);
    assert!(matches!(look(&mut watch), Look::Claim(_)));
    heart.doing(SHARD).claim(1);
    assert!(matches!(look(&mut watch), Look::Own(..)));
    // A short absence breaks nothing off.
    way.cut(true);
    sleep_until(Instant::now() + TAKEOVER / 2).await;
    way.cut(false);
    sleep_until(Instant::now() + TAKEOVER / 2).await;
    assert!(matches!(look(&mut watch), Look::Own(..)));
    way.cut(true);
    sleep_until(Instant::now() + TAKEOVER).await;
    assert!(matches!(look(&mut watch), Look::Follow));
    way.cut(false);
    sleep_until(Instant::now() + TAKEOVER).await;
    assert!(heart.is_alive());
    // Another one may own the log, and this one not have heard of that.
    heart.doing(SHARD).claim(1);
    assert!(matches!(look(&mut watch), Look::Claim(_)));
}

#[tokio::test(start_paused = true)]
async fn that_an_owner_was_silent_before_a_claim_does_not_say_that_he_has_stopped() {
    let (log, heart, _beating) = heart_with_log().await;
    let mut fold = Fold::default();
    for (place, owner) in [(1, owner("b", 2)), (2, owner("a", 1))] {
        let claim = What::Claim(owner).encode(place);
        fold.judge(Place(place), &claim).unwrap();
    }
    let following = Following::begin(&*log, SHARD, Marked(fold.mark()));
    heart.hear(0, name("b"), pulse(2, 1, Role::Owner));
    let claimed = Instant::now() + TAKEOVER * 2;
    sleep_until(claimed).await;
    heart.doing(SHARD).claim(2);
    let mut watch = Watch::new(&heart, SHARD);
    let mut acts = || matches!(watch.look(&following, false), Look::Own(..));
    assert!(!acts(), "it may not have heard what he has said meanwhile");
    assert!(!acts());
    // It hears itself.
    sleep_until(claimed + TAKEOVER / 100).await;
    assert!(acts());
}

#[tokio::test(start_paused = true)]
async fn records_are_packed_once_all_living_nodes_can_read_that() {
    let (log, heart, _beating) = heart_with_log().await;
    let mut fold = Fold::default();
    let me = owner("a", 1);
    let claim = What::Claim(me.clone()).encode(1);
    log.append(SHARD, claim.clone()).await.unwrap();
    fold.judge(Place(1), &claim).unwrap();
    let ended = CancellationToken::new();
    let mut sequencer =
        Sequencer::new(Arc::clone(&log), SHARD, me, fold, Arc::clone(&heart), ended);
    let commit = Commit {
        format: 5,
        begins_carry: false,
        ends_carry: false,
        changes: vec![7; 4_000].into(),
    };
    let mut follower = log.follow(SHARD, Place(1));
    let mut is_packed = async || {
        sequencer.append(&commit).await.unwrap();
        let Some(Ok(Next::Record { body, .. })) = follower.next().await else {
            panic!("there is no record");
        };
        let What::Commit { part, .. } = Record::decode(&body).unwrap().what else {
            panic!("it is no commit");
        };
        matches!(part.changes, Changes::Packed(_))
    };
    assert!(is_packed().await, "nobody else is there");
    let mut older = pulse(2, 1, Role::Idle);
    older.format.records = 1;
    heart.hear(0, name("b"), older);
    assert!(!is_packed().await);
    heart.hear(0, name("b"), pulse(3, 1, Role::Idle));
    assert!(!is_packed().await, "it may be the other process that lives");
    advance(TAKEOVER).await;
    assert!(is_packed().await);
}

#[tokio::test(start_paused = true)]
async fn a_node_rests_once_the_owner_has_appended_and_not_before() {
    let way = Engine::new(1, Faults::none()).node();
    let log = way.open(Cluster::new(name("c"), 1).unwrap()).await.unwrap();
    let log = Arc::new(log) as Arc<dyn Log>;
    let mut fold = Fold::default();
    for (place, owner) in [(1, owner("gone", 30)), (2, owner("node-2", 2))] {
        let claim = What::Claim(owner).encode(place);
        log.append(SHARD, claim.clone()).await.unwrap();
        fold.judge(Place(place), &claim).unwrap();
    }
    let me = Identity {
        node: name("a"),
        incarnation: 1,
        takeover: TAKEOVER,
        address: String::new(),
        store_format: 5,
    };
    let node = crate::Node::join(Arc::clone(&log), me, 1);
    let heart = Arc::clone(&node.heart);
    let store = Marked(fold.mark());
    let following = tokio::spawn(async move { node.stand_by(SHARD, store).await.map(drop) });
    let role_after_a_second = async |number: u64| {
        // Of so many some come before it.
        for incarnation in 2..20 {
            let role = if incarnation == 2 {
                Role::Owner
            } else {
                Role::Spare
            };
            let mut said = pulse(incarnation, number, role);
            said.shards[0].epoch = 2;
            heart.hear(0, name(&format!("node-{incarnation}")), said);
        }
        sleep_until(Instant::now() + TAKEOVER / 10).await;
        heart.doing(SHARD).pulse().role
    };
    assert_ne!(role_after_a_second(1).await, Role::Idle);
    let at = fold.next();
    let part = Part {
        format: 5,
        is_first: true,
        is_last: true,
        ends_walk: false,
        changes: Changes::Plain(Bytes::new()),
    };
    let commit = What::Commit { at, part }.encode(2);
    log.append(SHARD, commit).await.unwrap();
    role_after_a_second(2).await;
    assert_eq!(role_after_a_second(3).await, Role::Idle);
    following.abort();
}
