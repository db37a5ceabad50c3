//! What is put off waits on disk, and takes no memory: 20,000 events, with `POINTSMAN_LONG` in the
//! environment a million.

use std::time::Duration;

use http::Method;
use pointsman_integration_tests::{Bus, Caller, Sink, until, until_within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How much more memory than a bus that has nothing to do one may take that has put much off.
const MORE_MIB: u64 = 20;

const SENDERS: usize = 4;
const SENT_AT_ONCE: usize = 500;

/// The same but for the delay, so that as many events go through both buses.
fn rules(sink: &Sink, delivery: &str) -> String {
    format!(
        "targets:
  function: {{ http: {{ url: \"{}\" }} }}
rules:
  all: {{ to: function, delivery: {{ history: none, {delivery} }} }}
",
        sink.url()
    )
}

async fn send(url: String, sender: usize, events: usize) {
    let (caller, headers) = (
        Caller::new(),
        [("content-type", "application/cloudevents-batch+json")],
    );
    for from in (0..events).step_by(SENT_AT_ONCE) {
        let event = |number: usize| {
            json!({
                "specversion": "1.0", "id": format!("{sender}/{number}"), "source": "/test",
                "type": "t", "data": { "number": number },
            })
        };
        let numbers = from..(from + SENT_AT_ONCE).min(events);
        let batch: Vec<Value> = numbers.map(event).collect();
        let body = Value::from(batch).to_string();
        let (status, ..) = caller
            .call(Method::POST, &url, &headers, body)
            .await
            .unwrap();
        assert_eq!(status, 202);
    }
}

/// Sends so many events, and waits until `pending` of them are left and the others delivered.
async fn fill(bus: &Bus, events: usize, pending: usize) {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send(bus.url("/events"), sender, events / SENDERS));
    }
    senders.join_all().await;
    // Patience is for a thousand events, however many there are.
    let patience = Duration::from_secs(60).mul_f64(1.0 + events as f64 / 20_000.0);
    until_within(patience, "as many are pending", async || {
        let counts = bus.counts("all").await;
        let (created, left) = (json!(events), json!(pending));
        (&counts["created"], &counts["pending"]) == (&created, &left)
    })
    .await;
}

/// Waits until the bus takes hardly more than another; what was allocated is given back in time.
async fn takes_no_more_than(bus: &Bus, other_mib: u64, when: &str) {
    let what = format!("it takes no more than {} MiB {when}", other_mib + MORE_MIB);
    until(&what, async || bus.resident_mib() <= other_mib + MORE_MIB).await;
    println!(
        "{when}: {} MiB, and {other_mib} MiB of the other",
        bus.resident_mib()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_off_takes_no_memory() {
    let events = if std::env::var_os("POINTSMAN_LONG").is_some() {
        1_000_000
    } else {
        20_000
    };
    let sink = Sink::counting().await;
    let mut idle = Bus::start(&rules(&sink, "")).await;
    fill(&idle, events, 0).await;
    let full_mib = idle.resident_mib();
    idle.kill();
    idle.spawn();
    idle.ready().await;
    let restarted_mib = idle.resident_mib();
    idle.kill();

    let delivered = sink.arrived();
    let mut later = Bus::start(&rules(&sink, "delay: 90d")).await;
    fill(&later, events, events).await;
    takes_no_more_than(&later, full_mib, "after as many events").await;
    later.kill();
    later.spawn();
    later.ready().await;
    takes_no_more_than(&later, restarted_mib, "after a restart").await;
    assert_eq!(later.counts("all").await["pending"], events);
    assert_eq!(sink.arrived(), delivered, "nothing is early");
}
