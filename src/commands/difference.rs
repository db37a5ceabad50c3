//! Differences between JSON values, as a person wants to read them.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use crate::output::{plain, shortened};

/// Characters of a value that a line shows.
const SHOWN_CHARACTERS_MAX: usize = 60;

/// Characters before the first difference of two long texts that are shown.
const CONTEXT_CHARACTERS: usize = 12;

/// One place where a value is not as expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Where: `data.lines[0].sku`.
    pub path: String,
    /// What is expected there; none where nothing is.
    pub expected: Option<Value>,
    /// What is there; none where nothing is.
    pub found: Option<Value>,
}

/// Where `found` lacks something of `expected`. Objects may hold more than is expected of them,
/// lists may not.
#[must_use]
pub fn lacking(expected: &Value, found: Option<&Value>) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare(
        Some(expected),
        found,
        Mode::Part,
        String::new(),
        &mut differences,
    );
    differences
}

/// Where two values differ.
#[must_use]
pub fn between(before: &Value, after: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare(
        Some(before),
        Some(after),
        Mode::Whole,
        String::new(),
        &mut differences,
    );
    differences
}

/// How many single values of what is expected are not there: a measure of how far off something is.
#[must_use]
pub fn leaves(differences: &[Difference]) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(of).sum::<usize>().max(1),
            Value::Object(entries) => entries.values().map(of).sum::<usize>().max(1),
            _ => 1,
        }
    }
    differences
        .iter()
        .map(|difference| difference.expected.as_ref().map_or(1, of))
        .sum()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Keys that are not expected are passed over.
    Part,
    /// They are differences.
    Whole,
}

fn compare(
    expected: Option<&Value>,
    found: Option<&Value>,
    mode: Mode,
    path: String,
    differences: &mut Vec<Difference>,
) {
    match (expected, found) {
        (Some(Value::Object(expected)), Some(Value::Object(found))) => {
            let more = found
                .keys()
                .filter(|key| mode == Mode::Whole && !expected.contains_key(*key));
            for key in expected.keys().chain(more) {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(expected.get(key), found.get(key), mode, path, differences);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(found))) => {
            for index in 0..expected.len().max(found.len()) {
                compare(
                    expected.get(index),
                    found.get(index),
                    mode,
                    format!("{path}[{index}]"),
                    differences,
                );
            }
        }
        (Some(Value::Number(expected)), Some(Value::Number(found)))
            if expected == found || expected.as_f64() == found.as_f64() => {}
        (expected, found) if expected == found => {}
        (expected, found) => differences.push(Difference {
            path,
            expected: expected.cloned(),
            found: found.cloned(),
        }),
    }
}

/// Writes differences one per line under the headings of their two sides, aligned, each line behind
/// `indent`. With colours what is expected is green and what came is red.
#[must_use]
pub fn table(
    differences: &[Difference],
    headings: [&str; 2],
    indent: &str,
    colours: bool,
) -> String {
    let cells: Vec<[String; 3]> = differences.iter().map(cells).collect();
    let [left, right] = headings;
    let heading = ["", left, right].map(str::to_owned);
    let width = |column: usize| {
        let widths = std::iter::once(&heading)
            .chain(&cells)
            .filter_map(|row| row.get(column));
        widths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let mut out = String::new();
    for (index, [path, expected, found]) in std::iter::once(&heading).chain(&cells).enumerate() {
        let padding = " ".repeat(second.saturating_sub(expected.chars().count()));
        let (green, red, end) = if colours && index > 0 {
            ("\u{1b}[32m", "\u{1b}[31m", "\u{1b}[0m")
        } else {
            ("", "", "")
        };
        let line =
            format!("{indent}{path:<first$}  {green}{expected}{end}{padding}  {red}{found}{end}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn cells(difference: &Difference) -> [String; 3] {
    let Difference {
        path,
        expected,
        found,
    } = difference;
    let path = if path.is_empty() { "all of it" } else { path };
    let (mut expected, mut found) = (shown(expected.as_ref()), shown(found.as_ref()));
    // Of two long texts what is the same at their beginning would push what differs out of sight.
    let same = expected
        .chars()
        .zip(found.chars())
        .take_while(|(left, right)| left == right)
        .count();
    if same > CONTEXT_CHARACTERS
        && expected.chars().count().max(found.chars().count()) > SHOWN_CHARACTERS_MAX
    {
        let cut = |text: &str| {
            format!(
                "…{}",
                text.chars()
                    .skip(same - CONTEXT_CHARACTERS)
                    .collect::<String>()
            )
        };
        (expected, found) = (cut(&expected), cut(&found));
    }
    [path, &expected, &found].map(|text| plain(&shortened(text, SHOWN_CHARACTERS_MAX)).into_owned())
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_by_its_path() {
        let (expected, found) = (
            json!({"a": 1, "b": {"c": [1, {"d": 2}, 3], "e": "x"}, "f": [1], "g": null, "h": 2.0}),
            json!({"a": "1", "b": {"c": [1, {"d": 3, "more": 1}], "e": "x"}, "f": [1, 2], "more": 1, "h": 2}),
        );
        let paths = |differences: Vec<Difference>| {
            differences
                .into_iter()
                .map(|difference| difference.path)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            paths(lacking(&expected, Some(&found))),
            ["a", "b.c[1].d", "b.c[2]", "f[1]", "g"]
        );
        assert_eq!(
            paths(between(&expected, &found)),
            [
                "a",
                "b.c[1].d",
                "b.c[1].more",
                "b.c[2]",
                "f[1]",
                "g",
                "more"
            ]
        );
        assert_eq!(paths(lacking(&expected, None)), [""]);
        assert_eq!(lacking(&expected, Some(&expected)), []);
    }

    #[test]
    fn differences_are_aligned_and_long_ones_cut_to_what_differs() {
        let long = "the quick brown fox jumps over the lazy dog and runs on to the end of the wood";
        let (expected, found) = (
            json!({"ü": 1, "data": {"text": format!("{long} at noon"), "a": ["x"], "esc": "\u{1b}[2J"}}),
            json!({"ü": true, "data": {"text": format!("{long} at night"), "esc": ""}}),
        );
        insta::assert_snapshot!(table(&lacking(&expected, Some(&found)), ["expected", "came"], "  ", false), @r#"
                     expected           came
          ü          1                  true
          data.text  …he wood at noon"  …he wood at night"
          data.a     ["x"]              nothing
          data.esc   "\u001b[2J"        ""
        "#);
        let coloured = table(
            &lacking(&json!(1), Some(&json!(2))),
            ["expected", "came"],
            "",
            true,
        );
        assert_eq!(
            coloured,
            "           expected  came\nall of it  \u{1b}[32m1\u{1b}[0m         \
             \u{1b}[31m2\u{1b}[0m\n"
        );
    }
}
