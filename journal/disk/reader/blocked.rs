//! Order keys that are blocked by the first of their deliveries.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::subscriptions::shown;
use crate::disk::epochs::Epochs;
use crate::disk::row::read_row;
use crate::disk::schema;
use crate::{BEHIND_MAX, BlockedKey, BlockedPage, Pending};

/// Rows that one call looks at, about: a seek each, or a step in the index.
const LOOKED_AT_MAX: u64 = 100_000;

/// The blocked keys behind `after`, at most `limit`; `leased` are the sequences and runs of what is
/// in flight. Times are the journal's own.
pub(super) fn blocked(
    connection: &Connection,
    subscription: u32,
    after: Option<u64>,
    limit: usize,
    leased: &HashSet<(u64, u64)>,
) -> rusqlite::Result<BlockedPage> {
    // One snapshot, so that a head belongs to what waits behind it.
    let transaction = connection.unchecked_transaction()?;
    let epochs = schema::read_epochs(&transaction)?.unwrap_or_default();
    let mut page = BlockedPage::default();
    let mut last = after;
    loop {
        let from = match last.map(u64::cast_signed) {
            None => i64::MIN,
            Some(i64::MAX) => return Ok(page),
            Some(last) => last + 1,
        };
        let Some((order_key, head)) = head(&transaction, &epochs, subscription, from)? else {
            return Ok(page);
        };
        if page.keys.len() == limit || page.looked_at >= LOOKED_AT_MAX {
            page.next = last;
            return Ok(page);
        }
        last = Some(order_key.cast_unsigned());
        page.looked_at += 1;
        let Some(mut head) = head else {
            continue;
        };
        head.in_flight = leased.contains(&(head.id.sequence.0, head.id.run));
        if head.blocks() {
            let behind = count(&transaction, subscription, order_key)?.saturating_sub(1);
            page.looked_at += behind;
            page.keys.push(BlockedKey { head, behind });
        }
    }
}

/// The first key that is no less than `from`, with the first of its deliveries; none of that where
/// its row is damaged.
fn head(
    connection: &Connection,
    epochs: &Epochs,
    subscription: u32,
    from: i64,
) -> rusqlite::Result<Option<(i64, Option<Pending>)>> {
    let mut select = connection.prepare_cached(
        "SELECT subscription, sequence, run, due, order_key, value FROM pending INDEXED BY by_key
         WHERE subscription = ?1 AND order_key >= ?2 ORDER BY order_key, sequence, run LIMIT 1",
    )?;
    let found = select.query_row(params![subscription, from], |row| {
        // What is no number lies behind all that are.
        let Ok(order_key) = row.get::<_, i64>(4) else {
            return Ok(None);
        };
        let (key, row) = read_row(row)?;
        let head = row.ok().map(|row| shown(epochs, &row, key.sequence));
        Ok(Some((order_key, head)))
    });
    Ok(found.optional()?.flatten())
}

/// How many deliveries have an order key, as far as they are counted.
fn count(connection: &Connection, subscription: u32, order_key: i64) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM pending INDEXED BY by_key
         WHERE subscription = ?1 AND order_key = ?2 LIMIT ?3)",
    )?;
    let max = BEHIND_MAX + 1;
    let count: i64 = select
        .query_row(params![subscription, order_key, max.cast_signed()], |row| {
            row.get(0)
        })?;
    Ok(count.cast_unsigned())
}
