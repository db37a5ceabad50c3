//! Growing pauses between tries.

use std::time::Duration;

/// A first pause, which doubles from try to try up to a longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Backoff {
    /// A backoff with these bounds.
    #[must_use]
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max }
    }

    /// Returns the pause after so many earlier ones: the first one for 0.
    #[must_use]
    pub fn after(self, earlier: u32) -> Duration {
        let doubled = 1_u32
            .checked_shl(earlier)
            .and_then(|factor| self.initial.checked_mul(factor));
        doubled.map_or(self.max, |pause| pause.min(self.max))
    }

    /// Returns the pause that follows on this one.
    #[must_use]
    pub fn longer(self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.max)
    }

    /// Returns the pause that follows on the last one: the first one where there was none.
    #[must_use]
    pub fn next(self, last: Option<Duration>) -> Duration {
        last.map_or(self.initial, |pause| self.longer(pause))
    }
}

/// Spreads a pause over its second half, so that those who failed together do not all come back in
/// the same moment. `random` is uniform in `0.0..1.0`.
#[must_use]
pub fn spread(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, second * 5);
        for (earlier, seconds) in [
            (0, 1),
            (1, 2),
            (2, 4),
            (3, 5),
            (31, 5),
            (32, 5),
            (u32::MAX, 5),
        ] {
            assert_eq!(backoff.after(earlier), second * seconds, "{earlier}");
        }
        let mut last = None;
        for earlier in 0..5 {
            let pause = backoff.next(last);
            assert_eq!(pause, backoff.after(earlier));
            last = Some(pause);
        }
        assert_eq!(backoff.longer(Duration::MAX), second * 5);
        for (random, milliseconds) in [(0.0, 500), (0.5, 750), (1.0, 1_000), (9.0, 1_000)] {
            assert_eq!(spread(second, random), Duration::from_millis(milliseconds));
        }
    }
}
