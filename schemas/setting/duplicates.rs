//! What is a duplicate.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::Interval;

/// `deduplicate`, of a source, a rule or the HTTP ingress.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Deduplicate")]
pub struct Duplicates {
    /// The key of an event, a text with templates over it as it came: two of one key are
    /// duplicates. An event in which it finds nothing is none.
    #[schemars(schema_with = "key_text", required)]
    pub by: Option<String>,
    /// How long a key is remembered, up to 366 days; `24h` by default.
    pub window: Option<Interval>,
}

fn key_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "examples": ["<$.id>", "<$.source>/<$.data.order>"],
        "type": "string",
        "pattern": "<\\$",
    })
}
