//! How many attempts at one target may be under way, found out by trying.
//!
//! # What the limit follows
//!
//! With too many attempts under way a target queues some, and every round trip is longer than it
//! need be; with too few, part of the target is idle. So the limit is steered to where round trips
//! are a little longer than a *baseline*, those of a target that is not crowded: by the factor
//! `e^CROWDED`, about 1.4. A target that serves `c` calls at a time is fully used there, with about
//! `1.4 * c` attempts under way.
//!
//! Service times vary, and a single round trip says little: it may be sixteen times as long as the
//! last one, with nobody else there. Therefore
//!
//! - lengths are compared by their logarithms, so that one very long round trip weighs no more than
//!   several short ones, and cut off far from where they are expected (Huber's estimator);
//! - no window is judged as a whole. Each round trip nudges the limit: up where it is shorter than
//!   expected, else down, and so little that chance cancels out (stochastic approximation, Robbins
//!   and Monro 1951). The steps of one round-trip time add up to the same change, be the limit large
//!   or small. What the latest round trips have in common makes them larger: upwards the longer
//!   nothing was crowded (as in CUBIC, RFC 9438), downwards the more it is.
//! - the baseline is measured, and never inferred from the shortest round trip seen, which under
//!   chance alone falls for ever: now and then the limit is lowered to `LOWERED` of itself, for
//!   about two round trips. As `LOWERED * e^CROWDED` is less than 1, a target in equilibrium is not
//!   crowded meanwhile. A baseline that is too high raises the limit only to where this measures a
//!   lower one.
//! - a limit that has fallen to one, where round trips are still long, has fallen for nothing: one
//!   attempt crowds nobody, so the target itself has become slower. It goes back to where it was.
//!
//! The gradient of round trips is from Netflix's concurrency-limits (Gradient2), measuring at a
//! lowered limit from Envoy's adaptive concurrency filter and BBR (`ProbeRTT`); Vector's adaptive
//! request concurrency judges windows by their mean and deviation, as this did once.
//!
//! # Push backs
//!
//! What a target says outright counts at once: throttling lowers the limit (multiplicative
//! decrease), and so does a target that cannot be reached. One push back counts per round trip: all
//! attempts that began before the last decrease only echo what that was for. After an outage the
//! limit doubles with each round trip up to nearly what it was (TCP's slow start), since the outage
//! was not the number's fault.
//!
//! Pure: the time is given. An outcome costs a logarithm and some sums.

use std::num::NonZeroUsize;
use std::time::Duration;

use pointsman_schemas::{Backoff, Class};
use tokio::time::Instant;

use super::policy::{RETRY_AFTER_MAX, left_alone};

/// Where a target begins. One that can take less says so within its first round trip; a hundred
/// that answer nothing at all hold no more than this each.
const START: usize = 8;

/// What is left of the limit after a push back, and after the first one for a while, which says
/// only that the limit has just been passed. A half, as in TCP, would leave a target that rejects
/// what is too much a quarter idle.
const DECREASE: f64 = 0.8;
const FIRST_DECREASE: f64 = 0.9;

/// By how much round trips are longer than the baseline where the limit stays, as a logarithm. Less
/// than that of 3 / 2: at a target that serves two at a time, a third one is too many.
const CROWDED: f64 = 0.36;

/// How far off a round trip counts, as a logarithm. Calls of two kinds, one of which takes ten
/// times as long as the other (2.3), must both count as what they are, or their median jumps.
const CUT_OFF: f64 = 2.0;

/// By which part the limit changes within a round-trip time that is longer than it should be by a
/// factor of e.
const GAIN: f64 = 0.1;

/// How many attempts share that change at least: at a low limit more than a round-trip time, since
/// chance is the same with fewer.
const SHARED_BY_MIN: f64 = 6.7;

/// Steps up are twice as large after so many round-trip times that were not crowded, three times
/// after twice as many, and so on up to `1 + SURGE_MAX` times.
const SURGE_AFTER: f64 = 2.0;
const SURGE_MAX: f64 = 8.0;

/// Steps down grow with what the latest round trips exceed `CROWDED` by, past what chance does.
const CLEARLY: f64 = 0.3;
const HURRY: f64 = 4.0;

/// How many round trips count as the latest ones, at least; and as the part of a limit.
const RECENT: f64 = 20.0;
const RECENT_PART: f64 = 0.5;

/// How many round trips the baseline remembers, how many make it trusted, and which part of it one
/// measurement may replace then.
const MEMORY: f64 = 200.0;
const TRUSTED: f64 = 30.0;
const REPLACED_MAX: f64 = 0.3;

/// What the limit is lowered to in order to measure the baseline.
const LOWERED: f64 = 0.6;

/// How many times the limit is used between two measurements, once the baseline is well known, and
/// during one. What measuring costs is `1 - LOWERED` of the target's use at the most, for three out
/// of twenty-seven round trips: 4 %.
const BETWEEN: f64 = 24.0;
const BETWEEN_MIN: f64 = 2.0;
const MEASURED: usize = 2;

/// The least outcomes between two measurements, and of one: at first, and once the baseline is
/// trusted. At a limit of two a measurement takes half of the target's use.
const BETWEEN_OUTCOMES_MIN: (usize, usize) = (20, 80);
const MEASURED_MIN: (usize, usize) = (16, 5);

/// Nothing is measured while the latest round trips exceed the baseline by so much more than
/// `CROWDED`: the target is crowded at the lowered limit too, and the limit is on its way down.
const UNMEASURED_FROM: f64 = 0.5;

/// A measurement so far above the baseline is of a target that is crowded even so.
const STILL_CROWDED: f64 = 3.0 * CROWDED;

/// Where the latest round trips lie so far below the expected ones, the baseline is wrong.
const OUTDATED: f64 = 2.5 * CROWDED;

/// Differences between round trips well below this tell of schedulers, and not of the target.
const NOISE: Duration = Duration::from_millis(1);

/// First and longest pause of a target that throttles a single attempt at a time and does not say
/// for how long.
const HELD: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// The concurrency limit of one target.
#[derive(Clone, Debug)]
pub struct Limiter {
    max: f64,
    /// Between whole numbers too, so that many small steps add up.
    limit: f64,
    /// Below this the limit doubles with each round trip: the target has served as many.
    proven: f64,
    /// Round trips of a target that is not crowded.
    baseline: Mean,
    /// The latest round trips.
    recent: Mean,
    /// For how many round-trip times nothing has been crowded.
    calm: f64,
    /// What was measured so far at the lowered limit; none where that is not in force.
    measured: Option<Mean>,
    /// Round trips at a limit of one.
    alone: Mean,
    /// Where the limit was before it was clearly crowded.
    uncrowded: f64,
    /// Outcomes to be passed over: of attempts that began under another limit.
    outdated: usize,
    /// Outcomes until the measurement ends, or the next one may begin.
    left: usize,
    /// Outcomes for which the limit counts as used up.
    used: usize,
    decreased_at: Instant,
    held_until: Option<Instant>,
    /// Since when it has been.
    held_since: Option<Instant>,
    /// The next pause, where the target does not say.
    hold: Duration,
}

/// Mean of the logarithms of round trips.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    /// How many it is of, or stands for.
    count: f64,
}

impl Mean {
    /// Counts one more, as if the mean were of so many at most.
    fn feed(&mut self, took: f64, memory: f64) {
        let away = took - self.value;
        // There is nothing to be far off from before the first one.
        let away = if self.count > 0.0 {
            away.clamp(-CUT_OFF, CUT_OFF)
        } else {
            away
        };
        self.count = (self.count + 1.0).min(memory);
        self.value += away / self.count;
    }

    /// Counts another mean.
    fn merge(&mut self, other: Self) {
        let part = other.count / (self.count + other.count).max(1.0);
        let part = if self.count < TRUSTED {
            part
        } else {
            part.min(REPLACED_MAX)
        };
        self.value += (other.value - self.value) * part;
        self.count = (self.count + other.count).min(MEMORY);
    }

    /// A round trip as far off from the mean as it counts.
    fn cut_off(self, took: f64) -> f64 {
        if self.count > 0.0 {
            took.clamp(self.value - CUT_OFF, self.value + CUT_OFF)
        } else {
            took
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float from 1.0 up to a usize that it was made of"
)]
fn whole(limit: f64) -> usize {
    limit.max(1.0) as usize
}

impl Limiter {
    /// A limiter that never goes above `max`.
    #[must_use]
    pub fn new(max: NonZeroUsize, now: Instant) -> Self {
        let max = max.get() as f64;
        let limit = max.min(START as f64);
        Self {
            max,
            limit,
            proven: 0.0,
            baseline: Mean::default(),
            recent: Mean::default(),
            calm: 0.0,
            measured: None,
            alone: Mean::default(),
            uncrowded: limit,
            outdated: whole(limit),
            left: whole(limit),
            used: 0,
            decreased_at: now,
            held_until: None,
            held_since: None,
            hold: HELD.initial,
        }
    }

    /// How many attempts may be under way; at least one.
    #[must_use]
    pub fn limit(&self) -> usize {
        match self.measured {
            Some(_) => whole(self.limit * LOWERED),
            None => self.usual_limit(),
        }
    }

    /// The limit that is in force when nothing is being measured.
    #[must_use]
    pub fn usual_limit(&self) -> usize {
        whole(self.limit)
    }

    /// Until when nothing at all may begin, because the target throttled even a single attempt.
    #[must_use]
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| *until > now)
    }

    /// An attempt has begun, and so many are under way with it. Only a limit that is used up says
    /// anything by its round trips; it is so with a quarter free, since a place that has become
    /// free stays so until the next delivery is leased.
    pub fn begun(&mut self, under_way: usize) {
        if under_way.saturating_mul(4) >= self.limit().saturating_mul(3) {
            self.used = whole(self.limit);
        }
    }

    /// An attempt that began at `started` has ended; `class` is the one in force.
    pub fn ended(
        &mut self,
        started: Instant,
        now: Instant,
        class: Class,
        retry_after: Option<Duration>,
    ) {
        if matches!(class, Class::Throttled | Class::Unavailable) {
            // What began before the last decrease is an echo of what that was for.
            if started >= self.decreased_at {
                self.pushed_back(now, class, retry_after);
            }
            return;
        }
        let took = now.saturating_duration_since(started) + NOISE;
        let took = took.as_secs_f64().ln();
        // A failure that took long is a slow round trip, such as one that ran into its timeout; a
        // quick one says nothing of how long the target takes to do its work.
        let is_slow = self.baseline.count > 0.0 && took > self.baseline.value + CROWDED;
        if class == Class::Delivered {
            (self.hold, self.held_since) = (HELD.initial, None);
            if self.limit < self.proven {
                self.limit = (self.limit + 1.0).min(self.proven);
            }
        } else if !is_slow {
            return;
        }
        let is_used = self.used > 0;
        self.used = self.used.saturating_sub(1);
        if self.outdated > 0 {
            self.outdated -= 1;
            return;
        }
        self.left = self.left.saturating_sub(1);
        if let Some(measured) = &mut self.measured {
            measured.feed(self.baseline.cut_off(took), f64::INFINITY);
            if self.left == 0 {
                self.end_measurement();
            }
        } else if is_used {
            self.steer(took);
        }
    }

    /// Counts a round trip at the full limit.
    fn steer(&mut self, took: f64) {
        self.recent.feed(took, RECENT.max(self.limit * RECENT_PART));
        let excess = self.excess();
        if self.baseline.count > 0.0 {
            self.nudge(took, excess);
            let calm = (-excess / CROWDED).clamp(-4.0, 1.0) / self.limit;
            self.calm = (self.calm + calm).clamp(0.0, SURGE_AFTER * SURGE_MAX);
            if excess < CROWDED {
                self.uncrowded = self.limit;
            } else {
                self.proven = 0.0;
            }
            if excess < -OUTDATED {
                self.baseline.feed(took, MEMORY);
            }
        }
        if self.limit < 2.0 {
            self.steer_alone(took);
            return;
        }
        self.alone = Mean::default();
        let is_worth_it = self.baseline.count < TRUSTED || (0.0..UNMEASURED_FROM).contains(&excess);
        if self.left == 0 && is_worth_it && self.limit >= self.proven {
            self.measured = Some(Mean::default());
            self.outdated = whole(self.limit);
            let least = self.by_trust(MEASURED_MIN);
            self.left = (MEASURED * whole(self.limit)).max(least);
        }
    }

    /// By how much the latest round trips are longer than they should be.
    fn excess(&self) -> f64 {
        self.recent.value - self.baseline.value - CROWDED
    }

    fn nudge(&mut self, took: f64, excess: f64) {
        let room = (self.baseline.value + CROWDED - took).clamp(-CUT_OFF, CUT_OFF);
        let factor = if room > 0.0 {
            1.0 + self.calm / SURGE_AFTER
        } else {
            let trust = (self.baseline.count / TRUSTED).min(1.0);
            trust * (1.0 + HURRY * (excess - CLEARLY).max(0.0))
        };
        let step = GAIN / self.limit.max(SHARED_BY_MIN) * factor * room;
        self.limit = (self.limit * (1.0 + step)).clamp(1.0, self.max);
    }

    /// Counts a round trip at a limit of one, where nothing is crowded.
    fn steer_alone(&mut self, took: f64) {
        self.alone.feed(self.baseline.cut_off(took), f64::INFINITY);
        if self.alone.count < RECENT {
            return;
        }
        let alone = std::mem::take(&mut self.alone);
        if self.baseline.count > 0.0 && alone.value > self.baseline.value + CROWDED {
            (self.baseline, self.recent) = (alone, alone);
            self.limit = self.uncrowded;
            self.outdated = whole(self.limit);
        } else {
            self.baseline.merge(alone);
        }
    }

    fn end_measurement(&mut self) {
        let lowered = self.limit() as f64;
        let Some(measured) = self.measured else {
            return;
        };
        let above = measured.value - self.baseline.value;
        if self.baseline.count == 0.0 {
            // Nothing is known yet. Where fewer attempts have made round trips shorter by more than
            // half of what a crowded target would, go on from here.
            let gain = self.recent.value - measured.value;
            if gain > (self.limit.floor() / lowered).ln() / 2.0 {
                (self.limit, self.uncrowded, self.recent) = (lowered, lowered, measured);
            } else {
                self.baseline = measured;
            }
        } else if self.baseline.count < TRUSTED || above < STILL_CROWDED {
            self.baseline.merge(measured);
        } else if lowered > 1.0 {
            self.limit = lowered;
        } else {
            self.baseline = measured;
        }
        self.resume();
    }

    /// Goes back to the full limit.
    fn resume(&mut self) {
        self.measured = None;
        self.outdated = whole(self.limit);
        // What is hardly known is measured often.
        let times = (BETWEEN * self.baseline.count / MEMORY).max(BETWEEN_MIN);
        let least = self.by_trust(BETWEEN_OUTCOMES_MIN);
        self.left = whole(self.limit * times).max(least);
    }

    /// Chooses the first number while the baseline is not trusted yet.
    fn by_trust(&self, (at_first, trusted): (usize, usize)) -> usize {
        if self.baseline.count < TRUSTED {
            at_first
        } else {
            trusted
        }
    }

    fn pushed_back(&mut self, now: Instant, class: Class, retry_after: Option<Duration>) {
        let limit = self.limit();
        if class == Class::Throttled {
            self.proven = 0.0;
            if limit == 1 {
                self.hold(now, retry_after);
            }
        } else if self.limit >= self.proven {
            self.proven = self.limit * FIRST_DECREASE;
        }
        let decrease = if self.calm > 1.0 {
            FIRST_DECREASE
        } else {
            DECREASE
        };
        self.limit = (limit as f64 * decrease).max(1.0);
        self.calm = 0.0;
        self.decreased_at = now;
        if self.measured.is_some() {
            self.resume();
        }
    }

    fn hold(&mut self, now: Instant, retry_after: Option<Duration>) {
        let away = now.saturating_duration_since(*self.held_since.get_or_insert(now));
        let own = self.hold.min(left_alone(away));
        let wait = retry_after.map_or(own, |wait| wait.min(RETRY_AFTER_MAX));
        self.hold = HELD.longer(self.hold);
        self.held_until = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::{Overload, Service, Simulation, Trial, trial};
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn target(service: Service, overload: Overload, capacity: usize, seed: u64) -> Simulation {
        let max = NonZeroUsize::new(capacity * 6).unwrap();
        Simulation::new(service, overload, capacity, ROUND_TRIP, max, seed)
    }

    fn trials(service: Service, overload: Overload, capacity: usize, seeds: u64) -> Vec<Trial> {
        let all = (0..seeds).map(|seed| target(service, overload, capacity, seed));
        all.map(|target| trial(target, capacity.div_ceil(5)))
            .collect()
    }

    fn mean(trials: &[Trial], of: impl Fn(&Trial) -> f64) -> f64 {
        trials.iter().map(of).sum::<f64>() / trials.len() as f64
    }

    #[test]
    fn variance_is_not_taken_for_congestion() {
        for overload in [Overload::Queues, Overload::Rejects] {
            for service in Service::ALL {
                for (capacity, seeds) in [(2, 8), (10, 8), (50, 2)] {
                    let trials = trials(service, overload, capacity, seeds);
                    let what = format!("{overload:?}, {service:?}, {capacity}: {trials:#?}");
                    assert!(mean(&trials, |trial| trial.utilisation) >= 0.85, "{what}");
                    assert!(mean(&trials, |trial| trial.recovered) >= 0.85, "{what}");
                    // With two places for calls that vary this much it takes longer to find out.
                    let is_known = |trial: &Trial| capacity < 10 || trial.in_flight.1 <= 2.5;
                    assert!(trials.iter().all(is_known), "{what}");
                    assert!(mean(&trials, |trial| trial.in_flight.0) <= 2.5, "{what}");
                }
            }
        }
    }

    #[test]
    fn lost_capacity_is_noticed() {
        for (overload, within) in [(Overload::Queues, 50), (Overload::Rejects, 10)] {
            for service in Service::ALL {
                let trials = trials(service, overload, 10, 9);
                let mut after: Vec<u32> = trials
                    .iter()
                    .map(|trial| trial.adapted_after.unwrap_or(u32::MAX))
                    .collect();
                after.sort();
                let mut to: Vec<usize> = trials.iter().map(|trial| trial.adapted_to).collect();
                to.sort();
                let used = mean(&trials, |trial| trial.left_utilisation);
                assert!(used >= 0.85, "{overload:?}, {service:?}: {used}");
                assert!(
                    after[4] <= within && to[4] <= 3,
                    "{overload:?}, {service:?}: after {after:?} to {to:?}"
                );
            }
        }
    }

    #[test]
    fn a_target_that_serves_everybody_more_slowly_is_known_too() {
        for service in [Service::Constant, Service::Uniform, Service::Lognormal] {
            let trials = trials(service, Overload::Shares, 10, 8);
            assert!(
                mean(&trials, |trial| trial.utilisation) >= 0.85,
                "{trials:#?}"
            );
            assert!(
                mean(&trials, |trial| trial.in_flight.0) <= 2.5,
                "{trials:#?}"
            );
        }
    }

    #[test]
    fn it_is_the_same_at_any_speed_and_for_few_places() {
        for (capacity, time, in_flight_max) in [
            (1, ROUND_TRIP, 2.5),
            (2, ROUND_TRIP, 2.5),
            (10, MS * 10, 2.5),
            (10, MS, 2.5),
            (10, Duration::from_secs(30), 2.5),
            (300, ROUND_TRIP, 2.5),
        ] {
            for service in [Service::Constant, Service::Uniform] {
                let max = NonZeroUsize::new(capacity * 6).unwrap();
                let queues = Overload::Queues;
                let mut target = Simulation::new(service, queues, capacity, time, max, 1);
                target.run(time * 200);
                let seen = target.run(time * 200);
                let in_flight = seen.in_flight(0.99) as f64 / capacity as f64;
                assert!(
                    seen.utilisation() >= 0.85 && in_flight <= in_flight_max,
                    "{capacity} of {time:?}, {service:?}: {}, {in_flight}",
                    seen.utilisation()
                );
            }
        }
    }

    #[test]
    fn a_target_that_becomes_slower_by_itself_keeps_its_limit() {
        for service in [Service::Constant, Service::Uniform, Service::Exponential] {
            let mut target = target(service, Overload::Queues, 10, 3);
            target.run(ROUND_TRIP * 200);
            // By a factor of four, bit by bit.
            for _ in 0..100 {
                target.mean = target.mean.mul_f64(1.014);
                target.run(target.mean * 10);
            }
            let seen = target.run(target.mean * 100);
            assert!(
                seen.utilisation() >= 0.85,
                "{service:?}: {}",
                seen.utilisation()
            );
            // And at once.
            target.mean *= 5;
            target.run(target.mean * 100);
            let seen = target.run(target.mean * 100);
            assert!(
                seen.utilisation() >= 0.85,
                "{service:?}: {}",
                seen.utilisation()
            );
        }
    }

    #[test]
    fn after_an_outage_it_is_soon_what_it_was() {
        for service in Service::ALL {
            let mut target = target(service, Overload::Queues, 10, 5);
            target.run(ROUND_TRIP * 200);
            target.is_down = true;
            target.run(Duration::from_secs(60));
            target.is_down = false;
            target.run(Duration::from_secs(5));
            let seen = target.run(Duration::from_secs(5));
            assert!(
                seen.utilisation() >= 0.8,
                "{service:?}: {}",
                seen.utilisation()
            );
            assert!(seen.in_flight(1.0) <= 25, "{service:?}: {seen:?}");
        }
    }

    fn limiter(max: usize) -> (Limiter, Instant) {
        let now = Instant::now();
        (Limiter::new(NonZeroUsize::new(max).unwrap(), now), now)
    }

    /// Ends so many attempts of one round trip, `under_way` at a time.
    fn deliver(limiter: &mut Limiter, count: usize, under_way: usize, now: &mut Instant) {
        for _ in 0..count {
            limiter.begun(under_way);
            let started = *now;
            *now += ROUND_TRIP;
            limiter.ended(started, *now, Class::Delivered, None);
        }
    }

    #[test]
    fn it_rises_only_when_it_is_used_and_never_above_its_maximum() {
        let (mut limiter, mut now) = limiter(12);
        deliver(&mut limiter, 500, 2, &mut now);
        assert_eq!(limiter.limit(), 8, "it is not used");
        let mut most = 0;
        for _ in 0..500 {
            deliver(&mut limiter, 1, 12, &mut now);
            most = most.max(limiter.limit());
        }
        assert_eq!(most, 12);
    }

    #[test]
    fn a_burst_of_push_backs_counts_once() {
        let (mut limiter, now) = limiter(64);
        for _ in 0..8 {
            limiter.ended(now, now + ROUND_TRIP, Class::Throttled, None);
        }
        assert_eq!(limiter.limit(), 6);
        let started = now + ROUND_TRIP;
        limiter.ended(started, now + ROUND_TRIP * 2, Class::Unavailable, None);
        assert_eq!(limiter.limit(), 4);
    }

    #[test]
    fn attempts_that_time_out_are_slow_round_trips_and_quick_failures_are_none() {
        let (mut limiter, mut now) = limiter(64);
        deliver(&mut limiter, 200, 64, &mut now);
        let (before, baseline) = (limiter.limit(), limiter.baseline.value);
        for (took, expect_fall) in [(MS, false), (ROUND_TRIP * 300, true)] {
            for _ in 0..100 {
                limiter.begun(64);
                limiter.ended(now, now + took, Class::Failed, None);
            }
            assert_eq!(limiter.limit() < before, expect_fall, "{took:?}");
        }
        assert!((limiter.baseline.value - baseline).abs() < 0.01);
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
