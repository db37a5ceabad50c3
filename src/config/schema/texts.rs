//! The schemas of texts in rules: names, conditions, paths, templates, and the event of a test.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use pointsman_connectors::listener::ADDRESS_PATTERN;

use super::{NAME, described};
use crate::config::raw::RawDelivery;

described! {
    /// The name of a source.
    SourceName("SourceName", |_generator| json_schema!({
        "description": "The name of a source; `ingress` is the HTTP one, `replies` what targets \
                        answered.",
        "type": "string",
        "pattern": NAME,
    }))
}

described! {
    /// The name of a target.
    TargetName("TargetName", |_generator| json_schema!({
        "description": "The name of a target.",
        "type": "string",
        "pattern": NAME,
    }))
}

described! {
    /// The name of a rule or a pipe.
    RuleName("RuleName", |_generator| json_schema!({
        "description": "The name of a rule or a pipe.",
        "type": "string",
        "pattern": NAME,
    }))
}

described! {
    /// An address to listen on.
    Address("Address", |_generator| json_schema!({
        "description": "host:port",
        "examples": ["127.0.0.1:8080"],
        "type": "string",
        "pattern": ADDRESS_PATTERN,
    }))
}

/// Outside of quotes an equals sign stands in one of `==`, `!=`, `<=` and `>=`.
const TWO_EQUALS: &str =
    r#"^(?:[^=!<>'"]|[=!<>]=|[!<>](?!=)|'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*")*$"#;

described! {
    /// `where`.
    ConditionText("Condition", |_generator| json_schema!({
        "description": "A JSONPath query, which holds where it finds something, or a logical \
                        expression; both are rooted at `$`, the event.",
        "examples": ["$.data.total > 100 && $.data.status == 'paid'", "$.data.items[?@.price > 5]"],
        "type": "string",
        "pattern": "\\$",
        "allOf": [{ "pattern": TWO_EQUALS }],
    }))
}

described! {
    /// `order_by`.
    PathText("Path", |_generator| json_schema!({
        "description": "A JSONPath over the event.",
        "examples": ["$.subject", "$.data.customer"],
        "type": "string",
        "pattern": "^\\s*\\$",
    }))
}

described! {
    /// `delivery` of a rule, a pipe or a `to` entry: concurrency and rate belong to the target
    /// alone.
    RuleDelivery("RuleDelivery", |generator| {
        let mut schema = RawDelivery::json_schema(generator);
        if let Some(properties) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
            properties.retain(|key, _| key != "concurrency" && key != "rate");
        }
        schema
    })
}

described! {
    /// `event` of a test.
    TestEvent("TestEvent", |_generator| json_schema!({
        "description": "A CloudEvent in the JSON format; `specversion` may be left out. Or a text \
                        with its JSON.",
        "examples": [
            { "type": "order.paid", "source": "/shop", "id": "1", "data": { "total": 250 } },
        ],
        "type": ["object", "string"],
        "required": ["type", "source", "id"],
        "properties": {
            "type": { "type": "string", "minLength": 1 },
            "source": { "type": "string", "minLength": 1 },
            "id": { "type": "string", "minLength": 1, "description": "A text: quote a number." },
            "specversion": { "const": "1.0" },
            "data": { "description": "Any JSON." },
            "data_base64": { "type": "string" },
        },
        "patternProperties": { "^[a-z0-9]+$": true },
        "additionalProperties": false,
    }))
}

described! {
    /// `expect` of a test.
    Expected("Expected", |generator| json_schema!({
        "description": "Rules and pipes that fire, each with a part of the event that it makes, or \
                        `false` for one that does not; `{}` says that none does.",
        "examples": [{ "a-rule": { "data": { "total": 250 } } }],
        "type": "object",
        "propertyNames": generator.subschema_for::<RuleName>(),
        "additionalProperties": { "if": { "type": "object" }, "else": { "const": false } },
    }))
}
