//! Random histories of queues: whatever happens, the counters add up, keys go one at a time, and
//! each message is told once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pointsman_connectors::{Acknowledgement, Verdict};
use pointsman_schemas::{Epoch, Event, Name, SubscriptionNumber, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::super::queues::{Offered, PipeQueues, SourceKey};
use pointsman_journal::{DeadReason, Ending, Grant, LastOutcome, Leased, Leases, Settlement};

const PIPE: SubscriptionNumber = SubscriptionNumber(7);

#[derive(Clone, Debug)]
enum Step {
    /// Messages, each with order keys of its events: 0 for none.
    Offer(Vec<Vec<u8>>),
    Lease(u8),
    Delivered(u8),
    Retry(u8, u8),
    Dead(u8),
    Released(u8),
    Stored,
    Cancel(u8),
    Wait(u8),
    /// What came this long ago goes into the journal, and with it what follows it by its key.
    Keep(u8),
    /// Nothing waits in the journal any more.
    NothingBefore,
    Orphan,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let messages = prop::collection::vec(prop::collection::vec(0_u8..4, 0..3), 1..4);
    let step = prop_oneof![
        4 => messages.prop_map(Step::Offer),
        5 => (1_u8..6).prop_map(Step::Lease),
        4 => any::<u8>().prop_map(Step::Delivered),
        3 => (any::<u8>(), 0_u8..20).prop_map(|(which, after)| Step::Retry(which, after)),
        2 => any::<u8>().prop_map(Step::Dead),
        1 => any::<u8>().prop_map(Step::Released),
        2 => Just(Step::Stored),
        1 => any::<u8>().prop_map(Step::Cancel),
        2 => (0_u8..30).prop_map(Step::Wait),
        1 => (0_u8..40).prop_map(Step::Keep),
        1 => Just(Step::NothingBefore),
        1 => Just(Step::Orphan),
    ];
    prop::collection::vec(step, 1..60)
}

struct Play {
    queues: PipeQueues,
    source: SourceKey,
    now: Timestamp,
    leased: Vec<Leased>,
    keys: HashMap<String, u8>,
    told: Vec<oneshot::Receiver<Verdict>>,
    offered: usize,
    buried: u64,
    begin: Instant,
    /// Keys of which something waits in the journal.
    in_journal: HashSet<u64>,
}

impl Play {
    fn new() -> Self {
        let mut queues = PipeQueues::new(Epoch(1));
        let source = queues.enter(
            Name::default_tenant(),
            Name::new("s").unwrap(),
            Arc::new(Notify::new()),
        );
        let (leased, keys, told) = (Vec::new(), HashMap::new(), Vec::new());
        let (begin, in_journal) = (Instant::now(), HashSet::new());
        Self {
            queues,
            source,
            now: Timestamp(0),
            leased,
            keys,
            told,
            offered: 0,
            buried: 0,
            begin,
            in_journal,
        }
    }

    fn offer(&mut self, messages: Vec<Vec<u8>>) {
        let offered = messages.into_iter().map(|keys| {
            let (caller, told) = oneshot::channel();
            self.told.push(told);
            let deliveries = keys.into_iter().map(|key| {
                self.offered += 1;
                let id = self.offered.to_string();
                self.keys.insert(id.clone(), key);
                let event = Arc::new(Event::builder(id, "/s", "t").build().unwrap());
                (event, PIPE, (key > 0).then_some(u64::from(key)))
            });
            let deliveries = deliveries.collect();
            let told = |verdict| async move { caller.send(verdict).unwrap() };
            let acknowledgement = Acknowledgement::io(told)
                .with_deadline(self.begin + Duration::from_micros(self.now.0.unsigned_abs()));
            Offered {
                acknowledgement,
                deliveries,
                rejects: Vec::new(),
                positions: Vec::new(),
                goes_back: false,
            }
        });
        let offered = offered.collect();
        self.queues.offer(self.source, offered, None, self.now);
    }

    fn lease(&mut self, count: usize) {
        let grant = Grant {
            subscription: PIPE,
            count,
            lease: Duration::from_secs(60),
            bytes_max: usize::MAX,
            batching: None,
        };
        let mut leases = Leases::default();
        self.queues.lease(&grant, usize::MAX, self.now, &mut leases);
        self.leased.extend(leases.leased);
        let keys: Vec<u8> = self
            .leased
            .iter()
            .map(|one| self.keys[one.event.id()])
            .filter(|key| *key > 0)
            .collect();
        assert_eq!(
            keys.iter().collect::<HashSet<_>>().len(),
            keys.len(),
            "two of one key are in flight"
        );
        assert!(
            keys.iter()
                .all(|key| !self.in_journal.contains(&u64::from(*key))),
            "it overtakes one of its key in the journal"
        );
    }

    fn settle(&mut self, which: u8, ending: Ending) {
        if !self.leased.is_empty() {
            let token = self
                .leased
                .swap_remove(which as usize % self.leased.len())
                .token;
            let settlement = Settlement::new(token, ending);
            assert!(self.queues.settle(settlement.clone(), self.now));
            assert!(
                !self.queues.settle(settlement, self.now),
                "a lease ends once"
            );
        }
    }

    /// Does what an intake does.
    fn store(&mut self) {
        let writes = std::mem::take(&mut self.queues.source(self.source).unwrap().writes);
        self.buried += writes
            .iter()
            .filter(|write| write.moves_delivery_of.is_some())
            .count() as u64;
        writes
            .iter()
            .for_each(|write| self.queues.write_ended(self.source, write, false));
    }

    fn tell(&mut self) {
        for (acknowledgement, verdict) in
            std::mem::take(&mut self.queues.source(self.source).unwrap().acknowledgements)
        {
            acknowledgement.send(verdict).now_or_never().unwrap();
        }
    }

    fn step(&mut self, step: Step) {
        let last = LastOutcome {
            at: self.now,
            class: pointsman_schemas::Class::Failed,
            code: None,
            message: String::new(),
            response: String::new(),
        };
        match step {
            Step::Offer(messages) => self.offer(messages),
            Step::Lease(count) => self.lease(count as usize),
            Step::Delivered(which) => self.settle(which, Ending::Delivered),
            Step::Retry(which, after) => {
                let at = Timestamp(self.now.0 + i64::from(after));
                self.settle(
                    which,
                    Ending::Retry {
                        at,
                        failure: true,
                        batch_max: None,
                        last,
                    },
                );
            }
            Step::Dead(which) => self.settle(
                which,
                Ending::Dead {
                    reason: DeadReason::Rejected,
                    last: Some(last),
                },
            ),
            Step::Released(which) => self.settle(which, Ending::Released),
            Step::Stored => self.store(),
            Step::Cancel(which) => {
                let pending = self.queues.pending(PIPE, None, 1_000);
                if let Some(one) = pending.get(which as usize % pending.len().max(1)) {
                    let flies = self.leased.iter().any(|leased| leased.id == one.id);
                    assert_eq!(self.queues.cancel(one.id), !flies);
                }
            }
            Step::Keep(age) => {
                let time = self.begin
                    + Duration::from_micros((self.now.0 - i64::from(age)).max(0).unsigned_abs());
                self.queues.spill_overdue(self.source, time, self.now);
            }
            Step::NothingBefore => {
                if let Some(spilled) = self.queues.may_have_earlier(self.source, PIPE) {
                    self.queues.has_no_earlier(PIPE, spilled);
                    self.in_journal.clear();
                }
            }
            Step::Wait(time) => self.now.0 += i64::from(time),
            Step::Orphan => {
                self.queues.orphan(self.source);
                // Callers hear that it failed as the acknowledgement is dropped.
                self.tell();
                self.told.retain_mut(|told| {
                    matches!(told.try_recv(), Err(oneshot::error::TryRecvError::Empty))
                });
            }
        }
        let writes = self.queues.source(self.source).unwrap().writes.iter();
        let waiting = writes
            .flat_map(|write| &write.entries)
            .flat_map(|entry| &entry.deliveries);
        self.in_journal
            .extend(waiting.filter_map(|delivery| delivery.order_key));
        self.tell();
        self.check();
    }

    fn check(&self) {
        let Some((counts, _)) = self.queues.status(PIPE) else {
            return;
        };
        assert_eq!(
            counts.created,
            counts.delivered + counts.cancelled + counts.pending,
            "{counts:?}"
        );
        assert_eq!(
            counts.created + self.buried,
            self.offered as u64,
            "{counts:?}"
        );
        assert_eq!(counts.in_flight, self.leased.len() as u64);
        assert!(counts.retrying <= counts.pending, "{counts:?}");
    }

    /// Whoever leases what is told of gets everything, and then every message has been told.
    fn drain(&mut self) {
        loop {
            while !self.leased.is_empty() {
                self.settle(0, Ending::Delivered);
            }
            self.now.0 += 100;
            self.queues.take_ready(self.now);
            self.lease(usize::MAX);
            if self.leased.is_empty() {
                break;
            }
        }
        self.store();
        self.tell();
        self.check();
        for told in &mut self.told {
            assert!(told.try_recv().is_ok(), "a message was not told");
        }
        let (counts, oldest) = self.queues.status(PIPE).unwrap_or_default();
        assert_eq!((counts.pending, counts.retrying, oldest), (0, 0, None));
        assert_eq!(self.queues.drain(self.source), 0);
        self.queues.source(self.source).unwrap().draining = false;
        assert!(
            self.queues.may_pull(self.source, Some(PIPE)),
            "everything has ended, and there is room"
        );
    }
}

#[test]
fn random_histories_lose_nothing() {
    let config = Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&steps(), |steps| {
        let mut play = Play::new();
        for step in steps {
            play.step(step);
        }
        play.drain();
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}
