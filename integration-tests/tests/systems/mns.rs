//! From a queue of MNS through the bus to a function and to another queue.

use std::collections::HashSet;
use std::time::Duration;

use pointsman_integration_tests::{Bus, Fault, Proxy, Sink, Storm, ride_out, until};
use pointsman_test_brokers::{MNS_KEYS, MnsServer};

/// For how long the queue hides what it hands out.
const HIDDEN: Duration = Duration::from_secs(10);

/// A source of a queue, and the function as its target.
fn rules(port: u16, queue: &str, sink: &Sink) -> String {
    let (id, secret) = MNS_KEYS;
    let keys = format!("{{ access_key: {id}, secret_key: {secret} }}");
    let endpoint = format!("http://127.0.0.1:{port}");
    format!(
        "sources:
  orders:
    mns: {{ queue: {queue}, endpoint: \"{endpoint}\", credentials: {keys}, visibility: 10s }}
targets:
  function:
    http: {{ url: \"{}\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
  audit:
    mns: {{ queue: audit, endpoint: \"{endpoint}\", credentials: {keys}, encoding: text }}
rules:
  all: {{ from: orders, to: function }}
",
        sink.url()
    )
}

fn event(id: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"order.paid","data":{}}}"#,
        pointsman_integration_tests::storm::DATA
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_mns_and_the_function_or_on_the_way_back_while_the_bus_is_killed() {
    let server = std::sync::Arc::new(MnsServer::start().await);
    server.make_queue("orders", HIDDEN);
    server.make_queue("audit", HIDDEN);
    let sink = Sink::counting().await;
    let text =
        rules(server.port(), "orders", &sink).replace("to: function", "to: [function, audit]");
    let mut bus = Bus::start(&text).await;
    let storm = Storm {
        messages: 2_000,
        kills: 3,
    };
    let of = std::sync::Arc::clone(&server);
    let publish = move |id: String| {
        let server = std::sync::Arc::clone(&of);
        async move {
            server.send("orders", &event(&id));
            true
        }
    };
    storm.rage(&mut bus, &sink, publish, async || {}).await;
    until("everything is deleted", async || {
        server.messages("orders").is_empty()
    })
    .await;
    let ids = || -> HashSet<String> {
        let sent = server.messages("audit").into_iter();
        sent.map(|message| {
            let event: serde_json::Value =
                serde_json::from_str(&message.body).expect("it is an event");
            event["id"].as_str().expect("it has an id").to_owned()
        })
        .collect()
    };
    until("all are in the other queue", async || {
        ids().len() == storm.messages
    })
    .await;
    assert!(bus.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_mns_is_away_and_back_soon_after_it() {
    let server = MnsServer::start().await;
    server.make_queue("away", HIDDEN);
    let proxy = Proxy::start(server.port());
    let sink = Sink::start().await;
    let bus = Bus::start(&rules(proxy.port(), "away", &sink)).await;
    ride_out(&bus, &proxy, Fault::Refuse, &sink, async |id| {
        server.send("away", &event(&id));
        true
    })
    .await;
}
