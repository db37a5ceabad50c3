//! The JSON that SNS puts around what it sends to a queue, unless raw delivery is on.

use std::collections::BTreeMap;

use aws_sdk_sqs::types::MessageAttributeValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::incoming::Header;

/// What SNS says of a message: <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Envelope {
    #[serde(rename = "Type")]
    ty: String,
    message_id: String,
    topic_arn: String,
    subject: Option<String>,
    pub(super) message: String,
    timestamp: Option<String>,
    #[serde(default)]
    message_attributes: BTreeMap<String, Attribute>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    #[serde(rename = "Type")]
    ty: String,
    value: String,
}

impl Envelope {
    /// What is around a body, if it is that.
    pub(super) fn around(body: &str) -> Option<Self> {
        // Most bodies need not be parsed for it.
        if !body.trim_start().starts_with('{') || !body.contains("\"TopicArn\"") {
            return None;
        }
        let envelope: Self = serde_json::from_str(body).ok()?;
        (envelope.ty == "Notification").then_some(envelope)
    }

    /// The attributes that the message was published with.
    pub(super) fn headers(&self) -> BTreeMap<String, Header> {
        let read = |(name, attribute): (&String, &Attribute)| {
            let header = match attribute.ty.as_str() {
                "Binary" => BASE64_STANDARD
                    .decode(&attribute.value)
                    .map_or_else(|_| Header::Text(attribute.value.clone()), Header::of),
                _ => Header::Text(attribute.value.clone()),
            };
            (name.clone(), header)
        };
        self.message_attributes.iter().map(read).collect()
    }

    /// As an `event:` mapping sees it.
    pub(super) fn fields(&self) -> Value {
        json!({
            "topic": self.topic_arn,
            "subject": self.subject,
            "message_id": self.message_id,
            "timestamp": self.timestamp,
        })
    }
}

/// The attributes of a message of SQS.
pub(super) fn headers_of_message<'m>(
    attributes: impl Iterator<Item = (&'m String, &'m MessageAttributeValue)>,
) -> BTreeMap<String, Header> {
    let read = |(name, value): (&String, &MessageAttributeValue)| {
        let header = match (value.string_value(), value.binary_value()) {
            (Some(text), _) => Header::Text(text.to_owned()),
            (None, Some(bytes)) => Header::of(bytes.clone().into_inner()),
            (None, None) => return None,
        };
        Some((name.clone(), header))
    };
    attributes.filter_map(read).collect()
}
