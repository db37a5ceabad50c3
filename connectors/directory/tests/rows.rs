//! Rows that are written before anything is told: what an earlier version stored in its cursor, and
//! what lies there at the very first start.

use super::position::tests::{listing_of, read_back};
use super::*;
use crate::Batch;
use crate::directory::follow::BATCH_ROWS_MAX;

/// The next batch, which tells nothing.
async fn silent(source: &mut dyn Source, stored: &mut Stored) -> Batch {
    let batch = next_within(source, LONG).await.unwrap().unwrap();
    let told = batch.messages.iter().any(|one| !one.arrivals.is_empty());
    assert!(!told, "nothing has happened: {batch:?}");
    stored.store(&batch);
    batch
}

#[tokio::test]
async fn what_an_earlier_version_stored_is_moved_into_rows_and_nothing_is_told_twice_or_lost() {
    let fixture = Fixture::new(&json!({}));
    let count = 2 * BATCH_ROWS_MAX + 500;
    for n in 0..count {
        fixture.write(&format!("folder/{n}"), "");
    }
    let mut told = Told::open(&fixture, None).await;
    told.next(count).await;
    fixture.write("folder/7", "second");
    assert_eq!(told.next(1).await, ["updated folder/7"]);
    fixture.write("gone", "");
    told.next(1).await;
    std::fs::remove_file(fixture.path("gone")).unwrap();
    assert_eq!(told.next(1).await, ["deleted gone"]);
    // As the earlier version would have stored it.
    let position = read_back(&told.stored).await.unwrap().position;
    assert_eq!((position.generation, position.files.len()), (1, count));
    let before = Stored::from(Some(Cursor {
        position: listing_of(&position).into(),
        ..told.stored.cursor.clone().unwrap()
    }));
    // What happens while the bus is off.
    fixture.write("folder/7", "and third");
    std::fs::remove_file(fixture.path("folder/8")).unwrap();
    fixture.write("gone", "");

    // It may stop after any of the batches that move it.
    for stops_after in 0..3 {
        let mut stored = before.clone();
        let mut source = open(&fixture, stored.clone(), false).await;
        for _ in 0..stops_after {
            let batch = silent(&mut *source, &mut stored).await;
            assert_eq!(batch.cursor, None, "not all of it is moved");
        }
        let mut source = open(&fixture, stored.clone(), false).await;
        for is_last in [false, false, true] {
            let batch = silent(&mut *source, &mut stored).await;
            assert_eq!(batch.cursor.is_some(), is_last);
        }
        assert_eq!(read_back(&stored).await.unwrap().position, position);
        let mut again = Told {
            source,
            stored,
            events: Vec::new(),
        };
        let expect = ["created gone", "deleted folder/8", "updated folder/7"];
        assert_eq!(again.next(3).await, expect);
        let id = |subject| {
            let event = again
                .events
                .iter()
                .find(|event| event.subject() == Some(subject));
            event.unwrap().id().to_owned()
        };
        assert!(id("folder/7").ends_with("-2"), "{}", id("folder/7"));
        assert!(id("gone").ends_with("-1"), "{}", id("gone"));
        let quiet = next_within(&mut *again.source, Duration::from_millis(300)).await;
        assert!(quiet.is_none(), "{quiet:?}");
        // And once more.
        again.source = open(&fixture, again.stored.clone(), false).await;
        let quiet = next_within(&mut *again.source, Duration::from_millis(300)).await;
        assert!(quiet.is_none(), "{quiet:?}");
        assert_eq!(again.stored.rows.len(), count + 1);
    }
}

#[tokio::test]
async fn a_first_start_that_skips_what_is_there_and_is_cut_off_skips_it_the_next_time() {
    let fixture = Fixture::new(&json!({ "existing": "skip" }));
    let count = BATCH_ROWS_MAX + 500;
    for n in 0..count {
        fixture.write(&format!("{n:04}"), "");
    }
    let mut stored = Stored::default();
    let mut source = open(&fixture, None, false).await;
    let first = silent(&mut *source, &mut stored).await;
    assert_eq!((first.cursor, stored.rows.len()), (None, BATCH_ROWS_MAX));
    drop(source);
    std::fs::remove_file(fixture.path("0001")).unwrap();
    fixture.write("0002", "changed");
    fixture.write("new", "");
    let mut source = open(&fixture, stored.clone(), false).await;
    while stored.cursor.is_none() {
        silent(&mut *source, &mut stored).await;
    }
    silent(&mut *source, &mut stored).await;
    assert_eq!(
        stored.rows.len(),
        count + 1,
        "a row for each file and the folder"
    );
    let quiet = next_within(&mut *source, Duration::from_millis(300)).await;
    assert!(quiet.is_none(), "{quiet:?}");
    let mut told = Told::open(&fixture, stored).await;
    fixture.write("0003", "changed");
    assert_eq!(told.next(1).await, ["updated 0003"]);
}
