//! This node's part of a target that other nodes of a cluster use too.

use std::time::Duration;

use pointsman_schemas::Timestamp;
use tokio::time::Instant;

use super::TargetState;
use crate::dispatcher::circuit::Circuit;
use crate::dispatcher::share::{TargetDemand, TargetShare};
use crate::dispatcher::status::CircuitStatus;

/// By when an attempt counts a third of what it did when it began, where it is counted how many
/// begin.
const REMEMBERED: Duration = Duration::from_secs(1);

/// A bucket whose tokens lie so far apart is mostly empty where anything waits. One whose tokens lie
/// nearer to each other may be for a moment, and lacks nothing.
const FAR_APART: Duration = Duration::from_millis(500);

/// This node's part of a target's limits.
#[derive(Clone, Debug)]
pub(super) struct Part {
    concurrency: usize,
    /// Thousandths of the attempts that may begin in the period of its rate.
    thousandths: u64,
    is_open_elsewhere: bool,
    /// Attempts that have begun since it was looked at.
    taken: usize,
    looked: Instant,
    /// How many have begun in a second of late.
    recent: f64,
}

impl Part {
    /// How many attempts may be under way, of as many as the target can take.
    pub(super) fn bound(&self, limit: usize) -> usize {
        limit.min(self.concurrency)
    }

    pub(super) fn took(&mut self, count: usize) {
        self.taken += count;
    }

    pub(super) fn gave_back(&mut self, count: usize) {
        self.taken = self.taken.saturating_sub(count);
    }

    /// How many attempts begin in a second, as far as the last ones tell.
    fn recent(&mut self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.looked).as_secs_f64();
        self.looked = now;
        let remembered = REMEMBERED.as_secs_f64();
        let taken = std::mem::take(&mut self.taken) as f64;
        self.recent = self.recent * (-passed / remembered).exp() + taken / remembered;
        self.recent
    }
}

impl TargetState {
    /// Other nodes use it too. Until this one's share is known it is the least that there is.
    pub(in crate::dispatcher) fn begin_to_share(&mut self, now: Instant) {
        if self.part.is_some() {
            return;
        }
        self.part = Some(Part {
            concurrency: 1,
            thousandths: 1_000,
            is_open_elsewhere: false,
            taken: 0,
            looked: now,
            recent: 0.0,
        });
        self.keep_to_part(now);
    }

    pub(super) fn is_open_elsewhere(&self) -> bool {
        let part = self.part.as_ref();
        part.is_some_and(|part| part.is_open_elsewhere)
    }

    /// Puts what has changed of this node's share in force.
    pub(in crate::dispatcher) fn share(
        &mut self,
        share: &TargetShare,
        now: Instant,
        time: Timestamp,
    ) {
        let Some(part) = &mut self.part else { return };
        part.concurrency = share.concurrency.unwrap_or(part.concurrency).max(1);
        part.thousandths = share.thousandths.unwrap_or(part.thousandths).max(1);
        let is_open = share.is_open_elsewhere.unwrap_or(part.is_open_elsewhere);
        let was_open = std::mem::replace(&mut part.is_open_elsewhere, is_open);
        if is_open != was_open {
            self.open_elsewhere(is_open, time);
        }
        self.keep_to_part(now);
    }

    fn keep_to_part(&mut self, now: Instant) {
        let Some(part) = &self.part else { return };
        if let (Some(bucket), Some(rate)) = (&mut self.bucket, self.rate) {
            bucket.go_on_with(part.thousandths, rate.per, now);
        }
        let is_whole = part.concurrency >= self.concurrency_max.get();
        let shown = (!is_whole).then_some(part.concurrency);
        self.gauge.set_share(shown);
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
    pub(in crate::dispatcher) fn demand(&mut self, now: Instant) -> Option<TargetDemand> {
        let (limit, in_use, waits) = (self.limit(), self.in_use(), !self.turns.is_empty());
        let part = self.part.as_mut()?;
        let recent = part.recent(now);
        let wants = if waits && in_use >= limit {
            with_a_quarter(self.limiter.usual_limit())
        } else if waits || in_use > 0 {
            with_a_quarter(in_use)
        } else {
            0
        };
        let mut thousandths = 0;
        if let (Some(bucket), Some(rate)) = (&self.bucket, self.rate) {
            let used = whole(recent * rate.per.as_secs_f64() * 1_000.0);
            let is_dry = waits && bucket.available(now) == 0;
            let lacks = bucket.interval() >= FAR_APART || used >= part.thousandths / 2;
            thousandths = match is_dry && lacks {
                true => u64::from(rate.count.get()) * 1_000,
                false => used + used / 4,
            };
        }
        let is_open = !part.is_open_elsewhere && self.circuit.is_seen_to(now);
        (wants > 0 || thousandths > 0 || is_open).then(|| TargetDemand {
            tenant: self.tenant.clone(),
            name: self.name.clone(),
            in_use,
            wants,
            thousandths,
            is_open,
        })
    }
}

/// As many and some more, so that it is not asked for each one.
fn with_a_quarter(count: usize) -> usize {
    count + count / 4 + 1
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of attempts, which is neither negative nor large"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
