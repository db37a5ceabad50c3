//! From a queue of RabbitMQ through a rule to a sink that costs nothing, against a bare `lapin`
//! consumer that acknowledges each message: `cargo bench -p pointsman-integration-tests --bench
//! rabbitmq`.
//!
//! Each takes the same backlog out of a durable queue with the same prefetch; the bus stores every
//! event on the way.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::time::Instant;

use futures::{StreamExt, stream};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use pointsman_integration_tests::drain;
use pointsman_integration_tests::load::median;
use pointsman_integration_tests::rabbitmq::Client;
use pointsman_test_brokers::RabbitServer;

const ROUNDS: usize = 5;
const MESSAGES: u64 = 30_000;
const PREFETCH: u16 = 512;
/// Publications in flight at once.
const IN_FLIGHT: usize = 256;

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

/// Takes and acknowledges everything; messages per second.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 52 bits"
)]
async fn bare(server: &RabbitServer) -> f64 {
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
    let mut messages = consuming.await.expect("the queue is there");
    let begin = Instant::now();
    for _ in 0..MESSAGES {
        let message = messages
            .next()
            .await
            .expect("there is one more")
            .expect("the server is there");
        message
            .ack(BasicAckOptions::default())
            .await
            .expect("the server is there");
    }
    MESSAGES as f64 / begin.elapsed().as_secs_f64()
}

fn rules(server: &RabbitServer) -> String {
    format!(
        "sources:
  orders: {{ rabbitmq: {{ url: \"{}\", queue: orders, prefetch: {PREFETCH} }} }}
targets:
  console: {{ stdout: {{}} }}
rules:
  all: {{ from: orders, match: {{ type: [order.paid] }}, to: console }}
",
        server.url()
    )
}

#[tokio::main]
async fn main() {
    let server = RabbitServer::start("", "").await;
    let client = Client::of(&server.url());
    client.make_queue("orders", "classic").await;
    let (mut plain, mut routed, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        fill(&client).await;
        let bare = bare(&server).await;
        fill(&client).await;
        let bus = drain::rate(&rules(&server), MESSAGES).await;
        // The first round warms up.
        if round > 0 {
            plain.push(bare);
            routed.push(bus);
            ratios.push(bus / bare);
        }
    }
    println!(
        "from RabbitMQ: bare consumer {:.0}/s, pointsman {:.0}/s, ratio {:.2}",
        median(plain),
        median(routed),
        median(ratios)
    );
}
