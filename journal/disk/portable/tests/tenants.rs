//! What waits of a tenant with few shards, moved to where its keys are looked for.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_schemas::{Clock, PositionChange, SubscriptionNumber, SystemClock};
use tempfile::TempDir;

use super::bench::name;
use super::moved::{move_stores, note_parts, open_shards};
use crate::disk::{DiskJournal, DiskOptions};
use crate::sharded::tenants::{CLUSTER, RULE_VERSIONS, TENANT_SHARDS};
use crate::sharded::{Sharded, TenantShards};
use crate::suite::{keyed, paused, wanted};
use crate::{Append, Journal, Shard, ShardNumber, Subscription, SubscriptionIdentity};

const KEYS: u64 = 20;

fn of_acme(count: Option<u16>) -> TenantShards {
    let acme = count.map(|count| (name("acme"), NonZeroU16::new(count)));
    TenantShards(acme.into_iter().collect())
}

/// A journal in a folder, as a cluster runs on it.
struct Opened {
    journal: Arc<Sharded>,
    shards: Vec<Arc<DiskJournal>>,
    subscription: SubscriptionNumber,
}

impl Opened {
    async fn at((path, count): (&Path, u16)) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (journal, shards) = open_shards(path, count, DiskOptions::default(), &clock);
        let of_acme = wanted("r");
        let identity = SubscriptionIdentity {
            tenant: name("acme"),
            ..of_acme.identity.clone()
        };
        let of_acme = Subscription {
            identity,
            ..of_acme
        };
        let subscription = journal.subscribe(vec![of_acme]).await.unwrap()[0];
        let opened = Self {
            journal,
            shards,
            subscription,
        };
        let says = opened.says().await;
        opened.journal.divide_by(&says, BTreeSet::new());
        opened
    }

    /// How many shards tenants have, as the first one says.
    async fn says(&self) -> TenantShards {
        let (tenant, source) = (name(CLUSTER), name(RULE_VERSIONS));
        let rows = self.shards[0].positions(&tenant, &source, None, 9).await;
        let rows = rows.unwrap();
        let row = rows.iter().find(|row| row.key == TENANT_SHARDS);
        row.map_or_else(TenantShards::default, |row| {
            TenantShards::decode(&row.value).unwrap()
        })
    }

    async fn say(&self, shards: &TenantShards) {
        let (tenant, source) = (name(CLUSTER), name(RULE_VERSIONS));
        let change = PositionChange {
            key: TENANT_SHARDS.into(),
            value: Some(shards.encode()),
        };
        self.shards[0]
            .note(tenant, source, vec![change])
            .await
            .unwrap();
        self.journal.divide_by(shards, BTreeSet::new());
    }

    async fn append(&self, round: &str) {
        let entry = |key: u64| keyed(&format!("{round}-{key}"), self.subscription, key);
        let append = Append {
            tenant: name("acme"),
            origin: name("suite"),
            entries: (0..KEYS).map(entry).collect(),
            rejects: Vec::new(),
            cursor: None,
            positions: Vec::new(),
        };
        self.journal.append(append).await.unwrap();
    }

    /// In which shard the events of each key wait; those of one key wait in one.
    async fn waits(&self, rounds: usize) -> Vec<u16> {
        let reader = self.journal.reader();
        let pending = reader
            .pending(self.subscription, None, 1_000)
            .await
            .unwrap();
        let shards = (0..KEYS).map(|key| {
            let own = pending.iter().filter(|one| one.order_key == Some(key));
            let shards: Vec<_> = own
                .map(|one| ShardNumber::of(one.id.sequence).get())
                .collect();
            assert_eq!(shards, vec![shards[0]; rounds], "of {key}");
            shards[0]
        });
        shards.collect()
    }

    async fn close(self, (path, count): (&Path, u16)) {
        self.journal.close().await;
        note_parts(path, count);
    }
}

/// Moves what waits into other shards and back, where the stores say so many shards of a tenant.
async fn moves(says: Option<u16>, expect: u16) {
    let folder = TempDir::new().unwrap();
    let turns = [4, 3, 1, 5].map(|count| (folder.path().join(count.to_string()), count));
    let turns = turns
        .each_ref()
        .map(|(path, count)| (PathBuf::as_path(path), *count));
    let mut rounds = 1;
    let opened = Opened::at(turns[0]).await;
    opened.say(&of_acme(says)).await;
    opened.append("0").await;
    opened.close(turns[0]).await;
    for (before, now) in turns.iter().zip(&turns[1..]) {
        move_stores(*before, *now, &SystemClock);
        let opened = Opened::at(*now).await;
        assert_eq!(opened.says().await, of_acme(Some(expect)));
        let places: BTreeSet<u16> = opened.waits(rounds).await.into_iter().collect();
        assert_eq!(places.len(), usize::from(expect.min(now.1)));
        opened.append(&rounds.to_string()).await;
        rounds += 1;
        opened.waits(rounds).await;
        opened.close(*now).await;
    }
}

#[test]
fn what_waits_is_where_its_key_is_looked_for() {
    paused(moves(Some(1), 1));
    paused(moves(Some(2), 2));
}

#[test]
fn a_tenant_of_which_an_export_says_nothing_has_one_shard_from_then_on() {
    paused(moves(None, 1));
}
