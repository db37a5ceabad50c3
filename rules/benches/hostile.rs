//! What rules and events cost that were made to be dear: CPU time of a match, or of compiling.
//!
//! `cargo bench -p pointsman-rules --bench hostile` prints the median of each. What grows with the
//! event has two lines, of which the second one is of four times the event.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a benchmark says bluntly what it expects"
)]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use pointsman_rules::{Condition, Filter, Origin, OriginSet, Pattern, Rule, RuleSet, Scratch};
use pointsman_schemas::{Data, Event};
use serde_json::{Value, json};

/// Measurements of which the median counts.
const ROUNDS: usize = 9;

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

fn show(name: &str, rounds: usize, mut measured: impl FnMut()) {
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            let start = cpu_time();
            measured();
            cpu_time() - start
        })
        .collect();
    times.sort_unstable();
    println!(
        "{name:<64}{:>12.3} ms",
        times[rounds / 2].as_secs_f64() * 1e3
    );
}

fn rule(pattern: &Value) -> Rule {
    let pattern =
        Some(Pattern::compile(&json!({ "data": pattern })).expect("the pattern is right"));
    Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter {
            pattern,
            ..Filter::default()
        },
    }
}

fn event(data: &Value) -> Event {
    let data = Data::json(Bytes::from(data.to_string())).expect("the data is right");
    Event::builder("1", "/s", "t")
        .data(data)
        .build()
        .expect("the event is right")
}

fn matches(name: &str, rounds: usize, rules: Vec<Rule>, data: &Value) {
    let (rules, event, mut scratch, mut out) = (
        RuleSet::compile(rules),
        event(data),
        Scratch::default(),
        Vec::new(),
    );
    show(name, rounds, || {
        out.clear();
        rules.matches_into(Origin(0), black_box(&event), &mut scratch, &mut out);
    });
}

fn list(length: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..length).map(item).collect::<Vec<_>>().into()
}

fn main() {
    // `cargo test --benches` runs this too, without `--bench`: then only see that it works.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        ROUNDS
    } else {
        1
    };
    for kib in [32, 128] {
        let compares = rule(&json!({ "a": [{ "compare-to": [">", "$.data.limit"] }] }));
        let data = json!({ "a": list(kib * 1024 / 2, |_| json!(1)), "limit": 10 });
        matches(
            &format!("compare-to over an array of {kib} KiB"),
            rounds,
            vec![compares],
            &data,
        );
    }
    for kib in [20, 80] {
        for count in [1, 6, 7] {
            let values = |rule_number: usize| {
                rule(&json!({ "a": list(10_000, |n| json!(format!("x{n}-{rule_number}"))) }))
            };
            let data =
                json!({ "a": list(kib * 1024 / 8, |n| json!(format!("y{:04}", n % 10_000))) });
            matches(
                &format!("10,000 values in each of {count} rules, {kib} KiB"),
                rounds,
                (0..count).map(values).collect(),
                &data,
            );
            let net = |n: usize, rule_number: usize| json!({ "cidr": format!("10.{}.{}.{}/32", n / 256, n % 256, rule_number) });
            let nets =
                |rule_number: usize| rule(&json!({ "a": list(10_000, |n| net(n, rule_number)) }));
            let data = json!({ "a": list(kib * 1024 / 16, |n| json!(format!("192.168.{}.{}", n / 256 % 256, n % 256))) });
            matches(
                &format!("10,000 ranges in each of {count} rules, {kib} KiB"),
                rounds,
                (0..count).map(nets).collect(),
                &data,
            );
        }
    }
    let wildcards = list(
        10_000,
        |n| json!({ "wildcard": format!("*{n:05}{}*", "a".repeat(493)) }),
    );
    show(
        "10,000 wildcards of 500 bytes, compiled or refused",
        rounds,
        || {
            _ = black_box(Pattern::compile(&json!({ "data": { "a": wildcards } })));
        },
    );
    for (name, dotted) in [
        ("a field of each rule", false),
        ("a field of each rule below a field of one", true),
    ] {
        let mut rules: Vec<_> = (0..3_000)
            .map(|n| rule(&json!({ "id": { n.to_string(): [1] } })))
            .collect();
        if dotted {
            rules.push(rule(&json!({ "id": [7] })));
        }
        let data = json!({ "id.333": 1, "x": list(100, |n| json!(n)) });
        matches(&format!("3,001 rules, {name}"), rounds * 11, rules, &data);
    }
    for (pattern, count) in [
        (r"(\p{L}{9}){9}x", 100),
        (r"(\p{L}{2}){2}x", 100),
        (r"[a-z]{2,5}x", 1_000),
    ] {
        let condition = Some(
            Condition::parse("$.data.list[?search(@.t, @.p)]").expect("the condition is right"),
        );
        let searches = Rule {
            from: OriginSet::all_but(&[]),
            filter: Filter {
                condition,
                ..Filter::default()
            },
        };
        let data = json!({ "list": list(count, |n| json!({ "t": "abcdefghi".repeat(10), "p": format!("{pattern}{n}") })) });
        matches(
            &format!("{count} regular expressions like {pattern}"),
            rounds,
            vec![searches],
            &data,
        );
    }
}
