//! The index finds what a look at every rule finds, and what each pattern alone finds.
//!
//! `POINTSMAN_LONG=1` holds a million pairs of a rule and an event against one another, else it is
//! some thousands.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a generator of tests says bluntly what it expects"
)]

use bytes::Bytes;
use pointsman_rules::{
    Condition, Document, Filter, Filters, Origin, OriginSet, Pattern, RawFilter, Rule, RuleSet,
    Scratch,
};
use pointsman_schemas::{Data, DataKind, Event, ExtensionValue};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

const RULES: usize = 40;
const EVENTS: usize = 5;

fn cases() -> u32 {
    let pairs = if std::env::var_os("POINTSMAN_LONG").is_some() {
        1_000_000
    } else {
        5_000
    };
    // Sets are half as large as they may be, or a little more.
    (2 * pairs / (RULES * EVENTS)) as u32
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[abA]{0,4}",
        2 => prop::sample::select(vec!["10.0.0.1", "10.1.2.3", "192.168.0.1", "2001:db8::1", "::1"])
            .prop_map(Into::into),
        1 => prop::sample::select(vec!["É", "éa", "a\"b", "K", "İ", "ß", "\n", "a.b"])
            .prop_map(Into::into),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-3..4_i64).prop_map(Value::from),
        2 => (-8..9_i32).prop_map(|quarters| (f64::from(quarters) / 4.0).into()),
        1 => prop::sample::select(vec![json!(9_007_199_254_740_992_i64), json!(9_007_199_254_740_993_i64), json!(1e3), json!(u64::MAX)]),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![4 => text().prop_map(Value::from), 3 => number(), 1 => any::<bool>().prop_map(Value::from), 1 => Just(Value::Null)]
}

fn wildcard() -> impl Strategy<Value = String> {
    "[abA*]{1,5}".prop_filter("two stars", |text| !text.contains("**"))
}

fn one_or_more(value: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    let value = value.boxed();
    prop_oneof![
        value.clone(),
        prop::collection::vec(value, 1..3).prop_map(Value::from)
    ]
}

fn range() -> impl Strategy<Value = Value> {
    let lower = || prop::sample::select(vec![">", ">="]);
    let upper = || prop::sample::select(vec!["<", "<="]);
    let single = (
        prop::sample::select(vec!["<", "<=", "=", ">", ">="]),
        number(),
    )
        .prop_map(|(comparison, number)| json!([comparison, number]));
    let both = (lower(), number(), upper(), number())
        .prop_map(|(lower, from, upper, to)| json!([lower, from, upper, to]));
    prop_oneof![single, both]
}

fn operator() -> impl Strategy<Value = Value> {
    let words = || {
        text().prop_filter_map("empty", |text| {
            (!text.is_empty()).then_some(Value::from(text))
        })
    };
    let named = prop_oneof![
        text().prop_map(|text| json!({ "prefix": text })),
        text().prop_map(|text| json!({ "prefix": { "equals-ignore-case": text } })),
        text().prop_map(|text| json!({ "suffix": text })),
        text().prop_map(|text| json!({ "suffix": { "equals-ignore-case": text } })),
        text().prop_map(|text| json!({ "equals-ignore-case": text })),
        text().prop_map(|text| json!({ "contains": text })),
        wildcard().prop_map(|text| json!({ "wildcard": text })),
        one_or_more(text().prop_map(Value::from)).prop_map(|listed| json!({ "anything-but": listed })),
        one_or_more(number()).prop_map(|listed| json!({ "anything-but": listed })),
        one_or_more(words()).prop_map(|listed| json!({ "anything-but": { "prefix": listed } })),
        one_or_more(wildcard().prop_map(Value::from)).prop_map(|listed| json!({ "anything-but": { "wildcard": listed } })),
        range().prop_map(|range| json!({ "numeric": range })),
        prop::sample::select(vec!["10.0.0.0/8", "10.0.0.0/31", "0.0.0.0/0", "::/0", "2001:db8::/32", "192.168.0.1/32"])
            .prop_map(|net| json!({ "cidr": net })),
        any::<bool>().prop_map(|exists| json!({ "exists": exists })),
        (prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]), field())
            .prop_map(|(comparison, field)| json!({ "compare-to": [comparison, format!("$.data.{field}")] })),
    ];
    let exists = json!({ "exists": false });
    let both = prop::collection::vec(
        named
            .clone()
            .prop_filter("absent", move |operator| *operator != exists),
        2..4,
    )
    .prop_map(|all| json!({ "all": all }));
    prop_oneof![3 => scalar(), 6 => named, 1 => both]
}

fn field() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(Into::into)
}

fn object(
    part: impl Strategy<Value = Value>,
    length: std::ops::Range<usize>,
) -> impl Strategy<Value = Value> {
    prop::collection::vec((field(), part), length)
        .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
}

fn leaf() -> impl Strategy<Value = Value> {
    prop::collection::vec(operator(), 1..3).prop_map(Value::from)
}

fn under_data() -> impl Strategy<Value = Value> {
    object(leaf(), 1..3).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            3 => object(inner.clone(), 1..3),
            1 => (field(), field(), leaf())
                .prop_map(|(outer, inner, leaf)| json!({ format!("{outer}.{inner}"): leaf })),
            1 => prop::collection::vec(inner, 2..4)
                .prop_map(|alternatives| json!({ "$or": alternatives })),
        ]
    })
}

/// Of the whole event. What comes out is now and then refused.
fn pattern() -> impl Strategy<Value = Option<Pattern>> {
    let attribute = prop::sample::select(vec!["type", "subject", "n", "flag"]);
    let top = prop::collection::vec((attribute, leaf()), 0..3).prop_map(|members| {
        members
            .into_iter()
            .map(|(name, leaf)| (name.to_owned(), leaf))
            .collect::<Map<_, _>>()
    });
    let data =
        prop_oneof![1 => Just(None), 4 => under_data().prop_map(Some), 1 => leaf().prop_map(Some)];
    (top, data).prop_map(|(mut top, data)| {
        top.extend(data.map(|data| ("data".to_owned(), data)));
        Pattern::compile(&top.into()).ok()
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let path = || {
        prop_oneof![3 => (field(), prop::option::of(field())).prop_map(|(field, under)| match under {
        Some(under) => format!("$.data.{field}.{under}"),
        None => format!("$.data.{field}"),
    }), 1 => prop::sample::select(vec!["$.type", "$.subject", "$.n", "$.flag", "$.data_base64", "$.data"]).prop_map(Into::into)]
    };
    let comparison = || prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let literal = || {
        prop_oneof![
            (-3..4_i32).prop_map(|number| number.to_string()),
            "'[ab]{0,2}'",
            Just("true".to_owned()),
            Just("null".to_owned()),
            Just("0.5".to_owned())
        ]
    };
    let single = prop_oneof![
        (path(), comparison(), literal())
            .prop_map(|(path, comparison, literal)| format!("{path} {comparison} {literal}")),
        (path(), comparison(), literal())
            .prop_map(|(path, comparison, literal)| format!("{literal} {comparison} {path}")),
        (path(), comparison(), path())
            .prop_map(|(left, comparison, right)| format!("{left} {comparison} {right}")),
        path(),
    ];
    (
        single.clone(),
        prop::option::of((prop::sample::select(vec!["&&", "||"]), single)),
    )
        .prop_map(|(left, more)| {
            let text = more.map_or(left.clone(), |(between, right)| {
                format!("{left} {between} {right}")
            });
            Condition::parse(&text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
        })
}

fn sql() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["type", "subject", "n", "flag", "tag"]);
    let text = || prop_oneof![3 => "'[abA]{0,3}'", 1 => prop::sample::select(vec!["'1'", "'-2'", "'true'", "'rue'"]).prop_map(Into::into)];
    let value = prop_oneof![3 => text(), 1 => prop::sample::select(vec!["1", "TRUE", "type"]).prop_map(Into::into)];
    let single = prop_oneof![
        4 => (name(), prop::sample::select(vec!["=", "!=", "<>"]), value.clone())
            .prop_map(|(name, operator, value)| format!("{name} {operator} {value}")),
        2 => (value.clone(), name()).prop_map(|(value, name)| format!("{value} = {name}")),
        4 => (name(), prop::sample::select(vec!["LIKE", "NOT LIKE"]), "'[%%ab_1]{0,4}'")
            .prop_map(|(name, operator, like)| format!("{name} {operator} {like}")),
        3 => (name(), prop::sample::select(vec!["IN", "NOT IN"]), value.clone(), value)
            .prop_map(|(name, operator, a, b)| format!("{name} {operator} ({a}, {b})")),
        1 => name().prop_map(|name| format!("EXISTS {name}")),
        1 => name().prop_map(|name| format!("LOWER({name}) = 'a'")),
        1 => prop::sample::select(vec!["n > 0", "flag", "TRUE", "1 / 0 = 1"]).prop_map(Into::into),
    ];
    single.prop_recursive(3, 8, 2, |inner| {
        let operator = prop::sample::select(vec!["AND", "OR", "XOR"]);
        prop_oneof![
            1 => inner.clone().prop_map(|one| format!("NOT ({one})")),
            3 => (inner.clone(), operator.clone(), inner.clone())
                .prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
            2 => (inner.clone(), operator, inner)
                .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        ]
    })
}

fn filters() -> impl Strategy<Value = Filters> {
    let name = prop::sample::select(vec!["type", "subject", "n", "flag", "tag"]);
    let text = prop_oneof![3 => "[abA]{1,3}", 1 => prop::sample::select(vec!["1", "-2", "true", "al"]).prop_map(Into::into)];
    let texts = prop::collection::hash_map(name.prop_map(str::to_owned), text, 1..3);
    let compared = (
        prop::sample::select(vec!["exact", "prefix", "suffix"]),
        texts,
    )
        .prop_map(|(dialect, texts)| json!({ dialect: texts }));
    let filter = prop_oneof![5 => compared, 3 => sql().prop_map(|sql| json!({ "sql": sql }))]
        .prop_recursive(2, 8, 3, |inner| {
            let list = || prop::collection::vec(inner.clone(), 1..3);
            prop_oneof![
                list().prop_map(|list| json!({ "any": list })),
                list().prop_map(|list| json!({ "all": list })),
                inner.clone().prop_map(|one| json!({ "not": one })),
            ]
        });
    prop::collection::vec(filter, 1..3).prop_map(|filters| {
        let filters: Vec<RawFilter> = serde_json::from_value(filters.into()).unwrap();
        Filters::compile(&filters).unwrap()
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let origins = || prop::collection::vec((0..3_u16).prop_map(Origin), 1..3);
    let from = prop_oneof![2 => Just(OriginSet::all_but(&[])), 1 => origins().prop_map(|origins| OriginSet::only(&origins)), 1 => origins().prop_map(|origins| OriginSet::all_but(&origins))];
    let parts = (
        from,
        pattern(),
        prop::option::weighted(0.3, condition()),
        prop::option::weighted(0.2, filters()),
    );
    let whole = parts.prop_map(|(from, pattern, condition, filters)| Rule {
        from,
        filter: Filter {
            pattern,
            condition,
            filters,
        },
    });
    // Of which the index has no other way.
    let filtered = filters().prop_map(|filters| Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(filters),
    });
    prop_oneof![3 => whole, 1 => filtered]
}

fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![8 => scalar().prop_map(|scalar| scalar.to_string()), 1 => Just("[]".to_owned()), 1 => Just("{}".to_owned()), 1 => Just("1.50e1".to_owned()), 1 => Just(r#""\u0061""#.to_owned())];
    let key = prop_oneof![12 => field(), 2 => (field(), field()).prop_map(|(outer, inner)| format!("{outer}.{inner}")), 1 => Just(r"\u0061".to_owned())];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        // Keys may stand there twice.
        let members = prop::collection::vec((key.clone(), inner.clone()), 1..5);
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4)
                .prop_map(|elements| format!("[{}]", elements.join(", "))),
            2 => members
                .prop_map(|members| format!("{{{}}}", members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect::<Vec<_>>().join(" ,"))),
        ]
    })
}

fn event() -> impl Strategy<Value = Event> {
    let data = prop_oneof![
        8 => document().prop_map(|text| Some(Data::json(Bytes::from(text)).unwrap())),
        1 => text().prop_map(|text| Some(Data::text(text.into()))),
        1 => document().prop_map(|text| Some(Data::binary(Bytes::from(text)))),
        1 => (document(), 0..8_usize).prop_map(|(text, cut)| {
            let end = text.len().saturating_sub(cut);
            Some(Data::new_unchecked(DataKind::Json, Bytes::copy_from_slice(&text.as_bytes()[..end])))
        }),
        1 => Just(None),
    ];
    let some = |text: String| {
        if text.is_empty() || text == "\n" {
            "x".to_owned()
        } else {
            text
        }
    };
    // Of one event a text, of another one an integer or a boolean.
    let tag = prop_oneof![
        2 => text().prop_map(move |text| ExtensionValue::String(some(text).into())),
        1 => (-3..20).prop_map(ExtensionValue::Integer),
        1 => any::<bool>().prop_map(ExtensionValue::Boolean),
    ];
    (
        text().prop_map(some),
        prop::option::of(text().prop_map(some)),
        prop::option::of(-3..4),
        prop::option::of(any::<bool>()),
        prop::option::of(tag),
        data,
    )
        .prop_map(|(ty, subject, n, flag, tag, data)| {
            let mut builder = Event::builder("1", "/s", ty).data(data);
            if let Some(subject) = subject {
                builder = builder.subject(subject);
            }
            builder = n.into_iter().fold(builder, |builder, n| {
                builder.attribute("n", ExtensionValue::Integer(n))
            });
            builder = tag
                .into_iter()
                .fold(builder, |builder, tag| builder.attribute("tag", tag));
            flag.into_iter()
                .fold(builder, |builder, flag| {
                    builder.attribute("flag", flag.into())
                })
                .build()
                .unwrap()
        })
}

/// Each form in which CESQL compares an attribute, over each kind of value that the attribute may
/// have.
#[test]
fn a_rule_of_cesql_alone_is_found() {
    let values = [
        None,
        Some(ExtensionValue::String("1".into())),
        Some(ExtensionValue::String("true".into())),
        Some(ExtensionValue::String("abc".into())),
        Some(ExtensionValue::Integer(1)),
        Some(ExtensionValue::Integer(-12)),
        Some(ExtensionValue::Boolean(true)),
    ];
    let event = |value: &Option<ExtensionValue>| {
        let builder = Event::builder("1", "/s", "abc");
        value
            .iter()
            .fold(builder, |builder, value| {
                builder.attribute("tag", value.clone())
            })
            .build()
            .unwrap()
    };
    let events: Vec<Event> = values.iter().map(event).collect();
    let single = [
        "tag = 'abc'",
        "'abc' = tag",
        "tag = '1'",
        "'1' = tag",
        "tag = 'true'",
        "tag != 'abc'",
        "tag = 1",
        "tag LIKE 'abc'",
        "tag LIKE 'ab%'",
        "tag LIKE '%c'",
        "tag LIKE '%b%'",
        "tag LIKE '1'",
        "tag LIKE '%ru%'",
        "tag LIKE '-%'",
        "tag LIKE '_bc'",
        "tag NOT LIKE 'ab%'",
        "tag IN ('x', 'abc')",
        "tag IN ('1', 'x')",
        "tag IN (1, 'x')",
        "tag IN ('x', type)",
        "tag NOT IN ('x', '1')",
        "'TRUE' = tag",
        "'+1' = tag",
        "tag IN ('x', 'True')",
        "tag IN ('x', '+01')",
        "tag NOT IN ('abc')",
        "type = 'abc'",
        "type = 'x'",
        "EXISTS tag",
        "NOT (tag = 'abc')",
        "tag",
        "TRUE",
        "tag = 'abc' = TRUE",
        "LENGTH(tag) = 3",
    ];
    let pairs = single
        .iter()
        .flat_map(|left| single.iter().step_by(4).map(move |right| (left, right)));
    let joined = pairs.flat_map(|(left, right)| {
        ["AND", "OR", "XOR"].map(|operator| format!("({left}) {operator} ({right})"))
    });
    let longer = [
        "tag = 'abc' AND FALSE OR type = 'abc'",
        "FALSE OR tag = 'abc' AND type = 'abc'",
        "TRUE XOR tag = 'abc' AND type = 'abc'",
    ];
    let mut scratch = Scratch::default();
    for sql in single
        .iter()
        .map(|sql| (*sql).to_owned())
        .chain(joined)
        .chain(longer.map(str::to_owned))
    {
        let rule = || {
            let filters: Vec<RawFilter> = serde_json::from_value(json!([{ "sql": sql }])).unwrap();
            Rule {
                from: OriginSet::all_but(&[]),
                filter: Filter {
                    filters: Filters::compile(&filters).ok(),
                    ..Filter::default()
                },
            }
        };
        // So many that there is an index.
        let set = RuleSet::compile((0..20).map(|_| rule()).collect());
        for event in &events {
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            set.matches_into(Origin(0), event, &mut scratch, &mut found);
            set.matches_in_turn_into(Origin(0), event, &mut scratch, &mut expected);
            assert_eq!(found, expected, "{sql} {:?}", event.attribute("tag"));
        }
    }
}

#[test]
fn the_index_finds_what_a_look_at_every_rule_finds() {
    let mut runner = TestRunner::new(Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    });
    let (scratch, pairs, matches) = (
        std::cell::RefCell::new(Scratch::default()),
        std::cell::Cell::new(0),
        std::cell::Cell::new(0),
    );
    let rules = prop::collection::vec(rule(), 5..RULES);
    runner
        .run(
            &(rules, prop::collection::vec((event(), 0..4_u16), EVENTS)),
            |(rules, events)| {
                let scratch = &mut *scratch.borrow_mut();
                let alone: Vec<Vec<bool>> = events
                    .iter()
                    .map(|(event, _)| {
                        let document = Document::event(event);
                        rules
                            .iter()
                            .map(|rule| rule.filter.holds(&document, &mut Scratch::default()))
                            .collect()
                    })
                    .collect();
                let from: Vec<_> = rules.iter().map(|rule| rule.from.clone()).collect();
                let set = RuleSet::compile(rules);
                for ((event, origin), alone) in events.iter().zip(&alone) {
                    let (mut found, mut expected) = (Vec::new(), Vec::new());
                    set.matches_into(Origin(*origin), event, scratch, &mut found);
                    set.matches_in_turn_into(Origin(*origin), event, scratch, &mut expected);
                    prop_assert_eq!(&found, &expected, "{:?}", event);
                    // What is no JSON at all is found by a path alone, and not with the fields of a
                    // whole set.
                    let alone: Vec<u32> = (0..)
                        .zip(alone)
                        .zip(&from)
                        .filter(|((_, holds), from)| **holds && from.contains(Origin(*origin)))
                        .map(|((index, _), _)| index)
                        .collect();
                    let broken = event.data().is_some_and(|data| {
                        data.kind() == DataKind::Json && data.value().is_none()
                    });
                    prop_assert!(broken || found == alone, "{found:?} {alone:?} {event:?}");
                    pairs.set(pairs.get() + from.len());
                    matches.set(matches.get() + found.len());
                }
                Ok(())
            },
        )
        .unwrap();
    println!(
        "{} pairs of a rule and an event, {} matches",
        pairs.get(),
        matches.get()
    );
    assert!(matches.get() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn hostile_json_is_survived(
        rules in prop::collection::vec(rule(), 5..10),
        bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\. au0\xff-e1".to_vec()), 0..80),
        nested in 0..400_usize,
    ) {
        let set = RuleSet::compile(rules);
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        for bytes in [bytes, [b"[".repeat(nested), b"]".repeat(nested)].concat(), b"{\"a\":[".repeat(nested)] {
            let data = Data::new_unchecked(DataKind::Json, Bytes::from(bytes));
            let event = Event::builder("1", "/s", "a").data(data).build().unwrap();
            let mut expected = Vec::new();
            out.clear();
            set.matches_into(Origin(0), &event, &mut scratch, &mut out);
            set.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut expected);
            prop_assert_eq!(&out, &expected);
        }
    }
}
