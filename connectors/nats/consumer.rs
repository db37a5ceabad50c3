//! The durable consumer: found, or created where that is configured, and never changed.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, Info};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{self, ConsumerCreateStrictErrorKind, RetentionPolicy};
use async_nats::jetstream::{Context, ErrorCode};
use futures::StreamExt;
use pointsman_schemas::Interval;

use super::create::{NewConsumer, Start};
use super::interior_gaps::InteriorGaps;
use super::progress::{ConsumerOrigin, ConsumerProgress, Gap, acknowledged, created_at};
use crate::source::fingerprint;

/// How long JetStream may take to answer.
pub(super) const API_TIMEOUT: Duration = Duration::from_secs(5);

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

    /// Why `create.filter` selects no message: none of the stream's subjects matches it. Servers
    /// from 2.10 on create such a consumer all the same.
    pub(super) fn unmatched_filter(&self, stream: &stream::Info) -> Option<String> {
        let filter = self.create.as_ref()?.filter.as_ref()?;
        let config = &stream.config;
        // What a stream copies or renames is under other subjects than those it listens to.
        let has_others = config.mirror.is_some()
            || config.sources.as_ref().is_some_and(|all| !all.is_empty())
            || config.subject_transform.is_some();
        let is_matched = config.subjects.iter().any(|of| overlap(of, filter));
        (!has_others && !is_matched).then(|| {
            format!(
                "no subject of the stream {} matches {filter}; it has {}",
                self.stream,
                config.subjects.join(", ")
            )
        })
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
