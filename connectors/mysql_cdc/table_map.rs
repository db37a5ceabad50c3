//! What a binary log says of a table in front of its rows.

use bytes::Bytes;

use super::take::{Take, Unreadable, bit};

/// Types of columns, as the log numbers them.
pub(super) mod code {
    pub(crate) const TINY: u8 = 1;
    pub(crate) const SHORT: u8 = 2;
    pub(crate) const LONG: u8 = 3;
    pub(crate) const FLOAT: u8 = 4;
    pub(crate) const DOUBLE: u8 = 5;
    pub(crate) const TIMESTAMP_OLD: u8 = 7;
    pub(crate) const LONGLONG: u8 = 8;
    pub(crate) const INT24: u8 = 9;
    pub(crate) const DATE: u8 = 10;
    pub(crate) const TIME_OLD: u8 = 11;
    pub(crate) const DATETIME_OLD: u8 = 12;
    pub(crate) const YEAR: u8 = 13;
    pub(crate) const NEWDATE: u8 = 14;
    pub(crate) const VARCHAR: u8 = 15;
    pub(crate) const BIT: u8 = 16;
    pub(crate) const TIMESTAMP: u8 = 17;
    pub(crate) const DATETIME: u8 = 18;
    pub(crate) const TIME: u8 = 19;
    pub(crate) const BLOB_COMPRESSED: u8 = 140;
    pub(crate) const VARCHAR_COMPRESSED: u8 = 141;
    pub(crate) const VECTOR: u8 = 242;
    pub(crate) const JSON: u8 = 245;
    pub(crate) const DECIMAL: u8 = 246;
    pub(crate) const ENUM: u8 = 247;
    pub(crate) const SET: u8 = 248;
    pub(crate) const BLOB: u8 = 252;
    pub(crate) const VAR_STRING: u8 = 253;
    pub(crate) const STRING: u8 = 254;
    pub(crate) const GEOMETRY: u8 = 255;
}

/// A column's type: its code, and the numbers beside it, such as a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WireType {
    pub(super) code: u8,
    /// The numbers, in the order in which they come.
    pub(super) first: u8,
    pub(super) second: u8,
}

/// A table, as the log describes it. Where it says nothing of something, a list is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableMap {
    pub(super) id: u64,
    pub(super) database: String,
    pub(super) table: String,
    pub(super) columns: Vec<WireType>,
    pub(super) names: Vec<String>,
    /// Of numbers alone, in their order.
    pub(super) unsigned: Vec<bool>,
    /// The collations of texts and of bytes, in their order.
    pub(super) collations: Vec<u64>,
    /// Those of enums and sets, in their order.
    pub(super) label_collations: Vec<u64>,
    pub(super) enums: Vec<Vec<Bytes>>,
    pub(super) sets: Vec<Vec<Bytes>>,
    /// Which columns are the primary key.
    pub(super) key: Vec<usize>,
}

impl WireType {
    /// Reads the numbers that a type has beside it.
    fn read(code: u8, left: &mut Take<'_>) -> Result<Self, Unreadable> {
        use code::{
            BIT, BLOB, BLOB_COMPRESSED, DATETIME, DECIMAL, DOUBLE, ENUM, FLOAT, GEOMETRY, JSON,
            SET, STRING, TIME, TIMESTAMP, VAR_STRING, VARCHAR, VARCHAR_COMPRESSED, VECTOR,
        };
        let (first, second) = match code {
            FLOAT | DOUBLE | BLOB | BLOB_COMPRESSED | JSON | GEOMETRY | VECTOR | TIMESTAMP
            | DATETIME | TIME => (left.u8()?, 0),
            VARCHAR | VARCHAR_COMPRESSED | VAR_STRING | BIT | DECIMAL | STRING | ENUM | SET => {
                (left.u8()?, left.u8()?)
            }
            _ => (0, 0),
        };
        // An enum, a set and a text say what they are beside a type that is the same for all three;
        // what is longer than 255 bytes has the rest of its length in there.
        let (code, first, second) = match (code, first) {
            (STRING, ENUM | SET) => (first, second, 0),
            (ENUM | SET, _) => (code, second, 0),
            (STRING, real) => {
                let high = (real & 0x30) ^ 0x30;
                (STRING, second, high >> 4)
            }
            _ => (code, first, second),
        };
        Ok(Self {
            code,
            first,
            second,
        })
    }

    /// Both numbers as one.
    pub(super) fn length(self) -> usize {
        usize::from(u16::from_le_bytes([self.first, self.second]))
    }

    fn is_number(self) -> bool {
        use code::{DECIMAL, DOUBLE, FLOAT, INT24, LONG, LONGLONG, SHORT, TINY, YEAR};
        matches!(
            self.code,
            TINY | SHORT | INT24 | LONG | LONGLONG | DECIMAL | FLOAT | DOUBLE | YEAR
        )
    }

    fn is_text(self) -> bool {
        use code::{BLOB, STRING, VAR_STRING, VARCHAR};
        matches!(self.code, STRING | VAR_STRING | VARCHAR | BLOB)
    }

    fn is_label(self) -> bool {
        matches!(self.code, code::ENUM | code::SET)
    }
}

/// The place of a column among those that are of a kind.
fn place(columns: &[WireType], column: usize, is_of: impl Fn(WireType) -> bool) -> Option<usize> {
    let before = columns.get(..column)?;
    let own = columns.get(column)?;
    is_of(*own).then(|| before.iter().filter(|other| is_of(**other)).count())
}

impl TableMap {
    /// Reads what an event says.
    ///
    /// # Errors
    /// It is not as it should be.
    pub(super) fn read(body: &Bytes) -> Result<Self, Unreadable> {
        let mut left = Take(body);
        let id = left.number(6)?;
        let _flags = left.u16()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let database = text(left.prefixed()?);
        left.u8()?;
        let table = text(left.prefixed()?);
        left.u8()?;
        let count = left.length()?;
        let codes = left.long_bytes(count)?;
        let mut numbers = Take(left.prefixed()?);
        let columns: Result<Vec<_>, _> = codes
            .iter()
            .map(|code| WireType::read(*code, &mut numbers))
            .collect();
        let mut map = Self {
            id,
            database,
            table,
            columns: columns?,
            ..Self::default()
        };
        let _nullable = left.bytes(map.columns.len().div_ceil(8))?;
        while !left.is_empty() {
            let field = left.u8()?;
            let value = left.prefixed()?;
            map.take(field, value, body)?;
        }
        Ok(map)
    }

    /// Takes a field of what may be told besides.
    fn take(&mut self, field: u8, value: &[u8], body: &Bytes) -> Result<(), Unreadable> {
        let mut left = Take(value);
        let count = |is_of: fn(WireType) -> bool| {
            self.columns.iter().filter(|column| is_of(**column)).count()
        };
        match field {
            1 => {
                // The highest bit is the first.
                let reversed: Vec<_> = value.iter().map(|byte| byte.reverse_bits()).collect();
                let numbers = count(WireType::is_number);
                self.unsigned = (0..numbers).map(|at| bit(&reversed, at)).collect();
            }
            2 => self.collations = with_default(left, count(WireType::is_text))?,
            3 => self.collations = lengths(left)?,
            4 => {
                while !left.is_empty() {
                    let name = left.prefixed()?;
                    self.names.push(String::from_utf8_lossy(name).into_owned());
                }
            }
            5 => self.sets = labels(left, body)?,
            6 => self.enums = labels(left, body)?,
            8 => self.key = indexes(lengths(left)?),
            // Each has a length behind it.
            9 => self.key = indexes(lengths(left)?.into_iter().step_by(2).collect()),
            10 => self.label_collations = with_default(left, count(WireType::is_label))?,
            11 => self.label_collations = lengths(left)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether a column's numbers are never below zero; nothing where that is not told.
    pub(super) fn is_unsigned(&self, column: usize) -> Option<bool> {
        let place = place(&self.columns, column, WireType::is_number)?;
        self.unsigned.get(place).copied()
    }

    /// The collation of a column's texts, or of its labels.
    pub(super) fn collation(&self, column: usize) -> Option<u64> {
        let of_text = place(&self.columns, column, WireType::is_text);
        let of_label = place(&self.columns, column, WireType::is_label);
        let of_text = of_text.and_then(|place| self.collations.get(place));
        let of_label = of_label.and_then(|place| self.label_collations.get(place));
        of_text.or(of_label).copied()
    }

    /// What a column's enum or set has to choose from.
    pub(super) fn labels(&self, column: usize) -> Option<&Vec<Bytes>> {
        let of = |code, labels: &Vec<Vec<Bytes>>| {
            let place = place(&self.columns, column, |ty| ty.code == code)?;
            labels.get(place).map(|_| place)
        };
        match of(code::ENUM, &self.enums) {
            Some(place) => self.enums.get(place),
            None => self.sets.get(of(code::SET, &self.sets)?),
        }
    }
}

fn lengths(mut left: Take<'_>) -> Result<Vec<u64>, Unreadable> {
    let mut all = Vec::new();
    while !left.is_empty() {
        all.push(left.length()?);
    }
    Ok(all)
}

fn indexes(lengths: Vec<u64>) -> Vec<usize> {
    let lengths = lengths.into_iter();
    lengths
        .filter_map(|index| usize::try_from(index).ok())
        .collect()
}

/// One for each column: the default, and others for those that are named.
fn with_default(mut left: Take<'_>, columns: usize) -> Result<Vec<u64>, Unreadable> {
    let mut all = vec![left.length()?; columns];
    while !left.is_empty() {
        let column = left.length()?;
        let value = left.length()?;
        let place = usize::try_from(column).ok();
        if let Some(place) = place.and_then(|place| all.get_mut(place)) {
            *place = value;
        }
    }
    Ok(all)
}

fn labels(mut left: Take<'_>, body: &Bytes) -> Result<Vec<Vec<Bytes>>, Unreadable> {
    let mut all = Vec::new();
    while !left.is_empty() {
        let mut own = Vec::new();
        for _ in 0..left.length()? {
            own.push(body.slice_ref(left.prefixed()?));
        }
        all.push(own);
    }
    Ok(all)
}
