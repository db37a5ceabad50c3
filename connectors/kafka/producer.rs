//! Writes events to a topic.
//!
//! | what happens | class |
//! |---|---|
//! | all replicas in sync have the record | delivered |
//! | no broker can be reached, or none that leads the partition; too few replicas are in sync | unavailable, where the record has not left us, else failed |
//! | the connection breaks, or no answer comes in time | failed |
//! | the login fails, or the user may not write there | refused |
//! | the topic is not there | unavailable, where the settings name it, and failed, where an event does |
//! | the record is too large, or no record that the topic takes | rejected |
//! | a quota is used up | throttled |
//!
//! The producer is idempotent: what it sends again by itself is stored once, and in its order. An
//! attempt that failed is made with another record, so that a function may see an event twice; both
//! have the delivery's id in `pointsman-task`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use krafka::error::{ErrorCode, ProtocolErrorKind};
use krafka::producer::{Acks, DeliveryHandle, Producer};
use krafka::{KrafkaError, Record};
use pointsman_schemas::{AttributeValue, Class, Outcome};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout_at};

use super::cluster::{Cluster, is_refused, is_unknown_topic, words};
use super::mapping::{Mode, PARTITION_KEY, encode};
use super::source::topic_mistake;
use crate::files::Files;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, AttemptError, Delivery, OpenError, trace};

/// The delivery's id, the same over all attempts.
const TASK: &str = "pointsman-task";

/// The number of the attempt.
const ATTEMPT: &str = "pointsman-attempt";

/// The rule that made the delivery.
const RULE: &str = "pointsman-rule";

/// How long the producer tries to write a record before it gives it up: long enough for a partition
/// to get another leader.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long it waits for what it has to know of a topic, and for memory.
const BLOCK_MAX: Duration = Duration::from_secs(5);

/// The largest record; what a topic takes is the broker's to say.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// What may wait to be sent.
const BUFFER_BYTES: usize = 128 << 20;

/// The publisher of one target.
pub(super) struct Publisher {
    /// Read anew for each connection, with the files that its secrets are in.
    pub(super) cluster: Box<dyn Fn() -> Result<Cluster, OpenError> + Send + Sync>,
    pub(super) topic: Parameter,
    /// None for the event's own.
    pub(super) key: Option<Parameter>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
    pub(super) mode: Mode,
    pub(super) shared: AsyncMutex<Shared>,
}

/// The one producer of a target, and how the last attempt at one ended.
pub(super) struct Shared {
    producer: Option<Arc<Producer>>,
    failed: Option<(Instant, AttemptError)>,
    /// The files that it depends on.
    files: Files,
}

impl Shared {
    /// None yet.
    pub(super) fn of(files: Files) -> Self {
        Self {
            producer: None,
            failed: None,
            files,
        }
    }
}

impl Publisher {
    /// Writes all deliveries of an attempt, then waits for what becomes of each.
    pub(super) async fn attempt(&self, attempt: &Attempt) -> Result<Vec<Outcome>, AttemptError> {
        let spare = (attempt.timeout / 10).min(Duration::from_secs(1));
        let until = Instant::now() + attempt.timeout.saturating_sub(spare);
        let producer = self.producer().await?;
        let mut sending = Vec::with_capacity(attempt.deliveries.len());
        for delivery in &attempt.deliveries {
            sending.push(self.enqueue(&producer, attempt, delivery, until).await);
        }
        let mut outcomes = Vec::with_capacity(sending.len());
        for sent in sending {
            outcomes.push(match sent {
                Ok(handle) => match timeout_at(until, handle).await {
                    Ok(Ok(_written)) => Outcome::delivered(),
                    Ok(Err(error)) => self.failed(&producer, &error).await,
                    Err(_elapsed) => Outcome::new(
                        Class::Failed,
                        "Kafka has not acknowledged the record in time; it may be written",
                    ),
                },
                Err(outcome) => outcome,
            });
        }
        Ok(outcomes)
    }

    /// The producer, which is made where there is none.
    async fn producer(&self) -> Result<Arc<Producer>, AttemptError> {
        let asked = Instant::now();
        let mut shared = self.shared.lock().await;
        if shared.files.have_changed(false) {
            // What is on its way by the old one is still sent.
            shared.producer = None;
        }
        if let Some(producer) = &shared.producer {
            return Ok(Arc::clone(producer));
        }
        // Whoever waited while it failed need not wait for the next try.
        if let Some((at, error)) = &shared.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(producer) => {
                shared.producer = Some(Arc::clone(&producer));
                Ok(producer)
            }
            Err(error) => {
                shared.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Arc<Producer>, AttemptError> {
        let cluster = (self.cluster)().map_err(|OpenError(problem)| {
            AttemptError::new(Class::Unavailable, problem.to_string())
        })?;
        let connecting = async {
            let kafka = cluster.connect().await?;
            let building = kafka
                .producer()
                .acks(Acks::All)
                .idempotent(true)
                .linger(Duration::ZERO)
                .delivery_timeout(DELIVERY_TIMEOUT)
                .max_block(BLOCK_MAX)
                .max_request_size(RECORD_BYTES_MAX)
                .buffer_memory(BUFFER_BYTES)
                .metrics_push(false)
                .build();
            cluster.answer("cannot make a producer", building).await
        };
        connecting.await.map(Arc::new).map_err(|broken| {
            let class = if broken.is_refused() {
                Class::Refused
            } else {
                Class::Unavailable
            };
            AttemptError::new(class, broken.message)
        })
    }

    async fn enqueue(
        &self,
        producer: &Arc<Producer>,
        attempt: &Attempt,
        delivery: &Delivery,
        until: Instant,
    ) -> Result<DeliveryHandle, Outcome> {
        let record = self
            .record(delivery)?
            .header(RULE, attempt.rule.to_string());
        match timeout_at(until, producer.enqueue(record)).await {
            Ok(Ok(handle)) => Ok(handle),
            Ok(Err(error)) => {
                let outcome = self.failed(producer, &error).await;
                Err(match outcome.class {
                    // It has not left us.
                    Class::Failed if !self.is_unknown(&error) => {
                        Outcome::new(Class::Unavailable, words(&error))
                    }
                    _ => outcome,
                })
            }
            Err(_elapsed) => Err(Outcome::new(
                Class::Unavailable,
                "too much waits to be written to Kafka",
            )),
        }
    }

    fn record(&self, delivery: &Delivery) -> Result<Record, Outcome> {
        check_texts(delivery, self.texts)?;
        let text = |parameter: &Parameter| parameter.text(delivery).to_owned();
        let topic = text(&self.topic);
        if let Some(mistake) = topic_mistake(&topic) {
            return Err(Outcome::new(
                Class::Rejected,
                format!("{mistake}, and not of {topic:?}"),
            ));
        }
        let key = match &self.key {
            Some(key) => Some(text(key)),
            None => match delivery.event.attribute(PARTITION_KEY) {
                Some(AttributeValue::String(key)) => Some(key.to_owned()),
                Some(other) => Some(other.to_string()),
                None => None,
            },
        };
        let (value, headers) = encode(&delivery.event, self.mode);
        let mut record = match value {
            Some(value) => Record::new(topic, value),
            None => Record::new(topic, Bytes::new()).without_value(),
        };
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            record = record.key(key);
        }
        for (name, value) in headers {
            record = record.header(name, value);
        }
        for (name, value) in trace::headers(delivery) {
            record = record.header(name, value);
        }
        Ok(record
            .header(TASK, delivery.id.to_string())
            .header(ATTEMPT, delivery.attempt.to_string()))
    }

    fn is_unknown(&self, error: &KrafkaError) -> bool {
        is_unknown_topic(error) && matches!(self.topic, Parameter::Filled(_))
    }

    /// What follows from an error; after one that the producer does not outlive there is another.
    async fn failed(&self, producer: &Arc<Producer>, error: &KrafkaError) -> Outcome {
        if error.is_fatal() && !is_refused(error) || matches!(error, KrafkaError::Auth { .. }) {
            let mut shared = self.shared.lock().await;
            let is_current = |current: &Arc<Producer>| Arc::ptr_eq(current, producer);
            if shared.producer.as_ref().is_some_and(is_current) {
                shared.producer = None;
            }
        }
        Outcome::new(self.class(error), words(error))
    }

    fn class(&self, error: &KrafkaError) -> Class {
        match error {
            error if is_refused(error) => Class::Refused,
            error if is_unknown_topic(error) => match self.topic {
                Parameter::Constant(_) => Class::Unavailable,
                Parameter::Filled(_) => Class::Failed,
            },
            KrafkaError::DeliveryTimeout {
                possibly_written, ..
            } => {
                if *possibly_written {
                    Class::Failed
                } else {
                    Class::Unavailable
                }
            }
            KrafkaError::Broker { code, .. } => match code {
                ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::InvalidRecord
                | ErrorCode::PolicyViolation
                | ErrorCode::InvalidTopic => Class::Rejected,
                ErrorCode::ThrottlingQuotaExceeded => Class::Throttled,
                ErrorCode::NotEnoughReplicas => Class::Unavailable,
                _ => Class::Failed,
            },
            KrafkaError::Protocol {
                kind: ProtocolErrorKind::FrameTooLarge,
                ..
            }
            | KrafkaError::Serialization { .. } => Class::Rejected,
            _ => Class::Failed,
        }
    }
}
