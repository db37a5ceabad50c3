//! The machine against a model of it: a plain list of deliveries, looked through anew for every
//! answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pointsman_schemas::{SubscriptionNumber, Timestamp};
use proptest::prelude::*;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{DeliveryKey, DeliveryQueues, Moment, Parking, ReadyKey, Slot, turn};
use crate::{Due, LeaseOwner, LeaseToken, Priority};

/// Times are few, so that many things happen at once.
const SECONDS: i64 = 6;
const SUBSCRIPTIONS: u32 = 3;

#[derive(Clone, Debug)]
enum Op {
    /// A delivery, due in so many seconds, at once where there are none.
    Insert {
        subscription: u32,
        due_in: Option<i64>,
        order_key: Option<u64>,
        /// Where it is not ordered.
        priority: u8,
    },
    /// A run of an event that others have been made of before.
    InsertAgain {
        subscription: u32,
        sequence: u64,
        order_key: Option<u64>,
    },
    Block {
        subscription: u32,
        count: usize,
    },
    Remove(prop::sample::Index),
    Lease {
        subscription: u32,
        count: usize,
        seconds: Option<u64>,
    },
    /// What waits first is of no use.
    Withdraw(u32),
    /// With any token that was ever given out.
    End(prop::sample::Index),
    Release(prop::sample::Index),
    Retry(prop::sample::Index, i64),
    /// Claimed for a settlement that then does not happen.
    ClaimInVain(prop::sample::Index),
    Open(u32, bool),
    Hold(u32),
    Resume(u32),
    RemoveSubscription(u32),
    Wait(u64),
    HearNews,
}

fn op() -> impl Strategy<Value = Op> {
    let subscription = || 1..=SUBSCRIPTIONS;
    let order_key = || prop::option::weighted(0.6, 0..3_u64);
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (subscription(), prop::option::weighted(0.3, 0..SECONDS), order_key(), 0..3_u8)
            .prop_map(|(subscription, due_in, order_key, priority)| Op::Insert {
                subscription, due_in, order_key, priority,
            }),
        3 => (subscription(), 1..20_u64, order_key())
            .prop_map(|(subscription, sequence, order_key)| Op::InsertAgain { subscription, sequence, order_key }),
        2 => (subscription(), 2..5_usize)
            .prop_map(|(subscription, count)| Op::Block { subscription, count }),
        2 => index().prop_map(Op::Remove),
        8 => (subscription(), 1..4_usize, prop::option::weighted(0.8, 0..SECONDS.unsigned_abs()))
            .prop_map(|(subscription, count, seconds)| Op::Lease { subscription, count, seconds }),
        1 => subscription().prop_map(Op::Withdraw),
        5 => index().prop_map(Op::End),
        2 => index().prop_map(Op::Release),
        4 => (index(), 0..SECONDS).prop_map(|(index, due_in)| Op::Retry(index, due_in)),
        1 => index().prop_map(Op::ClaimInVain),
        2 => (subscription(), any::<bool>())
            .prop_map(|(subscription, open)| Op::Open(subscription, open)),
        1 => subscription().prop_map(Op::Hold),
        2 => subscription().prop_map(Op::Resume),
        1 => subscription().prop_map(Op::RemoveSubscription),
        4 => (0..SECONDS.unsigned_abs()).prop_map(Op::Wait),
        // About as long as those of one priority go before those of the next.
        1 => (597..603_u64).prop_map(Op::Wait),
        3 => Just(Op::HearNews),
    ]
}

/// A delivery of the model.
#[derive(Clone, Debug)]
struct Delivery {
    due: Due,
    immediate: bool,
    order_key: Option<u64>,
    lease: Option<(LeaseToken, Option<Instant>)>,
    /// The delivery itself, or the first of the block that it was put in with.
    carried: DeliveryKey,
    /// With [`Parking::AtCaller`]: the caller keeps it from the machine.
    is_parked: bool,
}

impl Delivery {
    fn ready_key(&self, key: &DeliveryKey) -> ReadyKey {
        ReadyKey::of(key, self.due)
    }

    fn slot(&self, key: &DeliveryKey) -> Slot<DeliveryKey> {
        Slot::one(key.sequence, self.immediate, self.order_key, self.carried)
    }
}

#[derive(Debug)]
struct Bench {
    parking: Parking,
    queues: DeliveryQueues<DeliveryKey>,
    now: Moment,
    deliveries: BTreeMap<DeliveryKey, Delivery>,
    open: BTreeSet<u32>,
    paused: BTreeSet<u32>,
    /// Subscriptions that the one who leases knows to have something.
    known: BTreeSet<u32>,
    /// Until when whoever waits for news sleeps.
    asleep_until: Instant,
    tokens: Vec<LeaseToken>,
    last_sequence: u64,
    runs: HashMap<(u32, u64), u64>,
}

impl Bench {
    fn new(parking: Parking) -> Self {
        let now = Moment {
            time: Timestamp(0),
            instant: Instant::now(),
        };
        let mut bench = Self {
            parking,
            queues: DeliveryQueues::new(LeaseOwner::Memory, parking, 7),
            now,
            deliveries: BTreeMap::new(),
            open: BTreeSet::new(),
            paused: BTreeSet::new(),
            known: BTreeSet::new(),
            asleep_until: now.instant,
            tokens: vec![LeaseToken::new(LeaseOwner::Memory, 7)],
            last_sequence: 0,
            runs: HashMap::new(),
        };
        for number in 1..=SUBSCRIPTIONS {
            bench.run(&Op::Open(number, true));
        }
        bench.queues.advance(now);
        bench
    }

    fn time(&self, seconds: i64) -> Timestamp {
        Timestamp(self.now.time.0 + seconds * 1_000_000)
    }

    fn of_key(
        &self,
        key: &DeliveryKey,
        order_key: u64,
    ) -> impl Iterator<Item = (&DeliveryKey, &Delivery)> {
        let number = key.subscription;
        self.deliveries.iter().filter(move |(other, delivery)| {
            other.subscription == number && delivery.order_key == Some(order_key)
        })
    }

    /// What may be leased of a subscription, in order.
    fn eligible(&self, number: u32) -> Vec<DeliveryKey> {
        if !self.open.contains(&number) || self.paused.contains(&number) {
            return Vec::new();
        }
        let mut eligible: Vec<_> = self
            .deliveries
            .iter()
            .filter(|(key, delivery)| {
                let is_due = delivery.immediate || delivery.due.time() <= self.now.time;
                let is_first = |order_key| {
                    let mut key_queue = self.of_key(key, order_key);
                    key_queue.next().is_some_and(|(first, _)| first == *key)
                        && self
                            .of_key(key, order_key)
                            .all(|(_, other)| other.lease.is_none())
                };
                key.subscription.0 == number
                    && delivery.lease.is_none()
                    && is_due
                    && delivery.order_key.is_none_or(is_first)
            })
            .map(|(key, delivery)| (turn(delivery.ready_key(key)), *key))
            .collect();
        eligible.sort_by_key(|(turn, key)| (*turn, key.sequence, key.run));
        eligible.into_iter().map(|(_, key)| key).collect()
    }

    fn insert(&mut self, key: DeliveryKey, delivery: Delivery) {
        if self.parking == Parking::Here || delivery.order_key.is_none() {
            let (ready_key, slot) = (delivery.ready_key(&key), delivery.slot(&key));
            self.queues.insert(key.subscription, ready_key, slot);
            self.deliveries.insert(key, delivery);
            return;
        }
        let parked = Delivery {
            is_parked: true,
            ..delivery
        };
        self.deliveries.insert(key, parked);
        self.park();
    }

    /// What the caller does who parks: the first of each key is in the machine, and no other.
    fn park(&mut self) {
        if self.parking == Parking::Here {
            return;
        }
        let (mut seen, mut firsts) = (BTreeSet::new(), Vec::new());
        for (key, delivery) in &mut self.deliveries {
            let Some(order_key) = delivery.order_key else {
                continue;
            };
            let is_first = seen.insert((key.subscription, order_key));
            if delivery.is_parked && is_first {
                delivery.is_parked = false;
                firsts.push((
                    key.subscription,
                    delivery.ready_key(key),
                    delivery.slot(key),
                ));
            } else if !delivery.is_parked && !is_first {
                delivery.is_parked = true;
                self.queues.remove(*key, delivery.due);
            }
        }
        for (subscription, ready_key, slot) in firsts {
            self.queues.insert(subscription, ready_key, slot);
        }
    }

    fn next_run(&mut self, subscription: u32, sequence: u64) -> DeliveryKey {
        let run = self.runs.entry((subscription, sequence)).or_default();
        *run += 1;
        DeliveryKey {
            subscription: SubscriptionNumber(subscription),
            sequence,
            run: *run - 1,
        }
    }

    fn fresh(&mut self, subscription: u32) -> DeliveryKey {
        self.last_sequence += 1;
        self.next_run(subscription, self.last_sequence)
    }

    /// The delivery that a token stands for, if its lease holds.
    fn leased_by(&self, token: LeaseToken) -> Option<DeliveryKey> {
        let (key, _) = self.deliveries.iter().find(|(_, delivery)| {
            delivery.lease.is_some_and(|(own, until)| {
                own == token && until.is_none_or(|until| until > self.now.instant)
            })
        })?;
        Some(*key)
    }

    /// Any token, and the delivery that it stands for; both sides must agree whether it holds.
    fn claim(&mut self, index: prop::sample::Index) -> Option<(LeaseToken, DeliveryKey)> {
        let token = *index.get(&self.tokens);
        let foreign = LeaseToken::new(LeaseOwner::Pipes, token.number());
        assert!(self.queues.claim(foreign, self.now.instant).is_none());
        let expected = self.leased_by(token);
        let lease = self.queues.claim(token, self.now.instant);
        assert_eq!(lease.map(|lease| lease.key), expected);
        let carried = expected.map(|key| self.deliveries[&key].carried);
        assert_eq!(lease.map(|lease| lease.carried), carried);
        assert!(self.queues.claim(token, self.now.instant).is_none());
        Some((token, expected?))
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Insert {
                subscription,
                due_in,
                order_key,
                priority,
            } => {
                let key = self.fresh(*subscription);
                let priority = Priority::new(if order_key.is_some() { 0 } else { *priority });
                self.insert(
                    key,
                    Delivery {
                        due: Due::new(priority.unwrap(), self.time(due_in.unwrap_or(0))),
                        immediate: due_in.is_none(),
                        order_key: *order_key,
                        lease: None,
                        carried: key,
                        is_parked: false,
                    },
                );
            }
            Op::InsertAgain {
                subscription,
                sequence,
                order_key,
            } => {
                self.last_sequence = self.last_sequence.max(*sequence);
                let key = self.next_run(*subscription, *sequence);
                self.insert(
                    key,
                    Delivery {
                        due: self.now.time.into(),
                        immediate: true,
                        order_key: *order_key,
                        lease: None,
                        carried: key,
                        is_parked: false,
                    },
                );
            }
            Op::Block {
                subscription,
                count,
            } => self.insert_block(*subscription, *count),
            Op::Remove(index) if !self.deliveries.is_empty() => {
                let keys: Vec<_> = self.deliveries.keys().copied().collect();
                let key = *index.get(&keys);
                let delivery = self.deliveries[&key].clone();
                let was_there = self.queues.remove(key, delivery.due);
                assert_eq!(
                    was_there,
                    delivery.lease.is_none() && !delivery.is_parked,
                    "{key:?}"
                );
                if delivery.lease.is_none() {
                    self.deliveries.remove(&key);
                }
            }
            Op::Remove(_) => {}
            Op::Lease {
                subscription,
                count,
                seconds,
            } => self.lease(*subscription, *count, *seconds),
            Op::Withdraw(number) => {
                let subscription = SubscriptionNumber(*number);
                if let Some((ready_key, sequence)) = self.queues.next(subscription) {
                    let (key, carried) = self.queues.withdraw(subscription, ready_key).unwrap();
                    assert_eq!(key.sequence, sequence);
                    assert_eq!(self.deliveries.remove(&key).unwrap().carried, carried);
                }
            }
            Op::End(index) => {
                if let Some((token, key)) = self.claim(*index) {
                    assert_eq!(self.queues.end(token).map(|lease| lease.key), Some(key));
                    assert!(self.queues.end(token).is_none());
                    self.deliveries.remove(&key);
                }
            }
            Op::Release(index) => {
                if let Some((token, key)) = self.claim(*index) {
                    self.queues.release(token);
                    self.deliveries.get_mut(&key).unwrap().lease = None;
                }
            }
            Op::Retry(index, due_in) => {
                if let Some((token, key)) = self.claim(*index) {
                    let due = self.time(*due_in);
                    self.retry(token, key, due);
                }
            }
            Op::ClaimInVain(index) => {
                if let Some((token, _)) = self.claim(*index) {
                    self.queues.unclaim(token);
                }
            }
            Op::Open(number, is_open) => {
                self.queues.set_open(SubscriptionNumber(*number), *is_open);
                self.open.remove(number);
                self.open.extend(is_open.then_some(*number));
            }
            Op::Hold(number) => {
                self.queues.pause(SubscriptionNumber(*number));
                self.paused.insert(*number);
            }
            Op::Resume(number) => {
                self.queues.resume(SubscriptionNumber(*number));
                self.paused.remove(number);
            }
            Op::RemoveSubscription(number) => {
                let subscription = SubscriptionNumber(*number);
                self.queues.remove_subscription(subscription);
                self.deliveries
                    .retain(|key, _| key.subscription != subscription);
                // It comes back at once, as a new one.
                self.paused.remove(number);
                self.run(&Op::Open(*number, self.open.contains(number)));
            }
            Op::Wait(seconds) => {
                let by = Duration::from_secs(*seconds);
                self.now.time = self.now.time.plus(by);
                self.now.instant += by;
            }
            Op::HearNews => {
                let ready = self.queues.take_ready().unwrap_or_default();
                self.known.extend(ready.iter().map(|number| number.0));
            }
        }
    }

    fn insert_block(&mut self, subscription: u32, count: usize) {
        let keys: Vec<_> = (0..count).map(|_| self.fresh(subscription)).collect();
        // Sequences that were run before do not lie in blocks.
        let keys: Vec<_> = keys.into_iter().filter(|key| key.run == 0).collect();
        let Some(first) = keys.first().copied() else {
            return;
        };
        let sequences: SmallVec<[u64; 1]> = keys.iter().map(|key| key.sequence).collect();
        let ready_key = ReadyKey {
            due: self.now.time.into(),
            sequence: first.sequence,
            run: ReadyKey::BLOCK,
        };
        // A block carries one value for all.
        let slot = Slot::block(sequences, first);
        self.queues.insert(first.subscription, ready_key, slot);
        for key in keys {
            let delivery = Delivery {
                due: self.now.time.into(),
                immediate: true,
                order_key: None,
                lease: None,
                carried: first,
                is_parked: false,
            };
            self.deliveries.insert(key, delivery);
        }
    }

    fn lease(&mut self, number: u32, count: usize, seconds: Option<u64>) {
        let subscription = SubscriptionNumber(number);
        let until = seconds.map(|seconds| self.now.after(Duration::from_secs(seconds)));
        for _ in 0..count {
            let expected = self.eligible(number).first().copied();
            let next = self.queues.next(subscription);
            assert_eq!(
                next.map(|(_, sequence)| sequence),
                expected.map(|key| key.sequence)
            );
            let Some((ready_key, _)) = next else {
                self.known.remove(&number);
                return;
            };
            let (token, lease) = self
                .queues
                .take(subscription, ready_key, until, ())
                .unwrap();
            assert_eq!(Some(lease.key), expected);
            assert!(!self.tokens.contains(&token), "{token:?}");
            self.tokens.push(token);
            self.deliveries.get_mut(&lease.key).unwrap().lease = Some((token, until));
        }
    }

    fn retry(&mut self, token: LeaseToken, key: DeliveryKey, due: Timestamp) {
        let delivery = self.deliveries.get_mut(&key).unwrap();
        (delivery.lease, delivery.immediate) = (None, false);
        delivery.due = delivery.due.at(due);
        match self.parking {
            Parking::Here => self.queues.retry(token, due),
            // Whoever keeps the deliveries puts it back himself.
            Parking::AtCaller => {
                self.queues.end(token);
                let delivery = delivery.clone();
                self.deliveries.remove(&key);
                self.insert(key, delivery);
            }
        }
    }

    /// Leases run out, and whoever parks does so; then everything must be as in the model.
    fn check(&mut self) {
        self.park();
        self.queues.advance(self.now);
        for delivery in self.deliveries.values_mut() {
            let has_ended = |until: Option<Instant>| until.is_some_and(|u| u <= self.now.instant);
            if delivery.lease.is_some_and(|(_, until)| has_ended(until)) {
                delivery.lease = None;
            }
        }
        self.park();
        for number in 1..=SUBSCRIPTIONS {
            let eligible = self.eligible(number);
            let next = self.queues.next(SubscriptionNumber(number));
            assert_eq!(
                next.map(|(_, sequence)| sequence),
                eligible.first().map(|key| key.sequence)
            );
            let in_flight = self
                .deliveries
                .iter()
                .filter(|(key, delivery)| key.subscription.0 == number && delivery.lease.is_some());
            assert_eq!(
                self.queues.in_flight(SubscriptionNumber(number)),
                in_flight.count()
            );
            let is_known = self.known.contains(&number)
                || self
                    .queues
                    .newly_ready
                    .contains(&SubscriptionNumber(number));
            assert!(
                is_known || eligible.is_empty(),
                "nobody was told of {number}"
            );
        }
        let ready = (1..=SUBSCRIPTIONS).map(|number| self.queues.ready(SubscriptionNumber(number)));
        assert_eq!(ready.sum::<usize>(), self.queues.all_ready());
        self.check_sleep();
    }

    /// Nobody sleeps past what happens next.
    fn check_sleep(&mut self) {
        let leases = self
            .deliveries
            .values()
            .filter_map(|delivery| delivery.lease?.1);
        let is_first = |key, order_key| self.of_key(key, order_key).count() == 1;
        let waiting = self.deliveries.iter().filter(|(key, delivery)| {
            delivery.lease.is_none()
                && !delivery.immediate
                && delivery.due.time() > self.now.time
                && delivery.order_key.is_none_or(|one| is_first(key, one))
        });
        let due_times = waiting
            .map(|(_, delivery)| self.now.instant + delivery.due.time().since(self.now.time));
        let next = leases.chain(due_times).min();
        let is_late = next.is_some_and(|next| next < self.asleep_until);
        if self.now.instant >= self.asleep_until || self.queues.should_wake() {
            self.asleep_until = self.now.instant + self.queues.sleep(self.now);
            assert!(next.is_none_or(|next| self.asleep_until <= next));
        } else {
            assert!(!is_late, "a sleeper was not woken");
        }
    }
}

fn check(parking: Parking, ops: &[Op]) {
    let mut bench = Bench::new(parking);
    for op in ops {
        bench.run(op);
        bench.check();
    }
    // In the end everything is leased, in the order of the model.
    for number in 1..=SUBSCRIPTIONS {
        bench.run(&Op::Resume(number));
        bench.run(&Op::Open(number, true));
    }
    bench.run(&Op::Wait(2 * SECONDS.unsigned_abs()));
    while !bench.deliveries.is_empty() {
        bench.check();
        for number in 1..=SUBSCRIPTIONS {
            bench.lease(number, usize::MAX, None);
        }
        let leased: Vec<_> = bench
            .deliveries
            .values()
            .filter_map(|delivery| delivery.lease.map(|(token, _)| token))
            .collect();
        assert!(!leased.is_empty(), "{:?}", bench.deliveries);
        for token in leased {
            let key = bench.queues.end(token).unwrap().key;
            bench.deliveries.remove(&key);
        }
    }
    assert_eq!(bench.queues.all_ready(), 0);
    let order_keys = |queue: &super::Queue<_>| queue.order_keys.len();
    assert_eq!(
        bench.queues.queues.values().map(order_keys).sum::<usize>(),
        0
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_does(ops in prop::collection::vec(op(), 1..80)) {
        check(Parking::Here, &ops);
    }

    #[test]
    fn the_machine_does_what_the_model_does_where_its_caller_parks(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        check(Parking::AtCaller, &ops);
    }
}

fn one(bench: &mut Bench, due_in: Option<i64>, order_key: Option<u64>) {
    bench.run(&Op::Insert {
        subscription: 1,
        due_in,
        order_key,
        priority: 0,
    });
}

fn urgent(bench: &mut Bench, due_in: Option<i64>, priority: u8) {
    bench.run(&Op::Insert {
        subscription: 1,
        due_in,
        order_key: None,
        priority,
    });
}

/// The sequences that may be leased now, one after the other.
fn lease_all(bench: &mut Bench) -> Vec<u64> {
    let before = bench.tokens.len();
    bench.check();
    bench.lease(1, usize::MAX, Some(3));
    let tokens = bench.tokens[before..].iter();
    tokens
        .map(|token| bench.queues.leases[&token.number()].key.sequence)
        .collect()
}

#[test]
fn what_is_due_goes_by_due_time_and_then_by_sequence() {
    let mut bench = Bench::new(Parking::Here);
    for due_in in [Some(2), Some(1), None, Some(1), Some(3)] {
        one(&mut bench, due_in, None);
    }
    assert_eq!(lease_all(&mut bench), [3]);
    bench.run(&Op::Wait(2));
    assert_eq!(lease_all(&mut bench), [2, 4, 1]);
    // The leases of all four have run out, and they come back where they were.
    bench.run(&Op::Wait(3));
    assert_eq!(lease_all(&mut bench), [3, 2, 4, 1, 5]);
}

#[test]
fn what_is_urgent_goes_first_but_not_before_what_has_waited_long() {
    let mut bench = Bench::new(Parking::Here);
    for (due_in, priority) in [(None, 0), (Some(2), 9), (None, 1), (None, 3)] {
        urgent(&mut bench, due_in, priority);
    }
    assert_eq!(lease_all(&mut bench), [4, 3, 1], "2 is not due");
    // Their leases run out. What comes ten minutes later is overtaken by what was less urgent.
    let step = Priority::STEP.as_secs();
    bench.run(&Op::Wait(step - 1));
    urgent(&mut bench, None, 1);
    bench.run(&Op::Wait(2));
    urgent(&mut bench, None, 1);
    assert_eq!(lease_all(&mut bench), [2, 4, 3, 5, 1, 6]);
}

#[test]
fn a_block_lets_others_go_first_that_fell_due_with_it() {
    let mut bench = Bench::new(Parking::Here);
    bench.last_sequence = 1;
    bench.insert_block(1, 3);
    bench.last_sequence = 1;
    bench.run(&Op::InsertAgain {
        subscription: 1,
        sequence: 3,
        order_key: None,
    });
    assert_eq!(lease_all(&mut bench), [2, 3, 3, 4]);
}

#[test]
fn a_retry_due_later_holds_back_what_has_its_order_key_and_nothing_else() {
    let mut bench = Bench::new(Parking::Here);
    for order_key in [Some(1), Some(1), Some(2), None] {
        one(&mut bench, None, order_key);
    }
    assert_eq!(lease_all(&mut bench), [1, 3, 4]);
    let token = bench.tokens[1];
    let due = bench.time(2);
    bench.queues.retry(token, due);
    assert!(bench.queues.claim(token, bench.now.instant).is_none());
    assert_eq!(bench.queues.next(SubscriptionNumber(1)), None);
    bench.now.time = due;
    bench.queues.advance(bench.now);
    let next = bench.queues.next(SubscriptionNumber(1));
    assert_eq!(next.map(|(_, sequence)| sequence), Some(1));
    let (ready_key, _) = next.unwrap();
    bench.queues.withdraw(SubscriptionNumber(1), ready_key);
    let next = bench.queues.next(SubscriptionNumber(1));
    assert_eq!(next.map(|(_, sequence)| sequence), Some(2));
}

#[test]
fn a_sleeper_is_woken_for_what_falls_due_before_he_would_wake() {
    let mut bench = Bench::new(Parking::Here);
    let minute = Duration::from_secs(60);
    assert_eq!(bench.queues.sleep(bench.now), minute);
    assert!(!bench.queues.should_wake());
    one(&mut bench, Some(5), None);
    assert!(bench.queues.should_wake());
    assert_eq!(bench.queues.sleep(bench.now), Duration::from_secs(5));
    one(&mut bench, Some(9), None);
    assert!(!bench.queues.should_wake());
    one(&mut bench, Some(2), None);
    assert!(bench.queues.should_wake());
}

#[test]
fn what_was_overtaken_in_flight_is_left_to_the_caller_who_parks() {
    let mut bench = Bench::new(Parking::AtCaller);
    bench.last_sequence = 1;
    one(&mut bench, None, Some(1));
    assert_eq!(lease_all(&mut bench), [2]);
    bench.run(&Op::InsertAgain {
        subscription: 1,
        sequence: 1,
        order_key: Some(1),
    });
    let (second, token) = (*bench.deliveries.keys().last().unwrap(), bench.tokens[1]);
    bench.queues.release(token);
    assert!(!bench.queues.remove(second, bench.deliveries[&second].due));
    bench.deliveries.get_mut(&second).unwrap().lease = None;
    assert_eq!(lease_all(&mut bench), [1]);
}
