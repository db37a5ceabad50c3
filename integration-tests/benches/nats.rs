//! From JetStream through a rule to a sink that costs nothing, against a bare `async-nats` consumer
//! that has each acknowledgement confirmed: `cargo bench -p pointsman-integration-tests --bench
//! nats`.
//!
//! Both take the same backlog out of the same stream, each by a consumer of its own; the bus stores
//! every event on the way. What the bus only stores, with no rule that wants it, is what a bare
//! consumer does plus the journal; what it delivers goes on from there.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{AckKind, Context};
use futures::{StreamExt, stream};
use pointsman_integration_tests::drain;
use pointsman_integration_tests::load::median;
use pointsman_integration_tests::nats::{jetstream, make_stream};
use pointsman_test_brokers::{NatsRelease, NatsServer};

const ROUNDS: usize = 5;
const MESSAGES: u64 = 50_000;
/// Publications and confirmations in flight at once.
const IN_FLIGHT: usize = 256;

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

/// Takes and acknowledges everything, with so many confirmations in flight at once; messages per
/// second.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 52 bits"
)]
async fn bare(jetstream: &Context, name: &str, in_flight: usize) -> f64 {
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
    let begin = Instant::now();
    let total = usize::try_from(MESSAGES).expect("there are not so many");
    messages
        .take(total)
        .for_each_concurrent(in_flight, async |message| {
            message
                .expect("the server is there")
                .double_ack_with(AckKind::Ack)
                .await
                .expect("the server confirms");
        })
        .await;
    MESSAGES as f64 / begin.elapsed().as_secs_f64()
}

fn rules(port: u16, consumer: &str, ty: &str) -> String {
    format!(
        "sources:
  orders: {{ nats: {{ url: \"nats://127.0.0.1:{port}\", stream: ORDERS, consumer: {consumer}, create: {{}} }} }}
targets:
  console: {{ stdout: {{}} }}
rules:
  all: {{ from: orders, match: {{ type: [{ty}] }}, to: console }}
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
    let jetstream = jetstream(server.port()).await;
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    fill(&jetstream).await;
    let (mut one, mut many, mut kept, mut routed) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut kept_ratios, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let single = bare(&jetstream, &format!("single-{round}"), 1).await;
        let bare = bare(&jetstream, &format!("bare-{round}"), IN_FLIGHT).await;
        let stored = drain::stored(
            &rules(server.port(), &format!("stored-{round}"), "nothing"),
            MESSAGES,
        )
        .await;
        let bus = drain::rate(
            &rules(server.port(), &format!("bus-{round}"), "order.paid"),
            MESSAGES,
        )
        .await;
        // The first round warms up.
        if round > 0 {
            one.push(single);
            many.push(bare);
            kept.push(stored);
            kept_ratios.push(stored / bare);
            routed.push(bus);
            ratios.push(bus / bare);
        }
    }
    println!(
        "from JetStream ({release:?}): bare consumer {:.0}/s one by one, {:.0}/s with {IN_FLIGHT} confirmations in flight; pointsman stores {:.0}/s, ratio {:.2}, and \
         delivers {:.0}/s, ratio {:.2}",
        median(one),
        median(many),
        median(kept),
        median(kept_ratios),
        median(routed),
        median(ratios)
    );
}
