//! What the bus asks of a source.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::mapping::{Decoder, Encoding};
use super::place::{Found, Kind, Place};
use super::queue::{CALL_MESSAGES_MAX, Queue, waiting_in};
use crate::alibaba::AccessKey;
use crate::leased::{Reader, Way, settings};
use crate::net::Names;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// How long a call waits for messages: as long as MNS allows.
const POLL: Duration = Duration::from_secs(30);

/// What a queue hides messages for that does not say.
const VISIBILITY_OF_QUEUES: Duration = Duration::from_secs(30);

/// So many messages a batch holds at most.
pub(super) const BATCH_MESSAGES_MAX: usize = 6 * CALL_MESSAGES_MAX;

/// Reads a queue of Alibaba Cloud's MNS (Simple Message Queue).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MnsSource {
    /// The queue's name.
    #[schemars(extend("minLength" = 1))]
    queue: Text,
    /// The account's address, such as `https://1234567890.mns.cn-hangzhou.aliyuncs.com`.
    #[schemars(extend("pattern" = "^https?://"))]
    endpoint: Text,
    /// The keys to show; without them, those of the environment: `ALIBABA_CLOUD_ACCESS_KEY_ID`,
    /// `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and `ALIBABA_CLOUD_SECURITY_TOKEN`.
    credentials: Option<AccessKey>,
    /// For how long a message is kept from others each time that this is extended, as long as it is
    /// in hand: after a crash it comes again so much later. 10s to 12h.
    #[serde(default = "settings::visibility")]
    visibility: Interval,
    /// How many messages are in hand at most, 16 to 20000.
    #[serde(default = "settings::prefetch")]
    #[schemars(range(min = 16, max = 20_000))]
    prefetch: usize,
    /// How bodies are written: in base64, as the SDKs write them, or as they are.
    #[serde(default)]
    encoding: Encoding,
}

impl MnsSource {
    fn place(&self) -> Place<'_> {
        Place {
            kind: Kind::Queue,
            name: &self.queue,
            endpoint: &self.endpoint,
            credentials: self.credentials.as_ref(),
        }
    }

    /// The queue, and how many messages wait in it, where it says so.
    async fn connect(&self) -> Result<(Found, Queue, Option<u64>), OpenError> {
        // The operator names the address, and no event has a part in it.
        let found = self.place().open(true, Names::default())?;
        let attributes = found.attributes().await?;
        let at_first = attributes.text_of("VisibilityTimeout");
        let at_first = at_first.and_then(|seconds| seconds.trim().parse().ok());
        let queue = Queue {
            found: found.clone(),
            in_hand: self.visibility.0,
            at_first: at_first.map_or(VISIBILITY_OF_QUEUES, Duration::from_secs),
        };
        Ok((found, queue, waiting_in(&attributes)))
    }
}

#[async_trait]
impl SourceSettings for MnsSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.place().check();
        problems.extend(settings::check(
            "MNS",
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
        let (found, _, waiting) = self.connect().await?;
        let name = &found.name;
        Ok(match waiting {
            Some(waiting) => format!("{waiting} messages wait in the queue {name}"),
            None => format!("the queue {name} is there; how much waits in it is not told"),
        })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let (found, queue, _) = self.connect().await?;
        let decoder = Decoder {
            name: context.name,
            queue: found.name,
            encoding: self.encoding,
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
