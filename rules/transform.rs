//! Events changed (`transform` of a rule) and events made of what arrives without being one
//! (`event` of a source).

mod attributes;

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::event::EventBuilder;
use pointsman_schemas::{Data, Event, InvalidEvent, Problem, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::document::Document;
use crate::jq::{Jq, JqError};
use crate::json;
use crate::path::Path;
use crate::template::{JsonTemplate, RenderError};

use attributes::{Attributes, Missing, TemplateJson};
pub use attributes::{RawAttributes, RawMapping};

/// `transform` as a rule file holds it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Transform",
    extend(
        "not" = { "required": ["data", "jq"] },
        "examples" = [{ "set": { "type": "order.paid" }, "data": { "id": "<$.data.id>" } }]
    )
)]
pub struct RawTransform {
    /// Attributes to set, each a template; null takes an optional one away.
    #[serde(default)]
    pub set: RawAttributes,
    /// The new data, any JSON with templates in its texts.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<TemplateJson>")]
    pub data: Option<Value>,
    /// A jq program that makes the new data of the event, in the place of `data`.
    #[serde(default)]
    pub jq: Option<String>,
}

/// Reads a key that stands there, even if its value is null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// An event could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// A template failed.
    #[error("cannot make {part}: {reason}")]
    Render {
        /// Which attribute, or the data.
        part: String,
        /// What failed.
        reason: RenderError,
    },
    /// The jq program failed.
    #[error("cannot make the data: {0}")]
    Jq(#[from] JqError),
    /// A value is none that an attribute can have.
    #[error(
        "cannot set the attribute {attribute:?} to {found}: it takes a text, a number or a boolean"
    )]
    Type {
        /// Which attribute.
        attribute: String,
        /// What the template made.
        found: &'static str,
    },
    /// An attribute that every event must have would be empty.
    #[error(
        "cannot set the attribute {attribute:?}: its template finds nothing; give a default as in \
         <$.data.kind ?? \"x\">"
    )]
    Required {
        /// Which attribute.
        attribute: String,
    },
    /// The result is no CloudEvent.
    #[error("what the templates make is no valid event: {0}")]
    Invalid(InvalidEvent),
}

/// A compiled `transform`.
#[derive(Clone, Debug)]
pub struct Transform {
    set: Attributes,
    data: Option<Maker>,
}

/// What makes the new data.
#[derive(Clone, Debug)]
enum Maker {
    Template(JsonTemplate),
    Jq(Arc<Jq>),
}

impl Maker {
    fn compile(raw: &RawTransform) -> Result<Option<Self>, Vec<Problem>> {
        let at = |key: &'static str| {
            move |problems: Vec<Problem>| {
                problems
                    .into_iter()
                    .map(|problem| problem.at(key))
                    .collect::<Vec<_>>()
            }
        };
        match (&raw.data, &raw.jq) {
            (Some(_), Some(_)) => {
                let problem = Problem::new("`data` and `jq` both make the data")
                    .at("jq")
                    .key();
                Err(vec![problem.help("keep one of them")])
            }
            (Some(data), None) => JsonTemplate::compile(data)
                .map(|template| Some(Self::Template(template)))
                .map_err(at("data")),
            (None, Some(program)) => Jq::compile(program)
                .map(|jq| Some(Self::Jq(Arc::new(jq))))
                .map_err(at("jq")),
            (None, None) => Ok(None),
        }
    }

    fn make(&self, document: &Document<'_>) -> Result<Vec<u8>, TransformError> {
        let mut data = Vec::new();
        match self {
            Self::Template(template) => {
                template
                    .render(document, &mut data)
                    .map_err(|reason| TransformError::Render {
                        part: "the data".to_owned(),
                        reason,
                    })?;
            }
            Self::Jq(jq) => jq.run(document, &mut data)?,
        }
        Ok(data)
    }
}

impl Transform {
    /// Compiles a transform.
    ///
    /// # Errors
    /// Every mistake in it, with its path inside the transform.
    pub fn compile(raw: &RawTransform) -> Result<Self, Vec<Problem>> {
        let set = Attributes::compile(&raw.set).map_err(|problems| {
            problems
                .into_iter()
                .map(|problem| problem.at("set"))
                .collect::<Vec<_>>()
        });
        match (set, Maker::compile(raw)) {
            (Ok(set), Ok(data)) => Ok(Self { set, data }),
            (set, data) => Err(set.err().into_iter().chain(data.err()).flatten().collect()),
        }
    }

    /// The queries of its templates, not of a jq program.
    pub fn queries(&self) -> impl Iterator<Item = &Path> {
        let data = self.data.iter().filter_map(|maker| match maker {
            Maker::Template(template) => Some(template),
            Maker::Jq(_) => None,
        });
        self.set
            .templates()
            .chain(data)
            .flat_map(JsonTemplate::queries)
    }

    /// What is odd about the transform but not wrong.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        self.set
            .warnings
            .iter()
            .map(|problem| problem.clone().at("set"))
            .collect()
    }

    /// Makes the changed event.
    ///
    /// Every template and program sees the event as it was. New data is JSON: `datacontenttype`
    /// becomes `application/json` and `dataschema`, which was about the old data, goes, unless
    /// `set` says otherwise.
    ///
    /// # Errors
    /// [`TransformError`] where a template fails or the result is no CloudEvent.
    pub fn apply(&self, event: &Event) -> Result<Event, TransformError> {
        self.apply_to(event, &Document::event(event))
    }

    /// Makes the changed event as at some time, which is what `now` is in templates and programs.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    pub fn apply_at(&self, event: &Event, now: Timestamp) -> Result<Event, TransformError> {
        self.apply_to(event, &Document::event(event).at(now))
    }

    fn apply_to(&self, event: &Event, document: &Document<'_>) -> Result<Event, TransformError> {
        let mut builder = event.clone().into_builder();
        if let Some(maker) = &self.data {
            let data =
                Data::json(Bytes::from(maker.make(document)?)).map_err(TransformError::Invalid)?;
            builder = builder
                .data(data)
                .datacontenttype("application/json")
                .without("dataschema");
        }
        self.set
            .apply(document, builder, Missing::Removes)?
            .build()
            .map_err(TransformError::Invalid)
    }
}

/// A compiled `event` of a source: how what arrives becomes an event.
#[derive(Clone, Debug)]
pub struct EventMapping {
    attributes: Attributes,
    data: Option<JsonTemplate>,
}

impl EventMapping {
    /// Compiles a mapping.
    ///
    /// # Errors
    /// Every mistake in it, with its path inside the mapping.
    pub fn compile(raw: &RawMapping) -> Result<Self, Vec<Problem>> {
        let at_data = |problems: Vec<Problem>| {
            problems
                .into_iter()
                .map(|problem| problem.at("data"))
                .collect::<Vec<_>>()
        };
        let data = raw
            .data
            .as_ref()
            .map(JsonTemplate::compile)
            .transpose()
            .map_err(at_data);
        match (Attributes::compile(&raw.attributes), data) {
            (Ok(attributes), Ok(data)) => Ok(Self { attributes, data }),
            (attributes, data) => Err(attributes
                .err()
                .into_iter()
                .chain(data.err())
                .flatten()
                .collect()),
        }
    }

    /// Whether it makes the data.
    #[must_use]
    pub fn makes_data(&self) -> bool {
        self.data.is_some()
    }

    /// What is odd about the mapping but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.attributes.warnings
    }

    /// Sets attributes from a root document of the source (`body`, `headers`, and what else the
    /// source documents) over the defaults that the builder has. An attribute whose template finds
    /// nothing keeps its default, and so does the data where `data` makes null. New data is JSON:
    /// `datacontenttype` becomes `application/json` and `dataschema` goes, unless the mapping sets
    /// them.
    ///
    /// # Errors
    /// [`TransformError`] where a template fails.
    pub fn apply(
        &self,
        root: &Document<'_>,
        mut defaults: EventBuilder,
    ) -> Result<EventBuilder, TransformError> {
        if let Some(template) = &self.data {
            let mut made = Vec::new();
            template
                .render(root, &mut made)
                .map_err(|reason| TransformError::Render {
                    part: "the data".to_owned(),
                    reason,
                })?;
            if json::trim(&made) != b"null" {
                let data = Data::json(made.into()).map_err(TransformError::Invalid)?;
                defaults = defaults
                    .data(data)
                    .datacontenttype("application/json")
                    .without("dataschema");
            }
        }
        self.attributes.apply(root, defaults, Missing::Keeps)
    }
}

#[cfg(test)]
mod tests;
