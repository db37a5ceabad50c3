//! Deliveries that ended without success, and what sources could not read.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{DeliveryId, Event, Name, Timestamp};

use crate::{LastOutcome, SubscriptionIdentity};

/// Why a delivery is a dead letter.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DeadReason {
    /// The target said that it will never succeed.
    Rejected,
    /// All declared attempts failed.
    Exhausted,
    /// The maximum age has passed.
    Expired,
    /// The transform or a template in an address or header failed.
    Transform,
    /// It went round too often.
    Hops,
    /// Its subscription's backlog is full and is declared `when_full: dead`.
    Backlog,
    /// A source could not make an event of it.
    Unreadable,
    /// Somebody has passed it over, so that what waits behind it goes on.
    Skipped,
}

impl DeadReason {
    /// The reason as it is shown and stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Exhausted => "exhausted",
            Self::Expired => "expired",
            Self::Transform => "transform",
            Self::Hops => "hops",
            Self::Backlog => "backlog",
            Self::Unreadable => "unreadable",
            Self::Skipped => "skipped",
        }
    }
}

/// Which dead letters are meant: all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadSelection {
    /// These.
    pub ids: Option<Vec<DeliveryId>>,
    /// Of this tenant.
    pub tenant: Option<Name>,
    /// Of this rule.
    pub rule: Option<Name>,
    /// For this target.
    pub target: Option<Name>,
    /// With this reason.
    pub reason: Option<DeadReason>,
}

impl DeadSelection {
    /// Whether a dead letter is meant.
    #[must_use]
    pub fn selects(&self, letter: &DeadLetter) -> bool {
        let is = |wanted: &Option<Name>, name: Option<&Name>| {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == name)
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && is(&self.tenant, Some(&letter.tenant))
            && is(
                &self.rule,
                letter.subscription.as_ref().map(|identity| &identity.rule),
            )
            && is(
                &self.target,
                letter
                    .subscription
                    .as_ref()
                    .map(|identity| &identity.target),
            )
            && self.reason.is_none_or(|reason| reason == letter.reason)
    }
}

/// A dead letter: of a delivery, or of something that a source could not read.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// The delivery; of a reject an id of its own, with subscription number 0.
    pub id: DeliveryId,
    /// Whose.
    pub tenant: Name,
    /// The source that it came from.
    pub origin: Name,
    /// The subscription; none of a reject.
    pub subscription: Option<SubscriptionIdentity>,
    /// Why it is dead.
    pub reason: DeadReason,
    /// One line for a person, where there is more to say than the reason.
    pub message: String,
    /// When it died.
    pub at: Timestamp,
    /// Tries made.
    pub attempts: u32,
    /// What the last attempt came to.
    pub last: Option<LastOutcome>,
    /// The bytes that could not be read; empty of a delivery.
    pub raw: Bytes,
    /// The event that a redrive sends in the place of the one that died.
    #[serde(with = "crate::encoding::event::optional")]
    pub edited: Option<Arc<Event>>,
}
