//! Finding out what is wrong with a store, and mending it.
//!
//! Damage is found in four ways. The files themselves: the header, lengths, and the write-ahead
//! log, of which SQLite would drop what lies behind a flipped bit ([`super::raw`]). SQLite finds
//! pages that make no sense: then every row that can be read is copied into a new database and the
//! old files are kept beside it ([`super::salvage`]). Checksums find rows that do not say what was
//! written: they are moved to `quarantine`. And the stored counters find what is not there at all:
//! it is counted as quarantined. A store of up to [`CHECKED_AT_OPEN_BYTES`] is looked through whole
//! when it is opened; a larger one in the background, and when a page of it makes no sense.
//!
//! A read that fails is no damage. It ends whatever is being done here, nothing is changed, and the
//! caller tries again later.

mod small;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::{Clock, Timestamp};
use rusqlite::Connection;

use self::small::read_committed;
use super::actual::Actual;
use super::committed::CommittedState;
use super::queues::Queues;
use super::raw::{DatabaseFile, Image};
use super::schema::{self, Purpose};
use super::tables::find_damaged;
use super::transaction::{Failure, Transaction};
use super::trouble::{Trouble, corrupt, is_corrupt};
use super::{OpenError, salvage};
use crate::JournalError;

/// Looking through so much takes some tenths of a second.
const CHECKED_AT_OPEN_BYTES: u64 = 32 * 1024 * 1024;

/// Findings of SQLite that are looked at: enough to see whether it is an index alone.
const FINDINGS_MAX: u32 = 8;

/// A store that is fit to be used.
pub(super) struct Checked {
    pub(super) connection: Connection,
    pub(super) committed: CommittedState,
    /// What was wrong, for a person.
    pub(super) findings: Vec<String>,
    /// Whether all of it was looked at.
    pub(super) is_whole: bool,
}

/// Why the store is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The journal begins: nobody else uses the files.
    Start,
    /// A read or a write has failed.
    Failure,
    /// A page made no sense.
    Damage,
}

/// Opens the database for writing, makes it where it is new, and mends what can be mended.
pub(super) fn open(
    directory: &Path,
    database: &DatabaseFile,
    clock: &dyn Clock,
    occasion: Occasion,
) -> Result<Checked, OpenError> {
    mend_and_open(directory, database, clock.now(), occasion)
        .map_err(|trouble| trouble.at(directory))
}

fn mend_and_open(
    directory: &Path,
    database: &DatabaseFile,
    now: Timestamp,
    occasion: Occasion,
) -> Result<Checked, Trouble> {
    let mut findings = Vec::new();
    let mut wrong = None;
    if occasion == Occasion::Start {
        if let Some(kept) = salvage::put_in_place(directory, now)? {
            findings.push(format!(
                "a salvage that was interrupted has been finished; the old files are kept in \
                 {kept:?}"
            ));
        }
        if !is_new(directory) {
            wrong = check_files(directory, database, now, &mut findings)?;
        }
    }
    let opened = match wrong {
        Some(wrong) => Err(corrupt(wrong).into()),
        None => attempt(directory, database, now, occasion == Occasion::Damage),
    };
    let mut checked = match opened {
        Err(Trouble::Database(error)) if is_corrupt(&error) => {
            let saved = salvage::salvage(directory, database, now)?;
            findings.push(format!("the database was damaged ({error}); {saved}"));
            attempt(directory, database, now, true)?
        }
        other => other?,
    };
    findings.append(&mut checked.findings);
    Ok(Checked {
        findings,
        ..checked
    })
}

fn is_new(directory: &Path) -> bool {
    schema::database(directory)
        .metadata()
        .is_ok_and(|metadata| metadata.len() == 0)
        && !schema::log(directory).exists()
}

/// Looks at the files before SQLite does: mends the write-ahead log, and tells what of the database
/// cannot be right.
fn check_files(
    directory: &Path,
    database: &DatabaseFile,
    now: Timestamp,
    findings: &mut Vec<String>,
) -> Result<Option<String>, Trouble> {
    let image = Image::open(directory, database)?;
    if let Some(log) = image.log().filter(|log| log.commits_saved() > 0) {
        let (mended, damaged) = log.damaged();
        let kept = salvage::set_log_aside(directory, now, log)?;
        findings.push(format!(
            "the write-ahead log was damaged: {mended} frames had a wrong bit and were mended, \
             {damaged} could not be; {} commits behind the damage were saved, and the log as it \
             was is kept in {kept:?}",
            log.commits_saved()
        ));
    }
    Ok(image.wrong()?)
}

fn attempt(
    directory: &Path,
    database: &DatabaseFile,
    now: Timestamp,
    suspect: bool,
) -> Result<Checked, Trouble> {
    let is_new = is_new(directory);
    let mut connection = schema::connect(directory, Purpose::Write)?;
    if is_new {
        schema::create(&mut connection, now)?;
    }
    let mut findings = Vec::new();
    // Before anything else: a later version may have other tables.
    if let Some(found) = schema::later_format(&connection)? {
        return Err(Trouble::Open(OpenError::Newer {
            path: directory.to_owned(),
            found,
            understood: schema::FORMAT,
        }));
    }
    schema::upgrade(&mut connection)?;
    schema::check_tables(&connection)?;
    if schema::is_format_damaged(&connection)? {
        schema::write_format(&connection)?;
        findings.push("the number of its format was damaged, and has been put right".to_owned());
    }
    let is_whole = suspect || (!is_new && schema::size_bytes(directory) <= CHECKED_AT_OPEN_BYTES);
    if is_whole {
        check_pages(directory, database, &connection, &mut findings)?;
    }
    let committed = read_committed(&connection, now, &mut findings)?;
    let mut checked = Checked {
        connection,
        committed,
        findings,
        is_whole: is_new || is_whole,
    };
    if is_whole || !checked.findings.is_empty() {
        check_rows(&mut checked, now)?;
    }
    Ok(checked)
}

/// Has SQLite look at its own structures; an index that lacks something is made anew.
fn check_pages(
    directory: &Path,
    database: &DatabaseFile,
    connection: &Connection,
    findings: &mut Vec<String>,
) -> Result<(), Trouble> {
    if look_at_pages(connection)?.is_none() {
        return Ok(());
    }
    // SQLite tells of a page that it could not read as of one that is wrong. Where all can be read
    // it is asked once more.
    Image::open(directory, database)?.read_all()?;
    let Some(said) = look_at_pages(connection)? else {
        return Ok(());
    };
    // Only where no page is wrong: making an index anew frees its pages, and they must not be
    // somebody else's.
    if said.iter().all(|said| {
        said.contains("missing from index") || said.contains("wrong # of entries in index")
    }) {
        connection.execute_batch("REINDEX")?;
        if look_at_pages(connection)?.is_none() {
            findings.push(format!(
                "an index was damaged and has been made anew ({})",
                said.join("; ")
            ));
            return Ok(());
        }
    }
    Err(corrupt(said.join("; ")).into())
}

/// What SQLite finds wrong, the first of it, or else which index of some rows has others; none
/// where all is well.
pub(super) fn look_at_pages(connection: &Connection) -> rusqlite::Result<Option<Vec<String>>> {
    let mut look = connection.prepare(&format!("PRAGMA integrity_check({FINDINGS_MAX})"))?;
    let said: Vec<String> = look
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if said != ["ok"] {
        return Ok(Some(said));
    }
    let strayed = strayed_indexes(connection)?;
    Ok((!strayed.is_empty()).then_some(strayed))
}

/// The indexes of some rows of a table that have another number of entries than there are such
/// rows. SQLite does not look for what an index has beyond them, such as the entry of a row which a
/// flipped bit makes one of the others: that row is set aside and its entry would stay, and reading
/// what it points to would fail.
fn strayed_indexes(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut strayed = Vec::new();
    for (table, index, which) in schema::PARTIAL_INDEXES {
        // One statement, so that both see the same rows.
        let is_strayed = format!(
            "SELECT (SELECT count(*) FROM {table} INDEXED BY {index} WHERE {which})
                 <> (SELECT count(*) FROM {table} NOT INDEXED WHERE {which})"
        );
        if connection.query_row(&is_strayed, [], |row| row.get(0))? {
            strayed.push(format!("wrong # of entries in index {index}"));
        }
    }
    Ok(strayed)
}

/// Looks at every row: damaged ones are set aside, and what the counters miss is counted.
fn check_rows(checked: &mut Checked, now: Timestamp) -> Result<(), Trouble> {
    let damaged = find_damaged(&checked.connection)?;
    let actual = Actual::count(&checked.connection)?;
    let ledger = checked.committed.ledger;
    let is_sound =
        damaged.is_empty() && checked.findings.is_empty() && actual.agrees(&checked.committed);
    if is_sound {
        return Ok(());
    }
    for (table, key, why) in &damaged {
        checked.findings.push(format!(
            "a record in {table} ({key}) is damaged ({why}) and has been set aside"
        ));
    }
    let queues = Mutex::new(Queues::new(0, Arc::default()));
    checked.connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut transaction = Transaction::new(
        &checked.connection,
        &checked.committed,
        &queues,
        now,
        u64::MAX,
    );
    let mended = damaged
        .iter()
        .try_for_each(|(table, key, why)| transaction.quarantine(table, key, why))
        .and_then(|()| transaction.reconcile());
    match mended.and_then(|()| transaction.finish()) {
        Ok(()) => {}
        Err(Failure::Database(error)) => return Err(error.into()),
        Err(Failure::Refused(error)) => return Err(Trouble::Open(refused(&error))),
    }
    let changes = transaction.into_changes();
    checked.connection.execute_batch("COMMIT")?;
    let missing = changes
        .ledger
        .quarantined
        .saturating_sub(ledger.quarantined + damaged.len() as u64);
    if missing > 0 {
        checked.findings.push(format!(
            "{missing} records that were counted are not there any more"
        ));
    }
    checked.committed.apply(
        changes.ledger,
        changes.walk,
        changes.subscriptions,
        changes.replays,
    );
    Ok(())
}

fn refused(error: &JournalError) -> OpenError {
    OpenError::Damaged {
        path: PathBuf::new(),
        what: error.to_string(),
    }
}
