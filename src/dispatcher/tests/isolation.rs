//! What one subscription's flood, failures and hung calls do to the others, in virtual time.
//!
//! Each test runs the dispatcher twice over the same arrivals, with and without what is in the way,
//! and compares how long deliveries take from their arrival until they are settled. A run is
//! decided by its seed; `ISOLATION_SEEDS=1000` tries as many of each.

pub(super) mod arrivals;
mod quotas;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_journal::Priority;
use pointsman_schemas::{Class, Name, Outcome, SubscriptionNumber};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};

use self::arrivals::Arrivals;
use super::bench::*;
use super::flow::narrow;
use crate::dispatcher::status::Status;
use crate::dispatcher::testing::{event, policy, route};
use crate::dispatcher::{LaneReason, Route};

/// Events that arrive at random times.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// From when on, and until when, in seconds.
    between: (f64, f64),
    /// How often some come in a second, and how many then.
    rate: f64,
    burst: usize,
}

/// One subscription with what comes for it.
#[derive(Clone, Debug)]
struct Subscriber {
    target: usize,
    streams: Vec<Stream>,
    priority: Priority,
}

impl Subscriber {
    fn new(target: usize, streams: &[(f64, f64, f64, usize)]) -> Self {
        let stream = |&(from, until, rate, burst)| Stream {
            between: (from, until),
            rate,
            burst,
        };
        Self {
            target,
            streams: streams.iter().map(stream).collect(),
            priority: Priority::USUAL,
        }
    }
}

/// What a call of a rule is answered with and when, at this time since the beginning.
type Answer = dyn Fn(&str, &mut StdRng, Duration) -> (Duration, Class) + Send + Sync;

/// Exponential, with this mean.
fn exponential(random: &mut StdRng, mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - random.random::<f64>()).ln())
}

/// What was seen of a run.
struct Seen {
    arrivals: Arc<Arrivals>,
    /// Every ten seconds.
    statuses: Vec<Status>,
}

impl Seen {
    /// The time within which this part of the deliveries of some subscriptions was done.
    fn quantile(&self, of: impl Iterator<Item = usize>, part: f64) -> Duration {
        let mut all: Vec<Duration> = of
            .flat_map(|index| self.arrivals.waits(number(index)))
            .collect();
        all.sort_unstable();
        all[((all.len() - 1) as f64 * part) as usize]
    }

    /// The lane of a subscription, every ten seconds.
    fn lanes(&self, index: usize) -> Vec<Option<LaneReason>> {
        let lane = |status: &Status| status.lanes.get(&number(index)).copied();
        self.statuses.iter().map(lane).collect()
    }
}

fn number(index: usize) -> SubscriptionNumber {
    SubscriptionNumber(index as u32 + 1)
}

fn index(rule: &str) -> usize {
    rule[1..].parse().unwrap()
}

/// When something arrives, and for whom.
fn schedule(subscribers: &[Subscriber], random: &mut StdRng) -> Vec<(Duration, usize, usize)> {
    let mut all = Vec::new();
    for (index, subscriber) in subscribers.iter().enumerate() {
        for stream in &subscriber.streams {
            let mut at = stream.between.0;
            loop {
                at += exponential(random, Duration::from_secs_f64(1.0 / stream.rate)).as_secs_f64();
                if at > stream.between.1 {
                    break;
                }
                all.push((Duration::from_secs_f64(at), index, stream.burst));
            }
        }
    }
    all.sort_unstable();
    all
}

/// Runs what comes for some subscriptions; the rule of that with the index 3 is `r3`.
async fn run(
    seed: u64,
    subscribers: &[Subscriber],
    concurrency: usize,
    seconds: u64,
    answer: impl Fn(&str, &mut StdRng, Duration) -> (Duration, Class) + Send + Sync + 'static,
) -> Seen {
    let (bench, arrivals) = Bench::of_arrivals(seed);
    let answers = Mutex::new(StdRng::seed_from_u64(!seed));
    let begin = Instant::now();
    let mock = Mock::new(move |call| {
        let (took, class) = answer(call.rule.as_str(), &mut answers.lock(), call.at - begin);
        (took, Outcome::new(class, "as told"))
    });
    let targets = subscribers.iter().map(|one| one.target + 1).max().unwrap();
    let targets = (0..targets).map(|index| narrow(mock.target(&format!("t{index}")), concurrency));
    let routes = subscribers.iter().enumerate().map(|(index, one)| {
        let route = Route {
            priority: one.priority,
            ..route(&format!("r{index}"), one.target, policy())
        };
        (number(index), route)
    });
    let running = bench.start(plan(targets.collect(), routes));
    let arriving = async {
        let event = event("e");
        for (at, index, burst) in schedule(subscribers, &mut StdRng::seed_from_u64(seed)) {
            sleep_until(begin + at).await;
            arrivals.arrive(number(index), &event, burst);
        }
    };
    let watching = async {
        let mut statuses = Vec::new();
        for tens in 1..=seconds / 10 {
            sleep_until(begin + SECOND * 10 * u32::try_from(tens).unwrap()).await;
            statuses.push(running.handle.status());
        }
        statuses
    };
    let ((), statuses) = tokio::join!(arriving, watching);
    running.abort().await;
    Seen { arrivals, statuses }
}

/// The seeds to try: more are asked for by `ISOLATION_SEEDS`.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("ISOLATION_SEEDS").ok();
    0..wanted.map_or(few, |wanted| wanted.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_endpoints_are_not_slower_for_one_in_a_hundred_that_is_a_black_hole() {
    let subscribers: Vec<_> = (0..10_000)
        .map(|index| Subscriber::new(index, &[(0.0, 20.0, 0.2, 1)]))
        .collect();
    for seed in seeds(1) {
        let mut p99 = Vec::new();
        for holes in [0, 100] {
            let seen = run(seed, &subscribers, 64, 30, move |rule, random, _| {
                match index(rule) < holes {
                    true => (HOUR, Class::Delivered),
                    false => (exponential(random, MS * 20), Class::Delivered),
                }
            });
            p99.push(seen.await.quantile(100..10_000, 0.99));
        }
        assert!(p99[1] <= p99[0].mul_f64(1.2), "seed {seed}: {p99:?}");
    }
}

/// A hundred targets that have been given much, sixty-four or a thousand at a time, hang from one
/// moment on, with more to deliver than may be in flight in all.
#[tokio::test(start_paused = true)]
async fn targets_that_hang_with_all_that_may_be_in_flight_delay_nobody_else() {
    for (holes, concurrency) in [(100, 64), (12, 1_000)] {
        let busy = Subscriber::new(
            0,
            &[
                (0.0, 2.0, 2.0, 4 * concurrency),
                (5.0, 5.005, 1e3, concurrency),
            ],
        );
        let subscribers: Vec<_> = (0..400)
            .map(|target| match target < holes {
                true => Subscriber {
                    target,
                    ..busy.clone()
                },
                false => Subscriber::new(target, &[(0.0, 28.0, 2.0, 1)]),
            })
            .collect();
        for seed in seeds(1) {
            let mut p99 = Vec::new();
            for from in [HOUR, SECOND * 5] {
                let seen = run(
                    seed,
                    &subscribers,
                    concurrency,
                    30,
                    move |rule, random, at| match index(rule) < holes && at >= from {
                        true => (HOUR, Class::Delivered),
                        false => (exponential(random, MS * 20), Class::Delivered),
                    },
                );
                let seen = seen.await;
                p99.push(seen.quantile(holes..400, 0.99));
                let lanes = (0..400).map(|index| seen.lanes(index)[1]);
                let slow = lanes.filter(|lane| *lane == Some(LaneReason::Slow)).count();
                assert!(from == HOUR || slow >= holes * 9 / 10, "{slow} of {holes}");
            }
            assert!(
                p99[1] <= p99[0].mul_f64(1.2),
                "{holes} holes, seed {seed}: {p99:?}"
            );
        }
    }
}

/// Three rules have each more than their target can take, and leave a part of it to whoever may
/// come: the fewer calls it takes at a time, the more of the smaller shares lies in that.
#[tokio::test(start_paused = true)]
async fn of_a_target_that_several_want_whole_each_has_the_share_of_its_priority() {
    let flood = |priority| Subscriber {
        priority: Priority::new(priority).unwrap(),
        ..Subscriber::new(0, &[(0.0, 30.0, 2_000.0, 1)])
    };
    let subscribers = [flood(0), flood(4), flood(0)];
    for seed in seeds(1) {
        for (concurrency, mean, least) in [(16, 10, 2.8), (64, 40, 3.2)] {
            let seen = run(seed, &subscribers, concurrency, 30, move |_, random, _| {
                (exponential(random, MS * mean), Class::Delivered)
            });
            let seen = seen.await;
            let delivered = |index| seen.arrivals.waits(number(index)).len() as f64;
            let [low, high, other] = [0, 1, 2].map(delivered);
            let (ratio, of_equals) = (2.0 * high / (low + other), low / other);
            assert!(
                (least..5.5).contains(&ratio) && (0.9..1.1).contains(&of_equals),
                "seed {seed}, {concurrency} at a time: {low} {high} {other}"
            );
        }
    }
}

/// A target that serves so many at a time, the others in turn.
fn queueing(capacity: usize, mean: Duration, constant: bool) -> Box<Answer> {
    let servers = Mutex::new(vec![Duration::ZERO; capacity]);
    Box::new(move |_, random, at| {
        let service = match constant {
            true => mean,
            false => exponential(random, mean),
        };
        let mut servers = servers.lock();
        let server = servers.iter_mut().min().unwrap();
        *server = at.max(*server) + service;
        (*server - at, Class::Delivered)
    })
}

/// The p99 of one subscription with this many events a second alone, and beside one with a hundred
/// times as many, at the same target or at another.
async fn beside_a_flood(
    seed: u64,
    rate: f64,
    capacity: usize,
    mean: Duration,
    constant: bool,
    is_same: bool,
) -> [Duration; 2] {
    let mut p99 = [Duration::ZERO; 2];
    for (p99, flood) in p99.iter_mut().zip([0.001, 100.0]) {
        let subscribers = [
            Subscriber::new(0, &[(0.0, 60.0, rate, 1)]),
            Subscriber::new(usize::from(!is_same), &[(10.0, 60.0, rate * flood, 1)]),
        ];
        let targets = [0, 1].map(|_| queueing(capacity, mean, constant));
        let seen = run(seed, &subscribers, 64, 60, move |rule, random, at| {
            let target = if is_same { 0 } else { index(rule) };
            targets[target](rule, random, at)
        });
        *p99 = seen.await.quantile(0..1, 0.99);
    }
    p99
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_a_hundred_times_as_much_slows_a_neighbour_twice_at_most() {
    for (rate, capacity, mean) in [(10.0, 10, MS * 20), (1.0, 10, MS * 200), (2.0, 64, MS * 20)] {
        for (constant, is_same) in [(true, true), (false, true), (false, false)] {
            for seed in seeds(1) {
                let p99 = beside_a_flood(seed, rate, capacity, mean, constant, is_same).await;
                assert!(
                    p99[1] <= p99[0] * 2,
                    "{rate}/s, {capacity} times {mean:?}, constant {constant}, same target \
                     {is_same}, seed {seed}: {p99:?}"
                );
            }
        }
    }
}

/// A target that can serve two calls at a time, or one: whoever comes waits for one of them.
#[tokio::test(start_paused = true)]
async fn at_a_narrow_target_a_neighbour_waits_for_few_calls_of_a_flood() {
    for (capacity, most) in [(2, 3), (1, 8)] {
        for constant in [true, false] {
            for seed in seeds(2) {
                let p99 = beside_a_flood(seed, 1.0, capacity, MS * 20, constant, true).await;
                assert!(p99[1] <= p99[0] * most, "{capacity}, {constant}: {p99:?}");
            }
        }
    }
}

/// Jain's index: 1 where all have the same, 1/n where one has everything.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[tokio::test(start_paused = true)]
async fn equals_get_equal_times_of_their_target_whatever_their_deliveries_take() {
    // How much longer those of each take than those of the first.
    for times in [[1.0; 8], [1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0]] {
        for seed in seeds(2) {
            let subscribers = vec![Subscriber::new(0, &[(0.0, 0.01, 1e3, 2_000)]); 8];
            let used = Arc::new(Mutex::new([0.0; 8]));
            let used_by = Arc::clone(&used);
            run(seed, &subscribers, 16, 30, move |rule, random, _| {
                let index = index(rule);
                let took = exponential(random, MS.mul_f64(20.0 * times[index]));
                used_by.lock()[index] += took.as_secs_f64();
                (took, Class::Delivered)
            })
            .await;
            let used = *used.lock();
            assert!(jain(&used) >= 0.95, "{times:?}, seed {seed}: {used:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_moves_to_a_lane_of_its_own_and_back_and_that_shows() {
    let few = (0.0, 100.0, 2.0, 1);
    let subscribers = [
        Subscriber::new(0, &[few]),
        Subscriber::new(1, &[few]),
        Subscriber::new(2, &[few, (10.0, 30.0, 1_000.0, 1)]),
        Subscriber::new(3, &[few]),
    ];
    let (logged, _guard) = crate::telemetry::testing::capture("info", false);
    let seen = run(1, &subscribers, 8, 100, |rule, _, at| {
        let is_bad = (10.0..30.0).contains(&at.as_secs_f64());
        match (rule, is_bad) {
            ("r0", true) => (SECOND * 3, Class::Delivered),
            ("r1", true) => (MS, Class::Failed),
            _ => (MS * 20, Class::Delivered),
        }
    })
    .await;
    for (index, reason) in [LaneReason::Slow, LaneReason::Failing, LaneReason::Backlog]
        .into_iter()
        .enumerate()
    {
        let lanes = seen.lanes(index);
        assert_eq!((lanes[0], lanes[1]), (None, Some(reason)), "{lanes:?}");
        assert_eq!(lanes.last(), Some(&None), "{lanes:?}");
    }
    assert!(seen.lanes(3).iter().all(Option::is_none));
    let text = logged.text();
    let lines = text.lines().filter(|line| line.contains("lane")).count();
    assert!((2..=6).contains(&lines), "{text}");
}
