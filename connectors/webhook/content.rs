//! A call's body as data: JSON, a form, a text or bytes, whatever it is declared to be.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use indexmap::IndexMap;
use indexmap::map::Entry;
use pointsman_schemas::Data;
use pointsman_schemas::InvalidEvent;
use pointsman_schemas::media_type::{is_json_media_type, is_media_type};
use serde::Serialize;
use serde_json::Value;

use crate::body;
use crate::listener::Refusal;

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

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// The body as data, with its media type.
///
/// Senders declare all sorts of things: a form is read as the object that it is, and an object or
/// list in JSON is JSON under whatever type it comes. Else the bytes are what they are declared to
/// be, or what [`body::read`] finds in undeclared ones.
///
/// # Errors
/// The body is declared as JSON and is not.
pub(super) fn data(
    declared: Option<&str>,
    body: Bytes,
) -> Result<(Option<Data>, Option<&str>), Refusal> {
    const JSON: Option<&str> = Some("application/json");
    if declared.is_some_and(|declared| !is_json_media_type(declared))
        && let Some(json) = container(&body)
    {
        return Ok((Some(json), JSON));
    }
    if declared.is_some_and(is_form) {
        return Ok((Some(form(&body)?), JSON));
    }
    body::read(declared, body).map_err(|error| bad_request(&error))
}

fn bad_request(error: &InvalidEvent) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
}

/// An object or a list in JSON; scalars are left to their declared type, which a text such as `5`
/// may well be.
pub(super) fn container(body: &Bytes) -> Option<Data> {
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
    Data::json(object.into()).map_err(|error| bad_request(&error))
}
