//! `schemas`: what the data of events has to be, by their type.

use std::borrow::Cow;
use std::path::{Component, Path};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::schema::described;
use super::yaml;
use crate::router::OnMismatch;

/// A file that a schema was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// Its path as the rule files have it: relative to the folder of the first of them.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// One of `schemas`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EventSchema")]
pub struct RawEventSchema {
    /// The file that has it, in JSON or YAML: a path below the folder of the rule file.
    pub file: Option<String>,
    /// The schema itself, in the place of a file.
    #[schemars(with = "Option<InlineSchema>")]
    pub schema: Option<Value>,
    /// What becomes of an event for whose data it does not hold: `refuse` (the default), `mark` or
    /// `dead_letter`.
    pub on_mismatch: Option<OnMismatch>,
}

/// The files of schemas that a rule file names; none where it cannot be read.
#[must_use]
pub fn schema_files_of(text: &str) -> Vec<String> {
    // Most rule files have none, and need not be read a second time to find that out.
    if !text.contains("schemas") {
        return Vec::new();
    }
    let Ok(root) = yaml::read(text) else {
        return Vec::new();
    };
    let schemas = root
        .entry("schemas")
        .map_or(&[][..], |entry| entry.value.entries());
    let names = schemas
        .iter()
        .filter_map(|entry| entry.value.entry("file")?.value.text());
    names
        .filter(|name| is_below(Path::new(name)))
        .map(str::to_owned)
        .collect()
}

/// Whether a path leads to what is below the folder that it begins in.
pub(super) fn is_below(path: &Path) -> bool {
    let mut parts = path.components();
    !path.as_os_str().is_empty()
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

described!(
    /// A schema in the rule file.
    InlineSchema("InlineSchema", |_generator| json_schema!({
        "description": "A JSON Schema of the data, draft 2020-12.",
        "type": ["object", "boolean"],
    }))
);
