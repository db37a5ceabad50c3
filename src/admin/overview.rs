//! What the admin API shows besides the journal: told by whoever owns the sources, the rules and
//! the targets.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use pointsman_connectors::{Guarantee, SourceState};
use pointsman_schemas::{DeliveryId, Event, Name, SubscriptionNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::config::Written;
use crate::dispatcher::{LaneReason, StopReport};
use crate::router::Explained;
use crate::telemetry::QuotaUse;
use pointsman_journal::{Identity, SubscriptionStatus};

/// The running parts, as they stand now. Asked at every request: it answers from memory, at once.
pub trait Overview: fmt::Debug + Send + Sync {
    /// Every source of the rules in force.
    fn sources(&self) -> Vec<SourceStatus>;

    /// Every rule and pipe in force.
    fn rules(&self) -> Vec<RuleStatus>;

    /// By which key each of these rules leaves out duplicates of an event, of those that do.
    fn identities(&self, tenant: &Name, rules: &[Name], event: &Event) -> Vec<(Name, Identity)>;

    /// Every target of the rules in force.
    fn targets(&self) -> Vec<TargetStatus>;

    /// The subscriptions that are left alone for now because their targets refuse us, with why.
    fn paused(&self) -> BTreeMap<SubscriptionNumber, String>;

    /// The subscriptions that have a lane of their own, with why.
    fn lanes(&self) -> BTreeMap<SubscriptionNumber, LaneReason>;
    /// Stops the attempts at these tasks that are under way, and tells what becomes of each.
    fn stop(&self, ids: Vec<DeliveryId>) -> UnboundedReceiver<StopReport>;

    /// The tasks whose attempts are being stopped.
    fn stopping(&self) -> HashSet<DeliveryId>;

    /// The quotas of the rules in force, of which nothing is counted as used yet.
    fn quotas(&self) -> Vec<QuotaUse>;

    /// Asks the target of a subscription that it refused again at once.
    fn probe(&self, subscription: SubscriptionNumber);

    /// Why the rules in force take an event from a source, or do not: see
    /// [`Router::explain`](crate::router::Router::explain). Unlike the rest it takes its time: for
    /// each rule the event is read anew.
    fn explain(
        &self,
        tenant: &Name,
        origin: &Name,
        event: &Event,
        rule: Option<&Name>,
        limit: usize,
    ) -> Option<Explained>;

    /// Drops the numbers in memory of what neither the rules in force want nor these subscriptions
    /// are, the journal's own.
    fn forget_others(&self, statuses: &[SubscriptionStatus]);

    /// The rule files in force.
    fn written(&self) -> Arc<Written>;

    /// Why a change of the rule files is not in force, for a person; none where the files are as
    /// they are in force.
    fn refused_change(&self) -> Option<String>;

    /// What is missing before events can be taken: one line each for a person; empty where all is
    /// there.
    fn ready(&self) -> Vec<String>;
}

/// A source as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceStatus {
    pub name: Name,
    pub tenant: Name,
    /// The kind of its connector.
    pub kind: String,
    /// What it does.
    pub state: SourceState,
    /// Since when: RFC 3339.
    pub since: String,
    /// What went wrong last; kept when it runs again.
    pub last_error: Option<String>,
    /// How safe its messages are before they are stored.
    pub guarantee: Guarantee,
    /// Messages that wait in the outside system, where it can tell.
    pub lag: Option<u64>,
    /// Messages that the outside system removed before they could be read, since the source was
    /// started.
    pub skipped: u64,
    /// Events stored since the process started.
    pub events: u64,
    /// Messages since then that no event could be made of.
    pub rejects: u64,
}

/// A rule or pipe in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleStatus {
    pub name: Name,
    pub tenant: Name,
    /// True of a pipe.
    pub pipe: bool,
    /// What it is for, in its author's words.
    pub description: Option<String>,
    /// The sources it takes events from; empty for any.
    pub from: Vec<Name>,
    /// Its targets, in order.
    pub to: Vec<Name>,
    /// Its conditions as they were given: an object with `match`, `where`, `filters`, whichever
    /// there are.
    pub conditions: serde_json::Value,
    /// Events it took since the process started.
    pub matches: u64,
    /// Those of them that it did not deliver because the key of its `deduplicate` was known.
    #[serde(default)]
    pub duplicates: u64,
}

/// A target as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetStatus {
    pub name: Name,
    pub tenant: Name,
    /// The kind of its connector.
    pub kind: String,
    /// Whether it is called.
    pub circuit: Circuit,
    /// Since when: RFC 3339.
    pub since: String,
    /// What went wrong last; kept when it works again.
    pub last_error: Option<String>,
    /// Attempts under way.
    pub in_flight: u64,
    /// How many may be under way at once, as it is adapted now.
    pub limit: u64,
    /// What of `concurrency.max` is this node's, where it shares the target with other nodes of a
    /// cluster; left out where that is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u64>,
}

/// Whether a target is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Circuit {
    Closed,
    /// It cannot be reached and is left alone for a while.
    Open,
    /// One attempt is made to see whether it is back.
    Probing,
}
