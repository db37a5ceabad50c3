//! A target at work: publishes what an attempt brings, over one connection that its first attempt
//! makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Subject, header};
use bytes::Bytes;
use futures::future::join_all;
use pointsman_schemas::{Class, Name, Outcome};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::settings::NatsTarget;
use super::unacknowledged::{PendingPublish, Unacknowledged};
use crate::nats::auth::Renewal;
use crate::nats::connection::{ConnectError, ConnectionEvent, Plan};
use crate::nats::message::write;
use crate::nats::names::is_subject;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, LogLimit, OpenError};

/// The longest subject: the server ends a connection whose control line passes 4 KiB.
const SUBJECT_BYTES_MAX: usize = 1_024;

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
    /// Why the connection is down, where it is.
    down: parking_lot::Mutex<Option<String>>,
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

/// What all attempts share; a client is dear to clone.
struct Connected {
    client: Client,
    _renewal: Option<Renewal>,
    /// None where nobody acknowledges.
    acknowledged: Option<Acknowledged>,
}

/// How acknowledgements come back.
struct Acknowledged {
    /// What the reply subjects begin with.
    inbox: String,
    unacknowledged: Arc<Unacknowledged>,
    _settling: AbortOnDropHandle<()>,
}

impl Acknowledged {
    async fn subscribe(
        client: &Client,
        unacknowledged: Arc<Unacknowledged>,
    ) -> Result<Self, AttemptError> {
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await;
        let answers = answers.map_err(|error| {
            AttemptError::new(
                Class::Unavailable,
                format!("cannot listen for acknowledgements: {error}"),
            )
        })?;
        let settling = Arc::clone(&unacknowledged);
        let settling = tokio::spawn(async move { settling.settle_by(answers).await });
        Ok(Self {
            inbox,
            unacknowledged,
            _settling: AbortOnDropHandle::new(settling),
        })
    }
}

/// The state of a message that is being published.
enum Published {
    Settled(Outcome),
    Pending(PendingPublish),
}

impl Published {
    async fn settle(self) -> Outcome {
        match self {
            Self::Settled(outcome) => outcome,
            Self::Pending(pending) => pending.settle().await,
        }
    }
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
            down: parking_lot::Mutex::default(),
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
            let why = self.down.lock().clone();
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
                Ok(outgoing) => publish(&connected, outgoing).await,
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
        let connected = self.connect(&slot.plan, attempt_timeout).await;
        if connected.is_err() {
            self.failures.fetch_add(1, Ordering::Release);
        }
        slot.connected.clone_from(&connected);
        connected
    }

    async fn connect(
        self: &Arc<Self>,
        plan: &Plan,
        attempt_timeout: Duration,
    ) -> Result<Arc<Connected>, AttemptError> {
        let unacknowledged = Arc::new(Unacknowledged::default());
        let publisher = Arc::downgrade(self);
        let told = Arc::clone(&unacknowledged);
        let listener = move |event| {
            if let Some(publisher) = publisher.upgrade() {
                publisher.on_event(event, &told);
            }
        };
        // Within the attempt: a server that does not answer is unavailable, and costs no try.
        let connecting =
            tokio::time::timeout(attempt_timeout.mul_f64(0.8), plan.connect(listener)).await;
        let client = match connecting {
            Ok(connected) => connected.map_err(|ConnectError { refused, problem }| {
                let class = if refused {
                    Class::Refused
                } else {
                    Class::Unavailable
                };
                AttemptError::new(class, problem.to_string())
            })?,
            Err(_) => {
                return Err(AttemptError::new(
                    Class::Unavailable,
                    "the NATS server does not answer",
                ));
            }
        };
        let acknowledged = match self.settings.acknowledge {
            true => Some(Acknowledged::subscribe(&client, unacknowledged).await?),
            false => None,
        };
        Ok(Arc::new(Connected {
            _renewal: plan.renewal(&client),
            client,
            acknowledged,
        }))
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

    fn on_event(&self, event: ConnectionEvent, unacknowledged: &Unacknowledged) {
        match event {
            ConnectionEvent::Up => *self.down.lock() = None,
            ConnectionEvent::Down(why) => {
                *self.down.lock() = Some(why);
                unacknowledged.connection_broke();
            }
            ConnectionEvent::ServerError(complaint) => {
                // Of a message that nobody has to acknowledge no attempt hears.
                if let Some(complaints) = self.complaint_log.lock().admit(1) {
                    let target = &self.name;
                    tracing::warn!(%target, complaints, %complaint, "the NATS server complains");
                }
                unacknowledged.complained(&complaint);
            }
            ConnectionEvent::Dropped => {}
        }
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
}

/// Hands a message to the client, which sends it with whatever else waits.
async fn publish(connected: &Connected, outgoing: Outgoing) -> Published {
    let Outgoing {
        subject,
        headers,
        payload,
    } = outgoing;
    let client = &connected.client;
    let Some(acknowledged) = &connected.acknowledged else {
        let sent = client.publish_with_headers(subject, headers, payload).await;
        return Published::Settled(sent.map_or_else(unsent, |()| Outcome::delivered()));
    };
    // Before it is sent, so that no answer comes too early.
    let pending = acknowledged.unacknowledged.add(subject.clone());
    let reply = pending.reply_subject(&acknowledged.inbox);
    let sent = client.publish_with_reply_and_headers(subject, reply, headers, payload);
    match sent.await {
        Ok(()) => Published::Pending(pending),
        Err(error) => Published::Settled(unsent(error)),
    }
}

fn unsent(error: PublishError) -> Outcome {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Outcome::new(
            Class::Rejected,
            format!("the message is too large: {error}"),
        ),
        _ => Outcome::new(Class::Failed, error.to_string()),
    }
}
