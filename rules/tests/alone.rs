//! What a rule says of an event never depends on the rules beside it.
//!
//! Sets are made of names that collide: plain, nested, with dots, some of them keys of the event as
//! they stand. Each rule is held against each event within its set, by the index and in turn, in
//! explanations, alone in a set of its own, by its parts without any set, and by a small evaluator
//! that knows nothing of fields and slots. `POINTSMAN_LONG=1` makes a million checks, else it is
//! some thousands.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a generator of tests says bluntly what it expects"
)]

use std::collections::BTreeMap;

use bytes::Bytes;
use pointsman_rules::{
    Condition, Document, Filter, Filters, Origin, OriginSet, Pattern, RawFilter, Rule, RuleSet,
    Scratch,
};
use pointsman_schemas::{Data, Event};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

const RULES: usize = 14;
const EVENTS: usize = 4;

/// A rule as it is written.
#[derive(Clone, Debug)]
struct Written {
    pattern: Option<Value>,
    condition: Option<Clause>,
    filter: Option<(&'static str, &'static str, String)>,
}

/// A `where`, so that it can be evaluated without being parsed.
#[derive(Clone, Debug)]
enum Clause {
    Finds(Vec<String>),
    Equals(Vec<String>, bool, Value),
    Both(Box<Clause>, Box<Clause>),
    Either(Box<Clause>, Box<Clause>),
}

impl Written {
    /// None where it is refused, as for a field that is tested twice.
    fn compile(&self) -> Option<Rule> {
        let pattern = match &self.pattern {
            Some(pattern) => Some(Pattern::compile(pattern).ok()?),
            None => None,
        };
        let condition = self
            .condition
            .as_ref()
            .map(|clause| Condition::parse(&clause.text()).unwrap());
        let filters = self.filter.as_ref().map(|(dialect, name, text)| {
            let raw: RawFilter =
                serde_json::from_value(json!({ *dialect: { *name: text } })).unwrap();
            Filters::compile(&[raw]).unwrap()
        });
        Some(Rule {
            from: OriginSet::all_but(&[]),
            filter: Filter {
                pattern,
                condition,
                filters,
            },
        })
    }

    fn holds(&self, root: &Value) -> bool {
        let filter = self.filter.as_ref().is_none_or(|(dialect, name, text)| {
            root[*name].as_str().is_some_and(|value| {
                if *dialect == "exact" {
                    value == text
                } else {
                    value.starts_with(text)
                }
            })
        });
        filter
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| Group::read(pattern).matches(root))
            && self
                .condition
                .as_ref()
                .is_none_or(|clause| clause.holds(root))
    }
}

impl Clause {
    fn text(&self) -> String {
        let path = |names: &[String]| {
            names.iter().fold("$".to_owned(), |text, name| {
                if name.contains('.') || name.is_empty() {
                    format!("{text}['{name}']")
                } else {
                    format!("{text}.{name}")
                }
            })
        };
        match self {
            Self::Finds(names) => path(names),
            Self::Equals(names, equals, value) => {
                let literal = value
                    .as_str()
                    .map_or_else(|| value.to_string(), |text| format!("'{text}'"));
                format!(
                    "{} {} {literal}",
                    path(names),
                    if *equals { "==" } else { "!=" }
                )
            }
            Self::Both(left, right) => format!("({}) && ({})", left.text(), right.text()),
            Self::Either(left, right) => format!("({}) || ({})", left.text(), right.text()),
        }
    }

    fn holds(&self, root: &Value) -> bool {
        let at = |names: &[String]| {
            names
                .iter()
                .try_fold(root, |value, name| value.as_object()?.get(name))
        };
        match self {
            Self::Finds(names) => at(names).is_some(),
            Self::Equals(names, equals, value) => {
                at(names).is_some_and(|found| is_same(found, value)) == *equals
            }
            Self::Both(left, right) => left.holds(root) && right.holds(root),
            Self::Either(left, right) => left.holds(root) || right.holds(root),
        }
    }
}

fn is_same(left: &Value, right: &Value) -> bool {
    if left.is_number() && right.is_number() {
        left.as_f64() == right.as_f64()
    } else {
        left == right
    }
}

/// A pattern with its dots taken apart.
#[derive(Default)]
struct Group {
    lists: Vec<(String, Vec<Value>)>,
    groups: BTreeMap<String, Group>,
    any: Vec<Vec<Group>>,
}

/// Objects, each with the part of a key that has been followed.
type View<'v> = Vec<(&'v Map<String, Value>, Option<String>)>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    No,
    ByAbsence,
    ByPresence,
}

impl Group {
    fn read(pattern: &Value) -> Self {
        let mut group = Self::default();
        group.enter(pattern);
        group
    }

    fn enter(&mut self, pattern: &Value) {
        for (key, value) in pattern.as_object().unwrap() {
            if key == "$or" {
                self.any
                    .push(value.as_array().unwrap().iter().map(Self::read).collect());
                continue;
            }
            let (above, last) = key
                .rsplit_once('.')
                .map_or((None, key.as_str()), |(above, last)| (Some(above), last));
            let at = above
                .iter()
                .flat_map(|above| above.split('.'))
                .fold(&mut *self, |at, step| {
                    at.groups.entry(step.into()).or_default()
                });
            match value {
                Value::Array(list) => at.lists.push((last.into(), list.clone())),
                value => at.groups.entry(last.into()).or_default().enter(value),
            }
        }
    }

    fn matches(&self, root: &Value) -> bool {
        self.of(&vec![(root.as_object().unwrap(), None)]) != Holds::No
    }

    fn absent(&self) -> Holds {
        let lists = self.lists.iter().all(|(_, list)| is_absence(list));
        let groups = self
            .groups
            .values()
            .all(|group| group.absent() == Holds::ByAbsence);
        let any = self.any.iter().all(|groups| {
            groups
                .iter()
                .any(|group| group.absent() == Holds::ByAbsence)
        });
        if lists && groups && any {
            Holds::ByAbsence
        } else {
            Holds::No
        }
    }

    fn of(&self, view: &View<'_>) -> Holds {
        let lists = self.lists.iter().map(|(name, list)| {
            let scalars: Vec<_> = step(view, name).0.into_iter().flat_map(scalars).collect();
            match scalars.is_empty() {
                true if is_absence(list) => Holds::ByAbsence,
                _ if scalars
                    .iter()
                    .any(|scalar| list.iter().any(|operator| fits(operator, scalar))) =>
                {
                    Holds::ByPresence
                }
                _ => Holds::No,
            }
        });
        let groups = self.groups.iter().map(|(name, group)| {
            let (values, mut below) = step(view, name);
            below.extend(
                values
                    .iter()
                    .filter_map(|value| value.as_object())
                    .map(|object| (object, None)),
            );
            let arrays = values
                .into_iter()
                .filter(|value| value.is_array())
                .map(|array| group.within(array));
            let object = (!below.is_empty()).then(|| group.of(&below));
            best(group.absent(), arrays.chain(object))
        });
        let any = self
            .any
            .iter()
            .map(|groups| groups.iter().map(|group| group.of(view)).max().unwrap());
        let all: Vec<_> = lists.chain(groups).chain(any).collect();
        if all.contains(&Holds::No) {
            Holds::No
        } else {
            all.into_iter().max().unwrap_or(Holds::ByAbsence)
        }
    }

    fn within(&self, array: &Value) -> Holds {
        best(
            self.absent(),
            array
                .as_array()
                .unwrap()
                .iter()
                .map(|element| match element {
                    Value::Object(object) => self.of(&vec![(object, None)]),
                    Value::Array(_) => self.within(element),
                    _ => self.absent(),
                }),
        )
    }
}

/// One that holds by presence is enough; what holds by absence must do so for all.
fn best(absent: Holds, all: impl Iterator<Item = Holds>) -> Holds {
    let all: Vec<_> = all.chain([absent]).collect();
    if all.contains(&Holds::ByPresence) {
        Holds::ByPresence
    } else {
        all.into_iter().min().unwrap()
    }
}

/// The values that a name leads to, and the objects in which it is the beginning of a key.
fn step<'v>(view: &View<'v>, name: &str) -> (Vec<&'v Value>, View<'v>) {
    let (mut values, mut below) = (Vec::new(), Vec::new());
    for (object, followed) in view {
        let key = followed
            .as_ref()
            .map_or_else(|| name.to_owned(), |followed| format!("{followed}.{name}"));
        values.extend(object.get(&key));
        if object
            .keys()
            .any(|other| other.starts_with(&format!("{key}.")))
        {
            below.push((*object, Some(key)));
        }
    }
    (values, below)
}

fn scalars(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().flat_map(scalars).collect(),
        Value::Object(_) => Vec::new(),
        scalar => vec![scalar],
    }
}

fn is_absence(list: &[Value]) -> bool {
    list.contains(&json!({ "exists": false }))
}

fn fits(operator: &Value, scalar: &Value) -> bool {
    let Value::Object(operator) = operator else {
        return is_same(operator, scalar);
    };
    let (name, operand) = operator.iter().next().unwrap();
    match name.as_str() {
        "exists" => *operand == true,
        "anything-but" => !operand
            .as_array()
            .unwrap()
            .iter()
            .any(|value| is_same(value, scalar)),
        _ => scalar
            .as_str()
            .is_some_and(|text| text.starts_with(operand.as_str().unwrap())),
    }
}

fn name() -> impl Strategy<Value = String> {
    let names = vec![
        "a", "b", "c", "a.b", "b.a", "a.b.c", "a.a", "b.c.a", "a.", ".a", "",
    ];
    prop_oneof![3 => prop::sample::select(vec!["a", "b"]), 3 => prop::sample::select(names)]
        .prop_map(Into::into)
}

/// As it is written: numbers are the same in all of their spellings.
fn scalar() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\"x\"",
        "\"xy\"",
        "\"\"",
        "1",
        "1.0",
        "1e0",
        "-0",
        "0",
        "-122.42916360922355",
        "1e30",
        "true",
        "null",
    ])
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_map(|text| serde_json::from_str(text).unwrap())
}

fn list() -> impl Strategy<Value = Value> {
    let texts = prop::collection::vec(prop::sample::select(vec![json!("x"), json!("xy")]), 1..3);
    let numbers = prop::collection::vec(
        prop::sample::select(vec![json!(1), json!(-122.429_163_609_223_55), json!(1e30)]),
        1..3,
    );
    let operator = prop_oneof![
        4 => value(),
        2 => any::<bool>().prop_map(|exists| json!({ "exists": exists })),
        1 => texts.prop_map(|texts| json!({ "anything-but": texts })),
        1 => numbers.prop_map(|numbers| json!({ "anything-but": numbers })),
        1 => prop::sample::select(vec!["", "x", "xy"]).prop_map(|text| json!({ "prefix": text })),
    ];
    prop::collection::vec(operator, 1..3).prop_map(Value::from)
}

fn pattern() -> impl Strategy<Value = Value> {
    let object = |part: BoxedStrategy<Value>| {
        prop::collection::vec((name(), part), 1..4)
            .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
    };
    let under = object(list().boxed()).prop_recursive(3, 10, 3, move |inner| {
        prop_oneof![
            3 => object(prop_oneof![list(), inner.clone()].boxed()),
            1 => prop::collection::vec(inner, 2..4)
                .prop_map(|alternatives| json!({ "$or": alternatives })),
        ]
    });
    let spelt = (name(), list()).prop_map(|(name, list)| json!({ format!("data.{name}"): list }));
    let data = prop_oneof![4 => under.prop_map(|under| json!({ "data": under })), 1 => spelt, 1 => list().prop_map(|list| json!({ "data": list }))];
    (
        data,
        prop::option::weighted(0.2, prop::sample::select(vec!["t", "t.u"])),
    )
        .prop_map(|(mut pattern, ty)| {
            ty.into_iter().for_each(|ty| pattern["type"] = json!([ty]));
            pattern
        })
}

fn clause() -> impl Strategy<Value = Clause> {
    let path = || {
        prop_oneof![
            5 => prop::collection::vec(name(), 0..4)
                .prop_map(|names| std::iter::once("data".to_owned()).chain(names).collect()),
            1 => Just(vec!["type".to_owned()]),
            1 => name().prop_map(|name| vec![format!("data.{name}")]),
        ]
    };
    let single = prop_oneof![
        path().prop_map(Clause::Finds),
        (path(), any::<bool>(), value())
            .prop_map(|(path, is, value)| Clause::Equals(path, is, value))
    ];
    single.prop_recursive(1, 2, 2, |inner| {
        (inner.clone(), any::<bool>(), inner).prop_map(|(left, both, right)| {
            let (left, right) = (Box::new(left), Box::new(right));
            if both {
                Clause::Both(left, right)
            } else {
                Clause::Either(left, right)
            }
        })
    })
}

fn rule() -> impl Strategy<Value = Written> {
    let filter = (
        prop::sample::select(vec!["exact", "prefix"]),
        prop::sample::select(vec!["type", "subject"]),
        "[tu.]{1,3}",
    );
    let parts = (
        prop::option::weighted(0.75, pattern()),
        prop::option::weighted(0.4, clause()),
        prop::option::weighted(0.15, filter),
    );
    parts.prop_map(|(pattern, condition, filter)| Written {
        pattern,
        condition,
        filter,
    })
}

fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![8 => scalar().prop_map(ToOwned::to_owned), 1 => Just("[]".to_owned()), 1 => Just("{}".to_owned())];
    let key = prop_oneof![12 => name(), 1 => Just(r"\u0061".to_owned()), 1 => Just(r"a\u002eb".to_owned())];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        // Keys may stand there twice.
        let members = prop::collection::vec((key.clone(), inner.clone()), 1..6);
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4)
                .prop_map(|elements| format!("[{}]", elements.join(", "))),
            3 => members
                .prop_map(|members| format!("{{{}}}", members.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect::<Vec<_>>().join(","))),
        ]
    })
}

fn event() -> impl Strategy<Value = Event> {
    let subject = prop::option::of(prop::sample::select(vec!["t", "u.t"]));
    (
        prop::sample::select(vec!["t", "t.u"]),
        subject,
        prop::option::weighted(0.97, document()),
    )
        .prop_map(|(ty, subject, data)| {
            let builder = Event::builder("1", "/s", ty)
                .data(data.map(|data| Data::json(Bytes::from(data)).unwrap()));
            subject
                .into_iter()
                .fold(builder, |builder, subject| builder.subject(subject))
                .build()
                .unwrap()
        })
}

/// Holds each rule of a set against an event in every way that there is.
fn check(rules: &[Written], event: &Event) -> Result<usize, TestCaseError> {
    let document = Document::event(event);
    let (written, compiled): (Vec<_>, Vec<_>) = rules
        .iter()
        .filter_map(|rule| Some((rule, rule.compile()?)))
        .unzip();
    let set = RuleSet::compile(compiled);
    let (mut scratch, mut found, mut in_turn) = (Scratch::default(), Vec::new(), Vec::new());
    set.matches_into(Origin(0), event, &mut scratch, &mut found);
    set.matches_in_turn_into(Origin(0), event, &mut scratch, &mut in_turn);
    prop_assert_eq!(&found, &in_turn, "the index");
    for (index, rule) in (0..).zip(&written) {
        let within = found.contains(&index);
        prop_assert_eq!(rule.holds(document.tree()), within, "{:?}", rule);
        let parts = rule.compile().unwrap();
        prop_assert_eq!(
            parts.filter.holds(&document, &mut Scratch::default()),
            within,
            "by its parts: {:?}",
            rule
        );
        let alone = RuleSet::compile(vec![parts]);
        let mut out = Vec::new();
        alone.matches_into(Origin(0), event, &mut scratch, &mut out);
        prop_assert_eq!(!out.is_empty(), within, "alone: {:?}", rule);
        let explained = [
            set.explain(index, Origin(0), event).unwrap(),
            alone.explain(0, Origin(0), event).unwrap(),
        ];
        prop_assert_eq!(explained[0].matches, within, "explained: {:?}", rule);
        prop_assert_eq!(&explained[0], &explained[1], "explained alone: {:?}", rule);
    }
    Ok(written.len())
}

#[test]
fn a_rule_says_the_same_beside_others_and_alone() {
    let checks_wanted = if std::env::var_os("POINTSMAN_LONG").is_some() {
        1_000_000
    } else {
        10_000
    };
    let mut checks = 0;
    let sets = (
        prop::collection::vec(rule(), 1..=RULES),
        prop::collection::vec(event(), EVENTS),
    );
    while checks < checks_wanted {
        let made = std::cell::Cell::new(0);
        let config = Config {
            cases: 100,
            failure_persistence: None,
            ..Config::default()
        };
        let outcome = TestRunner::new(config).run(&sets, |(rules, events)| {
            for event in &events {
                made.set(made.get() + check(&rules, event)?);
            }
            Ok(())
        });
        outcome.unwrap();
        checks += made.get();
    }
    println!("{checks} checks");
}

/// Rules that have hidden each other's fields.
#[test]
fn names_with_dots_do_not_hide_each_other() {
    let pattern = |pattern: Value| Written {
        pattern: Some(json!({ "data": pattern })),
        condition: None,
        filter: None,
    };
    let finds = |names: &[&str], value: &str| Written {
        pattern: None,
        condition: Some(Clause::Equals(
            names.iter().map(|name| (*name).to_owned()).collect(),
            true,
            value.into(),
        )),
        filter: None,
    };
    let both = |one: Written, other: Written| Written {
        condition: other.condition,
        ..one
    };
    let label = || pattern(json!({ "labels": { "app.kubernetes.io/name": ["web"] } }));
    let labelled = || finds(&["data", "labels", "app.kubernetes.io/name"], "web");
    let cases = [
        (
            pattern(json!({ "messaging.operation": ["publish"] })),
            r#"{"messaging.operation.type":"send","messaging.operation":"publish"}"#,
            true,
        ),
        (
            pattern(json!({ "messaging.operation.type": ["send"] })),
            r#"{"messaging.operation.type":"send","messaging.operation":"publish"}"#,
            true,
        ),
        (
            label(),
            r#"{"labels":{"app.kubernetes.io/name":"web"}}"#,
            true,
        ),
        (
            labelled(),
            r#"{"labels":{"app.kubernetes.io/name":"web"}}"#,
            true,
        ),
        (
            labelled(),
            r#"{"labels":{"app":{"kubernetes":{"io/name":"web"}}}}"#,
            false,
        ),
        (
            both(label(), labelled()),
            r#"{"labels":{"app.kubernetes.io/name":"web"}}"#,
            true,
        ),
        (
            label(),
            r#"{"labels":{"app":"y","app.kubernetes.io/name":"web"}}"#,
            true,
        ),
        (
            label(),
            r#"{"labels":{"app":{"kubernetes":{"io/name":"web"}}}}"#,
            true,
        ),
        (
            pattern(json!({ "labels": { "app": ["y"], "app.kubernetes.io/name": ["web"] } })),
            r#"{"labels":{"app.kubernetes.io/name":"web","app":"y"}}"#,
            true,
        ),
        (
            pattern(json!({ "a.b": [{ "exists": false }] })),
            r#"{"a":1,"a.b":"x"}"#,
            false,
        ),
        (
            pattern(json!({ "a.b": [{ "exists": false }] })),
            r#"{"a":[{"c":1}],"a.b":"x"}"#,
            false,
        ),
        (
            pattern(json!({ "a.b": [{ "exists": false }] })),
            r#"{"a":1,"a.c":"x"}"#,
            true,
        ),
        (
            pattern(json!({ "a": { "b": [1], "c": [2] } })),
            r#"{"a":{"b":1},"a.c":2}"#,
            true,
        ),
        (
            pattern(json!({ "a": { "b": [1], "c": [2] } })),
            r#"{"a":[{"b":1},{"c":2}],"a.b":1}"#,
            false,
        ),
    ];
    let rules: Vec<_> = cases.iter().map(|(rule, ..)| rule.clone()).collect();
    for (rule, data, expect) in cases {
        let event = Event::builder("1", "/s", "t")
            .data(Data::json(Bytes::from_static(data.as_bytes())).unwrap())
            .build()
            .unwrap();
        assert_eq!(
            rule.holds(Document::event(&event).tree()),
            expect,
            "{data} {rule:?}"
        );
        check(&rules, &event).unwrap();
        check(&[rule], &event).unwrap();
    }
}
