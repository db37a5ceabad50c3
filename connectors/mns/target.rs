//! The settings of a target.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::client::seconds;
use super::mapping::{Encoding, Mode};
use super::place::{Found, Kind, Place};
use super::queue::waiting_in;
use super::sender::Sender;
use crate::alibaba::AccessKey;
use crate::net::Names;
use crate::parameter::{Parameter, Templates, called, resolve};
use crate::{AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// The longest that a message waits before it can be read.
const DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Sends each event to a queue of Alibaba Cloud's MNS (Simple Message Queue), or publishes it to a
/// topic.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MnsTarget {
    /// The queue's name.
    #[schemars(extend("minLength" = 1))]
    queue: Option<Text>,
    /// The topic's name, in the place of a queue.
    #[schemars(extend("minLength" = 1))]
    topic: Option<Text>,
    /// The account's address, such as `https://1234567890.mns.cn-hangzhou.aliyuncs.com`.
    #[schemars(extend("pattern" = "^https?://"))]
    endpoint: Text,
    /// The keys to show; without them, those of the environment: `ALIBABA_CLOUD_ACCESS_KEY_ID`,
    /// `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and `ALIBABA_CLOUD_SECURITY_TOKEN`.
    credentials: Option<AccessKey>,
    /// How the event is written: as one JSON document, or its data alone.
    #[serde(default)]
    mode: Mode,
    /// How bodies are written: in base64, as the SDKs expect them, or as they are.
    #[serde(default)]
    encoding: Encoding,
    /// How long a message of a queue waits before it can be read, up to 7d; the queue's own delay
    /// unless it is given.
    delay: Option<Interval>,
    /// The priority of a message of a queue, from 1, which is the highest, to 16; 8 unless it is
    /// given.
    #[schemars(range(min = 1, max = 16))]
    priority: Option<u8>,
    /// The tag of a message to a topic, by which subscriptions filter. May hold templates.
    tag: Option<Text>,
}

impl MnsTarget {
    /// None where neither a queue nor a topic is named, or both are.
    fn place(&self) -> Option<Place<'_>> {
        let (kind, name) = match (&self.queue, &self.topic) {
            (Some(queue), None) => (Kind::Queue, queue),
            (None, Some(topic)) => (Kind::Topic, topic),
            (None, None) | (Some(_), Some(_)) => return None,
        };
        Some(Place {
            kind,
            name,
            endpoint: &self.endpoint,
            credentials: self.credentials.as_ref(),
        })
    }

    fn open_place(&self, allow_private_addresses: bool, names: Names) -> Result<Found, OpenError> {
        match self.place() {
            Some(place) => place.open(allow_private_addresses, names),
            None => Err(OpenError(neither())),
        }
    }

    fn filled(&self) -> (Option<usize>, Templates) {
        let mut templates = Templates::default();
        let tag = self.tag.as_ref();
        let tag = tag.and_then(|tag| templates.note(tag, Placement::Argument, vec!["tag".into()]));
        (tag, templates)
    }

    fn sender(&self, context: &TargetContext) -> Result<Sender, OpenError> {
        let (tag_template, templates) = self.filled();
        let tag = match (&self.tag, tag_template) {
            (None, _) => None,
            (Some(_), Some(index)) => Some(Parameter::Filled(index)),
            (Some(tag), None) => Some(Parameter::Constant(resolve(tag, &["tag".into()])?)),
        };
        let delay = self.delay.map(|delay| seconds(delay.0));
        let beside = [
            delay.map(|delay| format!("<DelaySeconds>{delay}</DelaySeconds>")),
            self.priority
                .map(|priority| format!("<Priority>{priority}</Priority>")),
        ];
        Ok(Sender {
            to: self.open_place(context.allow_private_addresses, context.names.clone())?,
            mode: self.mode,
            encoding: self.encoding,
            beside: beside.into_iter().flatten().collect(),
            tag,
            texts: templates.count(),
        })
    }

    /// Settings that say nothing to the one that is named.
    fn idle(&self, kind: Kind) -> Vec<Problem> {
        let idle = match kind {
            Kind::Queue => vec![("tag", self.tag.is_some(), "a topic")],
            Kind::Topic => vec![
                ("delay", self.delay.is_some(), "a queue"),
                ("priority", self.priority.is_some(), "a queue"),
            ],
        };
        let problem = |(key, _, of): (&str, bool, &str)| {
            Problem::new(format!("belongs to the messages of {of}")).at(key)
        };
        idle.into_iter()
            .filter(|(_, is_given, _)| *is_given)
            .map(problem)
            .collect()
    }
}

fn neither() -> Problem {
    Problem::new("a target is either a queue or a topic").help("write queue: NAME or topic: NAME")
}

#[async_trait]
impl TargetSettings for MnsTarget {
    fn files(&self) -> Files {
        self.place()
            .map_or_else(|| Files::of([]), |place| place.files())
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = match self.place() {
            Some(place) => [place.check(), self.idle(place.kind)].concat(),
            None => vec![neither().at("queue")],
        };
        if let Some(Interval(delay)) = self.delay {
            if delay > DELAY_MAX {
                problems.push(Problem::new("a message waits for 7d at most").at("delay"));
            } else if delay.subsec_nanos() != 0 {
                problems.push(Problem::new("MNS counts in whole seconds").at("delay"));
            }
        }
        if self
            .priority
            .is_some_and(|priority| !(1..=16).contains(&priority))
        {
            problems.push(Problem::new("priorities are 1 to 16").at("priority"));
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().1.into_texts()
    }

    fn called(&self) -> Called {
        match (&self.queue, &self.topic) {
            (_, Some(topic)) => called([(topic, None)], |[topic]| format!("publish to {topic}")),
            (Some(queue), None) => called([(queue, None)], |[queue]| format!("send to {queue}")),
            (None, None) => Called::always("send to nobody"),
        }
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let found = self.open_place(true, Names::default())?;
        let attributes = found.attributes().await?;
        let name = &found.name;
        Ok(match (found.kind, waiting_in(&attributes)) {
            (Kind::Queue, Some(waiting)) => {
                format!("the queue {name} is there; {waiting} messages wait in it")
            }
            (Kind::Queue, None) => format!("the queue {name} is there"),
            (Kind::Topic, _) => format!("the topic {name} is there"),
        })
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let sender = Arc::new(self.sender(&context)?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let sender = Arc::clone(&sender);
                async move { Ok::<_, AttemptError>(sender.attempt(&attempt).await) }
            },
        )))
    }
}
