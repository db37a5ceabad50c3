//! The same data is the same data, whatever mode it came by and however an SDK wrote it.

#![expect(clippy::unwrap_used, reason = "tests say bluntly what they expect")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman_schemas::http::decode;
use pointsman_schemas::media_type::{is_json_media_type, is_utf8_media_type};
use pointsman_schemas::{Data, DataKind, Event};

const TYPES: [Option<&str>; 12] = [
    None,
    Some("application/json"),
    Some("APPLICATION/JSON; charset=utf-8"),
    Some("text/json"),
    Some("application/vnd.x+json"),
    Some("text/plain"),
    Some("text/plain; charset=\"UTF-8\""),
    Some("text/plain; charset=iso-8859-1"),
    Some("application/xml"),
    Some("application/x-www-form-urlencoded"),
    Some("application/octet-stream"),
    Some("image/png"),
];

const BODIES: [&[u8]; 14] = [
    b"{\"a\":[1,12345678901234567890123]}",
    b"[]",
    b"5",
    b"-1.50e3",
    b"true",
    b"null",
    b"\"text in quotes\"",
    b"hello",
    "\u{fc}\n\"\\".as_bytes(),
    b"{\"a\":1",
    b"05",
    b"a=1&b=2",
    b"\xEF\xBB\xBF{\"a\":1}",
    b"\x89PNG\xFF",
];

type Sent = (HeaderMap, Vec<u8>);

/// One shape in which an SDK sends an event, as the headers and the body of a request; none where
/// the shape cannot hold the data.
type Shape = fn(Option<&str>, &[u8]) -> Option<Sent>;

fn headers(lines: &[(&str, Option<&str>)]) -> HeaderMap {
    let line = |(name, value): &(&str, Option<&str>)| {
        Some((
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_str((*value)?).unwrap(),
        ))
    };
    lines.iter().filter_map(line).collect()
}

fn binary(declared: Option<&str>, body: &[u8]) -> Option<Sent> {
    let lines = [
        ("ce-specversion", Some("1.0")),
        ("ce-id", Some("1")),
        ("ce-source", Some("/s")),
        ("ce-type", Some("t")),
        ("content-type", declared),
    ];
    Some((headers(&lines), body.to_vec()))
}

fn document(declared: Option<&str>, member: &str) -> String {
    let declared = declared.map(|declared| {
        format!(
            "\"datacontenttype\":{},",
            serde_json::to_string(declared).unwrap()
        )
    });
    let declared = declared.unwrap_or_default();
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",{declared}{member}}}"
    )
}

fn structured(declared: Option<&str>, member: &str) -> Sent {
    let typed = headers(&[(
        "content-type",
        Some("application/cloudevents+json; charset=utf-8"),
    )]);
    (typed, document(declared, member).into_bytes())
}

/// As the Java and Go SDKs write what they hold as bytes, text included.
fn base64(declared: Option<&str>, body: &[u8]) -> Option<Sent> {
    Some(structured(
        declared,
        &format!("\"data_base64\":\"{}\"", BASE64_STANDARD.encode(body)),
    ))
}

fn base64_in_a_batch(declared: Option<&str>, body: &[u8]) -> Option<Sent> {
    let event = document(
        declared,
        &format!("\"data_base64\":\"{}\"", BASE64_STANDARD.encode(body)),
    );
    Some((
        headers(&[("content-type", Some("application/cloudevents-batch+json"))]),
        format!("[{event}]").into_bytes(),
    ))
}

/// As the JavaScript, C# and Python SDKs write JSON, declared or not.
fn json_value(declared: Option<&str>, body: &[u8]) -> Option<Sent> {
    let json = std::str::from_utf8(body)
        .ok()
        .filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())?;
    declared
        .is_none_or(is_json_media_type)
        .then(|| structured(declared, &format!("\"data\":{json}")))
}

/// As they write text.
fn string(declared: Option<&str>, body: &[u8]) -> Option<Sent> {
    let text = std::str::from_utf8(body).ok()?;
    declared.filter(|declared| is_utf8_media_type(declared) && !is_json_media_type(declared))?;
    Some(structured(
        declared,
        &format!("\"data\":{}", serde_json::to_string(text).unwrap()),
    ))
}

#[test]
fn every_mode_and_shape_brings_the_same_data() {
    let shapes: [(&str, Shape); 4] = [
        ("base64", base64),
        ("batch", base64_in_a_batch),
        ("a JSON value", json_value),
        ("a string", string),
    ];
    let read = |shape: Shape, declared, body| -> Option<Result<Event, String>> {
        let (headers, body) = shape(declared, body)?;
        Some(
            decode(&headers, Bytes::from(body), 1)
                .map(|mut decoded| decoded.events.remove(0))
                .map_err(|error| match error {
                    pointsman_schemas::http::DecodeError::BatchEvent { error, .. } => {
                        error.to_string()
                    }
                    error => error.to_string(),
                }),
        )
    };
    let mut compared = 0;
    for declared in TYPES {
        for body in BODIES {
            let expect = read(binary, declared, body).unwrap();
            for (name, shape) in shapes {
                let Some(event) = read(shape, declared, body) else {
                    continue;
                };
                assert_eq!(
                    event,
                    expect,
                    "{declared:?} {:?} as {name}",
                    String::from_utf8_lossy(body)
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 400, "{compared} shapes were compared");
}

#[test]
fn the_declared_type_decides_and_undeclared_bytes_are_what_they_can_be() {
    let table: [(Option<&str>, &[u8], Option<DataKind>); 16] = [
        (None, b" {\"a\":1}\n", Some(DataKind::Json)),
        (None, b"5", Some(DataKind::Json)),
        (None, b"\"a\"", Some(DataKind::Json)),
        (None, b"\xEF\xBB\xBF[]", Some(DataKind::Json)),
        (None, b"a", Some(DataKind::Text)),
        (None, b"{\"a\":", Some(DataKind::Text)),
        (None, b"\xff{}", Some(DataKind::Binary)),
        (None, b"", Some(DataKind::Binary)),
        (Some("application/json"), b"5", Some(DataKind::Json)),
        (
            Some("application/json"),
            b"\xEF\xBB\xBF5",
            Some(DataKind::Json),
        ),
        (Some("application/json"), b"a", None),
        (Some("application/json"), b"", None),
        (Some("text/plain"), b"{\"a\":1}", Some(DataKind::Text)),
        (Some("text/plain"), b"\xff", Some(DataKind::Binary)),
        (
            Some("application/octet-stream"),
            b"{\"a\":1}",
            Some(DataKind::Binary),
        ),
        (Some("application/protobuf"), b"a", Some(DataKind::Binary)),
    ];
    for (declared, body, kind) in table {
        let data = Data::read(declared, Bytes::from_static(body)).ok();
        assert_eq!(
            data.as_ref().map(Data::kind),
            kind,
            "{declared:?} {:?}",
            String::from_utf8_lossy(body)
        );
        // Nothing is copied, and nothing but the mark is taken off.
        if let Some(data) = data {
            let behind_mark = body
                .strip_prefix(b"\xEF\xBB\xBF")
                .filter(|_| kind == Some(DataKind::Json))
                .unwrap_or(body);
            assert!(std::ptr::eq(&data.bytes()[..], behind_mark), "{declared:?}");
        }
    }
}

#[test]
fn a_byte_order_mark_in_front_of_an_event_is_passed_over() {
    for (media_type, body) in [
        ("application/cloudevents+json", document(None, "\"data\":1")),
        (
            "application/cloudevents-batch+json",
            format!("[{}]", document(None, "\"data\":1")),
        ),
    ] {
        let body = Bytes::from(format!("\u{feff}{body}"));
        let events = decode(&headers(&[("content-type", Some(media_type))]), body, 1)
            .unwrap()
            .events;
        assert_eq!(&events[0].data().unwrap().bytes()[..], b"1");
    }
}
