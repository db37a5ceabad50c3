//! An event as a message of SQS or SNS: a text, and up to ten attributes.
//!
//! CloudEvents have no official binding for either. They travel as the source of SQS understands
//! them: binary with the attributes `ce-<name>` and `content-type`, or structured, with the
//! `content-type` of the JSON format. An event that a message has no way to say in binary mode goes
//! out structured: one with too many attributes or an empty one, or with data that is no text.

use pointsman_schemas::{Data, DataKind, Event, json};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Attempt, Delivery, trace};

/// What the names of a CloudEvent's attributes begin with.
const PREFIX: &str = "ce-";

/// The media type of the body.
const CONTENT_TYPE: &str = "content-type";

/// How many attributes a message may have. SNS takes more, and drops such a message on its way to a
/// queue.
const ATTRIBUTES_MAX: usize = 10;

/// How an event is written into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "AwsMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The data as the text, the event's attributes as `ce-` ones of the message; structured where
    /// that cannot be done.
    #[default]
    Binary,
    /// The event in the JSON format as the text.
    Structured,
    /// The data as the text, and no attributes of the event.
    Data,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) body: String,
    /// All of them are texts.
    pub(crate) attributes: Vec<(String, String)>,
}

impl Written {
    /// Writes the event of a delivery, with attributes that name its task, and its trace where
    /// there is room.
    ///
    /// # Errors
    /// Why no message can be made of it.
    pub(crate) fn of(attempt: &Attempt, delivery: &Delivery, mode: Mode) -> Result<Self, String> {
        let mut written = Self::untraced(attempt, delivery, mode)?;
        let room = ATTRIBUTES_MAX.saturating_sub(written.attributes.len());
        let trace = trace::headers(delivery).map(|(name, value)| (name.to_owned(), value));
        written.attributes.extend(trace.take(room));
        Ok(written)
    }

    fn untraced(attempt: &Attempt, delivery: &Delivery, mode: Mode) -> Result<Self, String> {
        let event = &delivery.event;
        let tracking = vec![
            ("pointsman-task".to_owned(), delivery.id.to_string()),
            ("pointsman-attempt".to_owned(), delivery.attempt.to_string()),
            ("pointsman-rule".to_owned(), attempt.rule.to_string()),
        ];
        match mode {
            Mode::Binary => match binary(event, tracking.clone()) {
                Some(written) => Ok(written),
                None => structured(event, tracking),
            },
            Mode::Structured => structured(event, tracking),
            Mode::Data => {
                let body = text_of(event).ok_or(
                    "a message is a text that is not empty, which this event's data is not; use \
                     mode: structured",
                )?;
                Ok(Self {
                    attributes: content_type(event).into_iter().chain(tracking).collect(),
                    body,
                })
            }
        }
    }

    /// Its size, as it is counted.
    pub(crate) fn size_bytes(&self) -> usize {
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|(name, value)| name.len() + value.len() + "String".len());
        self.body.len() + attributes.sum::<usize>()
    }
}

fn binary(event: &Event, tracking: Vec<(String, String)>) -> Option<Written> {
    let body = text_of(event)?;
    let own = event
        .attributes()
        .filter(|(name, _)| *name != "datacontenttype");
    let own = own.map(|(name, value)| (format!("{PREFIX}{name}"), value.to_string()));
    let attributes: Vec<_> = content_type(event)
        .into_iter()
        .chain(own)
        .chain(tracking)
        .collect();
    let is_sayable = attributes.iter().all(|(_, value)| is_text(value));
    (is_sayable && attributes.len() <= ATTRIBUTES_MAX).then_some(Written { body, attributes })
}

fn structured(event: &Event, tracking: Vec<(String, String)>) -> Result<Written, String> {
    let mut body = Vec::with_capacity(event.size_bytes());
    json::encode(event, &mut body);
    let body = String::from_utf8(body).ok().filter(|body| is_text(body));
    let body = body.ok_or("a message takes no U+FFFE and U+FFFF, which this event holds")?;
    let content_type = (CONTENT_TYPE.to_owned(), json::MEDIA_TYPE.to_owned());
    Ok(Written {
        body,
        attributes: std::iter::once(content_type).chain(tracking).collect(),
    })
}

/// The data, where a message can have it as its text.
fn text_of(event: &Event) -> Option<String> {
    let bytes = event.data()?.bytes();
    let text = std::str::from_utf8(bytes).ok()?;
    is_text(text).then(|| text.to_owned())
}

fn content_type(event: &Event) -> Option<(String, String)> {
    let implied = match event.data().map(Data::kind) {
        Some(DataKind::Json) => Some("application/json"),
        Some(DataKind::Text) => Some("text/plain"),
        Some(DataKind::Binary) | None => None,
    };
    let media_type = event.datacontenttype().or(implied)?;
    Some((CONTENT_TYPE.to_owned(), media_type.to_owned()))
}

/// Whether a message, or an attribute of one, may be this: XML has to be able to say it.
fn is_text(text: &str) -> bool {
    let is_sayable = |c| match c {
        '\t' | '\n' | '\r' => true,
        '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => false,
        _ => true,
    };
    !text.is_empty() && text.chars().all(is_sayable)
}

#[cfg(test)]
mod tests;
