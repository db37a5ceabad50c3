//! A target at work: publishes what an attempt brings, over one connection that its first attempt
//! makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, HeaderMap, Subject, header};
use bytes::Bytes;
use futures::future::join_all;
use pointsman_schemas::{Class, Name, Outcome};
use tokio::sync::{Mutex, watch};

use super::pending::{ConnectionStatus, PendingPublish, Published, classify};
use super::settings::NatsTarget;
use crate::nats::auth::Renewal;
use crate::nats::connection::{ConnectError, ConnectionEvent, Plan};
use crate::nats::message::write;
use crate::nats::names::is_subject;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, LogLimit, OpenError};

/// The longest subject: the server ends a connection whose control line passes 4 KiB.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// How long JetStream's own client waits: the dispatcher gives an attempt up long before.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// Publishes by the settings of one target.
pub(super) struct Publisher {
    /// What a plan is made of when the files of the last one have changed, too.
    settings: NatsTarget,
    name: Name,
    subject: Parameter<Subject>,
    /// How many texts a delivery carries.
    texts: usize,
    /// Whether the settings themselves name a subject of the system.
    system: bool,
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
    connected: Result<Arc<Connected>, AttemptError>,
}

impl ConnectionSlot {
    fn unconnected(plan: Plan) -> Self {
        let why = AttemptError::new(Class::Unavailable, "not connected yet");
        Self {
            plan,
            connected: Err(why),
        }
    }
}

/// What all attempts share; a client and a context are dear to clone.
struct Connected {
    client: Client,
    _renewal: Option<Renewal>,
    jetstream: Context,
}

/// A message, ready to be published.
struct Outgoing {
    subject: Subject,
    headers: HeaderMap,
    payload: Bytes,
}

impl Publisher {
    pub(super) fn new(
        settings: NatsTarget,
        name: Name,
        subject: Parameter<Subject>,
        texts: usize,
    ) -> Result<Self, OpenError> {
        let plan = settings.connection().plan(&name)?;
        let literal = settings.subject.literal();
        Ok(Self {
            system: literal.is_some_and(|subject| subject.starts_with('$')),
            settings,
            name,
            subject,
            texts,
            status: watch::Sender::new(ConnectionStatus::default()),
            complaint_log: parking_lot::Mutex::default(),
            failures: AtomicU64::new(0),
            slot: Mutex::new(ConnectionSlot::unconnected(plan)),
        })
    }

    pub(super) async fn attempt(
        self: &Arc<Self>,
        attempt: &Attempt,
    ) -> Result<Vec<Outcome>, AttemptError> {
        let connected = self.connected(attempt.timeout).await?;
        if connected.client.connection_state() != State::Connected {
            let why = self.status.borrow().error.clone();
            return Err(AttemptError::new(
                Class::Unavailable,
                why.unwrap_or_else(|| "the connection to NATS is lost".to_owned()),
            ));
        }
        let mut publishing = Vec::with_capacity(attempt.deliveries.len());
        // One after the other, so that they reach the server in order; the acknowledgements are
        // awaited together.
        for delivery in &attempt.deliveries {
            publishing.push(match self.outgoing(delivery) {
                Ok(outgoing) => Published::after(self.publish(&connected, outgoing).await),
                Err(outcome) => Published::Settled(outcome),
            });
        }
        let settled = join_all(publishing.into_iter().map(Published::settle)).await;
        if self.settings.acknowledge
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
    ) -> Result<Arc<Connected>, AttemptError> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut slot = self.slot.lock().await;
        self.renew(&mut slot);
        match &slot.connected {
            Ok(connected) => return Ok(Arc::clone(connected)),
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
                Ok(Arc::new(Connected {
                    jetstream: jetstream.build(client.clone()),
                    _renewal: slot.plan.renewal(&client),
                    client,
                }))
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
                *slot = ConnectionSlot::unconnected(plan);
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
            Parameter::Filled(index) => {
                Subject::from(delivery.texts.get(*index).map_or("", String::as_str))
            }
        };
        let rejected = |message: String| Err(Outcome::new(Class::Rejected, message));
        if !is_subject(&subject, false) {
            return rejected(format!(
                "{:?} is no subject to publish to",
                subject.as_str()
            ));
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
                "{:?} is a subject of the system, to which an event cannot lead",
                subject.as_str()
            ));
        }
        let (mut headers, payload) = write(&delivery.event, self.settings.mode);
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
    ) -> Result<Option<PendingPublish>, Outcome> {
        let Outgoing {
            subject,
            headers,
            payload,
        } = outgoing;
        if self.settings.acknowledge {
            let message = PublishMessage::build().headers(headers).payload(payload);
            let status = self.status.subscribe();
            let before = status.borrow().counts();
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
