//! What whoever listens costs the bus at full load: `cargo bench -p pointsman-integration-tests
//! --bench tap`.
//!
//! One bus, one rule, a function on loopback. Rounds with and without somebody who listens take
//! turns; ratios are those of pairs of one round.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

#[expect(dead_code, reason = "there is no forwarder here")]
#[path = "end_to_end/servers.rs"]
mod servers;

use std::time::Instant;

use pointsman_integration_tests::load::{Amount, binary_request, median, run};
use pointsman_integration_tests::process::{Process, cpu_time};
use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const ROUNDS: usize = 7;
const EVENTS: u64 = 30_000;
const CONNECTIONS: usize = 128;

/// Who listens: what is asked for, and whether it is read.
const LISTENERS: [(&str, &str, bool); 5] = [
    ("nobody", "", true),
    ("for a type that does not come", "?type=other", true),
    (
        "for events that a pattern never takes",
        "?pattern=%7B%22data%22%3A%7B%22total%22%3A%5B1%5D%7D%7D",
        true,
    ),
    ("to everything, 1,000 a second", "?rate=1000", true),
    ("to everything, and reads nothing", "?rate=10000", false),
];

#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    costs: Vec<f64>,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, port] = arguments.as_slice()
        && role == "sink"
    {
        return servers::sink(port.parse().expect("a port")).await;
    }
    let port = free_port();
    let sink = format!("http://127.0.0.1:{port}/");
    let _sink = Process::in_role(&["sink", &port.to_string()]);
    until("the sink listens", async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let rules = format!(
        "targets: {{ sink: {{ http: {{ url: \"{sink}\" }} }} }}\nrules: {{ orders: {{ match: {{ type: [order.paid] }}, to: sink }} }}\n"
    );
    let bus = Bus::start(&rules).await;
    let mut measured: Vec<Measured> = LISTENERS.iter().map(|_| Measured::default()).collect();
    for round in 0..=ROUNDS {
        for ((_, query, reads), measured) in LISTENERS.iter().zip(&mut measured) {
            let listener = listen(&bus, query, *reads).await;
            let (rate, cost) = measure(&bus, &sink).await;
            listener.abort();
            // The first round warms up.
            if round > 0 {
                measured.rates.push(rate);
                measured.costs.push(cost);
            }
        }
    }
    println!(
        "{:<44}{:>10}{:>10}{:>14}{:>14}",
        "who listens", "events/s", "CPU µs", "rate/nobody", "CPU/nobody"
    );
    let Some(nobody) = measured.first() else {
        return;
    };
    for ((name, ..), own) in LISTENERS.iter().zip(&measured) {
        println!(
            "{name:<44}{:>10.0}{:>10.1}{:>14.3}{:>14.3}",
            median(own.rates.clone()),
            median(own.costs.clone()),
            ratio(&own.rates, &nobody.rates),
            ratio(&own.costs, &nobody.costs),
        );
    }
}

fn ratio(own: &[f64], others: &[f64]) -> f64 {
    let pairs = own.iter().zip(others);
    median(pairs.map(|(own, other)| own / other).collect())
}

/// Listens until it is aborted; nobody does where nothing is asked for.
async fn listen(bus: &Bus, query: &str, reads: bool) -> JoinHandle<()> {
    if query.is_empty() {
        return tokio::spawn(async {});
    }
    let address = bus.admin_url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("the bus listens");
    let request = format!("GET /api/v1/tap{query} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("the bus reads");
    let mut buffer = vec![0; 64 * 1024];
    let read = stream.read(&mut buffer).await.expect("the bus answers");
    assert!(
        buffer
            .get(..read)
            .is_some_and(|head| head.starts_with(b"HTTP/1.1 200")),
        "the bus refuses"
    );
    tokio::spawn(async move {
        while !reads || stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            if !reads {
                std::future::pending::<()>().await;
            }
        }
    })
}

/// Sends the events, and waits until the last one is at the sink.
async fn measure(bus: &Bus, sink: &str) -> (f64, f64) {
    let address = bus.url("").trim_start_matches("http://").to_owned();
    let before = arrived(sink).await;
    let (begin, cpu) = (Instant::now(), cpu_time(bus.pid()));
    let request = binary_request(&address, "order.paid", 1_024);
    let sent = run(&address, &request, CONNECTIONS, Amount::Requests(EVENTS)).await;
    assert_eq!(sent.answered, EVENTS, "the bus did not take everything");
    until("everything is at the sink", async || {
        arrived(sink).await - before >= EVENTS
    })
    .await;
    let events = EVENTS as f64;
    let rate = events / begin.elapsed().as_secs_f64();
    (
        rate,
        (cpu_time(bus.pid()) - cpu).as_secs_f64() * 1e6 / events,
    )
}

async fn arrived(sink: &str) -> u64 {
    let (_, body) = Caller::new().get(sink).await.expect("the sink answers");
    String::from_utf8_lossy(&body)
        .parse()
        .expect("the sink tells a number")
}
