//! The schema of event patterns, as `pointsman_rules` compiles them: what the compiler finds by the
//! shape alone.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::described;

described! {
    /// `match`: a pattern over a whole CloudEvent.
    EventPattern("EventPattern", |generator| {
        let (list, under) = (generator.subschema_for::<Alternatives>(), generator.subschema_for::<FieldPattern>());
        let attribute = |text: &str| {
            let mut schema = list.clone();
            schema.insert("description".to_owned(), text.into());
            schema
        };
        json_schema!({
            "description": "An event pattern over the whole CloudEvent: every key must match, a \
                            list holds alternatives. Fields of the data stand under `data`.",
            "examples": [
                { "type": ["order.paid"], "data": { "total": [{ "numeric": [">", 100] }] } },
                {
                    "type": [{ "prefix": "com.amazonaws.s3.ObjectCreated" }],
                    "subject": [{ "suffix": ".jpg" }],
                },
            ],
            "type": "object",
            "minProperties": 1,
            "properties": {
                "type": attribute("What kind of event it is, such as order.paid."),
                "source": attribute("Where it comes from, as the sender names it."),
                "id": list,
                "subject": attribute("What it is about, such as a key or a path."),
                "time": list,
                "datacontenttype": list,
                "dataschema": list,
                "specversion": list,
                "data": under,
                "$or": {
                    "description": "At least one of these patterns matches.",
                    "type": "array",
                    "minItems": 2,
                    "items": { "$ref": "#/$defs/EventPattern" },
                },
                // EventBridge's name for the data.
                "detail": false,
            },
            "patternProperties": { "^data\\.": under, "^(?!data$)[a-z0-9]+$": list },
            "additionalProperties": false,
        })
    })
}

described! {
    /// What a field of the data may be: a list, or fields under it.
    FieldPattern("FieldPattern", |generator| {
        let list = generator.subschema_for::<Alternatives>();
        json_schema!({
            "description": "A list of alternatives, or the fields under this one.",
            "type": ["array", "object"],
            "if": { "type": "array" },
            "then": list,
            "minProperties": 1,
            "properties": {
                "$or": {
                    "type": "array",
                    "minItems": 2,
                    "items": { "type": "object", "$ref": "#/$defs/FieldPattern" },
                },
            },
            "additionalProperties": { "$ref": "#/$defs/FieldPattern" },
        })
    })
}

described! {
    /// A list of values and operators, one of which must fit.
    Alternatives("Alternatives", |generator| json_schema!({
        "description": "Alternatives: a text, a number, true, false, null, or an operator such as \
                        { prefix: a }.",
        "type": "array",
        "minItems": 1,
        "items": generator.subschema_for::<Operator>(),
    }))
}

described! {
    /// One of the alternatives.
    Operator("Operator", |_generator| {
        let text = json_schema!({ "type": "string" });
        let folded = json_schema!({
            "type": "object",
            "properties": { "equals-ignore-case": text },
            "required": ["equals-ignore-case"],
            "additionalProperties": false,
        });
        let cased = json_schema!({ "if": { "type": "object" }, "then": folded, "else": text });
        let many = json_schema!({
            "type": ["string", "array"],
            "minItems": 1,
            "minLength": 1,
            "items": { "type": "string", "minLength": 1 },
        });
        json_schema!({
            "description": "A value that the field equals, or one operator.",
            // What is said of properties holds for objects alone.
            "type": ["string", "number", "boolean", "null", "object"],
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {
                "prefix": cased,
                "suffix": cased,
                "equals-ignore-case": text,
                "contains": text,
                "wildcard": {
                    "type": "string",
                    "description": "A text in which * stands for any characters.",
                },
                "exists": { "type": "boolean", "description": "Whether the field is there." },
                "cidr": {
                    "type": "string",
                    "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$",
                    "description": "A range of addresses such as 10.0.0.0/8.",
                },
                "numeric": {
                    "description": "A comparison and a number, or a lower and an upper bound.",
                    "examples": [[">", 0], [">=", 18, "<", 65]],
                    "type": "array",
                    "oneOf": [
                        {
                            "prefixItems": [
                                { "enum": ["=", "<", "<=", ">", ">="] },
                                { "type": "number" },
                            ],
                            "minItems": 2,
                            "maxItems": 2,
                        },
                        {
                            "prefixItems": [
                                { "enum": [">", ">="] },
                                { "type": "number" },
                                { "enum": ["<", "<="] },
                                { "type": "number" },
                            ],
                            "minItems": 4,
                            "maxItems": 4,
                        },
                    ],
                },
                "anything-but": {
                    "description": "None of these: a text or a number, a list of texts or of \
                                    numbers, or one of prefix, suffix, equals-ignore-case and \
                                    wildcard.",
                    "type": ["string", "number", "array", "object"],
                    "minItems": 1,
                    "anyOf": [
                        { "not": { "type": "array" } },
                        { "items": { "type": "string" } },
                        { "items": { "type": "number" } },
                    ],
                    "minProperties": 1,
                    "maxProperties": 1,
                    "properties": {
                        "prefix": many,
                        "suffix": many,
                        "equals-ignore-case": many,
                        "wildcard": many,
                    },
                    "additionalProperties": false,
                },
                "all": {
                    "description": "Operators that one value must fit together.",
                    "type": "array",
                    "minItems": 2,
                    "items": { "type": "object", "$ref": "#/$defs/Operator" },
                },
                "compare-to": {
                    "description": "A comparison and the path of another field of the event.",
                    "examples": [[">", "$.data.limit"]],
                    "type": "array",
                    "prefixItems": [
                        { "enum": ["=", "!=", "<", "<=", ">", ">="] },
                        { "type": "string", "pattern": "^\\$" },
                    ],
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
            "additionalProperties": false,
        })
    })
}
