//! The rule file in the making.

use std::collections::{HashMap, HashSet};
use std::path::Path;

pub(super) use pointsman_schemas::template::lexer::literal;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::file::{named, names, sections, unique};
use crate::config::{Config, diagnostic};
use crate::output::plain;

/// Something that has no counterpart, or one that somebody should look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Note {
    /// What it is about.
    pub(super) of: String,
    /// What there is to say.
    pub(super) message: String,
    /// Whether it is not in the rule file for that reason.
    pub(super) left_out: bool,
}

/// What has been imported so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    sources: Map<String, Value>,
    targets: Map<String, Value>,
    /// The sources that stay though no rule names them.
    kept: Vec<String>,
    rules: Vec<(String, Map<String, Value>)>,
    pub(super) notes: Vec<Note>,
    /// What the targets without an address were, by the names they wanted.
    unknown: HashMap<String, String>,
    /// The rule that targets belong to which say of none that they do.
    pub(super) last_rule: Option<String>,
    /// The types of events that sources of Argo tell of, by `source` and `subject`.
    narrowed: Vec<(String, String, Vec<Value>)>,
    /// EventBridge rules whose targets have not been seen yet.
    pub(super) waiting: Vec<super::eventbridge::Waiting>,
}

/// A finished rule file.
pub(super) struct Imported {
    pub(super) text: String,
    pub(super) notes: Vec<Note>,
    /// How many rules, and sources of their own, are in it.
    pub(super) made: usize,
}

/// A value in whose texts nothing is a template.
pub(super) fn literal_value(value: &Value) -> Value {
    match value {
        Value::String(text) => literal(text).into(),
        Value::Array(items) => items.iter().map(literal_value).collect(),
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (literal(key), literal_value(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

impl Draft {
    /// A target of this kind; one that is there already is taken again.
    pub(super) fn target(&mut self, wanted: &str, body: Value) -> String {
        if let Some((name, _)) = self.targets.iter().find(|(_, known)| **known == body) {
            return name.clone();
        }
        let name = unique(wanted, |name| self.targets.contains_key(name));
        self.targets.insert(name.clone(), body);
        name
    }

    /// An `http` target whose address nobody knows yet: it is taken from the environment. Its other
    /// settings are `with`.
    pub(super) fn unknown_target(
        &mut self,
        wanted: &str,
        of: &str,
        what: &str,
        with: Map<String, Value>,
    ) -> String {
        // Two that are called alike, such as functions of two regions, have addresses of their own.
        let wanted = unique(wanted, |name| {
            self.unknown.get(name).is_some_and(|known| known != what)
        });
        self.unknown.insert(wanted.clone(), what.to_owned());
        let variable = format!("{}_URL", wanted.to_ascii_uppercase().replace('-', "_"));
        let mut body = Map::from_iter([("url".to_owned(), json!({ "env": variable }))]);
        body.extend(with);
        let known = self.targets.len();
        let name = self.target(&wanted, json!({ "http": body }));
        if self.targets.len() > known {
            // An API destination is an address already.
            let function = if what.contains(":api-destination/") {
                ""
            } else {
                "a function before it and "
            };
            self.note(
                of,
                &format!(
                    "{what} is called over HTTP here: put {function}its address into {variable}"
                ),
            );
        }
        name
    }

    /// A source of its own.
    pub(super) fn source(&mut self, wanted: &str, body: Value) -> String {
        let name = unique(wanted, |name| self.sources.contains_key(name));
        self.sources.insert(name.clone(), body);
        name
    }

    /// Whether a source listens on a path already.
    pub(super) fn has_webhook_at(&self, path: &str) -> bool {
        self.sources
            .values()
            .any(|source| source.pointer("/webhook/path").and_then(Value::as_str) == Some(path))
    }

    /// A source that is wanted though no rule may name it.
    pub(super) fn kept_source(&mut self, wanted: &str, body: Value) {
        let name = self.source(wanted, body);
        self.kept.push(name);
    }

    /// A rule.
    pub(super) fn rule(&mut self, wanted: &str, body: Map<String, Value>) {
        let name = unique(wanted, |name| {
            self.rules.iter().any(|(known, _)| known == name)
        });
        self.rules.push((name, body));
    }

    /// Says that rules on a `source` and `subject` mean these types alone.
    pub(super) fn narrow(&mut self, source: &str, subject: &str, types: Vec<Value>) {
        self.narrowed
            .push((source.to_owned(), subject.to_owned(), types));
    }

    /// Has the rules match the types that [`Draft::narrow`] said.
    fn narrow_rules(&mut self) {
        for (source, subject, types) in &self.narrowed {
            for (_, rule) in &mut self.rules {
                let Some(Value::Object(pattern)) = rule.get_mut("match") else {
                    continue;
                };
                let is = |key: &str, value: &str| {
                    pattern
                        .get(key)
                        .is_some_and(|known| *known == json!([value]))
                };
                if is("source", source) && is("subject", subject) {
                    pattern
                        .entry("type")
                        .or_insert_with(|| types.clone().into());
                }
            }
        }
    }

    pub(super) fn note(&mut self, of: &str, message: &str) {
        self.tell(of, message, false);
    }

    pub(super) fn left_out(&mut self, of: &str, message: &str) {
        self.tell(of, message, true);
    }

    fn tell(&mut self, of: &str, message: &str, left_out: bool) {
        let note = Note {
            of: of.to_owned(),
            message: message.to_owned(),
            left_out,
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Leaves out what would be a mistake in a rule file, and writes the rest.
    pub(super) fn finish(mut self) -> Imported {
        super::eventbridge::finish(&mut self);
        self.narrow_rules();
        self.leave_out_faulty("target");
        self.leave_out_faulty("source");
        let mut rules: Rules = Vec::new();
        for (name, body) in std::mem::take(&mut self.rules) {
            if let Some(body) = self.sound(&name, body) {
                rules.push((name, body));
            }
        }
        // What each may do alone may not be done twice, such as to listen on one path.
        if self.mistakes(&rules).is_some() {
            let mut together: Rules = Vec::new();
            for (name, body) in rules {
                together.push((name.clone(), body));
                if let Some(mistakes) = self.mistakes(&together) {
                    together.pop();
                    self.left_out(&format!("rule {name}"), &mistakes);
                }
            }
            rules = together;
        }
        let used: HashSet<String> = rules.iter().flat_map(|(_, body)| names(body)).collect();
        self.targets.retain(|name, _| used.contains(name));
        self.sources
            .retain(|name, _| used.contains(name) || self.kept.contains(name));
        let kept = self
            .kept
            .iter()
            .filter(|name| self.sources.contains_key(*name))
            .count();
        Imported {
            text: self.text(&rules),
            made: rules.len() + kept,
            notes: self.notes,
        }
    }

    /// Takes out targets or sources that are mistakes by themselves, each blamed by its own name.
    fn leave_out_faulty(&mut self, what: &str) {
        let entries = std::mem::take(if what == "target" {
            &mut self.targets
        } else {
            &mut self.sources
        });
        let mut kept = Map::new();
        for (name, body) in entries {
            let alone = Map::from_iter([(name.clone(), body.clone())]);
            let none = Map::new();
            let text = if what == "target" {
                sections(&none, &alone, &[])
            } else {
                sections(&alone, &none, &[])
            };
            match mistakes(&text) {
                None => drop(kept.insert(name, body)),
                Some(mistakes) => self.left_out(&format!("{what} {name}"), &mistakes),
            }
        }
        *(if what == "target" {
            &mut self.targets
        } else {
            &mut self.sources
        }) = kept;
    }

    /// What of a rule can stay: all of it, or those of several targets to which nothing is wrong.
    fn sound(&mut self, name: &str, mut body: Map<String, Value>) -> Option<Map<String, Value>> {
        let wrong = |draft: &Self, body: &Map<String, Value>| {
            let missing = |wanted: &&String| {
                !draft.targets.contains_key(*wanted) && !draft.sources.contains_key(*wanted)
            };
            match names(body).iter().find(missing) {
                Some(missing) => Some(format!("it needs {missing}, which is left out")),
                None => draft.mistakes(&[(name.to_owned(), body.clone())]),
            }
        };
        let of = format!("rule {name}");
        let Some(mut why) = wrong(self, &body) else {
            return Some(body);
        };
        if let Some(Value::Array(to)) = body
            .get("to")
            .filter(|to| to.as_array().is_some_and(|to| to.len() > 1))
            .cloned()
        {
            let mut kept = Vec::new();
            let mut left_out = Vec::new();
            for entry in to {
                body.insert("to".to_owned(), json!([entry]));
                match wrong(self, &body) {
                    None => kept.push(entry),
                    Some(why) => left_out.push((named(&entry).unwrap_or_default().to_owned(), why)),
                }
            }
            if !kept.is_empty() {
                body.insert("to".to_owned(), kept.into());
                match wrong(self, &body) {
                    None => {
                        left_out.iter().for_each(|(target, why)| {
                            self.left_out(&format!("{of}, target {target}"), why)
                        });
                        return Some(body);
                    }
                    Some(mistakes) => why = mistakes,
                }
            }
        }
        self.left_out(&of, &why);
        None
    }

    /// What is wrong with a rule file of these rules, and of the sources and targets that they name
    /// alone.
    fn mistakes(&self, rules: &[(String, Map<String, Value>)]) -> Option<String> {
        let used: HashSet<String> = rules
            .iter()
            .flat_map(|(_, body)| names(body))
            .chain(self.kept.iter().cloned())
            .collect();
        let of = |entries: &Map<String, Value>| {
            entries
                .iter()
                .filter(|(name, _)| used.contains(*name))
                .map(|(name, body)| (name.clone(), body.clone()))
                .collect()
        };
        mistakes(&sections(&of(&self.sources), &of(&self.targets), rules))
    }

    fn text(&self, rules: &[(String, Map<String, Value>)]) -> String {
        let mut out = String::from("# Made by `pointsman import`.\n");
        if !self.notes.is_empty() {
            out.push_str("# To look at, since it has no counterpart or another one:\n");
        }
        for Note {
            of,
            message,
            left_out,
        } in &self.notes
        {
            let line = format!(
                "{}{of}: {message}",
                if *left_out { "LEFT OUT " } else { "" }
            );
            out.push_str(&format!(
                "# - {}\n",
                plain(&line).replace(['\n', '\r'], " ")
            ));
        }
        out.push_str(&sections(&self.sources, &self.targets, rules));
        out
    }
}

/// Names and bodies of rules.
type Rules = Vec<(String, Map<String, Value>)>;

/// What is wrong with a rule file.
fn mistakes(text: &str) -> Option<String> {
    let diagnostics = Config::of_text("imported", Path::new("/"), text).err()?;
    let mistakes = diagnostics
        .iter()
        .filter(|diagnostic| !diagnostic.is_warning());
    let told: Vec<String> = mistakes
        .map(|diagnostic| diagnostic.mistake.message.clone())
        .collect();
    Some(if told.is_empty() {
        diagnostic::count(&diagnostics)
    } else {
        told.join("; ")
    })
}
