//! How targets are called, and what follows from what they answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use pointsman_schemas::Timestamp;
use pointsman_test_brokers::free_port;
use serde_json::{Value, json};

fn rules(url: &str) -> String {
    format!(
        "targets:\n  function:\n    http: {{ url: \"{url}\" }}\n    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}\nrules:\n  all:\n    to: function\n"
    )
}

#[tokio::test]
async fn a_function_is_told_which_task_attempt_rule_and_deadline() {
    let failures = Arc::new(AtomicUsize::new(2));
    let left = Arc::clone(&failures);
    let fails = move |_: &_| {
        Answer::status(
            if left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                500
            } else {
                200
            },
        )
    };
    let sink = Sink::answering(fails).await;
    let bus = Bus::start(&rules(&sink.url())).await;
    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "1", "t", r#"{"a":1}"#)
            .await
            .unwrap(),
        202
    );
    until("the third attempt has come", async || {
        sink.received().len() == 3
    })
    .await;
    let calls = sink.received();
    let task = calls[0].header("pointsman-task").to_owned();
    assert!((1..=64).contains(&task.len()));
    for (index, call) in calls.iter().enumerate() {
        assert_eq!(call.header("pointsman-attempt"), (index + 1).to_string());
        assert_eq!(call.header("pointsman-task"), task);
        assert_eq!(call.header("idempotency-key"), task);
        assert_eq!(call.header("pointsman-rule"), "all");
        assert!(!call.header("pointsman-deadline").is_empty());
        assert_eq!(
            (call.header("ce-id"), call.header("ce-type"), &call.body[..]),
            ("1", "t", &br#"{"a":1}"#[..])
        );
    }
    until("it counts as delivered", async || {
        bus.counts("all").await["delivered"] == 1
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_down_for_the_whole_load_gets_everything_once_it_is_up() {
    let port = free_port();
    let bus = Bus::start(&rules(&format!("http://127.0.0.1:{port}/"))).await;
    let caller = Caller::new();
    for id in 0..200 {
        assert_eq!(
            caller
                .event(&bus.url("/events"), &id.to_string(), "t", "{}")
                .await
                .unwrap(),
            202
        );
    }
    assert_eq!(bus.counts("all").await["pending"], 200);
    let sink = Sink::on_port(port, |_| Answer::status(204)).await;
    until("everything has arrived", async || sink.ids().len() == 200).await;
    until("nothing waits", async || {
        bus.counts("all").await["pending"] == 0
    })
    .await;
    assert_eq!(bus.counts("all").await["dead"], 0);
}

#[tokio::test]
async fn what_is_put_off_comes_when_it_was_asked_for_also_after_a_kill() {
    const WAIT: Duration = Duration::from_secs(3);
    let sink = Sink::answering(|_| Answer::status(204)).await;
    let rules = format!(
        "targets:\n  function: {{ http: {{ url: \"{}\" }} }}\nrules:\n  now:\n    match: {{ type: [now] }}\n    to: function\n  later:\n    match: {{ type: [later] }}\n    delivery: {{ delay: 3s }}\n    to: function\n",
        sink.url()
    );
    let mut bus = Bus::start(&rules).await;
    let (caller, begun) = (Caller::new(), Instant::now());
    let at = Timestamp::now().plus(WAIT).to_string();
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let asks: [(&str, &str, Headers); 4] = [
        ("by-rule", "later", &[]),
        ("by-header", "now", &[("pointsman-delay", "3")]),
        ("by-attribute", "now", &[("ce-deliverat", &at)]),
        ("at-once", "now", &[]),
    ];
    for (id, ty, more) in asks {
        let event = [
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "/s"),
            ("ce-type", ty),
        ];
        let (status, ..) = caller
            .call(
                http::Method::POST,
                &bus.url("/events"),
                &[&event, more].concat(),
                "",
            )
            .await
            .unwrap();
        assert_eq!(status, 202, "{id}");
    }
    until("what is not put off has arrived", async || {
        !sink.ids().is_empty()
    })
    .await;
    bus.kill();
    bus.spawn();
    bus.ready().await;
    assert_eq!(sink.ids().into_keys().collect::<Vec<_>>(), ["at-once"]);
    until("the others have", async || sink.ids().len() == 4).await;
    assert!(begun.elapsed() >= WAIT, "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn throttling_uses_up_no_attempt_and_is_waited_out() {
    let throttled = Arc::new(AtomicUsize::new(5));
    let left = Arc::clone(&throttled);
    let sink = Sink::answering(move |_| {
        if left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
        {
            Answer::status(429).header("retry-after", "2")
        } else {
            Answer::status(204)
        }
    })
    .await;
    // Five throttled tries against two declared attempts: it arrives all the same.
    let bus = Bus::start(&rules(&sink.url()).replace("retry: {", "retry: { attempts: 2,")).await;
    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "1", "t", "{}")
            .await
            .unwrap(),
        202
    );
    until("it is delivered", async || {
        bus.counts("all").await["delivered"] == 1
    })
    .await;
    let calls = sink.received();
    assert_eq!(calls.len(), 6);
    for pair in calls.windows(2) {
        assert!(
            pair[1].at - pair[0].at >= Duration::from_secs(2),
            "an attempt came {:?} after a Retry-After: 2",
            pair[1].at - pair[0].at
        );
    }
}

#[tokio::test]
async fn what_a_target_rejects_is_dead_at_once_listed_with_its_response_and_redriven_after_the_fix()
{
    let fixed = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&fixed);
    let sink = Sink::answering(move |_| {
        if now.load(Ordering::Relaxed) {
            Answer::status(204)
        } else {
            Answer {
                body: "no such customer".into(),
                ..Answer::status(400)
            }
        }
    })
    .await;
    let bus = Bus::start(&rules(&sink.url())).await;
    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "1", "t", "{}")
            .await
            .unwrap(),
        202
    );
    until("it is dead", async || bus.counts("all").await["dead"] == 1).await;
    assert_eq!(sink.received().len(), 1);

    let admin = bus.admin_url("");
    let listed = pointsman(&["dead", "list", "--admin", &admin, "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let letter = listed
        .as_array()
        .or_else(|| listed["items"].as_array())
        .unwrap()[0]
        .clone();
    assert_eq!(letter["reason"], "rejected", "{letter}");
    assert_eq!(letter["last"]["code"], 400, "{letter}");
    let shown = pointsman(&[
        "dead",
        "show",
        letter["id"].as_str().unwrap(),
        "--admin",
        &admin,
        "--json",
    ]);
    assert!(shown.contains("no such customer"), "{shown}");

    fixed.store(true, Ordering::Relaxed);
    pointsman(&["dead", "redrive", "--rule", "all", "--admin", &admin]);
    until("it is delivered", async || {
        bus.counts("all").await["delivered"] == 1
    })
    .await;
    let counts = bus.counts("all").await;
    assert_eq!(
        (&counts["created"], &counts["redriven"], &counts["dead"]),
        (&json!(2), &json!(1), &json!(0))
    );
}

/// Runs the command line and gives what it printed.
fn pointsman(arguments: &[&str]) -> String {
    let output = std::process::Command::new(pointsman_integration_tests::bus::binary())
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "pointsman {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn order_is_kept_where_it_is_asked_for_also_through_failures() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let sink = Sink::answering(move |_| {
        Answer::status(if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            500
        } else {
            204
        })
    })
    .await;
    let text = rules(&sink.url()).replace(
        "  all:\n",
        "  all:\n    delivery: { order_by: $.subject, retry: { attempts: 20 } }\n",
    );
    let bus = Bus::start(&text).await;
    let caller = Caller::new();
    for id in 0..60 {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", &*format!("{id:03}")),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-subject", ["a", "b", "c"][id % 3]),
        ];
        assert_eq!(
            caller
                .call(http::Method::POST, &bus.url("/events"), &headers, "")
                .await
                .unwrap()
                .0,
            202
        );
    }
    until("all are delivered", async || {
        bus.counts("all").await["delivered"] == 60
    })
    .await;
    for subject in ["a", "b", "c"] {
        let ids: Vec<String> = sink
            .received()
            .iter()
            .filter(|one| one.header("ce-subject") == subject)
            .map(|one| one.header("ce-id").to_owned())
            .collect();
        assert!(ids.is_sorted(), "{subject}: {ids:?}");
    }
}

#[tokio::test]
async fn replies_and_reports_go_on() {
    let (reports, chat) = (Sink::start().await, Sink::start().await);
    let sink = Sink::answering(|one| {
        if one.header("ce-type") == "question" {
            let reply = Answer {
                body: r#"{"answer":42}"#.into(),
                ..Answer::status(200)
            };
            [
                ("ce-specversion", "1.0"),
                ("ce-id", "r1"),
                ("ce-source", "/oracle"),
                ("ce-type", "answer"),
                ("content-type", "application/json"),
            ]
            .into_iter()
            .fold(reply, |reply, (name, value)| reply.header(name, value))
        } else {
            Answer::status(400)
        }
    })
    .await;
    let text = format!(
        "targets:\n  function: {{ http: {{ url: \"{}\" }} }}\n  reports: {{ http: {{ url: \"{}\" }} }}\n  chat: {{ http: {{ url: \"{}\", headers: {{ X-Room: \"<$.data.room>\" }} }} }}\nrules:\n  ask:\n    match: {{ type: [question] }}\n    to: function\n    on_success: reports\n  answers:\n    from: replies\n    to: function\n    on_failure: {{ to: reports, send: original }}\n  \
         claims:\n    match: {{ type: [claim] }}\n    to: function\n    on_failure: {{ to: chat, transform: {{ set: {{ type: told }}, \
         data: {{ text: \"<$.data.requestContext.rule> of <$.subject>\", room: ops }} }} }}\n    transform: {{ data: unseen }}\n",
        sink.url(),
        reports.url(),
        chat.url(),
    );
    let bus = Bus::start(&text).await;
    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "q1", "question", "{}")
            .await
            .unwrap(),
        202
    );
    until("a report and an original have arrived", async || {
        reports.received().len() == 2
    })
    .await;
    let received = reports.received();
    let report = received
        .iter()
        .find(|one| one.header("ce-type").contains("succeeded"))
        .expect("a report of success");
    let body: Value = serde_json::from_slice(&report.body).unwrap();
    assert!(
        body.to_string().contains("q1") && body.to_string().contains("200"),
        "{body}"
    );
    let original = received
        .iter()
        .find(|one| one.header("ce-type") == "answer")
        .expect("the original of the failure");
    assert_eq!(original.header("ce-pointsmanhops"), "1");
    assert_eq!(&original.body[..], br#"{"answer":42}"#);

    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "c1", "claim", "{}")
            .await
            .unwrap(),
        202
    );
    until("the failure is told as its transform says", async || {
        chat.received().len() == 1
    })
    .await;
    let told = chat.received().remove(0);
    assert_eq!(
        (told.header("ce-type"), told.header("x-room")),
        ("told", "ops")
    );
    assert_eq!(&told.body[..], br#"{"text":"claims of c1","room":"ops"}"#);
}

#[tokio::test]
async fn a_target_that_refuses_us_pauses_its_subscription_which_says_so_and_loses_nothing() {
    let sink = Sink::answering(|_| Answer::status(401)).await;
    let bus = Bus::start(&rules(&sink.url())).await;
    assert_eq!(bus.counts("all").await["paused"], Value::Null);
    for id in ["1", "2"] {
        assert_eq!(
            Caller::new()
                .event(&bus.url("/events"), id, "t", "{}")
                .await
                .unwrap(),
            202
        );
    }
    until("the pause is shown", async || {
        bus.counts("all").await["paused"]
            .as_str()
            .is_some_and(|reason| reason.contains("401"))
    })
    .await;
    let subscription = bus.counts("all").await;
    assert_eq!(
        (&subscription["pending"], &subscription["dead"]),
        (&json!(2), &json!(0)),
        "{subscription}"
    );
}

#[tokio::test]
async fn a_paused_subscription_goes_on_by_itself_once_the_file_of_its_token_changes() {
    let sink = Sink::answering(|call| {
        Answer::status(if call.header("authorization") == "Bearer new" {
            204
        } else {
            401
        })
    })
    .await;
    let text = rules(&sink.url()).replace("\" }", "\", auth: { bearer: { file: ./token } } }");
    let mut bus = Bus::prepare(&text);
    std::fs::write(bus.path("token"), "old").unwrap();
    bus.spawn();
    bus.ready().await;
    for id in ["1", "2", "3"] {
        assert_eq!(
            Caller::new()
                .event(&bus.url("/events"), id, "t", "{}")
                .await
                .unwrap(),
            202
        );
    }
    until("the pause is shown", async || {
        bus.counts("all").await["paused"].is_string()
    })
    .await;
    let refused = sink.received().len();
    std::fs::write(bus.path("draft"), "new").unwrap();
    std::fs::rename(bus.path("draft"), bus.path("token")).unwrap();
    until("everything has been delivered", async || {
        bus.counts("all").await["delivered"] == 3
    })
    .await;
    assert_eq!(bus.counts("all").await["paused"], Value::Null);
    assert!(
        sink.received().len() <= refused + 3 + 3,
        "it is asked, and not stormed"
    );
}
