//! Keeping to what other nodes leave of the targets that all of them use.

use foldhash::HashMap;
use pointsman_schemas::Timestamp;
use tokio::time::Instant;

use super::Scheduler;
use crate::dispatcher::share::{TargetDemand, TargetShare};

impl Scheduler {
    /// Other nodes use the targets too.
    pub(in crate::dispatcher) fn share_targets(&mut self, now: Instant) {
        self.shares_targets = true;
        for target in self.targets.iter_mut().flatten() {
            target.begin_to_share(now);
        }
    }

    /// Puts shares in force. Returns what this node could use of each target that it could use.
    pub(in crate::dispatcher) fn share(
        &mut self,
        shares: Vec<TargetShare>,
        now: Instant,
        time: Timestamp,
    ) -> Vec<TargetDemand> {
        let by_target = shares
            .iter()
            .map(|share| ((&share.tenant, &share.name), share));
        let by_target: HashMap<_, _> = by_target.collect();
        let mut changed = Vec::new();
        let mut demands = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            let Some(target) = target else { continue };
            if let Some(share) = by_target.get(&(&target.tenant, &target.name)) {
                target.share(share, now, time);
                changed.push(index);
            }
            demands.extend(target.demand(now));
        }
        changed.into_iter().for_each(|index| self.wake(index));
        demands
    }
}
