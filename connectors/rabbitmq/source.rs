//! What the bus asks of a source that reads a queue.

mod opening;
mod settings;

use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::Problem;

use super::connection::answer;
use super::consume::MismatchedSource;
use super::declare::QueueType;
use super::error::BrokerError;
use super::greeting::Greeting;
use super::message::Decoder;
use super::queue::facts;
use super::stream::StreamPosition;
use super::subscription::look;
use crate::source::fingerprint;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};
use opening::missing;

pub use settings::{Offset, RabbitmqSource};

/// What is in hand and not yet stored is in memory, so that there is a bound: with messages of 64
/// KiB this is 640 MB.
const PREFETCH_MAX: u16 = 10_000;

/// Below this nothing would go by the pipe's own way.
const HOLD_MIN: Duration = Duration::from_secs(1);

#[async_trait]
impl SourceSettings for RabbitmqSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        if self
            .queue
            .literal()
            .is_some_and(|queue| queue.is_empty() || queue.len() > 255)
        {
            problems.push(Problem::new("a queue's name has 1 to 255 bytes").at("queue"));
        }
        if !(1..=PREFETCH_MAX).contains(&self.prefetch) {
            problems.push(
                Problem::new(format!(
                    "between 1 and {PREFETCH_MAX} messages can be in hand"
                ))
                .at("prefetch"),
            );
        }
        if self.hold.is_some_and(|hold| hold.0 < HOLD_MIN) {
            problems.push(Problem::new("a message is held for a second at least").at("hold"));
        }
        if let Some(declare) = &self.declare {
            problems.extend(
                declare
                    .check()
                    .into_iter()
                    .map(|problem| problem.at("declare")),
            );
            match (declare.kind, &self.offset) {
                (QueueType::Stream, None) => problems.push(
                    Problem::new("where to begin in the stream is missing")
                        .at("declare")
                        .help("write offset: first, last, next or a time"),
                ),
                (QueueType::Classic | QueueType::Quorum, Some(_)) => {
                    problems.push(
                        Problem::new("only streams have offsets, and this declares another queue")
                            .at("offset"),
                    );
                }
                _ => {}
            }
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        self.deduplicate || self.offset.is_some()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        // A stream is read by an offset, which the bus keeps.
        if self.offset.is_some() {
            RunsOn::One
        } else {
            RunsOn::EachUnlessOrdered
        }
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (address, queue) = self.resolved("pointsman check".into())?;
        let connection = address
            .connect()
            .await
            .map_err(|broken| broken.problem("username"))?;
        let channel = answer("cannot open a channel", connection.create_channel())
            .await
            .map_err(|broken| broken.problem("url"))?;
        let greeting = address.greeting().await;
        let server = address.describe(greeting.as_ref());
        drop(channel);
        match look(&connection, &queue).await {
            Ok(found) => {
                let facts = facts(
                    &connection,
                    &queue,
                    greeting.as_ref().and_then(Greeting::version),
                )
                .await;
                if let Some(broken) = self.unfit(facts.kind, &queue) {
                    return Err(missing(broken));
                }
                self.try_to_read(
                    &connection,
                    &address,
                    &queue,
                    greeting.as_ref().and_then(Greeting::version),
                )
                .await?;
                let warning = facts
                    .warning()
                    .map(|warning| format!("; warning: {warning}"))
                    .unwrap_or_default();
                let (messages, consumers) = (found.message_count(), found.consumer_count());
                // Only declaring would tell, and that may change something.
                let declared = if self.declare.is_some() {
                    "; whether it is as declared shows when the source starts"
                } else {
                    ""
                };
                Ok(format!(
                    "{server}: the queue {queue} holds {messages} messages and has {consumers} \
                     consumers{declared}{warning}"
                ))
            }
            Err(BrokerError {
                code: Some(404), ..
            }) if self.declare.is_some() => Ok(format!(
                "{server}: the queue {queue} is not there and will be declared"
            )),
            Err(broken) => Err(missing(broken)),
        }
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let files = self.access().files();
        let (address, queue) =
            self.resolved(format!("pointsman {}/{}", context.tenant, context.name))?;
        let stream = self
            .offset
            .is_some()
            .then(|| fingerprint(&["rabbitmq", &address.host(), address.vhost(), queue.as_str()]));
        let after = match (&context.cursor, stream) {
            (Some(cursor), Some(fingerprint)) => match StreamPosition::read(cursor, fingerprint) {
                Ok(position) => Some(position),
                Err(mismatch) => return Ok(Box::new(MismatchedSource(mismatch))),
            },
            _ => None,
        };
        let decoder = Decoder {
            name: context.name,
            mapped: context.mapped,
            clock: context.clock,
            stream,
            nonce: rand::random(),
        };
        let consuming = self
            .consume(&address, &queue, after, decoder, context.link)
            .await
            .map_err(missing)?;
        Ok(Box::new(consuming.until_changed(files)))
    }
}
