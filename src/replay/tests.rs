mod shards;

use std::time::Duration;

use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use pointsman_journal::{
    Append, Ending, Entry, Grant, Leased, NewDelivery, Role, Settlement, Start, Subscription,
};
use pointsman_rules::{Filter, Path, Pattern};
use pointsman_schemas::{Data, Event, Name, Timestamp};
use tokio::time::{Instant, sleep};

use super::*;
use crate::router::{RuleInForce, SubscriptionInForce};

const START: Timestamp = Timestamp(1_700_000_000_000_000);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

struct Bench {
    journal: Arc<MemoryJournal>,
    replays: Arc<Replays>,
    number: SubscriptionNumber,
}

impl Bench {
    /// A bus with one rule, which takes events of the type `wanted`, in the order of `$.subject`.
    async fn new(start: Option<Start>, events: usize) -> Self {
        let clock = Arc::new(RuntimeClock::new(START));
        let journal = MemoryJournal::new(clock, MemoryOptions::default());
        append(&journal, 0..events, &[]).await;
        let number = journal.subscribe(vec![wanted(start)]).await.unwrap()[0];
        let router = Arc::new(ArcSwap::from_pointee(Router::new(vec![rule(number)])));
        let replays = Replays::new(Arc::clone(&journal) as Arc<dyn Journal>, router, None);
        Self {
            journal,
            replays,
            number,
        }
    }

    fn request(&self, events: EventSelection) -> EventReplay {
        EventReplay {
            subscription: self.number.0,
            events,
        }
    }

    async fn shown(&self, id: ReplayId) -> Replay {
        let all = self.journal.reader().replays().await.unwrap();
        all.into_iter().find(|replay| replay.id == id).unwrap()
    }

    async fn ended(&self, id: ReplayId) -> Replay {
        for _ in 0..10_000 {
            let replay = self.shown(id).await;
            if !replay.is_running() {
                return replay;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} does not end");
    }

    async fn lease(&self, count: usize) -> Vec<Leased> {
        let grant = Grant {
            subscription: self.number,
            count,
            lease: Duration::from_secs(600),
            bytes_max: usize::MAX,
            batching: None,
        };
        let leases = self.journal.lease(&[grant], usize::MAX).await.unwrap();
        leases.leased
    }

    async fn deliver(&self, leased: Leased) {
        let settlement = Settlement::new(leased.token, Ending::Delivered);
        self.journal.settle(vec![settlement]).await.unwrap();
    }
}

/// The subscription of the one rule.
fn wanted(start: Option<Start>) -> Subscription {
    let identity = SubscriptionIdentity {
        tenant: name("default"),
        rule: name("r"),
        role: Role::To,
        target: name("t"),
    };
    Subscription {
        identity,
        renamed_from: None,
        backlog: None,
        start,
    }
}

/// The one rule.
fn rule(number: SubscriptionNumber) -> RuleInForce {
    let pattern = Pattern::compile(&serde_json::json!({ "type": ["wanted"] })).unwrap();
    RuleInForce {
        tenant: name("default"),
        name: name("r"),
        pipe: false,
        from: None,
        filter: Filter::from(pattern),
        deduplicate: None,
        retention: None,
        subscriptions: vec![SubscriptionInForce {
            target: name("t"),
            number,
            order_by: Some(Path::parse("$.subject").unwrap()),
            delay: Duration::ZERO,
            priority: None,
        }],
    }
}

/// Events with the ids of a range; every third is not of the wanted type.
async fn append(
    journal: &MemoryJournal,
    range: std::ops::Range<usize>,
    numbers: &[SubscriptionNumber],
) {
    let entry = |id: usize| {
        let ty = if id % 3 == 2 { "other" } else { "wanted" };
        let event = Event::builder(id.to_string(), "/s", ty)
            .subject(format!("key{}", id % 2))
            .data(Data::text("x".into()));
        let wants = |_: &&SubscriptionNumber| ty == "wanted";
        Entry {
            event: Arc::new(event.build().unwrap()),
            deliveries: numbers
                .iter()
                .filter(wants)
                .map(|number| NewDelivery::now(*number))
                .collect(),
            deduplicate: None,
            dead: None,
            terms: None,
        }
    };
    let append = Append {
        tenant: name("default"),
        origin: name("ingress"),
        entries: range.map(entry).collect(),
        rejects: Vec::new(),
        cursor: None,
        positions: Vec::new(),
    };
    journal.append(append).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rule_takes_what_it_would_have_taken_under_its_order_key() {
    let bench = Bench::new(None, 9).await;
    let replay = bench
        .replays
        .begin(&bench.request(EventSelection::default()))
        .await
        .unwrap();
    let replay = bench.ended(replay.id).await;
    assert_eq!((replay.seen, replay.made), (9, 6));
    // Of each key one at a time.
    let leased = bench.lease(9).await;
    let ids: Vec<_> = leased.iter().map(|one| one.event.id()).collect();
    assert_eq!(ids, ["0", "1"]);
    assert!(leased.iter().all(|one| one.replay == Some(replay.id)));
    let all = bench.request(EventSelection {
        all: true,
        ..EventSelection::default()
    });
    let replay = bench.replays.begin(&all).await.unwrap();
    assert_eq!(
        bench.ended(replay.id).await.made,
        3,
        "those that are not pending"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_and_a_stop_leaves_the_rest() {
    let bench = Bench::new(None, 90).await;
    let request = bench.request(EventSelection {
        rate: Some("10/s".to_owned()),
        ..EventSelection::default()
    });
    let began = Instant::now();
    let replay = bench.replays.begin(&request).await.unwrap();
    for _ in 0..300 {
        sleep(Duration::from_millis(10)).await;
        let made = bench.shown(replay.id).await.made;
        let allowed = began.elapsed().as_secs_f64() * 10.0 + 2.0;
        assert!(made as f64 <= allowed, "{made} after {:?}", began.elapsed());
    }
    let stopped = bench.replays.stop(replay.id).await.unwrap();
    assert_eq!(stopped.state, ReplayState::Stopped);
    assert!((25..=32).contains(&stopped.made), "{}", stopped.made);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.shown(replay.id).await, stopped);
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_where_it_was_after_a_restart() {
    let bench = Bench::new(None, 90).await;
    let request = bench.request(EventSelection {
        rate: Some("10/s".to_owned()),
        ..EventSelection::default()
    });
    let replay = bench.replays.begin(&request).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    bench.replays.close().await;
    let halfway = bench.shown(replay.id).await;
    assert!(halfway.is_running() && halfway.made > 20, "{halfway:?}");
    let next = Replays::new(
        Arc::clone(&bench.journal) as Arc<dyn Journal>,
        Arc::clone(&bench.replays.router),
        None,
    );
    next.resume().await.unwrap();
    let ended = bench.ended(replay.id).await;
    assert_eq!((ended.seen, ended.made), (90, 60));
    assert_eq!(ended.state, ReplayState::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_start_gives_everything_once_and_in_order_while_more_comes() {
    let bench = Bench::new(Some(Start::Earliest), 300).await;
    bench.replays.resume().await.unwrap();
    let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
    let (mut total, mut next) = (0, 300);
    for round in 0..4_000 {
        if next < 900 && round % 10 == 0 {
            append(&bench.journal, next..next + 10, &[bench.number]).await;
            next += 10;
        }
        for leased in bench.lease(5).await {
            let subject = leased.event.subject().unwrap().to_owned();
            let id: usize = leased.event.id().parse().unwrap();
            assert_eq!(leased.replay.is_some(), id < 300, "{id}");
            seen.entry(subject).or_default().push(id);
            total += 1;
            bench.deliver(leased).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((next, total), (900, 600));
    let all = bench.journal.reader().replays().await.unwrap();
    assert_eq!(all[0].state, ReplayState::Finished, "{all:?}");
    // What an append makes has no order key here: only what the replay made is ordered.
    let ordered = all[0].until.0 as usize;
    for ids in seen.values() {
        let of_replay: Vec<_> = ids.iter().copied().filter(|id| *id < ordered).collect();
        assert!(of_replay.is_sorted(), "{of_replay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_replayed_is_refused() {
    let bench = Bench::new(None, 3).await;
    for (request, expect) in [
        (
            bench.request(EventSelection {
                rate: Some("10".to_owned()),
                ..EventSelection::default()
            }),
            "is not a rate",
        ),
        (
            bench.request(EventSelection {
                from: Some("yesterday".to_owned()),
                ..EventSelection::default()
            }),
            "from is \"yesterday\"",
        ),
        (
            EventReplay {
                subscription: 99,
                ..bench.request(EventSelection::default())
            },
            "there is no subscription 99",
        ),
    ] {
        let error = bench.replays.begin(&request).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    }
    let slow = bench.request(EventSelection {
        rate: Some("1/h".to_owned()),
        ..EventSelection::default()
    });
    for _ in 0..RUNNING_MAX {
        bench.replays.begin(&slow).await.unwrap();
    }
    assert_eq!(bench.replays.begin(&slow).await, Err(ReplayError::TooMany));
}

#[tokio::test(start_paused = true)]
async fn a_replay_ends_with_its_rule() {
    let bench = Bench::new(None, 90).await;
    let slow = bench.request(EventSelection {
        rate: Some("10/s".to_owned()),
        ..EventSelection::default()
    });
    let replay = bench.replays.begin(&slow).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    bench.journal.subscribe(Vec::new()).await.unwrap();
    bench.replays.router.store(Arc::default());
    let ended = bench.ended(replay.id).await;
    assert_eq!(ended.state, ReplayState::Failed);
    assert!(
        ended.message.contains("no rule in force"),
        "{}",
        ended.message
    );
}
