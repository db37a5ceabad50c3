//! The settings of a target.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::place::{Named, Place};
use super::sender::Sender;
use crate::aws::api::{Api, Reach, Service, deliver};
use crate::aws::fifo::{FIFO, Indexes, Sequencing};
use crate::aws::{Access, KeyPair, Mode};
use crate::parameter::{Templates, called};
use crate::{
    Attempt, AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings,
};

/// How often the SDK tries a request of a probe.
const ATTEMPTS: u32 = 2;

/// The longest that SQS holds a message back.
const DELAY_MAX: Duration = Duration::from_secs(15 * 60);

/// Sends each event to a queue of Amazon SQS, or of what speaks like it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqsTarget {
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
    /// The group, which may hold templates: a FIFO queue needs one, and keeps the order within it.
    group: Option<Text>,
    /// What tells a message of a FIFO queue from others, which may hold templates; the task's id
    /// unless it is given.
    deduplication: Option<Text>,
    /// How long the queue holds each message back: up to 15m, and not of a FIFO queue.
    delay: Option<Interval>,
    /// How the event is written: as attributes and text, as one JSON document, or its data alone.
    #[serde(default)]
    mode: Mode,
}

impl SqsTarget {
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

    fn sequencing(&self) -> Sequencing<'_> {
        Sequencing {
            group: self.group.as_ref(),
            deduplication: self.deduplication.as_ref(),
        }
    }

    fn filled(&self) -> (Indexes, Templates) {
        let mut templates = Templates::default();
        (self.sequencing().note(&mut templates), templates)
    }

    fn check_delay(&self, name: Option<&str>) -> Option<Problem> {
        let delay = self.delay?.0;
        let mistake = if delay > DELAY_MAX {
            "SQS holds a message back for 15m at most"
        } else if delay.subsec_nanos() != 0 {
            "SQS counts in whole seconds"
        } else if name.is_some_and(|name| name.ends_with(FIFO)) {
            "a FIFO queue holds back all its messages alike, by its own setting"
        } else {
            return None;
        };
        Some(Problem::new(mistake).at("delay"))
    }

    async fn sender(&self, reach: Reach) -> Result<Sender, OpenError> {
        let named = self.place().named()?;
        if let Some(problem) = self.check_delay(Some(named.name())) {
            return Err(OpenError(problem));
        }
        let (indexes, templates) = self.filled();
        let sequenced = self.sequencing().open(indexes, named.name())?;
        let (region, endpoint) = named.service()?;
        let service = Service {
            name: "sqs",
            access: self.place().access,
            region,
            endpoint,
        };
        Ok(Sender {
            api: Api::open(service, reach).await?,
            url: match &named {
                Named::Url { url, .. } => url.clone().into(),
                Named::Name(_) => tokio::sync::OnceCell::new(),
            },
            what: format!("cannot send to the queue {}", named.name()),
            name: named.name().to_owned(),
            sequenced,
            delay_seconds: self.delay.map(|delay| delay.0.as_secs()),
            mode: self.mode,
            texts: templates.count(),
        })
    }
}

#[async_trait]
impl TargetSettings for SqsTarget {
    fn files(&self) -> Files {
        self.place().access.files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.place().check();
        let named = self.queue.literal().and_then(|text| Named::read(text).ok());
        let name = named.as_ref().map(Named::name);
        problems.extend(
            name.into_iter()
                .flat_map(|name| self.sequencing().check(name)),
        );
        problems.extend(self.check_delay(name));
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().1.into_texts()
    }

    fn called(&self) -> Called {
        called([(&self.queue, None)], |[queue]| format!("send to {queue}"))
    }

    fn refuses_batches(&self) -> Option<Problem> {
        None
    }

    async fn probe(&self) -> Result<String, OpenError> {
        self.place().probe(ATTEMPTS).await
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let sender = Arc::new(self.sender(Reach::of(&context)).await?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt: Attempt| {
                let sender = Arc::clone(&sender);
                async move { Ok::<_, AttemptError>(deliver(&*sender, &attempt).await) }
            },
        )))
    }
}
