//! Google Pub/Sub: pushed messages, in their envelope or without.
//!
//! The type is that of Google's own events for topics, `source` the subscription, which is what a
//! push tells. The data is the message's. Attributes of the message become extensions where their
//! name allows it, in lower case, and the ordering key is `partitionkey`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pointsman_schemas::Data;
use serde_json::{Map, Value};

use super::place::text;
use super::wrapped::{Wrapped, read};
use crate::webhook::attributes::Attributes;
use crate::webhook::content::header;

const TYPE: &str = "google.cloud.pubsub.topic.v1.messagePublished";

/// What "CloudEvents HTTP binding" wants encoded in a header's value, and all that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The longest name of an extension: CloudEvents 1.0.2, "Attribute Naming Convention".
const NAME_BYTES_MAX: usize = 20;

/// What an extension is not called: the attributes themselves, and what the bus keeps for itself.
const RESERVED: [&str; 9] = [
    "id",
    "source",
    "type",
    "specversion",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
];
const OURS: &str = "pointsman";

/// A body in its envelope: the message and the subscription.
fn envelope(body: &Value) -> Option<(&Map<String, Value>, &str)> {
    let message = body.get("message")?.as_object()?;
    let has_id = message.contains_key("messageId") || message.contains_key("message_id");
    has_id
        .then(|| body.get("subscription")?.as_str())
        .flatten()
        .map(|subscription| (message, subscription))
}

fn data(message: &Map<String, Value>) -> Bytes {
    let text = message
        .get("data")
        .and_then(Value::as_str)
        .unwrap_or_default();
    BASE64_STANDARD.decode(text).unwrap_or_default().into()
}

/// A CloudEvent by the Pub/Sub binding, as the headers and body of one by HTTP.
pub(super) fn cloudevent(body: &Value) -> Option<(HeaderMap, Bytes)> {
    let (message, _) = envelope(body)?;
    let attributes = message.get("attributes")?.as_object()?;
    let mut headers = HeaderMap::new();
    for (name, value) in attributes {
        let name = name.to_ascii_lowercase();
        let is_part = name.starts_with("ce-") || name == CONTENT_TYPE.as_str();
        let (Some(value), true) = (value.as_str(), is_part) else {
            continue;
        };
        let value = if name == CONTENT_TYPE.as_str() {
            value.to_owned()
        } else {
            utf8_percent_encode(value, ENCODED).to_string()
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            headers.insert(name, value);
        }
    }
    pointsman_schemas::http::is_cloudevent(&headers).then(|| (headers, data(message)))
}

pub(super) fn map(
    headers: &HeaderMap,
    body: &Value,
    whole: Option<Data>,
    declared: Option<&str>,
) -> Wrapped {
    // Without the envelope the message is the body, and the headers may say the rest.
    let is_bare = header(headers, "x-goog-pubsub-message-id").is_some();
    let Some((message, subscription)) = envelope(body).filter(|_| !is_bare) else {
        return unwrapped(headers, whole, declared);
    };
    let own = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| message.get(*name)?.as_str())
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let (data, media_type) = read(data(message));
    let mut extensions = Vec::new();
    extensions
        .extend(own(["orderingKey", "ordering_key"]).map(|key| ("partitionkey".to_owned(), key)));
    for (name, value) in message
        .get("attributes")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let name = name.to_ascii_lowercase();
        let taken = extensions.iter().any(|(other, _)| *other == name);
        if let (Some(value), true, false) = (value.as_str(), is_extension(&name), taken) {
            extensions.push((name, value.to_owned()));
        }
    }
    let attributes = Attributes {
        ty: TYPE.to_owned(),
        source: format!("//pubsub.googleapis.com/{subscription}"),
        id: own(["messageId", "message_id"]).or_else(|| text(body, "message.messageId")),
        subject: None,
        time: own(["publishTime", "publish_time"]),
    };
    Wrapped {
        attributes,
        extensions,
        data,
        media_type,
        envelope: Some(body.clone()),
    }
}

fn unwrapped(headers: &HeaderMap, data: Option<Data>, declared: Option<&str>) -> Wrapped {
    let own = |name: &str| header(headers, name).map(str::to_owned);
    let subscription = own("x-goog-pubsub-subscription-name");
    let attributes = Attributes {
        ty: TYPE.to_owned(),
        source: subscription.map_or_else(
            || "//pubsub.googleapis.com".to_owned(),
            |name| format!("//pubsub.googleapis.com/{name}"),
        ),
        id: own("x-goog-pubsub-message-id"),
        subject: None,
        time: own("x-goog-pubsub-publish-time"),
    };
    let extensions = own("x-goog-pubsub-ordering-key")
        .map(|key| ("partitionkey".to_owned(), key))
        .into_iter()
        .collect();
    Wrapped {
        attributes,
        extensions,
        data,
        media_type: declared.map(str::to_owned),
        envelope: None,
    }
}

fn is_extension(name: &str) -> bool {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_name && !RESERVED.contains(&name) && !name.starts_with(OURS)
}
