use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Name, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::Arrival;
use crate::leased::Decoder as _;
use crate::redis::queue::Entry;
use crate::suite::{self, attempt, events, untold};

fn entry(fields: &[(&str, &[u8])]) -> Entry {
    let field = |(name, value): &(&str, &[u8])| {
        let name = Bytes::copy_from_slice(name.as_bytes());
        (name, Bytes::copy_from_slice(value))
    };
    Entry {
        stream: 1,
        id: "1526919030474-55".to_owned(),
        fields: fields.iter().map(field).collect(),
        deliveries: 1,
    }
}

fn decoder(body: Option<&str>, mapped: bool) -> Decoder {
    Decoder {
        name: Name::new("shop").unwrap(),
        streams: vec!["returns".to_owned(), "orders".to_owned()],
        shown: "returns, orders".to_owned(),
        body: body.map(str::to_owned),
        deliveries_max: 10,
        mapped,
        clock: Arc::new(SystemClock),
    }
}

fn read(body: Option<&str>, entry: &Entry) -> Result<Value, String> {
    suite::read(decoder(body, false).arrival(entry))
}

const REQUIRED: [(&str, &[u8]); 4] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/s"),
    ("ce_type", b"t"),
];

fn with<'e>(more: &[(&'e str, &'e [u8])]) -> Vec<(&'e str, &'e [u8])> {
    REQUIRED.iter().chain(more).copied().collect()
}

#[test]
fn what_goes_out_comes_in_the_same() {
    for event in events() {
        for mode in [Mode::Binary, Mode::Structured] {
            let mut delivery = attempt(&["1"], 0).deliveries.remove(0);
            delivery.event = Arc::new(event.clone());
            let fields = encode(&delivery, "rule", mode).unwrap();
            let mut entry = entry(&[]);
            let field = |(name, value): (String, Bytes)| (Bytes::from(name), value);
            entry.fields = fields.into_iter().map(field).collect();
            let Ok(Arrival::Event(back)) = decoder(None, true).arrival(&entry) else {
                panic!("{mode:?}: {entry:?}")
            };
            assert_eq!(untold(&back), event, "{mode:?}");
        }
    }
}

#[test]
fn fields_are_the_data_or_one_of_them_is() {
    let plain = |data: Value, media_type: &str| {
        json!({
            "specversion": "1.0",
            "id": "orders.1526919030474-55",
            "source": "/redis/shop",
            "type": "com.pointsman.redis.entry",
            "subject": "orders",
            "time": "2018-05-21T16:10:30.474Z",
            "datacontenttype": media_type,
            "data": data,
        })
    };
    let order = entry(&[
        ("id", b"7"),
        ("note", "\u{fc}\"\n".as_bytes()),
        ("raw", b"\xff"),
    ]);
    let all = json!({ "id": "7", "note": "ü\"\n", "raw": { "base64": "/w==" } });
    assert_eq!(read(None, &order), Ok(plain(all, "application/json")));
    let body = entry(&[("a", b"1"), ("payload", b"{\"n\":1}")]);
    let expect = plain(json!({ "n": 1 }), "application/json");
    assert_eq!(read(Some("payload"), &body), Ok(expect));
    let text = entry(&[("payload", b"hello")]);
    assert_eq!(
        read(Some("payload"), &text),
        Ok(plain(json!("hello"), "text/plain"))
    );
    let missing = read(Some("payload"), &order).unwrap_err();
    assert!(missing.contains("no field payload"), "{missing}");

    // In their order, and what stands there twice does so.
    let twice = entry(&[("b", b"1"), ("a", b"2"), ("b", b"3")]);
    let Ok(Arrival::Event(event)) = decoder(None, false).arrival(&twice) else {
        panic!("{twice:?}")
    };
    let text = &event.data().unwrap().bytes()[..];
    assert_eq!(text, br#"{"b":"1","a":"2","b":"3"}"#);

    // An id that nobody took from a clock says no time.
    let mut numbered = entry(&[("a", b"1")]);
    numbered.id = "1-1".to_owned();
    let time = read(None, &numbered).unwrap()["time"].clone();
    assert!(time.as_str().unwrap() > "2026", "{time}");
}

#[test]
fn a_mapping_sees_what_is_beside_the_body() {
    let order = entry(&[("payload", b"{}"), ("kind", b"paid"), ("raw", b"\xff")]);
    let fields = |body| match decoder(body, true).arrival(&order) {
        Ok(Arrival::Plain(plain)) => Value::from(plain.fields),
        other => panic!("{other:?}"),
    };
    let expect = |headers: Value| {
        json!({
            "headers": headers,
            "stream": "orders",
            "id": "1526919030474-55",
            "time": "2018-05-21T16:10:30.474Z",
            "deliveries": 1,
        })
    };
    let beside = json!({ "kind": "paid", "raw": { "base64": "/w==" } });
    assert_eq!(fields(Some("payload")), expect(beside));
    assert_eq!(fields(None), expect(json!({})));
}

#[test]
fn what_is_an_event_is_found_and_what_is_a_broken_one_is_told() {
    let document = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let expect = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" });
    for (body, fields) in [
        (None, vec![("any", &document[..])]),
        (
            Some("payload"),
            vec![("a", &b"1"[..]), ("payload", document)],
        ),
        (None, with(&[("other", b"x")])),
        (None, REQUIRED.to_vec()),
    ] {
        assert_eq!(
            read(body, &entry(&fields)),
            Ok(expect.clone()),
            "{fields:?}"
        );
    }
    let media_type: &[u8] = b"application/json";
    for (fields, told) in [
        (with(&[("ce_id", b"2")]), "given twice"),
        (with(&[("ce_specversion", b"1.0")]), "given twice"),
        (REQUIRED[1..].to_vec(), "specversion"),
        (REQUIRED[..3].to_vec(), "\"type\""),
        (with(&[("ce_note", b"\xfc")]), "UTF-8"),
        (
            with(&[("ce_datacontenttype", media_type), ("data", b"{")]),
            "declared as JSON",
        ),
        (vec![("e", &br#"{"specversion":"1.0"}"#[..])], "missing"),
    ] {
        let error = read(None, &entry(&fields)).unwrap_err();
        assert!(error.contains(told), "{fields:?}: {error}");
    }
}
