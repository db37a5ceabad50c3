use super::*;
use crate::data::DataKind;

fn event(json: &str) -> Result<Event, InvalidEvent> {
    decode(&Bytes::copy_from_slice(json.as_bytes()))
}

/// An event with these members besides the required ones.
fn with(members: &str) -> Result<Event, InvalidEvent> {
    event(&format!(
        r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{members}}}"#
    ))
}

#[test]
fn nothing_is_copied_that_has_no_escapes() {
    let bytes = Bytes::from_static(
        br#" {"specversion":"1.0","id":"i1","source":"/s","type":"t","ext":"value","data": {"n" : 12345678901234567890123,"a":1,"a":2} } "#,
    );
    let event = decode(&bytes).unwrap();
    let within = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr());
    for (name, value) in event.attributes().skip(1) {
        assert!(
            matches!(value, AttributeValue::String(text) if within(text.as_bytes())),
            "{name}"
        );
    }
    let data = event.data().unwrap();
    assert!(within(data.bytes()));
    assert_eq!(
        &data.bytes()[..],
        br#"{"n" : 12345678901234567890123,"a":1,"a":2}"#
    );
    let mut out = Vec::new();
    encode(&event, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"specversion":"1.0","id":"i1","source":"/s","type":"t","ext":"value","data":{"n" : 12345678901234567890123,"a":1,"a":2}}"#
    );
}

#[test]
fn data_is_what_the_content_type_makes_of_it() {
    const JSON: &str = r#""datacontenttype":"application/vnd.x+JSON; charset=utf-8","#;
    const XML: &str = r#""datacontenttype":"application/xml","#;
    for (media_type, member, kind, bytes) in [
        ("", r#""data":"a\n""#, DataKind::Json, &br#""a\n""#[..]),
        ("", r#""data":null"#, DataKind::Json, b"null"),
        ("", r#""data": [ 1 , 2 ] "#, DataKind::Json, b"[ 1 , 2 ]"),
        ("", r#""data_base64":"e30=""#, DataKind::Json, b"{}"),
        ("", r#""data_base64":"77u/e30=""#, DataKind::Json, b"{}"),
        ("", r#""data_base64":"NQ==""#, DataKind::Json, b"5"),
        ("", r#""data_base64":"aGVsbG8=""#, DataKind::Text, b"hello"),
        ("", r#""data_base64":"/w==""#, DataKind::Binary, b"\xff"),
        ("", r#""data_base64":"""#, DataKind::Binary, b""),
        (XML, r#""data_base64":"e30=""#, DataKind::Text, b"{}"),
        (JSON, r#""data":"{}""#, DataKind::Json, br#""{}""#),
        (JSON, r#""data_base64":"e30=""#, DataKind::Json, b"{}"),
        (JSON, r#""data_base64":null,"data":1"#, DataKind::Json, b"1"),
        (
            XML,
            r#""data":"<a b=\"\u00fc\"/>""#,
            DataKind::Text,
            "<a b=\"ü\"/>".as_bytes(),
        ),
        (XML, r#""data":"""#, DataKind::Text, b""),
        (XML, r#""data":{"a":1}"#, DataKind::Json, br#"{"a":1}"#),
        (
            XML,
            r#""data_base64":"\u002fw=\u003d""#,
            DataKind::Binary,
            b"\xff",
        ),
        (XML, r#""data_base64":"""#, DataKind::Text, b""),
    ] {
        // Members have no order, so the type may come behind the data.
        for json in [
            format!("{media_type}{member}"),
            format!("{member},{}", media_type.trim_end_matches(',')),
        ] {
            let data = with(json.trim_end_matches(','))
                .unwrap()
                .data()
                .cloned()
                .unwrap();
            assert_eq!((data.kind(), &data.bytes()[..]), (kind, bytes), "{json}");
        }
    }
    assert_eq!(with(r#""data_base64":null"#).unwrap().data(), None);
}

#[test]
fn what_is_wrong_is_told() {
    for (members, expect) in [
        (r#""id":"2""#, r#"the attribute "id" is given twice"#),
        (r#""a":"1","a":"1""#, r#"the attribute "a" is given twice"#),
        (r#""a":null,"a":"1""#, r#"the attribute "a" is given twice"#),
        (r#""a":"1","a":null"#, r#"the attribute "a" is given twice"#),
        (
            r#""a":null,"\u0061":null"#,
            r#"the attribute "a" is given twice"#,
        ),
        (
            r#""specversion":"1.0""#,
            r#"the attribute "specversion" is given twice"#,
        ),
        (
            r#""specversion":null"#,
            r#"the attribute "specversion" is given twice"#,
        ),
        (
            r#""data":1,"data":1"#,
            r#"the attribute "data" is given twice"#,
        ),
        (
            r#""data":1,"data_base64":"""#,
            "data and data_base64 exclude each other",
        ),
        (
            r#""data_base64":"","data":null"#,
            "data and data_base64 exclude each other",
        ),
        (
            r#""data_base64":"e3""#,
            "data_base64 is not base64: Invalid padding",
        ),
        (
            r#""data_base64":"e3!=""#,
            "data_base64 is not base64: Invalid symbol 33, offset 2.",
        ),
        (
            r#""data_base64":{"a":1}"#,
            r#"data_base64 is not base64: it is no string but {"a":1}"#,
        ),
        (
            r#""data_base64":"e3s=","datacontenttype":"text/json""#,
            "the data is declared as JSON and is not: expected a key in double quotes at line 1 column 2",
        ),
        (
            r#""subject":5"#,
            r#"the attribute "subject" is "5", which is not a text"#,
        ),
        (
            r#""n":2147483648"#,
            r#"the attribute "n" is "2147483648", which is not a text, a boolean or a whole number of 32 bits"#,
        ),
        (
            r#""n":1.0"#,
            r#"the attribute "n" is "1.0", which is not a text, a boolean or a whole number of 32 bits"#,
        ),
        (
            r#""n":1e2"#,
            r#"the attribute "n" is "1e2", which is not a text, a boolean or a whole number of 32 bits"#,
        ),
        (
            r#""n":{"a":1}"#,
            r#"the attribute "n" is "{\"a\":1}", which is not a text, a boolean or a whole number of 32 bits"#,
        ),
        (
            r#""n":[1]"#,
            r#"the attribute "n" is "[1]", which is not a text, a boolean or a whole number of 32 bits"#,
        ),
        (
            r#""A":"x""#,
            r#""A" is not an attribute name: it must be made of a-z and 0-9 and must not be "data""#,
        ),
        (
            r#""a_b":null"#,
            r#""a_b" is not an attribute name: it must be made of a-z and 0-9 and must not be "data""#,
        ),
        (
            r#""":"x""#,
            r#""" is not an attribute name: it must be made of a-z and 0-9 and must not be "data""#,
        ),
        (
            r#""subject":"""#,
            r#"the attribute "subject" is empty; leave it out or give it a value"#,
        ),
        (
            r#""a":"\ud800""#,
            r#"the string "\ud800" is broken: unexpected end of hex escape at line 1 column 8"#,
        ),
        (
            r#""a":"\n""#,
            r#"the attribute "a" is "\n", which is not free of control characters and of Unicode noncharacters"#,
        ),
        (
            "\n \"a\":\"\n\"",
            "the JSON is broken: a control character must be escaped in a string at line 2 column 7",
        ),
        (
            r#""data":{"a":}"#,
            "the JSON is broken: expected a value at line 1 column 68",
        ),
        (
            r#""data":1,"#,
            "the JSON is broken: expected a key in double quotes at line 1 column 65",
        ),
        (
            r#""data":1 2"#,
            "the JSON is broken: expected , or } at line 1 column 65",
        ),
    ] {
        assert_eq!(
            with(members).map_err(|error| error.to_string()),
            Err(expect.to_owned()),
            "{members}"
        );
    }
    for (json, expect) in [
        ("{}", r#"the required attribute "specversion" is missing"#),
        (
            r#"{"specversion":"0.3"}"#,
            r#"specversion is "0.3"; only "1.0" is understood"#,
        ),
        (
            r#"{"specversion":1.0}"#,
            r#"the attribute "specversion" is "1.0", which is not a text, a boolean or a whole number of 32 bits"#,
        ),
        (
            r#"{"specversion":1}"#,
            r#"the attribute "specversion" is "1", which is not a text"#,
        ),
        (
            r#"{"specversion":"1.0","id":"1","type":"t"}"#,
            r#"the required attribute "source" is missing"#,
        ),
        (
            r#"{"specversion":"1.0","id":null,"source":"/s","type":"t"}"#,
            r#"the required attribute "id" is missing"#,
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"} x"#,
            "the JSON is broken: unexpected text behind the end at line 1 column 57",
        ),
        (
            "[]",
            "the JSON is broken: expected an object at line 1 column 1",
        ),
        (
            "",
            "the JSON is broken: the text ends too early at line 1 column 1",
        ),
    ] {
        assert_eq!(
            event(json).map_err(|error| error.to_string()),
            Err(expect.to_owned()),
            "{json}"
        );
    }
    let not_utf8 = Bytes::from_static(b"{\"id\":\"\xff\"}");
    assert_eq!(
        decode(&not_utf8).unwrap_err().to_string(),
        "the event is not UTF-8 from byte 7 on"
    );
}

#[test]
fn attributes_with_escapes_stand_beside_those_without() {
    let escaped = |text: &str| {
        let hex = text.bytes().map(|byte| format!("\\u{byte:04x}"));
        hex.collect::<String>()
    };
    let members = ["id", "source", "type", "subject", "ext", "other"];
    // Each combination of names and values with and without escapes.
    for which in 0..1_u32 << (2 * members.len()) {
        let written = |bit: usize, text: &str| match which >> bit & 1 {
            0 => text.to_owned(),
            _ => escaped(text),
        };
        let members = members.iter().enumerate().map(|(at, name)| {
            let (name, value) = (written(2 * at, name), written(2 * at + 1, "x"));
            format!(r#"{name:?}:{value:?},"#).replace(r"\\", r"\")
        });
        let members = members.collect::<String>();
        let event = event(&format!(
            r#"{{"specversion":"1.0",{members}"data":{{"ext":"x"}}}}"#
        ));
        let event = event.unwrap();
        let expect = "specversion=1.0 id=x source=x type=x subject=x ext=x other=x";
        let attributes = event
            .attributes()
            .map(|(name, value)| format!("{name}={value}"));
        assert_eq!(
            attributes.collect::<Vec<_>>().join(" "),
            expect,
            "{members}"
        );
    }
}

#[test]
fn attributes_of_every_type_are_read_and_null_is_none() {
    let event =
        with(r#""b":true,"f":false,"n":-2147483648,"z":-0,"text":"\"ü\"","x":null,"subject":null"#)
            .unwrap();
    let extensions: Vec<_> = event.extensions().collect();
    let expect = [
        ("b", AttributeValue::Boolean(true)),
        ("f", AttributeValue::Boolean(false)),
        ("n", AttributeValue::Integer(i32::MIN)),
        ("z", AttributeValue::Integer(0)),
        ("text", AttributeValue::String("\"ü\"")),
    ];
    assert_eq!(extensions, expect);
    assert_eq!(event.subject(), None);
}

#[test]
fn hostile_input_is_bounded() {
    let deep = |depth: usize| {
        with(&format!(
            r#""data":{}{}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        ))
    };
    assert!(deep(128).is_ok());
    assert_eq!(
        deep(129).unwrap_err().to_string(),
        "the JSON is broken: nested deeper than 128 levels at line 1 column 191"
    );
    assert!(deep(1_000_000).is_err());
    assert!(with(&format!(r#""data":{}"#, r#"{"a":"#.repeat(1_000_000))).is_err());
    assert!(with(&format!(r#""ext":{}"#, "[".repeat(1_000_000))).is_err());
    let many = |count: usize, value: &str| {
        with(
            &(0..count)
                .map(|n| format!(r#""x{n}":{value}"#))
                .collect::<Vec<_>>()
                .join(","),
        )
    };
    assert_eq!(many(256, "1").unwrap().extensions().len(), 256);
    for value in ["1", "null"] {
        assert_eq!(many(100_000, value), Err(InvalidEvent::Extensions(257)));
    }
    // What somebody else sent is not repeated whole.
    assert!(
        with(&format!(r#""subject":"\n{}""#, "x".repeat(10_000)))
            .unwrap_err()
            .to_string()
            .len()
            < 300
    );
}

/// The events of the specification's sections 3.2 and 4.3.
const EXAMPLES: [&str; 4] = [
    r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "A234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/vnd.apache.thrift.binary",
    "data_base64" : "AQIDBA=="
}"#,
    r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "B234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "unsetextension": null,
    "datacontenttype" : "application/xml",
    "data" : "<much wow=\"xml\"/>"
}"#,
    r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "C234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/json",
    "data" : {
        "appinfoA" : "abc",
        "appinfoB" : 123,
        "appinfoC" : true
    }
}"#,
    r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "D234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "data" : "I'm just a string"
}"#,
];

#[test]
fn the_examples_of_the_specification_are_read() {
    let json = b"{\n        \"appinfoA\" : \"abc\",\n        \"appinfoB\" : 123,\n        \"appinfoC\" : true\n    }";
    let data: [(DataKind, &[u8]); 4] = [
        (DataKind::Binary, b"\x01\x02\x03\x04"),
        (DataKind::Text, b"<much wow=\"xml\"/>"),
        (DataKind::Json, json),
        (DataKind::Json, b"\"I'm just a string\""),
    ];
    for (example, (kind, bytes)) in EXAMPLES.iter().zip(data) {
        let event = event(example).unwrap();
        assert_eq!(
            event.data().map(|data| (data.kind(), &data.bytes()[..])),
            Some((kind, bytes))
        );
        assert_eq!(
            event.extensions().nth(1),
            Some(("comexampleothervalue", AttributeValue::Integer(5)))
        );
        assert_eq!(
            (
                event.extensions().len(),
                event.subject(),
                event.time().unwrap()
            ),
            (2, None, "2018-04-05T17:31:00Z")
        );
    }
    let batch = Bytes::from(format!(" [ {} ] ", EXAMPLES.join(" , ")));
    let events = decode_batch(&batch, 4).unwrap();
    assert_eq!(
        events
            .iter()
            .map(|event| &event.id()[..1])
            .collect::<String>(),
        "ABCD"
    );
    let mut out = Vec::new();
    encode_batch(&events, &mut out);
    assert_eq!(decode_batch(&out.into(), 4), Ok(events));
}

#[test]
fn a_batch_tells_which_event_is_wrong() {
    let batch =
        |text: &str, events_max| decode_batch(&Bytes::copy_from_slice(text.as_bytes()), events_max);
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    assert_eq!(batch(" [ ] ", 0), Ok(Vec::new()));
    assert_eq!(batch(&format!("[{good},{good}]"), 2).unwrap().len(), 2);
    assert_eq!(
        batch(&format!("[{good},{good}]"), 1),
        Err(BatchError::TooMany { events_max: 1 })
    );
    let missing = BatchError::Event {
        index: 1,
        error: InvalidEvent::Missing("specversion"),
    };
    assert_eq!(batch(&format!("[{good},{{}}]"), 2), Err(missing.clone()));
    assert_eq!(
        missing.to_string(),
        r#"event 1 of the batch: the required attribute "specversion" is missing"#
    );
    for broken in ["", "{}", "] ", "[] x", "1"] {
        assert!(
            matches!(batch(broken, 9), Err(BatchError::Malformed(_))),
            "{broken}"
        );
    }
    for broken in [
        "[",
        "[1]",
        "[,]",
        &format!("[{good},]"),
        &format!("[{good}"),
        &format!("[{good} {good}]"),
    ] {
        assert!(batch(broken, 9).is_err(), "{broken}");
    }
}

#[test]
fn what_is_cut_off_anywhere_is_an_error() {
    for example in EXAMPLES {
        for end in 0..example.len() {
            assert!(event(&example[..end]).is_err(), "{end}");
        }
    }
    let batch = Bytes::from(format!("[{}]", EXAMPLES.join(",")));
    for end in 0..batch.len() {
        assert!(decode_batch(&batch.slice(..end), 9).is_err(), "{end}");
    }
}

#[test]
fn text_without_a_type_stays_text() {
    let event = Event::builder("\u{e000}\"\\", "/s", "t")
        .data(Data::text("a\u{0}\n\r\t\u{1f}\"\\/ü".into()))
        .build()
        .unwrap();
    let mut out = Vec::new();
    encode(&event, &mut out);
    assert_eq!(
        String::from_utf8(out.clone()).unwrap(),
        "{\"specversion\":\"1.0\",\"id\":\"\u{e000}\\\"\\\\\",\"source\":\"/s\",\"type\":\"t\",\
         \"datacontenttype\":\"text/plain\",\"data\":\"a\\u0000\\n\\r\\t\\u001f\\\"\\\\/ü\"}"
    );
    assert_eq!(decode(&out.into()).unwrap().data(), event.data());
}
