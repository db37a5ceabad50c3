//! What stores send, as happenings.
//!
//! | sent by | shape | keys |
//! |---|---|---|
//! | AWS to SQS, MinIO, Ceph, and all that follow S3 | `{ "Records": [ … ] }`, or one record alone | URL-encoded |
//! | AWS through EventBridge | `{ "detail-type", "detail" }` | as they are |
//! | Aliyun OSS by its message service | `{ "events": [ … ] }` with `oss` in place of `s3`, also in base64 | percent-encoded |
//! | Aliyun OSS by its event bus | a CloudEvent whose `data` is such a record | percent-encoded |
//! | any of them through SNS | `{ "Type": "Notification", "Message": "…" }` around it | |

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use pointsman_schemas::Reject;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::happening::{Happening, encode_key};
use crate::Acknowledgement;

/// What came, not yet read.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) body: Bytes,
    pub(super) acknowledgement: Acknowledgement,
}

/// What came in one message: nothing where a store only tries whether its messages arrive.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Notification {
    pub(super) happenings: Vec<Happening>,
    pub(super) rejects: Vec<Reject>,
}

/// The keys by which the shapes are told apart.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope<'m> {
    #[serde(rename = "Records", borrow)]
    records: Option<Vec<&'m RawValue>>,
    #[serde(borrow)]
    events: Option<Vec<&'m RawValue>>,
    #[serde(rename = "Event")]
    event: Option<Value>,
    #[serde(rename = "Type")]
    ty: Option<Value>,
    #[serde(rename = "Message")]
    message: Option<Value>,
    #[serde(rename = "detail-type")]
    detail_type: Option<Value>,
    #[serde(rename = "eventName")]
    event_name: Option<Value>,
    #[serde(borrow)]
    data: Option<&'m RawValue>,
}

/// Reads a message. What cannot be read of it is among the rejects, and the rest is read all the
/// same.
pub(super) fn read(body: &Bytes) -> Notification {
    let whole = |reason: String| Notification {
        rejects: vec![Reject {
            raw: body.clone(),
            reason,
        }],
        ..Notification::default()
    };
    // Aliyun's message service hands messages over in base64.
    let decoded = BASE64_STANDARD.decode(body.trim_ascii()).ok();
    let Ok(text) = std::str::from_utf8(decoded.as_deref().unwrap_or(body)) else {
        return whole("the message is not UTF-8".to_owned());
    };
    let mut envelope: Envelope<'_> = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) => return whole(format!("the message is no notification in JSON: {error}")),
    };
    let unwrapped;
    if let (Some("Notification"), Some(Value::String(message))) = (
        envelope.ty.as_ref().and_then(Value::as_str),
        &envelope.message,
    ) {
        unwrapped = message.clone();
        envelope = match serde_json::from_str(&unwrapped) {
            Ok(envelope) => envelope,
            Err(error) => {
                return whole(format!(
                    "the message inside the one of SNS is no notification in JSON: {error}"
                ));
            }
        };
        return records(envelope, &unwrapped, &whole);
    }
    records(envelope, text, &whole)
}

fn records(
    envelope: Envelope<'_>,
    text: &str,
    whole: &dyn Fn(String) -> Notification,
) -> Notification {
    if envelope.event.as_ref().and_then(Value::as_str) == Some("s3:TestEvent") {
        return Notification::default();
    }
    let each = |records: &[&str], into_s3: fn(Value) -> Result<Value, String>| {
        let mut found = Notification::default();
        for record in records {
            let value = serde_json::from_str(record).map_err(|error| error.to_string());
            match value.and_then(into_s3).and_then(Happening::read) {
                Ok(happening) => found.happenings.push(happening),
                Err(reason) => found.rejects.push(Reject {
                    raw: Bytes::copy_from_slice(record.as_bytes()),
                    reason,
                }),
            }
        }
        found
    };
    let texts = |records: Vec<&'_ RawValue>| {
        records
            .into_iter()
            .map(|record| record.get().to_owned())
            .collect::<Vec<_>>()
    };
    let all = |records: Vec<String>, into_s3| {
        each(
            &records.iter().map(String::as_str).collect::<Vec<_>>(),
            into_s3,
        )
    };
    if let Some(records) = envelope.records {
        all(texts(records), Ok)
    } else if let Some(events) = envelope.events {
        all(texts(events), of_oss)
    } else if envelope.detail_type.is_some() {
        each(&[text], of_event_bridge)
    } else if envelope.event_name.is_some() {
        each(&[text], of_oss)
    } else if let Some(data) = envelope.data {
        each(&[data.get()], of_oss)
    } else {
        whole("the message is no notification of an object store that is known here".to_owned())
    }
}

/// A record of Aliyun OSS as one of S3; what is one of S3 already stays as it is.
fn of_oss(mut record: Value) -> Result<Value, String> {
    let Some(fields) = record.as_object_mut() else {
        return Err("the record is no object".to_owned());
    };
    let Some(mut oss) = fields.remove("oss") else {
        return Ok(record);
    };
    if let Some(Value::String(key)) = oss.pointer_mut("/object/key") {
        let plain = percent_decode_str(key)
            .decode_utf8()
            .map(|key| key.into_owned())
            .unwrap_or_else(|_| key.clone());
        *key = encode_key(&plain);
    }
    if let Some(Value::String(name)) = fields.get_mut("eventName") {
        // `ObjectCreated:PutObject` is `ObjectCreated:Put`.
        let short = name.split_once(':').map(|(group, way)| {
            let way = way
                .strip_suffix("Objects")
                .or(way.strip_suffix("Object"))
                .unwrap_or(way);
            format!("{group}:{way}")
        });
        *name = short.unwrap_or_else(|| name.clone());
    }
    if let Some(region) = fields.remove("region") {
        fields.insert("awsRegion".into(), region);
    }
    fields.insert("s3".into(), oss);
    Ok(record)
}

/// A message of EventBridge as a record of S3.
fn of_event_bridge(message: Value) -> Result<Value, String> {
    let text = |path: &str| {
        message
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let reason = text("/detail/reason");
    let marker = text("/detail/deletion-type") == "Delete Marker Created";
    let name = match text("/detail-type") {
        "Object Created" => match reason {
            "CopyObject" => "ObjectCreated:Copy",
            "CompleteMultipartUpload" => "ObjectCreated:CompleteMultipartUpload",
            "POST Object" => "ObjectCreated:Post",
            _ => "ObjectCreated:Put",
        },
        "Object Deleted" => match (reason == "Lifecycle Expiration", marker) {
            (false, false) => "ObjectRemoved:Delete",
            (false, true) => "ObjectRemoved:DeleteMarkerCreated",
            (true, false) => "LifecycleExpiration:Delete",
            (true, true) => "LifecycleExpiration:DeleteMarkerCreated",
        },
        "Object Restore Initiated" => "ObjectRestore:Post",
        "Object Restore Completed" => "ObjectRestore:Completed",
        "Object Restore Expired" => "ObjectRestore:Delete",
        "Object Storage Class Changed" => "LifecycleTransition",
        "Object Access Tier Changed" => "IntelligentTiering",
        "Object ACL Updated" => "ObjectAcl:Put",
        "Object Tags Added" => "ObjectTagging:Put",
        "Object Tags Deleted" => "ObjectTagging:Delete",
        other => return Err(format!("the detail-type {other:?} is none of S3's")),
    };
    let mut object = Map::new();
    object.insert("key".into(), encode_key(text("/detail/object/key")).into());
    for (theirs, ours) in [
        ("size", "size"),
        ("etag", "eTag"),
        ("eTag", "eTag"),
        ("version-id", "versionId"),
        ("sequencer", "sequencer"),
    ] {
        if let Some(value) = message
            .pointer(&format!("/detail/object/{theirs}"))
            .filter(|value| !value.is_null())
        {
            object.insert(ours.to_owned(), value.clone());
        }
    }
    Ok(json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": text("/region"),
        "eventTime": text("/time"),
        "eventName": name,
        "userIdentity": { "principalId": text("/detail/requester") },
        "requestParameters": { "sourceIPAddress": text("/detail/source-ip-address") },
        // One of the two that the adapter's id is made of.
        "responseElements": { "x-amz-request-id": text("/detail/request-id") },
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": { "name": text("/detail/bucket/name"), "arn": message.pointer("/resources/0") },
            "object": object,
        },
    }))
}

#[cfg(test)]
mod tests;
