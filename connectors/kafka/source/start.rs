//! Where a group begins that has read nothing of a topic yet.

use std::collections::HashSet;

use krafka::Kafka;
use krafka::admin::ListConsumerGroupOffsetsOptions;
use krafka::consumer::TopicPartition;

use super::settings::{KafkaSource, Start};
use super::topics::{Partitions, Topics};
use crate::kafka::cluster::{Broken, Cluster};

impl KafkaSource {
    /// The offsets to begin with of the partitions that the group has not begun with.
    ///
    /// A topic of which it has read anything is none of them, with whatever partitions it has got
    /// meanwhile: those are read from their first record on. So is a topic that a pattern matches
    /// once the group has read any: it may have been made while nobody looked.
    pub(super) async fn starts(
        &self,
        cluster: &Cluster,
        kafka: &Kafka,
        group: &str,
        topics: &Topics,
        partitions: &Partitions,
    ) -> Result<Vec<(TopicPartition, i64)>, Broken> {
        let all = partitions.all();
        let admin = kafka.admin();
        let committed = admin.list_consumer_group_offsets(
            group,
            ListConsumerGroupOffsetsOptions::default().partitions(all.clone()),
        );
        let doing = format!("cannot read the offsets of the group {group}");
        let committed = cluster.answer(&doing, committed).await?;
        let mut begun = HashSet::new();
        for (partition, offset) in committed {
            let offset = offset.map_err(|error| cluster.broken(&doing, error))?;
            if offset.offset.is_some() {
                begun.insert(partition.topic);
            }
        }
        if matches!(topics, Topics::Matching(_)) && !begun.is_empty() {
            return Ok(Vec::new());
        }
        let new: Vec<_> = all
            .into_iter()
            .filter(|partition| !begun.contains(&partition.topic))
            .collect();
        let (mut found, none) = offsets(cluster, kafka, new, self.start.asked()).await?;
        // Nothing is as young as that: with what comes next.
        let (rest, _) = offsets(cluster, kafka, none, Start::Latest.asked()).await?;
        found.extend(rest);
        Ok(found)
    }
}

/// Offsets of partitions, and the partitions that have none.
async fn offsets(
    cluster: &Cluster,
    kafka: &Kafka,
    partitions: Vec<TopicPartition>,
    asked: i64,
) -> Result<(Vec<(TopicPartition, i64)>, Vec<TopicPartition>), Broken> {
    let (mut found, mut none) = (Vec::new(), Vec::new());
    if partitions.is_empty() {
        return Ok((found, none));
    }
    let doing = "cannot find where to begin";
    // The library's questions of administration know no offset that is not there.
    let answered = async {
        let consumer = kafka.consumer_without_group().metrics_push(false).build();
        let partitions: Vec<_> = partitions
            .iter()
            .map(|partition| (partition.topic(), partition.partition()))
            .collect();
        Ok(consumer.await?.offsets_for_times(&partitions, asked).await)
    };
    for ((topic, number), offset) in cluster.answer(doing, answered).await? {
        let offset = offset.map_err(|error| cluster.broken(doing, error))?;
        let partition = TopicPartition::new(topic, number);
        match offset {
            0.. => found.push((partition, offset)),
            _ => none.push(partition),
        }
    }
    Ok((found, none))
}
