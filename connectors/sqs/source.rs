//! What the bus asks of a source.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::mapping::Decoder;
use super::place::Place;
use super::reader::Reader;
use crate::aws::queue::HIDDEN_MAX;
use crate::aws::{Access, KeyPair};
use crate::leased::{Bounds, Reading};
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// How often the SDK itself tries a request; a source that fails is opened again.
const ATTEMPTS: u32 = 2;

/// How long a call waits for messages: as long as SQS allows.
const POLL: Duration = Duration::from_secs(20);

/// The shortest time after which a message that nobody extends may come again: extending it has to
/// survive a request that is lost.
const VISIBILITY_MIN: Duration = Duration::from_secs(10);

/// Messages in hand: at least those of one call, and at most as many as SQS hands out of one queue.
const PREFETCH: (usize, usize) = (10, 20_000);

/// Past so many bytes in hand no further message is asked for.
const IN_HAND_BYTES: usize = 32 << 20;

/// Reads a queue of Amazon SQS, or of what speaks like it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqsSource {
    /// The queue: its name, or its URL.
    #[schemars(extend("minLength" = 1))]
    queue: Text,
    /// The address of what speaks like SQS; without it, AWS, or where the queue's URL leads.
    #[schemars(extend("pattern" = "^https?://", "examples" = ["http://127.0.0.1:9324"]))]
    endpoint: Option<Text>,
    /// Its region; else that of the queue's URL, or the SDK's own, and with an endpoint
    /// `us-east-1`.
    region: Option<Text>,
    /// The keys to show; without them, those that the SDK finds: environment, profile, web
    /// identity, instance.
    credentials: Option<KeyPair>,
    /// For how long a message is kept from others, extended for as long as it is in hand: after a
    /// crash it comes again so much later. 10s to 12h.
    #[serde(default = "visibility")]
    visibility: Interval,
    /// How many messages are in hand at most, 10 to 20000.
    #[serde(default = "prefetch")]
    #[schemars(range(min = 10, max = 20_000))]
    prefetch: usize,
}

fn visibility() -> Interval {
    Interval(Duration::from_secs(30))
}

fn prefetch() -> usize {
    1_000
}

impl SqsSource {
    fn place(&self) -> Place<'_> {
        Place {
            queue: &self.queue,
            access: Access {
                endpoint: self.endpoint.as_ref(),
                region: self.region.as_ref(),
                credentials: self.credentials.as_ref(),
            },
        }
    }
}

#[async_trait]
impl SourceSettings for SqsSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.place().check();
        let visibility = self.visibility.0;
        if !(VISIBILITY_MIN..=HIDDEN_MAX).contains(&visibility) {
            problems.push(
                Problem::new("messages are kept from others for 10s to 12h").at("visibility"),
            );
        } else if visibility.subsec_nanos() != 0 {
            problems.push(Problem::new("SQS counts in whole seconds").at("visibility"));
        }
        if !(PREFETCH.0..=PREFETCH.1).contains(&self.prefetch) {
            problems.push(Problem::new("10 to 20000 messages are in hand").at("prefetch"));
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::EachUnlessOrdered
    }

    async fn probe(&self) -> Result<String, OpenError> {
        self.place().probe(ATTEMPTS).await
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let (queue, name, _) = self.place().look(ATTEMPTS, self.visibility.0).await?;
        let bounds = Bounds {
            messages: self.prefetch,
            bytes: IN_HAND_BYTES,
        };
        let decoder = Decoder {
            name: context.name,
            queue: name,
            mapped: context.mapped,
            clock: context.clock,
        };
        let reading = Reading::begin(queue, POLL, bounds, context.link);
        Ok(Box::new(Reader::new(reading, decoder)))
    }
}
