//! One invocation: the payload made of a delivery, and the outcome made of the answer.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use pointsman_schemas::{Class, Outcome, Replies, json};
use serde_json::Value;
use tokio::time::Instant;

use super::target::{Invocation, Mode};
use crate::aws::api::{Api, Failure};
use crate::net::answer::{Answer, Deadlines};
use crate::parameter::check_texts;
use crate::{Attempt, Delivery, tracked};

/// How a function is to be invoked.
const INVOCATION_TYPE: &str = "x-amz-invocation-type";

/// What a function that is waited for sees beside its payload: base64 of JSON.
const CLIENT_CONTEXT: &str = "x-amz-client-context";

/// Says that what is answered is an error of the function's.
const FUNCTION_ERROR: &str = "x-amz-function-error";

/// What invokes one function.
pub(super) struct Invoker {
    pub(super) api: Api,
    /// Where it is invoked.
    pub(super) path: String,
    pub(super) function: String,
    pub(super) invocation: Invocation,
    pub(super) mode: Mode,
    /// What is said where it fails.
    pub(super) what: String,
}

impl Invoker {
    /// The deliveries one after the other, so that their order is kept.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        let deadlines = Deadlines::new(Instant::now(), attempt.timeout);
        let mut outcomes = Vec::with_capacity(attempt.deliveries.len());
        for delivery in &attempt.deliveries {
            outcomes.push(self.deliver(attempt, delivery, deadlines).await);
        }
        outcomes
    }

    async fn deliver(
        &self,
        attempt: &Attempt,
        delivery: &Delivery,
        deadlines: Deadlines,
    ) -> Outcome {
        if let Err(outcome) = check_texts(delivery, 0) {
            return outcome;
        }
        let request = Request::post("/")
            .header(CONTENT_TYPE, "application/json")
            .header(INVOCATION_TYPE, self.invocation.as_str())
            .header(CLIENT_CONTEXT, client_context(attempt, delivery))
            .body(self.payload(delivery));
        let request = match request {
            Ok(request) => request,
            Err(error) => return *Failure::unmade(error).outcome(&self.what),
        };
        match self.api.succeed(&self.path, request, deadlines).await {
            Ok((head, answer)) => outcome(&head, answer),
            Err(failure) => *failure.outcome(&self.what),
        }
    }

    fn payload(&self, delivery: &Delivery) -> Bytes {
        let mut payload = Vec::with_capacity(delivery.event.size_bytes());
        match self.mode {
            Mode::Structured => tracked::encode(delivery, &mut payload),
            Mode::Data => json::encode_data(&delivery.event, &mut payload),
        }
        payload.into()
    }

    /// Asks whether the function could be invoked, without invoking it.
    ///
    /// # Errors
    /// It could not.
    pub(super) async fn try_out(&self, within: Duration) -> Result<(), Failure> {
        let deadlines = Deadlines::new(Instant::now(), within);
        let request = Request::post("/")
            .header(INVOCATION_TYPE, "DryRun")
            .body(Bytes::new())
            .map_err(Failure::unmade)?;
        self.api.succeed(&self.path, request, deadlines).await?;
        Ok(())
    }
}

fn client_context(attempt: &Attempt, delivery: &Delivery) -> String {
    let context = serde_json::json!({ "custom": {
        "pointsman-task": delivery.id.to_string(),
        "pointsman-attempt": delivery.attempt.to_string(),
        "pointsman-rule": attempt.rule.as_str(),
    } });
    BASE64_STANDARD.encode(context.to_string())
}

/// What an answer means that is a success of Lambda's, if not of the function's.
fn outcome(head: &Parts, answer: Answer) -> Outcome {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut outcome = match text(FUNCTION_ERROR) {
        Some(kind) => Outcome::new(Class::Failed, function_error(kind, &answer.bytes)),
        None => Outcome::delivered(),
    };
    if outcome.class == Class::Delivered {
        outcome.code = Some(i32::from(head.status.as_u16()));
        outcome.replies = replies(&answer).map(Box::new);
        let unreadable = outcome
            .replies
            .iter()
            .find_map(|told| told.unreadable.first());
        if let Some(unreadable) = unreadable {
            let reason = &unreadable.reason;
            outcome.message = format!("the answer announces a CloudEvent, but {reason}");
        }
    }
    outcome.response_type = text(CONTENT_TYPE.as_str()).map(str::to_owned);
    outcome.is_response_cut = answer.cut.is_some();
    outcome.response = answer.bytes;
    outcome
}

/// What is told of an error of the function's: what it says, and whether it has caught it itself
/// (`Handled`) or the runtime has.
fn function_error(kind: &str, payload: &[u8]) -> String {
    let told: Value = serde_json::from_slice(payload).unwrap_or_default();
    let parts = ["errorType", "errorMessage"];
    let parts = parts.iter().filter_map(|name| told.get(*name)?.as_str());
    parts.fold(format!("the function has failed ({kind})"), |line, part| {
        format!("{line}: {part}")
    })
}

/// The CloudEvent that a function returns, if it does: an object that has a `specversion`.
fn replies(answer: &Answer) -> Option<Replies> {
    #[derive(serde::Deserialize)]
    struct Announced {
        #[serde(rename = "specversion")]
        _version: serde::de::IgnoredAny,
    }
    let text = answer.bytes.trim_ascii_start();
    if let Some(cut) = &answer.cut {
        // What it would be stands in what is there of it.
        let is_one =
            text.starts_with(b"{") && memchr::memmem::find(text, b"\"specversion\"").is_some();
        return is_one.then(|| Replies::unreadable(answer.bytes.clone(), cut.clone()));
    }
    if !text.starts_with(b"{") {
        return None;
    }
    serde_json::from_slice::<Announced>(&answer.bytes).ok()?;
    Some(match json::decode(&answer.bytes) {
        Ok(event) => Replies::one(event),
        Err(invalid) => Replies::unreadable(answer.bytes.clone(), invalid.to_string()),
    })
}
