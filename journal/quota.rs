//! Bounds on what waits in all subscriptions of a tenant, or of one of its rules.
//!
//! What waits is counted where the counters of subscriptions change, so that nothing is ever
//! counted anew but at the beginning and with the bounds. An append costs one look-up for each
//! subscription that it goes to, and nothing where nobody has a quota.

use std::collections::HashMap;
use std::fmt;

use pointsman_schemas::{Name, SubscriptionNumber};

use crate::{Backlog, JournalError, NumberMap, SubscriptionIdentity};

/// Whose quota it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct QuotaOwner {
    /// The tenant.
    pub tenant: Name,
    /// Its rule; none where the quota is the tenant's own.
    pub rule: Option<Name>,
}

impl fmt::Display for QuotaOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "the rule {rule} of the tenant {}", self.tenant),
            None => write!(f, "the tenant {}", self.tenant),
        }
    }
}

/// What has a bound on what waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bounded {
    /// A subscription, by its own backlog.
    Subscription(SubscriptionNumber),
    /// All those of a tenant or a rule, by its quota.
    Quota(QuotaOwner),
}

/// A bound on what waits in all subscriptions of a tenant or a rule, detached ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklogQuota {
    /// Whose.
    pub owner: QuotaOwner,
    /// How much may wait, and what becomes of more.
    pub backlog: Backlog,
}

/// The quotas that a subscription counts in: its tenant's, its rule's.
type Places = [Option<usize>; 2];

/// The quotas with what waits.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    quotas: Vec<BacklogQuota>,
    index: HashMap<QuotaOwner, usize>,
    /// Deliveries that wait, by quota.
    pending: Vec<u64>,
    /// Those that wait in other shards, by quota.
    elsewhere: Vec<u64>,
    places: NumberMap<u32, Places>,
}

impl Quotas {
    /// Quotas in the place of those before, over subscriptions of each of which this many deliveries
    /// wait.
    pub(crate) fn new<'s>(
        quotas: Vec<BacklogQuota>,
        before: &Self,
        subscriptions: impl Iterator<Item = (u32, &'s SubscriptionIdentity, u64)>,
    ) -> Self {
        let index = quotas.iter().enumerate();
        let mut new = Self {
            index: index
                .map(|(index, quota)| (quota.owner.clone(), index))
                .collect(),
            pending: vec![0; quotas.len()],
            elsewhere: quotas
                .iter()
                .map(|quota| before.waits(&before.elsewhere, &quota.owner))
                .collect(),
            quotas,
            places: NumberMap::default(),
        };
        if !new.is_empty() {
            for (number, identity, pending) in subscriptions {
                new.changed(number, identity, 0, pending);
            }
        }
        new
    }

    /// Whether nobody has one: then there is nothing to count.
    pub(crate) fn is_empty(&self) -> bool {
        self.quotas.is_empty()
    }

    /// The quotas themselves, as they were given.
    pub(crate) fn take(self) -> Vec<BacklogQuota> {
        self.quotas
    }

    /// So many deliveries of a subscription waited before, and wait now.
    pub(crate) fn changed(
        &mut self,
        number: u32,
        identity: &SubscriptionIdentity,
        before: u64,
        now: u64,
    ) {
        let index = &self.index;
        let places = *self.places.entry(number).or_insert_with(|| {
            [None, Some(identity.rule.clone())].map(|rule| {
                let tenant = identity.tenant.clone();
                index.get(&QuotaOwner { tenant, rule }).copied()
            })
        });
        for place in places.into_iter().flatten() {
            if let Some(pending) = self.pending.get_mut(place) {
                *pending = pending.saturating_add(now).saturating_sub(before);
            }
        }
    }

    fn waits(&self, counted: &[u64], owner: &QuotaOwner) -> u64 {
        let place = self.index.get(owner);
        let waits = place.and_then(|place| counted.get(*place));
        waits.copied().unwrap_or(0)
    }

    /// How many deliveries wait here that count in a quota.
    pub(crate) fn waiting(&self, owner: &QuotaOwner) -> u64 {
        self.waits(&self.pending, owner)
    }

    /// In other shards nothing waits.
    pub(crate) fn forget_elsewhere(&mut self) {
        self.elsewhere.fill(0);
    }

    /// In other shards so many deliveries wait that count in a quota.
    pub(crate) fn set_elsewhere(&mut self, owner: &QuotaOwner, count: u64) {
        let place = self.index.get(owner);
        if let Some(elsewhere) = place.and_then(|place| self.elsewhere.get_mut(*place)) {
            *elsewhere = count;
        }
    }

    /// The quotas that a subscription counts in, with what waits here and elsewhere.
    fn of(&self, number: u32) -> impl Iterator<Item = (usize, Backlog, u64)> {
        let places = self.places.get(&number).copied().unwrap_or_default();
        places.into_iter().flatten().filter_map(|place| {
            let backlog = self.quotas.get(place)?.backlog;
            let waits = self.pending.get(place)? + self.elsewhere.get(place)?;
            Some((place, backlog, waits))
        })
    }

    /// Whether one more delivery of a subscription is a dead letter, where `more` wait already that
    /// are not counted yet.
    pub(crate) fn is_dead(&self, number: u32, more: &Arrived) -> bool {
        !self.is_empty()
            && self.of(number).any(|(place, backlog, pending)| {
                backlog.dead_when_full && pending + more.of(place) >= backlog.max
            })
    }

    /// One more delivery of a subscription waits.
    pub(crate) fn arrived(&self, number: u32, more: &mut Arrived) {
        if !self.is_empty() {
            self.of(number).for_each(|(place, ..)| more.add(place, 1));
        }
    }

    /// Refuses an append that a full quota stops, where `more` wait already that are not counted
    /// yet. As with a subscription's own backlog, one append alone is let into a queue that is empty
    /// in all shards: else it could never be stored.
    ///
    /// # Errors
    /// [`JournalError::Quota`].
    pub(crate) fn check(
        &self,
        arriving: impl Iterator<Item = (u32, u64)>,
        more: &Arrived,
    ) -> Result<(), JournalError> {
        if self.is_empty() {
            return Ok(());
        }
        let mut wanted = Arrived::default();
        for (number, count) in arriving.filter(|(_, count)| *count > 0) {
            for (place, backlog, pending) in self.of(number) {
                wanted.add(place, count);
                let before = pending + more.of(place);
                let is_full = before > 0 && before + wanted.of(place) > backlog.max;
                if is_full && !backlog.dead_when_full {
                    let owner = self.quotas.get(place).map(|quota| quota.owner.clone());
                    return Err(owner.map_or(JournalError::Closed, |owner| {
                        JournalError::Quota(SubscriptionNumber(number), owner)
                    }));
                }
            }
        }
        Ok(())
    }
}

/// What waits and is not counted yet, since it is not committed: by quota.
#[derive(Debug, Default)]
pub(crate) struct Arrived(NumberMap<usize, u64>);

impl Arrived {
    fn of(&self, place: usize) -> u64 {
        self.0.get(&place).copied().unwrap_or_default()
    }

    fn add(&mut self, place: usize, count: u64) {
        *self.0.entry(place).or_default() += count;
    }
}
