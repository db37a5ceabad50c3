//! From a topic of Kafka with ten partitions through a rule, against a bare `krafka` consumer that
//! commits as often: `cargo bench -p pointsman-integration-tests --bench kafka`.
//!
//! All take the same backlog out of the same topic, each as a group of its own; the bus stores every
//! event on the way. What the bus only stores, with no rule that wants it, is what a bare consumer
//! does plus the journal; what it delivers goes on from there: to a sink that costs nothing, and into
//! another topic of the same server. For the last a bare forwarder stands beside it, which commits
//! what the other topic has acknowledged. Each line tells messages per second, processor time for
//! each (of the bus or the bare client, and of the server) and the ratio of rates.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{StreamExt, stream};
use krafka::Record;
use krafka::consumer::{AutoOffsetReset, ConsumerRecord};
use pointsman_integration_tests::drain;
use pointsman_integration_tests::drain::{Comparison, Drained, Moment};
use pointsman_integration_tests::kafka::Client;
use pointsman_test_brokers::{KafkaListener, KafkaServer};

const ROUNDS: usize = 5;
const MESSAGES: u64 = 50_000;
const PARTITIONS: i32 = 10;
/// Records in flight at once.
const IN_FLIGHT: usize = 256;
/// How often is committed.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
const TOPIC: &str = "orders";
/// The other topic.
const COPY: &str = "copies";

async fn fill(client: &Client) {
    let data = format!(
        r#"{{"customer":"c-1042","total":250,"note":"{}"}}"#,
        "x".repeat(800)
    );
    stream::iter(0..MESSAGES)
        .for_each_concurrent(IN_FLIGHT, async |number| {
            let record = Client::event(TOPIC, &number.to_string(), &data);
            assert!(client.send(record).await, "record {number} is not taken");
        })
        .await;
}

/// How the bare consumer treats a record before it commits it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Consumes,
    /// Writes it to the other topic, and waits for the acknowledgement.
    Forwards,
}

/// Takes everything as a group of this name, with [`IN_FLIGHT`] records in flight at once.
async fn bare(client: &Client, server: u32, group: &str, bare: Bare) -> Drained {
    let kafka = client.connect().await;
    let producer = client.producer().await.expect("the server is there");
    let consumer = kafka
        .consumer(group)
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .enable_auto_commit(false)
        .max_poll_records(1_000)
        .build()
        .await
        .expect("a consumer can be made");
    let subscribed = consumer.subscribe([TOPIC]).await;
    subscribed.expect("the topic is there");
    let (mut begin, mut taken, mut committed) = (None, 0, Instant::now());
    while taken < MESSAGES {
        let records = consumer.poll(Duration::from_secs(1)).await;
        let records = records.expect("the server is there");
        taken += records.len() as u64;
        if begin.is_none() && taken > 0 {
            // How long it takes to join is not what is measured.
            begin = Some((taken, Moment::now(std::process::id(), server)));
        }
        if bare == Bare::Forwards {
            let mut sending = FuturesUnordered::new();
            for record in records {
                if sending.len() == IN_FLIGHT {
                    let sent: Option<krafka::Result<_>> = sending.next().await;
                    let _written = sent.expect("it is not empty").expect("the topic takes it");
                }
                let sent = producer.enqueue(copy(record)).await;
                sending.push(sent.expect("the topic is there"));
            }
            while let Some(sent) = sending.next().await {
                let _written = sent.expect("the topic takes it");
            }
        }
        if committed.elapsed() >= COMMIT_EVERY || taken == MESSAGES {
            consumer.commit().await.expect("the group is there");
            committed = Instant::now();
        }
    }
    let (before, begin) = begin.expect("something was taken");
    let drained = begin.until_now(MESSAGES - before);
    consumer.close().await.expect("the group can be left");
    drained
}

fn copy(record: ConsumerRecord) -> Record {
    let mut copy = Record::new(COPY, record.value.unwrap_or_default());
    copy.key = record.key;
    copy.headers = record.headers;
    copy
}

fn rules(server: &KafkaServer, group: &str, target: &str, ty: &str) -> String {
    format!(
        "sources:
  orders: {{ kafka: {{ brokers: \"{}\", topics: {TOPIC}, group: {group}, start: earliest }} }}
targets:
  out: {{ {target}, delivery: {{ concurrency: {{ max: {IN_FLIGHT} }} }} }}
rules:
  all: {{ from: orders, match: {{ type: [{ty}] }}, to: out }}
",
        server.address()
    )
}

#[tokio::main]
async fn main() {
    let server = KafkaServer::start("", KafkaListener::default()).await;
    let (client, pid) = (Client::of(&server.address()), server.pid());
    client.make_topic(TOPIC, PARTITIONS).await;
    client.make_topic(COPY, PARTITIONS).await;
    fill(&client).await;
    let ways = [
        ("stored", "stdout: {}".to_owned()),
        ("to stdout", "stdout: {}".to_owned()),
        (
            "to a topic",
            format!(
                "kafka: {{ brokers: \"{}\", topic: {COPY} }}",
                server.address()
            ),
        ),
    ];
    let mut rates = Comparison::new("bare consumer");
    for round in 0..=ROUNDS {
        for (number, (way, forwards)) in [
            ("bare consumer", Bare::Consumes),
            ("bare forwarder to a topic", Bare::Forwards),
        ]
        .into_iter()
        .enumerate()
        {
            let group = format!("bare-{round}-{number}");
            rates.add(way, bare(&client, pid, &group, forwards).await);
        }
        for (number, (way, target)) in ways.iter().enumerate() {
            let (stores, group) = (number == 0, format!("bus-{round}-{number}"));
            let ty = if stores { "nothing" } else { "order.paid" };
            let rules = rules(&server, &group, target, ty);
            let drained = if stores {
                drain::stored(&rules, MESSAGES, pid).await
            } else {
                drain::delivered(&rules, MESSAGES, pid).await
            };
            rates.add(way, drained);
        }
        if round == 0 {
            // It warms up.
            rates.clear();
        }
    }
    println!("from Kafka, {PARTITIONS} partitions, with {IN_FLIGHT} records in flight:\n{rates}");
}
