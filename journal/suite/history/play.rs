//! Playing a history to a journal and to the model.

use super::again::{Redriving, Replaying};
use super::compare::Tracker;
use super::{RULES, Settle, Step};
use crate::memory::{MemoryJournal, MemoryOptions};
use crate::sharded::numbered;
use crate::suite::*;
use crate::{
    Activity, AttemptMade, Backlog, DeadReason, DeadSelection, Happening, NewDead, Priority,
    Record, Shard, WaitReason,
};

/// A journal, the model, and the leases that stand in both.
pub(super) struct Play<'i> {
    pub(super) bench: Bench<'i>,
    pub(super) model: Arc<MemoryJournal>,
    pub(super) subscriptions: Vec<SubscriptionNumber>,
    pub(super) leases: Vec<(LeaseToken, LeaseToken)>,
    appended: usize,
    pub(super) redriving: Vec<Redriving>,
    pub(super) replaying: Vec<Replaying>,
    pub(super) tracker: Tracker,
}

pub(super) async fn play(implementation: &dyn Implementation, steps: Vec<Step>) {
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
        redriving: Vec::new(),
        replaying: Vec::new(),
        tracker: Tracker::default(),
    };
    play.subscribe(u8::MAX).await;
    for step in steps {
        let admitted = admitted(&step);
        play.step(step).await;
        play.compare(admitted).await;
    }
    play.drain().await;
}

impl Play<'_> {
    /// Asks both the same and compares what they say, journal ids and tokens aside.
    pub(super) async fn both<T: std::fmt::Debug + PartialEq, F: Future<Output = T>>(
        &self,
        ask: impl Fn(Arc<dyn Journal>) -> F,
    ) -> T {
        let real = ask(Arc::clone(&self.bench.journal)).await;
        let model = ask(Arc::clone(&self.model) as Arc<dyn Journal>).await;
        assert_eq!(real, model, "the journal, and what the model says");
        real
    }

    pub(super) fn pick(&self, number: u8) -> SubscriptionNumber {
        self.subscriptions[number as usize % self.subscriptions.len()]
    }

    pub(super) async fn subscribe(&mut self, bits: u8) {
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
        let numbers = self.bench.journal.subscribe(wanted.clone()).await.unwrap();
        let of_model = if self.bench.implementation.keeps_numbers() {
            let numbers = self.model.assign(wanted.clone()).await.unwrap();
            let numbered = numbered(wanted, &numbers);
            self.model.subscribe_as(numbered).await.unwrap();
            numbers
        } else {
            self.model.subscribe(wanted).await.unwrap()
        };
        assert_eq!(numbers, of_model, "the journal, and what the model says");
        self.subscriptions
            .resize(RULES.len(), SubscriptionNumber(0));
        for ((index, _), number) in chosen.zip(numbers) {
            self.subscriptions[index] = number;
        }
    }

    pub(super) async fn lease(&mut self, subscription: SubscriptionNumber, count: usize) -> usize {
        let grants = [Grant {
            subscription,
            count,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: None,
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

    pub(super) async fn settle(&mut self, which: usize, ending: &Ending, follow_ups: &[FollowUp]) {
        self.settle_many(which, 1, ending, follow_ups).await;
    }

    /// Settles so many leases in one call, from one of them on.
    async fn settle_many(
        &mut self,
        which: usize,
        count: usize,
        ending: &Ending,
        follow_ups: &[FollowUp],
    ) {
        if self.leases.is_empty() {
            return;
        }
        let from = which % self.leases.len();
        let to = (from + count).min(self.leases.len());
        let now = self.bench.now();
        // Every third is not to be noted.
        let record = |index: usize| {
            if index % 3 == 2 {
                return Record::Nothing;
            }
            Record::Attempt(AttemptMade {
                began: now.minus(Duration::from_millis(1 + index as u64)),
                ran: Duration::from_millis(1),
                called: Some(["POST one", "POST two"][index % 2].into()),
                class: if *ending == Ending::Stopped {
                    Class::Failed
                } else {
                    Class::Delivered
                },
                message: String::new(),
                code: Some(200 + (index % 2) as i32),
                answer: if index.is_multiple_of(4) { "yes" } else { "" }.to_owned(),
                wait: matches!(ending, Ending::Retry { .. }).then_some(WaitReason::Backoff),
            })
        };
        let (real, model): (Vec<_>, Vec<_>) = self
            .leases
            .drain(from..to)
            .enumerate()
            .map(|(index, tokens)| {
                let settlement = |token| Settlement {
                    follow_ups: follow_ups.to_vec(),
                    record: record(index + from),
                    ..Settlement::new(token, ending.clone())
                };
                (settlement(tokens.0), settlement(tokens.1))
            })
            .unzip();
        let real = self.bench.journal.settle(real).await;
        assert_eq!(real, self.model.settle(model).await);
    }

    /// Does something to one pending delivery of a subscription.
    async fn to_one<F: Future<Output = Result<u64, crate::JournalError>>>(
        &self,
        subscription: u8,
        which: u8,
        work: impl Fn(Arc<dyn Journal>, pointsman_schemas::DeliveryId) -> F,
    ) {
        let number = self.pick(subscription);
        self.both(async |journal: Arc<dyn Journal>| {
            let pending = journal.reader().pending(number, None, 1_000).await.unwrap();
            match pending.get(which as usize % pending.len().max(1)) {
                Some(one) => work(journal, one.id).await.unwrap(),
                None => 0,
            }
        })
        .await;
    }

    async fn step(&mut self, step: Step) {
        let now = self.bench.now();
        match step {
            Step::Append(events) => {
                let entry_of =
                    |(index, (bits, key, delay, priority)): (usize, &(u8, u8, u8, u8))| {
                        let to = self
                            .subscriptions
                            .iter()
                            .enumerate()
                            .filter(|(index, _)| bits & (1 << index) != 0);
                        let deliveries = to.map(|(_, number)| NewDelivery {
                            subscription: *number,
                            order_key: (*key > 0).then_some(u64::from(*key)),
                            due: (*delay > 0)
                                .then(|| now.plus(Duration::from_secs(u64::from(*delay)))),
                            priority: Priority::new(*priority).unwrap_or_default(),
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
                    edited: None,
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
            Step::SettleMany(count, settle) => {
                let (ending, follow_ups) = self.ending(settle, now);
                self.settle_many(0, count as usize, &ending, &follow_ups)
                    .await;
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
                self.to_one(subscription, which, async |journal, id| {
                    journal.cancel(&[id]).await
                })
                .await
            }
            Step::Skip(subscription, which) => {
                self.to_one(subscription, which, async |journal, id| {
                    journal.skip(&[id]).await
                })
                .await
            }
            Step::Suspend(subscription, which) => {
                self.to_one(subscription, which, async |journal, id| {
                    journal.suspend(&[id]).await
                })
                .await
            }
            Step::Resume(subscription, which) => {
                self.to_one(subscription, which, async |journal, id| {
                    journal.resume(&[id]).await
                })
                .await
            }
            Step::TryNow(subscription, which) => {
                self.to_one(subscription, which, async |journal, id| {
                    journal.retry(&[id]).await
                })
                .await
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
            Step::Again(again) => self.again(again).await,
            Step::Reopen | Step::Crash if self.bench.implementation.persists() => {
                if matches!(step, Step::Crash) {
                    self.bench.crash().await;
                } else {
                    self.bench.reopen().await;
                }
                for (_, token) in self.leases.drain(..) {
                    let release = Settlement::new(token, Ending::Released);
                    self.model.settle(vec![release]).await.unwrap();
                }
                // What was dropped is not remembered beyond the end of a process, and nothing late
                // comes for it from before.
                self.subscribe(u8::MAX).await;
            }
            Step::Reopen | Step::Crash => {}
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
            Settle::Expired => (
                Ending::Dead {
                    reason: DeadReason::Expired,
                    last: None,
                },
                Vec::new(),
            ),
            Settle::Stopped => (Ending::Stopped, Vec::new()),
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
            rule: Some(name_of(subscription)),
            ..DeadSelection::default()
        }
    }
}

/// The name of one of the rules.
pub(super) fn name_of(rule: u8) -> Name {
    name(RULES[rule as usize % RULES.len()])
}

/// What a step may do to a task, beside what happens by itself: its time comes, its lease runs out.
fn admitted(step: &Step) -> &'static [Happening] {
    use Happening as H;
    match step {
        Step::Lease(..) => &[H::Lease],
        Step::Settle(_, settle) | Step::SettleMany(_, settle) => match settle {
            Settle::Delivered | Settle::DeliveredThenOriginal(_) => &[H::Succeed],
            Settle::Retry(_) => &[H::Retry],
            Settle::Dead | Settle::DeadThenReport(_) => &[H::Fail],
            Settle::Expired => &[H::Expire],
            Settle::Stopped => &[H::Cancel, H::Stop],
            Settle::Released => &[],
        },
        Step::Cancel(..) | Step::CancelAll(_) | Step::MoveAll(..) => &[H::Cancel],
        Step::Skip(..) => &[H::Skip],
        Step::Suspend(..) => &[H::Suspend],
        Step::Resume(..) => &[H::Resume],
        Step::TryNow(..) => &[H::TryNow],
        Step::Purge(_) => &[H::Purge],
        Step::Append(_)
        | Step::Duplicate(_)
        | Step::Ended(..)
        | Step::Wait(_)
        | Step::Subscribe(_)
        | Step::Activity(..)
        | Step::Redrive(_)
        | Step::Again(_)
        | Step::Reopen
        | Step::Crash => &[],
    }
}
