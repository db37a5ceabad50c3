use bytes::Bytes;
use pointsman_schemas::Data;
use serde_json::{Value, json};

use super::*;
use crate::condition::Condition;
use crate::filters::{Filters, RawFilter};
use crate::origin::OriginSet;
use crate::pattern::Pattern;
use crate::rule::Filter;

fn rule(from: OriginSet, pattern: Option<Value>, condition: Option<&str>) -> Rule {
    Rule {
        from,
        filter: Filter {
            pattern: pattern.map(|pattern| Pattern::compile(&pattern).unwrap()),
            condition: condition.map(|condition| Condition::parse(condition).unwrap()),
            ..Filter::default()
        },
    }
}

fn filters(filters: Value) -> Filters {
    Filters::compile(&serde_json::from_value::<Vec<RawFilter>>(filters).unwrap()).unwrap()
}

fn any(pattern: Value) -> Rule {
    rule(OriginSet::all_but(&[]), Some(pattern), None)
}

#[test]
fn all_that_a_rule_says_must_hold() {
    let event = |data: &'static str| {
        Event::builder("1", "/s", "order.paid")
            .data(Data::json(Bytes::from_static(data.as_bytes())).unwrap())
            .build()
            .unwrap()
    };
    let rules = RuleSet::compile(vec![
        rule(OriginSet::all_but(&[]), None, None),
        rule(OriginSet::only(&[Origin(3), Origin(200)]), None, None),
        rule(OriginSet::all_but(&[Origin(3)]), None, None),
        any(json!({"type": ["order.paid"], "data": {"total": [{"numeric": [">", 10]}]}})),
        any(json!({"data": {"items": {"sku": ["b"], "n": [2]}}})),
        rule(
            OriginSet::all_but(&[]),
            Some(json!({"type": ["order.paid"]})),
            Some("$.data.total > 100"),
        ),
        any(json!({"data": {"items": {"sku": ["a"], "n": [2]}}})),
        any(json!({"data": {"total": {"net": [1]}}})),
        rule(
            OriginSet::all_but(&[]),
            None,
            Some("$.data.items[?@.n == 2]"),
        ),
        Rule {
            from: OriginSet::only(&[Origin(3)]),
            filter: Filter::from(filters(json!([{"sql": "type LIKE 'order.%'"}]))),
        },
        Rule {
            from: OriginSet::all_but(&[]),
            filter: Filter {
                pattern: Some(Pattern::compile(&json!({"type": ["order.paid"]})).unwrap()),
                filters: Some(filters(json!([{"exact": {"type": "order.sent"}}]))),
                ..Filter::default()
            },
        },
    ]);
    let mut scratch = Scratch::default();
    for (origin, data, expect) in [
        (
            3,
            r#"{"total":50,"items":[{"sku":"a","n":1},{"sku":"b","n":2}]}"#,
            &[0, 1, 3, 4, 8, 9][..],
        ),
        (4, r#"{"total":500}"#, &[0, 2, 3, 5]),
        (200, r#"{"total":{"net":1}}"#, &[0, 1, 2, 7]),
        (u16::MAX, "[]", &[0, 2]),
    ] {
        let mut out = Vec::new();
        rules.matches_into(Origin(origin), &event(data), &mut scratch, &mut out);
        assert_eq!(out, expect, "{data}");
        for index in 0..11 {
            let explanation = rules.explain(index, Origin(origin), &event(data)).unwrap();
            assert_eq!(
                explanation.matches,
                expect.contains(&index),
                "{index}: {explanation}"
            );
        }
    }
    assert!(rules.explain(11, Origin(0), &event("1")).is_none());
}

#[test]
fn joined_fields_are_held_against_what_a_text_says_not_how_it_is_written() {
    let joined =
        |text: &str| any(json!({ "type": ["t"], "data": { "a": [text], "b": { "c": ["x"] } } }));
    let texts = ["plain", r"a\n", "a\n", "\"", r"\u0041", "A", "ü", ""];
    let rules = RuleSet::compile(texts.map(joined).into());
    let mut scratch = Scratch::default();
    for (data, expect) in [
        (r#"{"a":"plain","b":{"c":"x"}}"#, &[0][..]),
        (r#"{"a":"pl\u0061in","b":{"c":"\u0078"}}"#, &[0]),
        (
            r#"{"a":["other","plain"],"b":[{"c":"y"},{"c":["x"]}]}"#,
            &[0],
        ),
        (r#"{"a":"plain","b":{"c":"y"}}"#, &[]),
        (r#"{"a":"plain","b.c":"x"}"#, &[0]),
        (r#"{"a":"plain","b":{"c":"y"},"b.c":"x"}"#, &[0]),
        (r#"{"a":"plain"}"#, &[]),
        (r#"{"a":"a\\n","b":{"c":"x"}}"#, &[1]),
        (r#"{"a":"a\n","b":{"c":"x"}}"#, &[2]),
        (r#"{"a":"\"","b":{"c":"x"}}"#, &[3]),
        (r#"{"a":"\\u0041","b":{"c":"x"}}"#, &[4]),
        (r#"{"a":"\u0041","b":{"c":"x"}}"#, &[5]),
        (r#"{"a":"\u00fc","b":{"c":"x"}}"#, &[6]),
        (r#"{"a":"","b":{"c":"x"}}"#, &[7]),
        (r#"{"a":1,"b":{"c":"x"}}"#, &[]),
    ] {
        for (ty, expect) in [("t", expect), ("u", &[])] {
            let data = Data::json(Bytes::from_static(data.as_bytes())).unwrap();
            let event = Event::builder("1", "/s", ty).data(data).build().unwrap();
            let (mut out, mut in_turn) = (Vec::new(), Vec::new());
            rules.matches_into(Origin(0), &event, &mut scratch, &mut out);
            rules.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut in_turn);
            assert_eq!((&*out, &*in_turn), (expect, expect), "{event:?}");
        }
    }
}

#[test]
fn rules_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<RuleSet>();
    shared::<Scratch>();
    shared::<Document<'_>>();
}
