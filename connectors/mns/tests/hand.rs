//! What is in hand: extended, with another receipt each time, deleted, given back, and bounded.

use pointsman_test_brokers::Told;

use super::*;

#[tokio::test]
async fn a_message_in_hand_is_kept_from_others_by_one_receipt_after_the_other() {
    // The queue itself hides it for a second alone.
    let queue = Queue::hiding(Duration::from_secs(1)).await;
    queue.send("a");
    let (mut first, _) = open(&queue.settings(json!({}))).await.unwrap();
    let held = take(&mut *first, 1).await;
    // Its source goes, and whoever stores it does not.
    drop(first);
    let (mut second, _) = open(&queue.settings(json!({}))).await.unwrap();
    let others = next_within(&mut *second, Duration::from_secs(3)).await;
    assert!(others.is_none(), "{others:?}");
    assert!(queue.server.asked("ChangeMessageVisibility") >= 2);
    settle(held, &Verdict::Stored).await;
    assert_eq!(queue.left(), 0, "deleted by the last receipt");
}

#[tokio::test]
async fn what_is_settled_while_it_is_extended_loses_nothing() {
    // It is extended every 300 ms, and settled at any moment of that.
    let queue = Queue::hiding(Duration::from_secs(1)).await;
    for number in 0..200 {
        queue.send(&number.to_string());
    }
    let (mut source, _) = open(&queue.settings(json!({}))).await.unwrap();
    let taken = take(&mut *source, 200).await;
    let settling = taken
        .into_iter()
        .enumerate()
        .map(async |(number, message)| {
            sleep(Duration::from_millis(5 * number as u64)).await;
            settle(vec![message], &Verdict::Stored).await;
        });
    futures::future::join_all(settling).await;
    assert_eq!(queue.left(), 0);
    let again = next_within(&mut *source, Duration::from_millis(200)).await;
    assert!(again.is_none(), "{again:?}");
}

#[tokio::test]
async fn what_cannot_be_stored_comes_again_after_the_time_asked_for() {
    let queue = Queue::new().await;
    let (mut source, _) = open(&queue.settings(json!({}))).await.unwrap();
    for (verdict, at_least, at_most) in [
        (Verdict::Later(Duration::from_secs(2)), 2, 10),
        (Verdict::Later(Duration::ZERO), 1, 10),
        (Verdict::Failed, 5, 15),
    ] {
        queue.send("a");
        let taken = take(&mut *source, 1).await;
        let told = Instant::now();
        settle(taken, &verdict).await;
        let again = take(&mut *source, 1).await;
        let after = told.elapsed() + Duration::from_millis(100);
        let range = Duration::from_secs(at_least)..Duration::from_secs(at_most);
        assert!(range.contains(&after), "{verdict:?}: {after:?}");
        settle(again, &Verdict::Stored).await;
        assert_eq!(queue.left(), 0);
    }
}

#[tokio::test]
async fn what_nobody_acknowledges_is_given_back() {
    let queue = Queue::new().await;
    queue.send("a");
    let (mut source, _) = open(&queue.settings(json!({}))).await.unwrap();
    drop(take(&mut *source, 1).await);
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    queue.drained().await;
}

#[tokio::test]
async fn a_full_hand_stops_the_flow_and_loses_nothing() {
    let queue = Queue::new().await;
    for number in 0..80 {
        queue.send(&number.to_string());
    }
    let settings = queue.settings(json!({ "prefetch": 40 }));
    let (mut source, _) = open(&settings).await.unwrap();
    let mut taken = take(&mut *source, 32).await;
    assert!(
        next_within(&mut *source, Duration::from_millis(300))
            .await
            .is_none()
    );
    assert_eq!(taken.len(), 32);
    let mut found = Vec::new();
    while found.len() < 80 {
        if taken.is_empty() {
            taken = take(&mut *source, 1).await;
        }
        found.extend(bodies(&taken));
        settle(std::mem::take(&mut taken), &Verdict::Stored).await;
    }
    found.sort_by_key(|text| text.parse::<usize>().unwrap());
    let expect: Vec<_> = (0..80).map(|number| number.to_string()).collect();
    assert_eq!(found, expect);
    queue.drained().await;
}

#[tokio::test]
async fn what_was_deleted_in_part_is_deleted_for_the_rest() {
    let queue = Queue::new().await;
    for number in 0..4 {
        queue.send(&number.to_string());
    }
    let (mut source, _) = open(&queue.settings(json!({}))).await.unwrap();
    let taken = take(&mut *source, 4).await;
    // Nothing was deleted, and of two nobody says why: the others are taken to be.
    let failed = |receipt: u32, code: &str| {
        format!(
            "<Error><ErrorCode>{code}</ErrorCode><ErrorMessage>m</ErrorMessage>\
             <ReceiptHandle>1-{receipt}+/==</ReceiptHandle></Error>"
        )
    };
    // The numbers of the messages come first.
    let errors = [failed(6, "InternalError"), failed(7, "MessageNotExist")].concat();
    let partial = format!("<Errors xmlns=\"http://mns.aliyuncs.com/doc/v1/\">{errors}</Errors>");
    queue
        .server
        .answer("BatchDeleteMessage", Told::new(500, partial));
    settle(taken, &Verdict::Stored).await;
    assert_eq!(queue.server.asked("BatchDeleteMessage"), 2);
    assert_eq!(queue.left(), 3, "one alone was worth another try");
    queue
        .server
        .answer("BatchDeleteMessage", Told::new(503, "busy"));
    queue.send("x");
    let taken = take(&mut *source, 1).await;
    settle(taken, &Verdict::Stored).await;
    assert_eq!(queue.left(), 3, "a call that failed is made again");
}
