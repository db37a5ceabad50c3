//! How long one filter takes on one event, beside a comparison of one attribute, measured in turns
//! so that all see the same machine.
//!
//! `cargo bench -p pointsman-rules --bench filters` prints the median of each and its ratio to
//! `exact`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a benchmark says bluntly what it expects"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use pointsman_rules::{Filters, RawFilter};
use pointsman_schemas::{Event, ExtensionValue};
use serde_json::json;

/// Rounds in which each contender is measured once; the median of them counts.
const ROUNDS: usize = 301;
/// Calls in one measurement.
const CALLS: u32 = 1_000;

fn main() {
    // Under `cargo test` once is enough.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        ROUNDS
    } else {
        1
    };
    let event = Event::builder(
        "C3D13FE58DE4C810",
        "https://github.com/cloudevents/spec",
        "com.github.pull_request.opened",
    )
    .subject("docs/2026/readme.md")
    .attribute("hops", ExtensionValue::Integer(2))
    .attribute("sequence", ExtensionValue::String("17".into()))
    .build()
    .expect("the event is right");
    let contenders = [
        (
            "exact",
            json!({"exact": {"type": "com.github.pull_request.opened"}}),
            true,
        ),
        (
            "three attributes",
            json!({
                "prefix": {
                    "type": "com.github.",
                    "source": "https://github.com/",
                    "subject": "docs/",
                },
            }),
            true,
        ),
        (
            "=",
            json!({"sql": "type = 'com.github.pull_request.opened'"}),
            true,
        ),
        (
            "LIKE with %",
            json!({"sql": "source LIKE '%cloudevents%'"}),
            true,
        ),
        (
            "LIKE with _",
            json!({"sql": "subject LIKE 'docs/____/%.md'"}),
            true,
        ),
        (
            "casts and calculation",
            json!({"sql": "sequence % 10 = 7 AND hops + 1 < sequence"}),
            true,
        ),
        (
            "functions",
            json!({"sql": "LENGTH(TRIM(SUBSTRING(subject, 6))) = 14"}),
            true,
        ),
        (
            "IN of ten",
            json!({"sql": "subject IN ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j')"}),
            false,
        ),
        (
            "a missing attribute",
            json!({"sql": "missing = 'x' OR hops = 2"}),
            false,
        ),
    ];
    let filters: Vec<Filters> = contenders
        .iter()
        .map(|(_, filter, _)| {
            let filter: RawFilter = serde_json::from_value(filter.clone()).expect("a filter");
            Filters::compile(&[filter]).expect("the filter is right")
        })
        .collect();
    let mut times = vec![Vec::with_capacity(rounds); filters.len()];
    for _ in 0..rounds {
        for (contender, filters) in filters.iter().enumerate() {
            let start = Instant::now();
            for _ in 0..CALLS {
                assert_eq!(
                    black_box(filters).hold(black_box(&event)),
                    contenders[contender].2
                );
            }
            times[contender].push(start.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    let medians: Vec<f64> = times.iter_mut().map(median).collect();
    for ((name, ..), nanoseconds) in contenders.iter().zip(&medians) {
        println!(
            "{name:<24}{nanoseconds:>8.1} ns  {:>6.2}",
            nanoseconds / medians[0]
        );
    }
}
