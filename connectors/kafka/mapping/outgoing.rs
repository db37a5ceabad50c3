//! An event written into a record.

use bytes::Bytes;
use pointsman_schemas::{Data, DataKind, Event, json};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CONTENT_TYPE, PREFIX};

/// How an event is written into a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "KafkaMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes as `ce_` headers, the data as the value.
    #[default]
    Binary,
    /// The event in the JSON format as the value.
    Structured,
    /// The data as the value, and no attributes.
    Data,
}

/// The value and the headers of a record; an event without data has no value, but in structured
/// mode.
pub(in crate::kafka) fn encode(event: &Event, mode: Mode) -> (Option<Bytes>, Vec<(String, Bytes)>) {
    let content_type = |media_type: &str| (CONTENT_TYPE.to_owned(), owned(media_type));
    if mode == Mode::Structured {
        let mut value = Vec::with_capacity(event.size_bytes());
        json::encode(event, &mut value);
        return (Some(value.into()), vec![content_type(json::MEDIA_TYPE)]);
    }
    let implied = match event.data().map(Data::kind) {
        Some(DataKind::Json) => Some("application/json"),
        Some(DataKind::Text) => Some("text/plain"),
        Some(DataKind::Binary) | None => None,
    };
    let media_type = event.datacontenttype().or(implied);
    let mut headers: Vec<_> = media_type.map(content_type).into_iter().collect();
    if mode == Mode::Binary {
        let attributes = event
            .attributes()
            .filter(|(name, _)| *name != "datacontenttype");
        headers.extend(attributes.map(|(name, value)| {
            let header = format!("{PREFIX}{name}");
            (header, Bytes::from(value.to_string()))
        }));
    }
    (event.data().map(|data| data.bytes().clone()), headers)
}

fn owned(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
