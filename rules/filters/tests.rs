use pointsman_schemas::ExtensionValue;
use serde_json::{Value, json};

use super::*;

fn raw(filters: &Value) -> Vec<RawFilter> {
    serde_json::from_value(filters.clone()).unwrap()
}

fn event() -> Event {
    Event::builder(
        "1",
        "https://github.com/cloudevents/spec",
        "com.github.push",
    )
    .attribute("hops", ExtensionValue::Integer(-2_147_483_648))
    .attribute("ready", ExtensionValue::Boolean(true))
    .build()
    .unwrap()
}

#[test]
fn filters_hold_as_the_specification_says() {
    for (filters, expect) in [
        (json!([]), true),
        (
            json!([{"exact": {"type": "com.github.push", "source": "https://github.com/cloudevents/spec"}}]),
            true,
        ),
        (
            json!([{"exact": {"type": "com.github.push", "source": "https://github.com"}}]),
            false,
        ),
        (json!([{"exact": {"type": "COM.github.push"}}]), false),
        (json!([{"exact": {"subject": "x"}}]), false),
        (json!([{"exact": {"specversion": "1.0"}}]), true),
        (
            json!([{"exact": {"hops": "-2147483648", "ready": "true"}}]),
            true,
        ),
        (
            json!([{"prefix": {"hops": "-2"}}, {"suffix": {"hops": "48", "ready": "ue"}}]),
            true,
        ),
        (
            json!([{"prefix": {"type": "com.github.", "source": "https://github.com/cloudevents"}}]),
            true,
        ),
        (
            json!([{"prefix": {"type": "com.github.", "source": "http://github.com"}}]),
            false,
        ),
        (
            json!([{"suffix": {"type": ".push", "source": "/spec"}}]),
            true,
        ),
        (json!([{"suffix": {"type": ".pull"}}]), false),
        (
            json!([{"all": [{"prefix": {"type": "com."}}, {"suffix": {"type": ".push"}}]}]),
            true,
        ),
        (
            json!([{"all": [{"prefix": {"type": "com."}}, {"suffix": {"type": ".pull"}}]}]),
            false,
        ),
        (
            json!([{"any": [{"prefix": {"type": "org."}}, {"suffix": {"type": ".push"}}]}]),
            true,
        ),
        (
            json!([{"any": [{"prefix": {"type": "org."}}, {"suffix": {"type": ".pull"}}]}]),
            false,
        ),
        (json!([{"not": {"exact": {"subject": "x"}}}]), true),
        (
            json!([{"not": {"not": {"exact": {"subject": "x"}}}}]),
            false,
        ),
        (json!([{"sql": "source LIKE '%cloudevents%'"}]), true),
        (
            json!([{"sql": "source LIKE '%cloudevents%'"}, {"exact": {"id": "2"}}]),
            false,
        ),
        // An error is false, also where the value is true; what it is not is true.
        (json!([{"sql": "subject = 'x'"}]), false),
        (json!([{"sql": "(subject = 'x') OR true"}]), false),
        (json!([{"not": {"sql": "subject = 'x'"}}]), true),
        // So is what is no boolean.
        (json!([{"sql": "hops"}]), false),
        (json!([{"sql": "ready"}]), true),
    ] {
        assert_eq!(
            Filters::compile(&raw(&filters)).unwrap().hold(&event()),
            expect,
            "{filters}"
        );
    }
}

#[test]
fn mistakes_are_told_with_their_places() {
    let told = |filters: Value| match Filters::compile(&raw(&filters)) {
        Ok(filters) => filters
            .warnings()
            .iter()
            .map(|problem| format!("warning: {problem}"))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(problems) => problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    };
    insta::assert_snapshot!(
        [
            told(json!([])),
            told(json!([{"exact": {}}, {"prefix": {"": "x", "Type": "x", "type": ""}}, {"suffix": {"data": "x", "data.total": "x"}}])),
            told(json!([{"any": []}, {"not": {"all": [{"exact": {"id": "1"}}, {"sql": "type = "}]}}])),
            told(json!([{"sql": "LENGHT(type) > 3 AND data = 1"}, {"sql": "ABS(1)"}, {"sql": "LENGTH(1, 2) = 1"}])),
            told(json!([{"exact": {"subjct": "x"}}, {"sql": "NOT type = 'x'"}])),
        ]
        .join("\n\n"), @r##"
        warning: this list is empty: it takes every event (write a filter, or leave `filters` out)

        [0].exact: there is no attribute here (name one with its text: { type: order.paid })
        [1].prefix.: "" is not the name of an attribute: those are made of a-z and 0-9
        [1].prefix.Type: "Type" is not the name of an attribute: those are made of a-z and 0-9 (write type)
        [1].prefix.type: this text is empty (write what the attribute is compared with; `EXISTS` in a `sql` asks whether it is there)
        [2].suffix.data: filters see the context attributes alone, not the data (hold the data against `match` or `where` beside `filters`)
        [2].suffix.data.total: filters see the context attributes alone, not the data (hold the data against `match` or `where` beside `filters`)

        [0].any: this list is empty (write at least one filter)
        [1].not.all[1].sql: a value is wanted here, and the expression ends (write an attribute, a literal, a call or parentheses)

        [0].sql: there is no function "LENGHT" (write LENGTH)
        [0].sql: CESQL sees the context attributes alone, not the data (hold the data against `match` or `where` beside `filters`)
        [1].sql: this gives an integer, and a filter holds only where its expression is true (compare it, as in LENGTH(subject) > 3)
        [2].sql: LENGTH takes one argument, and here are 2

        warning: [0].exact.subjct: "subjct" is taken as an extension attribute (was subject meant?)
        warning: [1].sql: NOT binds tighter than =: it negates what stands before = alone (write NOT (…), or the negated operator)
        "##);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        (1..depth).fold(RawFilter::Sql("true".to_owned()), |filter, _| {
            RawFilter::Not(Box::new(filter))
        })
    };
    assert!(Filters::compile(&[nested(DEPTH_MAX)]).is_ok());
    let problems = Filters::compile(&[nested(DEPTH_MAX + 1)]).unwrap_err();
    assert_eq!(problems[0].message, "filters nest deeper than 32 levels");
}
