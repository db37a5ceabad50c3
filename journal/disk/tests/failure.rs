//! Disks that fail, stores that are in use, and who opens what.

use rusqlite::ffi;

use super::fixture::{everything, fill};
use super::*;
use crate::suite::{append_of, entry, sized_event};
use crate::{DeadReason, Ending, Entry, SettleAnswer};

/// What is seen of a store, with nothing in flight.
fn at_rest(seen: Vec<String>) -> Vec<String> {
    let rest = |line: String| {
        let line = line.replace("in_flight: true", "in_flight: false");
        (1..4).fold(line, |line, leased| {
            line.replace(&format!("in_flight: {leased}"), "in_flight: 0")
        })
    };
    seen.into_iter().map(rest).collect()
}

#[test]
fn after_an_error_nothing_is_acknowledged_until_the_store_is_open_again() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        fill(&journal).await;
        let grant = Grant {
            subscription: SubscriptionNumber(1),
            count: 1,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: None,
        };
        let leased = journal
            .lease(&[grant], usize::MAX)
            .await
            .unwrap()
            .leased
            .remove(0);
        let before = everything(&*journal.reader()).await;
        journal.shared.fault.set(1, ffi::SQLITE_IOERR_FSYNC);
        let refused = journal
            .append(append_of(vec![entry("x", &[SubscriptionNumber(1)])]))
            .await;
        assert!(matches!(refused, Err(JournalError::Io(_))), "{refused:?}");
        // Time is paused, the writer's is not: this asks until it has the store open again.
        while let Some(trouble) = journal.trouble() {
            assert!(matches!(trouble, JournalError::Io(_)));
            assert!(matches!(
                journal.append(append_of(Vec::new())).await,
                Err(JournalError::Io(_)) | Ok(_)
            ));
        }
        let stale = Settlement::new(leased.token, Ending::Delivered);
        assert_eq!(
            journal.settle(vec![stale]).await,
            Ok(vec![SettleAnswer::Gone]),
            "leases are dropped"
        );
        assert_eq!(
            everything(&*journal.reader()).await,
            at_rest(before),
            "nothing of it has happened"
        );
        let again = journal
            .lease(&[Grant { count: 9, ..grant }], usize::MAX)
            .await
            .unwrap()
            .leased;
        assert!(
            again
                .iter()
                .any(|again| again.id == leased.id && again.token != leased.token)
        );
        journal
            .append(append_of(vec![entry("y", &[])]))
            .await
            .unwrap();
    });
}

#[test]
fn a_full_disk_refuses_appends_and_lets_settlements_through() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        fill(&journal).await;
        let leased = journal
            .lease(
                &[Grant {
                    subscription: SubscriptionNumber(1),
                    count: 1,
                    lease: MINUTE,
                    bytes_max: usize::MAX,
                    batching: None,
                }],
                usize::MAX,
            )
            .await
            .unwrap()
            .leased;
        journal.shared.fault.set(1, ffi::SQLITE_FULL);
        let again = journal
            .append(append_of(vec![entry("w", &[SubscriptionNumber(1)])]))
            .await;
        assert!(
            again.is_ok(),
            "the log was written from its beginning again: {again:?}"
        );
        journal.shared.fault.set(2, ffi::SQLITE_FULL);
        let refused = journal
            .append(append_of(vec![entry("x", &[SubscriptionNumber(1)])]))
            .await;
        assert_eq!(refused, Err(JournalError::DiskFull));
        assert_eq!(
            journal.trouble(),
            Some(JournalError::DiskFull),
            "nobody should be sent here"
        );
        journal.shared.fault.set(3, ffi::SQLITE_FULL);
        let settlement = Settlement::new(leased[0].token, Ending::Delivered);
        assert_eq!(
            journal.settle(vec![settlement]).await,
            Ok(vec![SettleAnswer::Settled]),
            "tried again, with room for the log"
        );
        journal
            .append(append_of(vec![entry("x", &[SubscriptionNumber(1)])]))
            .await
            .unwrap();
        assert_eq!(journal.trouble(), None);
        assert_eq!(
            journal.reader().subscriptions().await.unwrap()[0]
                .counts
                .delivered,
            2
        );
    });
}

#[test]
fn operations_on_many_are_cut_where_the_disk_has_no_room_for_a_page() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        let wanted = ["dead", "other"].map(super::fixture::wanted);
        let numbers = journal.subscribe(wanted.to_vec()).await.unwrap();
        let entries = (0..300).map(|id| entry(&id.to_string(), &[numbers[0]]));
        journal.append(append_of(entries.collect())).await.unwrap();
        let grant = Grant {
            subscription: numbers[0],
            count: 200,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: None,
        };
        let leased = journal.lease(&[grant], usize::MAX).await.unwrap().leased;
        let ends = leased.iter().map(|leased| {
            Settlement::new(
                leased.token,
                Ending::Dead {
                    reason: DeadReason::Rejected,
                    last: None,
                },
            )
        });
        journal.settle(ends.collect()).await.unwrap();
        // A page is tried about ten times, with ever more room for the log: these outlast one.
        let no_room = || journal.shared.fault.set(25, ffi::SQLITE_FULL);
        assert_eq!(journal.move_all(numbers[0], numbers[1]).await, Ok(100));
        no_room();
        let some = DeadSelection {
            ids: Some(leased.iter().take(90).map(|leased| leased.id).collect()),
            ..DeadSelection::default()
        };
        assert_eq!(journal.redrive(&some).await, Ok(90));
        no_room();
        assert_eq!(journal.purge(&DeadSelection::default()).await, Ok(110));
        journal.shared.fault.set(0, ffi::SQLITE_FULL);
        let counts = journal.reader().subscriptions().await.unwrap();
        let counts = [counts[0].counts, counts[1].counts];
        assert_eq!((counts[0].pending, counts[0].dead), (90, 0));
        assert_eq!(counts[1].pending, 100);
    });
}

#[test]
fn a_store_has_one_user_and_any_number_of_onlookers() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        assert_eq!(
            DiskReader::open(directory.path()).unwrap_err(),
            OpenError::Missing(directory.path().to_owned())
        );
        let journal = open(directory.path()).unwrap();
        fill(&journal).await;
        let locked = open(directory.path()).unwrap_err();
        assert_eq!(
            locked,
            OpenError::Locked {
                path: directory.path().to_owned(),
                process: std::process::id().to_string()
            }
        );
        let seen = everything(&*journal.reader()).await;
        let onlooker = DiskReader::open(directory.path()).unwrap();
        assert_eq!(onlooker.id(), journal.id());
        let seen = at_rest(seen);
        assert_eq!(everything(&*onlooker).await, seen, "while the bus runs");
        journal.close().await;
        assert_eq!(everything(&*onlooker).await, seen, "and after it has ended");
        drop(journal);
        open(directory.path()).unwrap();
    });
}

#[test]
fn a_store_of_a_later_format_is_left_alone() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        drop(open(directory.path()).unwrap());
        let other = schema::connect(directory.path(), Purpose::Write).unwrap();
        schema::write_format_number(&other, 99).unwrap();
        drop(other);
        let newer = OpenError::Newer {
            path: directory.path().to_owned(),
            found: 99,
            understood: schema::FORMAT,
        };
        assert_eq!(open(directory.path()).unwrap_err(), newer);
        assert_eq!(DiskReader::open(directory.path()).unwrap_err(), newer);
    });
}

#[test]
fn the_disk_returns_to_its_baseline() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let options = DiskOptions {
            retention: MINUTE,
            ..DiskOptions::default()
        };
        let journal = DiskJournal::open(
            directory.path(),
            options,
            Arc::new(RuntimeClock::new(START)),
        )
        .unwrap();
        for round in 0..10 {
            let one = |id| Entry {
                event: sized_event(&format!("{round}-{id}"), 4_000),
                ..entry("x", &[])
            };
            journal
                .append(append_of((0..300).map(one).collect()))
                .await
                .unwrap();
        }
        journal.upkeep().await;
        let full = schema::size_bytes(directory.path());
        tokio::time::advance(MINUTE * 2).await;
        journal.upkeep().await;
        let totals = journal.reader().totals().await.unwrap();
        assert_eq!((totals.events, totals.last_sequence), (0, 3_000));
        let spare = 300 * schema::PAGE_BYTES;
        assert!(
            totals.bytes < spare && full > 3 * spare,
            "{} of {full} bytes are left",
            totals.bytes
        );
    });
}

#[test]
fn others_cannot_read_a_store_new_or_old() {
    use std::os::unix::fs::PermissionsExt;
    suite::paused(async {
        let parent = TempDir::new().unwrap();
        let directory = parent.path().join("a/store");
        let journal = open(&directory).unwrap();
        fill(&journal).await;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let files = [
            "journal.db",
            "journal.db-wal",
            "journal.db-shm",
            "mark",
            "lock",
            "ballast",
        ];
        let check = || {
            assert_eq!(mode(&directory), 0o700);
            files
                .iter()
                .for_each(|file| assert_eq!(mode(&directory.join(file)), 0o600, "{file}"));
        };
        check();
        journal.close().await;
        drop(journal);
        // As an earlier version left it.
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
        };
        let aside = directory.join("damaged-1");
        std::fs::create_dir(&aside).unwrap();
        std::fs::write(aside.join("journal.db"), "").unwrap();
        for path in [
            directory.join("journal.db"),
            directory.join("mark"),
            directory.join("lock"),
            aside.join("journal.db"),
        ] {
            set(&path, 0o644);
        }
        set(&aside, 0o755);
        set(&directory, 0o755);
        let journal = open(&directory).unwrap();
        journal
            .append(append_of(vec![entry("x", &[])]))
            .await
            .unwrap();
        check();
        assert_eq!(
            (mode(&aside), mode(&aside.join("journal.db"))),
            (0o700, 0o600)
        );
        // What a salvage makes is no more open: the first page is gone.
        journal.close().await;
        drop(journal);
        std::fs::OpenOptions::new()
            .write(true)
            .open(directory.join("journal.db"))
            .unwrap()
            .set_len(9)
            .unwrap();
        let journal = open(&directory).unwrap();
        assert!(
            journal.warnings()[0].contains("damaged"),
            "{:?}",
            journal.warnings()
        );
        check();
        for entry in std::fs::read_dir(&directory).unwrap().flatten() {
            assert_eq!(mode(&entry.path()) & 0o077, 0, "{:?}", entry.path());
        }
    });
}

/// Takes all rows out of the index over order keys, as a damaged page may.
fn unindex(directory: &Path) {
    let other = schema::connect(directory, Purpose::Write).unwrap();
    other
        .execute_batch(
            "BEGIN IMMEDIATE;
             CREATE TEMP TABLE index_of AS SELECT * FROM main.sqlite_schema WHERE name = 'by_key';
             CREATE TEMP TABLE keyed AS SELECT sequence, run, order_key AS key FROM pending WHERE order_key IS NOT NULL;
             UPDATE pending SET order_key = NULL;
             PRAGMA writable_schema = ON;
             DELETE FROM main.sqlite_schema WHERE name = 'by_key';
             PRAGMA writable_schema = RESET;
             UPDATE pending SET order_key = keyed.key FROM keyed WHERE pending.sequence = keyed.sequence AND pending.run = keyed.run;
             PRAGMA writable_schema = ON;
             INSERT INTO main.sqlite_schema SELECT * FROM temp.index_of;
             PRAGMA writable_schema = RESET;
             COMMIT;",
        )
        .unwrap();
    assert!(
        check::look_at_pages(&other).unwrap().is_some(),
        "the index is damaged"
    );
}

/// Whether this process holds SQLite's lock on a store's database, as the kernel tells everybody
/// (proc_locks(5)).
#[cfg(target_os = "linux")]
fn is_locked(directory: &Path) -> bool {
    let (process, file) = (
        format!(" {} ", std::process::id()),
        format!(":{} ", schema::file(directory)),
    );
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks
        .lines()
        .any(|lock| lock.contains(" POSIX ") && lock.contains(&process) && lock.contains(&file))
}

#[test]
#[cfg(target_os = "linux")]
fn the_database_stays_locked_while_its_pages_are_read_beside_sqlite() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let journal = open(directory.path()).unwrap();
        fill(&journal).await;
        assert!(is_locked(directory.path()));
        journal.close().await;
        drop(journal);
        assert!(!is_locked(directory.path()));
        unindex(directory.path());
        let journal = open(directory.path()).unwrap();
        assert!(
            journal.warnings()[0].contains("made anew"),
            "{:?}",
            journal.warnings()
        );
        assert!(is_locked(directory.path()), "mended at the start");
        unindex(directory.path());
        let epoch = journal.shared.epoch();
        journal
            .shared
            .suspect(trouble::corrupt("a page".to_owned()));
        while journal.shared.epoch() == epoch {
            std::thread::yield_now();
        }
        let other = schema::connect(directory.path(), Purpose::Look).unwrap();
        assert_eq!(check::look_at_pages(&other).unwrap(), None, "it was mended");
        drop(other);
        assert!(is_locked(directory.path()), "mended while it was open");
    });
}

#[test]
fn a_first_start_that_came_to_nothing_has_lost_no_commits() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        for files in [vec!["mark"], vec!["mark", "journal.db"]] {
            files
                .iter()
                .for_each(|file| std::fs::write(directory.path().join(file), "").unwrap());
            let journal = open(directory.path()).unwrap();
            assert_eq!(journal.warnings(), &[] as &[String], "{files:?}");
            journal.close().await;
            drop(journal);
            std::fs::remove_file(directory.path().join("journal.db")).unwrap();
        }
        // Made, and ended before the first commit.
        let journal = open(directory.path()).unwrap();
        journal.close().await;
        drop(journal);
        assert_eq!(std::fs::read(directory.path().join("mark")).unwrap(), b"");
        assert_eq!(open(directory.path()).unwrap().warnings(), &[] as &[String]);
    });
}
