//! What requests bring: names in their path, and a body.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use pointsman_schemas::media_type::is_json_media_type;
use pointsman_schemas::{DeliveryId, SubscriptionNumber};
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::admin::refused::Refused;

/// No query parameters, or no fields in a body.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Nothing {}

/// The variable segments of a path, by name.
#[derive(Debug)]
pub(in crate::admin) struct Segments(Result<HashMap<String, String>, PathRejection>);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(segments)| segments)))
    }
}

/// What a path names with its variable segment.
pub(in crate::admin) trait InPath: Sized {
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
        json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,64}$" })
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
pub(super) fn body<B: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<B, Refused> {
    let body = if body.is_empty() {
        b"{}"
    } else {
        must_be_json(headers)?;
        body
    };
    serde_json::from_slice(body)
        .map_err(|error| Refused::bad_request(format!("the body cannot be used: {error}")))
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
