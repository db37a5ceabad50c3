//! What a transaction changes, from the keys of its rows to bytes and back.
//!
//! ```text
//! changes = ( table · 2 + is-deletion, values of the row or of its key ) …
//! value   = 0 │ 1, number (zigzag, LEB128) │ 2, length, text │ 3, length, bytes
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use sha2::{Digest, Sha256};

use super::{CarriedTo, Commit, commit_format};
use crate::disk::record::{Damage, Decoder, Encoder, Table, key_of};
use crate::disk::tables::{Key, TABLES, check_row};
use crate::disk::trouble::corrupt;

/// The row of `meta` with the mark: every store has its own.
pub(super) const MARK: &str = "log";

/// Rows that one look at a table takes when they are carried.
const CARRIED_AT_ONCE: i64 = 256;

/// The statements for the rows of one table.
struct Statements {
    keys: usize,
    columns: usize,
    select: String,
    put: String,
    delete: String,
    /// The rows from the first on, and those behind a key.
    first: String,
    behind: String,
}

static STATEMENTS: LazyLock<Vec<Statements>> = LazyLock::new(|| {
    let numbered = |count: usize| {
        let numbered: Vec<_> = (1..=count).map(|at| format!("?{at}")).collect();
        numbered.join(", ")
    };
    let statements = |(table, key, columns): (&str, &str, &str)| {
        let (keys, width) = (key.split(',').count(), columns.split(',').count());
        let is_key = format!("({key}) = ({})", numbered(keys));
        let walk = format!("ORDER BY {key} LIMIT {CARRIED_AT_ONCE}");
        Statements {
            keys,
            columns: width,
            select: format!("SELECT {columns} FROM {table} WHERE {is_key}"),
            put: format!(
                "REPLACE INTO {table} ({columns}) VALUES ({})",
                numbered(width)
            ),
            delete: format!("DELETE FROM {table} WHERE {is_key}"),
            first: format!("SELECT {columns} FROM {table} {walk}"),
            behind: format!(
                "SELECT {columns} FROM {table} WHERE ({key}) > ({}) {walk}",
                numbered(keys)
            ),
        }
    };
    TABLES.map(statements).into()
});

fn statements(table: usize) -> rusqlite::Result<&'static Statements> {
    STATEMENTS
        .get(table)
        .ok_or_else(|| corrupt("there is no such table".to_owned()))
}

/// The keys of the rows that a transaction has written or deleted.
#[derive(Debug, Default)]
pub(in crate::disk) struct Touched {
    keys: RefCell<BTreeSet<(usize, Vec<u8>)>>,
    begins_carry: bool,
    ends_carry: bool,
}

impl Touched {
    /// Notes a row.
    pub(in crate::disk) fn note(&self, table: &str, key: &Key) {
        if let Some(table) = TABLES.iter().position(|(name, ..)| *name == table) {
            let mut encoded = Vec::with_capacity(24);
            for value in key {
                encode(ValueRef::from(value), &mut encoded);
            }
            self.keys.borrow_mut().insert((table, encoded));
        }
    }

    /// Notes rows as they are, from where an earlier walk has come to, of about so many bytes.
    /// Returns where to go on; none at the end.
    ///
    /// A row that does not say what was once written is an error: the log must not have it.
    pub(in crate::disk) fn carry(
        &mut self,
        connection: &Connection,
        after: Option<CarriedTo>,
        bytes: usize,
    ) -> rusqlite::Result<Option<CarriedTo>> {
        self.begins_carry |= after.is_none();
        let mut at = after.unwrap_or(CarriedTo {
            table: 0,
            key: None,
        });
        let mut left = bytes;
        while let Some((table, ..)) = TABLES.get(at.table) {
            let statements = statements(at.table)?;
            let sql = match at.key {
                None => &statements.first,
                Some(_) => &statements.behind,
            };
            let mut select = connection.prepare_cached(sql)?;
            let mut rows = select.query(params_from_iter(at.key.iter().flatten()))?;
            let mut last = None;
            while let Some(row) = rows.next()? {
                let values = values(row, statements.columns)?;
                check(table, &values)?;
                let key = values.get(..statements.keys).unwrap_or_default().to_vec();
                self.note(table, &key);
                left = left.saturating_sub(values.iter().map(size_of).sum());
                last = Some(key);
                if left == 0 {
                    break;
                }
            }
            at = match last {
                Some(key) => CarriedTo {
                    key: Some(key),
                    ..at
                },
                None => CarriedTo {
                    table: at.table + 1,
                    key: None,
                },
            };
            if left == 0 {
                return Ok(Some(at));
            }
        }
        self.ends_carry = true;
        Ok(None)
    }

    /// What the rows have become.
    pub(in crate::disk) fn commit(&self, connection: &Connection) -> rusqlite::Result<Commit> {
        let mut out = Vec::new();
        for (table, key) in self.keys.borrow().iter() {
            let statements = statements(*table)?;
            let key_values = Reader(key).values(statements.keys)?;
            // The mark is every store's own.
            if key_values == [Value::Text(MARK.to_owned())] {
                continue;
            }
            let mut select = connection.prepare_cached(&statements.select)?;
            let mut rows = select.query(params_from_iter(key_values))?;
            let number = (*table as u64) << 1;
            if let Some(row) = rows.next()? {
                unsigned(number, &mut out);
                for column in 0..statements.columns {
                    encode(row.get_ref(column)?, &mut out);
                }
            } else {
                unsigned(number | 1, &mut out);
                out.extend_from_slice(key);
            }
        }
        Ok(Commit {
            format: commit_format(),
            begins_carry: self.begins_carry,
            ends_carry: self.ends_carry,
            changes: out.into(),
        })
    }
}

/// What becomes of rows, by their tables and the bytes of their keys: the bytes of the row, or none
/// where it is deleted.
type Last<'a> = BTreeMap<(usize, &'a [u8]), Option<&'a [u8]>>;

/// Applies changes in their order: of each row the last one, whatever it was in between. Bytes that
/// are none are an error as damage is.
pub(super) fn apply<'a>(
    connection: &Connection,
    changes: impl IntoIterator<Item = &'a [u8]>,
) -> rusqlite::Result<()> {
    let mut last = Last::new();
    for changes in changes {
        read(changes, &mut last)?;
    }
    for ((table, key), row) in last {
        let statements = statements(table)?;
        let Some(row) = row else {
            let key = Reader(key).values(statements.keys)?;
            let mut delete = connection.prepare_cached(&statements.delete)?;
            delete.execute(params_from_iter(key))?;
            continue;
        };
        let row = Reader(row).values(statements.columns)?;
        let (name, ..) = TABLES.get(table).copied().unwrap_or_default();
        check(name, &row)?;
        let mut put = connection.prepare_cached(&statements.put)?;
        put.execute(params_from_iter(row))?;
    }
    Ok(())
}

/// Notes what changes say of each row; the key of a row is in its first columns.
fn read<'a>(changes: &'a [u8], last: &mut Last<'a>) -> rusqlite::Result<()> {
    let mut reader = Reader(changes);
    while !reader.0.is_empty() {
        let number = reader.unsigned()?;
        let table = usize::try_from(number >> 1).unwrap_or(usize::MAX);
        let statements = statements(table)?;
        let begin = reader.0;
        let key = reader.skip(begin, statements.keys)?;
        let row = match number & 1 {
            1 => None,
            _ => Some(reader.skip(begin, statements.columns - statements.keys)?),
        };
        last.insert((table, key), row);
    }
    Ok(())
}

/// A digest over all rows but the mark.
pub(super) fn digest(connection: &Connection) -> rusqlite::Result<u64> {
    let mut hasher = Sha256::new();
    let mut bytes = Vec::new();
    for (table, key, columns) in TABLES {
        let mut select =
            connection.prepare(&format!("SELECT {columns} FROM {table} ORDER BY {key}"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if table == "meta" && row.get_ref(0)? == ValueRef::Text(MARK.as_bytes()) {
                continue;
            }
            bytes.clear();
            for column in 0..columns.split(',').count() {
                encode(row.get_ref(column)?, &mut bytes);
            }
            hasher.update(table);
            hasher.update(&bytes);
        }
    }
    let digest = hasher.finalize();
    let first = digest.first_chunk().copied().unwrap_or_default();
    Ok(u64::from_le_bytes(first))
}

/// The mark of a store; none where it was never in a log.
pub(in crate::disk) fn read_log_mark(connection: &Connection) -> rusqlite::Result<Option<Bytes>> {
    let value: Option<Vec<u8>> = connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([MARK], |row| row.get(0))
        .optional()?;
    let decode = |value: &[u8]| -> Result<Bytes, Damage> {
        let mut from = Decoder::open(Table::Meta, &[key_of(MARK)], value)?;
        from.bytes().map(Bytes::copy_from_slice)
    };
    value
        .map(|value| decode(&value).map_err(|damage| corrupt(format!("the mark: {damage}"))))
        .transpose()
}

pub(in crate::disk) fn write_log_mark(
    connection: &Connection,
    mark: &[u8],
) -> rusqlite::Result<()> {
    let mut value = Encoder::new(mark.len());
    value.bytes(mark);
    connection
        .prepare_cached("REPLACE INTO meta VALUES (?1, ?2)")?
        .execute(rusqlite::params![
            MARK,
            value.seal(Table::Meta, &[key_of(MARK)])
        ])
        .map(drop)
}

/// Refuses a row that does not say what was once written.
fn check(table: &str, values: &[Value]) -> rusqlite::Result<()> {
    // What was set aside there passes no check.
    if table == "quarantine" {
        return Ok(());
    }
    check_row(table, values).map_err(|damage| corrupt(format!("a row of {table}: {damage}")))
}

fn values(row: &Row<'_>, count: usize) -> rusqlite::Result<Vec<Value>> {
    (0..count).map(|column| row.get(column)).collect()
}

fn size_of(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() + 2,
        Value::Blob(bytes) => bytes.len() + 4,
        _ => 4,
    }
}

fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    let mut bytes = |tag, bytes: &[u8]| {
        out.push(tag);
        unsigned(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    };
    match value {
        // There are no floating-point numbers in any table.
        ValueRef::Null | ValueRef::Real(_) => out.push(0),
        ValueRef::Integer(number) => {
            out.push(1);
            unsigned(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
        }
        ValueRef::Text(text) => bytes(2, text),
        ValueRef::Blob(blob) => bytes(3, blob),
    }
}

fn unsigned(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7F) as u8);
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> rusqlite::Result<u8> {
        let (first, rest) = self.0.split_first().ok_or_else(short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn unsigned(&mut self) -> rusqlite::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(corrupt("a number in the changes is too long".to_owned()))
    }

    fn bytes(&mut self) -> rusqlite::Result<&'a [u8]> {
        let length = usize::try_from(self.unsigned()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(short)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Goes past some values, and returns what has been read since `begin`.
    fn skip(&mut self, begin: &'a [u8], values: usize) -> rusqlite::Result<&'a [u8]> {
        for _ in 0..values {
            match self.byte()? {
                0 => {}
                1 => drop(self.unsigned()?),
                2 | 3 => drop(self.bytes()?),
                _ => return Err(no_kind()),
            }
        }
        Ok(begin.get(..begin.len() - self.0.len()).unwrap_or_default())
    }

    fn values(&mut self, count: usize) -> rusqlite::Result<Vec<Value>> {
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> rusqlite::Result<Value> {
        match self.byte()? {
            0 => Ok(Value::Null),
            1 => {
                let number = self.unsigned()?;
                Ok(Value::Integer(
                    (number >> 1).cast_signed() ^ -(number & 1).cast_signed(),
                ))
            }
            2 => {
                let text = String::from_utf8(self.bytes()?.to_vec());
                let text = text.map_err(|_| corrupt("a text in the changes is none".to_owned()))?;
                Ok(Value::Text(text))
            }
            3 => Ok(Value::Blob(self.bytes()?.to_vec())),
            _ => Err(no_kind()),
        }
    }
}

fn no_kind() -> rusqlite::Error {
    corrupt("a value in the changes is of no kind".to_owned())
}

fn short() -> rusqlite::Error {
    corrupt("the changes end too early".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::schema;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            ".*".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..200).prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn values_are_read_as_they_were_written(values in proptest::collection::vec(value(), 0..6), cut: prop::sample::Index) {
            let mut bytes = Vec::new();
            for value in &values {
                encode(ValueRef::from(value), &mut bytes);
            }
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.values(values.len()).unwrap(), values.clone());
            prop_assert!(reader.0.is_empty());
            if !bytes.is_empty() {
                let cut = cut.index(bytes.len());
                prop_assert!(Reader(&bytes[..cut]).values(values.len()).is_err());
            }
        }

        #[test]
        fn no_bytes_do_more_than_fail(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut connection = Connection::open_in_memory().unwrap();
            schema::create(&mut connection, pointsman_schemas::Timestamp(0)).unwrap();
            let _ = apply(&connection, [&bytes[..]]);
        }
    }

    /// Stores of this and of earlier versions follow each other.
    #[test]
    fn the_bytes_of_changes_stay() {
        use crate::disk::record::encode_kept;
        use pointsman_schemas::Timestamp;
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let made = || {
            let mut connection = Connection::open_in_memory().unwrap();
            schema::create(&mut connection, Timestamp(0)).unwrap();
            connection.execute_batch("DELETE FROM meta").unwrap();
            connection
        };
        let (one, other) = (made(), made());
        let row = encode_kept(300, Timestamp(-5));
        let insert = "INSERT INTO kept VALUES (300, -5, ?1)";
        one.execute(insert, [row]).unwrap();
        let mut touched = Touched::default();
        touched.note("kept", &vec![Value::from(300)]);
        touched.note(
            "positions",
            &vec![
                Value::from("a".to_owned()),
                Value::from("b".to_owned()),
                Value::from(vec![7_u8]),
            ],
        );
        touched.note("meta", &vec![Value::from(MARK.to_owned())]);
        write_log_mark(&one, b"mark").unwrap();
        touched.ends_carry = true;
        let commit = touched.commit(&one).unwrap();
        assert_eq!(
            hex(&commit.changes),
            "0d0201610201620301071801d804010903050154fff164"
        );
        assert!(commit.ends_carry && !commit.begins_carry && commit.format == 5);
        apply(&other, [&commit.changes[..]]).unwrap();
        assert_eq!(digest(&other).unwrap(), digest(&one).unwrap());
        assert_eq!(digest(&one).unwrap(), 7_088_107_702_731_341_768);
    }
}
