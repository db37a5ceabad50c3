//! What a sender hears, and the registrations that the language of `custom` has no words for.
//!
//! Every webhook answers `HEAD` with 200: Trello, Intercom and others ask so whether somebody is
//! there.

use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::listener::{Refusal, Response};
use crate::webhook::signature::{Address, AnswerForm, Answered, Call, Verifier};

/// What a provider's calls are answered that depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webhook) enum Reaction {
    None,
    /// A signed PING of interactions or of webhook events, and interactions, which are deferred.
    Discord,
    /// A signed `SubscriptionConfirmation` with an address that is to be called.
    Sns,
}

/// What is answered in the place of taking an event, or for it.
#[derive(Debug, PartialEq)]
pub(in crate::webhook) enum Reply {
    Text(String),
    Json(String),
    Empty(StatusCode),
    /// The address is called first; 200 where that answers.
    Visit(Address),
}

impl Reaction {
    /// Why a call is refused before its signature is looked at.
    pub(in crate::webhook) fn refuses(self, call: &Call<'_>) -> Option<Refusal> {
        let is_raw = self == Self::Sns
            && call
                .header("x-amz-sns-rawdelivery")
                .is_some_and(|value| value == "true");
        let detail = "Amazon SNS does not sign raw messages; turn off the subscription's raw \
                      message delivery";
        is_raw.then(|| Refusal::new(StatusCode::UNAUTHORIZED, detail))
    }

    /// What a signed body is answered that is no event.
    pub(in crate::webhook) fn signed(
        self,
        verifier: &Verifier,
        call: &Call<'_>,
    ) -> Option<Result<Reply, Refusal>> {
        match self {
            Self::None => None,
            Self::Sns => sns(verifier, call),
            Self::Discord => match call.fields().get("type").and_then(Value::as_i64) {
                Some(0) => Some(Ok(Reply::Empty(StatusCode::NO_CONTENT))),
                Some(1) if call.fields().get("event").is_none() => {
                    Some(Ok(Reply::Json(json!({ "type": 1 }).to_string())))
                }
                _ => None,
            },
        }
    }

    /// What is answered to a call whose event is stored, where that depends on the call.
    pub(in crate::webhook) fn stored(self, call: &Call<'_>) -> Option<Reply> {
        if self != Self::Discord || call.fields().get("event").is_some() {
            return None;
        }
        // An interaction wants an answer at once: one that says that the message, or its update,
        // comes later.
        match call.fields().get("type").and_then(Value::as_i64)? {
            2 | 5 => Some(Reply::Json(json!({ "type": 5 }).to_string())),
            3 => Some(Reply::Json(json!({ "type": 6 }).to_string())),
            _ => None,
        }
    }
}

/// "Confirming the subscription": the address in the message is called, which is signed with it,
/// and must be Amazon's all the same.
fn sns(verifier: &Verifier, call: &Call<'_>) -> Option<Result<Reply, Refusal>> {
    let message = call.fields();
    (message.get("Type")? == "SubscriptionConfirmation").then_some(())?;
    let address = message
        .get("SubscribeURL")
        .and_then(Value::as_str)
        .and_then(|url| verifier.on_certificate_host(url));
    Some(address.map(Reply::Visit).ok_or_else(|| {
        Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "SubscribeURL is not on a host that is allowed, and is not called",
        )
    }))
}

impl From<Answered> for Reply {
    fn from((body, form): Answered) -> Self {
        match form {
            AnswerForm::Text => Self::Text(body),
            AnswerForm::Json => Self::Json(body),
        }
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        let (body, media_type) = match reply {
            Reply::Text(text) => (text, "text/plain"),
            Reply::Json(text) => (text, "application/json"),
            Reply::Visit(_) => return Self::default(),
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
