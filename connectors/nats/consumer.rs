//! The durable consumer: found, or created where that is configured, and never changed.

use std::time::Duration;

use async_nats::Client;
use async_nats::datetime::parse_rfc3339;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, Info, pull};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::message::Info as Delivered;
use async_nats::jetstream::stream::{self, ConsumerCreateStrictErrorKind, RetentionPolicy};
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;
use futures::StreamExt;
use pointsman_schemas::{Interval, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use super::connection::is_subject;
use super::interior_gaps::InteriorGaps;
use super::outstanding::MESSAGES_MAX;
use super::pull::API_TIMEOUT;
use crate::leb128;
use crate::source::fingerprint;

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
    filter: Option<String>,
    /// Where a new consumer begins; not looked at where it is there already.
    #[serde(default)]
    start: Start,
    /// How long the server waits for an acknowledgement before it sends a message again; 30s unless
    /// it is given.
    ack_wait: Option<Interval>,
    /// How many messages may be unacknowledged at once; 8192, the most, unless it is given.
    max_ack_pending: Option<usize>,
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
    fn resumed(retention: RetentionPolicy, resume_at: u64) -> Start {
        // A work queue has a consumer begin with its first message (10101), and what is
        // acknowledged is gone from it.
        if retention == RetentionPolicy::WorkQueue {
            Start::All
        } else {
            Start::Sequence(resume_at)
        }
    }

    fn config(&self, name: &str, resume: Option<Start>) -> pull::Config {
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

/// Which consumer to read from, and how to create it where it is missing.
#[derive(Clone, Debug)]
pub(super) struct ConsumerSpec {
    pub(super) stream: String,
    pub(super) consumer: String,
    pub(super) create: Option<NewConsumer>,
    /// The domain of the JetStream that has the stream; the server's own unless it is given.
    pub(super) domain: Option<String>,
    /// The servers, without anything secret: streams of the same name elsewhere are others.
    pub(super) hosts: String,
}

/// How far a consumer has come. It is stored with the events: by it a consumer that was deleted is
/// created again at the right message, and what its stream has removed unread is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConsumerProgress {
    /// When its stream was created, in nanoseconds since 1970: a stream that was created at another
    /// time is another one.
    stream_created: i64,
    /// Everything up to this message of the stream is acknowledged, and so stored.
    pub(super) acknowledged: u64,
    /// What was removed before this message has been reported.
    reported: u64,
    /// How many deliveries the consumer had made by then.
    deliveries: u64,
    /// How many messages waited when it was last looked at.
    waiting: u64,
    /// Whether this process holds what was delivered and is not acknowledged: after a restart of
    /// the bus it does not.
    holds_unacknowledged: bool,
    /// The gaps inside its stream.
    interior_gaps: InteriorGaps,
}

/// Whether a consumer was found or created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerOrigin {
    /// It existed before.
    Found,
    /// It was just created, to begin with this message where that is configured by its number.
    Created(Option<u64>),
}

/// Messages that were removed before they were delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) messages: u64,
    /// Where they are missing, and why.
    pub(super) why: String,
}

impl ConsumerProgress {
    /// Encodes it as it is stored with the events; see [`ConsumerProgress::read`].
    pub(super) fn write(&self) -> Bytes {
        let mut position = Vec::with_capacity(32);
        leb128::write(&mut position, leb128::zigzag(self.stream_created));
        for number in [
            self.acknowledged,
            self.reported,
            self.deliveries,
            self.waiting,
        ]
        .into_iter()
        .chain(self.interior_gaps.begin())
        {
            leb128::write(&mut position, number);
        }
        position.into()
    }

    /// Decodes what was stored; none where that cannot be read, which costs no message: the
    /// consumer itself knows where it is.
    pub(super) fn read(mut position: &[u8]) -> Option<Self> {
        let mut next = || leb128::read(&mut position);
        let stream_created = leb128::unzigzag(next()?);
        let (acknowledged, reported, deliveries, waiting) = (next()?, next()?, next()?, next()?);
        // Positions that were stored before gaps inside the stream were counted end here.
        Some(Self {
            stream_created,
            acknowledged,
            reported,
            deliveries,
            waiting,
            holds_unacknowledged: false,
            interior_gaps: InteriorGaps::begun(next()),
        })
    }

    /// A message has been delivered here: what lies before it is not missing, but for what was
    /// removed from between it and the one before.
    pub(super) fn delivered(&mut self, message: &Delivered<'_>) {
        self.reported = self.reported.max(message.stream_sequence);
        self.deliveries = self.deliveries.max(message.consumer_sequence);
        self.waiting = message.pending;
        self.interior_gaps.delivered(message);
    }

    /// What was removed from the middle of the stream since this was last asked.
    pub(super) fn removed(&mut self, stream: &str) -> Option<Gap> {
        self.interior_gaps.removed(stream)
    }

    /// What was removed from a stream before the consumer came to it: its next message lies behind
    /// the last that it has delivered, or where it was to begin if it was just made.
    pub(super) fn gap(
        &mut self,
        info: &Info,
        stream: &stream::Info,
        consumer: ConsumerOrigin,
    ) -> Option<Gap> {
        (self.stream_created, self.waiting) = (created_at(stream), info.num_pending);
        let config = &info.config;
        let filtered = !config.filter_subject.is_empty() || !config.filter_subjects.is_empty();
        self.interior_gaps.looked_at(
            stream,
            !filtered && config.deliver_policy != DeliverPolicy::LastPerSubject,
        );
        // What other consumers have acknowledged goes too, and the last messages of all subjects
        // are in no order.
        let elsewhere = filtered && stream.config.retention != RetentionPolicy::Limits;
        let first = stream.state.first_sequence;
        let passed = match consumer {
            ConsumerOrigin::Created(Some(begins_at)) if self.holds_unacknowledged => {
                begins_at.saturating_sub(1).max(self.reported)
            }
            ConsumerOrigin::Created(Some(begins_at)) => begins_at.saturating_sub(1),
            // A purge moves the consumer behind what it removes, so that its position alone would
            // hide that. What it has passed without a delivery nobody has seen; of one with a
            // filter that may be what it is not to see.
            ConsumerOrigin::Found
                if !filtered && info.delivered.consumer_sequence >= self.deliveries =>
            {
                let unseen = info.delivered.consumer_sequence - self.deliveries;
                info.delivered
                    .stream_sequence
                    .min(self.reported.saturating_add(unseen))
                    .max(self.reported)
            }
            ConsumerOrigin::Found | ConsumerOrigin::Created(None) => {
                info.delivered.stream_sequence.max(self.reported)
            }
        };
        let lost_unacknowledged = if self.holds_unacknowledged {
            0
        } else {
            info.num_ack_pending as u64
        };
        (self.reported, self.deliveries, self.holds_unacknowledged) =
            (passed, info.delivered.consumer_sequence, true);
        let missing = first.saturating_sub(passed.saturating_add(1));
        if missing == 0 || elsewhere || config.deliver_policy == DeliverPolicy::LastPerSubject {
            return None;
        }
        self.reported = first - 1;
        self.interior_gaps.begins_behind(self.reported);
        let of = if filtered {
            " (of all its subjects)"
        } else {
            ""
        };
        let why = format!(
            "messages {} to {} were removed from the stream {}{of}",
            passed + 1,
            first - 1,
            info.stream_name
        );
        Some(Gap {
            messages: missing + lost_unacknowledged,
            why,
        })
    }

    /// The gap that arose if the stream is not the one that was read before.
    fn recreated(&self, stream: &stream::Info) -> Option<Gap> {
        (self.stream_created != created_at(stream)).then(|| Gap {
            messages: self.waiting,
            why: format!(
                "the stream {} was deleted and made anew, with what had not been read of it",
                stream.config.name
            ),
        })
    }
}

/// When a stream was created, in nanoseconds since 1970.
fn created_at(stream: &stream::Info) -> i64 {
    i64::try_from(stream.created.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

/// Why there is no consumer to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConsumerError {
    /// The server does not answer; it may soon.
    Unavailable(String),
    /// The stream or the consumer is not what is configured; somebody has to change one of them.
    Misconfigured(String),
}

impl ConsumerError {
    pub(super) fn message(self) -> String {
        match self {
            Self::Unavailable(message) | Self::Misconfigured(message) => message,
        }
    }
}

impl ConsumerSpec {
    /// The fingerprint of this configuration: it tells whose position a stored one is.
    pub(super) fn fingerprint(&self) -> u64 {
        fingerprint(&[
            "nats",
            &self.hosts,
            self.domain.as_deref().unwrap_or_default(),
            &self.stream,
            &self.consumer,
        ])
    }

    /// The JetStream context of its domain.
    pub(super) fn context(&self, client: &Client) -> Context {
        let builder = ContextBuilder::new().timeout(API_TIMEOUT);
        match &self.domain {
            Some(domain) => builder.domain(domain).build(client.clone()),
            None => builder.build(client.clone()),
        }
    }

    /// The subject of requests for messages.
    pub(super) fn next_subject(&self) -> String {
        let domain = self
            .domain
            .as_ref()
            .map(|domain| format!("{domain}."))
            .unwrap_or_default();
        format!(
            "$JS.{domain}API.CONSUMER.MSG.NEXT.{}.{}",
            self.stream, self.consumer
        )
    }

    /// Finds the stream.
    pub(super) async fn stream(
        &self,
        jetstream: &Context,
    ) -> Result<stream::Stream, ConsumerError> {
        jetstream
            .get_stream(&self.stream)
            .await
            .map_err(|error| match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    ConsumerError::Misconfigured(format!(
                        "there is no stream {}; make it, or name one that is there",
                        self.stream
                    ))
                }
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
                {
                    ConsumerError::Misconfigured(
                        "the account has no JetStream; enable it, or read from a subject"
                            .to_owned(),
                    )
                }
                _ => ConsumerError::Unavailable(match &self.domain {
                    Some(domain) => format!(
                        "no JetStream of the domain {domain} answers: {error}; check the domain's \
                         name, and that the account may use $JS.{domain}.API.>"
                    ),
                    None => format!(
                        "JetStream does not answer: {error}; check that the server has it enabled \
                         and that the account may use $JS.API.>"
                    ),
                }),
            })
    }

    /// Looks the consumer and its stream up. Returns none where there is none.
    pub(super) async fn look(
        &self,
        jetstream: &Context,
    ) -> Result<Option<(Info, stream::Info)>, ConsumerError> {
        let stream = match self.stream(jetstream).await {
            // Whether it comes back is for the next to find out.
            Err(ConsumerError::Misconfigured(_)) => return Ok(None),
            found => found?,
        };
        Ok(self
            .find(&stream)
            .await?
            .map(|info| (info, stream.cached_info().clone())))
    }

    /// Looks the consumer up. Returns none where there is none.
    pub(super) async fn find<I>(
        &self,
        stream: &stream::Stream<I>,
    ) -> Result<Option<Info>, ConsumerError> {
        let found = match stream.consumer_info(&self.consumer).await {
            Ok(found) => found,
            Err(error) => {
                return match error.kind() {
                    ConsumerInfoErrorKind::NotFound => Ok(None),
                    ConsumerInfoErrorKind::StreamNotFound => Err(ConsumerError::Unavailable(
                        format!("the stream {} is gone", self.stream),
                    )),
                    _ => Err(ConsumerError::Unavailable(format!(
                        "cannot look at the consumer {}: {error}",
                        self.consumer
                    ))),
                };
            }
        };
        let differences = self.differences(&found);
        if differences.is_empty() {
            return Ok(Some(found));
        }
        Err(ConsumerError::Misconfigured(format!(
            "the consumer {} of the stream {} is there and is not what is wanted: {}; change one \
             of the two, or name another consumer",
            self.consumer,
            self.stream,
            differences.join("; ")
        )))
    }

    /// How the consumer differs from what is configured.
    fn differences(&self, found: &Info) -> Vec<String> {
        let mut differences = Vec::new();
        let config = &found.config;
        if config.deliver_subject.is_some() {
            differences.push("it pushes, where messages are pulled".to_owned());
        }
        if !config.priority_groups.is_empty() {
            differences.push(format!(
                "it has priority groups ({}), which are not spoken here",
                config.priority_groups.join(", ")
            ));
        }
        if config.ack_policy != AckPolicy::Explicit {
            differences.push(
                "it does not ask for an acknowledgement of each message (ack_policy explicit)"
                    .to_owned(),
            );
        }
        let Some(create) = &self.create else {
            return differences;
        };
        if let Some(spec) = &create.filter {
            let filters = match config.filter_subjects.as_slice() {
                [] => config.filter_subject.clone(),
                several => several.join(", "),
            };
            if filters != *spec {
                let filters = if filters.is_empty() { ">" } else { &filters };
                differences.push(format!("filter is {filters} there and {spec} here"));
            }
        }
        if let Some(spec) = create.ack_wait
            && config.ack_wait != spec.0
        {
            differences.push(format!(
                "ack_wait is {} there and {spec} here",
                Interval(config.ack_wait)
            ));
        }
        if let Some(spec) = create.max_ack_pending
            && i64::try_from(spec) != Ok(config.max_ack_pending)
        {
            differences.push(format!(
                "max_ack_pending is {} there and {spec} here",
                config.max_ack_pending
            ));
        }
        differences
    }

    /// Finds the consumer, or creates it where that is configured: behind what is known to be
    /// stored, if it existed before. Returns it with its progress, and with what was removed
    /// meanwhile.
    pub(super) async fn ensure(
        &self,
        jetstream: &Context,
        known: Option<ConsumerProgress>,
    ) -> Result<(Info, ConsumerProgress, Vec<Gap>), ConsumerError> {
        let stream = match self.stream(jetstream).await {
            // The stream may be created again, and nothing of that is to be missed: the progress is
            // kept until then.
            Err(ConsumerError::Misconfigured(message))
                if known.is_some() && self.create.is_some() =>
            {
                return Err(ConsumerError::Unavailable(message));
            }
            found => found?,
        };
        let stream_info = stream.cached_info();
        let stream_created = created_at(stream_info);
        let known_here = known.filter(|known| known.stream_created == stream_created);
        let recreated = known.and_then(|known| known.recreated(stream_info));
        let mut consumer = ConsumerOrigin::Found;
        let info = match (self.find(&stream).await?, &self.create) {
            (Some(info), _) => info,
            (None, Some(create)) => {
                // All of a stream that was made anew is unread, wherever the first one was to
                // begin.
                let resume_at = known_here
                    .map(|known| known.acknowledged + 1)
                    .or(known.map(|_| 1));
                let resume =
                    resume_at.map(|at| NewConsumer::resumed(stream_info.config.retention, at));
                // Some servers make it all the same, and both consumers then miss what the other
                // takes.
                if let Some(problem) = self.conflict(&stream, resume.as_ref()).await {
                    return Err(ConsumerError::Misconfigured(problem));
                }
                consumer =
                    ConsumerOrigin::Created(match resume.as_ref().unwrap_or(&create.start) {
                        Start::Sequence(first) => Some(*first),
                        _ => None,
                    });
                self.make(&stream, create, resume).await?
            }
            (None, None) => {
                return Err(ConsumerError::Misconfigured(format!(
                    "the stream {} has no consumer {}; make it, or set create: {{}}",
                    self.stream, self.consumer
                )));
            }
        };
        let acknowledged =
            acknowledged(&info).max(known_here.map_or(0, |known| known.acknowledged));
        // Of what it has delivered to others nothing is known.
        let (reported, deliveries) = (
            info.delivered.stream_sequence,
            info.delivered.consumer_sequence,
        );
        let nothing = ConsumerProgress {
            stream_created,
            acknowledged,
            reported,
            deliveries,
            waiting: 0,
            holds_unacknowledged: false,
            interior_gaps: InteriorGaps::default(),
        };
        let mut known = known_here.map_or(nothing, |known| ConsumerProgress {
            acknowledged,
            ..known
        });
        let gap = known.gap(&info, stream_info, consumer);
        known.interior_gaps.resume(&info);
        Ok((info, known, recreated.into_iter().chain(gap).collect()))
    }

    async fn make(
        &self,
        stream: &stream::Stream,
        create: &NewConsumer,
        resume: Option<Start>,
    ) -> Result<Info, ConsumerError> {
        let error = match stream
            .create_consumer_strict(create.config(&self.consumer, resume))
            .await
        {
            Ok(consumer) => return Ok(consumer.cached_info().clone()),
            Err(error) => error,
        };
        let code = match error.kind() {
            ConsumerCreateStrictErrorKind::JetStream(error) => error.error_code(),
            _ => {
                return Err(ConsumerError::Unavailable(format!(
                    "cannot make the consumer {}: {error}",
                    self.consumer
                )));
            }
        };
        Err(match code {
            ErrorCode::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL => {
                ConsumerError::Misconfigured(self.not_from_the_first())
            }
            ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE
            | ErrorCode::CONSUMER_WQ_MULTIPLE_UNFILTERED => {
                ConsumerError::Misconfigured(self.taken("another one", false))
            }
            _ => ConsumerError::Unavailable(format!(
                "cannot make the consumer {}: {error}",
                self.consumer
            )),
        })
    }

    fn not_from_the_first(&self) -> String {
        format!(
            "the stream {} is a work queue, whose consumers begin with its first message; leave \
             out create.start",
            self.stream
        )
    }

    /// `takes_all` says that the other consumer leaves no subject of the stream to anybody else.
    fn taken(&self, other: &str, takes_all: bool) -> String {
        let what_to_do = if takes_all {
            "read through that one, or delete it"
        } else {
            "read through that one, delete it, or set create.filter to other subjects"
        };
        format!(
            "the stream {} is a work queue, each message of which goes to one consumer, and \
             {other} takes the same subjects; {what_to_do}",
            self.stream
        )
    }

    /// Why the consumer, which does not exist, cannot be created.
    pub(super) async fn conflict(
        &self,
        stream: &stream::Stream,
        resume: Option<&Start>,
    ) -> Option<String> {
        let create = self.create.as_ref()?;
        if stream.cached_info().config.retention != RetentionPolicy::WorkQueue {
            return None;
        }
        if *resume.unwrap_or(&create.start) != Start::All {
            return Some(self.not_from_the_first());
        }
        let mut consumers = stream.consumers();
        while let Some(Ok(other)) = consumers.next().await {
            // Another bus has just made the one that both want.
            if other.name == self.consumer {
                return None;
            }
            let all = |filter: &str| {
                if filter.is_empty() {
                    ">".to_owned()
                } else {
                    filter.to_owned()
                }
            };
            let ours = all(create.filter.as_deref().unwrap_or_default());
            let mut theirs = match other.config.filter_subjects.as_slice() {
                [] => vec![all(&other.config.filter_subject)],
                several => several.to_vec(),
            };
            theirs.retain(|filter| overlap(filter, &ours));
            if !theirs.is_empty() {
                let takes_all = theirs.iter().any(|filter| filter == ">");
                return Some(self.taken(&format!("the consumer {}", other.name), takes_all));
            }
        }
        None
    }
}

/// True where some subject matches both filters.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

/// Up to which message of the stream everything is acknowledged, or was never to be seen: a
/// consumer that was just made tells the latter only as what it has delivered.
pub(super) fn acknowledged(info: &Info) -> u64 {
    let delivered = if info.num_ack_pending == 0 {
        info.delivered.stream_sequence
    } else {
        0
    };
    info.ack_floor.stream_sequence.max(delivered)
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
