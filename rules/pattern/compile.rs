//! A pattern checked and compiled; every mistake in it is found.

mod meant;
mod numeric;
mod operators;

use std::sync::Arc;

use pointsman_schemas::{Problem, Segment, suggest, yaml};
use serde_json::{Map, Value};

use super::wildcard::STEPS_MAX;
use super::{Body, Field, Group, Leaf, List, Operator};
use crate::fields::ROOT;

/// How deeply a pattern may nest.
const DEPTH_MAX: usize = 64;

/// The most combinations that the `$or`s of a pattern may make, as in EventBridge.
const COMBINATIONS_MAX: usize = 1_000;

/// The most values and operators that a pattern may list: what a rule takes in memory grows with
/// them, and with nothing else.
const VALUES_MAX: usize = 10_000;

/// The most of them that cannot be looked up, and so are tried one by one for each value of an
/// event: `compare-to`, `anything-but`, the operators in `all`, and wildcards that ask for texts in
/// several places.
const TRIED_MAX: usize = 1_000;

/// The most bytes of `contains` and `wildcard` together, by which the search for them grows.
const SOUGHT_BYTES_MAX: usize = 256 * 1024;

const OPERATORS: [&str; 11] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
    "contains",
    "all",
    "compare-to",
];

/// Not allowed as fields in an alternative of `$or`, as in EventBridge, where they would be
/// operators that went astray. What is an operator here alone may name a field there, as it may in
/// EventBridge.
const RESERVED_IN_OR: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// What a CloudEvent has at its top, besides extensions of any name.
const ATTRIBUTES: [&str; 9] = [
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "specversion",
    "data",
];

pub(super) fn compile(
    pattern: &Value,
    cloudevents: bool,
) -> Result<(Group, Vec<Problem>), Vec<Problem>> {
    let mut compiler = Compiler {
        problems: Vec::new(),
        path: Vec::new(),
        values: 0,
        tried: 0,
        sought_bytes: 0,
        wildcard_steps_left: STEPS_MAX,
    };
    let root = match pattern {
        Value::Object(map) if map.is_empty() => {
            compiler.problem(
                Problem::new("the pattern is empty").help("leave it out to take every event"),
            );
            Group::default()
        }
        Value::Object(map) => {
            if cloudevents {
                compiler.top(map, false);
            }
            compiler.group(map, false)
        }
        _ => {
            compiler.problem(
                Problem::new("a pattern is an object of fields")
                    .help("write { type: [order.paid] }"),
            );
            Group::default()
        }
    };
    compiler.check_bounds(&root);
    if compiler.problems.iter().all(|problem| problem.warning) {
        Ok((root, compiler.problems))
    } else {
        Err(compiler.problems)
    }
}

fn combinations(group: &Group) -> usize {
    let under = group.fields.iter().map(|field| match &field.body {
        Body::Group(group) => combinations(group),
        Body::Leaf(_) => 1,
    });
    let or = group.any.iter().map(|groups| {
        groups
            .iter()
            .map(combinations)
            .fold(0, usize::saturating_add)
    });
    under.chain(or).fold(1, usize::saturating_mul)
}

struct Compiler {
    problems: Vec<Problem>,
    /// From the pattern's root to what is being read.
    path: Vec<Segment>,
    /// How many values and operators have been read.
    values: usize,
    /// How many of them are tried one by one.
    tried: usize,
    /// The bytes of texts that may stand anywhere in a value.
    sought_bytes: usize,
    wildcard_steps_left: usize,
}

impl Compiler {
    fn problem(&mut self, problem: Problem) {
        let problem = self
            .path
            .iter()
            .rev()
            .fold(problem, |problem, segment| problem.at(segment.clone()));
        self.problems.push(problem);
    }

    /// Notes what a pattern has more of than is taken.
    fn check_bounds(&mut self, root: &Group) {
        if combinations(root) > COMBINATIONS_MAX {
            self.problem(Problem::new(format!(
                "the pattern's $or lists make more than {COMBINATIONS_MAX} combinations"
            )));
        }
        if self.values > VALUES_MAX {
            let problem = Problem::new(format!(
                "the pattern lists {} values; at most {VALUES_MAX} are taken",
                self.values
            ));
            self.problem(problem.help("split the rule, or compare by a prefix or a range"));
        }
        if self.tried > TRIED_MAX {
            let message = format!(
                "the pattern has {} operators that are tried one by one for each value of an \
                 event; at most {TRIED_MAX} are taken",
                self.tried
            );
            let help = "these are compare-to, anything-but, what is in all, and wildcards with \
                        texts in several places; split the rule";
            self.problem(Problem::new(message).help(help));
        }
        if self.sought_bytes > SOUGHT_BYTES_MAX {
            let message = format!(
                "the texts of contains and wildcard take {} KiB in this pattern; at most {} are \
                 taken",
                self.sought_bytes.div_ceil(1024),
                SOUGHT_BYTES_MAX / 1024
            );
            self.problem(
                Problem::new(message).help("split the rule, or compare by a prefix or a suffix"),
            );
        }
        if self.wildcard_steps_left == 0 {
            let problem = Problem::new(
                "the wildcards of this pattern take too long to be checked for what they cost",
            );
            self.problem(
                problem.help(
                    "use fewer of those with several stars, or with repetitions behind a star",
                ),
            );
        }
    }

    /// Reads something under a step of the path.
    fn within<T>(&mut self, segment: impl Into<Segment>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(segment.into());
        let result = read(self);
        self.path.pop();
        result
    }

    /// Checks the keys that stand for a CloudEvent's attributes.
    fn top(&mut self, map: &Map<String, Value>, in_or: bool) {
        for (key, value) in map {
            if let ("$or", Value::Array(alternatives)) = (key.as_str(), value) {
                self.within(key.as_str(), |compiler| {
                    for (index, alternative) in alternatives.iter().enumerate() {
                        if let Value::Object(map) = alternative {
                            compiler.within(index, |compiler| compiler.top(map, true));
                        }
                    }
                });
            } else if !(in_or && RESERVED_IN_OR.contains(&key.as_str())) {
                self.within(key.as_str(), |compiler| compiler.attribute(key, value));
            }
        }
    }

    fn attribute(&mut self, key: &str, value: &Value) {
        let name = key.split('.').next().unwrap_or(key);
        let foreign = match name {
            "detail-type" => {
                Some("`detail-type` is `type` here: a pattern is held against a CloudEvent")
            }
            "detail" => Some("`detail` is `data` here: a pattern is held against a CloudEvent"),
            "data_base64" => Some("binary data is not looked into; match on attributes"),
            _ => None,
        };
        if let Some(help) = foreign {
            self.problem(
                Problem::new(format!("a CloudEvent has no {name:?}"))
                    .key()
                    .help(help),
            );
        } else if name == "data" {
        } else if !name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            || name.is_empty()
        {
            let problem = Problem::new(format!(
                "{name:?} is not the name of an attribute: those are made of a-z and 0-9"
            ))
            .key();
            self.problem(problem.help(match suggest::nearest(name, ATTRIBUTES) {
                Some(meant) => format!("write {meant}; fields of the data stand under `data`"),
                None => "fields of the data stand under `data`".to_owned(),
            }));
        } else if name != key || is_nested(value) {
            let problem = Problem::new(format!("the attribute {name:?} has no fields"));
            self.problem(problem.help(match meant::listed(value) {
                Some(list) if name == key => format!("write {name}: {list}"),
                None if name == key => "write a list: [{ … }]".to_owned(),
                _ => "fields of the data stand under `data`".to_owned(),
            }));
        } else if !ATTRIBUTES.contains(&name)
            && let Some(meant) = suggest::nearest(name, ATTRIBUTES)
        {
            let problem = Problem::new(format!("{name:?} is taken as an extension attribute"))
                .key()
                .warn();
            self.problem(problem.help(format!("was {meant} meant?")));
        }
    }

    fn group(&mut self, map: &Map<String, Value>, in_or: bool) -> Group {
        let mut group = Group::default();
        for (key, value) in map {
            self.within(key.as_str(), |compiler| {
                if compiler.path.len() + key.matches('.').count() > DEPTH_MAX {
                    compiler.problem(Problem::new(format!(
                        "the pattern is nested deeper than {DEPTH_MAX} levels"
                    )));
                } else if key == "$or" {
                    let alternatives = compiler.or(value);
                    group.any.push(alternatives);
                } else if in_or && RESERVED_IN_OR.contains(&key.as_str()) {
                    let problem = Problem::new(format!(
                        "{key:?} is an operator and cannot name a field inside $or"
                    ))
                    .key();
                    compiler.problem(problem.help(format!(
                        "write the field's name before it: {{ field: [{{ {key}: … }}] }}"
                    )));
                } else if let Some(body) = compiler.body(key, value, in_or) {
                    compiler.insert(&mut group, key, body);
                }
            });
        }
        // What is cheap to look at comes first: attributes before data, leaves before what nests.
        group
            .fields
            .sort_by_key(|field| (&*field.name == "data", matches!(field.body, Body::Group(_))));
        group
    }

    /// Puts a body under its key, dots taken apart. A field may have a list and fields under it: an
    /// event can hold both, one of them under a key with dots.
    fn insert(&mut self, group: &mut Group, key: &str, body: Body) {
        match key.split_once('.') {
            None => self.insert_field(group, key, body),
            Some((name, rest)) => {
                let mut inner = Group::default();
                self.insert(&mut inner, rest, body);
                self.insert_field(group, name, Body::Group(inner));
            }
        }
    }

    /// Puts a body under a name, together with what is there already; a second list for one field
    /// is told.
    fn insert_field(&mut self, group: &mut Group, name: &str, body: Body) {
        let is_alike = |known: &&mut Field| {
            *known.name == *name
                && matches!(known.body, Body::Leaf(_)) == matches!(body, Body::Leaf(_))
        };
        let Some(known) = group.fields.iter_mut().find(is_alike) else {
            let holds_absent = holds_absent(&body);
            return group.fields.push(Field {
                name: name.into(),
                id: ROOT,
                body,
                holds_absent,
            });
        };
        match (&mut known.body, body) {
            (Body::Group(inner), Body::Group(more)) => {
                inner.any.extend(more.any);
                for field in more.fields {
                    self.insert_field(inner, &field.name, field.body);
                }
                known.holds_absent = holds_absent(&known.body);
            }
            _ => self.problem(
                Problem::new(format!("{name:?} is tested twice"))
                    .key()
                    .help("put all alternatives into one list"),
            ),
        }
    }

    fn body(&mut self, key: &str, value: &Value, in_or: bool) -> Option<Body> {
        match value {
            Value::Object(map) if map.is_empty() => {
                self.problem(
                    Problem::new("an empty object matches nothing")
                        .help("write [{ exists: true }] to ask for the field alone"),
                );
                None
            }
            Value::Object(map) => Some(Body::Group(self.group(map, in_or))),
            Value::Array(list) if list.is_empty() => {
                self.problem(
                    Problem::new("an empty list matches nothing")
                        .help("list what the field may be"),
                );
                None
            }
            Value::Array(list) => {
                let operators = list
                    .iter()
                    .enumerate()
                    .filter_map(|(index, item)| {
                        self.within(index, |compiler| compiler.operator(item))
                    })
                    .collect();
                Some(Body::Leaf(Arc::new(Leaf {
                    list: List::new(operators),
                    written: value.to_string().into(),
                })))
            }
            _ => {
                let problem = Problem::new("what a field may be stands in a list");
                self.problem(problem.help(if OPERATORS.contains(&key) {
                    format!("an operator stands in a list too: write [{{ {key}: {value} }}]")
                } else {
                    format!("write [{}]", yaml::flow(value))
                }));
                None
            }
        }
    }

    fn or(&mut self, value: &Value) -> Vec<Group> {
        let list = match value {
            Value::Array(list) if list.len() >= 2 => list,
            _ => {
                self.problem(
                    Problem::new("$or takes a list of at least two patterns")
                        .help("write $or: [{ a: [1] }, { b: [2] }]"),
                );
                return Vec::new();
            }
        };
        let mut groups = Vec::new();
        for (index, item) in list.iter().enumerate() {
            self.within(index, |compiler| match item {
                Value::Object(map) if !map.is_empty() => groups.push(compiler.group(map, true)),
                _ => compiler.problem(
                    Problem::new("each alternative of $or is a pattern")
                        .help("write { field: [value] }"),
                ),
            });
        }
        groups
    }
}

/// True for an object that is not just an operator whose list was forgotten, which is told where
/// its value is read.
fn is_nested(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|map| !map.keys().all(|key| OPERATORS.contains(&key.as_str())))
}

fn holds_absent(body: &Body) -> bool {
    match body {
        Body::Leaf(leaf) => leaf.list.operators().iter().any(Operator::fits_absence),
        Body::Group(group) => group.holds_absent(),
    }
}
