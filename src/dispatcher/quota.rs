//! What all subscriptions of a tenant or of a rule may have under way together, and begin in a
//! time. Pure.
//!
//! As with the rate of a target, room is taken before deliveries are leased, and given back where a
//! lease brings less. A subscription that finds none waits here and takes no turns at its target
//! meanwhile: it does not stand in the way of others.

use std::collections::{HashMap, HashSet, VecDeque};

use pointsman_schemas::SubscriptionNumber;
use tokio::time::Instant;

use super::part::{Part, with_a_quarter};
use super::plan::Quota;
use super::rate::Bucket;
use super::share::{LimitDemand, LimitShare, Limited};

/// The quotas that a delivery counts in, as indexes: its tenant's and its rule's.
pub(super) type Charged = [Option<usize>; 2];

/// All quotas of the plan in force, and those of earlier ones that still count something.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    all: Vec<Option<QuotaState>>,
}

#[derive(Debug)]
struct QuotaState {
    quota: Quota,
    bucket: Option<Bucket>,
    /// What of it is this node's, where other nodes use it too.
    part: Option<Part>,
    /// Attempts under way, and what is being leased.
    in_use: usize,
    /// Subscriptions that found no room, the first to come first.
    waiting: VecDeque<SubscriptionNumber>,
    /// When somebody looks here again for tokens.
    looks_at: Option<Instant>,
}

impl QuotaState {
    fn new(quota: Quota, now: Instant) -> Self {
        Self {
            bucket: quota.rate.map(|rate| Bucket::new(rate, now)),
            quota,
            part: None,
            in_use: 0,
            waiting: VecDeque::new(),
            looks_at: None,
        }
    }

    /// Takes over what a new plan says. What is in use stays counted; a rate that has not changed
    /// goes on.
    fn renew(&mut self, quota: Quota, now: Instant) {
        if quota.rate != self.quota.rate {
            self.bucket = quota.rate.map(|rate| Bucket::new(rate, now));
            if let Some(part) = &mut self.part {
                part.begin_rate_anew();
                part.slow(&mut self.bucket, quota.rate, now);
            }
        }
        self.quota = quota;
        self.waiting.clear();
        self.looks_at = None;
    }

    fn slots(&self) -> usize {
        let Some(max) = self.quota.in_flight else {
            return usize::MAX;
        };
        let max = self.part.as_ref().map_or(max, |part| part.bound(max));
        max.saturating_sub(self.in_use)
    }

    fn begin_to_share(&mut self, now: Instant) {
        if self.part.is_none() {
            let part = Part::new(now);
            part.slow(&mut self.bucket, self.quota.rate, now);
            self.part = Some(part);
        }
    }

    fn share(&mut self, share: &LimitShare, now: Instant) {
        if let Some(part) = &mut self.part {
            part.set(share);
            part.slow(&mut self.bucket, self.quota.rate, now);
        }
    }

    /// What this node could use of it; nothing where that is nothing.
    fn demand(&mut self, now: Instant) -> Option<LimitDemand> {
        let (waits, is_full) = (!self.waiting.is_empty(), self.slots() == 0);
        let part = self.part.as_mut()?;
        let wants = match self.quota.in_flight {
            Some(max) if waits && is_full => max,
            Some(_) if waits || self.in_use > 0 => with_a_quarter(self.in_use),
            _ => 0,
        };
        let rate = self.quota.rate;
        let thousandths = part.demand(self.bucket.as_ref(), rate, waits, now);
        (wants > 0 || thousandths > 0).then(|| LimitDemand {
            of: Limited::Quota {
                tenant: self.quota.tenant.clone(),
                rule: self.quota.rule.clone(),
            },
            in_use: self.in_use,
            wants,
            thousandths,
            is_open: false,
        })
    }

    fn available(&self, now: Instant) -> usize {
        let tokens = self.bucket.as_ref().map(|bucket| bucket.available(now));
        self.slots().min(tokens.unwrap_or(usize::MAX))
    }
}

impl Quotas {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn get(&self, index: usize) -> Option<&QuotaState> {
        self.all.get(index)?.as_ref()
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut QuotaState> {
        self.all.get_mut(index)?.as_mut()
    }

    /// Puts the quotas of a plan in force. Returns where each is.
    pub(super) fn reload(&mut self, quotas: Vec<Quota>, now: Instant) -> Vec<usize> {
        let wanted: HashSet<_> = quotas.iter().map(Quota::key).collect();
        let mut known = HashMap::new();
        let mut free = Vec::new();
        for (index, slot) in self.all.iter_mut().enumerate().rev() {
            match slot {
                Some(quota) if wanted.contains(&quota.quota.key()) || quota.in_use > 0 => {
                    quota.waiting.clear();
                    known.insert(quota.quota.key(), index);
                }
                _ => {
                    *slot = None;
                    free.push(index);
                }
            }
        }
        let mut indexes = Vec::with_capacity(quotas.len());
        for quota in quotas {
            let index = known.get(&quota.key()).copied();
            let index = index.or_else(|| free.pop()).unwrap_or(self.all.len());
            match self.all.get_mut(index) {
                Some(Some(known)) => known.renew(quota, now),
                Some(slot) => *slot = Some(QuotaState::new(quota, now)),
                None => self.all.push(Some(QuotaState::new(quota, now))),
            }
            indexes.push(index);
        }
        while self.all.last().is_some_and(Option::is_none) {
            self.all.pop();
        }
        indexes
    }

    /// How many deliveries may be leased, and the quota that allows no more.
    pub(super) fn available(&self, charged: Charged, now: Instant) -> (usize, Option<usize>) {
        let all = charged.into_iter().flatten();
        let all = all.filter_map(|index| Some((self.get(index)?.available(now), Some(index))));
        all.min_by_key(|(available, _)| *available)
            .unwrap_or((usize::MAX, None))
    }

    /// So many deliveries are being leased.
    pub(super) fn take(&mut self, charged: Charged, count: usize, now: Instant) {
        for index in charged.into_iter().flatten() {
            if let Some(quota) = self.get_mut(index) {
                quota.in_use += count;
                if let Some(bucket) = &mut quota.bucket {
                    bucket.take(count, now);
                }
                if let Some(part) = &mut quota.part {
                    part.took(count);
                }
            }
        }
    }

    /// So many of what was taken are not used.
    pub(super) fn give_back(&mut self, charged: Charged, count: usize) {
        for index in charged.into_iter().flatten() {
            let Some(quota) = self.get_mut(index) else {
                continue;
            };
            if let Some(bucket) = &mut quota.bucket {
                bucket.give_back(count);
            }
            if let Some(part) = &mut quota.part {
                part.gave_back(count);
            }
        }
        self.ended(charged, count);
    }

    /// So many attempts have ended.
    pub(super) fn ended(&mut self, charged: Charged, count: usize) {
        for index in charged.into_iter().flatten() {
            if let Some(quota) = self.get_mut(index) {
                quota.in_use = quota.in_use.saturating_sub(count);
            }
        }
    }

    /// A subscription waits for a quota.
    pub(super) fn wait(&mut self, index: usize, number: SubscriptionNumber) {
        if let Some(quota) = self.get_mut(index) {
            quota.waiting.push_back(number);
        }
    }

    /// Those that waited for a quota and may look again, as many as there is room for.
    pub(super) fn called(&mut self, index: usize, now: Instant) -> Vec<SubscriptionNumber> {
        let Some(quota) = self.get_mut(index) else {
            return Vec::new();
        };
        let count = quota.available(now).min(quota.waiting.len());
        quota.waiting.drain(..count).collect()
    }

    /// When to look again for those that wait, where nobody does so by then and it is tokens that
    /// they lack.
    pub(super) fn timer(&mut self, index: usize, now: Instant) -> Option<Instant> {
        let quota = self.get_mut(index)?;
        if quota.waiting.is_empty() || quota.slots() == 0 {
            return None;
        }
        let at = quota.bucket.as_ref()?.next_at(now);
        if quota.looks_at.is_some_and(|earlier| earlier <= at) {
            return None;
        }
        quota.looks_at = Some(at);
        Some(at)
    }

    pub(super) fn timer_fired(&mut self, index: usize, now: Instant) {
        if let Some(quota) = self.get_mut(index)
            && quota.looks_at.is_some_and(|at| at <= now)
        {
            quota.looks_at = None;
        }
    }

    /// Other nodes use all of them too. Until a share is known it is the least that there is.
    pub(super) fn begin_to_share(&mut self, now: Instant) {
        let all = self.all.iter_mut().flatten();
        all.for_each(|quota| quota.begin_to_share(now));
    }

    /// Puts shares in force. Returns the quotas of which that has changed something, and what this
    /// node could use of each that it could use.
    pub(super) fn share(
        &mut self,
        shares: &[LimitShare],
        now: Instant,
    ) -> (Vec<usize>, Vec<LimitDemand>) {
        let shares = shares.iter().filter_map(|share| match &share.of {
            Limited::Quota { tenant, rule } => Some(((tenant, rule), share)),
            Limited::Target { .. } => None,
        });
        let shares: HashMap<_, _> = shares.collect();
        let (mut changed, mut demands) = (Vec::new(), Vec::new());
        for (index, quota) in self.all.iter_mut().enumerate() {
            let Some(quota) = quota else { continue };
            let owner = (&quota.quota.tenant, &quota.quota.rule);
            if let Some(share) = shares.get(&owner) {
                quota.share(share, now);
                changed.push(index);
            }
            demands.extend(quota.demand(now));
        }
        (changed, demands)
    }
}

#[cfg(test)]
mod tests {
    use pointsman_schemas::Name;

    use super::*;

    fn quota(rule: Option<&str>, rate: Option<&str>, in_flight: Option<usize>) -> Quota {
        Quota {
            tenant: Name::default_tenant(),
            rule: rule.map(|rule| Name::new(rule).unwrap()),
            rate: rate.map(|rate| rate.parse().unwrap()),
            in_flight,
        }
    }

    #[test]
    fn the_tighter_of_two_holds_and_both_are_charged() {
        let now = Instant::now();
        let mut quotas = Quotas::default();
        let plan = vec![quota(None, None, Some(5)), quota(Some("r"), None, Some(3))];
        quotas.reload(plan, now);
        let (both, tenant) = ([Some(0), Some(1)], [Some(0), None]);
        assert_eq!(quotas.available(both, now), (3, Some(1)));
        quotas.take(both, 3, now);
        assert_eq!(quotas.available(both, now), (0, Some(1)));
        assert_eq!(quotas.available(tenant, now), (2, Some(0)));
        quotas.give_back(both, 1);
        quotas.ended(both, 1);
        assert_eq!(quotas.available(both, now), (2, Some(1)));
        assert_eq!(quotas.available([None, None], now), (usize::MAX, None));
    }

    #[test]
    fn a_reload_changes_them_in_place() {
        let now = Instant::now();
        let mut quotas = Quotas::default();
        let of_rule = |in_flight| quota(Some("r"), Some("1000/s"), Some(in_flight));
        quotas.reload(vec![of_rule(5)], now);
        quotas.take([Some(0), None], 4, now);
        let indexes = quotas.reload(vec![quota(None, None, Some(9)), of_rule(6)], now);
        assert_eq!(indexes, [1, 0]);
        // What is under way counts, as do the tokens that were taken.
        assert_eq!(quotas.available([Some(0), None], now).0, 2);
        quotas.ended([Some(0), None], 4);
        assert_eq!(quotas.available([Some(0), None], now).0, 6);
        quotas.reload(Vec::new(), now);
        assert!(quotas.is_empty());
    }

    #[test]
    fn those_that_wait_are_called_in_their_order_once_there_is_room() {
        let now = Instant::now();
        let mut quotas = Quotas::default();
        quotas.reload(vec![quota(None, Some("1/s"), Some(2))], now);
        let charged = [Some(0), None];
        quotas.take(charged, 1, now);
        for number in [7, 8] {
            quotas.wait(0, SubscriptionNumber(number));
        }
        assert!(quotas.called(0, now).is_empty());
        let at = quotas.timer(0, now).unwrap();
        assert_eq!(
            (at - now, quotas.timer(0, now)),
            (std::time::Duration::from_secs(1), None)
        );
        quotas.timer_fired(0, at);
        assert_eq!(quotas.called(0, at), [SubscriptionNumber(7)]);
        quotas.take(charged, 1, at);
        // Both of its slots are taken: the end of an attempt is waited for, and no time.
        assert_eq!(quotas.timer(0, at), None);
    }
}
