//! The rules change on all nodes at one moment, or on none.

use std::process::Output;

use http::Method;
use pointsman_integration_tests::bus::{binary, signal};
use pointsman_integration_tests::{Caller, until};
use serde_json::{Value, json};
use tokio::process::Command;

use super::engines::Engine;
use super::jury::{Jury, Sender};
use super::{Nodes, rules};

/// A set of rules that differs from others by the name of a rule that takes nothing.
fn with_rule(sink: &str, name: &str) -> String {
    format!(
        "{}  {name}: {{ match: {{ type: [never] }}, to: sink }}\n",
        rules(sink)
    )
}

impl Nodes {
    /// What a node says of the versions of the rules; nothing where it cannot.
    async fn versions(&self, node: usize) -> Value {
        let url = self.members[node].bus.admin_url("/api/v1/rules/version");
        let Ok((200, body)) = Caller::new().get(&url).await else {
            return Value::Null;
        };
        serde_json::from_slice(&body).unwrap()
    }

    /// Whether the rules that a node works with are those with this one.
    async fn has_rule(&self, node: usize, name: &str) -> bool {
        let url = self.members[node].bus.admin_url("/api/v1/rules");
        let Ok((200, body)) = Caller::new().get(&url).await else {
            return false;
        };
        let rules: Value = serde_json::from_slice(&body).unwrap();
        let mut items = rules["items"].as_array().unwrap().iter();
        items.any(|rule| rule["name"] == name)
    }

    /// Waits until these nodes work with the rules that have this one, under this number.
    async fn work_with(&self, nodes: &[usize], name: &str, number: u64) {
        for node in nodes {
            until(&format!("node-{node} has {name}"), async || {
                self.has_rule(*node, name).await
            })
            .await;
        }
        until("each says so of itself", async || {
            let versions = self.versions(nodes[0]).await;
            let said = versions["nodes"].as_array().cloned().unwrap_or_default();
            let is_own = |one: &&Value| {
                nodes
                    .iter()
                    .any(|node| one["name"] == format!("node-{node}"))
            };
            let in_force: Vec<_> = said
                .iter()
                .filter(is_own)
                .map(|one| &one["in_force"])
                .collect();
            in_force.len() == nodes.len() && in_force.iter().all(|own| **own == json!(number))
        })
        .await;
        assert_eq!(self.versions(nodes[0]).await["in_force"]["number"], number);
    }

    /// Has a node's command propose rules.
    async fn put(&self, node: usize, rules: &str) -> (bool, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.putting(node, rules).output().await.unwrap();
        let told = [stdout, stderr].concat();
        (
            status.success(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    }

    fn putting(&self, node: usize, rules: &str) -> Command {
        let bus = &self.members[node].bus;
        let file = bus.path("proposed.yml");
        std::fs::write(&file, rules).unwrap();
        let mut command = Command::new(binary());
        command
            .args(["rules", "put", "--admin", &bus.admin_url("")])
            .arg(file);
        command
    }

    /// Waits until a node's page of rule files says this, and whether a change is refused with it.
    async fn shows(&self, node: usize, change: Option<&str>) {
        let url = self.members[node].bus.admin_url("/rules/files");
        until(&format!("node-{node} shows {change:?}"), async || {
            let Ok((200, page)) = Caller::new().get(&url).await else {
                return false;
            };
            let page = String::from_utf8_lossy(&page).into_owned();
            let refused = page.contains("have been changed, and that is not in force");
            refused == change.is_some() && change.is_none_or(|change| page.contains(change))
        })
        .await;
    }

    /// The nodes whose own files say something else, as a node tells it.
    async fn that_differ(&self, node: usize) -> Vec<String> {
        let versions = self.versions(node).await;
        let nodes = versions["nodes"].as_array().unwrap().iter();
        let differ = nodes.filter(|one| one["files_differ"] == true);
        differ
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_change_on_all_nodes_or_on_none() {
    let jury = Jury::start().await;
    let sink = jury.url();
    let mut nodes = Nodes::start(Engine::postgres().await, 3, 3, &rules(&sink)).await;
    let sender = Sender::start(&nodes.urls(), 8);
    nodes.work_with(&[0, 1, 2], "all", 1).await;
    assert!(nodes.that_differ(0).await.is_empty());

    // The file of one node changes.
    nodes.members[1].write(&with_rule(&sink, "second"));
    nodes.work_with(&[0, 1, 2], "second", 2).await;
    until("those of the others differ", async || {
        nodes.that_differ(1).await == ["node-0", "node-2"]
    })
    .await;

    // A mistake in a node's file is told by that node alone.
    nodes.members[1].write(&format!("{}  bad: {{ to: nowhere }}\n", rules(&sink)));
    nodes.shows(1, Some("nowhere")).await;
    nodes.shows(0, None).await;
    nodes.members[1].write(&with_rule(&sink, "second"));
    nodes.shows(1, None).await;

    // What nobody could work with is told before anybody is asked.
    let bad = format!("{}  bad: {{ to: nowhere }}\n", rules(&sink));
    let (is_done, told) = nodes.put(0, &bad).await;
    let line = bad.lines().count();
    assert!(
        !is_done && told.contains(&format!("proposed.yml:{line}:")),
        "{told}"
    );
    // Nor does a node take it that is asked without the command.
    let body = json!({ "files": [{ "name": "x.yaml", "text": bad }] }).to_string();
    let refused = nodes.proposal(0, &body).await;
    assert_eq!(
        (&refused["state"], &refused["node"]),
        (&json!("refused"), &json!("node-0"))
    );

    // What one node cannot work with no node does.
    let with_file = with_rule(&sink, "third").replace("X-Node", "X-Here: { file: ./here }, X-Node");
    for node in [0, 1] {
        std::fs::write(nodes.members[node].bus.path("here"), "x").unwrap();
    }
    let (is_done, told) = nodes.put(0, &with_file).await;
    assert!(!is_done && told.starts_with("node-2 cannot"), "{told}");
    assert!(
        told.contains("proposed.yml:3:") && told.contains("cannot read ./here"),
        "{told}"
    );
    for node in 0..3 {
        assert!(nodes.has_rule(node, "second").await && !nodes.has_rule(node, "third").await);
        until("each node was told why", async || {
            nodes.members[node]
                .bus
                .log()
                .contains("a node refuses the proposed rules")
        })
        .await;
        nodes.shows(node, Some("refused by the node node-2")).await;
    }
    std::fs::write(nodes.members[2].bus.path("here"), "x").unwrap();
    let (is_done, told) = nodes.put(2, &with_file).await;
    assert!(
        is_done && told == "version 4 is in force on node-0, node-1, node-2\n",
        "{told}"
    );
    nodes.work_with(&[0, 1, 2], "third", 4).await;
    nodes.shows(0, None).await;

    // A node that starts takes what is in force, whatever its files say.
    nodes.members[0].bus.terminate().await;
    nodes.next_owner(0).await;
    nodes.members[0].bus.spawn();
    until("it is ready", || nodes.members[0].is_ready()).await;
    nodes.work_with(&[0, 1, 2], "third", 4).await;
    until("the files of all differ", async || {
        nodes.that_differ(2).await == ["node-0", "node-1", "node-2"]
    })
    .await;
    let told = async |path: &str| {
        let url = nodes.members[0].bus.admin_url(path);
        let (status, body) = Caller::new().get(&url).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let (status, ready) = told("/readyz").await;
    assert!(
        status == 200 && ready.contains("rule files of this node differ"),
        "{ready}"
    );
    let (_, metrics) = told("/metrics").await;
    for line in [
        "pointsman_cluster_rules_version 4",
        "pointsman_cluster_rule_files_differ 1",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }

    let acknowledged = sender.stop().await;
    nodes.expect(&jury, &acknowledged).await;
    jury.judge();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_on_where_the_node_that_decides_is_killed() {
    let jury = Jury::start().await;
    let sink = jury.url();
    let mut nodes = Nodes::start(Engine::postgres().await, 3, 3, &rules(&sink)).await;
    for node in 0..3 {
        nodes.spared(node).await;
    }
    let sender = Sender::start(&nodes.urls(), 8);
    let owner = nodes.owner().await;
    let [paused, other] = [(owner + 1) % 3, (owner + 2) % 3];

    // As long as one node has not prepared it, it waits.
    signal(nodes.members[paused].bus.pid(), "STOP");
    jury.freeze(paused);
    let rules = with_rule(&sink, "second");
    let mut putting = nodes.putting(other, &rules);
    let putting = tokio::spawn(async move { putting.output().await });
    until("it is proposed", async || {
        nodes.versions(other).await["proposed"]["number"] == 2
    })
    .await;
    jury.freeze(owner);
    nodes.members[owner].bus.kill();
    signal(nodes.members[paused].bus.pid(), "CONT");
    nodes.next_owner(owner).await;
    jury.thaw();
    nodes.work_with(&[paused, other], "second", 2).await;
    let Output { stdout, stderr, .. } = putting.await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(told.starts_with("version 2 is in force on node-"), "{told}");

    nodes.members[owner].bus.spawn();
    nodes.work_with(&[0, 1, 2], "second", 2).await;
    let acknowledged = sender.stop().await;
    nodes.expect(&jury, &acknowledged).await;
    jury.judge();
}

impl Nodes {
    /// Proposes rules to a node over its API.
    async fn proposal(&self, node: usize, body: &str) -> Value {
        let url = self.members[node].bus.admin_url("/api/v1/rules/proposals");
        let json = [("content-type", "application/json")];
        let sent = Caller::new()
            .call(Method::POST, &url, &json, body.to_owned())
            .await;
        serde_json::from_slice(&sent.unwrap().2).unwrap()
    }
}
