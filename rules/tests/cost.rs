//! What a rule costs grows with the event and not faster, and what a long list costs does not grow
//! with the list.
//!
//! Work is counted in steps, so that no clock and no other load has a say in it.

#![expect(clippy::unwrap_used, reason = "a test says bluntly what it expects")]

use bytes::Bytes;
use pointsman_rules::{Filter, Origin, OriginSet, Pattern, Rule, RuleSet, Scratch};
use pointsman_schemas::{Data, Event};
use serde_json::{Value, json};

/// Elements of the smaller event; the larger one has [`FACTOR`] times as many.
const ELEMENTS: usize = 500;
const FACTOR: usize = 8;

fn steps(pattern: &Value, data: &Value) -> u64 {
    let pattern = Pattern::compile(&json!({ "data": pattern })).unwrap();
    let set = RuleSet::compile(vec![Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(pattern),
    }]);
    let data = Data::json(Bytes::from(data.to_string())).unwrap();
    let event = Event::builder("1", "/s", "t").data(data).build().unwrap();
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    set.matches_into(Origin(0), &event, &mut scratch, &mut out);
    assert_eq!(out, [0_u32; 0], "what matches may stop early");
    scratch.steps()
}

fn list(length: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..length).map(item).collect::<Vec<_>>().into()
}

#[test]
fn work_grows_with_the_event_and_not_faster() {
    let compare = json!([{ "compare-to": [">", "$.data.limit"] }]);
    type Case = (&'static str, Value, fn(usize) -> Value);
    let cases: [Case; 7] = [
        (
            "compare-to over values",
            json!({ "a": compare }),
            |n| json!({ "limit": 10, "a": list(n, |_| json!(1)) }),
        ),
        (
            "compare-to over objects",
            json!({ "a": { "b": compare } }),
            |n| json!({ "limit": 10, "a": list(n, |_| json!({ "b": 1 })) }),
        ),
        (
            "compare-to with another list's end",
            json!({ "a": [{ "compare-to": ["=", "$.data.b[-1]"] }] }),
            |n| json!({ "a": list(n, |_| json!(1)), "b": list(n, |_| json!(2)) }),
        ),
        (
            "a list of values",
            json!({ "a": list(5_000, |n| json!(format!("x{n}"))) }),
            |n| json!({ "a": list(n, |n| json!(format!("y{n}"))) }),
        ),
        (
            "what is to be missing",
            json!({ "a": { "b": [{ "exists": false }], "c": [1] } }),
            |n| json!({ "a": list(n, |_| json!({ "b": 1, "c": 2 })) }),
        ),
        (
            "alternatives",
            json!({ "a": { "$or": [{ "b": [1] }, { "c": [1] }, { "d.e": [1] }] } }),
            |n| json!({ "a": list(n, |n| json!({ "b": n + 2, "d.e": 0, "d": { "e": 3 } })) }),
        ),
        (
            "arrays in arrays",
            json!({ "a": { "b": { "c": [1] } } }),
            |n| json!({ "a": list(n, |_| json!({ "b": list(8, |_| json!({ "c": 2 })) })) }),
        ),
    ];
    for (name, pattern, data) in cases {
        let (small, large) = (
            steps(&pattern, &data(ELEMENTS)),
            steps(&pattern, &data(FACTOR * ELEMENTS)),
        );
        let factor = large as f64 / small as f64;
        // Numbers in the text grow a little, too.
        assert!(
            factor < 1.5 * FACTOR as f64,
            "{name}: {small} steps, of {FACTOR} times as many elements {large}"
        );
    }
}

#[test]
fn a_long_list_costs_no_more_than_a_short_one() {
    type Case = (&'static str, fn(usize) -> Value);
    let cases: [Case; 9] = [
        ("texts", |n| json!(format!("x{n}"))),
        ("numbers", |n| json!(n + 10_000_000)),
        (
            "addresses",
            |n| json!({ "cidr": format!("10.{}.{}.0/24", n / 256, n % 256) }),
        ),
        ("beginnings", |n| json!({ "prefix": format!("x{n}") })),
        (
            "ends, whatever their case",
            |n| json!({ "suffix": { "equals-ignore-case": format!("x{n}x") } }),
        ),
        (
            "texts, whatever their case",
            |n| json!({ "equals-ignore-case": format!("X{n}") }),
        ),
        (
            "ranges",
            |n| json!({ "numeric": [">", 1_000_000 + n, "<", 1_000_010 + n] }),
        ),
        ("parts", |n| json!({ "contains": format!("x{n}x") })),
        ("wildcards", |n| json!({ "wildcard": format!("*x{n}") })),
    ];
    let data =
        json!({ "a": list(2_000, |n| if n % 2 == 0 { json!(n) } else { json!("192.168.0.1") }) });
    for (name, item) in cases {
        let (short, long) = (
            steps(&json!({ "a": list(10, item) }), &data),
            steps(&json!({ "a": list(10_000, item) }), &data),
        );
        assert_eq!(short, long, "{name}");
    }
    let listed =
        |length| json!({ "a": [{ "anything-but": list(length, |n| json!(n)) }], "b": [1] });
    let data = json!({ "a": list(2_000, |n| json!(n % 10)) });
    assert!(
        steps(&listed(10), &data) >= steps(&listed(9_000), &data),
        "anything-but"
    );
}
