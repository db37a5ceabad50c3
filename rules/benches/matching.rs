//! How long one event of 1 KiB takes to read and to match, beside what `serde_json` takes for
//! reading it alone, measured in turns so that all see the same machine.
//!
//! `cargo bench -p pointsman-rules` prints the median of each and its ratio to `serde_json::Value`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a benchmark says bluntly what it expects"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_rules::{
    Condition, Document, Filter, JsonTemplate, Origin, OriginSet, Pattern, Rule, RuleSet, Scratch,
};
use pointsman_schemas::{Event, json};
use serde_json::{Value, json};

/// Rounds in which each contender is measured once; the median of them counts.
const ROUNDS: usize = 301;
/// Calls in one measurement.
const CALLS: u32 = 400;

/// A typical notification of an object store, filled up to 1 KiB.
fn event_of_1_kib() -> Bytes {
    let event = |filling: usize| {
        let data = json!({
            "eventVersion": "2.2", "eventName": "ObjectCreated:Put", "userIdentity": {"principalId": "AWS:AIDAJDPLRKLG7UEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "thumbnails", "bucket": {"name": "photos", "arn": "arn:aws:s3:::photos", "tags": ["a", "b", null, true]},
                "object": {"key": "albums/2026/winter/IMG_20260131_093000.jpg", "size": 4_817_203, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "ratio": 1.3333, "sequencer": "0055AED6DCD90281E5"},
            },
            "note": "x".repeat(filling),
        });
        json!({
            "specversion": "1.0", "type": "com.amazonaws.s3.ObjectCreated:Put", "source": "aws:s3.us-west-2.photos", "id": "C3D13FE58DE4C810.EXAMPLE123", "time": "2026-01-31T09:30:00.123456Z",
            "subject": "albums/2026/winter/IMG_20260131_093000.jpg", "datacontenttype": "application/json",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "data": data,
        })
        .to_string()
    };
    Bytes::from(event(1024 - event(0).len()))
}

fn pattern(pattern: Value) -> Rule {
    Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(Pattern::compile(&pattern).expect("the pattern is right")),
    }
}

fn condition(text: &str) -> Rule {
    Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(Condition::parse(text).expect("the condition is right")),
    }
}

/// Ten rules as people write them: most tell events apart by attributes, some look into the data.
/// One of them matches.
fn ten_mixed() -> Vec<Rule> {
    vec![
        pattern(
            json!({"type": [{"prefix": "com.amazonaws.s3.ObjectCreated"}], "subject": [{"suffix": ".jpg"}, {"suffix": ".png"}], "data": {"s3": {"object": {"size": [{"numeric": [">", 0, "<=", 10_485_760]}]}}}}),
        ),
        pattern(json!({"type": [{"prefix": "com.amazonaws.s3.ObjectRemoved"}]})),
        pattern(json!({"type": ["order.paid"], "data": {"total": [{"numeric": [">", 100]}]}})),
        pattern(
            json!({"source": [{"prefix": "/orders"}], "data": {"status": ["paid", "shipped"]}}),
        ),
        pattern(json!({"subject": [{"wildcard": "albums/*/summer/*"}]})),
        pattern(json!({"data": {"s3": {"bucket": {"name": ["documents", "backups"]}}}})),
        pattern(
            json!({"data": {"requestParameters": {"sourceIPAddress": [{"cidr": "10.0.0.0/8"}]}}}),
        ),
        pattern(
            json!({"data": {"userIdentity": {"principalId": [{"anything-but": {"prefix": "AWS:"}}]}}}),
        ),
        condition("$.data.s3.object.size > 10485760 && $.data.s3.bucket.name == 'photos'"),
        condition("$.type == 'github.push' && $.data.ref == 'refs/heads/main'"),
    ]
}

/// Ten rules that all look into the data, and of which none matches.
fn ten_on_data() -> Vec<Rule> {
    let fields = [
        "eventName",
        "s3.bucket.name",
        "s3.object.key",
        "s3.object.eTag",
        "userIdentity.principalId",
    ];
    let patterns = fields
        .iter()
        .map(|field| pattern(json!({ format!("data.{field}"): ["x", {"suffix": "y"}] })));
    patterns
        .chain(
            fields
                .iter()
                .map(|field| condition(&format!("$.data.{field} == 'x'"))),
        )
        .collect()
}

fn main() {
    // `cargo test --benches` runs this too, without `--bench`: then only see that it works.
    let (rounds, calls) = if std::env::args().any(|argument| argument == "--bench") {
        (ROUNDS, CALLS)
    } else {
        (1, 1)
    };
    let text = event_of_1_kib();
    assert_eq!(text.len(), 1024);
    let event = json::decode(&text).expect("the event is right");
    let (mixed, on_data) = (
        RuleSet::compile(ten_mixed()),
        RuleSet::compile(ten_on_data()),
    );
    let by_type = RuleSet::compile(
        (0..1_000)
            .map(|number| pattern(json!({"type": [format!("order.{number}")]})))
            .collect(),
    );
    let template =
        JsonTemplate::compile(&json!({"bucket": "<$.data.s3.bucket.name>", "key": "<$.subject>", "note": "made from <$.subject>"}))
            .expect("the template is right");
    let (mut scratch, mut out, mut made) = (Scratch::default(), Vec::new(), Vec::new());
    let mut matches = |rules: &RuleSet, event: &Event| {
        out.clear();
        rules.matches_into(Origin(0), event, &mut scratch, &mut out);
        out.len()
    };
    assert_eq!(
        (
            matches(&mixed, &event),
            matches(&on_data, &event),
            matches(&by_type, &event)
        ),
        (1, 0, 0)
    );

    let decode = || json::decode(black_box(&text)).expect("the event is right");
    let names = [
        "serde_json::Value",
        "decode",
        "decode, match 10 mixed rules",
        "decode, match 10 rules on data",
        "match 10 mixed rules",
        "match 10 rules on data",
        "match 1,000 rules on type",
        "fill a template of 3",
    ];
    let mut times = vec![Vec::with_capacity(rounds); names.len()];
    for _ in 0..rounds {
        for (contender, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            for _ in 0..calls {
                match contender {
                    0 => _ = black_box(serde_json::from_slice::<Value>(black_box(&text))),
                    1 => _ = black_box(decode()),
                    2 => _ = black_box(matches(&mixed, &decode())),
                    3 => _ = black_box(matches(&on_data, &decode())),
                    4 => _ = black_box(matches(&mixed, black_box(&event))),
                    5 => _ = black_box(matches(&on_data, black_box(&event))),
                    6 => _ = black_box(matches(&by_type, black_box(&event))),
                    _ => {
                        made.clear();
                        _ = black_box(
                            template.render(&Document::event(black_box(&event)), &mut made),
                        );
                    }
                }
            }
            times.push(start.elapsed() / calls);
        }
    }
    let medians: Vec<Duration> = times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
        .collect();
    println!(
        "{:<32}{:>10}{:>26}",
        "one event of 1 KiB", "ns", "x serde_json::Value"
    );
    for (name, median) in names.iter().zip(&medians) {
        println!(
            "{name:<32}{:>10}{:>26.2}",
            median.as_nanos(),
            median.as_secs_f64() / medians[0].as_secs_f64()
        );
    }
}
