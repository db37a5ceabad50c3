//! Values as they are written in a rule file: by import, and where a message shows the mended line.

use std::borrow::Cow;

use serde_json::Value;

/// What older YAML takes for a boolean or a number, and what any YAML takes for nothing.
const WORDS: [&str; 11] = [
    "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf",
];

/// Returns a text as a YAML scalar that any reader takes for this text, in a block and in braces:
/// bare where nothing in it can be misread, else in double quotes with JSON's escapes, which are
/// YAML's. Durations, sizes and rates (`30s`, `64KiB`, `100/s`) are bare.
#[must_use]
pub fn scalar(text: &str) -> Cow<'_, str> {
    if is_bare(text) {
        text.into()
    } else {
        Value::from(text).to_string().into()
    }
}

fn is_bare(text: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    // Behind its `-` or `.`, since those of a number, a list and a document are followed by others.
    let behind = text
        .strip_prefix("--")
        .or_else(|| text.strip_prefix(['-', '.']))
        .unwrap_or(text);
    let is_word = behind.starts_with(|first: char| first.is_ascii_alphabetic())
        || ["/", "./", "../"].iter().any(|path| text.starts_with(path));
    // What a message leaves to be filled in.
    text == "…"
        || is_measure(text)
        || is_word
            && text.bytes().all(is_safe)
            && !WORDS.contains(&behind.to_ascii_lowercase().as_str())
}

fn is_measure(text: &str) -> bool {
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    unit.len() < text.len()
        && [
            "ms", "s", "m", "h", "d", "/s", "/m", "/h", "B", "KiB", "MiB", "GiB", "TiB",
        ]
        .contains(&unit)
}

/// Returns a value on one line, mappings in braces and lists in brackets.
#[must_use]
pub fn flow(value: &Value) -> String {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", scalar(key), flow(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(flow).collect::<Vec<_>>().join(", ")
        ),
        Value::String(text) => scalar(text).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_cannot_be_misread_is_bare() {
        for bare in [
            "order.paid",
            "./x.sh",
            "../a/b",
            "/hooks/github",
            "a-b_c",
            "30s",
            "500ms",
            "100/s",
            "64KiB",
            "s",
            "…",
            "-a",
            ".png",
            "--all",
        ] {
            assert_eq!(scalar(bare), bare);
        }
        // Only other readers take these for something else; what ours would misread is tested with
        // it.
        for quoted in ["yes", "NO", "2026-01-01"] {
            assert_eq!(scalar(quoted), Value::from(quoted).to_string());
        }
        assert_eq!(
            flow(&json!({ "a": [1, "x y", true, null], "b c": {}, "d": { "e": "30s" } })),
            r#"{ a: [1, "x y", true, null], "b c": {}, d: { e: 30s } }"#
        );
    }
}
