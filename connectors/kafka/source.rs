//! What the bus asks of a source.

mod settings;
mod start;
mod topics;

use async_trait::async_trait;
use krafka::admin::ConsumerGroupLagOptions;
use pointsman_schemas::Problem;

use super::mapping::Decoder;
use super::reader::Reader;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

pub(super) use settings::topic_mistake;
pub use settings::{KafkaSource, Start};
pub(super) use topics::{LOOK_EVERY, Partitions, Topics};

#[async_trait]
impl SourceSettings for KafkaSource {
    fn check(&self) -> Vec<Problem> {
        self.problems()
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
        let (cluster, group) = self.resolved("pointsman check".into())?;
        let topics = self.topics()?;
        let kafka = cluster.connect().await.map_err(|b| b.problem("brokers"))?;
        let partitions = topics.find(&cluster, &kafka).await?;
        let admin = kafka.admin();
        let lag = admin.consumer_group_lag(&group, ConsumerGroupLagOptions::default());
        let doing = format!("cannot look at the group {group}");
        let lag = cluster
            .answer(&doing, lag)
            .await
            .map_err(|broken| broken.problem("group"))?;
        let lag: Vec<_> = lag
            .into_iter()
            .filter(|(partition, _)| partitions.has(partition))
            .filter_map(|(_, lag)| lag.ok()?.lag)
            .collect();
        let begins = if lag.is_empty() {
            format!("the group {group} is new and begins with {}", self.start)
        } else {
            let waiting: i64 = lag.iter().sum();
            format!("{waiting} records wait for the group {group}")
        };
        Ok(format!(
            "Kafka at {}: {partitions}; {begins}",
            cluster.brokers
        ))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let files = self.connection().files();
        let client = format!("pointsman-{}-{}", context.tenant, context.name);
        let (cluster, group) = self.resolved(client)?;
        let topics = self.topics()?;
        let kafka = cluster.connect().await.map_err(|b| b.problem("brokers"))?;
        let partitions = topics.find(&cluster, &kafka).await?;
        let starts = self
            .starts(&cluster, &kafka, &group, &topics, &partitions)
            .await
            .map_err(|broken| broken.problem("group"))?;
        let decoder = Decoder {
            name: context.name,
            mapped: context.mapped,
            clock: context.clock,
        };
        let reader = Reader::open(
            (cluster, kafka, group),
            (topics, partitions, starts),
            decoder,
            (files, context.link),
        );
        let reader = reader.await.map_err(|broken| broken.problem("group"))?;
        Ok(Box::new(reader))
    }
}
