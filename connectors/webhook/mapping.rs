//! What a webhook brings, as an event.

mod github;
mod gitlab;
mod mns;
mod place;
mod pubsub;
mod slack;
mod sns;
mod wrapped;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use pointsman_schemas::media_type::is_media_type;
use pointsman_schemas::{Data, Name, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use super::attributes::{Attributes, Mapped, build};
use super::content::{data, header};
use super::preset::{Events, Templates};
use super::signature::Call;
use crate::Plain;
use crate::listener::Refusal;
use place::{items, json, raw_at};
use wrapped::Wrapped;

#[cfg(test)]
mod tests;

/// How the calls of one webhook become events.
#[derive(Debug)]
pub(super) struct Mapping {
    events: Events,
    templates: Option<Templates>,
    name: Name,
}

impl Mapping {
    /// The mapping of a preset, for the source of this name.
    ///
    /// # Errors
    /// The preset's own templates cannot be read, which the tests of its table would find.
    pub(super) fn new(events: Events, name: Name) -> Result<Self, String> {
        let templates = match events {
            Events::Rows(rows) | Events::EventBridge(rows) => Some(Templates::read(rows)?),
            _ => None,
        };
        Ok(Self {
            events,
            templates,
            name,
        })
    }

    /// Maps a call; of some senders it brings several events. `id` is the delivery's as its
    /// signature tells.
    ///
    /// # Errors
    /// The body is not what it is declared to be.
    pub(super) fn map(
        &self,
        call: &Call<'_>,
        id: Option<String>,
        body: Bytes,
        now: Timestamp,
    ) -> Result<SmallVec<[Mapped; 1]>, Refusal> {
        // What is no media type says nothing.
        let declared = header(call.headers(), CONTENT_TYPE.as_str())
            .filter(|declared| is_media_type(declared));
        let whole = body.clone();
        let (data, declared) = data(declared, body)?;
        let value = data.as_ref().and_then(Data::value).unwrap_or(&Value::Null);
        if let Some(wrapped) = self.unwrap(call, value, &whole, data.as_ref(), declared) {
            return Ok(smallvec![wrapped.build(now)]);
        }
        let Some(templates) = &self.templates else {
            return Ok(smallvec![build(
                self.attributes(call, id, value),
                data,
                declared,
                now
            )]);
        };
        let raw = data.as_ref().map_or(&b""[..], |data| data.bytes());
        let items = templates.items().and_then(|path| items(raw, path));
        let Some(items) = items else {
            let attributes = templates.attributes(call, value, raw);
            let inner = templates
                .data()
                .and_then(|path| raw_at(std::str::from_utf8(raw).ok()?, path))
                .and_then(json);
            let envelope = inner.is_some().then(|| value.clone());
            return Ok(smallvec![Mapped {
                envelope,
                ..build(attributes, inner.or(data), declared, now)
            }]);
        };
        let one = |item: &RawValue| {
            let value = serde_json::from_str(item.get()).unwrap_or(Value::Null);
            let attributes = templates.attributes(call, &value, item.get().as_bytes());
            let data = templates
                .data()
                .and_then(|path| raw_at(item.get(), path))
                .unwrap_or(item);
            build(attributes, json(data), declared, now)
        };
        Ok(items.into_iter().map(one).collect())
    }

    /// The message out of its envelope, of those who send one.
    fn unwrap(
        &self,
        call: &Call<'_>,
        value: &Value,
        whole: &Bytes,
        data: Option<&Data>,
        declared: Option<&str>,
    ) -> Option<Wrapped> {
        match self.events {
            Events::Sns => Some(sns::map(value)),
            Events::PubSub => Some(pubsub::map(call.headers(), value, data.cloned(), declared)),
            Events::Mns => Some(mns::map(call.headers(), value, whole)),
            _ => None,
        }
    }

    /// The headers and body of a CloudEvent by HTTP that a call holds in another way: in a message
    /// of Pub/Sub's, or as JSON that does not say so.
    pub(super) fn cloudevent(&self, call: &Call<'_>, body: &Bytes) -> Option<(HeaderMap, Bytes)> {
        match self.events {
            Events::PubSub => pubsub::cloudevent(call.fields()),
            Events::EventBridge(_) => {
                call.fields()
                    .get("specversion")
                    .filter(|version| *version == "1.0")?;
                let headers = HeaderMap::from_iter([(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/cloudevents+json"),
                )]);
                Some((headers, body.clone()))
            }
            _ => None,
        }
    }

    fn attributes(&self, call: &Call<'_>, id: Option<String>, value: &Value) -> Attributes {
        let headers = call.headers();
        let attributes = match self.events {
            Events::Github => github::attributes(headers, value),
            Events::Gitlab => gitlab::attributes(headers, value),
            Events::Slack => slack::attributes(value),
            _ => Attributes {
                ty: format!("com.pointsman.webhook.{}", self.name),
                source: format!("/webhooks/{}", self.name),
                id: ID_HEADERS
                    .into_iter()
                    .find_map(|id| header(headers, id))
                    .map(str::to_owned),
                subject: None,
                time: None,
            },
        };
        // What is signed goes before what anybody could have added.
        Attributes {
            id: id.or(attributes.id),
            ..attributes
        }
    }

    /// The delivery's id of a call that brings CloudEvents, by which its repetition is known: one
    /// beside the body.
    pub(super) fn delivery_id(&self, call: &Call<'_>) -> Option<String> {
        let name = match self.events {
            Events::Github => "x-github-delivery",
            Events::Gitlab => "idempotency-key",
            _ => return None,
        };
        header(call.headers(), name).map(str::to_owned)
    }
}

/// Where senders of no known kind put an id that stays the same when they try again.
const ID_HEADERS: [&str; 2] = ["webhook-id", "idempotency-key"];

/// What an `event:` mapping sees beside the body: `headers`, `query` and `path`, and the `envelope`
/// that the body came in. Headers that hold the caller's secrets are left out, and so are
/// the headers and parameters of these names, so that no event can carry them.
pub(super) fn root_fields(
    head: &Parts,
    envelope: Option<Value>,
    secrets: &[&str],
) -> Map<String, Value> {
    let mut headers = BTreeMap::<&str, String>::new();
    for (name, value) in &head.headers {
        let shown = |secret: &&str| name.as_str().eq_ignore_ascii_case(secret);
        if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) || secrets.iter().any(shown)
        {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = headers.entry(name.as_str()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&value);
    }
    let headers: Map<_, _> = headers
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    let query: Map<_, _> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .filter(|(name, _)| !secrets.contains(&name.as_str()))
            .map(|(name, value)| (name, value.into()))
            .collect();
    let mut fields = Plain::fields([
        ("headers", headers.into()),
        ("query", query.into()),
        ("path", head.uri.path().into()),
    ]);
    fields.extend(envelope.map(|envelope| ("envelope".to_owned(), envelope)));
    fields
}
