//! Amazon SNS: the CloudEvents adapter `aws-sns.md`, with two differences.
//!
//! `source` is the topic, since the header with the subscription, which the document takes, is not
//! signed and could be anything. The data is the message and not the whole body, so that rules can
//! look into it.

use serde_json::Value;

use super::place::text;
use super::wrapped::{Wrapped, read};
use crate::webhook::attributes::Attributes;

pub(super) fn map(body: &Value) -> Wrapped {
    let kind = text(body, "Type").unwrap_or_else(|| "unknown".to_owned());
    let message = text(body, "Message").unwrap_or_default();
    let (data, media_type) = read(message.into());
    let attributes = Attributes {
        ty: format!("com.amazonaws.sns.{kind}"),
        source: text(body, "TopicArn").unwrap_or_else(|| "https://sns.amazonaws.com".to_owned()),
        id: text(body, "MessageId"),
        subject: text(body, "Subject"),
        time: text(body, "Timestamp"),
    };
    Wrapped {
        attributes,
        extensions: Vec::new(),
        data,
        media_type,
        envelope: Some(body.clone()),
    }
}
