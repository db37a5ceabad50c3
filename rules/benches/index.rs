//! What finding the rules of an event costs, by how many rules there are: the index beside a look
//! at every rule, measured in turns so that all see the same machine.
//!
//! `cargo bench -p pointsman-rules --bench index` prints medians and, in the last column of each
//! table, the ratio that counts.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a benchmark says bluntly what it expects"
)]

mod patterns;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_rules::{
    Condition, Filter, Filters, Origin, OriginSet, Pattern, RawFilter, Rule, RuleSet, Scratch,
};
use pointsman_schemas::{Event, json};
use serde_json::{Value, json};

/// Rounds in which each contender is measured once; the median of them counts.
const ROUNDS: usize = 101;

/// Calls in one measurement.
const CALLS: usize = 200;

/// An event of 1 KiB, with numbers and texts that tell one from another by its number.
fn event(number: usize) -> Event {
    let with = |filling: usize| {
        let data = json!({
            "eventVersion": "2.2", "eventName": "ObjectCreated:Put", "userIdentity": { "principalId": format!("AWS:{number:05}:EXAMPLE") },
            "requestParameters": { "sourceIPAddress": format!("10.{}.{}.7", number / 256 % 256, number % 256) },
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "thumbnails",
                "bucket": { "name": format!("photos-{number:05}"), "arn": "arn:aws:s3:::photos", "tags": ["a", "b", null, true] },
                "object": { "key": format!("albums/2026/{number:05}/IMG_20260131.jpg"), "size": 10 * number + 5, "eTag": "d41d8cd98f00b204", "ratio": 1.3333 },
            },
            "state": "created", "flags": { format!("flag{number:05}"): true }, "items": [{ "sku": "other", "count": 1 }, { "sku": format!("sku-{number:05}"), "count": 3 }], "note": "x".repeat(filling),
        });
        json!({
            "specversion": "1.0", "type": format!("com.example.kind{number:05}.created"), "source": "aws:s3.us-west-2.photos", "id": "C3D13FE58DE4C810.EXAMPLE123", "time": "2026-01-31T09:30:00.123456Z",
            "subject": format!("albums/{number:05}/winter.jpg"), "datacontenttype": "application/json", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "data": data,
        })
        .to_string()
    };
    let text = with(1024 - with(0).len());
    assert_eq!(text.len(), 1024);
    json::decode(&Bytes::from(text)).expect("the event is right")
}

fn pattern(pattern: Value) -> Rule {
    Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(Pattern::compile(&pattern).expect("the pattern is right")),
    }
}

fn filters(filters: Value) -> Rule {
    let filters: Vec<RawFilter> = serde_json::from_value(filters).expect("the filters are right");
    let filters = Some(Filters::compile(&filters).expect("the filters are right"));
    Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter {
            filters,
            ..Filter::default()
        },
    }
}

/// A kind of rule: of those with a number, each takes the events with that number alone.
type Family = (&'static str, fn(usize) -> Rule);

fn families() -> Vec<Family> {
    vec![
        ("exact attribute", |n| {
            pattern(json!({ "type": [format!("com.example.kind{n:05}.created")] }))
        }),
        ("exact data", |n| {
            pattern(
                json!({ "data": { "s3": { "bucket": { "name": [format!("photos-{n:05}")] } } } }),
            )
        }),
        ("prefix", |n| {
            pattern(
                json!({ "data": { "s3": { "object": { "key": [{ "prefix": format!("albums/2026/{n:05}/") }] } } } }),
            )
        }),
        ("suffix", |n| {
            pattern(
                json!({ "data": { "userIdentity": { "principalId": [{ "suffix": format!("{n:05}:EXAMPLE") }] } } }),
            )
        }),
        ("wildcard", |n| {
            pattern(
                json!({ "data": { "s3": { "object": { "key": [{ "wildcard": format!("albums/*/{n:05}/*.jpg") }] } } } }),
            )
        }),
        ("equals-ignore-case", |n| {
            pattern(
                json!({ "data": { "s3": { "bucket": { "name": [{ "equals-ignore-case": format!("PHOTOS-{n:05}") }] } } } }),
            )
        }),
        ("numeric range", |n| {
            pattern(json!({
                "data": {
                    "s3": {
                        "object": { "size": [{ "numeric": [">=", 10 * n, "<", 10 * n + 10] }] },
                    },
                },
            }))
        }),
        ("cidr", |n| {
            pattern(
                json!({ "data": { "requestParameters": { "sourceIPAddress": [{ "cidr": format!("10.{}.{}.0/24", n / 256 % 256, n % 256) }] } } }),
            )
        }),
        ("anything-but, exact", |n| {
            pattern(
                json!({ "data": { "state": [{ "anything-but": "deleted" }], "s3": { "bucket": { "name": [format!("photos-{n:05}")] } } } }),
            )
        }),
        ("$or", |n| {
            pattern(
                json!({ "data": { "s3": { "$or": [{ "bucket": { "name": [format!("photos-{n:05}")] } }, { "object": { "eTag": [n.to_string()] } }] } } }),
            )
        }),
        ("within an element", |n| {
            pattern(
                json!({ "data": { "items": { "sku": [format!("sku-{n:05}")], "count": [{ "numeric": [">", 1] }] } } }),
            )
        }),
        ("a field of its own", |n| {
            pattern(json!({ "data": { "flags": { format!("flag{n:05}"): [{ "exists": true }] } } }))
        }),
        ("a missing field of its own", |n| {
            pattern(
                json!({ "type": [format!("com.example.kind{n:05}.created")], "data": { "flags": { format!("gone{n:05}"): [{ "exists": false }] } } }),
            )
        }),
        ("where", |n| Rule {
            from: OriginSet::all_but(&[]),
            filter: Filter::from(
                Condition::parse(&format!(
                    "$.data.s3.bucket.name == 'photos-{n:05}' && $.data.s3.object.size > 0"
                ))
                .expect("the condition is right"),
            ),
        }),
        ("filters", |n| {
            filters(json!([
                { "suffix": { "source": "photos" } }, { "any": [{ "exact": { "type": format!("com.example.kind{n:05}.created") } }, { "prefix": { "type": "org." } }] },
            ]))
        }),
        ("sql", |n| {
            filters(
                json!([{ "sql": format!("type = 'com.example.kind{n:05}.created' AND source LIKE '%photos'") }]),
            )
        }),
        ("mixed", mixed),
    ]
}

/// One of the mixed patterns for each number.
fn mixed(n: usize) -> Rule {
    pattern(patterns::mixed(n, n))
}

/// Ten of them for each number, two of each sort.
fn mixed_by_ten(n: usize) -> Rule {
    pattern(patterns::mixed(n / 10, n))
}

/// The rules of a family, and events each of which some of them take, or none.
struct Contender<'e> {
    set: RuleSet,
    events: &'e [Event],
    in_turn: bool,
}

impl<'e> Contender<'e> {
    fn new(rules: usize, rule: fn(usize) -> Rule, events: &'e [Event]) -> Self {
        Self {
            set: RuleSet::compile((0..rules).map(rule).collect()),
            events,
            in_turn: false,
        }
    }

    fn in_turn(rules: usize, rule: fn(usize) -> Rule, events: &'e [Event]) -> Self {
        Self {
            in_turn: true,
            ..Self::new(rules, rule, events)
        }
    }

    fn matches(&self, call: usize, scratch: &mut Scratch, out: &mut Vec<u32>) -> usize {
        let event = black_box(&self.events[call % self.events.len()]);
        out.clear();
        if self.in_turn {
            self.set
                .matches_in_turn_into(Origin(0), event, scratch, out);
        } else {
            self.set.matches_into(Origin(0), event, scratch, out);
        }
        out.len()
    }
}

/// The median time of a match of each contender, after each has been seen to match as often as it
/// should.
fn measure(contenders: &[(Contender<'_>, usize)]) -> Vec<Duration> {
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    for (contender, expected) in contenders {
        (0..contender.events.len()).for_each(|call| {
            assert_eq!(contender.matches(call, &mut scratch, &mut out), *expected)
        });
    }
    // `cargo test --benches` runs this too, without `--bench`: then only see that it works.
    let (rounds, calls) = if std::env::args().any(|argument| argument == "--bench") {
        (ROUNDS, CALLS)
    } else {
        (1, 1)
    };
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for _ in 0..rounds {
        for ((contender, _), times) in contenders.iter().zip(&mut times) {
            let start = Instant::now();
            for call in 0..calls {
                black_box(contender.matches(call, &mut scratch, &mut out));
            }
            times.push(start.elapsed() / calls as u32);
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
        .collect()
}

fn ratio(left: Duration, right: Duration) -> f64 {
    left.as_secs_f64() / right.as_secs_f64()
}

fn main() {
    let near: Vec<_> = (0..10).map(event).collect();
    let far: Vec<_> = (0..10).map(|number| event(997 * number + 13)).collect();
    let none: Vec<_> = (0..10).map(|number| event(20_000 + number)).collect();

    println!(
        "events of 1 KiB that one rule takes      10 rules ns   10,000 rules ns    ratio (at most 1.5)"
    );
    for (name, rule) in families() {
        let times = measure(&[
            (Contender::new(10, rule, &near), 1),
            (Contender::new(10_000, rule, &far), 1),
        ]);
        println!(
            "{name:<40}{:>12}{:>18}{:>10.2}",
            times[0].as_nanos(),
            times[1].as_nanos(),
            ratio(times[1], times[0])
        );
    }

    println!(
        "\n1,000 mixed rules over eight fields         ns per event          events/s (at least 500,000)"
    );
    let contenders = [
        ("ten match", Contender::new(1_000, mixed_by_ten, &near), 10),
        ("one matches", Contender::new(1_000, mixed, &near), 1),
        ("none matches", Contender::new(1_000, mixed, &none), 0),
    ];
    let (names, contenders): (Vec<_>, Vec<_>) = contenders
        .into_iter()
        .map(|(name, contender, expected)| (name, (contender, expected)))
        .unzip();
    for (name, time) in names.iter().zip(measure(&contenders)) {
        println!(
            "{name:<40}{:>16}{:>18.0}",
            time.as_nanos(),
            1.0 / time.as_secs_f64()
        );
    }

    for (rules, wanted) in [(100, "at least 3"), (10, ""), (7, ""), (1, "at least 1")] {
        println!(
            "\n{rules:>3} rules, one matches                       in turn ns          index ns    ratio ({wanted})"
        );
        for (name, rule) in families() {
            let events = &near[..rules.min(10)];
            let times = measure(&[
                (Contender::in_turn(rules, rule, events), 1),
                (Contender::new(rules, rule, events), 1),
            ]);
            println!(
                "{name:<40}{:>12}{:>18}{:>10.2}",
                times[0].as_nanos(),
                times[1].as_nanos(),
                ratio(times[0], times[1])
            );
        }
    }

    println!("\n10,000 rules                                KiB in all  compiled in ms");
    for (name, rule) in families() {
        let (mut set, mut time) = (None, Duration::ZERO);
        let all = allocation_counter::measure(|| {
            let rules = (0..10_000).map(rule).collect();
            let start = Instant::now();
            set = Some(RuleSet::compile(rules));
            time = start.elapsed();
        });
        println!(
            "{name:<40}{:>14}{:>16}",
            all.bytes_current / 1024,
            time.as_millis()
        );
        drop(set);
    }
}
