//! What the nodes of a cluster tell each other of targets that all of them use.

use pointsman_schemas::Name;

/// What has changed of a node's share in a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetShare {
    pub tenant: Name,
    pub name: Name,
    /// How many attempts it may have under way at once.
    pub concurrency: Option<usize>,
    /// How many attempts it may begin in the period of the target's rate, in thousandths.
    pub thousandths: Option<u64>,
    /// Whether another node has found that the target does not work, and sees whether it is back.
    pub is_open_elsewhere: Option<bool>,
}

/// What a node could use of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDemand {
    pub tenant: Name,
    pub name: Name,
    /// How many attempts are under way, or about to be.
    pub in_use: usize,
    /// How many could be.
    pub wants: usize,
    /// How many could begin in the period of the target's rate, in thousandths.
    pub thousandths: u64,
    /// Whether this node has found that the target does not work, and sees whether it is back.
    pub is_open: bool,
}
