//! From an outbox in PostgreSQL through the bus to a function and to a table.

use pointsman_integration_tests::postgres::publish;
use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out, until};
use pointsman_test_brokers::PostgresServer;

/// A source of an outbox, and the function and a table as its targets.
fn rules(port: u16, to: &str, sink: &Sink) -> String {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    format!(
        "sources:
  orders:
    postgres: {{ url: \"{url}\", outbox: {{ table: outbox, order_by: n }}, every: 100ms }}
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
  audit:
    postgres: {{ url: \"{url}\", table: audit, columns: {{ id: <$.id>, type: <$.type> }}, on_conflict: {{ do: nothing }} }}
    delivery: {{ retry: {{ attempts: 100, backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: orders, to: {to} }}
",
        sink.url()
    )
}

async fn server() -> PostgresServer {
    let server = PostgresServer::start("").await;
    server.ask(
        "CREATE TABLE outbox (n bigserial, id text PRIMARY KEY, source text DEFAULT '/test', \
         type text DEFAULT 'order.paid', data jsonb)",
    );
    server.ask("CREATE TABLE audit (id text PRIMARY KEY, type text)");
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_postgres_and_the_function_or_on_the_way_back_while_both_sides_are_killed()
 {
    let mut server = server().await;
    let port = server.port();
    let sink = Sink::counting().await;
    let mut bus = Bus::start(&rules(port, "[function, audit]", &sink)).await;
    let storm = Storm::of(2_000, 2);
    let publish = move |id: String| async move { publish(port, "outbox", &id).await };
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    let rows = |table| server.ask(&format!("SELECT count(*) FROM {table}"));
    assert_eq!(rows("audit"), storm.messages.to_string());
    until("what was stored is deleted", async || rows("outbox") == "0").await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_postgres_is_away_and_back_soon_after_it() {
    let server = server().await;
    let port = server.port();
    let proxy = Proxy::start(port);
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), "function", &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        publish(port, "outbox", &id).await
    })
    .await;
}
