//! What a reload of 10,000 rules costs those who send events meanwhile, how long it takes to be in
//! force, and what so many rules take of memory: `cargo bench -p pointsman-integration-tests
//! --bench reload`.
//!
//! Events come at a fixed rate, and each one's time counts from when it was to be sent, so that a
//! stall is seen by all whom it makes wait. Windows with and without a reload take turns; how far
//! two lots of windows without one differ is the noise. A window without one begins with the same
//! megabyte of rules being written to the same disk, where no bus looks: a sync of the store that
//! meets it waits for it, whatever is done with the rules.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pointsman_integration_tests::load::median;
use pointsman_integration_tests::{Bus, Caller, Sink, until};
use tokio::task::JoinSet;

const RULES: usize = 10_000;
const ROUNDS: usize = 10;
/// About as long as a reload takes: in a longer one a single stall would be fewer of the samples.
const QUIET: Duration = Duration::from_millis(500);
const SETTLING: Duration = Duration::from_secs(1);
const CALLERS: u32 = 32;
const EVENTS_PER_SECOND: u32 = 1_000;

/// What a reload changes of every rule.
#[derive(Clone, Copy)]
enum Change {
    /// What it takes.
    Conditions,
    /// Its name: as many subscriptions go as come.
    Names,
}

/// Rules of several kinds; each event is taken by one of them.
fn rules(sink: &str, count: usize, change: Change, round: usize) -> String {
    let mut text = format!("targets:\n  sink: {{ http: {{ url: \"{sink}\" }} }}\nrules:\n");
    let (name, shift) = match change {
        Change::Conditions => ("rule", round),
        Change::Names => (
            if round.is_multiple_of(2) {
                "even"
            } else {
                "odd"
            },
            0,
        ),
    };
    for rule in 0..count {
        let key = (rule + shift) % count;
        let pattern = match rule % 5 {
            0 => format!("data: {{ key: [{key}] }}"),
            1 => format!(
                "data: {{ key: [{{ numeric: [\">=\", {key}, \"<\", {}] }}] }}",
                key + 1
            ),
            2 => format!("subject: [{{ prefix: \"{key}/\" }}]"),
            3 => format!(
                "subject: [{{ wildcard: \"{key}/*x\" }}], source: [{{ anything-but: /other }}]"
            ),
            _ => format!("subject: [{key}/x], type: [t]"),
        };
        let _ = writeln!(
            text,
            "  {name}-{rule}: {{ match: {{ {pattern} }}, to: sink }}"
        );
    }
    text
}

/// Writes rules as [`Bus::write_rules`] does, in place of those of the window before, but into a
/// file that no bus reads.
fn write_elsewhere(bus: &Bus, rules: &str) {
    let draft = bus.path("elsewhere-draft");
    std::fs::write(&draft, rules).expect("the file can be written");
    std::fs::rename(draft, bus.path("elsewhere")).expect("the file can be put in place");
}

/// When an event was to be sent, and how long after that it was on disk.
#[derive(Clone, Copy)]
struct Sample {
    from: Instant,
    took: Duration,
}

/// Sends events at the fixed rate until told to stop.
async fn load(url: String, stop: Arc<AtomicBool>) -> Vec<Sample> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    let pause = Duration::from_secs(1) * CALLERS / EVENTS_PER_SECOND;
    for number in 0..CALLERS {
        let (url, stop, next) = (url.clone(), Arc::clone(&stop), Arc::clone(&next));
        callers.spawn(async move {
            let (caller, mut samples) = (Caller::new(), Vec::new());
            let mut due = Instant::now() + pause * number / CALLERS;
            while !stop.load(Ordering::Relaxed) {
                let is_late = due < Instant::now();
                tokio::time::sleep_until(due.into()).await;
                // Who is late was made to wait by the answer before; the timer's own lateness is
                // nobody's.
                let from = if is_late { due } else { Instant::now() };
                due += pause;
                let id = next.fetch_add(1, Ordering::Relaxed);
                let key = id * 7 % RULES as u64;
                let event = format!(
                    r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"t","subject":"{key}/x","data":{{"key":{key},"note":"{}"}}}}"#,
                    "x".repeat(800)
                );
                let headers = [("content-type", "application/cloudevents+json")];
                let (status, _, _) = caller.call(http::Method::POST, &url, &headers, event).await.expect("the bus answers");
                assert_eq!(status, 202);
                samples.push(Sample { from, took: from.elapsed() });
            }
            samples
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

/// Milliseconds at a quantile of the samples of each window, the middle one of all windows: the
/// disk's own hiccups hit a few of them.
fn quantile(samples: &[Sample], windows: &[(Instant, Instant)], quantile: f64) -> f64 {
    let of_window = |(begin, end): &(Instant, Instant)| {
        let inside = samples
            .iter()
            .filter(|sample| (*begin..*end).contains(&sample.from));
        let mut times: Vec<f64> = inside
            .map(|sample| sample.took.as_secs_f64() * 1_000.0)
            .collect();
        times.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of a few thousand"
        )]
        let index = (times.len() as f64 * quantile) as usize;
        times.get(index).copied().unwrap_or(f64::NAN)
    };
    median(windows.iter().map(of_window).collect())
}

/// Milliseconds of the slowest request of all windows.
fn slowest(samples: &[Sample], windows: &[(Instant, Instant)]) -> f64 {
    let is_inside = |sample: &&Sample| {
        windows
            .iter()
            .any(|(begin, end)| (*begin..*end).contains(&sample.from))
    };
    let slowest = samples
        .iter()
        .filter(is_inside)
        .map(|sample| sample.took)
        .max();
    slowest.unwrap_or_default().as_secs_f64() * 1_000.0
}

#[tokio::main]
async fn main() {
    let sink = Sink::counting().await;
    for (change, what) in [(Change::Conditions, "conditions"), (Change::Names, "names")] {
        let small = Bus::start(&rules(&sink.url(), 1, change, 0)).await;
        let little = small.resident_mib();
        drop(small);
        let begin = Instant::now();
        let bus = Bus::start(&rules(&sink.url(), RULES, change, 0)).await;
        println!(
            "{RULES} rules: ready after {:.2} s, {} MiB resident; one rule: {little} MiB",
            begin.elapsed().as_secs_f64(),
            bus.resident_mib()
        );

        let stop = Arc::new(AtomicBool::new(false));
        let samples = tokio::spawn(load(bus.url("/events"), Arc::clone(&stop)));
        tokio::time::sleep(SETTLING * 2).await;
        let (mut quiet, mut reloads) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let text = rules(&sink.url(), RULES, change, round);
            let begin = Instant::now();
            write_elsewhere(&bus, &text);
            tokio::time::sleep(QUIET).await;
            quiet.push((begin, Instant::now()));
            tokio::time::sleep(SETTLING).await;
            let begin = Instant::now();
            bus.write_rules(&text);
            until("the rules are in force", async || {
                bus.log().matches("the changed rules are in force").count() == round
            })
            .await;
            reloads.push((begin, Instant::now()));
            // What the reload set off may have its time, too.
            tokio::time::sleep(SETTLING).await;
        }
        stop.store(true, Ordering::Relaxed);
        let samples = samples.await.expect("no caller panics");
        let within = |windows: &[(Instant, Instant)], at| quantile(&samples, windows, at);
        let (early, late) = quiet.split_at(ROUNDS / 2);
        println!(
            "reload of the {what} of {RULES} rules at {EVENTS_PER_SECOND} events/s: in force after \
             {:.0} ms; ingest without p50 {:.2} ms, p99 {:.1} ms, slowest {:.1} ms; during p50 \
             {:.2} ms, p99 {:.1} ms, slowest {:.1} ms; ratio of p99 {:.2} (noise {:.2}); {} MiB \
             resident after {ROUNDS}",
            median(
                reloads
                    .iter()
                    .map(|(begin, end)| (*end - *begin).as_secs_f64() * 1_000.0)
                    .collect()
            ),
            within(&quiet, 0.5),
            within(&quiet, 0.99),
            slowest(&samples, &quiet),
            within(&reloads, 0.5),
            within(&reloads, 0.99),
            slowest(&samples, &reloads),
            within(&reloads, 0.99) / within(&quiet, 0.99),
            within(late, 0.99) / within(early, 0.99),
            bus.resident_mib(),
        );
    }
}
