//! Identities of what the journal keeps.

use std::fmt;
use std::str::FromStr;

/// The random identity of a journal, given at its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JournalId(pub u64);

/// One opening of a journal, drawn at random, so that no two openings of any journal share one: not
/// those of two copies of a store, nor two of the same copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Epoch(pub u64);

/// An event's place in its journal: from 1, increasing, never reused.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// A subscription's number in its journal: from 1, never reused.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct SubscriptionNumber(pub u32);

/// The identity of a delivery: the same over all its attempts and over restarts, and never that of
/// another delivery, whatever becomes of the journal. Sequences and runs may begin again where
/// commits are lost or a copy of a store is put back; epochs do not.
///
/// Shown to users and functions as an opaque text of `[a-z0-9-]{1,64}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// The opening of the journal in which it was made.
    pub epoch: Epoch,
    /// The event.
    pub sequence: Sequence,
    /// The subscription.
    pub subscription: SubscriptionNumber,
    /// 0 for the first run of a match; redrives, replays, moves and events sent on to another
    /// subscription take one that was never used.
    pub run: u64,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}-{:x}-{:x}-{:x}",
            self.epoch.0, self.sequence.0, self.subscription.0, self.run
        )
    }
}

/// Its text where people read it, its numbers elsewhere.
impl serde::Serialize for DeliveryId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        (self.epoch, self.sequence, self.subscription, self.run).serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for DeliveryId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let (epoch, sequence, subscription, run) =
                serde::Deserialize::deserialize(deserializer)?;
            return Ok(Self {
                epoch,
                sequence,
                subscription,
                run,
            });
        }
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for DeliveryId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeliveryId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": Self::PATTERN })
    }
}

impl DeliveryId {
    /// How its text is spelt.
    const PATTERN: &str = "^[0-9a-f]{16}-(0|[1-9a-f][0-9a-f]{0,15})-(0|[1-9a-f][0-9a-f]{0,7})-\
                           (0|[1-9a-f][0-9a-f]{0,15})$";
}

/// A text is no [`DeliveryId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a delivery (such as 9f86d081884c7d65-1f-2-0)")]
pub struct InvalidDeliveryId(pub String);

impl FromStr for DeliveryId {
    type Err = InvalidDeliveryId;

    fn from_str(text: &str) -> Result<Self, InvalidDeliveryId> {
        let parse = || {
            let mut parts = text.split('-');
            let id = Self {
                epoch: Epoch(u64::from_str_radix(parts.next()?, 16).ok()?),
                sequence: Sequence(u64::from_str_radix(parts.next()?, 16).ok()?),
                subscription: SubscriptionNumber(u32::from_str_radix(parts.next()?, 16).ok()?),
                run: u64::from_str_radix(parts.next()?, 16).ok()?,
            };
            // One delivery has one spelling: no signs, capitals or leading zeros.
            (parts.next().is_none() && id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| InvalidDeliveryId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_one_spelling() {
        let (sequence, subscription) = (Sequence(u64::MAX), SubscriptionNumber(u32::MAX));
        let id = DeliveryId {
            epoch: Epoch(7),
            sequence,
            subscription,
            run: u64::MAX,
        };
        let text = id.to_string();
        assert!(
            text.len() <= 64
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        );
        assert_eq!(text.parse(), Ok(id));
        for bad in [
            "",
            "7-1-1-0",
            "0000000000000007-1-1",
            "0000000000000007-1-1-0-0",
            "0000000000000007-+1-1-0",
            "0000000000000007-01-1-0",
        ] {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
    }
}
