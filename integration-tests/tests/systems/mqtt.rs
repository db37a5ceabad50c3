//! From topics of an MQTT broker through the bus to a function and to another topic.

use pointsman_integration_tests::mqtt::publish;
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out, until};
use pointsman_test_brokers::MqttServer;

/// A source of a topic, and the function and another topic as its targets.
fn rules(port: u16, topic: &str, to: &str, sink: &Sink) -> String {
    let url = format!("mqtt://127.0.0.1:{port}");
    format!(
        "sources:
  orders:
    mqtt: {{ url: \"{url}\", client_id: bus, topic: \"{topic}/#\", deduplicate: true }}
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
  audit:
    mqtt: {{ url: \"{url}\", topic: \"audit/<$.id>\" }}
    delivery: {{ retry: {{ attempts: 100, backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: orders, to: {to} }}
",
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_mqtt_and_the_function_while_both_sides_are_killed() {
    let mut server = MqttServer::start().await;
    let port = server.port();
    let sink = Sink::counting().await;
    let mut bus = Bus::start(&rules(port, "orders", "[function, audit]", &sink)).await;
    until("it is subscribed", async || {
        bus.source("orders").await["state"] == "running"
    })
    .await;
    let storm = Storm::of(2_000, 2);
    let publish = move |id: String| async move { publish(port, "orders/a", &id).await };
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_mqtt_is_away_and_back_soon_after_it() {
    let server = MqttServer::start().await;
    let port = server.port();
    let proxy = Proxy::start(port);
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), "away", "function", &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        publish(port, "away/a", &id).await
    })
    .await;
}
