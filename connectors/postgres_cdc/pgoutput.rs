//! The messages of the plugin `pgoutput`, version 1 ("Logical Replication Message Formats" in
//! PostgreSQL's documentation).

use bytes::{Buf, Bytes, TryGetError};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A transaction follows, which was committed at this place in the log.
    Begin {
        commit: u64,
        /// Microseconds since 2000-01-01 UTC.
        time: i64,
        transaction: u32,
    },
    /// It is over; the next one begins behind `end`.
    Commit {
        end: u64,
    },
    /// What a table looks like from here on.
    Relation(Described),
    /// The name of a type that is not built in; of a domain, of the type below it.
    Type {
        oid: u32,
        name: String,
    },
    Insert {
        table: u32,
        new: Tuple,
    },
    Update {
        table: u32,
        old: Option<Old>,
        new: Tuple,
    },
    Delete {
        table: u32,
        old: Old,
    },
    Truncate {
        tables: Vec<u32>,
    },
    /// Of no use here: where a transaction came from, or what somebody wrote into the log.
    Other,
}

/// A table as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<DescribedColumn>,
}

/// A column as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DescribedColumn {
    /// Whether old rows are told apart by it.
    pub(super) is_identity: bool,
    pub(super) name: String,
    pub(super) type_oid: u32,
}

/// A row as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// The columns of its replica identity alone; the others are told as null.
    Key(Tuple),
    Full(Tuple),
}

/// The values of a row, in the order of its columns.
pub(super) type Tuple = Vec<Cell>;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    /// A long value, stored apart, that did not change and is not told.
    Unchanged,
    Text(Bytes),
}

/// Why a message cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a message of pgoutput ends too early")]
    Short,
    #[error("pgoutput sends what is not known here: {0:?}")]
    Unknown(char),
    #[error("a name is not UTF-8")]
    Name,
}

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Self {
        Self::Short
    }
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(mut bytes: Bytes) -> Result<Self, Unreadable> {
        let from = &mut bytes;
        Ok(match from.try_get_u8()? {
            b'B' => Self::Begin {
                commit: from.try_get_u64()?,
                time: from.try_get_i64()?,
                transaction: from.try_get_u32()?,
            },
            b'C' => {
                let _flags = from.try_get_u8()?;
                let _commit = from.try_get_u64()?;
                let end = from.try_get_u64()?;
                Self::Commit { end }
            }
            b'R' => Self::Relation(described(from)?),
            b'Y' => {
                let oid = from.try_get_u32()?;
                let _schema = text(from)?;
                let name = text(from)?;
                Self::Type { oid, name }
            }
            b'I' => {
                let table = from.try_get_u32()?;
                expect(from, b'N')?;
                let new = tuple(from)?;
                Self::Insert { table, new }
            }
            b'U' => {
                let table = from.try_get_u32()?;
                let (old, kind) = match from.try_get_u8()? {
                    b'N' => (None, b'N'),
                    kind => (Some(old(kind, from)?), from.try_get_u8()?),
                };
                is(kind, b'N')?;
                let new = tuple(from)?;
                Self::Update { table, old, new }
            }
            b'D' => {
                let table = from.try_get_u32()?;
                let kind = from.try_get_u8()?;
                let old = old(kind, from)?;
                Self::Delete { table, old }
            }
            b'T' => {
                let count = from.try_get_u32()?;
                let _options = from.try_get_u8()?;
                let tables = (0..count).map(|_| Ok(from.try_get_u32()?));
                Self::Truncate {
                    tables: tables.collect::<Result<_, Unreadable>>()?,
                }
            }
            b'O' | b'M' => Self::Other,
            other => return Err(Unreadable::Unknown(other.into())),
        })
    }
}

fn described(from: &mut Bytes) -> Result<Described, Unreadable> {
    let oid = from.try_get_u32()?;
    let (schema, name) = (text(from)?, text(from)?);
    let _identity = from.try_get_u8()?;
    let count = from.try_get_u16()?;
    let column = |_| {
        let is_identity = from.try_get_u8()? & 1 == 1;
        let name = text(from)?;
        let type_oid = from.try_get_u32()?;
        let _modifier = from.try_get_i32()?;
        Ok(DescribedColumn {
            is_identity,
            name,
            type_oid,
        })
    };
    let columns = (0..count).map(column).collect::<Result<_, Unreadable>>()?;
    Ok(Described {
        oid,
        // So it tells the schema of what is built in.
        schema: match schema.is_empty() {
            true => "pg_catalog".to_owned(),
            false => schema,
        },
        name,
        columns,
    })
}

fn old(kind: u8, from: &mut Bytes) -> Result<Old, Unreadable> {
    match kind {
        b'K' => Ok(Old::Key(tuple(from)?)),
        b'O' => Ok(Old::Full(tuple(from)?)),
        other => Err(Unreadable::Unknown(other.into())),
    }
}

fn tuple(from: &mut Bytes) -> Result<Tuple, Unreadable> {
    let count = from.try_get_u16()?;
    (0..count).map(|_| cell(from)).collect()
}

fn cell(from: &mut Bytes) -> Result<Cell, Unreadable> {
    match from.try_get_u8()? {
        b'n' => Ok(Cell::Null),
        b'u' => Ok(Cell::Unchanged),
        b't' => {
            let length = from.try_get_u32()?;
            let length = usize::try_from(length).map_err(|_| Unreadable::Short)?;
            match length <= from.len() {
                true => Ok(Cell::Text(from.split_to(length))),
                false => Err(Unreadable::Short),
            }
        }
        other => Err(Unreadable::Unknown(other.into())),
    }
}

fn text(from: &mut Bytes) -> Result<String, Unreadable> {
    let end = memchr::memchr(0, from).ok_or(Unreadable::Short)?;
    let text = from.split_to(end);
    from.advance(1);
    String::from_utf8(text.to_vec()).map_err(|_| Unreadable::Name)
}

fn expect(from: &mut Bytes, wanted: u8) -> Result<(), Unreadable> {
    is(from.try_get_u8()?, wanted)
}

fn is(found: u8, wanted: u8) -> Result<(), Unreadable> {
    match found == wanted {
        true => Ok(()),
        false => Err(Unreadable::Unknown(found.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &'static str) -> Cell {
        Cell::Text(Bytes::from_static(value.as_bytes()))
    }

    #[test]
    fn messages() {
        let table: [(&[u8], Message); 10] = [
            (
                b"B\0\0\0\0\x01\x6b\x37\x48\0\0\0\0\0\0\0\x05\0\0\x02\xe9",
                Message::Begin {
                    commit: 0x016b_3748,
                    time: 5,
                    transaction: 745,
                },
            ),
            (
                b"C\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x05",
                Message::Commit { end: 2 },
            ),
            (
                b"R\0\0\0\x07public\0orders\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0note\0\0\0\0\x19\xff\xff\xff\xff",
                Message::Relation(Described {
                    oid: 7,
                    schema: "public".to_owned(),
                    name: "orders".to_owned(),
                    columns: vec![
                        DescribedColumn {
                            is_identity: true,
                            name: "id".to_owned(),
                            type_oid: 23,
                        },
                        DescribedColumn {
                            is_identity: false,
                            name: "note".to_owned(),
                            type_oid: 25,
                        },
                    ],
                }),
            ),
            (
                b"Y\0\0\x40\0public\0mood\0",
                Message::Type {
                    oid: 0x4000,
                    name: "mood".to_owned(),
                },
            ),
            (
                b"I\0\0\0\x07N\0\x02t\0\0\0\x011n",
                Message::Insert {
                    table: 7,
                    new: vec![text("1"), Cell::Null],
                },
            ),
            (
                b"U\0\0\0\x07N\0\x02t\0\0\0\x011u",
                Message::Update {
                    table: 7,
                    old: None,
                    new: vec![text("1"), Cell::Unchanged],
                },
            ),
            (
                b"U\0\0\0\x07K\0\x01t\0\0\0\x011N\0\x01t\0\0\0\x012",
                Message::Update {
                    table: 7,
                    old: Some(Old::Key(vec![text("1")])),
                    new: vec![text("2")],
                },
            ),
            (
                b"D\0\0\0\x07O\0\x01t\0\0\0\0",
                Message::Delete {
                    table: 7,
                    old: Old::Full(vec![text("")]),
                },
            ),
            (
                b"T\0\0\0\x02\x01\0\0\0\x07\0\0\0\x08",
                Message::Truncate { tables: vec![7, 8] },
            ),
            (b"O\0\0\0\0\0\0\0\x01other\0", Message::Other),
        ];
        for (bytes, expect) in table {
            assert_eq!(Message::read(Bytes::from_static(bytes)), Ok(expect));
            // Wherever it is cut off, it is an error or, where the rest says nothing, the same.
            for length in 0..bytes.len() {
                let _ = Message::read(Bytes::from_static(&bytes[..length]));
            }
        }
        for (bytes, expect) in [
            (&b""[..], Unreadable::Short),
            (b"B\0", Unreadable::Short),
            (b"I\0\0\0\x07N\0\x01t\0\0\0\x09x", Unreadable::Short),
            (b"I\0\0\0\x07N\0\x01b\0\0\0\x01x", Unreadable::Unknown('b')),
            (b"I\0\0\0\x07K\0\0", Unreadable::Unknown('K')),
            (b"Z", Unreadable::Unknown('Z')),
            (b"Y\0\0\0\x01\xff\0mood\0", Unreadable::Name),
        ] {
            assert_eq!(Message::read(Bytes::from_static(bytes)), Err(expect));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Message::read(bytes.into());
        }
    }
}
