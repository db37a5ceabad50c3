//! Several deliveries in one call.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_connectors::Attempt;
use pointsman_journal::{DeadReason, NewDelivery};
use pointsman_schemas::{Class, Event, Outcome, SubscriptionNumber};
use serde_json::json;
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;

use super::bench::*;
use crate::dispatcher::testing::{policy, preparation, route};
use crate::dispatcher::{Batch, Options, Plan, Route};

/// A call: when it began, and its events.
type Called = (Instant, Vec<String>);

/// What a target answers to the events of a call.
type Answers = dyn Fn(&[String]) -> Vec<Outcome> + Send + Sync;

const BATCH: Batch = Batch {
    events: 100,
    bytes: 1 << 20,
    window: Duration::ZERO,
    bisect: false,
};

/// A target of batches that notes its calls.
#[derive(Clone)]
struct Batches {
    calls: Arc<Mutex<Vec<Called>>>,
    answers: Arc<Answers>,
}

impl Batches {
    fn new(answers: impl Fn(&[String]) -> Vec<Outcome> + Send + Sync + 'static) -> Self {
        Self {
            calls: Arc::default(),
            answers: Arc::new(answers),
        }
    }

    fn taking() -> Self {
        Self::new(|_| vec![Outcome::delivered()])
    }

    fn plan(&self, number: SubscriptionNumber, route: Route) -> Plan {
        let batches = self.clone();
        let service = tower::service_fn(move |attempt: Attempt| {
            let batches = batches.clone();
            async move {
                assert!(attempt.is_batch, "also where it is of one");
                let events = attempt.deliveries.iter();
                let events: Vec<_> = events.map(|one| one.event.id().to_owned()).collect();
                let outcomes = (batches.answers)(&events);
                batches.calls.lock().push((Instant::now(), events));
                tokio::time::sleep(MS).await;
                Ok(outcomes)
            }
        });
        let mut target = Mock::taking(MS).target("t0");
        target.service = BoxCloneSyncService::new(service);
        Plan {
            quotas: Vec::new(),
            targets: vec![target],
            routes: vec![(number, Arc::new(route))],
        }
    }

    fn sizes(&self) -> Vec<usize> {
        let calls = self.calls.lock();
        calls.iter().map(|(_, events)| events.len()).collect()
    }
}

fn batched(batch: Batch) -> Route {
    Route {
        batch: Some(batch),
        ..route("r", 0, policy())
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_goes_in_full_calls_and_each_delivery_once() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 950).await;
    let target = Batches::taking();
    let running = bench.start(target.plan(number, batched(BATCH)));
    bench.drained().await;
    assert_eq!(target.sizes(), [&[100; 9][..], &[50]].concat());
    assert_eq!(bench.counts(number).await.delivered, 950);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_its_window_unless_it_is_full() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let target = Batches::taking();
    let batch = Batch {
        events: 3,
        window: SECOND * 10,
        ..BATCH
    };
    let running = bench.start(target.plan(number, batched(batch)));
    let start = Instant::now();
    bench.append(number, 1).await;
    tokio::time::sleep(SECOND * 2).await;
    bench.append(number, 1).await;
    bench.drained().await;
    bench.append(number, 2).await;
    tokio::time::sleep(SECOND).await;
    bench.append(number, 1).await;
    bench.drained().await;
    let calls = target.calls.lock().clone();
    let at: Vec<_> = calls
        .iter()
        .map(|(at, events)| (at.duration_since(start).as_secs(), events.len()))
        .collect();
    assert_eq!(at[0], (10, 2), "from the first one's time on");
    assert_eq!((at.len(), at[1].1), (2, 3));
    assert!(at[1].0 <= 12, "as soon as it is full: {at:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_is_tried_again_and_each_by_its_own_count() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 10).await;
    let first = Arc::new(Mutex::new(None));
    let known = Arc::clone(&first);
    let target = Batches::new(move |events| {
        let bad = known
            .lock()
            .get_or_insert_with(|| events[7].clone())
            .clone();
        let each = events.iter().map(|event| match *event == bad {
            true => Outcome::new(Class::Failed, "named"),
            false => Outcome::delivered(),
        });
        each.collect()
    });
    let running = bench.start(target.plan(number, batched(BATCH)));
    bench.drained().await;
    assert_eq!(target.sizes(), [10, 1, 1, 1], "four attempts at one");
    let counts = bench.counts(number).await;
    assert_eq!((counts.delivered, counts.dead), (9, 1));
    let letter = &bench.dead().await[0];
    assert_eq!((letter.reason, letter.attempts), (DeadReason::Exhausted, 4));
    assert_eq!(letter.message, "named");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nothing_can_be_made_of_leaves_its_batch_alone() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 2).await;
    let event = Event::builder("good", "/s", "t").subject("s").build();
    let entry = bench.entry(event.unwrap(), NewDelivery::now(number));
    bench.append_entries(vec![entry]).await;
    bench.append(number, 1).await;
    let target = Batches::taking();
    let route = Route {
        preparation: preparation(json!({}), &["<$.subject>"]),
        ..batched(BATCH)
    };
    let running = bench.start(target.plan(number, route));
    bench.drained().await;
    let counts = bench.counts(number).await;
    assert_eq!((counts.delivered, counts.dead), (1, 3));
    assert_eq!(target.calls.lock()[0].1, ["good"]);
    let letters = bench.dead().await;
    assert!(
        letters
            .iter()
            .all(|one| one.reason == DeadReason::Transform)
    );
    // Of a batch of nothing but such the target hears nothing.
    bench.append(number, 2).await;
    bench.drained().await;
    assert_eq!(
        (target.sizes(), bench.counts(number).await.dead),
        (vec![1], 5)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_whole_comes_back_whole() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 20).await;
    let target = Batches::new(|_| vec![Outcome::new(Class::Failed, "down")]);
    let running = bench.start(target.plan(number, batched(BATCH)));
    bench.drained().await;
    assert_eq!(target.sizes(), [20; 4]);
    assert_eq!(bench.counts(number).await.dead, 20);
    running.stop().await;
}

/// One poison event in a hundred, at every place, with one attempt and with the usual four: found
/// in as many calls as may be, and all others delivered once.
#[tokio::test(start_paused = true)]
async fn a_poison_event_is_found_by_halves() {
    let most = (2.0 * 100_f64.log2() + 2.0).floor() as usize;
    for (attempts_max, class, reason) in [
        (4, Class::Failed, DeadReason::Exhausted),
        (1, Class::Failed, DeadReason::Exhausted),
        (4, Class::Rejected, DeadReason::Rejected),
    ] {
        for poison in 0..100 {
            let bench = Bench::new();
            let number = bench.subscribe(&["r"]).await[0];
            bench.append(number, 100).await;
            let target = Batches::new(move |events| {
                let fails = events.iter().any(|event| *event == poison.to_string());
                let class = if fails { class } else { Class::Delivered };
                vec![Outcome::new(class, "poisoned")]
            });
            let batch = Batch {
                bisect: true,
                ..BATCH
            };
            let route = Route {
                policy: attempts(attempts_max),
                ..batched(batch)
            };
            let running = bench.start(target.plan(number, route));
            bench.drained().await;
            let counts = bench.counts(number).await;
            assert_eq!((counts.delivered, counts.dead), (99, 1), "{poison}");
            let letter = &bench.dead().await[0];
            assert_eq!(letter.id.sequence.0, poison + 1, "ids count from nothing");
            assert_eq!(letter.reason, reason);
            let calls = target.calls.lock().clone();
            assert!(calls.len() <= most, "{poison}: {:?}", target.sizes());
            let poisoned = |events: &[String]| events.iter().any(|id| *id == poison.to_string());
            let taken = calls.iter().filter(|(_, events)| !poisoned(events));
            let mut taken: Vec<_> = taken.flat_map(|(_, events)| events).collect();
            let count = taken.len();
            taken.sort();
            taken.dedup();
            assert_eq!((count, taken.len()), (99, 99), "each of the others once");
            running.stop().await;
        }
    }
}

/// Nobody is given up for what a batch came to, however often that fails.
#[tokio::test(start_paused = true)]
async fn halves_give_up_nobody_but_who_fails_alone() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 64).await;
    let target = Batches::new(|events| {
        let fails = events.len() > 1;
        let class = if fails {
            Class::Failed
        } else {
            Class::Delivered
        };
        vec![Outcome::new(class, "too many")]
    });
    let batch = Batch {
        bisect: true,
        ..BATCH
    };
    let route = Route {
        policy: attempts(2),
        ..batched(batch)
    };
    let running = bench.start(target.plan(number, route));
    bench.drained().await;
    let counts = bench.counts(number).await;
    assert_eq!((counts.delivered, counts.dead), (64, 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_counted_by_deliveries() {
    let mut bench = Bench::new();
    bench.options = Options {
        in_flight_max: 40,
        ..bench.options
    };
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 200).await;
    let target = Batches::taking();
    let running = bench.start(target.plan(number, batched(BATCH)));
    bench.drained().await;
    let sizes = target.sizes();
    assert!(
        sizes.iter().all(|size| *size <= 20),
        "half of 40: {sizes:?}"
    );
    assert_eq!(sizes.iter().sum::<usize>(), 200);
    running.stop().await;
}
