//! A pattern checked and compiled; every mistake in it is found.

use pointsman_schemas::{Problem, Segment};
use serde_json::{Map, Value};

use super::operator::{Folded, Range};
use super::wildcard::Wildcard;
use super::{Body, Field, Group, Leaf, Operator};
use crate::fields::ROOT;
use crate::number::Number;
use crate::spelling;

/// How deeply a pattern may nest.
const DEPTH_MAX: usize = 64;

/// The most combinations that the `$or`s of a pattern may make, as in EventBridge.
const COMBINATIONS_MAX: usize = 1_000;

const OPERATORS: [&str; 9] =
    ["prefix", "suffix", "equals-ignore-case", "wildcard", "anything-but", "numeric", "cidr", "exists", "contains"];

/// Not allowed as fields in an alternative of `$or`, as in EventBridge, where they would be operators that went astray.
const RESERVED_IN_OR: [&str; 16] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "contains",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
];

/// What a CloudEvent has at its top, besides extensions of any name.
const ATTRIBUTES: [&str; 9] = ["id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "specversion", "data"];

pub(super) fn compile(pattern: &Value, cloudevents: bool) -> Result<(Group, Vec<Problem>), Vec<Problem>> {
    let mut compiler = Compiler { problems: Vec::new(), path: Vec::new() };
    let root = match pattern {
        Value::Object(map) if map.is_empty() => {
            compiler.problem(Problem::new("the pattern is empty").help("leave it out to take every event"));
            Group::default()
        }
        Value::Object(map) => {
            if cloudevents {
                compiler.top(map, false);
            }
            compiler.group(map, false)
        }
        _ => {
            compiler.problem(Problem::new("a pattern is an object of fields").help("write { type: [order.paid] }"));
            Group::default()
        }
    };
    if combinations(&root) > COMBINATIONS_MAX {
        compiler.problem(Problem::new(format!("the pattern's $or lists make more than {COMBINATIONS_MAX} combinations")));
    }
    if compiler.problems.iter().all(|problem| problem.warning) { Ok((root, compiler.problems)) } else { Err(compiler.problems) }
}

fn combinations(group: &Group) -> usize {
    let under = group.fields.iter().map(|field| match &field.body {
        Body::Group(group) => combinations(group),
        Body::Leaf(_) => 1,
    });
    let or = group.any.iter().map(|groups| groups.iter().map(combinations).fold(0, usize::saturating_add));
    under.chain(or).fold(1, usize::saturating_mul)
}

struct Compiler {
    problems: Vec<Problem>,
    /// From the pattern's root to what is being read.
    path: Vec<Segment>,
}

impl Compiler {
    fn problem(&mut self, problem: Problem) {
        let problem = self.path.iter().rev().fold(problem, |problem, segment| problem.at(segment.clone()));
        self.problems.push(problem);
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
            "detail-type" => Some("`detail-type` is `type` here: a pattern is held against a CloudEvent"),
            "detail" => Some("`detail` is `data` here: a pattern is held against a CloudEvent"),
            "data_base64" => Some("binary data is not looked into; match on attributes"),
            _ => None,
        };
        if let Some(help) = foreign {
            self.problem(Problem::new(format!("a CloudEvent has no {name:?}")).key().help(help));
        } else if name == "data" {
        } else if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) || name.is_empty() {
            let problem = Problem::new(format!("{name:?} is not the name of an attribute: those are made of a-z and 0-9")).key();
            self.problem(problem.help(match spelling::nearest(name, ATTRIBUTES) {
                Some(meant) => format!("write {meant}; fields of the data stand under `data`"),
                None => "fields of the data stand under `data`".to_owned(),
            }));
        } else if name != key || is_nested(value) {
            let problem = Problem::new(format!("the attribute {name:?} has no fields"));
            self.problem(problem.help(if name == key { "write a list: [{ … }]" } else { "fields of the data stand under `data`" }));
        } else if !ATTRIBUTES.contains(&name)
            && let Some(meant) = spelling::nearest(name, ATTRIBUTES)
        {
            let problem = Problem::new(format!("{name:?} is taken as an extension attribute")).key().warn();
            self.problem(problem.help(format!("was {meant} meant?")));
        }
    }

    fn group(&mut self, map: &Map<String, Value>, in_or: bool) -> Group {
        let mut group = Group::default();
        if self.path.len() > DEPTH_MAX {
            self.problem(Problem::new(format!("the pattern is nested deeper than {DEPTH_MAX} levels")));
            return group;
        }
        for (key, value) in map {
            self.within(key.as_str(), |compiler| {
                if key == "$or" {
                    let alternatives = compiler.or(value);
                    group.any.push(alternatives);
                } else if in_or && RESERVED_IN_OR.contains(&key.as_str()) {
                    let problem = Problem::new(format!("{key:?} is an operator and cannot name a field inside $or")).key();
                    compiler.problem(problem.help(format!("write the field's name before it: {{ field: [{{ {key}: … }}] }}")));
                } else if let Some(body) = compiler.body(key, value, in_or) {
                    compiler.insert(&mut group, key, body);
                }
            });
        }
        // What is cheap to look at comes first: attributes before data, leaves before what nests.
        group.fields.sort_by_key(|field| (&*field.name == "data", matches!(field.body, Body::Group(_))));
        group
    }

    /// Puts a body under its key, dots taken apart; a path that is there already is told.
    fn insert(&mut self, group: &mut Group, key: &str, body: Body) {
        let (name, rest) = match key.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (key, None),
        };
        let Some(at) = group.fields.iter().position(|field| &*field.name == name) else {
            let body = match rest {
                None => body,
                Some(rest) => {
                    let mut inner = Group::default();
                    self.insert(&mut inner, rest, body);
                    Body::Group(inner)
                }
            };
            let holds_absent = holds_absent(&body);
            group.fields.push(Field { name: name.into(), id: ROOT, body, holds_absent });
            return;
        };
        let Some(field) = group.fields.get_mut(at) else { return };
        match (&mut field.body, rest, body) {
            (Body::Group(inner), Some(rest), body) => self.insert(inner, rest, body),
            (Body::Group(inner), None, Body::Group(more)) => {
                inner.any.extend(more.any);
                for field in more.fields {
                    self.insert_field(inner, field);
                }
            }
            _ => self.problem(Problem::new(format!("{name:?} is tested twice")).key().help("put all alternatives into one list")),
        }
        field.holds_absent = holds_absent(&field.body);
    }

    fn insert_field(&mut self, group: &mut Group, field: Field) {
        match group.fields.iter_mut().find(|known| known.name == field.name) {
            None => group.fields.push(field),
            Some(known) => match (&mut known.body, field.body) {
                (Body::Group(inner), Body::Group(more)) => {
                    inner.any.extend(more.any);
                    for field in more.fields {
                        self.insert_field(inner, field);
                    }
                    known.holds_absent = holds_absent(&known.body);
                }
                _ => {
                    self.problem(
                        Problem::new(format!("{:?} is tested twice", field.name)).key().help("put all alternatives into one list"),
                    );
                }
            },
        }
    }

    fn body(&mut self, key: &str, value: &Value, in_or: bool) -> Option<Body> {
        match value {
            Value::Object(map) if map.is_empty() => {
                self.problem(Problem::new("an empty object matches nothing").help("write [{ exists: true }] to ask for the field alone"));
                None
            }
            Value::Object(map) => Some(Body::Group(self.group(map, in_or))),
            Value::Array(list) if list.is_empty() => {
                self.problem(Problem::new("an empty list matches nothing").help("list what the field may be"));
                None
            }
            Value::Array(list) => {
                let operators =
                    list.iter().enumerate().filter_map(|(index, item)| self.within(index, |compiler| compiler.operator(item))).collect();
                Some(Body::Leaf(Leaf { operators, written: value.to_string().into() }))
            }
            _ => {
                let problem = Problem::new("what a field may be stands in a list");
                self.problem(problem.help(if OPERATORS.contains(&key) {
                    format!("an operator stands in a list too: write [{{ {key}: {value} }}]")
                } else {
                    format!("write [{}]", spelling::plain(value))
                }));
                None
            }
        }
    }

    fn or(&mut self, value: &Value) -> Vec<Group> {
        let list = match value {
            Value::Array(list) if list.len() >= 2 => list,
            _ => {
                self.problem(Problem::new("$or takes a list of at least two patterns").help("write $or: [{ a: [1] }, { b: [2] }]"));
                return Vec::new();
            }
        };
        let mut groups = Vec::new();
        for (index, item) in list.iter().enumerate() {
            self.within(index, |compiler| match item {
                Value::Object(map) if !map.is_empty() => groups.push(compiler.group(map, true)),
                _ => compiler.problem(Problem::new("each alternative of $or is a pattern").help("write { field: [value] }")),
            });
        }
        groups
    }

    fn operator(&mut self, item: &Value) -> Option<Operator> {
        match item {
            Value::String(text) => Some(Operator::Text(text.as_bytes().into())),
            Value::Number(number) => self.number(number).map(Operator::Number),
            Value::Bool(value) => Some(Operator::Boolean(*value)),
            Value::Null => Some(Operator::Null),
            Value::Array(_) => {
                self.problem(Problem::new("a list inside the list of alternatives").help("write its values into the outer list"));
                None
            }
            Value::Object(map) => {
                let mut members = map.iter();
                match (members.next(), members.next()) {
                    (Some((name, operand)), None) => self.within(name.as_str(), |compiler| compiler.named(name, operand)),
                    (Some(_), Some((second, _))) => {
                        let problem = Problem::new("an operator stands alone in its object").help(
                            "write one object each for alternatives; that both hold is written as a wildcard, a numeric range or in `where`",
                        );
                        self.within(second.as_str(), |compiler| compiler.problem(problem.key()));
                        None
                    }
                    _ => {
                        self.problem(Problem::new("an operator is missing").help(format!("one of {}", OPERATORS.join(", "))));
                        None
                    }
                }
            }
        }
    }

    fn number(&mut self, number: &serde_json::Number) -> Option<Number> {
        // A longer integer has lost its last digits before it came here.
        if number.as_i128().is_none() && number.as_f64().is_none_or(|double| double.abs() >= 18_446_744_073_709_551_616.0) {
            self.problem(Problem::new(format!("the number {number} is too large to be compared exactly")));
            return None;
        }
        Some(Number::from(number))
    }

    fn named(&mut self, name: &str, operand: &Value) -> Option<Operator> {
        let bytes = |text: &str| -> Box<[u8]> { text.as_bytes().into() };
        match name {
            "prefix" => self.cased(operand, |text| Operator::Prefix(bytes(text)), Operator::PrefixIgnoreCase),
            "suffix" => self.cased(operand, |text| Operator::Suffix(bytes(text)), Operator::SuffixIgnoreCase),
            "equals-ignore-case" => self.text(operand).map(|text| Operator::EqualsIgnoreCase(Folded::new(text))),
            "contains" => self.text(operand).map(|text| Operator::Contains(bytes(text))),
            "wildcard" => self.wildcard(operand),
            "anything-but" => self.anything_but(operand),
            "numeric" => self.numeric(operand),
            "cidr" => {
                let text = self.text(operand)?;
                let net = text.parse().ok();
                if net.is_none() {
                    let problem = Problem::new(format!("{text:?} is not a range of addresses"));
                    self.problem(problem.help("write 10.0.0.0/8 or 2001:db8::/32"));
                }
                net.map(Operator::Cidr)
            }
            "exists" => match operand {
                Value::Bool(value) => Some(Operator::Exists(*value)),
                _ => {
                    self.problem(Problem::new("exists takes true or false"));
                    None
                }
            },
            _ => {
                let problem = Problem::new(format!("there is no operator {name:?}")).key();
                let lower = name.to_lowercase().replace(['_', ' '], "-");
                self.problem(problem.help(match spelling::nearest(&lower, OPERATORS) {
                    Some(meant) => format!("write {meant}"),
                    None if lower == "exactly" => "write the text itself".to_owned(),
                    None => format!("one of {}; a field of an object in a list is written without the list", OPERATORS.join(", ")),
                }));
                None
            }
        }
    }

    fn text<'v>(&mut self, operand: &'v Value) -> Option<&'v str> {
        let text = operand.as_str();
        if text.is_none() {
            let problem = Problem::new("this operator takes a text");
            self.problem(if operand.is_number() || operand.is_boolean() { problem.help(format!("write \"{operand}\"")) } else { problem });
        }
        text
    }

    /// A text, or `{ equals-ignore-case: text }`.
    fn cased(&mut self, operand: &Value, exact: impl Fn(&str) -> Operator, folded: impl Fn(Folded) -> Operator) -> Option<Operator> {
        let Value::Object(map) = operand else { return self.text(operand).map(exact) };
        let mut members = map.iter();
        match (members.next(), members.next()) {
            (Some((name, operand)), None) if name == "equals-ignore-case" => {
                self.within(name.as_str(), |compiler| compiler.text(operand)).map(|text| folded(Folded::new(text)))
            }
            _ => {
                self.problem(Problem::new("this operator takes a text or { equals-ignore-case: text }"));
                None
            }
        }
    }

    fn wildcard(&mut self, operand: &Value) -> Option<Operator> {
        let text = self.text(operand)?;
        match Wildcard::compile(text) {
            Ok(wildcard) => Some(Operator::Wildcard(wildcard)),
            Err((at, message)) => {
                let problem = Problem::new(message);
                self.problem(if at > 0 || message.starts_with("two") { problem.inside(at..at + 1) } else { problem });
                None
            }
        }
    }

    fn anything_but(&mut self, operand: &Value) -> Option<Operator> {
        let Value::Object(map) = operand else {
            let listed = self.one_or_many(operand, |compiler, item| match item {
                Value::String(_) | Value::Number(_) => compiler.operator(item),
                _ => {
                    compiler.problem(Problem::new("anything-but takes texts or numbers"));
                    None
                }
            })?;
            let texts = listed.iter().filter(|operator| matches!(operator, Operator::Text(_))).count();
            if texts != 0 && texts != listed.len() {
                self.problem(Problem::new("anything-but takes either texts or numbers, not both"));
                return None;
            }
            return Some(Operator::AnythingBut(listed));
        };
        let mut members = map.iter();
        let (Some((name, operand)), None) = (members.next(), members.next()) else {
            self.problem(Problem::new("anything-but takes one operator"));
            return None;
        };
        self.within(name.as_str(), |compiler| {
            let listed = match name.as_str() {
                "prefix" | "suffix" => compiler.one_or_many(operand, |compiler, item| match compiler.text(item)? {
                    "" => {
                        compiler.problem(Problem::new("every text begins and ends with the empty text, so this matches no text"));
                        None
                    }
                    text if name == "prefix" => Some(Operator::Prefix(text.as_bytes().into())),
                    text => Some(Operator::Suffix(text.as_bytes().into())),
                }),
                "equals-ignore-case" => compiler
                    .one_or_many(operand, |compiler, item| compiler.text(item).map(|text| Operator::EqualsIgnoreCase(Folded::new(text)))),
                "wildcard" => compiler.one_or_many(operand, Self::wildcard),
                _ => {
                    let known = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
                    let problem = Problem::new(format!("anything-but does not take {name:?}")).key();
                    compiler.problem(problem.help(match spelling::nearest(name, known) {
                        Some(meant) => format!("write {meant}"),
                        None => format!("a value, a list, or one of {}", known.join(", ")),
                    }));
                    None
                }
            };
            listed.map(Operator::AnythingBut)
        })
    }

    fn one_or_many(&mut self, operand: &Value, mut read: impl FnMut(&mut Self, &Value) -> Option<Operator>) -> Option<Vec<Operator>> {
        match operand {
            Value::Array(list) if list.is_empty() => {
                self.problem(Problem::new("the list is empty"));
                None
            }
            Value::Array(list) => {
                let read: Vec<_> =
                    list.iter().enumerate().map(|(index, item)| self.within(index, |compiler| read(compiler, item))).collect();
                read.into_iter().collect()
            }
            one => read(self, one).map(|operator| vec![operator]),
        }
    }

    /// `["=", n]`, `[">" or ">=", n]`, `["<" or "<=", n]`, or a lower bound and then an upper one.
    fn numeric(&mut self, operand: &Value) -> Option<Operator> {
        const FORM: &str = r#"write ["=", 5], [">", 0], or [">", 0, "<=", 5]"#;
        let list = operand.as_array().map(Vec::as_slice).unwrap_or_default();
        let terms = match list {
            [operator, number] => vec![(operator, number)],
            [lower, from, upper, to] => vec![(lower, from), (upper, to)],
            _ => {
                self.problem(Problem::new("numeric takes a comparison and a number, or a lower and an upper bound").help(FORM));
                return None;
            }
        };
        let mut range = Range::default();
        for (index, (operator, number)) in terms.into_iter().enumerate() {
            let number = match number {
                Value::Number(number) => self.within(2 * index + 1, |compiler| compiler.number(number))?,
                _ => {
                    self.within(2 * index + 1, |compiler| compiler.problem(Problem::new("numeric compares with a number").help(FORM)));
                    return None;
                }
            };
            match (operator.as_str(), index) {
                (Some("="), 0) if list.len() == 2 => range = Range { from: Some((number, true)), to: Some((number, true)) },
                (Some(">"), 0) => range.from = Some((number, false)),
                (Some(">="), 0) => range.from = Some((number, true)),
                (Some("<"), 0) if list.len() == 2 => range.to = Some((number, false)),
                (Some("<="), 0) if list.len() == 2 => range.to = Some((number, true)),
                (Some("<"), 1) => range.to = Some((number, false)),
                (Some("<="), 1) => range.to = Some((number, true)),
                _ => {
                    self.within(2 * index, |compiler| {
                        compiler.problem(Problem::new(format!("{operator} is not a comparison that can stand here")).help(FORM));
                    });
                    return None;
                }
            }
        }
        if let (Some((from, _)), Some((to, _))) = (range.from, range.to)
            && list.len() == 4
            && from >= to
        {
            self.problem(Problem::new("no number lies between these bounds").help("the lower bound comes first"));
            return None;
        }
        Some(Operator::Numeric(range))
    }
}

/// True for an object that is not just an operator whose list was forgotten, which is told where its value is read.
fn is_nested(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.keys().all(|key| OPERATORS.contains(&key.as_str())))
}

fn holds_absent(body: &Body) -> bool {
    match body {
        Body::Leaf(leaf) => leaf.operators.iter().any(Operator::fits_absence),
        Body::Group(group) => group.holds_absent(),
    }
}
