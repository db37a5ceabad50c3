//! A target at work: publishes what an attempt brings, over one connection that its first attempt
//! makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Subject, header};
use bytes::Bytes;
use futures::future::join_all;
use pointsman_schemas::{Class, Name, Outcome};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::sender::BatchSender;
use super::settings::NatsTarget;
use super::unacknowledged::{PendingPublish, Unacknowledged};
use crate::nats::auth::Renewal;
use crate::nats::connection::{ConnectError, ConnectionEvent, Plan};
use crate::nats::message::write;
use crate::nats::names::is_subject;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, LogLimit, OpenError, trace};

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
    unacknowledged: Arc<Unacknowledged>,
    /// What the reply subjects begin with; none where nobody acknowledges.
    inbox: Option<String>,
    _settling: Option<AbortOnDropHandle<()>>,
    sender: BatchSender,
}

/// A message, ready to be published.
pub(super) struct Outgoing {
    pub(super) subject: Subject,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
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
        // One after the other, so that they reach the server in order; what becomes of them is
        // awaited together.
        let publishing: Vec<_> = attempt
            .deliveries
            .iter()
            .map(|delivery| Ok(connected.publish(self.outgoing(delivery)?)))
            .collect();
        let settling = publishing
            .into_iter()
            .map(async |publishing| match publishing {
                Ok(pending) => PendingPublish::settle(pending).await,
                Err(outcome) => outcome,
            });
        Ok(join_all(settling).await)
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
        let mut connected = Connected {
            _renewal: plan.renewal(&client),
            sender: BatchSender::new(client.clone(), Arc::clone(&unacknowledged)),
            client,
            unacknowledged,
            inbox: None,
            _settling: None,
        };
        if self.settings.acknowledge {
            connected.listen().await?;
        }
        Ok(Arc::new(connected))
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
        for (name, value) in trace::headers(delivery) {
            headers.insert(name, value);
        }
        Ok(Outgoing {
            subject,
            headers,
            payload,
        })
    }
}

impl Connected {
    /// Listens for acknowledgements.
    async fn listen(&mut self) -> Result<(), AttemptError> {
        let inbox = self.client.new_inbox();
        let answers = self.client.subscribe(format!("{inbox}.*")).await;
        let answers = answers.map_err(|error| {
            AttemptError::new(
                Class::Unavailable,
                format!("cannot listen for acknowledgements: {error}"),
            )
        })?;
        let unacknowledged = Arc::clone(&self.unacknowledged);
        let settling = tokio::spawn(async move { unacknowledged.settle_by(answers).await });
        self.inbox = Some(inbox);
        self._settling = Some(AbortOnDropHandle::new(settling));
        Ok(())
    }

    /// Has a message sent with whatever else is to be.
    fn publish(&self, outgoing: Outgoing) -> PendingPublish {
        // Before it is sent, so that no answer comes too early.
        let pending = self.unacknowledged.add(outgoing.subject.clone());
        let reply = self
            .inbox
            .as_ref()
            .map(|inbox| pending.reply_subject(inbox));
        self.sender.send(pending.number(), reply, outgoing);
        pending
    }
}
