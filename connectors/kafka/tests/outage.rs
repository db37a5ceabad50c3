//! A server that is killed, and one that hangs.

use std::collections::BTreeMap;

use pointsman_schemas::Class;
use pointsman_test_brokers::{Fault, Proxy, free_port};

use super::target::{service, write};
use super::*;
use crate::SourceState;
use crate::suite::{Log, turns};

/// How long a source may take to be back.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_server_that_was_killed_is_read_and_written_on() {
    let (log, _in_force) = Log::capture();
    let mut server = KafkaServer::start("", KafkaListener::default()).await;
    let topics = Topics::at(&server.address(), &[2]).await;
    let (mut source, link) = open(&topics.settings(json!({}))).await.unwrap();
    let target = service(&json!({ "brokers": topics.brokers, "topic": topics.name() })).await;
    assert_eq!(write(&target, "1", &[]).await.class, Class::Delivered);
    let held = take(&mut *source, 1).await;
    turns(&link, SourceState::Running).await;
    drop(log.lines());

    server.kill();
    store(held).await;
    turns(&link, SourceState::Waiting).await;
    let lost = write(&target, "2", &[]).await;
    assert!(
        [Class::Unavailable, Class::Failed].contains(&lost.class),
        "{lost:?}"
    );
    sleep(Duration::from_secs(11)).await;
    let lines = log.lines();
    let told = lines
        .iter()
        .filter(|line| line.contains("the source is down"));
    assert!((1..=3).contains(&told.count()), "{lines:#?}");

    server.restart().await;
    let back = Instant::now();
    while write(&target, "3", &[]).await.class != Class::Delivered {
        assert!(back.elapsed() < BACK_WITHIN);
    }
    let mut times = BTreeMap::<_, usize>::new();
    while !times.contains_key("3") {
        for message in take(&mut *source, 1).await {
            if let Some(Arrival::Event(event)) = message.arrivals.first() {
                *times.entry(event.id().to_owned()).or_default() += 1;
            }
            store(vec![message]).await;
        }
    }
    assert!(back.elapsed() < BACK_WITHIN, "{:?}", back.elapsed());
    assert!(!times.contains_key("1"), "it was settled: {times:?}");
    turns(&link, SourceState::Running).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_and_read_on() {
    let port = free_port();
    let proxy = Proxy::start(port);
    let listener = KafkaListener {
        advertised: Some(proxy.port()),
        port: Some(port),
        ..KafkaListener::default()
    };
    let _server = KafkaServer::start("", listener).await;
    let brokers = format!("127.0.0.1:{}", proxy.port());
    let topics = Topics::at(&brokers, &[1]).await;
    let (mut source, link) = open(&topics.settings(json!({}))).await.unwrap();
    topics.write("k", "0").await;
    let held = take(&mut *source, 1).await;
    turns(&link, SourceState::Running).await;
    proxy.set(Fault::BlackHole);
    turns(&link, SourceState::Waiting).await;
    // The group has given its partitions up meanwhile: what was in hand comes again.
    sleep(Duration::from_secs(5)).await;
    store(held).await;
    proxy.set(Fault::None);
    let back = Instant::now();
    topics.write("k", "1").await;
    let mut found = Vec::new();
    while !found.contains(&"1".to_owned()) {
        let messages = take(&mut *source, 1).await;
        found.extend(bodies(&messages));
        store(messages).await;
    }
    assert!(back.elapsed() < BACK_WITHIN, "{:?}", back.elapsed());
    topics.commits(&[(0, 2)]).await;
    turns(&link, SourceState::Running).await;
}
