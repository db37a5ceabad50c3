//! The source: what it hands over, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use krafka::Kafka;
use krafka::consumer::TopicPartition;
use pointsman_schemas::Reject;
use smallvec::SmallVec;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cluster::{Broken, Cluster};
use super::in_hand::{Held, InHand};
use super::mapping::Decoder;
use super::member::{self, Member};
use super::source::{Partitions, Topics};
use crate::files::Files;
use crate::{Acknowledgement, Batch, Link, Message, Source, SourceError, Verdict};

/// So many messages a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 1_000;

/// Past this no further message is put into a batch.
const BATCH_BYTES: usize = 8 << 20;

/// How soon a message whose storing failed is tried again.
const FAILED_AGAIN: Duration = Duration::from_secs(1);

/// A member of a consumer group, as the bus reads it.
pub(super) struct Reader {
    decoder: Decoder,
    in_hand: Arc<InHand>,
    /// What polls; it leaves the group once it is told to stop, which dropping the reader does.
    member: Option<JoinHandle<()>>,
    stop: Option<DropGuard>,
}

impl Reader {
    /// Joins the group.
    pub(super) async fn open(
        (cluster, kafka, group): (Cluster, Kafka, String),
        (topics, partitions, starts): (Topics, Partitions, Vec<(TopicPartition, i64)>),
        decoder: Decoder,
        (files, link): (Files, Link),
    ) -> Result<Self, Broken> {
        let in_hand = Arc::<InHand>::default();
        let consumer = member::consumer(&kafka, group, starts, &in_hand)
            .await
            .map_err(|error| cluster.broken("cannot join the group", error))?;
        let subscribing = consumer.subscribe(partitions.names());
        cluster.answer("cannot subscribe", subscribing).await?;
        let stop = CancellationToken::new();
        let member = Member {
            cluster: Arc::new(cluster),
            kafka,
            consumer,
            topics,
            in_hand: Arc::clone(&in_hand),
            files,
            link,
            stop: stop.clone(),
        };
        Ok(Self {
            decoder,
            in_hand,
            member: Some(tokio::spawn(member.run())),
            stop: Some(stop.drop_guard()),
        })
    }

    fn message(&self, held: Arc<Held>) -> Message {
        let record = &held.record;
        let (mut arrivals, mut rejects) = (SmallVec::new(), Vec::new());
        match self.decoder.arrival(record) {
            Ok(arrival) => arrivals.push(arrival),
            Err(reason) => {
                let place = format!(
                    "offset {} of partition {} of the topic {}",
                    record.offset, record.partition, record.topic
                );
                rejects.push(Reject {
                    raw: record.value.clone().unwrap_or_default(),
                    reason: format!("{reason} ({place})"),
                });
            }
        }
        let handed = Handed {
            in_hand: Arc::clone(&self.in_hand),
            held: Some(held),
        };
        let settle = |verdict| async move { handed.settle(verdict) };
        Message {
            arrivals,
            rejects,
            acknowledgement: Acknowledgement::io(settle),
            positions: Vec::new(),
        }
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            // Nothing is awaited once something is taken.
            let taken = self.in_hand.take(BATCH_MESSAGES_MAX, BATCH_BYTES);
            if !taken.is_empty() {
                let messages = taken.into_iter().map(|held| self.message(held));
                return Ok(Batch {
                    messages: messages.collect(),
                    cursor: None,
                });
            }
            if let Some(ended) = self.in_hand.ended() {
                return Err(ended);
            }
            self.in_hand.arrived().await;
        }
    }

    async fn finish(&mut self) -> Option<Batch> {
        self.stop.take();
        if let Some(member) = self.member.take() {
            // It ends by itself; whoever shuts down does not wait for ever.
            let _ = timeout(member::CLOSE_TIMEOUT, member).await;
        }
        None
    }
}

/// A record that has been handed over. One whose acknowledgement is dropped is handed over again.
struct Handed {
    in_hand: Arc<InHand>,
    held: Option<Arc<Held>>,
}

impl Handed {
    fn settle(mut self, verdict: Verdict) {
        let Some(held) = self.held.take() else { return };
        match verdict {
            // Nobody but us would keep it: Kafka has no dead letters.
            Verdict::Stored | Verdict::Rejected { .. } => self.in_hand.settle(&held),
            Verdict::Later(after) => self.in_hand.give_back(held, after),
            Verdict::Failed => self.in_hand.give_back(held, FAILED_AGAIN),
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.in_hand.give_back(held, FAILED_AGAIN);
        }
    }
}
