//! Subscriptions: the same, under the same numbers, in every shard.

use std::collections::{HashMap, HashSet};

use futures::future::try_join_all;
use pointsman_schemas::SubscriptionNumber;

use super::Shards;
use super::reader::ShardedReader;
use crate::key::hash;
use crate::{
    Activity, JournalError, Numbered, Reader, ReplayId, Subscription, SubscriptionIdentity,
    SubscriptionStatus,
};

impl Shards {
    pub(super) async fn subscribe(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let known = ShardedReader::new(self).subscriptions().await?;
        // A number counts as given where any shard knows it: the others may have missed it.
        let last = try_join_all(self.iter().map(|shard| shard.last_subscription())).await?;
        let last = last.into_iter().max().unwrap_or(SubscriptionNumber(0));
        let numbers = numbers(&known, &wanted, last);
        let mut numbered: Vec<Numbered> = Vec::with_capacity(wanted.len());
        let mut is_new = HashSet::new();
        for (subscription, number) in wanted.into_iter().zip(&numbers) {
            if is_new.insert(*number) {
                numbered.push(Numbered {
                    subscription,
                    number: *number,
                    replay: self.start_of(*number),
                });
            }
        }
        let attach = self
            .iter()
            .map(|shard| shard.subscribe_as(numbered.clone()));
        try_join_all(attach).await?;
        // Where a shard had dropped it, or did not know it yet, it came as active.
        for status in known
            .iter()
            .filter(|status| is_new.contains(&status.number))
        {
            if status.activity != Activity::Active {
                self.each(|shard| shard.set_activity(status.number, status.activity))
                    .await?;
            }
        }
        Ok(numbers)
    }

    /// The identity of the replay that a subscription begins with: the same in every shard, also
    /// where one of them hears of it later.
    fn start_of(&self, number: SubscriptionNumber) -> ReplayId {
        let journal = self.iter().next().map_or(0, |first| first.id().0);
        let [id, _] = hash(&["shard:start", &journal.to_string(), &number.0.to_string()]);
        ReplayId::of(id >> 1).unwrap_or_else(ReplayId::random)
    }
}

/// The numbers of the wanted subscriptions: those that they have, or new ones behind the last.
fn numbers(
    known: &[SubscriptionStatus],
    wanted: &[Subscription],
    last: SubscriptionNumber,
) -> Vec<SubscriptionNumber> {
    let known = known.iter().map(|status| (&status.identity, status.number));
    let mut old: HashMap<&SubscriptionIdentity, SubscriptionNumber> = known.collect();
    let new = wanted.iter().map(|one| (&one.identity, None));
    let mut assigned: HashMap<&SubscriptionIdentity, Option<SubscriptionNumber>> = new.collect();
    let mut last = last.0;
    let mut number = |one: &Subscription| {
        let earlier = one.renamed_from.clone().map(|rule| SubscriptionIdentity {
            rule,
            ..one.identity.clone()
        });
        let earlier = earlier.filter(|earlier| !assigned.contains_key(earlier));
        let own = assigned.get_mut(&one.identity)?;
        let number = own.or_else(|| old.remove(&one.identity));
        let number = number.or_else(|| old.remove(&earlier?)).unwrap_or_else(|| {
            last += 1;
            SubscriptionNumber(last)
        });
        *own = Some(number);
        Some(number)
    };
    wanted.iter().filter_map(&mut number).collect()
}
