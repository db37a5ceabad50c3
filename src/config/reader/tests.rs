use indexmap::IndexMap;
use pointsman_schemas::{Interval, Text};
use serde::Deserialize;

use super::*;
use crate::config::mistake::Mistakes;
use crate::config::yaml;

/// What a text reads as, and what is reported of it: `text underlined: message (help)`.
fn told<T: for<'de> Deserialize<'de> + std::fmt::Debug>(text: &str) -> String {
    let (root, mistakes) = (yaml::read(text).unwrap(), Mistakes::default());
    let value: Option<T> = read(Piece {
        node: &root,
        entry: None,
        text,
        mistakes: &mistakes,
    });
    let mut out = format!(
        "{text} => {}",
        value.map_or("nothing".to_owned(), |value| format!("{value:?}"))
    );
    for Mistake {
        span,
        message,
        help,
        ..
    } in mistakes.into_inner()
    {
        out += &format!(
            "\n  {}: {message} ({})",
            &text[span.start..span.end],
            help.as_deref().unwrap_or("-")
        );
    }
    out + "\n"
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "shown by Debug")]
struct Settings {
    name: String,
    #[serde(default)]
    count: u8,
    wait: Option<Interval>,
    secret: Option<Text>,
    inner: Option<Inner>,
    #[serde(default)]
    choice: Choice,
    #[serde(default)]
    many: Vec<Inner>,
    #[serde(default)]
    named: IndexMap<String, Inner>,
    any: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "shown by Debug")]
struct Inner {
    a: u16,
    b: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "shown by Debug")]
enum Choice {
    #[default]
    None,
    Wrapped(Inner),
    Fields {
        x: i32,
    },
}

#[test]
fn every_mistake_is_found_in_one_run() {
    let cases = [
        "{name: a}",
        "{name: a, count: 300, wait: 5, secret: {evn: X}, inner: {a: -1, b: yes, c: 1}, extra: 1}",
        "{name: 5, nmae: x, choice: wraped, many: [{a: 1}, {}, {a: x, b: 1}], named: {k: {a: q}, l: {a: 7}}}",
        "{count: 1}",
        "{name: a, choice: {wrapped: {b: true}}, secret: 12}",
        "{name: a, choice: {fields: {x: 1, y: 2}}, any: [0x1, {b: 1_000}, 5]}",
        "{name: a, choice: {fields: {x: a}}}",
        "{name: a, choice: {fields:, wrapped: }}",
        "{name: a, choice: wrapped}",
        "{name: a, choice: {none: }}",
        "{name: a, choice: {none: 1}}",
        "{name: a, wait: , count: null}",
        "{name: a, wait: null, inner: ~}",
        "[]",
        "text",
    ];
    insta::assert_snapshot!("told", cases.map(told::<Settings>).join("\n"));
}

#[test]
fn an_erased_reader_tells_the_same() {
    let text = "{name: 5, choice: wraped, count: 300, extra: 1}";
    let (root, mistakes) = (yaml::read(text).unwrap(), Mistakes::default());
    let piece = Piece {
        node: &root,
        entry: None,
        text,
        mistakes: &mistakes,
    };
    let read = read_erased::<Settings>(piece, |erased| {
        erased_serde::deserialize::<Settings>(erased).map(Box::new)
    });
    assert!(read.is_none());
    let direct = told::<Settings>(text);
    for Mistake {
        span,
        message,
        help,
        ..
    } in mistakes.into_inner()
    {
        let line = format!(
            "  {}: {message} ({})",
            &text[span.start..span.end],
            help.as_deref().unwrap_or("-")
        );
        assert!(direct.contains(&line), "{line}\nis not in\n{direct}");
    }
}
