//! Callers who wait for the end of a task that somebody ends, and callers who hang up.

use std::time::Duration;

use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `slow` is answered after a minute, `later` is put off, `failing` is tried until it is too old.
fn rules(sink: &Sink) -> String {
    format!(
        "targets:
  function: {{ http: {{ url: \"{url}\" }} }}
  fails:
    http: {{ url: \"{url}\" }}
    delivery: {{ max_age: 2s, retry: {{ attempts: 1000, backoff: {{ initial: 10ms, max: 10ms }} }} }}
rules:
  slow: {{ match: {{ type: [slow] }}, to: function }}
  later: {{ match: {{ type: [later] }}, delivery: {{ delay: 1h }}, to: function }}
  other: {{ match: {{ type: [other] }}, delivery: {{ delay: 1h }}, to: function }}
  failing: {{ match: {{ type: [failing] }}, to: fails }}
",
        url = sink.url()
    )
}

async fn sink() -> Sink {
    Sink::answering(|one| match one.header("ce-type") {
        "slow" => Answer {
            after: Duration::from_secs(60),
            ..Answer::status(200)
        },
        _ => Answer::status(500),
    })
    .await
}

async fn post(bus: &Bus, path: &str, body: &Value) {
    let url = bus.admin_url(&format!("/api/v1/{path}"));
    let answer = Caller::new().post_json(&url, body.to_string()).await;
    let (status, answer) = answer.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
}

/// Sends an event and waits for its end, which `end` brings about once the task is in this state.
/// Returns the status and the task of the answer; an answer that comes because the wait is over has
/// the status 202.
async fn ended(bus: &Bus, ty: &str, state: &str, end: impl AsyncFnOnce(&str)) -> (u16, Value) {
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/test"),
        ("ce-type", ty),
        ("prefer", "wait=20"),
    ];
    let (caller, url) = (Caller::new(), bus.url("/events"));
    let called = caller.call(http::Method::POST, &url, &headers, "");
    let ends = async {
        let page = format!("/api/v1/tasks?type={ty}&state={state}");
        let mut id = None;
        until("the task is there", async || {
            let page = bus.api(&page).await;
            id = page["items"][0]["id"].as_str().map(str::to_owned);
            id.is_some()
        })
        .await;
        end(&id.unwrap()).await;
    };
    let (answer, ()) = tokio::join!(called, ends);
    let (status, _, body) = answer.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    (status, body["task"].clone())
}

/// Asserts how a task has ended that somebody waited for.
fn assert_ended((status, task): (u16, Value), expected: (u16, &str, Value)) {
    assert_eq!((status, &task["state"]), (expected.0, &json!(expected.1)));
    assert_eq!(task["reason"], expected.2, "{task}");
}

#[tokio::test]
async fn who_waits_is_answered_however_the_task_ends() {
    let sink = sink().await;
    let bus = Bus::start(&rules(&sink)).await;
    let (stopped, skipped) = (
        (502, "stopped", Value::Null),
        (502, "failed", json!("skipped")),
    );
    let one = async |id: &str, lever: &str| {
        post(&bus, &format!("tasks/{id}/{lever}"), &json!({})).await;
    };

    let waiting = ended(&bus, "later", "scheduled", async |id| {
        one(id, "cancel").await
    })
    .await;
    assert_ended(waiting, stopped.clone());
    let selected = ended(&bus, "later", "scheduled", async |_| {
        post(&bus, "tasks/cancel", &json!({ "rule": "later" })).await;
    });
    assert_ended(selected.await, stopped.clone());
    let running = ended(&bus, "slow", "running", async |id| one(id, "cancel").await).await;
    assert_ended(running, stopped.clone());
    let passed = ended(&bus, "later", "scheduled", async |id| one(id, "skip").await).await;
    assert_ended(passed, skipped);
    let held = ended(&bus, "later", "scheduled", async |id| {
        one(id, "suspend").await;
        one(id, "cancel").await;
    });
    assert_ended(held.await, stopped);
    let old = ended(&bus, "failing", "retrying", async |_| {}).await;
    assert_ended(old, (504, "expired", json!("expired")));
}

#[tokio::test]
async fn who_waits_is_answered_where_a_subscription_is_emptied() {
    let sink = sink().await;
    let bus = Bus::start(&rules(&sink)).await;
    let subscription = async |rule: &str| {
        let all = bus.api("/api/v1/subscriptions").await;
        let all = all["items"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["rule"] == rule).unwrap()
    };
    let stopped = (502, "stopped", Value::Null);
    let moved = ended(&bus, "later", "scheduled", async |_| {
        let (from, to) = (subscription("later").await, subscription("other").await);
        let path = format!("subscriptions/{}/move", from["number"]);
        post(&bus, &path, &json!({ "to": to["number"] })).await;
    });
    assert_ended(moved.await, stopped.clone());
    assert_eq!(bus.counts("other").await["pending"], 1);
    // A rule that goes keeps its task, and the caller: it may come back. What ends it is told.
    let detached = ended(&bus, "later", "scheduled", async |_| {
        let number = subscription("later").await["number"].clone();
        bus.write_rules(&rules(&sink).replace("\n  later:", "\n  renamed:"));
        until("it is detached", async || {
            subscription("later").await["attached"] == false
        })
        .await;
        post(&bus, &format!("subscriptions/{number}/cancel"), &json!({})).await;
    });
    assert_ended(detached.await, stopped);
}

/// Sends an event whose caller waits so many seconds for its end.
async fn waits(bus: &Bus, seconds: u32) -> TcpStream {
    let request = format!(
        "POST /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\nprefer: wait={seconds}\r\n\
         ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: slow\r\n\
         content-length: 0\r\n\r\n"
    );
    let url = bus.url("");
    let address = url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// Whether there is room for another caller who waits.
async fn may_wait(bus: &Bus) -> bool {
    let mut answer = String::new();
    let mut socket = waits(bus, 1).await;
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    answer.contains("\r\npreference-applied: wait=1\r\n")
}

#[tokio::test]
async fn a_caller_who_hangs_up_frees_the_place_that_he_waits_in() {
    let sink = sink().await;
    let mut bus = Bus::prepare(&rules(&sink));
    // Half of the connections may wait.
    bus.set_listen("max_connections: 2");
    bus.write_rules(&rules(&sink));
    bus.spawn();
    bus.ready().await;
    let first = waits(&bus, 300).await;
    until("it runs", async || sink.received().len() == 1).await;
    assert!(!may_wait(&bus).await, "the only place is taken");
    drop(first);
    until("there is room", async || may_wait(&bus).await).await;
}
