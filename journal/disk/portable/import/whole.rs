//! What holds for all of the new stores together: subscriptions with their counts, and the ledger.

use std::collections::BTreeMap;

use pointsman_schemas::{Epoch, JournalId};

use super::super::PortableError;
use super::super::line::SubscriptionLine;
use super::Import;
use super::replays::Replays;
use super::store::{NewStore, OfAll};
use crate::Counts;
use crate::disk::Part;
use crate::disk::actual::Actual;
use crate::disk::epochs::Epochs;
use crate::disk::record::Subscribed;
use crate::disk::schema::Ledger;

impl Import {
    /// Completes all stores. Returns what is not as it was.
    pub(super) fn finish(self) -> Result<Vec<String>, PortableError> {
        let mut notes = Vec::new();
        let again = self.replays.store(&self.places, &self.stores)?;
        notes.extend(again.iter().map(|id| {
            format!("the replay {id} goes on with the first event that it has not looked at: some come again")
        }));
        if let Some(first) = self.stores.first() {
            first.tenants(&self.tenants)?;
        }
        let actual = self.stores.iter().map(NewStore::count);
        let actual: Vec<Actual> = actual.collect::<Result<_, _>>()?;
        let mut subscriptions = vec![BTreeMap::new(); actual.len()];
        let mut lost = 0;
        for line in self.subscriptions.values() {
            lost += divide(line, &self.replays, &actual, &mut subscriptions);
        }
        if lost > 0 {
            notes.push(format!(
                "{lost} deliveries were counted and are not there; they count as quarantined"
            ));
        }
        let epoch = Epoch(rand::random());
        let shards = u16::try_from(self.stores.len()).unwrap_or(u16::MAX);
        let is_same = shards == 1 && self.places.keeps();
        if !is_same {
            notes.push("ids of tasks are new".to_owned());
        }
        let last = match self.places.keeps() {
            true => crate::shard::within(self.head.last_sequence),
            false => self.places.last(),
        };
        let of_each = self.stores.into_iter().zip(actual).zip(subscriptions);
        for (((store, actual), subscriptions), shard) in of_each.zip(0..) {
            let before = store.before_first();
            let epochs = if is_same {
                Epochs::of_eras(&self.head.epochs)
            } else {
                let mut epochs = Epochs::default();
                epochs.begin(epoch, before, 0, 0);
                epochs
            };
            let mut ledger = Ledger {
                last_sequence: before | last,
                last_run: self.head.last_run,
                old_identities_until: self.head.old_identities_until,
                last_subscription: self.head.last_subscription,
                time: self.head.time,
                ..Ledger::default()
            };
            // What is counted once for all is counted in the first.
            let mut id = JournalId(rand::random());
            if shard == 0 {
                id = JournalId(self.head.journal);
                ledger.quarantined = self.head.quarantined + lost;
                ledger.lost_commits = self.head.lost_commits;
                ledger.dropped = self.head.dropped;
            }
            let of_all = OfAll {
                ledger,
                id,
                epochs,
                part: Part { shard, shards },
            };
            store.finish(&subscriptions, &actual, of_all)?;
        }
        Ok(notes)
    }
}

/// Makes a subscription's rows, for each store that has something of it and for all where rules
/// want it. What it has counted lies in the first of them. Returns how many of its deliveries are
/// not there.
fn divide(
    line: &SubscriptionLine,
    replays: &Replays,
    actual: &[Actual],
    subscriptions: &mut [BTreeMap<u32, Subscribed>],
) -> u64 {
    let number = line.number;
    let own = actual.iter().map(|actual| {
        let own = actual.subscriptions.get(&number).copied();
        let (pending, retrying, dead) = own.unwrap_or_default();
        Counts {
            created: pending + dead,
            pending,
            retrying,
            dead,
            ..Counts::default()
        }
    });
    let own: Vec<Counts> = own.collect();
    let there: Counts = own.iter().sum();
    let Counts {
        created,
        delivered,
        redriven,
        purged,
        cancelled,
        quarantined,
        ..
    } = line.counts;
    let ended = delivered + redriven + purged + cancelled;
    let missing = created.saturating_sub(ended + quarantined + there.created);
    let quarantined = quarantined + missing;
    let mut counted = Some(Counts {
        created: ended + quarantined,
        delivered,
        redriven,
        purged,
        cancelled,
        quarantined,
        ..Counts::default()
    });
    let is_wanted = line.attached || replays.is_catching_up(number);
    let first = own.iter().position(|own| own.created > 0).unwrap_or(0);
    for (shard, (mut counts, rows)) in own.into_iter().zip(subscriptions).enumerate() {
        if shard != first && counts.created == 0 && !is_wanted {
            continue;
        }
        if shard == first
            && let Some(counted) = counted.take()
        {
            counts += &counted;
        }
        let row = Subscribed {
            identity: line.identity.clone(),
            attached: line.attached,
            activity: line.activity,
            backlog: line.backlog,
            runs_of_format_1: 0,
            counts,
            elsewhere: 0,
            catching_up: None,
        };
        rows.insert(number, row);
    }
    missing
}
