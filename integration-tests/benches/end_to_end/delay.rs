//! How long events are on their way at half of the greatest load, beside a bare fdatasync.

use std::io::Write;
use std::time::{Duration, Instant};

use pointsman_integration_tests::load::{binary_request, paced, quantile};
use pointsman_integration_tests::{Caller, until};

const CONNECTIONS: u32 = 64;
const TIME: Duration = Duration::from_secs(10);

/// What is written before each sync: about what an event of 1 KiB takes in a store.
const WRITTEN_BYTES: usize = 4_096;
const SYNCS: usize = 1_000;

/// Prints how long events take to the sink through the forwarder and through the bus, in
/// milliseconds, and how that compares with syncing a file.
pub async fn compare(forwarder: &str, bus: &str, sink: &str, per_second: f64) {
    let sync = syncs();
    let (plain, ours) = (
        delays(forwarder, sink, per_second).await,
        delays(bus, sink, per_second).await,
    );
    println!();
    println!("at {per_second:.0} events/s, half of that:             p50 ms    p99 ms");
    for (name, figures) in [
        ("a bare fdatasync", &sync),
        ("to the function through the forwarder", &plain),
        ("to the function through pointsman", &ours),
    ] {
        println!(
            "{name:<44}{:>10.2}{:>10.2}",
            quantile(figures.clone(), 0.5),
            quantile(figures.clone(), 0.99)
        );
    }
    let p99 = |figures: &[f64]| quantile(figures.to_vec(), 0.99);
    println!(
        "p99 that pointsman adds, of the p99 of an fdatasync: {:.2}",
        (p99(&ours) - p99(&plain)) / p99(&sync)
    );
}

/// How long it takes to have a few kilobytes more of a file on disk, in milliseconds.
fn syncs() -> Vec<f64> {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    let mut sync = || {
        let begin = Instant::now();
        file.write_all(&[0; WRITTEN_BYTES])
            .expect("it can be written");
        file.sync_data().expect("it can be synced");
        begin.elapsed().as_secs_f64() * 1e3
    };
    (0..SYNCS).map(|_| sync()).collect()
}

/// How long each event of a paced load was on its way to the sink, in milliseconds.
async fn delays(address: &str, sink: &str, per_second: f64) -> Vec<f64> {
    let caller = Caller::new();
    let told = async || -> Vec<f64> {
        let url = format!("{sink}delays");
        let (_, body) = caller.get(&url).await.expect("the sink answers");
        String::from_utf8_lossy(&body)
            .lines()
            .map(|micros| micros.parse::<f64>().expect("a number") / 1e3)
            .collect()
    };
    told().await;
    let request = binary_request(address, "order.paid", 1_024);
    let sent = paced(address, &request, CONNECTIONS, per_second, TIME).await;
    let mut delays = Vec::new();
    until("everything is at the sink", async || {
        delays.extend(told().await);
        delays.len() as u64 >= sent.answered
    })
    .await;
    delays
}
