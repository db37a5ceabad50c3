//! The history: of one delivery, and of those that have ended.

use pointsman_schemas::{DeliveryId, SubscriptionNumber, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::dead::{DeadKey, letter_of};
use super::subscriptions::pending_one;
use crate::disk::epochs::Epochs;
use crate::disk::record::{Damage, HistoryKey, HistoryRow, Noted, SPAN_MAX};
use crate::disk::row::RowKey;
use crate::disk::schema;
use crate::{
    DeadLetter, ENTRIES_OF_ONE_MAX, EndedPage, EndedSelection, HistoryEntry, HistoryPlace, Pending,
    TaskState,
};

/// Rows that one call looks at.
const ROWS_PER_CALL: usize = 4_096;

const COLUMNS: &str = "number, subscription, first, last, value";

/// What the store holds of one delivery, in the journal's time.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) pending: Option<Pending>,
    pub(super) dead: Option<DeadLetter>,
    pub(super) history: Vec<HistoryEntry>,
}

/// Reads everything that the store holds of one delivery.
pub(super) fn held(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Held> {
    // One snapshot, so that it is in one place alone.
    let connection = &*connection.unchecked_transaction()?;
    let epochs = schema::read_epochs(connection)?.unwrap_or_default();
    let Some(key) = epochs.key(&id) else {
        return Ok(Held::default());
    };
    Ok(Held {
        pending: pending_one(connection, &epochs, key)?,
        dead: letter_of(connection, &epochs, key)?,
        history: of_one(connection, &epochs, key)?,
    })
}

/// Whether the table is there: a store of an earlier format that nobody has opened for writing has
/// none.
fn is_kept(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = 'history'")?
        .exists([])
}

fn read(row: &Row<'_>) -> rusqlite::Result<(HistoryKey, Result<HistoryRow, Damage>)> {
    let unsigned = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let key = HistoryKey {
        number: unsigned(0)?,
        subscription: row.get(1)?,
        first: unsigned(2)?,
        last: unsigned(3)?,
    };
    let value = row.get_ref(4)?.as_blob();
    let decoded = value
        .map_err(|_| Damage("it is no blob"))
        .and_then(|value| HistoryRow::decode(key, value));
    Ok((key, decoded))
}

fn entry(
    epochs: &Epochs,
    key: HistoryKey,
    at: Timestamp,
    index: usize,
    noted: Noted,
) -> HistoryEntry {
    HistoryEntry {
        place: HistoryPlace {
            row: key.number,
            entry: u32::try_from(index).unwrap_or(u32::MAX),
        },
        id: epochs.id(key.subscription, noted.sequence, noted.run),
        at,
        state: noted.state,
        reason: noted.reason,
        next: noted.next,
        attempt: noted.attempt,
    }
}

/// The latest entries of one delivery, in order.
fn of_one(
    connection: &Connection,
    epochs: &Epochs,
    key: RowKey,
) -> rusqlite::Result<Vec<HistoryEntry>> {
    if !is_kept(connection)? {
        return Ok(Vec::new());
    }
    let sequence = key.sequence.cast_signed();
    let mut found = Vec::new();
    let mut take = |row: &Row<'_>| -> rusqlite::Result<()> {
        if let (at_key, Ok(HistoryRow { at, entries })) = read(row)? {
            let own = entries.into_iter().enumerate();
            found.extend(
                own.filter(|(_, noted)| noted.sequence == key.sequence && noted.run == key.run)
                    .map(|(index, noted)| entry(epochs, at_key, at, index, noted)),
            );
        }
        Ok(())
    };
    let mut alone = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM history INDEXED BY history_of_one
         WHERE subscription = ?1 AND first = ?2 AND first = last
         ORDER BY number DESC LIMIT ?3"
    ))?;
    let limit = schema::limit(ENTRIES_OF_ONE_MAX);
    let mut rows = alone.query(params![key.subscription, sequence, limit])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    let mut many = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM history INDEXED BY history_of_many
         WHERE subscription = ?1 AND first < last AND last BETWEEN ?2 AND ?3 AND first <= ?2"
    ))?;
    let until = key.sequence.saturating_add(SPAN_MAX).cast_signed();
    let mut rows = many.query(params![key.subscription, sequence, until])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    found.sort_unstable_by_key(|entry| entry.place);
    found.drain(..found.len().saturating_sub(ENTRIES_OF_ONE_MAX));
    Ok(found)
}

/// The first row that was written at a time or later, or the one behind the last.
fn first_since(connection: &Connection, time: Timestamp) -> rusqlite::Result<u64> {
    let mut ends = connection.prepare_cached(
        "SELECT coalesce((SELECT min(number) FROM history), 1),
                coalesce((SELECT max(number) FROM history), 0)",
    )?;
    let (mut low, last): (i64, i64) = ends.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut high = last.saturating_add(1);
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM history WHERE number >= ?1 AND number < ?2 ORDER BY number"
    ))?;
    while low < high {
        let middle = low + (high - low) / 2;
        let mut rows = select.query([middle, high])?;
        let mut sound = None;
        while sound.is_none()
            && let Some(row) = rows.next()?
        {
            let (key, decoded) = read(row)?;
            sound = decoded.ok().map(|row| (key.number, row.at));
        }
        match sound {
            Some((number, at)) if at < time => low = number.cast_signed() + 1,
            _ => high = middle,
        }
    }
    Ok(low.cast_unsigned())
}

/// The numbers of the rows that a selection may find behind a place: from, to.
fn bounds(
    connection: &Connection,
    selection: &EndedSelection,
    after: Option<HistoryPlace>,
) -> rusqlite::Result<(u64, u64)> {
    let mut from = match selection.from {
        None => 0,
        Some(time) => first_since(connection, time)?,
    };
    let mut to = match selection.before {
        None => i64::MAX.cast_unsigned(),
        Some(time) => first_since(connection, time)?.saturating_sub(1),
    };
    if let Some(after) = after {
        // The row itself may hold more.
        if selection.latest_first {
            to = to.min(after.row);
        } else {
            from = from.max(after.row);
        }
    }
    Ok((from, to))
}

/// A page of deliveries that have ended, in the journal's time.
pub(super) fn ended(
    connection: &Connection,
    selection: &EndedSelection,
    after: Option<HistoryPlace>,
    limit: usize,
) -> rusqlite::Result<EndedPage> {
    let connection = &*connection.unchecked_transaction()?;
    if !is_kept(connection)? {
        return Ok(EndedPage::default());
    }
    let mut gathered = Gathered {
        connection,
        epochs: schema::read_epochs(connection)?.unwrap_or_default(),
        selection,
        after,
        limit,
        last: after,
        page: EndedPage::default(),
    };
    let (from, to) = bounds(connection, selection, after)?;
    if let Some(event) = selection.event {
        for (key, row) in of_event(connection, event.0, (from, to), selection.latest_first)? {
            if selection.selects_subscription(SubscriptionNumber(key.subscription))
                && gathered.take(key, row)?
            {
                break;
            }
        }
        return Ok(gathered.page);
    }
    let order = if selection.latest_first {
        "DESC"
    } else {
        "ASC"
    };
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM history WHERE number BETWEEN ?1 AND ?2 ORDER BY number {order}"
    ))?;
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut rows = select.query([bound(from), bound(to)])?;
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        if seen == ROWS_PER_CALL {
            gathered.page.next = gathered.last;
            break;
        }
        seen += 1;
        // Most rows are another's where one is asked for: those need not be decoded.
        let subscription = SubscriptionNumber(row.get(1)?);
        if !selection.selects_subscription(subscription) {
            let number = row.get::<_, i64>(0)?.cast_unsigned();
            gathered.last = Some(end_of(number, selection));
            continue;
        }
        let (key, decoded) = read(row)?;
        if let Ok(row) = decoded
            && gathered.take(key, row)?
        {
            break;
        }
    }
    Ok(gathered.page)
}

/// The rows that may tell of an event, in order; each subscription that has any is asked for them.
fn of_event(
    connection: &Connection,
    event: u64,
    (from, to): (u64, u64),
    latest_first: bool,
) -> rusqlite::Result<Vec<(HistoryKey, HistoryRow)>> {
    let until = event.saturating_add(SPAN_MAX);
    let mut found = Vec::new();
    for (index, of, at) in [
        ("history_of_one", "first = last", "first = ?1 AND ?2 > 0"),
        (
            "history_of_many",
            "first < last",
            "last BETWEEN ?1 AND ?2 AND first <= ?1",
        ),
    ] {
        let mut select = connection.prepare_cached(&format!(
            "WITH RECURSIVE kept (one) AS (
                 SELECT min(subscription) FROM history INDEXED BY {index} WHERE {of}
                 UNION ALL
                 SELECT (SELECT min(subscription) FROM history INDEXED BY {index}
                     WHERE {of} AND subscription > one)
                 FROM kept WHERE one IS NOT NULL)
             SELECT {COLUMNS} FROM kept CROSS JOIN history INDEXED BY {index} ON subscription = one
             WHERE {of} AND {at}"
        ))?;
        let mut rows = select.query([event.cast_signed(), until.cast_signed()])?;
        while let Some(row) = rows.next()? {
            if let (key, Ok(row)) = read(row)?
                && (from..=to).contains(&key.number)
            {
                found.push((key, row));
            }
        }
    }
    found.sort_unstable_by_key(|(key, _)| key.number);
    if latest_first {
        found.reverse();
    }
    Ok(found)
}

/// A page as it comes about.
struct Gathered<'a> {
    connection: &'a Connection,
    epochs: Epochs,
    selection: &'a EndedSelection,
    after: Option<HistoryPlace>,
    limit: usize,
    /// The last place that was looked at.
    last: Option<HistoryPlace>,
    page: EndedPage,
}

impl Gathered<'_> {
    /// Takes what is selected of a row; whether the page is full.
    fn take(&mut self, key: HistoryKey, row: HistoryRow) -> rusqlite::Result<bool> {
        let HistoryRow { at, entries } = row;
        let entries = entries.into_iter().enumerate();
        let mut entries: Vec<_> = entries
            .map(|(index, noted)| entry(&self.epochs, key, at, index, noted))
            .filter(|entry| self.selection.selects_event(entry.id.sequence))
            .collect();
        if self.selection.latest_first {
            entries.reverse();
        }
        for entry in entries {
            let place = entry.place;
            let Some(entry) = selected(self.connection, self.selection, self.after, entry)? else {
                continue;
            };
            if self.page.entries.len() == self.limit {
                self.page.next = self.last;
                return Ok(true);
            }
            self.page.entries.push(entry);
            self.last = Some(place);
        }
        self.last = Some(end_of(key.number, self.selection));
        Ok(false)
    }
}

/// The place behind which nothing of a row is left.
fn end_of(number: u64, selection: &EndedSelection) -> HistoryPlace {
    HistoryPlace {
        row: number,
        entry: if selection.latest_first { 0 } else { u32::MAX },
    }
}

/// An entry with the state that its delivery has now, where it is selected.
fn selected(
    connection: &Connection,
    selection: &EndedSelection,
    after: Option<HistoryPlace>,
    entry: HistoryEntry,
) -> rusqlite::Result<Option<HistoryEntry>> {
    let is_behind = after.is_none_or(|after| {
        if selection.latest_first {
            entry.place < after
        } else {
            entry.place > after
        }
    });
    if !is_behind || !selection.may_select(entry.state) {
        return Ok(None);
    }
    let state = state_now(connection, &entry)?;
    let entry = HistoryEntry { state, ..entry };
    Ok(Some(entry).filter(|entry| selection.selects_state(entry.state)))
}

/// What the run has become that an entry tells the end of.
fn state_now(connection: &Connection, entry: &HistoryEntry) -> rusqlite::Result<TaskState> {
    if !matches!(entry.state, TaskState::Failed | TaskState::Expired) {
        return Ok(entry.state);
    }
    let key = DeadKey {
        subscription: entry.id.subscription.0,
        sequence: entry.id.sequence.0,
        run: entry.id.run,
    };
    let mut dead = connection.prepare_cached(
        "SELECT 1 FROM dead WHERE sequence = ?1 AND subscription = ?2 AND run = ?3",
    )?;
    let at = params![
        key.sequence.cast_signed(),
        key.subscription,
        key.run.cast_signed()
    ];
    if dead.query_row(at, |_| Ok(())).optional()?.is_some() {
        return Ok(entry.state);
    }
    let later = of_one(connection, &Epochs::default(), key)?;
    let is_purged = later.iter().any(|later| later.state == TaskState::Purged);
    Ok(if is_purged {
        TaskState::Purged
    } else {
        entry.state
    })
}
