//! A tenant has as many shards as its quota says, and has others once nothing of it waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use pointsman_integration_tests::bus::binary;
use pointsman_integration_tests::{Answer, Caller, Sink, until};
use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::engines::Engine;
use super::everywhere::{SUBJECTS, arrived};
use super::{Nodes, rules};

/// The rules of a tenant with so many shards.
fn of_acme(sink: &str, shards: usize) -> String {
    format!(
        "tenant: acme
quota: {{ shards: {shards} }}
sources:
  hook: {{ webhook: {{ path: /hooks/acme, signature: {{ none: {{}} }} }} }}
targets:
  function:
    http: {{ url: \"{sink}acme\" }}
    delivery: {{ retry: {{ attempts: 1000, backoff: {{ initial: 50ms, max: 200ms }} }} }}
rules:
  hooks: {{ from: hook, to: function, delivery: {{ order_by: $.subject }} }}
"
    )
}

/// Sends an event to the tenant by one of the nodes, and says whether it was taken in.
async fn hook(caller: &Caller, url: &str, subject: usize, number: usize) -> bool {
    let (id, subject) = (format!("{subject}-{number}"), format!("s{subject}"));
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", id.as_str()),
        ("ce-source", "/test"),
        ("ce-type", "hook"),
        ("ce-subject", subject.as_str()),
    ];
    let sent = caller.call(Method::POST, url, &headers, "x").await;
    sent.is_ok_and(|(status, ..)| (200..300).contains(&status))
}

impl Nodes {
    fn hooks(&self) -> Vec<String> {
        let hooks = self.members.iter();
        hooks.map(|one| one.bus.url("/hooks/acme")).collect()
    }

    /// Sends the tenant an event for each subject, by all nodes in turn.
    async fn send_hooks(&self, number: usize) {
        let (caller, urls) = (Caller::new(), self.hooks());
        for subject in 0..SUBJECTS {
            let url = &urls[subject % urls.len()];
            until("it is taken in", async || {
                hook(&caller, url, subject, number).await
            })
            .await;
        }
    }

    /// Proposes the rules of both tenants, and returns whether they are in force and what is said.
    async fn put_both(&self, sink: &str, shards: usize) -> (bool, String) {
        let bus = &self.members[0].bus;
        let (default, acme) = (bus.path("default.yml"), bus.path("acme.yml"));
        std::fs::write(&default, rules(sink)).unwrap();
        std::fs::write(&acme, of_acme(sink, shards)).unwrap();
        let mut command = Command::new(binary());
        command.args(["rules", "put", "--admin", &bus.admin_url("")]);
        let output = command.args([default, acme]).output().await.unwrap();
        let told = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    }

    /// How many deliveries wait in each shard in which any do, as their owners count them.
    async fn waiting_by_shard(&self) -> BTreeMap<String, u64> {
        let mut waiting = BTreeMap::new();
        for member in &self.members {
            let url = member.bus.admin_url("/metrics");
            let metrics = Caller::new().get(&url).await.unwrap().1;
            for line in String::from_utf8_lossy(&metrics).lines() {
                let line = line.strip_prefix("pointsman_cluster_shard_pending{shard=\"");
                let Some((shard, count)) = line.and_then(|line| line.split_once("\"} ")) else {
                    continue;
                };
                let count: u64 = count.parse().unwrap();
                if count > 0 {
                    *waiting.entry(shard.to_owned()).or_default() += count;
                }
            }
        }
        waiting
    }

    /// Waits until so many deliveries wait, and returns the shards that they are in.
    async fn waits_in(&self, count: usize) -> Vec<String> {
        let mut waiting = BTreeMap::new();
        until("all of them wait, and nothing else", async || {
            waiting = self.waiting_by_shard().await;
            waiting.values().sum::<u64>() == count as u64
        })
        .await;
        waiting.into_keys().collect()
    }
}

/// The events of a subject came in the order of their numbers, whatever came more than once.
fn came_in_order(sink: &Sink, subject: usize) -> bool {
    let mut numbers = Vec::new();
    for event in sink.received() {
        let (of, number) = event.header("ce-id").split_once('-').unwrap_or_default();
        if event.path == "/acme" && of == subject.to_string() {
            let number: usize = number.parse().unwrap();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    numbers.is_sorted()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_its_shards_and_has_others_once_nothing_of_it_waits() {
    let is_stuck = Arc::new(AtomicBool::new(true));
    let stuck = Arc::clone(&is_stuck);
    let sink = Sink::answering(move |event| {
        let is_refused = event.path == "/acme" && stuck.load(Ordering::Relaxed);
        Answer::status(if is_refused { 500 } else { 200 })
    })
    .await;
    let url = sink.url();
    let nodes = Nodes::start(Engine::postgres().await, 3, 6, &rules(&url)).await;
    nodes.spread().await;
    let (is_done, told) = nodes.put_both(&url, 1).await;
    assert!(is_done, "{told}");

    // What is stuck lies in one shard, and keeps nobody else.
    nodes.send_hooks(0).await;
    nodes.send(1, "other").await;
    until("what is another tenant's arrives", async || {
        arrived(&sink, "other").len() == SUBJECTS
    })
    .await;
    let first = nodes.waits_in(SUBJECTS).await;
    assert_eq!(first.len(), 1, "{first:?}");
    let said = nodes.members[2].bus.api("/api/v1/rules/version").await;
    let shard: u16 = first[0].parse().unwrap();
    let tenants = json!([{ "tenant": "acme", "shards": [shard] }]);
    assert_eq!(said["tenants"], tenants);

    // It has no others while that waits, and takes events again once that is said.
    let (is_done, told) = nodes.put_both(&url, 3).await;
    let why = format!("{SUBJECTS} deliveries of the tenant acme wait (of hooks)");
    assert!(!is_done && told.contains(&why), "{told}");
    nodes.send_hooks(1).await;
    assert_eq!(nodes.waits_in(2 * SUBJECTS).await, first);

    // Once it is delivered, under load.
    is_stuck.store(false, Ordering::Relaxed);
    nodes.waits_in(0).await;
    let mut senders = JoinSet::new();
    let goes_on = Arc::new(AtomicBool::new(true));
    for subject in 0..SUBJECTS {
        let (urls, goes_on) = (nodes.hooks(), Arc::clone(&goes_on));
        senders.spawn(async move {
            let (caller, mut number) = (Caller::new(), 2);
            while goes_on.load(Ordering::Relaxed) {
                let url = &urls[number % urls.len()];
                number += usize::from(hook(&caller, url, subject, number).await);
            }
            number
        });
    }
    until("the load is on", async || sink.arrived() > 10 * SUBJECTS).await;
    let (is_done, told) = nodes.put_both(&url, 3).await;
    assert!(is_done, "{told}\n{}", nodes.logs());
    let before = sink.arrived();
    until("it goes on", async || {
        sink.arrived() > before + 5 * SUBJECTS
    })
    .await;
    goes_on.store(false, Ordering::Relaxed);
    let last = senders.join_all().await.into_iter().max().unwrap();
    nodes.waits_in(0).await;
    for subject in 0..SUBJECTS {
        assert!(came_in_order(&sink, subject), "of {subject}");
    }

    is_stuck.store(true, Ordering::Relaxed);
    nodes.send_hooks(last).await;
    let now = nodes.waits_in(SUBJECTS).await;
    assert!(
        now.len() == 3 && now.contains(&first[0]),
        "{first:?}, {now:?}"
    );
}
