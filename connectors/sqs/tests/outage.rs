//! A server that refuses, and one that hangs.

use pointsman_test_brokers::{Fault, Proxy};

use super::*;
use crate::suite::{Log, hangs, read_on};

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
    hangs(&proxy, &link, &log, Duration::from_secs(4)).await;
    queue.send("b", &[]).await;
    let again = async || open(&settings).await.unwrap().0;
    read_on(source, again, "b").await;
    queue.drained().await;
}
