use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString};
use pointsman_schemas::{
    AttributeValue, Data, DataKind, Event, ExtensionValue, Name, Timestamp, json,
};
use serde_json::{Value, json};

use super::incoming::OFFSET;
use super::*;
use crate::suite::event;

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn incoming(body: &str, properties: BasicProperties, headers: &[(&str, AMQPValue)]) -> Incoming {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    Incoming {
        body: Bytes::copy_from_slice(body.as_bytes()),
        properties: properties.with_headers(table),
        routing_key: "orders.new".into(),
        exchange: "shop".into(),
        redelivered: true,
        unreadable: None,
    }
}

fn typed(content_type: &str) -> BasicProperties {
    BasicProperties::default().with_content_type(content_type.into())
}

/// The JSON format of what a plain message becomes.
fn plain(message: &Incoming) -> Value {
    assert!(message.event().is_none());
    let event = message
        .plain(
            &Name::new("orders").unwrap(),
            || "made".to_owned(),
            Timestamp(1_500_000),
        )
        .unwrap()
        .build()
        .unwrap();
    let mut text = Vec::new();
    json::encode(&event, &mut text);
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn what_goes_out_comes_in_the_same() {
    let with = |name: &'static str, value: ExtensionValue| {
        event("1").into_builder().attribute(name, value)
    };
    let events = [
        event("1"),
        with("time", "2026-01-31T09:30:00.123456789+05:30".into())
            .attribute("n", (-5).into())
            .attribute("z", true.into())
            .build()
            .unwrap(),
        Event::builder("1", "/s", "t").build().unwrap(),
        Event::builder("1", "/s", "t")
            .data(Data::binary(Bytes::from_static(b"\xff\0")))
            .build()
            .unwrap(),
        Event::builder("1", "/s", "t")
            .datacontenttype("text/plain")
            .data(Data::text("ü".into()))
            .build()
            .unwrap(),
        Event::builder("x".repeat(400), "/s", "y".repeat(400))
            .attribute("dataschema", "https://example.com/schema".into())
            .build()
            .unwrap(),
    ];
    for event in events {
        for mode in [MessageMode::Binary, MessageMode::Structured] {
            let (body, headers, properties) = encode(&event, mode).unwrap();
            let message = Incoming {
                body,
                properties: properties.with_headers(headers),
                ..Incoming::default()
            };
            assert_eq!(message.event().unwrap().unwrap(), event, "{mode:?}");
        }
    }
    let (body, headers, properties) = encode(&event("1"), MessageMode::Data).unwrap();
    assert_eq!(
        (&body, headers.inner().len()),
        (event("1").data().unwrap().bytes(), 0)
    );
    assert_eq!(
        properties.content_type().as_ref().unwrap().as_str(),
        "application/json"
    );
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "1");
}

#[test]
fn cloudevents_in_headers() {
    let required = |prefix: &str| {
        [
            ("specversion", "1.0"),
            ("id", "7"),
            ("source", "/s"),
            ("type", "t"),
        ]
        .map(|(name, value)| (format!("{prefix}{name}"), text(value)))
    };
    let read = |headers: &[(String, AMQPValue)], properties: BasicProperties, body: &str| {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        incoming(body, properties, &headers).event()
    };
    for prefix in PREFIXES {
        let more = [
            ("n", AMQPValue::LongLongInt(5)),
            ("time", AMQPValue::Timestamp(1)),
            (
                "bytes",
                AMQPValue::ByteArray(ByteArray::from(vec![1_u8, 2])),
            ),
            ("b", AMQPValue::Boolean(true)),
        ];
        let headers: Vec<_> = required(prefix)
            .into_iter()
            .chain(more.map(|(name, value)| (format!("{prefix}{name}"), value)))
            .collect();
        let event = read(&headers, typed("application/json"), "[1]")
            .unwrap()
            .unwrap();
        assert_eq!(
            (event.time().unwrap(), event.data().unwrap().kind()),
            ("1970-01-01T00:00:01Z", DataKind::Json)
        );
        assert_eq!(event.attribute("n"), Some(AttributeValue::Integer(5)));
        assert_eq!(
            event.attribute("bytes"),
            Some(AttributeValue::String("AQI="))
        );
        assert_eq!(event.attribute("b"), Some(AttributeValue::Boolean(true)));
    }

    let with = |name: &str, value: AMQPValue| {
        required(PREFIXES[0])
            .into_iter()
            .chain([(name.to_owned(), value)])
            .collect::<Vec<_>>()
    };
    let none = BasicProperties::default;
    for (headers, properties, body, told) in [
        (
            required(PREFIXES[0])[..3].to_vec(),
            none(),
            "",
            "\"type\" is missing",
        ),
        (
            required(PREFIXES[0])[1..].to_vec(),
            none(),
            "",
            "\"specversion\" is missing",
        ),
        (
            with("cloudEvents_id", text("8")),
            none(),
            "",
            "\"id\" is given twice",
        ),
        (
            with("cloudEvents_specversion", text("1.0")),
            none(),
            "",
            "\"specversion\" is given twice",
        ),
        (
            with("cloudEvents:ext", AMQPValue::LongLongInt(1 << 40)),
            none(),
            "",
            "\"ext\" is",
        ),
        (
            with(
                "cloudEvents:ext",
                AMQPValue::FieldTable(FieldTable::default()),
            ),
            none(),
            "",
            "\"ext\" is",
        ),
        (
            with(
                "cloudEvents:ext",
                AMQPValue::LongString(LongString::from(vec![0xff])),
            ),
            none(),
            "",
            "\"ext\" is",
        ),
        (
            with("cloudEvents:Ext", text("x")),
            none(),
            "",
            "\"Ext\" is not an attribute name",
        ),
        (
            with("cloudEvents:datacontenttype", text("a/b")),
            typed("a/c"),
            "",
            "\"datacontenttype\" is given twice",
        ),
        (
            required(PREFIXES[0]).to_vec(),
            typed("application/json"),
            "{",
            "declared as JSON and is not",
        ),
        (
            Vec::new(),
            typed("application/cloudevents+json"),
            "{}",
            "is missing",
        ),
        (
            Vec::new(),
            typed("Application/CloudEvents-batch+json; charset=utf-8"),
            "[]",
            "is no format of CloudEvents",
        ),
    ] {
        let error = read(&headers, properties, body)
            .unwrap()
            .unwrap_err()
            .to_string();
        assert!(error.contains(told), "{error} where {told} was expected");
    }
    assert!(
        read(&[("cloudEvents:ext".to_owned(), text("x"))], none(), "").is_none(),
        "one stray header makes no CloudEvent"
    );
}

#[test]
fn plain_messages_keep_their_properties() {
    let properties = typed("application/json")
        .with_message_id("m-1".into())
        .with_correlation_id("c-1".into())
        .with_reply_to("answers".into())
        .with_app_id("shop".into())
        .with_priority(4)
        .with_timestamp(86_400)
        .with_type("order.new".into());
    let headers = [
        ("traceparent", text("00-ab-cd-01")),
        ("X-Tenant", text("acme")),
        ("id", text("not the id")),
        ("broken", text("a\nb")),
        ("x-death", AMQPValue::FieldArray(FieldArray::default())),
    ];
    let event = plain(&incoming(
        "{ \"n\": 12345678901234567890123 }",
        properties,
        &headers,
    ));
    assert_eq!(
        event,
        json!({
            "specversion": "1.0", "id": "m-1", "source": "/rabbitmq/orders", "type": "order.new", "subject": "orders.new",
            "time": "1970-01-02T00:00:00Z", "datacontenttype": "application/json", "correlationid": "c-1", "replyto": "answers",
            "appid": "shop", "exchange": "shop", "priority": 4, "xtenant": "acme",
            "data": event["data"],
        })
    );

    let event = plain(&incoming("plain", BasicProperties::default(), &[]));
    assert_eq!(
        (event["id"].as_str(), event["type"].as_str()),
        (Some("made"), Some("com.pointsman.rabbitmq.orders"))
    );
    assert_eq!(
        (event["time"].as_str(), event["data"].as_str()),
        (Some("1970-01-01T00:00:01.5Z"), Some("plain"))
    );

    let stream = [(OFFSET, AMQPValue::LongLongInt(17))];
    let event = plain(&incoming(
        "1",
        BasicProperties::default().with_message_id("same".into()),
        &stream,
    ));
    assert_eq!(
        (event["id"].as_str(), event["messageid"].as_str()),
        (Some("17"), Some("same")),
        "an offset is never given twice"
    );
}

#[test]
fn the_data_of_plain_messages() {
    let encoded = |encoding: &str| typed("application/json").with_content_encoding(encoding.into());
    for (body, properties, expect) in [
        (
            "{}",
            BasicProperties::default(),
            Ok((DataKind::Json, "application/json")),
        ),
        (
            "é",
            BasicProperties::default(),
            Ok((DataKind::Text, "text/plain")),
        ),
        (
            "<a/>",
            typed("application/xml"),
            Ok((DataKind::Text, "application/xml")),
        ),
        ("1", typed("image/png"), Ok((DataKind::Binary, "image/png"))),
        (
            "1",
            typed("no media type"),
            Ok((DataKind::Json, "application/json")),
        ),
        (
            "zip",
            encoded("gzip"),
            Ok((DataKind::Binary, "application/octet-stream")),
        ),
        (
            "{}",
            encoded("UTF-8"),
            Ok((DataKind::Json, "application/json")),
        ),
        ("zip", encoded("identity"), Err("declared as JSON")),
    ] {
        let message = incoming(body, properties, &[]);
        let event = message
            .plain(&Name::new("s").unwrap(), String::new, Timestamp(0))
            .and_then(|event| event.attribute("id", "1".into()).build());
        match (event, expect) {
            (Ok(event), Ok((kind, media_type))) => {
                assert_eq!(
                    (
                        event.data().unwrap().kind(),
                        event.datacontenttype().unwrap()
                    ),
                    (kind, media_type),
                    "{body}"
                );
            }
            (Err(error), Err(told)) => assert!(error.to_string().contains(told), "{error}"),
            (event, expect) => panic!("{body}: {event:?} where {expect:?} was expected"),
        }
    }
}

#[test]
fn the_root_of_a_mapping() {
    let mut table = FieldTable::default();
    table.insert("n".into(), AMQPValue::ShortInt(-1));
    let headers = [
        (
            "nested",
            AMQPValue::FieldArray(FieldArray::from(vec![
                AMQPValue::FieldTable(table),
                AMQPValue::Void,
            ])),
        ),
        ("when", AMQPValue::Timestamp(1)),
    ];
    let message = incoming(
        "{\"a\":1,\"a\":2}",
        BasicProperties::default()
            .with_message_id("m".into())
            .with_delivery_mode(2),
        &headers,
    );
    let defaults = message.plain(&Name::ingress(), String::new, Timestamp(0));
    assert_eq!(
        &defaults.unwrap().data_ref().unwrap().bytes()[..],
        b"{\"a\":1,\"a\":2}",
        "the body is carried byte for byte"
    );
    assert_eq!(
        Value::Object(message.fields()),
        json!({
            "headers": { "nested": [{ "n": -1 }, null], "when": "1970-01-01T00:00:01Z" },
            "properties": { "message_id": "m", "delivery_mode": 2 }, "exchange": "shop", "routing_key": "orders.new", "redelivered": true,
        })
    );
    let mut deep = AMQPValue::Boolean(true);
    for _ in 0..1_000 {
        deep = AMQPValue::FieldArray(FieldArray::from(vec![deep]));
    }
    let fields = incoming("", BasicProperties::default(), &[("deep", deep)]).fields();
    assert!(Value::Object(fields).to_string().len() < 1_000);
}
