use super::*;
use crate::config::mistake::Mistake;

fn value(yaml: &str) -> Value {
    read(yaml).unwrap().value
}

fn number(json: &str) -> Value {
    Value::Number(json.parse().unwrap())
}

fn mistakes(yaml: &str) -> Vec<Mistake> {
    read(yaml).unwrap_err()
}

#[test]
fn what_a_bare_word_is() {
    let text = |text: &str| Value::Text(text.to_owned(), Style::Plain);
    for (given, expect) in [
        ("true", Value::Boolean(true)),
        ("false", Value::Boolean(false)),
        ("null", Value::Null),
        ("~", Value::Null),
        ("", Value::Null),
        ("0", number("0")),
        ("-7", number("-7")),
        ("1.50", number("1.50")),
        ("1e3", number("1e3")),
        ("18446744073709551615", number("18446744073709551615")),
        ("-9223372036854775808", number("-9223372036854775808")),
    ] {
        assert_eq!(value(given), expect, "{given}");
    }
    for odd in [
        "0x10", "0o17", "0b11", "1_000", ".5", "+1", "1.", "010", "-010", "+0x1F", "1e+3_0",
        ".inf", "-.INF", ".nan", "00", "1_0.5",
    ] {
        let expect = if odd == "1e+3_0" {
            text(odd)
        } else {
            Value::Odd(OddNumber::Spelling)
        };
        assert_eq!(value(odd), expect, "{odd}");
    }
    for long in [
        "18446744073709551616",
        "-9223372036854775809",
        "1e400",
        "123456789012345678901234567890",
    ] {
        assert_eq!(value(long), Value::Odd(OddNumber::Range), "{long}");
    }
    for plain in [
        "no",
        "yes",
        "y",
        "n",
        "on",
        "off",
        "True",
        "FALSE",
        "1.2.3",
        "12:30",
        "2026-01-31",
        "10.0.0.0/8",
        "5m",
        "64KiB",
        "100/s",
        "1e",
        "e3",
        "_1",
        "0x",
        "0xg",
        ".",
        "+",
        "a.jpg",
        "1 2",
        "nan",
        "inf",
        "127.0.0.1:8080",
        "0b2",
    ] {
        assert_eq!(
            value(&format!("[{plain}]")),
            Value::List(vec![Node {
                value: text(plain),
                span: Span {
                    start: 1,
                    end: 1 + plain.len()
                }
            }])
        );
    }
    for quoted in ["\"1\"", "'1'", "\"true\"", "''"] {
        assert!(
            matches!(value(quoted), Value::Text(_, Style::Quoted)),
            "{quoted}"
        );
    }
    assert_eq!(value("|\n  1\n"), Value::Text("1\n".into(), Style::Block));
}

#[test]
fn everything_knows_where_it_stands() {
    let yaml = "\u{e4}: {b: [x, \"y\u{fc}\"]}\nc:\n  - d: plain words   # note\n    e: 'q'\n  - |\n    block\nf:\n";
    let root = read(yaml).unwrap();
    let mut seen = Vec::new();
    root.walk(&mut |entry, node| {
        let key = entry.map_or("-", |entry| &yaml[entry.key_span.start..entry.key_span.end]);
        seen.push(format!("{key} = {}", &yaml[node.span.start..node.span.end]));
    });
    insta::assert_snapshot!("places", seen.join("\n"));
}

#[test]
fn what_is_refused() {
    let shown = |yaml: &str| {
        let told: Vec<String> = mistakes(yaml)
            .iter()
            .map(|m| {
                format!(
                    "{}..{} {} ({})",
                    m.span.start,
                    m.span.end,
                    m.message,
                    m.help.as_deref().unwrap_or("-")
                )
            })
            .collect();
        told.join("\n")
    };
    let cases = [
        "a: 1\nb: 2\na: 3\n",
        "a: 1\n---\nb: 2\n",
        "a: !!str 1\nb: !x {}\n",
        "a: &a\n  b: *a\n",
        "a: *b\n",
        "a: &x {b: 1}\nc: {<<: *x}\n",
        "a:\n\tb: 1\n",
        "a: b: c\n",
        "a: @b\n",
        "a: [1, 2\n",
        "a: \"b\n",
        "? [a, b]\n: 1\n",
        "{a: 1}: 2\n",
        "a: {{ b }}\n",
        "a: 1\n b: 2\n",
        "a\nb: 1\n",
        "- a\nb: 1\n",
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|yaml| format!("{yaml}=> {}\n", shown(yaml)))
        .collect();
    insta::assert_snapshot!("refused", told.join("\n"));
}

#[test]
fn depth_and_aliases_are_bounded() {
    assert!(read(&"[".repeat(100_000)).is_err());
    assert!(
        read(&format!(
            "{}1{}",
            "[".repeat(DEPTH_MAX),
            "]".repeat(DEPTH_MAX)
        ))
        .is_ok()
    );
    assert!(
        read(&format!(
            "{}1{}",
            "[".repeat(DEPTH_MAX + 1),
            "]".repeat(DEPTH_MAX + 1)
        ))
        .is_err()
    );
    assert!(read(&"- ".repeat(100_000)).is_err());
    assert!(read(&"a: {".repeat(10_000)).is_err());
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        laughs += &format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(",")
        );
    }
    assert!(
        mistakes(&laughs)[0]
            .message
            .contains("copy more than 16 MiB")
    );
    // Each alias is shallow; what they add up to is not.
    let mut tower = "a0: &a0 [x]\n".to_owned();
    for level in 1..=DEPTH_MAX {
        tower += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert!(mistakes(&tower)[0].message.contains("deeper"));
}

#[test]
fn copies_of_anchored_values_are_bounded_by_their_size() {
    let nested = |levels: usize, inner: &str| {
        let open: String = (0..levels).map(|level| format!("&a{level} [")).collect();
        format!("x-a: {open}{inner}{}", "]".repeat(levels))
    };
    let refused = |yaml: &str| {
        mistakes(yaml)
            .first()
            .is_some_and(|mistake| mistake.message.contains("copy more than 16 MiB"))
    };
    assert!(
        read(&nested(1, &"1,".repeat(20_000))).is_ok(),
        "one anchor over much is what a user writes"
    );
    assert!(read(&nested(100, "1")).is_ok(), "as are many over little");
    assert!(
        refused(&nested(120, &"1,".repeat(20_000))),
        "each level would be copied once more"
    );
    assert!(
        refused(&nested(120, &format!("'{}'", "x".repeat(500_000)))),
        "a long text counts by its length"
    );
    let long = "x".repeat(10_000);
    assert!(
        refused(&format!(
            "x-a: &a '{long}'\nx-b: [{}]",
            "*a,".repeat(10_000)
        )),
        "so does an alias of it"
    );
    assert!(
        refused(&format!(
            "x-a: &a {{ {long}: 1 }}\nx-b: [{}]",
            "*a,".repeat(10_000)
        )),
        "and a long key"
    );
}

#[test]
fn carriage_returns_and_truncation_do_not_disturb() {
    let yaml = "a: &a {b: [1, 'x', \"y\\n\u{fc}\"]}\r\nc: *a\r\nd: |\r\n  text\r\n? e\r\n: >-\r\n  folded\r\n# end\r\n";
    let root = read(yaml).unwrap();
    let value = |key| &root.entry(key).unwrap().value;
    assert_eq!(value("c"), value("a"));
    let d = root.entry("d").unwrap();
    assert_eq!(
        (&yaml[d.key_span.start..d.key_span.end], d.value.text()),
        ("d", Some("text\n"))
    );
    for end in (0..yaml.len()).filter(|end| yaml.is_char_boundary(*end)) {
        for mistake in read(&yaml[..end]).err().unwrap_or_default() {
            assert!(
                mistake.span.start <= mistake.span.end && mistake.span.end <= end,
                "{end}: {mistake:?}"
            );
        }
    }
}

#[test]
fn what_is_written_for_others_is_read_as_it_was_meant() {
    for text in [
        "",
        "a",
        "yes",
        "No",
        "null",
        "~",
        "true",
        "-",
        "-a",
        "--all",
        "-1",
        ".5",
        ".inf",
        "-.inf",
        ".nan",
        ".",
        ".png",
        "..",
        "...",
        "---",
        "1e3",
        "0x1f",
        "1_000",
        "12",
        "30s",
        "100/s",
        "64KiB",
        "a b",
        "a: b",
        "a #b",
        "#a",
        "http://h/",
        "{a",
        "a]",
        "*.png",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "'a",
        "\"a",
        "a\nb",
        "a\\b",
        "\u{fc}",
        "<$.data>",
        "| a",
        "> a",
        "? a",
        "2026-01-01",
        "/x",
        "./x",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\t",
    ] {
        let written = pointsman_schemas::yaml::scalar(text);
        for file in [
            format!("k: {written}\n"),
            format!("k: [{written}]\n"),
            format!("{{ k: {written} }}\n"),
        ] {
            let node = read(&file).unwrap();
            let value = &node.entry("k").unwrap().value;
            let value = match &value.value {
                Value::List(items) => &items[0],
                _ => value,
            };
            assert_eq!(value.text(), Some(text), "{file}");
        }
    }
}
