//! Against a real server: one for all tests but those that kill it, with topics and a group for each.

mod broken;
mod credentials;
mod group;
mod outage;
mod source;
mod start;
mod target;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use krafka::admin::{
    AdminClient, CreatePartitionsOptions, CreateTopicsOptions, DeleteRecordsOptions,
    DeleteTopicsOptions, ListConsumerGroupOffsetsOptions, NewTopic,
};
use krafka::consumer::{AutoOffsetReset, ConsumerRecord, TopicPartition};
use krafka::producer::Producer;
use krafka::{Kafka, Record};
use pointsman_schemas::{Problem, SystemClock};
use pointsman_test_brokers::{KafkaListener, KafkaServer};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use crate::suite::{begin, bodies, next_within, parse_source, take, with};
use crate::{Arrival, Link, Message, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// The server that all tests share.
async fn server() -> &'static KafkaServer {
    static SERVER: OnceCell<KafkaServer> = OnceCell::const_new();
    SERVER
        .get_or_init(async || KafkaServer::start("", KafkaListener::default()).await)
        .await
}

/// Topics of its own, looked at from outside, and a group that nobody else is in.
struct Topics {
    brokers: String,
    names: Vec<String>,
    group: String,
    kafka: Kafka,
    producer: Producer,
}

impl Topics {
    /// Makes topics with names that no others have.
    async fn new(partitions: &[i32]) -> Self {
        Self::at(&server().await.address(), partitions).await
    }

    async fn at(brokers: &str, partitions: &[i32]) -> Self {
        let kafka = Kafka::builder(brokers).connect().await.unwrap();
        let number = format!("{:x}", rand::random::<u64>());
        let names: Vec<_> = (0..partitions.len())
            .map(|index| format!("topic-{number}-{index}"))
            .collect();
        let topics = Self {
            brokers: brokers.to_owned(),
            group: format!("group-{number}"),
            producer: kafka.producer().build().await.unwrap(),
            kafka,
            names,
        };
        for (name, partitions) in topics.names.iter().zip(partitions) {
            topics.make(name, *partitions).await;
        }
        topics
    }

    fn admin(&self) -> AdminClient {
        self.kafka.admin()
    }

    async fn make(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, 1).unwrap();
        let admin = self.admin();
        let made = admin.create_topics([topic], CreateTopicsOptions::default());
        for (_, made) in made.await.unwrap() {
            made.unwrap();
        }
        // It is there once its partitions have leaders.
        let until = Instant::now() + LONG;
        while self
            .producer
            .partitions_for(name)
            .await
            .map_or(0, |found| found.len())
            < partitions as usize
        {
            assert!(Instant::now() < until, "{name} is not there");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn name(&self) -> &str {
        &self.names[0]
    }

    /// Settings of a source that reads them.
    fn settings(&self, more: Value) -> Value {
        let settings = json!({
            "brokers": self.brokers, "topics": self.names, "group": self.group, "start": "earliest",
        });
        with(settings, more)
    }

    /// Returns once the server has a record of this key and value.
    async fn write(&self, key: &str, value: impl Into<Bytes>) -> i64 {
        self.write_record(Record::new(self.name(), value).key(key.to_owned()))
            .await
    }

    async fn write_record(&self, record: Record) -> i64 {
        self.producer.send(record).await.unwrap().offset
    }

    /// What the group has committed of the first topic, partition by partition.
    async fn committed(&self) -> Vec<(i32, i64)> {
        let admin = self.admin();
        let listed = admin
            .list_consumer_group_offsets(&self.group, ListConsumerGroupOffsetsOptions::default());
        let mut found: Vec<_> = listed
            .await
            .unwrap()
            .into_iter()
            .filter(|(partition, _)| partition.topic() == self.name())
            .filter_map(|(partition, offset)| {
                Some((partition.partition(), offset.unwrap().offset?))
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// Waits until so much is committed of the first topic.
    async fn commits(&self, expect: &[(i32, i64)]) {
        let until = Instant::now() + LONG;
        loop {
            let found = self.committed().await;
            if found == expect {
                return;
            }
            assert!(Instant::now() < until, "{found:?}, not {expect:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// All records of a topic.
    async fn records(&self, topic: &str) -> Vec<ConsumerRecord> {
        let consumer = self
            .kafka
            .consumer_without_group()
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .build()
            .await
            .unwrap();
        consumer.subscribe([topic]).await.unwrap();
        let mut count = 0;
        for partition in &consumer.assignment().await[topic] {
            let (first, end) = consumer.fetch_watermarks(topic, *partition).await.unwrap();
            count += usize::try_from(end - first).unwrap();
        }
        let mut records = Vec::new();
        while records.len() < count {
            let more = timeout(LONG, consumer.poll(Duration::from_secs(1))).await;
            records.extend(more.unwrap().unwrap());
        }
        records
    }
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("kafka", settings).unwrap()
}

async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(source(settings)).await
}

async fn store(messages: Vec<Message>) {
    for message in messages {
        message.acknowledgement.send(Verdict::Stored).await;
    }
}

fn told(problem: &Problem, words: &[&str]) {
    let told = problem.to_string();
    assert!(
        words.iter().all(|words| told.contains(words)),
        "{told} where {words:?} was expected"
    );
}
