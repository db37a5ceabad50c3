//! The durable consumer: found, or made where that is asked for, and never changed.

use std::time::Duration;

use async_nats::datetime::parse_rfc3339;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, Info, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::{Context, ErrorCode, stream};
use pointsman_schemas::{Interval, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use super::connection::is_subject;
use super::outstanding::MESSAGES_MAX;

/// How long the server waits for an acknowledgement, unless it is given.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// The shortest: the server is told three times within it that a message is being worked on.
const ACK_WAIT_MIN: Duration = Duration::from_secs(1);

/// What a consumer is made of where it is not there. Of one that is there, what is given here must agree with it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "NatsConsumer")]
#[serde(deny_unknown_fields)]
pub struct NewConsumer {
    /// The subjects to take, with `*` and `>`; all of the stream unless it is given.
    filter: Option<String>,
    /// Where a new consumer begins; not looked at where it is there already.
    #[serde(default)]
    start: Start,
    /// How long the server waits for an acknowledgement before it sends a message again; 30s unless it is given.
    ack_wait: Option<Interval>,
    /// How many messages may be unacknowledged at once; 2048, the most, unless it is given.
    max_ack_pending: Option<usize>,
}

/// Where a new consumer begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "NatsStart")]
#[serde(rename_all = "lowercase")]
enum Start {
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
        if self.filter.as_ref().is_some_and(|filter| !is_subject(filter, true)) {
            problems.push(Problem::new("this is no subject").at("filter").help("write one such as telemetry.> or telemetry.*.cpu"));
        }
        match &self.start {
            Start::Sequence(0) => problems.push(Problem::new("the messages of a stream count from 1").at("sequence").at("start")),
            Start::Time(time) if parse_rfc3339(time).is_err() => {
                problems.push(Problem::new("this is no time").at("time").at("start").help("write one such as 2026-01-31T09:30:00Z"));
            }
            _ => {}
        }
        if self.ack_wait.is_some_and(|wait| wait.0 < ACK_WAIT_MIN) {
            problems.push(Problem::new("this is too short to store a message in; 1s at least").at("ack_wait"));
        }
        if self.max_ack_pending.is_some_and(|pending| !(1..=MESSAGES_MAX).contains(&pending)) {
            problems.push(Problem::new(format!("1 to {MESSAGES_MAX} messages can be in hand at once")).at("max_ack_pending"));
        }
        problems
    }

    fn config(&self, name: &str, resume_at: Option<u64>) -> pull::Config {
        let deliver_policy = match (resume_at, &self.start) {
            (Some(start_sequence), _) => DeliverPolicy::ByStartSequence { start_sequence },
            (None, Start::All) => DeliverPolicy::All,
            (None, Start::New) => DeliverPolicy::New,
            (None, Start::Sequence(start)) => DeliverPolicy::ByStartSequence { start_sequence: *start },
            (None, Start::Time(time)) => {
                parse_rfc3339(time).map_or(DeliverPolicy::All, |start_time| DeliverPolicy::ByStartTime { start_time })
            }
        };
        pull::Config {
            durable_name: Some(name.to_owned()),
            description: Some("made by pointsman".to_owned()),
            deliver_policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait.map_or(ACK_WAIT, |wait| wait.0),
            max_ack_pending: i64::try_from(self.max_ack_pending.unwrap_or(MESSAGES_MAX)).unwrap_or(i64::MAX),
            filter_subject: self.filter.clone().unwrap_or_default(),
            ..pull::Config::default()
        }
    }
}

/// Which consumer, and what to make where it is not there.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) stream: String,
    pub(super) consumer: String,
    pub(super) create: Option<NewConsumer>,
}

/// What is known of a consumer from before, should it have to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// When its stream was made, in nanoseconds since 1970: of another stream nothing is known.
    stream_made: i128,
    /// Everything up to this message of the stream is acknowledged, and so stored.
    pub(super) acknowledged: u64,
}

/// Why there is no consumer to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoConsumer {
    /// The server does not say; it may soon.
    Unknown(String),
    /// Somebody has to do something.
    Wrong(String),
}

impl NoConsumer {
    pub(super) fn words(self) -> String {
        match self {
            Self::Unknown(words) | Self::Wrong(words) => words,
        }
    }
}

impl Wanted {
    /// Finds the stream.
    pub(super) async fn stream(&self, jetstream: &Context) -> Result<stream::Stream, NoConsumer> {
        jetstream.get_stream(&self.stream).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                NoConsumer::Wrong(format!("there is no stream {}; make it, or name one that is there", self.stream))
            }
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                NoConsumer::Wrong("the account has no JetStream; enable it, or read from a subject".to_owned())
            }
            _ => NoConsumer::Unknown(format!(
                "JetStream does not answer: {error}; check that the server has it enabled and that the account may use $JS.API.>"
            )),
        })
    }

    /// Looks for the consumer, and none is an answer, without asking for the stream.
    pub(super) async fn look(&self, jetstream: &Context) -> Result<Option<Info>, NoConsumer> {
        let stream = jetstream.get_stream_no_info(&self.stream).await;
        self.find(&stream.map_err(|error| NoConsumer::Wrong(error.to_string()))?).await
    }

    /// Looks for the consumer, and none is an answer.
    pub(super) async fn find<I>(&self, stream: &stream::Stream<I>) -> Result<Option<Info>, NoConsumer> {
        let found = match stream.consumer_info(&self.consumer).await {
            Ok(found) => found,
            Err(error) => {
                return match error.kind() {
                    ConsumerInfoErrorKind::NotFound => Ok(None),
                    ConsumerInfoErrorKind::StreamNotFound => Err(NoConsumer::Unknown(format!("the stream {} is gone", self.stream))),
                    _ => Err(NoConsumer::Unknown(format!("cannot look at the consumer {}: {error}", self.consumer))),
                };
            }
        };
        let differences = self.differences(&found);
        if differences.is_empty() {
            return Ok(Some(found));
        }
        Err(NoConsumer::Wrong(format!(
            "the consumer {} of the stream {} is there and is not what is wanted: {}; change one of the two, or name another consumer",
            self.consumer,
            self.stream,
            differences.join("; ")
        )))
    }

    /// What the consumer has to be and is not.
    fn differences(&self, found: &Info) -> Vec<String> {
        let mut differences = Vec::new();
        let config = &found.config;
        if config.deliver_subject.is_some() {
            differences.push("it pushes, where messages are pulled".to_owned());
        }
        if config.ack_policy != AckPolicy::Explicit {
            differences.push("it does not ask for an acknowledgement of each message (ack_policy explicit)".to_owned());
        }
        let Some(create) = &self.create else { return differences };
        if let Some(wanted) = &create.filter {
            let filters = match config.filter_subjects.as_slice() {
                [] => config.filter_subject.clone(),
                several => several.join(", "),
            };
            if filters != *wanted {
                let filters = if filters.is_empty() { ">" } else { &filters };
                differences.push(format!("filter is {filters} there and {wanted} here"));
            }
        }
        if let Some(wanted) = create.ack_wait
            && config.ack_wait != wanted.0
        {
            differences.push(format!("ack_wait is {} there and {wanted} here", Interval(config.ack_wait)));
        }
        if let Some(wanted) = create.max_ack_pending
            && i64::try_from(wanted) != Ok(config.max_ack_pending)
        {
            differences.push(format!("max_ack_pending is {} there and {wanted} here", config.max_ack_pending));
        }
        differences
    }

    /// Finds the consumer, or makes it where that is asked for: where it was known before, behind what is known to be stored.
    pub(super) async fn ensure(&self, jetstream: &Context, known: Option<Known>) -> Result<(Info, Known), NoConsumer> {
        let stream = match self.stream(jetstream).await {
            // Of a stream that is made anew nothing is to be missed, so what is known is kept until it is.
            Err(NoConsumer::Wrong(words)) if known.is_some() && self.create.is_some() => return Err(NoConsumer::Unknown(words)),
            found => found?,
        };
        let stream_made = stream.cached_info().created.unix_timestamp_nanos();
        let known_here = known.filter(|known| known.stream_made == stream_made);
        let info = match (self.find(&stream).await?, &self.create) {
            (Some(info), _) => info,
            (None, Some(create)) => {
                // All of a stream that was made anew is unread, wherever the first one was to begin.
                let resume_at = known_here.map(|known| known.acknowledged + 1).or(known.map(|_| 1));
                self.make(&stream, create, resume_at).await?
            }
            (None, None) => {
                return Err(NoConsumer::Wrong(format!(
                    "the stream {} has no consumer {}; make it, or set create: {{}}",
                    self.stream, self.consumer
                )));
            }
        };
        let acknowledged = acknowledged(&info).max(known_here.map_or(0, |known| known.acknowledged));
        Ok((info, Known { stream_made, acknowledged }))
    }

    async fn make(&self, stream: &stream::Stream, create: &NewConsumer, resume_at: Option<u64>) -> Result<Info, NoConsumer> {
        match stream.create_consumer_strict(create.config(&self.consumer, resume_at)).await {
            Ok(consumer) => Ok(consumer.cached_info().clone()),
            Err(error) => Err(NoConsumer::Unknown(format!("cannot make the consumer {}: {error}", self.consumer))),
        }
    }
}

/// Up to which message of the stream everything is acknowledged, or was never to be seen: a consumer that was just made tells the latter
/// only as what it has delivered.
pub(super) fn acknowledged(info: &Info) -> u64 {
    let delivered = if info.num_ack_pending == 0 { info.delivered.stream_sequence } else { 0 };
    info.ack_floor.stream_sequence.max(delivered)
}

/// How long the server waits for an acknowledgement of this consumer's messages.
pub(super) fn ack_wait(info: &Info) -> Duration {
    info.config.backoff.iter().copied().chain([info.config.ack_wait]).filter(|wait| !wait.is_zero()).min().unwrap_or(ACK_WAIT)
}
