//! How many attempts at one target may be under way, found out by trying.
//!
//! Additive increase, multiplicative decrease, as TCP does it: the limit rises by one per
//! round-trip window, only when it was reached and nothing pushed back; it shrinks on throttling,
//! on unavailability, and when round trips are well above their mean. A window ends when an attempt
//! that began in it ends: all that ends later can know of what was changed at its beginning. Pure:
//! the time is given.

use std::num::NonZeroUsize;
use std::time::Duration;

use pointsman_schemas::{Backoff, Class};
use tokio::time::Instant;

use super::policy::RETRY_AFTER_MAX;

/// Where a target begins. One that can take less says so within its first round trip; a hundred
/// that answer nothing at all hold no more than this each.
const START: usize = 8;

/// What is left of the limit after a push back. A half, as in TCP, would leave a target that
/// rejects what is too much a quarter idle.
const DECREASE: f64 = 0.8;

/// How much a window below and one above it counts in the running mean. What is above counts
/// little: the mean must not follow a target that is slow because of what we do to it, yet must do
/// so in the end, since slower may be what the target is from now on.
const WEIGHT: (f64, f64) = (0.2, 0.01);

/// By which part of it round trips must exceed their mean for the limit to shrink, and for it to
/// rise no further.
const WELL_ABOVE: f64 = 0.5;
const ABOVE: f64 = 0.1;

/// Differences between round trips below this tell of schedulers, and not of the target.
const NOISE: Duration = Duration::from_millis(5);

/// First and longest pause of a target that throttles a single attempt at a time and does not say
/// for how long.
const HELD: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// The concurrency limit of one target.
#[derive(Clone, Debug)]
pub struct Limiter {
    max: f64,
    limit: f64,
    window: Window,
    mean: Option<Mean>,
    held_until: Option<Instant>,
    /// The next pause, where the target does not say.
    hold: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    started: Instant,
    /// The limit was used up in it.
    reached: bool,
    /// Of everything that the target answered.
    round_trips: Sum,
    /// Of the successes among them.
    successes: Sum,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    seconds: f64,
    count: u32,
}

/// Running mean of the windows' means, and of how far they lie from it, in seconds.
#[derive(Clone, Copy, Debug)]
struct Mean {
    seconds: f64,
    deviation: f64,
}

impl Sum {
    fn add(&mut self, took: Duration) {
        self.seconds += took.as_secs_f64();
        self.count += 1;
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.seconds / f64::from(self.count))
    }
}

impl Mean {
    /// Whether a window's mean lies above the running one by more than a part of that, and by more
    /// than it usually does.
    fn is_exceeded(self, window: f64, part: f64) -> bool {
        window
            > self.seconds
                + (self.seconds * part).max(self.deviation * part * 6.0)
                + NOISE.as_secs_f64()
    }

    fn feed(&mut self, window: f64) {
        let difference = window - self.seconds;
        let weight = if difference < 0.0 { WEIGHT.0 } else { WEIGHT.1 };
        self.seconds += difference * weight;
        self.deviation += (difference.abs() - self.deviation) * weight;
    }
}

impl Window {
    fn new(started: Instant) -> Self {
        Self {
            started,
            reached: false,
            round_trips: Sum::default(),
            successes: Sum::default(),
        }
    }
}

impl Limiter {
    /// A limiter that never goes above `max`.
    #[must_use]
    pub fn new(max: NonZeroUsize, now: Instant) -> Self {
        let max = max.get() as f64;
        Self {
            max,
            limit: max.min(START as f64),
            window: Window::new(now),
            mean: None,
            held_until: None,
            hold: HELD.initial,
        }
    }

    /// How many attempts may be under way; at least one.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float from 1.0 up to a usize that it was made of"
    )]
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Until when nothing at all may begin, because the target throttled even a single attempt.
    #[must_use]
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| *until > now)
    }

    /// All of the limit is in use.
    pub fn reached(&mut self) {
        self.window.reached = true;
    }

    /// An attempt that began at `started` has ended; `class` is the one in force.
    pub fn ended(
        &mut self,
        started: Instant,
        now: Instant,
        class: Class,
        retry_after: Option<Duration>,
    ) {
        let ends_window = started >= self.window.started;
        if matches!(class, Class::Throttled | Class::Unavailable) {
            // What began before the last decrease is an echo of what that was for.
            if ends_window {
                if class == Class::Throttled && self.limit() == 1 {
                    self.hold(now, retry_after);
                }
                self.decrease(now);
            }
            return;
        }
        let took = now.saturating_duration_since(started);
        self.window.round_trips.add(took);
        if class == Class::Delivered {
            self.window.successes.add(took);
            self.hold = HELD.initial;
        }
        if ends_window {
            self.end_window(now);
        }
    }

    fn end_window(&mut self, now: Instant) {
        let (mean, window) = (self.mean, self.window.round_trips.mean());
        let is_exceeded = |part| {
            mean.zip(window)
                .is_some_and(|(mean, window)| mean.is_exceeded(window, part))
        };
        if let Some(successes) = self.window.successes.mean() {
            self.mean
                .get_or_insert(Mean {
                    seconds: successes,
                    deviation: 0.0,
                })
                .feed(successes);
        }
        if is_exceeded(WELL_ABOVE) {
            return self.decrease(now);
        }
        if self.window.reached && !is_exceeded(ABOVE) {
            self.limit = (self.limit + 1.0).min(self.max);
        }
        self.window = Window::new(now);
    }

    fn decrease(&mut self, now: Instant) {
        self.limit = (self.limit * DECREASE).max(1.0);
        self.window = Window::new(now);
    }

    fn hold(&mut self, now: Instant, retry_after: Option<Duration>) {
        let wait = retry_after.map_or(self.hold, |wait| wait.min(RETRY_AFTER_MAX));
        self.hold = HELD.longer(self.hold);
        self.held_until = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const ROUND_TRIP: Duration = Duration::from_millis(100);

    /// A target that serves `capacity` attempts at a time, simulated in virtual time.
    struct Simulation {
        now: Instant,
        limiter: Limiter,
        capacity: usize,
        /// What a target does with more than its capacity: reject it at once, or serve everybody
        /// more slowly.
        rejects: bool,
        /// By the time of their ends: when they began, and as what they end.
        under_way: BTreeMap<(Instant, u64), (Instant, Class)>,
        serving: usize,
        number: u64,
        served: u32,
        most_under_way: usize,
    }

    impl Simulation {
        fn new(capacity: usize, rejects: bool) -> Self {
            let now = Instant::now();
            let limiter = Limiter::new(NonZeroUsize::new(64).unwrap(), now);
            let (under_way, serving, number, served, most_under_way) =
                (BTreeMap::new(), 0, 0, 0, 0);
            Self {
                now,
                limiter,
                capacity,
                rejects,
                under_way,
                serving,
                number,
                served,
                most_under_way,
            }
        }

        /// Runs with a backlog that never ends.
        fn run(&mut self, for_time: Duration) {
            let until = self.now + for_time;
            (self.served, self.most_under_way) = (0, 0);
            loop {
                let is_held = self.limiter.held_until(self.now).is_some();
                while !is_held && self.under_way.len() < self.limiter.limit() {
                    self.begin();
                }
                if self.under_way.len() >= self.limiter.limit() {
                    self.limiter.reached();
                }
                self.most_under_way = self.most_under_way.max(self.under_way.len());
                let next = self
                    .under_way
                    .first_key_value()
                    .map(|((at, _), _)| *at)
                    .or(self.limiter.held_until(self.now))
                    .unwrap();
                if next > until {
                    self.now = until;
                    return;
                }
                self.now = next;
                if let Some(entry) = self
                    .under_way
                    .first_entry()
                    .filter(|entry| entry.key().0 == next)
                {
                    let (started, class) = entry.remove();
                    if class == Class::Delivered {
                        self.serving -= 1;
                        self.served += 1;
                    }
                    self.limiter.ended(started, self.now, class, None);
                }
            }
        }

        fn begin(&mut self) {
            // Two parts in a hundred of jitter: real round trips never end in lockstep.
            self.number += 1;
            let jitter = MS / 50 * u32::try_from(self.number * 7919 % 100).unwrap();
            let (took, class) = if self.rejects && self.serving >= self.capacity {
                (MS * 5, Class::Throttled)
            } else {
                self.serving += 1;
                let slowed = (self.serving as f64 / self.capacity as f64).max(1.0);
                (ROUND_TRIP.mul_f64(slowed), Class::Delivered)
            };
            self.under_way
                .insert((self.now + took + jitter, self.number), (self.now, class));
        }

        fn utilisation(&self, over: Duration) -> f64 {
            f64::from(self.served) * ROUND_TRIP.as_secs_f64()
                / (self.capacity as f64 * over.as_secs_f64())
        }
    }

    #[test]
    fn a_target_gets_most_of_its_capacity() {
        for rejects in [true, false] {
            let mut target = Simulation::new(10, rejects);
            target.run(ROUND_TRIP * 200);
            let utilisation = target.utilisation(ROUND_TRIP * 200);
            assert!(utilisation >= 0.85, "rejects: {rejects}: {utilisation}");
        }
    }

    #[test]
    fn lost_capacity_is_noticed_within_ten_round_trips_and_found_again() {
        for rejects in [true, false] {
            let mut target = Simulation::new(10, rejects);
            target.run(ROUND_TRIP * 100);
            target.capacity = 2;
            // A target that says nothing and serves everybody more slowly has longer round trips,
            // of which ten are given, and its slowness is told from its nature only so far.
            let (round_trips, most) = if rejects { (10, 3) } else { (30, 6) };
            target.run(ROUND_TRIP * round_trips);
            target.run(ROUND_TRIP * 10);
            assert!(
                target.most_under_way <= most,
                "rejects: {rejects}: {} under way",
                target.most_under_way
            );
            target.capacity = 10;
            target.run(ROUND_TRIP * 30);
            target.run(ROUND_TRIP * 100);
            let utilisation = target.utilisation(ROUND_TRIP * 100);
            assert!(
                utilisation >= 0.85,
                "rejects: {rejects}: {utilisation} after recovery"
            );
        }
    }

    fn limiter(max: usize) -> (Limiter, Instant) {
        let now = Instant::now();
        (Limiter::new(NonZeroUsize::new(max).unwrap(), now), now)
    }

    #[test]
    fn it_rises_only_when_reached_and_never_above_its_maximum() {
        let (mut limiter, mut now) = limiter(10);
        let mut window = |limiter: &mut Limiter, reached: bool| {
            if reached {
                limiter.reached();
            }
            let started = now;
            now += ROUND_TRIP;
            limiter.ended(started, now, Class::Delivered, None);
            limiter.limit()
        };
        assert_eq!(
            [false, false, true, false, true, true, true]
                .map(|reached| window(&mut limiter, reached)),
            [8, 8, 9, 9, 10, 10, 10]
        );
    }

    #[test]
    fn a_burst_of_push_backs_counts_once_and_failures_count_as_answers() {
        let (mut limiter, now) = limiter(64);
        for _ in 0..8 {
            limiter.ended(now, now + ROUND_TRIP, Class::Throttled, None);
        }
        assert_eq!(limiter.limit(), 6);
        limiter.ended(
            now + ROUND_TRIP,
            now + ROUND_TRIP * 2,
            Class::Unavailable,
            None,
        );
        assert_eq!(limiter.limit(), 5);
        limiter.ended(
            now + ROUND_TRIP * 2,
            now + ROUND_TRIP * 3,
            Class::Failed,
            None,
        );
        assert_eq!(limiter.limit(), 5);
    }

    #[test]
    fn an_attempt_that_times_out_is_a_slow_round_trip_but_does_not_feed_the_mean() {
        let (mut limiter, now) = limiter(64);
        limiter.ended(now, now + ROUND_TRIP, Class::Delivered, None);
        let mean = limiter.mean.unwrap().seconds;
        limiter.ended(
            now + ROUND_TRIP,
            now + ROUND_TRIP * 300,
            Class::Failed,
            None,
        );
        assert_eq!(
            (limiter.limit(), limiter.mean.unwrap().seconds.to_bits()),
            (6, mean.to_bits())
        );
    }

    #[test]
    fn a_target_that_throttles_a_single_attempt_is_left_alone() {
        let (mut limiter, mut now) = limiter(1);
        let mut throttle = |limiter: &mut Limiter, retry_after| {
            limiter.ended(now, now + MS, Class::Throttled, retry_after);
            now += MS;
            let wait = limiter.held_until(now).map(|until| until - now);
            now += wait.unwrap_or_default();
            assert_eq!(limiter.held_until(now), None);
            wait
        };
        let second = Duration::from_secs(1);
        for (retry_after, expect) in [
            (None, second / 10),
            (None, second / 5),
            (Some(second * 2), second * 2),
            (Some(second * 99_999), RETRY_AFTER_MAX),
        ] {
            assert_eq!(throttle(&mut limiter, retry_after), Some(expect));
        }
    }
}
