//! From a stream of Redis through the bus to a function and to another stream.

use std::collections::HashSet;

use pointsman_integration_tests::redis::{ids, publish};
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out, until};
use pointsman_test_brokers::RedisServer;

/// A source of a stream, and the function and another stream as its targets.
fn rules(port: u16, stream: &str, to: &str, sink: &Sink) -> String {
    let url = format!("redis://127.0.0.1:{port}");
    format!(
        "sources:
  orders:
    redis: {{ url: \"{url}\", stream: {stream}, group: pointsman, start: earliest, visibility: 10s }}
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
  audit:
    redis: {{ url: \"{url}\", stream: audit }}
    delivery: {{ retry: {{ attempts: 100, backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: orders, to: {to} }}
",
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_redis_and_the_function_or_on_the_way_back_while_both_sides_are_killed()
 {
    let mut server = RedisServer::start().await;
    let port = server.port();
    let sink = Sink::counting().await;
    let mut bus = Bus::start(&rules(port, "orders", "[function, audit]", &sink)).await;
    let storm = Storm::of(3_000, 2);
    let publish = move |id: String| async move { publish(port, "orders", &id).await };
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    until("all are in the other stream", async || {
        let there: HashSet<_> = ids(port, "audit").await.into_iter().collect();
        there.len() == storm.messages
    })
    .await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_redis_is_away_and_back_soon_after_it() {
    let server = RedisServer::start().await;
    let port = server.port();
    let proxy = Proxy::start(port);
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), "away", "function", &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        publish(port, "away", &id).await
    })
    .await;
}
