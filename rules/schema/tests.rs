use pointsman_schemas::Data;
use serde_json::json;

use super::*;

fn compiled(schema: &Value) -> EventSchema {
    EventSchema::compile(schema).unwrap_or_else(|problems| panic!("{schema}: {problems:?}"))
}

/// For each keyword of the draft a schema, data that fits, and data that does not.
#[test]
fn the_keywords_of_the_draft_hold() {
    let table = [
        (
            json!({ "type": "integer" }),
            json!([1, 1.0, -7]),
            json!([1.5, "1", null]),
        ),
        (
            json!({ "type": ["string", "null"] }),
            json!(["", null]),
            json!([0, [], {}]),
        ),
        (
            json!({ "enum": [1, "a", null, [2]] }),
            json!([1, 1.0, "a", null, [2]]),
            json!([2, "b", [1]]),
        ),
        (
            json!({ "const": { "a": 1, "b": 2 } }),
            json!([{ "b": 2, "a": 1.0 }]),
            json!([{ "a": 1 }]),
        ),
        (
            json!({ "multipleOf": 0.01 }),
            json!([4.35, 0, "x"]),
            json!([0.005]),
        ),
        (
            json!({ "minimum": 1, "exclusiveMaximum": 3 }),
            json!([1, 2.9]),
            json!([0.9, 3]),
        ),
        (
            json!({ "minLength": 1, "maxLength": 2 }),
            json!(["a", "\u{1F600}\u{1F600}"]),
            json!(["", "abc"]),
        ),
        (
            json!({ "pattern": "^a+$" }),
            json!(["aa", 1]),
            json!(["ba", ""]),
        ),
        (
            json!({ "items": { "type": "number" }, "minItems": 1 }),
            json!([[1], "x"]),
            json!([[], ["a"]]),
        ),
        (
            json!({ "prefixItems": [{ "const": 1 }], "items": false }),
            json!([[1], []]),
            json!([[2], [1, 2]]),
        ),
        (
            json!({ "uniqueItems": true }),
            json!([[1, true], [{ "a": 1 }, { "a": 2 }]]),
            json!([[1, 1.0], [{ "a": 1, "b": 2 }, { "b": 2, "a": 1 }]]),
        ),
        (
            json!({ "contains": { "const": 1 }, "minContains": 2, "maxContains": 2 }),
            json!([[1, 1]]),
            json!([[1], [1, 1, 1]]),
        ),
        (
            json!({ "required": ["a"], "maxProperties": 1 }),
            json!([{ "a": null }]),
            json!([{}, { "a": 1, "b": 1 }]),
        ),
        (
            json!({ "properties": { "a": { "type": "null" } }, "additionalProperties": false }),
            json!([{ "a": null }, {}]),
            json!([{ "a": 1 }, { "b": null }]),
        ),
        (
            json!({ "patternProperties": { "^x": { "type": "number" } } }),
            json!([{ "x1": 1, "y": "" }]),
            json!([{ "x1": "" }]),
        ),
        (
            json!({ "propertyNames": { "maxLength": 1 } }),
            json!([{ "a": 1 }]),
            json!([{ "ab": 1 }]),
        ),
        (
            json!({ "dependentRequired": { "a": ["b"] } }),
            json!([{ "a": 1, "b": 1 }, { "b": 1 }]),
            json!([{ "a": 1 }]),
        ),
        (
            json!({ "dependentSchemas": { "a": { "required": ["b"] } } }),
            json!([{ "b": 1 }]),
            json!([{ "a": 1 }]),
        ),
        (
            json!({ "if": { "type": "string" }, "then": { "minLength": 1 }, "else": { "minimum": 0 } }),
            json!(["a", 0]),
            json!(["", -1]),
        ),
        (
            json!({ "allOf": [{ "minimum": 1 }, { "maximum": 2 }] }),
            json!([1, 2]),
            json!([0, 3]),
        ),
        (
            json!({ "anyOf": [{ "type": "string" }, { "minimum": 5 }] }),
            json!(["a", 5]),
            json!([4]),
        ),
        (
            json!({ "oneOf": [{ "multipleOf": 2 }, { "multipleOf": 3 }] }),
            json!([2, 3]),
            json!([6, 5]),
        ),
        (
            json!({ "not": { "type": "string" } }),
            json!([1]),
            json!(["a"]),
        ),
        (
            json!({ "$ref": "#/$defs/a~1b", "$defs": { "a/b": { "type": "string" } } }),
            json!(["x"]),
            json!([1]),
        ),
        (
            json!({ "properties": { "next": { "$ref": "#" } }, "required": ["v"] }),
            json!([{ "v": 1, "next": { "v": 2 } }]),
            json!([{ "v": 1, "next": {} }]),
        ),
        (
            json!({ "$ref": "#here", "$defs": { "a": { "$anchor": "here", "type": "string" } } }),
            json!(["x"]),
            json!([1]),
        ),
        (
            json!({ "$id": "https://example.com/a", "$ref": "b", "$defs": { "b": { "$id": "b", "type": "string" } } }),
            json!(["x"]),
            json!([1]),
        ),
        (
            json!({ "$dynamicRef": "#node", "$defs": { "a": { "$dynamicAnchor": "node", "type": "string" } } }),
            json!(["x"]),
            json!([1]),
        ),
        (
            json!({ "allOf": [{ "properties": { "a": true } }], "unevaluatedProperties": false }),
            json!([{ "a": 1 }]),
            json!([{ "b": 1 }]),
        ),
        (
            json!({ "prefixItems": [true], "unevaluatedItems": false }),
            json!([[1]]),
            json!([[1, 2]]),
        ),
        (
            json!({ "format": "date-time" }),
            json!(["2026-01-31T09:00:00Z", 1]),
            json!(["2026-01-31", "x"]),
        ),
        (
            json!({ "format": "uuid" }),
            json!(["2eb8aa08-aa98-11ea-b4aa-73b441d16380"]),
            json!(["2eb8aa08"]),
        ),
        (
            json!({ "format": "email" }),
            json!(["a@example.com"]),
            json!(["a"]),
        ),
        (
            json!({ "format": "ipv4" }),
            json!(["127.0.0.1"]),
            json!(["127.0.0.256"]),
        ),
        (
            json!({ "$ref": "https://json-schema.org/draft/2020-12/schema" }),
            json!([{ "type": "string" }, true]),
            json!([{ "type": 1 }]),
        ),
        (json!(true), json!([1, null]), json!([])),
        (json!(false), json!([]), json!([1, null])),
    ];
    for (schema, fits, does_not) in table {
        let compiled = compiled(&schema);
        for (values, is_fit) in [(fits, true), (does_not, false)] {
            for value in values.as_array().unwrap() {
                let checked = compiled.check_value(value);
                assert_eq!(checked.is_ok(), is_fit, "{schema} {value} {checked:?}");
            }
        }
    }
}

#[test]
fn what_an_event_carries_is_held_against_it() {
    let event = |data: Option<Data>| Event::builder("1", "/s", "t").data(data).build().unwrap();
    let json = |text: &'static str| Some(Data::json(text.into()).unwrap());
    let (numbers, anything) = (
        compiled(&json!({ "type": "number" })),
        compiled(&json!(true)),
    );
    let nothing = compiled(&json!({ "type": ["number", "null"] }));
    for (data, told, is_anything) in [
        (json("1"), None, true),
        (
            json("\"a\""),
            Some("/data: \"a\" is not of type \"number\""),
            true,
        ),
        (
            None,
            Some("the event has no data, which counts as null; /data: null is not of type"),
            true,
        ),
        (
            Some(Data::text("1".into())),
            Some("the data is text and not JSON"),
            false,
        ),
        (
            Some(Data::binary("1".into())),
            Some("the data is bytes and not JSON"),
            false,
        ),
    ] {
        let event = event(data);
        let checked = numbers
            .check(&event)
            .map_err(|mismatch| mismatch.to_string());
        match (checked, told) {
            (Ok(()), None) => {}
            (Err(mismatch), Some(told)) => assert!(mismatch.contains(told), "{mismatch}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(anything.check(&event).is_ok(), is_anything);
    }
    assert!(nothing.check(&event(None)).is_ok());
}

#[test]
fn what_is_wrong_is_told_in_a_line_however_large_it_is() {
    let schema =
        compiled(&json!({ "additionalProperties": { "type": "number" }, "maxProperties": 3 }));
    let names: Vec<String> = (0..1000)
        .map(|at| format!("{}\n{at}", "\u{e4}".repeat(300)))
        .collect();
    let large = names
        .iter()
        .map(|name| (name.clone(), json!(["x".repeat(5000)])));
    let told = schema
        .check_value(&Value::Object(large.collect()))
        .unwrap_err()
        .to_string();
    assert!(
        told.len() <= Mismatch::BYTES_MAX && told.ends_with("and more"),
        "{told}"
    );
    assert!(
        !told.contains(char::is_control) && !told.contains("xxx"),
        "{told}"
    );
}

/// A pattern on which an engine that tries everything takes longer than the world stands.
#[test]
fn no_text_takes_long() {
    let schema = compiled(&json!({ "pattern": "^(a+)+$" }));
    assert!(
        schema
            .check_value(&json!("a".repeat(50_000) + "b"))
            .is_err()
    );
}

#[test]
fn a_schema_that_leads_in_a_circle_is_held_against_data_all_the_same() {
    for circle in [
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
    ] {
        // Refused or not, nothing runs for ever.
        if let Ok(schema) = EventSchema::compile(&circle) {
            drop(schema.check_value(&json!({ "a": 1 })));
        }
    }
}

#[test]
fn data_as_deep_as_there_is_is_held_against_a_schema_of_itself() {
    let schema = compiled(&json!({
        "required": ["a"],
        "anyOf": [{ "properties": { "a": { "$ref": "#" } } }, { "$ref": "#/$defs/never" }],
        "$defs": { "never": false },
        "unevaluatedProperties": false,
    }));
    let depth = pointsman_schemas::event::JSON_DEPTH_MAX - 1;
    let nested = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let event = Event::builder("1", "/s", "t").data(Data::json(nested.into()).unwrap());
    assert!(schema.check(&event.build().unwrap()).is_ok());
}

#[test]
fn what_a_schema_surely_does_not_have_is_known() {
    let named = json!({ "properties": { "a": { "properties": { "b": true } }, "list": { "items": { "properties": { "x": true } } } } });
    let with = |key: &str, value: Value| {
        let mut schema = named.clone();
        schema[key] = value;
        schema
    };
    for (schema, names, expect) in [
        (named.clone(), "a.b", None),
        (named.clone(), "b", Some(0)),
        (named.clone(), "a.c", Some(1)),
        (named.clone(), "a.b.c", None),
        (named.clone(), "list.x", None),
        (named.clone(), "list.y", Some(1)),
        (with("additionalProperties", json!(false)), "b", Some(0)),
        (with("additionalProperties", json!(true)), "b", None),
        (
            with("additionalProperties", json!({ "type": "string" })),
            "b",
            None,
        ),
        (with("patternProperties", json!({ "^x": true })), "b", None),
        (with("unevaluatedProperties", json!(false)), "b", Some(0)),
        (
            with("allOf", json!([{ "properties": { "b": true } }])),
            "b",
            None,
        ),
        (
            with(
                "anyOf",
                json!([{ "required": ["a"] }, { "required": ["list"] }]),
            ),
            "b",
            Some(0),
        ),
        (
            json!({ "properties": { "a": true }, "$ref": "#/$defs/more", "$defs": { "more": { "properties": { "b": true } } } }),
            "b",
            None,
        ),
        (
            json!({ "$ref": "#/$defs/more", "$defs": { "more": named } }),
            "b",
            Some(0),
        ),
        (
            json!({ "$dynamicRef": "#x", "properties": { "a": true }, "$defs": { "x": { "$dynamicAnchor": "x" } } }),
            "b",
            None,
        ),
        (
            json!({ "anyOf": [{ "properties": { "a": true } }, { "type": "object" }] }),
            "b",
            None,
        ),
        (
            json!({ "anyOf": [{ "properties": { "a": true } }, { "type": "string" }] }),
            "b",
            Some(0),
        ),
        (
            json!({ "anyOf": [{ "properties": { "a": true } }, { "additionalProperties": true }] }),
            "a.b",
            None,
        ),
        (
            json!({ "if": { "properties": { "a": true } }, "then": { "properties": { "b": true } } }),
            "b",
            None,
        ),
        (json!({ "properties": { "a.b": true } }), "a.b", None),
        (
            json!({ "properties": { "a": { "type": "string" } } }),
            "a.b",
            Some(1),
        ),
        (
            json!({ "properties": { "a": { "type": "array" } } }),
            "a.b",
            None,
        ),
        (json!({ "type": "object" }), "b", None),
        (json!({}), "b", None),
        (json!(true), "b", None),
    ] {
        let compiled = compiled(&schema);
        let steps: Vec<_> = names.split('.').map(fields::Step::Name).collect();
        let lacking = compiled.lacking(&steps).map(|lacking| lacking.step);
        assert_eq!(lacking, expect, "{schema} {names}");
    }
}

/// Each holds against data of any depth within a moment, or is refused.
#[test]
fn what_leads_to_itself_by_several_ways_at_once_is_refused() {
    let of = |name: &str| json!({ "type": "object", "properties": { "a": { "$ref": "#" }, name: true } });
    let list = json!({ "items": { "$ref": "#" }, "type": "array" });
    for (schema, is_sound) in [
        (
            json!({ "anyOf": [of("b"), of("c"), { "const": 1 }] }),
            false,
        ),
        (
            json!({ "oneOf": [of("b"), { "$ref": "#/$defs/c" }], "$defs": { "c": of("c") } }),
            false,
        ),
        (json!({ "if": of("b"), "then": of("c") }), false),
        (json!({ "allOf": [list, list] }), false),
        (
            json!({ "items": { "$ref": "#" }, "contains": { "$ref": "#" }, "type": "array" }),
            false,
        ),
        (
            json!({ "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/a" }], "$defs": { "a": of("b") } }),
            false,
        ),
        (
            json!({ "$dynamicAnchor": "n", "anyOf": [{ "additionalProperties": { "$dynamicRef": "#n" } }, { "properties": { "a": { "$dynamicRef": "#n" } }, "type": "object" }] }),
            false,
        ),
        (json!({ "anyOf": [of("b"), { "const": 1 }] }), true),
        (
            json!({ "type": "object", "properties": { "a": { "$ref": "#" }, "b": { "$ref": "#" } }, "additionalProperties": { "$ref": "#" } }),
            true,
        ),
        (
            json!({ "type": ["object", "array"], "properties": { "a": { "$ref": "#" } }, "items": { "$ref": "#" } }),
            true,
        ),
        (
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } }, "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
            true,
        ),
        (
            json!({ "anyOf": [{ "properties": { "a": { "$ref": "#/$defs/x" } } }, { "properties": { "a": { "$ref": "#/$defs/x" } } }], "$defs": { "x": { "type": "string" } } }),
            true,
        ),
        (
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } }, "unevaluatedProperties": false }),
            true,
        ),
        (
            json!({ "$ref": "https://json-schema.org/draft/2020-12/schema" }),
            true,
        ),
    ] {
        let compiled = EventSchema::compile(&schema);
        assert_eq!(compiled.is_ok(), is_sound, "{schema} {compiled:?}");
        let Ok(compiled) = compiled else { continue };
        for (from, below) in [("{\"a\":", "}"), ("{\"not\":", "}"), ("[", "]")] {
            for inner in ["1", "\"x\"", "{}"] {
                let nested = format!("{}{inner}{}", from.repeat(100), below.repeat(100));
                let value = serde_json::from_str(&nested).unwrap();
                drop(compiled.check_value(&value));
            }
        }
    }
}
