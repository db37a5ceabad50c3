//! From rows of MariaDB through the bus to a function.

use pointsman_integration_tests::mysql::publish;
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out};
use pointsman_test_brokers::MysqlServer;

const TABLE: &str = "shop.orders";

/// A source of a table, whose rows call the function by their own ids.
fn rules(port: u16, sink: &Sink) -> String {
    format!(
        "sources:
  orders:
    mysql-cdc: {{ url: \"mysql://root@127.0.0.1:{port}/shop\", tables: [orders] }}
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

async fn server() -> MysqlServer {
    let server = MysqlServer::start(&[]).await;
    server.ask(
        "",
        "CREATE DATABASE shop; CREATE TABLE shop.orders (id varchar(60) PRIMARY KEY, data json)",
    );
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_mysql_and_the_function_while_both_sides_are_killed() {
    let mut server = server().await;
    let port = server.port();
    let sink = Sink::counting().await;
    let mut bus = Bus::start(&rules(port, &sink)).await;
    let storm = Storm::of(2_000, 2);
    let publish = move |id: String| async move { publish(port, TABLE, &id).await };
    let restart = async || server.restart().await;
    storm.rage(&mut bus, &sink, publish, restart).await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_mysql_is_away_and_back_soon_after_it() {
    let server = server().await;
    let port = server.port();
    let proxy = Proxy::start(port);
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        publish(port, TABLE, &id).await
    })
    .await;
}
