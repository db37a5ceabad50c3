//! The nodes of a cluster and who owns its shards, as one of the nodes knows it: what the admin API
//! shows and the metrics count.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pointsman_cluster::{Node, Pulse, Role, RulesPulse};
use pointsman_log::Shard;
use pointsman_schemas::Name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    pub name: Name,
    /// True of the node that answers.
    pub answers: bool,
    /// How it stands.
    pub state: NodeState,
    /// How long ago it was heard last.
    pub heard_seconds_ago: f64,
    /// Where its admin API is, as it says.
    pub address: String,
    /// The version that it runs.
    pub version: String,
    /// The shards that it owns; none of a silent one, here and below.
    pub owns: Vec<u16>,
    /// Those that it follows, and has everything of.
    pub spare_of: Vec<u16>,
    /// Those that it follows, and has not everything of yet.
    pub filling: Vec<u16>,
    /// The version of the rules that it works with; none where it has none yet.
    pub rules: Option<u64>,
    /// Whether its own rule files say something else than that version.
    pub rule_files_differ: bool,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It was heard within its takeover time.
    Alive,
    /// It is alive, and is to own nothing while another node can.
    Draining,
    /// It was not.
    Silent,
}

impl NodeState {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Silent => "silent",
        }
    }
}

/// A shard of the cluster's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardView {
    pub shard: u16,
    /// Which of several engines keeps its log, counted from 1 in the order of `store.log.engines`;
    /// none where there is one.
    pub engine: Option<u16>,
    /// The living node that owns it; none where nobody does just now.
    pub owner: Option<Name>,
    /// How many times it has been taken over, the first time included.
    pub epoch: u64,
    /// How many records its log has had, as the owner said last.
    pub place: u64,
    /// The living nodes that follow it.
    pub followers: Vec<FollowerView>,
}

/// A node that follows a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FollowerView {
    pub name: Name,
    /// Whether it has everything, and could take over.
    pub complete: bool,
    /// How many records it had not applied yet, as both said last.
    pub behind: u64,
}

/// What one of the nodes knows of all of them.
#[derive(Clone, Debug)]
pub struct Nodes(pub Arc<Node>);

impl Nodes {
    /// All nodes, this one included, by their names.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeView> {
        let mut nodes = self.views();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes
    }

    fn views(&self) -> Vec<NodeView> {
        let own = NodeView::new(
            self.0.identity().node.clone(),
            &self.0.pulse(),
            Duration::ZERO,
        );
        let own = NodeView {
            answers: true,
            ..own
        };
        let others = self.0.members();
        let others = others
            .into_iter()
            .map(|other| NodeView::new(other.node, &other.pulse, other.heard.elapsed()));
        others.chain([own]).collect()
    }

    /// All shards.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardView> {
        let (living, engines) = (self.living(), self.0.echoes().len());
        (0..self.0.shards())
            .map(|shard| ShardView::new(shard, engines, &living))
            .collect()
    }

    /// The name of this node.
    #[must_use]
    pub fn own_name(&self) -> Name {
        self.0.identity().node.clone()
    }

    /// Changes what this node says of the rules.
    pub fn say_of_rules(&self, change: impl FnOnce(&mut RulesPulse)) {
        self.0.say_of_rules(change);
    }

    /// What living nodes say, this one included, by their names.
    #[must_use]
    pub fn living(&self) -> Vec<(Name, Pulse)> {
        let others = self.0.members().into_iter();
        let others = others
            .filter(|other| state(&other.pulse, other.heard.elapsed()) != NodeState::Silent)
            .map(|other| (other.node, other.pulse));
        let mut living: Vec<_> = others.chain([(self.own_name(), self.0.pulse())]).collect();
        living.sort_by(|(a, _), (b, _)| a.cmp(b));
        living
    }

    /// The last version of the rules that each living node has prepared.
    #[must_use]
    pub fn prepared(&self) -> Vec<u64> {
        let living = self.living().into_iter();
        living.map(|(_, pulse)| pulse.rules.prepared).collect()
    }

    /// What the owner of the first shard says of the versions of the rules that it keeps; none where
    /// nobody is known to own it.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        let first = Shard(0);
        let living = self.living().into_iter().map(|(_, pulse)| pulse);
        let owners = living.filter(|pulse| pulse.of(first).role == Role::Owner);
        let owner = owners.max_by_key(|pulse| pulse.of(first).epoch)?;
        Some(owner.rules.revision)
    }

    /// Has the node that answers own nothing while another one can, or ends that.
    #[must_use]
    pub fn drain(&self, is_draining: bool) -> NodeView {
        self.0.drain(is_draining);
        tracing::info!(is_draining, "asked to drain this node, or to stop that");
        let mut views = self.views();
        // Its own is the last.
        views.swap_remove(views.len() - 1)
    }
}

fn state(pulse: &Pulse, silence: Duration) -> NodeState {
    match silence < Duration::from_millis(pulse.takeover_ms) {
        false => NodeState::Silent,
        true if pulse.draining => NodeState::Draining,
        true => NodeState::Alive,
    }
}

impl NodeView {
    fn new(name: Name, pulse: &Pulse, silence: Duration) -> Self {
        let state = state(pulse, silence);
        // What a silent one said last, others may own by now.
        let is_heard = state != NodeState::Silent;
        let in_role = |role| {
            let shards = (0..).zip(&pulse.shards);
            let shards = shards.filter(|(_, shard)| is_heard && shard.role == role);
            shards.map(|(number, _)| number).collect()
        };
        Self {
            name,
            answers: false,
            state,
            heard_seconds_ago: silence.as_secs_f64(),
            address: pulse.address.clone(),
            version: pulse.version.clone(),
            owns: in_role(Role::Owner),
            spare_of: in_role(Role::Spare),
            filling: in_role(Role::Filling),
            rules: Some(pulse.rules.in_force).filter(|number| *number > 0),
            rule_files_differ: pulse.rules.differs,
        }
    }
}

impl ShardView {
    fn new(number: u16, engines: usize, living: &[(Name, Pulse)]) -> Self {
        let engines = u16::try_from(engines).ok().filter(|engines| *engines > 1);
        let shard = Shard(number);
        let says = living.iter().map(|(node, pulse)| (node, pulse.of(shard)));
        // One that has not heard yet that it was followed may say that it owns it, too.
        let owner = says
            .clone()
            .filter(|(_, says)| says.role == Role::Owner)
            .max_by_key(|(_, says)| says.epoch);
        let place = says.clone().map(|(_, says)| says.place).max().unwrap_or(0);
        let place = owner.map_or(place, |(_, says)| says.place);
        let followers = says.clone().filter(|(node, says)| {
            !matches!(says.role, Role::Owner | Role::Idle)
                && owner.is_none_or(|(owner, _)| owner != *node)
        });
        Self {
            shard: number,
            engine: engines.map(|engines| number % engines + 1),
            owner: owner.map(|(node, _)| node.clone()),
            epoch: says.clone().map(|(_, says)| says.epoch).max().unwrap_or(0),
            place,
            followers: followers
                .map(|(node, says)| FollowerView {
                    name: node.clone(),
                    complete: says.role == Role::Spare,
                    behind: place.saturating_sub(says.place),
                })
                .collect(),
        }
    }
}

/// A metric of each shard: its name, what it is, and its value.
type Column<'a> = (&'a str, &'a str, &'a dyn Fn(&ShardView) -> i64);

/// How many nodes there are in each state, and how each shard stands.
impl Collector for Nodes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (nodes, shards) = (self.nodes(), self.shards());
        let mut states = BTreeMap::from([("alive", 0), ("draining", 0), ("silent", 0)]);
        for node in &nodes {
            *states.entry(node.state.as_str()).or_default() += 1;
        }
        let mut family = encoder.encode_descriptor(
            "pointsman_cluster_nodes",
            "Nodes of the cluster",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in states {
            let gauge = ConstGauge::<i64>::new(count);
            gauge.encode(family.encode_family(&[("state", state)])?)?;
        }
        let own = nodes.iter().find(|node| node.answers);
        encode_rules(own, &mut encoder)?;
        encode_engines(&self.0.echoes(), &mut encoder)?;
        let is_owned = |shard: u16| own.is_some_and(|own| own.owns.contains(&shard));
        let spares = |shard: &ShardView| shard.followers.iter().filter(|one| one.complete).count();
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let columns: [Column<'_>; 4] = [
            (
                "owned",
                "1 where this node owns the shard, else 0",
                &|shard| i64::from(is_owned(shard.shard)),
            ),
            (
                "has_owner",
                "1 where a living node owns the shard, else 0",
                &|shard| i64::from(shard.owner.is_some()),
            ),
            (
                "spares",
                "Living nodes that could take the shard over",
                &|shard| number(spares(shard)),
            ),
            (
                "epoch",
                "How many times the shard has been taken over",
                &|shard| i64::try_from(shard.epoch).unwrap_or(i64::MAX),
            ),
        ];
        for (name, help, of) in columns {
            let name = format!("pointsman_cluster_shard_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for shard in &shards {
                let label = shard.shard.to_string();
                let gauge = ConstGauge::new(of(shard));
                gauge.encode(family.encode_family(&[("shard", label.as_str())])?)?;
            }
        }
        Ok(())
    }
}

/// Which rules this node works with.
fn encode_rules(own: Option<&NodeView>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let rules: [(&str, &str, Option<u64>); 2] = [
        (
            "rules_version",
            "The version of the rules that this node works with, 0 before the first",
            own.and_then(|own| own.rules),
        ),
        (
            "rule_files_differ",
            "1 where this node's rule files say something else than that version, else 0",
            own.map(|own| u64::from(own.rule_files_differ)),
        ),
    ];
    for (name, help, value) in rules {
        let name = format!("pointsman_cluster_{name}");
        let value = i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX);
        let gauge = ConstGauge::new(value);
        gauge.encode(encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?)?;
    }
    Ok(())
}

/// How well this node is in touch with each engine of the log.
fn encode_engines(echoes: &[Option<Duration>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "pointsman_cluster_engine_heard_seconds",
        "How long ago this node heard its own sign of life through the engine",
        None,
        MetricType::Gauge,
    )?;
    for (number, echo) in (1..).zip(echoes) {
        let (engine, heard) = (
            u64::to_string(&number),
            echo.map_or(f64::INFINITY, |echo| echo.as_secs_f64()),
        );
        let gauge = ConstGauge::<f64>::new(heard);
        gauge.encode(family.encode_family(&[("engine", engine.as_str())])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pointsman_cluster::ShardPulse;

    use super::*;

    fn says(owner: bool, epoch: u64, place: u64) -> Pulse {
        let role = if owner { Role::Owner } else { Role::Spare };
        Pulse {
            incarnation: 1,
            number: 1,
            takeover_ms: 10_000,
            address: "127.0.0.1:8081".to_owned(),
            version: "1".to_owned(),
            format: Default::default(),
            draining: false,
            shards: vec![ShardPulse { role, epoch, place }],
            rules: Default::default(),
            shares: None,
            waits: Vec::new(),
        }
    }

    fn shard(of: &[(&str, Pulse)]) -> ShardView {
        let of = of
            .iter()
            .map(|(node, pulse)| (Name::new(node).unwrap(), pulse.clone()));
        ShardView::new(0, 1, &of.collect::<Vec<_>>())
    }

    #[test]
    fn of_two_that_say_that_they_own_a_shard_the_later_one_does() {
        let view = shard(&[
            ("a", says(true, 3, 90)),
            ("b", says(true, 4, 95)),
            ("c", says(false, 4, 93)),
        ]);
        assert_eq!(view.owner.as_ref().map(Name::as_str), Some("b"));
        assert_eq!((view.epoch, view.place), (4, 95));
        let followers = view.followers.iter();
        let followers: Vec<_> = followers
            .map(|one| (one.name.as_str(), one.behind))
            .collect();
        assert_eq!(followers, [("c", 2)]);
    }

    #[test]
    fn of_several_engines_each_keeps_a_shard_by_turns() {
        let engines = |number| {
            let engines: Vec<_> = (0..5)
                .map(|shard| ShardView::new(shard, number, &[]).engine)
                .collect();
            engines
        };
        assert_eq!(engines(1), [None; 5]);
        assert_eq!(engines(3), [1, 2, 3, 1, 2].map(Some));
    }

    #[test]
    fn a_shard_without_an_owner_is_as_long_as_anybody_knows() {
        let view = shard(&[("a", says(false, 3, 90)), ("b", says(false, 3, 80))]);
        assert_eq!((view.owner, view.place), (None, 90));
        assert_eq!(view.followers[1].behind, 10);
    }

    #[test]
    fn a_node_is_silent_past_its_takeover_time() {
        let name = || Name::new("a").unwrap();
        let after = |seconds| {
            let draining = Pulse {
                draining: true,
                ..says(true, 1, 1)
            };
            let view = NodeView::new(name(), &draining, Duration::from_secs(seconds));
            (view.state, view.owns.len())
        };
        assert_eq!(
            (after(9), after(10)),
            ((NodeState::Draining, 1), (NodeState::Silent, 0))
        );
        let alive = NodeView::new(name(), &says(true, 1, 1), Duration::ZERO);
        assert_eq!((alive.state, alive.owns), (NodeState::Alive, vec![0]));
    }
}
