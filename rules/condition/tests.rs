use jsonpath_rust::parser::parse_json_path;
use serde_json::json;

use super::*;
use crate::document::Document;
use crate::{Filter, Origin, OriginSet, Rule, RuleSet, Scratch};

const DATA: &str = r#"{
    "total": 150, "status": "paid", "name": "a\u00e9\n", "big": 9007199254740993, "yes": true, "no": null, "zero": 0, "float": 150.0,
    "items": [{"sku": "a", "price": 5}, {"sku": "b", "price": 15}], "empty": [], "object": {"x": 1, "y": [1, 2]}, "same": {"y": [1.0, 2], "x": 1}, "a.b": 1
}"#;

/// Evaluates by itself and in a set of rules, which must agree.
fn holds(condition: &str) -> bool {
    let data = pointsman_schemas::Data::json(DATA.into()).unwrap();
    let event = pointsman_schemas::Event::builder("1", "/s", "order.paid")
        .data(data)
        .build()
        .unwrap();
    let parsed = || {
        Condition::parse(condition).unwrap_or_else(|problems| panic!("{condition}: {problems:?}"))
    };
    let mut scratch = Scratch::default();
    let alone = parsed().holds(&Document::event(&event), &mut scratch);
    let rules = RuleSet::compile(vec![Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter::from(parsed()),
    }]);
    let mut out = Vec::new();
    rules.matches_into(Origin(0), &event, &mut scratch, &mut out);
    assert_eq!(alone, !out.is_empty(), "{condition}");
    alone
}

#[test]
fn conditions() {
    for yes in [
        "$.data.total > 100 && $.data.status == 'paid'",
        "$.data.total == 150.0",
        "150 == $.data.float",
        "$.data['total'] >= 150 && $.data.total <= 150",
        "$.type == \"order.paid\"",
        "$.data.total",
        "$.data.no",
        "$.data.no == null",
        "$.data.items[?@.price > 10]",
        "$.data.items[0].sku == 'a' && $.data.items[-1].sku == 'b'",
        "$..sku",
        &format!("$.data{} == $.nothing", ".a".repeat(8_000)),
        "!$.data.missing",
        "!($.data.total < 100) || $.data.x",
        "$.data.missing == $.data.missing2",
        "$.data.missing != 1",
        "$.data.name == 'aé\\n'",
        "$.data.name > 'a'",
        "$.data.big > 9007199254740991 && $.data.big != 9.007199254740992e15",
        "$.data.yes == true",
        "$.data.object == $.data.same",
        "length($.data.items) == 2",
        "length($.data.name) == 3",
        "length($.data.object) == 2",
        "count($.data.items[*]) > 1",
        "count($.data.missing) == 0",
        "value($..items[0].price) == 5",
        "match($.data.status, 'p.*')",
        "search($.data.status, 'a')",
        "!match($.data.status, 'a')",
        "!match($.data.name, 'a..')",
        "match($.data.status, $.data.status)",
        "$.data.total > 1 &&\n  $.data.total < 1000",
        "  $.data.total > 1  ",
        "$['data']['a.b'] == 1",
        "$.data.status == 'paid' || $.data.status == 'new' && $.data.total > 1000",
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in [
        "$.data.total > 150",
        "$.data.total == '150'",
        "$.data.total < 'a'",
        "$.data.missing == null",
        "$.data.missing > 0",
        "$.data.items.sku == 'a'",
        "$.data.a.b == 1",
        "$.data.items[?@.price > 100]",
        "$.data.items[5]",
        "$.data.missing",
        "length($.data.total) == 3",
        "$.data.empty == $.data.object",
        "match($.data.total, '150')",
        "value($..price) == 5",
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let problems = |text: &str| {
        let shown = |problem: &Problem| {
            let within = problem
                .within
                .clone()
                .map_or(String::new(), |within| format!(" at {:?}", &text[within]));
            format!(
                "{}{problem}{within}",
                if problem.warning { "warning: " } else { "" }
            )
        };
        match Condition::parse(text) {
            Ok(condition) => condition.warnings().iter().map(shown).collect::<Vec<_>>(),
            Err(problems) => problems.iter().map(shown).collect(),
        }
        .join("; ")
    };
    let texts = [
        "$.data.paid",
        "$.data.a == 1 && $.data.paid",
        "!$.data.paid",
        "$.data.items[*]",
        "$.data.total > 1 and $.x == 2",
        "$.data.total = 1",
        "data.total > 1",
        "",
        "$.data.total >",
        "@.total > 1",
        "$.a][0",
        "$.a, $.b",
        "length($.data.items)",
        "in($.a, $.b)",
        "match($.a, '[')",
        "length($..a) > 1",
        "count(1) > 1",
        "  $.ü.a ==  ",
        "length(length(length(length(length($.a))))) == 1",
        "$.data.items[*].a == 1",
    ];
    let told: Vec<_> = texts
        .iter()
        .map(|text| format!("{text:?}: {}", problems(text)))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r##"
        "$.data.paid": warning: $.data.paid tests that there is a value, not that it is true (write $.data.paid == true to test its truth) at "$.data.paid"
        "$.data.a == 1 && $.data.paid": warning: $.data.paid tests that there is a value, not that it is true (write $.data.paid == true to test its truth) at "$.data.paid"
        "!$.data.paid": warning: $.data.paid tests that there is a value, not that it is true (write $.data.paid == true to test its truth) at "$.data.paid"
        "$.data.items[*]": 
        "$.data.total > 1 and $.x == 2": two words stand side by side (write && for and, || for or, ! for not) at "a"
        "$.data.total = 1": this is neither a JSONPath query nor a logical expression of them (RFC 9535) (write == to compare) at "="
        "data.total > 1": this is neither a JSONPath query nor a logical expression of them (RFC 9535) (a query begins with $: write $.data.total) at "d"
        "": the condition is empty (write a condition such as $.data.total > 100, or leave `where` out)
        "$.data.total >": this is neither a JSONPath query nor a logical expression of them (RFC 9535) at ""
        "@.total > 1": @ stands for nothing here (a condition is rooted at $: write $.data.total) at "@"
        "$.a][0": this is neither a JSONPath query nor a logical expression of them (RFC 9535) (a bracket is closed that was not opened, or a comma separates two conditions)
        "$.a, $.b": this is neither a JSONPath query nor a logical expression of them (RFC 9535) at "$"
        "length($.data.items)": length gives a value, which is neither true nor false (compare it, as in length($.data.items) > 0)
        "in($.a, $.b)": there is no function "in" (RFC 9535 has length, count, value, match and search)
        "match($.a, '[')": "[" is not a regular expression (RFC 9485) (error: unclosed character class)
        "length($..a) > 1": this function takes one value, and the query can find many (wrap it: length(value($..a)), or count($..a))
        "count(1) > 1": this is neither a JSONPath query nor a logical expression of them (RFC 9535) (a query begins with $: write $.data.total)
        "  $.ü.a ==  ": this is neither a JSONPath query nor a logical expression of them (RFC 9535) at ""
        "length(length(length(length(length($.a))))) == 1": function calls are nested deeper than 4 levels at "("
        "$.data.items[*].a == 1": this is neither a JSONPath query nor a logical expression of them (RFC 9535) (a query that can find many values cannot be compared: compare inside it, as in $.data.items[?@.price > 10]) at "="
        "##);
}

#[test]
fn any_json_is_a_root() {
    let text = json!([{"a": 1}]).to_string();
    let document = Document::json(text.as_bytes()).unwrap();
    assert!(
        Condition::parse("$[0].a == 1")
            .unwrap()
            .holds(&document, &mut Scratch::default())
    );
    // Nothing but the text's own nesting bounds the work, and a text that nests too deeply is
    // refused.
    for deep in [
        "(".repeat(500),
        "$[?".repeat(500),
        "!(".repeat(200),
        format!("{}1", "count(".repeat(40)),
    ] {
        assert!(Condition::parse(&deep).is_err());
    }
    // What is let through fits the stack of any thread.
    let parentheses = |depth: usize| format!("{}$.a == 1{}", "(".repeat(depth), ")".repeat(depth));
    let filters = |depth: usize| {
        format!(
            "{}1{}",
            "$.a[?@.b == 1 && ".repeat(depth),
            " == 1]".repeat(depth)
        )
    };
    let within = |depth: usize| format!("$.a{}{}", "[?@.b".repeat(depth), "]".repeat(depth));
    for depth in [20, 60, 120, 126] {
        for text in [parentheses(depth), filters(depth), within(depth)] {
            if let Ok(condition) = Condition::parse(&text) {
                let _ = condition.holds(&document, &mut Scratch::default());
            }
        }
        assert!(
            Condition::parse(&parentheses(depth)).is_ok()
                && Condition::parse(&within(depth)).is_ok()
        );
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Comparisons are the same as in a filter that `jsonpath-rust` evaluates, over values that
        /// both tell apart.
        #[test]
        fn comparisons_agree_with_filters(
            left in prop::sample::select(vec!["$.a", "$.b", "$.x", "1", "'1'", "true", "null", "length($.a)"]),
            comparator in prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]),
            right in prop::sample::select(vec!["$.a", "$.b", "2", "'a'", "false", "value($.b)"]),
            not in any::<bool>(),
            a in prop::sample::select(vec![json!(1), json!(2.5), json!("a"), json!("1"), json!(null), json!(true), json!([1, 2]), json!({"k": 1})]),
            b in prop::sample::select(vec![json!(2), json!("b"), json!([1, 2]), json!({"k": 1}), json!(false)]),
        ) {
            let expression = format!("{}({left} {comparator} {right})", if not { "!" } else { "" });
            let value = json!({ "a": a, "b": b });
            let text = value.to_string();
            let found = Condition::parse(&expression).unwrap().holds(&Document::json(text.as_bytes()).unwrap(), &mut Scratch::default());
            let query = parse_json_path(&format!("$[?{expression}]")).unwrap();
            let expect = !jsonpath_rust::query::js_path_process(&query, &value).unwrap().is_empty();
            prop_assert_eq!(found, expect, "{} over {}", expression, text);
        }

        #[test]
        fn no_text_makes_the_compiler_fail_otherwise_than_by_a_problem(text in "[$.a@\\[\\]()?'\"<>=!&| 0-9,:*-]{0,24}") {
            let _ = Condition::parse(&text);
            let _ = crate::template::TextTemplate::compile(&format!("<${text}>"), pointsman_schemas::Placement::Header);
        }
    }
}
