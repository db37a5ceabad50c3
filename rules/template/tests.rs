use bytes::Bytes;
use pointsman_schemas::{Data, Event};
use serde_json::json;

use super::*;

fn event() -> Event {
    let data = r#"{"n": 12345678901234567890123, "s": "a \"b\"/é", "list": [1, {"x": 2}], "null": null, "crlf": "a\r\nb", "nul": "\u0000", "dots": "..", "star": "*", "empty": "", "dup": 1, "dup": 2, "key>": 5}"#;
    Event::builder("1", "/s", "order.paid")
        .subject("a.jpg")
        .data(Data::json(Bytes::from(data)).unwrap())
        .build()
        .unwrap()
}

fn text(template: &str, placement: Placement) -> Result<String, RenderError> {
    let event = event();
    let mut out = String::from("|");
    TextTemplate::compile(template, placement)
        .unwrap_or_else(|problem| panic!("{template}: {problem}"))
        .render(&Document::event(&event), &mut out)?;
    Ok(out.strip_prefix('|').unwrap().to_owned())
}

#[test]
fn texts() {
    for (template, expect) in [
        ("", ""),
        ("plain < $ > <x> $.a", "plain < $ > <x> $.a"),
        ("a <$$.b> c", "a <$.b> c"),
        ("<$$<$.type><$$", "<$order.paid<$"),
        ("<$.type>/<$.subject>", "order.paid/a.jpg"),
        ("<$.data.n>", "12345678901234567890123"),
        ("<$.data.s>!", "a \"b\"/é!"),
        ("<$.data.list>", r#"[1,{"x":2}]"#),
        ("<$.data.list[*]>", r#"[1,{"x":2}]"#),
        ("<$.data.list[?@.x > 1]>", r#"[{"x":2}]"#),
        ("<$.data['key>']>", "5"),
        ("<$.data.missing>", ""),
        ("<$..missing>", ""),
        ("<$.data.null>", "null"),
        ("<$.data.dup>", "2"),
        (r#"<$.data.missing ?? "x > y">"#, "x > y"),
        (r#"<$.data.missing??{"a": [">"]}>"#, r#"{"a":[">"]}"#),
        ("<$.type ?? 1>", "order.paid"),
        ("<$.data.n ?? 1>", "12345678901234567890123"),
    ] {
        assert_eq!(
            text(template, Placement::Argument).as_deref(),
            Ok(expect),
            "{template}"
        );
    }
    assert!(
        TextTemplate::compile("a <$$ b", Placement::Url)
            .unwrap()
            .is_constant()
    );
    assert!(
        !TextTemplate::compile("<$.a>", Placement::Url)
            .unwrap()
            .is_constant()
    );
}

#[test]
fn dates_are_written_by_filters() {
    let data = r#"{"s":1764230400,"ms":1764230400123,"text":"2026-07-01T22:00:00+00:00","day":"2026-07-01","null":null,"no":"soon","flag":true,"at":[0,"2026-01-01",null]}"#;
    let event = Event::builder("1", "/s", "t")
        .time("2026-11-27T08:00:00.5Z")
        .data(Data::json(Bytes::from(data)).unwrap())
        .build()
        .unwrap();
    let now = pointsman_schemas::Timestamp(1_764_230_400_250_000);
    let made = |template: &str| {
        let mut out = Vec::new();
        let template = JsonTemplate::compile(&json!({ "a": template }))
            .unwrap_or_else(|problems| panic!("{template}: {problems:?}"));
        template
            .render(&Document::event(&event).at(now), &mut out)
            .map(|()| serde_json::from_slice::<Value>(&out).unwrap())
    };
    for (template, expect) in [
        (
            r#"<$.time | strftime("%d.%m.%Y %H:%M"; "Europe/Berlin")>"#,
            json!("27.11.2026 09:00"),
        ),
        (
            r"on <$.time|strftime('%Y')>, <$.data.s | todate>",
            json!("on 2026, 2025-11-27T08:00:00Z"),
        ),
        ("<$.data.ms | todate>", json!("2025-11-27T08:00:00Z")),
        (
            r#"<$.data.ms | strftime("%H:%M:%S.%3f > %%")>"#,
            json!("08:00:00.123 > %"),
        ),
        (
            r#"<$.data.text | todate("Europe/Berlin")>"#,
            json!("2026-07-02T00:00:00+02:00"),
        ),
        (
            r#"<$.data.day | strftime("%F %z"; "Europe/Berlin")>"#,
            json!("2026-07-01 +0200"),
        ),
        ("<$.time | fromdate>", json!(1795766400.5)),
        ("<$.data.text | fromdate>", json!(1782943200)),
        (
            r#"<$.time | fromdate | strftime("%F")>"#,
            json!("2026-11-27"),
        ),
        ("<$ | now>", json!(1764230400.25)),
        (
            r#"<$ | now | strftime("%Y/%m/%d")>/x"#,
            json!("2025/11/27/x"),
        ),
        (r#"<$.data.null | todate ?? "never">"#, json!("never")),
        (r#"<$.data.missing | todate ?? "a | b">"#, json!("a | b")),
        ("<$.data.missing | todate>", json!(null)),
        (
            "<$.data.at[*] | todate>",
            json!(["1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
        ),
    ] {
        assert_eq!(
            made(template).map(|made| made["a"].clone()),
            Ok(expect),
            "{template}"
        );
    }
    assert_eq!(
        made("<$.data.missing | todate ?? omit>").unwrap(),
        json!({})
    );
    for template in [
        "<$.data.no | todate>",
        "<$.data.flag | todate>",
        "<$ | todate>",
        "<$.data.at | fromdate>",
    ] {
        let error = made(template).unwrap_err().to_string();
        assert!(error.contains("finds is no point in time: \""), "{error}");
    }
    let mut text = String::new();
    let address = TextTemplate::compile(
        "http://h/<$.data.day | strftime(\"%Y/%m\")>?<$.data.missing | todate>",
        Placement::Url,
    )
    .unwrap();
    assert_eq!(
        address.render(&Document::event(&event), &mut text),
        Err(RenderError::Nothing {
            query: "$.data.missing".to_owned()
        })
    );
    assert_eq!(text, "http://h/2026%2F07?");
}

#[test]
fn what_stands_where_is_escaped_or_refused() {
    use Placement::{Address, Argument, Column, Header, Html, Mrkdwn, Subject, Url};
    let nothing = |query: &str| {
        Err(RenderError::Nothing {
            query: query.to_owned(),
        })
    };
    for (template, placement, expect) in [
        (
            "http://h/<$.data.s>?q=<$.type>",
            Url,
            Ok("http://h/a%20%22b%22%2F%C3%A9?q=order.paid"),
        ),
        ("http://h/<$.data.crlf>", Url, Ok("http://h/a%0D%0Ab")),
        ("http://h/<$.data.dots>/x", Url, Err("only dots")),
        ("http://h/<$.data.missing>", Url, Err("finds nothing")),
        (
            "http://h/<$.data.missing ?? \"a b\">",
            Url,
            Ok("http://h/a%20b"),
        ),
        ("x <$.data.s>", Header, Ok("x a \"b\"/é")),
        ("<$.data.list>", Header, Ok(r#"[1,{"x":2}]"#)),
        ("<$.data.crlf>", Header, Err("a control character")),
        ("<$.data.nul>", Header, Err("a control character")),
        ("<$.data.missing>", Header, Err("finds nothing")),
        ("<$.data.crlf>", Argument, Ok("a\r\nb")),
        ("<$.data.nul>", Argument, Err("a NUL")),
        ("<p><$.data.s></p>", Html, Ok("<p>a &quot;b&quot;/é</p>")),
        (
            "<a title=\"<$.data.missing ?? \"<i>&'\">\">",
            Html,
            Ok("<a title=\"&lt;i&gt;&amp;&#39;\">"),
        ),
        ("<$.data.missing>", Html, Ok("")),
        ("<$.data.nul>", Html, Err("a NUL")),
        ("*<$.data.s>* <$.data.missing>", Mrkdwn, Ok("*a \"b\"/é* ")),
        (
            "<$.data.missing ?? \"<!channel> & 'co'\">",
            Mrkdwn,
            Ok("&lt;!channel&gt; &amp; 'co'"),
        ),
        ("audit.<$.type>", Subject, Ok("audit.order.paid")),
        ("audit.<$.data.s>", Subject, Err("a space")),
        ("audit.<$.data.star>", Subject, Err("a * or a >")),
        ("audit.<$.data.empty>", Subject, Err("no characters")),
        ("audit.<$.data.dots>", Subject, Err("an empty token")),
        ("audit.<$.data.missing>", Subject, Err("finds nothing")),
        ("audit.>", Subject, Ok("audit.>")),
        ("key/<$.subject>", Address, Ok("key/a.jpg")),
        ("key/<$.data.missing>", Address, Err("finds nothing")),
        ("<$.data.list>", Column, Ok(r#"[1,{"x":2}]"#)),
        ("<$.data.empty>", Column, Ok("")),
        ("<$.data.missing>", Column, Ok("\0")),
        ("<$.data.null>", Column, Ok("\0")),
        ("<$.data.missing ?? null>", Column, Ok("\0")),
        ("<$.data.missing ?? \"null\">", Column, Ok("null")),
        ("a <$.data.missing>", Column, Ok("a ")),
        ("<$.data.nul>", Column, Err("a NUL")),
    ] {
        match (text(template, placement), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{template}"),
            (Err(error), Err(expect)) => {
                assert!(error.to_string().contains(expect), "{template}: {error}")
            }
            (found, expect) => panic!("{template}: {found:?}, expected {expect:?}"),
        }
    }
    assert_eq!(text("<$.data.missing>", Url), nothing("$.data.missing"));
}

#[test]
fn values_keep_their_types_and_bytes() {
    let event = event();
    for (template, expect) in [
        (json!("<$.data.n>"), "12345678901234567890123"),
        (
            json!([
                "<$.data.s>",
                "<$.type>",
                "x<$.data.n>",
                "",
                "<$$",
                1,
                true,
                null
            ]),
            r#"["a \"b\"/é","order.paid","x12345678901234567890123","","<$",1,true,null]"#,
        ),
        (
            json!({"a": {"<$$b": "<$.data.list>"}, "c": "<$.data.list[*].x>"}),
            r#"{"a":{"<$b":[1, {"x": 2}]},"c":[2]}"#,
        ),
        (
            json!([
                "<$.data.missing>",
                "<$..missing>",
                "<$.data.missing ?? []>",
                "<$.data.null ?? 1>",
                "a<$.data.missing>b"
            ]),
            r#"[null,null,[],null,"ab"]"#,
        ),
        (json!({"a\"b": {}, "l": []}), r#"{"a\"b":{},"l":[]}"#),
    ] {
        let mut out = Vec::new();
        JsonTemplate::compile(&template)
            .unwrap()
            .render(&Document::event(&event), &mut out)
            .unwrap();
        assert_eq!(std::str::from_utf8(&out).unwrap(), expect, "{template}");
    }
    let mut out = Vec::new();
    JsonTemplate::compile(&json!("<$>"))
        .unwrap()
        .render(&Document::event(&event), &mut out)
        .unwrap();
    let whole: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&whole["type"], &whole["specversion"], &whole["data"]["dup"]),
        (&json!("order.paid"), &json!("1.0"), &json!(2))
    );
    assert!(
        out.windows(23)
            .any(|bytes| bytes == b"12345678901234567890123")
    );
}

#[test]
fn what_finds_nothing_can_be_left_out() {
    let event = event();
    let no = "<$.data.missing ?? omit>";
    for (template, expect) in [
        (json!({"a": no}), "{}"),
        (
            json!({"a": no, "b": 1, "c": no, "d": {"e": no}, "f": "<$.data.missing??omit>"}),
            r#"{"b":1,"d":{}}"#,
        ),
        (
            json!({"a": "<$.type ?? omit>", "b": no, "c": "<$.data.list ?? omit>", "d": 2}),
            r#"{"a":"order.paid","c":[1, {"x": 2}],"d":2}"#,
        ),
        (
            json!([
                no,
                "<$.data.null ?? omit>",
                no,
                ["{", no, "<$..missing ?? omit>", "["],
                "<$.data.missing>"
            ]),
            r#"[null,["{","["],null]"#,
        ),
        (
            json!({"omit": "<$.data.missing ?? \"omit\">"}),
            r#"{"omit":"omit"}"#,
        ),
    ] {
        let mut out = Vec::new();
        JsonTemplate::compile(&template)
            .unwrap()
            .render(&Document::event(&event), &mut out)
            .unwrap();
        assert_eq!(std::str::from_utf8(&out).unwrap(), expect, "{template}");
    }
    for refused in [json!(no), json!({"a": format!("x{no}")})] {
        assert!(
            JsonTemplate::compile(&refused).unwrap_err()[0]
                .message
                .starts_with("`omit` leaves out a key or an item"),
            "{refused}"
        );
    }
    assert!(TextTemplate::compile(no, Placement::Header).is_err());
}

#[test]
fn mistakes_are_told_with_their_place() {
    let told = |template: &str| {
        let problem = TextTemplate::compile(template, Placement::Url).unwrap_err();
        format!(
            "{template:?}: {problem} at {:?}",
            &template[problem.within.clone().unwrap()]
        )
    };
    let texts = [
        "é<$.a",
        "<$.a[>",
        "<$.a b>",
        "x <$..> y",
        "<$.a ?? x>",
        "<$.a ?? >",
        "<$ ?? 'x'>",
        "<$.a[?foo(@.b)]>",
    ];
    insta::assert_snapshot!(texts.map(told).join("\n"), @r##"
        "é<$.a": <$ opens a template that is not closed (close it with >, or write <$$ for a literal <$) at "<$.a"
        "<$.a[>": <$ opens a template that is not closed (close it with >, or write <$$ for a literal <$) at "<$.a[>"
        "<$.a b>": two words stand side by side (write ['a b'] for a name with a space) at "b"
        "x <$..> y": this is not a JSONPath query (RFC 9535) at ""
        "<$.a ?? x>": the default behind ?? is not JSON: expected value at line 1 column 1 (write a text in quotes: ?? "x"; or ?? omit) at " x"
        "<$.a ?? >": the default behind ?? is not JSON: EOF while parsing a value at line 1 column 0 (write a text in quotes: ?? "x"; or ?? omit) at " "
        "<$ ?? 'x'>": the default behind ?? is not JSON: expected value at line 1 column 1 (write a text in quotes: ?? "x"; or ?? omit) at " 'x'"
        "<$.a[?foo(@.b)]>": this is not a JSONPath query (RFC 9535) at "f"
        "##);
    let texts = [
        "é <$.a | strftime(\"%!\")>",
        "<$.a | strftime(\"%F\", \"UTC\")>",
        "<$.a | strftime(\"%F\"; \"Europe/Berln\")>",
        "<$.a | strftime>",
        "<$.a | strftime(\"%F\") | todate>",
        "<$.a | strftim(\"%F\")>",
        "<$.a | upper>",
        "<$.a || $.b>",
        "<$.a | todate x>",
        "<$.a | todate(UTC)>",
        "<$.a | todate(\"UTC\"; \"UTC\")>",
        "<$.a | todate | now>",
    ];
    insta::assert_snapshot!("mistakes_in_dates", texts.map(told).join("\n"));
    let problems = JsonTemplate::compile(&json!({"a": ["<$", {"b<$.x>": "<$.["}], "ok": "<$.a>"}))
        .unwrap_err();
    insta::assert_snapshot!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), @r##"
        a[0]: <$ opens a template that is not closed (close it with >, or write <$$ for a literal <$)
        a[1].b<$.x>: a template cannot be a key (keys are fixed; write <$$ for a literal <$)
        a[1].b<$.x>: <$ opens a template that is not closed (close it with >, or write <$$ for a literal <$)
        "##);
}

#[test]
fn what_is_written_is_bounded() {
    let data = format!("\"{}\"", "x".repeat(1024 * 1024));
    let event = Event::builder("1", "/s", "t")
        .data(Data::json(Bytes::from(data)).unwrap())
        .build()
        .unwrap();
    let (document, template) = (Document::event(&event), "<$.data>".repeat(5));
    assert_eq!(
        TextTemplate::compile(&template, Placement::Argument)
            .unwrap()
            .render(&document, &mut String::new()),
        Err(RenderError::TooLong)
    );
    for value in [json!(template), json!(vec!["<$.data>"; 5])] {
        assert_eq!(
            JsonTemplate::compile(&value)
                .unwrap()
                .render(&document, &mut Vec::new()),
            Err(RenderError::TooLong)
        );
    }
}
