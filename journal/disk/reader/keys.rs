//! Keys that are remembered.

use pointsman_schemas::{Sequence, Timestamp};
use rusqlite::Connection;

use crate::disk::epochs::Epochs;
use crate::disk::record::KeyRow;
use crate::disk::schema;
use crate::key::task_id;
use crate::{Identity, Lookup, RememberedKey};

/// Of one id more callers than this are not told.
const CALLERS_MAX: usize = 100;

/// The keys that are looked for; damaged ones are left out. Times are the journal's own.
pub(in crate::disk) fn keys(
    connection: &Connection,
    lookup: &Lookup,
) -> rusqlite::Result<Vec<RememberedKey>> {
    let ([high, first], last) = match lookup {
        Lookup::Key(Identity(key)) => {
            let [high, low] = key.map(u64::cast_signed);
            ([high, low], low)
        }
        Lookup::TaskId { tenant, id } => ([task_id(tenant, id).cast_signed(), i64::MIN], i64::MAX),
    };
    let epochs = schema::read_epochs(connection)?.unwrap_or_default();
    let mut select = connection.prepare_cached(
        "SELECT low, until, value FROM keys
         WHERE high = ?1 AND low BETWEEN ?2 AND ?3 ORDER BY low LIMIT ?4",
    )?;
    let limit = schema::limit(CALLERS_MAX);
    let rows = select.query_map(rusqlite::params![high, first, last, limit], |row| {
        Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (low, until, value): (i64, i64, Vec<u8>) = row?;
        let key = [high.cast_unsigned(), low.cast_unsigned()];
        if let Ok(row) = KeyRow::decode(key, Timestamp(until), &value) {
            found.push(remembered(key, Timestamp(until), row, &epochs));
        }
    }
    Ok(found)
}

fn remembered(key: [u64; 2], until: Timestamp, row: KeyRow, epochs: &Epochs) -> RememberedKey {
    let of = |subscription| epochs.id(subscription, row.sequence, 0);
    RememberedKey {
        identity: Identity(key),
        sequence: Sequence(row.sequence),
        at: row.at,
        until,
        deliveries: row.subscriptions.into_iter().map(of).collect(),
    }
}
