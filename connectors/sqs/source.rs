//! What the bus asks of a source.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::mapping::Decoder;
use super::place::Place;
use crate::aws::queue::Queue;
use crate::aws::{Access, KeyPair};
use crate::leased::{self, Reader, Way, settings};
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// How often the SDK itself tries a request; a source that fails is opened again.
const ATTEMPTS: u32 = 2;

/// How long a call waits for messages: as long as SQS allows.
const POLL: Duration = Duration::from_secs(20);

/// So many messages a call brings at most.
const CALL_MESSAGES_MAX: usize = <Queue as leased::Queue>::CALL_MESSAGES_MAX;

/// So many messages a batch holds at most.
pub(super) const BATCH_MESSAGES_MAX: usize = 10 * CALL_MESSAGES_MAX;

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
    #[serde(default = "settings::visibility")]
    visibility: Interval,
    /// How many messages are in hand at most, 10 to 20000.
    #[serde(default = "settings::prefetch")]
    #[schemars(range(min = 10, max = 20_000))]
    prefetch: usize,
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
        problems.extend(settings::check(
            "SQS",
            self.visibility,
            self.prefetch,
            CALL_MESSAGES_MAX,
        ));
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
        let decoder = Decoder {
            name: context.name,
            queue: name,
            mapped: context.mapped,
            clock: context.clock,
        };
        let way = Way {
            wait: POLL,
            prefetch: self.prefetch,
            batch_messages_max: BATCH_MESSAGES_MAX,
        };
        Ok(Reader::begin(queue, decoder, way, context.link))
    }
}
