//! An event written into an entry.

use bytes::Bytes;
use pointsman_schemas::{Data, DataKind};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{DATA, PREFIX};
use crate::{Delivery, structured};

/// The delivery's id, the same over all attempts.
const TASK: &str = "pointsman-task";

/// The number of the attempt.
const ATTEMPT: &str = "pointsman-attempt";

/// The rule that made the delivery.
const RULE: &str = "pointsman-rule";

/// How an event is written into an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "RedisMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes as fields `ce_…`, the data as the field `data`.
    #[default]
    Binary,
    /// The event in the JSON format as the field `data`.
    Structured,
    /// The data as the field `data`, and no attributes.
    Data,
}

/// Fields of an entry, by their names.
pub(in crate::redis) type Fields = Vec<(String, Bytes)>;

/// The fields of a delivery's entry.
///
/// # Errors
/// Why it cannot be written, in words.
pub(in crate::redis) fn encode(
    delivery: &Delivery,
    rule: &str,
    mode: Mode,
) -> Result<Fields, String> {
    let data = delivery.event.data().map(|data| data.bytes().clone());
    match mode {
        Mode::Structured => {
            let document = structured::encode(delivery, rule);
            let document = document.map_err(|invalid| invalid.to_string())?;
            Ok(vec![(DATA.to_owned(), document)])
        }
        Mode::Data => {
            let data = data.ok_or("the event has no data, and an entry has to have a field")?;
            Ok(vec![(DATA.to_owned(), data)])
        }
        Mode::Binary => Ok(binary(delivery, rule)),
    }
}

fn binary(delivery: &Delivery, rule: &str) -> Fields {
    let event = &delivery.event;
    let field = |name: &str, value: String| (format!("{PREFIX}{name}"), Bytes::from(value));
    let attributes = event.attributes();
    let mut fields: Fields = attributes
        .map(|(name, value)| field(name, value.to_string()))
        .collect();
    let implied = match event.data().map(Data::kind) {
        Some(DataKind::Json) => Some("application/json"),
        Some(DataKind::Text) => Some("text/plain"),
        Some(DataKind::Binary) | None => None,
    };
    if let (None, Some(implied)) = (event.datacontenttype(), implied) {
        fields.push(field("datacontenttype", implied.to_owned()));
    }
    let data = event.data().map(|data| data.bytes().clone());
    fields.extend(data.map(|data| (DATA.to_owned(), data)));
    let told = [
        (TASK, delivery.id.to_string()),
        (ATTEMPT, delivery.attempt.to_string()),
        (RULE, rule.to_owned()),
    ];
    fields.extend(told.map(|(name, value)| (name.to_owned(), value.into())));
    fields
}
