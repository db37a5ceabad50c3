//! Tasks that are steered from outside while they run.

use std::time::Duration;

use pointsman_integration_tests::{Bus, Caller, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A function that takes what it is sent and never answers: yields each connection with a request
/// on it.
struct Silent(TcpListener);

impl Silent {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}/", self.0.local_addr().unwrap())
    }

    async fn call(&self) -> TcpStream {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut some = [0; 16 * 1024];
        assert!(stream.read(&mut some).await.unwrap() > 0, "a request");
        stream
    }
}

/// Waits until the other side has closed a connection.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
    // Reset is closed as well.
    let _reset = read.await.unwrap();
}

async fn send(bus: &Bus, id: &str) {
    let sent = Caller::new().event(&bus.url("/events"), id, "t", "").await;
    assert_eq!(sent.unwrap(), 202);
}

async fn post(bus: &Bus, path: &str, body: &Value) -> Value {
    let url = bus.admin_url(&format!("/api/v1/{path}"));
    let (status, answer) = Caller::new()
        .post_json(&url, body.to_string())
        .await
        .unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).unwrap()
}

/// Waits until so many tasks run.
async fn running(bus: &Bus, count: usize) {
    until("tasks run", async || {
        let page = bus.api("/api/v1/tasks?state=running").await;
        page["items"].as_array().unwrap().len() == count
    })
    .await;
}

#[tokio::test]
async fn a_running_call_is_broken_off_and_its_connection_closed() {
    let function = Silent::new().await;
    let rules = format!(
        "targets:\n  silent: {{ http: {{ url: \"{}\" }} }}\nrules:\n  some: {{ to: silent }}\n",
        function.url()
    );
    let bus = Bus::start(&rules).await;
    for id in ["1", "2"] {
        send(&bus, id).await;
    }
    let (first, second) = (function.call().await, function.call().await);
    running(&bus, 2).await;
    let dry = post(
        &bus,
        "tasks/cancel",
        &json!({ "rule": "some", "dry_run": true }),
    )
    .await;
    assert_eq!(
        (&dry["selected"], &dry["cancelled"]),
        (&json!(2), &json!(0))
    );
    let began = Instant::now();
    let one = post(&bus, "tasks/cancel", &json!({ "event_id": "1" })).await;
    assert_eq!(one, json!({ "selected": 1, "cancelled": 1, "stopping": 0 }));
    let other = post(&bus, "tasks/cancel", &json!({ "all": true })).await;
    assert_eq!(
        other,
        json!({ "selected": 1, "cancelled": 1, "stopping": 0 })
    );
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    closed(first).await;
    closed(second).await;
    let counts = bus.counts("some").await;
    assert_eq!(
        (&counts["cancelled"], &counts["pending"]),
        (&json!(2), &json!(0))
    );
    assert!(bus.dead().await.is_empty());
    let ended = bus.api("/api/v1/tasks?state=stopped").await;
    let ended = ended["items"].as_array().unwrap();
    assert_eq!(ended.len(), 2, "{ended:?}");
    let id = ended[0]["id"].as_str().unwrap();
    let whole = bus.api(&format!("/api/v1/tasks/{id}")).await;
    let attempt = &whole["history"][0]["attempt"];
    let called = format!("POST {}", function.url());
    assert_eq!(
        (&whole["state"], &attempt["class"], &attempt["called"]),
        (&json!("stopped"), &json!("failed"), &json!(called)),
        "{whole}"
    );
}

#[tokio::test]
async fn a_running_command_is_asked_to_end_and_then_killed() {
    let bus = Bus::start(
        "targets:
  tidy: { exec: { command: [sh, -c, 'trap \"echo >tidied; exit 1\" TERM; echo >tidy.ready; sleep 60 & wait'] } }
  deaf: { exec: { command: [sh, -c, 'trap \"\" TERM; echo >deaf.ready; sleep 60'] } }
  done: { exec: { command: [sh, -c, 'trap \"exit 0\" TERM; echo >done.ready; sleep 60 & wait'] } }
rules:
  tidy: { to: tidy }
  deaf: { to: deaf }
  done: { to: done }
",
    )
    .await;
    send(&bus, "1").await;
    running(&bus, 3).await;
    until(
        "the shells know what to do when they are asked to end",
        async || {
            ["tidy", "deaf", "done"].map(|name| bus.path(&format!("{name}.ready")).exists())
                == [true; 3]
        },
    )
    .await;
    let all = json!({ "all": true });
    let is_stopping = until(
        "the one that takes its time is seen to be stopping",
        async || {
            let page = bus.api("/api/v1/tasks?state=stopping").await;
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|task| task["rule"] == "deaf")
        },
    );
    let (answer, ()) = tokio::join!(post(&bus, "tasks/cancel", &all), is_stopping);
    assert_eq!(
        answer,
        json!({ "selected": 3, "cancelled": 2, "stopping": 0 })
    );
    assert!(bus.path("tidied").exists(), "it was asked to end");
    for (rule, cancelled, delivered) in [("tidy", 1, 0), ("deaf", 1, 0), ("done", 0, 1)] {
        let counts = bus.counts(rule).await;
        assert_eq!(
            (&counts["cancelled"], &counts["delivered"], &counts["dead"]),
            (&json!(cancelled), &json!(delivered), &json!(0)),
            "{rule}: what ends well in spite of it has ended well"
        );
    }
}

#[tokio::test]
async fn a_message_of_a_pipe_that_is_given_up_is_done_for_its_source() {
    let function = Silent::new().await;
    let bus = Bus::start(&format!(
        "sources:
  hook: {{ webhook: {{ path: /hooks/x, signature: {{ none: {{}} }} }}, event: {{ type: hook }} }}
targets:
  silent: {{ http: {{ url: \"{}\" }} }}
pipes:
  hooks: {{ from: hook, to: silent }}
",
        function.url()
    ))
    .await;
    let caller = Caller::new();
    let url = bus.url("/hooks/x");
    let headers = [("content-type", "text/plain")];
    let sender = caller.call(http::Method::POST, &url, &headers, "x");
    let canceller = async {
        let stream = function.call().await;
        running(&bus, 1).await;
        let answer = post(&bus, "tasks/cancel", &json!({ "rule": "hooks" })).await;
        assert_eq!(
            answer,
            json!({ "selected": 1, "cancelled": 1, "stopping": 0 })
        );
        closed(stream).await;
    };
    let (answered, ()) = tokio::join!(sender, canceller);
    let status = answered.unwrap().0;
    assert!(
        (200..300).contains(&status),
        "{status}: whoever sent it need not send it again"
    );
    let counts = bus.counts("hooks").await;
    assert_eq!(
        (&counts["cancelled"], &counts["pending"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn what_is_urgent_goes_first_also_after_a_kill() {
    let function = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = format!(
        "targets:
  function:
    http: {{ url: \"http://{}/\" }}
    delivery: {{ concurrency: {{ max: 1 }} }}
rules:
  all: {{ to: function, delivery: {{ priority: <$.data.urgency ?? 0> }} }}
",
        function.local_addr().unwrap()
    );
    // Takes a call, and tells the id of its event.
    let called = async || {
        let (mut stream, _) = function.accept().await.unwrap();
        let mut some = [0; 16 * 1024];
        let read = stream.read(&mut some).await.unwrap();
        let request = String::from_utf8_lossy(&some[..read]).into_owned();
        let mut lines = request.lines();
        let id = lines.find_map(|line| line.strip_prefix("ce-id: ").map(str::to_owned));
        (stream, id.unwrap_or_else(|| panic!("{request}")))
    };
    let mut bus = Bus::start(&rules).await;
    let caller = Caller::new();
    let send = async |id: &str, data: &str| {
        let url = bus.url("/events");
        let sent = caller.event(&url, id, "t", data.to_owned());
        assert_eq!(sent.await.unwrap(), 202);
    };
    send("first", "{}").await;
    let (held, id) = called().await;
    assert_eq!(id, "first");
    for (id, data) in [
        ("usual", "{}"),
        ("three", "{\"urgency\":3}"),
        ("nine", "{\"urgency\":9}"),
        ("none", "{\"urgency\":10}"),
        ("third", "{\"urgency\":\"3\"}"),
    ] {
        send(id, data).await;
    }
    let tasks = bus.api("/api/v1/tasks").await;
    let priorities = tasks["items"].as_array().unwrap().iter();
    let priorities: Vec<_> = priorities.map(|task| task["priority"].as_u64()).collect();
    let [three, nine] = [Some(3), Some(9)];
    assert_eq!(priorities, [None, None, three, nine, None, three]);
    bus.kill();
    drop(held);
    bus.spawn();
    bus.ready().await;
    let mut ids = Vec::new();
    while ids.len() < 6 {
        let (mut stream, id) = called().await;
        ids.push(id);
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    }
    let order = ["nine", "three", "third", "first", "usual", "none"];
    assert_eq!(ids, order);
}
