//! What is compressed in a binary log.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use flate2::read::ZlibDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::event::first_of;
use super::take::{Take, Unreadable, big};

/// How long anything may be once it is not compressed any more: no event is longer.
const BYTES_MAX: u64 = 1 << 30;

/// How much of a transaction is uncompressed at once, about.
const STEP_BYTES: usize = 64 << 10;

/// What MariaDB compresses (`log_bin_compress`): the length, the highest byte first, and zlib's.
///
/// # Errors
/// It is damaged, or compressed in another way.
pub(super) fn mariadb(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut left = Take(bytes);
    let head = left.u8()?;
    if head & 0xf8 != 0x80 {
        return Err(Unreadable::unknown(
            "an event is compressed in a way that is not known here",
        ));
    }
    let length = big(left.bytes(usize::from(head & 7))?);
    let mut out = Vec::new();
    let read = ZlibDecoder::new(left.rest())
        .take(BYTES_MAX)
        .read_to_end(&mut out);
    match read {
        Ok(_) if out.len() as u64 == length => Ok(out),
        Ok(_) => Err(Unreadable::Short),
        Err(error) => Err(damaged(&error)),
    }
}

fn damaged(error: &dyn std::fmt::Display) -> Unreadable {
    Unreadable::unknown(format!("what is compressed cannot be read: {error}"))
}

/// The events of a transaction that MySQL compresses whole (`binlog_transaction_compression`). No
/// more than the next one is here at once.
pub(super) struct Events {
    decoder: Box<dyn Read + Send + Sync>,
    there: BytesMut,
}

impl Events {
    /// Begins to read them.
    ///
    /// # Errors
    /// It is damaged.
    pub(super) fn new(payload: Bytes, is_compressed: bool) -> Result<Self, Unreadable> {
        let payload = io::Cursor::new(payload);
        let decoder: Box<dyn Read + Send + Sync> = match is_compressed {
            true => Box::new(StreamingDecoder::new(payload).map_err(|error| damaged(&error))?),
            false => Box::new(payload),
        };
        Ok(Self {
            decoder,
            there: BytesMut::new(),
        })
    }

    /// The next one; nothing behind the last.
    ///
    /// # Errors
    /// It is damaged.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Unreadable> {
        let mut step = STEP_BYTES;
        loop {
            if let Ok(length) = first_of(&self.there) {
                return Ok(Some(self.there.split_to(length).freeze()));
            }
            let mut more = Vec::new();
            let read = (&mut self.decoder).take(step as u64).read_to_end(&mut more);
            match read.map_err(|error| damaged(&error))? {
                0 if self.there.is_empty() => return Ok(None),
                0 => return Err(Unreadable::Short),
                _ => self.there.extend_from_slice(&more),
            }
            // A long event is not looked for again and again.
            step = step.max(self.there.len());
        }
    }
}
