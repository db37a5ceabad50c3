//! Attempts that somebody stops.

use pointsman_connectors::Attempt;
use pointsman_journal::{Journal, TaskState};
use pointsman_schemas::{Class, DeliveryId, Outcome, SubscriptionNumber};
use tower::util::BoxCloneSyncService;

use super::bench::*;
use crate::dispatcher::StopReport;
use crate::dispatcher::plan::{Batch, Plan, Route, Target};
use crate::dispatcher::testing::{policy, route};

/// The tasks of a subscription that have not ended.
async fn ids(bench: &Bench, number: SubscriptionNumber) -> Vec<DeliveryId> {
    let pending = bench.journal.reader().pending(number, None, 100).await;
    pending.unwrap().into_iter().map(|one| one.id).collect()
}

/// Waits until so many attempts are under way.
async fn under_way(running: &Running, count: usize) {
    while running.handle.status().in_flight < count {
        tokio::time::sleep(MS).await;
    }
}

/// A target that ends what it began in its own way: a second after it is told to, with an outcome
/// that the event's id names.
fn seeing_to_it(number: SubscriptionNumber) -> Plan {
    let service = tower::service_fn(async |attempt: Attempt| {
        let is_over = attempt.end.see_to_it();
        is_over.cancelled().await;
        tokio::time::sleep(SECOND).await;
        let class = match attempt.deliveries[0].event.id() {
            "0" => Class::Delivered,
            "1" => Class::Failed,
            _ => Class::Rejected,
        };
        Ok(vec![Outcome::new(class, "it was ended")])
    });
    let target = Target {
        service: BoxCloneSyncService::new(service),
        ..Mock::taking(MS).target("t")
    };
    plan(vec![target], [(number, route("r", 0, policy()))])
}

#[tokio::test(start_paused = true)]
async fn a_stopped_attempt_is_dropped_and_its_task_counts_as_cancelled() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(SECOND * 20);
    let running = bench.start(one(&mock, number));
    bench.append(number, 2).await;
    under_way(&running, 2).await;
    let ids = ids(&bench, number).await;
    let began = tokio::time::Instant::now();
    let mut reports = running.handle.stop(vec![ids[0]]);
    assert_eq!(reports.recv().await, Some(StopReport::Stopping));
    assert!(running.handle.stopping().contains(&ids[0]));
    // Whoever asks again is told as well.
    let mut again = running.handle.stop(vec![ids[0]]);
    let ended = StopReport::Ended { is_stopped: true };
    assert_eq!(reports.recv().await, Some(ended));
    assert_eq!(reports.recv().await, None);
    assert!(
        began.elapsed() < SECOND,
        "its twenty seconds are not waited for"
    );
    while let Some(report) = again.recv().await {
        assert!([StopReport::Stopping, ended].contains(&report));
    }
    assert!(running.handle.stopping().is_empty());
    let counts = bench.counts(number).await;
    assert_eq!(
        (counts.cancelled, counts.pending, counts.delivered),
        (1, 1, 0)
    );
    bench.drained().await;
    assert_eq!((bench.counts(number).await.delivered, mock.count()), (1, 2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_it_ends_with_a_success_of_its_own_that_counts() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let running = bench.start(seeing_to_it(number));
    bench.append(number, 3).await;
    under_way(&running, 3).await;
    let ids = ids(&bench, number).await;
    let mut reports = running.handle.stop(ids);
    let (mut stopping, mut stopped, mut own) = (0, 0, 0);
    while let Some(report) = reports.recv().await {
        match report {
            StopReport::Stopping => stopping += 1,
            StopReport::Ended { is_stopped: true } => stopped += 1,
            StopReport::Ended { is_stopped: false } => own += 1,
        }
    }
    // One was delivered in spite of it; what the others say comes of their being ended.
    assert_eq!((stopping, stopped, own), (3, 2, 1));
    let counts = bench.counts(number).await;
    assert_eq!((counts.delivered, counts.cancelled, counts.dead), (1, 2, 0));
    assert!(bench.dead().await.is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_under_way_is_not_stopped_and_says_so_at_once() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::classes(&[Class::Failed, Class::Delivered]);
    let running = bench.start(one(&mock, number));
    bench.append(number, 1).await;
    let retrying = async || {
        let pending = bench
            .journal
            .reader()
            .pending(number, None, 1)
            .await
            .unwrap();
        pending
            .first()
            .is_some_and(|one| one.attempts == 1 && !one.in_flight)
    };
    while !retrying().await {
        tokio::time::sleep(MS).await;
    }
    let ids = ids(&bench, number).await;
    assert_eq!(running.handle.stop(ids.clone()).recv().await, None);
    bench.drained().await;
    assert_eq!(bench.counts(number).await.delivered, 1);
    let life = bench.journal.reader().life(ids[0]).await.unwrap();
    assert!(life.is_none_or(|life| life.state == TaskState::Succeeded));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_being_stopped_when_the_bus_stops_does_not_come_again() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let running = bench.start_with(seeing_to_it(number), MS);
    bench.append(number, 2).await;
    under_way(&running, 2).await;
    let ids = ids(&bench, number).await;
    let mut reports = running.handle.stop(vec![ids[1]]);
    assert_eq!(reports.recv().await, Some(StopReport::Stopping));
    running.stop().await;
    let counts = bench.counts(number).await;
    assert_eq!((counts.cancelled, counts.pending), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_on_for_the_others_and_is_dropped_once_nobody_wants_it() {
    let service = tower::service_fn(async |attempt: Attempt| {
        tokio::time::sleep(SECOND * 20).await;
        Ok(vec![Outcome::delivered(); attempt.deliveries.len()])
    });
    let target = || Target {
        service: BoxCloneSyncService::new(service),
        ..Mock::taking(MS).target("t")
    };
    let batch = Batch {
        events: 2,
        bytes: 1024 * 1024,
        window: SECOND,
        bisect: false,
    };
    let route = || Route {
        batch: Some(batch),
        ..route("r", 0, policy())
    };
    for stops in [1, 2] {
        let bench = Bench::new();
        let number = bench.subscribe(&["r"]).await[0];
        let running = bench.start(plan(vec![target()], [(number, route())]));
        bench.append(number, 2).await;
        under_way(&running, 2).await;
        let ids = ids(&bench, number).await;
        let began = tokio::time::Instant::now();
        let mut reports: Vec<_> = ids[..stops]
            .iter()
            .map(|id| running.handle.stop(vec![*id]))
            .collect();
        for reports in &mut reports {
            assert_eq!(reports.recv().await, Some(StopReport::Stopping));
            let is_stopped = stops == 2;
            assert_eq!(reports.recv().await, Some(StopReport::Ended { is_stopped }));
        }
        let counts = bench.counts(number).await;
        match stops {
            // It was delivered with the other one.
            1 => assert_eq!((counts.delivered, counts.cancelled), (2, 0)),
            _ => {
                assert_eq!((counts.delivered, counts.cancelled), (0, 2));
                assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
            }
        }
        running.stop().await;
    }
}
