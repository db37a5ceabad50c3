//! The state of one target at run time: how many attempts may begin now, and of which
//! subscriptions.

mod part;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, DeliveryId, Name, Rate, SubscriptionNumber, Timestamp};
use tokio::time::Instant;

use super::byte_budget::Pool;
use super::circuit::{Admission, Circuit, Health};
use super::fair::{DeficitRoundRobin, Turn};
use super::lane::Held;
use super::limit::Limiter;
use super::occupancy::{Claim, Occupancy, Slots};
use super::part::Part;
use super::plan::Target;
use super::rate::Bucket;
use super::stack::{Stack, stack};
use super::status::{CircuitStatus, TargetGauge};

/// A target with everything that was learned about it.
pub(super) struct TargetState {
    pub(super) tenant: Name,
    pub(super) name: Name,
    pub(super) stack: Stack,
    pub(super) turns: DeficitRoundRobin,
    occupancy: Occupancy,
    /// How many subscriptions the plan in force has for it.
    pub(super) subscriptions: usize,
    /// The bytes of its events in flight that are counted in its share.
    pub(super) bytes: usize,
    pub(super) gauge: Arc<TargetGauge>,
    /// False once the plan in force has no such target; it goes with its last attempt.
    pub(super) is_wanted: bool,
    /// Whether it is queued to be looked at.
    pub(super) is_awake: bool,
    /// When it will be looked at again at the latest.
    pub(super) wake_at: Option<Instant>,
    /// Counts the changes of its settings: an attempt that began under other settings says nothing
    /// about these.
    pub(super) epoch: u64,
    fingerprint: u64,
    /// What its settings say.
    concurrency_max: NonZeroUsize,
    rate: Option<Rate>,
    limiter: Limiter,
    circuit: Circuit,
    bucket: Option<Bucket>,
    /// What of its limits is this node's, where other nodes use it too.
    part: Option<Part>,
    /// Another node has found that it does not work, and sees whether it is back.
    is_open_elsewhere: bool,
    /// Attempts under way.
    under_way: usize,
    /// How many more deliveries those carry than one each.
    pub(super) more_deliveries: usize,
    /// Granted and not yet leased.
    granted: usize,
    /// Deliveries under way of subscriptions whose deliveries are counted apart.
    pub(super) apart: usize,
}

/// How many attempts a target may be given now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capacity {
    /// How many attempts may begin.
    pub(super) slots: usize,
    /// Whether the one that may is a probe.
    pub(super) is_probe: bool,
    /// When to ask again, where none may; none where that is when an attempt ends.
    pub(super) again_at: Option<Instant>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptResult<'m> {
    pub(super) delivery: DeliveryId,
    pub(super) started: Instant,
    pub(super) at: Instant,
    /// The class that counts: see [`class_in_force`](super::policy::class_in_force).
    pub(super) class: Class,
    pub(super) retry_after: Option<Duration>,
    /// What went wrong, in a line.
    pub(super) message: &'m str,
}

impl TargetState {
    pub(super) fn new(target: Target, now: Instant, time: Timestamp) -> Self {
        let gauge = TargetGauge::new(target.tenant.clone(), target.name.clone(), time);
        let target = Self {
            limiter: Limiter::new(target.concurrency_max, now),
            circuit: Circuit::default(),
            bucket: target.rate.map(|rate| Bucket::new(rate, now)),
            part: None,
            is_open_elsewhere: false,
            concurrency_max: target.concurrency_max,
            rate: target.rate,
            stack: stack(target.service),
            turns: DeficitRoundRobin::default(),
            occupancy: Occupancy::new(now),
            subscriptions: 0,
            bytes: 0,
            is_wanted: true,
            is_awake: false,
            wake_at: None,
            epoch: 0,
            fingerprint: target.fingerprint,
            under_way: 0,
            more_deliveries: 0,
            granted: 0,
            apart: 0,
            tenant: target.tenant,
            name: target.name,
            gauge,
        };
        target.show();
        target
    }

    /// Takes over a target from a new plan: its service in any case; what was learned is forgotten
    /// where its settings have changed.
    pub(super) fn renew(&mut self, target: Target, now: Instant, time: Timestamp) {
        self.is_wanted = true;
        if target.fingerprint == self.fingerprint {
            self.stack = stack(target.service);
            return;
        }
        let turns = std::mem::take(&mut self.turns);
        let occupancy = std::mem::replace(&mut self.occupancy, Occupancy::new(now));
        let Self {
            epoch,
            under_way,
            more_deliveries,
            granted,
            bytes,
            apart,
            ..
        } = *self;
        let fresh = Self::new(target, now, time);
        *self = Self {
            turns,
            occupancy,
            epoch: epoch + 1,
            under_way,
            more_deliveries,
            granted,
            bytes,
            apart,
            ..fresh
        };
        self.show();
    }

    /// How many attempts may be under way. Several subscriptions have two where they may at all,
    /// also while the limit is lowered to measure: one whose calls hang must not keep the others
    /// out.
    fn limit(&self) -> usize {
        let shared_min = if self.subscriptions > 1 { 2 } else { 1 };
        let limit = self.limiter.limit();
        let limit = limit.max(self.limiter.usual_limit().min(shared_min));
        self.part.as_ref().map_or(limit, |part| part.bound(limit))
    }

    pub(super) fn capacity(&self, now: Instant) -> Capacity {
        let free = self.limit().saturating_sub(self.in_use());
        if self.is_open_elsewhere {
            return Capacity::default();
        }
        if let Some(until) = self.limiter.held_until(now) {
            return Capacity {
                again_at: Some(until),
                ..Capacity::default()
            };
        }
        let (slots, is_probe) = match self.circuit.admits(now) {
            Admission::All => (free, false),
            Admission::One => (free.min(1), true),
            Admission::Nothing(again_at) => {
                return Capacity {
                    again_at,
                    ..Capacity::default()
                };
            }
        };
        let tokens = self
            .bucket
            .as_ref()
            .map_or(usize::MAX, |bucket| bucket.available(now));
        let again_at = self
            .bucket
            .as_ref()
            .filter(|_| tokens == 0)
            .map(|bucket| bucket.next_at(now));
        Capacity {
            slots: slots.min(tokens),
            is_probe,
            again_at,
        }
    }

    /// Grants slots among the subscriptions that wait for a turn; no one gets more than `most`
    /// says, and than it may hold by what it may claim.
    pub(super) fn grant_turns(
        &mut self,
        slots: usize,
        most: impl Fn(SubscriptionNumber) -> usize,
        claim: impl Fn(SubscriptionNumber) -> Claim,
        now: Instant,
    ) -> Vec<Turn> {
        let limit = self.limit();
        let occupied = Slots {
            limit,
            free: limit.saturating_sub(self.in_use()),
            is_shared: self.subscriptions > 1,
            others_wait: self.turns.has_several(),
        };
        let occupancy = &self.occupancy;
        self.turns.grant(slots, |number| {
            most(number).min(occupancy.most(number, occupied, claim(number), now))
        })
    }

    /// What a subscription holds of its slots.
    pub(super) fn held(&self, number: SubscriptionNumber, now: Instant) -> Held {
        self.occupancy.held(number, now)
    }

    /// Deliveries under way or granted: those that are counted apart, or the others.
    pub(super) fn in_use_of(&self, apart: bool) -> usize {
        match apart {
            true => self.apart,
            false => (self.in_use() + self.more_deliveries).saturating_sub(self.apart),
        }
    }

    /// Forgets the subscriptions that are not kept.
    pub(super) fn keep(&mut self, keep: impl Fn(SubscriptionNumber) -> bool) {
        self.turns.retain(&keep);
        self.occupancy.retain(keep);
    }

    /// Frees what the deliveries of an attempt that has ended took up.
    pub(super) fn give_back(&mut self, pool: Pool, deliveries: usize, event_bytes: usize) {
        self.more_deliveries = self
            .more_deliveries
            .saturating_sub(deliveries.saturating_sub(1));
        if pool == Pool::Share {
            self.bytes = self.bytes.saturating_sub(event_bytes);
        }
    }

    /// Slots in use: attempts under way, and what is being leased.
    pub(super) fn in_use(&self) -> usize {
        self.under_way + self.granted
    }

    pub(super) fn grant(&mut self, count: usize, is_probe: bool, now: Instant) {
        self.granted += count;
        if let Some(bucket) = &mut self.bucket {
            bucket.take(count, now);
        }
        if let Some(part) = &mut self.part {
            part.took(count);
        }
        if is_probe {
            self.circuit.probe();
        }
    }

    /// A grant is over, and `unused` of its `count` have not become attempts.
    pub(super) fn end_grant(
        &mut self,
        count: usize,
        unused: usize,
        epoch: u64,
        is_probe: bool,
        now: Instant,
    ) {
        self.granted = self.granted.saturating_sub(count);
        if epoch != self.epoch {
            return;
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.give_back(unused);
        }
        if let Some(part) = &mut self.part {
            part.gave_back(unused);
        }
        if is_probe && unused == count {
            self.circuit.probe_unused(now);
        }
    }

    pub(super) fn begin(
        &mut self,
        subscription: SubscriptionNumber,
        deliveries: usize,
        now: Instant,
    ) {
        self.under_way += 1;
        self.more_deliveries += deliveries.saturating_sub(1);
        self.occupancy.begin(subscription, now);
        self.limiter.begun(self.under_way);
        self.show();
    }

    /// An attempt has ended. `random` is uniform in `0.0..1.0`.
    pub(super) fn end(
        &mut self,
        result: AttemptResult<'_>,
        epoch: u64,
        is_probe: bool,
        time: Timestamp,
        random: f64,
    ) {
        let AttemptResult {
            delivery,
            started,
            at,
            class,
            ..
        } = result;
        self.under_way = self.under_way.saturating_sub(1);
        // A failure while the target went on answering others says nothing of the target.
        let is_its_own = class == Class::Failed
            && self
                .occupancy
                .has_other_success(delivery.subscription, started);
        self.occupancy.end(
            delivery.subscription,
            started,
            at,
            class == Class::Delivered,
        );
        if epoch == self.epoch {
            if !is_its_own {
                self.limiter.ended(started, at, class, result.retry_after);
            }
            let health = match class {
                Class::Unavailable => Health::Unavailable,
                Class::Failed => Health::Fails(delivery.sequence.0),
                _ => Health::Works,
            };
            let was_open = self.circuit.is_open();
            let says_something = !is_its_own || is_probe;
            if says_something && self.circuit.ended(is_probe, health, at, random) {
                let (target, tenant) = (self.name.as_str(), self.tenant.as_str());
                if was_open {
                    tracing::info!(target = target, tenant, "the target works again");
                    self.gauge.set_circuit(CircuitStatus::Closed, time);
                } else {
                    let why = result.message;
                    let what = match health {
                        Health::Fails(_) => {
                            "the target fails whatever it is given; it is tried one delivery at a \
                             time"
                        }
                        _ => "the target cannot be reached; it is tried one delivery at a time",
                    };
                    tracing::warn!(target = target, tenant, why, "{what}");
                    self.gauge.set_circuit(CircuitStatus::Open, time);
                }
            }
        }
        self.show();
    }

    /// An attempt has ended without the target being called.
    pub(super) fn end_uncalled(
        &mut self,
        subscription: SubscriptionNumber,
        started: Instant,
        epoch: u64,
        is_probe: bool,
        now: Instant,
    ) {
        self.under_way = self.under_way.saturating_sub(1);
        self.occupancy.end(subscription, started, now, false);
        if is_probe && epoch == self.epoch {
            self.circuit.probe_unused(now);
        }
        self.show();
    }

    fn show(&self) {
        self.gauge.set(self.limit(), self.under_way);
    }
}
