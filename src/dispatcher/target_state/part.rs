//! This node's part of a target that other nodes of a cluster use too.

use pointsman_schemas::Timestamp;
use tokio::time::Instant;

use super::TargetState;
use crate::dispatcher::circuit::Circuit;
use crate::dispatcher::part::{Part, with_a_quarter};
use crate::dispatcher::share::{LimitDemand, LimitShare, Limited};
use crate::dispatcher::status::CircuitStatus;

impl TargetState {
    /// Other nodes use it too. Until this one's share is known it is the least that there is.
    pub(in crate::dispatcher) fn begin_to_share(&mut self, now: Instant) {
        if self.part.is_none() {
            self.part = Some(Part::new(now));
            self.keep_to_part(now);
        }
    }

    /// Puts what has changed of this node's share in force.
    pub(in crate::dispatcher) fn share(
        &mut self,
        share: &LimitShare,
        now: Instant,
        time: Timestamp,
    ) {
        let Some(part) = &mut self.part else { return };
        part.set(share);
        let is_open = share.is_open_elsewhere.unwrap_or(self.is_open_elsewhere);
        let was_open = std::mem::replace(&mut self.is_open_elsewhere, is_open);
        if is_open != was_open {
            self.open_elsewhere(is_open, time);
        }
        self.keep_to_part(now);
    }

    fn keep_to_part(&mut self, now: Instant) {
        let Some(part) = &self.part else { return };
        part.slow(&mut self.bucket, self.rate, now);
        let most = self.concurrency_max.get();
        let at_once = part.bound(most);
        self.gauge.set_share((at_once < most).then_some(at_once));
        self.show();
    }

    /// Another node leaves the target alone and sees whether it is back, or that is over. What this
    /// one knew of it is out of date then.
    fn open_elsewhere(&mut self, is_open: bool, time: Timestamp) {
        let (target, tenant) = (self.name.as_str(), self.tenant.as_str());
        if is_open {
            tracing::info!(
                target = target,
                tenant,
                "another node found that the target does not work, and sees whether it is back"
            );
            self.gauge.set_circuit(CircuitStatus::Open, time);
        } else {
            self.circuit = Circuit::default();
            self.gauge.set_circuit(CircuitStatus::Closed, time);
        }
    }

    /// What this node could use of the target; nothing where that is nothing.
    pub(in crate::dispatcher) fn demand(&mut self, now: Instant) -> Option<LimitDemand> {
        let (limit, in_use, waits) = (self.limit(), self.in_use(), !self.turns.is_empty());
        let part = self.part.as_mut()?;
        let wants = if waits && in_use >= limit {
            with_a_quarter(self.limiter.usual_limit())
        } else if waits || in_use > 0 {
            with_a_quarter(in_use)
        } else {
            0
        };
        let thousandths = part.demand(self.bucket.as_ref(), self.rate, waits, now);
        let is_open = !self.is_open_elsewhere && self.circuit.is_seen_to(now);
        (wants > 0 || thousandths > 0 || is_open).then(|| LimitDemand {
            of: Limited::Target {
                tenant: self.tenant.clone(),
                name: self.name.clone(),
            },
            in_use,
            wants,
            thousandths,
            is_open,
        })
    }
}
