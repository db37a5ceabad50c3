//! What the history says of what the dispatcher has done.

use std::sync::Arc;

use pointsman_connectors::Called;
use pointsman_journal::{EndedSelection, HistoryEntry, Journal, TaskLife, TaskState, WaitReason};
use pointsman_schemas::{Class, Outcome, SubscriptionNumber};

use super::bench::*;
use crate::dispatcher::testing::{preparation, route};
use crate::dispatcher::{HistoryLevel, Recording, Route};

/// The lives of all deliveries that have ended, the first to end first.
async fn lives(bench: &Bench, number: SubscriptionNumber) -> Vec<TaskLife> {
    let reader = bench.journal.reader();
    let selection = EndedSelection {
        subscriptions: Some(vec![number]),
        ..EndedSelection::default()
    };
    let page = reader.ended(&selection, None, 1_000).await.unwrap();
    let mut lives = Vec::new();
    for entry in page.entries {
        lives.push(reader.life(entry.id).await.unwrap().unwrap());
    }
    lives
}

fn states(history: &[HistoryEntry]) -> Vec<TaskState> {
    history.iter().map(|entry| entry.state).collect()
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_told_with_its_times_and_what_was_called() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|call| match call.attempt {
        1 => (MS * 20, Outcome::new(Class::Failed, "answered 500")),
        2 => {
            let later = Outcome::new(Class::Throttled, "answered 429");
            let retry_after = Some(SECOND * 30);
            (
                MS * 5,
                Outcome {
                    retry_after,
                    code: Some(429),
                    ..later
                },
            )
        }
        _ => {
            let response = bytes::Bytes::from(vec![b'x'; 5_000]);
            (
                MS * 10,
                Outcome {
                    code: Some(200),
                    response,
                    ..Outcome::delivered()
                },
            )
        }
    });
    let route = Route {
        preparation: preparation(serde_json::json!({}), &["<$.id>"]),
        recording: Recording {
            called: Some(Called::Filled(Arc::new(|texts: &[String]| {
                format!("POST http://f/{}", texts[0])
            }))),
            ..Recording::default()
        },
        ..route("r", 0, attempts(4))
    };
    let running = bench.start(plan(vec![mock.target("t")], [(number, route)]));
    bench.append(number, 1).await;
    bench.drained().await;
    running.stop().await;
    let lives = lives(&bench, number).await;
    let [life] = &lives[..] else {
        panic!("{lives:?}")
    };
    assert_eq!(life.state, TaskState::Succeeded);
    use TaskState::{Retrying, Succeeded};
    assert_eq!(states(&life.history), [Retrying, Retrying, Succeeded]);
    let attempt = |index: usize| life.history[index].attempt.as_ref().unwrap();
    for (index, (class, code, ran, message)) in [
        (Class::Failed, None, MS * 20, "answered 500"),
        (Class::Throttled, Some(429), MS * 5, "answered 429"),
        (Class::Delivered, Some(200), MS * 10, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let told = attempt(index);
        assert_eq!(told.number as usize, index + 1);
        assert_eq!((told.class, told.code, told.ran), (class, code, ran));
        assert_eq!(told.message, message);
        assert_eq!(told.called.as_deref(), Some("POST http://f/0"));
    }
    // When each was to be, why, and that it was then.
    let (first, second) = (&life.history[0], &life.history[1]);
    assert_eq!(first.next.unwrap().1, WaitReason::Backoff);
    assert_eq!(second.next.unwrap().1, WaitReason::RetryAfter);
    for index in 1..3 {
        let next = life.history[index - 1].next.unwrap().0;
        let told = attempt(index);
        assert!(told.began >= next, "{:?}", life.history);
        assert_eq!(told.began.since(next), told.waited);
    }
    assert_eq!(attempt(2).answer.len(), 4_096);
}

#[tokio::test(start_paused = true)]
async fn what_succeeds_is_told_unless_its_rule_says_otherwise() {
    for (level, succeeded, failed) in [
        (HistoryLevel::All, 9, 1),
        (HistoryLevel::Failures, 0, 1),
        (HistoryLevel::None, 0, 0),
    ] {
        let bench = Bench::new();
        let number = bench.subscribe(&["r"]).await[0];
        let mock = Mock::new(|call| match call.event.id() {
            "3" => (MS, Outcome::new(Class::Rejected, "answered 400")),
            _ => (MS, Outcome::delivered()),
        });
        let route = Route {
            recording: Recording {
                level,
                called: None,
            },
            ..route("r", 0, attempts(4))
        };
        let running = bench.start(plan(vec![mock.target("t")], [(number, route)]));
        bench.append(number, 10).await;
        bench.drained().await;
        running.stop().await;
        let lives = lives(&bench, number).await;
        let count = |state| lives.iter().filter(|life| life.state == state).count();
        let found = (count(TaskState::Succeeded), count(TaskState::Failed));
        assert_eq!(found, (succeeded, failed), "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_to_be_tried_is_told_without_an_attempt() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS);
    bench.append(number, 1).await;
    tokio::time::sleep(SECOND * 3_600 * 25).await;
    let running = bench.start(one(&mock, number));
    bench.drained().await;
    running.stop().await;
    let lives = lives(&bench, number).await;
    assert_eq!(states(&lives[0].history), [TaskState::Expired]);
    assert_eq!(lives[0].history[0].attempt, None);
}
