//! The numbers of subscriptions that are the same in all shards.
//!
//! One shard keeps them, as the position of a source that nobody runs: a row for each subscription
//! that ever had a number, whether any shard still has it or not.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pointsman_schemas::{Name, PositionChange, SubscriptionNumber};

use crate::sharded::tenants::CLUSTER;
use crate::{Append, JournalError, Role, Shard, Subscription, SubscriptionIdentity};

/// How many rows are read or changed at a time.
const ROWS: usize = 1_000;

/// The tenant and the source under which the rows are kept.
fn keeper() -> Result<(Name, Name), JournalError> {
    let name = |text| Name::new(text).map_err(|error| JournalError::Io(error.to_string()));
    Ok((name(CLUSTER)?, name("subscription-numbers")?))
}

/// As [`Shard::assign`], with the rows in `journal`. Nobody else may be at it meanwhile.
///
/// # Errors
/// As there.
pub(crate) async fn assign(
    journal: &dyn Shard,
    wanted: &[Subscription],
) -> Result<Vec<SubscriptionNumber>, JournalError> {
    // It is answered behind all that was handed over before, also by a call that was given up.
    let last = journal.last_subscription().await?;
    let kept = kept(journal).await?;
    let last = kept.values().copied().chain([last]).max().unwrap_or(last);
    let mut numbers = Numbers {
        taken: kept.values().copied().collect(),
        known: kept,
        last,
        changes: Vec::new(),
    };
    // What was numbered before anybody kept it.
    for status in journal.reader().subscriptions().await? {
        if !numbers.known.contains_key(&status.identity) && !numbers.taken.contains(&status.number)
        {
            numbers.put(&status.identity, status.number);
        }
    }
    let identities: HashSet<&SubscriptionIdentity> =
        wanted.iter().map(|one| &one.identity).collect();
    let assigned = wanted.iter().map(|one| numbers.of(one, &identities));
    let assigned: Vec<SubscriptionNumber> = assigned.collect();
    numbers.keep(journal).await?;
    Ok(assigned)
}

struct Numbers {
    known: HashMap<SubscriptionIdentity, SubscriptionNumber>,
    taken: HashSet<SubscriptionNumber>,
    last: SubscriptionNumber,
    /// What goes together into one append, in their order.
    changes: Vec<Vec<PositionChange>>,
}

impl Numbers {
    fn of(
        &mut self,
        wanted: &Subscription,
        all: &HashSet<&SubscriptionIdentity>,
    ) -> SubscriptionNumber {
        let identity = &wanted.identity;
        if let Some(number) = self.known.get(identity) {
            return *number;
        }
        let earlier = wanted
            .renamed_from
            .clone()
            .map(|rule| SubscriptionIdentity {
                rule,
                ..identity.clone()
            });
        let earlier = earlier.filter(|earlier| !all.contains(earlier));
        if let Some(earlier) = earlier
            && let Some(number) = self.known.remove(&earlier)
        {
            self.put(identity, number);
            let gone = PositionChange {
                key: key(&earlier),
                value: None,
            };
            self.changes
                .last_mut()
                .into_iter()
                .for_each(|last| last.push(gone.clone()));
            return number;
        }
        self.last = SubscriptionNumber(self.last.0.saturating_add(1));
        self.put(identity, self.last);
        self.last
    }

    fn put(&mut self, identity: &SubscriptionIdentity, number: SubscriptionNumber) {
        self.changes.push(vec![PositionChange {
            key: key(identity),
            value: Some(Bytes::copy_from_slice(&number.0.to_be_bytes())),
        }]);
        self.taken.insert(number);
        self.known.insert(identity.clone(), number);
    }

    async fn keep(self, journal: &dyn Shard) -> Result<(), JournalError> {
        let (tenant, origin) = keeper()?;
        for changes in self.changes.chunks(ROWS) {
            let append = Append {
                tenant: tenant.clone(),
                origin: origin.clone(),
                entries: Vec::new(),
                rejects: Vec::new(),
                cursor: None,
                positions: changes.concat(),
            };
            journal.append(append).await?;
        }
        Ok(())
    }
}

/// The rows that there are. One that cannot be read is as if it were not there.
async fn kept(
    journal: &dyn Shard,
) -> Result<HashMap<SubscriptionIdentity, SubscriptionNumber>, JournalError> {
    let (tenant, source) = keeper()?;
    let (mut kept, mut after) = (HashMap::new(), None::<Bytes>);
    loop {
        let rows = journal
            .positions(&tenant, &source, after.as_deref(), ROWS)
            .await?;
        let is_last = rows.len() < ROWS;
        after = rows.last().map(|row| row.key.clone());
        kept.extend(rows.iter().filter_map(|row| {
            let number = row.value.as_ref().try_into().ok()?;
            Some((
                identity(&row.key)?,
                SubscriptionNumber(u32::from_be_bytes(number)),
            ))
        }));
        if is_last {
            return Ok(kept);
        }
    }
}

/// An identity as the key of a row: its names, and the name of its role, which have no zero in them.
fn key(identity: &SubscriptionIdentity) -> Bytes {
    let parts = [
        identity.tenant.as_str(),
        identity.rule.as_str(),
        identity.role.as_str(),
        identity.target.as_str(),
    ];
    parts.join("\0").into()
}

fn role(name: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.as_str() == name)
}

fn identity(key: &[u8]) -> Option<SubscriptionIdentity> {
    let mut parts = std::str::from_utf8(key).ok()?.split('\0');
    let name = |text: Option<&str>| Name::new(text?).ok();
    Some(SubscriptionIdentity {
        tenant: name(parts.next())?,
        rule: name(parts.next())?,
        role: role(parts.next()?)?,
        target: name(parts.next())?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
    use crate::suite::{START, wanted};
    use crate::{Journal, ShardNumber};

    async fn numbers(journal: &dyn Shard, wanted: &[Subscription]) -> Vec<u32> {
        let numbers = journal.assign(wanted.to_vec()).await.unwrap();
        numbers.into_iter().map(|number| number.0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_stays_with_its_subscription_whoever_has_it() {
        let clock = Arc::new(RuntimeClock::new(START));
        let number = ShardNumber::new(0).unwrap();
        let journal = MemoryJournal::shard(clock, MemoryOptions::default(), number);
        // From before the numbers were kept.
        journal.subscribe(vec![wanted("old")]).await.unwrap();
        let [old, r, s] = ["old", "r", "s"].map(wanted);
        assert_eq!(
            numbers(&*journal, &[r.clone(), s.clone(), r.clone()]).await,
            [2, 3, 2]
        );
        // Nothing is attached, and nothing is dropped for want of that.
        assert_eq!(journal.reader().subscriptions().await.unwrap().len(), 1);
        journal.subscribe(Vec::new()).await.unwrap();
        assert_eq!(numbers(&*journal, &[s.clone(), old]).await, [3, 1]);
        let mut renamed = wanted("t");
        renamed.renamed_from = Some(r.identity.rule.clone());
        // As long as both are wanted they are two.
        assert_eq!(
            numbers(&*journal, &[r.clone(), renamed.clone()]).await,
            [2, 4]
        );
        let mut again = wanted("u");
        again.renamed_from = Some(r.identity.rule.clone());
        assert_eq!(numbers(&*journal, &[again]).await, [2]);
        // Its name is free.
        assert_eq!(numbers(&*journal, &[r]).await, [5]);
    }
}
