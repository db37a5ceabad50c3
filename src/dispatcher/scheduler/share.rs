//! Keeping to what other nodes leave of the limits that hold for all of them together.

use foldhash::HashMap;
use pointsman_schemas::Timestamp;
use tokio::time::Instant;

use super::Scheduler;
use crate::dispatcher::share::{LimitDemand, LimitShare, Limited};

impl Scheduler {
    /// Other nodes use the targets and quotas too.
    pub(in crate::dispatcher) fn share_limits(&mut self, now: Instant) {
        self.shares_limits = true;
        for target in self.targets.iter_mut().flatten() {
            target.begin_to_share(now);
        }
        self.quotas.begin_to_share(now);
    }

    /// Puts shares in force. Returns what this node could use of each target and quota that it could
    /// use.
    pub(in crate::dispatcher) fn share(
        &mut self,
        shares: &[LimitShare],
        now: Instant,
        time: Timestamp,
    ) -> Vec<LimitDemand> {
        let (changed, mut demands) = self.quotas.share(shares, now);
        changed.into_iter().for_each(|quota| self.call(quota, now));
        let shares = shares.iter().filter_map(|share| match &share.of {
            Limited::Target { tenant, name } => Some(((tenant, name), share)),
            Limited::Quota { .. } => None,
        });
        let shares: HashMap<_, _> = shares.collect();
        let mut changed = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            let Some(target) = target else { continue };
            if let Some(share) = shares.get(&(&target.tenant, &target.name)) {
                target.share(share, now, time);
                changed.push(index);
            }
            demands.extend(target.demand(now));
        }
        changed.into_iter().for_each(|index| self.wake(index));
        demands
    }
}
