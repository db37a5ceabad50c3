//! Random histories: every journal answers as the one in memory does, and its counters add up after
//! every step.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::memory::{MemoryJournal, MemoryOptions};
use crate::{Activity, Backlog, DeadReason, DeadSelection, NewDead};

/// One thing that somebody does to a journal. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Per event: bits of the subscriptions, an order key (0 for none), a delay in seconds.
    Append(Vec<(u8, u8, u8)>),
    Duplicate(u8),
    /// An event whose delivery, with this order key, has ended already.
    Ended(u8, u8),
    Lease(u8, u8),
    Settle(u8, Settle),
    Wait(u8),
    Subscribe(u8),
    Activity(u8, bool),
    Redrive(u8),
    Purge(u8),
    Cancel(u8, u8),
    CancelAll(u8),
    MoveAll(u8, u8),
    Replay(u8, u8),
    Reopen,
}

#[derive(Clone, Debug)]
enum Settle {
    Delivered,
    Retry(u8),
    Dead,
    Released,
    DeliveredThenOriginal(u8),
    DeadThenReport(u8),
}

const RULES: [&str; 4] = ["a", "b", "stops", "buries"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = 0_u8..6;
    let settle = prop_oneof![
        4 => Just(Settle::Delivered),
        2 => (0_u8..40).prop_map(Settle::Retry),
        2 => Just(Settle::Dead),
        1 => Just(Settle::Released),
        1 => small.clone().prop_map(Settle::DeliveredThenOriginal),
        1 => small.clone().prop_map(Settle::DeadThenReport),
    ];
    let event = (
        0_u8..16,
        0_u8..4,
        prop_oneof![3 => Just(0_u8), 1 => 1_u8..40],
    );
    let step = prop_oneof![
        6 => prop::collection::vec(event, 1..6).prop_map(Step::Append),
        1 => small.clone().prop_map(Step::Duplicate),
        1 => (small.clone(), 0_u8..4)
            .prop_map(|(subscription, key)| Step::Ended(subscription, key)),
        6 => (small.clone(), 1_u8..8)
            .prop_map(|(subscription, count)| Step::Lease(subscription, count)),
        9 => (any::<u8>(), settle).prop_map(|(which, settle)| Step::Settle(which, settle)),
        2 => (0_u8..90).prop_map(Step::Wait),
        1 => (0_u8..16).prop_map(Step::Subscribe),
        1 => (small.clone(), any::<bool>())
            .prop_map(|(subscription, active)| Step::Activity(subscription, active)),
        1 => small.clone().prop_map(Step::Redrive),
        1 => small.clone().prop_map(Step::Purge),
        1 => (small.clone(), any::<u8>())
            .prop_map(|(subscription, which)| Step::Cancel(subscription, which)),
        1 => small.clone().prop_map(Step::CancelAll),
        1 => (small.clone(), small.clone()).prop_map(|(from, to)| Step::MoveAll(from, to)),
        1 => (small, 1_u8..30).prop_map(|(subscription, to)| Step::Replay(subscription, to)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// Plays random histories to fresh stores of an implementation and to the model.
pub fn random_histories(new: impl Fn() -> Box<dyn Implementation>) {
    let config = Config {
        cases: 80,
        failure_persistence: None,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&steps(), |steps| {
        paused(play(&*new(), steps));
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}

/// A journal, the model, and the leases that stand in both.
struct Play<'i> {
    bench: Bench<'i>,
    model: Arc<MemoryJournal>,
    subscriptions: Vec<SubscriptionNumber>,
    leases: Vec<(LeaseToken, LeaseToken)>,
    appended: usize,
}

async fn play(implementation: &dyn Implementation, steps: Vec<Step>) {
    let bench = Bench::bounded(
        implementation,
        Bounds {
            retention: MINUTE * 60 * 24 * 30,
            ..ROOMY
        },
    )
    .await;
    let model = MemoryJournal::new(
        Arc::clone(&bench.clock) as Arc<dyn Clock>,
        MemoryOptions {
            retention: bench.bounds.retention,
            ..MemoryOptions::default()
        },
    );
    let mut play = Play {
        bench,
        model,
        subscriptions: Vec::new(),
        leases: Vec::new(),
        appended: 0,
    };
    play.subscribe(u8::MAX).await;
    for step in steps {
        play.step(step).await;
        play.compare().await;
    }
    play.drain().await;
}

impl Play<'_> {
    /// Asks both the same and compares what they say, journal ids and tokens aside.
    async fn both<T: std::fmt::Debug + PartialEq, F: Future<Output = T>>(
        &self,
        ask: impl Fn(Arc<dyn Journal>) -> F,
    ) -> T {
        let real = ask(Arc::clone(&self.bench.journal)).await;
        let model = ask(Arc::clone(&self.model) as Arc<dyn Journal>).await;
        assert_eq!(real, model, "the journal, and what the model says");
        real
    }

    fn pick(&self, number: u8) -> SubscriptionNumber {
        self.subscriptions[number as usize % self.subscriptions.len()]
    }

    async fn subscribe(&mut self, bits: u8) {
        let backlog = |rule| match rule {
            "stops" => Some(Backlog {
                max: 6,
                dead_when_full: false,
            }),
            "buries" => Some(Backlog {
                max: 3,
                dead_when_full: true,
            }),
            _ => None,
        };
        let chosen = RULES
            .iter()
            .enumerate()
            .filter(|(index, _)| bits & (1 << index) != 0);
        let wanted: Vec<_> = chosen
            .clone()
            .map(|(_, rule)| Subscription {
                backlog: backlog(rule),
                ..wanted(rule)
            })
            .collect();
        let numbers = self
            .both(async |journal: Arc<dyn Journal>| {
                journal.subscribe(wanted.clone()).await.unwrap()
            })
            .await;
        self.subscriptions
            .resize(RULES.len(), SubscriptionNumber(0));
        for ((index, _), number) in chosen.zip(numbers) {
            self.subscriptions[index] = number;
        }
    }

    async fn lease(&mut self, subscription: SubscriptionNumber, count: usize) -> usize {
        let grants = [Grant {
            subscription,
            count,
            lease: MINUTE,
            bytes_max: usize::MAX,
        }];
        let real = self
            .bench
            .journal
            .lease(&grants, usize::MAX)
            .await
            .unwrap()
            .leased;
        let model = self.model.lease(&grants, usize::MAX).await.unwrap().leased;
        let show = |leased: &Leased| {
            let id = leased.id;
            let of = (
                leased.event.id().to_owned(),
                leased.origin.clone(),
                leased.attempts,
                leased.failures,
                leased.since,
            );
            (id.sequence, id.subscription, id.run, of)
        };
        assert_eq!(
            real.iter().map(show).collect::<Vec<_>>(),
            model.iter().map(show).collect::<Vec<_>>()
        );
        self.leases.extend(
            real.iter()
                .zip(&model)
                .map(|(real, model)| (real.token, model.token)),
        );
        real.len()
    }

    async fn settle(&mut self, which: usize, ending: &Ending, follow_ups: &[FollowUp]) {
        if self.leases.is_empty() {
            return;
        }
        let (real, model) = self.leases.swap_remove(which % self.leases.len());
        let settlement = |token| {
            vec![Settlement {
                token,
                ending: ending.clone(),
                follow_ups: follow_ups.to_vec(),
            }]
        };
        let real = self.bench.journal.settle(settlement(real)).await;
        assert_eq!(real, self.model.settle(settlement(model)).await);
    }

    async fn step(&mut self, step: Step) {
        let now = self.bench.now();
        match step {
            Step::Append(events) => {
                let entry_of = |(index, (bits, key, delay)): (usize, &(u8, u8, u8))| {
                    let to = self
                        .subscriptions
                        .iter()
                        .enumerate()
                        .filter(|(index, _)| bits & (1 << index) != 0);
                    let deliveries = to.map(|(_, number)| NewDelivery {
                        subscription: *number,
                        order_key: (*key > 0).then_some(u64::from(*key)),
                        due: (*delay > 0).then(|| now.plus(Duration::from_secs(u64::from(*delay)))),
                    });
                    Entry {
                        deliveries: deliveries.collect(),
                        ..entry(&(self.appended + index).to_string(), &[])
                    }
                };
                let entries: Vec<_> = events.iter().enumerate().map(entry_of).collect();
                self.appended += events.len();
                let _ = self
                    .both(async |journal: Arc<dyn Journal>| {
                        journal.append(append_of(entries.clone())).await
                    })
                    .await;
            }
            Step::Duplicate(id) => {
                let twin = Entry {
                    deduplicate: Some(MINUTE),
                    ..entry(&format!("twin-{id}"), &[self.pick(id)])
                };
                let _ = self
                    .both(async |journal: Arc<dyn Journal>| {
                        journal.append(append_of(vec![twin.clone()])).await
                    })
                    .await;
            }
            Step::Ended(subscription, key) => {
                let (subscription, order_key) =
                    (self.pick(subscription), (key > 0).then_some(u64::from(key)));
                let dead = NewDead {
                    subscription,
                    order_key,
                    reason: DeadReason::Expired,
                    attempts: 2,
                    last: Some(last(now)),
                };
                let ended = Entry {
                    dead: Some(dead),
                    ..entry("ended", &[self.pick(key)])
                };
                let _ = self
                    .both(async |journal: Arc<dyn Journal>| {
                        journal.append(append_of(vec![ended.clone()])).await
                    })
                    .await;
            }
            Step::Lease(subscription, count) => {
                self.lease(self.pick(subscription), count as usize).await;
            }
            Step::Settle(which, settle) => {
                let (ending, follow_ups) = self.ending(settle, now);
                self.settle(which as usize, &ending, &follow_ups).await;
            }
            Step::Wait(seconds) => {
                tokio::time::advance(Duration::from_secs(u64::from(seconds))).await
            }
            Step::Subscribe(bits) => self.subscribe(bits).await,
            Step::Activity(subscription, active) => {
                let activity = if active {
                    Activity::Active
                } else {
                    Activity::Suspended
                };
                let number = self.pick(subscription);
                let _ = self
                    .both(async |journal: Arc<dyn Journal>| {
                        journal.set_activity(number, activity).await
                    })
                    .await;
            }
            Step::Redrive(subscription) => {
                let selection = self.select(subscription);
                self.both(async |journal: Arc<dyn Journal>| journal.redrive(&selection).await)
                    .await
                    .unwrap();
            }
            Step::Purge(subscription) => {
                let selection = self.select(subscription);
                self.both(async |journal: Arc<dyn Journal>| journal.purge(&selection).await)
                    .await
                    .unwrap();
            }
            Step::Cancel(subscription, which) => {
                let number = self.pick(subscription);
                let cancelled = async |journal: Arc<dyn Journal>| {
                    let pending = journal.reader().pending(number, None, 1_000).await.unwrap();
                    let Some(one) = pending.get(which as usize % pending.len().max(1)) else {
                        return 0;
                    };
                    journal.cancel(&[one.id]).await.unwrap()
                };
                self.both(cancelled).await;
            }
            Step::CancelAll(subscription) => {
                let number = self.pick(subscription);
                self.both(async |journal: Arc<dyn Journal>| journal.cancel_all(number).await.ok())
                    .await;
            }
            Step::MoveAll(from, to) => {
                let (from, to) = (self.pick(from), self.pick(to));
                self.both(async |journal: Arc<dyn Journal>| journal.move_all(from, to).await.ok())
                    .await;
            }
            Step::Replay(subscription, to) => {
                let number = self.pick(subscription);
                let events = Sequence(1)..=Sequence(u64::from(to));
                self.both(async |journal: Arc<dyn Journal>| {
                    journal.replay(number, events.clone()).await.ok()
                })
                .await;
            }
            Step::Reopen if self.bench.implementation.persists() => {
                self.bench.reopen().await;
                for (_, token) in self.leases.drain(..) {
                    let release = Settlement {
                        token,
                        ending: Ending::Released,
                        follow_ups: Vec::new(),
                    };
                    self.model.settle(vec![release]).await.unwrap();
                }
                // What was dropped is not remembered beyond the end of a process, and nothing late
                // comes for it from before.
                self.subscribe(u8::MAX).await;
            }
            Step::Reopen => {}
        }
    }

    fn ending(&self, settle: Settle, now: Timestamp) -> (Ending, Vec<FollowUp>) {
        let dead = || Ending::Dead {
            reason: DeadReason::Exhausted,
            last: Some(last(now)),
        };
        match settle {
            Settle::Delivered => (Ending::Delivered, Vec::new()),
            Settle::Retry(seconds) => (
                retry(now.plus(Duration::from_secs(u64::from(seconds)))),
                Vec::new(),
            ),
            Settle::Dead => (dead(), Vec::new()),
            Settle::Released => (Ending::Released, Vec::new()),
            Settle::DeliveredThenOriginal(to) => (
                Ending::Delivered,
                vec![FollowUp::Original(NewDelivery::now(self.pick(to)))],
            ),
            Settle::DeadThenReport(to) => (
                dead(),
                vec![FollowUp::Append {
                    origin: name("replies"),
                    entry: entry("report", &[self.pick(to)]),
                }],
            ),
        }
    }

    fn select(&self, subscription: u8) -> DeadSelection {
        DeadSelection {
            rule: Some(name(RULES[subscription as usize % RULES.len()])),
            ..DeadSelection::default()
        }
    }

    /// Whatever can be seen is the same in both.
    async fn compare(&self) {
        self.bench.find(self.subscriptions[0]).await;
        self.both(async |journal: Arc<dyn Journal>| {
            journal.reader().subscriptions().await.unwrap()
        })
        .await;
        for number in &self.subscriptions {
            let pending = async |journal: Arc<dyn Journal>| {
                let pending = journal
                    .reader()
                    .pending(*number, None, 10_000)
                    .await
                    .unwrap();
                pending
                    .into_iter()
                    .map(|p| (p.id.sequence, p.id.run, p.due, p.since, p.attempts, p.last))
                    .collect::<Vec<_>>()
            };
            self.both(pending).await;
        }
        let dead = async |journal: Arc<dyn Journal>| {
            let dead = journal
                .reader()
                .dead(&DeadSelection::default(), None, 10_000)
                .await
                .unwrap();
            dead.into_iter()
                .map(|l| {
                    (
                        l.id.sequence,
                        l.id.subscription,
                        l.id.run,
                        l.reason,
                        l.attempts,
                        l.last,
                    )
                })
                .collect::<Vec<_>>()
        };
        self.both(dead).await;
        let totals = async |journal: Arc<dyn Journal>| {
            let totals = journal.reader().totals().await.unwrap();
            (
                totals.events,
                totals.dead,
                totals.rejects,
                totals.last_sequence,
            )
        };
        self.both(totals).await;
    }

    /// Whoever leases only what `due` tells of gets everything.
    async fn drain(&mut self) {
        self.subscribe(u8::MAX).await;
        for number in self.subscriptions.clone() {
            self.both(async |journal: Arc<dyn Journal>| {
                journal.set_activity(number, Activity::Active).await
            })
            .await
            .unwrap();
        }
        tokio::time::advance(MINUTE * 3).await;
        loop {
            let told = self.bench.told_due().await;
            if told.is_empty() {
                break;
            }
            for number in told {
                while self.lease(number, 4).await > 0 {}
            }
            while !self.leases.is_empty() {
                self.settle(0, &Ending::Delivered, &[]).await;
            }
        }
        for number in self.subscriptions.clone() {
            assert_eq!(self.bench.counts(number).await.pending, 0);
        }
        self.compare().await;
    }
}
