//! One load at a bus, a rule and a function on loopback, in rounds in which settings take turns;
//! ratios are those of pairs of one round.

use std::time::Instant;

use pointsman_integration_tests::load::{Amount, binary_request, median, run};
use pointsman_integration_tests::process::{Process, cpu_time};
use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::free_port;
use tokio::net::TcpStream;

/// Few, so that what is compared stands close together: a machine's speed drifts within seconds.
const EVENTS: u64 = 10_000;
const CONNECTIONS: usize = 128;

/// In so many rounds each of so many settings is six times at each place of a round.
pub const fn rounds(settings: usize) -> usize {
    6 * settings
}

/// The order of so many settings in a round: none stays at its place, and each follows another one
/// in every second of so many rounds.
pub fn turns(round: usize, settings: usize) -> impl Iterator<Item = usize> {
    (0..settings).map(move |place| match (round / settings) % 2 {
        0 => (place + round) % settings,
        _ => (settings + round - place) % settings,
    })
}

/// What was measured of one setting.
#[derive(Default)]
pub struct Measured {
    rates: Vec<f64>,
    costs: Vec<f64>,
}

impl Measured {
    /// Measures it in one round, of which the first warms up.
    pub async fn measure(&mut self, round: usize, bus: &Bus, sink: &str) {
        let (rate, cost) = measure(bus, sink).await;
        if round > 0 {
            self.rates.push(rate);
            self.costs.push(cost);
        }
    }
}

/// A function in a process of its own, which counts what is posted, and its address. The benchmark
/// is that process where its first argument is `sink`.
pub async fn sink() -> (Process, String) {
    let port = free_port();
    let process = Process::in_role(&["sink", &port.to_string()]);
    until("the sink listens", async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    (process, format!("http://127.0.0.1:{port}/"))
}

/// The rules of a bus that sends what is measured to the sink.
pub fn rules(sink: &str) -> String {
    format!(
        "targets: {{ sink: {{ http: {{ url: \"{sink}\" }} }} }}\nrules: {{ orders: {{ match: {{ type: [order.paid] }}, to: sink }} }}\n"
    )
}

/// Prints what was measured of each setting, the first of which the others are compared with.
pub fn print(what: &str, named: &[(&str, Measured)]) {
    println!(
        "{what:<44}{:>10}{:>10}{:>14}{:>14}",
        "events/s", "CPU µs", "rate/first", "CPU/first"
    );
    let Some((_, first)) = named.first() else {
        return;
    };
    for (name, own) in named {
        println!(
            "{name:<44}{:>10.0}{:>10.1}{:>14.3}{:>14.3}",
            median(own.rates.clone()),
            median(own.costs.clone()),
            ratio(&own.rates, &first.rates),
            ratio(&own.costs, &first.costs),
        );
    }
}

fn ratio(own: &[f64], others: &[f64]) -> f64 {
    let pairs = own.iter().zip(others);
    median(pairs.map(|(own, other)| own / other).collect())
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
