//! Dead letters, in the order of sequence, subscription and run.

use std::collections::HashMap;

use bytes::Bytes;
use pointsman_schemas::DeliveryId;
use rusqlite::{Connection, OptionalExtension, params};

use super::subscriptions::subscriptions;
use crate::disk::epochs::Epochs;
use crate::disk::record::{Damage, DeadRow, EventRow, Subscribed};
use crate::disk::row::RowKey;
use crate::disk::schema;
use crate::{DeadLetter, DeadSelection, SubscriptionIdentity};

/// A dead letter's key; dead letters are ordered by sequence, subscription, run.
pub(in crate::disk) type DeadKey = RowKey;

/// Rows of dead letters that are read at once.
const DEAD_ROWS: usize = 1_000;

/// Rows of dead letters that a selection finds.
#[derive(Debug, Default)]
pub(in crate::disk) struct DeadPage {
    pub(in crate::disk) rows: Vec<(DeadKey, DeadRow)>,
    pub(in crate::disk) damaged: Vec<(DeadKey, Damage)>,
    /// Where to go on; none at the end.
    pub(in crate::disk) next: Option<DeadKey>,
}

/// Looks at the next `limit` dead letters after a key.
pub(in crate::disk) fn dead_page(
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
            "SELECT sequence, subscription, run, value FROM dead
             WHERE (sequence, subscription, run) > (?1, ?2, ?3)
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
        replay: _,
        edited,
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
        edited: edited.and_then(|record| {
            let edited = EventRow::decode(key.sequence, &record).ok()?;
            Some(edited.event)
        }),
    }
}

/// The dead letter of one delivery.
pub(super) fn letter_of(
    connection: &Connection,
    epochs: &Epochs,
    key: DeadKey,
) -> rusqlite::Result<Option<DeadLetter>> {
    let mut select = connection.prepare_cached(
        "SELECT d.value, s.value FROM dead d LEFT JOIN subscriptions s ON s.number = d.subscription
         WHERE d.sequence = ?1 AND d.subscription = ?2 AND d.run = ?3",
    )?;
    let at = params![
        key.sequence.cast_signed(),
        key.subscription,
        key.run.cast_signed()
    ];
    let found: Option<(Vec<u8>, Option<Vec<u8>>)> = select
        .query_row(at, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((dead, subscribed)) = found else {
        return Ok(None);
    };
    let identity = |number| {
        Some(
            Subscribed::decode(number, subscribed.as_ref()?)
                .ok()?
                .identity,
        )
    };
    let check_key = [key.sequence, key.subscription.into(), key.run];
    let dead = DeadRow::decode(&check_key, &dead).ok();
    Ok(dead.map(|dead| letter(epochs, key, &dead, &identity)))
}

pub(super) fn dead_letters(
    connection: &Connection,
    selection: &DeadSelection,
    after: Option<DeliveryId>,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    // One snapshot, so that the epochs belong to the rows.
    let connection = &*connection.unchecked_transaction()?;
    let epochs = schema::read_epochs(connection)?.unwrap_or_default();
    let known: HashMap<_, _> = subscriptions(connection)?.into_iter().collect();
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
