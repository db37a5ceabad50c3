//! A target: one message published for each delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{GetStreamByNameErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, ContextBuilder, Error as JetStreamError, ErrorCode};
use async_nats::{Client, HeaderMap, header};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use pointsman_schemas::{Class, Name, Outcome, Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use tower::util::BoxCloneSyncService;

use super::auth::{Auth, Renewal};
use super::connection::{ConnectError, Connection, ConnectionEvent, Plan, Tls};
use super::consumer::API_TIMEOUT;
use super::message::{Mode, write};
use super::names::is_subject;
use super::urls::Urls;
use crate::parameter::{Parameter, Templates, check_texts, is_template, resolve};
use crate::{
    Attempt, AttemptError, Delivery, Files, LogLimit, OpenError, TargetContext, TargetService,
    TargetSettings,
};

/// The longest subject: the server ends a connection whose control line passes 4 KiB.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// How long JetStream's own client waits: the dispatcher gives an attempt up long before.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// Publishes each event to a subject.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsTarget {
    /// The server, or several of one cluster, such as `nats://127.0.0.1:4222`; `tls://` asks for
    /// TLS.
    url: Urls,
    /// The subject, which may hold templates.
    subject: Text,
    /// How the event is written: as headers and payload, as one JSON document, or its data alone.
    #[serde(default)]
    mode: Mode,
    /// Whether a stream has to acknowledge the message; yes unless it is given. Else it has been
    /// delivered once it is sent.
    #[serde(default = "yes")]
    acknowledge: bool,
    /// How the server is shown who connects.
    auth: Option<Auth>,
    /// How the connection is encrypted; without it TLS is spoken where the server asks for it.
    tls: Option<Tls>,
}

fn yes() -> bool {
    true
}

impl NatsTarget {
    fn connection(&self) -> Connection<'_> {
        Connection {
            url: &self.url,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    fn templates(&self) -> (Option<usize>, Templates) {
        let mut templates = Templates::default();
        (
            templates.note(&self.subject, Placement::Subject, vec!["subject".into()]),
            templates,
        )
    }
}

#[async_trait]
impl TargetSettings for NatsTarget {
    fn files(&self) -> Files {
        self.connection().files()
    }

    fn check(&self) -> Vec<Problem> {
        let subject = self
            .subject
            .literal()
            .filter(|subject| !is_template(subject) && !is_subject(subject, false));
        let subject = subject.map(|_| {
            let problem = Problem::new(
                "this is no subject to publish to: its tokens between dots must hold some, and no \
                 space, * or >",
            );
            problem.at("subject")
        });
        self.connection().check().chain(subject).collect()
    }

    fn templates(&self) -> Vec<TemplateText> {
        Self::templates(self).1.into_texts()
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let subject = resolve(&self.subject, &["subject".into()])?;
        let client = self
            .connection()
            .connect("check", |_| {})
            .await
            .map_err(|ConnectError { problem, .. }| problem)?;
        let version = client.server_info().version;
        if !self.acknowledge {
            return Ok(format!("nats-server {version} takes connections"));
        }
        let jetstream = ContextBuilder::new().timeout(API_TIMEOUT).build(client);
        let none = |message: String, help: &str| {
            Err(OpenError(Problem::new(message).at("subject").help(help)))
        };
        if is_template(&subject) {
            return match jetstream
                .request::<_, _, serde_json::Value>("INFO", &serde_json::json!({}))
                .await
            {
                Ok(account) if account.get("error").is_some() => none(
                    "the account has no JetStream".to_owned(),
                    "enable it, let the account use $JS.API.>, or set acknowledge: false",
                ),
                Ok(_) => Ok(format!(
                    "nats-server {version} has JetStream; the subject depends on the event"
                )),
                Err(error) => none(
                    format!("JetStream does not answer: {error}"),
                    "enable it, let the account use $JS.API.>, or set acknowledge: false",
                ),
            };
        }
        match jetstream.stream_by_subject(subject.as_str()).await {
            Ok(stream) => Ok(format!(
                "nats-server {version} keeps {subject} in the stream {stream}"
            )),
            Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => none(
                format!("no stream keeps {subject}"),
                "make one, or set acknowledge: false",
            ),
            Err(error) => none(
                format!("JetStream does not answer: {error}"),
                "enable it, let the account use $JS.API.>, or set acknowledge: false",
            ),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let (template, templates) = Self::templates(self);
        let subject = match template {
            Some(index) => Parameter::Filled(index),
            None => {
                let subject = resolve(&self.subject, &["subject".into()])?;
                if !is_subject(&subject, false) {
                    return Err(OpenError(
                        Problem::new("this is no subject to publish to").at("subject"),
                    ));
                }
                Parameter::Constant(subject)
            }
        };
        let publisher = Arc::new(Publisher {
            settings: self.clone(),
            name: context.name.clone(),
            subject,
            texts: templates.count(),
            system: self
                .subject
                .literal()
                .is_some_and(|subject| subject.starts_with('$')),
            mode: self.mode,
            acknowledge: self.acknowledge,
            status: watch::Sender::new(ConnectionStatus::default()),
            complaint_log: parking_lot::Mutex::default(),
            failures: AtomicU64::new(0),
            slot: Mutex::new(ConnectionSlot {
                plan: self.connection().plan(&context.name)?,
                connected: Err(unconnected()),
            }),
        });
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let publisher = Arc::clone(&publisher);
                async move { publisher.attempt(&attempt).await }
            },
        )))
    }
}

/// The state of the connection, as the client reports it.
#[derive(Clone, Debug, Default)]
struct ConnectionStatus {
    /// How often it broke.
    breaks: u64,
    /// Why it is down, or was last.
    error: Option<String>,
    /// What the server complained of last, and how often it has.
    complaint: Option<String>,
    complaints: u64,
}

struct Publisher {
    /// What a plan is made of when the files of the last one have changed.
    settings: NatsTarget,
    name: Name,
    subject: Parameter,
    texts: usize,
    /// Whether the settings themselves name a subject of the system.
    system: bool,
    mode: Mode,
    acknowledge: bool,
    status: watch::Sender<ConnectionStatus>,
    complaint_log: parking_lot::Mutex<LogLimit>,
    /// How many first connections failed.
    failures: AtomicU64,
    slot: Mutex<ConnectionSlot>,
}

/// The connection, and how to make the next.
struct ConnectionSlot {
    plan: Plan,
    /// The connection, or why the last try made none.
    connected: Result<Connected, AttemptError>,
}

fn unconnected() -> AttemptError {
    AttemptError::new(Class::Unavailable, "not connected yet")
}

#[derive(Clone)]
struct Connected {
    client: Client,
    _renewal: Option<Arc<Renewal>>,
    jetstream: Context,
}

/// A message, ready to be published.
struct Outgoing {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
}

impl Publisher {
    async fn attempt(self: &Arc<Self>, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
        let connected = self.connected(attempt.timeout).await?;
        if connected.client.connection_state() != State::Connected {
            let why = self.status.borrow().error.clone();
            return Err(AttemptError::new(
                Class::Unavailable,
                why.unwrap_or_else(|| "the connection to NATS is lost".to_owned()),
            ));
        }
        let status = self.status.subscribe();
        let mut publishing = Vec::with_capacity(attempt.deliveries.len());
        // One after the other, so that they reach the server in order; the acknowledgements are
        // awaited together.
        for delivery in &attempt.deliveries {
            publishing.push(match self.outgoing(delivery) {
                Ok(outgoing) => {
                    Published::after(self.publish(&connected, outgoing, status.clone()).await)
                }
                Err(outcome) => Published::Settled(outcome),
            });
        }
        let settled = join_all(publishing.into_iter().map(Published::settle)).await;
        if self.acknowledge
            || settled
                .iter()
                .all(|outcome| outcome.class != Class::Delivered)
        {
            return Ok(settled);
        }
        match connected.client.flush().await {
            Ok(()) => Ok(settled),
            Err(error) => Err(AttemptError::new(
                Class::Failed,
                format!("the message could not be sent: {error}"),
            )),
        }
    }

    /// The connection; made by the first caller, while others wait for what he comes to.
    async fn connected(
        self: &Arc<Self>,
        attempt_timeout: Duration,
    ) -> Result<Connected, AttemptError> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut slot = self.slot.lock().await;
        self.renew(&mut slot);
        match &slot.connected {
            Ok(connected) => return Ok(connected.clone()),
            Err(error) if self.failures.load(Ordering::Acquire) != failures => {
                return Err(error.clone());
            }
            Err(_) => {}
        }
        let publisher = Arc::downgrade(self);
        let listener = move |event| {
            if let Some(publisher) = publisher.upgrade() {
                publisher.on_event(event);
            }
        };
        // Within the attempt: a server that does not answer is unavailable, and costs no try.
        let connecting =
            tokio::time::timeout(attempt_timeout.mul_f64(0.8), slot.plan.connect(listener)).await;
        let created_at = match connecting {
            Ok(Ok(client)) => {
                let jetstream = ContextBuilder::new()
                    .timeout(NEVER)
                    .max_ack_inflight(usize::from(u16::MAX))
                    .backpressure_on_inflight(true);
                let renewal = slot.plan.renewal(&client).map(Arc::new);
                Ok(Connected {
                    jetstream: jetstream.build(client.clone()),
                    client,
                    _renewal: renewal,
                })
            }
            Ok(Err(ConnectError { refused, problem })) => Err(AttemptError::new(
                if refused {
                    Class::Refused
                } else {
                    Class::Unavailable
                },
                problem.to_string(),
            )),
            Err(_) => Err(AttemptError::new(
                Class::Unavailable,
                "the NATS server does not answer",
            )),
        };
        if created_at.is_err() {
            self.failures.fetch_add(1, Ordering::Release);
        }
        slot.connected.clone_from(&created_at);
        created_at
    }

    /// Makes another plan where the files of the last have changed. Attempts under way end on the
    /// connection that they have.
    fn renew(&self, slot: &mut ConnectionSlot) {
        if !slot.plan.fixed_files.have_changed(false) {
            return;
        }
        let target = &self.name;
        match self.settings.connection().plan(target) {
            Ok(plan) => {
                tracing::info!(
                    %target,
                    "the files of the target's settings have changed and were read again"
                );
                *slot = ConnectionSlot {
                    plan,
                    connected: Err(unconnected()),
                };
            }
            Err(error) => {
                tracing::warn!(
                    %target, %error,
                    "the target goes on with what its settings were before"
                )
            }
        }
    }

    fn on_event(&self, event: ConnectionEvent) {
        self.status.send_modify(|status| match event {
            ConnectionEvent::Up => status.error = None,
            ConnectionEvent::Down(why) => {
                status.breaks += 1;
                status.error = Some(why);
            }
            ConnectionEvent::ServerError(complaint) => {
                // Of a message that nobody has to acknowledge no attempt hears.
                if let Some(complaints) = self.complaint_log.lock().admit(1) {
                    let target = &self.name;
                    tracing::warn!(%target, complaints, %complaint, "the NATS server complains");
                }
                status.complaints += 1;
                status.complaint = Some(complaint);
            }
            ConnectionEvent::Dropped => {}
        });
    }

    fn outgoing(&self, delivery: &Delivery) -> Result<Outgoing, Outcome> {
        check_texts(delivery, self.texts)?;
        let subject = match &self.subject {
            Parameter::Constant(subject) => subject.clone(),
            Parameter::Filled(index) => delivery.texts.get(*index).cloned().unwrap_or_default(),
        };
        let rejected = |message: String| Err(Outcome::new(Class::Rejected, message));
        if !is_subject(&subject, false) {
            return rejected(format!("{subject:?} is no subject to publish to"));
        }
        if subject.len() > SUBJECT_BYTES_MAX {
            return rejected(format!(
                "the subject has {} bytes; {SUBJECT_BYTES_MAX} are the most",
                subject.len()
            ));
        }
        // Else an event could delete a stream.
        if subject.starts_with('$') && !self.system {
            return rejected(format!(
                "{subject:?} is a subject of the system, to which an event cannot lead"
            ));
        }
        let (mut headers, payload) = write(&delivery.event, self.mode);
        headers.insert(header::NATS_MESSAGE_ID, delivery.id.to_string());
        Ok(Outgoing {
            subject,
            headers,
            payload,
        })
    }

    async fn publish(
        &self,
        connected: &Connected,
        outgoing: Outgoing,
        status: watch::Receiver<ConnectionStatus>,
    ) -> Result<Option<PendingPublish>, Outcome> {
        let Outgoing {
            subject,
            headers,
            payload,
        } = outgoing;
        if self.acknowledge {
            let message = PublishMessage::build().headers(headers).payload(payload);
            let before = status.borrow().clone();
            let acknowledged = connected
                .jetstream
                .send_publish(subject.clone(), message)
                .await
                .map_err(|error| classify(&subject, &error))?;
            return Ok(Some(PendingPublish {
                subject,
                acknowledged: acknowledged.into_future(),
                status,
                before,
            }));
        }
        let published = connected
            .client
            .publish_with_headers(subject, headers, payload)
            .await;
        published
            .map(|()| None)
            .map_err(|error| match error.kind() {
                async_nats::client::PublishErrorKind::MaxPayloadExceeded => {
                    Outcome::new(Class::Rejected, error.to_string())
                }
                _ => Outcome::new(Class::Failed, error.to_string()),
            })
    }
}

/// A message that was sent and is not acknowledged yet.
struct PendingPublish {
    subject: String,
    acknowledged: <async_nats::jetstream::context::PublishAckFuture as IntoFuture>::IntoFuture,
    status: watch::Receiver<ConnectionStatus>,
    /// The state of the connection before it was sent.
    before: ConnectionStatus,
}

enum Published {
    Settled(Outcome),
    PendingPublish(PendingPublish),
}

impl Published {
    fn after(published: Result<Option<PendingPublish>, Outcome>) -> Self {
        match published {
            Ok(Some(pending)) => Self::PendingPublish(pending),
            Ok(None) => Self::Settled(Outcome::delivered()),
            Err(outcome) => Self::Settled(outcome),
        }
    }

    async fn settle(self) -> Outcome {
        let PendingPublish {
            subject,
            acknowledged,
            mut status,
            before,
        } = match self {
            Self::Settled(outcome) => return outcome,
            Self::PendingPublish(pending) => pending,
        };
        // Nobody answers what one may not publish; the server complains of it beside.
        let forbidden = format!("Permissions Violation for Publish to \"{subject}\"");
        let turned = status.wait_for(|status| {
            status.breaks != before.breaks
                || status.complaints != before.complaints
                    && status
                        .complaint
                        .as_ref()
                        .is_some_and(|complaint| complaint.starts_with(&forbidden))
        });
        tokio::select! {
            biased;
            acknowledged = acknowledged => match acknowledged {
                Ok(_) => Outcome::delivered(),
                Err(error) => classify(&subject, &error),
            },
            turned = turned => match turned {
                Ok(status) if status.breaks == before.breaks => {
                    Outcome::new(Class::Refused, format!("the NATS server forbids publishing to {subject}; allow it, or change \
                         auth"))
                }
                _ => Outcome::new(Class::Failed, "the connection broke before the message was \
                                                  acknowledged; it may have been stored"),
            },
        }
    }
}

/// What follows from an answer that is no acknowledgement.
fn classify(subject: &str, error: &PublishError) -> Outcome {
    let answer =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<JetStreamError>());
    let (class, message) = match (error.kind(), answer) {
        (PublishErrorKind::MaxPayloadExceeded, _) => (
            Class::Rejected,
            format!("the message is too large: {error}"),
        ),
        (PublishErrorKind::StreamNotFound, _) => (
            Class::Unavailable,
            format!(
                "no stream keeps {subject}; make one, enable JetStream, or set acknowledge: false"
            ),
        ),
        (_, Some(answer)) if answer.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => (
            Class::Rejected,
            format!("the message is too large for the stream: {answer}"),
        ),
        (_, Some(answer)) if answer.error_code() == ErrorCode::STREAM_STORE_FAILED => (
            Class::Throttled,
            format!("the stream takes no more: {answer}"),
        ),
        (_, Some(answer)) if answer.code() == 503 => (
            Class::Unavailable,
            format!("JetStream cannot store the message: {answer}"),
        ),
        (_, Some(answer)) => (
            Class::Failed,
            format!("JetStream does not store the message: {answer}"),
        ),
        (PublishErrorKind::Other, None) => (
            Class::Failed,
            format!("what answered on {subject} is no stream: {error}"),
        ),
        (_, None) => (
            Class::Failed,
            format!("the message was not acknowledged: {error}"),
        ),
    };
    Outcome::new(class, message)
}
