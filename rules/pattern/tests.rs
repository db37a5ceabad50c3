use bytes::Bytes;
use pointsman_schemas::{Data, Event, ExtensionValue};
use serde_json::json;

use super::*;

/// Whether a pattern fits a value at the field `v`.
fn fits(list: Value, value: &str) -> bool {
    let pattern = Pattern::compile_for_any_json(&json!({ "v": list }))
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    matches_json(&pattern, &format!("{{\"v\":{value}}}"))
}

fn matches_json(pattern: &Pattern, text: &str) -> bool {
    pattern.matches(
        &Document::json(text.as_bytes()).unwrap(),
        &mut Scratch::default(),
    )
}

#[test]
fn operators() {
    for (list, yes, no) in [
        (
            json!(["a", 1]),
            &[r#""a""#, "1", "1.0", r#"["x","a"]"#, r#""\u0061""#, "[[1]]"][..],
            &[r#""A""#, r#""1""#, "null", "[]", "{}", r#"{"a":1}"#][..],
        ),
        (
            json!([true, null]),
            &["true", "null"],
            &["false", r#""true""#, r#""null""#, "[]", "0"],
        ),
        (json!([""]), &[r#""""#], &["null", "[]"]),
        (
            json!([300]),
            &["300", "300.0", "3.0e2"],
            &["300.1", r#""300""#],
        ),
        (
            json!([9_007_199_254_740_993_i64]),
            &["9007199254740993"],
            &["9007199254740992"],
        ),
        (
            json!([{"prefix": "ab"}]),
            &[r#""abc""#, r#""ab""#],
            &[r#""Abc""#, "1", "null"],
        ),
        (
            json!([{"prefix": {"equals-ignore-case": "ÄB"}}]),
            &[r#""äbc""#, r#""ÄB""#],
            &[r#""ä""#, r#""xäb""#],
        ),
        (
            json!([{"suffix": ".png"}]),
            &[r#""a.png""#],
            &[r#""a.PNG""#, r#""a.png ""#],
        ),
        (
            json!([{"suffix": {"equals-ignore-case": ".Png"}}]),
            &[r#""a.pNG""#],
            &[r#""png""#],
        ),
        (
            json!([{"equals-ignore-case": "AliceÉ"}]),
            &[r#""aLICEé""#],
            &[r#""alice""#, "1"],
        ),
        (json!([{"contains": "b"}]), &[r#""abc""#], &[r#""ac""#, "1"]),
        (
            json!([{"wildcard": r"a*\*"}]),
            &[r#""ab*""#, r#""a*""#],
            &[r#""ab""#],
        ),
        (
            json!([{"exists": true}]),
            &["1", "null", r#""""#, "[null]"],
            &["[]", "{}", r#"{"a":1}"#, "[{}]"],
        ),
        (
            json!([{"exists": false}]),
            &["[]", "{}", r#"{"a":1}"#],
            &["1", "null"],
        ),
        (
            json!([{"anything-but": "a"}]),
            &[r#""b""#, "1", "null", "true", r#"["a","b"]"#],
            &[r#""a""#, "[]", r#"["a"]"#],
        ),
        (
            json!([{"anything-but": ["a", "b"]}]),
            &[r#""c""#],
            &[r#""b""#],
        ),
        (
            json!([{"anything-but": [1, 2]}]),
            &["3", r#""1""#],
            &["1.0", "2"],
        ),
        (
            json!([{"anything-but": {"prefix": ["a", "b"]}}]),
            &[r#""c""#, "1"],
            &[r#""ax""#, r#""bx""#],
        ),
        (
            json!([{"anything-but": {"suffix": "a"}}]),
            &[r#""ab""#],
            &[r#""ba""#],
        ),
        (
            json!([{"anything-but": {"equals-ignore-case": ["A"]}}]),
            &[r#""b""#],
            &[r#""a""#],
        ),
        (
            json!([{"anything-but": {"wildcard": ["*/lib/*", "x*"]}}]),
            &[r#""/a""#, "123"],
            &[r#""/lib/a""#, r#""xy""#],
        ),
        (
            json!([{"numeric": [">", 0, "<=", 5]}]),
            &["5", "0.1", "5.0"],
            &["0", "5.01", r#""3""#, "null"],
        ),
        (json!([{"numeric": ["=", 301.8]}]), &["3.018e2"], &["301"]),
        (
            json!([{"numeric": ["<", 1_732_000_000_000_i64]}]),
            &["-1e300"],
            &["1732000000000"],
        ),
        (
            json!([{"cidr": "10.0.0.0/24"}]),
            &[r#""10.0.0.255""#],
            &[r#""10.0.1.0""#, r#""10.0.0.256""#, r#""::1""#, "10"],
        ),
        (
            json!([{"cidr": "2001:db8::/32"}]),
            &[r#""2001:0DB8::1""#],
            &[r#""2001:db9::1""#],
        ),
        (
            json!([{"cidr": "10.0.0.1/8"}]),
            &[
                r#""10.255.0.0""#,
                r#""::ffff:10.0.0.1""#,
                r#""::ffff:a00:1""#,
            ],
            &[r#""010.0.0.1""#, r#""::a00:1""#, r#""11.0.0.0""#],
        ),
        (
            json!([{"cidr": "0.0.0.0/0"}]),
            &[r#""255.0.0.1""#, r#""::ffff:1.2.3.4""#],
            &[r#""::1""#, r#""""#],
        ),
        (
            json!([{"cidr": "::/0"}]),
            &[r#""::1""#, r#""2001:db8::1""#],
            &[r#""1.2.3.4""#, r#""::ffff:1.2.3.4""#],
        ),
        (
            json!([{"equals-ignore-case": "straße"}, {"equals-ignore-case": "σεισμος"}]),
            &[
                r#""STRASSE""#,
                r#""strasse""#,
                r#""STRAẞE""#,
                r#""ΣΕΙΣΜΟΣ""#,
                r#""σεισμοσ""#,
            ],
            &[r#""strase""#, r#""strass""#, r#""σεισμο""#],
        ),
        (
            json!([{"equals-ignore-case": "STRASSE"}, {"equals-ignore-case": "ΣΕΙΣΜΟΣ"}]),
            &[r#""straße""#, r#""σεισμος""#],
            &[r#""strase""#],
        ),
        (
            json!([{"prefix": {"equals-ignore-case": "MASS"}}]),
            &[r#""maße""#, r#""mass""#],
            &[r#""mas""#],
        ),
        (
            json!([{"suffix": {"equals-ignore-case": "ος"}}]),
            &[r#""ΣΕΙΣΜΟΣ""#, r#""ΟΣ""#],
            &[r#""ο""#],
        ),
        (
            json!([{"all": [{"prefix": "a"}, {"suffix": "z"}, {"anything-but": "abz"}]}, 5]),
            &[r#""az""#, r#""acz""#, r#"["x","az"]"#, "5"],
            &[r#""abz""#, r#""a""#, r#"["a","z"]"#, "1", "[]"],
        ),
        (
            json!([{"all": [{"exists": true}, {"anything-but": 1}]}]),
            &["2", "null"],
            &["1", "[]"],
        ),
        (
            json!([9_007_199_254_740_993_i64]),
            &["9007199254740993.0", "9007199254740.993e3"],
            &["9007199254740994.0"],
        ),
        (
            json!([{"numeric": ["=", 1e19]}]),
            &["10000000000000000000", "1E+19"],
            &["10000000000000000001", "1"],
        ),
        (json!([0.1]), &["0.10", "1e-1"], &["0", "0.11"]),
        (
            json!([{"numeric": [">", 9_007_199_254_740_992_i64]}]),
            &["9007199254740993"],
            &["9007199254740992", "9007199254740992.0"],
        ),
        (
            json!(["x", {"exists": false}, {"prefix": "y"}]),
            &[r#""x""#, r#""yy""#, "[]"],
            &[r#""z""#],
        ),
    ] {
        for value in yes {
            assert!(fits(list.clone(), value), "{list} should fit {value}");
        }
        for value in no {
            assert!(!fits(list.clone(), value), "{list} should not fit {value}");
        }
    }
}

#[test]
fn fields_nest_and_arrays_are_sets() {
    for (pattern, yes, no) in [
        (
            json!({"a": {"b": [1]}, "c": [2]}),
            &[r#"{"a":{"b":1},"c":2,"d":0}"#][..],
            &[
                r#"{"a":{"b":1}}"#,
                r#"{"c":2}"#,
                r#"{"a":1,"c":2}"#,
                "[]",
                "1",
            ][..],
        ),
        (
            json!({"a.b": [1], "a": {"c": [2]}}),
            &[r#"{"a":{"b":1,"c":2}}"#, r#"{"a.b":1,"a":{"c":2}}"#],
            &[r#"{"a":{"b":1}}"#],
        ),
        // Within one element, also through arrays in arrays.
        (
            json!({"a": {"b": [1], "c": [2]}}),
            &[
                r#"{"a":[{"b":9},{"b":1,"c":[3,2]}]}"#,
                r#"{"a":[[{"b":1,"c":2}]]}"#,
            ],
            &[
                r#"{"a":[{"b":1},{"c":2}]}"#,
                r#"{"a":[]}"#,
                r#"{"a":[1,2]}"#,
            ],
        ),
        (
            json!({"a": {"b": {"c": [1], "d": [2]}}}),
            &[r#"{"a":[{"b":[{"c":1,"d":2}]}]}"#],
            &[r#"{"a":[{"b":{"c":1}},{"b":{"d":2}}]}"#],
        ),
        // What must be missing must be missing in all elements, or in the one that has the rest.
        (
            json!({"a": {"b": [{"exists": false}]}}),
            &[
                "{}",
                r#"{"a":1}"#,
                r#"{"a":[]}"#,
                r#"{"a":[{"c":1}]}"#,
                r#"{"a":[1]}"#,
            ],
            &[r#"{"a":[{"c":1},{"b":1}]}"#, r#"{"a":{"b":null}}"#],
        ),
        (
            json!({"a": {"b": [{"exists": false}], "c": [1]}}),
            &[r#"{"a":[{"c":1},{"b":1}]}"#],
            &[r#"{"a":[{"c":1,"b":1}]}"#, r#"{"a":[{"c":2}]}"#],
        ),
        (
            json!({"$or": [{"a": [1]}, {"b": [2], "c": [3]}], "d": [4]}),
            &[r#"{"a":1,"d":4}"#, r#"{"b":2,"c":3,"d":4}"#],
            &[r#"{"a":1}"#, r#"{"b":2,"d":4}"#, r#"{"d":4}"#],
        ),
        (
            json!({"x": {"$or": [{"a": [1]}, {"$or": [{"b": [1]}, {"b": [{"exists": false}]}]}]}}),
            &[r#"{"x":{"a":1,"b":7}}"#, "{}"],
            &[r#"{"x":{"b":7}}"#],
        ),
        // Of duplicate keys the last one counts.
        (
            json!({"a": {"b": [1]}}),
            &[r#"{"a":{"b":2},"a":{"b":1}}"#, r#"{"a":{"b":2,"b":1}}"#],
            &[r#"{"a":{"b":1},"a":{"b":2}}"#, r#"{"a":{"b":1},"a":7}"#],
        ),
        (
            json!({"labels": {"app.kubernetes.io/name": ["x"]}}),
            &[r#"{"labels":{"app.kubernetes.io/name":"x"}}"#],
            &[r#"{"labels":{"app":"x"}}"#],
        ),
        (json!({"a\"b": [1]}), &[r#"{"a\u0022b":1}"#], &[]),
        // What a dotted key leads through is no value.
        (
            json!({"$or": [{"a": [{"exists": true}]}, {"a": {"b": [9]}}]}),
            &[r#"{"a":1}"#, r#"{"a.b":9}"#],
            &[r#"{"a.b":1}"#],
        ),
        // A field against another one.
        (
            json!({"a": [{"compare-to": [">", "$.b.c"]}]}),
            &[
                r#"{"a":2,"b":{"c":1.5}}"#,
                r#"{"a":"b","b":{"c":"\u0061"}}"#,
                r#"{"a":[0,2],"b":{"c":1}}"#,
            ],
            &[
                r#"{"a":1,"b":{"c":1}}"#,
                r#"{"a":2,"b":{"c":"1"}}"#,
                r#"{"a":2}"#,
                r#"{"b":{"c":1}}"#,
                r#"{"a":2,"b":{"c":[1]}}"#,
            ],
        ),
        (
            json!({"a": [{"compare-to": ["=", "$.b[0]"]}]}),
            &[r#"{"a":1.0,"b":[1]}"#, r#"{"a":null,"b":[null]}"#],
            &[r#"{"a":1,"b":["1"]}"#, r#"{"a":1,"b":1}"#],
        ),
        (
            json!({"a": [{"compare-to": ["!=", "$.b"]}]}),
            &[r#"{"a":1,"b":2}"#, r#"{"a":1,"b":"1"}"#],
            &[r#"{"a":1,"b":1}"#, r#"{"a":1}"#],
        ),
        (
            json!({"a": [{"compare-to": ["<=", "$.b"]}, {"compare-to": [">=", "$.c"]}]}),
            &[r#"{"a":1,"b":1}"#, r#"{"a":1,"c":1}"#],
            &[r#"{"a":2,"b":1,"c":3}"#],
        ),
        // Operators of ours may name fields, also in $or.
        (
            json!({"$or": [{"contains": [1]}, {"all": [1]}, {"compare-to": [1]}]}),
            &[r#"{"all":1}"#, r#"{"contains":1}"#],
            &[r#"{"x":1}"#],
        ),
    ] {
        let compiled = Pattern::compile_for_any_json(&pattern)
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        for text in yes {
            assert!(
                matches_json(&compiled, text),
                "{pattern} should match {text}"
            );
        }
        for text in no {
            assert!(
                !matches_json(&compiled, text),
                "{pattern} should not match {text}"
            );
        }
    }
}

#[test]
fn a_cloudevent_has_its_attributes_at_the_top() {
    let event = |data: Option<Data>| {
        Event::builder("1", "/s", "order.paid")
            .subject("a.jpg")
            .attribute("n", ExtensionValue::Integer(7))
            .attribute("flag", ExtensionValue::Boolean(true))
            .data(data)
            .build()
            .unwrap()
    };
    let json = event(Some(
        Data::json(Bytes::from_static(
            br#" {"total": 5, "items": [{"sku": "a"}]} "#,
        ))
        .unwrap(),
    ));
    let text = event(Some(Data::text("hello".into())));
    let binary = event(Some(Data::binary(Bytes::from_static(br#"{"total":5}"#))));
    let broken = event(Some(Data::new_unchecked(
        pointsman_schemas::DataKind::Json,
        Bytes::from_static(br#"{"total":5,"#),
    )));
    let list = event(Some(
        Data::json(Bytes::from_static(br#"[{"total":4},{"total":5}]"#)).unwrap(),
    ));
    let none = event(None);
    for (pattern, expect) in [
        (
            json!({"type": [{"prefix": "order."}], "specversion": ["1.0"], "subject": [{"suffix": ".jpg"}]}),
            [true; 6],
        ),
        (json!({"n": [7], "flag": [true]}), [true; 6]),
        (json!({"n": ["7"]}), [false; 6]),
        (json!({"time": [{"exists": false}]}), [true; 6]),
        (
            json!({"data": {"total": [5]}}),
            [true, false, false, false, true, false],
        ),
        (
            json!({"data.total": [{"numeric": [">", 4]}], "type": ["order.paid"]}),
            [true, false, false, false, true, false],
        ),
        (
            json!({"data": {"items": {"sku": ["a"]}}}),
            [true, false, false, false, false, false],
        ),
        (
            json!({"data": [{"prefix": "he"}]}),
            [false, true, false, false, false, false],
        ),
        (
            json!({"data": {"total": [{"exists": false}]}}),
            [false, true, true, true, false, true],
        ),
        (
            json!({"$or": [{"data": {"total": [5]}}, {"subject": ["x"]}]}),
            [true, false, false, false, true, false],
        ),
    ] {
        let compiled = Pattern::compile(&pattern).unwrap_or_else(|problems| panic!("{problems:?}"));
        let found = [&json, &text, &binary, &broken, &list, &none]
            .map(|event| compiled.matches(&Document::event(event), &mut Scratch::default()));
        assert_eq!(found, expect, "{pattern}");
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let problems = |pattern: Value| match Pattern::compile(&pattern) {
        Ok(compiled) => compiled
            .warnings()
            .iter()
            .map(|problem| format!("warning: {problem}"))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(problems) => problems
            .iter()
            .map(|problem| {
                format!(
                    "{}{problem}",
                    if problem.warning { "warning: " } else { "" }
                )
            })
            .collect::<Vec<_>>()
            .join("\n"),
    };
    insta::assert_snapshot!(problems(json!({
        "type": "order.paid", "detail-type": ["x"], "detail": {"a": [1]}, "Source": ["x"], "sourc": ["x"], "subject": {"prefix": "a"}, "data_base64": ["x"], "n.m": [1],
        "data": {
            "a": 5, "b": [], "c": {}, "d": [["x"]], "e": [{"prefx": "a"}], "f": [{"PREFIX": "a"}], "g": [{"prefix": "a", "suffix": "b"}], "h": [{"prefix": 5}], "i": [{}], "j": {"prefix": "x"},
            "k": [{"exists": "yes"}], "l": [{"cidr": "10.0.0.0/33"}], "m": [{"wildcard": "a**b"}], "n": [{"wildcard": r"a\b"}]
        },
    })), @r##"
        detail-type: a CloudEvent has no "detail-type" (`detail-type` is `type` here: a pattern is held against a CloudEvent)
        detail: a CloudEvent has no "detail" (`detail` is `data` here: a pattern is held against a CloudEvent)
        Source: "Source" is not the name of an attribute: those are made of a-z and 0-9 (write source; fields of the data stand under `data`)
        warning: sourc: "sourc" is taken as an extension attribute (was source meant?)
        data_base64: a CloudEvent has no "data_base64" (binary data is not looked into; match on attributes)
        n.m: the attribute "n" has no fields (fields of the data stand under `data`)
        type: what a field may be stands in a list (write [order.paid])
        subject.prefix: what a field may be stands in a list (an operator stands in a list too: write [{ prefix: "a" }])
        data.a: what a field may be stands in a list (write [5])
        data.b: an empty list matches nothing (list what the field may be)
        data.c: an empty object matches nothing (write [{ exists: true }] to ask for the field alone)
        data.d[0]: a list inside the list of alternatives (write its values into the outer list)
        data.e[0].prefx: there is no operator "prefx" (write prefix)
        data.f[0].PREFIX: there is no operator "PREFIX" (write prefix)
        data.g[0].suffix: an operator stands alone in its object (write one object each for alternatives; where one value must fit both, write [{ all: [{ … }, { … }] }])
        data.h[0].prefix: this operator takes a text (write "5")
        data.i[0]: an operator is missing (one of prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric, cidr, exists, contains, all, compare-to)
        data.j.prefix: what a field may be stands in a list (an operator stands in a list too: write [{ prefix: "x" }])
        data.k[0].exists: exists takes true or false (write { exists: true })
        data.l[0].cidr: 33 is longer than the address, which has 32 bits (write 10.0.0.0/8 or 2001:db8::/32)
        data.m[0].wildcard: two stars in a row mean no more than one; write *
        data.n[0].wildcard: in a wildcard a backslash stands before * or \ only; write \\ for a backslash
        "##);
    insta::assert_snapshot!(problems(json!({
        "data": {
            "a": [{"anything-but": [1, "x"]}], "b": [{"anything-but": []}], "c": [{"anything-but": null}], "d": [{"anything-but": {"prefix": ""}}], "e": [{"anything-but": {"prefix": {"equals-ignore-case": "x"}}}],
            "f": [{"anything-but": {"sufix": "x"}}], "g": [{"anything-but": {"suffix": [1, ".x"]}}],
            "h": [{"numeric": [">", "1"]}], "i": [{"numeric": ["<", 5, ">", 1]}], "j": [{"numeric": [">", 5, "<", 1]}], "k": [{"numeric": [">"]}], "l": [{"numeric": 5}], "m": [{"numeric": ["=", 1, "<", 2]}],
            "n": [{"prefix": {"wildcard": "x"}}], "o": [{"suffix": {"equals-ignore-case": 1}}], "$or": [{"x": [1]}], "p": {"$or": [{"prefix": ["a"]}, [], {"q": 1}]}, "q.r": [1], "q": {"r": [2]},
        },
    })), @r##"
        data.a[0].anything-but: anything-but takes either texts or numbers, not both
        data.b[0].anything-but: the list is empty
        data.c[0].anything-but: anything-but takes texts or numbers
        data.d[0].anything-but.prefix: every text begins and ends with the empty text, so this matches no text
        data.e[0].anything-but.prefix: this operator takes a text
        data.f[0].anything-but.sufix: anything-but does not take "sufix" (write suffix)
        data.g[0].anything-but.suffix[0]: this operator takes a text (write "1")
        data.h[0].numeric[1]: numeric compares with a number (write 1 without quotes)
        data.i[0].numeric[0]: "<" is not a comparison that can stand here (write ["=", 5], [">", 0], or [">", 0, "<=", 5])
        data.j[0].numeric: no number lies between these bounds (the lower bound comes first)
        data.k[0].numeric: numeric takes a comparison and a number, or a lower and an upper bound (write ["=", 5], [">", 0], or [">", 0, "<=", 5])
        data.l[0].numeric: numeric takes a comparison and a number, or a lower and an upper bound (write ["=", 5], [">", 0], or [">", 0, "<=", 5])
        data.m[0].numeric[0]: "=" is not a comparison that can stand here (write ["=", 5], [">", 0], or [">", 0, "<=", 5])
        data.n[0].prefix: this operator takes a text or { equals-ignore-case: text }
        data.o[0].suffix.equals-ignore-case: this operator takes a text (write "1")
        data.$or: $or takes a list of at least two patterns (write $or: [{ a: [1] }, { b: [2] }])
        data.p.$or[0].prefix: "prefix" is an operator and cannot name a field inside $or (write the field's name before it: { field: [{ prefix: … }] })
        data.p.$or[1]: each alternative of $or is a pattern (write { field: [value] })
        data.p.$or[2].q: what a field may be stands in a list (write [1])
        data.q: "r" is tested twice (put all alternatives into one list)
        "##);
    insta::assert_snapshot!(problems(json!({
        "data": {
            "a": [{"all": [{"prefix": "a"}]}], "b": [{"all": {"prefix": "a", "suffix": "b"}}], "c": [{"all": [{"prefix": "a"}, "ab"]}], "d": [{"all": [{"prefix": "a"}, {"exists": false}]}],
            "e": [{"all": [{"prefix": 1}, {"sufix": "b"}]}], "f": [{"compare-to": "$.data.a"}], "g": [{"compare-to": ["==", "$.data.*"]}], "h": [{"compare-to": [">", "data.a"]}],
            "$or": [{"date-after": ["x"]}, {"not-wildcard": ["x"]}],
        },
    })), @r##"
        data.a[0].all: all takes a list of at least two operators (write [{ prefix: a }, { suffix: z }])
        data.b[0].all: all takes a list of at least two operators (write [{ prefix: a }, { suffix: z }])
        data.c[0].all[1]: a value stands alone: nothing else fits what equals it
        data.d[0].all[1]: what does not exist fits no other operator
        data.e[0].all[0].prefix: this operator takes a text (write "1")
        data.e[0].all[1].sufix: there is no operator "sufix" (write suffix)
        data.f[0].compare-to: compare-to takes a comparison and the path of another field (write [">", "$.data.limit"])
        data.g[0].compare-to[0]: "==" is no comparison (one of =, !=, <, <=, >, >=)
        data.g[0].compare-to[1]: the path can find more than one value (name each step: $.data.items[0].total)
        data.h[0].compare-to[1]: this is not a JSONPath query (RFC 9535) (a query begins with $: write $.data.a)
        data.$or[0].date-after: "date-after" is an operator and cannot name a field inside $or (write the field's name before it: { field: [{ date-after: … }] })
        data.$or[1].not-wildcard: "not-wildcard" is an operator and cannot name a field inside $or (write the field's name before it: { field: [{ not-wildcard: … }] })
        "##);
    insta::assert_snapshot!(problems(json!({})), @"the pattern is empty (leave it out to take every event)");
    insta::assert_snapshot!(problems(json!(["x"])), @"a pattern is an object of fields (write { type: [order.paid] })");
    insta::assert_snapshot!(problems(json!({"typ": ["x"], "partitionkey": ["x"]})), @r#"warning: typ: "typ" is taken as an extension attribute (was type meant?)"#);
    let deep = (0..200).fold(json!([1]), |inner, _| json!({ "a": inner }));
    assert!(problems(json!({ "data": deep })).contains("nested deeper"));
    assert!(
        problems(json!({ format!("data{}", ".a".repeat(100_000)): [1] })).contains("nested deeper")
    );
    let many = |count: usize| json!({"data": {"a": [{"anything-but": {"prefix": vec!["x"; count / 2]}}], "b": vec!["x"; count - count / 2 - 1]}});
    assert_eq!(problems(many(10_000)), "");
    assert_eq!(
        problems(many(10_001)),
        "the pattern lists 10001 values; at most 10000 are taken (split the rule, or compare by a prefix or a range)"
    );
    let ors: Vec<_> = (0..8)
        .map(|index| json!({"$or": [{ format!("a{index}"): [1] }, {"b": [1]}, {"c": [1]}]}))
        .collect();
    let nested = ors
        .into_iter()
        .enumerate()
        .map(|(index, or)| (format!("k{index}"), or))
        .collect::<serde_json::Map<_, _>>();
    assert!(problems(json!({ "data": nested })).contains("more than 1000 combinations"));
}

/// What [`super::evaluate`] does, over a tree and as plainly as can be: whether a part holds, and
/// if so whether by what is there.
fn reference(pattern: &Value, value: Option<&Value>) -> Option<bool> {
    let absent = || reference_all(pattern, |_| None);
    match value {
        Some(value @ Value::Object(_)) => reference_all(pattern, |key| value.get(key)),
        Some(Value::Array(list)) => {
            let each: Vec<_> = list
                .iter()
                .map(|item| reference(pattern, Some(item)))
                .collect();
            if each.contains(&Some(true)) {
                Some(true)
            } else if each.contains(&None) {
                None
            } else {
                absent()
            }
        }
        _ => absent(),
    }
}

fn reference_all<'v>(
    pattern: &Value,
    get: impl Fn(&str) -> Option<&'v Value> + Copy,
) -> Option<bool> {
    pattern
        .as_object()
        .unwrap()
        .iter()
        .try_fold(false, |present, (key, part)| {
            let holds = match part {
                Value::Array(alternatives) if key == "$or" => alternatives
                    .iter()
                    .map(|alternative| reference_all(alternative, get))
                    .max()
                    .unwrap(),
                Value::Array(operators) => reference_leaf(operators, get(key)),
                group => reference(group, get(key)),
            };
            holds.map(|holds| present || holds)
        })
}

fn reference_leaf(operators: &[Value], value: Option<&Value>) -> Option<bool> {
    fn scalars<'v>(value: Option<&'v Value>, found: &mut Vec<&'v Value>) {
        match value {
            Some(Value::Array(list)) => list.iter().for_each(|item| scalars(Some(item), found)),
            Some(Value::Object(_)) | None => {}
            Some(scalar) => found.push(scalar),
        }
    }
    let mut found = Vec::new();
    scalars(value, &mut found);
    let fits = |operator: &Value, scalar: &Value| match operator
        .as_object()
        .map(|map| map.iter().next().unwrap())
    {
        None => operator == scalar,
        Some((name, operand)) if name == "exists" => operand == true,
        Some((_, operand)) => operand != scalar,
    };
    if found
        .iter()
        .any(|scalar| operators.iter().any(|operator| fits(operator, scalar)))
    {
        Some(true)
    } else {
        (found.is_empty() && operators.contains(&json!({"exists": false}))).then_some(false)
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;
    use crate::{Filter, Origin, OriginSet, Rule, RuleSet};

    fn key() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "c"]).prop_map(Into::into)
    }

    fn any_document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (0..3).prop_map(Value::from),
            Just(Value::Null),
            Just(json!([])),
            Just(json!({}))
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key(), inner), 1..4).prop_map(|members| members
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    fn any_pattern() -> impl Strategy<Value = Value> {
        let operator = prop_oneof![
            (0..3).prop_map(Value::from),
            any::<bool>().prop_map(|value| json!({ "exists": value })),
            (0..3).prop_map(|number| json!({ "anything-but": number })),
        ];
        let group = |part: BoxedStrategy<Value>| {
            prop::collection::vec((key(), part), 1..3).prop_map(|members| {
                members
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            })
        };
        let leaf = group(
            prop::collection::vec(operator, 1..3)
                .prop_map(Value::from)
                .boxed(),
        );
        leaf.prop_recursive(3, 16, 3, move |inner| {
            prop_oneof![
                3 => group(inner.clone().boxed()),
                1 => (inner.clone(), inner)
                    .prop_map(|(left, right)| json!({ "$or": [left, right] })),
            ]
        })
    }

    proptest! {
        #[test]
        fn patterns_agree_with_the_reference(patterns in prop::collection::vec(any_pattern(), 1..4), document in any_document()) {
            let expect: Vec<bool> = patterns.iter().map(|pattern| reference(pattern, Some(&document)).is_some()).collect();
            let text = document.to_string();
            let mut scratch = Scratch::default();
            for (pattern, expect) in patterns.iter().zip(&expect) {
                let compiled = Pattern::compile_for_any_json(pattern).unwrap();
                prop_assert_eq!(compiled.matches(&Document::json(text.as_bytes()).unwrap(), &mut scratch), *expect, "{} {}", pattern, text);
            }
            // The same as an event's data, all patterns in one set.
            let rules = patterns.iter().map(|pattern| Rule { from: OriginSet::all_but(&[]), filter: Filter::from(Pattern::compile(&json!({ "data": pattern })).unwrap()) });
            let event = Event::builder("1", "/s", "t").data(Data::json(Bytes::from(text)).unwrap()).build().unwrap();
            let mut out = Vec::new();
            RuleSet::compile(rules.collect()).matches_into(Origin(0), &event, &mut scratch, &mut out);
            let found: Vec<bool> = (0..).zip(&patterns).map(|(index, _)| out.contains(&index)).collect();
            prop_assert_eq!(found, expect);
        }
    }
}
