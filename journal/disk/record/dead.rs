//! A dead letter as it is stored.

use bytes::Bytes;
use pointsman_schemas::{Name, Reject, Timestamp};

use super::{
    Damage, Decoder, Encoder, Table, at_index, decode_last, decode_option, encode_last,
    encode_option, index_of,
};
use crate::{DeadReason, LastOutcome, ReplayId};

/// The index in this list is what lies on disk: append only.
pub(super) const REASONS: [DeadReason; 8] = [
    DeadReason::Rejected,
    DeadReason::Exhausted,
    DeadReason::Expired,
    DeadReason::Transform,
    DeadReason::Hops,
    DeadReason::Backlog,
    DeadReason::Unreadable,
    DeadReason::Skipped,
];

/// What is kept of a dead letter beside its key.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::disk) struct DeadRow {
    pub(in crate::disk) tenant: Name,
    pub(in crate::disk) origin: Name,
    pub(in crate::disk) reason: DeadReason,
    pub(in crate::disk) at: Timestamp,
    pub(in crate::disk) attempts: u32,
    pub(in crate::disk) order_key: Option<u64>,
    pub(in crate::disk) last: Option<LastOutcome>,
    /// Of a reject: what could not be read.
    pub(in crate::disk) reject: Option<Reject>,
    /// The replay that made the delivery.
    pub(in crate::disk) replay: Option<ReplayId>,
    /// The event that a redrive sends in the place of its own, as a record of the letter's
    /// sequence.
    pub(in crate::disk) edited: Option<Bytes>,
}

impl DeadRow {
    pub(in crate::disk) fn encode(&self, key: &[u64; 3]) -> Vec<u8> {
        let mut out = Encoder::new(96);
        out.bytes(self.tenant.as_str().as_bytes())
            .bytes(self.origin.as_str().as_bytes());
        out.byte(index_of(&REASONS, &self.reason))
            .time(self.at)
            .number(u64::from(self.attempts));
        encode_option(&mut out, self.order_key);
        encode_last(&mut out, self.last.as_ref());
        match &self.reject {
            None => out.byte(0),
            Some(reject) => out
                .byte(1)
                .bytes(reject.reason.as_bytes())
                .bytes(&reject.raw),
        };
        // What format 3 wrote ends here.
        if self.replay.is_some() || self.edited.is_some() {
            out.number(self.replay.map_or(0, ReplayId::number));
            out.bytes(self.edited.as_deref().unwrap_or_default());
        }
        out.seal(Table::Dead, key)
    }

    pub(in crate::disk) fn decode(key: &[u64; 3], value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Dead, key, value)?;
        let (tenant, origin) = (from.name()?, from.name()?);
        let (reason, at, attempts) = (
            at_index(&REASONS, from.byte()?)?,
            from.time()?,
            from.narrow()?,
        );
        let order_key = decode_option(&mut from)?;
        let last = decode_last(&mut from)?;
        let reject = if from.byte()? == 0 {
            None
        } else {
            let reason = from.text()?.to_owned();
            Some(Reject {
                reason,
                raw: Bytes::copy_from_slice(from.bytes()?),
            })
        };
        let (mut replay, mut edited) = (None, None);
        if !from.is_empty() {
            replay = ReplayId::of(from.number()?);
            let record = from.bytes()?;
            edited = (!record.is_empty()).then(|| Bytes::copy_from_slice(record));
        }
        Ok(Self {
            tenant,
            origin,
            reason,
            at,
            attempts,
            order_key,
            last,
            reject,
            replay,
            edited,
        })
    }
}
