//! The database file: how it is opened, its tables, and the one row that changes with every commit.
//!
//! | table | key | kept |
//! |---|---|---|
//! | `meta` | name | the journal's identity; the ledger: commit number, last sequence, totals; the epochs |
//! | `events` | sequence | written once, never updated |
//! | `subscriptions` | number | identity, activity, counters |
//! | `pending` | subscription, sequence, run | deliveries that have not ended; the index `by_due` is the queue, `by_key` the order keys |
//! | `dead` | sequence, subscription, run | dead letters; rejects with subscription 0 |
//! | `cursors` | tenant, source | how far sources have been read |
//! | `positions` | tenant, source, key | what sources know of the things that they follow |
//! | `identities` | two halves of a hash | what deduplication remembers |
//! | `keys` | two halves of a hash | keys that sources and rules declare, and ids of tasks; see [`super::record::KeyRow`] |
//! | `quarantine` | number | damaged rows, as they were found |
//! | `history` | number | attempts made and how runs ended, in blocks; see [`super::record::HistoryRow`] |
//! | `replays` | id | replays that are running, and the last that have ended |
//! | `kept` | sequence | events that retention looks at by a time of their own; see [`walk`] |
//!
//! | format | what it adds |
//! |---|---|
//! | 1 | |
//! | 2 | the epochs, in `meta` |
//! | 3 | the table `positions` |
//! | 4 | the tables `history`, `keys` and `replays`; the replay of a delivery, what a dead letter was edited to |
//! | 5 | the table `kept`; until when an event is kept, in its record; how far retention has come, in `meta` |

mod ledger;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_schemas::{JournalId, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::OpenError;
use super::epochs::Epochs;
use super::record::{Damage, Decoder, Encoder, Table};

pub(super) use self::ledger::{Ledger, NOT_KNOWN, read_ledger, write_ledger};
pub(super) use self::walk::{Walk, read_walk, write_walk};

/// The format that this software writes: kept in `PRAGMA user_version`.
pub(super) const FORMAT: i32 = 5;

/// Marks the file as ours in its header: `Pman`.
const APPLICATION: i32 = 0x506D_616E;

/// What `PRAGMA auto_vacuum` says of a database that gives space back step by step.
const INCREMENTAL: i64 = 2;

/// 8 KiB pages: seven events of 1 KiB to a page, and half as many page headers as SQLite's own 4
/// KiB would need.
pub(super) const PAGE_BYTES: u64 = 8192;

/// The tables of formats 1 and 2.
const TABLES_OF_FORMAT_2: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (sequence INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE subscriptions (number INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE pending (
    subscription INTEGER NOT NULL, sequence INTEGER NOT NULL, run INTEGER NOT NULL, due INTEGER, order_key INTEGER, value BLOB NOT NULL,
    PRIMARY KEY (subscription, sequence, run)
) WITHOUT ROWID;
CREATE INDEX by_due ON pending (subscription, due, sequence, run) WHERE due IS NOT NULL;
CREATE INDEX by_key ON pending (subscription, order_key, sequence, run) WHERE order_key IS NOT NULL;
CREATE INDEX blocks ON pending (subscription, sequence) WHERE run < 0;
CREATE TABLE dead (
    sequence INTEGER NOT NULL, subscription INTEGER NOT NULL, run INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (sequence, subscription, run)
) WITHOUT ROWID;
CREATE TABLE cursors (tenant TEXT NOT NULL, source TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tenant, source)) WITHOUT ROWID;
CREATE TABLE identities (high INTEGER NOT NULL, low INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (high, low)) WITHOUT ROWID;
CREATE TABLE quarantine (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, place TEXT NOT NULL, key TEXT NOT NULL, why TEXT NOT NULL, value BLOB
);
";

/// The table that format 3 adds to them.
const POSITIONS: &str = "
CREATE TABLE positions (
    tenant TEXT NOT NULL, source TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (tenant, source, key)
) WITHOUT ROWID;
";

/// The tables that format 4 adds. Rows of the history of several deliveries have an index of their
/// own: those that may tell of one delivery are few, as a row reaches over a bounded number of
/// sequences, and are found without the rows of single ones that lie in between.
const OF_FORMAT_4: &str = "
CREATE TABLE history (
    number INTEGER PRIMARY KEY, subscription INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE INDEX history_of_one ON history (subscription, first) WHERE first = last;
CREATE INDEX history_of_many ON history (subscription, last, first) WHERE first < last;
CREATE TABLE replays (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
";

/// The other table that format 4 adds. The index finds those that are forgotten next.
const KEYS: &str = "
CREATE TABLE keys (
    high INTEGER NOT NULL, low INTEGER NOT NULL, until INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (high, low)
) WITHOUT ROWID;
CREATE INDEX keys_by_end ON keys (until);
";

/// The table that format 5 adds. The index finds what is looked at next.
const KEPT: &str = "
CREATE TABLE kept (sequence INTEGER PRIMARY KEY, until INTEGER NOT NULL, value BLOB NOT NULL);
CREATE INDEX kept_by_end ON kept (until);
";

/// The indexes of some rows of a table alone: the table, the index, and which rows.
pub(super) const PARTIAL_INDEXES: [(&str, &str, &str); 5] = [
    ("pending", "by_due", "due IS NOT NULL"),
    ("pending", "by_key", "order_key IS NOT NULL"),
    ("pending", "blocks", "run < 0"),
    ("history", "history_of_one", "first = last"),
    ("history", "history_of_many", "first < last"),
];

/// What every format from 3 on has added to the tables of the one before it.
const ADDED: [&str; 4] = [POSITIONS, OF_FORMAT_4, KEYS, KEPT];

/// The database file in a store's directory.
pub(super) fn database(directory: &Path) -> PathBuf {
    directory.join("journal.db")
}

/// The write-ahead log beside it.
pub(super) fn log(directory: &Path) -> PathBuf {
    directory.join("journal.db-wal")
}

/// The number of the database's file on its file system; 0 where it is not known. A copy has
/// another, unless it was written over the file.
pub(super) fn file(directory: &Path) -> u64 {
    database(directory)
        .metadata()
        .map_or(0, |metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
}

/// What a connection is for; it decides how much it may cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Load,
    Look,
}

/// How long one connection waits for another.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Opens a connection to an existing database, or to a new one where the purpose is to write.
pub(super) fn connect(directory: &Path, purpose: Purpose) -> rusqlite::Result<Connection> {
    let create = if purpose == Purpose::Write {
        OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::empty()
    };
    // A reader writes nothing, but taking part in the write-ahead log takes a writable connection.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let connection = Connection::open_with_flags(database(directory), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Without it the planner looks at what is bound to a limit, and a statement kept for its next
    // use is then prepared anew whenever something else is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let cache_kib = match purpose {
        Purpose::Write => 16 * 1024,
        Purpose::Load => 8 * 1024,
        Purpose::Look => 2 * 1024,
    };
    // No memory map: a page that cannot be read is then an error, not a signal.
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA cache_size = -{cache_kib}; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
    ))?;
    if purpose == Purpose::Write {
        // Set where it is set already, it would be written again, and opening a store on a full
        // disk must not need room in the log.
        if connection.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0))?
            != INCREMENTAL
        {
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL;")?;
        }
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;",
        )?;
    } else {
        connection.execute_batch("PRAGMA query_only = ON;")?;
        // Who only looks leaves the write-ahead log where it is.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    }
    Ok(connection)
}

/// Makes the tables where the database is new, and gives the journal its identity.
pub(super) fn create(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES_OF_FORMAT_2)?;
    transaction.execute_batch(&ADDED.concat())?;
    write_identity(&transaction, JournalId(rand::random()), now)?;
    write_ledger(&transaction, &Ledger::default())?;
    write_epochs(&transaction, &Epochs::default())?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    write_format(&transaction)?;
    transaction.commit()
}

/// Gives the journal an identity.
pub(super) fn write_identity(
    connection: &Connection,
    id: JournalId,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut identity = Encoder::new(16);
    identity.number(id.0).time(now);
    let identity = identity.seal(Table::Meta, &[super::record::key_of("journal")]);
    connection
        .execute("REPLACE INTO meta VALUES ('journal', ?1)", [identity])
        .map(drop)
}

/// The format of the database; 0 where it is empty.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Says that the database is of the format written today.
pub(super) fn write_format(connection: &Connection) -> rusqlite::Result<()> {
    write_format_number(connection, FORMAT)
}

/// Writes the number of a format where every version looks, and again with a checksum: in the
/// header a flipped bit makes another of it.
pub(super) fn write_format_number(connection: &Connection, format: i32) -> rusqlite::Result<()> {
    let mut value = Encoder::new(8);
    value.number(u64::from(format.unsigned_abs()));
    let value = value.seal(Table::Meta, &[super::record::key_of("format")]);
    connection.execute("REPLACE INTO meta VALUES ('format', ?1)", [value])?;
    connection.pragma_update(None, "user_version", format)
}

/// The format of a database that a later version has written; none of one that is understood.
pub(super) fn later_format(connection: &Connection) -> rusqlite::Result<Option<i32>> {
    let found = format(connection)?;
    Ok((found > FORMAT && !is_format_damaged(connection)?).then_some(found))
}

/// Whether the header says a later format than the database has.
pub(super) fn is_format_damaged(connection: &Connection) -> rusqlite::Result<bool> {
    if format(connection)? <= FORMAT {
        return Ok(false);
    }
    let decode = |value: Vec<u8>| {
        Decoder::open(Table::Meta, &[super::record::key_of("format")], &value)?.narrow::<i32>()
    };
    Ok(meta(connection, "format")?
        .and_then(decode)
        .is_ok_and(|written| written <= FORMAT))
}

/// Refuses a database that a later version of this software has written.
pub(super) fn check_format(connection: &Connection, directory: &Path) -> Result<(), OpenError> {
    let later = later_format(connection).map_err(|error| OpenError::database(directory, &error))?;
    later.map_or(Ok(()), |found| {
        Err(OpenError::Newer {
            path: directory.to_owned(),
            found,
            understood: FORMAT,
        })
    })
}

/// Every table and index of a database, as it was made.
type Made = Vec<[Option<String>; 4]>;

fn made(connection: &Connection) -> rusqlite::Result<Made> {
    let mut select =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")?;
    let rows = select.query_map([], |row| {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
    })?;
    rows.collect()
}

/// Adds what this format has to a sound database of an earlier one. The number of the format
/// changes in the same transaction: an earlier version that found a new table under the old number
/// would take it for damage.
pub(super) fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    let found = made(connection)?;
    let model = Connection::open_in_memory()?;
    model.execute_batch(TABLES_OF_FORMAT_2)?;
    for (at, added) in ADDED.iter().enumerate() {
        if found == made(&model)? {
            return upgrade_by(connection, ADDED.get(at..).unwrap_or_default());
        }
        model.execute_batch(added)?;
    }
    Ok(())
}

fn upgrade_by(connection: &mut Connection, added: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    // Without epochs only format 1 is sound.
    if let Ok(epochs) = read_epochs(&transaction)? {
        write_epochs(&transaction, &epochs)?;
    }
    transaction.execute_batch(&added.concat())?;
    write_format(&transaction)?;
    transaction.commit()
}

/// Refuses a database whose tables are not those that this software makes.
pub(super) fn check_tables(connection: &Connection) -> rusqlite::Result<()> {
    let model = Connection::open_in_memory()?;
    model.execute_batch(TABLES_OF_FORMAT_2)?;
    model.execute_batch(&ADDED.concat())?;
    if made(connection)? == made(&model)? {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some("its tables are not as they were made".to_owned()),
    ))
}

/// What the store takes on disk.
pub(super) fn size_bytes(directory: &Path) -> u64 {
    [database(directory), log(directory)]
        .iter()
        .filter_map(|path| path.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Pages of the database: all, and those that nothing uses.
pub(super) fn pages(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let free = "PRAGMA freelist_count";
    Ok((page_count(connection)?, number(connection, free)?))
}

/// Pages of the database.
pub(super) fn page_count(connection: &Connection) -> rusqlite::Result<u64> {
    number(connection, "PRAGMA page_count")
}

fn number(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Result<Vec<u8>, Damage>> {
    let value = connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(value.ok_or(Damage("it is missing")))
}

/// The journal's identity.
pub(super) fn journal_id(connection: &Connection) -> rusqlite::Result<Result<JournalId, Damage>> {
    let decode = |value: Vec<u8>| {
        Decoder::open(Table::Meta, &[super::record::key_of("journal")], &value)?
            .number()
            .map(JournalId)
    };
    Ok(meta(connection, "journal")?.and_then(decode))
}

/// The epochs of the store; one that has none is of format 1.
pub(super) fn read_epochs(connection: &Connection) -> rusqlite::Result<Result<Epochs, Damage>> {
    match meta(connection, "epochs")? {
        Ok(value) => Ok(Epochs::decode(&value)),
        Err(damage) if format(connection)? > 1 => Ok(Err(damage)),
        Err(_) => Ok(journal_id(connection)?.map(Epochs::of_format_1)),
    }
}

pub(super) fn write_epochs(connection: &Connection, epochs: &Epochs) -> rusqlite::Result<()> {
    connection
        .execute("REPLACE INTO meta VALUES ('epochs', ?1)", [epochs.encode()])
        .map(drop)
}

/// Whether there are keys whose window has passed.
pub(super) fn has_keys_until(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM keys INDEXED BY keys_by_end WHERE until <= ?1 LIMIT 1")?
        .exists([now.0])
}

/// A number of rows as SQLite takes it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_prepared_once_whatever_is_bound_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = connect(folder.path(), Purpose::Write).unwrap();
        create(&mut connection, Timestamp(0)).unwrap();
        let mut select = connection
            .prepare("SELECT sequence FROM pending WHERE subscription = ?1 LIMIT ?2")
            .unwrap();
        for number in 1..4 {
            let mut rows = select.query([number, number]).unwrap();
            assert!(rows.next().unwrap().is_none());
        }
        assert_eq!(select.get_status(StatementStatus::RePrepare), 0);
    }
}
