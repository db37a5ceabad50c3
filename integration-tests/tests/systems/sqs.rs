//! From a queue of SQS through the bus to a function.

use pointsman_integration_tests::sqs::Queue;
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out, until};
use pointsman_test_brokers::ObjectStore;
use serde_json::json;

/// A source of a queue, and the function as its target.
fn rules(port: u16, queue: &str, sink: &Sink) -> String {
    format!(
        "sources:
  orders:
    sqs:
      queue: {queue}
      endpoint: \"http://127.0.0.1:{port}\"
      credentials: {{ access_key: test, secret_key: test }}
      visibility: 10s
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: orders, to: function }}
",
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_sqs_and_the_function_while_the_bus_is_killed() {
    let server = ObjectStore::start().await;
    let sink = Sink::counting().await;
    let queue = Queue::make(server.port(), "orders").await;
    let mut bus = Bus::start(&rules(server.port(), "orders", &sink)).await;
    // The server keeps nothing over a restart: the bus alone is killed. Without the environment's
    // say in it: the server takes some hundred messages a second.
    let storm = Storm {
        messages: 2_000,
        kills: 3,
    };
    let publisher = queue.clone();
    let publish = move |id| publisher.clone().publish(id);
    storm.rage(&mut bus, &sink, publish, async || {}).await;
    until("everything is deleted", async || queue.left().await == 0).await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_sqs_is_away_and_back_soon_after_it() {
    let server = ObjectStore::start().await;
    let proxy = Proxy::start(server.port());
    let queue = Queue::make(server.port(), "away").await;
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), "away", &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        queue.clone().publish(id).await
    })
    .await;
}

#[tokio::test]
async fn poison_is_a_dead_letter_and_is_deleted() {
    let server = ObjectStore::start().await;
    let sink = Sink::start().await;
    let queue = Queue::make(server.port(), "poisoned").await;
    let bus = Bus::start(&rules(server.port(), "poisoned", &sink)).await;
    let announced = json!({ "content-type": {
        "DataType": "String", "StringValue": "application/cloudevents+json",
    } });
    assert!(queue.send("{\"specversion\":", announced).await);
    for id in ["1", "2", "3"] {
        assert!(queue.clone().publish(id.to_owned()).await);
    }
    until("the others have arrived", async || sink.arrived() == 3).await;
    until("it is a dead letter", async || bus.dead().await.len() == 1).await;
    assert_eq!(bus.source("orders").await["rejects"], 1);
    until("everything is deleted", async || queue.left().await == 0).await;
}
