//! Rows of a binary log, one after the other.

use bytes::Bytes;

use super::inflate;
use super::packed;
use super::table_map::{WireType, code};
use super::take::{Take, Unreadable, bit};
use crate::cdc::change::Operation;

/// Rows of one table that one statement has changed, as they come.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) table: u64,
    pub(super) operation: Operation,
    columns: usize,
    /// Which columns are told: of the first row of a pair or of each, and of the second.
    present: [Bytes; 2],
    /// What is left.
    left: Bytes,
}

/// A row: what is told of each column.
pub(super) type Image = Vec<Cell>;

/// What is told of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Nothing: it is what it was, or is not written into the log.
    Absent,
    Null,
    /// The bytes of the value, without their length.
    Value(Bytes),
}

/// A row that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) before: Option<Image>,
    pub(super) after: Option<Image>,
}

impl Rows {
    /// Reads what stands in front of the rows.
    ///
    /// # Errors
    /// It is not as it should be.
    pub(super) fn read(kind: u8, body: &Bytes) -> Result<Self, Unreadable> {
        let mut left = Take(body);
        let table = left.number(6)?;
        let _flags = left.u16()?;
        // The second version has room for what nobody needs.
        if matches!(kind, 30..=32 | 169..=171) {
            let more = usize::from(left.u16()?);
            left.bytes(more.saturating_sub(2))?;
        }
        let operation = match kind {
            23 | 30 | 166 | 169 => Operation::Inserted,
            24 | 31 | 167 | 170 => Operation::Updated,
            _ => Operation::Deleted,
        };
        let columns = left.length()?;
        let columns = usize::try_from(columns).map_err(|_| Unreadable::Short)?;
        let first = body.slice_ref(left.bytes(columns.div_ceil(8))?);
        let second = match operation {
            Operation::Updated => body.slice_ref(left.bytes(columns.div_ceil(8))?),
            _ => first.clone(),
        };
        let rows = left.rest();
        Ok(Self {
            table,
            operation,
            columns,
            present: [first, second],
            left: match kind {
                166..=171 => inflate::mariadb(rows)?.into(),
                _ => body.slice_ref(rows),
            },
        })
    }

    /// The next row that changed; nothing behind the last.
    ///
    /// # Errors
    /// It cannot be read, nor can those behind it.
    pub(super) fn next(&mut self, columns: &[WireType]) -> Result<Option<Changed>, Unreadable> {
        if self.left.is_empty() {
            return Ok(None);
        }
        if columns.len() != self.columns {
            return Err(Unreadable::unknown(
                "rows have other columns than their table",
            ));
        }
        let [first, second] = self.present.clone();
        let image = self.image(columns, &first)?;
        let changed = match self.operation {
            Operation::Updated => Changed {
                before: Some(image),
                after: Some(self.image(columns, &second)?),
            },
            Operation::Deleted => Changed {
                before: Some(image),
                after: None,
            },
            _ => Changed {
                before: None,
                after: Some(image),
            },
        };
        Ok(Some(changed))
    }

    fn image(&mut self, columns: &[WireType], present: &[u8]) -> Result<Image, Unreadable> {
        let mut left = Take(&self.left);
        let told = (0..columns.len()).filter(|column| bit(present, *column));
        let nulls = left.bytes(told.count().div_ceil(8))?;
        let mut image = Vec::with_capacity(columns.len());
        let mut place = 0;
        for (index, column) in columns.iter().enumerate() {
            if !bit(present, index) {
                image.push(Cell::Absent);
                continue;
            }
            image.push(match bit(nulls, place) {
                true => Cell::Null,
                false => Cell::Value(self.left.slice_ref(column.take(&mut left)?)),
            });
            place += 1;
        }
        self.left = self.left.slice_ref(left.rest());
        Ok(image)
    }
}

impl WireType {
    /// Takes a value of this type.
    fn take<'b>(self, left: &mut Take<'b>) -> Result<&'b [u8], Unreadable> {
        use code::{
            BIT, BLOB, BLOB_COMPRESSED, DATE, DATETIME, DATETIME_OLD, DECIMAL, DOUBLE, ENUM, FLOAT,
            GEOMETRY, INT24, JSON, LONG, LONGLONG, NEWDATE, SET, SHORT, STRING, TIME, TIME_OLD,
            TIMESTAMP, TIMESTAMP_OLD, TINY, VAR_STRING, VARCHAR, VARCHAR_COMPRESSED, VECTOR, YEAR,
        };
        let first = usize::from(self.first);
        let bytes = match self.code {
            TINY | YEAR => 1,
            SHORT => 2,
            INT24 | DATE | NEWDATE | TIME_OLD => 3,
            LONG | FLOAT | TIMESTAMP_OLD => 4,
            LONGLONG | DOUBLE | DATETIME_OLD => 8,
            TIMESTAMP => 4 + first.div_ceil(2),
            DATETIME => 5 + first.div_ceil(2),
            TIME => 3 + first.div_ceil(2),
            DECIMAL => packed::decimal_bytes(self.first, self.second),
            // Bits that are left over, and whole bytes.
            BIT => usize::from(self.second) + usize::from(self.first > 0),
            ENUM | SET => first,
            VARCHAR | VARCHAR_COMPRESSED | VAR_STRING | STRING => {
                let long = if self.length() > 255 { 2 } else { 1 };
                let length = left.number(long)?;
                return left.long_bytes(length);
            }
            BLOB | BLOB_COMPRESSED | JSON | GEOMETRY | VECTOR => {
                let length = left.number(first)?;
                return left.long_bytes(length);
            }
            other => {
                return Err(Unreadable::unknown(format!(
                    "a column is of the type {other}, which is not known here"
                )));
            }
        };
        left.bytes(bytes)
    }
}
