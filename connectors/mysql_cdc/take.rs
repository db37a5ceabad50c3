//! Takes bytes from the front of what has come.

/// Why something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it ends too early")]
    Short,
    #[error("{0}")]
    Unknown(String),
}

impl Unreadable {
    pub(super) fn unknown(what: impl Into<String>) -> Self {
        Self::Unknown(what.into())
    }
}

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take<'b>(pub(super) &'b [u8]);

impl<'b> Take<'b> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'b [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// As many bytes as a number says that came with them.
    pub(super) fn long_bytes(&mut self, count: u64) -> Result<&'b [u8], Unreadable> {
        self.bytes(usize::try_from(count).map_err(|_| Unreadable::Short)?)
    }

    pub(super) fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unreadable> {
        let (first, rest) = self.0.split_first().ok_or(Unreadable::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number of up to eight bytes, the lowest first.
    pub(super) fn number(&mut self, bytes: usize) -> Result<u64, Unreadable> {
        Ok(little(self.bytes(bytes)?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Unreadable> {
        Ok(self.number(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(self.number(4)? as u32)
    }

    /// A number that says by its first byte how long it is.
    pub(super) fn length(&mut self) -> Result<u64, Unreadable> {
        match self.u8()? {
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            0xfb | 0xff => Err(Unreadable::unknown("a length is none")),
            short => Ok(u64::from(short)),
        }
    }

    /// Bytes behind their length.
    pub(super) fn prefixed(&mut self) -> Result<&'b [u8], Unreadable> {
        let length = self.length()?;
        self.long_bytes(length)
    }

    /// The bytes up to a zero, which is taken, too; or all of them where there is none.
    pub(super) fn until_zero(&mut self) -> &'b [u8] {
        let mut parts = self.0.splitn(2, |byte| *byte == 0);
        let first = parts.next().unwrap_or_default();
        self.0 = parts.next().unwrap_or_default();
        first
    }
}

/// A number, the lowest byte first.
pub(super) fn little(bytes: &[u8]) -> u64 {
    let add = |number, byte: &u8| number << 8 | u64::from(*byte);
    bytes.iter().rev().fold(0, add)
}

/// A number, the highest byte first.
pub(super) fn big(bytes: &[u8]) -> u64 {
    let add = |number, byte: &u8| number << 8 | u64::from(*byte);
    bytes.iter().fold(0, add)
}

/// Whether a bit is set in a map of them, the lowest first.
pub(super) fn bit(map: &[u8], index: usize) -> bool {
    map.get(index / 8)
        .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}
