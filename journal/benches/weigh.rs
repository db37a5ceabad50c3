//! What ways to keep events would cost, without anything around them: the rows of the journal as it
//! is, with less or more of them, and files beside SQLite. Each commit stores some events of 1 KiB
//! and ends as many deliveries: `cargo bench -p pointsman-journal --bench weigh`. With `TMPDIR` on
//! a tmpfs the syncs are left out. What came of it is in docs/develop/performance.md.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

const EVENTS: i64 = 2 * EVENTS_PER_CHECKPOINT;
/// Events before those that are measured: the log has its length then.
const EVENTS_BEFORE: i64 = EVENTS_PER_CHECKPOINT;
/// A multiple of what any of the transactions holds.
const EVENTS_PER_CHECKPOINT: i64 = 8192;
/// Few callers, and many.
const EVENTS_PER_COMMIT: [i64; 2] = [16, 64];
const RECORD_BYTES: usize = 1100;
const FILE_BYTES: usize = 32 * 1024 * 1024;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (sequence INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE subscriptions (number INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE pending (
    subscription INTEGER NOT NULL, sequence INTEGER NOT NULL, run INTEGER NOT NULL, due INTEGER,
    order_key INTEGER, value BLOB NOT NULL, PRIMARY KEY (subscription, sequence, run)
) WITHOUT ROWID;";

const INDEXES: &str = "
CREATE INDEX by_due ON pending (subscription, due, sequence, run) WHERE due IS NOT NULL;
CREATE INDEX blocks ON pending (subscription, sequence) WHERE run < 0;";

/// One way to keep events.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    page_bytes: u32,
    has_indexes: bool,
    has_pending: bool,
    /// Events lie in a synced file, of which SQLite knows the offsets, unsynced.
    is_beside: bool,
    /// How many commits to the file make one of SQLite; none where there is no SQLite.
    commits_per_transaction: Option<i64>,
}

const TODAY: Way = Way {
    name: "rows as they are",
    page_bytes: 8192,
    has_indexes: true,
    has_pending: true,
    is_beside: false,
    commits_per_transaction: Some(1),
};

const WAYS: [Way; 8] = [
    TODAY,
    Way {
        name: "pages of 4 KiB",
        page_bytes: 4096,
        ..TODAY
    },
    Way {
        name: "pages of 16 KiB",
        page_bytes: 16384,
        ..TODAY
    },
    Way {
        name: "no indexes",
        has_indexes: false,
        ..TODAY
    },
    Way {
        name: "no row for what is delivered at once",
        has_pending: false,
        ..TODAY
    },
    Way {
        name: "events in a file, SQLite unsynced",
        is_beside: true,
        ..TODAY
    },
    Way {
        name: "the same, SQLite every 16 commits",
        is_beside: true,
        commits_per_transaction: Some(16),
        ..TODAY
    },
    Way {
        name: "a file alone",
        is_beside: true,
        commits_per_transaction: None,
        ..TODAY
    },
];

/// CPU time of this thread, in µs: the first field of /proc/self/schedstat, in ns.
fn cpu_micros() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    let nanoseconds = stat.split_whitespace().next().map(str::parse::<f64>);
    nanoseconds
        .and_then(Result::ok)
        .expect("a number of nanoseconds")
        / 1000.0
}

fn open(folder: &Path, way: &Way) -> rusqlite::Result<Connection> {
    let connection = Connection::open(folder.join("store.db"))?;
    let synchronous = if way.is_beside { "OFF" } else { "FULL" };
    connection.execute_batch(&format!(
        "PRAGMA page_size = {}; PRAGMA cache_size = -16384; PRAGMA cell_size_check = ON;
         PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 0;",
        way.page_bytes
    ))?;
    connection.execute_batch(TABLES)?;
    if way.has_indexes {
        connection.execute_batch(INDEXES)?;
    }
    Ok(connection)
}

/// The rows of one commit, which ends the deliveries of the one before.
fn write_rows(
    connection: &Connection,
    way: &Way,
    first: i64,
    count: i64,
    record: &[u8],
) -> rusqlite::Result<()> {
    let mut event = connection.prepare_cached("INSERT INTO events VALUES (?1, ?2)")?;
    if way.is_beside {
        // One row for the place of them all.
        event.execute(params![first, record.get(..8)])?;
    } else {
        for sequence in first..first + count {
            event.execute(params![sequence, record])?;
        }
    }
    if way.has_pending {
        connection
            .prepare_cached("INSERT INTO pending VALUES (1, ?1, -1, ?1, NULL, ?2)")?
            .execute(params![first, record.get(..32)])?;
        connection
            .prepare_cached(
                "DELETE FROM pending WHERE subscription = 1 AND sequence = ?1 AND run = -1",
            )?
            .execute([first - count])?;
    }
    connection
        .prepare_cached("REPLACE INTO subscriptions VALUES (1, ?1)")?
        .execute([record.get(..60)])?;
    connection
        .prepare_cached("REPLACE INTO meta VALUES ('ledger', ?1)")?
        .execute([record.get(..60)])?;
    Ok(())
}

/// Frames that have come into the log since the last time; all of them are moved.
fn checkpoint(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(1))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures per event need no more than 52 bits"
)]
fn measure(way: &Way, count: i64) -> rusqlite::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let connection = open(folder.path(), way)?;
    let file = File::create(folder.path().join("events")).expect("a file can be made");
    file.write_all_at(&vec![0; FILE_BYTES], 0)
        .expect("there is room");
    let record = vec![7; RECORD_BYTES];
    let (mut begin, mut frames, mut at, mut uncommitted) = ((0.0, Instant::now()), 0, 0, 0);
    for first in (1..=EVENTS_BEFORE + EVENTS).step_by(usize::try_from(count).unwrap_or(1)) {
        if first > EVENTS_BEFORE && begin.0 == 0.0 {
            (begin, frames) = ((cpu_micros(), Instant::now()), 0);
        }
        if way.is_beside {
            let batch = record.repeat(usize::try_from(count).unwrap_or(1));
            file.write_all_at(&batch, at).expect("there is room");
            file.sync_data().expect("the disk works");
            at = (at + batch.len() as u64) % (FILE_BYTES - batch.len()) as u64;
        }
        let Some(commits) = way.commits_per_transaction else {
            continue;
        };
        if uncommitted == 0 {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        write_rows(&connection, way, first, count, &record)?;
        uncommitted += 1;
        if uncommitted == commits {
            connection.prepare_cached("COMMIT")?.execute([])?;
            uncommitted = 0;
            if (first + count - 1) % EVENTS_PER_CHECKPOINT == 0 {
                frames += checkpoint(&connection)?;
            }
        }
    }
    let per_event = 1.0 / EVENTS as f64;
    println!(
        "{count:>3} events per commit, {:<38} {:>6.2} µs of CPU, {:>6.1} µs, {:>5.2} pages per event",
        way.name,
        (cpu_micros() - begin.0) * per_event,
        begin.1.elapsed().as_secs_f64() * 1e6 * per_event,
        frames as f64 * per_event,
    );
    Ok(())
}

fn main() {
    for count in EVENTS_PER_COMMIT {
        for way in &WAYS {
            measure(way, count).expect("SQLite works");
        }
    }
}
