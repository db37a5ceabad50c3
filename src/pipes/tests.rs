//! From a message to its acknowledgement, in paused time.

mod bench;
mod journal;
mod model;
mod position;

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
