//! How much those who hang or flood cost the others, over real sockets: one bus with its store on
//! disk, 10,000 rules, and as many endpoints, which are the loopback addresses of one process.
//! `cargo bench -p pointsman-integration-tests --bench isolation`.
//!
//! Figures are ratios of 99th percentiles of how long events are on their way, from when they were
//! to be sent to their arrival at the endpoint. With and without what is in the way take turns.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

mod endpoints;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use pointsman_integration_tests::load::{binary_request, median, paced_in_turn, quantile};
use pointsman_integration_tests::process::Process;
use pointsman_integration_tests::{Bus, Caller, until_within};
use pointsman_test_brokers::free_port;
use serde_json::Value;

/// Rules, each with an endpoint of its own.
const RULES: u32 = 10_000;

/// One in so many endpoints takes what it is sent and never answers.
const BLACK_HOLED_OF: u32 = 100;

/// Events in a second over all rules: a few hundredths of what two quiet cores take.
const PER_SECOND: f64 = 1_000.0;

/// Rules beside the one that is flooded, which get as much together.
const NEIGHBOURS: u32 = 100;

const CONNECTIONS: u32 = 16;
const EVENT_BYTES: usize = 512;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(20);

const GOAL_BLACK_HOLES: f64 = 1.2;
const GOAL_FLOOD: f64 = 2.0;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, port] = arguments.as_slice()
        && role == "endpoints"
    {
        return endpoints::serve(port.parse().expect("a port")).await;
    }
    let port = free_port();
    let _endpoints = Process::in_role(&["endpoints", &port.to_string()]);
    let bench = Bench {
        bus: Bus::start(&rules(port)).await,
        control: format!("http://127.0.0.1:{port}"),
    };
    // Every connection is made, and every queue known.
    let all: Vec<u32> = (0..RULES).collect();
    bench.measure(&all, PER_SECOND, |_| true).await;
    bench.black_holes(&all).await;
    bench.flood().await;
}

fn rules(port: u16) -> String {
    let mut text = "targets:\n".to_owned();
    for number in 0..RULES {
        let address = endpoints::address(number);
        let _ = writeln!(
            text,
            "  t{number}: {{ http: {{ url: \"http://{address}:{port}/\" }} }}"
        );
    }
    text.push_str("rules:\n");
    for number in 0..RULES {
        let _ = writeln!(
            text,
            "  r{number}: {{ match: {{ type: [t{number}] }}, to: t{number} }}"
        );
    }
    text
}

struct Bench {
    bus: Bus,
    /// Where the endpoints are told what to do.
    control: String,
}

impl Bench {
    /// One in a hundred endpoints hangs, or none.
    async fn black_holes(&self, all: &[u32]) {
        let is_well = |number: u32| !number.is_multiple_of(BLACK_HOLED_OF);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(self.measure(all, PER_SECOND, is_well).await);
            self.tell(&format!("hang/{BLACK_HOLED_OF}")).await;
            with.push(self.measure(all, PER_SECOND, is_well).await);
            self.tell("answer").await;
            self.settle().await;
        }
        let what = "10,000 endpoints of which 1 % hang, the others' p99";
        print(what, &with, &without, GOAL_BLACK_HOLES);
    }

    /// One rule has a hundred times as many events as each of its neighbours, or none.
    async fn flood(&self) {
        let flooded = RULES - 1;
        let neighbours: Vec<u32> = (0..NEIGHBOURS).collect();
        let both = neighbours.iter().flat_map(|number| [*number, flooded]);
        let both: Vec<u32> = both.collect();
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let is_neighbour = |number| number < NEIGHBOURS;
        for _ in 0..ROUNDS {
            let alone = self.measure(&neighbours, PER_SECOND, is_neighbour);
            without.push(alone.await);
            let beside = self.measure(&both, 2.0 * PER_SECOND, is_neighbour);
            with.push(beside.await);
            self.settle().await;
        }
        let what = "beside a rule with a hundred times as much, its neighbours' p99";
        print(what, &with, &without, GOAL_FLOOD);
    }

    /// Sends events of these rules in turn, and returns the 99th percentile of how long those that
    /// count were on their way, in milliseconds.
    async fn measure(&self, rules: &[u32], per_second: f64, counts: impl Fn(u32) -> bool) -> f64 {
        self.tell("begin").await;
        let url = self.bus.url("");
        let address = url.trim_start_matches("http://");
        let request = |number: &u32| binary_request(address, &format!("t{number}"), EVENT_BYTES);
        let requests: Arc<[_]> = rules.iter().map(request).collect();
        let sent = paced_in_turn(address, requests, CONNECTIONS, per_second, ROUND).await;
        let wanted = per_second * ROUND.as_secs_f64();
        let answered = f64::from(u32::try_from(sent.answered).expect("it is not that many"));
        assert!(
            answered > 0.99 * wanted,
            "only {answered} events were taken in"
        );
        // What is late counts too.
        let last = |number: &&u32| counts(**number);
        let expected = answered
            * f64::from(u32::try_from(rules.iter().filter(last).count()).expect("few"))
            / f64::from(u32::try_from(rules.len()).expect("few"));
        let mut took = Vec::new();
        until_within(
            Duration::from_secs(120),
            "what counts has arrived",
            async || {
                took = self.took(&counts).await;
                f64::from(u32::try_from(took.len()).expect("few")) >= 0.99 * expected
            },
        )
        .await;
        quantile(took, 0.99)
    }

    /// How long each event was on its way that has arrived at an endpoint that counts.
    async fn took(&self, counts: impl Fn(u32) -> bool) -> Vec<f64> {
        let text = self.tell("took").await;
        let each = text.lines().filter_map(|line| {
            let (number, micros) = line.split_once(' ')?;
            let micros: f64 = micros.parse().ok()?;
            counts(number.parse().ok()?).then_some(micros / 1_000.0)
        });
        each.collect()
    }

    /// Waits until nothing is left to be delivered.
    async fn settle(&self) {
        until_within(Duration::from_secs(300), "nothing is left", async || {
            let page = self.bus.api("/api/v1/tasks?limit=1").await;
            let items = page.pointer("/items").and_then(Value::as_array);
            items.is_some_and(Vec::is_empty)
        })
        .await;
    }

    async fn tell(&self, what: &str) -> String {
        let url = format!("{}/{what}", self.control);
        let mut answer = None;
        until_within(
            Duration::from_secs(60),
            "the endpoints answer",
            async || {
                answer = Caller::new().get(&url).await.ok();
                answer.is_some()
            },
        )
        .await;
        let (_, body) = answer.expect("it was waited for");
        String::from_utf8_lossy(&body).into_owned()
    }
}

/// Prints the middle of the ratios of pairs, and the figures behind it.
fn print(what: &str, with: &[f64], without: &[f64], goal: f64) {
    let ratios: Vec<f64> = with
        .iter()
        .zip(without)
        .map(|(with, without)| with / without)
        .collect();
    let show = |figures: &[f64]| {
        let each: Vec<String> = figures
            .iter()
            .map(|figure| format!("{figure:.2}"))
            .collect();
        each.join(" ")
    };
    println!(
        "{what}\n  with, ms     {}\n  without, ms  {}",
        show(with),
        show(without)
    );
    let ratio = median(ratios.clone());
    let verdict = if ratio <= goal { "ok" } else { "MISSED" };
    println!(
        "  ratios       {}\n  the middle one is {ratio:.2}, goal {goal:.1} {verdict}",
        show(&ratios)
    );
}
