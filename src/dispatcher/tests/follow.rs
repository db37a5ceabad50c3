//! What follows from a delivery's end.

use std::sync::Arc;

use pointsman_schemas::{Class, Event, Name, Outcome, Replies, SubscriptionNumber, Unreadable};

use super::bench::*;
use crate::dispatcher::follow::{HOPS_MAX, hops};
use crate::dispatcher::testing::{policy, route};
use crate::dispatcher::{FollowUpPayload, FollowUpRoute, Route};
use crate::router::testing::rule;
use crate::router::{Router, RuleInForce};
use pointsman_journal::{DeadReason, DeadSelection, Journal, Role, SubscriptionIdentity};

/// A rule that gives every reply to one subscription.
fn replies_to(number: SubscriptionNumber) -> Arc<Router> {
    let rule = rule(serde_json::json!({ "source": ["/reply"] }), &[number]);
    let from = Some(vec![Name::replies()]);
    Arc::new(Router::new(vec![RuleInForce { from, ..rule }]))
}

#[tokio::test(start_paused = true)]
async fn reports_and_originals_follow() {
    let bench = Bench::new();
    let [r, report, original] = bench.subscribe(&["r", "report", "original"]).await[..] else {
        panic!("three were wanted")
    };
    let mock = Mock::new(|call| match call.event.id() {
        "0" => (MS, Outcome::delivered()),
        _ => (
            MS,
            Outcome {
                code: Some(400),
                ..Outcome::new(Class::Rejected, "bad")
            },
        ),
    });
    let told = Mock::taking(MS);
    let with = |on_success: FollowUpPayload, on_failure: FollowUpPayload| {
        let to = |send| {
            if send == FollowUpPayload::Report {
                report
            } else {
                original
            }
        };
        let follow = |send| {
            Some(FollowUpRoute {
                subscription: to(send),
                send,
            })
        };
        let followed = Route {
            on_success: follow(on_success),
            on_failure: follow(on_failure),
            ..route("r", 0, policy())
        };
        let others = [
            (report, route("report", 1, policy())),
            (original, route("original", 1, policy())),
        ];
        plan(
            vec![mock.target("t"), told.target("u")],
            [(r, followed)].into_iter().chain(others),
        )
    };
    let running = bench.start(with(FollowUpPayload::Report, FollowUpPayload::Original));
    bench.append(r, 2).await;
    bench.drained().await;
    let mut seen: Vec<_> = told
        .calls
        .lock()
        .drain(..)
        .map(|call| (call.rule.to_string(), call.event))
        .collect();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let [(_, as_it_was), (_, succeeded)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(as_it_was.id(), "1");
    assert_eq!(
        (succeeded.ty(), succeeded.source()),
        ("com.pointsman.delivery.succeeded", "/rules/r")
    );
    assert_eq!(succeeded.subject(), Some("0"));

    running
        .handle
        .reload(with(FollowUpPayload::Original, FollowUpPayload::Report))
        .await
        .unwrap();
    bench.append(r, 1).await;
    bench.drained().await;
    let failed = Arc::clone(&told.calls.lock()[0].event);
    assert_eq!(failed.ty(), "com.pointsman.delivery.failed");
    let data = failed.data().unwrap().value().unwrap();
    assert_eq!(
        (
            &data["responseContext"]["code"],
            &data["requestContext"]["condition"]
        ),
        (&400.into(), &"rejected".into())
    );
    assert_eq!(
        &data["requestContext"]["task"],
        &bench.dead().await[1].id.to_string()
    );
    assert_eq!(
        bench.counts(original).await.created + bench.counts(report).await.created,
        3
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_comes_back_and_one_that_goes_round_for_ever_is_a_dead_letter() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|call| {
        let reply = Event::builder(format!("{}x", call.event.id()), "/reply", "t")
            .build()
            .unwrap();
        (
            MS,
            Outcome {
                replies: Some(Box::new(Replies::one(reply))),
                ..Outcome::delivered()
            },
        )
    });
    let running = bench.start(one(&mock, number));
    // Nobody waits for it: it is stored and nothing more.
    bench.append(number, 1).await;
    bench.drained().await;
    assert_eq!(
        (
            mock.count(),
            bench.journal.reader().totals().await.unwrap().events
        ),
        (1, 2)
    );

    bench.router.store(replies_to(number));
    bench.append(number, 1).await;
    bench.drained().await;
    let calls = mock.calls.lock().clone();
    let seen: Vec<u32> = calls[1..].iter().map(|call| hops(&call.event)).collect();
    assert_eq!(seen, (0..=HOPS_MAX).collect::<Vec<_>>());
    let letters = bench.dead().await;
    assert_eq!(
        letters
            .iter()
            .map(|letter| letter.reason)
            .collect::<Vec<_>>(),
        [DeadReason::Hops]
    );
    assert_eq!(letters[0].origin, Name::replies());
    // Somebody redrives it: it goes round once more, and no further.
    bench
        .journal
        .redrive(&DeadSelection::default())
        .await
        .unwrap();
    bench.drained().await;
    assert_eq!(
        (mock.count(), bench.dead().await.len()),
        (calls.len() + 1, 1)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_has_beside_events_is_a_dead_letter_and_the_delivery_is_delivered() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|_| {
        let reply = Event::builder("good", "/reply", "t").build().unwrap();
        let broken = Unreadable {
            raw: "{]".into(),
            reason: "event 1 of the batch: broken".to_owned(),
        };
        (
            MS,
            Outcome {
                replies: Some(Box::new(Replies {
                    events: vec![reply],
                    unreadable: vec![broken],
                })),
                ..Outcome::delivered()
            },
        )
    });
    let running = bench.start(one(&mock, number));
    bench.append(number, 1).await;
    bench.drained().await;
    let letters = bench.dead().await;
    assert_eq!(
        (
            mock.count(),
            bench.counts(number).await.delivered,
            letters.len()
        ),
        (1, 1, 1)
    );
    let letter = &letters[0];
    assert_eq!(
        (letter.reason, &letter.origin, &letter.raw[..]),
        (DeadReason::Unreadable, &Name::replies(), &b"{]"[..])
    );
    assert!(
        letter.message.starts_with("answer of t to ")
            && letter
                .message
                .ends_with(" for r: event 1 of the batch: broken"),
        "{letter:?}"
    );
    // The event of the answer, and the one that was answered.
    assert_eq!(bench.journal.reader().totals().await.unwrap().events, 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reports_that_are_replied_to_end_too() {
    let bench = Bench::new();
    let [r, report, failure] = bench.subscribe(&["r", "report", "failure"]).await[..] else {
        panic!("three were wanted")
    };
    let failures = Mock::taking(MS);
    let (mock, told) = (
        Mock::taking(MS),
        Mock::new(|call| {
            let reply = Event::builder(call.event.id(), "/reply", "t")
                .build()
                .unwrap();
            (
                MS,
                Outcome {
                    replies: Some(Box::new(Replies::one(reply))),
                    ..Outcome::delivered()
                },
            )
        }),
    );
    let with = |role, rule, target| {
        let route = route(rule, target, policy());
        Route {
            identity: SubscriptionIdentity {
                role,
                ..route.identity.clone()
            },
            ..route
        }
    };
    let follow = |subscription, send| Some(FollowUpRoute { subscription, send });
    let (on_success, on_failure) = (
        follow(report, FollowUpPayload::Report),
        follow(failure, FollowUpPayload::Original),
    );
    let followed = Route {
        on_success,
        on_failure,
        ..with(Role::To, "r", 0)
    };
    let routes = [
        (r, followed),
        (report, with(Role::OnSuccess, "r", 1)),
        (failure, with(Role::OnFailure, "r", 2)),
    ];
    let targets = vec![mock.target("t"), told.target("u"), failures.target("v")];
    bench.router.store(replies_to(r));
    let running = bench.start(plan(targets, routes));
    bench.append(r, 1).await;
    bench.drained().await;
    assert_eq!(
        (mock.count(), told.count(), bench.dead().await.len()),
        (9, 9, 1)
    );
    assert_eq!(failures.count(), 1, "the end of the round is told");
    running.stop().await;
}
