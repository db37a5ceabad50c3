//! Alibaba Cloud's Message Service: its envelope in XML or in JSON, or the message alone with
//! headers that say the rest.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::place::text;
use super::wrapped::{Wrapped, read};
use crate::alibaba::{from_xml, is_envelope};
use crate::webhook::attributes::Attributes;
use crate::webhook::content::header;

pub(super) fn map(headers: &HeaderMap, body: &Value, raw: &Bytes) -> Wrapped {
    let envelope = match is_envelope(body) {
        true => Some(body.clone()),
        false => from_xml(raw),
    };
    let said = match &envelope {
        Some(envelope) => envelope.clone(),
        None => from_headers(headers),
    };
    let message = match &envelope {
        Some(envelope) => text(envelope, "Message").unwrap_or_default().into(),
        None => raw.clone(),
    };
    let (data, media_type) = read(message);
    let [owner, topic] =
        ["TopicOwner", "TopicName"].map(|name| text(&said, name).unwrap_or_default());
    let attributes = Attributes {
        ty: "com.aliyun.mns.Notification".to_owned(),
        source: format!("acs:mns::{owner}:/topics/{topic}"),
        id: text(&said, "MessageId"),
        subject: text(&said, "MessageTag"),
        time: text(&said, "PublishTime"),
    };
    Wrapped {
        attributes,
        extensions: Vec::new(),
        data,
        media_type,
        envelope: Some(said),
    }
}

/// What the headers say of a message without an envelope, by the names that the envelope has.
fn from_headers(headers: &HeaderMap) -> Value {
    let names = [
        ("TopicOwner", "x-mns-topic-owner"),
        ("TopicName", "x-mns-topic-name"),
        ("Subscriber", "x-mns-subscriber"),
        ("SubscriptionName", "x-mns-subscription-name"),
        ("MessageId", "x-mns-message-id"),
        ("MessageTag", "x-mns-message-tag"),
        ("PublishTime", "x-mns-publish-time"),
    ];
    let found = names
        .iter()
        .filter_map(|(name, own)| Some(((*name).to_owned(), Value::from(header(headers, own)?))));
    Value::Object(found.collect::<Map<_, _>>())
}
