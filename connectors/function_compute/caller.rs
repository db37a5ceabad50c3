//! Calls a function.
//!
//! | what happens | class |
//! |---|---|
//! | a synchronous call is answered with 200, an asynchronous one with 202 | delivered |
//! | an asynchronous call is answered with 409: Function Compute has this task already | delivered |
//! | the function fails: the answer has an `x-fc-error-type` other than `FcCommonError` | failed |
//! | no connection, or no such function or qualifier (404) | unavailable |
//! | the keys are not known, or may not (403) | refused |
//! | too many calls, no instance free (429, 503, or `Retry-After`) | throttled |
//! | the event is larger than Function Compute takes, or something else is wrong with the call (400, 413) | rejected |
//! | anything else, as the http target has it | see `net/classify.rs` and `net/unanswered.rs` |

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use pointsman_schemas::{Class, Outcome, Replies, json};
use serde_json::Value;
use tokio::time::Instant;

use super::signature::{Signed, hash};
use super::target::{Invocation, Mode};
use crate::alibaba::{Endpoint, Signer};
use crate::net::CallError;
use crate::net::answer::{Answer, Deadlines};
use crate::net::classify::{classify, retry_after};
use crate::net::client::Client;
use crate::net::unanswered::failed;
use crate::{Attempt, Delivery, structured};

/// The API's version.
const VERSION: &str = "2023-03-30";

/// What is left as it is in a parameter: RFC 3986, section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What an error of Function Compute's own says of itself; any other is the function's.
const OF_THE_SERVICE: &str = "FcCommonError";

/// The task of an asynchronous call: its id has to begin with a letter.
const TASK_PREFIX: &str = "task-";

/// Calls one function.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) http: Client,
    pub(super) endpoint: Endpoint,
    pub(super) signer: Signer,
    pub(super) function: String,
    pub(super) qualifier: Option<String>,
    pub(super) invocation: Invocation,
    pub(super) mode: Mode,
}

/// A call that is not yet signed.
struct Call<'c> {
    method: Method,
    action: &'static str,
    path: String,
    headers: &'c [(&'static str, String)],
    body: Bytes,
}

impl Caller {
    /// The deliveries one after the other, so that their order is kept.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        let deadlines = Deadlines::new(Instant::now(), attempt.timeout);
        let mut outcomes = Vec::with_capacity(attempt.deliveries.len());
        for delivery in &attempt.deliveries {
            let rule = attempt.rule.as_str();
            let outcome = self.deliver(delivery, rule, deadlines).await;
            outcomes.push(outcome.unwrap_or_else(|outcome| *outcome));
        }
        outcomes
    }

    async fn deliver(
        &self,
        delivery: &Delivery,
        rule: &str,
        deadlines: Deadlines,
    ) -> Result<Outcome, Box<Outcome>> {
        let rejected = |why: String| Box::new(Outcome::new(Class::Rejected, why));
        let (body, media_type) = match self.mode {
            Mode::Structured => (
                structured::encode(delivery, rule)
                    .map_err(|invalid| rejected(invalid.to_string()))?,
                json::MEDIA_TYPE,
            ),
            Mode::Data => {
                let data = delivery.event.data().map(|data| data.bytes().clone());
                (data.unwrap_or_default(), "application/octet-stream")
            }
        };
        let mut headers = vec![
            ("content-type", media_type.to_owned()),
            ("x-fc-invocation-type", self.invocation.name().to_owned()),
        ];
        if self.invocation == Invocation::Async {
            let task = format!("{TASK_PREFIX}{}", delivery.id);
            headers.push(("x-fc-async-task-id", task));
        }
        let call = Call {
            method: Method::POST,
            action: "InvokeFunction",
            path: format!("{}/invocations", self.path()),
            headers: &headers,
            body,
        };
        let request = self.signed(call).map_err(rejected)?;
        let called = self.http.call(request, Some(deadlines.connected)).await;
        let answered = called.map_err(failed)?;
        let (head, answer) =
            Answer::read(answered, RESPONSE_BYTES_MAX, Some(deadlines.answered)).await;
        Ok(self.outcome(&head, answer))
    }

    /// Asks about the function.
    pub(super) async fn look(&self) -> Result<(StatusCode, Bytes), CallError> {
        let call = Call {
            method: Method::GET,
            action: "GetFunction",
            path: self.path(),
            headers: &[],
            body: Bytes::new(),
        };
        // What cannot be written was found when the settings were read.
        let request = self.signed(call).unwrap_or_default();
        let answered = self.http.call(request, None).await?;
        let (head, answer) = Answer::read(answered, RESPONSE_BYTES_MAX, None).await;
        Ok((head.status, answer.bytes))
    }

    fn path(&self) -> String {
        let function = utf8_percent_encode(&self.function, ENCODED);
        format!("/{VERSION}/functions/{function}")
    }

    fn query(&self) -> String {
        let qualifier = self.qualifier.as_deref();
        let qualifier = qualifier.map(|qualifier| utf8_percent_encode(qualifier, ENCODED));
        qualifier.map_or_else(String::new, |qualifier| format!("qualifier={qualifier}"))
    }

    fn signed(&self, call: Call<'_>) -> Result<Request<Bytes>, String> {
        let keys = self.signer.keys();
        let content = hash(&call.body);
        let date = jiff::Timestamp::now();
        let nonce: u128 = rand::random();
        let mut headers = vec![
            ("host", self.endpoint.host.clone()),
            ("x-acs-action", call.action.to_owned()),
            ("x-acs-content-sha256", content.clone()),
            (
                "x-acs-date",
                date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ),
            ("x-acs-signature-nonce", format!("{nonce:032x}")),
            ("x-acs-version", VERSION.to_owned()),
        ];
        if let Some(token) = keys.token {
            headers.push(("x-acs-security-token", token));
        }
        let is_signed = |(name, _): &&(&str, String)| *name == "content-type";
        headers.extend(call.headers.iter().filter(is_signed).cloned());
        headers.sort_unstable();
        let query = self.query();
        let authorization = Signed {
            method: call.method.as_str(),
            path: &call.path,
            query: &query,
            headers: &headers,
            content: &content,
        }
        .authorization(&keys.id, &keys.secret);
        let resource = match query.is_empty() {
            true => call.path,
            false => format!("{}?{query}", call.path),
        };
        let mut request = Request::new(call.body);
        *request.method_mut() = call.method;
        *request.uri_mut() = self.endpoint.uri(&resource)?;
        let all = headers.iter().chain(call.headers);
        for (name, value) in all.filter(|(name, _)| *name != HOST.as_str()) {
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("the header {name} cannot hold what it should"))?;
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, value);
        }
        let authorization = HeaderValue::try_from(authorization)
            .map_err(|_| "the access key holds characters that no header can".to_owned())?;
        request.headers_mut().insert(AUTHORIZATION, authorization);
        Ok(request)
    }

    /// What a response means.
    fn outcome(&self, head: &Parts, answer: Answer) -> Outcome {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let error_type = text("x-fc-error-type").unwrap_or_default();
        let of_function = !error_type.is_empty() && error_type != OF_THE_SERVICE;
        let wait = retry_after(&head.headers, SystemTime::now());
        let refusal = Refusal::read(&answer.bytes);
        let is_there = self.invocation == Invocation::Async && head.status == StatusCode::CONFLICT;
        let class = match classify(head.status, wait) {
            _ if of_function => Class::Failed,
            _ if is_there => Class::Delivered,
            // Settings name what is called, and somebody may make it.
            Class::Failed if head.status == StatusCode::NOT_FOUND => Class::Unavailable,
            class => class,
        };
        let mut outcome = Outcome {
            code: Some(i32::from(head.status.as_u16())),
            response_type: text(CONTENT_TYPE.as_str()).map(str::to_owned),
            is_response_cut: answer.cut.is_some(),
            ..Outcome::new(class, "")
        };
        if of_function {
            outcome.message = format!("the function failed: {error_type}{refusal}");
        } else if class != Class::Delivered {
            outcome.message = format!("Function Compute answered {}{refusal}", head.status);
            outcome.retry_after = wait;
        } else if self.invocation == Invocation::Sync && answer.cut.is_none() {
            outcome.replies = reply(&answer.bytes, &mut outcome.message);
        }
        outcome.response = answer.bytes;
        outcome
    }
}

/// The CloudEvent that a function answers with, if it does.
fn reply(body: &Bytes, message: &mut String) -> Option<Box<Replies>> {
    if !structured::is_cloudevent(body) {
        return None;
    }
    Some(Box::new(match json::decode(body) {
        Ok(event) => Replies::one(event),
        Err(invalid) => {
            *message = format!("the answer announces a CloudEvent, but {invalid}");
            Replies::unreadable(body.clone(), invalid.to_string())
        }
    }))
}

/// What an error says of itself, whoever it is of.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) code: String,
    message: String,
}

impl Refusal {
    /// Reads it in any of the forms that there are: `Code` and `Message`, `ErrorCode` and
    /// `ErrorMessage`, and of a function `errorType` and `errorMessage`.
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let text = |names: &[&str]| {
            let mut found = members.iter();
            let found =
                found.find(|(key, _)| names.iter().any(|name| key.eq_ignore_ascii_case(name)));
            let text = found.and_then(|(_, value)| value.as_str());
            text.unwrap_or_default().to_owned()
        };
        Self {
            code: text(&["code", "errorCode", "errorType"]),
            message: text(&["message", "errorMessage"]),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}
