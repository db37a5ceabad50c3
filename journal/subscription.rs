//! One rule with one target: what queues, is suspended, ordered and counted.

use pointsman_schemas::{Name, SubscriptionNumber, Timestamp};

use crate::Start;

/// The place of a subscription in its rule.
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
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// One of the rule's `to`.
    To,
    /// The rule's `on_success`.
    OnSuccess,
    /// The rule's `on_failure`.
    OnFailure,
}

impl Role {
    /// All of them. The disk has the places in this list: append only.
    pub(crate) const ALL: [Self; 3] = [Self::To, Self::OnSuccess, Self::OnFailure];

    /// The role as it is shown and stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::OnSuccess => "on-success",
            Self::OnFailure => "on-failure",
        }
    }
}

/// The identity of a subscription.
#[derive(
    Clone,
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
pub struct SubscriptionIdentity {
    /// Whose.
    pub tenant: Name,
    /// The rule.
    pub rule: Name,
    /// Which of the rule's destinations.
    pub role: Role,
    /// The target.
    pub target: Name,
}

/// A subscription as the rules in force want it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Subscription {
    /// Which.
    pub identity: SubscriptionIdentity,
    /// A rule name that it had before: where that subscription is there and detached, it goes on
    /// under the new identity.
    pub renamed_from: Option<Name>,
    /// The bound on what waits in it.
    pub backlog: Option<Backlog>,
    /// From where it is given retained events where it comes for the first time, in a replay that
    /// begins with it ([`ReplayKind::Start`](crate::ReplayKind)); none for what is appended from
    /// now on alone.
    pub start: Option<Start>,
}

/// The bound on what waits in a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backlog {
    /// Pending deliveries at most.
    pub max: u64,
    /// True where more are dead-lettered at once; false where they stop what matches.
    pub dead_when_full: bool,
}

/// Whether a subscription's deliveries go out.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// They do.
    Active,
    /// Somebody has stopped them.
    Suspended,
    /// The target said that it is gone for good.
    Gone,
}

/// A subscription as it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubscriptionStatus {
    /// Its number.
    pub number: SubscriptionNumber,
    /// Its identity.
    pub identity: SubscriptionIdentity,
    /// False where no rule in force wants it.
    pub attached: bool,
    /// Whether its deliveries go out.
    pub activity: Activity,
    /// Its counters.
    pub counts: Counts,
    /// When the oldest pending delivery's run began; of a long queue as far as its beginning tells.
    pub oldest_pending: Option<Timestamp>,
}

/// A subscription's counters since its creation, and its present numbers.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct Counts {
    /// Deliveries made, by matches, replays and redrives.
    pub created: u64,
    /// Ended with success.
    pub delivered: u64,
    /// Dead letters that lie there now.
    pub dead: u64,
    /// Dead letters that a new run was made of.
    pub redriven: u64,
    /// Dead letters that somebody deleted.
    pub purged: u64,
    /// Ended by somebody without an attempt.
    pub cancelled: u64,
    /// Set aside because a record was damaged.
    pub quarantined: u64,
    /// Waiting, in flight included.
    pub pending: u64,
    /// Of the pending: tried before and waiting to be tried again.
    pub retrying: u64,
    /// Of the pending: leased.
    pub in_flight: u64,
}

impl std::ops::AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            created,
            delivered,
            dead,
            redriven,
            purged,
            cancelled,
            quarantined,
            pending,
            retrying,
            in_flight,
        } = other;
        self.created += created;
        self.delivered += delivered;
        self.dead += dead;
        self.redriven += redriven;
        self.purged += purged;
        self.cancelled += cancelled;
        self.quarantined += quarantined;
        self.pending += pending;
        self.retrying += retrying;
        self.in_flight += in_flight;
    }
}

impl<'c> std::iter::Sum<&'c Self> for Counts {
    fn sum<I: Iterator<Item = &'c Self>>(all: I) -> Self {
        let mut sum = Self::default();
        all.for_each(|one| sum += one);
        sum
    }
}
