//! What a webhook brings, as an event.

mod github;
mod gitlab;
mod slack;
mod stripe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use pointsman_schemas::media_type::is_json_media_type;
use pointsman_schemas::{Data, DataKind, Event, EventBuilder, Name, Timestamp};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::signature::Signature;
use crate::http::Refusal;

pub(super) use slack::challenge;

/// What was made of a request.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Not checked yet, and without its data.
    pub(super) event: EventBuilder,
    pub(super) data: Option<Data>,
    /// The sender's own id of it, which stays the same when he tries again.
    pub(super) id: Option<String>,
}

/// The attributes that a sender's own mapping finds; what is missing gets its default.
struct Attributes {
    ty: String,
    source: String,
    id: Option<String>,
    subject: Option<String>,
    /// RFC 3339, or seconds since 1970.
    time: Option<String>,
}

/// Maps a request by the scheme that it is signed by.
///
/// # Errors
/// The body is not what it is declared to be.
pub(super) fn map(signature: &Signature, name: &Name, head: &Parts, body: Bytes, now: Timestamp) -> Result<Mapped, Refusal> {
    let declared = header(&head.headers, CONTENT_TYPE.as_str());
    let (data, declared) = match (signature, declared) {
        // GitHub sends its JSON as a form's field where it is told so; the adapter's data is the JSON.
        (Signature::Github(_), Some(form)) if is_form(form) => {
            let payload = std::str::from_utf8(&body).ok().and_then(|form| form_field(form, "payload")).unwrap_or_default();
            (Some(json(payload.into())?), Some("application/json"))
        }
        (_, declared) => data(declared, body)?,
    };
    let none = Value::Null;
    let value = data.as_ref().and_then(Data::value);
    let form = data.as_ref().filter(|_| declared.is_some_and(is_form)).and_then(|data| std::str::from_utf8(data.bytes()).ok());
    let attributes = match signature {
        Signature::Github(_) => github::attributes(&head.headers, value.unwrap_or(&none)),
        Signature::Gitlab(_) => gitlab::attributes(&head.headers, value.unwrap_or(&none)),
        Signature::Stripe(_) => stripe::attributes(value.unwrap_or(&none)),
        Signature::Slack(_) => slack::attributes(value, form),
        Signature::Standard(_) | Signature::Hmac(_) | Signature::None(_) => Attributes {
            ty: format!("com.pointsman.webhook.{name}"),
            source: format!("/webhooks/{name}"),
            id: signature.id_header().into_iter().chain(ID_HEADERS).find_map(|id| header(&head.headers, id)).map(str::to_owned),
            subject: None,
            time: None,
        },
    };
    let id = attributes.id.clone().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let time = attributes.time.as_deref().and_then(rfc3339).unwrap_or_else(|| now.to_string());
    let mut event = Event::builder(id, attributes.source, attributes.ty).time(time);
    if let Some(subject) = attributes.subject {
        event = event.subject(subject);
    }
    if let Some(declared) = declared {
        event = event.datacontenttype(declared);
    }
    Ok(Mapped { event, data, id: attributes.id })
}

/// Where senders of no known kind put an id that stays the same when they try again.
const ID_HEADERS: [&str; 2] = ["webhook-id", "idempotency-key"];

/// JSON byte for byte where it is declared or, undeclared, is some; text where it is of a textual type; else binary.
fn data(declared: Option<&str>, body: Bytes) -> Result<(Option<Data>, Option<&str>), Refusal> {
    if body.is_empty() {
        return Ok((None, declared));
    }
    let utf8 = |body: Bytes| ByteString::try_from(body).map(Data::text);
    Ok(match declared {
        Some(declared) if is_json_media_type(declared) => (Some(json(body)?), Some(declared)),
        Some(declared) if is_textual(declared) => match utf8(body.clone()) {
            Ok(text) => (Some(text), Some(declared)),
            Err(_) => (Some(Data::binary(body)), Some(declared)),
        },
        Some(declared) => (Some(Data::binary(body)), Some(declared)),
        None => match (Data::json(body.clone()), utf8(body.clone())) {
            (Ok(json), _) => (Some(json), Some("application/json")),
            (_, Ok(text)) => (Some(text), Some("text/plain")),
            _ => (Some(Data::binary(body)), Some("application/octet-stream")),
        },
    })
}

fn json(body: Bytes) -> Result<Data, Refusal> {
    Data::json(body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
}

fn is_form(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn is_textual(media_type: &str) -> bool {
    let essence = essence(media_type).to_ascii_lowercase();
    essence.starts_with("text/") || essence.ends_with("/xml") || essence.ends_with("+xml") || is_form(&essence)
}

fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// A field of a form.
fn form_field(form: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(form.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).filter(|value| !value.is_empty())
}

/// The text at a dotted path: of a string itself, of a number or a boolean its JSON.
fn text(body: &Value, path: &str) -> Option<String> {
    match path.split('.').try_fold(body, |value, key| value.get(key))? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn first_text(body: &Value, paths: &[&str]) -> Option<String> {
    paths.iter().find_map(|path| text(body, path))
}

/// A sender's time in RFC 3339: as it is where it is that, made from seconds since 1970, or from GitLab's older spelling.
fn rfc3339(time: &str) -> Option<String> {
    if time.parse::<jiff::Timestamp>().is_ok() && time.contains(['T', 't']) {
        return Some(time.to_owned());
    }
    if let Ok(seconds) = time.parse() {
        return jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string());
    }
    let time = time.strip_suffix(" UTC")?.replacen(' ', "T", 1) + "Z";
    time.parse::<jiff::Timestamp>().ok().map(|_| time)
}

/// The root that an `event:` mapping sees: `body`, `headers`, `query` and `path`.
#[derive(Serialize)]
struct Root<'r> {
    body: Body<'r>,
    headers: BTreeMap<&'r str, String>,
    query: BTreeMap<String, String>,
    path: &'r str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'r> {
    None(()),
    /// As it came: long numbers and duplicate keys included.
    Json(&'r RawValue),
    Text(&'r str),
    Base64(String),
}

/// Builds the root as a JSON text. Headers that hold the caller's secrets are left out, so that no event can carry them.
pub(super) fn root(head: &Parts, data: Option<&Data>) -> Bytes {
    let mut headers = BTreeMap::<&str, String>::new();
    for (name, value) in &head.headers {
        if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) || name == "x-gitlab-token" {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = headers.entry(name.as_str()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&value);
    }
    let text = data.and_then(|data| std::str::from_utf8(data.bytes()).ok());
    let body = match (data, text) {
        (None, _) => Body::None(()),
        (Some(data), Some(text)) if data.kind() == DataKind::Json => serde_json::from_str(text).map(Body::Json).unwrap_or(Body::Text(text)),
        (Some(_), Some(text)) => Body::Text(text),
        (Some(data), None) => Body::Base64(BASE64_STANDARD.encode(data.bytes())),
    };
    let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    // Texts and a valid JSON text always serialize.
    serde_json::to_vec(&Root { body, headers, query, path: head.uri.path() }).unwrap_or_default().into()
}
