//! Which subscriptions have a lane of their own. Pure.
//!
//! ```text
//!                 ── slow, failing, or with a backlog that does not end ──▶
//! the shared lane                                                            a lane of its own
//!                 ◀────────────── none of these for ten seconds ───────────
//! ```
//!
//! Whoever is in a lane of its own leaves a part of its target's slots to the others that use it.
//! What a slow one holds counts among what such ones may have in flight together, and takes nothing
//! from what the shared lane may: a slot that comes back in 30 s is of no use to anybody meanwhile.
//! One that is quick and has much to deliver gives its slots back at once, and stays there.

use std::time::Duration;

use pointsman_schemas::Class;
use tokio::time::Instant;

/// How often a subscription is looked at that has something under way or a lane of its own.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// Slow is whoever's deliveries take longer than this.
const SLOW: Duration = Duration::from_secs(1);

/// For how long there must have been more to deliver than could be.
const BACKLOG_FOR: Duration = Duration::from_secs(5);

/// For how long nothing may be wrong with a subscription until it comes back.
const WELL_FOR: Duration = Duration::from_secs(10);

/// How much the latest attempt counts in which part of them fails.
const WEIGHT: f32 = 0.2;

/// From which part of failures on a subscription fails, and below which it does no more: five
/// failures in a row, six successes.
const FAILING: (f32, f32) = (0.6, 0.2);

/// How long failures count after the last attempt: longer than attempts usually lie apart.
const FAILING_FOR: Duration = Duration::from_secs(600);

/// Why a subscription has a lane of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LaneReason {
    /// Its attempts take long, or hang.
    Slow,
    /// Most of its attempts fail.
    Failing,
    /// It has had more to deliver than it may for a while.
    Backlog,
}

impl LaneReason {
    /// The reason as it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Backlog => "backlog",
        }
    }
}

/// One subscription, as far as its lane depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    own: Option<LaneReason>,
    /// Since when nothing is wrong, where it has a lane of its own.
    well_since: Option<Instant>,
    /// Which part of its latest attempts failed, and when the last one ended.
    failing: f32,
    ended_at: Option<Instant>,
    /// Since when it has had more than it was granted.
    full_since: Option<Instant>,
    /// Whether a check of it is due some time.
    pub(super) is_watched: bool,
}

/// What a subscription holds of its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Attempts under way.
    pub(super) count: usize,
    /// How long its attempts take: what those took that have ended, or what those under way have
    /// taken already.
    pub(super) takes: Duration,
}

impl Lane {
    /// Why it has a lane of its own, if it has.
    pub(super) fn own(&self) -> Option<LaneReason> {
        self.own
    }

    /// Whether what it holds is counted apart.
    pub(super) fn is_apart(&self) -> bool {
        self.own == Some(LaneReason::Slow)
    }

    /// When a check that is wanted now is made: those of many fall together.
    pub(super) fn check_at(now: Instant, base: Instant) -> Instant {
        let steps = now.saturating_duration_since(base).as_millis() / CHECK_EVERY.as_millis() + 1;
        base + CHECK_EVERY * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    /// An attempt has ended.
    pub(super) fn ended(&mut self, class: Class, at: Instant) {
        let fails = match class {
            Class::Failed | Class::Unavailable => 1.0,
            _ => 0.0,
        };
        self.failing += (fails - self.failing) * WEIGHT;
        self.ended_at = Some(at);
    }

    /// A grant is over; `is_used_up` where there was as much to lease as it allowed.
    pub(super) fn granted(&mut self, is_used_up: bool, now: Instant) {
        self.full_since = match is_used_up {
            true => self.full_since.or(Some(now)),
            false => None,
        };
    }

    /// Decides anew. Returns true where that changes something.
    pub(super) fn check(&mut self, held: Held, now: Instant) -> bool {
        let before = self.own;
        match self.trouble(held, now) {
            Some(reason) => {
                self.well_since = None;
                self.own = Some(reason);
            }
            None => {
                let since = *self.well_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= WELL_FOR {
                    self.own = None;
                }
            }
        }
        self.own != before
    }

    /// Whether there is anything to check for.
    pub(super) fn is_worth_watching(&self, held: Held) -> bool {
        held.count > 0 || self.own.is_some() || self.full_since.is_some()
    }

    /// What is wrong now. Being slow comes first: it alone changes what is counted where.
    fn trouble(&self, held: Held, now: Instant) -> Option<LaneReason> {
        let is_over = |since: Option<Instant>, after| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= after)
        };
        let fails = match self.own {
            Some(LaneReason::Failing) => self.failing >= FAILING.1,
            _ => self.failing >= FAILING.0,
        };
        if held.count > 0 && held.takes > SLOW {
            Some(LaneReason::Slow)
        } else if fails && !is_over(self.ended_at, FAILING_FOR) {
            Some(LaneReason::Failing)
        } else if is_over(self.full_since, BACKLOG_FOR) {
            Some(LaneReason::Backlog)
        } else {
            None
        }
    }
}

/// How many deliveries may go into flight, in each of the two pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    max: usize,
    shared: usize,
    apart: usize,
}

/// What a target may hold before it is left to what all have reserved for those that hold little.
const FEW: usize = 4;

/// Which part of a pool that is: of 4,096, enough for 256 targets that hang and hold a few each.
const RESERVED: usize = 4;

impl Room {
    /// What is left of `max` in each pool, where so many are in flight in all and so many of these
    /// apart. Both together have twice as much at most, however often what hangs moves from the
    /// one into the other.
    pub(super) fn new(max: usize, in_flight: usize, apart: usize) -> Self {
        let all = max.saturating_mul(2).saturating_sub(in_flight);
        let shared = in_flight.saturating_sub(apart);
        Self {
            max,
            shared: max.saturating_sub(shared).min(all),
            apart: max.saturating_sub(apart).min(all),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared == 0 && self.apart == 0
    }

    fn pool(&mut self, apart: bool) -> &mut usize {
        match apart {
            true => &mut self.apart,
            false => &mut self.shared,
        }
    }

    pub(super) fn take(&mut self, apart: bool, count: usize) {
        let pool = self.pool(apart);
        *pool = pool.saturating_sub(count);
    }

    /// How many more a target may have that holds so many of this pool: as much as it leaves free
    /// (dynamic thresholds, Choudhury and Hahne 1998) of what is not reserved. One that answers
    /// nothing takes up half of that at most, a second one half of the rest. The reserve is for
    /// those that hold few.
    pub(super) fn share(&mut self, apart: bool, held: usize) -> usize {
        let reserved = self.max / RESERVED;
        let free = *self.pool(apart);
        let half = |free: usize| (free + held).div_ceil(2).saturating_sub(held);
        let few = half(free).min(FEW.saturating_sub(held));
        half(free.saturating_sub(reserved)).max(few)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held(count: usize, takes: Duration) -> Held {
        Held { count, takes }
    }

    /// Checks it once a second for so long, and returns what it was each time.
    fn checked(
        lane: &mut Lane,
        held: Held,
        from: Instant,
        seconds: u32,
    ) -> Vec<Option<LaneReason>> {
        let check = |second| {
            lane.check(held, from + SECOND * second);
            lane.own()
        };
        (0..seconds).map(check).collect()
    }

    #[test]
    fn a_slow_one_moves_at_once_and_back_when_it_has_been_quick_for_a_while() {
        let (mut lane, start) = (Lane::default(), Instant::now());
        assert!(!lane.check(held(64, SLOW), start));
        assert!(lane.check(held(64, SLOW * 2), start) && lane.is_apart());
        let quick = held(64, SLOW / 10);
        let back = checked(&mut lane, quick, start, 12);
        assert_eq!(back[..10], [Some(LaneReason::Slow); 10]);
        assert_eq!(back[10..], [None; 2]);
        // Who holds nothing is not slow, whatever it was.
        assert!(!lane.check(held(0, SLOW * 9), start + SECOND * 20));
    }

    #[test]
    fn one_that_is_well_now_and_then_stays_apart() {
        let (mut lane, start) = (Lane::default(), Instant::now());
        lane.check(held(1, SLOW * 2), start);
        for second in 0..100 {
            let takes = if second % 9 == 0 { SLOW * 2 } else { SLOW / 2 };
            assert!(
                !lane.check(held(1, takes), start + SECOND * second),
                "{second}"
            );
        }
    }

    #[test]
    fn five_failures_in_a_row_are_failing_and_six_successes_end_it() {
        let (mut lane, start) = (Lane::default(), Instant::now());
        let quick = held(1, SLOW / 10);
        for _ in 0..4 {
            lane.ended(Class::Failed, start);
        }
        assert!(!lane.check(quick, start));
        lane.ended(Class::Unavailable, start);
        assert!(lane.check(quick, start) && !lane.is_apart());
        assert_eq!(lane.own(), Some(LaneReason::Failing));
        for _ in 0..5 {
            lane.ended(Class::Delivered, start);
        }
        let still = checked(&mut lane, quick, start + SECOND, 20);
        assert!(still.iter().all(Option::is_some));
        lane.ended(Class::Delivered, start + SECOND * 20);
        assert_eq!(checked(&mut lane, quick, start + SECOND * 21, 12)[11], None);
    }

    #[test]
    fn what_is_throttled_or_rejected_does_not_fail() {
        let (mut lane, start) = (Lane::default(), Instant::now());
        for class in [Class::Throttled, Class::Rejected, Class::Refused] {
            (0..99).for_each(|_| lane.ended(class, start));
        }
        assert!(!lane.check(held(1, SLOW / 10), start));
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let (mut lane, start) = (Lane::default(), Instant::now());
        (0..9).for_each(|_| lane.ended(Class::Failed, start));
        let none = held(0, Duration::ZERO);
        assert!(lane.check(none, start));
        assert!(
            checked(&mut lane, none, start, 599)
                .iter()
                .all(Option::is_some)
        );
        assert_eq!(checked(&mut lane, none, start + FAILING_FOR, 12)[11], None);
    }

    #[test]
    fn a_backlog_must_last() {
        let (mut lane, start) = (Lane::default(), Instant::now());
        let quick = held(9, SLOW / 10);
        for second in 0..4 {
            lane.granted(true, start + SECOND * second);
        }
        assert!(!lane.check(quick, start + SECOND * 4));
        lane.granted(false, start + SECOND * 4);
        lane.granted(true, start + SECOND * 5);
        assert!(!lane.check(quick, start + SECOND * 9));
        assert!(lane.check(quick, start + SECOND * 10) && !lane.is_apart());
        assert_eq!(lane.own(), Some(LaneReason::Backlog));
        lane.granted(false, start + SECOND * 11);
        assert!(!lane.check(quick, start + SECOND * 11));
        assert!(lane.check(quick, start + SECOND * 21));
    }

    #[test]
    fn what_hangs_leaves_room_for_those_that_hold_few() {
        // Targets that take what they may, and hold it.
        let fill = |targets: usize, most: usize| {
            let mut room = Room::new(4_096, 0, 0);
            for _ in 0..targets {
                let count = room.share(false, 0).min(most);
                room.take(false, count);
            }
            room.share(false, 0)
        };
        assert_eq!(
            [1, 12, 100, 200].map(|targets| fill(targets, 64)),
            [1_504, 1_152, FEW, FEW]
        );
        assert_eq!(
            [1, 12, 100, 200].map(|targets| fill(targets, 2_000)),
            [768, FEW, FEW, FEW]
        );
        // Once it is known to hang it takes nothing from the others.
        let mut room = Room::new(4_096, 4_096, 4_096);
        assert_eq!((room.share(false, 0), room.share(true, 0)), (1_536, 0));
        // Nor is there ever more in flight than twice as much.
        let mut room = Room::new(4_096, 8_190, 8_190);
        assert_eq!((room.share(false, 0), room.share(true, 0)), (1, 0));
        assert!(Room::new(4_096, 9_000, 8_190).is_empty());
    }

    #[test]
    fn checks_of_many_fall_together() {
        let base = Instant::now();
        let at = |millis| Lane::check_at(base + Duration::from_millis(millis), base) - base;
        assert_eq!(
            [0, 1, 249, 250, 251].map(at),
            [250, 250, 250, 500, 500].map(Duration::from_millis)
        );
    }
}
