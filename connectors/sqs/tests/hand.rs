//! What is in hand: extended, deleted, given back, and bounded.

use std::collections::BTreeSet;

use super::*;

/// The shortest time in hand.
const SHORT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_message_in_hand_is_kept_from_others_for_as_long_as_it_takes() {
    let queue = Queue::new().await;
    let settings = queue.settings(json!({ "visibility": "10s" }));
    queue.send("a", &[]).await;
    let (mut first, _) = open(&settings).await.unwrap();
    let held = take(&mut *first, 1).await;
    // Its source goes, and whoever stores it does not.
    drop(first);
    let (mut second, _) = open(&settings).await.unwrap();
    assert!(next_within(&mut *second, SHORT + SHORT / 2).await.is_none());
    assert_eq!(queue.left().await, 1);
    settle(held, &Verdict::Stored).await;
    assert_eq!(queue.left().await, 0, "told once the queue has been");
}

#[tokio::test]
async fn what_cannot_be_stored_comes_again_after_the_time_asked_for() {
    let queue = Queue::new().await;
    let (mut source, _) = open(&queue.settings(json!({}))).await.unwrap();
    for (verdict, at_least, at_most) in [
        (Verdict::Later(Duration::from_secs(2)), 1, 10),
        (Verdict::Later(Duration::ZERO), 0, 10),
        (Verdict::Failed, 4, 15),
    ] {
        queue.send("a", &[]).await;
        let taken = take(&mut *source, 1).await;
        let told = Instant::now();
        settle(taken, &verdict).await;
        let again = take(&mut *source, 1).await;
        let after = told.elapsed();
        let range = Duration::from_secs(at_least)..Duration::from_secs(at_most);
        assert!(range.contains(&after), "{verdict:?}: {after:?}");
        settle(again, &Verdict::Stored).await;
        assert_eq!(queue.left().await, 0);
    }
}

#[tokio::test]
async fn what_nobody_acknowledges_is_given_back() {
    let queue = Queue::new().await;
    queue.send("a", &[]).await;
    let (mut source, _) = open(&queue.settings(json!({}))).await.unwrap();
    let dropped = Instant::now();
    drop(take(&mut *source, 1).await);
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    assert!(dropped.elapsed() < SHORT, "{:?}", dropped.elapsed());
}

#[tokio::test]
async fn a_full_hand_stops_the_flow_and_loses_nothing() {
    let queue = Queue::new().await;
    for number in 0..60 {
        queue.send(&number.to_string(), &[]).await;
    }
    let settings = queue.settings(json!({ "prefetch": 25 }));
    let (mut source, _) = open(&settings).await.unwrap();
    let mut taken = Vec::new();
    while let Some(batch) = next_within(&mut *source, Duration::from_secs(2)).await {
        taken.extend(batch.unwrap().messages);
    }
    assert!((16..=25).contains(&taken.len()), "{}", taken.len());
    // To two calls at once moto may hand the same message.
    let mut found: BTreeSet<String> = bodies(&taken).into_iter().collect();
    settle(taken, &Verdict::Stored).await;
    while found.len() < 60 {
        let more = take(&mut *source, 1).await;
        found.extend(bodies(&more));
        settle(more, &Verdict::Stored).await;
    }
    let expect = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(found, expect);
    queue.drained().await;
}

#[tokio::test]
async fn a_group_comes_in_its_order_and_waits_for_what_is_in_hand() {
    let queue = Queue::fifo().await;
    let (mut source, _) = open(&queue.settings(json!({}))).await.unwrap();
    // One alone: of several that are given back together, moto hands out the last one first.
    queue.send_in(Some("a"), "a0", &[]).await;
    let first = take(&mut *source, 1).await;
    for number in 1..15 {
        queue.send_in(Some("a"), &format!("a{number}"), &[]).await;
    }
    queue.send_in(Some("b"), "b0", &[]).await;
    let other = take(&mut *source, 1).await;
    assert_eq!(bodies(&other), ["b0"], "another group goes on");
    settle(other, &Verdict::Stored).await;
    // It comes again, and before what is behind it.
    settle(first, &Verdict::Later(Duration::from_secs(1))).await;
    let mut found = Vec::new();
    while found.len() < 15 {
        let more = take(&mut *source, 1).await;
        found.extend(bodies(&more));
        settle(more, &Verdict::Stored).await;
    }
    let expect: Vec<_> = (0..15).map(|number| format!("a{number}")).collect();
    assert_eq!(found, expect);
    queue.drained().await;
}
