//! Leases from all shards, and settling them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use pointsman_schemas::SubscriptionNumber;

use super::Sharded;
use crate::{Grant, JournalError, Leases, NumberMap, SettleAnswer, Settlement, Shard, ShardNumber};

impl Sharded {
    pub(super) async fn lease_in_turn(
        &self,
        grants: &[Grant],
        bytes_max: usize,
    ) -> Result<Leases, JournalError> {
        let first = self.first.fetch_add(1, Ordering::Relaxed);
        if grants.is_empty() {
            return self.at(first).lease(grants, bytes_max).await;
        }
        let mut sum = Sum::new(grants, bytes_max);
        let mut failed = None;
        // Whoever comes first may take everything: over many calls each is first as often.
        for place in 0..self.shards.len() {
            let left = sum.left();
            if left.is_empty() {
                break;
            }
            match self
                .at(first.wrapping_add(place))
                .lease(&left, sum.bytes)
                .await
            {
                Ok(leases) => sum.add(leases),
                Err(error) => failed = Some(error),
            }
        }
        // What others have leased would otherwise wait until the leases run out.
        match failed {
            Some(error) if sum.leases.leased.is_empty() => Err(error),
            _ => Ok(sum.finish()),
        }
    }

    pub(super) async fn settle_in_each(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, JournalError> {
        if settlements.is_empty() {
            return self.at(0).settle(settlements).await;
        }
        let place = |one: &Settlement| {
            let number = ShardNumber::of_bits(one.token.number());
            self.shards.place_of(number)
        };
        let places: Vec<Option<usize>> = settlements.iter().map(place).collect();
        let mut parts: Vec<Vec<Settlement>> = vec![Vec::new(); self.shards.len()];
        for (one, place) in settlements.into_iter().zip(&places) {
            if let Some(part) = place.and_then(|place| parts.get_mut(place)) {
                part.push(one);
            }
        }
        let settle = async |(shard, part): (&Arc<dyn Shard>, Vec<Settlement>)| match part.len() {
            0 => Ok(Vec::new()),
            count => match shard.settle(part).await {
                Ok(answers) => Ok(answers),
                Err(error) => Err((count, error)),
            },
        };
        let parts = self.shards.iter().zip(parts);
        let parts = join_all(parts.map(settle)).await;
        let is_some_settled = parts
            .iter()
            .any(|part| matches!(part, Ok(answers) if !answers.is_empty()));
        let mut answers = Vec::with_capacity(parts.len());
        for part in parts {
            answers.push(match part {
                Ok(answers) => answers.into_iter(),
                // The others are settled: those of this shard alone are to be tried again.
                Err((count, error)) if is_some_settled => {
                    tracing::warn!(%error, count, "a shard cannot settle deliveries");
                    vec![SettleAnswer::NoRoom; count].into_iter()
                }
                Err((_, error)) => return Err(error),
            });
        }
        let answer = |place: Option<usize>| answers.get_mut(place?)?.next();
        Ok(places
            .into_iter()
            .map(answer)
            .map(|one| one.unwrap_or(SettleAnswer::Gone))
            .collect())
    }
}

/// What of grants is left, and what they have brought.
struct Sum {
    grants: Vec<Grant>,
    bytes: usize,
    leases: Leases,
}

impl Sum {
    fn new(grants: &[Grant], bytes: usize) -> Self {
        Self {
            grants: grants.to_vec(),
            bytes,
            leases: Leases::default(),
        }
    }

    /// The grants that go on.
    fn left(&self) -> Vec<Grant> {
        let calls = |grant: &Grant| grant.batching.map_or(usize::MAX, |batching| batching.calls);
        let left = self.grants.iter().copied();
        left.filter(|grant| grant.count > 0 && calls(grant) > 0)
            .collect()
    }

    fn add(&mut self, leases: Leases) {
        let Leases {
            leased,
            cut,
            gathering,
        } = leases;
        for one in &leased {
            let size = one.event.size_bytes();
            self.bytes = self.bytes.saturating_sub(size);
            let number = one.id.subscription;
            if let Some(grant) = self
                .grants
                .iter_mut()
                .find(|grant| grant.subscription == number)
            {
                grant.count = grant.count.saturating_sub(1);
                grant.bytes_max = grant.bytes_max.saturating_sub(size);
                if let Some(batching) = &mut grant.batching {
                    batching.calls = batching.calls.saturating_sub(usize::from(one.begins_call));
                }
            }
        }
        // A grant ends at the first delivery that does not fit, also for the other shards.
        for cut in &cut {
            let own = self.grants.iter_mut();
            own.filter(|grant| grant.subscription == cut.subscription)
                .for_each(|grant| grant.count = 0);
        }
        self.leases.leased.extend(leased);
        self.leases.cut.extend(cut);
        self.leases.gathering.extend(gathering);
    }

    /// The leases grant by grant; of what gathers in several shards what goes first.
    fn finish(self) -> Leases {
        let Leases {
            mut leased,
            mut cut,
            mut gathering,
        } = self.leases;
        let grants = self.grants.iter().enumerate();
        let order: NumberMap<_, _> = grants
            .map(|(place, grant)| (grant.subscription, place))
            .collect();
        let place = |number: &SubscriptionNumber| order.get(number).copied();
        leased.sort_by_key(|one| place(&one.id.subscription));
        cut.sort_by_key(|one| place(&one.subscription));
        gathering.sort_by_key(|one| (place(&one.subscription), one.until));
        gathering.dedup_by_key(|one| one.subscription);
        Leases {
            leased,
            cut,
            gathering,
        }
    }
}
