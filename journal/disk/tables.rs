//! The rows of every table, and whether each says what was once written there.

use bytes::Bytes;
use pointsman_schemas::Timestamp;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::record::{
    self, Damage, DeadRow, Decoder, EventRow, HistoryKey, HistoryRow, KeyRow, Seen, Subscribed,
    check_kept,
};
use super::row::{BLOCK_RUN, PendingRow, RowKey};

/// Every table with its columns, the key first.
pub(super) const TABLES: [(&str, &str, &str); 13] = [
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
    (
        "history",
        "number",
        "number, subscription, first, last, value",
    ),
    ("keys", "high, low", "high, low, until, value"),
    ("replays", "id", "id, value"),
    ("kept", "sequence", "sequence, until, value"),
];

/// The key of a row in any table.
pub(super) type Key = Vec<Value>;

/// A damaged row: its table, its key, and why.
pub(super) type DamagedRow = (&'static str, DamagedKey, Damage);

/// A key that shows as text.
pub(super) struct DamagedKey(pub(super) Key);

impl std::fmt::Display for DamagedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&key_text(&self.0))
    }
}

fn key_text(key: &Key) -> String {
    let part = |value: &Value| match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => bytes.escape_ascii().to_string(),
        _ => "?".to_owned(),
    };
    key.iter().map(part).collect::<Vec<_>>().join("/")
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
        (true, [_, Blob(_)]) => &["events", "subscriptions", "replays"],
        (true, [_, Integer(_), Blob(_)]) => &["kept"],
        (true, [_, Integer(_), Text(_), Text(_), Text(_), Blob(_) | Null]) => {
            return Some(("quarantine", true));
        }
        (true, [_, Integer(_), Integer(_), Integer(_), Blob(_)]) => &["history"],
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
        (false, [Integer(_), Integer(_), Integer(_), Blob(_)]) => &["dead", "keys"],
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

/// Whether a row says what was once written there.
pub(super) fn check_row(table: &str, values: &[Value]) -> Result<(), Damage> {
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
        "keys" => {
            let (key, until) = ([unsigned(0)?, unsigned(1)?], Timestamp(number(2)?));
            KeyRow::decode(key, until, value).map(drop)
        }
        "kept" => check_kept(unsigned(0)?, Timestamp(number(1)?), value),
        "identities" => Seen::decode([unsigned(0)?, unsigned(1)?], value).map(drop),
        "replays" => record::decode_replay(unsigned(0)?, value).map(drop),
        "history" => {
            let key = HistoryKey {
                number: unsigned(0)?,
                subscription: narrow(1)?,
                first: unsigned(2)?,
                last: unsigned(3)?,
            };
            HistoryRow::decode(key, value).map(drop)
        }
        _ => Ok(()),
    }
}
