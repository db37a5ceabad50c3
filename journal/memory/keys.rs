//! Keys of entries, as the journal in memory keeps them.

use std::time::Duration;

use pointsman_schemas::{Sequence, SubscriptionNumber};

use super::state::State;
use crate::key::{keys_max, task_id};
use crate::{
    Appended, Entry, Guards, Identity, KnownKeys, Lookup, MadeDelivery, RememberedKey, Terms,
};

impl State {
    /// Looks for the keys of an entry: what it is where it is not to be stored, else the
    /// deliveries that are left out.
    pub(super) fn known_by_key(
        &self,
        entry: &Entry,
    ) -> Result<(Vec<SubscriptionNumber>, KnownKeys), Appended> {
        let (mut left_out, mut known) = (Vec::new(), KnownKeys::default());
        let keys = entry.terms.iter().flat_map(|terms| &terms.keys);
        for (place, key) in keys.enumerate() {
            let Some(sequence) = self.remembered(key.identity, key.window) else {
                continue;
            };
            match &key.guards {
                Guards::Event => return Err(Appended::Duplicate(sequence)),
                Guards::Task => return Err(Appended::Taken(sequence)),
                Guards::Deliveries(subscriptions) => {
                    left_out.extend_from_slice(subscriptions);
                    known.insert(place);
                }
            }
        }
        Ok((left_out, known))
    }

    fn remembered(&self, identity: Identity, window: Duration) -> Option<Sequence> {
        let key = self.keys.get(&identity)?;
        (self.now.time.since(key.at) < window).then_some(key.sequence)
    }

    pub(super) fn remember_keys(
        &mut self,
        terms: &Terms,
        sequence: Sequence,
        made: &[MadeDelivery],
    ) {
        for key in &terms.keys {
            let deliveries = match key.guards {
                Guards::Task => made.iter().map(|one| one.id).collect(),
                Guards::Deliveries(_) if self.remembered(key.identity, key.window).is_some() => {
                    continue;
                }
                Guards::Event | Guards::Deliveries(_) => Vec::new(),
            };
            let at = self.now.time;
            let remembered = RememberedKey {
                identity: key.identity,
                sequence,
                at,
                until: at.plus(key.window),
                deliveries,
            };
            self.keys.insert(key.identity, remembered);
            while self.keys.len() as u64 > keys_max(self.options.bytes_max) {
                let soonest = self.keys.values().min_by_key(|key| key.until);
                let Some(identity) = soonest.map(|key| key.identity) else {
                    break;
                };
                self.keys.remove(&identity);
            }
        }
    }

    pub(super) fn keys(&self, lookup: &Lookup) -> Vec<RememberedKey> {
        let found = match lookup {
            Lookup::Key(identity) => *identity..=*identity,
            Lookup::TaskId { tenant, id } => {
                let shared = task_id(tenant, id);
                Identity([shared, 0])..=Identity([shared, u64::MAX])
            }
        };
        self.keys.range(found).map(|(_, key)| key.clone()).collect()
    }
}
