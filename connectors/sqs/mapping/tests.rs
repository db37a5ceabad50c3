use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName as System};
use pointsman_schemas::{Event, Name, SystemClock};
use serde_json::json;

use super::incoming::PLAIN_TYPE;
use super::*;
use crate::Arrival;
use crate::leased::Decoder as _;

fn text(value: &str) -> MessageAttributeValue {
    let value = MessageAttributeValue::builder().string_value(value);
    value.data_type("String").build().unwrap()
}

fn message(body: &str, attributes: &[(&str, &str)]) -> Message {
    let attributes = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), text(value)));
    Message::builder()
        .message_id("m-1")
        .body(body)
        .set_message_attributes(Some(attributes.collect::<HashMap<_, _>>()))
        .attributes(System::SentTimestamp, "1700000000123")
        .attributes(System::ApproximateReceiveCount, "3")
        .attributes(System::MessageGroupId, "customer 7")
        .build()
}

fn decoder(mapped: bool) -> Decoder {
    Decoder {
        name: Name::new("orders").unwrap(),
        queue: "orders.fifo".to_owned(),
        mapped,
        clock: Arc::new(SystemClock),
    }
}

fn event(message: &Message) -> Result<Arc<Event>, String> {
    match decoder(false).arrival(message)? {
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
    for (body, attributes, media_type) in [
        ("{\"a\": 1}", &[][..], Some("application/json")),
        ("hello", &[], Some("text/plain")),
        ("hello", &[("content-type", "text/css")], Some("text/css")),
        ("hello", &[("ContentType", "text/css")], Some("text/css")),
    ] {
        let event = event(&message(body, attributes)).unwrap();
        assert_eq!(
            (
                event.ty(),
                event.source(),
                event.id(),
                event.subject().map(|s| s.to_string())
            ),
            (
                PLAIN_TYPE,
                "/sqs/orders",
                "m-1",
                Some("orders.fifo".to_owned())
            )
        );
        assert_eq!(data(&event), body);
        let media = event.datacontenttype().map(ToString::to_string);
        assert_eq!(media.as_deref(), media_type, "{body}");
        let attribute = |name| event.attribute(name).map(|value| value.to_string());
        assert_eq!(attribute("partitionkey").as_deref(), Some("customer 7"));
        assert_eq!(
            attribute("time").as_deref(),
            Some("2023-11-14T22:13:20.123Z")
        );
    }
}

#[test]
fn cloudevents_are_taken_as_they_are_in_both_modes() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let structured =
        r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.paid","data":{"a":1}}"#;
    for name in ["content-type", "ContentType", "contentType"] {
        let attributes = [(name, "application/cloudevents+json; charset=utf-8")];
        let event = event(&message(structured, &attributes)).unwrap();
        assert_eq!((event.id(), event.ty()), ("1", "order.paid"));
        assert_eq!(
            event.attribute("partitionkey"),
            None,
            "it is left as it was"
        );
    }
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/shop"),
        ("ce-type", "order.paid"),
        ("ce-ext", "ü"),
        ("content-type", "application/json"),
        ("traceparent", TRACE),
    ];
    let event = event(&message("{\"a\": 1}", &binary)).unwrap();
    assert_eq!(event.attribute("traceparent").unwrap().to_string(), TRACE);
    assert_eq!((event.id(), event.source()), ("2", "/shop"));
    assert_eq!(event.attribute("ext").unwrap().to_string(), "ü");
    assert_eq!(data(&event), "{\"a\": 1}");
}

#[test]
fn what_announces_a_cloudevent_and_is_none_says_why() {
    for (body, attributes, expect) in [
        (
            "{",
            &[("content-type", "application/cloudevents+json")][..],
            "",
        ),
        (
            "[]",
            &[("content-type", "application/cloudevents-batch+json")],
            "is no format of CloudEvents that is understood",
        ),
        ("x", &[("ce-id", "1"), ("ce-source", "/s")], "specversion"),
        ("x", &[("ce-specversion", "1.0"), ("ce-id", "1")], "source"),
        ("{ broken", &[("content-type", "application/json")], ""),
    ] {
        let error = event(&message(body, attributes)).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }
}

/// What SNS sends to a queue, with this message and these attributes.
fn notification(message: &str, attributes: serde_json::Value) -> String {
    json!({
        "Type": "Notification",
        "MessageId": "n-1",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:orders",
        "Subject": "a subject",
        "Message": message,
        "Timestamp": "2026-01-31T09:30:00.000Z",
        "SignatureVersion": "1",
        "Signature": "x",
        "MessageAttributes": attributes,
    })
    .to_string()
}

#[test]
fn what_sns_puts_around_a_message_is_taken_off() {
    let plain = event(&message(&notification("{\"a\": 1}", json!({})), &[])).unwrap();
    assert_eq!((plain.id(), data(&plain)), ("m-1", "{\"a\": 1}"));

    let attributes = json!({
        "ce-specversion": { "Type": "String", "Value": "1.0" },
        "ce-id": { "Type": "String", "Value": "7" },
        "ce-source": { "Type": "String", "Value": "/shop" },
        "ce-type": { "Type": "Binary", "Value": "b3JkZXIucGFpZA==" },
    });
    let cloud = event(&message(&notification("hello", attributes), &[])).unwrap();
    assert_eq!(
        (cloud.id(), cloud.ty(), data(&cloud)),
        ("7", "order.paid", "hello")
    );

    // What only looks like it is left as it came.
    for body in [
        "{\"TopicArn\": 1}".to_owned(),
        notification("x", json!({})).replace("Notification", "UnsubscribeConfirmation"),
        format!("text {}", notification("x", json!({}))),
    ] {
        assert_eq!(data(&event(&message(&body, &[])).unwrap()), body);
    }
}

#[test]
fn a_mapping_sees_what_sqs_and_sns_say() {
    let fields = |message: &Message| match decoder(true).arrival(message).unwrap() {
        Arrival::Plain(plain) => plain.fields,
        other @ Arrival::Event(_) => panic!("everything is mapped: {other:?}"),
    };
    let bytes = MessageAttributeValue::builder().binary_value(Blob::new([0xff, 0]));
    let mut plain = message("x", &[("kind", "paid")]);
    let attributes = plain.message_attributes.as_mut().unwrap();
    attributes.insert("raw".to_owned(), bytes.data_type("Binary").build().unwrap());
    assert_eq!(
        serde_json::Value::Object(fields(&plain)),
        json!({
            "headers": { "kind": "paid", "raw": "/wA=" },
            "queue": "orders.fifo",
            "group": "customer 7",
            "deduplication_id": null,
            "sequence": null,
            "receive_count": 3,
            "sent": "2023-11-14T22:13:20.123Z",
            "sender": null,
            "sns": null,
        })
    );
    let attributes = json!({ "kind": { "Type": "String", "Value": "due" } });
    let notified = fields(&message(&notification("x", attributes), &[]));
    assert_eq!(notified["headers"], json!({ "kind": "due" }));
    assert_eq!(
        notified["sns"],
        json!({
            "topic": "arn:aws:sns:eu-west-1:123456789012:orders",
            "subject": "a subject",
            "message_id": "n-1",
            "timestamp": "2026-01-31T09:30:00.000Z",
        })
    );
}
