//! What traces cost the bus at full load: `cargo bench -p pointsman-integration-tests --bench
//! traces`.
//!
//! A bus for each setting, one rule, a function on loopback, and a collector in the process of the
//! benchmark. The settings take turns; ratios are those of pairs of one round.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

#[expect(dead_code, reason = "there is no forwarder here")]
#[path = "end_to_end/servers.rs"]
mod servers;

#[path = "end_to_end/rounds.rs"]
mod rounds;

use pointsman_integration_tests::Bus;
use pointsman_integration_tests::collector::Collector;
use tokio::net::TcpListener;

use self::rounds::{Measured, turns};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, port] = arguments.as_slice()
        && role == "sink"
    {
        return servers::sink(port.parse().expect("a port")).await;
    }
    let (_process, sink) = rounds::sink().await;
    let collector = Collector::start(0).await;
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let hanging = silent
        .local_addr()
        .expect("a bound listener has an address");
    let exported = |sample: &str, collector: &str| {
        format!("traces: {{ sample: {sample}, otlp: {{ endpoint: \"{collector}\" }} }}\n")
    };
    let settings = [
        ("nothing", String::new()),
        ("of 1 % of the events", exported("0.01", &collector.url())),
        ("of 1 %, and metrics each second", {
            let metrics = format!(
                "{{ interval: 1s, otlp: {{ endpoint: \"{}\" }} }}",
                collector.url()
            );
            exported("0.01", &collector.url()) + &format!("metrics: {metrics}\n")
        }),
        ("of all events", exported("1", &collector.url())),
        (
            "of 1 %, and the collector hangs",
            exported("0.01", &format!("http://{hanging}")),
        ),
    ];
    let mut measured = Vec::new();
    let mut buses = Vec::new();
    for (name, traces) in &settings {
        buses.push(Bus::start(&format!("{traces}{}", rounds::rules(&sink))).await);
        measured.push((*name, Measured::default()));
    }
    for round in 0..=rounds::rounds(buses.len()) {
        for turn in turns(round, buses.len()) {
            measured[turn].1.measure(round, &buses[turn], &sink).await;
        }
    }
    rounds::print("spans are exported", &measured);
    println!("{} spans were exported", collector.spans().len());
}
