//! Nodes over several engines: whatever becomes of one of them, nothing is lost; and each is kept in
//! its place.

use pointsman_integration_tests::bus::binary;
use pointsman_integration_tests::{Caller, until};
use pointsman_test_brokers::PostgresServer;
use serde_json::json;
use tokio::process::Command;

use super::engines::Engine;
use super::jury::{Jury, Sender};
use super::trial::{Blow, hold};
use super::{Nodes, rules};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_postgresql_and_nats_whatever_goes_wrong() {
    hold(Engine::both().await, 3, 6, &[Blow::Half, Blow::Empty]).await;
}

/// What a command says on either output, and whether it has succeeded.
async fn run(nodes: &Nodes, arguments: &[&str]) -> (bool, String) {
    let done = Command::new(binary())
        .args(arguments)
        .current_dir(nodes.members[0].bus.path(""))
        .env("NODE", "another")
        .output()
        .await
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[tokio::test]
async fn engines_are_shown_and_kept_in_their_places() {
    let jury = Jury::start().await;
    let mut nodes = Nodes::start(Engine::both().await, 1, 3, &rules(&jury.url())).await;
    let sender = Sender::start(&nodes.urls(), 8);
    until("some are acknowledged", async || sender.count() >= 40).await;
    let shards = nodes.members[0].shards().await;
    let engines: Vec<_> = shards.iter().map(|shard| &shard["engine"]).collect();
    assert_eq!(engines, [&json!(1), &json!(2), &json!(1)]);
    assert!(shards.iter().all(|shard| shard["place"] != 0), "{shards:?}");
    let admin = nodes.members[0].bus.admin_url("");
    let (_, shown) = run(&nodes, &["shards", "--admin", &admin]).await;
    let row: Vec<_> = shown.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["1", "2", "node-0"], "{shown}");
    let metrics = nodes.members[0].bus.admin_url("/metrics");
    let metrics = Caller::new().get(&metrics).await.unwrap().1;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    for engine in [1, 2] {
        let heard = format!("pointsman_cluster_engine_heard_seconds{{engine=\"{engine}\"}} ");
        let heard = metrics.lines().find_map(|line| line.strip_prefix(&heard));
        let heard: f64 = heard.unwrap().parse().unwrap();
        assert!(heard < 1.0, "{heard}");
    }

    let check = ["check", "--connect", "pointsman.yaml"];
    let (_, said) = run(&nodes, &check).await;
    let of_log = |said: &str| -> Vec<String> {
        let lines = said.lines().filter(|line| line.starts_with("log "));
        lines.map(str::to_owned).collect()
    };
    let found = of_log(&said);
    assert_eq!(found.len(), 2, "{said}");
    for (line, engine) in found
        .iter()
        .zip(["engine 1 (postgres): ", "engine 2 (nats): "])
    {
        assert!(line.contains(engine), "{said}");
        assert!(
            line.contains("the log of cluster default is there"),
            "{said}"
        );
    }
    // In another order neither is what it was.
    nodes.members[0].bus.terminate().await;
    let store = nodes.members[0].store.clone();
    let (before, after) = store.split_once("engines: [").unwrap();
    let (engines, after) = after.split_once(']').unwrap();
    let (first, second) = engines.split_once(", { nats").unwrap();
    nodes.members[0].store = format!("{before}engines: [{{ nats{second}, {first}]{after}");
    nodes.members[0].write(&rules(&jury.url()));
    let (_, said) = run(&nodes, &check).await;
    for line in of_log(&said) {
        assert!(
            line.contains("failed") && line.contains("in the order that they had"),
            "{said}"
        );
    }
    let (has_run, said) = run(&nodes, &["run", "pointsman.yaml"]).await;
    assert!(!has_run && said.contains("engine 1 (nats): "), "{said}");
    assert!(said.contains("and it is listed as number 1"), "{said}");
    // Nor is it made anew in an engine that has nothing of it.
    let empty = PostgresServer::start("").await;
    let url = format!("postgres: {{ url: \"{}\" }}", empty.url());
    nodes.members[0].store = format!("{before}engines: [{first}, {{ {url} }}]{after}");
    nodes.members[0].write(&rules(&jury.url()));
    let (_, said) = run(&nodes, &check).await;
    let missing = "engine 2 (postgres): the cluster default has no log in this engine";
    assert!(of_log(&said)[1].contains(missing), "{said}");
    let (has_run, said) = run(&nodes, &["run", "pointsman.yaml"]).await;
    assert!(!has_run && said.contains(missing), "{said}");
    // One of them alone is not all of it.
    nodes.members[0].store = format!("{before}{}{after}", &first[2..first.len() - 2]);
    nodes.members[0].write(&rules(&jury.url()));
    let (has_run, said) = run(&nodes, &["run", "pointsman.yaml"]).await;
    assert!(
        !has_run && said.contains("in 2 engines, of which this is one"),
        "{said}"
    );
    // As it was it goes on.
    nodes.members[0].store = store;
    nodes.members[0].write(&rules(&jury.url()));
    nodes.members[0].bus.spawn();
    let before = sender.count();
    until("more are acknowledged", async || {
        sender.count() > before + 20
    })
    .await;
    let acknowledged = sender.stop().await;
    nodes.expect(&jury, &acknowledged).await;
    jury.judge();
}
