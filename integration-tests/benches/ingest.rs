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

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use pointsman_integration_tests::load::{Amount, Measured, binary_request, median, run};
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

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
    let own = std::env::current_exe().expect("a benchmark knows its own path");
    let _axum = Process(
        Command::new(own)
            .args(["answer-at-once", &port.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("it can be started"),
    );
    let axum = format!("127.0.0.1:{port}");
    until("axum listens", async || {
        tokio::net::TcpStream::connect(&axum).await.is_ok()
    })
    .await;
    let bus = Bus::start("rules: {}\n").await;
    let pointsman = bus.url("").trim_start_matches("http://").to_owned();

    for connections in [64, 256] {
        let (mut at_once, mut durable, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let measure = async |address: &str| -> Measured {
                let measured = run(
                    address,
                    &binary_request(address, "bench.event", 1_024),
                    connections,
                    Amount::For(ROUND),
                )
                .await;
                assert!(measured.answered > 0, "{address} took nothing");
                measured
            };
            let (plain, stored) = (
                measure(&axum).await.per_second(),
                measure(&pointsman).await.per_second(),
            );
            // The first round warms up.
            if round > 0 {
                at_once.push(plain);
                durable.push(stored);
                ratios.push(stored / plain);
            }
        }
        println!(
            "ingest, {connections} connections: axum answering at once {:.0}/s, pointsman after the sync {:.0}/s, ratio {:.2}",
            median(at_once),
            median(durable),
            median(ratios)
        );
    }
}
