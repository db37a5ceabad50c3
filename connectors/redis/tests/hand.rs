//! What is in hand: extended, acknowledged, given back, claimed from others, and bounded.

use super::*;

/// The shortest time that entries are kept from others for.
const VISIBILITY: Duration = Duration::from_secs(10);

fn settings(stream: &Stream, more: Value) -> Value {
    with(stream.settings(json!({ "visibility": "10s" })), more)
}

#[tokio::test]
async fn an_entry_in_hand_is_kept_from_others_for_as_long_as_it_is() {
    let stream = Stream::new().await;
    stream.add("a").await;
    let (mut first, _) = open(&settings(&stream, json!({}))).await.unwrap();
    let held = take(&mut *first, 1).await;
    // Its source goes, and whoever stores it does not.
    drop(first);
    let (mut second, _) = open(&settings(&stream, json!({}))).await.unwrap();
    // Extended 3.3 s after it came: without that it would be another's now.
    sleep(Duration::from_secs(4)).await;
    let pending: Vec<(String, String, u64, u64)> = stream.run("XPENDING orders g - + 1").await;
    assert!(pending[0].2 < 3_000, "{pending:?}");
    assert_eq!(pending[0].3, 1, "which does not count as handed out");
    let others = next_within(&mut *second, Duration::from_millis(100)).await;
    assert!(others.is_none(), "{others:?}");
    settle(held, &Verdict::Stored).await;
    assert_eq!(stream.pending().await, 0);
}

#[tokio::test]
async fn what_another_left_is_claimed_once_its_time_is_over() {
    let stream = Stream::new().await;
    let (mut source, _) = open(&settings(&stream, json!({}))).await.unwrap();
    for text in ["a", "b"] {
        stream.add(text).await;
    }
    let _: Reply = stream
        .run("XREADGROUP GROUP g other COUNT 2 STREAMS orders >")
        .await;
    let none = next_within(&mut *source, Duration::from_millis(1_500)).await;
    assert!(none.is_none(), "{none:?}");
    stream.age(VISIBILITY).await;
    let claimed = take(&mut *source, 2).await;
    assert_eq!(bodies(&claimed), ["{\"n\":\"a\"}", "{\"n\":\"b\"}"]);
    settle(claimed, &Verdict::Stored).await;
    stream.drained().await;
}

#[tokio::test]
async fn what_another_left_and_somebody_deleted_is_told() {
    let stream = Stream::new().await;
    let (mut source, link) = open(&settings(&stream, json!({}))).await.unwrap();
    let id = stream.add("a").await;
    let _: Reply = stream
        .run("XREADGROUP GROUP g other STREAMS orders >")
        .await;
    stream.age(VISIBILITY).await;
    stream.run::<u64>(&format!("XDEL orders {id}")).await;
    stream.add("b").await;
    let left = take(&mut *source, 1).await;
    assert_eq!(bodies(&left), ["{\"n\":\"b\"}"]);
    let until = Instant::now() + LONG;
    while link.status().skipped == 0 {
        assert!(Instant::now() < until);
        let _ = next_within(&mut *source, Duration::from_millis(100)).await;
    }
    assert_eq!(link.status().skipped, 1);
}

#[tokio::test]
async fn what_cannot_be_stored_comes_again_after_the_time_asked_for_and_is_not_counted() {
    let stream = Stream::new().await;
    let (mut source, _) = open(&settings(&stream, json!({}))).await.unwrap();
    for (verdict, at_least) in [
        (Verdict::Later(Duration::from_secs(2)), 2),
        (Verdict::Later(Duration::ZERO), 1),
        (Verdict::Failed, 5),
    ] {
        stream.add("a").await;
        let taken = take(&mut *source, 1).await;
        let told = Instant::now();
        settle(taken, &verdict).await;
        let again = take(&mut *source, 1).await;
        let after = told.elapsed() + Duration::from_millis(100);
        let range = Duration::from_secs(at_least)..Duration::from_secs(at_least + 8);
        assert!(range.contains(&after), "{verdict:?}: {after:?}");
        assert_eq!(stream.deliveries().await, 1, "{verdict:?}");
        settle(again, &Verdict::Stored).await;
        assert_eq!(stream.pending().await, 0);
    }
    // Nobody says anything of it.
    stream.add("a").await;
    drop(take(&mut *source, 1).await);
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    stream.drained().await;
}

/// What comes once it has been idle for long enough; whoever forgot it may extend it meanwhile.
async fn claimed(stream: &Stream, source: &mut dyn Source) -> Vec<crate::Message> {
    for _ in 0..20 {
        stream.age(VISIBILITY).await;
        if let Some(batch) = next_within(source, Duration::from_millis(1_500)).await {
            return batch.unwrap().messages;
        }
    }
    panic!("nothing is claimed")
}

#[tokio::test]
async fn an_entry_that_ends_whoever_has_it_is_a_dead_letter() {
    let stream = Stream::new().await;
    let settings = settings(&stream, json!({ "max_deliveries": 3 }));
    let (mut source, _) = open(&settings).await.unwrap();
    stream.add("poison").await;
    let _: Reply = stream
        .run("XREADGROUP GROUP g other STREAMS orders >")
        .await;
    for expect in [2, 3] {
        let taken = claimed(&stream, &mut *source).await;
        assert_eq!(bodies(&taken), ["{\"n\":\"poison\"}"]);
        assert_eq!(stream.deliveries().await, expect);
        // As after a crash: nobody gives it back.
        std::mem::forget(taken);
    }
    let mut taken = claimed(&stream, &mut *source).await;
    let reject = taken[0].rejects.pop().unwrap();
    assert_eq!(&reject.raw[..], b"{\"n\":\"poison\"}");
    assert!(
        reject.reason.contains("handed out 4 times"),
        "{}",
        reject.reason
    );
    settle(taken, &Verdict::Stored).await;
    stream.drained().await;
}

#[tokio::test]
async fn a_full_hand_stops_the_flow_and_loses_nothing() {
    let stream = Stream::new().await;
    for number in 0..700 {
        stream.add(&number.to_string()).await;
    }
    let (mut source, link) = open(&settings(&stream, json!({ "prefetch": 512 })))
        .await
        .unwrap();
    let mut taken = take(&mut *source, 512).await;
    assert_eq!(taken.len(), 512);
    let more = next_within(&mut *source, Duration::from_millis(300)).await;
    assert!(more.is_none(), "{more:?}");
    assert_eq!(stream.pending().await, 512);
    let mut found = Vec::new();
    while found.len() < 700 {
        if taken.is_empty() {
            taken = take(&mut *source, 1).await;
        }
        found.extend(bodies(&taken));
        settle(std::mem::take(&mut taken), &Verdict::Stored).await;
    }
    let expect: Vec<_> = (0..700)
        .map(|number| format!("{{\"n\":\"{number}\"}}"))
        .collect();
    assert_eq!(found, expect, "each once, in the stream's order");
    stream.drained().await;
    assert_eq!(link.status().skipped, 0);
}

#[tokio::test]
async fn a_source_that_is_dropped_while_it_waits_takes_nothing_more() {
    let stream = Stream::new().await;
    for _ in 0..5 {
        let (mut source, _) = open(&settings(&stream, json!({}))).await.unwrap();
        let none = next_within(&mut *source, Duration::from_millis(50)).await;
        assert!(none.is_none());
        drop(source);
    }
    // Their connections are closed.
    let until = Instant::now() + LONG;
    loop {
        let clients: String = stream.run("CLIENT LIST").await;
        if !clients.contains("cmd=xreadgroup") {
            break;
        }
        assert!(Instant::now() < until, "{clients}");
        sleep(Duration::from_millis(10)).await;
    }
    stream.add("a").await;
    assert_eq!(stream.pending().await, 0);
}
