//! Replays and redrives at a rate, over kills in their middle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use serde_json::{Value, json};

const EVENTS: usize = 300;

async fn send(bus: &Bus, ids: impl Iterator<Item = usize>) {
    let (caller, url) = (Caller::new(), bus.url("/events"));
    for id in ids {
        let sent = caller.event(&url, &id.to_string(), "test", "{}").await;
        assert_eq!(sent.unwrap(), 202);
    }
}

async fn post(bus: &Bus, path: &str, body: &Value) -> Value {
    let (caller, url) = (Caller::new(), bus.admin_url(path));
    let posted = caller.post_json(&url, body.to_string());
    let (status, answer) = posted.await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Kills the bus some times while a replay is under way, and returns the replay once it has ended.
async fn killed_until_ended(bus: &mut Bus, id: &str, kills: usize) -> Value {
    let path = format!("/api/v1/replays/{id}");
    let mut made = 0;
    for _ in 0..kills {
        until("it has gone on", async || {
            bus.api(&path).await["made"].as_u64().unwrap() > made
        })
        .await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        bus.kill();
        bus.spawn();
        bus.ready().await;
        let replay = bus.api(&path).await;
        assert!(
            replay["made"].as_u64().unwrap() > made,
            "nothing is lost: {replay}"
        );
        made = replay["made"].as_u64().unwrap();
    }
    until("it has ended", async || {
        bus.api(&path).await["state"] != "running"
    })
    .await;
    bus.api(&path).await
}

fn assert_conserved(counts: &Value) {
    let number = |name: &str| counts[name].as_u64().unwrap();
    let ended = [
        "delivered",
        "dead",
        "redriven",
        "purged",
        "cancelled",
        "quarantined",
    ];
    let ended: u64 = ended.iter().map(|name| number(name)).sum();
    assert_eq!(number("created"), ended + number("pending"), "{counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_is_killed_goes_on_where_it_was() {
    let sink = Sink::start().await;
    let rules = format!(
        "targets:\n  old: {{ stdout: {{}} }}\n  function: {{ http: {{ url: \"{}\" }} }}\n\
         rules:\n  past:\n    to: old\n  new:\n    match: {{ type: [test] }}\n    to: function\n",
        sink.url()
    );
    let without = rules.split("  new:").next().unwrap();
    let mut bus = Bus::start(without).await;
    send(&bus, 0..EVENTS).await;
    bus.write_rules(&rules);
    until("the new rule is there", async || {
        let page = bus.api("/api/v1/subscriptions").await;
        let mut items = page["items"].as_array().unwrap().iter();
        items.any(|one| one["rule"] == "new")
    })
    .await;
    let request = json!({ "rule": "new", "rate": "150/s" });
    let begun = post(&bus, "/api/v1/replays", &request).await;
    let id = begun["id"].as_str().unwrap().to_owned();
    let replay = killed_until_ended(&mut bus, &id, 4).await;
    assert_eq!(
        (&replay["state"], &replay["seen"], &replay["made"]),
        (&json!("finished"), &json!(EVENTS), &json!(EVENTS))
    );
    until("all of it has arrived", async || {
        bus.counts("new").await["pending"] == 0
    })
    .await;
    let counts = bus.counts("new").await;
    assert_conserved(&counts);
    assert_eq!(counts["created"], json!(EVENTS));
    let ids = sink.ids();
    assert_eq!(ids.len(), EVENTS, "nothing is lost");
    // Twice at most what was in flight at a kill; as tasks each of them is one.
    let tasks: BTreeSet<_> = sink
        .received()
        .iter()
        .map(|one| one.header("pointsman-task").to_owned())
        .collect();
    assert_eq!(tasks.len(), EVENTS);
    for one in sink.received() {
        assert_eq!(one.header("ce-pointsmanreplay"), id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_at_a_rate_that_is_killed_goes_on_where_it_was() {
    let status = Arc::new(AtomicU16::new(400));
    let answers = Arc::clone(&status);
    let sink = Sink::answering(move |_| Answer::status(answers.load(Ordering::Relaxed))).await;
    let rules = format!(
        "targets:\n  function: {{ http: {{ url: \"{}\" }} }}\nrules:\n  all:\n    to: function\n",
        sink.url()
    );
    let mut bus = Bus::start(&rules).await;
    send(&bus, 0..EVENTS).await;
    until("all are dead", async || {
        bus.counts("all").await["dead"] == EVENTS
    })
    .await;
    status.store(204, Ordering::Relaxed);
    let request = json!({ "rule": "all", "rate": "150/s" });
    let begun = post(&bus, "/api/v1/dead/redrive", &request).await;
    let id = begun["replay"]["id"].as_str().unwrap().to_owned();
    let replay = killed_until_ended(&mut bus, &id, 4).await;
    assert_eq!(
        (&replay["state"], &replay["made"]),
        (&json!("finished"), &json!(EVENTS))
    );
    until("all of it has arrived", async || {
        bus.counts("all").await["pending"] == 0
    })
    .await;
    let counts = bus.counts("all").await;
    assert_conserved(&counts);
    assert_eq!(
        (&counts["delivered"], &counts["redriven"], &counts["dead"]),
        (&json!(EVENTS), &json!(EVENTS), &json!(0))
    );
    let tasks: BTreeSet<_> = sink
        .received()
        .iter()
        .map(|one| one.header("pointsman-task").to_owned())
        .collect();
    assert_eq!(tasks.len(), 2 * EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_starts_with_the_earliest_event_misses_none_over_kills() {
    let sink = Sink::start().await;
    let past = "targets:\n  old: { stdout: {} }\nrules:\n  past:\n    to: old\n";
    let rules = format!(
        "targets:\n  old: {{ stdout: {{}} }}\n  function: {{ http: {{ url: \"{}\" }} }}\n\
         rules:\n  past:\n    to: old\n  new:\n    start: earliest\n    match: {{ type: [test] }}\n    to: function\n",
        sink.url()
    );
    let mut bus = Bus::start(past).await;
    send(&bus, 0..EVENTS).await;
    bus.write_rules(&rules);
    let mut sent = EVENTS;
    for _ in 0..5 {
        send(&bus, sent..sent + 20).await;
        sent += 20;
        bus.kill();
        bus.spawn();
        bus.ready().await;
    }
    until("it has caught up", async || {
        let page = bus.api("/api/v1/replays").await;
        let items = page["items"].as_array().unwrap();
        !items.is_empty() && items.iter().all(|one| one["state"] == "finished")
    })
    .await;
    send(&bus, sent..sent + 20).await;
    sent += 20;
    until("all of it has arrived", async || {
        bus.counts("new").await["delivered"] == sent
    })
    .await;
    let counts = bus.counts("new").await;
    assert_conserved(&counts);
    assert_eq!(counts["created"], json!(sent), "none comes twice");
    assert_eq!(sink.ids().len(), sent);
    let page = bus.api("/api/v1/replays").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    for one in sink.received() {
        let id: usize = one.header("ce-id").parse().unwrap();
        let is_marked = !one.header("ce-pointsmanreplay").is_empty();
        assert!(is_marked || id >= EVENTS, "{id} is from before");
    }
}
