//! Saving what a damaged store still holds: every row that its pages hold is copied into a new
//! database, which then takes the old one's place.
//!
//! A read that fails is no damage: it ends the salvage, nothing is changed, and it is tried again
//! later. A copy with fewer rows than the counters say is made from two readings that agree. The
//! old files are kept beside the new ones.

use std::path::{Path, PathBuf};

use pointsman_schemas::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::actual::Actual;
use super::raw::cells::Row;
use super::raw::log::Log;
use super::raw::{DatabaseFile, Image, PointerMap};
use super::schema::{self, Purpose};
use super::tables::{TABLES, table_of};
use super::trouble::Trouble;
use super::{reader, store};

/// Readings of a store whose rows are fewer than its counters say, after which it is left for
/// later: they ought to agree.
const READINGS_MAX: usize = 4;

/// Where the files of a damaged store are kept.
pub(super) fn kept(directory: &Path, now: Timestamp) -> PathBuf {
    directory.join(format!("damaged-{}", now.0))
}

/// Keeps the write-ahead log as it is, and puts one in its place that SQLite reads to the end.
/// Tells where it is kept.
pub(super) fn set_log_aside(
    directory: &Path,
    now: Timestamp,
    log: &Log,
) -> std::io::Result<PathBuf> {
    let (path, draft) = (schema::log(directory), directory.join("salvage-wal"));
    let kept = kept(directory, now);
    store::create_directory(&kept)?;
    let copy = kept.join("journal.db-wal.damaged");
    drop(store::create_file(&copy)?);
    std::fs::copy(&path, &copy)?;
    std::fs::File::open(&copy)?.sync_all()?;
    store::sync_directory(&kept)?;
    let to = store::create_file(&draft)?;
    to.set_len(0)?;
    log.write_mended(&std::fs::File::open(&path)?, &to)?;
    // What says where in the log which page is belongs to the old one.
    match std::fs::remove_file(directory.join("journal.db-shm")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(&draft, &path)?;
    store::sync_directory(directory)?;
    Ok(copy)
}

/// Copies everything that can be read into a new database and puts it in the place of the old one,
/// whose files are kept. Says how that went.
pub(super) fn salvage(
    directory: &Path,
    database: &DatabaseFile,
    now: Timestamp,
) -> Result<String, Trouble> {
    let draft = directory.join("salvage");
    let found = match fill(directory, database, &draft, now) {
        Ok(found) => found,
        Err(trouble) => {
            // It would take up room until the next one.
            remove(&draft)?;
            return Err(trouble);
        }
    };
    // From here on the copy is whole: what is interrupted now is finished by the next start.
    let ready = ready(directory);
    remove(&ready)?;
    std::fs::rename(&draft, &ready)?;
    store::sync_directory(directory)?;
    let kept = put_in_place(directory, now)?.unwrap_or_else(|| kept(directory, now));
    let copied: Vec<_> = TABLES
        .iter()
        .zip(found)
        .map(|((table, ..), count)| format!("{count} {table}"))
        .collect();
    Ok(format!(
        "what could be read was copied ({}), and the old files are kept in {kept:?}",
        copied.join(", ")
    ))
}

/// Makes a new database with every row of the old one; tells how many it has, by table.
fn fill(
    directory: &Path,
    database: &DatabaseFile,
    draft: &Path,
    now: Timestamp,
) -> Result<Vec<u64>, Trouble> {
    remove(draft)?;
    store::create_directory(draft)?;
    store::create_file(&schema::database(draft))?;
    let mut new = schema::connect(draft, Purpose::Write)?;
    schema::create(&mut new, now)?;
    new.execute_batch("DELETE FROM meta; PRAGMA synchronous = OFF; BEGIN")?;
    let mut found = copy(directory, database, &new)?;
    for reading in 1.. {
        if !is_short(&new)? {
            break;
        }
        // Fewer than there were: all is read once more before that is believed.
        let again = copy(directory, database, &new)?;
        if again == found {
            break;
        }
        if reading == READINGS_MAX {
            let differ = std::io::Error::other("readings of the damaged store differ");
            return Err(differ.into());
        }
        found = again;
    }
    // A store of format 1 has neither, and stays one of format 1 until its next commit.
    if !new.query_row(
        "SELECT EXISTS (SELECT 1 FROM meta WHERE name IN ('epochs', 'format'))",
        [],
        |row| row.get(0),
    )? {
        new.pragma_update(None, "user_version", 1)?;
    } else {
        // The copied one may be of an earlier format, and the copy has the tables of this one.
        schema::write_format(&new)?;
    }
    new.execute_batch("COMMIT; PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(TRUNCATE)")?;
    new.close().map_err(|(_, error)| error)?;
    std::fs::File::open(schema::database(draft))?.sync_all()?;
    Ok(found)
}

/// Where a finished copy waits to be put in the place of the old files.
fn ready(directory: &Path) -> PathBuf {
    directory.join("salvaged")
}

fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts a finished copy in the place of the old files; tells where those are kept, or none where
/// there is no copy.
pub(super) fn put_in_place(directory: &Path, now: Timestamp) -> std::io::Result<Option<PathBuf>> {
    let ready = ready(directory);
    if !schema::database(&ready).exists() {
        remove(&ready)?;
        return Ok(None);
    }
    let kept = kept(directory, now);
    store::create_directory(&kept)?;
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("journal.db{suffix}");
        match std::fs::rename(directory.join(&name), kept.join(&name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    store::sync_directory(&kept)?;
    // The old log must be gone for good before the new database comes: SQLite would lay it over
    // that.
    store::sync_directory(directory)?;
    std::fs::rename(schema::database(&ready), schema::database(directory))?;
    store::sync_directory(directory)?;
    remove(&ready)?;
    Ok(Some(kept))
}

/// Copies every row; tells how many the new database has then, by table.
fn copy(directory: &Path, database: &DatabaseFile, new: &Connection) -> Result<Vec<u64>, Trouble> {
    let image = Image::open(directory, database)?;
    let mut map = PointerMap::default();
    for page in 1..=image.pages() {
        for row in image.rows(page, &mut map)? {
            insert(new, row)?;
        }
    }
    let count = |table: &str| {
        new.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
            row.get(0)
        })
        .map(i64::cast_unsigned)
    };
    Ok(TABLES
        .iter()
        .map(|(table, ..)| count(table))
        .collect::<rusqlite::Result<_>>()?)
}

/// Puts a row into the table that it is of. One that does not pass its check is kept where no
/// better one is there: it is set aside later.
fn insert(new: &Connection, Row { number, mut values }: Row) -> rusqlite::Result<()> {
    let Some((table, is_sound)) = table_of(number, &values) else {
        return Ok(());
    };
    if let (Some(number), Some(first)) = (number, values.first_mut()) {
        *first = Value::Integer(number);
    }
    let how = if is_sound {
        "REPLACE"
    } else {
        "INSERT OR IGNORE"
    };
    let marks = vec!["?"; values.len()].join(", ");
    let mut insert = new.prepare_cached(&format!("{how} INTO {table} VALUES ({marks})"))?;
    match insert.execute(params_from_iter(values)) {
        // A row that does not fit its table any more is none.
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Whether there are fewer rows than the counters say, or no counters.
fn is_short(new: &Connection) -> rusqlite::Result<bool> {
    let Ok(ledger) = schema::read_ledger(new)? else {
        return Ok(true);
    };
    let actual = Actual::count(new)?;
    let mut short = actual.events < ledger.events
        || actual.dead < ledger.dead
        || actual.positions < ledger.positions
        || actual.history.0 < ledger.history
        || actual.keys < ledger.keys
        || actual.replays < ledger.replays
        || actual.kept < ledger.kept;
    for (number, subscribed) in reader::subscriptions(new)? {
        let (pending, _, dead) = actual
            .subscriptions
            .get(&number)
            .copied()
            .unwrap_or_default();
        short |= subscribed.map_or(true, |subscribed| {
            pending < subscribed.counts.pending || dead < subscribed.counts.dead
        });
    }
    Ok(short)
}
