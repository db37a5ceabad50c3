//! Exports that are no good, and folders that are none.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Data, Event, Reject, SystemClock};
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::super::{PortableError, export_stores, hex, import_stores};
use super::moved::folders;
use crate::disk::{DiskJournal, DiskOptions, OpenError, Part, mark_of};
use crate::suite::{append_of, entry, keyed, paused, wanted};
use crate::{Append, Entry, Journal};

fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock)
}

/// A store with something of most kinds in it.
async fn fill(path: &Path) {
    let journal = DiskJournal::open(path, DiskOptions::default(), clock()).unwrap();
    let number = journal.subscribe(vec![wanted("r")]).await.unwrap()[0];
    let data = Data::json(Bytes::from_static(b"{\"n\":1}")).unwrap();
    let event = Event::builder("1", "/s", "t").data(data).build().unwrap();
    let json = Entry {
        event: Arc::new(event),
        deduplicate: Some(std::time::Duration::from_secs(60)),
        ..entry("1", &[number])
    };
    let append = Append {
        rejects: vec![Reject {
            reason: "no JSON".to_owned(),
            raw: Bytes::from_static(b"{"),
        }],
        ..append_of(vec![json, keyed("2", number, 7), keyed("3", number, 7)])
    };
    journal.append(append).await.unwrap();
    let pending = journal.reader().pending(number, None, 1).await.unwrap();
    journal.skip(&[pending[0].id]).await.unwrap();
    journal.close().await;
}

fn export(path: &Path, shards: u16) -> Result<String, PortableError> {
    let mut lines = Vec::new();
    export_stores(&folders(path, shards), &*clock(), &mut lines)?;
    Ok(String::from_utf8(lines).unwrap())
}

/// Imports into a folder that is not there, which is not there afterwards either, nor is anything
/// else.
fn refused(lines: &[u8]) -> PortableError {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let refused = import_stores(&mut &*lines, &path, 1).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    refused
}

/// Lines with an end that fits them, but for its counts.
fn sealed(lines: &[&str], end: &str) -> String {
    let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let old = end.split("\"sha256\":\"").nth(1).unwrap();
    let sum = hex(&Sha256::digest(whole.as_bytes()));
    whole + &end.replace(&old[..64], &sum) + "\n"
}

#[test]
fn what_was_cut_or_altered_is_refused_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    paused(fill(folder.path()));
    let whole = export(folder.path(), 1).unwrap();
    for end in 0..whole.len() {
        // In the middle of a line it is enough to look now and then.
        if end % 400 == 0 || whole.as_bytes()[end] == b'\n' || whole.as_bytes()[end - 1] == b'\n' {
            let error = refused(&whole.as_bytes()[..end]);
            assert!(
                matches!(error, PortableError::Cut(_)),
                "cut at {end}: {error}"
            );
        }
    }
    for place in (0..whole.len()).step_by(61) {
        let mut altered = whole.clone().into_bytes();
        altered[place] ^= 1;
        refused(&altered);
    }
    let lines: Vec<&str> = whole.lines().collect();
    let (end, lines) = lines.split_last().unwrap();
    assert_eq!(sealed(lines, end), whole);
    let without = |number: usize| {
        let mut lines = lines.to_vec();
        lines.remove(number);
        sealed(&lines, end)
    };
    // A line is missing that the counts miss, or another line does; and one is there twice.
    for number in 1..lines.len() {
        refused(without(number).as_bytes());
        let mut twice = lines.to_vec();
        twice.insert(number, lines[number]);
        refused(sealed(&twice, end).as_bytes());
    }
    let error = refused(format!("{whole}{{}}\n").as_bytes());
    assert!(
        error.to_string().contains("goes on after its end"),
        "{error}"
    );
    let later = whole.replacen("\"format\":1", "\"format\":9,\"more\":true", 1);
    let (found, understood) = (9, 1);
    assert_eq!(
        refused(later.as_bytes()),
        PortableError::Format { found, understood }
    );
    assert!(matches!(refused(b"{\"a\":1}\n"), PortableError::Foreign(_)));
    assert_eq!(refused(b""), PortableError::Cut(0));
}

#[test]
fn stores_come_where_nothing_is() {
    let folder = TempDir::new().unwrap();
    let from = folder.path().join("from");
    paused(fill(&from));
    let lines = export(&from, 1).unwrap();
    let import = |name: &str, shards| {
        let path = folder.path().join(name);
        import_stores(&mut lines.as_bytes(), &path, shards).map(|_| path)
    };
    assert!(matches!(import("from", 1), Err(PortableError::Occupied(_))));
    assert_eq!(import("to", 0), Err(PortableError::Shards(0)));
    assert_eq!(import("to", 257), Err(PortableError::Shards(257)));
    // What an earlier one has left that was killed is in nobody's way.
    let left = folder.path().join(".to.importing/stores");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("journal.db"), "half").unwrap();
    std::fs::write(folder.path().join(".to.importing/places"), "half").unwrap();
    std::fs::create_dir(folder.path().join("to")).unwrap();
    let to = import("to", 3).unwrap();
    assert!(!folder.path().join(".to.importing").exists());
    // They are what a cluster begins its log with, and nothing else.
    for (store, shard) in folders(&to, 3).iter().zip(0..) {
        assert_eq!(Part::of(store), Some(Part { shard, shards: 3 }));
        assert_eq!(mark_of(store), Ok(None));
        let alone = DiskJournal::open(store, DiskOptions::default(), clock());
        assert!(matches!(alone, Err(OpenError::Part { .. })));
    }
    // As many of them as there are make the journal.
    assert_eq!(export(&to, 3).unwrap().lines().count(), {
        let copies_of_identity = 2;
        lines.lines().count() + copies_of_identity
    });
    assert!(matches!(
        export(&to, 2),
        Err(PortableError::Store(OpenError::Part { .. }))
    ));
    std::fs::remove_file(to.join("shard-1/part")).unwrap();
    assert!(matches!(export(&to, 3), Err(PortableError::Stranger(..))));
}

#[test]
fn a_store_in_use_or_in_a_log_is_not_exported() {
    paused(async {
        let folder = TempDir::new().unwrap();
        assert!(matches!(
            export(folder.path(), 1),
            Err(PortableError::Store(OpenError::Missing(_)))
        ));
        fill(folder.path()).await;
        let journal = DiskJournal::open(folder.path(), DiskOptions::default(), clock()).unwrap();
        assert!(matches!(
            export(folder.path(), 1),
            Err(PortableError::Store(OpenError::Locked { .. }))
        ));
        journal.close().await;
        std::fs::write(folder.path().join("copy"), "").unwrap();
        assert!(matches!(
            export(folder.path(), 1),
            Err(PortableError::Store(OpenError::InCluster(_)))
        ));
    });
}

#[test]
fn what_cannot_be_read_is_told_and_counted() {
    paused(async {
        let folder = TempDir::new().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fill(&from).await;
        let database = Connection::open(from.join("journal.db")).unwrap();
        database
            .execute_batch("UPDATE events SET record = x'00' WHERE sequence = 2")
            .unwrap();
        drop(database);
        let mut lines = Vec::new();
        let exported = export_stores(&folders(&from, 1), &*clock(), &mut lines).unwrap();
        let told = exported.notes.join("\n");
        assert!(
            told.contains("damaged records that were set aside"),
            "{told}"
        );
        let imported = import_stores(&mut &*lines, &to, 1).unwrap();
        assert_eq!(imported.carried.events, 2);
        let journal = DiskJournal::open(&to, DiskOptions::default(), clock()).unwrap();
        assert_eq!(journal.warnings(), &[] as &[String]);
        let counts = journal.reader().subscriptions().await.unwrap()[0].counts;
        assert_eq!((counts.created, counts.dead + counts.pending), (3, 2));
        assert_eq!(counts.quarantined, 1);
        journal.close().await;
    });
}
