//! From a topic of RocketMQ through the bus to a function and to another topic.

use pointsman_integration_tests::storm::DATA;
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out};
use pointsman_test_brokers::{RocketmqServer, rocketmq_send};

/// A source of a topic, and the function and another topic as its targets.
fn rules(port: u16, topic: &str, to: &str, sink: &Sink) -> String {
    let url = format!("rocketmq://127.0.0.1:{port}");
    format!(
        "sources:
  orders:
    rocketmq: {{ url: \"{url}\", topic: {topic}, group: {topic}-group, visibility: 10s }}
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
  audit:
    rocketmq: {{ url: \"{url}\", topic: audit, message_group: <$.id> }}
    delivery: {{ retry: {{ attempts: 100, backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: orders, to: {to} }}
",
        sink.url()
    )
}

async fn publish(broker_port: u16, topic: &str, id: &str) -> bool {
    let event = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"order.paid","data":{DATA}}}"#
    );
    rocketmq_send(broker_port, topic, id, &event).await
}

async fn server() -> RocketmqServer {
    let server = RocketmqServer::start().await;
    server.make_topic("orders", "NORMAL", 2).await;
    server.make_topic("audit", "FIFO", 2).await;
    server.make_group("orders-group", false, 16).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_rocketmq_and_the_function_while_both_sides_are_killed() {
    let mut server = server().await;
    let broker = server.broker_port();
    let sink = Sink::counting().await;
    let rules = rules(server.port(), "orders", "[function, audit]", &sink);
    let mut bus = Bus::start(&rules).await;
    let storm = Storm::of(1_000, 1);
    let publish = move |id: String| async move { publish(broker, "orders", &id).await };
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_rocketmq_is_away_and_back_soon_after_it() {
    let server = server().await;
    let broker = server.broker_port();
    let proxy = Proxy::start(server.port());
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), "orders", "function", &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        publish(broker, "orders", &id).await
    })
    .await;
}
