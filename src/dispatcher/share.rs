//! What the nodes of a cluster tell each other of limits that hold for all of them together.

use pointsman_schemas::Name;

/// What has limits that hold for all nodes together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// A target.
    Target { tenant: Name, name: Name },
    /// The quota of a tenant, or of one of its rules.
    Quota { tenant: Name, rule: Option<Name> },
}

/// What has changed of a node's share in limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitShare {
    pub of: Limited,
    /// How many attempts it may have under way at once.
    pub at_once: Option<usize>,
    /// How many attempts it may begin in the period of the rate, in thousandths.
    pub thousandths: Option<u64>,
    /// Whether another node has found that the target does not work, and sees whether it is back.
    pub is_open_elsewhere: Option<bool>,
}

/// What a node could use of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitDemand {
    pub of: Limited,
    /// How many attempts are under way, or about to be.
    pub in_use: usize,
    /// How many could be.
    pub wants: usize,
    /// How many could begin in the period of the rate, in thousandths.
    pub thousandths: u64,
    /// Whether this node has found that the target does not work, and sees whether it is back.
    pub is_open: bool,
}
