//! A source's settings: a stream's consumer, or a subject.

use std::sync::Arc;

use async_nats::jetstream::consumer::Info;
use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_schemas::{Name, Problem, Segment, SystemClock, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::Auth;
use super::connection::{ConnectError, Connection, ConnectionEvent, PING_EVERY, Tls};
use super::consumer::{ConsumerError, ConsumerSpec};
use super::create::NewConsumer;
use super::message::Mapper;
use super::names::{is_name, is_subject};
use super::progress::ConsumerProgress;
use super::pull::{self, StreamSource};
use super::subscription::{self, SubjectSource, subscribe};
use super::urls::Urls;
use crate::parameter::{located, resolve};
use crate::{Guarantee, Link, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// The form of the names of streams and consumers, for the JSON Schema.
const NAME_PATTERN: &str = r"^[^\s.*>/\\]+$";

/// Reads messages from a JetStream stream or, at most once, from a subject.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{ "required": ["stream", "consumer"] }, { "required": ["subject"] }],
    "dependentRequired" = { "queue": ["subject"], "consumer": ["stream"], "create": ["stream"], "domain": ["stream"] },
))]
pub struct NatsSource {
    /// The server, or several of one cluster, such as `nats://127.0.0.1:4222`; `tls://` asks for
    /// TLS.
    url: Urls,
    /// The stream to read from.
    #[schemars(extend("pattern" = NAME_PATTERN))]
    stream: Option<Text>,
    /// The JetStream domain in which the stream is, where it is not the server's own.
    domain: Option<Text>,
    /// The durable pull consumer of the stream.
    #[schemars(extend("pattern" = NAME_PATTERN))]
    consumer: Option<Text>,
    /// What to make the consumer of where it is not there; without this it must be there. `{}`
    /// takes the defaults.
    create: Option<NewConsumer>,
    /// The subject to listen to without a stream, with `*` and `>`: what is published while nobody
    /// listens is never seen.
    #[schemars(extend("pattern" = "^[^.\\s]+(\\.[^.\\s]+)*$", "examples" = ["orders.>"]))]
    subject: Option<Text>,
    /// The queue group to share the subject's messages with.
    queue: Option<Text>,
    /// How the server is shown who connects.
    auth: Option<Auth>,
    /// How the connection is encrypted; without it TLS is spoken where the server asks for it.
    tls: Option<Tls>,
}

/// Where messages are read from, once every text has a value.
enum ReadFrom {
    Stream(ConsumerSpec),
    Subject {
        subject: String,
        queue: Option<String>,
    },
}

fn value(
    text: &Text,
    at: &str,
    good: fn(&str) -> bool,
    mistake: &str,
) -> Result<String, OpenError> {
    let at: [Segment; 1] = [at.into()];
    let value = resolve(text, &at)?;
    if good(&value) {
        Ok(value)
    } else {
        Err(OpenError(located(Problem::new(mistake), &at)))
    }
}

const NO_NAME: &str = "this is no name: it must hold some, and no space, dot, slash, * or >";
const NO_SUBJECT: &str = "this is no subject: its tokens between dots must hold some, and no space";

impl NatsSource {
    fn connection(&self) -> Connection<'_> {
        Connection {
            url: &self.url,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
            ping_every: PING_EVERY,
        }
    }

    fn read_from(&self) -> Result<ReadFrom, OpenError> {
        match (&self.stream, &self.consumer, &self.subject) {
            (Some(stream), Some(consumer), None) => Ok(ReadFrom::Stream(ConsumerSpec {
                stream: value(stream, "stream", is_name, NO_NAME)?,
                consumer: value(consumer, "consumer", is_name, NO_NAME)?,
                create: self.create.clone(),
                domain: self
                    .domain
                    .as_ref()
                    .map(|domain| value(domain, "domain", is_name, NO_NAME))
                    .transpose()?,
                hosts: self.connection().hosts()?,
            })),
            (None, None, Some(subject)) => Ok(ReadFrom::Subject {
                subject: value(
                    subject,
                    "subject",
                    |subject| is_subject(subject, true),
                    NO_SUBJECT,
                )?,
                queue: self
                    .queue
                    .as_ref()
                    .map(|queue| value(queue, "queue", is_name, NO_NAME))
                    .transpose()?,
            }),
            _ => Err(OpenError(Problem::new(
                "it takes a stream and a consumer, or a subject",
            ))),
        }
    }
}

impl NatsSource {
    /// Finds out whether a subject may be listened to, and tells the server's version. As a member
    /// of a queue group nobody can, without taking messages from the others.
    async fn probe_subject(&self, subject: &str, queue: bool) -> Result<String, OpenError> {
        let name =
            Name::new("check").map_err(|error| OpenError(Problem::new(error.to_string())))?;
        let monitor = subscription::SubjectMonitor::new(
            name.clone(),
            Link::new(name, Arc::new(SystemClock)),
            subject.to_owned(),
        );
        let client = self
            .connection()
            .connect("check", monitor.listener())
            .await
            .map_err(|ConnectError { problem, .. }| problem)?;
        if !queue {
            subscribe(&client, &monitor, None)
                .await
                .map_err(|problem| OpenError(Problem::new(problem).at("subject")))?;
        }
        Ok(client.server_info().version)
    }
}

impl NatsSource {
    /// Keys that go with a stream or a subject alone, where that is not given.
    fn stray_keys(&self) -> impl Iterator<Item = Problem> {
        let (subject, stream) = (self.subject.is_some(), self.stream.is_some());
        let keys = [
            (self.queue.is_some() && !subject, "queue", "subject"),
            (self.consumer.is_some() && !stream, "consumer", "stream"),
            (self.create.is_some() && !stream, "create", "stream"),
            (self.domain.is_some() && !stream, "domain", "stream"),
        ];
        let stray = |(is_stray, key, of): (bool, &str, &str)| {
            is_stray.then(|| {
                Problem::new(format!("this goes with {of}: alone"))
                    .at(key)
                    .key()
            })
        };
        keys.into_iter().filter_map(stray)
    }

    /// Names and subjects that are none.
    fn impossible_names(&self) -> impl Iterator<Item = Problem> {
        let names = [
            (&self.stream, "stream"),
            (&self.consumer, "consumer"),
            (&self.queue, "queue"),
            (&self.domain, "domain"),
        ];
        let is_no_name = |text: &Option<Text>| {
            let name = text.as_ref().and_then(Text::literal);
            name.is_some_and(|name| !is_name(name))
        };
        let wrong = names.into_iter().filter(move |(text, _)| is_no_name(text));
        let subject = self.subject.as_ref().and_then(Text::literal);
        let no_subject = subject
            .filter(|subject| !is_subject(subject, true))
            .map(|_| Problem::new(NO_SUBJECT).at("subject"));
        wrong
            .map(|(_, at)| Problem::new(NO_NAME).at(at))
            .chain(no_subject)
    }
}

/// What a consumer has waiting, and when it gives a message up.
fn waiting(info: &Info) -> String {
    let limit = info.config.max_deliver;
    let limited = (limit > 0).then(|| {
        format!(
            "; it gives a message up after {limit} deliveries, also where the bus could not store \
             it"
        )
    });
    format!(
        "{} to come and {} unacknowledged{}",
        info.num_pending,
        info.num_ack_pending,
        limited.unwrap_or_default()
    )
}

#[async_trait]
impl SourceSettings for NatsSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.connection().check().collect();
        match (&self.stream, &self.subject) {
            (None, None) => {
                problems.push(
                    Problem::new("nothing says what to read")
                        .help("write stream: and consumer:, or subject:"),
                );
            }
            (Some(_), Some(_)) => problems.push(
                Problem::new("a subject is listened to without a stream")
                    .at("subject")
                    .key()
                    .help("write create: { filter: … }, or leave out stream:"),
            ),
            (Some(_), None) if self.consumer.is_none() => problems.push(
                Problem::new("a stream is read through a consumer")
                    .at("stream")
                    .help("name it in consumer:, and add create: {} where it is to be made"),
            ),
            _ => {}
        }
        problems.extend(self.stray_keys());
        problems.extend(self.impossible_names());
        problems.extend(
            self.create
                .iter()
                .flat_map(NewConsumer::check)
                .map(|problem| problem.at("create")),
        );
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        self.stream.is_some()
    }

    fn guarantee(&self) -> Guarantee {
        if self.stream.is_some() {
            Guarantee::AtLeastOnce
        } else {
            Guarantee::AtMostOnce
        }
    }

    fn runs_on(&self) -> RunsOn {
        // Without a queue group the server sends every message to each that listens.
        if self.stream.is_some() || self.queue.is_some() {
            RunsOn::EachUnlessOrdered
        } else {
            RunsOn::One
        }
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let read_from = self.read_from()?;
        let spec = match read_from {
            ReadFrom::Stream(spec) => spec,
            ReadFrom::Subject { subject, queue } => {
                let version = self.probe_subject(&subject, queue.is_some()).await?;
                return Ok(format!(
                    "nats-server {version} takes connections; what is published to {subject} comes \
                     at most once"
                ));
            }
        };
        let complaint = Arc::new(Mutex::new(None));
        let complaints = Arc::clone(&complaint);
        let on_event = move |event| {
            if let ConnectionEvent::ServerError(words) = event {
                *complaints.lock() = Some(words);
            }
        };
        let client = self
            .connection()
            .connect("check", on_event)
            .await
            .map_err(|ConnectError { problem, .. }| problem)?;
        let version = client.server_info().version;
        let wrong = |problem: ConsumerError| {
            let message = problem.message();
            // What one may not ask nobody answers; the server complains of it beside.
            let complaint = complaint
                .lock()
                .as_ref()
                .map(|complaint| format!("; the server says: {complaint}"))
                .unwrap_or_default();
            OpenError(Problem::new(format!("{message}{complaint}")).at("stream"))
        };
        let stream = spec.stream(&spec.context(&client)).await.map_err(wrong)?;
        if let Some(problem) = spec.unmatched_filter(stream.cached_info()) {
            return Err(OpenError(Problem::new(problem).at("filter").at("create")));
        }
        let messages = stream.cached_info().state.messages;
        let (stream_name, name) = (&spec.stream, &spec.consumer);
        match (spec.find(&stream).await.map_err(wrong)?, &spec.create) {
            (Some(info), _) => Ok(format!(
                "nats-server {version}, stream {stream_name} with {messages} messages, consumer \
                 {name} with {}",
                waiting(&info)
            )),
            (None, Some(_)) if let Some(problem) = spec.conflict(&stream, None).await => {
                Err(OpenError(Problem::new(problem).at("create")))
            }
            (None, Some(_)) => Ok(format!(
                "nats-server {version}, stream {stream_name} with {messages} messages; the \
                 consumer {name} is not there and will be made"
            )),
            (None, None) => {
                let message = format!("the stream {stream_name} has no consumer {name}");
                Err(OpenError(
                    Problem::new(message)
                        .at("consumer")
                        .help("make it, or set create: {}"),
                ))
            }
        }
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let read_from = self.read_from()?;
        let mapper = Mapper::new(context.name.clone(), context.mapped, context.clock);
        let unconnected = |ConnectError { problem, .. }| problem;
        match read_from {
            ReadFrom::Stream(spec) => {
                let monitor = pull::StreamMonitor::new(context.link);
                let plan = self.connection().plan(&context.name)?;
                let client = plan
                    .connect(monitor.listener())
                    .await
                    .map_err(unconnected)?;
                // One of another configuration says nothing of this: nothing is read by it.
                let stored = context
                    .cursor
                    .filter(|cursor| cursor.fingerprint == spec.fingerprint());
                let known = stored
                    .as_ref()
                    .and_then(|cursor| ConsumerProgress::read(&cursor.position));
                let found = spec.ensure(&spec.context(&client), known).await;
                let found = found.map_err(|problem| OpenError(Problem::new(problem.message())))?;
                if found.0.config.max_deliver > 0 {
                    let deliveries = found.0.config.max_deliver;
                    tracing::warn!(
                        source = %context.name, deliveries,
                        "the consumer gives a message up after so many deliveries, also where the \
                         bus could not store it"
                    );
                }
                Ok(Box::new(StreamSource::begin(
                    &plan, client, spec, found, stored, monitor, mapper,
                )))
            }
            ReadFrom::Subject { subject, queue } => {
                let monitor = subscription::SubjectMonitor::new(
                    context.name.clone(),
                    context.link,
                    subject.clone(),
                );
                let plan = self.connection().plan(&context.name)?;
                let client = plan
                    .connect(monitor.listener())
                    .await
                    .map_err(unconnected)?;
                let subscribed = SubjectSource::begin(&plan, client, monitor, mapper, queue).await;
                Ok(Box::new(subscribed.map_err(|problem| {
                    OpenError(Problem::new(problem).at("subject"))
                })?))
            }
        }
    }
}
