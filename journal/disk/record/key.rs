//! A key that deduplication remembers.

use pointsman_schemas::Timestamp;

use super::{Damage, Decoder, Encoder, Table};

/// When and as what an event was stored with a certain key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::disk) struct KeyRow {
    pub(in crate::disk) sequence: u64,
    pub(in crate::disk) at: Timestamp,
    /// The subscriptions of the deliveries that were made, where the key is the id of tasks.
    pub(in crate::disk) subscriptions: Vec<u32>,
}

impl KeyRow {
    pub(in crate::disk) fn encode(&self, key: [u64; 2], until: Timestamp) -> Vec<u8> {
        let mut out = Encoder::new(24 + 2 * self.subscriptions.len());
        out.number(self.sequence)
            .time(self.at)
            .number(self.subscriptions.len() as u64);
        for subscription in &self.subscriptions {
            out.number(u64::from(*subscription));
        }
        out.seal(Table::Key, &check_key(key, until))
    }

    pub(in crate::disk) fn decode(
        key: [u64; 2],
        until: Timestamp,
        value: &[u8],
    ) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Key, &check_key(key, until), value)?;
        let (sequence, at) = (from.number()?, from.time()?);
        let mut subscriptions = Vec::new();
        for _ in 0..from.number()? {
            subscriptions.push(from.narrow()?);
        }
        Ok(Self {
            sequence,
            at,
            subscriptions,
        })
    }
}

fn check_key([high, low]: [u64; 2], until: Timestamp) -> [u64; 3] {
    [high, low, until.0.cast_unsigned()]
}
