//! Functions that are called through the bus: callers who ask what was made of their events and
//! wait for how that ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

fn rules(sink: &Sink) -> String {
    format!(
        "targets:
  function:
    http: {{ url: \"{url}\" }}
    delivery: {{ retry: {{ attempts: 3, backoff: {{ initial: 50ms, max: 50ms }} }} }}
  other:
    http: {{ url: \"{url}\" }}
rules:
  one: {{ match: {{ type: [one, two] }}, to: function }}
  second: {{ match: {{ type: [two] }}, to: other }}
",
        url = sink.url()
    )
}

/// Sends one event with headers of ours, and returns the status, the headers and the body.
async fn call(bus: &Bus, id: &str, ty: &str, more: &[(&str, &str)]) -> (u16, HeaderMap, Bytes) {
    let event = [
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/test"),
        ("ce-type", ty),
        ("content-type", "application/json"),
    ];
    let headers = [&event[..], more].concat();
    let url = bus.url("/events");
    let answer = Caller::new()
        .call(Method::POST, &url, &headers, "{\"n\":1}")
        .await;
    answer.unwrap()
}

fn document(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let value = headers.get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default()
}

#[tokio::test]
async fn a_caller_is_told_what_was_made_of_his_events() {
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(&sink)).await;
    let prefer = [("prefer", "return=representation")];
    let (status, headers, body) = call(&bus, "1", "two", &prefer).await;
    assert_eq!(status, 202);
    assert_eq!(
        header(&headers, "preference-applied"),
        "return=representation"
    );
    let told = document(&body);
    let event = &told["events"][0];
    assert_eq!(event["sequence"], 1);
    assert_eq!(event["duplicate"], false);
    let tasks = event["tasks"].as_array().unwrap();
    let named: Vec<_> = tasks
        .iter()
        .map(|task| (task["rule"].as_str(), task["target"].as_str()))
        .collect();
    assert_eq!(
        named,
        [
            (Some("one"), Some("function")),
            (Some("second"), Some("other"))
        ]
    );
    until("both have arrived", async || sink.received().len() == 2).await;
    let mut seen: Vec<String> = sink
        .received()
        .iter()
        .map(|one| one.header("pointsman-task").to_owned())
        .collect();
    let mut ids: Vec<&str> = tasks
        .iter()
        .map(|task| task["id"].as_str().unwrap())
        .collect();
    seen.sort();
    ids.sort_unstable();
    assert_eq!(ids, seen);

    // Nobody took it, and without the header nothing is said.
    let (status, _, body) = call(&bus, "2", "none", &prefer).await;
    assert_eq!(
        (status, &document(&body)["events"][0]["tasks"]),
        (202, &json!([]))
    );
    let (status, headers, body) = call(&bus, "3", "none", &[]).await;
    assert_eq!(
        (status, body.len(), header(&headers, "content-length")),
        (202, 0, "0")
    );
}

#[tokio::test]
async fn a_function_is_called_through_the_bus() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let sink = Sink::answering(move |one| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        let mut answer = match one.header("ce-id") {
            "fails" => Answer::status(422),
            "retried" if n.is_multiple_of(2) => Answer::status(500),
            "long" => Answer {
                body: vec![b'x'; 65 * 1024].into(),
                ..Answer::status(200)
            },
            _ => Answer::status(201),
        };
        if answer.body.is_empty() {
            answer.body = Bytes::from_static(b"{\"thumbnail\":7}");
        }
        answer.header("content-type", "application/vnd.x+json")
    })
    .await;
    let bus = Bus::start(&rules(&sink)).await;
    let wait = [("prefer", "wait=20")];

    let (status, headers, body) = call(&bus, "works", "one", &wait).await;
    assert_eq!((status, &body[..]), (200, &b"{\"thumbnail\":7}"[..]));
    for (name, value) in [
        ("content-type", "application/vnd.x+json"),
        ("pointsman-status", "201"),
        ("pointsman-attempts", "1"),
        ("preference-applied", "wait=20"),
    ] {
        assert_eq!(header(&headers, name), value, "{name}");
    }
    assert_eq!(
        header(&headers, "pointsman-task"),
        sink.received()[0].header("pointsman-task")
    );

    calls.store(0, Ordering::SeqCst);
    let (status, headers, _) = call(&bus, "retried", "one", &wait).await;
    assert_eq!((status, header(&headers, "pointsman-attempts")), (200, "2"));

    let (status, headers, body) = call(&bus, "fails", "one", &wait).await;
    assert_eq!(
        (
            status,
            header(&headers, "content-type"),
            header(&headers, "pointsman-status")
        ),
        (502, "application/problem+json", "422")
    );
    let problem = document(&body);
    assert_eq!(problem["task"]["reason"], "rejected", "{problem}");
    assert_eq!(problem["task"]["state"], "failed");
    assert_eq!(problem["response"], "{\"thumbnail\":7}");

    // A part of an answer must not pass for the whole.
    let (status, _, body) = call(&bus, "long", "one", &wait).await;
    assert_eq!(
        (status, &document(&body)["task"]["state"]),
        (502, &json!("succeeded"))
    );

    let (status, _, body) = call(&bus, "several", "two", &wait).await;
    assert_eq!(status, 200);
    let told = document(&body);
    for task in told["events"][0]["tasks"].as_array().unwrap() {
        assert_eq!(
            (&task["state"], &task["status"]),
            (&json!("succeeded"), &json!(201))
        );
    }
}

#[tokio::test]
async fn a_wait_that_is_over_and_a_caller_who_hangs_up_change_nothing() {
    let sink = Sink::answering(|_| Answer {
        after: Duration::from_secs(2),
        ..Answer::status(204)
    })
    .await;
    let bus = Bus::start(&rules(&sink)).await;
    let (status, headers, body) = call(&bus, "slow", "one", &[("prefer", "wait=1")]).await;
    assert_eq!(
        (status, header(&headers, "preference-applied")),
        (202, "wait=1")
    );
    assert_eq!(
        document(&body)["events"][0]["tasks"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let request = "POST /events HTTP/1.1\r\nhost: x\r\nprefer: wait=60\r\nce-specversion: 1.0\r\n\
                   ce-id: gone\r\nce-source: /s\r\nce-type: one\r\ncontent-length: 0\r\n\r\n";
    let url = bus.url("");
    let mut socket = TcpStream::connect(url.trim_start_matches("http://"))
        .await
        .unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    until("it has been called", async || {
        sink.received()
            .iter()
            .any(|one| one.header("ce-id") == "gone")
    })
    .await;
    drop(socket);
    until("both were delivered once", async || {
        bus.counts("one").await["delivered"] == 2
    })
    .await;
    assert_eq!(sink.received().len(), 2);
}

#[tokio::test]
async fn who_waits_is_answered_at_once_where_the_bus_stops() {
    let sink = Sink::answering(|_| Answer {
        after: Duration::from_secs(3),
        ..Answer::status(204)
    })
    .await;
    let mut bus = Bus::start(&rules(&sink)).await;
    let url = bus.url("/events");
    let stops = async {
        until("it has been called", async || !sink.received().is_empty()).await;
        let at = Instant::now();
        (at, bus.terminate().await)
    };
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/test"),
        ("ce-type", "one"),
        ("prefer", "wait=60"),
    ];
    let caller = Caller::new();
    let called = caller.call(Method::POST, &url, &headers, "");
    let called = async { (called.await, Instant::now()) };
    let ((answer, answered), (stopped, ended)) = tokio::join!(called, stops);
    assert_eq!(answer.unwrap().0, 202);
    assert!(answered.duration_since(stopped) < Duration::from_secs(2));
    assert!(ended.success());
}

#[tokio::test]
async fn an_id_is_taken_once_also_over_a_kill_and_its_state_is_told() {
    let sink = Sink::answering(|_| Answer {
        after: Duration::from_millis(700),
        ..Answer::status(200)
    })
    .await;
    let mut bus = Bus::start(&rules(&sink)).await;
    let named = [("pointsman-task-id", "order-17")];
    assert_eq!(call(&bus, "1", "one", &named).await.0, 202);
    // Killed between the append and the outcome.
    bus.kill();
    bus.spawn();
    bus.ready().await;
    let (status, headers, body) = call(&bus, "2", "two", &named).await;
    assert_eq!(
        (status, header(&headers, "content-type")),
        (409, "application/problem+json")
    );
    let problem = document(&body);
    let event = &problem["events"][0];
    assert_eq!(
        (&event["sequence"], &event["duplicate"]),
        (&json!(1), &json!(true))
    );
    let tasks = event["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 1, "those of the first alone: {problem}");
    assert_eq!(tasks[0]["rule"], "one");
    let state = tasks[0]["state"].as_str().unwrap();
    assert!(
        ["pending", "running", "retrying", "succeeded"].contains(&state),
        "{state}"
    );
    let id = tasks[0]["id"].as_str().unwrap().to_owned();
    until("it is delivered", async || {
        bus.counts("one").await["delivered"] == 1
    })
    .await;
    let (status, _, body) = call(&bus, "3", "one", &[("ce-pointsmantaskid", "order-17")]).await;
    let task = &document(&body)["events"][0]["tasks"][0];
    assert_eq!(status, 409);
    assert_eq!(task["id"], id.as_str());
    assert_eq!(task["state"], "succeeded", "its history is kept: {task}");
    // The function sees the id, whatever the delivery's own is.
    let received = sink.received();
    assert!(
        received
            .iter()
            .all(|one| one.header("ce-pointsmantaskid") == "order-17")
    );
    assert!(
        received
            .iter()
            .all(|one| one.header("pointsman-task") == id)
    );
    assert_eq!(bus.api("/api/v1/status").await["totals"]["events"], 1);
    // Another id is another event.
    assert_eq!(
        call(&bus, "4", "one", &[("pointsman-task-id", "order-18")])
            .await
            .0,
        202
    );
}

#[tokio::test]
async fn of_a_flood_of_one_id_one_event_is_stored() {
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(&sink)).await;
    let url = bus.url("/events");
    let callers = (0..32).map(|caller| {
        let url = url.clone();
        async move {
            let (client, mut statuses) = (Caller::new(), Vec::new());
            for call in 0..20 {
                let id = format!("{caller}-{call}");
                let headers = [
                    ("ce-specversion", "1.0"),
                    ("ce-id", id.as_str()),
                    ("ce-source", "/test"),
                    ("ce-type", "one"),
                    ("pointsman-task-id", "same"),
                ];
                let answer = client.call(Method::POST, &url, &headers, "").await;
                statuses.push(answer.unwrap().0);
            }
            statuses
        }
    });
    let mut handles = Vec::new();
    for caller in callers {
        handles.push(tokio::spawn(caller));
    }
    let mut taken = 0;
    for handle in handles {
        let statuses = handle.await.unwrap();
        assert!(
            statuses.iter().all(|status| [202, 409].contains(status)),
            "{statuses:?}"
        );
        taken += statuses.iter().filter(|status| **status == 409).count();
    }
    assert_eq!(taken, 32 * 20 - 1);
    assert_eq!(bus.api("/api/v1/status").await["totals"]["events"], 1);
    until("it has arrived", async || sink.arrived() > 0).await;
    assert_eq!(sink.arrived(), 1);
}

#[tokio::test]
async fn duplicates_by_a_key_are_left_out_of_a_source_or_of_one_rule_and_explained() {
    let sink = Sink::start().await;
    let rules = format!(
        "sources:
  lines:
    exec: {{ command: [sh, -c, \"printf 'a\\\\nb\\\\na\\\\n'; sleep 60\"] }}
    deduplicate: {{ by: <$.data>, window: 1h }}
targets:
  function: {{ http: {{ url: \"{url}\" }} }}
  other: {{ http: {{ url: \"{url}\" }} }}
rules:
  lines: {{ from: lines, to: function }}
  once: {{ from: ingress, deduplicate: {{ by: <$.data.order> }}, to: function }}
  always: {{ from: ingress, to: other }}
",
        url = sink.url()
    );
    let bus = Bus::start(&rules).await;
    let metric = async |name: &str| {
        let url = bus.admin_url("/metrics");
        let (_, text) = Caller::new().get(&url).await.unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines = text.lines().filter(|line| line.starts_with(name));
        let line = lines.find(|line| !line.contains("source=\"ingress\""));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    until("the third line was a duplicate", async || {
        metric("pointsman_events_duplicate_total").await == Some(1)
    })
    .await;
    assert_eq!(bus.api("/api/v1/status").await["totals"]["events"], 2);
    let send = async |id: &str, order: &str| {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "/test"),
            ("ce-type", "one"),
            ("content-type", "application/json"),
            ("prefer", "return=representation"),
        ];
        let url = bus.url("/events");
        let answer = Caller::new()
            .call(Method::POST, &url, &headers, order.to_owned())
            .await;
        document(&answer.unwrap().2)["events"][0]["tasks"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(send("1", "{\"order\":7}").await, 2);
    assert_eq!(send("2", "{\"order\":7}").await, 1, "the other rule alone");
    // Without a key nothing is a duplicate.
    assert_eq!(send("3", "{}").await, 2);
    assert_eq!(send("4", "{}").await, 2);
    until("all have arrived", async || {
        sink.received().len() == 2 + 2 + 1 + 2 + 2
    })
    .await;
    let explained = bus.api("/api/v1/events/4/explain").await;
    let deliveries = explained["deliveries"].as_array().unwrap();
    let fate = |rule: &str| {
        let found = deliveries.iter().find(|one| one["rule"] == rule).unwrap();
        (
            found["fate"].as_str().unwrap(),
            found["message"].as_str().unwrap(),
        )
    };
    let (once, message) = fate("once");
    assert_eq!(once, "duplicate", "{explained}");
    assert!(message.starts_with("event 3 had its key"), "{message}");
    assert_ne!(fate("always").0, "duplicate");
    assert_eq!(metric("pointsman_deliveries_left_out_total").await, Some(1));
    assert_eq!(metric("pointsman_events_without_key_total").await, Some(2));
    let rules = bus.api("/api/v1/rules").await;
    let once = rules["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|rule| rule["name"] == "once");
    assert_eq!(once.unwrap()["duplicates"], 1);
}

#[tokio::test]
async fn the_listener_leaves_duplicates_by_a_key_out_over_a_crash() {
    let sink = Sink::start().await;
    let rules = format!(
        "targets: {{ function: {{ http: {{ url: \"{}\" }} }} }}\nrules: {{ all: {{ to: function }} }}\n",
        sink.url()
    );
    let mut bus = Bus::prepare(&rules);
    bus.set_listen("deduplicate: { by: <$.data.order>, window: 1h }");
    bus.write_rules(&rules);
    bus.spawn();
    bus.ready().await;
    let send = async |bus: &Bus, id: &str, data: &str, prefer: &str| {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "/test"),
            ("ce-type", "one"),
            ("content-type", "application/json"),
            ("prefer", prefer),
        ];
        let url = bus.url("/events");
        let answer = Caller::new()
            .call(Method::POST, &url, &headers, data.to_owned())
            .await;
        let (status, _, body) = answer.unwrap();
        (status, body)
    };
    let (status, body) = send(&bus, "1", "{\"order\":7}", "return=representation").await;
    assert_eq!(
        (status, &document(&body)["events"][0]["duplicate"]),
        (202, &json!(false))
    );
    bus.kill();
    bus.spawn();
    bus.ready().await;
    let (status, body) = send(&bus, "2", "{\"order\":7}", "return=representation").await;
    let told = document(&body);
    assert_eq!(
        (status, &told["events"][0]["duplicate"]),
        (202, &json!(true)),
        "{told}"
    );
    assert_eq!(
        told["events"][0]["sequence"], 1,
        "that of the one stored: {told}"
    );
    // Nobody asks what became of this one: it is left out all the same.
    assert_eq!(send(&bus, "3", "{\"order\":7}", "").await.0, 202);
    assert_eq!(send(&bus, "4", "{}", "").await.0, 202, "without a key");
    assert_eq!(send(&bus, "5", "{\"order\":8}", "").await.0, 202);
    assert_eq!(bus.api("/api/v1/status").await["totals"]["events"], 3);
    until("they have arrived", async || sink.received().len() >= 3).await;
}
