use super::*;

/// Headers of binary mode, the required attributes first.
fn headers(more: &[(&'static str, &str)]) -> HeaderMap {
    let required = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
    let mut headers = HeaderMap::new();
    for (name, text) in required.iter().chain(more) {
        headers.append(*name, value(text));
    }
    headers
}

fn typed_as(media_type: &str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(media_type).unwrap())])
}

fn one(headers: &HeaderMap, body: &'static [u8]) -> Result<Event, DecodeError> {
    let mut decoded = decode(headers, Bytes::from_static(body), 1)?;
    assert_eq!(decoded.events.len(), 1);
    Ok(decoded.events.remove(0))
}

const EVENT: &[u8] = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;

#[test]
fn the_content_type_decides_the_mode() {
    let decoded = |media_type: &str, body: &'static [u8]| {
        decode(&typed_as(media_type), Bytes::from_static(body), 1)
    };
    for media_type in [
        "application/cloudevents+json",
        "Application/CloudEvents+JSON",
        "application/cloudevents+json; charset=UTF-8",
        "application/cloudevents+json;charset=\"utf-8\" ; x=y",
    ] {
        let decoded = decoded(media_type, EVENT).unwrap();
        assert_eq!(
            (decoded.mode, decoded.events.len()),
            (Mode::Structured, 1),
            "{media_type}"
        );
    }
    let batch = decoded("application/cloudevents-batch+json; charset=utf-8", b"[]").unwrap();
    assert_eq!(
        batch,
        Decoded {
            mode: Mode::Batch,
            events: vec![]
        }
    );
    for media_type in [
        "application/cloudevents+xml",
        "application/cloudevents",
        "application/cloudevents+avro",
        "application/cloudevents-batch+xml",
        "application/cloudevents+json; charset=utf-16",
        "application/json",
        "text/plain",
    ] {
        let error = decoded(media_type, EVENT).unwrap_err();
        assert_eq!(
            (error.status(), &error),
            (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &DecodeError::Unsupported {
                    content_type: media_type.into()
                }
            )
        );
    }
    // The format decides even where ce- headers stand beside it: section 3.2.3 allows them.
    let mut both = headers(&[("ce-broken-", "x")]);
    both.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/cloudevents+json"),
    );
    assert!(one(&both, EVENT).is_ok());
    both.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/cloudevents+xml"),
    );
    assert_eq!(
        one(&both, EVENT).unwrap_err().status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(
        one(&HeaderMap::new(), EVENT).unwrap_err().status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    insta::assert_snapshot!(
        one(&typed_as("text/plain"), EVENT).unwrap_err(),
        @r#"no CloudEvent in a format that is understood: Content-Type is "text/plain"; send application/cloudevents+json, application/cloudevents-batch+json, or ce- headers"#
    );
}

#[test]
fn mistakes_have_their_status() {
    let bad = [EVENT, b"x"].concat();
    let json = typed_as("application/cloudevents+json");
    let batch = typed_as("application/cloudevents-batch+json");
    let pair = [b"[", EVENT, b",", EVENT, b"]"].concat();
    for (headers, body, status) in [
        (&json, &bad[..], 400),
        (&json, b"", 400),
        (&batch, EVENT, 400),
        (&batch, b"[{}]", 400),
        (&batch, &pair, 413),
    ] {
        let error = decode(headers, Bytes::copy_from_slice(body), 1).unwrap_err();
        assert_eq!(error.status().as_u16(), status, "{error}");
    }
    let mut twice = headers(&[
        ("content-type", "text/plain"),
        ("content-type", "text/html"),
    ]);
    assert_eq!(
        one(&twice, b""),
        Err(InvalidEvent::Duplicate("Content-Type".into()).into())
    );
    twice.insert(CONTENT_TYPE, HeaderValue::from_bytes(b"text/\xff").unwrap());
    assert_eq!(
        one(&twice, b"").unwrap_err().status(),
        StatusCode::BAD_REQUEST
    );
}

#[test]
fn data_in_binary_mode_is_what_the_content_type_makes_of_it() {
    for (media_type, body, kind) in [
        (
            "application/json",
            &b" {\"n\" : 12345678901234567890123,\"n\":1} "[..],
            DataKind::Json,
        ),
        (
            "application/vnd.x+json; charset=utf-8",
            b"null",
            DataKind::Json,
        ),
        ("text/plain", "ü\0".as_bytes(), DataKind::Text),
        ("text/plain", b"\xff", DataKind::Binary),
        ("text/plain; charset=iso-8859-1", b"a", DataKind::Binary),
        ("application/xml", b"<a/>", DataKind::Text),
        ("application/octet-stream", b"a", DataKind::Binary),
        ("", b" {\"a\":1}", DataKind::Json),
        ("", b"5", DataKind::Json),
        ("", b"{\"a\":1", DataKind::Text),
        ("", b"\xff", DataKind::Binary),
    ] {
        let headers = headers(&[("content-type", media_type)]);
        let event = one(&headers, body).unwrap();
        let data = event.data().unwrap();
        assert_eq!(
            (data.kind(), &data.bytes()[..]),
            (kind, body),
            "{media_type}"
        );
        assert_eq!(data.bytes().as_ptr(), body.as_ptr());
        assert_eq!(
            event.datacontenttype().unwrap_or_default(),
            media_type,
            "nothing is added to the event"
        );
        // It leaves as it came, and through structured mode it comes out the same.
        let (again, body_again) = encode_binary(&event);
        assert_eq!(
            (body_again.as_ptr(), one(&again, body).unwrap().data()),
            (body.as_ptr(), event.data())
        );
        if !media_type.is_empty() {
            assert_eq!(one(&again, body), Ok(event.clone()));
        }
        let (structured, text) = encode_structured(&event);
        let through = decode(&structured, text, 1).unwrap().events.remove(0);
        let through = through.data().unwrap();
        // Whitespace around a JSON value is not part of it: in the JSON format it belongs to what
        // is around it.
        assert_eq!(
            (through.kind(), through.bytes().trim_ascii()),
            (kind, body.trim_ascii())
        );
    }
    assert_eq!(
        one(&headers(&[("content-type", "application/json")]), b"")
            .unwrap()
            .data(),
        None
    );
    let error = one(&headers(&[("content-type", "application/json")]), b"{").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the data is declared as JSON and is not: the text ends too early at line 1 column 2"
    );
}

#[test]
fn header_values_are_unquoted_and_percent_decoded() {
    for (value, expect) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("Euro%20%e2%82%ac%20%f0%9f%98%80", "Euro € 😀"),
        ("%41%2542", "A%42"),
        ("a b", "a b"),
        ("€", "€"),
        (r#""a b""#, "a b"),
        (r#""a \"b\" \\ c%20d""#, r#"a "b" \ c d"#),
        (r#""%22""#, "\""),
        (r#"a"b"#, r#"a"b"#),
        (r"a\b", r"a\b"),
        ("(comment)", "(comment)"),
    ] {
        assert_eq!(
            one(&headers(&[("ce-subject", value)]), b"")
                .unwrap()
                .subject()
                .unwrap(),
            expect,
            "{value}"
        );
    }
    assert_eq!(
        one(&headers(&[("ce-subject", "")]), b"")
            .unwrap_err()
            .status(),
        StatusCode::BAD_REQUEST
    );
    let mut latin = headers(&[]);
    latin.insert("ce-subject", HeaderValue::from_bytes(b"Stra\xdfe").unwrap());
    assert_eq!(
        one(&latin, b"").unwrap_err().to_string(),
        "the attribute \"subject\" is \"Stra\u{FFFD}e\", which is not UTF-8"
    );
}

/// What SDKs send that neither encode nor decode: the whole value as it stands, or as the
/// specification reads it where it can be read so.
#[test]
fn header_values_that_were_never_encoded_are_taken_as_they_stand() {
    for raw in [
        "100% sure",
        "%",
        "a%2",
        "%zz",
        "%+1",
        "50%25 or 100%",
        "%C0%A0",
        "%E2%82",
        "%80",
        "%00",
        "a%0Ab",
        "%7F",
        "%EF%BF%BE",
        r#"""#,
        r#""a"#,
        r#""a"b"#,
        r#""a" "b""#,
        r#""a\"#,
        r#""a\""#,
        r#""100% sure" he said"#,
    ] {
        for name in ["ce-subject", "ce-ext"] {
            let event = one(&headers(&[(name, raw)]), b"").unwrap();
            assert_eq!(
                event.attribute(&name[3..]).unwrap().to_string(),
                raw,
                "{name}"
            );
        }
    }
    for (name, value, expect) in [
        (
            "source",
            "https://x.example/a%20b",
            "https://x.example/a%20b",
        ),
        (
            "source",
            "https://x.example/%C3%BC?q=%22#%5B%5D",
            "https://x.example/%C3%BC?q=%22#%5B%5D",
        ),
        (
            "dataschema",
            "https://x.example/a%20b.json",
            "https://x.example/a%20b.json",
        ),
        // Encoded as the specification asks, or such that it could have been.
        (
            "source",
            "https://x.example/a%2520b",
            "https://x.example/a%20b",
        ),
        ("source", "https://x.example/a%2Fb", "https://x.example/a/b"),
        ("time", "2026-01-31T09%3A30%3A00Z", "2026-01-31T09:30:00Z"),
        ("subject", "100%25%20sure", "100% sure"),
        ("subject", "a%20b", "a b"),
        ("type", "a%20b%C3%BC", "a bü"),
    ] {
        let mut sent = headers(&[]);
        sent.insert(
            HeaderName::try_from(format!("ce-{name}")).unwrap(),
            HeaderValue::from_static(value),
        );
        let event = one(&sent, b"").unwrap();
        assert_eq!(
            event.attribute(name).unwrap().to_string(),
            expect,
            "{name}: {value}"
        );
        let (again, _) = encode_binary(&event);
        assert_eq!(
            one(&again, b""),
            Ok(event),
            "what we send can be read by the specification"
        );
    }
    for (name, neither) in [("source", "a%20b c"), ("time", "now%21")] {
        let mut sent = headers(&[]);
        sent.insert(
            HeaderName::try_from(format!("ce-{name}")).unwrap(),
            HeaderValue::from_static(neither),
        );
        assert_eq!(
            one(&sent, b"").unwrap_err().status(),
            StatusCode::BAD_REQUEST,
            "{name}: {neither}"
        );
    }
}

#[test]
fn header_values_are_encoded_as_the_specification_says() {
    let event = Event::builder(
        "Euro € 😀",
        "/s?q=%20",
        "!#$&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~",
    )
    .subject("a \"b\" 100%")
    .attribute("p", "%".into())
    .attribute("n", (-5).into())
    .attribute("b", false.into())
    .build()
    .unwrap();
    let (headers, body) = encode_binary(&event);
    for (name, expect) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("ce-source", "/s?q=%2520"),
        ("ce-type", "!#$&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"),
        ("ce-subject", "a%20%22b%22%20100%25"),
        ("ce-p", "%25"),
        ("ce-n", "-5"),
        ("ce-b", "false"),
    ] {
        assert_eq!(
            headers.get(name).map(HeaderValue::as_bytes),
            Some(expect.as_bytes()),
            "{name}"
        );
    }
    assert_eq!((headers.len(), body.len()), (8, 0));
    // A header's value has no type.
    let back = one(&headers, b"").unwrap();
    assert_eq!((back.id(), back.subject()), (event.id(), event.subject()));
    assert_eq!(
        back.extensions().nth(1),
        Some(("n", AttributeValue::String("-5")))
    );
}

#[test]
fn a_missing_content_type_is_implied_by_the_data() {
    let typed = |data: Data| {
        let (headers, _) =
            encode_binary(&Event::builder("1", "/s", "t").data(data).build().unwrap());
        headers
            .get(CONTENT_TYPE)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(
        typed(Data::json(Bytes::from_static(b"1")).unwrap()).unwrap(),
        "application/json"
    );
    assert_eq!(
        typed(Data::text("x".into())).unwrap(),
        "text/plain; charset=utf-8"
    );
    assert_eq!(typed(Data::binary(Bytes::from_static(b"x"))), None);
}

#[test]
fn attributes_in_headers_are_checked() {
    for (more, expect) in [
        (
            &[("ce-id", "2")][..],
            r#"the attribute "id" is given twice"#,
        ),
        (
            &[("ce-a", "1"), ("ce-a", "1")],
            r#"the attribute "a" is given twice"#,
        ),
        (
            &[("ce-datacontenttype", "text/plain")],
            "the header ce-datacontenttype must not be there: Content-Type says it",
        ),
        (
            &[("ce-a-b", "1")],
            r#""a-b" is not an attribute name: it must be made of a-z and 0-9 and must not be "data""#,
        ),
        (
            &[("ce-data", "1")],
            r#""data" is not an attribute name: it must be made of a-z and 0-9 and must not be "data""#,
        ),
        (
            &[("ce-data_base64", "1")],
            r#""data_base64" is not an attribute name: it must be made of a-z and 0-9 and must not be "data""#,
        ),
        (
            &[("content-type", "json")],
            r#"the attribute "datacontenttype" is "json", which is not a media type such as application/json"#,
        ),
        (
            &[("ce-time", "now")],
            r#"the attribute "time" is "now", which is not an RFC 3339 time such as 2026-01-31T09:30:00Z"#,
        ),
    ] {
        let error = one(&headers(more), b"").unwrap_err();
        assert_eq!(
            (error.status(), &*error.to_string()),
            (StatusCode::BAD_REQUEST, expect)
        );
    }
    for name in ["ce-specversion", "ce-id", "ce-source", "ce-type"] {
        let mut headers = headers(&[]);
        headers.remove(name);
        let missing = name.trim_start_matches(PREFIX);
        assert_eq!(
            one(&headers, b"").unwrap_err().to_string(),
            format!("the required attribute {missing:?} is missing")
        );
        headers.insert(name, HeaderValue::from_static(""));
        assert_eq!(
            one(&headers, b"").unwrap_err().status(),
            StatusCode::BAD_REQUEST
        );
    }
}

#[test]
fn the_sniff_sees_every_mode_and_nothing_else() {
    assert!(is_cloudevent(&headers(&[])));
    assert!(is_cloudevent(&typed_as(
        "APPLICATION/cloudevents+json; charset=utf-8"
    )));
    assert!(is_cloudevent(&typed_as(
        "application/cloudevents-batch+json"
    )));
    assert!(!is_cloudevent(&typed_as("application/json")) && !is_cloudevent(&HeaderMap::new()));
    assert!(!is_cloudevent_body(&headers(&[(
        "content-type",
        "application/json"
    )])));
    assert!(is_cloudevent_body(&typed_as(
        "application/cloudevents+json"
    )));
}

#[test]
fn the_examples_of_the_specification_are_read() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "webhook.example.com"),
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-time", "2018-04-05T03:56:24Z"),
        ("ce-id", "1234-1234-1234"),
        ("ce-source", "/mycontext/subcontext"),
        ("ce-comexampleothervalue", "5"),
        ("content-type", "application/json; charset=utf-8"),
        ("content-length", "2"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let event = one(&headers, b"{}").unwrap();
    let attributes: Vec<_> = event
        .attributes()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        attributes,
        [
            "specversion=1.0",
            "id=1234-1234-1234",
            "source=/mycontext/subcontext",
            "type=com.example.someevent",
            "time=2018-04-05T03:56:24Z",
            "datacontenttype=application/json; charset=utf-8",
            "comexampleothervalue=5",
        ]
    );
    let (again, body) = encode_binary(&event);
    headers.remove("host");
    headers.remove("content-length");
    assert_eq!((again, &body[..]), (headers, &b"{}"[..]));
}

proptest::proptest! {
    /// Whatever stands in a header is refused, or read as a text that is written and read again
    /// alike.
    #[test]
    fn any_header_value_is_refused_or_read(value in r#"[ -~\x80-\xff]{0,20}|"?([a-c"\\ ]|%[0-9A-Fa-f]{2}|%C3%BC|\\"){0,12}"?"#) {
        let mut sent = headers(&[]);
        sent.insert("ce-subject", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        if let Ok(event) = one(&sent, b"") {
            let (again, _) = encode_binary(&event);
            proptest::prop_assert_eq!(one(&again, b""), Ok(event));
        }
    }
}
