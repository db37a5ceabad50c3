//! The events of a binary log (`binlog_event.h` in the source of MySQL, `log_event.h` in that of
//! MariaDB).

use bytes::{Buf, Bytes};

use super::gtid::Gtid;
use super::inflate;
use super::rows::Rows;
use super::table_map::TableMap;
use super::take::{Take, Unreadable, little};

/// How long the header of an event is.
const HEADER_BYTES: usize = 19;

/// How long a checksum is, which is CRC-32.
const CHECKSUM_BYTES: usize = 4;

/// Whoever does not know an event of this flag may leave it out.
const IGNORABLE: u16 = 0x80;

/// Whether a transaction of MariaDB is one statement alone, such as `CREATE TABLE`, that nothing
/// ends.
const STANDALONE: u8 = 1;

/// An event: its header, and what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// When what it tells was begun, in seconds since 1970.
    pub(super) time: u32,
    pub(super) kind: u8,
    /// The server that it is from.
    pub(super) server: u32,
    /// How long it is, and where the next one begins in the file.
    pub(super) bytes: u32,
    pub(super) end: u32,
    flags: u16,
    pub(super) body: Bytes,
}

/// What an event tells.
#[derive(Debug)]
pub(super) enum Told {
    /// The log goes on in another file.
    Rotate {
        file: String,
        offset: u64,
    },
    /// Whether what follows has checksums.
    Format {
        has_checksums: bool,
    },
    /// A transaction follows, which has a GTID, or none.
    Begin(Begun),
    /// A statement.
    Query {
        database: String,
        statement: String,
    },
    /// The transaction is committed, or prepared to be.
    Commit,
    Table(TableMap),
    Rows(Rows),
    /// A transaction's events, compressed.
    Compressed(Bytes),
    /// The server has nothing to tell.
    Alive {
        file: String,
    },
    /// Changes that cannot be read, and why.
    Unreadable(String),
    /// Of no use here.
    Other,
}

/// How a transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) gtid: Option<Gtid>,
    /// Whether it is open from here on, and not only by the statement `BEGIN`.
    pub(super) is_open: bool,
    /// When it was committed, in microseconds since 1970, where that is told.
    pub(super) micros: Option<u64>,
}

impl Event {
    /// Reads an event's header; its checksum is looked at where it has one.
    ///
    /// # Errors
    /// It is damaged.
    pub(super) fn read(mut raw: Bytes, has_checksum: bool) -> Result<Self, Unreadable> {
        let mut header = Take(&raw);
        let time = header.u32()?;
        let kind = header.u8()?;
        let server = header.u32()?;
        let bytes = header.u32()?;
        let end = header.u32()?;
        let flags = header.u16()?;
        // The description of the format always has room for one, and says itself whether it is
        // there.
        let is_checked = match kind {
            15 => describes_checksums(&raw),
            // What a server makes up when it begins to send may have none.
            4 if time == 0 => has_checksum && is_whole(&raw),
            _ => has_checksum,
        };
        if is_checked && !is_whole(&raw) {
            return Err(Unreadable::unknown(
                "the checksum of an event of the binary log is wrong",
            ));
        }
        // A description of the format is read with its own.
        if is_checked && kind != 15 {
            raw.truncate(raw.len().saturating_sub(CHECKSUM_BYTES));
        }
        raw.advance(HEADER_BYTES.min(raw.len()));
        Ok(Self {
            time,
            kind,
            server,
            bytes,
            end,
            flags,
            body: raw,
        })
    }

    /// Reads what it tells.
    ///
    /// # Errors
    /// It is not as it should be.
    pub(super) fn told(&self) -> Result<Told, Unreadable> {
        let body = Take(&self.body);
        Ok(match self.kind {
            2 => query(body, false)?,
            4 => rotate(body)?,
            15 => Told::Format {
                has_checksums: describes_checksums(&self.body),
            },
            16 | 38 => Told::Commit,
            19 => Told::Table(TableMap::read(&self.body)?),
            23..=25 | 30..=32 | 166..=171 => Told::Rows(Rows::read(self.kind, &self.body)?),
            26 => Told::Unreadable("the server says that changes may be missing".to_owned()),
            27 => Told::Alive {
                file: String::from_utf8_lossy(&self.body).into_owned(),
            },
            33 | 34 => Told::Begin(begun(body, self.kind == 33)?),
            39 => Told::Unreadable(
                "an update tells only parts of documents of JSON: \
                 SET GLOBAL binlog_row_value_options = ''"
                    .to_owned(),
            ),
            40 => Told::Compressed(self.body.clone()),
            42 => {
                return Err(Unreadable::unknown(
                    "GTIDs with tags are not known here; have sessions SET gtid_next = 'AUTOMATIC'",
                ));
            }
            162 => Told::Begin(begun_in_mariadb(body, self.server)?),
            165 => query(body, true)?,
            kind if self.flags & IGNORABLE != 0 || is_of_no_use(kind) => Told::Other,
            kind => Told::Unreadable(format!("events of the kind {kind} are not known here")),
        })
    }
}

/// Whether an event has nothing to do with rows: what a session sets for a statement, where the
/// server stops, which transactions earlier files have, and so on.
fn is_of_no_use(kind: u8) -> bool {
    matches!(
        kind,
        0 | 3 | 5 | 13 | 14 | 28 | 29 | 35..=37 | 41 | 160 | 161 | 163 | 164
    )
}

/// Whether the last bytes are the checksum of those before them.
fn is_whole(raw: &[u8]) -> bool {
    raw.split_last_chunk::<CHECKSUM_BYTES>()
        .is_some_and(|(before, sum)| crc32fast::hash(before).to_le_bytes() == *sum)
}

/// Whether a description of the format says that events have checksums: by the byte in front of its
/// own.
fn describes_checksums(raw: &[u8]) -> bool {
    raw.split_last_chunk::<CHECKSUM_BYTES>()
        .is_some_and(|(before, _)| before.last() == Some(&1))
}

fn rotate(mut body: Take<'_>) -> Result<Told, Unreadable> {
    let offset = body.number(8)?;
    let file = String::from_utf8_lossy(body.rest()).into_owned();
    Ok(Told::Rotate { file, offset })
}

fn query(mut body: Take<'_>, is_compressed: bool) -> Result<Told, Unreadable> {
    let _thread = body.u32()?;
    let _took = body.u32()?;
    let database_bytes = usize::from(body.u8()?);
    let _error = body.u16()?;
    let status_bytes = usize::from(body.u16()?);
    let _status = body.bytes(status_bytes)?;
    let database = body.bytes(database_bytes)?;
    let _zero = body.u8()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let statement = match is_compressed {
        true => text(&inflate::mariadb(body.rest())?),
        false => text(body.rest()),
    };
    Ok(Told::Query {
        database: text(database),
        statement,
    })
}

fn begun(mut body: Take<'_>, has_gtid: bool) -> Result<Begun, Unreadable> {
    let _flags = body.u8()?;
    let server = body.bytes(16)?.try_into();
    let server = server.map_err(|_| Unreadable::Short)?;
    let number = body.number(8)?;
    // The kind of what follows, and which transactions may run beside it.
    let _order = body.bytes(17.min(body.0.len()))?;
    Ok(Begun {
        gtid: has_gtid.then_some(Gtid::MySql { server, number }),
        is_open: false,
        micros: committed(body),
    })
}

/// When a transaction was committed where it was written first, which MySQL tells from 8.0 on.
fn committed(mut body: Take<'_>) -> Option<u64> {
    const IS_FOLLOWED: u64 = 1 << 55;
    let here = body.number(7).ok()?;
    match here & IS_FOLLOWED {
        0 => Some(here),
        _ => body.number(7).ok(),
    }
}

fn begun_in_mariadb(mut body: Take<'_>, server: u32) -> Result<Begun, Unreadable> {
    let number = body.number(8)?;
    let domain = body.u32()?;
    let flags = body.u8()?;
    Ok(Begun {
        gtid: Some(Gtid::MariaDb {
            domain,
            server,
            number,
        }),
        is_open: flags & STANDALONE == 0,
        micros: None,
    })
}

/// Where the bytes of a transaction are, in what holds them compressed, and whether they are.
///
/// # Errors
/// It is not as it should be, or compressed in a way that is not known.
pub(super) fn payload(body: &Bytes) -> Result<(Bytes, bool), Unreadable> {
    let mut left = Take(body);
    let (mut bytes, mut way) = (None, 255);
    loop {
        // The kinds of fields are numbered, and the last has none behind it.
        match left.length()? {
            0 => break,
            field => {
                let value = left.prefixed()?;
                match field {
                    1 => bytes = Some(Take(value).length()?),
                    2 => way = Take(value).length()?,
                    _ => {}
                }
            }
        }
    }
    let payload = match bytes {
        Some(bytes) => left.long_bytes(bytes)?,
        None => left.rest(),
    };
    match way {
        0 => Ok((body.slice_ref(payload), true)),
        255 => Ok((body.slice_ref(payload), false)),
        other => Err(Unreadable::unknown(format!(
            "a transaction is compressed by {other}, which is not known here"
        ))),
    }
}

/// How long the first event of several is, which must be there whole.
pub(super) fn first_of(events: &[u8]) -> Result<usize, Unreadable> {
    let header = events.get(..HEADER_BYTES).ok_or(Unreadable::Short)?;
    let length = header.get(9..13).unwrap_or_default();
    usize::try_from(little(length))
        .ok()
        .filter(|length| (HEADER_BYTES..=events.len()).contains(length))
        .ok_or(Unreadable::Short)
}
