//! What each outcome comes to, from the journal through the target and back.

use pointsman_schemas::{Backoff, Class, Outcome, Sequence};

use super::bench::*;
use crate::dispatcher::Route;
use crate::dispatcher::policy::PROBE_REFUSED_AFTER;
use crate::dispatcher::policy::Policy;
use crate::dispatcher::testing::{preparation, route};
use pointsman_journal::{
    Activity, AfterStep, DeadReason, DeadSelection, Journal, NewDelivery, NewReplay, ReplayKind,
    ReplayStep,
};

#[tokio::test(start_paused = true)]
async fn every_class_comes_to_its_end() {
    use Class::*;
    type Row = (&'static [Class], (u64, Option<DeadReason>), usize);
    let dead = |reason| (0, Some(reason));
    let delivered = (1, None);
    // What the target answers to one try after the other, and: delivered, dead as, tries.
    let table: [Row; 8] = [
        (&[Delivered], delivered, 1),
        (&[Rejected], dead(DeadReason::Rejected), 1),
        (&[Failed], dead(DeadReason::Exhausted), 4),
        (&[Failed, Failed, Failed, Delivered], delivered, 4),
        (
            &[
                Throttled, Throttled, Throttled, Throttled, Throttled, Delivered,
            ],
            delivered,
            6,
        ),
        (
            &[
                Unavailable,
                Unavailable,
                Unavailable,
                Unavailable,
                Unavailable,
                Delivered,
            ],
            delivered,
            6,
        ),
        (
            &[
                Throttled,
                Failed,
                Unavailable,
                Failed,
                Throttled,
                Failed,
                Unavailable,
                Failed,
            ],
            dead(DeadReason::Exhausted),
            8,
        ),
        (&[Refused, Refused, Delivered], delivered, 3),
    ];
    for (answers, (delivered, reason), tries) in table {
        let bench = Bench::new();
        let number = bench.subscribe(&["r"]).await[0];
        let mock = Mock::classes(answers);
        let running = bench.start(one(&mock, number));
        bench.append(number, 1).await;
        bench.drained().await;
        assert_eq!(
            (bench.counts(number).await.delivered, mock.count()),
            (delivered, tries),
            "{answers:?}"
        );
        let letters = bench.dead().await;
        assert_eq!(
            letters.first().map(|letter| letter.reason),
            reason,
            "{answers:?}"
        );
        if let Some(letter) = letters.first() {
            assert_eq!(
                (letter.attempts as usize, letter.message.as_str()),
                (tries, "as told")
            );
            assert_eq!(
                letter.last.as_ref().map(|last| last.class),
                answers.last().copied()
            );
        }
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_uses_no_attempt_and_nothing_comes_before_retry_after() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|call| match call.attempt {
        1..=5 => (
            MS,
            Outcome {
                retry_after: Some(SECOND * 2),
                code: Some(429),
                ..Outcome::new(Class::Throttled, "busy")
            },
        ),
        _ => (MS, Outcome::delivered()),
    });
    // A single failure would be the last.
    let running = bench.start(plan(
        vec![mock.target("t")],
        [(number, route("r", 0, attempts(1)))],
    ));
    bench.append(number, 20).await;
    bench.drained().await;
    assert_eq!(
        (
            bench.counts(number).await.delivered,
            bench.dead().await.len(),
            mock.count()
        ),
        (20, 0, 120)
    );
    let calls = mock.calls.lock().clone();
    for id in 0..20 {
        let times: Vec<_> = calls
            .iter()
            .filter(|call| call.event.id() == id.to_string().as_str())
            .map(|call| call.at)
            .collect();
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] >= SECOND * 2),
            "{id}: {times:?}"
        );
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_down_for_hours_gets_everything_and_is_hardly_called_meanwhile() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::classes(&[Class::Unavailable]);
    let running = bench.start(plan(
        vec![mock.target("t")],
        [(number, route("r", 0, attempts(1)))],
    ));
    bench.append(number, 100).await;
    tokio::time::sleep(HOUR * 5).await;
    assert!(
        (300..2_500).contains(&mock.count()),
        "{} calls in five hours",
        mock.count()
    );
    let status = running.handle.status();
    assert_eq!(
        status.targets[0].circuit,
        crate::dispatcher::CircuitStatus::Open
    );
    assert_eq!(status.targets[0].last_error.as_deref(), Some("as told"));
    mock.becomes(|_| (MS, Outcome::delivered()));
    tokio::time::sleep(SECOND * 400).await;
    assert_eq!(
        (
            bench.counts(number).await.delivered,
            bench.dead().await.len()
        ),
        (100, 0)
    );
    assert_eq!(
        running.handle.status().targets[0].circuit,
        crate::dispatcher::CircuitStatus::Closed
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_pauses_and_asks_again_by_itself_and_at_a_reload() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::classes(&[Class::Refused]);
    let running = bench.start(one(&mock, number));
    bench.append(number, 50).await;
    tokio::time::sleep(SECOND * 10).await;
    // What was under way with the first one is refused too, and no more.
    let first = mock.count();
    assert!(first <= 8, "{first}");
    assert_eq!(running.handle.status().paused[&number].reason, "as told");
    tokio::time::sleep(PROBE_REFUSED_AFTER - SECOND * 11).await;
    assert_eq!(mock.count(), first, "it was asked too early");
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(mock.count(), first + 1);
    running.handle.reload(one(&mock, number)).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(mock.count(), first + 2, "a reload asks at once");
    assert!(running.handle.status().paused.contains_key(&number));
    tokio::time::sleep(PROBE_REFUSED_AFTER * 3 + SECOND).await;
    assert_eq!(mock.count(), first + 5);
    mock.becomes(|_| (MS, Outcome::delivered()));
    tokio::time::sleep(PROBE_REFUSED_AFTER).await;
    let counts = bench.counts(number).await;
    assert_eq!(
        (
            counts.delivered,
            counts.dead,
            running.handle.status().paused.len()
        ),
        (50, 0, 0)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_with_nothing_to_ask_with_asks_with_what_comes_next() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::classes(&[Class::Refused]);
    let running = bench.start(one(&mock, number));
    bench.append(number, 2).await;
    tokio::time::sleep(SECOND).await;
    let pending = bench
        .journal
        .reader()
        .pending(number, None, 9)
        .await
        .unwrap();
    assert_eq!(
        bench.journal.cancel(&[pending[0].id, pending[1].id]).await,
        Ok(2)
    );
    tokio::time::sleep(PROBE_REFUSED_AFTER * 2).await;
    bench.append(number, 1).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(mock.count(), 3, "it was not asked");
    mock.becomes(|_| (MS, Outcome::delivered()));
    bench.drained().await;
    assert_eq!((mock.count(), bench.counts(number).await.delivered), (4, 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_gone_is_not_called_until_somebody_resumes_it() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::classes(&[Class::Gone]);
    let running = bench.start(one(&mock, number));
    bench.append(number, 20).await;
    tokio::time::sleep(HOUR * 20).await;
    let calls = mock.count();
    assert!(calls <= 8, "{calls}");
    let status = bench.status(number).await;
    assert_eq!(
        (status.activity, status.counts.pending, status.counts.dead),
        (Activity::Gone, 20, 0)
    );
    running.handle.reload(one(&mock, number)).await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert_eq!(
        mock.count(),
        calls,
        "a reload does not bring back what is gone"
    );
    mock.becomes(|_| (MS, Outcome::delivered()));
    bench
        .journal
        .set_activity(number, Activity::Active)
        .await
        .unwrap();
    bench.drained().await;
    assert_eq!(bench.counts(number).await.delivered, 20);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_dead_without_a_call() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 5).await;
    tokio::time::sleep(HOUR * 24).await;
    let mock = Mock::taking(MS);
    let running = bench.start(one(&mock, number));
    bench.drained().await;
    let letters = bench.dead().await;
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason == DeadReason::Expired
                && letter.attempts == 0
                && letter.last.is_none())
    );
    assert_eq!((letters.len(), mock.count()), (5, 0));
    // A redrive begins a new age.
    bench
        .journal
        .redrive(&DeadSelection::default())
        .await
        .unwrap();
    bench.drained().await;
    assert_eq!((bench.counts(number).await.delivered, mock.count()), (5, 5));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_maximum_age_ends_what_never_arrives() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::classes(&[Class::Unavailable]);
    let policy = Policy::new(SECOND, SECOND * 600, 1, Backoff::new(SECOND, SECOND * 60)).unwrap();
    let running = bench.start(plan(
        vec![mock.target("t")],
        [(number, route("r", 0, policy))],
    ));
    let start = tokio::time::Instant::now();
    bench.append(number, 3).await;
    bench.drained().await;
    assert!(
        start.elapsed() > SECOND * 500 && start.elapsed() < SECOND * 640,
        "{:?}",
        start.elapsed()
    );
    assert!(
        bench
            .dead()
            .await
            .iter()
            .all(|letter| letter.reason == DeadReason::Expired && letter.last.is_some())
    );
    assert!(
        mock.calls
            .lock()
            .iter()
            .all(|call| call.at < start + SECOND * 600)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transform_that_fails_is_a_dead_letter_and_no_call() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|call| match call.event.id() {
        "4" => panic!("a bug in a connector"),
        _ => (MS, Outcome::delivered()),
    });
    let fails = serde_json::json!({ "jq": r#"if .id == "3" then error("no bucket") else . end"# });
    let running = bench.start(plan(
        vec![mock.target("t")],
        [(
            number,
            Route {
                preparation: preparation(fails, &[]),
                ..route("r", 0, attempts(1))
            },
        )],
    ));
    bench.append(number, 10).await;
    bench.drained().await;
    let letters = bench.dead().await;
    let [failed, panicked] = &letters[..] else {
        panic!("two were expected: {letters:?}")
    };
    assert_eq!(failed.reason, DeadReason::Transform);
    assert!(failed.message.contains("no bucket"), "{failed:?}");
    assert_eq!(
        (panicked.reason, &*panicked.message),
        (
            DeadReason::Exhausted,
            "the connector panicked; this is a bug in it"
        )
    );
    assert_eq!((bench.counts(number).await.delivered, mock.count()), (8, 8));
    assert_eq!(running.handle.status().targets[0].in_flight, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_a_failure_that_says_after_how_long() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(HOUR);
    let running = bench.start(one(&mock, number));
    bench.append(number, 1).await;
    bench.drained().await;
    let letter = bench.dead().await.remove(0);
    assert_eq!((letter.reason, letter.attempts), (DeadReason::Exhausted, 4));
    assert_eq!(letter.message, "no answer within 30s; it was given up");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_under_retries() {
    for seed in 0..10 {
        let bench = Bench::new();
        let number = bench.subscribe(&["r"]).await[0];
        let mock = Mock::new(move |call| {
            let of = format!("{}/{}", call.event.id(), call.attempt);
            let class = [
                Class::Delivered,
                Class::Failed,
                Class::Throttled,
                Class::Unavailable,
            ][chance(seed, &of, 4) as usize];
            (
                MS * chance(seed + 1, &of, 50) as u32,
                Outcome::new(class, ""),
            )
        });
        let policy =
            Policy::new(SECOND * 30, HOUR * 24, 1_000, Backoff::new(MS * 10, SECOND)).unwrap();
        let running = bench.start(plan(
            vec![mock.target("t")],
            [(number, route("r", 0, policy))],
        ));
        bench
            .append_keyed(number, 100, |id| Some(id as u64 % 3))
            .await;
        bench.drained().await;
        let delivered: Vec<u64> = mock
            .ids(Class::Delivered)
            .iter()
            .map(|id| id.parse().unwrap())
            .collect();
        assert_eq!(delivered.len(), 100);
        for key in 0..3 {
            let of_key: Vec<_> = delivered.iter().filter(|id| *id % 3 == key).collect();
            assert!(of_key.is_sorted(), "seed {seed}, key {key}: {of_key:?}");
        }
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_subscription_goes_on_where_it_was() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS);
    let running = bench.start(one(&mock, number));
    bench
        .journal
        .set_activity(number, Activity::Suspended)
        .await
        .unwrap();
    bench.append(number, 10).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(mock.count(), 0);
    bench
        .journal
        .set_activity(number, Activity::Active)
        .await
        .unwrap();
    bench.drained().await;
    assert_eq!(mock.count(), 10);
    // Nothing is asked of the journal while nothing happens.
    let leases = bench
        .journal
        .leases
        .load(std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(HOUR * 20).await;
    assert!(
        bench
            .journal
            .leases
            .load(std::sync::atomic::Ordering::Relaxed)
            <= leases + 1
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_while_others_pass_is_a_dead_letter_and_holds_up_nobody() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|call| match call.event.id() {
        "5" => (MS, Outcome::new(Class::Refused, "403")),
        _ => (MS, Outcome::delivered()),
    });
    let running = bench.start(one(&mock, number));
    for _ in 0..60 {
        bench.append(number, 2).await;
        tokio::time::sleep(SECOND).await;
    }
    let counts = bench.counts(number).await;
    assert_eq!((counts.delivered, counts.dead, counts.pending), (119, 1, 0));
    assert!(running.handle.status().paused.is_empty());
    let letter = bench.dead().await.remove(0);
    assert_eq!(
        (letter.reason, letter.last.unwrap().class),
        (DeadReason::Rejected, Class::Refused)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_resumed_subscription_is_probed_at_once() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|_| (MS, Outcome::new(Class::Refused, "401")));
    let running = bench.start(one(&mock, number));
    bench.append(number, 20).await;
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(running.handle.status().paused.len(), 1);
    let before = mock.count();
    mock.becomes(|_| (MS, Outcome::delivered()));
    running.handle.probe(number);
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        (mock.count() - before, bench.counts(number).await.delivered),
        (20, 20)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_templated_address_that_is_gone_is_a_dead_letter_of_its_own() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|call| match call.event.id() {
        "3" => (MS, Outcome::new(Class::Gone, "410")),
        _ => (MS, Outcome::delivered()),
    });
    let route = Route {
        is_templated: true,
        ..route("r", 0, attempts(4))
    };
    let running = bench.start(plan(vec![mock.target("t")], [(number, route)]));
    bench.append(number, 20).await;
    bench.drained().await;
    assert_eq!(
        (
            bench.counts(number).await.delivered,
            bench.dead().await.len()
        ),
        (19, 1)
    );
    assert_eq!(bench.status(number).await.activity, Activity::Active);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_everything_for_a_while_costs_few_deliveries() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|_| (MS * 5, Outcome::new(Class::Failed, "answered 500")));
    let running = bench.start(one(&mock, number));
    bench.append(number, 3_000).await;
    tokio::time::sleep(SECOND * 40).await;
    assert!(mock.count() < 40, "{} calls while it fails", mock.count());
    let status = running.handle.status();
    assert_eq!(
        status.targets[0].circuit,
        crate::dispatcher::CircuitStatus::Open
    );
    mock.becomes(|_| (MS * 5, Outcome::delivered()));
    bench.drained().await;
    assert_eq!(
        (
            bench.counts(number).await.delivered,
            bench.dead().await.len()
        ),
        (3_000, 0)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_fail_amid_successes_open_nothing() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(
        |call| match call.event.id().parse::<usize>().unwrap() % 10 {
            0 => (MS, Outcome::new(Class::Failed, "500")),
            _ => (MS, Outcome::delivered()),
        },
    );
    let running = bench.start(one(&mock, number));
    bench.append(number, 1_000).await;
    bench.drained().await;
    assert_eq!(
        (
            bench.counts(number).await.delivered,
            bench.dead().await.len()
        ),
        (900, 100)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_replay_delivers_says_so_and_is_stored_as_it_was() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    bench.append(number, 1).await;
    let mock = Mock::classes(&[Class::Failed, Class::Delivered]);
    let running = bench.start(one(&mock, number));
    bench.drained().await;
    let stored = bench.journal.reader().last_event().await.unwrap().unwrap();
    let new = NewReplay {
        kind: ReplayKind::Events,
        subscription: Some(number),
        request: bytes::Bytes::new(),
        after: Sequence(0),
        until: stored.sequence,
    };
    let replay = bench.journal.begin_replay(new).await.unwrap();
    let step = ReplayStep {
        id: replay.id,
        deliveries: vec![(stored.sequence, NewDelivery::now(number))],
        after: stored.sequence,
        seen: 1,
        then: AfterStep::End,
    };
    bench.journal.replay(step).await.unwrap();
    bench.drained().await;
    running.stop().await;
    let marks: Vec<_> = mock
        .calls
        .lock()
        .iter()
        .map(|call| {
            call.event
                .attribute("pointsmanreplay")
                .map(|mark| mark.to_string())
        })
        .collect();
    let mark = Some(replay.id.to_string());
    assert_eq!(marks, [None, None, mark.clone(), mark]);
    let after = bench.journal.reader().last_event().await.unwrap().unwrap();
    assert_eq!(after, stored);
}
