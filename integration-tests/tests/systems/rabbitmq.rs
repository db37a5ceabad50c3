//! From RabbitMQ through the bus to a function and back to RabbitMQ.

use std::collections::HashSet;

use futures::future::join_all;
use lapin::BasicProperties;
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use pointsman_integration_tests::rabbitmq::Client;
use pointsman_integration_tests::{
    Answer, Bus, Caller, Fault, Proxy, Sink, Storm, ride_out, until,
};
use pointsman_test_brokers::RabbitServer;
use tokio::sync::OnceCell;

/// A server for all tests that do not kill it: one takes several seconds to start.
async fn shared() -> &'static RabbitServer {
    static SERVER: OnceCell<RabbitServer> = OnceCell::const_new();
    SERVER
        .get_or_init(async || RabbitServer::start("", "").await)
        .await
}

/// A source of a queue, and the function as its target.
fn rules(port: u16, queue: &str, sink: &Sink) -> String {
    format!(
        "sources:
  orders: {{ rabbitmq: {{ url: \"amqp://127.0.0.1:{port}\", queue: {queue}, prefetch: 200, deduplicate: true }} }}
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
async fn nothing_is_lost_between_rabbitmq_and_the_function_or_on_the_way_back_while_both_sides_are_killed()
 {
    let mut server = RabbitServer::start("", "").await;
    let (sink, client) = (Sink::counting().await, Client::of(&server.url()));
    // Not quorum queues: where RabbitMQ 3.10 is killed soon after its start, one may come back as a
    // follower without a leader, with nothing in it.
    client.make_queue("orders", "classic").await;
    client.make_queue("audit", "classic").await;
    let text = rules(server.port(), "orders", &sink).replace("to: function", "to: [function, audit]").replace(
        "targets:",
        &format!("targets:\n  audit: {{ rabbitmq: {{ url: \"{}\", exchange: \"\", routing_key: audit }} }}", server.url()),
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
    let back = client.drain("audit").await;
    assert_eq!(back.iter().collect::<HashSet<_>>().len(), storm.messages);
    // There nobody deduplicates: what was in flight at any of the kills may be there twice.
    assert!(
        back.len() <= storm.messages + 2 * storm.kills * DEFAULT_CONCURRENCY,
        "{} of {}",
        back.len(),
        storm.messages
    );
}

/// The most deliveries in flight to a target whose rule file does not say.
const DEFAULT_CONCURRENCY: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_quiet_while_rabbitmq_is_away_and_back_soon_after_it() {
    let server = shared().await;
    let client = Client::of(&server.url());
    let faults = [
        Fault::Refuse,
        Fault::Reset,
        Fault::BlackHole,
        Fault::HalfOpen,
    ];
    let outages = faults.into_iter().enumerate().map(|(number, fault)| {
        let (client, upstream, queue) = (
            client.clone(),
            server.port(),
            ["away-0", "away-1", "away-2", "away-3"][number],
        );
        async move {
            client.make_queue(queue, "classic").await;
            let (proxy, sink) = (Proxy::start(upstream), Sink::start().await);
            let bus = Bus::start(&rules(proxy.port(), queue, &sink)).await;
            ride_out(&bus, &proxy, fault, &sink, async |id| {
                client.clone().publish(queue, id).await
            })
            .await;
        }
    });
    join_all(outages).await;
}

#[tokio::test]
async fn a_server_that_has_gone_without_a_word_is_missed() {
    let server = shared().await;
    let (sink, client) = (Sink::start().await, Client::of(&server.url()));
    client.make_queue("stranded", "classic").await;
    let proxy = Proxy::start(server.port());
    let bus = Bus::start(
        &rules(proxy.port(), "stranded", &sink)
            .replace("prefetch: 200", "prefetch: 200, heartbeat: 2s"),
    )
    .await;
    assert!(
        client
            .clone()
            .publish("stranded", "before".to_owned())
            .await
    );
    until("the first has arrived", async || sink.arrived() == 1).await;
    proxy.strand();
    // Until the server has missed us as well it may send this one where nobody is.
    assert!(client.publish("stranded", "after".to_owned()).await);
    until("the next has arrived", async || sink.arrived() == 2).await;
    assert_eq!(bus.counts("all").await["created"], 2);
}

#[tokio::test]
async fn poison_is_a_dead_letter_and_holds_nobody_up() {
    let server = shared().await;
    let (sink, client) = (Sink::start().await, Client::of(&server.url()));
    client.make_queue("poisoned", "quorum").await;
    let mut bus = Bus::start(&rules(server.port(), "poisoned", &sink)).await;
    let structured =
        BasicProperties::default().with_content_type("application/cloudevents+json".into());
    assert!(
        client
            .send("poisoned", structured, "{\"specversion\":")
            .await
    );
    for id in ["1", "2", "3"] {
        assert!(client.clone().publish("poisoned", id.to_owned()).await);
    }
    until("those behind it have arrived", async || sink.arrived() == 3).await;
    until("it is a dead letter", async || bus.dead().await.len() == 1).await;
    assert_eq!(bus.source("orders").await["rejects"], 1);
    // What was not acknowledged would be back in the queue.
    assert!(bus.terminate().await.success());
    assert_eq!(client.waiting("poisoned").await, 0);
}

#[tokio::test]
async fn what_no_queue_takes_is_a_failure_and_goes_out_once_one_does() {
    let server = shared().await;
    let client = Client::of(&server.url());
    let text = format!(
        "targets:
  nowhere:
    rabbitmq: {{ url: \"{}\", exchange: amq.topic, routing_key: \"orders.<$.type>\" }}
    delivery: {{ retry: {{ attempts: 2, backoff: {{ initial: 20ms, max: 50ms }} }} }}
rules:
  all: {{ to: nowhere }}
",
        server.url()
    );
    let bus = Bus::start(&text).await;
    assert_eq!(
        Caller::new()
            .event(&bus.url("/events"), "1", "paid", "{}")
            .await
            .unwrap(),
        202
    );
    until("it is dead", async || bus.counts("all").await["dead"] == 1).await;
    let letter = bus.dead().await.remove(0);
    assert!(
        letter.to_string().contains("NO_ROUTE") || letter.to_string().contains("no queue"),
        "{letter}"
    );
    assert_eq!(bus.counts("all").await["delivered"], 0);

    client.make_queue("paid", "classic").await;
    let channel = client.channel().await.unwrap();
    channel
        .queue_bind(
            "paid".into(),
            "amq.topic".into(),
            "orders.*".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let (status, body) = Caller::new()
        .post_json(&bus.admin_url("/api/v1/dead/redrive"), r#"{"all":true}"#)
        .await
        .unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    until("it is delivered", async || {
        bus.counts("all").await["delivered"] == 1
    })
    .await;
    assert_eq!(client.drain("paid").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_keeps_its_messages_in_the_queue_while_the_function_is_down() {
    let server = shared().await;
    let client = Client::of(&server.url());
    client.make_queue("piped", "quorum").await;
    let port = pointsman_test_brokers::free_port();
    let nobody = Sink::start().await;
    let text = rules(server.port(), "piped", &nobody)
        .replace("rules:", "pipes:")
        .replace(&nobody.url(), &format!("http://127.0.0.1:{port}/"));
    let mut bus = Bus::start(&text).await;
    for number in 0..100 {
        assert!(client.clone().publish("piped", number.to_string()).await);
    }
    until("it has some of them", async || {
        client.waiting("piped").await < 100
    })
    .await;
    // Nothing is stored and nothing acknowledged: a kill costs nothing. What comes back from
    // RabbitMQ 4 is stored first, as it may limit how often.
    bus.kill();
    until("all are in the queue again", async || {
        client.waiting("piped").await == 100
    })
    .await;
    bus.spawn();
    bus.ready().await;
    let sink = Sink::on_port(port, |_| Answer::status(204)).await;
    until("all have arrived", async || sink.arrived() == 100).await;
    let events = stored(&bus).await.unwrap();
    assert!(
        if server.version() < (4, 0) {
            events == 0
        } else {
            events > 0
        },
        "{events}"
    );
    assert!(bus.terminate().await.success());
    assert_eq!(client.waiting("piped").await, 0);
}

/// Events in the journal.
async fn stored(bus: &Bus) -> Option<u64> {
    bus.api("/api/v1/status")
        .await
        .pointer("/totals/events")?
        .as_u64()
}

/// A pipe from a queue to a function at a port where nobody is yet.
fn pipe(server: u16, queue: &str, port: u16) -> String {
    format!(
        "sources:
  orders: {{ rabbitmq: {{ url: \"amqp://127.0.0.1:{server}\", queue: {queue}, prefetch: 200 }} }}
targets:
  function:
    http: {{ url: \"http://127.0.0.1:{port}/\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
pipes:
  all: {{ from: orders, to: function }}
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_a_delivery_limit_loses_nothing_however_often_the_bus_is_restarted() {
    let server = shared().await;
    let client = Client::of(&server.url());
    client.make_limited_queue("limited", 3).await;
    for number in 0..10 {
        assert!(client.clone().publish("limited", number.to_string()).await);
    }
    let port = pointsman_test_brokers::free_port();
    let mut bus = Bus::start(&pipe(server.port(), "limited", port)).await;
    // Each of them gives back what is not acknowledged; the fourth time the server would drop it.
    for restart in 0..6 {
        until("all are with the bus", async || {
            bus.counts("all").await["pending"].as_u64() >= Some(10)
        })
        .await;
        if restart % 2 == 0 {
            bus.kill();
        } else {
            assert!(bus.terminate().await.success());
        }
        bus.spawn();
        bus.ready().await;
    }
    // What a kill parts from its acknowledgement is stored twice.
    until("they are in the journal", async || {
        stored(&bus).await >= Some(10)
    })
    .await;
    assert!(bus.counts("all").await["pending"].as_u64() >= Some(10));
    let log = bus.log();
    assert!(
        log.contains("it has a delivery limit of 3")
            && log.contains("they wait in the journal now"),
        "{log}"
    );

    let sink = Sink::on_port(port, |_| Answer::status(204)).await;
    until("all have arrived", async || sink.arrived() == 10).await;
    assert_eq!(bus.counts("all").await["dead"], 0);
    assert!(bus.terminate().await.success());
    assert_eq!(client.waiting("limited").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_limit_of_a_policy_loses_nothing_either() {
    let server = shared().await;
    let client = Client::of(&server.url());
    let port = pointsman_test_brokers::free_port();
    let text = pipe(server.port(), "governed", port).replace(
        "queue: governed",
        "queue: governed, declare: { type: quorum }",
    );
    let _set = server.ctl(&[
        "set_policy",
        "governed",
        "^governed$",
        r#"{"delivery-limit": 3}"#,
        "--apply-to",
        "queues",
    ]);
    let mut bus = Bus::start(&text).await;
    for number in 0..10 {
        assert!(client.clone().publish("governed", number.to_string()).await);
    }
    for _ in 0..4 {
        until("all are with the bus", async || {
            bus.counts("all").await["pending"].as_u64() >= Some(10)
        })
        .await;
        bus.kill();
        bus.spawn();
        bus.ready().await;
    }
    until("they are in the journal", async || {
        stored(&bus).await >= Some(10)
    })
    .await;
    let sink = Sink::on_port(port, |_| Answer::status(204)).await;
    until("all have arrived", async || sink.arrived() == 10).await;
    assert!(bus.terminate().await.success());
    assert_eq!(client.waiting("governed").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_timeout_takes_nothing_from_a_pipe_whose_target_is_down() {
    let server = RabbitServer::start(
        "consumer_timeout = 1500",
        "{rabbit, [{channel_tick_interval, 200}]}",
    )
    .await;
    let client = Client::of(&server.url());
    client.make_limited_queue("slow", 2).await;
    for number in 0..10 {
        assert!(client.clone().publish("slow", number.to_string()).await);
    }
    let port = pointsman_test_brokers::free_port();
    let mut bus = Bus::start(&pipe(server.port(), "slow", port)).await;
    until("they are in the journal", async || {
        stored(&bus).await == Some(10)
    })
    .await;
    let log = bus.log();
    assert!(log.contains("consumer_timeout of 1.5s"), "{log}");
    // From then on it gives up its hold in time.
    until("it is connected again", async || {
        bus.source("orders").await["state"] == "running"
    })
    .await;
    assert!(client.clone().publish("slow", "late".to_owned()).await);
    until("it is in the journal, too", async || {
        stored(&bus).await == Some(11)
    })
    .await;
    assert_eq!(
        bus.log().matches("consumer_timeout of").count(),
        1,
        "{}",
        bus.log()
    );
    let sink = Sink::on_port(port, |_| Answer::status(204)).await;
    until("all have arrived", async || sink.arrived() == 11).await;
    assert!(bus.terminate().await.success());
    assert_eq!(client.waiting("slow").await, 0);
}
