//! Sends messages, each with a call of its own.
//!
//! | what happens | class |
//! |---|---|
//! | the broker has the message | delivered |
//! | no connection, or it broke before the message was sent; there is no such topic (`40402`) | unavailable |
//! | the connection breaks, or no answer comes in time; a disk or a replica that is late (`50002`, `50401`, `50402`), timeouts (`40800`, `50400`), errors of no kind (`50000`, `50001`) | failed |
//! | the keys are missing or wrong, or may not (`40100`, `40300`), or nobody has paid (`40200`) | refused |
//! | too many requests (`42900` to `42902`) | throttled |
//! | the message's topic, tag, keys, group, properties, time, type or size is none that RocketMQ takes (`400xx`, `413xx`, `431xx`) | rejected |
//!
//! The calls of one attempt are made at once; those of one message group one after the other, and
//! none behind one that failed. A message that was sent and not acknowledged may be there twice:
//! both have the delivery's id as their message id, and as the property `pointsman-task`.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use pointsman_schemas::{Class, Outcome, Timestamp, schedule};
use tokio::time::{Instant, timeout_at};

use super::client::{Client, Unanswered};
use super::mapping::{Mode, encode};
use super::proto::{
    self, Encoding, Message, MessageType, Resource, SendMessageRequest, SendMessageResponse,
    SystemProperties,
};
use super::refusal::Refusal;
use super::settings::check_topic;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery};

/// The longest tag, key and message group.
const TEXT_BYTES_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 63;

/// What sends the messages of one target.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) topic: Parameter,
    pub(super) tag: Option<Parameter>,
    pub(super) keys: Vec<Parameter>,
    pub(super) group: Option<Parameter>,
    pub(super) when: Option<When>,
    pub(super) mode: Mode,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// When a message is handed out.
pub(super) enum When {
    /// After so long.
    After(Parameter),
    /// At a time.
    At(Parameter),
}

impl When {
    /// The time of a delivery; none where it does not say one.
    fn of(&self, delivery: &Delivery, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let (Self::After(text) | Self::At(text)) = self;
        let text = text.text(delivery).trim();
        if text.is_empty() {
            return Ok(None);
        }
        let at = match self {
            Self::After(_) => now.plus(schedule::delay(text)?),
            Self::At(_) => check_time(text)?,
        };
        Ok(Some(at))
    }
}

/// Reads a time.
pub(super) fn check_time(text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>();
    let time = time.map_err(|_| format!("{text:?} is no time such as 2026-12-24T18:00:00Z"))?;
    Ok(Timestamp(time.as_microsecond()))
}

/// What is wrong with a tag.
pub(super) fn check_tag(tag: &str) -> Result<(), &'static str> {
    match check_text(tag) {
        Ok(()) if tag.contains('|') => Err("a tag has no |"),
        checked => checked.map_err(|_| "a tag has 1 to 1024 bytes, and no control characters"),
    }
}

/// What is wrong with a key.
pub(super) fn check_key(key: &str) -> Result<(), &'static str> {
    match check_text(key) {
        Ok(()) if key.contains(' ') => Err("a key has no spaces, which stand between keys"),
        checked => checked.map_err(|_| "a key has 1 to 1024 bytes, and no control characters"),
    }
}

/// What is wrong with a message group.
pub(super) fn check_group(group: &str) -> Result<(), &'static str> {
    match check_text(group) {
        Ok(()) if group.len() <= GROUP_BYTES_MAX => Ok(()),
        _ => Err("a message group has 1 to 63 bytes, and no control characters"),
    }
}

fn check_text(text: &str) -> Result<(), ()> {
    let is_long = text.len() > TEXT_BYTES_MAX;
    match text.trim().is_empty() || is_long || text.chars().any(char::is_control) {
        true => Err(()),
        false => Ok(()),
    }
}

impl Sender {
    /// Sends what an attempt has.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
        // Before the attempt is given up, so that a connection that does not answer is.
        let spare = (attempt.timeout / 10).min(Duration::from_secs(1));
        let until = Instant::now() + attempt.timeout.saturating_sub(spare);
        let mut outcomes: Vec<Option<Outcome>> = vec![None; attempt.deliveries.len()];
        let mut lanes: Vec<Vec<(usize, Message)>> = Vec::new();
        let mut lane_of_group = HashMap::new();
        for (index, delivery) in attempt.deliveries.iter().enumerate() {
            match self.message(delivery, attempt.rule.as_str()) {
                Ok(message) => {
                    let lane = match group_of(&message) {
                        Some(group) => *lane_of_group.entry(group).or_insert(lanes.len()),
                        None => lanes.len(),
                    };
                    lanes.resize_with(lanes.len().max(lane + 1), Vec::new);
                    if let Some(lane) = lanes.get_mut(lane) {
                        lane.push((index, message));
                    }
                }
                Err(outcome) => set(&mut outcomes, index, outcome),
            }
        }
        let sent = join_all(lanes.into_iter().map(|lane| self.send_lane(lane, until))).await;
        for (index, outcome) in sent.into_iter().flatten() {
            set(&mut outcomes, index, outcome);
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Sends messages one after the other, up to the first that fails.
    async fn send_lane(
        &self,
        messages: Vec<(usize, Message)>,
        until: Instant,
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut is_stopped = false;
        for (index, message) in messages {
            let outcome = match is_stopped {
                true => Outcome::new(
                    Class::Unavailable,
                    "one of the same message group that comes before it has failed",
                ),
                false => self.send(message, until).await,
            };
            // A message that never will be taken holds nobody up.
            is_stopped |= !matches!(outcome.class, Class::Delivered | Class::Rejected);
            outcomes.push((index, outcome));
        }
        outcomes
    }

    async fn send(&self, message: Message, until: Instant) -> Outcome {
        let request = SendMessageRequest {
            messages: vec![message],
        };
        let within = until.saturating_duration_since(Instant::now());
        let asked = self.client.ask("SendMessage", &request, within);
        let answer: Result<SendMessageResponse, _> = match timeout_at(until, asked).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Unanswered::Cut("no connection in time".to_owned())),
        };
        match answer {
            Ok(answer) => outcome(&answer),
            Err(Unanswered::Unreachable(unreachable)) => {
                Outcome::new(unreachable.class, unreachable.problem.to_string())
            }
            Err(Unanswered::Cut(why)) => {
                Outcome::new(Class::Failed, format!("{why}; the message may be there"))
            }
            Err(Unanswered::Refused(refusal)) => refused(&refusal),
        }
    }

    /// The message of a delivery.
    fn message(&self, delivery: &Delivery, rule: &str) -> Result<Message, Outcome> {
        check_texts(delivery, self.texts)?;
        let rejected = |why: String| Outcome::new(Class::Rejected, why);
        let topic = self.topic.text(delivery);
        check_topic(topic).map_err(|why| rejected(format!("{topic:?}: {why}")))?;
        let (properties, body) = encode(delivery, rule, self.mode).map_err(rejected)?;
        let now = Timestamp::now();
        let when = self.when.as_ref().map(|when| when.of(delivery, now));
        let when = when.transpose().map_err(rejected)?.flatten();
        let said = |text: &Option<Parameter>, check: fn(&str) -> Result<(), &'static str>| {
            let text = text.as_ref().map(|text| text.text(delivery));
            checked(text.unwrap_or_default(), check).map_err(rejected)
        };
        let (tag, group) = (said(&self.tag, check_tag)?, said(&self.group, check_group)?);
        let mut keys = Vec::new();
        for key in &self.keys {
            keys.extend(checked(key.text(delivery), check_key).map_err(rejected)?);
        }
        let message_type = match (&group, when) {
            (Some(_), _) => MessageType::Fifo,
            (None, Some(_)) => MessageType::Delay,
            (None, None) => MessageType::Normal,
        };
        Ok(Message {
            topic: Some(Resource {
                resource_namespace: self.namespace.clone(),
                name: topic.to_owned(),
            }),
            user_properties: properties,
            system_properties: Some(SystemProperties {
                tag,
                keys,
                message_id: delivery.id.to_string(),
                body_encoding: Encoding::Identity.into(),
                message_type: message_type.into(),
                born_timestamp: Some(proto::Timestamp::of_micros(now.0)),
                delivery_timestamp: when.map(|when| proto::Timestamp::of_micros(when.0)),
                message_group: group,
                ..SystemProperties::default()
            }),
            body,
        })
    }
}

/// A text that is sent; none where it is empty.
fn checked(
    text: &str,
    check: fn(&str) -> Result<(), &'static str>,
) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match check(text) {
        Ok(()) => Ok(Some(text.to_owned())),
        Err(why) => Err(format!("{text:?}: {why}")),
    }
}

fn group_of(message: &Message) -> Option<String> {
    message.system_properties.as_ref()?.message_group.clone()
}

fn set(outcomes: &mut [Option<Outcome>], index: usize, outcome: Outcome) {
    if let Some(place) = outcomes.get_mut(index) {
        *place = Some(outcome);
    }
}

/// What became of the only message of a call.
fn outcome(answer: &SendMessageResponse) -> Outcome {
    let entry = answer.entries.first();
    let status = entry.and_then(|entry| entry.status.as_ref());
    match Refusal::check(status.or(answer.status.as_ref())) {
        Ok(()) => Outcome::delivered(),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Outcome {
    let why = refusal.words();
    let message = format!("RocketMQ does not take the message: {why}");
    Outcome::new(refusal.class(), message)
}
