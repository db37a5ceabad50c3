//! A client of Kafka that writes events, apart from the connector that the tests are about.

use std::sync::Arc;
use std::time::Duration;

use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::consumer::{AutoOffsetReset, ConsumerRecord};
use krafka::producer::Producer;
use krafka::{Kafka, Record};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long an acknowledgement may take; without one the record is written again.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// How long a new topic may take to be there.
const THERE_WITHIN: Duration = Duration::from_secs(30);

/// A client that connects again whenever it has to. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    brokers: String,
    producer: Arc<Mutex<Option<Arc<Producer>>>>,
}

impl Client {
    /// A client of the server at an address; it connects when it is used.
    #[must_use]
    pub fn of(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            producer: Arc::default(),
        }
    }

    /// A connection of its own.
    ///
    /// # Panics
    /// Where the server cannot be reached.
    pub async fn connect(&self) -> Kafka {
        let connecting = Kafka::builder(&self.brokers).connect();
        connecting.await.expect("the server is there")
    }

    /// The producer that there is, or a new one.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn producer(&self) -> krafka::Result<Arc<Producer>> {
        let mut producer = self.producer.lock().await;
        if let Some(producer) = &*producer {
            return Ok(Arc::clone(producer));
        }
        let kafka = Kafka::builder(&self.brokers)
            .request_timeout(ACKNOWLEDGED_WITHIN)
            .connect_timeout(ACKNOWLEDGED_WITHIN)
            .connect()
            .await?;
        let made = kafka.producer().linger(Duration::ZERO).build().await?;
        let made = Arc::new(made);
        *producer = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Makes a topic.
    ///
    /// # Panics
    /// Where the server refuses, or the topic is not there within 30 seconds.
    pub async fn make_topic(&self, topic: &str, partitions: i32) {
        let kafka = self.connect().await;
        let new = NewTopic::new(topic, partitions, 1).expect("the topic has a name");
        let admin = kafka.admin();
        let made = admin.create_topics([new], CreateTopicsOptions::default());
        for (_, made) in made.await.expect("the server is there") {
            made.expect("a topic can be made");
        }
        let producer = kafka.producer().build().await;
        let producer = producer.expect("the server is there");
        let is_there = async {
            let wanted = usize::try_from(partitions).unwrap_or_default();
            while producer
                .partitions_for(topic)
                .await
                .map_or(0, |found| found.len())
                < wanted
            {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(THERE_WITHIN, is_there)
            .await
            .expect("the topic comes to be there");
    }

    /// An event in binary mode, whose id is its key.
    pub fn event(topic: &str, id: &str, data: &str) -> Record {
        Record::new(topic, data.to_owned())
            .key(id.to_owned())
            .header("content-type", "application/json")
            .header("ce_specversion", "1.0")
            .header("ce_id", id.to_owned())
            .header("ce_source", "/test")
            .header("ce_type", "order.paid")
    }

    /// Writes an event, and tells whether the server has it.
    pub async fn publish(self, topic: &'static str, id: String) -> bool {
        self.send(Self::event(topic, &id, crate::storm::DATA)).await
    }

    /// Writes anything, and tells whether the server has it.
    pub async fn send(&self, record: Record) -> bool {
        let sent = async { self.producer().await?.send(record).await };
        match timeout(ACKNOWLEDGED_WITHIN, sent).await {
            Ok(Ok(_written)) => true,
            Ok(Err(error)) if !error.is_fatal() => false,
            _ => {
                *self.producer.lock().await = None;
                false
            }
        }
    }

    /// All records of a topic.
    ///
    /// # Panics
    /// Where the server breaks off.
    pub async fn records(&self, topic: &str) -> Vec<ConsumerRecord> {
        let consumer = self
            .connect()
            .await
            .consumer_without_group()
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .build()
            .await
            .expect("the server is there");
        let subscribed = consumer.subscribe([topic]).await;
        subscribed.expect("the topic is there");
        let mut ends = 0;
        for partition in consumer
            .assignment()
            .await
            .remove(topic)
            .unwrap_or_default()
        {
            let (first, end) = consumer
                .fetch_watermarks(topic, partition)
                .await
                .expect("the partition is there");
            ends += usize::try_from(end - first).unwrap_or_default();
        }
        let mut records = Vec::new();
        while records.len() < ends {
            let more = consumer.poll(Duration::from_secs(1)).await;
            records.extend(more.expect("the server is there"));
        }
        records
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.brokers)
    }
}
