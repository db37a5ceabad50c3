//! From NATS through the bus to a function and back to NATS.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::join_all;
use pointsman_integration_tests::nats::{jetstream, make_stream, publish};
use pointsman_integration_tests::{Answer, Bus, Fault, Proxy, Sink, Storm, ride_out, until};
use pointsman_test_brokers::{NatsRelease, NatsServer, nats_tests};

/// A source of a stream, and the function as its target.
fn rules(port: u16, stream: &str, sink: &Sink) -> String {
    format!(
        "sources:
  orders: {{ nats: {{ url: \"nats://127.0.0.1:{port}\", stream: {stream}, consumer: pointsman, create: {{}} }} }}
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

nats_tests!(
    nothing_is_lost_between_nats_and_the_function_or_on_the_way_back_while_both_sides_are_killed,
    the_bus_is_quiet_while_nats_is_away_and_back_soon_after_it,
    a_server_that_has_gone_without_a_word_is_missed,
    poison_is_a_dead_letter_and_holds_nobody_up,
    a_consumer_that_is_deleted_underneath_costs_nothing,
    a_pipe_takes_longer_than_the_server_waits_and_still_delivers_once,
    what_becomes_of_a_stream_while_the_bus_is_off_is_told,
);

async fn nothing_is_lost_between_nats_and_the_function_or_on_the_way_back_while_both_sides_are_killed(
    release: NatsRelease,
) {
    let mut server = NatsServer::start(release).await;
    let (sink, jetstream) = (Sink::counting().await, jetstream(server.port()).await);
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    make_stream(&jetstream, "AUDIT", "audit.>").await;
    let text = rules(server.port(), "ORDERS", &sink).replace("to: function", "to: [function, audit]").replace(
        "targets:",
        &format!("targets:\n  audit: {{ nats: {{ url: \"nats://127.0.0.1:{}\", subject: \"audit.<$.type>\" }} }}", server.port()),
    );
    let mut bus = Bus::start(&text).await;

    let storm = Storm::of(6_000, 3);
    let publisher = jetstream.clone();
    let publish = move |id| publish(publisher.clone(), "orders.paid", id);
    let restart = async || {
        server.kill();
        server.restart().await;
    };
    storm.rage(&mut bus, &sink, publish, restart).await;
    let audit = jetstream.get_stream("AUDIT").await.unwrap();
    // What was sent there twice had the same id, and is there once.
    assert_eq!(audit.cached_info().state.messages, storm.messages as u64);
}

async fn the_bus_is_quiet_while_nats_is_away_and_back_soon_after_it(release: NatsRelease) {
    let server = NatsServer::start(release).await;
    let jetstream = jetstream(server.port()).await;
    let faults = [
        Fault::Refuse,
        Fault::Reset,
        Fault::BlackHole,
        Fault::HalfOpen,
    ];
    let outages = faults.into_iter().enumerate().map(|(number, fault)| {
        let (jetstream, upstream) = (jetstream.clone(), server.port());
        let (stream, subject) = (
            format!("S{number}"),
            ["away.0", "away.1", "away.2", "away.3"][number],
        );
        async move {
            make_stream(&jetstream, &stream, subject).await;
            let (proxy, sink) = (Proxy::start(upstream), Sink::start().await);
            let bus = Bus::start(&rules(proxy.port(), &stream, &sink)).await;
            ride_out(&bus, &proxy, fault, &sink, async |id| {
                publish(jetstream.clone(), subject, id).await
            })
            .await;
        }
    });
    join_all(outages).await;
}

async fn a_server_that_has_gone_without_a_word_is_missed(release: NatsRelease) {
    let server = NatsServer::start(release).await;
    let (sink, jetstream) = (Sink::start().await, jetstream(server.port()).await);
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    let proxy = Proxy::start(server.port());
    let bus = Bus::start(&rules(proxy.port(), "ORDERS", &sink)).await;
    assert!(publish(jetstream.clone(), "orders.paid", "before".to_owned()).await);
    until("the first has arrived", async || sink.arrived() == 1).await;
    proxy.strand();
    assert!(publish(jetstream, "orders.paid", "after".to_owned()).await);
    until("the next has arrived", async || sink.arrived() == 2).await;
    assert_eq!(bus.counts("all").await["created"], 2);
}

async fn poison_is_a_dead_letter_and_holds_nobody_up(release: NatsRelease) {
    let server = NatsServer::start(release).await;
    let (sink, jetstream) = (Sink::start().await, jetstream(server.port()).await);
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    let bus = Bus::start(&rules(server.port(), "ORDERS", &sink)).await;
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/cloudevents+json");
    jetstream
        .publish_with_headers("orders.broken", headers, "{\"specversion\":".into())
        .await
        .unwrap()
        .await
        .unwrap();
    for id in ["1", "2", "3"] {
        assert!(publish(jetstream.clone(), "orders.paid", id.to_owned()).await);
    }
    until("those behind it have arrived", async || sink.arrived() == 3).await;
    until("it is a dead letter", async || bus.dead().await.len() == 1).await;
    // Told so once, it is never sent again.
    let stream = jetstream.get_stream("ORDERS").await.unwrap();
    until("nothing is left to acknowledge", async || {
        let info = stream.consumer_info("pointsman").await.unwrap();
        (info.num_ack_pending, info.num_pending) == (0, 0)
    })
    .await;
    let info = stream.consumer_info("pointsman").await.unwrap();
    assert_eq!(
        (info.delivered.consumer_sequence, info.num_redelivered),
        (4, 0)
    );
}

async fn a_consumer_that_is_deleted_underneath_costs_nothing(release: NatsRelease) {
    let server = NatsServer::start(release).await;
    let (sink, jetstream) = (Sink::start().await, jetstream(server.port()).await);
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    let bus = Bus::start(&rules(server.port(), "ORDERS", &sink)).await;
    let stream = jetstream.get_stream("ORDERS").await.unwrap();
    for round in 1..=3 {
        for number in 0..200 {
            assert!(
                publish(
                    jetstream.clone(),
                    "orders.paid",
                    format!("{round}-{number}")
                )
                .await
            );
            if number == 100 {
                // Of this server some versions say that they failed although they have done it.
                let _ = stream.delete_consumer("pointsman").await;
            }
        }
        until("all have arrived", async || sink.arrived() == round * 200).await;
    }
    assert!(
        sink.ids().values().all(|times| *times == 1),
        "a new consumer brought again what was stored"
    );
    assert_eq!(bus.counts("all").await["created"], 600);
}

async fn a_pipe_takes_longer_than_the_server_waits_and_still_delivers_once(release: NatsRelease) {
    let server = NatsServer::start(release).await;
    let slow = Sink::answering(|_| Answer {
        after: Duration::from_millis(2_500),
        ..Answer::status(204)
    })
    .await;
    let jetstream = jetstream(server.port()).await;
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    let text = rules(server.port(), "ORDERS", &slow)
        .replace("rules:", "pipes:")
        .replace("create: {}", "create: { ack_wait: 1s }");
    let _bus = Bus::start(&text).await;
    for number in 0..20 {
        assert!(publish(jetstream.clone(), "orders.paid", number.to_string()).await);
    }
    let stream = jetstream.get_stream("ORDERS").await.unwrap();
    until("all are acknowledged", async || {
        let info = stream.consumer_info("pointsman").await;
        info.is_ok_and(|info| {
            (
                info.num_ack_pending,
                info.num_pending,
                info.ack_floor.stream_sequence,
            ) == (0, 0, 20)
        })
    })
    .await;
    assert!(
        slow.ids().values().all(|times| *times == 1),
        "{:?}",
        slow.ids()
    );
}

async fn what_becomes_of_a_stream_while_the_bus_is_off_is_told(release: NatsRelease) {
    let server = NatsServer::start(release).await;
    let (sink, jetstream) = (Sink::start().await, jetstream(server.port()).await);
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    let mut bus = Bus::start(&rules(server.port(), "ORDERS", &sink)).await;
    let publish = async |ids: std::ops::Range<usize>| {
        for id in ids {
            assert!(publish(jetstream.clone(), "orders.paid", id.to_string()).await);
        }
    };
    publish(0..10).await;
    until("the first have arrived", async || sink.arrived() == 10).await;

    // Some are removed unread.
    assert!(bus.terminate().await.success());
    publish(10..30).await;
    jetstream
        .get_stream("ORDERS")
        .await
        .unwrap()
        .purge()
        .keep(5)
        .await
        .unwrap();
    bus.spawn();
    bus.ready().await;
    until("what was left has arrived", async || sink.arrived() == 15).await;
    assert_eq!(bus.source("orders").await["skipped"], 15);
    assert!(
        bus.log()
            .contains("messages 11 to 25 were removed from the stream ORDERS"),
        "{}",
        bus.log()
    );

    // It is another one.
    bus.kill();
    jetstream.delete_stream("ORDERS").await.unwrap();
    make_stream(&jetstream, "ORDERS", "orders.>").await;
    publish(30..33).await;
    bus.spawn();
    bus.ready().await;
    until("what is in the new one has arrived", async || {
        sink.arrived() == 18
    })
    .await;
    assert!(
        bus.log()
            .contains("the stream ORDERS was deleted and made anew"),
        "{}",
        bus.log()
    );
}
