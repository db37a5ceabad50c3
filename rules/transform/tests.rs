use pointsman_schemas::{AttributeValue, DataKind};
use serde_json::json;

use super::*;
use crate::document::Node;

fn event() -> Event {
    let data = Data::json(Bytes::from_static(
        br#"{"n":12345678901234567890123,"s":"a\"b","list":[1,{"x":2}],"empty":"","big":5000000000,"yes":true}"#,
    ));
    Event::builder("1", "/s", "t")
        .subject("a.jpg")
        .attribute("dataschema", "x".into())
        .attribute("ext", "old".into())
        .data(data.unwrap())
        .build()
        .unwrap()
}

fn apply(raw: Value) -> Result<Event, TransformError> {
    let raw: RawTransform = serde_json::from_value(raw).unwrap();
    Transform::compile(&raw).unwrap().apply(&event())
}

#[test]
fn set_overrides_adds_and_removes() {
    let changed = apply(json!({"set": {
        "type": "x.<$.subject>", "subject": null, "ext": "<$.data.nothing>", "n": "<$.data.list[0]>", "big": "<$.data.big>", "flag": "<$.data.yes>", "id": "<$.data.n>", "fixed": 7,
        "copy": "<$.type>",
    }}))
    .unwrap();
    assert_eq!(changed.ty(), "x.a.jpg");
    assert_eq!(changed.id(), "12345678901234567890123");
    assert_eq!(changed.subject(), None);
    for (name, expect) in [
        ("ext", None),
        ("n", Some(AttributeValue::Integer(1))),
        ("big", Some(AttributeValue::String("5000000000"))),
        ("flag", Some(AttributeValue::Boolean(true))),
        ("fixed", Some(AttributeValue::Integer(7))),
        ("copy", Some(AttributeValue::String("t"))),
        ("dataschema", Some(AttributeValue::String("x"))),
    ] {
        assert_eq!(changed.attribute(name), expect, "{name}");
    }
    assert_eq!(
        changed.data(),
        event().data(),
        "data not spoken of is not touched"
    );
}

#[test]
fn data_is_replaced_and_its_parts_keep_every_byte() {
    let changed = apply(json!({"data": {"n": "<$.data.n>", "s": "<$.data.s>", "note": "made from <$.subject> and <$.data.list>", "all": ["<$.data.list[*]>", null, 1.5]}})).unwrap();
    assert_eq!(
        std::str::from_utf8(changed.data().unwrap().bytes()).unwrap(),
        r#"{"n":12345678901234567890123,"s":"a\"b","note":"made from a.jpg and [1,{\"x\":2}]","all":[[1,{"x":2}],null,1.5]}"#
    );
    assert_eq!(changed.data().unwrap().kind(), DataKind::Json);
    assert_eq!(changed.datacontenttype(), Some("application/json"));
    assert_eq!(changed.dataschema(), None);
    assert_eq!(
        apply(json!({"data": null}))
            .unwrap()
            .data()
            .unwrap()
            .bytes(),
        "null"
    );
}

#[test]
fn data_is_made_by_jq() {
    let changed =
        apply(json!({"set": {"type": "x"}, "jq": "{from: .type, first: .data.list[0]}"})).unwrap();
    assert_eq!(changed.data().unwrap().bytes(), r#"{"from":"t","first":1}"#);
    assert_eq!(
        (changed.ty(), changed.datacontenttype()),
        ("x", Some("application/json"))
    );
    assert_eq!(
        apply(json!({"jq": "empty"})).unwrap_err().to_string(),
        "cannot make the data: it yields nothing; end it with // and a default"
    );
    let both: RawTransform = serde_json::from_value(json!({"data": 1, "jq": "."})).unwrap();
    assert_eq!(
        Transform::compile(&both).unwrap_err()[0].to_string(),
        "jq: `data` and `jq` both make the data (keep one of them)"
    );
}

#[test]
fn what_cannot_be_set_says_so() {
    for (raw, expect) in [
        (
            json!({"set": {"type": "<$.data.nothing>"}}),
            "cannot set the attribute \"type\": its template finds nothing",
        ),
        (
            json!({"set": {"id": "<$.data.empty>"}}),
            "cannot set the attribute \"id\": its template finds nothing",
        ),
        (
            json!({"set": {"ext": "<$.data.list>"}}),
            "cannot set the attribute \"ext\" to a list",
        ),
        (
            json!({"set": {"time": "yesterday"}}),
            "what the templates make is no valid event: the attribute \"time\"",
        ),
    ] {
        let error = apply(raw.clone()).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{raw}: {error}");
    }
}

#[test]
fn mistakes_are_all_found() {
    let raw: RawTransform = serde_json::from_value(json!({
        "set": {"specversion": "1.0", "Type": "x", "id": null, "ext": {"a": 1}, "typ": "x", "subject": "<$.a"},
        "data": {"a": ["<$[>"], "<$.key>": 1},
    }))
    .unwrap();
    let problems: Vec<_> = Transform::compile(&raw)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(problems.join("\n"), @r##"
        set.specversion: "specversion" is not an attribute that can be set (events are CloudEvents 1.0; leave it out)
        set.Type: "Type" is not an attribute that can be set (the name of an attribute is made of a-z and 0-9)
        set.id: every event has the attribute "id"; it cannot be taken away
        set.ext: an attribute is a text, a number or a boolean (what has fields belongs into `data`)
        set.typ: "typ" is taken as an extension attribute (was type meant?)
        set.subject: <$ opens a template that is not closed (close it with >, or write <$$ for a literal <$)
        data.a[0]: <$ opens a template that is not closed (close it with >, or write <$$ for a literal <$)
        data.<$.key>: a template cannot be a key (keys are fixed; write <$$ for a literal <$)
        "##);
    assert!(serde_json::from_value::<RawTransform>(json!({"sett": {}})).is_err());
}

#[test]
fn a_source_maps_what_arrives() {
    let raw: RawMapping = serde_json::from_value(json!({
        "type": "order.<$.body.state>", "id": "<$.properties.message_id>", "subject": "<$.body.customer>", "traceparent": "<$.headers.traceparent>",
    }))
    .unwrap();
    let mapping = EventMapping::compile(&raw).unwrap();
    let (headers, properties) = (json!({"traceparent": "00-x"}), json!({}));
    let root = Document::fields(vec![
        ("body", Node::Json(br#"{"state":"paid","customer":77}"#)),
        ("headers", Node::Value(&headers)),
        ("properties", Node::Value(&properties)),
    ]);
    let made = mapping
        .apply(&root, Event::builder("default", "/orders", "message"))
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(
        (made.ty(), made.id(), made.subject()),
        ("order.paid", "default", Some("77"))
    );
    assert_eq!(
        made.attribute("traceparent"),
        Some(AttributeValue::String("00-x"))
    );
}

#[test]
fn a_source_maps_the_data_too() {
    let apply = |raw: serde_json::Value, body: &[u8]| {
        let raw: RawMapping = serde_json::from_value(raw).unwrap();
        let root = Document::fields(vec![("body", Node::Json(body))]);
        let defaults = Event::builder("1", "/s", "t")
            .datacontenttype("text/plain")
            .attribute("dataschema", "s".into())
            .data(Data::text("as it came".into()));
        EventMapping::compile(&raw)
            .unwrap()
            .apply(&root, defaults)
            .unwrap()
            .build()
            .unwrap()
    };
    let event_bridge: &[u8] =
        br#"{"id":"e1","detail-type":"Order","detail":{"n": 12345678901234567890123}}"#;
    for (raw, body, data, media_type) in [
        (
            json!({"type": "<$.body['detail-type']>", "data": "<$.body.detail>"}),
            event_bridge,
            r#"{"n": 12345678901234567890123}"#,
            "application/json",
        ),
        (
            json!({"data": {"all": "<$.body.detail.n>", "text": "id <$.body.id>"}}),
            event_bridge,
            r#"{"all":12345678901234567890123,"text":"id e1"}"#,
            "application/json",
        ),
        (
            json!({"data": "<$.body.detail>", "datacontenttype": "application/vnd.x+json"}),
            event_bridge,
            r#"{"n": 12345678901234567890123}"#,
            "application/vnd.x+json",
        ),
        // What finds nothing keeps its default, as an attribute does.
        (
            json!({"data": "<$.body.missing>"}),
            event_bridge,
            "as it came",
            "text/plain",
        ),
        (
            json!({"data": "<$.body.missing ?? \"none\">"}),
            event_bridge,
            r#""none""#,
            "application/json",
        ),
    ] {
        let event = apply(raw.clone(), body);
        assert_eq!(
            event.data().map(|data| &data.bytes()[..]),
            Some(data.as_bytes()),
            "{raw}"
        );
        assert_eq!(event.datacontenttype(), Some(media_type), "{raw}");
        assert_eq!(
            event.dataschema().is_some(),
            media_type == "text/plain",
            "the schema was about the data that is gone"
        );
    }
    let raw: RawMapping = serde_json::from_value(json!({"typ": 1, "data": {"a": "<$.b"}})).unwrap();
    let told: Vec<_> = EventMapping::compile(&raw)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        told.iter()
            .any(|problem| problem.starts_with("data.a: <$ opens a template that is not closed")),
        "{told:?}"
    );
}
