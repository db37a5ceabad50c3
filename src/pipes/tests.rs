mod bench;
mod model;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_connectors::{Acknowledgement, Batch, Message, SourceError, Verdict};
use pointsman_schemas::{Class, Clock, Event, Outcome, PositionChange, Reject, Timestamp};

use self::bench::{Bench, MINUTE, SECOND, event, keyed, rows, vouched};
use super::reader::PipesReader;
use super::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
use pointsman_journal::{Activity, DeadReason, DeadSelection, Journal, JournalError, Reader};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_message_is_told_once_its_target_has_taken_it() {
    let bench = Bench::new().await;
    bench.answers(|_| (SECOND * 10, Outcome::delivered()));
    let (dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["1"]));
    tokio::time::sleep(SECOND * 9).await;
    assert_eq!(bench.told("1"), None);
    let counts = bench.counts().await;
    assert_eq!(
        (counts.created, counts.pending, counts.in_flight),
        (1, 1, 1)
    );
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(bench.told("1"), Some(Verdict::Stored));
    let counts = bench.counts().await;
    assert_eq!(
        (counts.created, counts.delivered, counts.pending),
        (1, 1, 0)
    );
    assert_eq!(
        bench.pipes.reader().totals().await.unwrap().events,
        0,
        "it went through the journal"
    );
    assert_eq!(bench.metrics.received.get(), 1);
    taking.stop().await;
    dispatching.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_event_of_a_message_counts_and_what_nothing_matches_is_told_at_once() {
    let bench = Bench::new().await;
    bench.answers(|delivery| {
        (
            if delivery.event.id() == "slow" {
                SECOND * 10
            } else {
                MS
            },
            Outcome::delivered(),
        )
    });
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    let skipped = |id| Event::builder(id, "/s", "skip").build().unwrap();
    let messages = vec![
        bench.message(&[event("quick"), event("slow"), skipped("x")]),
        bench.message(&[skipped("none")]),
    ];
    taking.send(Batch {
        messages,
        cursor: None,
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        (bench.told("none"), bench.told("quick")),
        (Some(Verdict::Stored), None)
    );
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(bench.told("quick"), Some(Verdict::Stored));
    assert_eq!(
        (bench.metrics.received.get(), bench.metrics.unmatched.get()),
        (4, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_in_memory_under_the_same_id() {
    let bench = Bench::new().await;
    bench.classes(&[
        Class::Failed,
        Class::Unavailable,
        Class::Throttled,
        Class::Delivered,
    ]);
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["1"]));
    tokio::time::sleep(MS * 10).await;
    let counts = bench.counts().await;
    assert_eq!(
        (counts.pending, counts.retrying, counts.in_flight),
        (1, 1, 0)
    );
    let pending = bench
        .pipes
        .reader()
        .pending(bench.number, None, 9)
        .await
        .unwrap();
    assert_eq!(
        (pending[0].attempts, pending[0].last.as_ref().unwrap().class),
        (1, Class::Failed)
    );
    assert_eq!(
        bench
            .pipes
            .reader()
            .event(pending[0].id.sequence)
            .await
            .unwrap()
            .unwrap()
            .event
            .id(),
        "1"
    );
    tokio::time::sleep(MINUTE * 10).await;
    assert_eq!(bench.told("1"), Some(Verdict::Stored));
    let calls = bench.calls.lock().clone();
    assert_eq!(
        calls.iter().map(|call| call.attempt).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert!(calls.iter().all(|call| call.id == pending[0].id));
    assert_eq!(bench.counts().await.retrying, 0);
}

/// A clock that goes an hour behind the time of day, which was set.
#[derive(Debug)]
struct Behind;

impl Clock for Behind {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn shown(&self, time: Timestamp) -> Timestamp {
        time.plus(MINUTE * 60)
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_memory_is_shown_by_the_time_of_day() {
    let bench = Bench::new().await;
    bench.classes(&[Class::Failed]);
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["1"]));
    tokio::time::sleep(MS * 10).await;
    let shown = PipesReader {
        inner: bench.inner.reader(),
        queues: Arc::clone(&bench.pipes.queues),
        clock: Arc::new(Behind),
    };
    let spilled = bench.pipes.reader();
    let (own, of_day) = (
        spilled.pending(bench.number, None, 9).await.unwrap(),
        shown.pending(bench.number, None, 9).await.unwrap(),
    );
    assert_eq!(
        (of_day[0].since, of_day[0].due),
        (own[0].since.plus(MINUTE * 60), own[0].due.plus(MINUTE * 60))
    );
    let sequence = own[0].id.sequence;
    let at = async |reader: &dyn Reader| reader.event(sequence).await.unwrap().unwrap().at;
    assert_eq!(at(&shown).await, at(&*spilled).await.plus(MINUTE * 60));
    let oldest = async |reader: &dyn Reader| {
        let statuses = reader.subscriptions().await.unwrap();
        statuses
            .into_iter()
            .find(|status| status.number == bench.number)
            .unwrap()
            .oldest_pending
            .unwrap()
    };
    assert_eq!(
        oldest(&shown).await,
        oldest(&*spilled).await.plus(MINUTE * 60)
    );
}

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
async fn a_crash_tells_nothing() {
    let bench = Bench::new().await;
    bench.answers(|_| (SECOND * 10, Outcome::delivered()));
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["1"]));
    tokio::time::sleep(SECOND * 5).await;
    taking.task.abort();
    tokio::time::sleep(MINUTE).await;
    assert_eq!((bench.told("1"), bench.attempts().len()), (None, 1));
    let counts = bench.counts().await;
    assert_eq!(
        (
            counts.created,
            counts.cancelled,
            counts.pending,
            counts.in_flight
        ),
        (1, 1, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_is_bounded_in_number_and_bytes() {
    let bench = Bench::new().await;
    bench.classes(&[Class::Unavailable]);
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    for id in 0..IN_FLIGHT_MAX * 2 {
        taking.send(bench.batch(&[&id.to_string()]));
    }
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        (taking.taken(), bench.counts().await.pending),
        (IN_FLIGHT_MAX, IN_FLIGHT_MAX as u64)
    );
    bench.classes(&[Class::Delivered]);
    tokio::time::sleep(MINUTE * 60).await;
    assert_eq!(
        (taking.taken(), bench.told.lock().len()),
        (IN_FLIGHT_MAX * 2, IN_FLIGHT_MAX * 2)
    );

    bench.answers(|_| (SECOND * 20, Outcome::delivered()));
    let data = || pointsman_schemas::Data::binary(Bytes::from(vec![0; IN_FLIGHT_BYTES_MAX / 4]));
    for id in 0..9 {
        let large = Event::builder(format!("large-{id}"), "/s", "t")
            .data(data())
            .build()
            .unwrap();
        taking.send(Batch {
            messages: vec![bench.message(&[large])],
            cursor: None,
        });
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(taking.taken() - IN_FLIGHT_MAX * 2, 4);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_stops_the_pulling() {
    let bench = Bench::new().await;
    bench.classes(&[Class::Refused]);
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["1"]));
    tokio::time::sleep(SECOND).await;
    taking.send(bench.batch(&["2"]));
    tokio::time::sleep(SECOND).await;
    assert_eq!((taking.taken(), bench.told("1")), (1, None));
    bench.classes(&[Class::Delivered]);
    tokio::time::sleep(MINUTE * 10).await;
    assert_eq!(
        (taking.taken(), bench.told("1"), bench.told("2")),
        (2, Some(Verdict::Stored), Some(Verdict::Stored))
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_active_stops_the_pulling() {
    let bench = Bench::new().await;
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    for activity in [Activity::Suspended, Activity::Gone] {
        let (before, told) = (taking.taken(), bench.told.lock().len());
        bench
            .pipes
            .set_activity(bench.number, activity)
            .await
            .unwrap();
        // What the source is being asked for already still comes.
        tokio::task::yield_now().await;
        taking.send(bench.batch(&[&format!("{activity:?}")]));
        tokio::time::sleep(MINUTE).await;
        assert_eq!((taking.taken(), bench.told.lock().len()), (before, told));
        bench
            .pipes
            .set_activity(bench.number, Activity::Active)
            .await
            .unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(bench.told.lock().len(), told + 1);
    }
    // A target that is gone pauses the subscription until somebody resumes it; its delivery is
    // kept.
    bench.classes(&[Class::Gone]);
    taking.send(bench.batch(&["gone"]));
    tokio::time::sleep(MINUTE).await;
    taking.send(bench.batch(&["later"]));
    tokio::time::sleep(MINUTE * 60).await;
    assert_eq!((bench.told("gone"), taking.taken()), (None, 3));
    bench.classes(&[Class::Delivered]);
    bench
        .pipes
        .set_activity(bench.number, Activity::Active)
        .await
        .unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        (bench.told("gone"), bench.told("later")),
        (Some(Verdict::Stored), Some(Verdict::Stored))
    );
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_one_key_go_one_at_a_time_and_in_order() {
    let bench = Bench::new().await;
    bench.answers(|delivery| {
        let fails = delivery.event.id() == "a1" && delivery.attempt == 1;
        (
            SECOND,
            Outcome::new(
                if fails {
                    Class::Failed
                } else {
                    Class::Delivered
                },
                "",
            ),
        )
    });
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    let events = [
        keyed("a1", "a"),
        keyed("a2", "a"),
        keyed("b1", "bb"),
        event("free"),
        keyed("a3", "a"),
    ];
    let messages = events
        .iter()
        .map(|event| bench.message(std::slice::from_ref(event)))
        .collect();
    taking.send(Batch {
        messages,
        cursor: None,
    });
    tokio::time::sleep(MS * 500).await;
    assert_eq!(bench.attempts(), ["a1", "b1", "free"]);
    tokio::time::sleep(MINUTE).await;
    let of_a: Vec<_> = bench
        .attempts()
        .into_iter()
        .filter(|id| id.starts_with('a'))
        .collect();
    assert_eq!(of_a, ["a1", "a1", "a2", "a3"]);
    assert_eq!(bench.told.lock().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_stored_once_all_before_it_has_ended() {
    let bench = Bench::new().await;
    bench.answers(|delivery| {
        (
            SECOND * delivery.event.id().parse::<u32>().unwrap(),
            Outcome::delivered(),
        )
    });
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    let skipped = |cursor: &'static str| {
        let message = Message::event(
            Event::builder("x", "/s", "skip").build().unwrap(),
            Acknowledgement::None,
        );
        Batch {
            messages: vec![message],
            ..vouched(cursor)
        }
    };
    for batch in [
        vouched("2"),
        vouched("9"),
        vouched("4"),
        skipped("skipped"),
        vouched("6"),
        vouched("1"),
    ] {
        taking.send(batch);
    }
    taking.send(Batch {
        messages: Vec::new(),
        ..vouched("last")
    });
    let mut cursors = Vec::new();
    for _ in 0..10 {
        tokio::time::sleep(SECOND).await;
        cursors.push(
            bench
                .cursor()
                .await
                .map(|cursor| String::from_utf8_lossy(&cursor).into_owned()),
        );
    }
    cursors.dedup();
    assert_eq!(
        cursors,
        [None, Some("2".to_owned()), Some("last".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_position_are_stored_once_all_before_them_has_ended() {
    let bench = Bench::new().await;
    bench.answers(|delivery| {
        (
            SECOND * delivery.event.id().parse::<u32>().unwrap(),
            Outcome::delivered(),
        )
    });
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    let changing = |id: &'static str, keys: &[&str]| {
        let mut batch = vouched(id);
        batch.messages[0].positions = rows(keys);
        batch
    };
    taking.send(changing("4", &["a", "b"]));
    taking.send(changing("2", &["c"]));
    let gone = PositionChange {
        value: None,
        ..rows(&["a"]).remove(0)
    };
    let many: Vec<_> = (0..2_500).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    taking.send(Batch {
        messages: vec![
            Message::position(rows(&many)),
            Message::position(vec![gone]),
        ],
        cursor: vouched("last").cursor,
    });
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!(
        (bench.positions().await.len(), bench.cursor().await),
        (0, None)
    );
    tokio::time::sleep(SECOND * 3).await;
    let mut stored = bench.positions().await;
    assert_eq!(stored.len(), 2_502);
    stored.retain(|key| key.is_ascii() && key[0].is_ascii_alphabetic());
    assert_eq!(stored, [&b"b"[..], b"c"]);
    assert_eq!(bench.cursor().await, Some(Bytes::from_static(b"last")));
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_position_are_stored_before_their_message_is_acknowledged_and_not_if_it_goes_back()
 {
    let bench = Bench::new().await;
    bench.answers(|delivery| match delivery.event.id() {
        "slow" => (SECOND * 10, Outcome::delivered()),
        _ => (MS, Outcome::delivered()),
    });
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    let mut batch = bench.batch(&["slow", "fast", "late"]);
    for (message, key) in batch.messages.iter_mut().zip(["slow", "fast", "late"]) {
        message.positions = rows(&[key]);
    }
    let late = batch.messages.pop().unwrap();
    taking.send(batch);
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.told("fast"), Some(Verdict::Stored));
    assert_eq!(bench.positions().await, [&b"fast"[..]]);
    // What cannot be stored is not acknowledged.
    bench.inner.set_trouble(Some(JournalError::DiskFull));
    taking.send(Batch {
        messages: vec![late],
        cursor: None,
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.told("late"), None);
    bench.inner.set_trouble(None);
    tokio::time::sleep(SECOND * 6).await;
    assert_eq!(bench.told("late"), Some(Verdict::Stored));
    assert_eq!(bench.positions().await, [&b"fast"[..], b"late"]);
    taking
        .batches
        .send(Err(SourceError::Unavailable("gone".to_owned())))
        .unwrap();
    let _taking = bench.again(taking).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(bench.positions().await, [&b"fast"[..], b"late"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_breaks_off_hands_over_again_what_it_was_not_told_of() {
    let bench = Bench::new().await;
    bench.answers(|delivery| match delivery.event.id() {
        "retries" if delivery.attempt == 1 => (MS, Outcome::new(Class::Unavailable, "")),
        "done" => (MS, Outcome::delivered()),
        _ => (SECOND * 10, Outcome::delivered()),
    });
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["done", "retries", "flies"]));
    taking.send(vouched("cursor"));
    tokio::time::sleep(MS * 5).await;
    taking
        .batches
        .send(Err(SourceError::Unavailable("gone".to_owned())))
        .unwrap();
    let taking = bench.again(taking).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        bench.told.lock().keys().collect::<Vec<_>>(),
        ["done"],
        "who has broken off is not told"
    );
    assert_eq!((bench.cursor().await, bench.attempts().len()), (None, 4));
    let counts = bench.counts().await;
    assert_eq!(
        (
            counts.created,
            counts.delivered,
            counts.cancelled,
            counts.pending
        ),
        (4, 3, 1, 0)
    );
    taking.send(bench.batch(&["retries", "flies"]));
    taking.send(vouched("cursor"));
    tokio::time::sleep(MINUTE).await;
    let told = bench.told.lock().len();
    assert_eq!(
        (told, bench.cursor().await),
        (3, Some(Bytes::from_static(b"cursor")))
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_attempts_under_way_and_hands_back_the_rest() {
    let bench = Bench::new().await;
    bench.answers(|delivery| match delivery.event.id() {
        "flies" => (SECOND * 10, Outcome::delivered()),
        "dies" => (SECOND * 10, Outcome::new(Class::Rejected, "")),
        "fails" => (SECOND * 10, Outcome::new(Class::Failed, "")),
        "hangs" => (SECOND * 25, Outcome::delivered()),
        _ => (MS, Outcome::new(Class::Unavailable, "")),
    });
    let (dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["waits"]));
    taking.send(bench.batch(&["flies", "dies", "fails", "hangs"]));
    tokio::time::sleep(MS * 5).await;
    taking.send(bench.batch(&["late"]));
    taking.stop.cancel();
    let abandon = taking.abandon.clone();
    let (summary, taken) = tokio::join!(
        async {
            let summary = dispatching.stop().await;
            abandon.cancel();
            summary
        },
        async {
            let (_intake, ended) = taking.task.await.unwrap();
            ended.unwrap();
            taking.taken.load(std::sync::atomic::Ordering::Relaxed)
        }
    );
    assert_eq!((taken, summary.abandoned), (2, 1));
    let told = bench.told.lock().clone();
    let of = |verdict: Verdict| {
        told.iter()
            .filter(|(_, own)| **own == verdict)
            .map(|(id, _)| id.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of(Verdict::Stored), of(Verdict::Failed)),
        (vec!["dies", "flies"], vec!["fails", "hangs", "waits"])
    );
    assert_eq!(bench.dead().await.len(), 1);
    let counts = bench.counts().await;
    assert_eq!(
        (
            counts.created,
            counts.delivered,
            counts.dead,
            counts.cancelled,
            counts.pending
        ),
        (5, 1, 1, 3, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_is_no_longer_in_force_acknowledges_nothing() {
    let bench = Bench::new().await;
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    tokio::time::sleep(SECOND).await;
    // The source is being asked already.
    bench.router.store(Arc::default());
    taking.send(Batch {
        cursor: vouched("c").cursor,
        ..bench.batch(&["1"])
    });
    taking.send(bench.batch(&["2"]));
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        (bench.told("1"), taking.taken(), bench.attempts().len()),
        (Some(Verdict::Failed), 1, 0)
    );
    taking.stop().await;
    assert_eq!(
        (bench.cursor().await, bench.counts().await.created),
        (None, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_somebody_cancels_is_done_with() {
    let bench = Bench::new().await;
    bench.classes(&[Class::Unavailable]);
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    taking.send(bench.batch(&["1"]));
    tokio::time::sleep(MS * 5).await;
    assert_eq!(bench.pipes.cancel_all(bench.number).await, Ok(1));
    assert_eq!(bench.pipes.cancel_all(bench.number).await, Ok(0));
    tokio::time::sleep(MINUTE * 10).await;
    assert_eq!(
        (bench.told("1"), bench.attempts().len()),
        (Some(Verdict::Stored), 1)
    );
    assert_eq!(bench.counts().await.cancelled, 1);
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

#[tokio::test(start_paused = true)]
async fn while_a_pipe_rests_its_source_hands_over_what_it_has_in_hand() {
    let bench = Bench::new().await;
    let (_dispatching, taking) = (bench.dispatch(false), bench.take());
    bench
        .pipes
        .set_activity(bench.number, Activity::Suspended)
        .await
        .unwrap();
    tokio::time::sleep(SECOND).await;
    taking.hand.send(bench.until(&["1"], MINUTE)).unwrap();
    taking.send(bench.batch(&["2"]));
    tokio::time::sleep(SECOND * 30).await;
    // The one that was being asked for when it was suspended comes.
    assert_eq!((bench.told("1"), bench.attempts().len()), (None, 0));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(bench.told("1"), Some(Verdict::Stored));
    assert_eq!(
        bench
            .inner
            .reader()
            .pending(bench.number, None, 9)
            .await
            .unwrap()
            .len(),
        1
    );
    bench
        .pipes
        .set_activity(bench.number, Activity::Active)
        .await
        .unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        (bench.counts().await.delivered, bench.told("2")),
        (2, Some(Verdict::Stored))
    );
}
