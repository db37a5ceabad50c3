//! The settings that a consumer is created with: `create`.

use std::time::Duration;

use async_nats::datetime::parse_rfc3339;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, Info, pull};
use async_nats::jetstream::stream::RetentionPolicy;
use pointsman_schemas::{Interval, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use super::names::is_subject;
use super::outstanding::MESSAGES_MAX;

/// How long the server waits for an acknowledgement, unless it is given.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// The shortest: the server is told three times within it that a message is being worked on.
const ACK_WAIT_MIN: Duration = Duration::from_secs(1);

/// What a consumer is made of where it is not there. Of one that is there, what is given here must
/// agree with it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "NatsConsumer")]
#[serde(deny_unknown_fields)]
pub struct NewConsumer {
    /// The subjects to take, with `*` and `>`; all of the stream unless it is given.
    pub(super) filter: Option<String>,
    /// Where a new consumer begins; not looked at where it is there already.
    #[serde(default)]
    pub(super) start: Start,
    /// How long the server waits for an acknowledgement before it sends a message again; 30s unless
    /// it is given.
    pub(super) ack_wait: Option<Interval>,
    /// How many messages may be unacknowledged at once; 8192, the most, unless it is given.
    pub(super) max_ack_pending: Option<usize>,
}

/// Where a new consumer begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "NatsStart")]
#[serde(rename_all = "lowercase")]
pub(super) enum Start {
    /// With the first message that the stream has.
    #[default]
    All,
    /// With what comes after it was made.
    New,
    /// With the message of this number.
    Sequence(u64),
    /// With the first message of this time or later, RFC 3339.
    Time(String),
}

impl NewConsumer {
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self
            .filter
            .as_ref()
            .is_some_and(|filter| !is_subject(filter, true))
        {
            problems.push(
                Problem::new("this is no subject")
                    .at("filter")
                    .help("write one such as telemetry.> or telemetry.*.cpu"),
            );
        }
        match &self.start {
            Start::Sequence(0) => problems.push(
                Problem::new("the messages of a stream count from 1")
                    .at("sequence")
                    .at("start"),
            ),
            Start::Time(time) if parse_rfc3339(time).is_err() => {
                problems.push(
                    Problem::new("this is no time")
                        .at("time")
                        .at("start")
                        .help("write one such as 2026-01-31T09:30:00Z"),
                );
            }
            _ => {}
        }
        if self.ack_wait.is_some_and(|wait| wait.0 < ACK_WAIT_MIN) {
            problems.push(
                Problem::new("this is too short to store a message in; 1s at least").at("ack_wait"),
            );
        }
        if self
            .max_ack_pending
            .is_some_and(|pending| !(1..=MESSAGES_MAX).contains(&pending))
        {
            problems.push(
                Problem::new(format!(
                    "1 to {MESSAGES_MAX} messages can be unacknowledged at once"
                ))
                .at("max_ack_pending"),
            );
        }
        problems
    }

    /// Where a consumer of a stream of this kind begins that is made anew behind what is known of
    /// it.
    pub(super) fn resumed(retention: RetentionPolicy, resume_at: u64) -> Start {
        // A work queue has a consumer begin with its first message (10101), and what is
        // acknowledged is gone from it.
        if retention == RetentionPolicy::WorkQueue {
            Start::All
        } else {
            Start::Sequence(resume_at)
        }
    }

    pub(super) fn config(&self, name: &str, resume: Option<Start>) -> pull::Config {
        let deliver_policy = match resume.as_ref().unwrap_or(&self.start) {
            Start::All => DeliverPolicy::All,
            Start::New => DeliverPolicy::New,
            Start::Sequence(start) => DeliverPolicy::ByStartSequence {
                start_sequence: *start,
            },
            Start::Time(time) => parse_rfc3339(time).map_or(DeliverPolicy::All, |start_time| {
                DeliverPolicy::ByStartTime { start_time }
            }),
        };
        pull::Config {
            durable_name: Some(name.to_owned()),
            description: Some("made by pointsman".to_owned()),
            deliver_policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait.map_or(ACK_WAIT, |wait| wait.0),
            max_ack_pending: i64::try_from(self.max_ack_pending.unwrap_or(MESSAGES_MAX))
                .unwrap_or(i64::MAX),
            filter_subject: self.filter.clone().unwrap_or_default(),
            ..pull::Config::default()
        }
    }
}

/// How long the server waits for an acknowledgement of this consumer's messages.
pub(super) fn ack_wait(info: &Info) -> Duration {
    info.config
        .backoff
        .iter()
        .copied()
        .chain([info.config.ack_wait])
        .filter(|wait| !wait.is_zero())
        .min()
        .unwrap_or(ACK_WAIT)
}
