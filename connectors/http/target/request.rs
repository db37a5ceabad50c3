//! One call: the request made of a delivery, and the outcome made of its response.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use pointsman_schemas::http::{decode_each, encode_binary, encode_structured, is_cloudevent};
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use pointsman_schemas::{Class, Outcome, Replies, Unreadable};
use tokio::time::Instant;

use super::auth::Credentials;
use super::oauth2::OAuth2;
use super::{CallMode, address, batch};
use crate::net::answer::{Answer, Deadlines};
use crate::net::classify::{classify, retry_after};
use crate::net::client::{Client, Host};
use crate::net::guard::Guard;
use crate::net::unanswered::failed;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, Delivery, trace};

/// Who calls, unless a header of the settings says otherwise.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pointsman/", env!("CARGO_PKG_VERSION")));

const TASK: HeaderName = HeaderName::from_static("pointsman-task");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ATTEMPT: HeaderName = HeaderName::from_static("pointsman-attempt");
const RULE: HeaderName = HeaderName::from_static("pointsman-rule");
const DEADLINE: HeaderName = HeaderName::from_static("pointsman-deadline");

/// Reads a header's value.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::try_from(text).map_err(|_| {
        "a header's value must not hold line breaks or other control characters".into()
    })
}

/// The value of a header that says something of about so many bytes.
fn text_value(value: impl Display, bytes: usize) -> Result<HeaderValue, String> {
    let mut text = String::with_capacity(bytes);
    let _infallible = write!(text, "{value}");
    HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|error| error.to_string())
}

/// Makes the calls of one target.
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) guard: Guard,
    pub(super) address: Parameter<Uri>,
    /// Whether nobody is to see it: the settings do not say it either.
    pub(super) is_address_hidden: bool,
    /// Where it leads, unless an event has a part in that.
    pub(super) host: Option<Arc<Host>>,
    pub(super) method: Method,
    pub(super) mode: CallMode,
    pub(super) headers: Vec<(HeaderName, Parameter<HeaderValue>)>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
    pub(super) credentials: Credentials,
}

impl Caller {
    /// The deliveries one after the other, so that their order is kept; of a batch all in one call.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        let deadlines = Deadlines::new(Instant::now(), attempt.timeout);
        if attempt.is_batch {
            let outcomes = Box::pin(self.deliver_batch(attempt, deadlines)).await;
            return outcomes.unwrap_or_else(|outcome| vec![*outcome]);
        }
        let mut outcomes = Vec::with_capacity(attempt.deliveries.len());
        for delivery in &attempt.deliveries {
            outcomes.push(
                self.deliver(attempt, delivery, deadlines)
                    .await
                    .unwrap_or_else(|outcome| *outcome),
            );
        }
        outcomes
    }

    async fn deliver(
        &self,
        attempt: &Attempt,
        delivery: &Delivery,
        deadlines: Deadlines,
    ) -> Result<Outcome, Box<Outcome>> {
        let request = self.request(attempt, delivery)?;
        let (head, answer) = self.send(request, deadlines, RESPONSE_BYTES_MAX).await?;
        Ok(outcome(&head, answer))
    }

    async fn deliver_batch(
        &self,
        attempt: &Attempt,
        deadlines: Deadlines,
    ) -> Result<Vec<Outcome>, Box<Outcome>> {
        let deliveries = &attempt.deliveries;
        let request = self.batch_request(attempt)?;
        let bytes_max = batch::response_bytes_max(deliveries.len());
        let (head, answer) = self.send(request, deadlines, bytes_max).await?;
        Ok(batch::outcomes(&head, answer, deliveries))
    }

    /// Makes a call, with a token where the target wants one.
    async fn send(
        &self,
        request: Box<Request<Bytes>>,
        deadlines: Deadlines,
        bytes_max: usize,
    ) -> Result<(Parts, Answer), Box<Outcome>> {
        match &self.credentials {
            // Few do, and to ask for one is a call of its own: the others carry no room for that.
            Credentials::OAuth2(tokens) => {
                Box::pin(self.call_with_token(tokens, request, deadlines, bytes_max)).await
            }
            _ => self.call(request, deadlines, bytes_max).await,
        }
    }

    async fn call_with_token(
        &self,
        tokens: &OAuth2,
        mut request: Box<Request<Bytes>>,
        deadlines: Deadlines,
        bytes_max: usize,
    ) -> Result<(Parts, Answer), Box<Outcome>> {
        let (token, used_before) = tokens.token().await?;
        request.headers_mut().insert(AUTHORIZATION, token.clone());
        if !used_before {
            return self.call(request, deadlines, bytes_max).await;
        }
        let answered = self.call(request.clone(), deadlines, bytes_max).await?;
        if answered.0.status != StatusCode::UNAUTHORIZED {
            return Ok(answered);
        }
        // Tokens are revoked before their time; a pause of the subscription is for those that never
        // worked.
        tokens.forget(&token).await;
        request
            .headers_mut()
            .insert(AUTHORIZATION, tokens.token().await?.0);
        self.call(request, deadlines, bytes_max).await
    }

    fn request(
        &self,
        attempt: &Attempt,
        delivery: &Delivery,
    ) -> Result<Box<Request<Bytes>>, Box<Outcome>> {
        check_texts(delivery, self.texts)?;
        let uri = self.uri(delivery)?;
        let (mut headers, mut body) = match self.mode {
            CallMode::Structured => encode_structured(&delivery.event),
            CallMode::Binary => encode_binary(&delivery.event),
            CallMode::Data => {
                let (mut headers, body) = encode_binary(&delivery.event);
                (
                    headers
                        .remove(CONTENT_TYPE)
                        .map(|value| (CONTENT_TYPE, value))
                        .into_iter()
                        .collect(),
                    body,
                )
            }
        };
        if self.method == Method::GET {
            body = Bytes::new();
            headers.remove(CONTENT_TYPE);
        }
        self.add_headers(attempt, delivery, &mut headers)?;
        let task = text_value(delivery.id, 56).map_err(rejected)?;
        headers.insert(TASK, task.clone());
        headers.insert(IDEMPOTENCY_KEY, task);
        headers.insert(ATTEMPT, delivery.attempt.into());
        self.add_credentials(&delivery.id, &body, &mut headers);
        Ok(self.assembled(uri, headers, body))
    }

    /// The request for all deliveries of a batch. It goes where any of them does: an event has no
    /// part in the address and the headers of a target that takes batches. It can belong to one
    /// trace alone, which is that of the first that has any.
    fn batch_request(&self, attempt: &Attempt) -> Result<Box<Request<Bytes>>, Box<Outcome>> {
        let deliveries = &attempt.deliveries;
        let traced = deliveries.iter().find(|one| one.trace.is_some());
        let Some(first) = traced.or(deliveries.first()) else {
            return Err(Box::new(Outcome::new(Class::Failed, "the batch is empty")));
        };
        check_texts(first, self.texts)?;
        let uri = self.uri(first)?;
        let (mut headers, body) = batch::encode(self.mode, deliveries);
        self.add_headers(attempt, first, &mut headers)?;
        batch::identify(self.mode, deliveries, &mut headers);
        let attempts = deliveries.iter().map(|delivery| delivery.attempt);
        headers.insert(ATTEMPT, attempts.max().unwrap_or(1).into());
        self.add_credentials(&batch::message_id(deliveries), &body, &mut headers);
        Ok(self.assembled(uri, headers, body))
    }

    fn uri(&self, delivery: &Delivery) -> Result<Uri, Box<Outcome>> {
        match &self.address {
            Parameter::Constant(uri) => Ok(uri.clone()),
            Parameter::Filled(index) => {
                address::parse_filled(filled(delivery, *index), self.guard).map_err(rejected)
            }
        }
    }

    /// Adds the headers that the settings declare, and those of any call.
    fn add_headers(
        &self,
        attempt: &Attempt,
        delivery: &Delivery,
        headers: &mut HeaderMap,
    ) -> Result<(), Box<Outcome>> {
        headers.insert(USER_AGENT, AGENT);
        for (name, value) in trace::headers(delivery) {
            headers.insert(name, header_value(&value).map_err(rejected)?);
        }
        for (name, value) in &self.headers {
            let value = match value {
                Parameter::Constant(value) => value.clone(),
                Parameter::Filled(index) => header_value(filled(delivery, *index))
                    .map_err(|why| rejected(format!("the header {name}: {why}")))?,
            };
            headers.insert(name, value);
        }
        headers.insert(RULE, header_value(attempt.rule.as_str()).map_err(rejected)?);
        let deadline = text_value(attempt.deadline, 32).map_err(rejected)?;
        headers.insert(DEADLINE, deadline);
        Ok(())
    }

    fn add_credentials(&self, message: &impl Display, body: &Bytes, headers: &mut HeaderMap) {
        match &self.credentials {
            Credentials::Fixed(name, value) => drop(headers.insert(name, value.clone())),
            Credentials::Signature(signer) => {
                signer.sign(message, SystemTime::now(), body, headers);
            }
            Credentials::Anonymous | Credentials::OAuth2(_) => {}
        }
    }

    fn assembled(&self, uri: Uri, headers: HeaderMap, body: Bytes) -> Box<Request<Bytes>> {
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request
    }

    async fn call(
        &self,
        request: Box<Request<Bytes>>,
        deadlines: Deadlines,
        bytes_max: usize,
    ) -> Result<(Parts, Answer), Box<Outcome>> {
        let host = match &self.host {
            Some(host) => Arc::clone(host),
            None => self.client.host(request.uri()),
        };
        let called = self
            .client
            .call_host(host, request, Some(deadlines.connected))
            .await;
        let answered = called.map_err(failed)?;
        let mut answer = Answer::read(answered, bytes_max, Some(deadlines.answered)).await;
        if self.is_address_hidden {
            // Where it leads is most of the address again.
            answer.0.headers.remove(LOCATION);
        }
        Ok(answer)
    }
}

fn rejected(why: String) -> Box<Outcome> {
    Box::new(Outcome::new(Class::Rejected, why))
}

/// A text that a delivery carries.
fn filled(delivery: &Delivery, index: usize) -> &str {
    delivery.texts.get(index).map_or("", String::as_str)
}

/// What a response means.
pub(super) fn outcome(parts: &Parts, answer: Answer) -> Outcome {
    let wait = retry_after(&parts.headers, SystemTime::now());
    let class = classify(parts.status, wait);
    let text = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let mut outcome = Outcome {
        code: Some(i32::from(parts.status.as_u16())),
        response_type: text(CONTENT_TYPE).map(str::to_owned),
        ..Outcome::new(class, "")
    };
    if class == Class::Delivered {
        let replies = replies(parts.status, &parts.headers, &answer);
        if let Some(Unreadable { reason, .. }) = replies
            .as_ref()
            .and_then(|replies| replies.unreadable.first())
        {
            outcome.message = format!("the answer announces a CloudEvent, but {reason}");
        }
        outcome.replies = replies.map(Box::new);
    } else {
        outcome.retry_after = wait;
        outcome.message = match text(LOCATION) {
            Some(location) if parts.status.is_redirection() => {
                format!(
                    "answered {}; redirects are not followed, this one leads to {}",
                    parts.status,
                    address::shown(location)
                )
            }
            _ => format!("answered {}", parts.status),
        };
    }
    outcome.is_response_cut = answer.cut.is_some();
    outcome.response = answer.bytes;
    outcome
}

/// The CloudEvents that a successful answer announces, if it does.
fn replies(status: StatusCode, headers: &HeaderMap, answer: &Answer) -> Option<Replies> {
    // In structured mode an empty body is no event; in binary mode it is one without data.
    let is_empty = answer.bytes.is_empty() && !headers.contains_key("ce-specversion");
    if status == StatusCode::NO_CONTENT || is_empty || !is_cloudevent(headers) {
        return None;
    }
    let mut replies = decode_each(headers, answer.bytes.clone());
    if let Some(cut) = &answer.cut {
        // Of a batch the events before the cut are whole; anything else is not.
        let last = replies.unreadable.pop();
        let raw = last.map_or_else(|| answer.bytes.clone(), |last| last.raw);
        replies.unreadable.push(Unreadable {
            raw,
            reason: cut.clone(),
        });
    }
    Some(replies)
}
