//! What messages are read as, and what events are written as.

use async_nats::HeaderMap;
use async_nats::jetstream::message::Info;
use bytes::Bytes;
use pointsman_schemas::{Clock, Data, DataKind, Reject, Timestamp};

use super::super::message::{Mapper, write};
use super::*;

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000)
    }
}

fn message(headers: &[(&str, &str)], payload: &[u8]) -> async_nats::Message {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    async_nats::Message {
        subject: "s.x".into(),
        reply: None,
        payload: payload.to_vec().into(),
        headers: (!headers.is_empty()).then_some(map),
        status: None,
        description: None,
        length: 0,
    }
}

fn read(mapped: bool, headers: &[(&str, &str)], payload: &[u8]) -> Result<Arrival, Reject> {
    let mapper = Mapper::new(Name::new("telemetry").unwrap(), mapped, Arc::new(Stopped));
    let stored = Info {
        domain: None,
        acc_hash: None,
        stream: "S",
        consumer: "c",
        stream_sequence: 42,
        consumer_sequence: 50,
        delivered: 3,
        pending: 0,
        published: async_nats::datetime::from_nanos(1_700_000_001_000_002_003).unwrap(),
        token: None,
    };
    let (mut arrivals, mut rejects) = mapper.read(&message(headers, payload), Some(&stored));
    assert_eq!(arrivals.len() + rejects.len(), 1);
    arrivals.pop().ok_or_else(|| rejects.remove(0))
}

#[test]
fn an_event_belongs_to_the_trace_of_its_message() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for announced in [&BINARY[..], &[("Content-Type", "text/plain")]] {
        let headers = [announced, &[("TraceParent", TRACE)]].concat();
        let trace = event(&headers, b"x")
            .attribute("traceparent")
            .map(|one| one.to_string());
        assert_eq!(trace.as_deref(), Some(TRACE));
    }
}

fn event(headers: &[(&str, &str)], payload: &[u8]) -> Event {
    match read(false, headers, payload) {
        Ok(Arrival::Event(event)) => Event::clone(&event),
        other => panic!("{headers:?}: {other:?}"),
    }
}

const BINARY: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/s"),
    ("ce-type", "t"),
];

#[test]
fn cloudevents_are_read_in_both_modes() {
    let base = || Event::builder("1", "/s", "t");
    let json = |text: &'static str| Data::json(text.into()).unwrap();
    let with = |more: &[(&'static str, &'static str)]| [&BINARY[..], more].concat();
    let structured = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a": 1}}"#;
    let cases = [
        (with(&[]), &b""[..], base()),
        (
            with(&[("ce-datacontenttype", "application/json")]),
            b"{\"a\": 1}",
            base()
                .datacontenttype("application/json")
                .data(json("{\"a\": 1}")),
        ),
        (
            with(&[("Content-Type", "application/json")]),
            b"[]",
            base().datacontenttype("application/json").data(json("[]")),
        ),
        (
            with(&[
                ("Ce-Datacontenttype", "text/plain;%20charset=utf-8"),
                ("content-type", "x/y"),
            ]),
            b"hi",
            base()
                .datacontenttype("text/plain; charset=utf-8")
                .data(Data::text("hi".into())),
        ),
        (
            with(&[]),
            b"\xff",
            base().data(Data::binary(b"\xff"[..].into())),
        ),
        (
            with(&[
                ("CE-Subject", "Euro%20%E2%82%AC%20%f0%9f%98%80"),
                ("ce-ext", "\"a b\""),
            ]),
            b"",
            base().subject("Euro € 😀").attribute("ext", "a b".into()),
        ),
        (
            vec![(
                "Content-Type",
                "application/cloudevents+json; charset=UTF-8",
            )],
            structured,
            base().data(json("{\"a\": 1}")),
        ),
        (
            vec![("content-type", "APPLICATION/CloudEvents")],
            structured,
            base().data(json("{\"a\": 1}")),
        ),
        (vec![], structured, base().data(json("{\"a\": 1}"))),
    ];
    for (headers, payload, expect) in cases {
        assert_eq!(
            event(&headers, payload),
            expect.build().unwrap(),
            "{headers:?}"
        );
    }
}

#[test]
fn broken_cloudevents_are_rejected_with_a_reason() {
    let with = |more: &[(&'static str, &'static str)]| [&BINARY[..], more].concat();
    for (headers, payload, reason) in [
        (
            BINARY[1..].to_vec(),
            &b"x"[..],
            "\"specversion\" is missing",
        ),
        (BINARY[..3].to_vec(), b"x", "\"type\" is missing"),
        (with(&[("Ce-Id", "2")]), b"x", "\"id\" is given twice"),
        (
            with(&[("ce-datacontenttype", "application/json")]),
            b"{",
            "declared as JSON",
        ),
        (
            with(&[("ce-datacontenttype", "%ff")]),
            b"x",
            "no media type",
        ),
        (
            vec![("content-type", "application/cloudevents+json")],
            b"{}",
            "missing",
        ),
        (
            vec![("content-type", "application/cloudevents+avro")],
            b"x",
            "no CloudEvent in a format that is understood",
        ),
        (
            vec![("content-type", "application/cloudevents-batch+json")],
            b"[]",
            "no events",
        ),
        (
            vec![("content-type", "application/json")],
            b"{",
            "declared as JSON",
        ),
    ] {
        let reject = read(false, &headers, payload).unwrap_err();
        assert!(
            reject.reason.contains(reason) && reject.raw == payload,
            "{headers:?}: {reject:?}"
        );
        assert!(
            reject.reason.contains(" (subject "),
            "where it lies: {reject:?}"
        );
    }
}

#[test]
fn a_plain_message_becomes_an_event() {
    let base = || {
        Event::builder("S.42.1700000001000002003", "/nats/telemetry", PLAIN_TYPE)
            .subject("s.x")
            .time("2023-11-14T22:13:21.000002Z")
    };
    let long: &[u8] = br#"{"n":12345678901234567890123,"specversion":"1.0"}"#;
    type Case<'c> = (&'c [(&'c str, &'c str)], &'c [u8], &'c str, Option<Data>);
    let cases: [Case<'_>; 8] = [
        (
            &[],
            long,
            "application/json",
            Some(Data::json(long.into()).unwrap()),
        ),
        (&[], b"hi", "text/plain", Some(Data::text("hi".into()))),
        (
            &[],
            b"\xff",
            "application/octet-stream",
            Some(Data::binary(b"\xff"[..].into())),
        ),
        (
            &[("Content-Type", "text/csv")],
            b"a,b",
            "text/csv",
            Some(Data::text("a,b".into())),
        ),
        (
            &[("content-type", "image/png")],
            b"{}",
            "image/png",
            Some(Data::binary(b"{}"[..].into())),
        ),
        (
            &[("content-type", "a/b+json"), ("X", "y")],
            b"{}",
            "a/b+json",
            Some(Data::json(b"{}"[..].into()).unwrap()),
        ),
        (
            &[("ce-ext", "x")],
            b"1",
            "application/json",
            Some(Data::json(b"1"[..].into()).unwrap()),
        ),
        (&[("content-type", "a/b")], b"", "a/b", None),
    ];
    for (headers, payload, media_type, data) in cases {
        assert_eq!(
            event(headers, payload),
            base()
                .datacontenttype(media_type)
                .data(data)
                .build()
                .unwrap(),
            "{headers:?}"
        );
    }
    let mapper = Mapper::new(Name::new("telemetry").unwrap(), false, Arc::new(Stopped));
    let core = || match mapper.read(&message(&[], b"hi"), None).0.pop() {
        Some(Arrival::Event(event)) => event,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        core().time().unwrap(),
        "2023-11-14T22:13:20Z",
        "without a stream the time of arrival"
    );
    assert_ne!(core().id(), core().id(), "and an id of its own");
}

#[test]
fn a_mapping_sees_all_of_a_plain_message() {
    let root = |headers: &[(&str, &str)], payload: &[u8]| match read(true, headers, payload) {
        Ok(Arrival::Plain(plain)) => {
            let event = plain.defaults.build().unwrap();
            let data = event.data().map(|data| data.bytes().clone());
            (data.unwrap_or_default(), Value::Object(plain.fields))
        }
        other => panic!("{other:?}"),
    };
    let at = json!({ "subject": "s.x", "stream": "S", "sequence": 42, "time": "2023-11-14T22:13:21.000002Z" });
    let expect = |body: &'static [u8], headers: Value| {
        let mut expect = json!({ "headers": headers });
        expect
            .as_object_mut()
            .unwrap()
            .extend(at.as_object().unwrap().clone());
        (Bytes::from_static(body), expect)
    };
    assert_eq!(
        root(&[("X-A", "1"), ("X-A", "2")], b"hi"),
        expect(b"hi", json!({ "x-a": "1, 2" }))
    );
    for body in [&b"{\"a\":1}"[..], b"\xff\xfe", b""] {
        assert_eq!(root(&[], body), expect(body, json!({})));
    }
    assert!(
        matches!(read(true, &BINARY, b""), Ok(Arrival::Event(_))),
        "a CloudEvent needs no mapping"
    );
}

#[test]
fn events_are_written_in_three_modes_and_read_back() {
    let written = |event: &Event, mode: Mode| {
        let (headers, payload) = write(event, mode);
        let mut lines: Vec<_> = headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}")))
            .collect();
        lines.sort();
        (lines, payload, headers)
    };
    let whole = Event::builder("1", "/s", "t")
        .subject("Euro € \"x\"")
        .attribute("n", 5.into())
        .datacontenttype("text/plain; charset=utf-8")
        .data(Data::text("hi".into()))
        .build()
        .unwrap();
    let (lines, payload, _) = written(&whole, Mode::Binary);
    let expect = [
        "ce-datacontenttype: text/plain;%20charset=utf-8",
        "ce-id: 1",
        "ce-n: 5",
        "ce-source: /s",
        "ce-specversion: 1.0",
        "ce-subject: Euro%20%E2%82%AC%20%22x%22",
        "ce-type: t",
    ];
    assert_eq!(lines, expect);
    assert_eq!(&payload[..], b"hi");
    let (lines, payload, _) = written(&whole, Mode::Data);
    assert_eq!(
        (lines, &payload[..]),
        (
            vec!["content-type: text/plain; charset=utf-8".to_owned()],
            &b"hi"[..]
        )
    );
    let (lines, _, _) = written(&whole, Mode::Structured);
    assert_eq!(lines, ["content-type: application/cloudevents+json"]);

    let plain = Event::builder("1", "/s", "t")
        .data(Data::binary(b"\x00\xff"[..].into()))
        .build()
        .unwrap();
    for one in [&whole, &plain] {
        for mode in [Mode::Binary, Mode::Structured] {
            let (_, payload, headers) = written(one, mode);
            let texts: Vec<(String, String)> = headers
                .iter()
                .flat_map(|(name, values)| {
                    values
                        .iter()
                        .map(move |value| (name.to_string(), value.to_string()))
                })
                .collect();
            let texts: Vec<(&str, &str)> = texts
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let back = event(&texts, &payload);
            assert_eq!(
                (back.subject(), back.data()),
                (one.subject(), one.data()),
                "{mode:?}"
            );
            assert_eq!(back.datacontenttype(), one.datacontenttype(), "{mode:?}");
            assert_eq!(
                back.data().map(Data::kind) == Some(DataKind::Binary),
                one == &plain
            );
        }
    }
}
