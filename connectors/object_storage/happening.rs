//! What happened to an object, in one shape however it was told: S3's own record, and what it
//! means.
//!
//! Follows the CloudEvents adapter for AWS S3 (`cloudevents/adapters/aws-s3.md`). It departs in one
//! point: one request may delete or create many objects, so that the adapter's `id`, made of the
//! request's ids alone, would make one event of them all. Here the id also names the object, its
//! content, the place in the order of its changes, and what happened.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pointsman_schemas::event::{is_string, is_string_char};
use pointsman_schemas::{Data, Event, InvalidEvent};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{Arrival, Plain};

/// What the types of all events begin with.
pub const EVENT_TYPE_PREFIX: &str = "com.amazonaws.s3.";

/// What a happening does to what lies in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The object was created or replaced.
    Created,
    /// The object went away.
    Removed,
    /// One version of the object went away; another may lie there now.
    VersionRemoved,
    /// It changes nothing of what a listing shows.
    Other,
}

/// What is remembered of a happening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The object's key, as it is.
    pub(super) key: String,
    pub(super) kind: Kind,
    /// Of the object's content; zero where it was not told.
    pub(super) etag: u64,
    /// When it happened by the store's clock, milliseconds since 1970.
    pub(super) at: i64,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Happening {
    pub(super) bucket: String,
    pub(super) mark: Mark,
    pub(super) etag: Option<String>,
    pub(super) version: Option<String>,
    /// Bytes, where they were told.
    pub(super) size: Option<u64>,
    /// Hexadecimal; comparable with those of the same key.
    pub(super) sequencer: Option<String>,
    id: String,
    source: String,
    ty: String,
    time: String,
    /// S3's record.
    record: Map<String, Value>,
    /// True where a listing found it.
    listed: bool,
}

/// Reads a time, as a time and as an event's text.
fn read_time(told: &str) -> Result<(jiff::Timestamp, String), String> {
    let at = told
        .parse::<jiff::Timestamp>()
        .map_err(|_| format!("its eventTime {told:?} is no time"))?;
    let is_rfc3339 = told.contains('T');
    Ok((
        at,
        if is_rfc3339 {
            told.to_owned()
        } else {
            at.to_string()
        },
    ))
}

/// What tells a change from those of other requests.
fn origin_of(bucket: &str, request: Option<&str>, host: Option<&str>, sequenced: bool) -> String {
    match (request, host) {
        (Some(request), Some(host)) => format!("{request}.{host}"),
        // EventBridge sends half of the pair. A sequencer identifies the change without it, the
        // same by every way that it is told.
        (Some(request), None) if !sequenced => format!("{bucket}.{request}"),
        _ => bucket.to_owned(),
    }
}

impl Happening {
    /// Reads a record of S3's shape, whose key is URL-encoded.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn read(record: Value) -> Result<Self, String> {
        let Value::Object(record) = record else {
            return Err("the record is no object".to_owned());
        };
        let find = |path: &str| {
            path.split('/')
                .try_fold(None, |at: Option<&Value>, key| {
                    at.map_or(record.get(key), |at| at.get(key)).map(Some)
                })
                .flatten()
        };
        let text = |path: &str| {
            find(path)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let required = |path: &str| {
            text(path).ok_or_else(|| format!("the record has no {}", path.replace('/', ".")))
        };
        let bucket = required("s3/bucket/name")?.to_owned();
        let key = decode_key(required("s3/object/key")?)?;
        let name = required("eventName")?;
        let name = name.strip_prefix("s3:").unwrap_or(name);
        let told = required("eventTime")?;
        let (at, time) = read_time(told)?;
        let owned = |text: Option<&str>| {
            text.map(|text| text.trim_matches('"').to_owned())
                .filter(|text| !text.is_empty())
        };
        let etag = owned(text("s3/object/eTag"));
        let version = owned(text("s3/object/versionId")).filter(|version| version != "null");
        let sequencer = owned(text("s3/object/sequencer"));
        let size = find("s3/object/size")
            .and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()));
        let kind = kind(name, version.is_some());
        let content = version.as_deref().or(etag.as_deref()).unwrap_or("-");
        let request =
            text("responseElements/x-amz-request-id").or(text("responseElements/requestId"));
        let host = text("responseElements/x-amz-id-2");
        let origin = origin_of(&bucket, request, host, sequencer.is_some());
        let id = format!(
            "{origin}/{key}/{content}/{}/{name}",
            sequencer.as_deref().unwrap_or(told)
        );
        let part = |path| text(path).unwrap_or_default();
        let source = format!(
            "{}.{}.{bucket}",
            text("eventSource").unwrap_or("aws:s3"),
            part("awsRegion")
        );
        let ty = format!("{EVENT_TYPE_PREFIX}{name}");
        let mark = Mark {
            key,
            kind,
            etag: etag.as_deref().map_or(0, content_hash),
            at: at.as_millisecond(),
        };
        Ok(Self {
            bucket,
            mark,
            etag,
            version,
            size,
            sequencer,
            id: plain_id(&id),
            source,
            ty,
            time,
            record,
            listed: false,
        })
    }

    /// What a listing found: an object created or replaced, with its time, or one that is gone. The
    /// generation tells it from what listings found before of the same key.
    ///
    /// # Errors
    /// As [`Happening::read`].
    pub(super) fn listed(
        bucket: &str,
        region: &str,
        key: &str,
        generation: u64,
        found: Found<'_>,
    ) -> Result<Self, String> {
        let mut object = json!({ "key": encode_key(key) });
        let (name, time) = match found {
            Found::Object {
                etag,
                size,
                modified,
            } => {
                if let Some(object) = object.as_object_mut() {
                    object.insert("size".into(), size.into());
                    object.insert("eTag".into(), etag.into());
                }
                // A listing does not tell how an object was made, but for the number of parts
                // behind the eTag of one made of parts.
                (
                    if etag.contains('-') {
                        "ObjectCreated:CompleteMultipartUpload"
                    } else {
                        "ObjectCreated:Put"
                    },
                    modified,
                )
            }
            Found::Gone { now } => ("ObjectRemoved:Delete", now),
        };
        let mut happening = Self::read(json!({
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": region,
            "eventTime": time,
            "eventName": name,
            "s3": { "s3SchemaVersion": "1.0", "bucket": { "name": bucket, "arn": format!("arn:aws:s3:::{bucket}") }, "object": object },
        }))?;
        // When it was found missing says nothing of it: found again after a crash it has the same
        // id.
        let state = match found {
            Found::Object { etag, modified, .. } => format!("{etag}/{modified}"),
            Found::Gone { .. } => "-".to_owned(),
        };
        happening.id = plain_id(&format!("{bucket}/{key}/{state}/{generation:x}/{name}"));
        happening.listed = true;
        Ok(happening)
    }

    /// The event, or what the `event:` mapping makes one of. `looked` is what was seen of the
    /// object itself.
    ///
    /// # Errors
    /// The CloudEvents specification does not allow what the record says.
    pub(super) fn arrival(
        mut self,
        looked: Map<String, Value>,
        mapped: bool,
    ) -> Result<Arrival, InvalidEvent> {
        let mut object = Map::new();
        object.insert("bucket".into(), self.bucket.clone().into());
        object.insert("key".into(), self.mark.key.clone().into());
        for (name, value) in [("eTag", &self.etag), ("versionId", &self.version)] {
            object.extend(value.clone().map(|value| (name.to_owned(), value.into())));
        }
        object.extend(self.size.map(|size| ("size".to_owned(), size.into())));
        object.extend(self.listed.then(|| ("listed".to_owned(), true.into())));
        object.extend(looked);
        self.record.insert("object".into(), Value::Object(object));
        let subject = plain(&self.mark.key).into_owned();
        let body = Value::Object(self.record);
        let defaults = Event::builder(self.id, self.source, self.ty)
            .subject(subject)
            .time(self.time)
            .datacontenttype("application/json")
            .data(Data::json(Bytes::from(body.to_string()))?);
        let fields = || {
            Plain::fields([
                ("headers", json!({})),
                ("bucket", self.bucket.into()),
                ("key", self.mark.key.into()),
            ])
        };
        Arrival::made(defaults, mapped.then(fields))
    }

    /// True where this is what came later of the two, of the same key.
    pub(super) fn is_after(&self, other: &Self) -> bool {
        match (&self.sequencer, &other.sequencer) {
            // Of different lengths the shorter is filled up with zeros on its right.
            (Some(one), Some(two)) => {
                let length = one.len().max(two.len());
                format!("{:0<length$}", one.to_ascii_uppercase())
                    >= format!("{:0<length$}", two.to_ascii_uppercase())
            }
            _ => self.mark.at >= other.mark.at,
        }
    }
}

/// What a listing finds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'f> {
    /// An object that was not known, or not so.
    Object {
        etag: &'f str,
        size: u64,
        modified: &'f str,
    },
    /// An object that is not there any more, and when it was found missing.
    Gone { now: &'f str },
}

/// What an event's name says of the bucket's content.
fn kind(name: &str, versioned: bool) -> Kind {
    match name.split_once(':') {
        // These begin an upload; the object comes with its end.
        Some(("ObjectCreated", "InitiateMultipartUpload" | "UploadPart" | "UploadPartCopy")) => {
            Kind::Other
        }
        Some(("ObjectCreated", _)) => Kind::Created,
        Some(("ObjectRemoved" | "LifecycleExpiration", "DeleteMarkerCreated")) => Kind::Removed,
        Some(("ObjectRemoved" | "LifecycleExpiration", _)) if versioned => Kind::VersionRemoved,
        Some(("ObjectRemoved" | "LifecycleExpiration", _)) => Kind::Removed,
        _ => Kind::Other,
    }
}

/// What an eTag is remembered by; never zero.
pub(super) fn content_hash(etag: &str) -> u64 {
    let hash = Sha256::digest(etag.trim_matches('"').as_bytes());
    hash.iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
        .max(1)
}

/// A key as S3's records write it: form encoding, but for the slash.
pub(super) fn encode_key(key: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'*')
        .remove(b' ');
    utf8_percent_encode(key, KEPT).to_string().replace(' ', "+")
}

/// A key as it is, of one that is form-encoded.
///
/// # Errors
/// It is none.
pub(super) fn decode_key(encoded: &str) -> Result<String, String> {
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| format!("the key {encoded:?} is not UTF-8"))
}

/// A text as an attribute can hold it: as it is, or with control characters, noncharacters and `%`
/// percent-encoded.
fn plain(text: &str) -> Cow<'_, str> {
    if is_string(text) {
        text.into()
    } else {
        percent_encoded(text).into()
    }
}

/// A text as an id can hold it. Unlike [`plain`] it encodes `%` always: two keys never give the
/// same id.
fn plain_id(text: &str) -> String {
    if text.chars().all(|c| is_string_char(c) && c != '%') {
        text.to_owned()
    } else {
        percent_encoded(text)
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if is_string_char(c) && c != '%' {
            out.push(c);
        } else {
            out.extend(
                c.encode_utf8(&mut [0; 4])
                    .bytes()
                    .map(|byte| format!("%{byte:02X}")),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read_as_s3_does() {
        for (key, written) in [
            ("a b.jpg", "a+b.jpg"),
            ("a+b.jpg", "a%2Bb.jpg"),
            ("50%.jpg", "50%25.jpg"),
            ("año/ü", "a%C3%B1o/%C3%BC"),
            ("a%20b", "a%2520b"),
            ("a/b/c", "a/b/c"),
            ("line\nbreak", "line%0Abreak"),
        ] {
            assert_eq!(encode_key(key), written);
            assert_eq!(decode_key(written).as_deref(), Ok(key));
        }
        assert_eq!(
            decode_key("a%2Fb").as_deref(),
            Ok("a/b"),
            "some stores write the slash so"
        );
        assert_eq!(decode_key("100%").as_deref(), Ok("100%"));
        assert!(decode_key("%FF").is_err());
    }

    #[test]
    fn names_tell_what_lies_in_the_bucket() {
        for (name, versioned, expect) in [
            ("ObjectCreated:Put", false, Kind::Created),
            ("ObjectCreated:CompleteMultipartUpload", true, Kind::Created),
            ("ObjectCreated:UploadPart", false, Kind::Other),
            ("ObjectRemoved:Delete", false, Kind::Removed),
            ("ObjectRemoved:Delete", true, Kind::VersionRemoved),
            ("ObjectRemoved:DeleteMarkerCreated", true, Kind::Removed),
            ("LifecycleExpiration:Delete", false, Kind::Removed),
            ("ObjectTagging:Put", false, Kind::Other),
            ("ReducedRedundancyLostObject", false, Kind::Other),
        ] {
            assert_eq!(kind(name, versioned), expect, "{name}");
        }
    }

    #[test]
    fn the_later_of_two_is_told_by_sequencer_or_by_time() {
        let of = |sequencer: &str, time: &str| {
            let object = json!({ "key": "a", "sequencer": sequencer });
            Happening::read(
                json!({ "eventName": "ObjectCreated:Put", "eventTime": time, "s3": { "bucket": { "name": "b" }, "object": object } }),
            )
            .unwrap()
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        for (one, two, after) in [
            (
                ("0055AED6DCD90281E5", early),
                ("0055AED6DCD90281E4", late),
                true,
            ),
            (("0055", early), ("005401", late), true),
            (("0054", early), ("005401", late), false),
            (("", late), ("", early), true),
            (("", early), ("", late), false),
            (("01", early), ("", late), false),
        ] {
            assert_eq!(
                of(one.0, one.1).is_after(&of(two.0, two.1)),
                after,
                "{one:?} {two:?}"
            );
        }
    }
}
