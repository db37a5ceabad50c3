use super::*;
use crate::document::Outlined;

fn find(paths: &[&[&str]], text: &str) -> Vec<Option<String>> {
    let mut builder = FieldsBuilder::new();
    let ids: Vec<_> = paths
        .iter()
        .map(|path| {
            path.iter()
                .fold(ROOT, |parent, name| builder.field(parent, name))
        })
        .collect();
    let (fields, renumbered) = builder.finish();
    let mut slots = Slots::default();
    let items = pointsman_schemas::json::outline(text.as_bytes());
    let frame = slots.open(
        &fields,
        ROOT,
        Outlined {
            text: text.as_bytes(),
            items: &items,
        },
        0,
    );
    ids.iter()
        .map(|id| {
            let found = slots
                .all(frame, renumbered[*id as usize])
                .filter(|found| found.kind != Kind::Nothing);
            let texts: Vec<_> = found.map(|found| text[found.range()].to_owned()).collect();
            (!texts.is_empty()).then(|| texts.join(" "))
        })
        .collect()
}

#[test]
fn one_pass_finds_every_mentioned_field() {
    let paths: &[&[&str]] = &[&["a"], &["a", "b"], &["a", "b", "c"], &["z"], &["a", "x"]];
    let some = |text: &str| Some(text.to_owned());
    for (text, expect) in [
        (
            r#"{"q":[{}],"a":{"b":{"c":1},"x":"]"},"z":null}"#,
            [
                some(r#"{"b":{"c":1},"x":"]"}"#),
                some(r#"{"c":1}"#),
                some("1"),
                some("null"),
                some("\"]\""),
            ],
        ),
        (
            r#"{"a":{"b":{"c":1}},"a":{"x":2}}"#,
            [some(r#"{"x":2}"#), None, None, None, some("2")],
        ),
        (
            r#"{"a":{"x":2},"a":3}"#,
            [some("3"), None, None, None, None],
        ),
        (
            r#"{"a":[{"b":1}]}"#,
            [some(r#"[{"b":1}]"#), None, None, None, None],
        ),
        (r#"{"a.b.c":7}"#, [None, None, some("7"), None, None]),
        (
            r#"{"a":{"b":{"c":1},"x":1},"a":{"b":{}}}"#,
            [some(r#"{"b":{}}"#), some("{}"), None, None, None],
        ),
        (
            r#"{"a.b.c":7,"a":{"x":1},"a":{}}"#,
            [some("{}"), None, some("7"), None, None],
        ),
        (
            r#"{"a":{"b\u002ec":7},"a":{"x":1}}"#,
            [some(r#"{"x":1}"#), None, None, None, some("1")],
        ),
        (
            r#"{"a":{"b":{"c":1}},"a.b.c":7}"#,
            [
                some(r#"{"b":{"c":1}}"#),
                some(r#"{"c":1}"#),
                some("7 1"),
                None,
                None,
            ],
        ),
        (
            r#"{"a.b.c":7,"a":{"b":{"c":1}},"a.b.c":8}"#,
            [
                some(r#"{"b":{"c":1}}"#),
                some(r#"{"c":1}"#),
                some("8 1"),
                None,
                None,
            ],
        ),
        (
            r#"{"a":{"b":{"c":1},"b.c":2},"a.b":{"c":3},"a.b.c":4}"#,
            [
                some(r#"{"b":{"c":1},"b.c":2}"#),
                some(r#"{"c":3} {"c":1}"#),
                some("4 3 2 1"),
                None,
                None,
            ],
        ),
        (
            r#"{"a":{"b":{"c":1},"b.c":2},"a.b":{"c":3},"a":{"x":4}}"#,
            [
                some(r#"{"x":4}"#),
                some(r#"{"c":3}"#),
                some("3"),
                None,
                some("4"),
            ],
        ),
        (
            r#"{"a.b":{"c":3},"a":{"b.c":2,"b":{"c":1},"b.c":5},"a.b":[]}"#,
            [
                some(r#"{"b.c":2,"b":{"c":1},"b.c":5}"#),
                some(r#"[] {"c":1}"#),
                some("5 1"),
                None,
                None,
            ],
        ),
        (r#"{"a":{"b":{"c":1}"#, [None, None, None, None, None]),
        (
            r#"{"a.b":1,"a.b.x":2,"z.b":3}"#,
            [None, some("1"), None, None, None],
        ),
        ("[]", [None, None, None, None, None]),
        ("", [None, None, None, None, None]),
    ] {
        assert_eq!(find(paths, text), expect, "{text}");
    }
}

#[test]
fn names_are_told_apart_whatever_their_length() {
    let lengths = [1, 3, 4, 7, 8, 9, 16, 17, 24, 40];
    // A few children, which are told apart by their marks, and many.
    for count in [lengths.len(), 100] {
        let names: Vec<_> = lengths
            .iter()
            .cycle()
            .take(count)
            .enumerate()
            .map(|(index, length)| format!("{index:02}{}", "x".repeat(*length)))
            .collect();
        let twins =
            ["begins alike, 1, ends alike", "begins alike, 2, ends alike"].map(ToOwned::to_owned);
        let names: Vec<_> = names.into_iter().chain(twins).collect();
        let mut builder = FieldsBuilder::new();
        let ids: Vec<_> = names.iter().map(|name| builder.field(ROOT, name)).collect();
        let (fields, renumbered) = builder.finish();
        for (name, id) in names.iter().zip(ids) {
            assert_eq!(
                fields.child(ROOT, name.as_bytes()),
                Some(renumbered[id as usize]),
                "{name}"
            );
            assert_eq!(fields.child(ROOT, format!("{name}y").as_bytes()), None);
            assert_eq!(
                fields.child(
                    ROOT,
                    name.replacen('x', "y", 1).replace(',', ";").as_bytes()
                ),
                None
            );
        }
        assert_eq!(fields.child(ROOT, b"begins alike, 3, ends alike"), None);
    }
}
