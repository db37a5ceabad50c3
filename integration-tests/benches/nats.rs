//! From JetStream through a rule, against a bare `async-nats` consumer that has each
//! acknowledgement confirmed: `cargo bench -p pointsman-integration-tests --bench nats`.
//!
//! All take the same backlog out of the same stream, each by a consumer of its own; the bus stores
//! every event on the way. What the bus only stores, with no rule that wants it, is what a bare
//! consumer does plus the journal; what it delivers goes on from there: to a sink that costs
//! nothing, to a subject of the same server, and into another stream of it. For the last the server
//! stores every message once more, so a bare forwarder stands beside it, which acknowledges what
//! the other stream has confirmed. Each line tells messages per second, processor time for each (of
//! the bus or the bare client, and of the server) and the ratio of rates.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{AckKind, Context};
use futures::{StreamExt, stream};
use pointsman_integration_tests::drain;
use pointsman_integration_tests::drain::{Comparison, Drained, Moment};
use pointsman_integration_tests::nats::{jetstream, make_stream};
use pointsman_test_brokers::{NatsRelease, NatsServer};

const ROUNDS: usize = 5;
const MESSAGES: u64 = 50_000;
/// Publications and confirmations in flight at once.
const IN_FLIGHT: usize = 256;
/// A subject of the other stream.
const COPY: &str = "copies.paid";

async fn fill(jetstream: &Context) {
    let data = format!(
        r#"{{"customer":"c-1042","total":250,"note":"{}"}}"#,
        "x".repeat(800)
    );
    stream::iter(0..MESSAGES)
        .for_each_concurrent(IN_FLIGHT, async |number| {
            let mut headers = HeaderMap::new();
            let id = number.to_string();
            for (name, value) in [
                ("ce-specversion", "1.0"),
                ("ce-id", &*id),
                ("ce-source", "/bench"),
                ("ce-type", "order.paid"),
            ] {
                headers.insert(name, value);
            }
            headers.insert("content-type", "application/json");
            let published = jetstream
                .publish_with_headers("orders.paid", headers, data.clone().into())
                .await
                .expect("the server is there");
            published.await.expect("the stream takes it");
        })
        .await;
}

/// How the bare consumer treats a message before it acknowledges it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Consumes,
    /// Publishes it into the other stream, and waits for that.
    Forwards,
}

/// Takes and acknowledges everything, with [`IN_FLIGHT`] confirmations in flight at once.
async fn bare(jetstream: &Context, server: u32, name: &str, bare: Bare) -> Drained {
    let stream = jetstream
        .get_stream("ORDERS")
        .await
        .expect("the stream is there");
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        max_ack_pending: 2_048,
        ..pull::Config::default()
    };
    let consumer = stream
        .create_consumer(config)
        .await
        .expect("a consumer can be made");
    let messages = consumer
        .stream()
        .max_messages_per_batch(2_048)
        .messages()
        .await
        .expect("the consumer gives messages");
    let begin = Moment::now(std::process::id(), server);
    let total = usize::try_from(MESSAGES).expect("there are not so many");
    messages
        .take(total)
        .for_each_concurrent(IN_FLIGHT, async |message| {
            let message = message.expect("the server is there");
            if bare == Bare::Forwards {
                let headers = message.headers.clone().expect("it was published with some");
                let published = jetstream
                    .publish_with_headers(COPY, headers, message.payload.clone())
                    .await
                    .expect("the server is there");
                published.await.expect("the stream takes it");
            }
            message
                .double_ack_with(AckKind::Ack)
                .await
                .expect("the server confirms");
        })
        .await;
    begin.until_now(MESSAGES)
}

fn rules(port: u16, consumer: &str, target: &str, ty: &str) -> String {
    format!(
        "sources:
  orders: {{ nats: {{ url: \"nats://127.0.0.1:{port}\", stream: ORDERS, consumer: {consumer}, create: {{}} }} }}
targets:
  out: {{ {target}, delivery: {{ concurrency: {{ max: {IN_FLIGHT} }} }} }}
rules:
  all: {{ from: orders, match: {{ type: [{ty}] }}, to: out }}
"
    )
}

#[tokio::main]
async fn main() {
    for release in [NatsRelease::Old, NatsRelease::Current] {
        if release.is_there() {
            compare(release).await;
        }
    }
}

async fn compare(release: NatsRelease) {
    let server = NatsServer::start(release).await;
    let (port, pid) = (server.port(), server.process().pid());
    let jetstream = jetstream(port).await;
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    make_stream(&jetstream, "COPIES", "copies.>").await;
    fill(&jetstream).await;
    let nats = |rest: &str| format!("nats: {{ url: \"nats://127.0.0.1:{port}\", {rest} }}");
    let ways = [
        ("stored", "stdout: {}".to_owned()),
        ("to stdout", "stdout: {}".to_owned()),
        (
            "to a subject",
            nats("subject: plain.copy, acknowledge: false"),
        ),
        ("to a stream", nats(&format!("subject: {COPY}"))),
    ];
    let mut rates = Comparison::new("bare consumer");
    for round in 0..=ROUNDS {
        rates.add(
            "bare consumer",
            bare(&jetstream, pid, &format!("bare-{round}"), Bare::Consumes).await,
        );
        rates.add(
            "bare forwarder to a stream",
            bare(&jetstream, pid, &format!("forward-{round}"), Bare::Forwards).await,
        );
        empty(&jetstream).await;
        for (number, (way, target)) in ways.iter().enumerate() {
            let (stores, consumer) = (number == 0, format!("bus-{round}-{number}"));
            let ty = if stores { "nothing" } else { "order.paid" };
            let rules = rules(port, &consumer, target, ty);
            let drained = match stores {
                true => drain::stored(&rules, MESSAGES, pid).await,
                false => drain::delivered(&rules, MESSAGES, pid).await,
            };
            rates.add(way, drained);
        }
        empty(&jetstream).await;
        if round == 0 {
            // It warms up.
            rates.clear();
        }
    }
    println!("from JetStream ({release:?}), with {IN_FLIGHT} confirmations in flight:\n{rates}");
}

async fn empty(jetstream: &Context) {
    let copies = jetstream.get_stream("COPIES").await;
    let copies = copies.expect("the stream is there");
    copies.purge().await.expect("a stream can be emptied");
}
