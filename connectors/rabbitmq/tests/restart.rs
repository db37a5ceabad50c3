//! A server that is killed, and one that closes channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pointsman_schemas::Class;
use tokio::time::{sleep, timeout};

use super::source::{body, ends, event, take};
use super::target::{publish, service};
use super::*;
use crate::{TargetService, Verdict};

/// How many messages go through while the server is killed.
const MESSAGES: usize = 1_500;

/// How often it is.
const KILLS: usize = 2;

/// How many may be in hand at once.
const PREFETCH: usize = 100;

/// How many are published at once.
const PUBLISHERS: usize = 20;

/// Publishes as the dispatcher does: until it is delivered.
async fn publish_all(service: TargetService, next: Arc<AtomicUsize>) {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= MESSAGES {
            return;
        }
        while publish(&service, &n.to_string(), &[]).await.class != Class::Delivered {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Reads as the owner of a source does: what ends is opened again. Tells how often each message
/// came, and how often the source ended.
async fn read_all(settings: Value, read: Arc<AtomicUsize>) -> (BTreeMap<String, usize>, usize) {
    let (mut came, mut ends) = (BTreeMap::new(), 0);
    while came.len() < MESSAGES {
        let Ok((mut source, _link)) = open(&settings).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        while came.len() < MESSAGES
            && let Ok(batch) = source.next().await
        {
            for message in batch.messages {
                *came.entry(event(&message).id().to_string()).or_default() += 1;
                message.acknowledgement.send(Verdict::Stored).await;
            }
            read.store(came.len(), Ordering::Relaxed);
        }
        ends += 1;
    }
    (came, ends)
}

#[tokio::test]
async fn nothing_is_missing_when_the_server_is_killed_and_channels_are_closed() {
    let closing = "{rabbit, [{channel_tick_interval, 200}]}";
    let mut server = RabbitServer::start("consumer_timeout = 4000", closing).await;

    // A message that is held for too long closes the channel, and comes again on the next one.
    let queue = Queue::at(&server.url(), "quorum", &[]).await;
    let settings = queue.settings(json!({}));
    queue.publish("slow", plain()).await;
    let (mut source, _link) = open(&settings).await.unwrap();
    let held = take(&mut *source, 1).await.remove(0);
    let why = ends(&mut *source).await;
    assert!(why.contains("consumer_timeout of 4s"), "{why}");
    let (mut source, _link) = open(&settings).await.unwrap();
    let again = take(&mut *source, 1).await.remove(0);
    assert_eq!(body(&event(&again)), "slow");
    // The old channel's acknowledgement reaches nobody; of the new channel it would be a mistake
    // that closes it.
    held.acknowledgement.send(Verdict::Stored).await;
    again.acknowledgement.send(Verdict::Stored).await;
    queue.publish("next", plain()).await;
    let next = take(&mut *source, 1).await.remove(0);
    assert_eq!(body(&event(&next)), "next");
    next.acknowledgement.send(Verdict::Stored).await;
    drop(source);

    let queue = Queue::at(&server.url(), "classic", &[]).await;
    let publisher = service(&json!({ "url": queue.url, "routing_key": queue.name })).await;
    let (next, read) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..PUBLISHERS {
        work.spawn(publish_all(publisher.clone(), Arc::clone(&next)));
    }
    let reader = tokio::spawn(read_all(
        queue.settings(json!({ "prefetch": PREFETCH })),
        Arc::clone(&read),
    ));
    for kill in 1..=KILLS {
        let are_read = async {
            while read.load(Ordering::Relaxed) < kill * MESSAGES / (KILLS + 2) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, are_read).await.expect("messages are read");
        server.kill();
        server.restart().await;
    }
    let (came, ends) = timeout(LONG, reader)
        .await
        .expect("everything is read")
        .unwrap();
    timeout(LONG, work.join_all())
        .await
        .expect("everything is published");
    assert_eq!(came.len(), MESSAGES);
    assert!(ends > KILLS, "{ends} ends");
    // How many came again is the server's: when it is killed it forgets acknowledgements that it
    // has not written yet.
    println!(
        "{} came again after {ends} ends",
        came.values().sum::<usize>() - MESSAGES
    );
}
