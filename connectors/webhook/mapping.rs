//! What a webhook brings, as an event.

mod github;
mod gitlab;
mod mns;
mod pubsub;
mod slack;
mod sns;
#[cfg(test)]
mod tests;
mod wrapped;
mod xml;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use indexmap::IndexMap;
use indexmap::map::Entry;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pointsman_schemas::media_type::{is_json_media_type, is_media_type};
use pointsman_schemas::{Data, DataKind, Event, EventBuilder, ExtensionValue, Name, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use smallvec::{SmallVec, smallvec};

use super::preset::{Events, Templates};
use super::signature::Call;
use crate::Plain;
use crate::listener::Refusal;
use wrapped::Wrapped;

/// What was made of a request.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Not checked yet, and without its data.
    pub(super) event: EventBuilder,
    pub(super) data: Option<Data>,
    /// What the data came in, where it is not the whole body.
    pub(super) envelope: Option<Value>,
    /// The sender's own id of it, which stays the same when he tries again.
    pub(super) id: Option<String>,
}

/// The attributes that a sender's own mapping finds; what is missing gets its default.
pub(super) struct Attributes {
    pub(super) ty: String,
    pub(super) source: String,
    pub(super) id: Option<String>,
    pub(super) subject: Option<String>,
    /// RFC 3339, or seconds or milliseconds since 1970.
    pub(super) time: Option<String>,
}

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
            return Ok(smallvec![build_wrapped(wrapped, now)]);
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

/// The event of these attributes; a missing id is made up, a missing time is now.
fn build(
    attributes: Attributes,
    data: Option<Data>,
    declared: Option<&str>,
    now: Timestamp,
) -> Mapped {
    let id = attributes
        .id
        .clone()
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let time = attributes
        .time
        .as_deref()
        .and_then(rfc3339)
        .unwrap_or_else(|| now.to_string());
    let source = utf8_percent_encode(&attributes.source, NOT_OF_URIS).to_string();
    let mut event = Event::builder(id, source, attributes.ty).time(time);
    // A subject that cannot be one is no reason to refuse what happened.
    if let Some(subject) = attributes
        .subject
        .filter(|subject| !subject.is_empty() && !subject.chars().any(char::is_control))
    {
        event = event.subject(subject);
    }
    if let Some(declared) = declared {
        event = event.datacontenttype(declared);
    }
    Mapped {
        event,
        data,
        envelope: None,
        id: attributes.id,
    }
}

/// The event of a message that came in an envelope.
fn build_wrapped(wrapped: Wrapped, now: Timestamp) -> Mapped {
    let Wrapped {
        attributes,
        extensions,
        data,
        media_type,
        envelope,
    } = wrapped;
    let mut mapped = Mapped {
        envelope,
        ..build(attributes, data, media_type.as_deref(), now)
    };
    for (name, value) in extensions
        .into_iter()
        .filter(|(_, value)| !value.chars().any(char::is_control))
        .take(EXTENSIONS_MAX)
    {
        mapped.event = mapped
            .event
            .attribute(name, ExtensionValue::String(value.into()));
    }
    mapped
}

/// How many attributes of a message become extensions: an event may have more, and others add
/// theirs.
const EXTENSIONS_MAX: usize = 30;

/// What a URI has no room for (RFC 3986, section 2): senders' names are not always encoded.
const NOT_OF_URIS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn json(value: &RawValue) -> Option<Data> {
    Data::json(value.get().to_owned().into()).ok()
}

/// The items of a list in the body as they came, long numbers included; the list itself has the
/// empty path.
fn items<'b>(body: &'b [u8], path: &str) -> Option<Vec<&'b RawValue>> {
    let list = raw_at(std::str::from_utf8(body).ok()?, path)?;
    serde_json::from_str::<Vec<&RawValue>>(list.get())
        .ok()
        .filter(|items| !items.is_empty())
}

fn raw_at<'b>(text: &'b str, path: &str) -> Option<&'b RawValue> {
    let whole: &RawValue = serde_json::from_str(text).ok()?;
    path.split('.')
        .filter(|key| !key.is_empty())
        .try_fold(whole, |value, key| {
            serde_json::from_str::<HashMap<Cow<'b, str>, &'b RawValue>>(value.get())
                .ok()?
                .remove(key)
        })
}

/// The body as JSON for those who look for fields in it: a form as an object, null of what is
/// neither.
pub(super) fn fields(headers: &HeaderMap, body: &[u8]) -> Value {
    let declared =
        header(headers, CONTENT_TYPE.as_str()).filter(|declared| is_media_type(declared));
    let data = data(declared, Bytes::copy_from_slice(body))
        .ok()
        .and_then(|(data, _)| data);
    data.as_ref()
        .and_then(Data::value)
        .cloned()
        .unwrap_or(Value::Null)
}

/// Where senders of no known kind put an id that stays the same when they try again.
const ID_HEADERS: [&str; 2] = ["webhook-id", "idempotency-key"];

/// The body as data, with its media type.
///
/// Senders declare all sorts of things: a form is read as the object that it is, and an object or
/// list in JSON is JSON under whatever type it comes. Else the bytes are what they are declared to
/// be, or what [`Data::read`] finds in undeclared ones.
///
/// # Errors
/// The body is declared as JSON and is not.
fn data(declared: Option<&str>, body: Bytes) -> Result<(Option<Data>, Option<&str>), Refusal> {
    const JSON: Option<&str> = Some("application/json");
    if body.is_empty() {
        return Ok((None, declared));
    }
    if declared.is_some_and(|declared| !is_json_media_type(declared))
        && let Some(json) = container(&body)
    {
        return Ok((Some(json), JSON));
    }
    if declared.is_some_and(is_form) {
        return Ok((Some(form(&body)?), JSON));
    }
    let data = Data::read(declared, body)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let implied = match data.kind() {
        DataKind::Json => "application/json",
        DataKind::Text => "text/plain",
        DataKind::Binary => "application/octet-stream",
    };
    Ok((Some(data), Some(declared.unwrap_or(implied))))
}

/// An object or a list in JSON; scalars are left to their declared type, which a text such as `5`
/// may well be.
fn container(body: &Bytes) -> Option<Data> {
    let text = body
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(body)
        .trim_ascii_start();
    matches!(text.first(), Some(b'{' | b'[')).then(|| Data::json(body.clone()).ok())?
}

pub(super) fn is_form(media_type: &str) -> bool {
    media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// A field of a form; one that is there several times has a list of values.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'f> {
    One(Cow<'f, str>),
    Several(Vec<Cow<'f, str>>),
}

/// A form (URL Standard, section 5.1) as an object of texts, its fields in their order. Where its
/// one field is `payload` and holds JSON, as GitHub and Slack have it, the data is that JSON.
fn form(body: &[u8]) -> Result<Data, Refusal> {
    let mut fields = IndexMap::<Cow<'_, str>, Field<'_>>::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        match fields.entry(name) {
            Entry::Vacant(vacant) => _ = vacant.insert(Field::One(value)),
            Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Field::Several(values) => values.push(value),
                Field::One(first) => {
                    let first = std::mem::take(first);
                    occupied.insert(Field::Several(vec![first, value]));
                }
            },
        }
    }
    if let (1, Some(Field::One(payload))) = (fields.len(), fields.get("payload"))
        && let Ok(json) = Data::json(payload.clone().into_owned().into())
    {
        return Ok(json);
    }
    // An object of texts always serializes, and is JSON.
    let object = serde_json::to_vec(&fields).unwrap_or_default();
    Data::json(object.into())
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// The text at a dotted path: of a string itself, of a number or a boolean its JSON.
fn text(body: &Value, path: &str) -> Option<String> {
    match path
        .split('.')
        .try_fold(body, |value, key| value.get(key))?
    {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn first_text(body: &Value, paths: &[&str]) -> Option<String> {
    paths.iter().find_map(|path| text(body, path))
}

/// A sender's time in RFC 3339: as it is where it is that, made from seconds since 1970, or from
/// GitLab's older spelling.
fn rfc3339(time: &str) -> Option<String> {
    if time.parse::<jiff::Timestamp>().is_ok() && time.contains(['T', 't']) {
        return Some(time.to_owned());
    }
    if let Ok(number) = time.parse::<i64>() {
        // The seconds of the year 5138 are the milliseconds of 1973: nobody sends either.
        let made = if number.abs() < 100_000_000_000 {
            jiff::Timestamp::from_second(number)
        } else {
            jiff::Timestamp::from_millisecond(number)
        };
        return made.ok().map(|time| time.to_string());
    }
    if let Some(seconds) = time
        .parse::<f64>()
        .ok()
        .filter(|seconds| seconds.is_finite() && seconds.abs() < 1e11)
    {
        let micros = jiff::Timestamp::from_microsecond((seconds * 1e6).round() as i64);
        return micros.ok().map(|time| time.to_string());
    }
    let time = time.strip_suffix(" UTC")?.replacen(' ', "T", 1) + "Z";
    time.parse::<jiff::Timestamp>().ok().map(|_| time)
}

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
