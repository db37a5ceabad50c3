//! From Kafka through the bus to a function and back to Kafka.

use std::collections::HashSet;

use futures::future::join_all;
use krafka::Record;
use pointsman_integration_tests::kafka::Client;
use pointsman_integration_tests::{Answer, Bus, Fault, Proxy, Sink, Storm, ride_out, until};
use pointsman_test_brokers::{KafkaListener, KafkaServer, free_port};
use tokio::sync::OnceCell;

/// A server for all tests that do not kill it.
async fn shared() -> &'static KafkaServer {
    static SERVER: OnceCell<KafkaServer> = OnceCell::const_new();
    SERVER
        .get_or_init(async || KafkaServer::start("", KafkaListener::default()).await)
        .await
}

/// A source of a topic, and the function as its target.
fn rules(brokers: &str, topic: &str, sink: &Sink) -> String {
    format!(
        "sources:
  orders: {{ kafka: {{ brokers: \"{brokers}\", topics: {topic}, group: {topic}, start: earliest }} }}
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

/// The most deliveries in flight to a target whose rule file does not say.
const DEFAULT_CONCURRENCY: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_kafka_and_the_function_or_on_the_way_back_while_both_sides_are_killed()
 {
    let mut server = KafkaServer::start("", KafkaListener::default()).await;
    let (sink, client) = (Sink::counting().await, Client::of(&server.address()));
    client.make_topic("orders", 10).await;
    client.make_topic("audit", 2).await;
    let text = rules(&server.address(), "orders", &sink)
        .replace("to: function", "to: [function, audit]")
        .replace(
            "targets:",
            &format!(
                "targets:\n  audit: {{ kafka: {{ brokers: \"{}\", topic: audit }} }}",
                server.address()
            ),
        );
    let mut bus = Bus::start(&text).await;

    let storm = Storm::of(5_000, 3);
    let publisher = client.clone();
    let publish = move |id| publisher.clone().publish("orders", id);
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    let back = client.records("audit").await;
    let ids: HashSet<_> = back
        .iter()
        .map(|record| record.header_str("ce_id"))
        .collect();
    assert_eq!(ids.len(), storm.messages);
    // There nobody deduplicates: what was in flight at any of the kills may be there twice.
    assert!(
        back.len() <= storm.messages + 2 * storm.kills * DEFAULT_CONCURRENCY,
        "{} of {}",
        back.len(),
        storm.messages
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_kafka_is_away_and_back_soon_after_it() {
    let faults = [Fault::Refuse, Fault::BlackHole];
    let outages = faults.into_iter().map(async |fault| {
        // A server of its own: clients go where it tells them, which is the proxy.
        let port = free_port();
        let proxy = Proxy::start(port);
        let listener = KafkaListener {
            advertised: Some(proxy.port()),
            port: Some(port),
            ..KafkaListener::default()
        };
        let _server = KafkaServer::start("", listener).await;
        let brokers = format!("127.0.0.1:{}", proxy.port());
        let client = Client::of(&brokers);
        client.make_topic("away", 2).await;
        let sink = Sink::start().await;
        let bus = Bus::start(&rules(&brokers, "away", &sink)).await;
        ride_out(&bus, &proxy, fault, &sink, async |id| {
            while !client.clone().publish("away", id.clone()).await {}
            true
        })
        .await;
    });
    join_all(outages).await;
}

#[tokio::test]
async fn poison_is_a_dead_letter_and_holds_nobody_up() {
    let server = shared().await;
    let (sink, client) = (Sink::start().await, Client::of(&server.address()));
    client.make_topic("poisoned", 1).await;
    let mut bus = Bus::start(&rules(&server.address(), "poisoned", &sink)).await;
    let poison = Record::new("poisoned", "{\"specversion\":")
        .header("content-type", "application/cloudevents+json");
    assert!(client.send(poison).await);
    for id in ["1", "2", "3"] {
        assert!(client.clone().publish("poisoned", id.to_owned()).await);
    }
    until("those behind it have arrived", async || sink.arrived() == 3).await;
    until("it is a dead letter", async || bus.dead().await.len() == 1).await;
    assert_eq!(bus.source("orders").await["rejects"], 1);
    // What was not committed would come again.
    assert!(bus.terminate().await.success());
    bus.spawn();
    bus.ready().await;
    assert!(client.clone().publish("poisoned", "4".to_owned()).await);
    until("the next has arrived", async || sink.arrived() == 4).await;
    assert_eq!(bus.dead().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_commits_nothing_while_the_function_is_down() {
    let server = shared().await;
    let client = Client::of(&server.address());
    client.make_topic("piped", 4).await;
    let port = free_port();
    let nobody = Sink::start().await;
    let text = rules(&server.address(), "piped", &nobody)
        .replace("rules:", "pipes:")
        .replace(&nobody.url(), &format!("http://127.0.0.1:{port}/"));
    let mut bus = Bus::start(&text).await;
    for number in 0..100 {
        assert!(client.clone().publish("piped", number.to_string()).await);
    }
    until("it has them", async || {
        bus.source("orders").await["lag"] == 0
    })
    .await;
    // Nothing is stored and nothing committed: a kill costs nothing.
    bus.kill();
    bus.spawn();
    bus.ready().await;
    let sink = Sink::on_port(port, |_| Answer::status(204)).await;
    until("all have arrived", async || sink.arrived() >= 100).await;
    let ids = sink.ids();
    assert_eq!(ids.len(), 100);
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_loses_nothing_and_keeps_the_order_of_a_key() {
    let server = shared().await;
    let (sink, client) = (Sink::start().await, Client::of(&server.address()));
    client.make_topic("reloaded", 3).await;
    let text = rules(&server.address(), "reloaded", &sink);
    let mut bus = Bus::start(&text).await;
    let write = async |from: usize| {
        for number in from..from + 50 {
            let id = number.to_string();
            let record = Client::event("reloaded", &id, "{}").key("one");
            assert!(client.send(record).await);
        }
    };
    write(0).await;
    // Other settings: the source is opened anew while some of it is in hand.
    bus.write_rules(&text.replace("start: earliest", "start: latest"));
    until("the changed rules are in force", async || {
        bus.log().contains("the changed rules are in force")
    })
    .await;
    write(50).await;
    until("all have arrived", async || sink.ids().len() == 100).await;
    assert_eq!(bus.counts("all").await["created"], 100);
    assert!(bus.terminate().await.success());
}
