//! A store that is too large to be looked through at its start is looked through while it runs.

use std::time::Instant;

use super::*;

/// More than is looked through at the start.
const EVENTS: usize = 34;
const EVENT_BYTES: usize = 1024 * 1024;

/// A large store, changed behind the journal's back; what it is opened to, and what it has set
/// aside once all of it was looked at.
async fn looked_through(change: &str) -> (Vec<String>, u64) {
    let directory = TempDir::new().unwrap();
    let journal = open(directory.path()).unwrap();
    let number = journal
        .subscribe(vec![super::fixture::wanted("all")])
        .await
        .unwrap()[0];
    for id in 0..EVENTS {
        let id = id.to_string();
        let entry = Entry {
            event: suite::sized_event(&id, EVENT_BYTES),
            ..suite::entry(&id, &[number])
        };
        journal.append(suite::append_of(vec![entry])).await.unwrap();
    }
    journal.close().await;
    let other = schema::connect(directory.path(), Purpose::Write).unwrap();
    other.execute_batch(change).unwrap();
    drop(other);
    let journal = open(directory.path()).unwrap();
    let warnings = journal.warnings().to_vec();
    let begun = Instant::now();
    // Nothing is read but the counters. Where there is damage, the store is opened anew, and looked
    // through once more for that.
    while !journal.shared.look.is_done() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it is not looked through"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let quarantined = journal.reader().totals().await.unwrap().quarantined;
    journal.close().await;
    (warnings, quarantined)
}

#[test]
fn a_large_store_is_looked_through_while_it_runs() {
    suite::paused(async {
        assert_eq!(looked_through("").await, (vec![], 0));
        let (warnings, quarantined) =
            looked_through("UPDATE events SET record = x'00' WHERE sequence = 3").await;
        assert!(
            warnings.is_empty() && quarantined > 0,
            "a damaged record: {warnings:?}, {quarantined}"
        );
        let (warnings, quarantined) =
            looked_through("DELETE FROM pending WHERE sequence = 5").await;
        assert!(
            warnings.is_empty() && quarantined > 0,
            "a row that is not there: {warnings:?}, {quarantined}"
        );
    });
}

#[test]
fn what_is_stored_for_a_source_and_found_damaged_is_set_aside_while_it_runs() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        let cursor = Cursor {
            fingerprint: 1,
            position: Bytes::from_static(b"p"),
        };
        let append = Append {
            cursor: Some(cursor),
            positions: ["a", "b", "c"]
                .map(|key| suite::upsert(key.as_bytes(), b"value"))
                .into(),
            ..suite::append_of(vec![])
        };
        journal.append(append).await.unwrap();
        let other = schema::connect(directory.path(), Purpose::Write).unwrap();
        other
            .execute_batch(
                "UPDATE positions SET value = x'00' WHERE key = x'62'; UPDATE cursors SET value = x'00'",
            )
            .unwrap();
        drop(other);
        let (tenant, source) = (
            super::fixture::name("default"),
            super::fixture::name("suite"),
        );
        let refused = journal.positions(&tenant, &source, None, 9).await;
        assert!(
            matches!(&refused, Err(JournalError::Damaged(what)) if what.contains("suite")),
            "{refused:?}"
        );
        let begun = Instant::now();
        let rows = loop {
            match journal.positions(&tenant, &source, None, 9).await {
                Ok(rows) => break rows,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let keys: Vec<_> = rows.iter().map(|row| &row.key[..]).collect();
        assert_eq!(keys, [b"a", b"c"]);
        assert_eq!(journal.cursor(&tenant, &source).await, Ok(None));
        assert_eq!(journal.reader().totals().await.unwrap().quarantined, 2);
        journal.close().await;
    });
}
