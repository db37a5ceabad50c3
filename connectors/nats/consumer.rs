//! The durable consumer: found, or made where that is asked for, and never changed.

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
use super::middle::Middle;
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
                    "1 to {MESSAGES_MAX} messages can be in hand at once"
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

/// Which consumer, and what to make where it is not there.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) stream: String,
    pub(super) consumer: String,
    pub(super) create: Option<NewConsumer>,
    /// The domain of the JetStream that has the stream; the server's own unless it is given.
    pub(super) domain: Option<String>,
    /// The servers, without anything secret: streams of the same name elsewhere are others.
    pub(super) hosts: String,
}

/// What is known of a consumer from before: it may have to be made anew, and what its stream has
/// removed unread is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// When its stream was made, in nanoseconds since 1970: of another stream nothing is known.
    stream_made: i64,
    /// Everything up to this message of the stream is acknowledged, and so stored.
    pub(super) acknowledged: u64,
    /// What lies before this message and was removed has been told.
    told: u64,
    /// How many deliveries the consumer had made by then.
    deliveries: u64,
    /// How many messages waited when it was last looked at.
    waiting: u64,
    /// Whether what was delivered and is not acknowledged is in hand: after a restart of the bus it
    /// is not.
    in_hand: bool,
    /// What is seen of its middle.
    middle: Middle,
}

/// How a consumer came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consumer {
    /// It was there before.
    Found,
    /// It was just made, to begin with this message where that is told by its number.
    Made(Option<u64>),
}

/// Messages that nobody will see any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) messages: u64,
    /// Where they are missing, and why.
    pub(super) why: String,
}

impl Known {
    /// What is stored with the events; see [`Known::read`].
    pub(super) fn write(&self) -> Bytes {
        let mut position = Vec::with_capacity(32);
        leb128::write(&mut position, leb128::zigzag(self.stream_made));
        for number in [self.acknowledged, self.told, self.deliveries, self.waiting]
            .into_iter()
            .chain(self.middle.begin())
        {
            leb128::write(&mut position, number);
        }
        position.into()
    }

    /// What was stored; none where it cannot be read, which costs no message: the consumer itself
    /// knows where it is.
    pub(super) fn read(mut position: &[u8]) -> Option<Self> {
        let mut next = || leb128::read(&mut position);
        let stream_made = leb128::unzigzag(next()?);
        let (acknowledged, told, deliveries, waiting) = (next()?, next()?, next()?, next()?);
        // Positions had no more before their middle was looked at.
        Some(Self {
            stream_made,
            acknowledged,
            told,
            deliveries,
            waiting,
            in_hand: false,
            middle: Middle::begun(next()),
        })
    }

    /// A message has been delivered here: what lies before it is not missing, but for what was
    /// removed from between it and the one before.
    pub(super) fn delivered(&mut self, message: &Delivered<'_>) {
        self.told = self.told.max(message.stream_sequence);
        self.deliveries = self.deliveries.max(message.consumer_sequence);
        self.waiting = message.pending;
        self.middle.delivered(message);
    }

    /// What was removed from the middle of the stream since this was last asked.
    pub(super) fn removed(&mut self, stream: &str) -> Option<Gap> {
        self.middle.removed(stream)
    }

    /// What was removed from a stream before the consumer came to it: its next message lies behind
    /// the last that it has delivered, or where it was to begin if it was just made.
    pub(super) fn gap(
        &mut self,
        info: &Info,
        stream: &stream::Info,
        consumer: Consumer,
    ) -> Option<Gap> {
        (self.stream_made, self.waiting) = (made(stream), info.num_pending);
        let config = &info.config;
        let filtered = !config.filter_subject.is_empty() || !config.filter_subjects.is_empty();
        self.middle.looked_at(
            stream,
            !filtered && config.deliver_policy != DeliverPolicy::LastPerSubject,
        );
        // What other consumers have acknowledged goes too, and the last messages of all subjects
        // are in no order.
        let elsewhere = filtered && stream.config.retention != RetentionPolicy::Limits;
        let first = stream.state.first_sequence;
        let passed = match consumer {
            Consumer::Made(Some(begins_at)) if self.in_hand => {
                begins_at.saturating_sub(1).max(self.told)
            }
            Consumer::Made(Some(begins_at)) => begins_at.saturating_sub(1),
            // A purge moves the consumer behind what it removes, so that its position alone would
            // hide that. What it has passed without a delivery nobody has seen; of one with a
            // filter that may be what it is not to see.
            Consumer::Found if !filtered && info.delivered.consumer_sequence >= self.deliveries => {
                let unseen = info.delivered.consumer_sequence - self.deliveries;
                info.delivered
                    .stream_sequence
                    .min(self.told.saturating_add(unseen))
                    .max(self.told)
            }
            Consumer::Found | Consumer::Made(None) => info.delivered.stream_sequence.max(self.told),
        };
        let lost_in_hand = if self.in_hand {
            0
        } else {
            info.num_ack_pending as u64
        };
        (self.told, self.deliveries, self.in_hand) =
            (passed, info.delivered.consumer_sequence, true);
        let missing = first.saturating_sub(passed.saturating_add(1));
        if missing == 0 || elsewhere || config.deliver_policy == DeliverPolicy::LastPerSubject {
            return None;
        }
        self.told = first - 1;
        self.middle.begins_behind(self.told);
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
            messages: missing + lost_in_hand,
            why,
        })
    }

    /// What can be said of a stream that is not the one that was read before.
    fn made_anew(&self, stream: &stream::Info) -> Option<Gap> {
        (self.stream_made != made(stream)).then(|| Gap {
            messages: self.waiting,
            why: format!(
                "the stream {} was deleted and made anew, with what had not been read of it",
                stream.config.name
            ),
        })
    }
}

/// When a stream was made, in nanoseconds since 1970.
fn made(stream: &stream::Info) -> i64 {
    i64::try_from(stream.created.unix_timestamp_nanos()).unwrap_or(i64::MAX)
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
    /// What gives a stored position its meaning.
    pub(super) fn fingerprint(&self) -> u64 {
        fingerprint(&[
            "nats",
            &self.hosts,
            self.domain.as_deref().unwrap_or_default(),
            &self.stream,
            &self.consumer,
        ])
    }

    /// Its JetStream through a client.
    pub(super) fn context(&self, client: &Client) -> Context {
        let builder = ContextBuilder::new().timeout(API_TIMEOUT);
        match &self.domain {
            Some(domain) => builder.domain(domain).build(client.clone()),
            None => builder.build(client.clone()),
        }
    }

    /// Where messages are asked for.
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
    pub(super) async fn stream(&self, jetstream: &Context) -> Result<stream::Stream, NoConsumer> {
        jetstream
            .get_stream(&self.stream)
            .await
            .map_err(|error| match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    NoConsumer::Wrong(format!(
                        "there is no stream {}; make it, or name one that is there",
                        self.stream
                    ))
                }
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
                {
                    NoConsumer::Wrong(
                        "the account has no JetStream; enable it, or read from a subject"
                            .to_owned(),
                    )
                }
                _ => NoConsumer::Unknown(match &self.domain {
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

    /// Looks for the consumer and its stream, and none is an answer.
    pub(super) async fn look(
        &self,
        jetstream: &Context,
    ) -> Result<Option<(Info, stream::Info)>, NoConsumer> {
        let stream = match self.stream(jetstream).await {
            // Whether it comes back is for the next to find out.
            Err(NoConsumer::Wrong(_)) => return Ok(None),
            found => found?,
        };
        Ok(self
            .find(&stream)
            .await?
            .map(|info| (info, stream.cached_info().clone())))
    }

    /// Looks for the consumer, and none is an answer.
    pub(super) async fn find<I>(
        &self,
        stream: &stream::Stream<I>,
    ) -> Result<Option<Info>, NoConsumer> {
        let found = match stream.consumer_info(&self.consumer).await {
            Ok(found) => found,
            Err(error) => {
                return match error.kind() {
                    ConsumerInfoErrorKind::NotFound => Ok(None),
                    ConsumerInfoErrorKind::StreamNotFound => Err(NoConsumer::Unknown(format!(
                        "the stream {} is gone",
                        self.stream
                    ))),
                    _ => Err(NoConsumer::Unknown(format!(
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
        Err(NoConsumer::Wrong(format!(
            "the consumer {} of the stream {} is there and is not what is wanted: {}; change one \
             of the two, or name another consumer",
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
            differences.push(format!(
                "ack_wait is {} there and {wanted} here",
                Interval(config.ack_wait)
            ));
        }
        if let Some(wanted) = create.max_ack_pending
            && i64::try_from(wanted) != Ok(config.max_ack_pending)
        {
            differences.push(format!(
                "max_ack_pending is {} there and {wanted} here",
                config.max_ack_pending
            ));
        }
        differences
    }

    /// Finds the consumer, or makes it where that is asked for: where it was known before, behind
    /// what is known to be stored. Says what was removed meanwhile.
    pub(super) async fn ensure(
        &self,
        jetstream: &Context,
        known: Option<Known>,
    ) -> Result<(Info, Known, Vec<Gap>), NoConsumer> {
        let stream = match self.stream(jetstream).await {
            // Of a stream that is made anew nothing is to be missed, so what is known is kept until
            // it is.
            Err(NoConsumer::Wrong(words)) if known.is_some() && self.create.is_some() => {
                return Err(NoConsumer::Unknown(words));
            }
            found => found?,
        };
        let told_of_stream = stream.cached_info();
        let stream_made = made(told_of_stream);
        let known_here = known.filter(|known| known.stream_made == stream_made);
        let made_anew = known.and_then(|known| known.made_anew(told_of_stream));
        let mut consumer = Consumer::Found;
        let info = match (self.find(&stream).await?, &self.create) {
            (Some(info), _) => info,
            (None, Some(create)) => {
                // All of a stream that was made anew is unread, wherever the first one was to
                // begin.
                let resume_at = known_here
                    .map(|known| known.acknowledged + 1)
                    .or(known.map(|_| 1));
                let resume =
                    resume_at.map(|at| NewConsumer::resumed(told_of_stream.config.retention, at));
                // Some servers make it all the same, and both consumers then miss what the other
                // takes.
                if let Some(problem) = self.hindrance(&stream, resume.as_ref()).await {
                    return Err(NoConsumer::Wrong(problem));
                }
                consumer = Consumer::Made(match resume.as_ref().unwrap_or(&create.start) {
                    Start::Sequence(first) => Some(*first),
                    _ => None,
                });
                self.make(&stream, create, resume).await?
            }
            (None, None) => {
                return Err(NoConsumer::Wrong(format!(
                    "the stream {} has no consumer {}; make it, or set create: {{}}",
                    self.stream, self.consumer
                )));
            }
        };
        let acknowledged =
            acknowledged(&info).max(known_here.map_or(0, |known| known.acknowledged));
        // Of what it has delivered to others nothing is known.
        let (told, deliveries) = (
            info.delivered.stream_sequence,
            info.delivered.consumer_sequence,
        );
        let nothing = Known {
            stream_made,
            acknowledged,
            told,
            deliveries,
            waiting: 0,
            in_hand: false,
            middle: Middle::default(),
        };
        let mut known = known_here.map_or(nothing, |known| Known {
            acknowledged,
            ..known
        });
        let gap = known.gap(&info, told_of_stream, consumer);
        known.middle.resume(&info);
        Ok((info, known, made_anew.into_iter().chain(gap).collect()))
    }

    async fn make(
        &self,
        stream: &stream::Stream,
        create: &NewConsumer,
        resume: Option<Start>,
    ) -> Result<Info, NoConsumer> {
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
                return Err(NoConsumer::Unknown(format!(
                    "cannot make the consumer {}: {error}",
                    self.consumer
                )));
            }
        };
        Err(match code {
            ErrorCode::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL => {
                NoConsumer::Wrong(self.not_from_the_first())
            }
            ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE
            | ErrorCode::CONSUMER_WQ_MULTIPLE_UNFILTERED => {
                NoConsumer::Wrong(self.taken("another one", false))
            }
            _ => NoConsumer::Unknown(format!(
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

    /// What will keep the consumer, which is not there, from being made.
    pub(super) async fn hindrance(
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
