//! Where a group begins that has read nothing of a topic yet.

use std::collections::HashSet;
use std::time::Duration;

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

/// How often a partition is asked for that has no leader just now, as one of a topic that was made
/// a moment ago, and how long it is given between.
const LEADER_TRIES: u32 = 20;
const LEADER_AGAIN: Duration = Duration::from_millis(250);

/// Offsets of partitions, and the partitions that have none.
async fn offsets(
    cluster: &Cluster,
    kafka: &Kafka,
    mut partitions: Vec<TopicPartition>,
    asked: i64,
) -> Result<(Vec<(TopicPartition, i64)>, Vec<TopicPartition>), Broken> {
    let (mut found, mut none, mut tries) = (Vec::new(), Vec::new(), 1);
    let doing = "cannot find where to begin";
    while !partitions.is_empty() {
        // The library's questions of administration know no offset that is not there.
        let answered = async {
            let consumer = kafka.consumer_without_group().metrics_push(false).build();
            let partitions: Vec<_> = partitions
                .iter()
                .map(|partition| (partition.topic(), partition.partition()))
                .collect();
            Ok(consumer.await?.offsets_for_times(&partitions, asked).await)
        };
        let answered = cluster.answer(doing, answered).await?;
        partitions.clear();
        for ((topic, number), offset) in answered {
            let partition = TopicPartition::new(topic, number);
            match offset {
                Ok(offset @ 0..) => found.push((partition, offset)),
                Ok(_) => none.push(partition),
                Err(error) if error.is_retriable() && tries < LEADER_TRIES => {
                    partitions.push(partition);
                }
                Err(error) => return Err(cluster.broken(doing, error)),
            }
        }
        if !partitions.is_empty() {
            tokio::time::sleep(LEADER_AGAIN).await;
            tries += 1;
        }
    }
    Ok((found, none))
}
