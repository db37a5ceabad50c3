//! Points in time, as the journal keeps them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod zone;

pub use zone::zone;

/// Microseconds since 1970-01-01T00:00:00Z, UTC, without leap seconds.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The system clock's reading.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// This point moved forward; saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// This point moved back; saturates at the beginning of time.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this point lies; zero where it lies before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(
                i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
            ),
        }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, such as `2026-11-20T13:44:03.000001Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// Where the time of day comes from, so that tests can turn it.
///
/// Waiting is the runtime's matter and goes by its own monotonic clock; whoever waits for a time of
/// day asks here again when it wakes.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day now. It may jump, also backwards.
    fn now(&self) -> Timestamp;

    /// How long ago some moment was that stays the same while the process runs: it never jumps,
    /// whatever the time of day does. Of a clock whose time of day never jumps either, that is the
    /// same.
    fn steady(&self) -> Duration {
        self.now().since(Timestamp(0))
    }

    /// A time of this clock as the time of day, for people. Another one only of a clock that goes
    /// on where the time of day is set.
    fn shown(&self, time: Timestamp) -> Timestamp {
        time
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The time since the system started, in which it has been asleep included where the system
    /// tells that (Linux).
    fn steady(&self) -> Duration {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(clock);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_display_is_rfc_3339() {
        assert_eq!(
            Timestamp(1_000_000).plus(Duration::from_millis(1)),
            Timestamp(1_001_000)
        );
        assert_eq!(Timestamp(i64::MAX).plus(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(1_500_000).to_string(), "1970-01-01T00:00:01.5Z");
    }
}
