use std::sync::Arc;

use bytes::Bytes;
use krafka::ConsumerRecord;
use pointsman_schemas::{Data, Event, Name, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::Arrival;
use crate::suite::{self, event, events};

fn record(value: Option<&[u8]>, headers: &[(&str, &str)]) -> ConsumerRecord {
    let key = Some(Bytes::from_static(b"k"));
    let mut record = ConsumerRecord::new("orders", 3, 7, key, value.map(Bytes::copy_from_slice));
    record.timestamp = 1_500;
    let header = |(name, value): &(&str, &str)| {
        let value = Bytes::copy_from_slice(value.as_bytes());
        ((*name).to_owned(), Some(value))
    };
    record.headers = headers.iter().map(header).collect();
    record
}

fn decoder(mapped: bool) -> Decoder {
    Decoder {
        name: Name::new("shop").unwrap(),
        mapped,
        clock: Arc::new(SystemClock),
    }
}

fn read(record: &ConsumerRecord) -> Result<Value, String> {
    suite::read(decoder(false).arrival(record))
}

const REQUIRED: [(&str, &str); 4] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "1"),
    ("ce_source", "/s"),
    ("ce_type", "t"),
];

fn with<'h>(more: &[(&'h str, &'h str)]) -> Vec<(&'h str, &'h str)> {
    REQUIRED.iter().chain(more).copied().collect()
}

#[test]
fn what_goes_out_comes_in_the_same() {
    let more = [
        event("1")
            .into_builder()
            .attribute("time", "2026-01-31T09:30:00.123456789+05:30".into())
            .attribute("note", "ü, and % and \" are not encoded".into())
            .build()
            .unwrap(),
        Event::builder("1", "/s", "t")
            .datacontenttype("text/plain")
            .data(Data::text("ü".into()))
            .build()
            .unwrap(),
    ];
    for event in events().into_iter().chain(more) {
        for mode in [Mode::Binary, Mode::Structured] {
            let (value, headers) = encode(&event, mode);
            let mut record = record(value.as_deref(), &[]);
            record.headers = headers
                .into_iter()
                .map(|(name, value)| (name, Some(value)))
                .collect();
            let Ok(Arrival::Event(back)) = decoder(true).arrival(&record) else {
                panic!("{mode:?}: {record:?}")
            };
            assert_eq!(*back, event, "{mode:?}");
        }
        let (value, headers) = encode(&event, Mode::Data);
        assert_eq!(value.as_ref(), event.data().map(Data::bytes));
        assert!(headers.len() <= 1, "{headers:?}");
    }
}

#[test]
fn attributes_stand_in_headers() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let found = read(&record(
        Some(b"{\"n\":1}"),
        &with(&[
            ("Content-Type", "application/json"),
            ("ce_subject", "ü%20"),
            ("ce_partitionkey", "p"),
            ("other", "x"),
            ("traceparent", TRACE),
        ]),
    ));
    let expect = json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "ü%20",
        "partitionkey": "p", "datacontenttype": "application/json", "data": { "n": 1 },
        "traceparent": TRACE,
    });
    assert_eq!(found, Ok(expect));
    let deleted = read(&record(
        None,
        &with(&[("content-type", "application/json")]),
    ));
    assert_eq!(deleted.unwrap().get("data"), None);
}

#[test]
fn what_announces_an_event_and_is_none_is_told() {
    let latin = |name: &str| {
        let mut record = record(None, &REQUIRED);
        let latin = Some(Bytes::from_static(b"\xfc"));
        record.headers.push((name.to_owned(), latin));
        record
    };
    for (record, expect) in [
        (record(None, &with(&[("ce_id", "2")])), "given twice"),
        (record(None, &REQUIRED[1..]), "specversion"),
        (record(None, &REQUIRED[..3]), "\"type\""),
        (record(None, &[("ce_specversion", "0.3")]), "0.3"),
        (
            record(Some(b"{"), &with(&[("content-type", "application/json")])),
            "declared as JSON",
        ),
        (latin("ce_note"), "UTF-8"),
        (
            record(
                Some(b"{}"),
                &[("content-type", "application/cloudevents+json")],
            ),
            "missing",
        ),
        (
            record(
                Some(b"[]"),
                &[("content-type", "application/cloudevents-batch+json")],
            ),
            "no format of CloudEvents",
        ),
        (
            record(
                None,
                &[(
                    "content-type",
                    "application/cloudevents+json; charset=utf-8",
                )],
            ),
            "",
        ),
    ] {
        let error = read(&record).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }
}

#[test]
fn other_records_become_events_of_their_own() {
    let plain = json!({
        "specversion": "1.0", "id": "orders.3.7.1500", "source": "/kafka/shop",
        "type": "com.pointsman.kafka.record", "subject": "orders", "partitionkey": "k",
        "time": "1970-01-01T00:00:01.5Z",
        "datacontenttype": "application/json", "data": [1],
    });
    assert_eq!(read(&record(Some(b"[1]"), &[("a", "b")])), Ok(plain));
    let gone = read(&record(None, &[("content-type", "application/json")])).unwrap();
    assert_eq!(
        (gone.get("data"), gone.get("datacontenttype")),
        (None, None)
    );
    let mut odd = record(Some(b"\xff"), &[]);
    (odd.key, odd.timestamp) = (Some(Bytes::from_static(b"\xff")), -1);
    let odd = read(&odd).unwrap();
    assert_eq!(odd.get("partitionkey"), None);
    assert_eq!(odd["data_base64"], "/w==");
    assert!(odd["time"].as_str().unwrap() > "2026");
}

#[test]
fn a_mapping_sees_the_whole_record() {
    let mut record = record(Some(b"x"), &[("a", "b"), ("a", "c")]);
    record.headers.extend([
        ("n".to_owned(), None),
        ("x".to_owned(), Some(Bytes::from_static(b"\xff"))),
    ]);
    let Ok(Arrival::Plain(plain)) = decoder(true).arrival(&record) else {
        panic!("a plain record is mapped")
    };
    let expect = json!({
        "headers": { "a": "c", "n": null, "x": "/w==" },
        "key": "k", "topic": "orders", "partition": 3, "offset": 7,
        "time": "1970-01-01T00:00:01.5Z",
    });
    assert_eq!(Value::from(plain.fields), expect);
    plain.defaults.build().unwrap();
}
