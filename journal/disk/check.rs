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

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_schemas::{Clock, JournalId, Name, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode};

use super::OpenError;
use super::epochs::Epochs;
use super::queues::Queues;
use super::raw::{DatabaseFile, Image};
use super::record::{self, Damage, DeadRow, Decoder, EventRow, Seen, Subscribed};
use super::row::{BLOCK_RUN, PendingRow, RowKey};
use super::schema::{self, Ledger, Purpose};
use super::transaction::{
    CommittedState, Failure, SEQUENCES_SKIPPED, SUBSCRIPTIONS_SKIPPED, Transaction, read_row,
};
use super::{reader, salvage};
use crate::{Activity, Counts, JournalError, Role, SubscriptionIdentity};

/// Looking through so much takes some tenths of a second.
const CHECKED_AT_OPEN_BYTES: u64 = 32 * 1024 * 1024;

/// Every table with its columns, the key first.
pub(super) const TABLES: [(&str, &str, &str); 9] = [
    ("meta", "name", "name, value"),
    ("events", "sequence", "sequence, record"),
    ("subscriptions", "number", "number, value"),
    (
        "pending",
        "subscription, sequence, run",
        "subscription, sequence, run, due, order_key, value",
    ),
    (
        "dead",
        "sequence, subscription, run",
        "sequence, subscription, run, value",
    ),
    ("cursors", "tenant, source", "tenant, source, value"),
    (
        "positions",
        "tenant, source, key",
        "tenant, source, key, value",
    ),
    ("identities", "high, low", "high, low, value"),
    ("quarantine", "number", "number, at, place, key, why, value"),
];

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
            findings.push(format!("a salvage that was interrupted has been finished; the old files are kept in {kept:?}"));
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
            "the write-ahead log was damaged: {mended} frames had a wrong bit and were mended, {damaged} could not be; {} commits behind the damage were saved, and the log \
             as it was is kept in {kept:?}",
            log.commits_saved()
        ));
    }
    Ok(image.wrong()?)
}

/// Why a store could not be opened or mended.
pub(super) enum Trouble {
    Open(OpenError),
    Database(rusqlite::Error),
    Files(std::io::Error),
}

impl Trouble {
    fn at(self, directory: &Path) -> OpenError {
        match self {
            Self::Open(error) => error,
            Self::Database(error) => OpenError::database(directory, &error),
            Self::Files(error) => OpenError::unreadable(directory, &error),
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

/// The database itself says that its pages make no sense. Everything else that SQLite fails with
/// (no such file, no memory, a lock, a full disk, an operation that failed) says nothing of what
/// the file holds.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => matches!(
            error.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
        ),
        // What was read is not of the kind that was written.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

pub(super) fn corrupt(what: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some(what),
    )
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

/// What SQLite finds wrong, the first of it; none where all is well.
pub(super) fn look_at_pages(connection: &Connection) -> rusqlite::Result<Option<Vec<String>>> {
    let mut look = connection.prepare(&format!("PRAGMA integrity_check({FINDINGS_MAX})"))?;
    let said: Vec<String> = look
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok((said != ["ok"]).then_some(said))
}

/// Reads the small tables; what of them is damaged is put back together from the large ones.
fn read_committed(
    connection: &Connection,
    now: Timestamp,
    findings: &mut Vec<String>,
) -> rusqlite::Result<CommittedState> {
    let mut damaged = 0;
    if let Err(damage) = schema::journal_id(connection)? {
        damaged += 1;
        findings
            .push(format!("the journal's identity is damaged ({damage}); it gets a new one, and ids of deliveries told before are void"));
        schema::write_identity(connection, now)?;
    }
    let mut committed = CommittedState::default();
    match schema::read_ledger(connection)? {
        Ok(ledger) => committed.ledger = ledger,
        Err(damage) => {
            findings.push(format!(
                "the ledger is damaged ({damage}); it is counted anew"
            ));
            committed.ledger = count_ledger(connection)?;
        }
    }
    if committed.ledger.old_identities_until == schema::NOT_KNOWN {
        committed.ledger.old_identities_until = last_identity(connection)?;
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
                committed.ledger.quarantined += 1;
                placeholder
            }
        };
        committed.ledger.last_run = committed
            .ledger
            .last_run
            .max(subscribed.runs_of_format_1.into());
        committed.subscriptions.insert(number, subscribed);
    }
    let epochs = schema::read_epochs(connection)?.unwrap_or_else(|damage| {
        damaged += 1;
        findings.push(format!(
            "the epochs are damaged ({damage}); ids of deliveries told before are void"
        ));
        Epochs::of_format_1(JournalId(rand::random()))
    });
    committed.epochs = Arc::new(epochs);
    committed.ledger.quarantined += damaged;
    Ok(committed)
}

/// Stands for a subscription whose row is damaged, so that its deliveries can be carried over.
pub(super) fn placeholder(number: u32) -> Subscribed {
    let name = |text: &str| Name::new(text).unwrap_or_else(|_| Name::default_tenant());
    let rule = name(&format!("damaged-{number}"));
    let identity = SubscriptionIdentity {
        tenant: Name::default_tenant(),
        rule,
        role: Role::To,
        target: name("damaged"),
    };
    let (activity, counts) = (Activity::Active, Counts::default());
    Subscribed {
        identity,
        attached: false,
        activity,
        backlog: None,
        runs_of_format_1: 0,
        counts,
    }
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
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))
            .map(|n| n.unwrap_or(0).cast_unsigned())
    };
    let last = ["events", "dead", "pending"]
        .map(|table| number(&format!("SELECT max(sequence) FROM {table}")));
    let mut highest = 0;
    for last in last {
        highest = highest.max(last?);
    }
    let last_run = number("SELECT max(run) FROM dead")?
        .max(number("SELECT max(run) FROM pending WHERE run >= 0")?);
    let subscription = number("SELECT max(number) FROM subscriptions")?
        .max(number("SELECT max(subscription) FROM pending")?);
    Ok(Ledger {
        commit: 0,
        last_sequence: highest + SEQUENCES_SKIPPED,
        last_run,
        old_identities_until: schema::NOT_KNOWN,
        time: Timestamp(i64::MIN),
        clock_offset: 0,
        positions: number("SELECT count(*) FROM positions")?,
        last_subscription: u32::try_from(subscription).unwrap_or(u32::MAX >> 1)
            + SUBSCRIPTIONS_SKIPPED,
        events: number("SELECT count(*) FROM events")?,
        dead: number("SELECT count(*) FROM dead")?,
        rejects: number("SELECT count(*) FROM dead WHERE subscription = 0")?,
        quarantined: number("SELECT count(*) FROM quarantine")? + 1,
        lost_commits: 0,
    })
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
    for (place, key, why) in &damaged {
        checked.findings.push(format!(
            "a record in {place} ({key}) is damaged ({why}) and has been set aside"
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
        .try_for_each(|(place, key, why)| transaction.quarantine(place, key, why))
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
    checked
        .committed
        .apply(changes.ledger, changes.subscriptions);
    Ok(())
}

fn refused(error: &JournalError) -> OpenError {
    OpenError::Damaged {
        path: std::path::PathBuf::new(),
        what: error.to_string(),
    }
}

/// The key of a row in any table.
pub(super) type Key = Vec<Value>;

fn key_text(key: &Key) -> String {
    let part = |value: &Value| match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => bytes.escape_ascii().to_string(),
        _ => "?".to_owned(),
    };
    key.iter().map(part).collect::<Vec<_>>().join("/")
}

/// A damaged row: its table, its key, and why.
pub(super) type DamagedRow = (&'static str, DamagedKey, Damage);

/// A key that shows as text.
pub(super) struct DamagedKey(pub(super) Key);

impl std::fmt::Display for DamagedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&key_text(&self.0))
    }
}

pub(super) fn find_damaged(connection: &Connection) -> rusqlite::Result<Vec<DamagedRow>> {
    let mut damaged = Vec::new();
    for (table, key, columns) in TABLES {
        // The small tables are read otherwise.
        if ["meta", "subscriptions", "quarantine"].contains(&table) {
            continue;
        }
        let (keys, width) = (key.split(',').count(), columns.split(',').count());
        let mut select = connection.prepare(&format!("SELECT {columns} FROM {table}"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let mut values = (0..width)
                .map(|column| row.get(column))
                .collect::<rusqlite::Result<Vec<Value>>>()?;
            if let Err(damage) = check_row(table, &values) {
                values.truncate(keys);
                damaged.push((table, DamagedKey(values), damage));
            }
        }
    }
    Ok(damaged)
}

/// The table that a row is of, by its shape, and whether it passes its check.
pub(super) fn table_of(number: Option<i64>, values: &[Value]) -> Option<(&'static str, bool)> {
    use Value::{Blob, Integer, Null, Text};
    let mut values = values.to_vec();
    // A table's row keeps its number beside its values, in the place of the first.
    if let (Some(number), Some(first)) = (number, values.first_mut()) {
        *first = Integer(number);
    }
    let is_sound = |table: &str| check_row(table, &values).is_ok();
    let candidates: &[&'static str] = match (number.is_some(), values.as_slice()) {
        (true, [_, Blob(_)]) => &["events", "subscriptions"],
        (true, [_, Integer(_), Text(_), Text(_), Text(_), Blob(_) | Null]) => {
            return Some(("quarantine", true));
        }
        (
            false,
            [
                Integer(_),
                Integer(_),
                Integer(_),
                Integer(_) | Null,
                Integer(_) | Null,
                Blob(_),
            ],
        ) => &["pending"],
        (false, [Integer(_), Integer(_), Integer(_), Blob(_)]) => &["dead"],
        (false, [Text(_), Text(_), Blob(_)]) => &["cursors"],
        // A flipped bit makes a text of a blob.
        (false, [Text(_), Text(_), Blob(_) | Text(_), Blob(_)]) => &["positions"],
        (false, [Integer(_), Integer(_), Blob(_)]) => &["identities"],
        // One that does not pass its check would only hide that it is missing.
        (false, [Text(_), Blob(_)]) => return is_sound("meta").then_some(("meta", true)),
        _ => return None,
    };
    let sound = candidates
        .iter()
        .find(|table| is_sound(table))
        .map(|table| (*table, true));
    sound.or_else(|| candidates.first().map(|table| (*table, false)))
}

fn check_row(table: &str, values: &[Value]) -> Result<(), Damage> {
    let number = |at: usize| match values.get(at) {
        Some(Value::Integer(number)) => Ok(*number),
        _ => Err(Damage("its key is no number")),
    };
    let unsigned = |at: usize| number(at).map(i64::cast_unsigned);
    let narrow = |at: usize| {
        number(at)
            .and_then(|number| u32::try_from(number).map_err(|_| Damage("its key is out of range")))
    };
    let option = |at: usize| {
        if matches!(values.get(at), Some(Value::Null)) {
            Ok(None)
        } else {
            number(at).map(Some)
        }
    };
    let text = |at: usize| match values.get(at) {
        Some(Value::Text(text)) => Ok(text.as_str()),
        _ => Err(Damage("its key is no text")),
    };
    let Some(Value::Blob(value)) = values.last() else {
        return Err(Damage("it is no blob"));
    };
    match table {
        "meta" => Decoder::open(record::Table::Meta, &[record::key_of(text(0)?)], value).map(drop),
        "events" => EventRow::decode(unsigned(0)?, &Bytes::copy_from_slice(value)).map(drop),
        "subscriptions" => Subscribed::decode(narrow(0)?, value).map(drop),
        "pending" => {
            let run = unsigned(2)?;
            if run.cast_signed() < BLOCK_RUN.cast_signed() {
                return Err(Damage("its key is out of range"));
            }
            let key = RowKey {
                subscription: narrow(0)?,
                sequence: unsigned(1)?,
                run,
            };
            PendingRow::decode(key, option(3)?, option(4)?, value).map(drop)
        }
        "dead" => DeadRow::decode(&[unsigned(0)?, unsigned(1)?, unsigned(2)?], value).map(drop),
        "cursors" => {
            record::decode_cursor(record::key_of(&format!("{}/{}", text(0)?, text(1)?)), value)
                .map(drop)
        }
        "positions" => {
            let Some(Value::Blob(key)) = values.get(2) else {
                return Err(Damage("its key is no blob"));
            };
            record::decode_position(text(0)?, text(1)?, key, value).map(drop)
        }
        "identities" => Seen::decode([unsigned(0)?, unsigned(1)?], value).map(drop),
        _ => Ok(()),
    }
}

/// What the rows add up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Actual {
    pub(super) events: u64,
    pub(super) dead: u64,
    pub(super) rejects: u64,
    pub(super) positions: u64,
    /// The highest sequence that anything has.
    pub(super) last_sequence: u64,
    /// Pending, retrying, dead.
    pub(super) subscriptions: BTreeMap<u32, (u64, u64, u64)>,
}

impl Actual {
    pub(super) fn count(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .map(i64::cast_unsigned)
        };
        let mut actual = Self {
            events: number("SELECT count(*) FROM events")?,
            dead: number("SELECT count(*) FROM dead")?,
            rejects: number("SELECT count(*) FROM dead WHERE subscription = 0")?,
            positions: number("SELECT count(*) FROM positions")?,
            last_sequence: number(
                "SELECT max(coalesce((SELECT max(sequence) FROM events), 0), coalesce((SELECT max(sequence) FROM dead), 0))",
            )?,
            subscriptions: BTreeMap::new(),
        };
        let mut pending = connection
            .prepare("SELECT subscription, sequence, run, due, order_key, value FROM pending")?;
        let mut rows = pending.query([])?;
        while let Some(row) = rows.next()? {
            if let Ok((RowKey { subscription, .. }, Ok(row))) = read_row(row) {
                let (pending, retrying, _) = actual.subscriptions.entry(subscription).or_default();
                actual.last_sequence = actual
                    .last_sequence
                    .max(row.sequences.last().copied().unwrap_or_default());
                *pending += row.sequences.len() as u64;
                *retrying += u64::from(row.attempts > 0);
            }
        }
        let mut dead = connection.prepare(
            "SELECT subscription, count(*) FROM dead WHERE subscription > 0 GROUP BY subscription",
        )?;
        let mut rows = dead.query([])?;
        while let Some(row) = rows.next()? {
            actual.subscriptions.entry(row.get(0)?).or_default().2 =
                row.get::<_, i64>(1)?.cast_unsigned();
        }
        Ok(actual)
    }

    pub(super) fn agrees(&self, committed: &CommittedState) -> bool {
        let Ledger {
            events,
            dead,
            rejects,
            positions,
            ..
        } = committed.ledger;
        let counts = |subscribed: &Subscribed| {
            (
                subscribed.counts.pending,
                subscribed.counts.retrying,
                subscribed.counts.dead,
            )
        };
        (self.events, self.dead, self.rejects, self.positions) == (events, dead, rejects, positions)
            && self
                .subscriptions
                .keys()
                .all(|number| committed.subscriptions.contains_key(number))
            && committed.subscriptions.iter().all(|(number, subscribed)| {
                self.subscriptions.get(number).copied().unwrap_or_default() == counts(subscribed)
            })
    }
}
