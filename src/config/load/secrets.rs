//! Which texts of a rule file nobody is to see: a mistake is shown with its line, on a screen and
//! in a log.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pointsman_schemas::template::lexer::is_template;
use pointsman_schemas::{Problem, Text};
use serde_json::Value as Json;

use super::{Document, Values};
use crate::config::mistake::Mistake;
use crate::config::schema;
use crate::config::yaml::{Entry, Node, Span, Value};

/// The sections in which a secret may stand.
const SECTIONS: [&str; 6] = ["listen", "admin", "traces", "metrics", "sources", "targets"];

/// What is in the name of a key that holds a secret, whoever's it is: an HTTP header, a variable of
/// a command, a key written wrongly.
const TELLING: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "authorization",
    "credential",
    "privatekey",
    "bearer",
    "nkey",
];

/// Keys that hold secrets somewhere; looked at where a file cannot be read and nobody knows what a
/// key belongs to.
const SOMETIMES: [&str; 5] = ["auth", "viewers", "value", "previous", "sessionkey"];

/// A text that must not be shown.
#[derive(Clone, Debug)]
pub(super) struct Hidden {
    pub(super) span: Span,
    /// What it is, where that is known: it must not stand in a message either.
    pub(super) text: Option<String>,
}

impl From<Span> for Hidden {
    fn from(span: Span) -> Self {
        Self { span, text: None }
    }
}

/// Finds what the settings' schema marks as `writeOnly`, and what has a telling name. Of the former
/// what is written out is warned of. Where values are to be there now, each one that settings take
/// from elsewhere and that is not is a mistake.
pub(super) fn find(document: &Document<'_>, values: Values) -> Vec<Hidden> {
    /// The same for every file, and composed of all connectors' own.
    static SCHEMA: LazyLock<Json> = LazyLock::new(schema::rule_file);
    let schema = &*SCHEMA;
    let (mut found, mut references) = (Vec::new(), BTreeMap::new());
    for section in SECTIONS {
        let Some(piece) = document.top().get(section) else {
            continue;
        };
        let Some(section) = schema.pointer(&format!("/properties/{section}")) else {
            continue;
        };
        Walk {
            schema,
            document,
            found: &mut found,
            references: &mut references,
        }
        .node(section, piece.entry, piece.node, false);
        piece.node.walk(&mut |entry, node| {
            let is_pair = |entry: &Entry| {
                ["headers", "env"].contains(&entry.key.as_str())
                    && node
                        .text()
                        .is_some_and(|text| is_telling(text) && !is_upper(text))
            };
            if entry.is_some_and(|entry| {
                is_telling(&entry.key) || entry.key == "basic" || is_pair(entry)
            }) {
                found.extend(texts_of(node));
            }
        });
    }
    if values == Values::Now {
        let references = references.into_values();
        references.for_each(|reference| resolve(document, reference));
    }
    found
}

/// Reports a text that is taken from elsewhere and is not there.
fn resolve(document: &Document<'_>, (entry, node): (Option<&Entry>, &Node)) {
    let text = match node.entries() {
        [one] => match (&*one.key, one.value.text()) {
            ("env", Some(name)) => Text::Env(name.to_owned()),
            ("file", Some(path)) => Text::File(path.into()),
            _ => return,
        },
        _ => return,
    };
    if let Err(unresolved) = text.resolve() {
        let problem = Problem::new(unresolved.to_string());
        let mistake = Mistake::of(problem, entry, node, &document.file.text);
        document.mistakes.report(mistake);
    }
}

/// The texts of a value, but for those that name where to take it from and for templates, which are
/// filled in from an event.
fn texts_of(node: &Node) -> impl Iterator<Item = Hidden> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let text = |node: &Node| {
        Some(Hidden {
            span: node.span,
            text: Some(node.text()?.to_owned()),
        })
    };
    items.iter().filter_map(text).filter(|hidden| {
        !hidden.text.as_ref().is_some_and(|text| {
            text.is_empty() || is_template(text) || text.starts_with("${") || is_variable_name(text)
        })
    })
}

struct Walk<'w, 'd, 'n> {
    schema: &'w Json,
    document: &'w Document<'d>,
    found: &'w mut Vec<Hidden>,
    /// What stands in the place of a text and says where to take that from, by its place.
    references: &'w mut BTreeMap<Span, (Option<&'n Entry>, &'n Node)>,
}

impl<'n> Walk<'_, '_, 'n> {
    /// Goes down the schema and the value together. Each alternative of a schema is tried: which
    /// one is meant is not asked here.
    fn node(&mut self, schema: &Json, entry: Option<&'n Entry>, node: &'n Node, secret: bool) {
        let secret = secret || schema.get("writeOnly") == Some(&Json::Bool(true));
        if secret && matches!(node.value, Value::Text(..)) {
            return self.report(entry, node);
        }
        // In the place of a mapping that must have a secret in it, such as `github: s3cr3t`.
        if matches!(node.value, Value::Text(..)) && needs_secret(schema) {
            self.found.extend(texts_of(node).filter(|hidden| {
                !hidden
                    .text
                    .as_ref()
                    .is_some_and(|text| text.contains("://"))
            }));
        }
        // Of one that is taken from elsewhere only the name stands here.
        if matches!(node.value, Value::Map(_))
            && schema.get("$ref").is_some_and(|to| to == "#/$defs/Text")
        {
            self.references.insert(node.span, (entry, node));
            if secret {
                return;
            }
        }
        if let Some(target) = schema
            .get("$ref")
            .and_then(Json::as_str)
            .and_then(|to| self.schema.pointer(to.strip_prefix('#')?))
        {
            self.node(target, entry, node, secret);
        }
        let lists = ["oneOf", "anyOf", "allOf"]
            .iter()
            .filter_map(|key| schema.get(key)?.as_array())
            .flatten();
        for alternative in lists.chain(["then", "else"].iter().filter_map(|key| schema.get(key))) {
            self.node(alternative, entry, node, secret);
        }
        match &node.value {
            Value::Map(entries) => {
                for below in entries {
                    let known = schema
                        .get("properties")
                        .and_then(|properties| properties.get(&below.key));
                    if let Some(schema) = known.or_else(|| {
                        schema
                            .get("additionalProperties")
                            .filter(|schema| schema.is_object())
                    }) {
                        self.node(schema, Some(below), &below.value, secret);
                    }
                }
            }
            Value::List(items) => {
                for item in items {
                    self.node(
                        schema.get("items").unwrap_or(&Json::Null),
                        None,
                        item,
                        secret,
                    );
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, entry: Option<&Entry>, node: &Node) {
        if let Some(name) = node.text().filter(|text| is_variable_name(text)) {
            let problem = Problem::new(format!(
                "the secret itself is wanted here, and `{name}` looks like the name of a variable"
            ));
            let problem = problem.help(format!("write `{{ env: {name} }}`")).warn();
            return self.document.mistakes.report(Mistake::of(
                problem,
                entry,
                node,
                &self.document.file.text,
            ));
        }
        if let Some(name) = node
            .text()
            .and_then(|text| text.strip_prefix('$'))
            .filter(|name| is_variable_name(name))
        {
            let problem = Problem::new(format!("nothing is filled in for `${name}`"))
                .help(format!("write `{{ env: {name} }}`"))
                .warn();
            return self.document.mistakes.report(Mistake::of(
                problem,
                entry,
                node,
                &self.document.file.text,
            ));
        }
        // What was meant to be filled in is reported elsewhere.
        if node.text().is_some_and(|text| text.starts_with("${")) {
            return;
        }
        let help =
            "take it from { env: NAME } or { file: path }, so that it is not kept with the rules";
        let problem = Problem::new("this secret is written out").help(help).warn();
        self.document
            .mistakes
            .report(Mistake::of(problem, entry, node, &self.document.file.text));
        self.found.extend(texts_of(node));
    }
}

/// True of a mapping of which a secret is a required part.
fn needs_secret(schema: &Json) -> bool {
    let required = schema.get("required").and_then(Json::as_array);
    required.into_iter().flatten().any(|key| {
        let property = key
            .as_str()
            .and_then(|key| schema.get("properties")?.get(key));
        property.is_some_and(|property| property.get("writeOnly") == Some(&Json::Bool(true)))
    })
}

/// True of what can be the name of a variable, such as `TOKEN`.
fn is_upper(text: &str) -> bool {
    let is_part = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
    text.bytes().all(is_part)
}

/// True of what nobody has for a secret: `STRIPE_SECRET`.
fn is_variable_name(text: &str) -> bool {
    let words: Vec<&str> = text.split('_').collect();
    let is_word = |word: &&str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    let telling = |word: &&str| {
        matches!(
            *word,
            "SECRET" | "TOKEN" | "KEY" | "PASSWORD" | "PASS" | "PWD" | "AUTH" | "CREDENTIALS"
        )
    };
    words.len() > 1 && words.iter().all(is_word) && words.iter().any(telling)
}

fn is_telling(key: &str) -> bool {
    let key: String = key
        .chars()
        .filter(|c| c.is_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    // `token_url` is where tokens come from.
    !key.ends_with("url") && TELLING.iter().any(|telling| key.contains(telling))
}

/// The same of a text that is not YAML, as far as can be seen: what follows a telling key on its
/// line, and passwords in URLs.
pub(super) fn in_text(text: &str) -> Vec<Hidden> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for (colon, _) in line.match_indices(':') {
            let before = line
                .get(..colon)
                .unwrap_or_default()
                .trim_end_matches(['"', '\'', ' ']);
            let key = before
                .rsplit(|c: char| !c.is_alphanumeric() && c != '-' && c != '_')
                .next()
                .unwrap_or_default();
            let behind = line.get(colon + 1..).unwrap_or_default();
            let value = if behind.starts_with("//") {
                password(behind)
                    .map(|password| colon + 1 + password.start..colon + 1 + password.end)
            } else if is_telling(key) || SOMETIMES.contains(&&*key.to_ascii_lowercase()) {
                let from = colon + 1 + behind.len() - behind.trim_start().len();
                let is_variable = behind
                    .trim_start()
                    .trim_start_matches(['"', '\''])
                    .starts_with("${");
                (!is_variable)
                    .then(|| from..from + value_bytes(line.get(from..).unwrap_or_default()))
            } else {
                None
            };
            found.extend(value.map(|value| {
                Hidden::from(Span {
                    start: start + value.start,
                    end: start + value.end,
                })
            }));
        }
        start += line.len();
    }
    found
}

/// The password in what follows the scheme of a URL.
fn password(url: &str) -> Option<std::ops::Range<usize>> {
    let authority = url
        .get(2..)?
        .split(['/', '?', '#', ' ', '"', '\'', ',', '}', '\n'])
        .next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (user, password) = user_info.split_once(':')?;
    Some(2 + user.len() + 1..2 + user.len() + 1 + password.len())
}

/// How far a value goes: to its closing quote or bracket, or to what ends a bare text.
fn value_bytes(value: &str) -> usize {
    let whole = value.trim_end().len();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value
            .get(1..)
            .and_then(|rest| rest.find(quote))
            .map_or(whole, |end| end + 2),
        // What is inside has keys of its own.
        Some('{') => 0,
        Some('[') => value.find(']').map_or(whole, |end| end + 1),
        _ => value.find([',', '}', ']']).unwrap_or(whole).min(whole),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::files::Found;
    use crate::config::{diagnostic, load};
    use crate::output::Screen;

    fn told(text: &str) -> String {
        let file = Found {
            name: "rules.yaml".into(),
            folder: Path::new("/").into(),
            text: text.to_owned(),
            attached: None,
        };
        let diagnostics = match load::connect(&[file], Vec::new()) {
            Ok((_, warnings)) => warnings,
            Err(diagnostics) => diagnostics,
        };
        let json: Vec<String> = diagnostics
            .iter()
            .map(|one| one.to_json().to_string())
            .collect();
        diagnostic::render(&diagnostics, Screen::TEXT) + &json.join("\n")
    }

    #[test]
    fn a_secret_is_not_shown_whatever_is_wrong_on_its_line() {
        for text in [
            "admin: { address: x, auth: [hunter2-hunter2-hunter2-hunter2], odd: 1 }",
            "admin: { auth: [{ env: A }], viewers: [hunter2-hunter2-hunter2-hunter2], odd: 1 }",
            "admin: { viewers: [hunter2-hunter2-hunter2-hunter2] ]",
            "listen: { adress: x, auth: hunter2-hunter2-hunter2-hunter2 }",
            "listen: { auth: [hunter2-short] }",
            "sources: { s: { webhook: { path: x, signature: { github: { secret: hunter2, odd: 1 } } } } }",
            "sources: { s: { webhook: { path: /x, signature: { github: { secrets: hunter2 } } } } }",
            "sources: { s: { webhook: { path: /x, signature: { standard: { secret: whsec_hunter2, previous: 'hunter2' } } } } }",
            "sources: { s: { webhook: { path: /x, signature: { stripe: { secret: hunter2 } } }, evnt: {} } }",
            "sources: { s: { rabbitmq: { url: 'amqp://h', password: \"hunter2\", queue: q, quue: 1 } } }",
            "sources: { s: { nats: { url: 'nats://h', auth: { token: hunter2 }, stream: S, odd: 1 } } }",
            "sources: { s: { nats: { url: 'nats://h', auth: { nkey: hunter2 }, stream: S } } }",
            "targets: { t: { http: { url: 'https://h/', auth: { bearer: hunter2 } }, odd: 1 } }",
            "targets: { t: { http: { url: 'https://h/', auth: { bearer: [hunter2] } } } }",
            "targets: { t: { http: { url: 'https://h/', auth: { basic: 'me:hunter2' } } } }",
            "targets: { t: { http: { url: 'https://h/', auth: { header: { name: 'X Y', value: hunter2 } } } } }",
            "targets: { t: { http: { url: 'https://h/', auth: { signature: { secret: hunter2 } } } } }",
            "targets: { t: { http: { url: 'https://h/', headers: { Authorization: hunter2, 'X Y': 1 } } } }",
            "targets: { t: { exec: { command: [x], env: { API_TOKEN: hunter2 }, odd: 1 } } }",
            "targets: { t: { object-storage: { bucket: b, key: k, auth: { access_key: a, secret_key: hunter2 }, odd: 1 } } }",
            "targets: { t: { rabbitmq: { url: 'amqp://u:hunter2@h', exchange: e, routing_key: k } } }",
            "targets: { t: { http: { url: 'https://u:hunter2@h/', odd: 1 } } }",
            // Not YAML.
            "targets: { t: { http: { url: 'https://h/', auth: { bearer: hunter2 } }",
            "targets: { t: { nats: { url: 'nats://u:hunter2@h', subject: [ }",
            "targets: { t: { http: { auth: { basic: { username: u, password: 'hunter2' } } ] }",
            "sources: { s: { webhook: { signature: { slack: { secret: \"hunter2\", previous: hunter2 } ] }",
            "listen: { auth: [hunter2, hunter2b] ]",
        ] {
            let told = told(text);
            assert!(
                told.contains("error") || told.contains("warning"),
                "{text}: {told}"
            );
            assert!(!told.contains("unter2"), "{text}: {told}");
        }
    }

    #[test]
    fn only_what_is_written_out_is_warned_of() {
        let rules = "rules: { r: { to: t } }";
        let target = |auth: &str| {
            told(&format!(
                "targets: {{ t: {{ http: {{ url: 'https://h/', auth: {auth} }} }} }}\n{rules}\n"
            ))
        };
        for taken in [
            "{ bearer: { env: TOKEN } }",
            "{ basic: { username: u, password: { file: ./p } } }",
        ] {
            assert!(!target(taken).contains("warning"), "{}", target(taken));
        }
        let told = target("{ basic: { username: u, password: hunter2 } }");
        assert!(
            told.contains("this secret is written out")
                && told.contains("1 warning")
                && !told.contains("hunter2"),
            "{told}"
        );
    }

    /// A new setting that holds a secret is marked as one.
    #[test]
    fn settings_with_telling_names_are_marked() {
        fn look(schema: &Json, place: &str, unmarked: &mut Vec<String>) {
            for (name, below) in schema
                .get("properties")
                .and_then(Json::as_object)
                .into_iter()
                .flatten()
            {
                let text = below.to_string().contains("#/$defs/Text");
                let marked = [schema, below]
                    .iter()
                    .any(|one| one.get("writeOnly").is_some());
                if is_telling(name) && text && !marked && !below.to_string().contains("properties")
                {
                    unmarked.push(format!("{place}/{name}"));
                }
            }
            match schema {
                Json::Object(map) => map
                    .iter()
                    .for_each(|(key, below)| look(below, &format!("{place}/{key}"), unmarked)),
                Json::Array(items) => items.iter().for_each(|below| look(below, place, unmarked)),
                _ => {}
            }
        }
        let mut unmarked = Vec::new();
        look(&schema::rule_file(), "", &mut unmarked);
        assert!(unmarked.is_empty(), "{unmarked:?}");
    }
}
