//! How an address is registered, and what a sender hears in return.
//!
//! Every webhook answers `HEAD` with 200: Trello, Intercom and others ask so whether somebody is there.

use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::http::{Refusal, Response};
use crate::webhook::signature::{Call, Verifier, scalar};

/// The longest challenge that is sent back: known ones have 60 characters at most, a validation token of Microsoft's some hundred.
const CHALLENGE_BYTES_MAX: usize = 4_096;

/// What a provider asks to see whether the address is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webhook) enum Handshake {
    None,
    /// A signed `url_verification` with a challenge.
    Slack,
    /// A signed `endpoint.url_validation`, whose token is sent back with its HMAC.
    Zoom,
    /// A signed PING of interactions or of webhook events.
    Discord,
    /// WebSub: `GET` with `hub.challenge` and `hub.verify_token`.
    Hub,
    /// A `SubscriptionValidation` event.
    EventGrid,
    /// A `POST` without a body and with a `validationToken` in its query, which nothing signs.
    ValidationToken,
}

/// What is answered in the place of taking an event, or for it.
#[derive(Debug, PartialEq)]
pub(in crate::webhook) enum Reply {
    Text(String),
    Json(Value),
    Empty(StatusCode),
}

impl Handshake {
    /// What a `GET` is answered; none where it asks for nothing that is known.
    pub(in crate::webhook) fn get(self, verifier: &Verifier, call: &Call<'_>) -> Option<Result<Reply, Refusal>> {
        if self != Self::Hub || call.query("hub.mode")? != "subscribe" {
            return None;
        }
        let challenge = call.query("hub.challenge").filter(|challenge| challenge.len() <= CHALLENGE_BYTES_MAX)?;
        let token = call.query("hub.verify_token").unwrap_or_default();
        if verifier.is_verify_token(&token) {
            return Some(Ok(Reply::Text(challenge)));
        }
        Some(Err(Refusal::new(StatusCode::FORBIDDEN, "hub.verify_token is not the webhook's verify_token; set both to the same text")))
    }

    /// What an unsigned `POST` is answered that only asks whether somebody is there.
    pub(in crate::webhook) fn unsigned(self, call: &Call<'_>) -> Option<Reply> {
        if self != Self::ValidationToken {
            return None;
        }
        call.query("validationToken").filter(|token| token.len() <= CHALLENGE_BYTES_MAX).map(Reply::Text)
    }

    /// What a signed body is answered that is no event.
    pub(in crate::webhook) fn signed(self, verifier: &Verifier, call: &Call<'_>) -> Option<Reply> {
        let text = |value: Option<&Value>| value.and_then(scalar).filter(|text| text.len() <= CHALLENGE_BYTES_MAX);
        // The body is read only where it can be a challenge.
        let mentions = |word: &str| memchr::memmem::find(call.body(), word.as_bytes()).is_some();
        match self {
            Self::None | Self::Hub | Self::ValidationToken => None,
            Self::Slack => {
                let body = mentions("url_verification").then(|| call.fields())?;
                (body.get("type")? == "url_verification").then(|| text(body.get("challenge")).map(Reply::Text))?
            }
            Self::Zoom => {
                let body = mentions("endpoint.url_validation").then(|| call.fields())?;
                let token = (body.get("event")? == "endpoint.url_validation").then(|| text(body.pointer("/payload/plainToken")))??;
                let encrypted = verifier.hmac_sha256_hex(&token)?;
                Some(Reply::Json(json!({ "plainToken": token, "encryptedToken": encrypted })))
            }
            Self::Discord => match call.fields().get("type").and_then(Value::as_i64) {
                Some(0) => Some(Reply::Empty(StatusCode::NO_CONTENT)),
                Some(1) if call.fields().get("event").is_none() => Some(Reply::Json(json!({ "type": 1 }))),
                _ => None,
            },
            Self::EventGrid => {
                let body = mentions("Microsoft.EventGrid.SubscriptionValidationEvent").then(|| call.fields())?;
                let event = body.get(0).unwrap_or(body);
                let code = (event.get("eventType")? == "Microsoft.EventGrid.SubscriptionValidationEvent")
                    .then(|| text(event.pointer("/data/validationCode")))??;
                Some(Reply::Json(json!({ "validationResponse": code })))
            }
        }
    }

    /// What is answered to a call whose event is stored, where that depends on the call.
    pub(in crate::webhook) fn stored(self, call: &Call<'_>) -> Option<Reply> {
        if self != Self::Discord || call.fields().get("event").is_some() {
            return None;
        }
        // An interaction wants an answer at once: one that says that the message, or its update, comes later.
        match call.fields().get("type").and_then(Value::as_i64)? {
            2 | 5 => Some(Reply::Json(json!({ "type": 5 }))),
            3 => Some(Reply::Json(json!({ "type": 6 }))),
            _ => None,
        }
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        let (body, media_type) = match reply {
            Reply::Text(text) => (text, "text/plain"),
            Reply::Json(value) => (value.to_string(), "application/json"),
            Reply::Empty(status) => {
                let mut response = Self::default();
                *response.status_mut() = status;
                return response;
            }
        };
        let mut response = Self::new(body.into());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        // What a stranger's query says must not be run as a page.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
