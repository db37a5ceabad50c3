//! The conformance suite over shards, and what it cannot see.

mod division;
mod listing;
mod moving;
mod replaying;
mod tenants;

use tempfile::TempDir;

use super::*;
use crate::disk::{DiskJournal, DiskOptions};
use crate::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use crate::suite::{self, Bounds, Implementation, MINUTE, START, append_of, keyed, stored, wanted};
use crate::{Ending, Leased};

fn number(number: u16) -> ShardNumber {
    ShardNumber::new(number).unwrap()
}

fn in_memory(count: u16, clock: &Arc<dyn Clock>, bounds: Bounds) -> Arc<Sharded> {
    let options = MemoryOptions {
        retention: bounds.retention,
        bytes_max: bounds.bytes_max,
        ..MemoryOptions::default()
    };
    let shard =
        |place| MemoryJournal::shard(Arc::clone(clock), options, number(place)) as Arc<dyn Shard>;
    Sharded::new((0..count).map(shard).collect()).unwrap()
}

struct InMemory(u16);

#[async_trait]
impl Implementation for InMemory {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        in_memory(self.0, &clock, bounds)
    }

    fn keeps_numbers(&self) -> bool {
        true
    }

    fn persists(&self) -> bool {
        false
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        Box::new(|| {})
    }

    async fn upkeep(&self) {}
}

/// Two stores, each in a directory of its own.
struct OnDisk {
    directories: [TempDir; 2],
    last: RwLock<Vec<std::sync::Weak<DiskJournal>>>,
}

impl OnDisk {
    fn new() -> Self {
        Self {
            directories: [TempDir::new().unwrap(), TempDir::new().unwrap()],
            last: RwLock::default(),
        }
    }
}

#[async_trait]
impl Implementation for OnDisk {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let options = DiskOptions {
            retention: bounds.retention,
            max_size_bytes: bounds.bytes_max,
            ..DiskOptions::default()
        };
        let shards: Vec<_> = (0..).zip(&self.directories).collect();
        let open = |(place, directory): (u16, &TempDir)| {
            let clock = Arc::clone(&clock);
            DiskJournal::open_shard(directory.path(), options, clock, number(place)).unwrap()
        };
        let shards: Vec<Arc<DiskJournal>> = shards.into_iter().map(open).collect();
        *self.last.write() = shards.iter().map(Arc::downgrade).collect();
        let shards = shards.into_iter().map(|shard| shard as Arc<dyn Shard>);
        Sharded::new(shards.collect()).unwrap()
    }

    fn keeps_numbers(&self) -> bool {
        true
    }

    fn persists(&self) -> bool {
        true
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        let directories = self.directories.iter();
        suite::files_as_they_lie(directories.map(|directory| directory.path().to_owned()))
    }

    async fn upkeep(&self) {
        let last: Vec<_> = self
            .last
            .read()
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        for journal in last {
            journal.upkeep().await;
        }
    }
}

mod of_two_on_disk {
    use super::*;
    crate::conformance!(over shards: OnDisk::new());
}

mod of_one {
    use super::*;
    crate::conformance!(InMemory(1));
}

mod of_three {
    use super::*;
    crate::conformance!(over shards: InMemory(3));
}

mod of_four {
    use super::*;
    crate::conformance!(over shards: InMemory(4));
}

/// Three shards, of which `default` has so many: the first one before others.
struct Few(u16);

#[async_trait]
impl Implementation for Few {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        let journal = in_memory(3, &clock, bounds);
        journal.divide_by(&tenants::with(self.0), BTreeSet::new());
        journal
    }

    fn keeps_numbers(&self) -> bool {
        true
    }

    fn persists(&self) -> bool {
        false
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        Box::new(|| {})
    }

    async fn upkeep(&self) {}
}

mod of_tenants_with_one_of_three {
    use super::*;
    crate::conformance!(over shards: Few(1));
}

mod of_tenants_with_two_of_three {
    use super::*;
    crate::conformance!(over shards: Few(2));
}

/// As many shards, and every source at home in one of them: what goes whole is as in one journal.
struct AtHome(u16);

#[async_trait]
impl Implementation for AtHome {
    async fn open(&self, clock: Arc<dyn Clock>, bounds: Bounds) -> Arc<dyn Journal> {
        // Where a test bounds the store, it is the one that everything is in.
        let is_roomy = bounds.bytes_max >= 1 << 30;
        let shard = |place| {
            let options = MemoryOptions {
                retention: bounds.retention,
                bytes_max: if place == 0 || is_roomy {
                    bounds.bytes_max
                } else {
                    0
                },
                ..MemoryOptions::default()
            };
            MemoryJournal::shard(Arc::clone(&clock), options, number(place)) as Arc<dyn Shard>
        };
        let sharded = Sharded::new((0..self.0).map(shard).collect()).unwrap();
        for tenant in ["default", "other"] {
            sharded.is_at_home(&Name::new(tenant).unwrap(), &Name::new("suite").unwrap());
        }
        sharded
    }

    fn keeps_numbers(&self) -> bool {
        true
    }

    fn persists(&self) -> bool {
        false
    }

    fn as_it_lies(&self) -> Box<dyn FnOnce() + Send> {
        Box::new(|| {})
    }

    async fn upkeep(&self) {}
}

mod at_home {
    use super::*;
    crate::conformance!(AtHome(AT_FIRST));
}

/// So many shards that the suite's source is at home in the first one.
const AT_FIRST: u16 = 3;

#[test]
fn the_suite_is_at_home_in_the_first_shard() {
    let home = route::home(&Name::new("default").unwrap(), &Name::new("suite").unwrap());
    let fits: Vec<_> = (2..9).filter(|count| home.is_multiple_of(*count)).collect();
    assert!(fits.contains(&usize::from(AT_FIRST)), "{fits:?}");
}

/// Shards in memory, and the journal over them.
struct Bench {
    shards: Vec<Arc<MemoryJournal>>,
    journal: Arc<Sharded>,
    numbers: Vec<SubscriptionNumber>,
}

impl Bench {
    /// With the subscriptions r and s.
    async fn new(count: u16) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new(START));
        let shard = |place| {
            let clock = Arc::clone(&clock);
            MemoryJournal::shard(clock, MemoryOptions::default(), number(place))
        };
        let shards: Vec<_> = (0..count).map(shard).collect();
        let journal = over(&shards);
        let numbers = journal
            .subscribe(vec![wanted("r"), wanted("s")])
            .await
            .unwrap();
        Self {
            shards,
            journal,
            numbers,
        }
    }

    /// Stores one event for each of these keys, and returns their sequences.
    async fn keyed(&self, ids: std::ops::Range<u64>, key: impl Fn(u64) -> u64) -> Vec<Sequence> {
        let entry = |id: u64| keyed(&id.to_string(), self.numbers[0], key(id));
        let append = append_of(ids.map(entry).collect());
        let appended = self.journal.append(append).await.unwrap();
        appended.into_iter().map(stored).collect()
    }

    async fn lease(&self, count: usize) -> Vec<Leased> {
        suite::lease(&*self.journal, self.numbers[0], count).await
    }

    /// Leases and delivers until nothing is left, and returns the events in that order.
    async fn deliver_all(&self) -> Vec<Arc<Event>> {
        let mut delivered = Vec::new();
        loop {
            let leased = self.lease(9).await;
            if leased.is_empty() {
                return delivered;
            }
            delivered.extend(leased.iter().map(|one| Arc::clone(&one.event)));
            let ends = leased
                .iter()
                .map(|one| Settlement::new(one.token, Ending::Delivered));
            self.journal.settle(ends.collect()).await.unwrap();
        }
    }
}

fn over(shards: &[Arc<MemoryJournal>]) -> Arc<Sharded> {
    let shards = shards
        .iter()
        .map(|shard| Arc::clone(shard) as Arc<dyn Shard>);
    Sharded::new(shards.collect()).unwrap()
}

fn shards_of(sequences: &[Sequence]) -> Vec<u16> {
    let shards = sequences
        .iter()
        .map(|sequence| ShardNumber::of(*sequence).get());
    let shards: std::collections::BTreeSet<u16> = shards.collect();
    shards.into_iter().collect()
}

#[test]
fn journals_are_the_shards_of_one_under_numbers_of_their_own() {
    crate::suite::paused(async {
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new(START));
        let shard = |place| {
            let (clock, options) = (Arc::clone(&clock), MemoryOptions::default());
            MemoryJournal::shard(clock, options, number(place)) as Arc<dyn Shard>
        };
        let refused = |shards| Sharded::new(shards).map(drop).unwrap_err();
        assert_eq!(refused(Vec::new()), NoShards::Count(0));
        assert_eq!(
            refused(vec![shard(7), shard(2), shard(7)]),
            NoShards::Twice(number(7))
        );
        let alone = MemoryJournal::new(Arc::clone(&clock), MemoryOptions::default());
        assert_eq!(refused(vec![shard(1), alone]), NoShards::Alone);
    });
}
