//! What leads where, by the rule files.

use indexmap::IndexMap;
use pointsman_schemas::Name;

use crate::config::{Config, Rule};

/// Sources, rules and targets, and what leads from one to another.
#[derive(Debug, Default)]
pub(super) struct Topology {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

/// A source, a rule or a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) place: Place,
    /// With its tenant before it, where there are several.
    pub(super) label: String,
    /// The connector, or what kind of rule it is.
    pub(super) kind: &'static str,
    /// What it is for.
    pub(super) description: Option<String>,
}

/// In which column a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Source,
    Rule,
    Target,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Source, Self::Rule, Self::Target];
}

/// A way from one node to another, by their indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) role: EdgeRole,
}

/// When something goes along an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdgeRole {
    /// Events do.
    Event,
    /// Reports of deliveries that succeeded.
    OnSuccess,
    /// Reports of dead letters.
    OnFailure,
}

impl EdgeRole {
    /// What is written at the edge, if anything is.
    pub(super) fn label(self) -> Option<&'static str> {
        match self {
            Self::Event => None,
            Self::OnSuccess => Some("on success"),
            Self::OnFailure => Some("on failure"),
        }
    }
}

/// Stands for the sources of a rule that names none.
const ANY_SOURCE: &str = "any source";

impl Topology {
    /// That of a configuration, of the tenants and rules that are wanted. A source or a target is
    /// asked for without a rule.
    pub(super) fn of(config: &Config, wanted: impl Fn(&Name, Option<&Name>) -> bool) -> Self {
        let tenants = config.rules.iter().map(|rule| &rule.tenant);
        let tenants = tenants.chain(config.sources.iter().map(|source| &source.tenant));
        let mut tenants: Vec<_> = tenants.collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut builder = Builder {
            names_tenants: tenants.len() > 1,
            ..Builder::default()
        };
        for source in &config.sources {
            if wanted(&source.tenant, None) {
                builder.node(
                    Place::Source,
                    &source.tenant,
                    source.name.as_str(),
                    source.kind,
                );
            }
        }
        for rule in &config.rules {
            if wanted(&rule.tenant, Some(&rule.name)) {
                builder.rule(rule);
            }
        }
        for target in &config.targets {
            if wanted(&target.tenant, None) {
                builder.node(
                    Place::Target,
                    &target.tenant,
                    target.name.as_str(),
                    target.kind,
                );
            }
        }
        // A rule may stand before its target is described.
        for target in &config.targets {
            let key = (
                Place::Target,
                target.tenant.clone(),
                target.name.to_string(),
            );
            if let Some(node) = builder.nodes.get_mut(&key) {
                node.kind = target.kind;
            }
        }
        Self {
            nodes: builder.nodes.into_values().collect(),
            edges: builder.edges,
        }
    }

    /// Without the nodes that nothing leads to or from.
    pub(super) fn connected(self) -> Self {
        let is_connected = |index: usize| {
            self.edges
                .iter()
                .any(|edge| [edge.from, edge.to].contains(&index))
        };
        let mut places = Vec::with_capacity(self.nodes.len());
        let mut nodes = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            places.push(nodes.len());
            if is_connected(index) {
                nodes.push(node.clone());
            }
        }
        let place = |index: usize| places.get(index).copied().unwrap_or_default();
        let edges = self.edges.iter().map(|edge| Edge {
            from: place(edge.from),
            to: place(edge.to),
            role: edge.role,
        });
        Self {
            edges: edges.collect(),
            nodes,
        }
    }
}

#[derive(Default)]
struct Builder {
    names_tenants: bool,
    nodes: IndexMap<(Place, Name, String), Node>,
    edges: Vec<Edge>,
}

impl Builder {
    fn node(&mut self, place: Place, tenant: &Name, name: &str, kind: &'static str) -> usize {
        let entry = self.nodes.entry((place, tenant.clone(), name.to_owned()));
        let index = entry.index();
        entry.or_insert_with(|| Node {
            place,
            label: match self.names_tenants {
                true => format!("{tenant}/{name}"),
                false => name.to_owned(),
            },
            kind,
            description: None,
        });
        index
    }

    fn rule(&mut self, rule: &Rule) {
        let kind = if rule.pipe { "pipe" } else { "rule" };
        let own = self.node(Place::Rule, &rule.tenant, rule.name.as_str(), kind);
        if let Some((_, node)) = self.nodes.get_index_mut(own) {
            node.description.clone_from(&rule.description);
        }
        let tenant = &rule.tenant;
        match &rule.from {
            None => {
                let any = self.node(Place::Source, tenant, ANY_SOURCE, "");
                self.edge(any, own, EdgeRole::Event);
            }
            Some(names) => {
                for name in names {
                    // What is no connector of the files is the bus's own: its ingress, and the
                    // events that targets answer with.
                    let source = self.node(Place::Source, tenant, name.as_str(), "built in");
                    self.edge(source, own, EdgeRole::Event);
                }
            }
        }
        let to = rule.to.iter().map(|to| (&to.target, EdgeRole::Event));
        let success = rule
            .on_success
            .iter()
            .map(|to| (&to.target, EdgeRole::OnSuccess));
        let failure = rule
            .on_failure
            .iter()
            .map(|to| (&to.target, EdgeRole::OnFailure));
        for (name, role) in to.chain(success).chain(failure) {
            let target = self.node(Place::Target, tenant, name.as_str(), "");
            self.edge(own, target, role);
        }
    }

    fn edge(&mut self, from: usize, to: usize, role: EdgeRole) {
        self.edges.push(Edge { from, to, role });
    }
}
