//! How many attempts at one target may start, by its declared rate.
//!
//! Tokens are taken before deliveries are leased, and given back where a lease brings less, which
//! is why this is no rate limiter off the shelf. Pure: the time is given.

use std::time::Duration;

use pointsman_schemas::Rate;
use tokio::time::Instant;

/// The longest time whose tokens are let gather, so that a fast rate needs no wake-up for each of
/// its attempts.
const GATHERING_MAX: Duration = Duration::from_millis(10);

/// A leaky bucket as a meter (the "generic cell rate algorithm"): in any `per`, at most `count`
/// tokens are taken.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Time per token.
    interval: Duration,
    /// Tokens that may be taken at once.
    burst: u32,
    /// When the bucket would be empty of what has been taken; a full burst may be taken once it
    /// lies in the past.
    empty_at: Instant,
}

impl Bucket {
    /// A bucket of which a burst can be taken at once.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        let (interval, burst) = measures(u64::from(rate.count.get()) * 1_000, rate.per);
        Self {
            interval,
            burst,
            empty_at: now,
        }
    }

    /// Goes on with a part of its rate: so many thousandths of a token in this time. What has been
    /// taken stays taken.
    pub fn go_on_with(&mut self, thousandths: u64, per: Duration, now: Instant) {
        let taken = self.empty_at.saturating_duration_since(now).as_nanos();
        let before = self.interval.as_nanos().max(1);
        (self.interval, self.burst) = measures(thousandths, per);
        let taken = taken.saturating_mul(self.interval.as_nanos()) / before;
        self.empty_at = now + Duration::from_nanos(u64::try_from(taken).unwrap_or(u64::MAX));
    }

    /// The time from one token to the next.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// How many tokens there are.
    #[must_use]
    pub fn available(&self, now: Instant) -> usize {
        let taken = self
            .empty_at
            .saturating_duration_since(now)
            .as_nanos()
            .div_ceil(self.interval.as_nanos().max(1));
        u128::from(self.burst)
            .saturating_sub(taken)
            .try_into()
            .unwrap_or(usize::MAX)
    }

    /// When there is a token again; `now` or earlier where there is one.
    #[must_use]
    pub fn next_at(&self, now: Instant) -> Instant {
        let gathered = self.interval.saturating_mul(self.burst - 1);
        self.empty_at.checked_sub(gathered).unwrap_or(now)
    }

    pub fn take(&mut self, count: usize, now: Instant) {
        self.empty_at = self.empty_at.max(now)
            + self
                .interval
                .saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Gives back tokens that were taken for nothing.
    pub fn give_back(&mut self, count: usize) {
        let unused = self
            .interval
            .saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        self.empty_at = self.empty_at.checked_sub(unused).unwrap_or(self.empty_at);
    }
}

/// The time per token, and how many may be taken at once, at so many thousandths of a token in a
/// time.
fn measures(thousandths: u64, per: Duration) -> (Duration, u32) {
    let count = u32::try_from(thousandths / 1_000).unwrap_or(u32::MAX);
    let gathered = u128::from(count) * GATHERING_MAX.as_nanos() / per.as_nanos().max(1);
    let burst = u32::try_from(gathered).unwrap_or(u32::MAX);
    let burst = burst.clamp(1, count.max(1));
    // A burst after idleness counts into the time that follows it: the rest is slowed down by as
    // much.
    let rest = (thousandths + 1_000).saturating_sub(u64::from(burst) * 1_000);
    let interval = (per.as_nanos() * 1_000).div_ceil(u128::from(rest.max(1)));
    let interval = Duration::from_nanos(u64::try_from(interval).unwrap_or(u64::MAX));
    (interval, burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    /// Takes whatever there is, as soon as it is there, after a while of idleness.
    fn greedy(text: &str, for_time: Duration) -> Vec<(Duration, usize)> {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(text), start);
        let mut now = start + Duration::from_secs(10);
        let first = now;
        let mut taken = Vec::new();
        while now - first < for_time {
            let count = bucket.available(now);
            assert!(count > 0, "{text}: woke up for nothing");
            bucket.take(count, now);
            taken.push((now - first, count));
            let next = bucket.next_at(now);
            assert!(next > now, "{text}: a hot loop");
            now = next;
        }
        taken
    }

    #[test]
    fn in_no_window_is_the_rate_exceeded_and_hardly_missed() {
        for (text, per, least) in [
            ("1/s", 1, 1.0),
            ("10/s", 1, 1.0),
            ("100/s", 1, 1.0),
            ("3000/s", 1, 0.98),
            ("30/m", 60, 1.0),
        ] {
            let (count, per) = (f64::from(rate(text).count.get()), Duration::from_secs(per));
            let taken = greedy(text, per * 3);
            for (from, _) in &taken {
                let within: usize = taken
                    .iter()
                    .filter(|(at, _)| at >= from && *at < *from + per)
                    .map(|(_, count)| count)
                    .sum();
                assert!(within as f64 <= count, "{text}: {within} from {from:?}");
            }
            let total: usize = taken.iter().map(|(_, count)| count).sum();
            assert!(total as f64 >= count * 3.0 * least, "{text}: only {total}");
        }
    }

    #[test]
    fn a_part_of_a_rate_goes_on_where_the_whole_was() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate("10/s"), start);
        bucket.take(1, start);
        bucket.go_on_with(2_500, Duration::from_secs(1), start);
        assert_eq!(bucket.next_at(start) - start, Duration::from_millis(400));
        let now = start + Duration::from_millis(200);
        bucket.go_on_with(500, Duration::from_secs(1), now);
        assert_eq!(bucket.next_at(now) - now, Duration::from_secs(1));
        bucket.go_on_with(10_000, Duration::from_secs(1), now);
        assert_eq!(bucket.next_at(now) - now, Duration::from_millis(50));
        assert_eq!(bucket.available(now + Duration::from_millis(50)), 1);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let now = Instant::now();
        let mut bucket = Bucket::new(rate("1000/s"), now);
        assert_eq!(bucket.available(now), 10);
        bucket.take(10, now);
        assert_eq!(bucket.available(now), 0);
        bucket.give_back(4);
        assert_eq!(bucket.available(now), 4);
        assert!(bucket.next_at(now) <= now);
    }
}
