//! Where no rule matches, nothing is allocated.

#![expect(clippy::too_many_lines, reason = "a test may tell a long story")]

use bytes::Bytes;
use pointsman_rules::{
    Condition, Filter, Filters, Origin, OriginSet, Pattern, RawFilter, Rule, RuleSet, Scratch,
};
use pointsman_schemas::{Data, Event, ExtensionValue};
use serde_json::json;

#[test]
fn nothing_is_allocated_where_nothing_matches() {
    let filters = vec![
        (Some(json!({"type": ["other"]})), None),
        (
            Some(
                json!({"data": {"total": [{"numeric": [">", 1000]}], "status": [{"equals-ignore-case": "NEW"}]}}),
            ),
            None,
        ),
        (
            Some(
                json!({"data": {"items": {"sku": [{"wildcard": "x*y"}], "n": [1]}, "text": [{"contains": "zz"}, {"suffix": {"equals-ignore-case": "É!"}}]}}),
            ),
            None,
        ),
        (
            Some(
                json!({"$or": [{"subject": [{"exists": true}]}, {"data": {"ip": [{"cidr": "10.0.0.0/8"}], "a.b": [1]}}]}),
            ),
            None,
        ),
        (
            None,
            Some(
                "$.data.total > 1000 && $.data.status == 'paid' || $.data.text == 'x' || match($.data.status, 'x.*')",
            ),
        ),
        (None, Some("$.data.items[0].sku == 'x' || $.data.missing")),
        (
            Some(
                json!({"data": {"total": [{"compare-to": [">", "$.data.limit"]}], "a": {"c": {"d": [{"anything-but": 3}]}}}}),
            ),
            None,
        ),
        (
            Some(
                json!({"data": {"text": [{"all": [{"prefix": {"equals-ignore-case": "É"}}, {"suffix": "É"}]}], "total": [{"exists": false}]}}),
            ),
            None,
        ),
        (Some(json!({"data": {"total": [{"exists": false}]}})), None),
        (
            Some(json!({"subject": [{"exists": true}], "type": [{"anything-but": "order.paid"}]})),
            None,
        ),
        (
            Some(json!({"type": [{"anything-but": {"prefix": "order."}}]})),
            None,
        ),
    ];
    let rules = filters.iter().map(|(pattern, condition)| Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter {
            pattern: pattern
                .as_ref()
                .map(|pattern| Pattern::compile(pattern).unwrap()),
            condition: condition.map(|condition| Condition::parse(condition).unwrap()),
            ..Filter::default()
        },
    });
    let sql = "type LIKE 'order.%x_' OR LENGTH(TRIM(source)) > n OR missing = 1";
    let filters: Vec<RawFilter> = serde_json::from_value(
        json!([{"any": [{"prefix": {"type": "x"}}, {"exact": {"n": "8"}}, {"not": {"suffix": {"source": "s"}}}, {"sql": sql}]}]),
    )
    .unwrap();
    let filters = Some(Filters::compile(&filters).unwrap());
    let rules = rules.chain([Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter {
            filters,
            ..Filter::default()
        },
    }]);
    let rules = RuleSet::compile(rules.collect());
    let data = r#"{"a.b": 2, "\u0061.c": {"d": 3}, "t\u006ftal": 5, "status": "paid", "text": "a\n\u00e9", "items": [{"sku": "a", "n": 1}, {"sku": "\u0062", "n": 2}], "ip": "11.0.0.1", "x": {"y": [1, 2, 3]}}"#;
    let event = Event::builder("1", "/s", "order.paid")
        .attribute("n", ExtensionValue::Integer(7))
        .data(Data::json(Bytes::from(data)).unwrap())
        .build()
        .unwrap();
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    // The first event makes room.
    rules.matches_into(Origin(0), &event, &mut scratch, &mut out);
    let counted = allocation_counter::measure(|| {
        rules.matches_into(Origin(0), &event, &mut scratch, &mut out)
    });
    assert_eq!((counted.count_total, out.len()), (0, 0));
    rules.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut out);
    let counted = allocation_counter::measure(|| {
        rules.matches_in_turn_into(Origin(0), &event, &mut scratch, &mut out)
    });
    assert_eq!((counted.count_total, out.len()), (0, 0));
    // The counter counts.
    assert_ne!(
        allocation_counter::measure(|| drop(Box::new([0_u8; 100]))).count_total,
        0
    );
}
