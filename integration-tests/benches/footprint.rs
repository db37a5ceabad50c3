//! What a bus takes while nothing happens, and with a backlog of a million deliveries: memory, and
//! how long it takes to be ready again after a kill: `cargo bench -p pointsman-integration-tests
//! --bench footprint`.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::time::Instant;

use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::free_port;
use tokio::task::JoinSet;

const BACKLOG: usize = 1_000_000;
const EVENTS_PER_BATCH: usize = 500;
const CALLERS: usize = 4;

fn batch(first: usize) -> String {
    let events: Vec<String> = (first..first + EVENTS_PER_BATCH)
        .map(|id| format!(r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"order.paid","data":{{"total":{id}}}}}"#))
        .collect();
    format!("[{}]", events.join(","))
}

#[tokio::main]
async fn main() {
    // Nobody listens there: everything waits.
    let rules = format!(
        "targets:\n  down: {{ http: {{ url: \"http://127.0.0.1:{}/\" }} }}\nrules:\n  orders: {{ to: down }}\n",
        free_port()
    );
    let mut bus = Bus::start(&rules).await;
    println!("idle: {} MiB resident", bus.resident_mib());

    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let url = bus.url("/events");
        callers.spawn(async move {
            let caller = Caller::new();
            for first in (0..BACKLOG)
                .step_by(EVENTS_PER_BATCH)
                .skip(number)
                .step_by(CALLERS)
            {
                let headers = [("content-type", "application/cloudevents-batch+json")];
                let (status, _, body) = caller
                    .call(http::Method::POST, &url, &headers, batch(first))
                    .await
                    .expect("the bus answers");
                assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
            }
        });
    }
    callers.join_all().await;
    assert_eq!(
        bus.counts("orders").await.get("pending"),
        Some(&BACKLOG.into())
    );
    println!(
        "with a backlog of {BACKLOG} deliveries: {} MiB resident",
        bus.resident_mib()
    );

    bus.kill();
    let begin = Instant::now();
    bus.spawn();
    bus.ready().await;
    println!(
        "ready {:.2} s after the start that followed a kill",
        begin.elapsed().as_secs_f64()
    );
    until("the backlog is counted", async || {
        bus.counts("orders").await.get("pending") == Some(&BACKLOG.into())
    })
    .await;
    println!("started again with it: {} MiB resident", bus.resident_mib());
}
