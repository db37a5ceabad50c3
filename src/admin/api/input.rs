//! What requests bring: names in their path, and a body.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use pointsman_schemas::media_type::is_json_media_type;
use pointsman_schemas::{DeliveryId, SubscriptionNumber};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admin::refused::Refused;

/// No query parameters, or no fields in a body.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// The variable segments of a path, by name.
#[derive(Debug)]
pub(crate) struct Segments(Result<HashMap<String, String>, PathRejection>);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(segments)| segments)))
    }
}

/// What a path names with its variable segment.
pub(crate) trait InPath: Sized {
    /// The segment's name and what it is; none where there is none.
    const SEGMENT: Option<(&'static str, &'static str)>;

    /// Reads the segment, which is empty where there is none.
    ///
    /// # Errors
    /// It cannot be what it is to be.
    fn parse(segment: &str) -> Result<Self, Refused>;

    /// How the segment is written.
    fn schema() -> Schema;

    /// Reads it from a path.
    ///
    /// # Errors
    /// As [`InPath::parse`], or the path is no text.
    fn of(segments: &Segments) -> Result<Self, Refused> {
        let segments = match &segments.0 {
            Ok(segments) => segments,
            Err(rejection) => return Err(Refused::bad_request(rejection.body_text())),
        };
        let segment = Self::SEGMENT.and_then(|(name, _)| segments.get(name));
        Self::parse(segment.map_or("", String::as_str))
    }
}

impl InPath for () {
    const SEGMENT: Option<(&'static str, &'static str)> = None;

    fn parse(_: &str) -> Result<Self, Refused> {
        Ok(())
    }

    fn schema() -> Schema {
        json_schema!(false)
    }
}

impl InPath for DeliveryId {
    const SEGMENT: Option<(&'static str, &'static str)> = Some(("id", "The id of a task"));

    fn parse(segment: &str) -> Result<Self, Refused> {
        let parsed = segment.parse();
        parsed.map_err(|error| Refused::bad_request(format!("{error}")))
    }

    fn schema() -> Schema {
        DeliveryId::json_schema(&mut SchemaGenerator::default())
    }
}

impl InPath for SubscriptionNumber {
    const SEGMENT: Option<(&'static str, &'static str)> =
        Some(("number", "The number of a subscription, as they are listed"));

    fn parse(segment: &str) -> Result<Self, Refused> {
        let invalid =
            |_| Refused::bad_request(format!("{segment:?} is not the number of a subscription"));
        segment.parse().map(SubscriptionNumber).map_err(invalid)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
    }
}

/// Reads a body, which has to be declared as JSON: a form of a page elsewhere can send text, but
/// not that without asking first. One that is empty stands for `{}`.
pub(in crate::admin) fn read_body<B: DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<B, Refused> {
    let body = if body.is_empty() {
        b"{}"
    } else {
        must_be_json(headers)?;
        body
    };
    let read = serde_json::from_slice(body);
    let read = read.or_else(|error: serde_json::Error| of_whole_numbers(body, &error).ok_or(error));
    read.map_err(|error| Refused::bad_request(format!("the body cannot be used: {error}")))
}

/// Reads a body anew in which a whole number is written with a fraction, as `7.0`, which JSON
/// Schema takes for an integer and some languages write.
fn of_whole_numbers<B: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Option<B> {
    if !error
        .to_string()
        .starts_with("invalid type: floating point")
    {
        return None;
    }
    let mut value: Value = serde_json::from_slice(body).ok()?;
    make_whole(&mut value);
    serde_json::from_value(value).ok()
}

fn make_whole(value: &mut Value) {
    /// Up to here each whole number is a float of its own.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            if let Some(float) =
                float.filter(|float| float.fract() == 0.0 && float.abs() < EXACT_MAX)
            {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and not large")]
                let whole = float as i64;
                *value = whole.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(make_whole),
        Value::Object(object) => object.values_mut().for_each(make_whole),
        _ => {}
    }
}

fn must_be_json(headers: &HeaderMap) -> Result<(), Refused> {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|declared| declared.to_str().ok())
        .unwrap_or_default();
    if is_json_media_type(declared) {
        return Ok(());
    }
    let detail = format!("Content-Type is {declared:?}; send application/json");
    Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}
