//! How many events of 1 KiB are read and matched in a second of CPU time, over the workloads that
//! quamina and event-ruler are measured by.
//!
//! `cargo bench -p pointsman-rules --bench throughput` prints thousands of events for each CPU
//! second, and how often an event is read and matched in the time that `serde_json` takes to read
//! it into a tree, which is a figure of the machine and of other load hardly more than the event.
//! `-- --write FOLDER` writes the workloads instead, for `rules/benches/quamina` and
//! `rules/benches/event-ruler`, which measure those by them.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark says bluntly what it expects"
)]

mod patterns;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use pointsman_rules::{Filter, Origin, OriginSet, Pattern, Rule, RuleSet, Scratch};
use pointsman_schemas::json;
use serde_json::{Value, json};

/// Rounds in which each contender is measured once; the median of them counts.
const ROUNDS: usize = 41;

/// How often all events are matched in one measurement.
const PASSES: usize = 20;

/// How many different events there are in a workload.
const EVENTS: usize = 100;

/// Patterns, and events of which each is taken by so many on the average.
struct Workload {
    name: &'static str,
    patterns: Vec<Value>,
    events: Vec<Bytes>,
}

/// A CloudEvent of 1 KiB, with numbers and texts that tell one from another by its number.
fn event(number: usize) -> Bytes {
    let with = |filling: usize| {
        json!({
            "specversion": "1.0", "type": format!("com.example.kind{number:05}.created"), "source": "aws:s3.us-west-2.photos",
            "id": "C3D13FE58DE4C810.EXAMPLE123", "time": "2026-01-31T09:30:00.123456Z", "subject": format!("albums/{number:05}/winter.jpg"),
            "datacontenttype": "application/json",
            "data": {
                "eventVersion": "2.2", "eventName": "ObjectCreated:Put", "userIdentity": { "principalId": format!("AWS:{number:05}:EXAMPLE") },
                "requestParameters": { "sourceIPAddress": format!("10.{}.{}.7", number / 256 % 256, number % 256) },
                "s3": {
                    "s3SchemaVersion": "1.0", "configurationId": "thumbnails",
                    "bucket": { "name": format!("photos-{number:05}"), "arn": "arn:aws:s3:::photos", "tags": ["a", "b", null, true] },
                    "object": { "key": format!("albums/2026/{number:05}/IMG_20260131.jpg"), "size": 10 * number + 5, "eTag": "d41d8cd98f00b204", "ratio": 1.3333 },
                },
                "state": "created", "note": "x".repeat(filling),
            },
        })
        .to_string()
    };
    Bytes::from(with(1024 - with(0).len()))
}

/// A lot of a city, as event-ruler's benchmark of arrays has them: a polygon of about ten points,
/// each an object, in arrays of arrays.
fn lot(number: usize) -> Bytes {
    let mut state = number as u64 + 1;
    let mut digits = || {
        // A generator as good as is needed, whose numbers are always the same (Knuth, MMIX).
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let points: Vec<_> = (0..8 + number % 5)
        .map(|_| json!({ "x": -122.5 + digits() / 8.0, "y": 37.7 + digits() / 8.0, "z": 0 }))
        .collect();
    let first = points[0].clone();
    let data = json!({
        "type": "Feature",
        "properties": {
            "MAPBLKLOT": format!("{number:07}"), "BLKLOT": format!("{number:07}"), "BLOCK_NUM": format!("{:04}", number / 10), "LOT_NUM": "001",
            "FROM_ST": "0", "TO_ST": "0", "STREET": "UNKNOWN", "ST_TYPE": null, "ODD_EVEN": "E",
        },
        "geometry": {
            "type": if number.is_multiple_of(50) { "MultiPolygon" } else { "Polygon" },
            "coordinates": [points],
            "firstCoordinates": first,
        },
    });
    let event = json!({
        "specversion": "1.0",
        "type": "lot.changed",
        "source": "/city",
        "id": number.to_string(),
        "data": data,
    });
    Bytes::from(event.to_string())
}

/// Event-ruler's rules over arrays.
fn over_arrays() -> Vec<Value> {
    let geometry = |geometry: Value| json!({ "data": { "geometry": geometry } });
    vec![
        geometry(json!({
            "type": ["Polygon"],
            "coordinates": { "x": [{ "numeric": ["=", -122.429_163_609_223_55] }] },
        })),
        geometry(json!({
            "type": ["MultiPolygon"],
            "coordinates": { "y": [{ "numeric": ["=", 37.729_900_216_217_324] }] },
        })),
        geometry(
            json!({ "coordinates": { "x": [{ "numeric": ["<", -122.416_009_440_124_24] }] } }),
        ),
        geometry(
            json!({ "coordinates": { "x": [{ "numeric": [">", -122.416_009_440_124_24] }] } }),
        ),
        geometry(json!({
            "coordinates": {
                "x": [
                    { "numeric": [">", -122.464_712_670_812_72, "<", -122.406_308_512_839_5] },
                ],
            },
        })),
    ]
}

fn workloads() -> Vec<Workload> {
    let events =
        |number: fn(usize) -> usize| (0..EVENTS).map(|at| event(number(at))).collect::<Vec<_>>();
    vec![
        Workload {
            name: "exact on 3 fields, 1,000 rules",
            patterns: (0..1_000).map(patterns::exact).collect(),
            events: events(|at| 7 * at + 3),
        },
        Workload {
            name: "exact on 3 fields, 10,000 rules",
            patterns: (0..10_000).map(patterns::exact).collect(),
            events: events(|at| 97 * at + 3),
        },
        Workload {
            name: "mixed, 1,000 rules",
            patterns: (0..1_000).map(|n| patterns::mixed(n, n)).collect(),
            events: events(|at| 7 * at + 3),
        },
        Workload {
            name: "nested arrays, 5 rules",
            patterns: over_arrays(),
            events: (0..EVENTS).map(lot).collect(),
        },
    ]
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The median CPU time of an event.
fn median(mut times: Vec<Duration>, events: usize) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() / events as f64
}

fn measure(workload: &Workload, rounds: usize, passes: usize) {
    let rule = |pattern| Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(Pattern::compile(pattern).expect("the pattern is right")),
    };
    let rules = RuleSet::compile(workload.patterns.iter().map(rule).collect());
    let (mut scratch, mut out, mut matches) = (Scratch::default(), Vec::new(), 0);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (contender, times) in times.iter_mut().enumerate() {
            let start = cpu_time();
            matches = 0;
            for bytes in (0..passes).flat_map(|_| &workload.events) {
                match contender {
                    0 => _ = black_box(serde_json::from_slice::<Value>(black_box(bytes))),
                    1 => _ = black_box(json::decode(black_box(bytes))),
                    _ => {
                        out.clear();
                        let event = json::decode(black_box(bytes)).expect("the event is right");
                        rules.matches_into(Origin(0), &event, &mut scratch, &mut out);
                        matches += black_box(&out).len();
                    }
                }
            }
            times.push(cpu_time() - start);
        }
    }
    assert!(matches > 0, "some events are to be taken");
    let events = passes * workload.events.len();
    let [tree, decoded, matched] = times.map(|times| median(times, events));
    let bytes = workload.events.iter().map(Bytes::len).sum::<usize>() / workload.events.len();
    println!(
        "{:<34}{bytes:>7}{:>10.2}{:>14.0}{:>16.0}{:>16.0}{:>14.2}",
        workload.name,
        matches as f64 / events as f64,
        tree * 1e9,
        decoded * 1e9,
        matched * 1e9,
        1e-3 / matched
    );
    println!("{:<34}{:>81.2}", "", tree / matched);
}

/// Writes the patterns and the events of each workload, one a line.
fn write(folder: &Path) -> std::io::Result<()> {
    for (number, workload) in workloads().into_iter().enumerate() {
        let lines = |lines: Vec<String>| lines.join("\n");
        let events = workload
            .events
            .iter()
            .map(|event| String::from_utf8_lossy(event).into_owned());
        std::fs::create_dir_all(folder)?;
        std::fs::write(
            folder.join(format!("{number}.patterns")),
            lines(workload.patterns.iter().map(Value::to_string).collect()),
        )?;
        std::fs::write(
            folder.join(format!("{number}.events")),
            lines(events.collect()),
        )?;
        std::fs::write(folder.join(format!("{number}.name")), workload.name)?;
    }
    Ok(())
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--write") {
        return write(Path::new(
            arguments
                .get(at + 1)
                .expect("a folder comes behind --write"),
        ))
        .expect("the folder can be written to");
    }
    // `cargo test --benches` runs this too, without `--bench`: then only see that it works.
    let (rounds, passes) = if arguments.iter().any(|argument| argument == "--bench") {
        (ROUNDS, PASSES)
    } else {
        (1, 1)
    };
    println!(
        "{:<34}{:>7}{:>10}{:>14}{:>16}{:>16}{:>14}",
        "", "bytes", "matches", "tree, ns", "read, ns", "and matched, ns", "k events/s"
    );
    println!("{:<34}{:>81}", "", "as often as serde_json::Value is read");
    for workload in workloads() {
        measure(&workload, rounds, passes);
    }
}
