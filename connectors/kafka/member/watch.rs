//! Whether the cluster answers, and how much of the partitions is still to be read.
//!
//! The client library goes on by itself where a broker cannot be reached, and says nothing of it: so
//! it is asked for something that only the brokers know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use krafka::Kafka;
use krafka::admin::{DescribeClusterOptions, ListOffsetsOptions, OffsetSpec};
use krafka::consumer::{Consumer, TopicPartition};
use tokio::time::sleep;

use crate::Link;
use crate::kafka::cluster::{Broken, Cluster};
use crate::kafka::in_hand::InHand;

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How often while it does not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What asks.
pub(super) struct Watch {
    pub(super) cluster: Arc<Cluster>,
    pub(super) kafka: Kafka,
    pub(super) consumer: Weak<Consumer>,
    pub(super) in_hand: Arc<InHand>,
    pub(super) link: Link,
    /// Whether the poll fails, which tells of it by itself.
    pub(super) poll_fails: Arc<AtomicBool>,
}

impl Watch {
    /// Asks until the consumer has gone.
    pub(super) async fn run(self) {
        while let Some(consumer) = self.consumer.upgrade() {
            let asked = self.ask(&consumer).await;
            drop(consumer);
            match asked {
                Ok(lag) if !self.poll_fails.load(Ordering::Relaxed) => {
                    self.link.up();
                    self.link.lag(lag);
                    sleep(ASK_EVERY).await;
                }
                Ok(_) => sleep(ASK_AGAIN).await,
                Err(broken) => {
                    self.link.down(broken.message);
                    sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Asks for the ends of the partitions, and tells how many records lie before them.
    async fn ask(&self, consumer: &Consumer) -> Result<Option<u64>, Broken> {
        let assigned = consumer.assignment().await.into_iter();
        let partitions: Vec<_> = assigned
            .flat_map(|(topic, numbers)| {
                let of = move |number| TopicPartition::new(topic.clone(), number);
                numbers.into_iter().map(of)
            })
            .collect();
        let admin = self.kafka.admin();
        let doing = format!("Kafka at {} does not answer", self.cluster.brokers);
        if partitions.is_empty() {
            let described = admin.describe_cluster(DescribeClusterOptions::default());
            self.cluster.answer(&doing, described).await?;
            return Ok(Some(0));
        }
        let ends = partitions
            .into_iter()
            .map(|partition| (partition, OffsetSpec::Latest));
        // What a transaction has not ended is not to be read yet.
        let options = ListOffsetsOptions::default().read_committed(true);
        let ends = admin.list_offsets(ends, options);
        let mut lag = Some(0);
        for (partition, end) in self.cluster.answer(&doing, ends).await? {
            let end = end.map_err(|error| self.cluster.broken(&doing, error))?;
            let next = self.in_hand.next_of(&partition);
            let behind = next.map(|next| u64::try_from(end.offset - next).unwrap_or_default());
            lag = lag.zip(behind).map(|(lag, behind)| lag + behind);
        }
        Ok(lag)
    }
}
