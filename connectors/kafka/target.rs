//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use krafka::admin::DescribeTopicsOptions;
use pointsman_schemas::{Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::cluster::Cluster;
use super::mapping::Mode;
use super::producer::{Publisher, Shared};
use super::settings::{Auth, Brokers, Connection, Tls};
use super::source::topic_mistake;
use crate::parameter::{Parameter, Templates, called, is_template};
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// Writes each event to a topic of Kafka.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaTarget {
    /// A broker such as `127.0.0.1:9092`, or several of one cluster.
    brokers: Brokers,
    /// The topic, which may hold templates.
    topic: Text,
    /// The record's key, which may hold templates; the event's `partitionkey` unless it is given. An
    /// empty one is none. Records of one key come into one partition.
    key: Option<Text>,
    /// How the event is written: as headers and value, as one JSON document, or its data alone.
    #[serde(default)]
    mode: Mode,
    /// How the servers are shown who connects.
    auth: Option<Auth>,
    /// Certificates of a connection by TLS, which is spoken where these settings are there: `tls:
    /// {}`.
    tls: Option<Tls>,
}

/// The texts that may hold templates, and which of the filled-in ones each is.
struct TemplateParameters {
    topic: Option<usize>,
    key: Option<usize>,
    templates: Templates,
}

impl KafkaTarget {
    fn connection(&self) -> Connection<'_> {
        Connection {
            brokers: &self.brokers,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    fn filled(&self) -> TemplateParameters {
        let mut templates = Templates::default();
        let topic = templates.note(&self.topic, Placement::Address, vec!["topic".into()]);
        let key = self
            .key
            .as_ref()
            .and_then(|key| templates.note(key, Placement::Address, vec!["key".into()]));
        TemplateParameters {
            topic,
            key,
            templates,
        }
    }

    fn publisher(&self, client: String) -> Result<Publisher, OpenError> {
        let TemplateParameters {
            topic,
            key,
            templates,
        } = self.filled();
        let topic = Parameter::open(&self.topic, topic, &["topic".into()])?;
        if let Parameter::Constant(topic) = &topic
            && let Some(mistake) = topic_mistake(topic)
        {
            return Err(OpenError(Problem::new(mistake).at("topic")));
        }
        let key = match &self.key {
            Some(text) => Some(Parameter::open(text, key, &["key".into()])?),
            None => None,
        };
        Ok(Publisher {
            cluster: self.cluster(client)?,
            topic,
            key,
            texts: templates.count(),
            mode: self.mode,
            shared: Shared::of(self.connection().files()).into(),
        })
    }

    /// Reads what a connection is made of once, to find what is missing, and again for each.
    fn cluster(
        &self,
        client: String,
    ) -> Result<Box<dyn Fn() -> Result<Cluster, OpenError> + Send + Sync>, OpenError> {
        self.connection().resolve(client.clone())?;
        let settings = self.clone();
        Ok(Box::new(move || {
            settings.connection().resolve(client.clone())
        }))
    }
}

#[async_trait]
impl TargetSettings for KafkaTarget {
    fn files(&self) -> Files {
        self.connection().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.connection().check();
        let topic = self.topic.literal().filter(|topic| !is_template(topic));
        if let Some(mistake) = topic.and_then(topic_mistake) {
            problems.push(Problem::new(mistake).at("topic"));
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        let TemplateParameters { topic, .. } = self.filled();
        called([(&self.topic, topic)], |[topic]| {
            format!("write to {topic}")
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let publisher = self.publisher("pointsman check".into())?;
        let cluster = (publisher.cluster)()?;
        let kafka = cluster.connect().await.map_err(|b| b.problem("brokers"))?;
        let Parameter::Constant(topic) = &publisher.topic else {
            return Ok(format!(
                "Kafka at {}: the topic depends on the event",
                cluster.brokers
            ));
        };
        let admin = kafka.admin();
        let described = admin.describe_topics([topic], DescribeTopicsOptions::default());
        let doing = format!("cannot look at the topic {topic}");
        let described = cluster
            .answer(&doing, described)
            .await
            .map_err(|broken| broken.problem("topic"))?;
        match described.into_values().next() {
            Some(Ok(found)) => Ok(format!(
                "Kafka at {}: the topic {topic} has {} partitions",
                cluster.brokers,
                found.partitions.len()
            )),
            Some(Err(error)) => Err(cluster.topic_problem(topic, error, "topic")),
            None => Err(OpenError(
                Problem::new(format!("{doing}: nothing is told of it")).at("topic"),
            )),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        // The client library cannot be kept from an address that brokers tell of.
        if !context.allow_private_addresses {
            let problem = Problem::new(
                "brokers tell where others are, and private addresses must not be called",
            );
            return Err(OpenError(
                problem
                    .at("brokers")
                    .help("let the operator allow private addresses"),
            ));
        }
        let client = format!("pointsman-{}-{}", context.tenant, context.name);
        let publisher = Arc::new(self.publisher(client)?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let publisher = Arc::clone(&publisher);
                async move { publisher.attempt(&attempt).await }
            },
        )))
    }
}
