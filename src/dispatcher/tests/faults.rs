//! A store that fails, and stops under load.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_schemas::{Backoff, Class, Outcome};

use super::bench::*;
use crate::dispatcher::policy::Policy;
use crate::dispatcher::testing::{policy, route};
use pointsman_journal::{DeadReason, Journal, JournalError};

fn io() -> JournalError {
    JournalError::Io("no such device".to_owned())
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_kept_while_the_store_fails_and_nothing_spins() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 20);
    let running = bench.start(one(&mock, number));
    bench.append(number, 100).await;
    tokio::time::sleep(MS * 10).await;
    bench.journal.inner.set_trouble(Some(io()));
    let calls = (
        bench.journal.leases.load(Ordering::Relaxed),
        bench.journal.settles.load(Ordering::Relaxed),
    );
    tokio::time::sleep(SECOND * 40).await;
    let under_way = mock.count();
    let leases = bench.journal.leases.load(Ordering::Relaxed) - calls.0;
    let settles = bench.journal.settles.load(Ordering::Relaxed) - calls.1;
    assert!(
        (1..25).contains(&settles) && leases < 25,
        "{settles} settles and {leases} leases in forty seconds"
    );
    bench.journal.inner.set_trouble(None);
    bench.drained().await;
    // Nothing was done twice: the leases held.
    assert_eq!(
        (bench.counts(number).await.delivered, mock.count()),
        (100, 100),
        "{under_way} before"
    );
    let summary = running.stop().await;
    assert_eq!((summary.settled, summary.unsettled), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_settle_that_happened_and_was_answered_with_an_error_is_not_done_twice() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 5);
    let running = bench.start(one(&mock, number));
    bench.journal.lies.store(true, Ordering::Relaxed);
    bench.append(number, 50).await;
    tokio::time::sleep(SECOND * 10).await;
    bench.journal.lies.store(false, Ordering::Relaxed);
    bench.drained().await;
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(
        (
            bench.counts(number).await.delivered,
            mock.count(),
            running.handle.status().in_flight
        ),
        (50, 50, 0)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn retries_that_find_no_room_are_stored_once_there_is_some_and_hold_nobody_up() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["fails", "works"]).await;
    let (fails, works) = (
        Mock::classes(&[Class::Failed, Class::Delivered]),
        Mock::taking(MS),
    );
    let running = bench.start(plan(
        vec![fails.target("t"), works.target("u")],
        [
            (numbers[0], route("fails", 0, policy())),
            (numbers[1], route("works", 1, policy())),
        ],
    ));
    bench.journal.is_short.store(true, Ordering::Relaxed);
    bench.append(numbers[0], 18).await;
    tokio::time::sleep(SECOND * 8).await;
    let settles = bench.journal.settles.load(Ordering::Relaxed);
    assert_eq!(fails.count(), 18, "none is tried again before it is stored");
    assert!(
        (2..40).contains(&settles),
        "{settles} settles, though there was no room"
    );
    // What there is room for does not wait.
    bench.append(numbers[1], 1).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.counts(numbers[1]).await.delivered, 1);
    bench.journal.is_short.store(false, Ordering::Relaxed);
    // Far sooner than the leases run out, and each once.
    tokio::time::sleep(SECOND * 15).await;
    assert_eq!(bench.counts(numbers[0]).await.delivered, 18);
    assert_eq!(fails.count(), 36);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_longer_than_the_leases_means_second_deliveries_and_no_loss() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 20);
    let running = bench.start(one(&mock, number));
    bench.append(number, 30).await;
    tokio::time::sleep(MS * 10).await;
    bench.journal.inner.set_trouble(Some(io()));
    tokio::time::sleep(SECOND * 600).await;
    bench.journal.inner.set_trouble(None);
    bench.drained().await;
    let delivered = tally(mock.ids(Class::Delivered));
    assert_eq!(
        (bench.counts(number).await.delivered, delivered.len()),
        (30, 30)
    );
    assert!(delivered.values().all(|times| *times <= 2), "{delivered:?}");
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(running.handle.status().in_flight, 0);
    running.stop().await;
}

/// A clean stop loses nothing and dead-letters nothing, wherever it hits; what is left goes out
/// after the next start.
#[tokio::test(start_paused = true)]
async fn a_stop_under_load_loses_nothing_and_buries_nothing() {
    for seed in 0..40_u64 {
        let bench = Bench::new();
        let numbers = bench.subscribe(&["a", "b"]).await;
        let mock = Mock::new(move |call| {
            let of = format!("{}/{}", call.event.id(), call.attempt);
            let took = MS * chance(seed, &of, 40) as u32
                + if chance(seed, &of, 10) == 0 {
                    HOUR
                } else {
                    Duration::ZERO
                };
            let class = [
                Class::Delivered,
                Class::Delivered,
                Class::Failed,
                Class::Throttled,
                Class::Unavailable,
            ];
            (
                took,
                Outcome::new(class[chance(seed + 1, &of, 5) as usize], ""),
            )
        });
        // With one attempt every failure is final: what the stop abandons must not be taken for
        // one.
        let policy = Policy::new(HOUR * 2, HOUR * 24, 1, Backoff::new(MS, MS * 20)).unwrap();
        let routes = || {
            numbers
                .iter()
                .zip(["a", "b"])
                .map(|(number, rule)| (*number, route(rule, 0, policy)))
        };
        let grace = MS * chance(seed, "grace", 60) as u32;
        let running = bench.start_with(plan(vec![mock.target("t")], routes()), grace);
        for number in &numbers {
            bench
                .append_keyed(*number, 100, |id| (id % 4 == 0).then_some(id as u64 % 3))
                .await;
        }
        tokio::time::sleep(MS * chance(seed, "stop", 300) as u32).await;
        if seed % 4 == 0 {
            bench.journal.inner.set_trouble(Some(io()));
            let inner = std::sync::Arc::clone(&bench.journal.inner);
            tokio::spawn(async move {
                tokio::time::sleep(SECOND).await;
                inner.set_trouble(None);
            });
        }
        let summary = running.stop().await;
        // A stop that has nothing to settle does not wait for the store.
        while bench.journal.trouble().is_some() {
            tokio::time::sleep(MS).await;
        }
        assert_eq!(summary.unsettled, 0, "seed {seed}");
        let (mut delivered, mut dead) = (0, 0);
        for number in &numbers {
            let counts = bench.counts(*number).await;
            assert_eq!(counts.in_flight, 0, "seed {seed}: leases are left behind");
            assert_eq!(
                counts.created,
                counts.delivered + counts.dead + counts.pending,
                "seed {seed}"
            );
            (delivered, dead) = (delivered + counts.delivered, dead + counts.dead);
        }
        let failed = mock
            .calls
            .lock()
            .iter()
            .filter(|call| call.class == Class::Failed)
            .count() as u64;
        assert!(
            dead <= failed,
            "seed {seed}: {dead} dead for {failed} failures"
        );
        assert!(
            bench
                .dead()
                .await
                .iter()
                .all(|letter| letter.reason == DeadReason::Exhausted),
            "seed {seed}"
        );
        let succeeded = mock.ids(Class::Delivered).len() as u64;
        assert!(
            delivered + summary.abandoned as u64 >= succeeded,
            "seed {seed}: {delivered} of {succeeded} noted"
        );

        mock.becomes(|_| (MS, Outcome::delivered()));
        let running = bench.start(plan(vec![mock.target("t")], routes()));
        bench.drained().await;
        let total: u64 = [
            bench.counts(numbers[0]).await,
            bench.counts(numbers[1]).await,
        ]
        .map(|counts| counts.delivered + counts.dead)
        .iter()
        .sum();
        assert_eq!(
            (total, bench.dead().await.len() as u64),
            (200, dead),
            "seed {seed}"
        );
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_under_way_within_its_grace() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(SECOND * 5);
    let running = bench.start_with(one(&mock, number), SECOND * 20);
    bench.append(number, 30).await;
    tokio::time::sleep(SECOND).await;
    let handle = running.handle.clone();
    let summary = running.stop().await;
    assert_eq!(
        (summary.settled, summary.abandoned, summary.unsettled),
        (8, 0, 0)
    );
    let counts = bench.counts(number).await;
    assert_eq!(
        (counts.delivered, counts.pending, counts.in_flight),
        (8, 22, 0)
    );
    assert!(handle.reload(one(&mock, number)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_hastened_gives_up_what_is_under_way_at_once() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(HOUR);
    let hasten = tokio_util::sync::CancellationToken::new();
    let running = bench.start_hastened(one(&mock, number), SECOND * 20, hasten.clone());
    bench.append(number, 5).await;
    tokio::time::sleep(SECOND).await;
    let start = tokio::time::Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(SECOND * 3).await;
        hasten.cancel();
    });
    let summary = running.stop().await;
    assert_eq!(
        (
            summary.abandoned,
            summary.unsettled,
            start.elapsed().as_secs()
        ),
        (5, 0, 3)
    );
    assert_eq!(bench.counts(number).await.pending, 5);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_hastened_waits_for_no_store_that_fails() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 20);
    let hasten = tokio_util::sync::CancellationToken::new();
    let running = bench.start_hastened(one(&mock, number), SECOND, hasten.clone());
    bench.append(number, 20).await;
    tokio::time::sleep(MS * 10).await;
    bench.journal.inner.set_trouble(Some(io()));
    let start = tokio::time::Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(SECOND * 3).await;
        hasten.cancel();
    });
    let summary = running.stop().await;
    assert_eq!(
        (summary.unsettled, start.elapsed().as_secs()),
        (8, 3),
        "it was asked to stop at once"
    );
    bench.journal.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_although_the_store_does_not_come_back() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 20);
    let running = bench.start_with(one(&mock, number), SECOND);
    bench.append(number, 20).await;
    tokio::time::sleep(MS * 10).await;
    bench.journal.inner.set_trouble(Some(io()));
    let start = tokio::time::Instant::now();
    let summary = running.stop().await;
    assert_eq!((summary.unsettled, summary.abandoned), (8, 0));
    assert!(start.elapsed() <= SECOND * 12, "{:?}", start.elapsed());
    bench.journal.close().await;
}
