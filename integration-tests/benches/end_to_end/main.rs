//! The whole way of an event, counted at the function that is called, beside a forwarder that
//! stores nothing and beside Benthos: `cargo bench -p pointsman-integration-tests --bench
//! end_to_end`.
//!
//! Function, forwarder and buses are processes of their own; the generator, the events and the
//! number of connections are the same. Rates and processor time are the middle ones of rounds in
//! which all take turns, ratios those of pairs of one round.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

mod benthos;
mod delay;
mod servers;

use std::fmt::Write as _;
use std::process::Command;
use std::time::Instant;

use pointsman_integration_tests::load::{Amount, binary_request, median, run};
use pointsman_integration_tests::process::{Process, cpu_time};
use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::free_port;

use self::servers::{forward, sink};

const ROUNDS: usize = 5;
const EVENTS: u32 = 30_000;
const CONNECTIONS: u32 = 128;

/// What is measured: a server that takes events and pushes them to the sink.
struct Subject {
    name: String,
    address: String,
    pid: u32,
    /// Of each round.
    rates: Vec<f64>,
    /// Processor time for each event, in microseconds.
    costs: Vec<f64>,
}

impl Subject {
    fn new(name: impl Into<String>, address: &str, pid: u32) -> Self {
        Self {
            name: name.into(),
            address: address.to_owned(),
            pid,
            rates: Vec::new(),
            costs: Vec::new(),
        }
    }

    /// Sends the events, and waits until the last one is at the sink.
    async fn measure(&self, sink: &str) -> (f64, f64) {
        let before = arrived(sink).await;
        let (begin, cpu) = (Instant::now(), cpu_time(self.pid));
        let sent = run(
            &self.address,
            &binary_request(&self.address, "order.paid", 1_024),
            CONNECTIONS as usize,
            Amount::Requests(u64::from(EVENTS)),
        )
        .await;
        assert_eq!(
            sent.answered,
            u64::from(EVENTS),
            "{} did not take everything",
            self.name
        );
        until("everything is at the sink", async || {
            arrived(sink).await - before >= u64::from(EVENTS)
        })
        .await;
        let events = f64::from(EVENTS);
        let rate = events / begin.elapsed().as_secs_f64();
        let cost = (cpu_time(self.pid) - cpu).as_secs_f64() * 1e6 / events;
        (rate, cost)
    }

    /// Its line of the table, with the ratios to each of the others.
    fn line(&self, others: &[&Self]) -> String {
        let mut line = format!(
            "{:<44}{:>10.0}{:>10.1}",
            self.name,
            median(self.rates.clone()),
            median(self.costs.clone())
        );
        for other in others {
            let pairs = self.rates.iter().zip(&other.rates);
            let ratios: Vec<_> = pairs.map(|(own, other)| own / other).collect();
            let _ = write!(line, "{:>16.2}", median(ratios));
        }
        line
    }
}

async fn arrived(sink: &str) -> u64 {
    let (_, body) = Caller::new().get(sink).await.expect("the sink answers");
    String::from_utf8_lossy(&body)
        .parse()
        .expect("the sink tells a number")
}

fn rules(sink: &str, count: usize) -> String {
    let mut text = format!(
        "targets:\n  sink: {{ http: {{ url: \"{sink}\" }} }}\nrules:\n  orders:\n    match: {{ type: [order.paid] }}\n    to: sink\n"
    );
    for number in 1..count {
        let _ = writeln!(
            text,
            "  other-{number}:\n    match: {{ type: [other.{number}], data: {{ customer: [{{ prefix: c-{number} }}] }} }}\n    to: sink"
        );
    }
    text
}

async fn listens(what: &str, address: &str) {
    until(&format!("{what} listens"), async || {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let port = |text: &str| text.parse().expect("a port");
    match *arguments.as_slice() {
        ["sink", own] => return sink(port(own)).await,
        ["forward", own, to] => return forward(port(own), to.to_owned()).await,
        _ => {}
    }
    compare().await;
}

async fn compare() {
    let (sink_port, forward_port, benthos_port) = (free_port(), free_port(), free_port());
    let sink = format!("http://127.0.0.1:{sink_port}/");
    let forwarder = format!("127.0.0.1:{forward_port}");
    let _sink = Process::in_role(&["sink", &sink_port.to_string()]);
    let forward = Process::in_role(&["forward", &forward_port.to_string(), &sink]);
    listens("the sink", &format!("127.0.0.1:{sink_port}")).await;
    listens("the forwarder", &forwarder).await;
    let buses = [
        Bus::start(&rules(&sink, 1)).await,
        Bus::start(&rules(&sink, 1_000)).await,
    ];
    let mut subjects = vec![Subject::new(
        "a forwarder that stores nothing",
        &forwarder,
        forward.id(),
    )];
    for (bus, count) in buses
        .iter()
        .zip(["1 rule", "1,000 rules, one of which matches"])
    {
        let address = bus.url("").trim_start_matches("http://").to_owned();
        let name = format!("pointsman, {count}");
        subjects.push(Subject::new(name, &address, bus.pid()));
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let benthos = benthos::build().map(|binary| {
        let file = benthos::configure(folder.path(), benthos_port, &sink, CONNECTIONS);
        Process::start(Command::new(binary).arg("-c").arg(file))
    });
    match &benthos {
        Ok(process) => {
            let address = format!("127.0.0.1:{benthos_port}");
            listens("Benthos", &address).await;
            let name = format!("Benthos {}, which stores nothing", benthos::VERSION);
            subjects.push(Subject::new(name, &address, process.id()));
        }
        Err(why) => println!("without Benthos: {why}"),
    }

    for round in 0..=ROUNDS {
        for subject in &mut subjects {
            let (rate, cost) = subject.measure(&sink).await;
            // The first round warms up.
            if round > 0 {
                subject.rates.push(rate);
                subject.costs.push(cost);
            }
        }
    }
    print_table(&subjects, benthos.is_ok());
    let half = subjects
        .get(1)
        .map_or(0.0, |ours| median(ours.rates.clone()))
        / 2.0;
    if let [forwarder, ours, ..] = subjects.as_slice() {
        delay::compare(&forwarder.address, &ours.address, &sink, half).await;
    }
}

fn print_table(subjects: &[Subject], with_benthos: bool) {
    let others: Vec<_> = subjects
        .first()
        .into_iter()
        .chain(subjects.last().filter(|_| with_benthos))
        .collect();
    let of_benthos = if with_benthos { "rate/Benthos" } else { "" };
    println!(
        "{:<44}{:>10}{:>10}{:>16}{of_benthos:>16}",
        format!("events of 1 KiB on {CONNECTIONS} connections"),
        "events/s",
        "CPU µs",
        "rate/forwarder"
    );
    for subject in subjects {
        println!("{}", subject.line(&others));
    }
}
