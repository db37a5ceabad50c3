//! What a value stands for that was written in the place of a mapping, or of another form: how it
//! is written out.
//!
//! Secrets are never repeated: where a value may be one, `{ env: NAME }` stands in its place.

use pointsman_schemas::yaml::scalar;

use super::meant::duration;
use crate::config::suggest;
use crate::config::yaml::{Node, Value};

/// The setting that a text alone stands for, by the key of the mapping that is wanted.
const OF_A_TEXT: [(&str, &str); 30] = [
    ("http", "url"),
    ("kafka", "brokers"),
    ("nats", "url"),
    ("rabbitmq", "url"),
    ("amqp", "url"),
    ("redis", "url"),
    ("mqtt", "url"),
    ("rocketmq", "url"),
    ("directory", "path"),
    ("webhook", "path"),
    ("object-storage", "bucket"),
    ("sqs", "queue"),
    ("mns", "queue"),
    ("function-compute", "function"),
    ("sns", "topic"),
    ("lambda", "function"),
    ("eventbridge", "bus"),
    ("store", "path"),
    ("declare", "type"),
    ("notifications", "sqs"),
    ("transform", "data"),
    ("event", "type"),
    ("set", "type"),
    ("exact", "type"),
    ("prefix", "type"),
    ("suffix", "type"),
    ("tls", "ca"),
    ("jwt", "issuer"),
    ("answer", "body"),
    ("delivery", "timeout"),
];

/// The setting that a number alone stands for, with what is put behind the number.
const OF_A_NUMBER: [(&str, &str, &str); 7] = [
    ("delivery", "timeout", "s"),
    ("backoff", "initial", "s"),
    ("retry", "attempts", ""),
    ("concurrency", "max", ""),
    ("backlog", "max", ""),
    ("answer", "status", ""),
    ("stdout", "", ""),
];

/// Help for a value that is not of the form that is wanted. `fields` are those of the mapping that
/// is wanted, where they are known.
pub(in crate::config) fn in_full(
    key: &str,
    expected: &str,
    fields: Option<&[&str]>,
    node: &Node,
    source: &str,
) -> Option<String> {
    let written =
        match expected {
            "a mapping" => match &node.value {
                Value::Text(text, _) => of_a_text(key, text, fields),
                Value::Number(_) => OF_A_NUMBER.iter().find(|(short, ..)| *short == key).map(
                    |(_, setting, unit)| match *setting {
                        "" => "{}".to_owned(),
                        setting => format!("{{ {setting}: {source}{unit} }}"),
                    },
                ),
                Value::Boolean(true)
                    if ["tls", "stdout", "none", "create", "declare"].contains(&key) =>
                {
                    Some("{}".to_owned())
                }
                Value::Boolean(false) if key == "tls" => {
                    return Some("remove the key: without it there is no TLS".to_owned());
                }
                Value::List(items) => of_a_list(key, items, fields, source),
                _ => None,
            },
            "a list" => of_one(key, node, source),
            "a text" => match (key, &node.value) {
                ("where", Value::Map(_)) => {
                    return Some("an event pattern stands under `match`".to_owned());
                }
                (_, Value::List(items)) => match items.as_slice() {
                    [item] => item.text().map(|text| scalar(text).into_owned()),
                    _ => None,
                },
                _ => None,
            },
            _ if ["on_success", "on_failure"].contains(&key) => match &node.value {
                Value::List(items) => {
                    let first = items.first().and_then(Node::text).unwrap_or("a-target");
                    return Some(format!("one target is told: write `{key}: {first}`"));
                }
                _ => None,
            },
            _ => match (key, &node.value) {
                ("url", Value::Number(_)) => Some(format!("http://127.0.0.1:{source}/")),
                _ => None,
            },
        };
    let written = written.map(|written| match key {
        "" => format!("write `{written}`"),
        key => format!("write `{key}: {written}`"),
    });
    let listed = || {
        let fields = fields.filter(|_| expected == "a mapping")?;
        let names: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        (!names.is_empty()).then(|| format!("its settings are {}", names.join(", ")))
    };
    written.or_else(listed)
}

/// The mapping that a text stands for.
fn of_a_text(key: &str, text: &str, fields: Option<&[&str]>) -> Option<String> {
    let has = |field: &str| fields.is_some_and(|fields| fields.contains(&field));
    let secret = "{ env: NAME }";
    if text.contains('\n') {
        return None;
    }
    Some(match key {
        "exec" => format!("{{ command: [{}] }}", words(text)),
        "timer" if is_period(text) => format!("{{ every: {text} }}"),
        "timer" => format!("{{ cron: \"{text}\" }}"),
        "stdout" | "none" => "{}".to_owned(),
        "match" => format!("{{ type: [{}] }}", scalar(text)),
        "expect" => format!("{{ {}: {{}} }}", scalar(text)),
        "create" => format!("{{ filter: {} }}", scalar(text)),
        "headers" | "env" | "extensions" | "arguments" => format!("{{ {} }}", pair_of(text)),
        "basic" => format!("{{ username: me, password: {secret} }}"),
        "custom" => format!("{{ header: {}, secret: {secret} }}", scalar(text)),
        "header" if has("value") => {
            let name = text.split_once(':').map_or("X-Api-Key", |(name, _)| name);
            format!("{{ name: {}, value: {secret} }}", scalar(name.trim()))
        }
        "oauth2" => format!(
            "{{ token_url: {}, client_id: me, client_secret: {secret} }}",
            scalar(text)
        ),
        "certificate" if has("hosts") => {
            "{ url: \"<$.headers.x-cert-url>\", hosts: [api.example.com] }".to_owned()
        }
        "backoff" | "delivery" => {
            let length = duration(text).unwrap_or_else(|| text.to_owned());
            let setting = if key == "backoff" {
                "initial"
            } else {
                "timeout"
            };
            format!("{{ {setting}: {length} }}")
        }
        "retry" => match (text.parse::<u32>(), duration(text)) {
            (Ok(attempts), _) => format!("{{ attempts: {attempts} }}"),
            (_, Some(length)) => format!("{{ backoff: {{ initial: {length} }} }}"),
            _ => return None,
        },
        "concurrency" | "backlog" => format!("{{ max: {} }}", text.parse::<u32>().ok()?),
        _ => {
            let of_key = OF_A_TEXT.iter().find(|(short, _)| *short == key);
            match of_key.filter(|(_, setting)| fields.is_none() || has(setting)) {
                Some((_, setting)) => format!("{{ {setting}: {} }}", scalar(text)),
                None if has("match") && has("to") => format!("{{ to: {} }}", scalar(text)),
                None if has("secret") => format!("{{ secret: {secret} }}"),
                None => return None,
            }
        }
    })
}

/// The mapping that a list stands for.
fn of_a_list(key: &str, items: &[Node], fields: Option<&[&str]>, source: &str) -> Option<String> {
    let has = |field: &str| fields.is_some_and(|fields| fields.contains(&field));
    let texts: Vec<&str> = items.iter().filter_map(Node::text).collect();
    let all_texts = texts.len() == items.len() && !items.is_empty();
    Some(match key {
        "exec" if all_texts => {
            let words: Vec<_> = texts.iter().map(|text| scalar(text)).collect();
            format!("{{ command: [{}] }}", words.join(", "))
        }
        "headers" | "env" | "set" | "extensions" | "arguments" => {
            format!("{{ {} }}", pair(items.first()?))
        }
        "match" if all_texts && !source.contains('\n') => format!("{{ type: {source} }}"),
        "expect" if all_texts => {
            let rules: Vec<_> = texts
                .iter()
                .map(|rule| format!("{}: {{}}", scalar(rule)))
                .collect();
            format!("{{ {} }}", rules.join(", "))
        }
        _ if has("match") && has("to") && all_texts && !source.contains('\n') => {
            format!("{{ to: {source} }}")
        }
        _ => return None,
    })
}

/// The list that a value alone stands for.
fn of_one(key: &str, node: &Node, source: &str) -> Option<String> {
    match (key, &node.value) {
        ("auth", _) => Some("[{ env: NAME }]".to_owned()),
        ("command", Value::Text(text, _)) => Some(format!("[{}]", words(text))),
        ("filters", Value::Text(text, _)) => Some(format!("[{{ sql: {} }}]", scalar(text))),
        (_, Value::Text(text, _)) => Some(format!("[{}]", scalar(text))),
        (_, Value::Map(_)) if !source.contains('\n') && !source.is_empty() => {
            Some(format!("[{source}]"))
        }
        _ => None,
    }
}

/// Help for a text, or for `{ env: NAME }`, in the place of the way in which a secret is used.
pub(super) fn of_a_secret(key: &str, variant: &str, known: &[&str], node: &Node) -> Option<String> {
    let from = match &node.value {
        Value::Text(text, _) => {
            // One that is misspelt, or that lacks its secret.
            let is_word = text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte));
            if is_word && suggest::meant(text, known.iter().copied()).is_some() {
                return None;
            }
            "{ env: NAME }".to_owned()
        }
        Value::Map(_) if ["env", "file"].contains(&variant) => {
            let name = node.entry(variant).and_then(|entry| entry.value.text());
            format!("{{ {variant}: {} }}", scalar(name.unwrap_or("…")))
        }
        _ => return None,
    };
    let lower = variant.to_ascii_lowercase();
    let way = match key {
        "signature" => {
            return Some(format!(
                "name whose signature it is, with the secret: `signature: {{ github: {{ secret: \
                 {from} }} }}`"
            ));
        }
        "auth" if lower.starts_with("basic ") && known.contains(&"basic") => {
            return Some(
                "write `auth: { basic: { username: me, password: { env: NAME } } }`".into(),
            );
        }
        "auth" => ["bearer", "token"]
            .into_iter()
            .find(|way| known.contains(way))?,
        _ => return None,
    };
    Some(format!("write `auth: {{ {way}: {from} }}`"))
}

fn words(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(scalar).collect();
    words.join(", ")
}

fn is_period(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains(' ')
}

/// What an item of a list in the place of a mapping stands for: `A=b`, `{ name: A, value: b }`.
fn pair(item: &Node) -> String {
    let text = |key: &str| item.entry(key).and_then(|entry| entry.value.text());
    match (item.text(), text("name"), item.entries()) {
        (Some(pair), ..) => pair_of(pair),
        (None, Some(name), _) => entry(name, text("value").unwrap_or("…")),
        (None, None, [only]) => entry(&only.key, only.value.text().unwrap_or("…")),
        _ => entry("A", "b"),
    }
}

fn pair_of(text: &str) -> String {
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, "…"));
    entry(name.trim(), value.trim())
}

/// A header or a variable of this name is most likely a secret.
fn entry(name: &str, value: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let is_secret = ["auth", "token", "secret", "password", "key", "cookie"]
        .iter()
        .any(|word| lower.contains(word));
    if is_secret {
        format!("{}: {{ env: NAME }}", scalar(name))
    } else {
        format!("{}: {}", scalar(name), scalar(value))
    }
}
