//! The JSON Schema of the rule file: composed of the raw structs' own and of the connectors'.

use pointsman_connectors::http::ListenSettings;
use pointsman_connectors::{CONNECTORS, Connector};
use pointsman_rules::transform::RawAttributes;
use pointsman_schemas::Name;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::raw::{RawAdmin, RawDelivery, RawRule, RawStore, RawTest};

/// The schema, in the draft 2020-12.
#[must_use]
pub fn rule_file() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let event = ("event", generator.subschema_for::<RawAttributes>());
    let delivery = ("delivery", generator.subschema_for::<RawDelivery>());
    let source = entity(&mut generator, event, |connector, generator| connector.source.as_ref().map(|kind| (kind.schema)(generator)));
    let target = entity(&mut generator, delivery, |connector, generator| connector.target.as_ref().map(|kind| (kind.schema)(generator)));
    let properties = json!({
        "listen": generator.subschema_for::<ListenSettings>(),
        "admin": generator.subschema_for::<RawAdmin>(),
        "store": generator.subschema_for::<RawStore>(),
        "tenant": generator.subschema_for::<Name>(),
        "sources": named("Where events come from; the HTTP ingress is always there.", source),
        "targets": named("Where events go.", target),
        "rules": named("Which events go where.", generator.subschema_for::<RawRule>().into()),
        "tests": {
            "description": "What the rules are expected to do; run by `pointsman test`.",
            "type": ["object", "null"],
            "additionalProperties": generator.subschema_for::<RawTest>(),
        },
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pointsman rule file",
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

/// A section: a mapping of names.
fn named(description: &str, entity: Value) -> Value {
    json!({
        "description": description,
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[a-z0-9-]{1,63}$" },
        "additionalProperties": entity,
    })
}

/// A source or a target: one connector's settings under its name, beside what all have.
fn entity(
    generator: &mut SchemaGenerator,
    (option, schema): (&str, Schema),
    side: impl Fn(&Connector, &mut SchemaGenerator) -> Option<Schema>,
) -> Value {
    let mut properties = Map::from_iter([(option.to_owned(), schema.into())]);
    let mut kinds = Vec::new();
    for connector in CONNECTORS {
        if let Some(schema) = side(connector, generator) {
            properties.insert(connector.kind.to_owned(), schema.into());
            kinds.push(json!({ "required": [connector.kind] }));
        }
    }
    json!({ "type": "object", "properties": properties, "oneOf": kinds, "additionalProperties": false })
}
