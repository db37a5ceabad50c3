//! Stores that go on without the log that they were copies of.

use std::path::Path;
use std::process::Output;

use pointsman_integration_tests::bus::binary;
use pointsman_integration_tests::{Answer, Sink, until};
use tokio::process::Command;

use super::Nodes;
use super::engines::Engine;
use super::everywhere::{SUBJECTS, arrived};

async fn store(action: &str, path: &Path) -> Output {
    let mut command = Command::new(binary());
    command.args(["store", action]).arg(path);
    command.output().await.unwrap()
}

/// The engine and its log are gone, and one node's disk is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_has_begins_the_log_of_another_engine() {
    const SHARDS: usize = 3;
    let sink = Sink::answering(|_| Answer::status(200)).await;
    let rules = format!(
        "targets:\n  sink: {{ http: {{ url: \"{}\" }} }}\nrules:\n  good: {{ match: {{ type: [good] }}, to: sink, delivery: {{ order_by: $.subject }} }}\n",
        sink.url()
    );
    let mut nodes = Nodes::start(Engine::postgres().await, 2, SHARDS, &rules).await;
    let number = nodes.rule(0, "good").await["number"].as_u64().unwrap();
    let path = |lever: &str| format!("/api/v1/subscriptions/{number}/{lever}");
    nodes.post(0, &path("suspend"), "").await;
    nodes.send(0, "good").await;

    // A store in use stays as it is.
    let folder = nodes.members[0].bus.path("store");
    let refused = store("detach", &folder).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("in use"),
        "{said}"
    );

    // The last one to stop has everything.
    nodes.follows(0).await;
    nodes.members[1].bus.terminate().await;
    nodes.next_owner(1).await;
    nodes.members[0].bus.terminate().await;
    let shown = store("show", &folder).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.matches("a whole copy").count(), SHARDS, "{shown}");
    let detached = store("detach", &folder).await;
    let said = String::from_utf8_lossy(&detached.stdout);
    assert!(detached.status.success(), "{detached:?}");
    assert!(said.contains("shards: 3"), "{said}");
    let shown = store("show", &folder).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.matches("its own").count(), SHARDS, "{shown}");

    // On its own it is not taken for a whole bus, nor for a part of one with more shards.
    let engine = Engine::postgres().await;
    let log = engine.settings(&engine.ports());
    let other = format!("log: {{ {log}, cluster: other, shards: 4, node: {{ env: NODE }} }}");
    for (log, told) in [
        (String::new(), "is shard 0 of 3 of a cluster"),
        (
            format!(", {other}"),
            " of 4 but that of a bus on one machine",
        ),
    ] {
        let bus = &mut nodes.members[0].bus;
        bus.write_rules(&format!("store: {{ path: ./store{log} }}\n{rules}"));
        bus.spawn();
        assert!(bus.try_ready().await.is_err());
        assert!(bus.log().contains(told), "{}", bus.log());
    }

    // That node first, then one with nothing.
    tokio::fs::remove_dir_all(nodes.members[1].bus.path("store"))
        .await
        .unwrap();
    for node in 0..2 {
        nodes.members[node].bus.write_rules(&format!(
            "store: {{ path: ./store, log: {{ {log}, shards: {SHARDS}, node: {{ env: NODE }}, takeover: 2s }} }}\n{rules}"
        ));
        nodes.members[node].bus.spawn();
        until("a node takes events", || nodes.members[node].is_ready()).await;
    }
    nodes.follows(1).await;
    let rule = nodes.rule(1, "good").await;
    assert_eq!(
        (&rule["pending"], &rule["activity"]),
        (&SUBJECTS.into(), &"suspended".into())
    );
    nodes.members[0].bus.kill();
    nodes.next_owner(0).await;
    nodes.post(1, &path("resume"), "").await;
    until("everything arrives", async || {
        arrived(&sink, "good").len() == SUBJECTS
    })
    .await;
}
