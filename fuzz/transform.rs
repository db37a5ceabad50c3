//! No transform makes its compiler panic, and what one makes is an event for others too.
//!
//! The first line is the transform, the rest an event or its data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_fuzz::{event, parts};
use pointsman_rules::{Document, EventMapping, Node, RawMapping, RawTransform, Transform};
use pointsman_schemas::{DataKind, Event, json};

fn check(mut event: Event) {
    // Text without a media type is declared as such when it is written.
    if event.datacontenttype().is_none()
        && event
            .data()
            .is_some_and(|data| data.kind() == DataKind::Text)
    {
        event = event
            .into_builder()
            .datacontenttype("text/plain")
            .build()
            .expect("it was valid before");
    }
    let mut text = Vec::new();
    json::encode(&event, &mut text);
    assert_eq!(json::decode(&text.into()), Ok(event));
}

fuzz_target!(|input: &[u8]| {
    let Some((raw, rest)) = parts(input) else {
        return;
    };
    let Ok(raw) = serde_json::from_str::<RawTransform>(raw) else {
        return;
    };
    if let Ok(Ok(made)) = Transform::compile(&raw).map(|transform| transform.apply(&event(rest))) {
        check(made);
    }
    let root = Document::fields(vec![
        ("body", Node::Json(rest)),
        ("n", Node::Integer(1)),
        ("raw", Node::Binary(rest)),
    ]);
    let mapping = RawMapping {
        attributes: raw.set,
        data: raw.data,
    };
    if let Ok(Ok(made)) = EventMapping::compile(&mapping)
        .map(|mapping| mapping.apply(&root, Event::builder("1", "/s", "a")))
        && let Ok(made) = made.build()
    {
        check(made);
    }
});
