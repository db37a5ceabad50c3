//! What is seen and done of all shards from any node.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use pointsman_integration_tests::{Answer, Caller, Sink, until};
use serde_json::Value;

use super::Nodes;
use super::engines::Engine;

/// So many that every shard has some.
pub const SUBJECTS: usize = 40;

impl Nodes {
    /// Sends an event for each subject to a node.
    pub async fn send(&self, node: usize, ty: &str) {
        let url = self.members[node].bus.url("/events");
        for subject in 0..SUBJECTS {
            let (id, subject) = (format!("{ty}-{subject}"), format!("s{subject}"));
            let headers = [
                ("ce-specversion", "1.0"),
                ("ce-id", id.as_str()),
                ("ce-source", "/test"),
                ("ce-type", ty),
                ("ce-subject", subject.as_str()),
            ];
            let sent = Caller::new().call(Method::POST, &url, &headers, "x").await;
            assert_eq!(sent.unwrap().0, 202, "{id}");
        }
    }

    pub async fn post(&self, node: usize, path: &str, body: &str) -> Value {
        let url = self.members[node].bus.admin_url(path);
        let (status, body) = Caller::new()
            .post_json(&url, body.to_owned())
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!((200..300).contains(&status), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The status of a rule's subscription, as a node tells it.
    pub async fn rule(&self, node: usize, rule: &str) -> Value {
        let said = self.members[node].bus.api("/api/v1/subscriptions").await;
        let mut items = said["items"].as_array().unwrap().iter();
        let found = items.find(|item| item["rule"] == rule);
        found.cloned().unwrap_or_default()
    }
}

/// How often each event of a type has arrived.
pub fn arrived(sink: &Sink, ty: &str) -> BTreeMap<String, usize> {
    let mut arrived = BTreeMap::new();
    for event in sink.received() {
        if event.header("ce-type") == ty {
            *arrived.entry(event.header("ce-id").to_owned()).or_default() += 1;
        }
    }
    arrived
}

fn rules(sink: &str) -> String {
    format!(
        "sources:
  tick: {{ timer: {{ every: 1s }} }}
targets:
  sink: {{ http: {{ url: \"{sink}\" }}, delivery: {{ retry: {{ attempts: 1 }} }} }}
rules:
  ticks: {{ from: tick, to: sink }}
  good: {{ match: {{ type: [good] }}, to: sink, delivery: {{ order_by: $.subject }} }}
  bad: {{ match: {{ type: [bad] }}, to: sink, delivery: {{ order_by: $.subject }} }}
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_seen_and_done_from_any_node() {
    let takes_bad = Arc::new(AtomicBool::new(false));
    let takes = Arc::clone(&takes_bad);
    let sink = Sink::answering(move |event| {
        let is_bad = event.header("ce-type") == "bad" && !takes.load(Ordering::Relaxed);
        Answer::status(if is_bad { 400 } else { 200 })
    })
    .await;
    let mut nodes = Nodes::start(Engine::postgres().await, 3, 5, &rules(&sink.url())).await;
    nodes.spread().await;

    // Dead letters of all shards, from each node.
    nodes.send(0, "bad").await;
    for node in 0..3 {
        until("all dead letters are listed", async || {
            nodes.members[node].bus.dead().await.len() == SUBJECTS
        })
        .await;
    }
    takes_bad.store(true, Ordering::Relaxed);
    let redriven = nodes
        .post(2, "/api/v1/dead/redrive", r#"{"all":true}"#)
        .await;
    until(&format!("all of them arrive: {redriven}"), async || {
        arrived(&sink, "bad")
            .values()
            .filter(|times| **times == 2)
            .count()
            == SUBJECTS
    })
    .await;

    // Suspended on one node it is on all, wherever its events come from.
    let number = nodes.rule(0, "good").await["number"].as_u64().unwrap();
    let path = |lever: &str| format!("/api/v1/subscriptions/{number}/{lever}");
    nodes.post(1, &path("suspend"), "").await;
    nodes.send(2, "good").await;
    for node in 0..3 {
        let rule = nodes.rule(node, "good").await;
        assert_eq!(
            (&rule["pending"], &rule["activity"]),
            (&SUBJECTS.into(), &"suspended".into())
        );
    }
    assert!(arrived(&sink, "good").is_empty());
    nodes.post(0, &path("resume"), "").await;
    until("they arrive", async || {
        arrived(&sink, "good").len() == SUBJECTS
    })
    .await;

    // A replay goes through all shards.
    let body = r#"{"rule":"good"}"#;
    let replay = nodes.post(1, "/api/v1/replays", body).await;
    let id = replay["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{replay}"))
        .to_owned();
    until("the replay has ended", async || {
        let said = nodes.members[2].bus.api("/api/v1/replays").await;
        let mut items = said["items"].as_array().unwrap().iter();
        let own = items.find(|item| item["id"] == *id).unwrap();
        own["state"] == "finished" && own["made"] == SUBJECTS
    })
    .await;
    until("everything has arrived twice", async || {
        arrived(&sink, "good")
            .values()
            .filter(|times| **times == 2)
            .count()
            == SUBJECTS
    })
    .await;

    // What a node owned that is gone is missing, and said to be, until others have it.
    nodes.spread().await;
    let shards = nodes.members[0].shards().await;
    let own = |shard: &&Value| shard["owner"] == "node-1";
    let of_gone: Vec<Value> = shards
        .iter()
        .filter(own)
        .map(|one| one["shard"].clone())
        .collect();
    nodes.members[1].bus.kill();
    let missing = async || -> Value {
        let said = nodes.members[0].bus.api("/api/v1/subscriptions").await;
        said["incomplete"].clone()
    };
    assert_eq!(missing().await, Value::from(of_gone));
    nodes.next_owner(1).await;
    until("nothing is missing", async || missing().await.is_null()).await;
    for (rule, delivered, redriven) in [("good", 2, 0), ("bad", 1, 1)] {
        let of_each = |times: usize| Value::from(times * SUBJECTS);
        // What had arrived and was not noted before the kill arrives again.
        until("everything has ended, each once", async || {
            let counts = nodes.rule(2, rule).await;
            let is = |name: &str, times| counts[name] == of_each(times);
            is("created", 2) && is("delivered", delivered) && is("redriven", redriven)
        })
        .await;
    }

    // The timer goes on, wherever it is at home, and never fires twice for one time.
    let before = arrived(&sink, "com.pointsman.timer.fired").len();
    until("it goes on", async || {
        arrived(&sink, "com.pointsman.timer.fired").len() > before + 2
    })
    .await;
    let mut tasks: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for event in sink.received() {
        if event.header("ce-type") == "com.pointsman.timer.fired" {
            let task = event.header("pointsman-task").to_owned();
            tasks
                .entry(event.header("ce-id").to_owned())
                .or_default()
                .insert(task);
        }
    }
    assert!(tasks.values().all(|tasks| tasks.len() == 1), "{tasks:?}");
}
