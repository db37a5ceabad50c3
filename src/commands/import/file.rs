//! The text of an imported rule file, and the names in it.

use pointsman_schemas::Name;
use pointsman_schemas::yaml::{flow, scalar};
use serde_json::{Map, Value};

/// A text as a part of the name of an environment variable.
pub(super) fn variable(text: &str) -> String {
    slug(text).to_ascii_uppercase().replace('-', "_")
}

/// A name as the rule file wants it: `a-z`, `0-9` and `-`, 63 at most.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    let mut before_lower = false;
    for character in text.chars() {
        // `OrderPlaced` is order-placed.
        if character.is_ascii_uppercase() && before_lower {
            slug.push('-');
        }
        before_lower = character.is_ascii_lowercase() || character.is_ascii_digit();
        match character.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9') => slug.push(letter),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
    }
    let slug: String = slug.chars().take(55).collect();
    let slug = slug.trim_end_matches('-');
    if Name::new(slug).is_ok() {
        slug.to_owned()
    } else {
        "unnamed".to_owned()
    }
}

pub(super) fn unique(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let wanted = slug(wanted);
    let numbered = (2_u32..).map(|number| format!("{wanted}-{number}"));
    std::iter::once(wanted.clone())
        .chain(numbered)
        .find(|name| !taken(name))
        .unwrap_or(wanted)
}

pub(super) fn sections(
    sources: &Map<String, Value>,
    targets: &Map<String, Value>,
    rules: &[(String, Map<String, Value>)],
) -> String {
    let mut out = String::new();
    let rules: Map<String, Value> = rules
        .iter()
        .map(|(name, body)| (name.clone(), Value::Object(body.clone())))
        .collect();
    for (section, entries) in [
        ("sources", sources),
        ("targets", targets),
        ("rules", &rules),
    ] {
        if !entries.is_empty() {
            out.push_str(&format!("\n{section}:\n"));
            mapping(entries, 2, &mut out);
        }
    }
    out
}

/// The sources and targets that a rule names.
pub(super) fn names(rule: &Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    for key in ["from", "to", "on_failure"] {
        let values = match rule.get(key) {
            Some(Value::Array(values)) => values.iter().collect(),
            other => other.into_iter().collect::<Vec<_>>(),
        };
        for value in values {
            names.extend(named(value).map(str::to_owned));
        }
    }
    names
}

/// The source or target that an entry of a rule names.
pub(super) fn named(entry: &Value) -> Option<&str> {
    entry.as_str().or_else(|| {
        entry
            .get("target")
            .or_else(|| entry.get("to"))
            .and_then(Value::as_str)
    })
}

/// Lines longer than this are broken into blocks.
const LINE_CHARACTERS_MAX: usize = 100;

fn mapping(entries: &Map<String, Value>, indent: usize, out: &mut String) {
    for (key, value) in entries {
        let head = format!("{}{}:", " ".repeat(indent), scalar(key));
        let inline = flow(value);
        match value {
            Value::Object(inner)
                if !inner.is_empty()
                    && (indent < 4
                        || head.len() + inline.chars().count() > LINE_CHARACTERS_MAX) =>
            {
                out.push_str(&format!("{head}\n"));
                mapping(inner, indent + 2, out);
            }
            Value::Array(items) if head.len() + inline.chars().count() > LINE_CHARACTERS_MAX => {
                out.push_str(&format!("{head}\n"));
                for item in items {
                    out.push_str(&format!("{}- {}\n", " ".repeat(indent + 2), flow(item)));
                }
            }
            _ => out.push_str(&format!("{head} {inline}\n")),
        }
    }
}
