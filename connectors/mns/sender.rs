//! Sends messages to a queue, and publishes them to a topic.
//!
//! | what happens | class |
//! |---|---|
//! | MNS has the message | delivered |
//! | no connection, or no such queue or topic | unavailable |
//! | the connection breaks, no answer comes in time, MNS fails (5xx) | failed |
//! | the keys are not known, or may not | refused |
//! | too many requests (`QpsLimitExceeded`, 429, 503) | throttled |
//! | the message is too large, or MNS finds something else wrong with it | rejected |
//!
//! Of a call for several messages each has its own outcome. A message that was sent and not
//! acknowledged may be there twice; both are of one event, whose id tells it.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, StatusCode};
use pointsman_schemas::{Class, Outcome};
use tokio::time::{Instant, timeout_at};

use super::client::{Answered, ELEMENTS_MAX, NAMESPACE, Unanswered};
use super::mapping::{Encoding, Mode, body_of};
use super::place::{Found, Kind};
use super::queue::CALL_MESSAGES_MAX;
use super::refusal::Refusal;
use crate::net::answer::Deadlines;
use crate::net::classify::retry_after;
use crate::net::unanswered::failed;
use crate::parameter::{Parameter, check_texts};
use crate::xml::{self, Element};
use crate::{Attempt, Delivery};

/// How large the bodies of one call may be together.
const CALL_BYTES_MAX: usize = 64 << 10;

/// What sends the messages of one target.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) to: Found,
    pub(super) mode: Mode,
    pub(super) encoding: Encoding,
    /// The elements that stand beside each body.
    pub(super) beside: String,
    /// The tag of messages to a topic.
    pub(super) tag: Option<Parameter>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

impl Sender {
    /// Sends the deliveries of an attempt, in their order.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Vec<Outcome> {
        let deadlines = Deadlines::new(Instant::now(), attempt.timeout);
        let mut outcomes = Vec::with_capacity(attempt.deliveries.len());
        let mut waiting = Vec::new();
        let mut bytes = 0;
        for delivery in &attempt.deliveries {
            let message = self.message(delivery, attempt.rule.as_str());
            let size = message.as_ref().map_or(0, String::len);
            let is_full = waiting.len() >= self.call_messages_max()
                || bytes + size > CALL_BYTES_MAX
                || message.is_err();
            if is_full {
                outcomes.extend(self.send(std::mem::take(&mut waiting), deadlines).await);
                bytes = 0;
            }
            match message {
                Ok(message) => {
                    bytes += size;
                    waiting.push(message);
                }
                Err(outcome) => outcomes.push(outcome),
            }
        }
        outcomes.extend(self.send(waiting, deadlines).await);
        outcomes
    }

    /// A topic takes one message with a call.
    fn call_messages_max(&self) -> usize {
        match self.to.kind {
            Kind::Queue => CALL_MESSAGES_MAX,
            Kind::Topic => 1,
        }
    }

    /// What stands in the element of a message.
    fn message(&self, delivery: &Delivery, rule: &str) -> Result<String, Outcome> {
        check_texts(delivery, self.texts)?;
        let rejected = |why: String| Outcome::new(Class::Rejected, why);
        let body = body_of(delivery, rule, self.mode, self.encoding).map_err(rejected)?;
        let mut message = format!("<MessageBody>{body}</MessageBody>{}", self.beside);
        let tag = match &self.tag {
            Some(Parameter::Constant(tag)) => Some(tag),
            Some(Parameter::Filled(index)) => delivery.texts.get(*index),
            None => None,
        };
        if let Some(tag) = tag.filter(|tag| !tag.is_empty()) {
            let tag = xml::escaped(tag)
                .ok_or_else(|| rejected(format!("MNS cannot carry the tag {tag:?}")))?;
            message.push_str(&format!("<MessageTag>{tag}</MessageTag>"));
        }
        Ok(message)
    }

    /// Sends messages with one call.
    async fn send(&self, messages: Vec<String>, deadlines: Deadlines) -> Vec<Outcome> {
        let count = messages.len();
        let body = match messages.as_slice() {
            [] => return Vec::new(),
            [message] => format!("<Message xmlns=\"{NAMESPACE}\">{message}</Message>"),
            several => {
                let several = several
                    .iter()
                    .map(|message| format!("<Message>{message}</Message>"));
                format!(
                    "<Messages xmlns=\"{NAMESPACE}\">{}</Messages>",
                    several.collect::<String>()
                )
            }
        };
        let (method, resource) = (Method::POST, format!("{}/messages", self.to.resource()));
        let (body, connected) = (Bytes::from(body), Some(deadlines.connected));
        let call = self.to.client.call(&method, &resource, &body, connected);
        let outcome = match timeout_at(deadlines.answered, call).await {
            Ok(Ok(answered)) => return outcomes(&answered, count),
            Ok(Err(Unanswered::Call(error))) => *failed(error),
            Ok(Err(unanswered @ Unanswered::Cut(_))) => {
                Outcome::new(Class::Failed, unanswered.words())
            }
            Ok(Err(Unanswered::Unsayable(why))) => Outcome::new(Class::Rejected, why),
            Err(_elapsed) => Outcome::new(
                Class::Failed,
                "MNS has not answered in time; the message may be there",
            ),
        };
        vec![outcome; count]
    }
}

/// What an answer to a call for so many messages means.
fn outcomes(answered: &Answered, count: usize) -> Vec<Outcome> {
    let text = String::from_utf8_lossy(&answered.body);
    let root = xml::read(&text, ELEMENTS_MAX);
    // Each has its own answer, also where some have failed and the status is none of a success.
    if count > 1
        && let Some(list) = root.as_ref().filter(|root| root.name == "Messages")
        && list.children.len() == count
    {
        let each = list.children.iter();
        return each.map(|entry| of_entry(entry, answered.status)).collect();
    }
    let is_ours = root.is_some_and(|root| root.name == "Message");
    let outcome = match answered.status.is_success() {
        true if is_ours && count == 1 => delivered(answered.status),
        true => Outcome::new(Class::Failed, "what answers there is not MNS"),
        false => of_refusal(&Refusal::read(answered), answered),
    };
    vec![outcome; count]
}

fn delivered(status: StatusCode) -> Outcome {
    Outcome {
        code: Some(i32::from(status.as_u16())),
        ..Outcome::delivered()
    }
}

fn of_entry(entry: &Element, status: StatusCode) -> Outcome {
    let Some(code) = entry.text_of("ErrorCode") else {
        return match entry.text_of("MessageId") {
            Some(_) => delivered(status),
            None => Outcome::new(Class::Failed, "MNS does not say what became of the message"),
        };
    };
    let refusal = Refusal {
        // The call's status says nothing of one message.
        status: match code {
            "InternalError" | "InternalServerError" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        },
        code: code.to_owned(),
        message: entry.text_of("ErrorMessage").unwrap_or_default().to_owned(),
    };
    Outcome {
        code: Some(i32::from(status.as_u16())),
        ..Outcome::new(class(&refusal), refusal.to_string())
    }
}

fn of_refusal(refusal: &Refusal, answered: &Answered) -> Outcome {
    let class = class(refusal);
    let wait = retry_after(&answered.headers, SystemTime::now());
    Outcome {
        code: Some(i32::from(refusal.status.as_u16())),
        retry_after: wait.filter(|_| class == Class::Throttled),
        ..Outcome::new(class, refusal.to_string())
    }
}

/// What follows from a refusal.
fn class(refusal: &Refusal) -> Class {
    let is_busy = refusal.code.contains("LimitExceeded") || refusal.code.contains("Throttl");
    match refusal.status.as_u16() {
        _ if is_busy => Class::Throttled,
        _ if refusal.is_missing() => Class::Unavailable,
        _ if refusal.is_forbidden() => Class::Refused,
        // The clock of this machine is wrong, which somebody will mend.
        _ if refusal.code == "TimeExpired" => Class::Unavailable,
        401 => Class::Refused,
        429 | 503 => Class::Throttled,
        502 | 504 => Class::Unavailable,
        // Whoever answers so does not know what this is about.
        _ if refusal.code.is_empty() => Class::Failed,
        400..=499 => Class::Rejected,
        _ => Class::Failed,
    }
}
