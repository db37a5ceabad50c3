//! From a queue of RabbitMQ through a rule, against a bare `lapin` consumer that acknowledges each
//! message: `cargo bench -p pointsman-integration-tests --bench rabbitmq`.
//!
//! Each takes the same backlog out of a durable queue with the same prefetch; the bus stores every
//! event on the way, and delivers it to a sink that costs nothing, or to another queue of the same
//! broker. The broker does most of the work of the latter, so a bare forwarder stands beside it,
//! which acknowledges what the other queue's confirmation has come for. Each line tells messages
//! per second, processor time for each (of the bus or the bare client, and of the broker) and the
//! ratio of rates.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use futures::{StreamExt, stream};
use lapin::Confirmation;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use pointsman_integration_tests::drain;
use pointsman_integration_tests::drain::{Comparison, Drained, Moment};
use pointsman_integration_tests::rabbitmq::Client;
use pointsman_test_brokers::RabbitServer;

const ROUNDS: usize = 5;
const MESSAGES: u64 = 30_000;
const PREFETCH: u16 = 512;
/// Publications, and messages with the bare ones, in flight at once.
const IN_FLIGHT: usize = 256;
/// The other queue.
const COPY: &str = "copies";

async fn fill(client: &Client) {
    stream::iter(0..MESSAGES)
        .for_each_concurrent(IN_FLIGHT, async |number| {
            assert!(
                client.clone().publish("orders", number.to_string()).await,
                "the queue does not take message {number}"
            );
        })
        .await;
}

/// How the bare consumer treats a message before it acknowledges it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Consumes,
    /// Publishes it to the other queue, and waits for the confirmation.
    Forwards,
}

/// Takes and acknowledges everything, [`IN_FLIGHT`] messages at once.
async fn bare(server: &RabbitServer, pid: u32, bare: Bare) -> Drained {
    let client = Client::of(&server.url());
    let channel = client.channel().await.expect("the server is there");
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await
        .expect("the server takes a prefetch");
    let consuming = channel.basic_consume(
        "orders".into(),
        "bare".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let messages = consuming.await.expect("the queue is there");
    let begin = Moment::now(std::process::id(), pid);
    let total = usize::try_from(MESSAGES).expect("there are not so many");
    messages
        .take(total)
        .for_each_concurrent(IN_FLIGHT, async |message| {
            let message = message.expect("the server is there");
            if bare == Bare::Forwards {
                let published = channel.basic_publish(
                    "".into(),
                    COPY.into(),
                    BasicPublishOptions {
                        mandatory: true,
                        ..BasicPublishOptions::default()
                    },
                    &message.data,
                    message.properties.clone(),
                );
                let confirmed = published.await.expect("the server is there").await;
                let confirmed = confirmed.expect("the server is there");
                assert!(
                    matches!(confirmed, Confirmation::Ack(None)),
                    "{confirmed:?}"
                );
            }
            message
                .ack(BasicAckOptions::default())
                .await
                .expect("the server is there");
        })
        .await;
    begin.until_now(MESSAGES)
}

fn rules(server: &RabbitServer, target: &str) -> String {
    format!(
        "sources:
  orders: {{ rabbitmq: {{ url: \"{}\", queue: orders, prefetch: {PREFETCH} }} }}
targets:
  out: {{ {target}, delivery: {{ concurrency: {{ max: {IN_FLIGHT} }} }} }}
rules:
  all: {{ from: orders, match: {{ type: [order.paid] }}, to: out }}
",
        server.url()
    )
}

#[tokio::main]
async fn main() {
    let server = RabbitServer::start("", "").await;
    let client = Client::of(&server.url());
    let pid = server.ctl(&["eval", "list_to_integer(os:getpid())."]);
    let pid: u32 = pid.trim().parse().expect("the broker knows its process");
    for queue in ["orders", COPY] {
        client.make_queue(queue, "classic").await;
    }
    let ways = [
        ("to stdout", "stdout: {}".to_owned()),
        (
            "to a queue",
            format!(
                "rabbitmq: {{ url: \"{}\", routing_key: {COPY} }}",
                server.url()
            ),
        ),
    ];
    let mut rates = Comparison::new("bare consumer");
    for round in 0..=ROUNDS {
        for (way, forwards) in [
            ("bare consumer", Bare::Consumes),
            ("bare forwarder to a queue", Bare::Forwards),
        ] {
            fill(&client).await;
            rates.add(way, bare(&server, pid, forwards).await);
        }
        for (way, target) in &ways {
            fill(&client).await;
            rates.add(
                way,
                drain::delivered(&rules(&server, target), MESSAGES, pid).await,
            );
        }
        empty(&client).await;
        if round == 0 {
            // It warms up.
            rates.clear();
        }
    }
    println!("from RabbitMQ, with {IN_FLIGHT} messages in flight:\n{rates}");
}

async fn empty(client: &Client) {
    let channel = client.channel().await.expect("the server is there");
    let emptied = channel.queue_purge(COPY.into(), QueuePurgeOptions::default());
    emptied.await.expect("a queue can be emptied");
}
