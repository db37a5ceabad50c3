use pointsman_schemas::{Event, ExtensionValue};
use serde_json::{Value, json};

use super::*;
use crate::condition::Condition;
use crate::filters::{Filters, RawFilter};
use crate::pattern::Pattern;

fn of(pattern: Option<Value>, condition: Option<&str>, event: &Value) -> Explanation {
    let pattern = pattern.map(|pattern| Pattern::compile_for_any_json(&pattern).unwrap());
    let condition = condition.map(|condition| Condition::parse(condition).unwrap());
    let text = event.to_string();
    let filter = Filter {
        pattern,
        condition,
        filters: None,
    };
    explain(&filter, &Document::json(text.as_bytes()).unwrap())
}

#[test]
fn it_says_why_field_by_field() {
    let event = json!({"type": "order.paid", "data": {"total": 50, "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], "a.b": true}});
    let pattern = json!({
        "type": [{"prefix": "order."}],
        "data": {
            "total": [{"numeric": [">", 100]}], "missing": ["x"], "gone": [{"exists": false}], "a": {"b": [true]},
            "$or": [{"total": [1]}, {"total": [50], "status": ["new"]}],
        },
    });
    let explanation = of(
        Some(pattern),
        Some(
            "$.data.total > 100 && (match($.type, 'x.*') || !$.data.total) && count($.data.lines[*]) == 2",
        ),
        &event,
    );
    insta::assert_snapshot!(explanation.to_string(), @r##"
    does not match
      yes type is "order.paid", expected [{"prefix":"order."}]
      no  data.total is 50, expected [{"numeric":[">",100]}]
          it would hold with a number above 100
      no  data.missing is missing, expected ["x"]
          it would hold with "x"
      yes data.gone is missing, expected [{"exists":false}]
      yes data.a.b is true, expected [true]
      no  data.$or: one of the alternatives
          1.
            no  data.total is 50, expected [1]
                it would hold with 1
          2.
            yes data.total is 50, expected [50]
            no  data.status is missing, expected ["new"]
                it would hold with "new"
      no  $.data.total > 100: $.data.total is 50
          it would hold with a number above 100 at $.data.total
      no  where ||: one of the alternatives
          1.
            no  match($.type, "x.*"): $.type is "order.paid"
                it would hold with a text that fits "x.*" at $.type
          2.
            no  !$.data.total: $.data.total is 50
                it would hold with nothing there at $.data.total
      yes count($.data.lines[*]) == 2: count($.data.lines[*]) is 2
    "##);
    let together = of(
        Some(json!({"data": {"lines": {"sku": ["a"], "n": [2]}}})),
        None,
        &event,
    );
    insta::assert_snapshot!(together.to_string(), @r##"
    does not match
      yes data.lines[0].sku is "a", expected ["a"]
      no  data.lines[0].n is 1, expected [2]
          it would hold with 2
    "##);
    let json = serde_json::to_value(&together).unwrap();
    assert_eq!(json["checks"][1]["field"], "data.lines[0].n");
}

#[test]
fn the_nearest_miss_comes_first() {
    let event = json!({"a": 1, "b": 2});
    let explained = [
        (
            "two wrong",
            of(Some(json!({"a": [9], "b": [9]})), None, &event),
        ),
        ("matches", of(Some(json!({"a": [1]})), None, &event)),
        ("one wrong", of(Some(json!({"a": [9]})), None, &event)),
        (
            "one wrong, one right",
            of(Some(json!({"a": [1], "b": [9]})), None, &event),
        ),
    ];
    let order: Vec<_> = nearest_misses(&explained)
        .iter()
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(order, ["one wrong, one right", "one wrong", "two wrong"]);
}

fn of_filters(filters: Value, event: &Event) -> Explanation {
    let filters =
        Filters::compile(&serde_json::from_value::<Vec<RawFilter>>(filters).unwrap()).unwrap();
    explain(&Filter::from(filters), &Document::event(event))
}

#[test]
fn filters_and_the_parts_of_cesql_are_told() {
    let event = Event::builder("1", "/s", "order.paid")
        .attribute("hops", ExtensionValue::Integer(5))
        .attribute("tries", ExtensionValue::String("7".into()))
        .attribute("ready", ExtensionValue::Boolean(false))
        .build()
        .unwrap();
    let filters = json!([
        {"exact": {"type": "Order.Paid", "source": "/s"}},
        {"prefix": {"hops": "6"}},
        {"any": [{"suffix": {"subject": ".jpg"}}, {"all": [{"prefix": {"type": "order."}}, {"exact": {"id": "2"}}]}]},
        {"not": {"prefix": {"type": "order."}}},
        {"sql": "type LIKE 'order.%' AND (hops + 1 < tries - 5) AND tries > 9 AND NOT EXISTS subject"},
        {"sql": "subject = 'x' OR hops = 5"},
        {"sql": "type IN ('order.sent', 'order.payed') AND ready AND 5 > hops AND LENGTH(TRIM(type)) / 0 = 1"},
        {"sql": "NOT (hops = 5 AND ready != true) AND source LIKE '%/x'"},
    ]);
    insta::assert_snapshot!(of_filters(filters, &event).to_string(), @r##"
    does not match
      no  type is "order.paid", expected "Order.Paid"
          it would hold with "Order.Paid": only the case differs
      yes source is "/s", expected "/s"
      no  hops is 5, expected {"prefix":"6"}
          it would hold with a text that begins with "6"
      no  any: one of the alternatives
          1.
            no  subject is missing, expected {"suffix":".jpg"}
                it would hold with a text that ends with ".jpg"
          2.
            yes type is "order.paid", expected {"prefix":"order."}
            no  id is "1", expected "2"
                it would hold with "2"
      no  not: what follows should not hold
            yes type is "order.paid", expected {"prefix":"order."}
      yes type LIKE 'order.%': type is 'order.paid'
      no  (hops + 1 < tries - 5): hops + 1 is 6, hops is 5, tries - 5 is 2, tries is '7'
      no  tries > 9: tries is '7'
          it would hold with a number above 9 in tries
      yes NOT EXISTS subject: EXISTS subject is false
      no  sql OR: one of the alternatives
          it would hold without this error, which comes first: the event has no subject
          1.
            no  subject = 'x': subject is missing, error: the event has no subject
                it would hold with "x" in subject
          2.
            yes hops = 5: hops is 5
      no  type IN ('order.sent', 'order.payed'): type is 'order.paid'
          it would hold with "order.payed" in type
      no  ready: ready is false
          it would hold with true in ready
      no  5 > hops: hops is 5
          it would hold with a number below 5 in hops
      no  LENGTH(TRIM(type)) / 0 = 1: LENGTH(TRIM(type)) / 0 fails, LENGTH(TRIM(type)) is 10, TRIM(type) is 'order.paid', type is 'order.paid', error: a division by 0
      no  sql NOT: what follows should not hold
            yes hops = 5: hops is 5
            yes ready != true: ready is false
      no  source LIKE '%/x': source is '/s'
          it would hold with a text LIKE '%/x' in source
    "##);
    assert!(of_filters(json!([{"sql": "hops = 5 OR subject = 'x'"}]), &event).matches);
}

#[test]
fn the_smallest_change_is_told() {
    let event = json!({"data": {
        "n": 50, "digits": "50", "text": " Paid ", "list": ["a", "order.pay"], "ip": "10.1.0.1", "flag": "true", "number": 7, "nothing": null,
    }});
    let change = |field: &str, list: Value| {
        let explanation = of(Some(json!({ "data": { field: list } })), None, &event);
        explanation.checks[0].change.clone().unwrap_or_default()
    };
    for (field, list, expect) in [
        (
            "n",
            json!([{"numeric": [">", 100]}, {"numeric": [">=", 55, "<", 60]}]),
            "with a number of at least 55 and below 60",
        ),
        ("n", json!([1, 49, 500]), "with 49"),
        ("n", json!(["50"]), "with \"50\": this is no text"),
        (
            "digits",
            json!([9, 50]),
            "with 50: this is a text, and no number",
        ),
        (
            "digits",
            json!([{"numeric": ["<", 60]}]),
            "with a number below 60: this is a text, and no number",
        ),
        (
            "text",
            json!(["sent", " paid "]),
            "with \" paid \": only the case differs",
        ),
        (
            "text",
            json!(["Paid"]),
            "with \"Paid\": only white space around it differs",
        ),
        (
            "list",
            json!(["z", "order.paid", {"prefix": "x"}]),
            "with \"order.paid\"",
        ),
        (
            "list",
            json!([{"prefix": "orders."}, {"suffix": "Pay"}]),
            "with a text that ends with \"Pay\": only the case differs",
        ),
        (
            "ip",
            json!([{"cidr": "10.0.0.0/24"}]),
            "with an address in 10.0.0.0/24",
        ),
        (
            "flag",
            json!([true]),
            "with true: this is a text, and no boolean",
        ),
        (
            "number",
            json!([{"anything-but": [7, 8]}]),
            "with anything that is none of [7,8]",
        ),
        (
            "number",
            json!([{"anything-but": 7}]),
            "with anything but 7",
        ),
        (
            "text",
            json!([{"anything-but": {"prefix": " "}}]),
            "with anything but a text that begins with \" \"",
        ),
        ("number", json!([{"exists": false}]), "with nothing there"),
        ("gone", json!([{"exists": true}]), "with any value there"),
        ("gone", json!(["a", "b"]), "with \"a\""),
        (
            "text",
            json!([{"prefix": {"equals-ignore-case": "x"}}]),
            "with a text that begins with \"x\", whatever its case",
        ),
        (
            "text",
            json!([{"wildcard": "a*b"}]),
            "with a text like \"a*b\"",
        ),
        ("nothing", json!([5]), "with 5"),
    ] {
        assert_eq!(change(field, list.clone()), expect, "{field} {list}");
    }
    let change = |condition: &str| {
        of(None, Some(condition), &event).checks[0]
            .change
            .clone()
            .unwrap_or_default()
    };
    for (condition, expect) in [
        ("$.data.n > 100", "with a number above 100 at $.data.n"),
        (
            "100 <= $.data.n",
            "with a number of at least 100 at $.data.n",
        ),
        ("!($.data.n >= 50)", "with a number below 50 at $.data.n"),
        ("$.data.n == $.data.number", "with 7 at $.data.n"),
        ("$.data.n != 50", "with anything but 50 at $.data.n"),
        (
            "$.data.digits == 50",
            "with 50 at $.data.digits: this is a text, and no number",
        ),
        ("$.data.gone", "with any value there at $.data.gone"),
        ("!$.data.n", "with nothing there at $.data.n"),
        (
            "match($.data.text, 'x.*')",
            "with a text that fits \"x.*\" at $.data.text",
        ),
        (
            "!search($.data.text, 'P')",
            "with anything but a text that fits \"P\" at $.data.text",
        ),
        (
            "length($.data.list) > 2",
            "with a number above 2 at length($.data.list)",
        ),
        ("$.data.text > 'z'", ""),
    ] {
        assert_eq!(change(condition), expect, "{condition}");
    }
}

#[test]
fn the_nearest_element_of_an_array_is_told() {
    let event = json!({"lines": [
        {"sku": "a", "n": 1, "tags": [{"k": "x", "v": 1}]},
        [{"sku": "b", "n": 2, "tags": [{"k": "x", "v": 2}, {"k": "y", "v": 3}]}],
        {"sku": "c", "n": 1, "tags": []},
    ]});
    let pattern = json!({"lines": {"sku": ["b"], "n": [3], "tags": {"k": ["y"], "v": [{"numeric": [">", 3]}]}}});
    insta::assert_snapshot!(of(Some(pattern), None, &event).to_string(), @r##"
    does not match
      yes lines[1][0].sku is "b", expected ["b"]
      no  lines[1][0].n is 2, expected [3]
          it would hold with 3
      yes lines[1][0].tags[1].k is "y", expected ["y"]
      no  lines[1][0].tags[1].v is 3, expected [{"numeric":[">",3]}]
          it would hold with a number above 3
    "##);
    // One element has none of them, and still the pattern asks for all of them to have none.
    let pattern = json!({"lines": {"sku": [{"exists": false}]}});
    let event = json!({"lines": [{"sku": "a"}, {"n": 1}]});
    insta::assert_snapshot!(of(Some(pattern), None, &event).to_string(), @r##"
    does not match
      yes lines[1].sku is missing, expected [{"exists":false}]
      each of these holds by itself, but not within one element of a list, or not for all of its elements
    "##);
}

#[test]
fn what_is_told_is_not_deep() {
    let sql = (0..60).fold("hops = 1".to_owned(), |inner, _| {
        format!("(hops = 2 OR {inner})")
    });
    let filters = (0..31).fold(json!({ "sql": sql }), |inner, _| json!({ "not": inner }));
    let event = Event::builder("1", "/s", "t")
        .attribute("hops", ExtensionValue::Integer(1))
        .build()
        .unwrap();
    let explanation = of_filters(json!([filters]), &event);
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(
        serde_json::from_str::<Explanation>(&json).unwrap(),
        explanation
    );
    assert!(explanation.to_string().contains("alternatives 16 deep"));
}

#[test]
fn what_is_told_is_bounded() {
    let any: Vec<Value> = (0..500)
        .map(|n| json!({ "a": [n], "b": [n % 7] }))
        .collect();
    let elements: Vec<Value> = (0..5_000).map(|n| json!({ "k": n })).collect();
    let event = json!({ "a": 400, "b": 1, "list": elements, "long": "x".repeat(10_000) });
    let explanation = of(
        Some(json!({ "$or": any, "list": {"k": [-1]}, "long": ["y".repeat(10_000)] })),
        None,
        &event,
    );
    let text = explanation.to_string();
    assert!(
        text.len() < 5_000 && text.contains("and 492 more, which are not nearer"),
        "{text}"
    );
    assert!(
        text.contains("401."),
        "the nearest alternative is among those that are shown:\n{text}"
    );
    assert!(
        explanation
            .note
            .is_some_and(|note| note.starts_with("not all is shown"))
    );
}
