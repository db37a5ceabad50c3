//! Subscriptions and what is pending in them.

use pointsman_schemas::{Sequence, SubscriptionNumber, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::disk::epochs::Epochs;
use crate::disk::record::{Damage, Subscribed};
use crate::disk::row::{PendingRow, RowKey, read_row};
use crate::disk::schema;
use crate::{Pending, SubscriptionStatus};

/// Rows that are looked at for the age of a queue. What lies behind them was appended later.
const ROWS_FOR_AGE: u32 = 1_000;

/// Rows that are looked at for the ages of all queues, the first of each aside: who asks for ten
/// thousand does not wait for millions of rows.
const ROWS_FOR_AGES: u32 = 20_000;

/// Every subscription's row; of a damaged one the number.
pub(in crate::disk) fn subscriptions(
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

pub(super) fn statuses(connection: &Connection) -> rusqlite::Result<Vec<SubscriptionStatus>> {
    // One snapshot, so that counters and rows belong together.
    let transaction = connection.unchecked_transaction()?;
    let mut statuses = Vec::new();
    let all = subscriptions(&transaction)?;
    let waits = |(_, subscribed): &&(u32, Result<Subscribed, Damage>)| {
        subscribed.as_ref().is_ok_and(|one| one.counts.pending > 0)
    };
    let waiting = u32::try_from(all.iter().filter(waits).count()).unwrap_or(u32::MAX);
    let rows_max = (ROWS_FOR_AGES / waiting.max(1)).clamp(1, ROWS_FOR_AGE);
    for (number, subscribed) in all {
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
            oldest(&transaction, number, rows_max)?
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

/// When the oldest run began of the first rows of a queue.
fn oldest(
    connection: &Connection,
    subscription: u32,
    rows_max: u32,
) -> rusqlite::Result<Option<Timestamp>> {
    let mut select = connection.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending
         WHERE subscription = ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let mut oldest: Option<Timestamp> = None;
    for row in select.query_map(params![subscription, rows_max], read_row)? {
        if let (_, Ok(row)) = row? {
            oldest = Some(oldest.map_or(row.since, |oldest| oldest.min(row.since)));
        }
    }
    Ok(oldest)
}

pub(super) fn shown(epochs: &Epochs, row: &PendingRow, sequence: u64) -> Pending {
    let run = if row.is_block() { 0 } else { row.key.run };
    Pending {
        id: epochs.id(row.key.subscription, sequence, run),
        due: row.due.time(),
        since: row.since,
        attempts: row.attempts,
        last: row.last.clone(),
        in_flight: false,
        suspended: row.suspended,
        order_key: row.order_key,
        priority: row.due.priority(),
    }
}

/// One pending delivery, alone or in a block.
pub(super) fn pending_one(
    connection: &Connection,
    epochs: &Epochs,
    key: RowKey,
) -> rusqlite::Result<Option<Pending>> {
    let mut alone = connection.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending
         WHERE subscription = ?1 AND sequence = ?2 AND run = ?3",
    )?;
    let at = params![
        key.subscription,
        key.sequence.cast_signed(),
        key.run_column()
    ];
    if let Some((_, Ok(row))) = alone.query_row(at, read_row).optional()?
        && !row.is_block()
    {
        return Ok(Some(shown(epochs, &row, key.sequence)));
    }
    if key.run > 0 {
        return Ok(None);
    }
    let mut block = connection.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY blocks
         WHERE subscription = ?1 AND run < 0 AND sequence <= ?2 ORDER BY sequence DESC LIMIT 1",
    )?;
    let at = params![key.subscription, key.sequence.cast_signed()];
    Ok(match block.query_row(at, read_row).optional()? {
        Some((_, Ok(row))) if row.sequences.contains(&key.sequence) => {
            Some(shown(epochs, &row, key.sequence))
        }
        _ => None,
    })
}

/// Everything that is pending of an event, alone or in blocks.
pub(super) fn pending_of(
    connection: &Connection,
    event: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Pending>> {
    let transaction = connection.unchecked_transaction()?;
    let epochs = schema::read_epochs(&transaction)?.unwrap_or_default();
    let mut found: Vec<Pending> = Vec::new();
    for select in [
        "SELECT subscription, sequence, run, due, order_key, pending.value
         FROM subscriptions CROSS JOIN pending ON subscription = number
         WHERE sequence = ?1 AND run >= 0",
        "SELECT subscription, sequence, run, due, order_key, pending.value
         FROM subscriptions CROSS JOIN pending INDEXED BY blocks ON subscription = number
         WHERE run < 0 AND sequence = (
             SELECT max(sequence) FROM pending INDEXED BY blocks
             WHERE subscription = number AND run < 0 AND sequence <= ?1)",
    ] {
        let mut select = transaction.prepare_cached(select)?;
        for row in select.query_map([event.cast_signed()], read_row)? {
            if let (_, Ok(row)) = row?
                && row.sequences.contains(&event)
            {
                found.push(shown(&epochs, &row, event));
            }
        }
    }
    found.sort_unstable_by_key(|one| (one.id.subscription, one.id.run));
    found.truncate(limit);
    Ok(found)
}

pub(super) fn pending(
    connection: &Connection,
    subscription: u32,
    after: Option<Sequence>,
    limit: usize,
) -> rusqlite::Result<Vec<Pending>> {
    let transaction = connection.unchecked_transaction()?;
    let epochs = schema::read_epochs(&transaction)?.unwrap_or_default();
    let from = after.map_or(0, |after| after.0.saturating_add(1));
    let mut found: Vec<Pending> = Vec::new();
    let show = |row: &PendingRow, sequence: u64| shown(&epochs, row, sequence);
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
             (SELECT max(sequence) FROM pending INDEXED BY blocks
             WHERE subscription = ?1 AND run < 0 AND sequence <= ?2), 0)
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
