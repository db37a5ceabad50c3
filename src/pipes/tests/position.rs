//! Where a source stands: its position is stored once all before it has ended.

use super::*;

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
