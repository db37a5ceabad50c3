//! The settings of a target.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;

use super::publisher::{Publisher, VERSION};
use crate::aws::api::{Api, Failure, Reach, Service, Subject, deliver};
use crate::aws::arn::Arn;
use crate::aws::fifo::{Indexes, Sequencing};
use crate::aws::{Access, KeyPair, Mode};
use crate::net::answer::Deadlines;
use crate::parameter::{Parameter, Templates, called, resolve};
use crate::{
    Attempt, AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings,
};

/// How long a probe waits for an answer.
const PROBE_WITHIN: Duration = Duration::from_secs(20);

/// Publishes each event to a topic of Amazon SNS, or of what speaks like it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnsTarget {
    /// The topic's ARN.
    #[schemars(extend("examples" = ["arn:aws:sns:eu-west-1:123456789012:alarms"]))]
    topic: Text,
    /// The address of what speaks like SNS; without it, AWS.
    #[schemars(extend("pattern" = "^https?://", "examples" = ["http://127.0.0.1:5000"]))]
    endpoint: Option<Text>,
    /// Its region; else that of the topic's ARN.
    region: Option<Text>,
    /// The keys to show; without them, those that the SDK finds: environment, profile, web
    /// identity, instance.
    credentials: Option<KeyPair>,
    /// The subject of e-mails that the topic sends, which may hold templates. An empty one is none.
    subject: Option<Text>,
    /// The group, which may hold templates: a FIFO topic needs one, and keeps the order within it.
    group: Option<Text>,
    /// What tells a message of a FIFO topic from others, which may hold templates; the task's id
    /// unless it is given.
    deduplication: Option<Text>,
    /// How the event is written: as attributes and text, as one JSON document, or its data alone.
    #[serde(default)]
    mode: Mode,
}

/// The topic that an ARN names.
fn topic_of(text: &str) -> Result<Arn<'_>, Problem> {
    Arn::read(text)
        .filter(|arn| arn.service == "sns" && !arn.resource.contains(':'))
        .ok_or_else(|| {
            Problem::new("this is not the ARN of a topic")
                .at("topic")
                .help("write one such as arn:aws:sns:eu-west-1:123456789012:alarms")
        })
}

impl SnsTarget {
    fn access(&self) -> Access<'_> {
        Access {
            endpoint: self.endpoint.as_ref(),
            region: self.region.as_ref(),
            credentials: self.credentials.as_ref(),
        }
    }

    fn sequencing(&self) -> Sequencing<'_> {
        Sequencing {
            group: self.group.as_ref(),
            deduplication: self.deduplication.as_ref(),
        }
    }

    fn filled(&self) -> (Option<usize>, Indexes, Templates) {
        let mut templates = Templates::default();
        let subject = self
            .subject
            .as_ref()
            .and_then(|subject| templates.note(subject, Placement::Header, vec!["subject".into()]));
        let sequencing = self.sequencing().note(&mut templates);
        (subject, sequencing, templates)
    }

    async fn publisher(&self, reach: Reach) -> Result<Publisher, OpenError> {
        let topic = resolve(&self.topic, &["topic".into()])?;
        let arn = topic_of(&topic).map_err(OpenError)?;
        let (subject, indexes, templates) = self.filled();
        let subject = self
            .subject
            .as_ref()
            .map(|text| Parameter::open(text, subject, &["subject".into()]));
        let service = Service {
            name: "sns",
            access: self.access(),
            region: arn.region(),
            endpoint: None,
        };
        Ok(Publisher {
            api: Api::open(service, reach).await?,
            subject: subject.transpose()?,
            sequenced: self.sequencing().open(indexes, arn.resource)?,
            what: format!("cannot publish to the topic {}", arn.resource),
            mode: self.mode,
            texts: templates.count(),
            topic,
        })
    }
}

#[async_trait]
impl TargetSettings for SnsTarget {
    fn files(&self) -> Files {
        self.access().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        match self.topic.literal().map(topic_of) {
            Some(Ok(arn)) => problems.extend(self.sequencing().check(arn.resource)),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().2.into_texts()
    }

    fn called(&self) -> Called {
        called([(&self.topic, None)], |[topic]| {
            format!("publish to {topic}")
        })
    }

    fn refuses_batches(&self) -> Option<Problem> {
        None
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let Publisher { api, topic, .. } = self.publisher(Reach::anywhere()).await?;
        let what = format!("topic {topic}");
        let subject = Subject {
            service: "SNS",
            what: &what,
            at: "topic",
            address: if self.endpoint.is_some() {
                "endpoint"
            } else {
                "region"
            },
            rights: "allow them sns:Publish",
        };
        let asked = [("TopicArn".to_owned(), topic.clone())];
        let deadlines = Deadlines::new(Instant::now(), PROBE_WITHIN);
        let told = api.query("GetTopicAttributes", VERSION, &asked, deadlines);
        match told.await {
            Ok(_) => Ok(format!("the topic {topic} is there; nothing was published")),
            // Whoever may publish need not be allowed to ask for this.
            Err(Failure::Refused(refusal)) if refusal.is_forbidden() => Ok(format!(
                "SNS knows the credentials; the topic {topic} may not be asked \
                 (sns:GetTopicAttributes)"
            )),
            Err(failure) => Err(failure.problem(subject)),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let publisher = Arc::new(self.publisher(Reach::of(&context)).await?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt: Attempt| {
                let publisher = Arc::clone(&publisher);
                async move { Ok::<_, AttemptError>(deliver(&*publisher, &attempt).await) }
            },
        )))
    }
}
