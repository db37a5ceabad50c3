//! Has the dispatcher keep to this node's shares of what targets can take and quotas allow, and tells
//! the other nodes what it could use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_cluster::{Demand, Limit, Node};
use pointsman_log::Shard;
use pointsman_schemas::{Name, Rate};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio_util::sync::CancellationToken;

use crate::dispatcher::{Handle, LimitDemand, LimitShare, Limited, Plan};
use crate::telemetry::QuotaUse;

/// In which parts a rate is divided: of one attempt in its period, too, each node may have some.
const THOUSANDTHS: u64 = 1_000;

/// What nodes divide of a target or a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    AtOnce,
    Rate,
    /// Not a limit: whether it works.
    Circuit,
}

/// What nodes divide.
#[derive(Clone, Debug)]
struct Divided {
    what: What,
    of: Limited,
    /// What all of them may use together.
    most: u64,
}

/// What nodes divide of the targets and quotas of a plan, by the keys of limits.
#[derive(Debug, Default)]
pub(in crate::app) struct Limits(BTreeMap<u64, Divided>);

/// The shares of one node in the targets and quotas of its plan. Clones are the same.
#[derive(Clone, Debug)]
pub(in crate::app) struct Shares {
    node: Arc<Node>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    by_key: BTreeMap<u64, Divided>,
    /// What the dispatcher was told to be open elsewhere.
    open: BTreeSet<u64>,
    /// What it was told of each limit.
    amounts: BTreeMap<u64, u64>,
}

impl Limits {
    fn insert(&mut self, what: What, of: Limited, most: u64) {
        let divided = Divided { what, of, most };
        self.0.insert(key(what, &divided.of), divided);
    }

    fn insert_rate(&mut self, of: Limited, rate: Option<Rate>) {
        if let Some(rate) = rate {
            let most = u64::from(rate.count.get()) * THOUSANDTHS;
            self.insert(What::Rate, of, most);
        }
    }
}

impl Shares {
    /// Of a node, without a plan.
    pub(in crate::app) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            state: Arc::default(),
        }
    }

    /// What nodes divide of a plan.
    pub(in crate::app) fn limits(plan: &Plan) -> Limits {
        let mut all = Limits::default();
        for target in &plan.targets {
            let of = Limited::Target {
                tenant: target.tenant.clone(),
                name: target.name.clone(),
            };
            all.insert(
                What::AtOnce,
                of.clone(),
                number(target.concurrency_max.get()),
            );
            all.insert(What::Circuit, of.clone(), 1);
            all.insert_rate(of, target.rate);
        }
        for quota in &plan.quotas {
            let (tenant, rule) = quota.key();
            let of = Limited::Quota { tenant, rule };
            if let Some(in_flight) = quota.in_flight {
                all.insert(What::AtOnce, of.clone(), number(in_flight));
            }
            all.insert_rate(of, quota.rate);
        }
        all
    }

    /// Divides these from now on. The dispatcher has their plan, and is told of all of them anew.
    pub(in crate::app) fn put_in_force(&self, limits: Limits) {
        let shards = u64::from(self.node.shards());
        let limit = |(key, divided): (&u64, &Divided)| Limit {
            key: *key,
            home: Shard(u16::try_from(key % shards).unwrap_or(0)),
            most: divided.most,
            one: divided.what.one(),
        };
        let is_limit = |(_, divided): &(&u64, &Divided)| divided.what != What::Circuit;
        let all = limits.0.iter().filter(is_limit).map(limit).collect();
        *self.state.lock() = State {
            by_key: limits.0,
            ..State::default()
        };
        self.node.share(all);
    }

    /// Adds this node's shares to quotas, where they are not the whole.
    pub(in crate::app) fn show(&self, quotas: &mut [QuotaUse]) {
        let state = self.state.lock();
        for quota in quotas {
            let (tenant, rule) = (quota.tenant.clone(), quota.rule.clone());
            let of = Limited::Quota { tenant, rule };
            quota.share = state.part(What::AtOnce, &of);
            let per = quota.rate.as_ref().and_then(|rate| rate.split_once('/'));
            quota.rate_share = per.and_then(|(_, per)| {
                let part = state.part(What::Rate, &of)? as f64 / What::Rate.one() as f64;
                Some(format!("{part}/{per}"))
            });
        }
    }

    /// Has a dispatcher keep to the shares until it has stopped, or somebody stops this.
    pub(in crate::app) async fn keep(self, handle: Handle, stop: CancellationToken) {
        let keeping = async {
            while let Ok(demands) = handle.share(self.changed()).await {
                self.demand(&demands);
                self.node.shared_anew().await;
            }
        };
        stop.run_until_cancelled(keeping).await;
        // Others may have what this node has had.
        self.node.demand(&[], BTreeSet::new());
    }

    /// What has changed of shares since the dispatcher was told last.
    fn changed(&self) -> Vec<LimitShare> {
        let mut state = self.state.lock();
        let State {
            by_key,
            open: told,
            amounts,
        } = &mut *state;
        let mut changed: BTreeMap<Limited, LimitShare> = BTreeMap::new();
        let mut change = |divided: &Divided, change: &dyn Fn(What, &mut LimitShare)| {
            let share = changed.entry(divided.of.clone());
            let share = share.or_insert_with(|| LimitShare {
                of: divided.of.clone(),
                at_once: None,
                thousandths: None,
                is_open_elsewhere: None,
            });
            change(divided.what, share);
        };
        for share in self.node.shares() {
            let Some(divided) = by_key.get(&share.key) else {
                continue;
            };
            amounts.insert(share.key, share.amount);
            change(divided, &|what, of| match what {
                What::AtOnce => {
                    of.at_once = Some(usize::try_from(share.amount).unwrap_or(usize::MAX));
                }
                What::Rate => of.thousandths = Some(share.amount),
                What::Circuit => {}
            });
        }
        let open = self.node.open_elsewhere();
        for key in open.symmetric_difference(told) {
            if let Some(divided) = by_key.get(key) {
                change(divided, &|_, of| {
                    of.is_open_elsewhere = Some(open.contains(key))
                });
            }
        }
        *told = open;
        changed.into_values().collect()
    }

    /// Tells the other nodes what this one could use.
    fn demand(&self, demands: &[LimitDemand]) {
        let mut all = Vec::new();
        let mut open = BTreeSet::new();
        for demand in demands {
            let key = |what| key(what, &demand.of);
            // What has no such limit is not divided.
            all.push(Demand {
                key: key(What::AtOnce),
                wants: number(demand.wants),
                in_use: number(demand.in_use),
            });
            all.push(Demand {
                key: key(What::Rate),
                wants: demand.thousandths,
                in_use: 0,
            });
            if demand.is_open {
                open.insert(key(What::Circuit));
            }
        }
        self.node.demand(&all, open);
    }
}

impl State {
    /// What this node may use, where that is not the whole.
    fn part(&self, what: What, of: &Limited) -> Option<u64> {
        let key = key(what, of);
        let (divided, amount) = (self.by_key.get(&key)?, self.amounts.get(&key)?);
        (*amount < divided.most).then_some(*amount)
    }
}

/// This node's share in each target and quota.
impl Collector for Shares {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.state.lock();
        encode_shares(
            &mut encoder,
            &state,
            "pointsman_cluster_target_share",
            "What this node may use of a target's concurrency, or of its rate",
            |divided| match &divided.of {
                Limited::Target { tenant, name } => Some([
                    ("tenant", tenant.as_str()),
                    ("target", name.as_str()),
                    ("of", divided.what.shown("concurrency")?),
                ]),
                Limited::Quota { .. } => None,
            },
        )?;
        encode_shares(
            &mut encoder,
            &state,
            "pointsman_cluster_quota_share",
            "What this node may use of what a quota allows at once, or of its rate",
            |divided| match &divided.of {
                Limited::Quota { tenant, rule } => Some([
                    ("tenant", tenant.as_str()),
                    ("rule", rule.as_ref().map_or("", Name::as_str)),
                    ("of", divided.what.shown("in_flight")?),
                ]),
                Limited::Target { .. } => None,
            },
        )
    }
}

/// Writes a family of those shares that have labels in it.
fn encode_shares(
    encoder: &mut DescriptorEncoder<'_>,
    state: &State,
    name: &str,
    help: &str,
    labels: impl Fn(&Divided) -> Option<[(&'static str, &str); 3]>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (key, divided) in &state.by_key {
        if let (Some(amount), Some(labels)) = (state.amounts.get(key), labels(divided)) {
            let gauge = ConstGauge::new(*amount as f64 / divided.what.one() as f64);
            gauge.encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

impl What {
    /// How much a single one is.
    fn one(self) -> u64 {
        match self {
            Self::Rate => THOUSANDTHS,
            Self::AtOnce | Self::Circuit => 1,
        }
    }

    /// What a share of it is said to be of, where it is a limit; of attempts at once that is what
    /// they are called in rule files.
    fn shown(self, at_once: &'static str) -> Option<&'static str> {
        match self {
            Self::AtOnce => Some(at_once),
            Self::Rate => Some("rate"),
            Self::Circuit => None,
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The key of what nodes divide: the same on all nodes, and in all versions.
fn key(what: What, of: &Limited) -> u64 {
    let what = match what {
        What::AtOnce => "at-once",
        What::Rate => "rate",
        What::Circuit => "circuit",
    };
    // A name has no spaces.
    let text = match of {
        Limited::Target { tenant, name } => format!("{what} {tenant} {name}"),
        Limited::Quota { tenant, rule: None } => format!("{what} {tenant}"),
        Limited::Quota {
            tenant,
            rule: Some(rule),
        } => format!("{what} {tenant} rule {rule}"),
    };
    super::short_hash(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_keys_of_their_own_that_never_change() {
        let name = |name| Name::new(name).unwrap();
        let target = |tenant, target| Limited::Target {
            tenant: name(tenant),
            name: name(target),
        };
        let quota = |tenant, rule: Option<_>| Limited::Quota {
            tenant: name(tenant),
            rule: rule.map(name),
        };
        let all = [
            target("a", "b"),
            target("a", "rule"),
            quota("a", None),
            quota("a", Some("b")),
            quota("b", Some("b")),
        ];
        let whats = [What::AtOnce, What::Rate, What::Circuit];
        let keys = all.iter().flat_map(|of| whats.map(|what| key(what, of)));
        assert_eq!(keys.collect::<BTreeSet<_>>().len(), all.len() * whats.len());
        // Nodes of two versions must mean the same by them.
        let keys = [0, 2, 3].map(|place| key(What::Rate, &all[place]));
        assert_eq!(
            keys,
            [47_516_711_876_260, 202_296_092_736_148, 229_908_387_727_238]
        );
    }
}
