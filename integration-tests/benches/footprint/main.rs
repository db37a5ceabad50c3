//! What a bus takes that has much to keep and nothing to do, each figure beside its goal: processor
//! time with 10,000 idle timers, a scrape of the metrics of 10,000 rules, and memory with a backlog
//! of a million deliveries and how long the start takes that follows a kill with them, and pages of the
//! console: `cargo bench -p pointsman-integration-tests --bench footprint`, behind `--` the parts
//! that are wanted (`timers`, `scrape`, `backlog`, `console`).

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

mod console;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pointsman_integration_tests::load::median;
use pointsman_integration_tests::{Bus, Caller, until};
use pointsman_test_brokers::free_port;
use serde_json::Value;
use tokio::task::JoinSet;

const RULES: usize = 10_000;
const BACKLOG: usize = 1_000_000;
const EVENTS_PER_BATCH: usize = 500;
const CALLERS: usize = 4;

const IDLE: Duration = Duration::from_secs(20);
const SCRAPES: usize = 9;

const GOAL_CPU_PERCENT: f64 = 1.0;
const GOAL_SCRAPE_MILLISECONDS: f64 = 50.0;
const GOAL_SCRAPE_MB: f64 = 2.0;
const GOAL_BACKLOG_MB: f64 = 150.0;
const GOAL_READY_SECONDS: f64 = 0.5;

#[tokio::main]
async fn main() {
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|part| !part.starts_with('-'))
        .collect();
    let is_wanted = |part: &str| parts.is_empty() || parts.iter().any(|own| own == part);
    if is_wanted("timers") {
        timers().await;
    }
    if is_wanted("scrape") {
        scrape("10,000 rules with one target", 1).await;
        scrape("10,000 rules with 10,000 targets", RULES).await;
    }
    if is_wanted("backlog") {
        for shape in [
            Shape::Unordered,
            Shape::OwnKeys,
            Shape::Keys,
            Shape::Subscriptions,
        ] {
            backlog(shape).await;
        }
    }
    if is_wanted("console") {
        console::console().await;
    }
}

/// Prints a figure, its goal, and whether that is reached.
fn print(what: &str, figure: f64, unit: &str, goal: f64) {
    let verdict = if figure <= goal { "ok" } else { "MISSED" };
    println!("{what:<64} {figure:>9.2} {unit:<7} goal {goal:>6} {verdict}");
}

/// Resident memory in megabytes of 10^6 bytes.
fn resident_mb(bus: &Bus) -> f64 {
    f64::from(u32::try_from(bus.resident_mib()).expect("less than an exbibyte")) * 1.048_576
}

/// A target that nobody answers for: everything waits.
fn down() -> String {
    format!(
        "{{ http: {{ url: \"http://127.0.0.1:{}/\" }} }}",
        free_port()
    )
}

/// 10,000 rules, each fed by a timer of its own that fires in some months.
async fn timers() {
    let mut rules = format!("targets:\n  down: {}\nsources:\n", down());
    for rule in 0..RULES {
        let (minute, hour) = (rule % 60, rule / 60 % 24);
        let _ = writeln!(
            rules,
            "  timer-{rule}: {{ timer: {{ cron: \"{minute} {hour} 29 2 *\" }} }}"
        );
    }
    rules.push_str("rules:\n");
    for rule in 0..RULES {
        let _ = writeln!(rules, "  rule-{rule}: {{ from: timer-{rule}, to: down }}");
    }
    let begin = Instant::now();
    let bus = Bus::start(&rules).await;
    println!(
        "10,000 timers with a rule each: ready after {:.2} s, {:.0} MB resident",
        begin.elapsed().as_secs_f64(),
        resident_mb(&bus)
    );
    // What the start has set off may have its time.
    tokio::time::sleep(IDLE / 4).await;
    let before = bus.cpu_time();
    tokio::time::sleep(IDLE).await;
    let spent = (bus.cpu_time() - before).as_secs_f64() / IDLE.as_secs_f64();
    print(
        "10,000 idle timers, of a core",
        spent * 100.0,
        "%",
        GOAL_CPU_PERCENT,
    );
    scrape_of(&bus, "10,000 rules with 10,000 timers").await;
}

/// 10,000 rules over so many targets.
async fn scrape(what: &str, targets: usize) {
    let (mut rules, down) = ("targets:\n".to_owned(), down());
    for target in 0..targets {
        let _ = writeln!(rules, "  target-{target}: {down}");
    }
    rules.push_str("rules:\n");
    for rule in 0..RULES {
        let target = rule % targets;
        let _ = writeln!(
            rules,
            "  rule-{rule}: {{ match: {{ type: [t{rule}] }}, to: target-{target} }}"
        );
    }
    let bus = Bus::start(&rules).await;
    // A delivery for each, so that there are counts, ages and attempts.
    let event = |rule| {
        format!(r#"{{"specversion":"1.0","id":"{rule}","source":"/bench","type":"t{rule}"}}"#)
    };
    for first in (0..RULES).step_by(EVENTS_PER_BATCH) {
        let events: Vec<String> = (first..first + EVENTS_PER_BATCH).map(event).collect();
        send(&Caller::new(), &bus.url("/events"), &events).await;
    }
    scrape_of(&bus, what).await;
}

async fn scrape_of(bus: &Bus, what: &str) {
    let (caller, url) = (Caller::new(), bus.admin_url("/metrics"));
    let (mut times, mut bytes) = (Vec::new(), 0);
    for _ in 0..SCRAPES {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begin = Instant::now();
        let (status, body) = caller.get(&url).await.expect("the bus answers");
        assert_eq!(status, 200);
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
        bytes = body.len();
    }
    print(
        &format!("scrape, {what}"),
        median(times),
        "ms",
        GOAL_SCRAPE_MILLISECONDS,
    );
    let bytes = f64::from(u32::try_from(bytes).expect("less than 4 GiB"));
    print("", bytes / 1e6, "MB", GOAL_SCRAPE_MB);
}

/// How the deliveries of a backlog are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Unordered,
    /// Each has an order key of its own.
    OwnKeys,
    /// Those of 1,000 order keys wait for each other.
    Keys,
    /// 100 for each of 10,000 rules.
    Subscriptions,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Unordered => "unordered",
            Self::OwnKeys => "each with an order key of its own",
            Self::Keys => "over 1,000 order keys",
            Self::Subscriptions => "over 10,000 rules",
        }
    }

    fn rules(self) -> String {
        let mut rules = format!("targets:\n  down: {}\nrules:\n", down());
        match self {
            Self::Unordered => rules.push_str("  orders: { to: down }\n"),
            Self::OwnKeys | Self::Keys => {
                rules.push_str("  orders: { to: down, delivery: { order_by: $.subject } }\n")
            }
            Self::Subscriptions => {
                for rule in 0..RULES {
                    let _ = writeln!(
                        rules,
                        "  rule-{rule}: {{ match: {{ subject: [\"{rule}\"] }}, to: down }}"
                    );
                }
            }
        }
        rules
    }

    fn subject(self, id: usize) -> usize {
        match self {
            Self::Unordered | Self::OwnKeys => id,
            Self::Keys => id % 1_000,
            Self::Subscriptions => id % RULES,
        }
    }

    fn event(self, id: usize) -> String {
        let subject = self.subject(id);
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"order.paid","subject":"{subject}","data":{{"total":{id}}}}}"#
        )
    }
}

async fn send(caller: &Caller, url: &str, events: &[String]) {
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let body = format!("[{}]", events.join(","));
    let (status, _, body) = caller
        .call(http::Method::POST, url, &headers, body)
        .await
        .expect("the bus answers");
    assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
}

async fn pending(bus: &Bus) -> u64 {
    let status = bus.api("/api/v1/status").await;
    let pending = status.pointer("/deliveries/pending");
    pending.and_then(Value::as_u64).expect("a number")
}

/// Sends what makes a million deliveries.
async fn fill(bus: &Bus, shape: Shape) {
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let url = bus.url("/events");
        callers.spawn(async move {
            let caller = Caller::new();
            let firsts = (0..BACKLOG).step_by(EVENTS_PER_BATCH);
            for first in firsts.skip(number).step_by(CALLERS) {
                let ids = first..first + EVENTS_PER_BATCH;
                let events: Vec<String> = ids.map(|id| shape.event(id)).collect();
                send(&caller, &url, &events).await;
            }
        });
    }
    callers.join_all().await;
    assert_eq!(pending(bus).await, BACKLOG as u64);
}

async fn backlog(shape: Shape) {
    let mut bus = Bus::start(&shape.rules()).await;
    let idle = resident_mb(&bus);
    fill(&bus, shape).await;
    let what = format!("a million deliveries, {}", shape.name());
    println!("{what}: {idle:.0} MB resident before them");
    print("  resident", resident_mb(&bus), "MB", GOAL_BACKLOG_MB);

    bus.kill();
    let begin = Instant::now();
    bus.spawn();
    bus.ready().await;
    let took = begin.elapsed().as_secs_f64();
    print("  ready after a kill", took, "s", GOAL_READY_SECONDS);
    until("the backlog is counted", async || {
        pending(&bus).await == BACKLOG as u64
    })
    .await;
    print("  resident then", resident_mb(&bus), "MB", GOAL_BACKLOG_MB);
}
