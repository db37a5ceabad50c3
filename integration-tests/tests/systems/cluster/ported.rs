//! What a cluster holds, on one machine, and from there in a cluster of other shards.

use std::path::Path;
use std::process::Output;

use pointsman_integration_tests::bus::binary;
use pointsman_integration_tests::{Answer, Sink, until};
use tokio::process::Command;

use super::Nodes;
use super::engines::Engine;
use super::everywhere::{SUBJECTS, arrived};

async fn store(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(binary());
    command.arg("store").args(arguments).args(paths);
    command.output().await.unwrap()
}

/// Does it, and returns what it says.
async fn done(arguments: &[&str], paths: &[&Path]) -> String {
    let output = store(arguments, paths).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn refused(arguments: &[&str], paths: &[&Path], why: &str) {
    let output = store(arguments, paths).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{said}");
}

/// Of each subject one event of each type is there, and those came in the order of the types.
fn came_in_order(sink: &Sink, types: &[&str]) -> bool {
    let received = sink.received();
    let of = |ty: &str, subject: usize| {
        let id = format!("{ty}-{subject}");
        let mut events = received.iter();
        events.position(|event| event.header("ce-id") == id)
    };
    (0..SUBJECTS).all(|subject| {
        let places: Vec<_> = types.iter().map(|ty| of(ty, subject)).collect();
        places.is_sorted() && places.iter().all(Option::is_some)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_holds_goes_on_on_one_machine_and_in_other_shards() {
    let sink = Sink::answering(|event| match event.header("ce-type") {
        "bad" => Answer::status(400),
        _ => Answer::status(200),
    })
    .await;
    let rules = format!(
        "targets:\n  sink: {{ http: {{ url: \"{}\" }} }}\nrules:\n  good: {{ match: {{ type: [good, later, last] }}, to: sink, delivery: {{ order_by: $.subject }} }}\n  bad: {{ match: {{ type: [bad] }}, to: sink }}\n",
        sink.url()
    );
    let mut nodes = Nodes::start(Engine::postgres().await, 2, 4, &rules).await;
    let number = nodes.rule(0, "good").await["number"].as_u64().unwrap();
    let lever = |lever: &str| format!("/api/v1/subscriptions/{number}/{lever}");
    nodes.post(0, &lever("suspend"), "").await;
    for ty in ["good", "later", "bad"] {
        nodes.send(0, ty).await;
    }
    until("dead letters", async || {
        nodes.rule(0, "bad").await["dead"] == SUBJECTS
    })
    .await;
    let folder = nodes.members[0].bus.path("store");
    nodes.follows(0).await;
    nodes.members[1].bus.terminate().await;
    nodes.next_owner(1).await;
    nodes.members[0].bus.terminate().await;

    // A copy is detached first, and no bus runs on it.
    let lines = nodes.members[0].bus.path("lines");
    let output = ["export", "--output", lines.to_str().unwrap()];
    refused(&output, &[&folder], "store detach").await;
    done(&["detach"], &[&folder]).await;
    done(&output, &[&folder]).await;
    let one = nodes.members[0].bus.path("one");
    let told = done(&["import", "--json"], &[&lines, &one]).await;
    assert!(told.contains("\"from_shards\": 4"), "{told}");

    // One machine: nothing is missing, what comes again is known, and all of it arrives.
    let bus = &mut nodes.members[0].bus;
    bus.write_rules(&format!("store: {{ path: ./one }}\n{rules}"));
    bus.spawn();
    bus.ready().await;
    nodes.send(0, "later").await;
    let good = nodes.rule(0, "good").await;
    assert_eq!(
        (&good["pending"], &good["activity"]),
        (&(2 * SUBJECTS).into(), &"suspended".into())
    );
    assert_eq!(nodes.rule(0, "bad").await["dead"], SUBJECTS);
    let one_in_use = [one.as_path()];
    refused(&["export"], &one_in_use, "in use").await;
    nodes.post(0, &lever("resume"), "").await;
    until("everything arrives", async || {
        came_in_order(&sink, &["good", "later"])
    })
    .await;
    nodes.post(0, &lever("suspend"), "").await;
    nodes.send(0, "last").await;
    nodes.members[0].bus.terminate().await;

    // Another cluster, of three shards.
    let exported = done(&["export"], &[&one]).await;
    tokio::fs::write(&lines, exported).await.unwrap();
    let three = nodes.members[0].bus.path("three");
    done(&["import", "--shards", "3"], &[&lines, &three]).await;
    let engine = Engine::postgres().await;
    let log = engine.settings(&engine.ports());
    let bus = &mut nodes.members[0].bus;
    bus.write_rules(&format!(
        "store: {{ path: ./three, log: {{ {log}, shards: 3, node: {{ env: NODE }}, takeover: 2s }} }}\n{rules}"
    ));
    bus.spawn();
    until("the node takes events", || nodes.members[0].is_ready()).await;
    nodes.send(0, "last").await;
    assert_eq!(nodes.rule(0, "good").await["pending"], SUBJECTS);
    assert_eq!(nodes.rule(0, "bad").await["dead"], SUBJECTS);
    nodes.post(0, &lever("resume"), "").await;
    until("everything arrives", async || {
        came_in_order(&sink, &["good", "later", "last"])
    })
    .await;
    for ty in ["good", "later", "last"] {
        let came = arrived(&sink, ty);
        assert!(came.values().all(|times| *times == 1), "{came:?}");
    }
}
