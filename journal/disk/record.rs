//! The bytes of a row's value, and the checksum that every row carries.
//!
//! ```text
//! value = version, body, CRC-32 (little endian) over table tag, key numbers, version and body
//! ```
//!
//! A body is written as [`crate::encoding`] says.
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
use crate::encoding::SHORT;
pub(super) use crate::encoding::{Damage, Decoder, Encoder};

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

impl Encoder {
    /// Begins a value.
    pub(super) fn new(capacity: usize) -> Self {
        let mut out = Self::bare(capacity + 8);
        out.byte(VERSION);
        out
    }

    /// Adds the checksum.
    pub(super) fn seal(self, table: Table, key: &[u64]) -> Vec<u8> {
        let mut bytes = self.into_bytes();
        let check = checksum(table, key, &bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
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

impl<'v> Decoder<'v> {
    /// Begins to read a value, once its checksum has held.
    pub(super) fn open(table: Table, key: &[u64], value: &'v [u8]) -> Result<Self, Damage> {
        let (body, check) = value.split_last_chunk::<CHECK_BYTES>().ok_or(SHORT)?;
        if checksum(table, key, body) != u32::from_le_bytes(*check) {
            return Err(Damage("its checksum does not hold"));
        }
        match body.split_first() {
            Some((&VERSION, body)) => Ok(Self::bare(body)),
            _ => Err(Damage("its version is not understood")),
        }
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
