//! Bytes that are kept for long or read by others: in the rows of a store, and on the way to
//! another node.
//!
//! Numbers are LEB128 (signed ones zigzag), texts and bytes are preceded by their length.

pub mod event;
pub(crate) mod few;

use pointsman_schemas::{Name, Timestamp};

/// Bytes do not say what was once written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) &'static str);

pub(crate) const SHORT: Damage = Damage("it ends too early");

/// Writes bytes.
#[derive(Debug)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// With nothing before what is written.
    pub(crate) fn bare(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
        }
    }

    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes.push(byte);
        self
    }

    pub(crate) fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.bytes.push((number & 0x7F) as u8 | 0x80);
            number >>= 7;
        }
        self.byte((number & 0x7F) as u8)
    }

    pub(crate) fn time(&mut self, time: Timestamp) -> &mut Self {
        self.number(((time.0 << 1) ^ (time.0 >> 63)).cast_unsigned())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads bytes.
pub(crate) struct Decoder<'v> {
    rest: &'v [u8],
}

impl<'v> Decoder<'v> {
    /// From their beginning.
    pub(crate) fn bare(rest: &'v [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damage> {
        let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Damage> {
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

    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Damage> {
        T::try_from(self.number()?).map_err(|_| Damage("a number in it is too large"))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Damage> {
        let number = self.number()?;
        Ok(Timestamp(
            (number >> 1).cast_signed() ^ -(number & 1).cast_signed(),
        ))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'v [u8], Damage> {
        let length = self.narrow()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'v str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage("a text in it is not UTF-8"))
    }

    pub(crate) fn name(&mut self) -> Result<Name, Damage> {
        Name::new(self.text()?).map_err(|_| Damage("a name in it is none"))
    }
}
