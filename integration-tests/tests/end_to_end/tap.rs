//! What passes, seen from outside while it does.

use std::process::Stdio;
use std::time::Duration;

use pointsman_integration_tests::bus::binary;
use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

/// A tap with what it prints, once it listens.
struct Tap {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

async fn tap(bus: &Bus, arguments: &[&str]) -> Tap {
    let mut process = Command::new(binary())
        .args(["tap", "--admin", &bus.admin_url("")])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    Tap { process, lines }
}

async fn send(bus: &Bus, id: &str, ty: &str) {
    let (caller, url) = (Caller::new(), bus.url("/events"));
    let sent = caller.event(&url, id, ty, r#"{"n":1}"#).await;
    assert_eq!(sent.unwrap(), 202);
}

async fn listeners_are(bus: &Bus, count: u64) {
    until("they listen", async || {
        bus.api("/api/v1/status").await["taps"] == count
    })
    .await;
}

fn rules(sink: &Sink) -> String {
    format!(
        "targets: {{ sink: {{ http: {{ url: \"{}\" }}, delivery: {{ retry: {{ attempts: 1 }} }} }} }}\n\
         rules: {{ all: {{ match: {{ type: [{{ prefix: order }}] }}, to: sink }} }}\n",
        sink.url()
    )
}

#[tokio::test]
async fn events_and_attempts_are_seen_as_they_pass() {
    let sink = Sink::answering(|received| {
        Answer::status(if received.header("ce-id") == "c" {
            500
        } else {
            204
        })
    })
    .await;
    let mut bus = Bus::start(&rules(&sink)).await;
    let mut everything = tap(&bus, &["--data"]).await;
    let mut failed = tap(&bus, &["--failed", "-n", "1"]).await;
    listeners_are(&bus, 2).await;
    send(&bus, "a", "other").await;
    send(&bus, "b", "order.paid").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let line = everything.lines.next_line().await.unwrap().unwrap();
        seen.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    // An attempt may end before the event's sender is told.
    seen.sort_by_key(|one| (one["passed"] == "attempt", one["sequence"].as_u64()));
    let of = |one: &Value| {
        (
            one["event"]["id"].clone(),
            one["event"]["data"]["n"].clone(),
        )
    };
    assert_eq!(of(&seen[0]), ("a".into(), 1.into()));
    assert_eq!(
        (&seen[0]["deliveries"], &seen[1]["deliveries"]),
        (&0.into(), &1.into())
    );
    assert_eq!(of(&seen[2]), ("b".into(), 1.into()));
    let attempt = &seen[2];
    assert_eq!(
        (&attempt["rule"], &attempt["class"], &attempt["next"]),
        (&"all".into(), &"delivered".into(), &"ended".into()),
        "{attempt}"
    );
    send(&bus, "c", "order.late").await;
    let line = failed.lines.next_line().await.unwrap().unwrap();
    assert!(
        line.contains(r#""next":"dead""#) && line.contains(r#""id":"c""#),
        "{line}"
    );
    assert!(failed.process.wait().await.unwrap().success());
    listeners_are(&bus, 1).await;
    // It says so where the bus goes away, and does not keep it from that.
    let stopped = tokio::time::timeout(Duration::from_secs(4), bus.terminate()).await;
    assert!(stopped.unwrap().success());
    let output = everything.process.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && told.contains("the bus tells no more"),
        "{told}"
    );
}

#[tokio::test]
async fn who_reads_nothing_slows_nobody_and_is_told_what_he_missed() {
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(&sink)).await;
    let mut stream = TcpStream::connect(("127.0.0.1", bus.admin_port()))
        .await
        .unwrap();
    let request = "GET /api/v1/tap?rate=10000&data=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    listeners_are(&bus, 1).await;
    // More than fits into the sockets and the queue.
    let caller = Caller::new();
    let data = format!("\"{}\"", "x".repeat(256 * 1024));
    const EVENTS: usize = 80;
    for number in 0..EVENTS {
        let (url, id) = (bus.url("/events"), number.to_string());
        let sent = caller.event(&url, &id, "order.paid", data.clone()).await;
        assert_eq!(sent.unwrap(), 202);
    }
    until("everything is delivered", async || {
        bus.counts("all").await["delivered"] == EVENTS
    })
    .await;
    let mut told = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    until("it is told", async || {
        let read = stream.read(&mut buffer).await.unwrap();
        told.extend_from_slice(&buffer[..read]);
        read > 0 && String::from_utf8_lossy(&told).contains("event: left-out")
    })
    .await;
    let text = String::from_utf8_lossy(&told);
    let seen = text.matches("event: event").count() + text.matches("event: attempt").count();
    assert!((1..2 * EVENTS).contains(&seen), "{seen}");
}
