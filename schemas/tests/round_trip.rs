//! Whatever an event holds comes back through every codec.

#![expect(clippy::unwrap_used, reason = "tests say bluntly what they expect")]

use bytes::Bytes;
use pointsman_schemas::http::{Mode, decode, encode_batch, encode_binary, encode_structured};
use pointsman_schemas::{Data, DataKind, Event, ExtensionValue, json};
use proptest::prelude::*;

/// Text without what CloudEvents forbids in a string, rich in what the codecs have to escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"[%" \\a-zé€😀,;'(){}\[\]:/]{1,20}"#,
        r"[^\p{C}]{1,20}",
        r#"%[0-9A-Fa-f]{0,3}""#
    ]
}

fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just(" true".to_owned()),
        r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,9})?(e[+-]?[0-9]{1,2})?",
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(" ,"))),
            // Two keys to choose from, so that duplicates are common.
            prop::collection::vec(("[ab]", inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members
                    .into_iter()
                    .map(|(key, value)| format!("\n\"{key}\": {value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Data with a media type that fits it.
fn data() -> impl Strategy<Value = (Option<&'static str>, Option<Data>)> {
    let json = prop::sample::select(vec![
        None,
        Some("application/json"),
        Some("Application/Vnd.X+JSON; charset=\"utf-8\""),
    ]);
    let plain = prop::sample::select(vec!["text/plain", "application/xml; charset=UTF-8"]);
    let binary = prop::sample::select(vec![
        None,
        Some("application/octet-stream"),
        Some("text/plain; charset=utf-16"),
    ]);
    prop_oneof![
        prop::sample::select(vec![None, Some("text/plain"), Some("application/json")])
            .prop_map(|media_type| (media_type, None)),
        (json, json_value()).prop_map(|(media_type, json)| (
            media_type,
            Some(Data::json(json.trim().to_owned().into()).unwrap())
        )),
        (plain, "(?s).{0,40}")
            .prop_map(|(media_type, text)| (Some(media_type), Some(Data::text(text.into())))),
        // Undeclared bytes that are JSON or UTF-8 are read as that, so these begin with one that is
        // neither.
        (binary, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(media_type, bytes)| (
            media_type,
            Some(Data::binary([vec![0xFF], bytes].concat().into()))
        )),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let source = prop::sample::select(vec![
        "/s",
        "urn:x:%C3%BC",
        "https://example.com/a?b=%20#c",
        "..",
    ]);
    let time = prop::option::of(prop::sample::select(vec![
        "2026-01-31T09:30:00Z",
        "1985-04-12t23:20:50.520000+05:30",
    ]));
    let value = prop_oneof![
        text().prop_map(|text| ExtensionValue::String(text.into())),
        Just(ExtensionValue::String("".into())),
        any::<i32>().prop_map(ExtensionValue::Integer),
        any::<bool>().prop_map(ExtensionValue::Boolean),
    ];
    let extensions = prop::collection::btree_map("x[a-z0-9]{0,8}", value, 0..4);
    (
        text(),
        source,
        text(),
        prop::option::of(text()),
        time,
        extensions,
        data(),
    )
        .prop_map(
            |(id, source, ty, subject, time, extensions, (media_type, data))| {
                let mut builder = Event::builder(id, source, ty).data(data);
                let optional = [
                    ("subject", subject.as_deref()),
                    ("time", time),
                    ("datacontenttype", media_type),
                ];
                for (name, value) in optional
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?)))
                {
                    builder = builder.attribute(name, value.into());
                }
                extensions
                    .into_iter()
                    .fold(builder, |builder, (name, value)| {
                        builder.attribute(name, value)
                    })
                    .build()
                    .unwrap()
            },
        )
}

/// What binary mode makes of an event: headers have no types, a body of no bytes is no data, and
/// JSON is declared.
fn through_binary(event: &Event) -> Event {
    let mut builder = event.clone().into_builder();
    for (name, value) in event
        .attributes()
        .filter(|(name, _)| *name != "specversion")
    {
        builder = builder.attribute(name, ExtensionValue::String(value.to_string().into()));
    }
    match event.data() {
        Some(data) if data.bytes().is_empty() => builder = builder.data(None),
        Some(data) if data.kind() == DataKind::Json && event.datacontenttype().is_none() => {
            builder = builder.datacontenttype("application/json");
        }
        _ => {}
    }
    builder.build().unwrap()
}

/// What the JSON format makes of an event: text that nobody has declared, which `data_base64` may
/// hold, is declared.
fn declared(event: Event) -> Event {
    let is_text = event
        .data()
        .is_some_and(|data| data.kind() == DataKind::Text);
    if is_text && event.datacontenttype().is_none() {
        return event
            .into_builder()
            .datacontenttype("text/plain")
            .build()
            .unwrap();
    }
    event
}

/// Passes through memory of its own, so that nothing is shared with what was written.
fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn structured_mode_keeps_everything(event in event()) {
        let (headers, body) = encode_structured(&event);
        let decoded = decode(&headers, copy(&body), 1).unwrap();
        prop_assert_eq!(decoded.mode, Mode::Structured);
        prop_assert_eq!(&decoded.events[..], &[event]);
        // It is JSON to others, too.
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    }

    #[test]
    fn binary_mode_keeps_everything_but_types(event in event()) {
        let (headers, body) = encode_binary(&event);
        prop_assert!(headers.values().all(|value| value.as_bytes().iter().all(|byte| (0x20..0x7F).contains(byte))));
        let decoded = decode(&headers, copy(&body), 1).unwrap();
        prop_assert_eq!(decoded.mode, Mode::Binary);
        prop_assert_eq!(&decoded.events[..], &[through_binary(&event)]);
    }

    #[test]
    fn a_batch_keeps_everything(events in prop::collection::vec(event(), 0..4)) {
        let (headers, body) = encode_batch(&events);
        let decoded = decode(&headers, copy(&body), 3).unwrap();
        prop_assert_eq!(decoded.mode, Mode::Batch);
        prop_assert_eq!(decoded.events, events);
    }

    /// A codec never panics, and what it takes it can write and take again.
    #[test]
    fn damaged_events_are_refused_or_whole(event in event(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut text = encode_structured(&event).1.to_vec();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if let Ok(event) = json::decode(&text.into()) {
            let mut again = Vec::new();
            json::encode(&event, &mut again);
            prop_assert_eq!(json::decode(&again.into()), Ok(declared(event)));
        }
    }
}
