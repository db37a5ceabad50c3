//! Looking into a store: for the admin API of the process that runs the bus, and for the command
//! line beside it or after it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_schemas::{DeliveryId, JournalId, Sequence, SubscriptionNumber, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::OpenError;
use super::epochs::Epochs;
use super::queues::{Moment, Queues};
use super::raw::DatabaseFile;
use super::record::{Damage, DeadRow, EventRow, Subscribed};
use super::row::{PendingRow, RowKey};
use super::schema::{self, Purpose};
use super::transaction::read_row;
use crate::steady::JournalClock;
use crate::{
    DeadLetter, DeadSelection, EventPage, EventsFrom, JournalError, Pending, Reader, StoredEvent,
    SubscriptionIdentity, SubscriptionStatus, Totals,
};

/// A dead letter's key; dead letters are ordered by sequence, subscription, run.
pub(super) type DeadKey = RowKey;

/// Rows that are looked at for the age of a queue. What lies behind them was appended later.
const ROWS_FOR_AGE: u32 = 1_000;

/// Connections that are kept open for the next question.
const CONNECTIONS_KEPT: usize = 2;

/// Rows of dead letters that are read at once.
const DEAD_ROWS: usize = 1_000;

/// A store, read only. It may be in use by another process.
pub struct DiskReader {
    directory: PathBuf,
    id: JournalId,
    bytes_max: u64,
    /// Connections with the opening that they belong to.
    idle: Arc<Mutex<Vec<(u64, Connection)>>>,
    /// Who knows what is in flight, inside the process that runs the bus.
    live: Option<Live>,
}

/// The memory of the journal that runs on the store.
pub(super) struct Live {
    pub(super) queues: Weak<Mutex<Queues>>,
    pub(super) clock: Arc<JournalClock>,
    pub(super) epoch: Arc<AtomicU64>,
    /// Must not be closed before the last connection.
    pub(super) _database: Arc<DatabaseFile>,
}

impl fmt::Debug for DiskReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskReader")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl DiskReader {
    /// Opens the store in a directory to look into it, whether a bus runs on it or not. Its
    /// `bytes_max` is not known and told as 0.
    ///
    /// # Errors
    /// [`OpenError`] where there is no store, where it is of a newer format, or where it cannot be
    /// read.
    pub fn open(directory: &Path) -> Result<Arc<Self>, OpenError> {
        if !schema::database(directory).exists() {
            return Err(OpenError::Missing(directory.to_owned()));
        }
        let connection = schema::connect(directory, Purpose::Look)
            .map_err(|error| OpenError::database(directory, &error))?;
        schema::check_format(&connection, directory)?;
        let id = schema::journal_id(&connection)
            .map_err(|error| OpenError::database(directory, &error))?;
        let id = id.map_err(|damage| OpenError::damaged(directory, &damage))?;
        Ok(Self::inside(directory, id, 0, None))
    }

    pub(super) fn inside(
        directory: &Path,
        id: JournalId,
        bytes_max: u64,
        live: Option<Live>,
    ) -> Arc<Self> {
        Arc::new(Self {
            directory: directory.to_owned(),
            id,
            bytes_max,
            live,
            idle: Arc::new(Mutex::new(Vec::new())),
        })
    }

    /// The identity of the journal.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Asks the database on a thread that may wait for the disk.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (idle, directory) = (Arc::clone(&self.idle), self.directory.clone());
        let epoch = self
            .live
            .as_ref()
            .map_or(0, |live| live.epoch.load(Ordering::SeqCst));
        let asked = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().pop();
            let connection = match kept {
                Some((of, connection)) if of == epoch => connection,
                _ => schema::connect(&directory, Purpose::Look).map_err(|error| io(&error))?,
            };
            let answer = question(&connection);
            let mut idle = idle.lock();
            if answer.is_ok() && idle.len() < CONNECTIONS_KEPT {
                idle.push((epoch, connection));
            }
            answer
        });
        asked
            .await
            .map_err(|error| JournalError::Io(error.to_string()))?
    }

    fn offset(&self) -> Offset {
        Offset {
            live: self.live.as_ref().map(|live| live.clock.offset()),
        }
    }

    /// Closes what is kept open.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }
}

/// How far the time of day is ahead of the journal's: what is kept by the journal's time is shown
/// by that.
#[derive(Clone, Copy, Debug)]
struct Offset {
    /// What the running journal knows; none where another process runs it, or nobody: then the last
    /// commit tells.
    live: Option<i64>,
}

impl Offset {
    fn of(self, connection: &Connection) -> i64 {
        let kept = || {
            schema::read_ledger(connection)
                .ok()
                .and_then(Result::ok)
                .map_or(0, |ledger| ledger.clock_offset)
        };
        self.live.unwrap_or_else(kept)
    }

    fn shown(self, connection: &Connection, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add(self.of(connection)))
    }
}

pub(super) fn io(error: &rusqlite::Error) -> JournalError {
    JournalError::Io(error.to_string())
}

#[async_trait]
impl Reader for DiskReader {
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, JournalError> {
        let offset = self.offset();
        let read = move |connection: &Connection| {
            let mut statuses = statuses(connection)?;
            for status in &mut statuses {
                status.oldest_pending = status
                    .oldest_pending
                    .map(|oldest| offset.shown(connection, oldest));
            }
            Ok(statuses)
        };
        let mut statuses = self
            .ask(move |connection| read(connection).map_err(|error| io(&error)))
            .await?;
        if let Some(live) = &self.live
            && let Some(queues) = live.queues.upgrade()
        {
            let mut queues = queues.lock();
            queues.turn(Moment::now(&*live.clock));
            for status in &mut statuses {
                // Read a moment later than the row: what was settled since is not pending in the
                // one and not in flight in the other.
                status.counts.in_flight =
                    queues.in_flight(status.number.0).min(status.counts.pending);
            }
        }
        Ok(statuses)
    }

    async fn dead(
        &self,
        selection: &DeadSelection,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        let (selection, offset) = (selection.clone(), self.offset());
        self.ask(move |connection| {
            let mut letters =
                dead_letters(connection, &selection, after, limit).map_err(|error| io(&error))?;
            letters
                .iter_mut()
                .for_each(|letter| letter.at = offset.shown(connection, letter.at));
            Ok(letters)
        })
        .await
    }

    async fn pending(
        &self,
        subscription: SubscriptionNumber,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Pending>, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            let mut found =
                pending(connection, subscription.0, after, limit).map_err(|error| io(&error))?;
            for one in &mut found {
                (one.due, one.since) = (
                    offset.shown(connection, one.due),
                    offset.shown(connection, one.since),
                );
            }
            Ok(found)
        })
        .await
    }

    async fn event(&self, sequence: Sequence) -> Result<Option<StoredEvent>, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            match event(connection, sequence.0).map_err(|error| io(&error))? {
                None => Ok(None),
                Some(Err(_)) => Err(JournalError::Damaged(format!("event {}", sequence.0))),
                Some(Ok(kept)) => {
                    let EventRow {
                        tenant,
                        origin,
                        at,
                        event,
                    } = kept;
                    Ok(Some(StoredEvent {
                        sequence,
                        tenant,
                        origin,
                        at: offset.shown(connection, at),
                        event,
                    }))
                }
            }
        })
        .await
    }

    async fn last_event(&self) -> Result<Option<StoredEvent>, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            let mut stored = last_event(connection).map_err(|error| io(&error))?;
            if let Some(stored) = &mut stored {
                stored.at = offset.shown(connection, stored.at);
            }
            Ok(stored)
        })
        .await
    }

    async fn events(
        &self,
        from: EventsFrom,
        limit: usize,
        bytes_max: usize,
    ) -> Result<EventPage, JournalError> {
        let offset = self.offset();
        self.ask(move |connection| {
            let ahead = offset.of(connection);
            let from = match from {
                EventsFrom::Time(time) => EventsFrom::Time(Timestamp(time.0.saturating_sub(ahead))),
                after @ EventsFrom::After(_) => after,
            };
            let mut page =
                event_page(connection, from, limit, bytes_max).map_err(|error| io(&error))?;
            page.events
                .iter_mut()
                .for_each(|stored| stored.at = Timestamp(stored.at.0.saturating_add(ahead)));
            Ok(page)
        })
        .await
    }

    async fn totals(&self) -> Result<Totals, JournalError> {
        let (directory, bytes_max) = (self.directory.clone(), self.bytes_max);
        self.ask(move |connection| {
            let ledger = schema::read_ledger(connection).map_err(|error| io(&error))?;
            let ledger =
                ledger.map_err(|damage| JournalError::Damaged(format!("the ledger ({damage})")))?;
            Ok(Totals {
                events: ledger.events,
                dead: ledger.dead,
                rejects: ledger.rejects,
                quarantined: ledger.quarantined,
                lost_commits: ledger.lost_commits,
                bytes: schema::size_bytes(&directory),
                bytes_max,
                last_sequence: ledger.last_sequence,
            })
        })
        .await
    }
}

/// Reads an event; none where there is none of this sequence.
pub(super) fn event(
    connection: &Connection,
    sequence: u64,
) -> rusqlite::Result<Option<Result<EventRow, Damage>>> {
    let mut select = connection.prepare_cached("SELECT record FROM events WHERE sequence = ?1")?;
    let record = select
        .query_row([sequence.cast_signed()], |row| {
            Ok(row.get_ref(0)?.as_blob().map(Bytes::copy_from_slice))
        })
        .optional()?;
    Ok(record
        .map(|record| EventRow::decode(sequence, &record.map_err(|_| Damage("it is no blob"))?)))
}

fn last_event(connection: &Connection) -> rusqlite::Result<Option<StoredEvent>> {
    let mut select =
        connection.prepare_cached("SELECT sequence, record FROM events ORDER BY sequence DESC")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (sequence, record) = (
            Sequence(row.get::<_, i64>(0)?.cast_unsigned()),
            row.get_ref(1)?.as_blob().unwrap_or_default(),
        );
        if let Ok(EventRow {
            tenant,
            origin,
            at,
            event,
        }) = EventRow::decode(sequence.0, &Bytes::copy_from_slice(record))
        {
            return Ok(Some(StoredEvent {
                sequence,
                tenant,
                origin,
                at,
                event,
            }));
        }
    }
    Ok(None)
}

fn event_page(
    connection: &Connection,
    from: EventsFrom,
    limit: usize,
    bytes_max: usize,
) -> rusqlite::Result<EventPage> {
    let first = match from {
        EventsFrom::After(after) => after.0.saturating_add(1),
        EventsFrom::Time(time) => first_since(connection, time)?,
    };
    let mut page = EventPage::default();
    let (mut seen, mut bytes, mut last) = (0, 0_usize, None);
    let mut select = connection.prepare_cached(
        "SELECT sequence, record FROM events WHERE sequence >= ?1 ORDER BY sequence",
    )?;
    let mut rows = select.query([i64::try_from(first).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let (sequence, record) = (
            Sequence(row.get::<_, i64>(0)?.cast_unsigned()),
            row.get_ref(1)?.as_blob().unwrap_or_default(),
        );
        bytes = bytes.saturating_add(record.len());
        if seen >= limit || (bytes > bytes_max && seen > 0) {
            page.next = last;
            break;
        }
        match EventRow::decode(sequence.0, &Bytes::copy_from_slice(record)) {
            Ok(EventRow {
                tenant,
                origin,
                at,
                event,
            }) => page.events.push(StoredEvent {
                sequence,
                tenant,
                origin,
                at,
                event,
            }),
            Err(_) => page.damaged += 1,
        }
        (seen, last) = (seen + 1, Some(sequence));
    }
    Ok(page)
}

/// The first sequence of which the event was appended at a time or later: halves the sequences that
/// there are, since their times grow with them and are in no index.
fn first_since(connection: &Connection, time: Timestamp) -> rusqlite::Result<u64> {
    let mut ends = connection.prepare_cached(
        "SELECT coalesce(min(sequence), 1), coalesce(max(sequence), 0) FROM events",
    )?;
    let (mut low, high): (i64, i64) = ends.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut high = high.saturating_add(1);
    let mut at = connection.prepare_cached(
        "SELECT sequence, record FROM events WHERE sequence >= ?1 ORDER BY sequence LIMIT 1",
    )?;
    while low < high {
        let middle = low + (high - low) / 2;
        let found = at
            .query_row([middle], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get_ref(1)?.as_blob().map(Bytes::copy_from_slice),
                ))
            })
            .optional()?;
        match found {
            Some((sequence, record)) => {
                let kept = record
                    .ok()
                    .and_then(|record| EventRow::decode(sequence.cast_unsigned(), &record).ok());
                // Of a damaged one nobody knows: what lies before it is taken along.
                if kept.is_some_and(|kept| kept.at < time) {
                    low = sequence + 1
                } else {
                    high = middle
                }
            }
            None => high = middle,
        }
    }
    Ok(low.cast_unsigned())
}

/// Every subscription's row; of a damaged one the number.
pub(super) fn subscriptions(
    connection: &Connection,
) -> rusqlite::Result<Vec<(u32, Result<Subscribed, Damage>)>> {
    let mut select =
        connection.prepare("SELECT number, value FROM subscriptions ORDER BY number")?;
    let rows = select.query_map([], |row| {
        let number = row.get(0)?;
        Ok((
            number,
            row.get_ref(1)?
                .as_blob()
                .map_err(|_| Damage("it is no blob"))
                .and_then(|value| Subscribed::decode(number, value)),
        ))
    })?;
    rows.collect()
}

fn statuses(connection: &Connection) -> rusqlite::Result<Vec<SubscriptionStatus>> {
    // One snapshot, so that counters and rows belong together.
    let transaction = connection.unchecked_transaction()?;
    let mut statuses = Vec::new();
    for (number, subscribed) in subscriptions(&transaction)? {
        let Ok(Subscribed {
            identity,
            attached,
            activity,
            counts,
            ..
        }) = subscribed
        else {
            continue;
        };
        let oldest_pending = if counts.pending > 0 {
            oldest(&transaction, number)?
        } else {
            None
        };
        statuses.push(SubscriptionStatus {
            number: SubscriptionNumber(number),
            identity,
            attached,
            activity,
            counts,
            oldest_pending,
        });
    }
    Ok(statuses)
}

fn oldest(connection: &Connection, subscription: u32) -> rusqlite::Result<Option<Timestamp>> {
    let mut select = connection.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending WHERE subscription = ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let mut oldest: Option<Timestamp> = None;
    for row in select.query_map(params![subscription, ROWS_FOR_AGE], read_row)? {
        if let (_, Ok(row)) = row? {
            oldest = Some(oldest.map_or(row.since, |oldest| oldest.min(row.since)));
        }
    }
    Ok(oldest)
}

fn pending(
    connection: &Connection,
    subscription: u32,
    after: Option<Sequence>,
    limit: usize,
) -> rusqlite::Result<Vec<Pending>> {
    let transaction = connection.unchecked_transaction()?;
    let epochs = schema::read_epochs(&transaction)?.unwrap_or_default();
    let from = after.map_or(0, |after| after.0.saturating_add(1));
    let mut found: Vec<Pending> = Vec::new();
    let show = |row: &PendingRow, sequence: u64| Pending {
        id: epochs.id(
            subscription,
            sequence,
            if row.is_block() { 0 } else { row.key.run },
        ),
        due: row.due,
        since: row.since,
        attempts: row.attempts,
        last: row.last.clone(),
    };
    let mut alone = transaction.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending
         WHERE subscription = ?1 AND sequence >= ?2 AND run >= 0 ORDER BY sequence, run LIMIT ?3",
    )?;
    for row in alone.query_map(
        params![
            subscription,
            i64::try_from(from).unwrap_or(i64::MAX),
            schema::limit(limit)
        ],
        read_row,
    )? {
        if let (key, Ok(row)) = row? {
            found.push(show(&row, key.sequence));
        }
    }
    let mut blocks = transaction.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY blocks
         WHERE subscription = ?1 AND run < 0 AND sequence >= coalesce(
             (SELECT max(sequence) FROM pending INDEXED BY blocks WHERE subscription = ?1 AND run < 0 AND sequence <= ?2), 0)
         ORDER BY sequence",
    )?;
    let mut in_blocks = 0;
    let mut rows = blocks.query(params![
        subscription,
        i64::try_from(from).unwrap_or(i64::MAX)
    ])?;
    while in_blocks < limit
        && let Some(row) = rows.next()?
    {
        if let (_, Ok(row)) = read_row(row)? {
            let shown = row
                .sequences
                .iter()
                .filter(|sequence| **sequence >= from)
                .map(|sequence| show(&row, *sequence));
            let before = found.len();
            found.extend(shown);
            in_blocks += found.len() - before;
        }
    }
    found.sort_unstable_by_key(|pending| (pending.id.sequence, pending.id.run));
    found.truncate(limit);
    Ok(found)
}

/// Rows of dead letters that a selection finds.
#[derive(Debug, Default)]
pub(super) struct DeadPage {
    pub(super) rows: Vec<(DeadKey, DeadRow)>,
    pub(super) damaged: Vec<(DeadKey, Damage)>,
    /// Where to go on; none at the end.
    pub(super) next: Option<DeadKey>,
}

/// Looks at the next `limit` dead letters after a key.
pub(super) fn dead_page(
    connection: &Connection,
    epochs: &Epochs,
    selection: &DeadSelection,
    after: Option<DeadKey>,
    limit: usize,
    identity: &dyn Fn(u32) -> Option<SubscriptionIdentity>,
) -> rusqlite::Result<DeadPage> {
    let order = |key: &DeadKey| (key.sequence, key.subscription, key.run);
    let mut page = DeadPage::default();
    let mut look = |key: DeadKey, value: &[u8]| match DeadRow::decode(
        &[key.sequence, key.subscription.into(), key.run],
        value,
    ) {
        Ok(dead) => {
            if selection.selects(&letter(epochs, key, &dead, identity)) {
                page.rows.push((key, dead));
            }
        }
        Err(damage) => page.damaged.push((key, damage)),
    };
    let mut seen = 0;
    let mut last = None;
    if let Some(ids) = &selection.ids {
        let mut keys: Vec<_> = ids.iter().filter_map(|id| epochs.key(id)).collect();
        keys.sort_unstable_by_key(order);
        keys.dedup();
        let mut select = connection.prepare_cached(
            "SELECT value FROM dead WHERE sequence = ?1 AND subscription = ?2 AND run = ?3",
        )?;
        for key in keys
            .into_iter()
            .filter(|key| after.is_none_or(|after| order(key) > order(&after)))
            .take(limit)
        {
            let at = params![
                key.sequence.cast_signed(),
                key.subscription,
                key.run.cast_signed()
            ];
            if let Some(value) = select
                .query_row(at, |row| row.get::<_, Vec<u8>>(0))
                .optional()?
            {
                look(key, &value);
            }
            (seen, last) = (seen + 1, Some(key));
        }
    } else {
        let mut select = connection.prepare_cached(
            "SELECT sequence, subscription, run, value FROM dead WHERE (sequence, subscription, run) > (?1, ?2, ?3)
             ORDER BY sequence, subscription, run LIMIT ?4",
        )?;
        let (sequence, subscription, run) = after.map_or((-1, 0, 0), |after| {
            (
                after.sequence.cast_signed(),
                after.subscription,
                after.run.cast_signed(),
            )
        });
        let mut rows = select.query(params![sequence, subscription, run, schema::limit(limit)])?;
        while let Some(row) = rows.next()? {
            let [sequence, run] = [row.get::<_, i64>(0)?, row.get(2)?].map(i64::cast_unsigned);
            let key = DeadKey {
                sequence,
                subscription: row.get(1)?,
                run,
            };
            look(key, row.get_ref(3)?.as_blob().unwrap_or_default());
            (seen, last) = (seen + 1, Some(key));
        }
    }
    page.next = last.filter(|_| seen == limit);
    Ok(page)
}

fn letter(
    epochs: &Epochs,
    key: DeadKey,
    dead: &DeadRow,
    identity: &dyn Fn(u32) -> Option<SubscriptionIdentity>,
) -> DeadLetter {
    let DeadRow {
        tenant,
        origin,
        reason,
        at,
        attempts,
        order_key: _,
        last,
        reject,
    } = dead.clone();
    let (message, raw) = match reject {
        Some(reject) => (reject.reason, reject.raw),
        None => (
            last.as_ref()
                .map(|last| last.message.clone())
                .unwrap_or_default(),
            Bytes::new(),
        ),
    };
    let id = epochs.id(key.subscription, key.sequence, key.run);
    let subscription = if key.subscription == 0 {
        None
    } else {
        identity(key.subscription)
    };
    DeadLetter {
        id,
        tenant,
        origin,
        subscription,
        reason,
        message,
        at,
        attempts,
        last,
        raw,
    }
}

fn dead_letters(
    connection: &Connection,
    selection: &DeadSelection,
    after: Option<DeliveryId>,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    // One snapshot, so that the epochs belong to the rows.
    let connection = &*connection.unchecked_transaction()?;
    let epochs = schema::read_epochs(connection)?.unwrap_or_default();
    let known: std::collections::HashMap<_, _> = subscriptions(connection)?.into_iter().collect();
    let identity = |number: u32| {
        known
            .get(&number)?
            .as_ref()
            .ok()
            .map(|subscribed| subscribed.identity.clone())
    };
    let mut after = after.map(|id| DeadKey {
        subscription: id.subscription.0,
        sequence: id.sequence.0,
        run: id.run,
    });
    let mut letters = Vec::new();
    while letters.len() < limit {
        let page = dead_page(connection, &epochs, selection, after, DEAD_ROWS, &identity)?;
        letters.extend(
            page.rows
                .iter()
                .map(|(key, dead)| letter(&epochs, *key, dead, &identity)),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    letters.truncate(limit);
    Ok(letters)
}
