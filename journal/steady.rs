//! The clock by which what waits in a journal falls due and grows old.
//!
//! The time of day may be set, by hours or years. Whatever waits must neither be parked by that nor
//! expire. So a journal keeps a time of its own: it begins with the time of day, and goes on as the
//! system's steady clock does. Where the time of day is set, the offset between the two changes and
//! nothing else. The journal on disk keeps that offset, and its own time at the last commit, so
//! that over a restart time neither stands still nor runs backwards.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::{Clock, Timestamp};

/// Less than this between the two clocks is how they drift and are read, and no setting of one.
const JUMP_MICROS: u64 = 1_000_000;

/// A journal's own time.
#[derive(Debug)]
pub struct JournalClock {
    wall: Arc<dyn Clock>,
    start: Timestamp,
    began: Duration,
    /// How far the time of day is ahead, in microseconds.
    offset: Mutex<i64>,
}

impl JournalClock {
    /// A clock that begins with the time of day.
    #[must_use]
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        Self::resume(wall, 0, Timestamp(i64::MIN))
    }

    /// A clock that goes on where an earlier one has ended: with what the time of day was ahead of
    /// it, and not before `last`.
    #[must_use]
    pub fn resume(wall: Arc<dyn Clock>, offset: i64, last: Timestamp) -> Self {
        let (now, began) = (wall.now(), wall.steady());
        let start = Timestamp(now.0.saturating_sub(offset)).max(last);
        let clock = Self {
            wall,
            start,
            began,
            offset: Mutex::new(offset),
        };
        clock.offset();
        clock
    }

    /// The journal's time now.
    pub fn now(&self) -> Timestamp {
        self.start
            .plus(self.wall.steady().saturating_sub(self.began))
    }

    /// How far the time of day is ahead of this clock, in microseconds; 0 as long as nobody has set
    /// it.
    pub fn offset(&self) -> i64 {
        let ahead = self.wall.now().0.saturating_sub(self.now().0);
        let mut offset = self.offset.lock();
        let jump = ahead.saturating_sub(*offset);
        if jump.unsigned_abs() >= JUMP_MICROS {
            *offset = ahead;
            let (by, direction) = (
                Duration::from_micros(jump.unsigned_abs()),
                if jump > 0 { "forward" } else { "back" },
            );
            tracing::warn!(
                ?by,
                "the system's clock was set {direction}; what waits falls due and grows old as if \
                 it had not been"
            );
        }
        *offset
    }
}

impl Clock for JournalClock {
    fn now(&self) -> Timestamp {
        self.now()
    }

    fn steady(&self) -> Duration {
        self.wall.steady()
    }

    fn shown(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add(self.offset()))
    }
}
