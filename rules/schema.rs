//! Schemas of events' data: JSON Schema, draft 2020-12.
//!
//! A schema is compiled once, which finds every mistake in it, and holds for the data of an event
//! or does not. It is whole in itself: a `$ref` leads into the same schema, and nothing is fetched.
//! Patterns are those of the `regex` crate, which take time by the length of the text and no more,
//! so that no sender can make one expensive.

mod asked;
mod compile;
mod fields;
mod infer;
mod recursion;
mod visit;

use std::fmt;

use jsonschema::Validator;
use pointsman_schemas::{DataKind, Event, Problem};
use serde_json::Value;

pub use asked::AskedTypes;
pub use infer::Inference;

/// The extension attribute that says of an event what is wrong with its data, where it is kept all
/// the same.
pub const MARK: &str = "schemaerror";

/// How many of the things that are wrong with data are told.
const TOLD_MAX: usize = 3;

/// How many bytes each of them takes at most.
const TOLD_BYTES_MAX: usize = 200;

/// A compiled schema of data.
pub struct EventSchema {
    schema: Value,
    validator: Validator,
}

/// Data that a schema does not hold for: what is wrong with it, in a line for a person, with JSON
/// Pointers over the event. It has [`Mismatch::BYTES_MAX`] bytes at most, and no control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

impl EventSchema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// Every mistake that is found in it, each with its path inside the schema.
    pub fn compile(schema: &Value) -> Result<Self, Vec<Problem>> {
        let validator = compile::compile(schema)?;
        Ok(Self {
            schema: schema.clone(),
            validator,
        })
    }

    /// What is odd about the schema but not wrong.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        compile::warnings(&self.schema)
    }

    /// The schema as it was given.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Holds the schema against an event's data. An event without data is held against as `null`.
    ///
    /// # Errors
    /// The data is not JSON, or not as the schema says.
    pub fn check(&self, event: &Event) -> Result<(), Mismatch> {
        let Some(data) = event.data() else {
            return self.check_value(&Value::Null).map_err(|mismatch| {
                Mismatch(format!(
                    "the event has no data, which counts as null; {mismatch}"
                ))
            });
        };
        match data.value() {
            Some(value) => self.check_value(value),
            None => Err(Mismatch(not_json(event, data.kind()))),
        }
    }

    /// Holds the schema against a value, as the data of an event.
    ///
    /// # Errors
    /// The value is not as the schema says.
    pub fn check_value(&self, value: &Value) -> Result<(), Mismatch> {
        // Most data fits, which is found out faster than what is wrong with data that does not.
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let mut errors = self.validator.iter_errors(value);
        let told: Vec<String> = errors
            .by_ref()
            .take(TOLD_MAX)
            .map(|one| told(&one))
            .collect();
        let mut text = told.join("; ");
        if errors.next().is_some() {
            text.push_str("; and more");
        }
        Err(Mismatch(text))
    }
}

impl Mismatch {
    /// How long one is at most.
    pub const BYTES_MAX: usize = 1024;
}

impl fmt::Debug for EventSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventSchema({})", self.schema)
    }
}

fn not_json(event: &Event, kind: DataKind) -> String {
    let what = match kind {
        DataKind::Text => "text",
        DataKind::Binary | DataKind::Json => "bytes",
    };
    match event.datacontenttype() {
        Some(declared) => plain(
            &format!("the data is {what} ({declared}) and not JSON"),
            TOLD_BYTES_MAX,
        ),
        None => format!("the data is {what} and not JSON"),
    }
}

/// One thing that is wrong, behind its place in the event. A value that would make it long is not
/// shown.
fn told(error: &jsonschema::ValidationError<'_>) -> String {
    let place = plain(
        &format!("/data{}", error.instance_path()),
        TOLD_BYTES_MAX / 2,
    );
    let is_long = weight(error.instance(), TOLD_BYTES_MAX / 2).is_none();
    let what = if is_long {
        error.masked().to_string()
    } else {
        error.to_string()
    };
    format!("{place}: {}", plain(&what, TOLD_BYTES_MAX))
}

/// How many bytes a value takes, about; none where those are more than `max`.
fn weight(value: &Value, max: usize) -> Option<usize> {
    let own = match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().try_fold(2, |sum, item| {
            Some(sum + weight(item, max.checked_sub(sum)?)?)
        })?,
        Value::Object(members) => members.iter().try_fold(2, |sum, (key, item)| {
            let sum = sum + key.len() + 4;
            Some(sum + weight(item, max.checked_sub(sum)?)?)
        })?,
        _ => 4,
    };
    (own <= max).then_some(own)
}

/// A text without control characters, cut where it is too long.
fn plain(text: &str, bytes_max: usize) -> String {
    let mut plain = String::with_capacity(text.len().min(bytes_max));
    for character in text.chars() {
        if plain.len() + character.len_utf8() > bytes_max {
            plain.push('…');
            break;
        }
        plain.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    plain
}

#[cfg(test)]
mod tests;
