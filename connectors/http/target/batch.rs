//! Several deliveries in one call, and what its answer says of each.
//!
//! **Sent** is a CloudEvents batch (`application/cloudevents-batch+json`), in which each event has
//! the attributes `pointsmantask` and `pointsmanattempt`, or with `mode: data` a JSON array of
//! their data. The headers that name one task give way to `Pointsman-Batch`, which counts the
//! deliveries, and with `mode: data` `Pointsman-Tasks`, which names their tasks in the array's
//! order.
//!
//! **Answered** as AWS Lambda does it for its event sources: a status that is no success holds for
//! all of them. A 2xx delivers all but those that a JSON object in its body names:
//!
//! ```json
//! { "batchItemFailures": [{ "itemIdentifier": "9f86d081884c7d65-1f-2-0" }] }
//! ```
//!
//! | in the body | delivered |
//! |---|---|
//! | nothing, something that does not begin with `{`, an object without the key, `null`, `[]` | all |
//! | identifiers of tasks of the batch | all others |
//! | an identifier that is unknown, `null`, empty or missing; anything but a list of objects; an object that breaks off or cannot be read | none |

use std::collections::HashSet;
use std::fmt::Write;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pointsman_schemas::http::is_cloudevent;
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use pointsman_schemas::{Class, Outcome, json};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::CallMode;
use super::request::outcome;
use crate::net::answer::Answer;
use crate::{Delivery, tracked};

const BATCH: HeaderName = HeaderName::from_static("pointsman-batch");
const TASKS: HeaderName = HeaderName::from_static("pointsman-tasks");

/// What naming one delivery takes of an answer, written as generously as anybody does.
const BYTES_PER_FAILURE: usize = 256;

/// What of the answer is kept with each delivery of a batch.
const RESPONSE_OF_EACH_BYTES_MAX: usize = 4 * 1024;

/// How much of the answer to so many deliveries is read: all of them may be named.
pub(super) fn response_bytes_max(deliveries: usize) -> usize {
    RESPONSE_BYTES_MAX.max(deliveries * BYTES_PER_FAILURE)
}

/// Writes the deliveries as one body, with the headers that say what it is.
pub(super) fn encode(mode: CallMode, deliveries: &[Delivery]) -> (HeaderMap, Bytes) {
    let size: usize = deliveries.iter().map(|one| one.event.size_bytes()).sum();
    let mut body = Vec::with_capacity(size + deliveries.len() * 96);
    body.push(b'[');
    for (index, delivery) in deliveries.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        if mode == CallMode::Data {
            json::encode_data(&delivery.event, &mut body);
            continue;
        }
        tracked::encode(delivery, &mut body);
    }
    body.push(b']');
    let media_type = match mode {
        CallMode::Data => "application/json",
        CallMode::Binary | CallMode::Structured => json::BATCH_MEDIA_TYPE,
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    (headers, body.into())
}

/// Adds the headers that stand in the place of those of one delivery.
pub(super) fn identify(mode: CallMode, deliveries: &[Delivery], headers: &mut HeaderMap) {
    headers.insert(BATCH, deliveries.len().into());
    if mode == CallMode::Data {
        let mut tasks = String::with_capacity(deliveries.len() * 32);
        for delivery in deliveries {
            let separator = if tasks.is_empty() { "" } else { "," };
            let _infallible = write!(tasks, "{separator}{}", delivery.id);
        }
        if let Ok(tasks) = HeaderValue::try_from(tasks) {
            headers.insert(TASKS, tasks);
        }
    }
}

/// The id of a batch as a message: one that has other deliveries in it, or has them at another
/// attempt, is another message.
pub(super) fn message_id(deliveries: &[Delivery]) -> String {
    let mut hash = Sha256::new();
    for delivery in deliveries {
        hash.update(format!("{} {}\n", delivery.id, delivery.attempt));
    }
    let mut id = String::from("batch-");
    for byte in hash.finalize().iter().take(16) {
        let _infallible = write!(id, "{byte:02x}");
    }
    id
}

/// What a response means for each delivery; one outcome alone holds for all.
pub(super) fn outcomes(head: &Parts, answer: Answer, deliveries: &[Delivery]) -> Vec<Outcome> {
    let failed = match head.status.is_success() && !is_cloudevent(&head.headers) {
        true => failures(head.status, &answer, deliveries),
        false => Ok(HashSet::new()),
    };
    let mut whole = outcome(head, answer);
    whole.response.truncate(RESPONSE_OF_EACH_BYTES_MAX);
    match failed {
        Ok(failed) if failed.is_empty() => vec![whole],
        Ok(failed) => {
            let each = deliveries
                .iter()
                .map(|one| match failed.contains(&*one.id.to_string()) {
                    false => whole.clone(),
                    true => Outcome {
                        class: Class::Failed,
                        message: "the function named it among its batchItemFailures".to_owned(),
                        ..whole.clone()
                    },
                });
            each.collect()
        }
        Err(why) => vec![Outcome {
            class: Class::Failed,
            message: format!(
                "answered {}, but {why}: the whole batch failed",
                head.status
            ),
            ..whole
        }],
    }
}

/// What a function that took a batch says of it.
#[derive(Deserialize)]
struct BatchAnswer {
    #[serde(default, rename = "batchItemFailures")]
    failures: Option<Vec<BatchItemFailure>>,
}

#[derive(Deserialize)]
struct BatchItemFailure {
    #[serde(default, rename = "itemIdentifier")]
    identifier: Option<String>,
}

/// The tasks that an answer says have failed.
///
/// # Errors
/// Why nobody can tell which.
fn failures(
    status: StatusCode,
    answer: &Answer,
    deliveries: &[Delivery],
) -> Result<HashSet<String>, String> {
    let body = answer.bytes.trim_ascii_start();
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let may_name_some = match body.trim_ascii_start().first() {
        Some(first) => *first == b'{',
        None => answer.cut.is_some(),
    };
    if status == StatusCode::NO_CONTENT || !may_name_some {
        return Ok(HashSet::new());
    }
    if let Some(cut) = &answer.cut {
        return Err(format!("its body is not whole ({cut})"));
    }
    let BatchAnswer { failures } = serde_json::from_slice(body)
        .map_err(|error| format!("its body names no failures that can be read ({error})"))?;
    let known: HashSet<String> = deliveries.iter().map(|one| one.id.to_string()).collect();
    let mut failed = HashSet::new();
    for BatchItemFailure { identifier } in failures.unwrap_or_default() {
        match identifier {
            Some(task) if known.contains(&task) => drop(failed.insert(task)),
            Some(other) => {
                let shown: String = other.chars().take(64).collect();
                return Err(format!(
                    "batchItemFailures names {shown:?}, which is no task of the batch"
                ));
            }
            None => return Err("batchItemFailures has an item without itemIdentifier".to_owned()),
        }
    }
    Ok(failed)
}
