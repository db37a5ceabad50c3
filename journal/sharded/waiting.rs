//! Bounds on what waits, over all shards: each shard counts what waits in the others, as it was told
//! last.

use std::collections::HashMap;

use super::Sharded;
use crate::{BacklogQuota, Bounded, Numbered, ShardNumber};

/// What has a bound on what waits, with the bound.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    subscriptions: Vec<(Bounded, u64)>,
    quotas: Vec<(Bounded, u64)>,
}

/// What waits in one shard of what has a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What has it.
    pub of: Bounded,
    /// How many deliveries wait.
    pub count: u64,
    /// How many may, in all shards together.
    pub max: u64,
}

impl Bounds {
    pub(super) fn set_subscriptions(&mut self, subscriptions: &[Numbered]) {
        let bound = |one: &Numbered| {
            let backlog = one.subscription.backlog?;
            Some((Bounded::Subscription(one.number), backlog.max))
        };
        self.subscriptions = subscriptions.iter().filter_map(bound).collect();
    }

    pub(super) fn set_quotas(&mut self, quotas: &[BacklogQuota]) {
        let bound = |quota: &BacklogQuota| {
            let owner = Bounded::Quota(quota.owner.clone());
            (owner, quota.backlog.max)
        };
        self.quotas = quotas.iter().map(bound).collect();
    }
}

impl Sharded {
    /// Returns what has a bound on what waits.
    #[must_use]
    pub fn bounded(&self) -> Vec<Bounded> {
        let bounds = self.bounds.read();
        let all = bounds.subscriptions.iter().chain(&bounds.quotas);
        all.map(|(of, _)| of.clone()).collect()
    }

    /// Returns what waits in each shard that is on this machine, of what has a bound and waits there;
    /// no shards where nothing has one. It answers from memory.
    #[must_use]
    pub fn waiting(&self) -> Vec<(ShardNumber, Vec<Waiting>)> {
        let bounds = self.bounds.read();
        let bounds = bounds.subscriptions.iter().chain(&bounds.quotas);
        let (bounded, max): (Vec<Bounded>, Vec<u64>) = bounds.cloned().unzip();
        if bounded.is_empty() {
            return Vec::new();
        }
        let here = self.shards.0.iter().filter(|(_, shard)| shard.is_here());
        let shards = here.map(|(number, shard)| {
            let counts = shard.waiting(&bounded).into_iter();
            let waiting = |((of, count), max): ((&Bounded, u64), &u64)| {
                (count > 0).then(|| Waiting {
                    of: of.clone(),
                    count,
                    max: *max,
                })
            };
            let waiting = bounded.iter().zip(counts).zip(&max).filter_map(waiting);
            (*number, waiting.collect())
        });
        shards.collect()
    }

    /// Has each shard that is on this machine count what waits in all others: `here` in those that
    /// are on this machine, and `elsewhere` on others.
    pub fn count_elsewhere(
        &self,
        here: &[(ShardNumber, Vec<Waiting>)],
        elsewhere: &HashMap<Bounded, u64>,
    ) {
        let mut all = elsewhere.clone();
        for one in here.iter().flat_map(|(_, waiting)| waiting) {
            *all.entry(one.of.clone()).or_default() += one.count;
        }
        for (number, own) in here {
            let Some(shard) = self.shards.of(number.before_first()) else {
                continue;
            };
            let mut others = all.clone();
            for one in own {
                others
                    .entry(one.of.clone())
                    .and_modify(|all| *all -= one.count);
            }
            others.retain(|_, count| *count > 0);
            shard.set_elsewhere(others.into_iter().collect());
        }
    }
}
