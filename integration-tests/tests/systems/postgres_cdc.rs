//! From rows of PostgreSQL through the bus to a function.

use pointsman_integration_tests::postgres::publish;
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out};
use pointsman_test_brokers::PostgresServer;

/// A source of a table, whose rows call the function by their own ids.
fn rules(port: u16, sink: &Sink) -> String {
    format!(
        "sources:
  orders:
    postgres-cdc: {{ url: \"postgres://postgres@127.0.0.1:{port}/postgres\", tables: [orders], slot: bus }}
    event: {{ id: \"<$.body.after.id>\" }}
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

async fn server() -> PostgresServer {
    let server = PostgresServer::start("wal_level = logical").await;
    server.ask("CREATE TABLE orders (id text PRIMARY KEY, data jsonb)");
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_postgresql_and_the_function_while_both_sides_are_killed() {
    let mut server = server().await;
    let port = server.port();
    let sink = Sink::counting().await;
    let mut bus = Bus::start(&rules(port, &sink)).await;
    let storm = Storm::of(2_000, 2);
    let publish = move |id: String| async move { publish(port, "orders", &id).await };
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_postgresql_is_away_and_back_soon_after_it() {
    let server = server().await;
    let port = server.port();
    let proxy = Proxy::start(port);
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        publish(port, "orders", &id).await
    })
    .await;
}
