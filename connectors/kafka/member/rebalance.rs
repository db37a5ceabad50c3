//! What happens where partitions change hands.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use krafka::consumer::{Consumer, ConsumerRebalanceListener, TopicPartition};
use tokio::time::timeout;

use crate::kafka::cluster::words;
use crate::kafka::in_hand::InHand;

/// How long a partition that is given up is kept for what is in hand of it to be settled. What is
/// not by then comes again to its next owner.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the last commit of a partition may take.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// Keeps what is in hand by the partitions that this member has.
pub(super) struct Rebalance {
    in_hand: Arc<InHand>,
    /// Where partitions begin of which the group has no offset.
    starts: HashMap<TopicPartition, i64>,
    /// It holds this, and so is made after it.
    consumer: OnceLock<Weak<Consumer>>,
}

impl Rebalance {
    pub(super) fn new(in_hand: Arc<InHand>, starts: &[(TopicPartition, i64)]) -> Self {
        Self {
            in_hand,
            starts: starts.iter().cloned().collect(),
            consumer: OnceLock::new(),
        }
    }

    /// Names the consumer whose partitions these are.
    pub(super) fn set(&self, consumer: Weak<Consumer>) {
        // Once, by whoever made both.
        let _ = self.consumer.set(consumer);
    }

    fn consumer(&self) -> Option<Arc<Consumer>> {
        self.consumer.get()?.upgrade()
    }
}

impl ConsumerRebalanceListener for Rebalance {
    async fn on_partitions_assigned(&self, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        let asked: Vec<_> = partitions
            .iter()
            .map(|partition| (partition.topic(), partition.partition()))
            .collect();
        let committed = match self.consumer() {
            Some(consumer) => consumer.committed(&asked).await,
            None => return,
        };
        let committed = committed
            // Then they are known by the first record of each.
            .inspect_err(|error| {
                tracing::debug!(error = words(error), "cannot read committed offsets");
            })
            .ok();
        for partition in partitions {
            let next = committed.as_ref().and_then(|committed| {
                let key = (partition.topic().to_owned(), partition.partition());
                let committed = committed.get(&key).map(|position| position.offset);
                committed.or_else(|| self.starts.get(partition).copied())
            });
            self.in_hand.assign(partition.clone(), next);
        }
    }

    async fn on_partitions_revoked(&self, partitions: &[TopicPartition]) {
        // Whether all is settled by then or not: what is not comes again.
        let _ = timeout(DRAIN_TIMEOUT, self.in_hand.drain(partitions)).await;
        let offsets = self.in_hand.remove(partitions);
        let Some(consumer) = self.consumer().filter(|_| !offsets.is_empty()) else {
            return;
        };
        let committing = timeout(COMMIT_TIMEOUT, consumer.commit_offsets(offsets));
        if let Ok(Err(error)) = committing.await {
            tracing::debug!(error = words(&error), "cannot commit what is given up");
        }
    }

    async fn on_partitions_lost(&self, partitions: &[TopicPartition]) {
        drop(self.in_hand.remove(partitions));
    }
}
