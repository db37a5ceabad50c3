//! Three nodes on PostgreSQL with a synchronous standby beside one node with its own disk:
//! `cargo bench -p pointsman-integration-tests --bench cluster`.
//!
//! All of them are given the same events, whole way to a function that counts. Rates are the middle
//! ones of rounds in which both take turns, ratios those of pairs of one round; everything runs on
//! this machine, the engine too. After that: what an idle cluster takes. `-- keyed` or `-- paid` does
//! one of the two.
//!
//! `-- failover` kills nodes, and tells how long their shards are without an owner.
//!
//! `-- capped`, as root: more and more nodes, each with a twentieth of a core by a control group, so
//! that nodes are the limit and not the machine.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

#[expect(dead_code, reason = "there is no forwarder here")]
#[path = "end_to_end/servers.rs"]
mod servers;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;
use pointsman_integration_tests::load::{Amount, binary_request, median, run};
use pointsman_integration_tests::process::{Process, cpu_time};
use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::{PostgresPair, free_port};
use serde_json::Value;
use tokio::time::sleep;

const ROUNDS: usize = 3;
const NODES: usize = 3;
const EVENTS: u64 = 24_000;
/// How many nodes share a load that grows with them, and what part of a core each has, in percent.
const CAPPED: [usize; 4] = [1, 2, 4, 8];
const CAP: u32 = 5;
const CAPPED_EVENTS: u64 = 3_000;
const CAPPED_CALLERS: usize = 32;
/// How many callers wait for their answers at once: what waits together shares commits.
const CALLERS: [usize; 2] = [96, 384];
const IDLE: Duration = Duration::from_secs(10);
const SETTLED: Duration = Duration::from_secs(20);
/// Times to take over, in seconds, with each of which so many nodes are killed.
const TAKEOVERS: [u64; 2] = [10, 2];
const KILLS: usize = 10;

/// What is sent: events that stay on the node which takes them, and events with a key each, of which
/// most go on to another one.
const TYPES: [(&str, &str, &str); 2] = [
    ("paid", "order.paid", "events without a key"),
    ("keyed", "order.keyed", "events with a key each"),
];

struct Subject {
    name: &'static str,
    buses: Vec<Bus>,
    /// Of each round: events each second.
    rates: Vec<f64>,
    /// Microseconds of all nodes for each event, and of the engine.
    costs: Vec<f64>,
    engine: Vec<f64>,
}

impl Subject {
    fn new(name: &'static str, buses: Vec<Bus>) -> Self {
        Self {
            name,
            buses,
            rates: Vec::new(),
            costs: Vec::new(),
            engine: Vec::new(),
        }
    }

    fn cpu(&self) -> Duration {
        self.buses.iter().map(|bus| cpu_time(bus.pid())).sum()
    }

    /// Sends the events to all nodes alike, and waits until the last one has arrived.
    async fn measure(
        &mut self,
        (ty, events, callers): (&str, u64, usize),
        sink: &str,
        engine: &PostgresPair,
        counts: bool,
    ) {
        let before = arrived(sink).await;
        let (begin, cpu, engine_cpu) = (Instant::now(), self.cpu(), engine.cpu());
        let share = self.buses.len();
        let sent = join_all(self.buses.iter().map(async |bus| {
            let address = bus.url("").trim_start_matches("http://").to_owned();
            let amount = Amount::Requests(events / share as u64);
            let request = binary_request(&address, ty, 1_024);
            run(&address, &request, callers / share, amount)
                .await
                .answered
        }))
        .await;
        let sent: u64 = sent.into_iter().sum();
        assert_eq!(sent, events, "{} did not take everything", self.name);
        until("everything has arrived", async || {
            arrived(sink).await - before >= events
        })
        .await;
        if counts {
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
            self.rates
                .push(events as f64 / begin.elapsed().as_secs_f64());
            self.costs.push(micros(self.cpu() - cpu));
            self.engine.push(micros(engine.cpu() - engine_cpu));
        }
    }
}

/// How many events have arrived.
async fn arrived(sink: &str) -> u64 {
    let (_, body) = Caller::new().get(sink).await.expect("the sink answers");
    let number = String::from_utf8_lossy(&body).parse();
    number.expect("the sink tells a number")
}

/// The nodes of a cluster, once each owns its part of the shards.
async fn cluster(
    engine: &PostgresPair,
    name: &str,
    (nodes, takeover): (usize, u64),
    rules: &str,
) -> Vec<Bus> {
    let ports = engine
        .ports()
        .map(|port| format!("127.0.0.1:{port}"))
        .join(",");
    let mut buses = Vec::new();
    for number in 0..nodes {
        let mut bus = Bus::prepare("");
        bus.write_rules(&format!(
            "store: {{ path: ./store, log: {{ postgres: {{ url: \"postgres://postgres@{ports}/postgres\" }}, cluster: {name}, node: node-{number}, takeover: {takeover}s }} }}\n{rules}"
        ));
        bus.spawn();
        bus.ready().await;
        buses.push(bus);
    }
    spread(&buses, 0).await;
    buses
}

/// Waits until each of the nodes owns its part of the shards, as one of them says.
async fn spread(buses: &[Bus], says: usize) {
    let nodes = buses.len();
    until("the shards are spread", async || {
        let owners = owners(&buses[says]).await;
        let names = (0..nodes).map(|node| Value::from(format!("node-{node}")));
        let mut counts = names.map(|name| owners.iter().filter(|owner| **owner == name).count());
        counts.all(|count| (count + 1) * nodes > owners.len())
    })
    .await;
}

/// Who owns each shard, as a node says.
async fn owners(bus: &Bus) -> Vec<Value> {
    let said = bus.api("/api/v1/shards").await;
    let shards = said["items"].as_array().expect("it lists shards");
    shards.iter().map(|shard| shard["owner"].clone()).collect()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, port] = &arguments[..]
        && role == "sink"
    {
        return servers::sink(port.parse().expect("a port")).await;
    }
    let is_wanted = |name: &str| {
        let is_name = |one: &String| TYPES.iter().any(|(name, ..)| name == one);
        !arguments.iter().any(is_name) || arguments.iter().any(|one| one == name)
    };
    let port = free_port().to_string();
    let sink = format!("http://127.0.0.1:{port}/");
    let _sink = Process::in_role(&["sink", &port]);
    until("the sink listens", async || {
        Caller::new().get(&sink).await.is_ok()
    })
    .await;
    let rules = format!(
        "targets:\n  sink: {{ http: {{ url: \"{}\" }} }}\nrules:\n  paid: {{ match: {{ type: [order.paid] }}, to: sink }}\n  keyed: {{ match: {{ type: [order.keyed] }}, to: sink, delivery: {{ order_by: $.id }} }}\n",
        sink
    );
    let engine = PostgresPair::start().await;
    if arguments.iter().any(|one| one == "capped") {
        return capped(&engine, &sink, &rules).await;
    }
    if arguments.iter().any(|one| one == "failover") {
        return failover(&engine, &rules).await;
    }
    for (name, ty, what) in TYPES.into_iter().filter(|(name, ..)| is_wanted(name)) {
        let mut subjects = [
            Subject::new("one node", vec![Bus::start(&rules).await]),
            Subject::new(
                "three nodes",
                cluster(&engine, name, (NODES, TAKEOVERS[0]), &rules).await,
            ),
        ];
        println!(
            "{what:<28}{:>10}{:>12}{:>14}{:>8}",
            "events/s", "nodes µs", "engine µs", "ratio"
        );
        for callers in CALLERS {
            for round in 0..=ROUNDS {
                for subject in &mut subjects {
                    // The first round warms up.
                    subject
                        .measure((ty, EVENTS, callers), &sink, &engine, round > 0)
                        .await;
                }
            }
            tell(&mut subjects, callers);
        }
        let [_, nodes] = subjects;
        rest(&nodes, &engine).await;
        println!();
    }
}

/// Measures more and more nodes, each with its part of a core.
async fn capped(engine: &PostgresPair, sink: &str, rules: &str) {
    println!(
        "{:<28}{:>10}{:>12}{:>14}{:>8}",
        format!("nodes with {CAP} % of a core"),
        "events/s",
        "nodes µs",
        "engine µs",
        "ratio"
    );
    let mut one = None;
    for nodes in CAPPED {
        let buses = cluster(engine, &format!("of-{nodes}"), (nodes, TAKEOVERS[0]), rules).await;
        let mut subject = Subject::new("capped nodes", buses);
        let _caps: Vec<_> = subject.buses.iter().map(|bus| Cap::on(bus.pid())).collect();
        let events = CAPPED_EVENTS * nodes as u64;
        let load = ("order.paid", events, CAPPED_CALLERS * nodes);
        for round in 0..=ROUNDS {
            subject.measure(load, sink, engine, round > 0).await;
        }
        let rate = median(subject.rates);
        println!(
            "{nodes:<28}{rate:>10.0}{:>12.1}{:>14.1}{:>8.2}",
            median(subject.costs),
            median(subject.engine),
            rate / *one.get_or_insert(rate),
        );
    }
}

/// A control group that gives a process its part of a core.
struct Cap(PathBuf);

impl Cap {
    fn on(process: u32) -> Self {
        let first = Path::new("/sys/fs/cgroup/cpu");
        let parent = first.is_dir().then_some(first);
        let parent = parent.unwrap_or(Path::new("/sys/fs/cgroup"));
        let cap = Self(parent.join(format!("pointsman-{process}")));
        std::fs::create_dir(&cap.0).expect("root can make a control group");
        if cap.0.join("cpu.max").exists() {
            cap.write("cpu.max", &format!("{} 100000", CAP * 1_000));
        } else {
            cap.write("cpu.cfs_period_us", "100000");
            cap.write("cpu.cfs_quota_us", &(CAP * 1_000).to_string());
        }
        cap.write("cgroup.procs", &process.to_string());
        cap
    }

    fn write(&self, file: &str, value: &str) {
        std::fs::write(self.0.join(file), value).expect("root can set a control group");
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        // Whoever is in it lives on in its parent, and a group with nobody in it can be removed.
        let members = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let parent = self.0.parent().expect("it lies in another one");
        for member in members.lines() {
            let _ = std::fs::write(parent.join("cgroup.procs"), member);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Prints what was measured with so many callers, and forgets it.
fn tell(subjects: &mut [Subject; 2], callers: usize) {
    let alone = subjects[0].rates.clone();
    for subject in subjects {
        let rates = std::mem::take(&mut subject.rates);
        let pairs = rates.iter().zip(&alone).map(|(own, one)| own / one);
        println!(
            "{:<28}{:>10.0}{:>12.1}{:>14.1}{:>8.2}",
            format!("{}, {callers} callers", subject.name),
            median(rates.clone()),
            median(std::mem::take(&mut subject.costs)),
            median(std::mem::take(&mut subject.engine)),
            median(pairs.collect()),
        );
    }
}

/// What the cluster takes while nothing happens.
async fn rest(nodes: &Subject, engine: &PostgresPair) {
    // What was under way in the other nodes' stores comes to its end.
    sleep(SETTLED).await;
    let (cpu, engine_cpu) = (nodes.cpu(), engine.cpu());
    sleep(IDLE).await;
    let percent = |time: Duration| time.as_secs_f64() * 100.0 / IDLE.as_secs_f64();
    println!(
        "idle: the engine takes {:.1} % of a core, the nodes {:.1} %",
        percent(engine.cpu() - engine_cpu),
        percent(nodes.cpu() - cpu)
    );
}

/// Kills nodes, one after the other, each of which comes back.
/// How long ago a node heard another one last, in seconds.
async fn heard(bus: &Bus, other: &Value) -> f64 {
    let nodes = bus.api("/api/v1/nodes").await;
    let nodes = nodes["items"].as_array().expect("nodes");
    let other = nodes.iter().find(|node| node["name"] == *other);
    let ago = other.and_then(|node| node["heard_seconds_ago"].as_f64());
    ago.expect("it is known")
}

async fn failover(engine: &PostgresPair, rules: &str) {
    println!(
        "takeover    others own a killed node's shards after, from the least to the most (so long \
         before the kill had they heard it last)"
    );
    for takeover in TAKEOVERS {
        let name = format!("within-{takeover}");
        let mut buses = cluster(engine, &name, (NODES, takeover), rules).await;
        let mut took = Vec::new();
        for killed in (0..NODES).cycle().take(KILLS) {
            let name = Value::from(format!("node-{killed}"));
            let other = (killed + 1) % NODES;
            let heard = heard(&buses[other], &name).await;
            buses[killed].kill();
            let began = Instant::now();
            until("others own its shards", async || {
                let owners = owners(&buses[other]).await;
                let is_other = |owner: &Value| *owner != name && !owner.is_null();
                owners.iter().all(is_other)
            })
            .await;
            took.push((began.elapsed().as_secs_f64(), heard));
            buses[killed].spawn();
            buses[killed].ready().await;
            spread(&buses, other).await;
        }
        took.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let shown = took
            .iter()
            .map(|(took, heard)| format!("{took:.1} ({heard:.1})"));
        let took: Vec<_> = shown.collect();
        println!("{:<12}{} s", format!("{takeover} s"), took.join(", "));
    }
}
