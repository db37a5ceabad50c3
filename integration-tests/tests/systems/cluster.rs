//! Several nodes over one engine, from outside: whatever becomes of nodes, of the engine and of the
//! way between them, what was acknowledged arrives, in order, and never from two owners at once.

mod backlogs;
mod detached;
mod engines;
mod everywhere;
mod jury;
mod ported;
mod quotas;
mod several;
mod shares;
mod tenants;
mod trial;
mod versions;

use std::time::Duration;

use pointsman_integration_tests::bus::binary;
use pointsman_integration_tests::{Bus, Caller, Fault, Proxy, until};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use engines::Engine;
use jury::{Acknowledged, Jury, Sender};
use trial::{Blow, hold};

/// After how long a node takes over from one that has fallen silent.
const TAKEOVER: Duration = Duration::from_secs(2);

/// How long a node may take to say something of itself.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a takeover may take, on a machine that is busy with other tests.
const FAILOVER: Duration = Duration::from_secs(30);

/// A node, its way to each of the engine's servers, and the way of other nodes to it.
struct Member {
    bus: Bus,
    proxies: Vec<Proxy>,
    door: Proxy,
    /// What its rule file says of its store.
    store: String,
}

impl Member {
    /// Writes its rule file.
    fn write(&self, rules: &str) {
        self.bus.write_rules(&format!("{}{rules}", self.store));
    }

    async fn is_ready(&self) -> bool {
        let ready = Caller::new().get(&self.bus.admin_url("/readyz")).await;
        ready.is_ok_and(|(status, _)| status == 200)
    }

    /// Cuts it off from the engine without telling either side, or lets them reach each other again.
    fn cut(&self, is_cut: bool) {
        for proxy in &self.proxies {
            proxy.set(fault(is_cut));
        }
    }

    /// Cuts it off from the last of the engine's servers, likewise.
    fn cut_last(&self, is_cut: bool) {
        self.proxies.last().unwrap().set(fault(is_cut));
    }

    /// Cuts it off from what other nodes ask it, likewise.
    fn shut(&self, is_shut: bool) {
        self.door.set(fault(is_shut));
    }

    /// Has it own nothing while another one can, or ends that; returns what it says of itself.
    async fn drain(&self, draining: bool) -> Value {
        let url = self.bus.admin_url("/api/v1/nodes/drain");
        let body = json!({ "draining": draining }).to_string();
        let answer = Caller::new().post_json(&url, body).await;
        serde_json::from_slice(&answer.unwrap().1).unwrap()
    }

    /// What it says of the cluster's shards; nothing where it says nothing.
    async fn shards(&self) -> Vec<Value> {
        self.items("/api/v1/shards").await
    }

    /// What it lists there; nothing where it says nothing.
    async fn items(&self, path: &str) -> Vec<Value> {
        let url = self.bus.admin_url(path);
        let caller = Caller::new();
        let Ok(Ok((200, body))) = timeout(ANSWER, caller.get(&url)).await else {
            return Vec::new();
        };
        let said: Value = serde_json::from_slice(&body).unwrap();
        said["items"].as_array().cloned().unwrap_or_default()
    }
}

fn fault(is_cut: bool) -> Fault {
    if is_cut {
        Fault::BlackHole
    } else {
        Fault::None
    }
}

struct Nodes {
    engine: Engine,
    members: Vec<Member>,
    shards: usize,
}

/// The number of a node of this name.
fn number_of(name: &Value) -> Option<usize> {
    name.as_str()?.strip_prefix("node-")?.parse().ok()
}

impl Nodes {
    /// Starts so many nodes with the same rules but for what each has for itself.
    async fn start(engine: Engine, count: usize, shards: usize, rules: &str) -> Self {
        let mut members = Vec::new();
        for number in 0..count {
            let proxies: Vec<_> = engine.ports().into_iter().map(Proxy::start).collect();
            let mut bus = Bus::prepare("");
            bus.set_listen("deduplicate: { by: <$.id>, window: 10m }");
            bus.set_environment(vec![("NODE".to_owned(), format!("node-{number}"))]);
            let ports: Vec<_> = proxies.iter().map(Proxy::port).collect();
            let log = engine.settings(&ports);
            let door = Proxy::start(bus.admin_port());
            let store = format!(
                "store: {{ path: ./store, log: {{ {log}, shards: {shards}, node: {{ env: NODE }}, address: 127.0.0.1:{}, takeover: 2s }} }}\n",
                door.port()
            );
            let mut member = Member {
                bus,
                proxies,
                door,
                store,
            };
            member.write(rules);
            member.bus.spawn();
            members.push(member);
        }
        let nodes = Self {
            engine,
            members,
            shards,
        };
        nodes.owner().await;
        for member in &nodes.members {
            until("a node takes events", || member.is_ready()).await;
        }
        nodes
    }

    /// The node that owns the first shard, once all of them have an owner.
    async fn owner(&self) -> usize {
        self.next_owner(usize::MAX).await
    }

    /// Waits until nodes other than this one own all shards, and returns the one that owns the
    /// first.
    async fn next_owner(&self, but: usize) -> usize {
        let began = Instant::now();
        loop {
            for (number, member) in self.members.iter().enumerate() {
                if number == but {
                    continue;
                }
                let shards = member.shards().await;
                let owners = shards.iter().map(|shard| number_of(&shard["owner"]));
                let owners: Option<Vec<usize>> = owners.collect();
                match owners.as_deref() {
                    Some(owners @ [first, ..]) if !owners.contains(&but) => return *first,
                    _ => {}
                }
            }
            let is_late = began.elapsed() > FAILOVER;
            assert!(!is_late, "a shard has no owner:\n{}", self.logs());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a node has everything of each shard, and could take over those that it does not
    /// own.
    async fn follows(&self, number: usize) {
        let name = format!("node-{number}");
        until("a node has everything", async || {
            let shards = self.members[number].shards().await;
            let has = |shard: &Value| {
                let followers = shard["followers"].as_array().unwrap();
                let is_complete = |one: &Value| one["name"] == *name && one["complete"] == true;
                shard["owner"] == *name || followers.iter().any(is_complete)
            };
            shards.len() == self.shards && shards.iter().all(has)
        })
        .await;
    }

    /// Waits until all nodes say that every one of them owns its part of the shards: then none moves.
    async fn spread(&self) {
        let count = self.members.len();
        for member in &self.members {
            until("all nodes have their part", async || {
                let shards = member.shards().await;
                let owners = shards.iter().filter_map(|shard| number_of(&shard["owner"]));
                let mut owned = vec![0; count];
                owners.for_each(|owner| owned[owner] += 1);
                let part = self.shards / count..=self.shards.div_ceil(count);
                owned.iter().sum::<usize>() == self.shards
                    && owned.iter().all(|own| part.contains(own))
            })
            .await;
        }
    }

    /// Waits until a node says that each shard has an owner, and another one that could take it over.
    async fn spared(&self, number: usize) {
        until("each shard has a spare", async || {
            let shards = self.members[number].shards().await;
            let has = |shard: &Value| {
                let mut followers = shard["followers"].as_array().unwrap().iter();
                shard["owner"].is_string() && followers.any(|one| one["complete"] == true)
            };
            shards.len() == self.shards && shards.iter().all(has)
        })
        .await;
    }

    /// Waits until all of these have been delivered.
    async fn expect(&self, jury: &Jury, acknowledged: &[Acknowledged]) {
        let missing = jury.missing(acknowledged).await;
        if missing.is_empty() {
            return;
        }
        let owner = self.owner().await;
        let counts = self.members[owner].bus.api("/api/v1/subscriptions").await;
        panic!(
            "{missing:?} of {} are missing; node-{owner}: {counts}\n{}",
            acknowledged.len(),
            self.logs()
        );
    }

    fn urls(&self) -> Vec<String> {
        let url = |member: &Member| member.bus.url("/events");
        self.members.iter().map(url).collect()
    }

    fn logs(&self) -> String {
        let log = |member: &Member| format!("{}\n——\n", member.bus.log());
        self.members.iter().map(log).collect()
    }
}

fn rules(sink: &str) -> String {
    format!(
        "targets:
  sink:
    http: {{ url: \"{sink}\", headers: {{ X-Node: {{ env: NODE }} }} }}
    delivery:
      retry: {{ attempts: 100, backoff: {{ initial: 100ms, max: 1s }} }}
      timeout: 15s
      concurrency: {{ max: 512 }}
rules:
  all: {{ to: sink, delivery: {{ order_by: $.subject }} }}
"
    )
}

#[tokio::test]
async fn another_node_takes_over_with_everything() {
    let jury = Jury::start().await;
    jury.take(false);
    let mut nodes = Nodes::start(Engine::postgres().await, 2, 1, &rules(&jury.url())).await;
    let owner = nodes.owner().await;
    let spare = 1 - owner;
    nodes.follows(spare).await;
    // It is asked, and has the other one keep it.
    let sender = Sender::start(&nodes.urls()[spare..=spare], 1);
    until("some are acknowledged", async || sender.count() >= 20).await;
    let acknowledged = sender.stop().await;
    let counts = nodes.members[spare].bus.api("/api/v1/subscriptions").await;
    let pending = &counts["items"][0]["pending"];
    assert_eq!(*pending, acknowledged.len() as u64, "{counts}");

    nodes.members[owner].bus.kill();
    let began = Instant::now();
    assert_eq!(nodes.next_owner(owner).await, spare);
    let took = began.elapsed();
    assert!(
        took >= TAKEOVER / 2,
        "{took:?}: it did not wait for the other's silence"
    );
    jury.take(true);
    nodes.expect(&jury, &acknowledged).await;
    jury.judge();

    // The first one comes back with an old store, and takes over in its turn at once.
    nodes.members[owner].bus.spawn();
    nodes.follows(owner).await;
    nodes.members[spare].bus.terminate().await;
    assert_eq!(nodes.next_owner(spare).await, owner);
    until("it is ready", || nodes.members[owner].is_ready()).await;
    until("it counts as before", async || {
        let counts = nodes.members[owner].bus.api("/api/v1/subscriptions").await;
        counts["items"][0]["delivered"] == acknowledged.len() as u64
    })
    .await;
}

#[tokio::test]
async fn a_drained_node_gives_what_it_owns_to_another_and_takes_nothing_back() {
    let jury = Jury::start().await;
    let nodes = Nodes::start(Engine::postgres().await, 2, 1, &rules(&jury.url())).await;
    let owner = nodes.owner().await;
    let spare = 1 - owner;
    nodes.follows(spare).await;
    let sender = Sender::start(&nodes.urls(), 2);
    let admin = |number: usize, path: &str| nodes.members[number].bus.admin_url(path);
    let shard = async |number: usize| -> Value {
        let (_, body) = Caller::new()
            .get(&admin(number, "/api/v1/shards"))
            .await
            .unwrap();
        serde_json::from_slice::<Value>(&body).unwrap_or_default()["items"][0].clone()
    };
    let drain = async |number: usize, is_draining| nodes.members[number].drain(is_draining).await;
    let checked = Command::new(binary())
        .args(["check", "--connect", "pointsman.yaml"])
        .current_dir(nodes.members[owner].bus.path(""))
        .env("NODE", "another")
        .output()
        .await
        .unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    let log = checked
        .lines()
        .find(|line| line.starts_with("log "))
        .unwrap_or_default();
    for words in [
        "ok",
        "the log of cluster default is there",
        "synchronous_standby_names",
    ] {
        assert!(log.contains(words), "no {words} in {checked}");
    }
    // Both say the same.
    for number in [owner, spare] {
        until(
            "a node knows who owns the shard, and who follows",
            async || {
                let shard = shard(number).await;
                shard["owner"] == format!("node-{owner}")
                    && shard["followers"][0]["complete"] == true
            },
        )
        .await;
        let metrics = Caller::new()
            .get(&admin(number, "/metrics"))
            .await
            .unwrap()
            .1;
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        let owned = format!(
            "pointsman_cluster_shard_owned{{shard=\"0\"}} {}",
            u8::from(number == owner)
        );
        for line in [&*owned, "pointsman_cluster_nodes{state=\"alive\"} 2"] {
            assert!(metrics.contains(line), "no {line} in {metrics}");
        }
    }

    assert_eq!(drain(owner, true).await["state"], "draining");
    assert_eq!(nodes.next_owner(owner).await, spare);
    until("the drained node follows", async || {
        let shard = shard(spare).await;
        shard["owner"] == format!("node-{spare}") && shard["followers"][0]["complete"] == true
    })
    .await;
    // Nobody else is left to take it.
    drain(spare, true).await;
    let before = sender.count();
    until("events are taken", async || sender.count() > before + 20).await;
    assert!(nodes.members[spare].is_ready().await);
    assert_eq!(drain(spare, false).await["state"], "alive");
    drain(owner, false).await;
    let acknowledged = sender.stop().await;
    nodes.expect(&jury, &acknowledged).await;
    jury.judge();
    assert_eq!(nodes.owner().await, spare, "one shard stays where it is");
}

#[tokio::test]
async fn a_shard_whose_log_is_damaged_stops_alone() {
    let jury = Jury::start().await;
    let mut nodes = Nodes::start(Engine::postgres().await, 2, 3, &rules(&jury.url())).await;
    let sender = Sender::start(&nodes.urls(), 8);
    until("some are acknowledged", async || sender.count() >= 20).await;
    // None is on its way to it any more.
    until("it owns its part", async || {
        let shards = nodes.members[0].shards().await;
        shards.iter().any(|shard| shard["owner"] == "node-1")
    })
    .await;
    nodes.members[1].bus.terminate().await;
    nodes.next_owner(1).await;
    let Engine::Postgres(server, _) = &nodes.engine else {
        unreachable!("it was started");
    };
    let last = "SELECT max(place) FROM pointsman_default.log WHERE shard = 1";
    let delete = format!("DELETE FROM pointsman_default.log WHERE shard = 1 AND place = ({last})");
    server.ask(&delete);
    let before = sender.count();
    until("more are acknowledged", async || {
        sender.count() > before + 20
    })
    .await;

    // Who has to read that record comes no further with its shard, and works with the others.
    std::fs::remove_dir_all(nodes.members[1].bus.path("store")).unwrap();
    nodes.members[1].bus.spawn();
    until("it takes a shard over", async || {
        let shards = nodes.members[0].shards().await;
        let owners: Vec<_> = shards.iter().map(|shard| &shard["owner"]).collect();
        owners.len() == 3 && owners.contains(&&json!("node-1")) && *owners[1] == "node-0"
    })
    .await;
    // Between its spare's listener and its own it answers nobody.
    until("it says that it has not everything", async || {
        let shards = nodes.members[1].shards().await;
        let follower = shards.get(1).map(|shard| shard["followers"][0].clone());
        follower.is_some_and(|one| one["name"] == "node-1" && one["complete"] == false)
    })
    .await;
    let log = nodes.members[1].bus.log();
    assert!(
        log.contains("record") && log.contains("goes on with the others"),
        "{log}"
    );
    let before = sender.count();
    until("all go on", async || sender.count() > before + 20).await;
    let acknowledged = sender.stop().await;
    nodes.expect(&jury, &acknowledged).await;
    jury.judge();
}

/// What becomes of nodes where nobody has asked for more.
const BLOWS: &[Blow] = &[
    Blow::Empty,
    Blow::Pause,
    Blow::Cut,
    Blow::Apart,
    Blow::Stop,
    Blow::Drain,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_postgresql_whatever_goes_wrong() {
    hold(Engine::postgres().await, 2, 4, BLOWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_nats_whatever_goes_wrong() {
    hold(Engine::nats().await, 3, 4, BLOWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_standby_of_postgresql_takes_over() {
    hold(Engine::pair().await, 2, 1, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_servers_of_nats_fail() {
    hold(Engine::three().await, 3, 3, &[]).await;
}
