//! Has the dispatcher keep to this node's shares of what targets can take, and tells the other nodes
//! what it could use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_cluster::{Demand, Limit, Node};
use pointsman_log::Shard;
use pointsman_schemas::Name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio_util::sync::CancellationToken;

use crate::dispatcher::{Handle, Plan, TargetDemand, TargetShare};

/// In which parts a rate is divided: of one attempt in its period, too, each node may have some.
const THOUSANDTHS: u64 = 1_000;

/// What keys are made of: no target's limits have the same, and the beats of nodes are short.
const KEY_BITS: u32 = 48;

/// What is limited of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    AtOnce,
    Rate,
    /// Not a limit: whether it works.
    Circuit,
}

/// A target, with what nodes divide of it.
type Limited = (What, Name, Name);

/// What nodes divide of the targets of a plan.
#[derive(Debug, Default)]
pub(in crate::app) struct Limits {
    limits: Vec<Limit>,
    by_key: BTreeMap<u64, Limited>,
}

/// The shares of one node in the targets of its plan. Clones are the same.
#[derive(Clone, Debug)]
pub(in crate::app) struct TargetShares {
    node: Arc<Node>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    by_key: BTreeMap<u64, Limited>,
    /// What the dispatcher was told to be open elsewhere.
    open: BTreeSet<u64>,
    /// What it was told of each limit.
    amounts: BTreeMap<u64, u64>,
}

impl TargetShares {
    /// Of a node, without targets.
    pub(in crate::app) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            state: Arc::default(),
        }
    }

    /// What nodes divide of the targets of a plan.
    pub(in crate::app) fn limits(&self, plan: &Plan) -> Limits {
        let mut all = Limits::default();
        for target in &plan.targets {
            let mut limit = |what, most, one| {
                let key = key(what, &target.tenant, &target.name);
                let limited = (what, target.tenant.clone(), target.name.clone());
                all.by_key.insert(key, limited);
                let home = Shard(u16::try_from(key % u64::from(self.node.shards())).unwrap_or(0));
                let limit = Limit {
                    key,
                    home,
                    most,
                    one,
                };
                if what != What::Circuit {
                    all.limits.push(limit);
                }
            };
            let most = u64::try_from(target.concurrency_max.get()).unwrap_or(u64::MAX);
            limit(What::AtOnce, most, 1);
            limit(What::Circuit, 1, 1);
            if let Some(rate) = target.rate {
                let most = u64::from(rate.count.get()) * THOUSANDTHS;
                limit(What::Rate, most, THOUSANDTHS);
            }
        }
        all
    }

    /// Divides these from now on. The dispatcher has their targets, and is told of all of them anew.
    pub(in crate::app) fn put_in_force(&self, limits: Limits) {
        *self.state.lock() = State {
            by_key: limits.by_key,
            ..State::default()
        };
        self.node.share(limits.limits);
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
    fn changed(&self) -> Vec<TargetShare> {
        let mut state = self.state.lock();
        let State {
            by_key,
            open: told,
            amounts,
        } = &mut *state;
        let mut changed: BTreeMap<(Name, Name), TargetShare> = BTreeMap::new();
        let mut change = |limited: &Limited, change: &dyn Fn(What, &mut TargetShare)| {
            let (what, tenant, name) = limited;
            let share = changed.entry((tenant.clone(), name.clone()));
            let share = share.or_insert_with(|| TargetShare {
                tenant: tenant.clone(),
                name: name.clone(),
                concurrency: None,
                thousandths: None,
                is_open_elsewhere: None,
            });
            change(*what, share);
        };
        for share in self.node.shares() {
            let Some(limited) = by_key.get(&share.key) else {
                continue;
            };
            amounts.insert(share.key, share.amount);
            change(limited, &|what, of| match what {
                What::AtOnce => {
                    of.concurrency = Some(usize::try_from(share.amount).unwrap_or(usize::MAX));
                }
                What::Rate => of.thousandths = Some(share.amount),
                What::Circuit => {}
            });
        }
        let open = self.node.open_elsewhere();
        for key in open.symmetric_difference(told) {
            if let Some(limited) = by_key.get(key) {
                change(limited, &|_, of| {
                    of.is_open_elsewhere = Some(open.contains(key))
                });
            }
        }
        *told = open;
        changed.into_values().collect()
    }

    /// Tells the other nodes what this one could use.
    fn demand(&self, demands: &[TargetDemand]) {
        let mut all = Vec::new();
        let mut open = BTreeSet::new();
        for demand in demands {
            let key = |what| key(what, &demand.tenant, &demand.name);
            let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
            all.push(Demand {
                key: key(What::AtOnce),
                wants: number(demand.wants),
                in_use: number(demand.in_use),
            });
            // A target without a rate has no such limit.
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

/// This node's share in each target that it uses.
impl Collector for TargetShares {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.state.lock();
        let mut family = encoder.encode_descriptor(
            "pointsman_cluster_target_share",
            "What this node may use of a target's concurrency, or of its rate",
            None,
            MetricType::Gauge,
        )?;
        for (key, (what, tenant, name)) in &state.by_key {
            let Some(amount) = state.amounts.get(key) else {
                continue;
            };
            let (of, one) = match what {
                What::AtOnce => ("concurrency", 1.0),
                What::Rate => ("rate", THOUSANDTHS as f64),
                What::Circuit => continue,
            };
            let gauge = ConstGauge::new(*amount as f64 / one);
            let labels = [
                ("tenant", tenant.as_str()),
                ("target", name.as_str()),
                ("of", of),
            ];
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The key of what nodes divide of a target: the same on all nodes, and in all versions.
fn key(what: What, tenant: &Name, name: &Name) -> u64 {
    let what = match what {
        What::AtOnce => "at-once",
        What::Rate => "rate",
        What::Circuit => "circuit",
    };
    // A name has no spaces.
    let text = format!("{what} {tenant} {name}");
    super::stable_hash(&text) >> (u64::BITS - KEY_BITS)
}
