//! How long one event of 1 KiB takes to read, here and with others, measured in turns so that all
//! see the same machine.
//!
//! `cargo bench -p pointsman-schemas` prints the median of each and its ratio to
//! `serde_json::Value`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a benchmark says bluntly what it expects"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_schemas::{Data, http, json};

/// Rounds in which each contender is measured once; the median of them counts.
const ROUNDS: usize = 301;
/// Calls in one measurement.
const CALLS: u32 = 400;

type Contender<'b> = (&'static str, Box<dyn FnMut() + 'b>);

/// The members of a typical notification of an object store, filled up to 1 KiB.
fn event_of_1_kib() -> Bytes {
    let event = |filling: usize| {
        format!(
            r#"{{"specversion":"1.0","type":"com.amazonaws.s3.ObjectCreated:Put","source":"aws:s3.us-west-2.photos","id":"C3D13FE58DE4C810.EXAMPLE123","time":"2026-01-31T09:30:00.123456Z","subject":"albums/2026/winter/IMG_20260131_093000.jpg","datacontenttype":"application/json","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{{"eventVersion":"2.2","eventName":"ObjectCreated:Put","userIdentity":{{"principalId":"AWS:AIDAJDPLRKLG7UEXAMPLE"}},"requestParameters":{{"sourceIPAddress":"127.0.0.1"}},"s3":{{"s3SchemaVersion":"1.0","configurationId":"thumbnails","bucket":{{"name":"photos","arn":"arn:aws:s3:::photos","tags":["a","b",null,true]}},"object":{{"key":"albums/2026/winter/IMG_20260131_093000.jpg","size":4817203,"eTag":"d41d8cd98f00b204e9800998ecf8427e","ratio":1.3333,"sequencer":"0055AED6DCD90281E5"}}}},"note":"{}"}}}}"#,
            "x".repeat(filling)
        )
    };
    let bytes = Bytes::from(event(1024 - event(0).len()));
    assert_eq!(bytes.len(), 1024);
    bytes
}

fn main() {
    // `cargo test --benches` runs this too, without `--bench`: then only see that it works.
    let (rounds, calls) = if std::env::args().any(|argument| argument == "--bench") {
        (ROUNDS, CALLS)
    } else {
        (1, 1)
    };
    let text = event_of_1_kib();
    let event = json::decode(&text).expect("the event is right");
    let (headers, body) = http::encode_binary(&event);
    let data = event.data().expect("it has data").bytes().clone();
    let mut out = Vec::with_capacity(2048);

    let mut contenders: Vec<Contender<'_>> = vec![
        (
            "serde_json::Value, structured",
            Box::new(|| {
                _ = black_box(serde_json::from_slice::<serde_json::Value>(black_box(
                    &text,
                )))
            }),
        ),
        (
            "cloudevents-sdk, structured",
            Box::new(|| {
                _ = black_box(serde_json::from_slice::<cloudevents::Event>(black_box(
                    &text,
                )))
            }),
        ),
        (
            "decode, structured",
            Box::new(|| _ = black_box(json::decode(black_box(&text)))),
        ),
        (
            "decode, binary",
            Box::new(|| _ = black_box(http::decode(black_box(&headers), body.clone(), 1))),
        ),
        (
            "Data::json alone",
            Box::new(|| _ = black_box(Data::json(black_box(&data).clone()))),
        ),
        (
            "encode, structured",
            Box::new(|| {
                out.clear();
                json::encode(black_box(&event), &mut out);
            }),
        ),
        (
            "encode, binary",
            Box::new(|| _ = black_box(http::encode_binary(black_box(&event)))),
        ),
    ];
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for _ in 0..rounds {
        for ((_, call), times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
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
    for ((name, _), median) in contenders.iter().zip(&medians) {
        println!(
            "{name:<32}{:>10}{:>26.2}",
            median.as_nanos(),
            median.as_secs_f64() / medians[0].as_secs_f64()
        );
    }
}
