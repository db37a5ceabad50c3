//! Finding out what is wrong with a store, and saving what can be read of it.
//!
//! Damage is found in three ways. SQLite finds pages that make no sense: then everything readable is copied into a new database and the old
//! files are kept beside it. Checksums find rows that do not say what was written: they are moved to `quarantine`. And the stored counters
//! find what is not there at all: it is counted as quarantined. A store of up to [`CHECKED_AT_OPEN_BYTES`] is looked through whole when it is
//! opened; a larger one when a page of it cannot be read, and row by row as it is used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_schemas::{Clock, JournalId, Name, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::OpenError;
use super::epochs::Epochs;
use super::queues::Queues;
use super::reader;
use super::record::{self, Buried, Damage, Kept, Seen, Subscribed};
use super::row::RowKey;
use super::schema::{self, Ledger, Purpose};
use super::transaction::{Books, Failure, SEQUENCES_SKIPPED, SUBSCRIPTIONS_SKIPPED, Transaction, read_row};
use crate::journal::{Activity, Counts, JournalError, Role, SubscriptionIdentity};

/// Looking through so much takes some tenths of a second.
const CHECKED_AT_OPEN_BYTES: u64 = 32 * 1024 * 1024;

/// Every table with its columns, the key first.
const TABLES: [(&str, &str, &str); 8] = [
    ("meta", "name", "name, value"),
    ("events", "sequence", "sequence, record"),
    ("subscriptions", "number", "number, value"),
    ("pending", "subscription, sequence, run", "subscription, sequence, run, due, order_key, value"),
    ("dead", "sequence, subscription, run", "sequence, subscription, run, value"),
    ("cursors", "tenant, source", "tenant, source, value"),
    ("identities", "high, low", "high, low, value"),
    ("quarantine", "number", "number, at, place, key, why, value"),
];

/// A store that is fit to be used.
pub(super) struct Checked {
    pub(super) connection: Connection,
    pub(super) books: Books,
    /// What was wrong, for a person.
    pub(super) findings: Vec<String>,
}

/// Opens the database for writing, makes it where it is new, and mends what can be mended. `suspect` where it has failed before.
pub(super) fn open(directory: &Path, clock: &dyn Clock, suspect: bool) -> Result<Checked, OpenError> {
    match attempt(directory, clock, suspect) {
        Err(Trouble::Database(error)) if is_corrupt(&error) => {
            let saved = salvage(directory, clock.now()).map_err(|trouble| trouble.at(directory, &error))?;
            let mut checked = attempt(directory, clock, true).map_err(|trouble| trouble.at(directory, &error))?;
            checked.findings.insert(0, format!("the database was damaged ({error}); {saved}"));
            Ok(checked)
        }
        other => other.map_err(|trouble| trouble.at(directory, &"it cannot be opened")),
    }
}

enum Trouble {
    Open(OpenError),
    Database(rusqlite::Error),
    Files(std::io::Error),
}

impl Trouble {
    fn at(self, directory: &Path, first: &dyn std::fmt::Display) -> OpenError {
        match self {
            Self::Open(error) => error,
            Self::Database(error) => OpenError::damaged(directory, &error),
            Self::Files(error) => OpenError::damaged(directory, &format!("{first}; saving what can be read failed: {error}")),
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Files(error)
    }
}

/// The database itself says that its pages make no sense.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt))
}

fn corrupt(what: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(what))
}

fn attempt(directory: &Path, clock: &dyn Clock, suspect: bool) -> Result<Checked, Trouble> {
    let is_new = schema::database(directory).metadata().map_or(true, |metadata| metadata.len() == 0) && !schema::log(directory).exists();
    let mut connection = schema::connect(directory, Purpose::Write)?;
    if is_new {
        schema::create(&mut connection, clock.now())?;
    }
    schema::check_format(&connection, directory).map_err(Trouble::Open)?;
    let mut findings = Vec::new();
    let is_whole = suspect || (!is_new && schema::size_bytes(directory) <= CHECKED_AT_OPEN_BYTES);
    if is_whole {
        check_pages(&connection, &mut findings)?;
    }
    let books = read_books(&connection, clock.now(), &mut findings)?;
    let mut checked = Checked { connection, books, findings };
    if is_whole || !checked.findings.is_empty() {
        check_rows(&mut checked, clock.now())?;
    }
    Ok(checked)
}

/// Has SQLite look at its own structures; an index that is wrong is made anew.
fn check_pages(connection: &Connection, findings: &mut Vec<String>) -> rusqlite::Result<()> {
    let look = || -> rusqlite::Result<Option<String>> {
        let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        Ok((said != "ok").then_some(said))
    };
    if let Some(said) = look()? {
        connection.execute_batch("REINDEX")?;
        if let Some(said) = look()? {
            return Err(corrupt(said));
        }
        findings.push(format!("an index was damaged and has been made anew ({said})"));
    }
    Ok(())
}

/// Reads the small tables; what of them is damaged is put back together from the large ones.
fn read_books(connection: &Connection, now: Timestamp, findings: &mut Vec<String>) -> rusqlite::Result<Books> {
    if let Err(damage) = schema::journal_id(connection)? {
        findings
            .push(format!("the journal's identity is damaged ({damage}); it gets a new one, and ids of deliveries told before are void"));
        schema::write_identity(connection, now)?;
    }
    let mut books = Books::default();
    match schema::read_ledger(connection)? {
        Ok(ledger) => books.ledger = ledger,
        Err(damage) => {
            findings.push(format!("the ledger is damaged ({damage}); it is counted anew"));
            books.ledger = count_ledger(connection)?;
        }
    }
    if books.ledger.old_identities_until == schema::NOT_KNOWN {
        books.ledger.old_identities_until = last_identity(connection)?;
    }
    for (number, subscribed) in reader::subscriptions(connection)? {
        let subscribed = match subscribed {
            Ok(subscribed) => subscribed,
            Err(damage) => {
                let placeholder = placeholder(number);
                let rule = &placeholder.identity.rule;
                findings.push(format!(
                    "subscription {number} is damaged ({damage}); its deliveries wait for a rule with `renamed_from: {rule}`"
                ));
                books.ledger.quarantined += 1;
                placeholder
            }
        };
        books.ledger.last_run = books.ledger.last_run.max(subscribed.runs_of_format_1.into());
        books.subscriptions.insert(number, subscribed);
    }
    let epochs = schema::read_epochs(connection)?.unwrap_or_else(|damage| {
        findings.push(format!("the epochs are damaged ({damage}); ids of deliveries told before are void"));
        Epochs::of_format_1(JournalId(rand::random()))
    });
    books.epochs = Arc::new(epochs);
    Ok(books)
}

/// Stands for a subscription whose row is damaged, so that its deliveries can be carried over.
pub(super) fn placeholder(number: u32) -> Subscribed {
    let name = |text: &str| Name::new(text).unwrap_or_else(|_| Name::default_tenant());
    let rule = name(&format!("damaged-{number}"));
    let identity = SubscriptionIdentity { tenant: Name::default_tenant(), rule, role: Role::To, target: name("damaged") };
    let (activity, counts) = (Activity::Active, Counts::default());
    Subscribed { identity, attached: false, activity, backlog: None, runs_of_format_1: 0, counts }
}

/// When the last of the identities is forgotten that deduplication remembers.
fn last_identity(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let mut select = connection.prepare("SELECT high, low, value FROM identities")?;
    let mut rows = select.query([])?;
    let mut last = Timestamp(i64::MIN);
    while let Some(row) = rows.next()? {
        let key = [row.get::<_, i64>(0)?, row.get(1)?].map(i64::cast_unsigned);
        let seen = Seen::decode(key, row.get_ref(2)?.as_blob().unwrap_or_default());
        last = last.max(seen.map_or(last, |seen| seen.until));
    }
    Ok(last)
}

fn count_ledger(connection: &Connection) -> rusqlite::Result<Ledger> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).map(|n| n.unwrap_or(0).cast_unsigned());
    let last = ["events", "dead", "pending"].map(|table| number(&format!("SELECT max(sequence) FROM {table}")));
    let mut highest = 0;
    for last in last {
        highest = highest.max(last?);
    }
    let last_run = number("SELECT max(run) FROM dead")?.max(number("SELECT max(run) FROM pending WHERE run >= 0")?);
    let subscription = number("SELECT max(number) FROM subscriptions")?.max(number("SELECT max(subscription) FROM pending")?);
    Ok(Ledger {
        commit: 0,
        last_sequence: highest + SEQUENCES_SKIPPED,
        last_run,
        old_identities_until: schema::NOT_KNOWN,
        last_subscription: u32::try_from(subscription).unwrap_or(u32::MAX >> 1) + SUBSCRIPTIONS_SKIPPED,
        events: number("SELECT count(*) FROM events")?,
        dead: number("SELECT count(*) FROM dead")?,
        rejects: number("SELECT count(*) FROM dead WHERE subscription = 0")?,
        quarantined: number("SELECT count(*) FROM quarantine")? + 1,
    })
}

/// Looks at every row: damaged ones are set aside, and what the counters miss is counted.
fn check_rows(checked: &mut Checked, now: Timestamp) -> Result<(), Trouble> {
    let damaged = find_damaged(&checked.connection)?;
    let actual = Actual::count(&checked.connection)?;
    let ledger = checked.books.ledger;
    let is_sound = damaged.is_empty() && checked.findings.is_empty() && actual.agrees(&checked.books);
    if is_sound {
        return Ok(());
    }
    for (place, key, why) in &damaged {
        checked.findings.push(format!("a record in {place} ({key}) is damaged ({why}) and has been set aside"));
    }
    let queues = Mutex::new(Queues::new(0, Arc::default()));
    checked.connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut transaction = Transaction::new(&checked.connection, &checked.books, &queues, now, u64::MAX);
    let mended =
        damaged.iter().try_for_each(|(place, key, why)| transaction.quarantine(place, key, why)).and_then(|()| transaction.reconcile());
    match mended.and_then(|()| transaction.finish()) {
        Ok(()) => {}
        Err(Failure::Database(error)) => return Err(error.into()),
        Err(Failure::Refused(error)) => return Err(Trouble::Open(refused(&error))),
    }
    let changes = transaction.into_changes();
    checked.connection.execute_batch("COMMIT")?;
    let missing = changes.ledger.quarantined.saturating_sub(ledger.quarantined + damaged.len() as u64);
    if missing > 0 {
        checked.findings.push(format!("{missing} records that were counted are not there any more"));
    }
    checked.books.apply(changes.ledger, changes.subscriptions);
    Ok(())
}

fn refused(error: &JournalError) -> OpenError {
    OpenError::Damaged { path: std::path::PathBuf::new(), what: error.to_string() }
}

/// The key of a row in any table.
pub(super) type Key = Vec<Value>;

fn key_text(key: &Key) -> String {
    let part = |value: &Value| match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        _ => "?".to_owned(),
    };
    key.iter().map(part).collect::<Vec<_>>().join("/")
}

/// A damaged row: its table, its key, and why.
type DamagedRow = (&'static str, DamagedKey, Damage);

/// A key that shows as text.
pub(super) struct DamagedKey(pub(super) Key);

impl std::fmt::Display for DamagedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&key_text(&self.0))
    }
}

fn find_damaged(connection: &Connection) -> rusqlite::Result<Vec<DamagedRow>> {
    let mut damaged = Vec::new();
    let mut look = |table: &'static str, sql: &str, keys: usize, check: &dyn Fn(&rusqlite::Row<'_>) -> Result<(), Damage>| {
        let mut select = connection.prepare(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(damage) = check(row) {
                let key = (0..keys).map(|column| row.get(column)).collect::<rusqlite::Result<Key>>()?;
                damaged.push((table, DamagedKey(key), damage));
            }
        }
        Ok::<_, rusqlite::Error>(())
    };
    let number =
        |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(i64::cast_unsigned).map_err(|_| Damage("its key is no number"));
    let text = |row: &rusqlite::Row<'_>, column| row.get::<_, String>(column).map_err(|_| Damage("its key is no text"));
    let blob = |row: &rusqlite::Row<'_>, column| row.get::<_, Vec<u8>>(column).map_err(|_| Damage("it is no blob"));
    look("events", "SELECT sequence, record FROM events", 1, &|row| Kept::decode(number(row, 0)?, &Bytes::from(blob(row, 1)?)).map(drop))?;
    look("pending", "SELECT subscription, sequence, run, due, order_key, value FROM pending", 3, &|row| {
        read_row(row).map_err(|_| Damage("its key is out of range"))?.1.map(drop)
    })?;
    look("dead", "SELECT sequence, subscription, run, value FROM dead", 3, &|row| {
        Buried::decode(&[number(row, 0)?, number(row, 1)?, number(row, 2)?], &blob(row, 3)?).map(drop)
    })?;
    look("cursors", "SELECT tenant, source, value FROM cursors", 2, &|row| {
        record::decode_cursor(record::key_of(&format!("{}/{}", text(row, 0)?, text(row, 1)?)), &blob(row, 2)?).map(drop)
    })?;
    look("identities", "SELECT high, low, value FROM identities", 2, &|row| {
        Seen::decode([number(row, 0)?, number(row, 1)?], &blob(row, 2)?).map(drop)
    })?;
    Ok(damaged)
}

/// What the rows add up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Actual {
    pub(super) events: u64,
    pub(super) dead: u64,
    pub(super) rejects: u64,
    /// Pending, retrying, dead.
    pub(super) subscriptions: BTreeMap<u32, (u64, u64, u64)>,
}

impl Actual {
    pub(super) fn count(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
        let mut actual = Self {
            events: number("SELECT count(*) FROM events")?,
            dead: number("SELECT count(*) FROM dead")?,
            rejects: number("SELECT count(*) FROM dead WHERE subscription = 0")?,
            subscriptions: BTreeMap::new(),
        };
        let mut pending = connection.prepare("SELECT subscription, sequence, run, due, order_key, value FROM pending")?;
        let mut rows = pending.query([])?;
        while let Some(row) = rows.next()? {
            if let Ok((RowKey { subscription, .. }, Ok(row))) = read_row(row) {
                let (pending, retrying, _) = actual.subscriptions.entry(subscription).or_default();
                *pending += row.sequences.len() as u64;
                *retrying += u64::from(row.attempts > 0);
            }
        }
        let mut dead = connection.prepare("SELECT subscription, count(*) FROM dead WHERE subscription > 0 GROUP BY subscription")?;
        let mut rows = dead.query([])?;
        while let Some(row) = rows.next()? {
            actual.subscriptions.entry(row.get(0)?).or_default().2 = row.get::<_, i64>(1)?.cast_unsigned();
        }
        Ok(actual)
    }

    fn agrees(&self, books: &Books) -> bool {
        let Ledger { events, dead, rejects, .. } = books.ledger;
        let counts = |subscribed: &Subscribed| (subscribed.counts.pending, subscribed.counts.retrying, subscribed.counts.dead);
        (self.events, self.dead, self.rejects) == (events, dead, rejects)
            && self.subscriptions.keys().all(|number| books.subscriptions.contains_key(number))
            && books
                .subscriptions
                .iter()
                .all(|(number, subscribed)| self.subscriptions.get(number).copied().unwrap_or_default() == counts(subscribed))
    }
}

/// Copies everything that can be read into a new database and puts it in the place of the old one, whose files are kept.
fn salvage(directory: &Path, now: Timestamp) -> Result<String, Trouble> {
    let kept = directory.join(format!("damaged-{}", now.0));
    let anew = directory.join("salvage");
    let _ = std::fs::remove_dir_all(&anew);
    std::fs::create_dir_all(&anew)?;
    let old = schema::connect(directory, Purpose::Look)?;
    let mut new = schema::connect(&anew, Purpose::Write)?;
    schema::create(&mut new, now)?;
    new.execute_batch("DELETE FROM meta; PRAGMA synchronous = OFF; BEGIN")?;
    let mut copied = Vec::new();
    for (table, key, columns) in TABLES {
        copied.push(format!("{} {table}", copy(&old, &new, table, key, columns)?));
    }
    new.execute_batch("COMMIT; PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(TRUNCATE)")?;
    drop(old);
    new.close().map_err(|(_, error)| error)?;
    std::fs::create_dir_all(&kept)?;
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("journal.db{suffix}");
        match std::fs::rename(directory.join(&name), kept.join(&name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    std::fs::File::open(anew.join("journal.db"))?.sync_all()?;
    std::fs::rename(anew.join("journal.db"), schema::database(directory))?;
    std::fs::remove_dir_all(&anew)?;
    std::fs::File::open(directory)?.sync_all()?;
    Ok(format!("what could be read was copied ({}), and the old files are kept in {kept:?}", copied.join(", ")))
}

/// Copies a table from both ends, as far as it can be read. Tells how many rows.
fn copy(old: &Connection, new: &Connection, table: &str, key: &str, columns: &str) -> rusqlite::Result<u64> {
    let marks = vec!["?"; columns.split(',').count()].join(", ");
    let mut insert = new.prepare(&format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"))?;
    let backwards = key.split(", ").map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", ");
    let mut count = 0;
    for order in [key.to_owned(), backwards] {
        let mut read = || -> rusqlite::Result<()> {
            let mut select = old.prepare(&format!("SELECT {columns} FROM {table} NOT INDEXED ORDER BY {order}"))?;
            let width = select.column_count();
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let values = (0..width).map(|column| row.get(column)).collect::<rusqlite::Result<Vec<Value>>>()?;
                // A row that does not fit its table any more is none.
                count += insert.execute(params_from_iter(values)).unwrap_or(0) as u64;
            }
            Ok(())
        };
        match read() {
            Ok(()) => break,
            Err(error) => tracing::error!(table, %error, "reading what is left of the store"),
        }
    }
    Ok(count)
}
