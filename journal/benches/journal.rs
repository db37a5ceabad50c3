//! What an event costs the journal that matches ten rules, against one that matches a single rule,
//! append, lease and settle together; and what a commit costs that holds one event alone:
//! `cargo bench -p pointsman-journal`. With `TMPDIR` on a tmpfs the syncs are left out.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_journal::disk::{DiskJournal, DiskOptions};
use pointsman_journal::{
    Append, Ending, Entry, Grant, Journal, NewDelivery, Role, Settlement, Subscription,
    SubscriptionIdentity,
};
use pointsman_schemas::{Data, Event, Name, SubscriptionNumber, SystemClock};

const ROUNDS: usize = 5;
const EVENTS: usize = 40_000;
/// As many as 64 to 256 callers hand over between two syncs.
const EVENTS_PER_APPEND: usize = 100;
/// Events that are committed one by one.
const COMMITS: usize = 20_000;

/// The middle one of several figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// CPU time of this process so far, in seconds: user and system time of proc_pid_stat(5), in clock
/// ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells stat");
    let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let ticks = |field: usize| -> f64 {
        after_name
            .split_whitespace()
            .nth(field)
            .and_then(|text| text.parse().ok())
            .expect("a number of ticks")
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn event(number: usize) -> Arc<Event> {
    let data = format!(r#"{{"order":{number},"note":"{}"}}"#, "x".repeat(800));
    let data = Data::json(Bytes::from(data)).expect("it is JSON");
    Arc::new(
        Event::builder(number.to_string(), "/bench", "order.paid")
            .datacontenttype("application/json")
            .data(data)
            .build()
            .expect("it is an event"),
    )
}

fn append(numbers: Range<usize>, subscriptions: &[SubscriptionNumber]) -> Append {
    let entry = |number| Entry {
        event: event(number),
        deliveries: subscriptions
            .iter()
            .map(|number| NewDelivery::now(*number))
            .collect(),
        deduplicate: None,
        dead: None,
        terms: None,
    };
    Append {
        tenant: Name::default_tenant(),
        origin: Name::new("bench").expect("it is a name"),
        entries: numbers.map(entry).collect(),
        rejects: Vec::new(),
        cursor: None,
        positions: Vec::new(),
    }
}

/// CPU per event in µs, through the whole life of events that each match all the subscriptions.
async fn measure(journal: &DiskJournal, subscriptions: &[SubscriptionNumber]) -> f64 {
    let begin = cpu_seconds();
    let grants: Vec<_> = subscriptions
        .iter()
        .map(|number| Grant {
            subscription: *number,
            count: 256,
            lease: Duration::from_secs(60),
            bytes_max: usize::MAX,
            batching: None,
        })
        .collect();
    for first in (0..EVENTS).step_by(EVENTS_PER_APPEND) {
        journal
            .append(append(first..first + EVENTS_PER_APPEND, subscriptions))
            .await
            .expect("there is room");
        loop {
            let leased = journal
                .lease(&grants, usize::MAX)
                .await
                .expect("the disk works")
                .leased;
            if leased.is_empty() {
                break;
            }
            let settled = leased
                .iter()
                .map(|one| Settlement::new(one.token, Ending::Delivered))
                .collect();
            journal.settle(settled).await.expect("the disk works");
        }
    }
    per(EVENTS, begin)
}

/// CPU per commit in µs, of commits that each append one event that no rule takes.
async fn measure_commits(journal: &DiskJournal) -> f64 {
    let begin = cpu_seconds();
    for number in 0..COMMITS {
        journal
            .append(append(number..number + 1, &[]))
            .await
            .expect("there is room");
    }
    per(COMMITS, begin)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 52 bits"
)]
fn per(count: usize, begin: f64) -> f64 {
    (cpu_seconds() - begin) * 1e6 / count as f64
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let journal = DiskJournal::open(folder.path(), DiskOptions::default(), Arc::new(SystemClock))
        .expect("the store can be made");
    let wanted = (0..10).map(|number| {
        let name = |text: &str| Name::new(text).expect("it is a name");
        let identity = SubscriptionIdentity {
            tenant: Name::default_tenant(),
            rule: name(&format!("rule-{number}")),
            role: Role::To,
            target: name("t"),
        };
        Subscription {
            identity,
            renamed_from: None,
            backlog: None,
            start: None,
        }
    });
    let numbers = journal
        .subscribe(wanted.collect())
        .await
        .expect("the disk works");
    let (mut one, mut ten, mut ratios, mut alone) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (single, many) = (
            measure(&journal, numbers.get(..1).expect("there are ten")).await,
            measure(&journal, &numbers).await,
        );
        let commits = measure_commits(&journal).await;
        // The first round warms up.
        if round > 0 {
            alone.push(commits);
            one.push(single);
            ten.push(many);
            ratios.push(many / single);
        }
    }
    println!(
        "journal, append to settle: one rule {:.1} µs of CPU per event, ten rules {:.1} µs, ratio {:.2}",
        median(one),
        median(ten),
        median(ratios)
    );
    println!(
        "journal, an event in a commit of its own: {:.1} µs of CPU",
        median(alone)
    );
    journal.close().await;
}
