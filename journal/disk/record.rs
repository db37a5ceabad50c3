//! The bytes of a row's value, and the checksum that every row carries.
//!
//! ```text
//! value = version, body, CRC-32 (little endian) over table tag, key numbers, version and body
//! ```
//!
//! Numbers in a body are LEB128 (signed ones zigzag), texts and bytes are preceded by their length.
//! A row that was written under another key or into another table does not pass its check.

mod dead;
mod event;
mod history;
mod identity;
mod kept;
mod key;
mod outcome;
mod replay;
mod source;
mod subscription;

use pointsman_schemas::{Name, Timestamp};

pub(super) use self::dead::DeadRow;
pub(super) use self::event::EventRow;
pub(super) use self::history::{HistoryKey, HistoryRow, ManyNotes, Noted, SPAN_MAX, encode_one};
pub(super) use self::identity::Seen;
pub(super) use self::kept::{HELD, check_kept, encode_kept};
pub(super) use self::key::KeyRow;
pub(super) use self::outcome::{decode_last, encode_last};
pub(super) use self::replay::{decode_replay, encode_replay};
pub(super) use self::source::{decode_cursor, decode_position, encode_cursor, encode_position};
pub(super) use self::subscription::{CatchingUp, Subscribed};

/// The version of every body written today.
const VERSION: u8 = 1;

/// The length of the checksum at a value's end.
const CHECK_BYTES: usize = 4;

/// Which table a value lies in; part of what the checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Meta = 1,
    Event = 2,
    Subscription = 3,
    Pending = 4,
    Dead = 5,
    Cursor = 6,
    Identity = 7,
    Position = 8,
    History = 9,
    Key = 10,
    Replay = 11,
    Kept = 12,
}

/// A value does not say what was once written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(pub(super) &'static str);

const SHORT: Damage = Damage("it ends too early");

/// Writes a value.
#[derive(Debug)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 8);
        bytes.push(VERSION);
        Self { bytes }
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes.push(byte);
        self
    }

    pub(super) fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.bytes.push((number & 0x7F) as u8 | 0x80);
            number >>= 7;
        }
        self.byte((number & 0x7F) as u8)
    }

    pub(super) fn time(&mut self, time: Timestamp) -> &mut Self {
        self.number(((time.0 << 1) ^ (time.0 >> 63)).cast_unsigned())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds the checksum.
    pub(super) fn seal(mut self, table: Table, key: &[u64]) -> Vec<u8> {
        let check = checksum(table, key, &self.bytes);
        self.bytes.extend_from_slice(&check.to_le_bytes());
        self.bytes
    }
}

fn checksum(table: Table, key: &[u64], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[table as u8]);
    for number in key {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(body);
    hasher.finalize()
}

/// A text key as a number, for the checksum.
pub(super) fn key_of(text: &str) -> u64 {
    key_of_bytes(text.as_bytes())
}

fn key_of_bytes(bytes: &[u8]) -> u64 {
    u64::from(crc32fast::hash(bytes)) | (bytes.len() as u64) << 32
}

/// Reads a value whose checksum has held.
pub(super) struct Decoder<'v> {
    rest: &'v [u8],
}

impl<'v> Decoder<'v> {
    pub(super) fn open(table: Table, key: &[u64], value: &'v [u8]) -> Result<Self, Damage> {
        let (body, check) = value.split_last_chunk::<CHECK_BYTES>().ok_or(SHORT)?;
        if checksum(table, key, body) != u32::from_le_bytes(*check) {
            return Err(Damage("its checksum does not hold"));
        }
        match body.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest }),
            _ => Err(Damage("its version is not understood")),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damage> {
        let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damage("a number in it is too long"))
    }

    pub(super) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Damage> {
        T::try_from(self.number()?).map_err(|_| Damage("a number in it is too large"))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, Damage> {
        let number = self.number()?;
        Ok(Timestamp(
            (number >> 1).cast_signed() ^ -(number & 1).cast_signed(),
        ))
    }

    pub(super) fn bytes(&mut self) -> Result<&'v [u8], Damage> {
        let length = self.narrow()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'v str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage("a text in it is not UTF-8"))
    }

    pub(super) fn name(&mut self) -> Result<Name, Damage> {
        Name::new(self.text()?).map_err(|_| Damage("a name in it is none"))
    }
}

fn index_of<T: PartialEq>(list: &[T], one: &T) -> u8 {
    list.iter()
        .position(|other| other == one)
        .and_then(|index| u8::try_from(index).ok())
        .unwrap_or_default()
}

fn at_index<T: Copy>(list: &[T], index: u8) -> Result<T, Damage> {
    list.get(usize::from(index))
        .copied()
        .ok_or(Damage("it names something that is not known"))
}

pub(super) fn encode_option(out: &mut Encoder, number: Option<u64>) {
    match number {
        None => out.byte(0),
        Some(number) => out.byte(1).number(number),
    };
}

pub(super) fn decode_option(from: &mut Decoder<'_>) -> Result<Option<u64>, Damage> {
    if from.byte()? == 0 {
        Ok(None)
    } else {
        from.number().map(Some)
    }
}
