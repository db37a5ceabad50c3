//! A server that refuses, and one that hangs.

use pointsman_test_brokers::{Fault, Proxy};

use super::*;
use crate::SourceState;
use crate::suite::{Log, turns};

#[tokio::test]
async fn a_server_that_refuses_ends_the_source_and_what_is_in_hand_is_settled_after_it() {
    let proxy = Proxy::start(server().await.port());
    let queue = Queue::new().await;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let settings = queue.settings(json!({ "endpoint": endpoint }));
    queue.send("a", &[]).await;
    let (mut source, _) = open(&settings).await.unwrap();
    let held = take(&mut *source, 1).await;
    proxy.set(Fault::Refuse);
    let ended = next_within(&mut *source, LONG).await.unwrap().unwrap_err();
    let told = ended.to_string();
    assert!(
        told.contains("cannot receive from the queue") && told.contains(&queue.name),
        "{told}"
    );
    drop(source);
    assert!(open(&settings).await.is_err());
    let settling = tokio::spawn(async move { settle(held, &Verdict::Stored).await });
    proxy.set(Fault::None);
    settling.await.unwrap();
    let (mut source, _) = open(&settings).await.unwrap();
    queue.send("b", &[]).await;
    // Of what could not be deleted in time nobody says that it comes only once.
    let mut found = Vec::new();
    while !found.contains(&"b".to_owned()) {
        let more = take(&mut *source, 1).await;
        found.extend(bodies(&more));
        settle(more, &Verdict::Stored).await;
    }
    queue.drained().await;
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_quietly_and_read_on() {
    let (log, _in_force) = Log::capture();
    let proxy = Proxy::start(server().await.port());
    let queue = Queue::new().await;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let settings = queue.settings(json!({ "endpoint": endpoint }));
    let (mut source, link) = open(&settings).await.unwrap();
    queue.send("a", &[]).await;
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    drop(log.lines());
    proxy.set(Fault::BlackHole);
    turns(&link, SourceState::Waiting).await;
    sleep(Duration::from_secs(4)).await;
    proxy.set(Fault::None);
    turns(&link, SourceState::Running).await;
    let lines = log.lines();
    let down = lines.iter().filter(|line| line.contains("is down"));
    assert!((1..=2).contains(&down.count()), "{lines:#?}");
    queue.send("b", &[]).await;
    let mut found = Vec::new();
    while !found.contains(&"b".to_owned()) {
        match next_within(&mut *source, LONG).await.unwrap() {
            Ok(batch) => {
                found.extend(bodies(&batch.messages));
                settle(batch.messages, &Verdict::Stored).await;
            }
            // The call that hung: its owner opens another.
            Err(_) => source = open(&settings).await.unwrap().0,
        }
    }
    queue.drained().await;
}
