//! Attempts whose fence is cancelled: another machine may be making them by then.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pointsman_connectors::Attempt;
use pointsman_journal::{Journal, NewDelivery};
use pointsman_schemas::trace::TRACEPARENT;
use pointsman_schemas::{Class, Event, Outcome, SubscriptionNumber, Timestamp};
use prometheus_client::registry::Registry;
use tower::util::BoxCloneSyncService;

use super::bench::*;
use crate::dispatcher::CircuitStatus;
use crate::dispatcher::Observer;
use crate::dispatcher::plan::{Batch, Plan, Route, Target};
use crate::dispatcher::status::Status;
use crate::dispatcher::testing::{policy, route};
use crate::telemetry::Metrics;
use crate::telemetry::traces::testing::recording;

/// Two rules to one mock target that takes one call at a time.
fn narrow(mock: &Mock, numbers: &[SubscriptionNumber]) -> Plan {
    let target = Target {
        concurrency_max: NonZeroUsize::new(1).unwrap(),
        ..mock.target("t")
    };
    let routes = numbers
        .iter()
        .map(|number| (*number, route("r", 0, policy())));
    plan(vec![target], routes.collect::<Vec<_>>())
}

/// Waits until a dispatcher's status is like this, no longer than an hour.
async fn until(running: &Running, holds: impl Fn(&Status) -> bool) {
    for _ in 0..3_600_000 {
        if holds(&running.handle.status()) {
            return;
        }
        tokio::time::sleep(MS).await;
    }
    panic!("it is still {:?}", running.handle.status());
}

/// How many tries each task of a subscription that has not ended has behind it.
async fn tries(bench: &Bench, number: SubscriptionNumber) -> Vec<u32> {
    let pending = bench.journal.reader().pending(number, None, 100).await;
    let pending = pending.unwrap();
    assert!(pending.iter().all(|one| !one.in_flight), "{pending:?}");
    pending.iter().map(|one| one.attempts).collect()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_under_way_is_dropped_and_those_of_other_fences_and_of_none_go_on() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["lost", "kept", "free"]).await;
    let (lost, _kept) = (bench.fence(numbers[0]), bench.fence(numbers[1]));
    let mock = Mock::taking(SECOND * 20);
    let routes = numbers.iter().map(|one| (*one, route("r", 0, policy())));
    let running = bench.start(plan(vec![mock.target("t")], routes.collect::<Vec<_>>()));
    for number in &numbers {
        bench.append(*number, 2).await;
    }
    until(&running, |status| status.in_flight == 6).await;
    let before = running.handle.status().targets;
    let began = tokio::time::Instant::now();
    lost.cancel();
    until(&running, |status| status.in_flight == 4).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(mock.under_way.load(Ordering::Relaxed), 4);
    assert_eq!(tries(&bench, numbers[0]).await, [0, 0]);
    let after = running.handle.status().targets;
    assert_eq!(
        (after[0].in_flight, after[0].limit, &after[0].last_error),
        (4, before[0].limit, &None)
    );
    tokio::time::sleep(SECOND * 30).await;
    for number in &numbers[1..] {
        assert_eq!(bench.counts(*number).await.delivered, 2);
    }
    assert_eq!(mock.count(), 6, "nothing was called again");
    // Whoever has them next makes the first attempt.
    bench.fence(numbers[0]);
    bench.append(numbers[0], 1).await;
    bench.drained().await;
    let calls = mock.calls.lock().clone();
    assert!(calls.iter().all(|call| call.attempt == 1), "{calls:?}");
    assert_eq!(calls.len(), 9);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_just_leased_is_not_begun_and_uses_up_nothing() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["lost", "kept"]).await;
    let lost = bench.fence(numbers[0]);
    let mock = Mock::taking(MS);
    let mut plan = narrow(&mock, &numbers);
    plan.targets[0].rate = rate("1/h");
    let running = bench.start(plan);
    bench.append(numbers[0], 1).await;
    // A lease takes a tenth of a millisecond.
    while bench.journal.in_flight.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.handle.status().in_flight, 0, "it is being leased");
    lost.cancel();
    bench.append(numbers[1], 1).await;
    tokio::time::sleep(SECOND).await;
    // The one call of this hour is left to the other.
    assert_eq!(bench.counts(numbers[1]).await.delivered, 1);
    assert_eq!(mock.count(), 1);
    assert_eq!(tries(&bench, numbers[0]).await, [0]);
    assert_eq!(running.handle.status().in_flight, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_sees_to_its_end_itself_is_dropped_too() {
    /// Counts those that are under way.
    struct UnderWay(Arc<AtomicUsize>);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    let under_way = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&under_way);
    let service = tower::service_fn(move |attempt: Attempt| {
        counted.fetch_add(1, Ordering::Relaxed);
        let own = UnderWay(Arc::clone(&counted));
        async move {
            attempt.end.see_to_it().cancelled().await;
            tokio::time::sleep(SECOND * 20).await;
            drop(own);
            Ok(vec![Outcome::delivered(); attempt.deliveries.len()])
        }
    });
    let batch = Batch {
        events: 2,
        bytes: 1024 * 1024,
        window: SECOND,
        bisect: false,
    };
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let fence = bench.fence(number);
    let target = Target {
        service: BoxCloneSyncService::new(service),
        ..Mock::taking(MS).target("t")
    };
    let route = Route {
        batch: Some(batch),
        ..route("r", 0, policy())
    };
    let running = bench.start(plan(vec![target], [(number, route)]));
    bench.append(number, 4).await;
    until(&running, |status| status.in_flight == 4).await;
    let pending = bench.journal.reader().pending(number, None, 100).await;
    // Somebody stops one of the two batches, and that is under way when the fence is cancelled.
    let ids = pending.unwrap().iter().map(|one| one.id).take(2).collect();
    let mut reports = running.handle.stop(ids);
    reports.recv().await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(under_way.load(Ordering::Relaxed), 2);
    let began = tokio::time::Instant::now();
    fence.cancel();
    until(&running, |status| status.in_flight == 0).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(under_way.load(Ordering::Relaxed), 0);
    assert_eq!(tries(&bench, number).await, [0, 0]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_circuit_asks_with_another_one_where_its_probe_was_dropped() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["lost", "kept"]).await;
    let lost = bench.fence(numbers[0]);
    let mock = Mock::classes(&[Class::Unavailable]);
    let running = bench.start(narrow(&mock, &numbers));
    bench.append(numbers[0], 1).await;
    let is_open = |status: &Status| status.targets[0].circuit == CircuitStatus::Open;
    until(&running, is_open).await;
    mock.becomes(|_| (SECOND * 20, Outcome::delivered()));
    let probed = || mock.ids(Class::Delivered).len();
    until(&running, |_| probed() == 1).await;
    bench.append(numbers[1], 1).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(probed(), 1, "one at a time");
    let began = tokio::time::Instant::now();
    lost.cancel();
    until(&running, |_| probed() == 2).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert!(is_open(&running.handle.status()), "nobody has answered");
    tokio::time::sleep(SECOND * 21).await;
    assert_eq!(bench.counts(numbers[1]).await.delivered, 1);
    assert!(!is_open(&running.handle.status()));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_given_up_ends_its_span() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["lost", "stopped"]).await;
    let lost = bench.fence(numbers[0]);
    let (traces, mut taken) = recording();
    let metrics = Metrics::new(&mut Registry::default(), Timestamp(0)).traced(traces);
    let routes = numbers.iter().map(|number| {
        let route = route("r", 0, policy());
        let observer = Observer::new(route.identity.clone(), &metrics, Arc::default());
        (*number, Route { observer, ..route })
    });
    let mock = Mock::taking(SECOND * 20);
    let plan = plan(vec![mock.target("t")], routes.collect::<Vec<_>>());
    let running = bench.start_with(plan, SECOND);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for number in &numbers {
        let event = Event::builder("1", "/s", "t").attribute(TRACEPARENT, parent.into());
        let entry = bench.entry(event.build().unwrap(), NewDelivery::now(*number));
        bench.append_entries(vec![entry]).await;
    }
    until(&running, |status| status.in_flight == 2).await;
    lost.cancel();
    until(&running, |status| status.in_flight == 1).await;
    let given_up = |why: &str| vec![("attempt t".to_owned(), Some(why.to_owned()))];
    assert_eq!(taken(), given_up("stopped before it had answered"));
    running.stop().await;
    assert_eq!(taken(), given_up("the bus stopped before it had answered"));
}
