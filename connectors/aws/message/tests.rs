use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::EventBuilder;

use super::*;
use crate::suite::attempt;

fn written(event: EventBuilder, mode: Mode) -> Result<(String, BTreeMap<String, String>), String> {
    let mut attempt = attempt(&["x"], 0);
    attempt.deliveries[0].event = Arc::new(event.build().unwrap());
    let written = Written::of(&attempt, &attempt.deliveries[0], mode)?;
    let size = written.body.len()
        + written
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len() + 6)
            .sum::<usize>();
    assert_eq!(written.size_bytes(), size);
    assert!(written.attributes.len() <= ATTRIBUTES_MAX);
    let task = attempt.deliveries[0].id.to_string();
    let mut attributes: BTreeMap<_, _> = written.attributes.into_iter().collect();
    for (name, value) in [
        ("pointsman-task", &*task),
        ("pointsman-attempt", "1"),
        ("pointsman-rule", "rule"),
    ] {
        assert_eq!(attributes.remove(name).as_deref(), Some(value));
    }
    Ok((written.body, attributes))
}

fn event(data: Option<Data>) -> EventBuilder {
    let event = Event::builder("1", "/s", "t");
    match data {
        Some(data) => event.data(data),
        None => event,
    }
}

fn text(text: &str) -> Option<Data> {
    Some(Data::text(text.into()))
}

fn names(attributes: &BTreeMap<String, String>) -> Vec<&str> {
    attributes.keys().map(String::as_str).collect()
}

#[test]
fn an_event_is_written_in_each_mode() {
    let json = Data::json(Bytes::from_static(b"{\"a\": 1}")).unwrap();
    let event = || event(Some(json.clone())).subject("s");
    let (body, attributes) = written(event(), Mode::Binary).unwrap();
    assert_eq!(body, "{\"a\": 1}");
    let expect = [
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-specversion", "1.0"),
        ("ce-subject", "s"),
        ("ce-type", "t"),
        ("content-type", "application/json"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    let found: Vec<_> = attributes.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(found, expect);

    let (body, attributes) = written(event(), Mode::Structured).unwrap();
    let read = json::decode(&Bytes::from(body)).unwrap();
    assert_eq!(read.subject(), Some("s"));
    assert_eq!(attributes["content-type"], "application/cloudevents+json");
    assert_eq!(names(&attributes), ["content-type", "traceparent"]);

    let (body, attributes) = written(event(), Mode::Data).unwrap();
    assert_eq!(
        (body.as_str(), names(&attributes)),
        ("{\"a\": 1}", vec!["content-type", "traceparent"])
    );
}

#[test]
fn what_binary_mode_cannot_say_goes_out_structured() {
    let many = |count: usize| {
        (0..count).fold(event(text("x")), |event, n| {
            event.attribute(format!("ext{n}"), "v".into())
        })
    };
    // Beside the four that every event has, the media type and the three of ours there is room for
    // two.
    let (_, attributes) = written(many(2), Mode::Binary).unwrap();
    assert_eq!(attributes["ce-ext1"], "v");
    assert!(
        !attributes.contains_key("traceparent"),
        "there is no room for it"
    );
    for (case, event) in [
        ("too many attributes", many(3)),
        (
            "an attribute that is empty",
            event(text("x")).attribute("ext", "".into()),
        ),
        ("no data", event(None)),
        ("data that is empty", event(text(""))),
        (
            "data that is no text",
            event(Some(Data::binary(Bytes::from_static(&[0xff, 0xfe])))),
        ),
        (
            "data with a character that XML has not",
            event(text("a\u{1}b")),
        ),
    ] {
        let given = event.clone().build().unwrap();
        let (body, attributes) = written(event.clone(), Mode::Binary).unwrap();
        assert_eq!(
            names(&attributes),
            ["content-type", "traceparent"],
            "{case}"
        );
        let read = json::decode(&Bytes::from(body)).unwrap();
        assert_eq!(
            read.data().map(Data::bytes),
            given.data().map(Data::bytes),
            "{case}"
        );
        if case.contains("data") {
            assert!(written(event, Mode::Data).is_err(), "{case}");
        }
    }
}

#[test]
fn what_no_message_can_say_is_told() {
    for mode in [Mode::Binary, Mode::Structured, Mode::Data] {
        assert!(
            written(event(text("a\u{ffff}b")), mode).is_err(),
            "{mode:?}"
        );
    }
}
