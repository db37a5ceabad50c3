//! Templates for context attributes.

use std::borrow::Cow;

use indexmap::IndexMap;
use pointsman_schemas::event::EventBuilder;
use pointsman_schemas::{ExtensionValue, Problem, suggest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::TransformError;
use crate::document::{Document, Node};
use crate::json;
use crate::template::JsonTemplate;

/// Attributes by name, each with a template for its value, as a rule file holds them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct RawAttributes(pub IndexMap<String, Value>);

impl JsonSchema for RawAttributes {
    fn inline_schema() -> bool {
        false
    }
    fn schema_name() -> Cow<'static, str> {
        "Attributes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let unclosed = serde_json::json!({ "type": "string", "pattern": UNCLOSED });
        let value = |name: &str| {
            // Nobody takes a required one away.
            let types: &[&str] = if REQUIRED.contains(&name) {
                &["string", "number", "boolean"]
            } else {
                &["string", "number", "boolean", "null"]
            };
            serde_json::json!({ "type": types, "minLength": 1, "not": unclosed })
        };
        let mut named: serde_json::Map<_, _> = CORE
            .iter()
            .map(|name| ((*name).to_owned(), value(name)))
            .collect();
        named.extend(["specversion", "data"].map(|name| (name.to_owned(), false.into())));
        json_schema!({
            "description": "Context attributes by name, extensions included, each a value that may \
                            hold templates such as <$.data.id>.",
            "type": "object",
            "properties": named,
            "propertyNames": { "pattern": "^[a-z0-9]+$" },
            "additionalProperties": value(""),
        })
    }
}

/// A text with a `<$` that no `>` closes, for the JSON Schema; `<$$` stands for itself.
const UNCLOSED: &str = "<\\$([^$>][^>]*)?$";

/// The schema of any JSON with templates in its texts.
pub(super) struct TemplateJson;

impl JsonSchema for TemplateJson {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Any JSON, whose texts may hold templates such as <$.data.id>.",
            "not": { "type": "string", "pattern": UNCLOSED },
            "items": { "$ref": "#/$defs/Template" },
            "additionalProperties": { "$ref": "#/$defs/Template" },
        })
    }
}

/// `event` of a source as a rule file holds it: attributes by name, and `data`, each with its
/// templates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawMapping {
    /// What sets the attributes.
    pub attributes: RawAttributes,
    /// The new data, any JSON with templates in its texts.
    pub data: Option<Value>,
}

impl<'de> Deserialize<'de> for RawMapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut attributes = RawAttributes::deserialize(deserializer)?;
        let data = attributes.0.shift_remove("data");
        Ok(Self { attributes, data })
    }
}

impl JsonSchema for RawMapping {
    fn inline_schema() -> bool {
        false
    }
    fn schema_name() -> Cow<'static, str> {
        "EventMapping".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawAttributes::json_schema(generator);
        let mut data = generator.subschema_for::<TemplateJson>();
        data.insert(
            "description".to_owned(),
            "The new data, any JSON that may hold templates such as <$.body.detail>.".into(),
        );
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert("data".to_owned(), data.into());
        }
        schema
    }
}

/// The attributes of the specification that can be set. All of them are texts.
const CORE: [&str; 7] = [
    "type",
    "source",
    "subject",
    "id",
    "time",
    "datacontenttype",
    "dataschema",
];

const REQUIRED: [&str; 3] = ["id", "source", "type"];

/// What an attribute whose template finds nothing becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The attribute is taken away, and a required one is an error.
    Removes,
    /// The attribute stays as it was.
    Keeps,
}

/// Compiled attributes.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    templates: Vec<(Box<str>, JsonTemplate)>,
    pub(super) warnings: Vec<Problem>,
}

impl Attributes {
    pub(super) fn compile(raw: &RawAttributes) -> Result<Self, Vec<Problem>> {
        let (mut templates, mut problems) = (Vec::new(), Vec::new());
        for (name, value) in &raw.0 {
            problems.extend(check_name(name).map(|problem| problem.at(name.as_str())));
            if matches!(value, Value::Array(_) | Value::Object(_)) {
                let problem =
                    Problem::new("an attribute is a text, a number or a boolean").at(name.as_str());
                problems.push(problem.help("what has fields belongs into `data`"));
                continue;
            }
            if value.is_null() && REQUIRED.contains(&name.as_str()) {
                problems.push(
                    Problem::new(format!(
                        "every event has the attribute {name:?}; it cannot be taken away"
                    ))
                    .at(name.as_str()),
                );
            }
            if value == "" {
                problems.push(
                    Problem::new("an attribute cannot be empty")
                        .at(name.as_str())
                        .help("write null to take it away"),
                );
            }
            match JsonTemplate::compile(value) {
                Ok(template) => templates.push((name.as_str().into(), template)),
                Err(found) => {
                    problems.extend(found.into_iter().map(|problem| problem.at(name.as_str())))
                }
            }
        }
        if problems.iter().all(|problem| problem.warning) {
            Ok(Self {
                templates,
                warnings: problems,
            })
        } else {
            Err(problems)
        }
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &JsonTemplate> {
        self.templates.iter().map(|(_, template)| template)
    }

    pub(super) fn apply(
        &self,
        document: &Document<'_>,
        mut builder: EventBuilder,
        missing: Missing,
    ) -> Result<EventBuilder, TransformError> {
        let mut made = Vec::new();
        for (name, template) in &self.templates {
            made.clear();
            template
                .render(document, &mut made)
                .map_err(|reason| TransformError::Render {
                    part: format!("the attribute {name:?}"),
                    reason,
                })?;
            builder = match attribute(name, json::trim(&made))? {
                Some(value) => builder.attribute(&**name, value),
                None if missing == Missing::Keeps => builder,
                None if REQUIRED.contains(&&**name) => {
                    return Err(TransformError::Required {
                        attribute: name.to_string(),
                    });
                }
                None => builder.without(name),
            };
        }
        Ok(builder)
    }
}

fn check_name(name: &str) -> Option<Problem> {
    let help = match name {
        "specversion" => "events are CloudEvents 1.0; leave it out",
        "data" => "`data` stands beside `set` in a transform",
        _ if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) =>
        {
            "the name of an attribute is made of a-z and 0-9"
        }
        _ => {
            let meant = (!CORE.contains(&name))
                .then(|| suggest::nearest(name, CORE))
                .flatten()?;
            let problem = Problem::new(format!("{name:?} is taken as an extension attribute"))
                .key()
                .warn();
            return Some(problem.help(format!("was {meant} meant?")));
        }
    };
    Some(
        Problem::new(format!("{name:?} is not an attribute that can be set"))
            .key()
            .help(help),
    )
}

/// A JSON value as an attribute's; none for null and for the empty text, which no attribute can be.
fn attribute(name: &str, made: &[u8]) -> Result<Option<ExtensionValue>, TransformError> {
    let wrong = |found| {
        Err(TransformError::Type {
            attribute: name.to_owned(),
            found,
        })
    };
    let text = || Node::Json(made).to_text();
    let is_core = CORE.contains(&name);
    Ok(match made.first() {
        None | Some(b'n') => None,
        Some(b'{') => return wrong("an object"),
        Some(b'[') => return wrong("a list"),
        Some(b't' | b'f') if !is_core => Some(ExtensionValue::Boolean(made == b"true")),
        Some(b'"') => {
            let text = text();
            (!text.is_empty()).then(|| ExtensionValue::String(text.into_owned().into()))
        }
        // What is no 32-bit integer is carried as its text.
        Some(_) => Some(match text().parse() {
            Ok(number) if !is_core => ExtensionValue::Integer(number),
            _ => ExtensionValue::String(text().into_owned().into()),
        }),
    })
}
