//! Messages to events and back.
//!
//! CloudEvents have no binding for MNS, whose messages are a text and nothing else: no headers, no
//! media type. A body that is a JSON object with a `specversion` is a CloudEvent in the JSON format,
//! right or wrong; that is how a target writes one as well.
//!
//! A message that a topic has handed to a queue has an envelope around it, in XML or in JSON, unless
//! the subscription says otherwise. It is taken off first.

mod incoming;
mod outgoing;

pub(super) use incoming::Decoder;
pub(super) use outgoing::body_of;

use schemars::JsonSchema;
use serde::Deserialize;

/// How an event is written into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "MnsMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The event in the JSON format.
    #[default]
    Structured,
    /// The data alone.
    Data,
}

/// How bodies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "MnsEncoding")]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// In base64, as the SDKs write them. A body that is read and is no base64 is taken as it is.
    #[default]
    Base64,
    /// As they are.
    Text,
}

#[cfg(test)]
mod tests;
