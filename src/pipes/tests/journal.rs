//! What of a pipe goes into the journal: dead letters, and what would wait too long in memory.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_dead_is_durable_before_it_is_told_and_is_redriven_through_the_journal() {
    let bench = Bench::new().await;
    bench.answers(|_| {
        (
            SECOND * 10,
            Outcome {
                code: Some(400),
                ..Outcome::new(Class::Rejected, "no")
            },
        )
    });
    let (_dispatching, taking) = (bench.dispatch(true), bench.take());
    taking.send(bench.batch(&["1", "2"]));
    tokio::time::sleep(SECOND * 5).await;
    bench
        .inner
        .set_trouble(Some(JournalError::Io("it broke".to_owned())));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(bench.attempts().len(), 2, "both were rejected");
    assert_eq!(
        (bench.told("1"), bench.told("2")),
        (None, None),
        "nothing durable was made of it"
    );
    bench.inner.set_trouble(None);
    assert_eq!(bench.counts().await.pending, 2);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        (bench.told("1"), bench.told("2")),
        (Some(Verdict::Stored), Some(Verdict::Stored))
    );
    let dead = bench.dead().await;
    assert_eq!(
        dead.iter()
            .map(|letter| (letter.reason, letter.attempts))
            .collect::<Vec<_>>(),
        [(DeadReason::Rejected, 1); 2]
    );
    assert_eq!(
        (dead[0].last.as_ref().unwrap().code, dead[0].origin.as_str()),
        (Some(400), "source")
    );
    assert_eq!(
        bench
            .inner
            .reader()
            .pending(bench.follower, None, 9)
            .await
            .unwrap()
            .len(),
        2,
        "on_failure was told"
    );

    bench.classes(&[Class::Delivered]);
    assert_eq!(bench.inner.redrive(&DeadSelection::default()).await, Ok(2));
    tokio::time::sleep(SECOND).await;
    let counts = bench.counts().await;
    assert_eq!(
        (
            counts.created,
            counts.redriven,
            counts.delivered,
            counts.dead,
            counts.pending
        ),
        (4, 2, 2, 0, 0)
    );
    let calls = bench.calls.lock().clone();
    let redriven = calls.last().unwrap().id;
    assert!(
        redriven.epoch != calls[0].id.epoch && redriven.run > 0,
        "{redriven}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_full_journal_has_no_room_for_is_never_acknowledged() {
    let bench = Bench::bounded(event("1").size_bytes() as u64).await;
    bench.classes(&[Class::Rejected]);
    let (dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["1", "2"]));
    tokio::time::sleep(MINUTE * 60).await;
    let told = [bench.told("1"), bench.told("2")];
    assert_eq!(
        told.iter()
            .filter(|told| **told == Some(Verdict::Stored))
            .count(),
        1,
        "{told:?}"
    );
    assert_eq!(
        (bench.dead().await.len(), bench.attempts().len()),
        (1, 2),
        "it is held, and not tried again"
    );
    let counts = bench.counts().await;
    assert_eq!((counts.created, counts.dead, counts.pending), (2, 1, 1));
    assert_eq!(bench.inner.purge(&DeadSelection::default()).await, Ok(1));
    tokio::time::sleep(MINUTE).await;
    let told = bench.told.lock().len();
    assert_eq!((told, bench.dead().await.len()), (2, 1));
    taking.stop().await;
    dispatching.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_a_dead_letter_before_its_message_is_told() {
    let bench = Bench::new().await;
    let taking = bench.take();
    let mut message = bench.message(&[Event::builder("1", "/s", "skip").build().unwrap()]);
    message.rejects.push(Reject {
        raw: Bytes::from_static(b"?"),
        reason: "no JSON".to_owned(),
    });
    bench.inner.set_trouble(Some(JournalError::DiskFull));
    taking.send(Batch {
        messages: vec![message],
        cursor: None,
    });
    tokio::time::sleep(MINUTE).await;
    assert_eq!(bench.told("1"), None);
    bench.inner.set_trouble(None);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        (bench.told("1"), bench.dead().await[0].reason),
        (Some(Verdict::Stored), DeadReason::Unreadable)
    );
    assert_eq!(bench.metrics.rejects.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_its_source_would_take_back_waits_in_the_journal_in_time() {
    let bench = Bench::new().await;
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    bench.answers(|delivery| {
        (
            if delivery.event.id() == "flies" {
                SECOND * 20
            } else {
                MS
            },
            Outcome::new(Class::Unavailable, ""),
        )
    });
    taking.send(bench.until(&["held"], MINUTE * 10));
    taking.send(bench.until(&["flies"], SECOND * 5));
    // One that its source holds without end, and one that may not wait at all.
    taking.send(bench.batch(&["patient"]));
    taking.send(bench.until(&["urgent"], Duration::ZERO));
    tokio::time::sleep(SECOND * 15).await;
    assert_eq!(
        (bench.told("flies"), bench.told("urgent")),
        (None, Some(Verdict::Stored))
    );
    tokio::time::sleep(SECOND * 15).await;
    assert_eq!(
        (bench.told("flies"), bench.told("held")),
        (Some(Verdict::Stored), None),
        "once its attempt had ended"
    );
    tokio::time::sleep(MINUTE * 10).await;
    assert_eq!(
        (bench.told("held"), bench.told("patient")),
        (Some(Verdict::Stored), None)
    );
    let counts = bench.counts().await;
    assert_eq!((counts.created, counts.pending, counts.dead), (4, 4, 0));
    assert_eq!(
        bench
            .inner
            .reader()
            .pending(bench.number, None, 9)
            .await
            .unwrap()
            .len(),
        3
    );

    bench.classes(&[Class::Delivered]);
    tokio::time::sleep(MINUTE * 10).await;
    let counts = bench.counts().await;
    assert_eq!(
        (
            counts.created,
            counts.delivered,
            counts.pending,
            bench.told.lock().len()
        ),
        (4, 4, 0, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn what_goes_into_the_journal_is_told_once_it_is_there_and_stays_in_order() {
    let bench = Bench::new().await;
    bench.classes(&[Class::Unavailable]);
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    let keyed_until = |id: &str, time| bench.message_until(&[keyed(id, "a")], time);
    let messages = vec![
        keyed_until("1", MINUTE),
        bench.message(&[keyed("2", "a")]),
        bench.message(&[keyed("3", "bb")]),
    ];
    taking.send(Batch {
        messages,
        cursor: None,
    });
    tokio::time::sleep(SECOND).await;
    bench
        .inner
        .set_trouble(Some(JournalError::Io("it broke".to_owned())));
    tokio::time::sleep(MINUTE * 3).await;
    assert_eq!(bench.told("1"), None);
    bench.inner.set_trouble(None);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        (bench.told("1"), bench.told("2"), bench.told("3")),
        (Some(Verdict::Stored), Some(Verdict::Stored), None)
    );
    // What comes behind them must not overtake them.
    taking.send(Batch {
        messages: vec![bench.message(&[keyed("4", "a")])],
        cursor: None,
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.told("4"), Some(Verdict::Stored));
    bench.calls.lock().clear();
    bench.classes(&[Class::Delivered]);
    tokio::time::sleep(MINUTE * 10).await;
    let calls: Vec<_> = bench
        .attempts()
        .into_iter()
        .filter(|id| id != "3")
        .collect();
    let mut in_order = calls.clone();
    in_order.sort();
    in_order.dedup();
    assert_eq!(
        (calls, in_order.len(), bench.counts().await.delivered),
        (in_order.clone(), 3, 4)
    );
    // Once it is known that nothing is left there, memory will do again.
    let stored = bench.pipes.reader().totals().await.unwrap().events;
    taking.send(Batch {
        messages: vec![bench.message(&[keyed("5", "a")])],
        cursor: None,
    });
    tokio::time::sleep(SECOND).await;
    taking.send(Batch {
        messages: vec![bench.message(&[keyed("6", "a")])],
        cursor: None,
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        (bench.told("6"), bench.attempts().last().map(String::as_str)),
        (Some(Verdict::Stored), Some("6"))
    );
    assert_eq!(bench.pipes.reader().totals().await.unwrap().events, stored);
}
