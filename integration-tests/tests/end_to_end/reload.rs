//! Many rules are swapped under load: an event is matched by one set of rules, whole.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use tokio::task::JoinSet;

/// Rules of one version; with `POINTSMAN_LONG` in the environment `RULES_LONG`, which a bus that is
/// not optimised takes seconds to read.
const RULES: usize = 3_000;
const RULES_LONG: usize = 10_002;

/// Rules that take the same event.
const TOGETHER: usize = 3;

/// How often the rules are swapped.
const SWAPS: usize = 6;

/// Callers that each wait for their answer before they send the next event.
const CALLERS: usize = 4;

/// Which rules take which key. A version gives every rule another key, so that any mixture of two
/// versions gives a key other rules than either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Neighbours take the same key.
    Neighbours,
    /// Rules far apart do.
    Apart,
}

impl Version {
    fn other(self) -> Self {
        if self == Self::Neighbours {
            Self::Apart
        } else {
            Self::Neighbours
        }
    }

    fn key_of(self, rule: usize, keys: usize) -> usize {
        if self == Self::Neighbours {
            rule / TOGETHER
        } else {
            rule % keys
        }
    }

    /// The names of the rules that take a key.
    fn takers(self, key: usize, keys: usize) -> BTreeSet<String> {
        (0..TOGETHER)
            .map(|one| {
                name(if self == Self::Neighbours {
                    key * TOGETHER + one
                } else {
                    key + one * keys
                })
            })
            .collect()
    }

    /// The rule file: conditions of several kinds, which an index finds by different ways.
    fn rules(self, url: &str, keys: usize) -> String {
        let mut text = format!("targets:\n  sink: {{ http: {{ url: \"{url}\" }} }}\nrules:\n");
        for rule in 0..keys * TOGETHER {
            let key = self.key_of(rule, keys);
            let pattern = match rule % 4 {
                0 => format!("data: {{ key: [{key}] }}"),
                1 => format!(
                    "data: {{ key: [{{ numeric: [\">=\", {key}, \"<\", {}] }}] }}",
                    key + 1
                ),
                2 => format!("subject: [{{ prefix: \"{key}/\" }}]"),
                _ => format!("subject: [{{ wildcard: \"{key}/*x\" }}]"),
            };
            let _ = writeln!(
                text,
                "  {}: {{ match: {{ {pattern} }}, to: sink }}",
                name(rule)
            );
        }
        text
    }
}

fn name(rule: usize) -> String {
    format!("rule-{rule}")
}

/// The names of the rules whose deliveries of each event have arrived.
type Arrived = Arc<Mutex<HashMap<String, BTreeSet<String>>>>;

/// Sends events with every key in turn.
struct Load {
    caller: Caller,
    url: String,
    keys: usize,
    next: AtomicUsize,
}

impl Load {
    /// Sends one event and tells its number.
    async fn send(&self) -> usize {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (id, key) = (number.to_string(), number % self.keys);
        let event = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"t","subject":"{key}/x","data":{{"key":{key}}}}}"#
        );
        let headers = [("content-type", "application/cloudevents+json")];
        let (status, _, body) = self
            .caller
            .call(http::Method::POST, &self.url, &headers, event)
            .await
            .unwrap();
        assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
        number
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_matched_by_one_set_of_rules_however_often_they_are_swapped() {
    let keys = if std::env::var_os("POINTSMAN_LONG").is_some() {
        RULES_LONG
    } else {
        RULES
    } / TOGETHER;
    let arrived = Arrived::default();
    let book = Arc::clone(&arrived);
    let sink = Sink::answering(move |one| {
        book.lock()
            .unwrap()
            .entry(one.header("ce-id").to_owned())
            .or_default()
            .insert(one.header("pointsman-rule").to_owned());
        Answer::status(204)
    })
    .await;
    let mut version = Version::Neighbours;
    let bus = Bus::start(&version.rules(&sink.url(), keys)).await;
    let load = Arc::new(Load {
        caller: Caller::new(),
        url: bus.url("/events"),
        keys,
        next: AtomicUsize::new(0),
    });
    // The rules that have taken an event sent now.
    let taken_by = async || {
        let number = load.send().await;
        let taken = || {
            arrived
                .lock()
                .unwrap()
                .get(&number.to_string())
                .cloned()
                .unwrap_or_default()
        };
        until("the event has arrived", async || taken().len() >= TOGETHER).await;
        (number % keys, taken())
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (load, stop) = (Arc::clone(&load), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                load.send().await;
            }
        });
    }

    for swap in 1..=SWAPS {
        version = version.other();
        bus.write_rules(&version.rules(&sink.url(), keys));
        until("the changed rules are in force", async || {
            bus.log().matches("the changed rules are in force").count() == swap
        })
        .await;
        let (key, taken) = taken_by().await;
        assert_eq!(taken, version.takers(key, keys), "swap {swap}");
    }
    // One mistake in one of them, the last: none of the others comes into force.
    bus.write_rules(&version.other().rules(&sink.url(), keys).replace(
        &format!("  {}: {{ match", name(keys * TOGETHER - 1)),
        "  last: { mach",
    ));
    until("the mistake is told", async || {
        bus.log().contains("the old rules stay in force")
    })
    .await;
    for _ in 0..keys.min(100) {
        let (key, taken) = taken_by().await;
        assert_eq!(taken, version.takers(key, keys), "after a mistake");
    }

    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    until("nothing waits", async || {
        bus.api("/api/v1/status").await["deliveries"]["pending"] == 0
    })
    .await;
    let arrived = arrived.lock().unwrap();
    let sent = load.next.load(Ordering::Relaxed);
    let mut matched = HashMap::from([(0, 0), (1, 0)]);
    for number in 0..sent {
        let (key, taken) = (
            number % keys,
            arrived
                .get(&number.to_string())
                .cloned()
                .unwrap_or_default(),
        );
        let by = [Version::Neighbours, Version::Apart]
            .iter()
            .position(|version| version.takers(key, keys) == taken);
        let by = by.unwrap_or_else(|| {
            panic!("event {number} with key {key} was taken by {taken:?}, which is neither set")
        });
        *matched.entry(by).or_default() += 1;
    }
    println!(
        "{} rules, {SWAPS} swaps, {sent} events, by version: {matched:?}",
        keys * TOGETHER
    );
    assert!(
        matched.values().all(|events| *events > SWAPS),
        "no load on one of the versions: {matched:?}"
    );
}
