use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Event, Name, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::Arrival;
use crate::leased::Decoder as _;
use crate::rocketmq::proto::{self, Digest, DigestType, Message, SystemProperties};
use crate::suite::{self, attempt, events, untold};

fn message(properties: &[(&str, &str)], body: &'static [u8]) -> Message {
    let property = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Message {
        topic: None,
        user_properties: properties.iter().map(property).collect(),
        system_properties: Some(SystemProperties {
            message_id: "01AB".to_owned(),
            tag: Some("placed".to_owned()),
            keys: vec!["7".to_owned()],
            message_group: Some("c7".to_owned()),
            queue_id: 3,
            queue_offset: Some(12),
            delivery_attempt: Some(1),
            born_host: "10.0.0.1".to_owned(),
            born_timestamp: Some(proto::Timestamp::of_micros(1_526_919_030_474_000)),
            ..SystemProperties::default()
        }),
        body: Bytes::from_static(body),
    }
}

fn decoder(mapped: bool) -> Decoder {
    Decoder {
        name: Name::new("shop").unwrap(),
        topic: "orders".to_owned(),
        mapped,
        clock: Arc::new(SystemClock),
    }
}

fn read(message: &Message) -> Result<Value, String> {
    suite::read(decoder(false).arrival(message))
}

const REQUIRED: [(&str, &str); 4] = [
    ("CE_specversion", "1.0"),
    ("CE_id", "1"),
    ("CE_source", "/s"),
    ("CE_type", "t"),
];

fn with<'e>(more: &[(&'e str, &'e str)]) -> Vec<(&'e str, &'e str)> {
    REQUIRED.iter().chain(more).copied().collect()
}

#[test]
fn what_goes_out_comes_in_the_same() {
    for event in events() {
        for mode in [Mode::Binary, Mode::Structured] {
            let mut delivery = attempt(&["1"], 0).deliveries.remove(0);
            delivery.event = Arc::new(event.clone());
            delivery.trace = None;
            let (properties, body) = encode(&delivery, "rule", mode).unwrap();
            assert!(!body.is_empty(), "RocketMQ takes none");
            let mut message = message(&[], b"");
            (message.user_properties, message.body) = (properties, body);
            let Ok(Arrival::Event(back)) = decoder(true).arrival(&message) else {
                panic!("{mode:?}: {message:?}")
            };
            assert_eq!(untold(&back), event, "{mode:?}");
        }
    }
    let mut delivery = attempt(&["1"], 0).deliveries.remove(0);
    delivery.event = Arc::new(Event::builder("1", "/s", "t").build().unwrap());
    let told = encode(&delivery, "rule", Mode::Data).unwrap_err();
    assert!(told.contains("no empty body"), "{told}");
}

#[test]
fn a_plain_message_has_the_attributes_of_the_documentation() {
    let expect = json!({
        "specversion": "1.0",
        "id": "01AB",
        "source": "/rocketmq/shop",
        "type": "com.pointsman.rocketmq.message",
        "subject": "orders",
        "time": "2018-05-21T16:10:30.474Z",
        "partitionkey": "c7",
        "datacontenttype": "application/json",
        "data": { "n": 1 },
    });
    let order = message(&[("source", "web")], b"{\"n\":1}");
    assert_eq!(read(&order), Ok(expect));
    let Ok(Arrival::Plain(plain)) = decoder(true).arrival(&order) else {
        panic!("it is mapped")
    };
    let root = Value::Object(plain.fields);
    for (name, expect) in [
        ("headers", json!({ "source": "web" })),
        ("topic", json!("orders")),
        ("tag", json!("placed")),
        ("keys", json!(["7"])),
        ("group", json!("c7")),
        ("message_id", json!("01AB")),
        ("queue", json!(3)),
        ("offset", json!(12)),
        ("attempt", json!(1)),
        ("host", json!("10.0.0.1")),
        ("time", json!("2018-05-21T16:10:30.474Z")),
    ] {
        assert_eq!(root[name], expect, "{name}");
    }
}

#[test]
fn cloudevents_as_others_write_them() {
    let event = |more: Value| {
        let event = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" });
        crate::suite::with(event, more)
    };
    let text = json!({ "datacontenttype": "text/plain", "data": "5" });
    for (properties, body, expect) in [
        // The binding writes it in one way, and its examples in another.
        (with(&[("CE_contenttype", "text/plain")]), &b"5"[..], &text),
        (with(&[("CE_contentType", "text/plain")]), b"5", &text),
        (with(&[("CE_datacontenttype", "text/plain")]), b"5", &text),
        (with(&[]), b"\0", &json!({})),
        (
            with(&[("CE_ext", "ü"), ("other", "x")]),
            b"\0",
            &json!({ "ext": "ü" }),
        ),
        (
            vec![(
                "CE_contenttype",
                "application/cloudevents+json; charset=UTF-8",
            )],
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#,
            &json!({}),
        ),
        (
            vec![],
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#,
            &json!({}),
        ),
    ] {
        let found = read(&message(&properties, body));
        assert_eq!(found, Ok(event(expect.clone())), "{properties:?}");
    }
}

#[test]
fn what_announces_an_event_and_is_none_is_told() {
    let corrupt = {
        let mut message = message(&[], b"hello");
        let system = message.system_properties.as_mut().unwrap();
        system.body_digest = Some(Digest {
            r#type: DigestType::Md5.into(),
            checksum: "00".to_owned(),
        });
        message
    };
    for (message, expect) in [
        (message(&[("CE_id", "1")], b"x"), "specversion"),
        (message(&with(&[("CE_A", "1")]), b"x"), "A"),
        (
            message(&[("CE_contenttype", "application/cloudevents+json")], b"x"),
            "JSON",
        ),
        (
            message(&[("CE_contenttype", "application/cloudevents+avro")], b"x"),
            "no format of CloudEvents",
        ),
        (
            message(&with(&[("CE_contenttype", "application/json")]), b"{ x"),
            "JSON",
        ),
        (corrupt, "not the one that was sent"),
    ] {
        let told = read(&message).unwrap_err();
        assert!(told.contains(expect), "{message:?}: {told}");
    }
}
