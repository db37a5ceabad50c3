//! Durable ingest against an axum server that answers at once: `cargo bench -p
//! pointsman-integration-tests --bench ingest`.
//!
//! Both run as processes of their own, take the same 1 KiB events over the same number of
//! connections from the same generator, in turn.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::fmt;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use pointsman_integration_tests::load::{Amount, binary_request, median, run};
use pointsman_integration_tests::process::{Process, cpu_time};
use pointsman_integration_tests::{Bus, until};
use pointsman_test_brokers::free_port;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

async fn answer_at_once(port: u16) {
    let app = Router::new().route(
        "/events",
        post(|body: Bytes| async move {
            if body.is_empty() {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::ACCEPTED
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("the port is free");
    axum::serve(listener, app).await.expect("the server serves");
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("answer-at-once") {
        let port = arguments
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        return answer_at_once(port).await;
    }
    let port = free_port();
    let process = Process::in_role(&["answer-at-once", &port.to_string()]);
    let axum = format!("127.0.0.1:{port}");
    until("axum listens", async || {
        tokio::net::TcpStream::connect(&axum).await.is_ok()
    })
    .await;
    let bus = Bus::start("rules: {}\n").await;
    let pointsman = bus.url("").trim_start_matches("http://").to_owned();

    for connections in [64, 256] {
        let (mut at_once, mut durable, mut ratios) =
            (Figures::default(), Figures::default(), Vec::new());
        for round in 0..=ROUNDS {
            let plain = measure(&axum, process.id(), connections).await;
            let stored = measure(&pointsman, bus.pid(), connections).await;
            // The first round warms up.
            if round > 0 {
                ratios.push(stored.0 / plain.0);
                at_once.push(plain);
                durable.push(stored);
            }
        }
        println!(
            "ingest, {connections} connections: axum answering at once {at_once}, pointsman after the sync {durable}, ratio {:.2}",
            median(ratios)
        );
    }
}

/// Events per second, and the server's processor time for each in microseconds.
async fn measure(address: &str, pid: u32, connections: usize) -> (f64, f64) {
    let before = cpu_time(pid);
    let measured = run(
        address,
        &binary_request(address, "bench.event", 1_024),
        connections,
        Amount::For(ROUND),
    )
    .await;
    assert!(measured.answered > 0, "{address} took nothing");
    let rate = measured.per_second();
    let events = rate * measured.elapsed.as_secs_f64();
    (rate, (cpu_time(pid) - before).as_secs_f64() * 1e6 / events)
}

/// What the rounds of one server came to.
#[derive(Default)]
struct Figures(Vec<f64>, Vec<f64>);

impl Figures {
    fn push(&mut self, (rate, cost): (f64, f64)) {
        self.0.push(rate);
        self.1.push(cost);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, cost) = (median(self.0.clone()), median(self.1.clone()));
        write!(f, "{rate:.0}/s at {cost:.1} µs of CPU")
    }
}
