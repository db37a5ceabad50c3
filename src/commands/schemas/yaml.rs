//! Schemas as a person would write them in a rule file.

use std::fmt::{self, Write};

use serde_json::{Map, Value};

/// Writes a mapping, a key to a line, behind so many spaces.
pub(super) fn mapping(
    entries: &Map<String, Value>,
    indent: usize,
    out: &mut String,
) -> fmt::Result {
    for (key, value) in entries {
        write!(out, "{:indent$}{}:", "", text(key))?;
        match value {
            Value::Object(below) if !below.is_empty() && !is_flat(below) => {
                out.push('\n');
                mapping(below, indent + 2, out)?;
            }
            flat => {
                out.push(' ');
                self::flat(flat, out)?;
                out.push('\n');
            }
        }
    }
    Ok(())
}

/// Whether a mapping is short, with nothing nested in it.
fn is_flat(entries: &Map<String, Value>) -> bool {
    let is_short = |value: &Value| match value {
        Value::Array(items) => {
            items.len() <= 4
                && items
                    .iter()
                    .all(|item| !item.is_array() && !item.is_object())
        }
        Value::Object(below) => below.is_empty(),
        _ => true,
    };
    entries.len() <= 2 && entries.values().all(is_short)
}

/// Writes a value within a line.
fn flat(value: &Value, out: &mut String) -> fmt::Result {
    match value {
        Value::String(value) => out.push_str(&text(value)),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                flat(item, out)?;
            }
            out.push(']');
        }
        Value::Object(entries) if entries.is_empty() => out.push_str("{}"),
        Value::Object(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                out.push_str(if index == 0 { "{ " } else { ", " });
                write!(out, "{}: ", text(key))?;
                flat(value, out)?;
            }
            out.push_str(" }");
        }
        other => write!(out, "{other}")?,
    }
    Ok(())
}

/// A text, in quotes where it would be something else without.
pub(super) fn text(text: &str) -> String {
    /// Words that older YAML, or a reader, takes for something else.
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || "_.-/$".contains(one))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain || text == "$ref" {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // What YAML does not take as it is, or takes for a line break.
            _ if character.is_control()
                || "\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}".contains(character) =>
            {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
