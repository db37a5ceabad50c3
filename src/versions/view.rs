//! The versions of the rules as the admin API shows them.

use pointsman_cluster::Pulse;
use pointsman_schemas::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kept::{Fate, Kept, Objection, Version};

/// Which version of the rules is in force, and what the nodes say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionsView {
    /// The version in force; none before the first.
    pub in_force: Option<VersionView>,
    /// The one that is to be in force once every living node has compiled it.
    pub proposed: Option<VersionView>,
    /// The last version that was refused, where that is later than the one in force.
    pub refused: Option<RefusedView>,
    /// The living nodes.
    pub nodes: Vec<NodeRules>,
    /// The tenants that have not all shards.
    #[serde(default)]
    pub tenants: Vec<TenantView>,
}

/// A tenant that has not all shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantView {
    pub tenant: Name,
    /// The shards that its events lie in.
    pub shards: Vec<u16>,
}

/// A version of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// Counts what is proposed, from 1.
    pub number: u64,
    /// Differs where the rules do.
    pub hash: String,
    /// The node that proposed it, or that was asked to.
    pub by: Name,
    /// When that was.
    pub proposed: String,
    /// Since when it is in force.
    pub since: Option<String>,
}

/// A version that a node cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedView {
    /// Its number.
    pub number: u64,
    /// Which node.
    pub node: Name,
    /// What is wrong there, each with its file and line.
    pub why: Vec<String>,
}

/// How a node stands to the versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRules {
    pub name: Name,
    /// The version that it works with; none where it has none yet.
    pub in_force: Option<u64>,
    /// The last version that it could work with.
    pub prepared: Option<u64>,
    /// Whether its own rule files say something else than the version that it works with.
    pub files_differ: bool,
    /// Why it cannot work with the version in force.
    pub trouble: Option<String>,
}

/// How a proposal stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProposalView {
    /// The proposal; none where the node that was asked has refused it itself.
    pub id: Option<String>,
    /// How it stands.
    pub state: ProposalState,
    /// Of one in force or proposed: its number. Of one that was replaced: that of the other.
    pub version: Option<u64>,
    /// The node that refuses it.
    pub node: Option<Name>,
    /// What is wrong there, each with its file and line.
    pub why: Vec<String>,
    /// The living nodes that have not compiled it yet.
    pub waits_for: Vec<Name>,
}

/// How a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProposalState {
    /// It waits until every living node has compiled it.
    Proposed,
    /// It is, or was, in force.
    InForce,
    /// A node cannot work with it.
    Refused,
    /// A later one took its place.
    Replaced,
}

impl VersionsView {
    /// What is kept, and what living nodes say of a cluster of so many shards.
    #[must_use]
    pub fn new(kept: &Kept, living: &[(Name, Pulse)], shards: u16) -> Self {
        let few = kept.shards.few(shards.into()).into_iter();
        let tenants = few.map(|(tenant, shards)| TenantView { tenant, shards });
        Self {
            in_force: kept.in_force.as_ref().map(VersionView::new),
            proposed: kept.proposed.as_ref().map(VersionView::new),
            refused: kept.refused().map(|objection| RefusedView {
                number: objection.number,
                node: objection.node.clone(),
                why: objection.why.clone(),
            }),
            nodes: living.iter().map(NodeRules::new).collect(),
            tenants: tenants.collect(),
        }
    }
}

impl VersionView {
    fn new(version: &Version) -> Self {
        Self {
            number: version.number,
            hash: version.proposal.hash.clone(),
            by: version.proposal.by.clone(),
            proposed: version.proposal.at.to_string(),
            since: version.since.map(|since| since.to_string()),
        }
    }
}

impl NodeRules {
    fn new((name, pulse): &(Name, Pulse)) -> Self {
        let rules = &pulse.rules;
        Self {
            name: name.clone(),
            in_force: Some(rules.in_force).filter(|number| *number > 0),
            prepared: Some(rules.prepared).filter(|number| *number > 0),
            files_differ: rules.differs,
            trouble: rules.trouble.clone(),
        }
    }
}

impl ProposalView {
    /// How a proposal stands; none where nothing is known of it.
    #[must_use]
    pub fn new(id: &str, kept: &Kept, living: &[(Name, Pulse)]) -> Option<Self> {
        let view = |state, version| Self {
            id: Some(id.to_owned()),
            state,
            version: Some(version),
            node: None,
            why: Vec::new(),
            waits_for: Vec::new(),
        };
        Some(match kept.fate(id)? {
            Fate::InForce(number) => view(ProposalState::InForce, number),
            Fate::Replaced(by) => view(ProposalState::Replaced, by),
            Fate::Refused(objection) => Self::refused(Some(id.to_owned()), objection.clone()),
            Fate::Proposed(number) => {
                let others = living.iter();
                let others = others.filter(|(_, pulse)| pulse.rules.prepared != number);
                Self {
                    waits_for: others.map(|(name, _)| name.clone()).collect(),
                    ..view(ProposalState::Proposed, number)
                }
            }
        })
    }

    /// One that a node refuses.
    #[must_use]
    pub fn refused(id: Option<String>, objection: Objection) -> Self {
        Self {
            id,
            state: ProposalState::Refused,
            version: Some(objection.number).filter(|number| *number > 0),
            node: Some(objection.node),
            why: objection.why,
            waits_for: Vec::new(),
        }
    }
}
