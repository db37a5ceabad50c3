use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Name, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::Arrival;
use crate::mqtt::packet::{Properties, Publish, Qos, Version, property};
use crate::suite::{self, attempt, events, untold};

fn decoder(mapped: bool) -> Decoder {
    Decoder {
        name: Name::new("shop").unwrap(),
        mapped,
        clock: Arc::new(SystemClock),
        nonce: 1,
    }
}

fn message(content_type: Option<&'static str>, user: &[(&str, &[u8])], payload: &[u8]) -> Publish {
    let texts = content_type.map(|text| (property::CONTENT_TYPE, Bytes::from(text)));
    let pair = |(name, value): &(&str, &[u8])| {
        let name = Bytes::copy_from_slice(name.as_bytes());
        (name, Bytes::copy_from_slice(value))
    };
    Publish {
        qos: Qos::AtLeastOnce,
        retain: false,
        again: false,
        id: 1,
        topic: Bytes::from_static(b"orders/7"),
        properties: Properties {
            numbers: Vec::new(),
            texts: texts.into_iter().collect(),
            user: user.iter().map(pair).collect(),
        },
        payload: Bytes::copy_from_slice(payload),
        unreadable: None,
    }
}

fn read(publish: &Publish) -> Result<Value, String> {
    suite::read(decoder(false).arrival(publish, 10))
}

const REQUIRED: [(&str, &[u8]); 4] = [
    ("specversion", b"1.0"),
    ("id", b"1"),
    ("source", b"/s"),
    ("type", b"t"),
];

fn with<'e>(more: &[(&'e str, &'e [u8])]) -> Vec<(&'e str, &'e [u8])> {
    REQUIRED.iter().chain(more).copied().collect()
}

#[test]
fn what_goes_out_comes_in_the_same() {
    for event in events() {
        for (mode, version) in [
            (Mode::Binary, Version::V5),
            (Mode::Structured, Version::V5),
            (Mode::Structured, Version::V3),
        ] {
            let mut delivery = attempt(&["1"], 0).deliveries.remove(0);
            (delivery.event, delivery.trace) = (Arc::new(event.clone()), None);
            let (properties, payload) = encode(&delivery, "rule", mode).unwrap();
            let mut publish = message(None, &[], &payload);
            if version == Version::V5 {
                publish.properties = properties;
            }
            let Ok(Arrival::Event(back)) = decoder(true).arrival(&publish, 1) else {
                panic!("{mode:?}: {publish:?}")
            };
            assert_eq!(untold(&back), event, "{mode:?}");
        }
    }
}

#[test]
fn a_message_that_is_no_event_becomes_one() {
    let plain = |media_type: &str, data: Value| {
        json!({
            "specversion": "1.0",
            "id": "00000000000000000000000000000001-a",
            "source": "/mqtt/shop",
            "type": "com.pointsman.mqtt.message",
            "subject": "orders/7",
            "datacontenttype": media_type,
            "data": data,
        })
    };
    let read = |publish: &Publish| {
        let mut read = read(publish).unwrap();
        assert!(read["time"].as_str().unwrap() > "2026");
        read.as_object_mut().unwrap().remove("time");
        read
    };
    for (content_type, user, payload, expect) in [
        (
            None,
            &[][..],
            &b"{\"n\":1}"[..],
            plain("application/json", json!({ "n": 1 })),
        ),
        (None, &[], b"21.5 C", plain("text/plain", json!("21.5 C"))),
        (Some("text/css"), &[], b"5", plain("text/css", json!("5"))),
        // Properties that an event may have, too, do not make one.
        (
            None,
            &[("type", &b"t"[..]), ("id", b"1")],
            b"5",
            plain("application/json", json!(5)),
        ),
    ] {
        assert_eq!(read(&message(content_type, user, payload)), expect);
    }
    let mut retained = message(None, &[], b"5");
    retained.retain = true;
    assert_eq!(read(&retained)["mqttretained"], true);

    let user: &[(&str, &[u8])] = &[("kind", b"paid")];
    let Ok(Arrival::Plain(plain)) = decoder(true).arrival(&message(Some("a/b"), user, b"{}"), 1)
    else {
        panic!("it is mapped")
    };
    let mut fields = Value::from(plain.fields);
    fields.as_object_mut().unwrap().remove("time").unwrap();
    let expect = json!({
        "headers": { "kind": "paid" },
        "topic": "orders/7",
        "content_type": "a/b",
        "qos": 1,
        "retained": false,
    });
    assert_eq!(fields, expect);
}

#[test]
fn what_is_an_event_is_found_and_what_is_a_broken_one_is_told() {
    let document = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let expect = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" });
    let structured = Some("application/cloudevents+json; charset=utf-8");
    for publish in [
        message(None, &[], document),
        message(structured, &[], document),
        message(None, &with(&[("Not-An-Attribute", b"x")]), b""),
    ] {
        assert_eq!(read(&publish), Ok(expect.clone()), "{publish:?}");
        let mut retained = publish.clone();
        retained.retain = true;
        assert_eq!(read(&retained).unwrap()["mqttretained"], true);
    }
    let trace: (&str, &[u8]) = (
        "traceparent",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let traced = read(&message(None, &[trace], b"5")).unwrap();
    assert_eq!(traced["traceparent"].as_str().unwrap().as_bytes(), trace.1);

    let mut not_text = message(None, &[], b"5");
    not_text.topic = Bytes::from_static(b"\xff");
    for (publish, told) in [
        (message(None, &with(&[("id", b"2")]), b""), "given twice"),
        (message(None, &REQUIRED[..3], b""), "\"type\""),
        (message(None, &with(&[("note", b"\xfc")]), b""), "UTF-8"),
        (
            message(Some("application/json"), &REQUIRED, b"{"),
            "declared as JSON",
        ),
        (message(structured, &[], b"{"), "orders/7"),
        (
            message(Some("application/cloudevents+avro"), &[], b""),
            "understood",
        ),
        (message(None, &[], br#"{"specversion":"1.0"}"#), "missing"),
        (not_text, "topic"),
    ] {
        let error = read(&publish).unwrap_err();
        assert!(error.contains(told), "{publish:?}: {error}");
    }
}
