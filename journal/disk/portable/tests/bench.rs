//! A journal to which many things happen, and that is moved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::{
    Class, Clock, Cursor, Event, Name, PositionChange, Reject, Sequence, SubscriptionNumber,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::moved::{move_stores, note_parts, open_shards};
use crate::disk::DiskOptions;
use crate::memory::RuntimeClock;
use crate::sharded::Sharded;
use crate::suite::{self, MINUTE, START, append_of, entry, keyed, last, wanted};
use crate::{
    Activity, Append, Appended, AttemptMade, DeadReason, DeadSelection, Ending, Entry, EventsFrom,
    Guards, Identity, Journal, Key, Leased, NewDelivery, Priority, Record, Retention, Settlement,
    StoredEvent, Terms,
};

pub(super) const RULES: [&str; 3] = ["ordered", "plain", "held"];
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One thing that happens to a journal.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Events of one of the sources: for each its order key and a number that decides the rest.
    Append(u8, Vec<(u8, u8)>),
    /// So many attempts of a rule, that come to one of several ends.
    Attempt(u8, u8, u8),
    /// Something that is done to what waits, or is dead.
    Steer(u8),
    Wait(u8),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let events = prop::collection::vec((0_u8..5, any::<u8>()), 1..12);
    let step = prop_oneof![
        4 => (0_u8..3, events).prop_map(|(source, events)| Step::Append(source, events)),
        4 => (0_u8..3, 1_u8..8, 0_u8..5)
            .prop_map(|(rule, count, end)| Step::Attempt(rule, count, end)),
        2 => (0_u8..5).prop_map(Step::Steer),
        1 => (1_u8..90).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 4..30)
}

/// Stores in a folder, and the journal that they make.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    /// How often the stores were moved.
    pub(super) moves: usize,
    pub(super) shards: u16,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) journal: Arc<Sharded>,
    pub(super) numbers: Vec<SubscriptionNumber>,
    /// What was appended with something by which it is known again.
    pub(super) known: Vec<(Name, Entry)>,
    pub(super) appended: usize,
}

impl Bench {
    pub(super) async fn new(shards: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new(START));
        let path = folder.path().join("0");
        let (journal, _) = open_shards(&path, shards, options(), &clock);
        let mut bench = Self {
            folder,
            moves: 0,
            shards,
            clock,
            journal,
            numbers: Vec::new(),
            known: Vec::new(),
            appended: 0,
        };
        bench.subscribe().await;
        bench
    }

    pub(super) async fn subscribe(&mut self) {
        let wanted = RULES.iter().map(|rule| wanted(rule)).collect();
        self.numbers = self.journal.subscribe(wanted).await.unwrap();
    }

    /// Moves the stores into another number of shards.
    pub(super) async fn move_to(&mut self, shards: u16) -> Vec<String> {
        self.journal.close().await;
        let before = self.folder.path().join(self.moves.to_string());
        note_parts(&before, self.shards);
        self.moves += 1;
        let path = self.folder.path().join(self.moves.to_string());
        let imported = move_stores((&before, self.shards), (&path, shards), &*self.clock);
        let (journal, _) = open_shards(&path, shards, options(), &self.clock);
        (self.shards, self.journal) = (shards, journal);
        imported.notes
    }

    pub(super) async fn step(&mut self, step: &Step) {
        match step {
            Step::Append(source, events) => self.append(*source, events).await,
            Step::Attempt(rule, count, end) => {
                let leased = self.lease(*rule as usize, usize::from(*count)).await;
                self.settle(leased, *end).await;
            }
            Step::Steer(what) => self.steer(*what).await,
            Step::Wait(seconds) => {
                tokio::time::advance(Duration::from_secs((*seconds).into())).await;
            }
        }
    }

    /// Of the sources one is at home in a shard, one brings what cannot be read as well, and one
    /// has neither.
    pub(super) async fn append(&mut self, source: u8, events: &[(u8, u8)]) {
        let [ordered, plain, held] = self.numbers[..] else {
            panic!("there are three")
        };
        let origin = name(["at-home", "rejecting", "else"][source as usize]);
        let mut append = Append {
            origin: origin.clone(),
            ..append_of(Vec::new())
        };
        for (key, bits) in events {
            self.appended += 1;
            let id = format!("{source}-{}", self.appended);
            let mut entry = match key {
                0 => entry(&id, &[plain]),
                _ => keyed(&id, ordered, (*key).into()),
            };
            match bits % 8 {
                0 => entry.deduplicate = Some(DAY),
                1 => entry.terms = Some(terms(&origin, &id)),
                2 => entry.deliveries.push(NewDelivery {
                    priority: Priority::new(3).unwrap(),
                    due: Some(self.journal.clock().now().plus(MINUTE * 5)),
                    ..NewDelivery::now(held)
                }),
                // Of another key, which may be in another shard.
                3 => entry.deliveries.push(NewDelivery {
                    order_key: Some(u64::from(*key) + 7),
                    ..NewDelivery::now(held)
                }),
                4 => entry.deliveries.clear(),
                _ => {}
            }
            if bits % 8 < 2 {
                self.known.push((origin.clone(), entry.clone()));
            }
            append.entries.push(entry);
        }
        if source == 0 {
            append.cursor = Some(Cursor {
                fingerprint: u64::MAX,
                position: Bytes::from(self.appended.to_string()),
            });
            append.positions.push(PositionChange {
                key: Bytes::from(vec![0xFF, (self.appended % 5) as u8]),
                value: (!self.appended.is_multiple_of(3)).then(|| Bytes::from_static(b"x\n")),
            });
        }
        if source == 1 {
            append.rejects.push(Reject {
                reason: "no JSON".to_owned(),
                raw: Bytes::from(vec![0, self.appended as u8]),
            });
        }
        self.journal.append(append).await.unwrap();
    }

    pub(super) async fn lease(&self, rule: usize, count: usize) -> Vec<Leased> {
        suite::lease(&*self.journal, self.numbers[rule], count).await
    }

    pub(super) async fn settle(&self, leased: Vec<Leased>, end: u8) {
        let now = self.journal.clock().now();
        let ending = match end {
            0 | 1 => Ending::Delivered,
            2 => Ending::Retry {
                at: now.plus(MINUTE),
                failure: true,
                batch_max: std::num::NonZeroU32::new(5),
                last: last(now),
            },
            3 => Ending::Dead {
                reason: DeadReason::Exhausted,
                last: Some(last(now)),
            },
            _ => Ending::Released,
        };
        let class = match ending {
            Ending::Delivered => Class::Delivered,
            _ => Class::Failed,
        };
        let settlement = |leased: &Leased| Settlement {
            record: Record::Attempt(AttemptMade {
                began: now,
                ran: Duration::from_millis(3),
                called: Some("POST /".into()),
                class,
                code: Some(200),
                message: String::new(),
                answer: "ok".to_owned(),
                wait: None,
            }),
            ..Settlement::new(leased.token, ending.clone())
        };
        let settlements: Vec<_> = leased.iter().map(settlement).collect();
        self.journal.settle(settlements).await.unwrap();
    }

    pub(super) async fn steer(&self, what: u8) {
        let journal = &self.journal;
        let pending = journal.reader().pending(self.numbers[1], None, 2).await;
        let pending: Vec<_> = pending.unwrap().iter().map(|one| one.id).collect();
        let all = DeadSelection::default();
        let dead = journal.reader().dead(&all, None, 2).await.unwrap();
        match what {
            0 => drop(journal.suspend(&pending).await.unwrap()),
            1 => drop(journal.cancel(&pending).await.unwrap()),
            2 => {
                let activity = Activity::Suspended;
                journal
                    .set_activity(self.numbers[2], activity)
                    .await
                    .unwrap();
            }
            3 => {
                for letter in dead {
                    let event = Event::builder("edited", "/suite", "t").build().unwrap();
                    let edited = Some(Arc::new(event));
                    journal.edit_dead(letter.id, edited).await.unwrap();
                }
            }
            _ => {
                let ids = dead.iter().map(|letter| letter.id).collect();
                let selection = DeadSelection {
                    ids: Some(ids),
                    ..all
                };
                journal.redrive(&selection).await.unwrap();
            }
        }
    }

    /// The ids of retained events, by their sequences.
    pub(super) async fn events(&self) -> BTreeMap<Sequence, String> {
        let (from, all) = (EventsFrom::After(Sequence(0)), 100_000);
        let page = self.journal.reader().events(from, all, usize::MAX).await;
        let id = |stored: StoredEvent| (stored.sequence, stored.event.id().to_owned());
        page.unwrap().events.into_iter().map(id).collect()
    }

    /// What came once is known to have come, as long as it is remembered.
    pub(super) async fn knows_again(&self) {
        for (origin, entry) in &self.known {
            let append = Append {
                origin: origin.clone(),
                ..append_of(vec![entry.clone()])
            };
            let appended = self.journal.append(append).await.unwrap();
            let id = entry.event.id();
            assert!(
                matches!(appended[..], [Appended::Duplicate(_)]),
                "{id}: {appended:?}"
            );
        }
    }

    /// Delivers everything, and says what of each rule and key came from each source, in order.
    pub(super) async fn deliver(&self) -> BTreeMap<(u32, u64, String), Vec<String>> {
        let mut delivered: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for number in &self.numbers {
            self.journal
                .set_activity(*number, Activity::Active)
                .await
                .unwrap();
        }
        let mut idle = 0;
        // Some are due in five minutes.
        while idle < 7 {
            let before: usize = delivered.values().map(Vec::len).sum();
            for (rule, number) in self.numbers.iter().enumerate() {
                let waiting = self
                    .journal
                    .reader()
                    .pending(*number, None, 100_000)
                    .await
                    .unwrap();
                let held: Vec<_> = waiting.iter().map(|one| one.id).collect();
                self.journal.resume(&held).await.unwrap();
                let leased = self.lease(rule, 5).await;
                for one in &leased {
                    let key = waiting.iter().find(|waiting| waiting.id == one.id);
                    let key = key.unwrap().order_key.unwrap_or_default();
                    let id = one.event.id().to_owned();
                    let group = (number.0, key, id[..1].to_owned());
                    delivered.entry(group).or_default().push(id);
                }
                self.settle(leased, 0).await;
            }
            let after: usize = delivered.values().map(Vec::len).sum();
            idle = if after == before { idle + 1 } else { 0 };
            tokio::time::advance(MINUTE).await;
        }
        delivered
    }
}

pub(super) fn options() -> DiskOptions {
    DiskOptions {
        retention: DAY * 30,
        // What is kept free for a full disk is a part of it, in each store.
        max_size_bytes: 1 << 26,
        ..DiskOptions::default()
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn terms(origin: &Name, id: &str) -> Box<Terms> {
    Box::new(Terms {
        keys: vec![Key {
            identity: Identity::of_source(&Name::default_tenant(), origin, "", id),
            window: DAY,
            guards: Guards::Event,
        }],
        watch: None,
        retention: Some(Retention {
            instead: None,
            at_least: DAY * 60,
        }),
    })
}
