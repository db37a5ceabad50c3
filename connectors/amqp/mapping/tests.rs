use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Name, SystemClock};
use serde_json::json;

use super::*;
use crate::Arrival;
use crate::amqp::message::{Body, Message, Property};
use crate::amqp::value::Value;
use crate::suite::{self, attempt, events, untold};

fn decoder(mapped: bool) -> Decoder {
    Decoder {
        name: Name::new("shop").unwrap(),
        address: "orders".to_owned(),
        mapped,
        clock: Arc::new(SystemClock),
        nonce: 1,
    }
}

type Headers<'h> = &'h [(&'h str, Value)];

fn message(content_type: Option<&str>, headers: Headers<'_>, body: Body) -> Message {
    let mut message = Message::default();
    if let Some(content_type) = content_type {
        message.set(Property::ContentType, Value::symbol_of(content_type));
    }
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| (Value::string(name), value.clone()));
    message.application = headers.collect();
    message.body = body;
    message
}

fn data(bytes: &'static [u8]) -> Body {
    Body::Data(Bytes::from_static(bytes))
}

fn read(message: Message) -> Result<serde_json::Value, String> {
    suite::read(decoder(false).arrival(&message.write(), 10))
}

fn required() -> Vec<(&'static str, Value)> {
    let string = |text: &str| Value::string(text);
    vec![
        ("cloudEvents:specversion", string("1.0")),
        ("cloudEvents:id", string("1")),
        ("cloudEvents_source", string("/s")),
        ("cloudEvents:type", string("t")),
    ]
}

fn with(name: &'static str, value: Value) -> Vec<(&'static str, Value)> {
    let mut headers = required();
    headers.push((name, value));
    headers
}

#[test]
fn what_goes_out_comes_in_the_same() {
    for event in events() {
        for mode in [Mode::Binary, Mode::Structured] {
            let mut delivery = attempt(&["1"], 0).deliveries.remove(0);
            (delivery.event, delivery.trace) = (Arc::new(event.clone()), None);
            let message = encode(&delivery, "rule", mode, &Properties::default());
            let Ok(Arrival::Event(back)) = decoder(true).arrival(&message.write(), 1) else {
                panic!("{mode:?}: {event:?}")
            };
            assert_eq!(untold(&back), event, "{mode:?}");
        }
    }
}

#[test]
fn attributes_are_read_of_their_types() {
    for (value, expect) in [
        (Value::Boolean(true), json!(true)),
        (Value::Int(-7), json!(-7)),
        (Value::Uint(7), json!(7)),
        (Value::Binary(Bytes::from_static(b"\xff")), json!("/w==")),
        (
            Value::Timestamp(1_700_000_000_000),
            json!("2023-11-14T22:13:20Z"),
        ),
        (Value::symbol("s"), json!("s")),
    ] {
        let headers = with("cloudEvents_ext", value);
        let event = read(message(None, &headers, data(b""))).unwrap();
        assert_eq!(event["ext"], expect);
    }
    let headers = with("cloudEvents:time", Value::Timestamp(1_700_000_000_000));
    let event = read(message(Some("text/plain"), &headers, data(b"5"))).unwrap();
    assert_eq!(event["time"], "2023-11-14T22:13:20Z");
    assert_eq!(
        (&event["data"], &event["datacontenttype"]),
        (&json!("5"), &json!("text/plain"))
    );
}

#[test]
fn a_message_that_is_no_event_becomes_one() {
    let text = |text: &str| Body::Value(Value::string(text));
    let list = || vec![Value::Int(1), Value::string("a")];
    let map = Value::Map(vec![(Value::string("n"), Value::Int(1))]);
    for (content_type, body, media_type, expect) in [
        (
            None,
            data(b"{\"n\":1}"),
            "application/json",
            json!({ "n": 1 }),
        ),
        (None, data(b"21.5 C"), "text/plain", json!("21.5 C")),
        (Some("text/css"), data(b"5"), "text/css", json!("5")),
        (None, text("plain"), "text/plain", json!("plain")),
        (
            None,
            text("{\"n\":1}"),
            "application/json",
            json!({ "n": 1 }),
        ),
        (
            None,
            Body::Value(map),
            "application/json",
            json!({ "n": 1 }),
        ),
        (
            None,
            Body::Sequence(list()),
            "application/json",
            json!([1, "a"]),
        ),
        (
            None,
            Body::Value(Value::Float(1.5)),
            "application/json",
            json!(1.5),
        ),
        (Some("no type"), data(b"5"), "application/json", json!(5)),
    ] {
        let found = read(message(content_type, &[], body.clone())).unwrap();
        assert!(found["time"].as_str().unwrap() > "2026");
        let mut found = found;
        found.as_object_mut().unwrap().remove("time");
        assert_eq!(
            found,
            json!({
                "specversion": "1.0",
                "id": "00000000000000000000000000000001-a",
                "source": "/amqp/shop",
                "type": "com.pointsman.amqp.message",
                "subject": "orders",
                "datacontenttype": media_type,
                "data": expect,
            }),
            "{body:?}"
        );
    }
    for body in [data(b""), Body::Value(Value::Null)] {
        assert!(
            read(message(None, &[], body))
                .unwrap()
                .get("data")
                .is_none()
        );
    }
    for bytes in [
        Body::Value(Value::Binary(Bytes::from_static(b"\xff\0"))),
        data(b"\xff\0"),
    ] {
        let event = read(message(None, &[], bytes)).unwrap();
        assert_eq!(event["data_base64"], "/wA=");
    }
    let mut packed = message(Some("application/json"), &[], data(b"{"));
    packed.set(Property::ContentEncoding, Value::symbol("gzip"));
    assert_eq!(
        read(packed).unwrap()["datacontenttype"],
        "application/octet-stream"
    );
}

#[test]
fn what_a_message_says_of_itself_is_the_events() {
    let mut told = message(None, &[("kind", Value::Int(3))], data(b"{}"));
    told.set(Property::MessageId, Value::Uuid([0; 16]));
    told.set(Property::Subject, Value::string("paid"));
    told.set(Property::GroupId, Value::string("customer"));
    told.set(Property::CreationTime, Value::Timestamp(1_700_000_000_123));
    told.annotations = vec![(Value::symbol("x-opt-offset"), Value::Ulong(7))];
    told.delivery_count = 2;
    told.is_durable = true;
    let event = read(told.clone()).unwrap();
    assert_eq!(
        event,
        json!({
            "specversion": "1.0",
            "id": "00000000-0000-0000-0000-000000000000",
            "source": "/amqp/shop",
            "type": "com.pointsman.amqp.message",
            "subject": "paid",
            "time": "2023-11-14T22:13:20.123Z",
            "partitionkey": "customer",
            "datacontenttype": "application/json",
            "data": {},
        })
    );
    // What is written has no place for it, which is the broker's.
    let mut bytes = told.write().to_vec();
    let header = b"\0\x53\x70\xc0\x07\x05\x41\x40\x40\x42\x52\x02";
    bytes.splice(
        ..bytes.windows(3).position(|at| at == b"\0\x53\x72").unwrap(),
        *header,
    );
    let Ok(Arrival::Plain(plain)) = decoder(true).arrival(&bytes.into(), 1) else {
        panic!("it is mapped")
    };
    let expect = json!({
        "headers": { "kind": 3 },
        "properties": {
            "message_id": "00000000-0000-0000-0000-000000000000",
            "subject": "paid",
            "group_id": "customer",
            "creation_time": "2023-11-14T22:13:20.123Z",
        },
        "annotations": { "x-opt-offset": 7 },
        "address": "orders",
        "durable": true,
        "priority": null,
        "delivery_count": 2,
        "time": "2023-11-14T22:13:20.123Z",
    });
    assert_eq!(serde_json::Value::from(plain.fields), expect);
}

#[test]
fn what_is_an_event_is_found_and_what_is_a_broken_one_is_told() {
    let document = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let expect = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" });
    let structured = Some("application/cloudevents+json; charset=utf-8");
    let text = Value::string(std::str::from_utf8(document).unwrap());
    for message in [
        message(None, &[], data(document)),
        message(structured, &[], data(document)),
        message(structured, &[], Body::Value(text)),
        message(None, &required(), data(b"")),
        message(None, &with("cloudEvents:ext", Value::Null), data(b"")),
    ] {
        assert_eq!(read(message.clone()), Ok(expect.clone()), "{message:?}");
    }
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = message(None, &[("traceparent", Value::string(trace))], data(b"5"));
    assert_eq!(read(traced).unwrap()["traceparent"], trace);

    for (message, told) in [
        (
            message(None, &with("cloudEvents_id", Value::string("2")), data(b"")),
            "given twice",
        ),
        (message(None, &required()[..3], data(b"")), "\"type\""),
        (
            message(None, &required()[1..], data(b"")),
            "\"specversion\"",
        ),
        (
            message(None, &with("cloudEvents:ext", Value::Float(1.5)), data(b"")),
            "\"ext\"",
        ),
        (
            message(Some("application/json"), &required(), data(b"{")),
            "declared as JSON",
        ),
        (message(structured, &[], data(b"{")), "JSON"),
        (
            message(Some("application/cloudevents+avro"), &[], data(b"")),
            "understood",
        ),
    ] {
        let error = read(message.clone()).unwrap_err();
        assert!(error.contains(told), "{message:?}: {error}");
    }
    let torn = decoder(false).arrival(&Bytes::from_static(b"\0\x53\x75\xa0\x05a"), 1);
    assert!(torn.unwrap_err().contains("breaks off"));
}
