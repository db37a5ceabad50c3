//! From a queue of ActiveMQ Artemis, by AMQP 1.0, through the bus to a function and to another queue.

use pointsman_integration_tests::amqp::amqp_send;
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out};
use pointsman_test_brokers::ArtemisServer;

/// A source of a queue, and the function and another queue as its targets.
fn rules(port: u16, to: &str, sink: &Sink) -> String {
    let url = format!("amqp://127.0.0.1:{port}");
    format!(
        "sources:
  orders:
    amqp: {{ url: \"{url}\", address: orders, deduplicate: true }}
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
  audit:
    amqp: {{ url: \"{url}\", address: audit, group_id: <$.id> }}
    delivery: {{ retry: {{ attempts: 100, backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: orders, to: {to} }}
",
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_amqp_and_the_function_while_both_sides_are_killed() {
    let mut server = ArtemisServer::start().await;
    let port = server.port();
    let sink = Sink::counting().await;
    let mut bus = Bus::start(&rules(port, "[function, audit]", &sink)).await;
    let storm = Storm::of(2_000, 2);
    let publish = move |id: String| async move { amqp_send(port, "orders", &id).await };
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_amqp_is_away_and_back_soon_after_it() {
    let server = ArtemisServer::start().await;
    let port = server.port();
    let proxy = Proxy::start(port);
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), "function", &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        amqp_send(port, "orders", &id).await
    })
    .await;
}
