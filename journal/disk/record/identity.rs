//! The identity of an event, as deduplication remembers it.

use pointsman_schemas::Timestamp;

use super::{Damage, Decoder, Encoder, Table};

/// When and as what an event with a certain identity was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct Seen {
    pub(in crate::disk) sequence: u64,
    pub(in crate::disk) at: Timestamp,
    /// Nobody asks for it from here on.
    pub(in crate::disk) until: Timestamp,
}

impl Seen {
    pub(in crate::disk) fn encode(&self, key: [u64; 2]) -> Vec<u8> {
        let mut out = Encoder::new(24);
        out.number(self.sequence).time(self.at).time(self.until);
        out.seal(Table::Identity, &key)
    }

    pub(in crate::disk) fn decode(key: [u64; 2], value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Identity, &key, value)?;
        Ok(Self {
            sequence: from.number()?,
            at: from.time()?,
            until: from.time()?,
        })
    }
}
