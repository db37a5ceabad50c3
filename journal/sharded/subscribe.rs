//! Subscriptions: the same, under the same numbers, in every shard.

use std::collections::HashSet;

use futures::future::try_join_all;
use pointsman_schemas::SubscriptionNumber;

use super::Sharded;
use crate::key::hash;
use crate::{Activity, Journal as _, JournalError, Numbered, ReplayId, Subscription};

impl Sharded {
    pub(super) async fn subscribe_each(
        &self,
        wanted: Vec<Subscription>,
    ) -> Result<Vec<SubscriptionNumber>, JournalError> {
        let numbers = self.at(0).assign(wanted.clone()).await?;
        let known = self.reader().subscriptions().await?;
        let numbered = numbered(wanted, &numbers);
        // What comes here from now on is told the same.
        let mut told = self.told.lock().await;
        told.subscriptions = Some(numbered.clone());
        self.bounds.write().set_subscriptions(&numbered);
        let here = self.shards.iter().filter(|shard| shard.is_here());
        let attach = here
            .clone()
            .map(|shard| shard.subscribe_as(numbered.clone()));
        try_join_all(attach).await?;
        // Where a shard had dropped it, or did not know it yet, it came as active.
        let is_attached: HashSet<_> = numbers.iter().copied().collect();
        let inactive = known.iter().filter(|status| {
            is_attached.contains(&status.number) && status.activity != Activity::Active
        });
        for status in inactive {
            let set = here
                .clone()
                .map(|shard| shard.set_activity(status.number, status.activity));
            try_join_all(set).await?;
        }
        Ok(numbers)
    }
}

/// Subscriptions with their numbers, each once. The replay that one begins with has one identity in
/// all shards, also where a shard hears of it later than others.
pub(crate) fn numbered(wanted: Vec<Subscription>, numbers: &[SubscriptionNumber]) -> Vec<Numbered> {
    let mut is_new = HashSet::new();
    let numbered = wanted.into_iter().zip(numbers);
    let numbered = numbered.filter(|(_, number)| is_new.insert(**number));
    let numbered = numbered.map(|(subscription, number)| {
        let [id, _] = hash(&["shard:start", &number.0.to_string()]);
        Numbered {
            subscription,
            number: *number,
            replay: ReplayId::of(id >> 1).unwrap_or_else(ReplayId::random),
        }
    });
    numbered.collect()
}
