//! A member of a consumer group: what polls, and with it keeps the membership, and what commits.
//!
//! It polls whether anybody takes what comes or not: a member that does not is taken for dead. While
//! too much is in hand its partitions are paused.

mod rebalance;
mod watch;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use krafka::consumer::{
    AutoOffsetReset, Consumer, IsolationLevel, PartitionAssignmentStrategy, TopicPartition,
};
use krafka::{CloseOptions, Kafka, KrafkaError};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{Cluster, words};
use super::in_hand::InHand;
use super::source::{LOOK_EVERY, Topics};
use crate::files::Files;
use crate::{Link, SourceError};
use rebalance::Rebalance;
use watch::Watch;

/// How long a poll waits for records.
const POLL: Duration = Duration::from_millis(500);

/// After so long without a sign of life the group gives the partitions of a member to others.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a sign of life is given.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);

/// How long the group waits for a member where partitions change hands.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many records a poll returns at most.
const POLL_RECORDS: i32 = 1_000;

/// What a broker sends at once at most, of one partition and of all.
const FETCH_BYTES: (i32, i32) = (1 << 20, 8 << 20);

/// How often is committed what has been settled.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// How long a commit may take.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How soon a poll that failed is made again.
const FAILED_AGAIN: Duration = Duration::from_millis(500);

/// How long leaving the group may take, with what is in hand being settled.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a source ends whose settings would now be read otherwise.
const FILES_CHANGED: &str = "the files of its settings have changed; it is opened anew with them";

/// What polls.
pub(super) struct Member {
    pub(super) cluster: Arc<Cluster>,
    pub(super) kafka: Kafka,
    pub(super) consumer: Arc<Consumer>,
    pub(super) topics: Topics,
    pub(super) in_hand: Arc<InHand>,
    /// What the connection was made of.
    pub(super) files: Files,
    pub(super) link: Link,
    pub(super) stop: CancellationToken,
}

/// A member of a group that has not joined it yet, and begins so where the group has no offset.
pub(super) async fn consumer(
    kafka: &Kafka,
    group: String,
    starts: Vec<(TopicPartition, i64)>,
    in_hand: &Arc<InHand>,
) -> krafka::Result<Arc<Consumer>> {
    let rebalance = Arc::new(Rebalance::new(Arc::clone(in_hand), &starts));
    let consumer = kafka
        .consumer(group)
        // Where there is no offset, or one that is out of range, is decided here, and told.
        .auto_offset_reset(AutoOffsetReset::None)
        .initial_offsets(starts)
        .enable_auto_commit(false)
        .isolation_level(IsolationLevel::ReadCommitted)
        .partition_assignment_strategy(PartitionAssignmentStrategy::CooperativeSticky)
        .session_timeout(SESSION_TIMEOUT)
        .heartbeat_interval(HEARTBEAT_EVERY)
        .max_poll_interval(REBALANCE_TIMEOUT)
        .max_poll_records(POLL_RECORDS)
        // Else what it has of paused partitions would keep it from asking for others.
        .max_buffered_records(0)
        .max_partition_fetch_bytes(FETCH_BYTES.0)
        .fetch_max_bytes(FETCH_BYTES.1)
        .metrics_push(false)
        .rebalance_listener(Arc::clone(&rebalance))
        .build()
        .await?;
    let consumer = Arc::new(consumer);
    rebalance.set(Arc::downgrade(&consumer));
    Ok(consumer)
}

impl Member {
    /// Polls until it is told to stop or cannot go on, then leaves the group.
    pub(super) async fn run(mut self) {
        let committer = commit(Arc::downgrade(&self.consumer), Arc::clone(&self.in_hand));
        let committer = AbortOnDropHandle::new(tokio::spawn(committer));
        let poll_fails = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            cluster: Arc::clone(&self.cluster),
            kafka: self.kafka.clone(),
            consumer: Arc::downgrade(&self.consumer),
            in_hand: Arc::clone(&self.in_hand),
            link: self.link.clone(),
            poll_fails: Arc::clone(&poll_fails),
        };
        let watch = AbortOnDropHandle::new(tokio::spawn(watch.run()));
        let why = self.poll_on(&poll_fails).await;
        // Whoever opens the next tells of that one.
        drop(watch);
        self.in_hand.end(SourceError::Unavailable(why));
        let options = CloseOptions::new().timeout(CLOSE_TIMEOUT);
        if let Err(error) = self.consumer.close_with(options).await {
            // The group notices by itself, and hands out again what is not committed.
            tracing::debug!(%error, "cannot leave the group in good order");
        }
        drop(committer);
    }

    async fn poll_on(&mut self, fails: &AtomicBool) -> String {
        let stop = self.stop.clone();
        let mut look = interval(LOOK_EVERY);
        look.reset();
        loop {
            if self.files.have_changed(false) {
                return FILES_CHANGED.to_owned();
            }
            let done = match look.tick().now_or_never() {
                Some(_) => self.look().await,
                None => self.poll().await,
            };
            if stop.is_cancelled() {
                return "it is being closed".to_owned();
            }
            let recovered = match done {
                Ok(()) => Ok(()),
                Err(error) => self.recover(error).await,
            };
            fails.store(recovered.is_err(), Ordering::Relaxed);
            match recovered {
                Ok(()) => {}
                Err(error) if error.is_fatal() => {
                    return self.cluster.broken("the group is left", error).message;
                }
                Err(error) => {
                    self.link
                        .down(self.cluster.broken("cannot read", error).message);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = sleep(FAILED_AGAIN) => {}
                    }
                }
            }
        }
    }
}

impl Member {
    /// Polls once, and takes what comes.
    ///
    /// A poll is woken, and never cut off: what happens where partitions change hands happens within,
    /// and half of it would leave the client with partitions that nobody here knows.
    async fn poll(&self) -> krafka::Result<()> {
        let paused = self.pause().await;
        let polling = self.consumer.poll(POLL);
        tokio::pin!(polling);
        let polled = tokio::select! {
            polled = &mut polling => polled,
            () = self.stop.cancelled() => {
                self.consumer.wakeup();
                polling.await
            }
            () = self.in_hand.loosens(&paused), if !paused.is_empty() => {
                self.consumer.wakeup();
                polling.await
            }
        };
        self.in_hand.arrive(polled?);
        Ok(())
    }

    /// Pauses the partitions of which enough is in hand, and resumes the others; tells which those
    /// are.
    async fn pause(&self) -> HashSet<TopicPartition> {
        let paused = self.consumer.paused_partitions().await.into_iter();
        let paused = paused.map(|(topic, number)| TopicPartition::new(topic, number));
        let paused: HashSet<_> = paused.collect();
        let full = self.in_hand.full(&paused);
        for partition in paused.difference(&full) {
            let numbers = [partition.partition()];
            self.consumer.resume(partition.topic(), &numbers).await;
        }
        for partition in full.difference(&paused) {
            let numbers = [partition.partition()];
            self.consumer.pause(partition.topic(), &numbers).await;
        }
        full
    }

    /// Follows the topics that a pattern matches.
    async fn look(&self) -> krafka::Result<()> {
        if matches!(self.topics, Topics::Named(_)) {
            return Ok(());
        }
        match self.topics.names(&self.cluster, &self.kafka).await {
            Ok(names) if !names.is_empty() => {
                let before = self.consumer.subscription().await;
                if before.len() == names.len() && names.iter().all(|name| before.contains(name)) {
                    return Ok(());
                }
                self.consumer.subscribe(names).await
            }
            // Those that are read go on, whatever has become of them.
            Ok(_) => Ok(()),
            Err(broken) => {
                tracing::debug!(error = broken.message, "cannot look for topics");
                Ok(())
            }
        }
    }

    /// Goes on after what can be mended from here.
    ///
    /// # Errors
    /// What cannot, or has failed.
    async fn recover(&self, error: KrafkaError) -> krafka::Result<()> {
        match error {
            KrafkaError::NoOffset { partitions } => {
                for (topic, partition) in partitions {
                    self.begin(TopicPartition::new(topic, partition)).await?;
                }
                Ok(())
            }
            KrafkaError::Wakeup => Ok(()),
            error => Err(error),
        }
    }

    /// Begins with the first record that there is of a partition of which the group has no offset,
    /// or one that the partition does not have.
    async fn begin(&self, partition: TopicPartition) -> krafka::Result<()> {
        let (topic, number) = (partition.topic(), partition.partition());
        let (first, end) = self.consumer.fetch_watermarks(topic, number).await?;
        match self.in_hand.next_of(&partition) {
            Some(next) if next < first => self.link.skipped(
                u64::try_from(first - next).unwrap_or_default(),
                format_args!("the retention of the topic {topic}, partition {number}"),
            ),
            Some(next) => self.link.skipped(
                0,
                format_args!(
                    "partition {number} of the topic {topic} ends with offset {end}, and was read \
                     up to {next}: it was made anew, or its brokers have lost records; it is read \
                     from its first record on"
                ),
            ),
            // It has been added to its topic.
            None => {}
        }
        self.consumer.seek(topic, number, first).await?;
        self.in_hand.go_on_at(partition, first);
        Ok(())
    }
}

/// Commits what is settled, until the consumer has gone.
async fn commit(consumer: Weak<Consumer>, in_hand: Arc<InHand>) {
    loop {
        sleep(COMMIT_EVERY).await;
        let offsets = in_hand.uncommitted();
        if offsets.is_empty() {
            continue;
        }
        let Some(consumer) = consumer.upgrade() else {
            return;
        };
        let committing = consumer.commit_offsets(offsets.iter().cloned());
        match timeout(COMMIT_TIMEOUT, committing).await {
            Ok(Ok(())) => in_hand.committed(&offsets),
            // They go with the next, unless the partitions have changed hands.
            Ok(Err(error)) => tracing::debug!(error = words(&error), "cannot commit"),
            Err(_elapsed) => tracing::debug!("cannot commit: no answer"),
        }
    }
}
