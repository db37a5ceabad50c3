use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pointsman_schemas::{Event, Name, SystemClock};
use serde_json::json;

use super::incoming::PLAIN_TYPE;
use super::*;
use crate::Arrival;
use crate::leased::Decoder as _;
use crate::mns::queue::Message;

fn message(body: &str) -> Message {
    Message {
        id: "m-1".to_owned(),
        body: body.to_owned(),
        sent: Some(1_700_000_000_123),
        first_dequeued: Some(1_700_000_001_000),
        dequeue_count: Some(3),
        priority: Some(8),
        ..Message::default()
    }
}

fn decoder(encoding: Encoding, mapped: bool) -> Decoder {
    Decoder {
        name: Name::new("orders").unwrap(),
        queue: "orders-queue".to_owned(),
        encoding,
        mapped,
        clock: Arc::new(SystemClock),
    }
}

fn event(encoding: Encoding, body: &str) -> Result<Arc<Event>, String> {
    match decoder(encoding, false).arrival(&message(body))? {
        Arrival::Event(event) => Ok(event),
        other @ Arrival::Plain(_) => panic!("nothing is mapped: {other:?}"),
    }
}

fn data(event: &Event) -> &str {
    let bytes = event.data().map(|data| data.bytes().as_ref());
    std::str::from_utf8(bytes.unwrap_or_default()).unwrap()
}

#[test]
fn a_plain_message_is_an_event_of_the_documented_defaults() {
    for (encoding, body, text, media_type) in [
        (
            Encoding::Base64,
            "eyJhIjogMX0=",
            "{\"a\": 1}",
            "application/json",
        ),
        (
            Encoding::Base64,
            "{\"a\": 1}",
            "{\"a\": 1}",
            "application/json",
        ),
        (Encoding::Base64, "hello!", "hello!", "text/plain"),
        (Encoding::Text, "aGVsbG8=", "aGVsbG8=", "text/plain"),
    ] {
        let event = event(encoding, body).unwrap();
        assert_eq!(
            (event.ty(), event.source(), event.id(), event.subject()),
            (PLAIN_TYPE, "/mns/orders", "m-1", Some("orders-queue"))
        );
        assert_eq!(event.time(), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(
            (data(&event), event.datacontenttype()),
            (text, Some(media_type))
        );
    }
}

#[test]
fn a_cloudevent_is_taken_as_it_is_and_a_broken_one_is_not() {
    let whole =
        r#"{"specversion":"1.0","id":"7","source":"/s","type":"order.paid","data":{"n":1}}"#;
    for body in [whole.to_owned(), BASE64_STANDARD.encode(whole)] {
        let event = event(Encoding::Base64, &body).unwrap();
        assert_eq!(
            (event.id(), event.ty(), data(&event)),
            ("7", "order.paid", "{\"n\":1}")
        );
    }
    assert!(event(Encoding::Text, r#"{"specversion":"1.0","id":"7"}"#).is_err());
}

#[test]
fn what_a_topic_put_around_a_message_is_taken_off() {
    let fields = [
        ("TopicOwner", "1"),
        ("TopicName", "orders"),
        ("Subscriber", "1"),
        ("SubscriptionName", "to-queue"),
        ("MessageId", "T1"),
        ("MessageMD5", "0"),
        ("MessageTag", "paid"),
        ("PublishTime", "1700000000000"),
    ];
    let xml = |message: &str| {
        let fields = fields.map(|(name, value)| format!("<{name}>{value}</{name}>"));
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Notification \
             xmlns=\"http://mns.aliyuncs.com/doc/v1/\">{}<Message>{message}</Message></Notification>",
            fields.concat()
        )
    };
    let json = |message: &str| {
        let mut all: serde_json::Map<_, _> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        all.insert("Message".to_owned(), json!(message));
        serde_json::Value::Object(all).to_string()
    };
    for body in [
        xml("{&quot;n&quot;:1}"),
        xml("eyJuIjoxfQ=="),
        json("{\"n\":1}"),
        BASE64_STANDARD.encode(xml("eyJuIjoxfQ==")),
    ] {
        assert_eq!(data(&event(Encoding::Base64, &body).unwrap()), "{\"n\":1}");
        let mapped = decoder(Encoding::Base64, true).arrival(&message(&body));
        let Ok(Arrival::Plain(plain)) = mapped else {
            panic!("it is mapped");
        };
        assert_eq!(
            serde_json::Value::Object(plain.fields),
            json!({
                "headers": {},
                "queue": "orders-queue",
                "dequeue_count": 3,
                "priority": 8,
                "sent": "2023-11-14T22:13:20.123Z",
                "first_dequeued": "2023-11-14T22:13:21Z",
                "topic": {
                    "name": "orders",
                    "owner": "1",
                    "subscription": "to-queue",
                    "message_id": "T1",
                    "tag": "paid",
                    "published": "1700000000000",
                },
            })
        );
    }
    let whole = r#"{"specversion":"1.0","id":"7","source":"/s","type":"t"}"#;
    assert_eq!(event(Encoding::Base64, &json(whole)).unwrap().id(), "7");
}
