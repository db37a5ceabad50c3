//! What the dispatcher works by: the targets and routes of the rules in force, swapped whole at a
//! reload.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pointsman_connectors::TargetService;
use pointsman_schemas::{Name, Rate, SubscriptionNumber};

use super::observer::Observer;
use super::policy::Policy;
use super::preparation::Preparation;
use super::record::Recording;
use pointsman_journal::{Priority, SubscriptionIdentity};

/// The targets and routes of one set of rules.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where deliveries go.
    pub targets: Vec<Target>,
    /// How the deliveries of each attached subscription go there. Of a subscription that is not
    /// here nothing is leased.
    pub routes: Vec<(SubscriptionNumber, Arc<Route>)>,
    /// What the subscriptions of tenants and rules may use together.
    pub quotas: Vec<Quota>,
}

/// What all subscriptions of a tenant, or of one of its rules, may use together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub tenant: Name,
    /// None where it is the tenant's own.
    pub rule: Option<Name>,
    /// How many attempts may begin in a period of time.
    pub rate: Option<Rate>,
    /// Attempts that may be under way at once.
    pub in_flight: Option<usize>,
}

impl Quota {
    /// Whose it is: its identity over reloads.
    #[must_use]
    pub fn key(&self) -> (Name, Option<Name>) {
        (self.tenant.clone(), self.rule.clone())
    }
}

/// An open target.
#[derive(Clone)]
pub struct Target {
    /// The tenant that it belongs to.
    pub tenant: Name,
    /// Its name in the rule file; with the tenant its identity over reloads.
    pub name: Name,
    /// What calls it.
    pub service: TargetService,
    /// Attempts that may be under way at once, at most.
    pub concurrency_max: NonZeroUsize,
    /// How many attempts may begin in a period of time.
    pub rate: Option<Rate>,
    /// Hash of its settings. Where a reload brings the same one, what was learned about the target
    /// is kept: its concurrency limit, its circuit, what of its rate is used up.
    pub fingerprint: u64,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How the deliveries of one subscription go out.
pub struct Route {
    pub identity: SubscriptionIdentity,
    /// Its target, as an index into [`Plan::targets`].
    pub target: usize,
    /// The quotas that it counts in, as indexes into [`Plan::quotas`]: its tenant's, its rule's.
    pub quotas: [Option<usize>; 2],
    /// Whether an event has a part in its target's address.
    pub is_templated: bool,
    /// Timeouts and retries.
    pub policy: Policy,
    /// How its deliveries go together; none where each goes alone.
    pub batch: Option<Batch>,
    /// What share of the target it has beside others.
    pub priority: Priority,
    /// Makes what goes out.
    pub preparation: Preparation,
    /// What the history is told of its deliveries.
    pub recording: Recording,
    /// Where a success is reported.
    pub on_success: Option<FollowUpRoute>,
    /// Where a dead letter is reported.
    pub on_failure: Option<FollowUpRoute>,
    /// Counts their outcomes.
    pub observer: Observer,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("identity", &self.identity)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// How the deliveries of a subscription go together in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many at most.
    pub events: usize,
    /// How many bytes their events have, at most.
    pub bytes: usize,
    /// How long the first one waits for others.
    pub window: Duration,
    /// Whether a batch that fails whole is halved until the event is found that makes it fail.
    pub bisect: bool,
}

/// Where a delivery's end is sent on to: `on_success` or `on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowUpRoute {
    /// The subscription that it is queued for.
    pub subscription: SubscriptionNumber,
    pub send: FollowUpPayload,
}

/// What is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowUpPayload {
    /// A report on the delivery and its last attempt.
    Report,
    /// The delivery's own event.
    Original,
}
