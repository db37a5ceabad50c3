//! Pipes: from a source straight to a function, told only once that has answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use pointsman_integration_tests::{Answer, Bus, Caller, PATIENCE, Sink, until};
use pointsman_test_brokers::free_port;

/// A folder whose new files go straight to a function.
fn folder_to(url: &str) -> String {
    format!(
        "sources:\n  inbox: {{ directory: {{ path: ./uploads, create: true, settle: 20ms }} }}\ntargets:\n  function:\n    http: {{ url: \"{url}\" }}\n    delivery: {{ retry: {{ backoff: {{ initial: 100ms, max: 200ms }} }} }}\npipes:\n  uploads: {{ from: inbox, match: {{ subject: [{{ suffix: .jpg }}] }}, to: function }}\n"
    )
}

fn upload(bus: &Bus, name: &str) {
    std::fs::create_dir_all(bus.path("uploads")).unwrap();
    // Renamed into place, so that it is seen once.
    let draft = bus.path("uploads").join(".draft");
    std::fs::write(&draft, name).unwrap();
    std::fs::rename(draft, bus.path("uploads").join(name)).unwrap();
}

fn subjects(sink: &Sink) -> Vec<String> {
    let mut subjects: Vec<String> = sink
        .received()
        .iter()
        .map(|one| one.header("ce-subject").to_owned())
        .collect();
    subjects.sort();
    subjects
}

#[tokio::test]
async fn what_a_function_that_is_down_has_not_taken_comes_again_after_a_crash() {
    let port = free_port();
    let mut bus = Bus::start(&folder_to(&format!("http://127.0.0.1:{port}/"))).await;
    for name in ["a.jpg", "b.jpg", "other.txt"] {
        upload(&bus, name);
    }
    until("both wait in memory", async || {
        bus.counts("uploads").await["pending"] == 2
    })
    .await;
    assert_eq!(
        bus.api("/api/v1/status").await["totals"]["events"],
        0,
        "a pipe stores nothing"
    );
    bus.kill();
    bus.spawn();
    bus.ready().await;
    let sink = Sink::on_port(port, |_| Answer::status(204)).await;
    until("both have arrived", async || {
        subjects(&sink) == ["a.jpg", "b.jpg"]
    })
    .await;
    until("nothing waits", async || {
        bus.counts("uploads").await["delivered"] == 2
    })
    .await;

    // What has arrived is known after a restart: only what is new comes.
    assert!(bus.terminate().await.success());
    upload(&bus, "c.jpg");
    bus.spawn();
    bus.ready().await;
    until("the new one has arrived", async || {
        subjects(&sink) == ["a.jpg", "b.jpg", "c.jpg"]
    })
    .await;
    let rules = bus.api("/api/v1/rules").await;
    assert_eq!(
        (
            rules["items"][0]["pipe"].clone(),
            rules["items"][0]["matches"].clone()
        ),
        (true.into(), 1.into()),
        "{rules}"
    );
}

#[tokio::test]
async fn what_a_function_rejects_is_a_dead_letter_and_can_be_redriven() {
    let status = Arc::new(AtomicU16::new(400));
    let answer = Arc::clone(&status);
    let sink = Sink::answering(move |_| Answer::status(answer.load(Ordering::Relaxed))).await;
    let mut bus = Bus::start(&folder_to(&sink.url())).await;
    upload(&bus, "bad.jpg");
    until("it is dead", async || {
        bus.counts("uploads").await["dead"] == 1
    })
    .await;
    let dead = bus.api("/api/v1/dead").await;
    assert_eq!(
        (
            dead["items"][0]["rule"].clone(),
            dead["items"][0]["reason"].clone()
        ),
        ("uploads".into(), "rejected".into()),
        "{dead}"
    );
    // It is durable, and its file is not told again.
    bus.kill();
    bus.spawn();
    bus.ready().await;
    status.store(204, Ordering::Relaxed);
    let (answered, _) = Caller::new()
        .post_json(&bus.admin_url("/api/v1/dead/redrive"), r#"{"all":true}"#)
        .await
        .unwrap();
    assert_eq!(answered, 200);
    until("it is delivered", async || {
        bus.counts("uploads").await["delivered"] == 1
    })
    .await;
    let counts = bus.counts("uploads").await;
    assert_eq!(
        (
            counts["dead"].clone(),
            counts["redriven"].clone(),
            counts["pending"].clone()
        ),
        (0.into(), 1.into(), 0.into())
    );
    assert!(subjects(&sink).len() <= 3, "{:?}", subjects(&sink));
    let metrics = Caller::new()
        .get(&bus.admin_url("/metrics"))
        .await
        .unwrap()
        .1;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let line = r#"pointsman_deliveries_total{tenant="default",rule="uploads",role="to",target="function",outcome="delivered"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_webhooks_caller_is_answered_once_the_function_has_answered() {
    let sink = Sink::answering(|one| {
        Answer::status(if one.body.windows(2).any(|two| two == b"no") {
            400
        } else {
            204
        })
    })
    .await;
    let text = |url: &str| {
        format!(
            "sources:\n  hook: {{ webhook: {{ path: /hooks/x, signature: {{ none: {{}} }} }}, event: {{ type: hook }} }}\ntargets:\n  function: {{ http: {{ url: \"{url}\", mode: data }} }}\npipes:\n  hooks: {{ from: hook, to: function }}\n"
        )
    };
    let bus = Bus::start(&text(&sink.url())).await;
    let post = async |body: &'static str| {
        let headers = [("content-type", "text/plain")];
        Caller::new()
            .call(http::Method::POST, &bus.url("/hooks/x"), &headers, body)
            .await
            .unwrap()
            .0
    };
    assert!((200..300).contains(&post("yes").await));
    assert_eq!(
        sink.received().len(),
        1,
        "the caller was answered before the function"
    );
    assert!((200..300).contains(&post("no").await));
    assert_eq!(
        bus.counts("hooks").await["dead"],
        1,
        "the caller was answered before the dead letter was kept"
    );

    // While the function is down a caller waits; a reload that takes the pipe away sends him away.
    bus.write_rules(&text(&format!("http://127.0.0.1:{}/", free_port())));
    let waiting = async {
        until(
            "the new target is in force, and a caller waits for it",
            async || bus.counts("hooks").await["retrying"] == 1,
        )
        .await;
        bus.write_rules("rules: {}\n");
    };
    let caller = async {
        // Until the reload has happened the old function still answers.
        loop {
            let status = post("late").await;
            if !(200..300).contains(&status) {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let answered = async { tokio::join!(caller, waiting).0 };
    let status = tokio::time::timeout(PATIENCE, answered).await;
    assert_eq!(status.expect("the caller is sent away"), 503);
}

#[tokio::test]
async fn a_stop_waits_for_the_function_and_delivers_nothing_twice() {
    let sink = Sink::answering(|_| Answer {
        after: Duration::from_secs(1),
        ..Answer::status(204)
    })
    .await;
    let mut bus = Bus::start(&folder_to(&sink.url())).await;
    for round in 0..3 {
        upload(&bus, &format!("{round}.jpg"));
        until("the function is at work", async || {
            sink.received().len() == round + 1
        })
        .await;
        assert!(bus.terminate().await.success());
        bus.spawn();
        bus.ready().await;
    }
    upload(&bus, "last.jpg");
    until("the last has arrived", async || sink.received().len() >= 4).await;
    assert_eq!(subjects(&sink), ["0.jpg", "1.jpg", "2.jpg", "last.jpg"]);
}

#[tokio::test]
async fn a_rule_that_becomes_a_pipe_and_back_loses_nothing() {
    let sink = Sink::start().await;
    let pipe = folder_to(&sink.url());
    let rule = pipe.replace("\npipes:", "\nrules:");
    let bus = Bus::start(&rule).await;
    for round in 0..6 {
        upload(&bus, &format!("{round}.jpg"));
        bus.write_rules(if round % 2 == 0 { &pipe } else { &rule });
        let reloads = round + 1;
        until("it is in force", async || {
            bus.log().matches("the changed rules are in force").count() >= reloads
        })
        .await;
    }
    until("all have arrived", async || {
        let mut arrived = subjects(&sink);
        arrived.dedup();
        arrived.len() == 6
    })
    .await;
    until("nothing waits", async || {
        bus.counts("uploads").await["pending"] == 0
    })
    .await;
}
