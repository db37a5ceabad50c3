//! How many of a target's slots one subscription may hold.
//!
//! While its deliveries are quick a subscription may hold them all: the next one that ends makes
//! room for whoever comes. Where they are slow, or nobody knows yet how long they take, it leaves a
//! part free, so that one whose calls hang does not keep the others out until these time out. Pure.

use std::time::Duration;

use foldhash::HashMap;
use pointsman_schemas::SubscriptionNumber;
use tokio::time::Instant;

use super::lane::Held;

/// How long a subscription counts as using the target after it last did.
const ACTIVE_FOR: Duration = Duration::from_secs(10);

/// Slow is whoever lets another that uses the target wait longer than this for one of its slots, in
/// seconds.
const WAIT_MAX: f64 = 0.05;

/// Slow while the others are idle is whoever's deliveries take longer than this, in seconds.
const SLOW: f64 = 2.0;

/// How much the latest delivery counts in what the next is taken to cost.
const WEIGHT: f64 = 0.2;

/// How many times what it leaves free a slow subscription of the usual priority may hold. One of
/// another may hold as many times more as its share is larger, and no more of all slots than that
/// one could if it were alone.
const SLOW_PER_FREE: usize = 3;

/// From how many slots on one is left to the others even by a quick subscription: less than a
/// fourth of them is no loss.
const ONE_LEFT_FROM: usize = 4;

/// Who holds a target's slots.
#[derive(Debug)]
pub(super) struct Occupancy {
    holders: HashMap<SubscriptionNumber, Holder>,
    /// The two subscriptions that used the target last, the last one first.
    latest: [Option<(SubscriptionNumber, Instant)>; 2],
    /// Likewise of those that succeeded, with when that attempt began.
    successes: [Option<(SubscriptionNumber, Instant)>; 2],
    /// Starts are counted from here.
    base: Instant,
}

#[derive(Debug, Default)]
struct Holder {
    held: usize,
    /// Of the attempts under way, in seconds.
    starts: f64,
    /// What a delivery of it takes, in seconds; none before one has ended.
    cost: Option<f64>,
}

/// A target's slots as they stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    pub(super) limit: usize,
    pub(super) free: usize,
    /// Whether other subscriptions have this target.
    pub(super) is_shared: bool,
    /// Whether others wait for a slot.
    pub(super) others_wait: bool,
}

/// What a subscription may claim of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Leaves as much to the others that use the target as a slow one.
    pub(super) yields: bool,
    /// How many times the usual share is its own.
    pub(super) weight: usize,
}

/// Notes who was there last.
fn note(
    latest: &mut [Option<(SubscriptionNumber, Instant)>; 2],
    number: SubscriptionNumber,
    at: Instant,
) {
    if latest[0].is_none_or(|(first, _)| first != number) {
        latest[1] = latest[0];
    }
    latest[0] = Some((number, at));
}

/// When another was there last.
fn other(
    latest: [Option<(SubscriptionNumber, Instant)>; 2],
    number: SubscriptionNumber,
) -> Option<Instant> {
    latest
        .into_iter()
        .flatten()
        .find(|(one, _)| *one != number)
        .map(|(_, at)| at)
}

impl Occupancy {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            holders: HashMap::default(),
            latest: [None; 2],
            successes: [None; 2],
            base: now,
        }
    }

    pub(super) fn begin(&mut self, number: SubscriptionNumber, now: Instant) {
        note(&mut self.latest, number, now);
        let start = now.saturating_duration_since(self.base).as_secs_f64();
        let holder = self.holders.entry(number).or_default();
        holder.held += 1;
        holder.starts += start;
    }

    pub(super) fn end(
        &mut self,
        number: SubscriptionNumber,
        started: Instant,
        now: Instant,
        is_success: bool,
    ) {
        note(&mut self.latest, number, now);
        if is_success {
            note(&mut self.successes, number, started);
        }
        let start = started.saturating_duration_since(self.base).as_secs_f64();
        let Some(holder) = self.holders.get_mut(&number) else {
            return;
        };
        holder.held = holder.held.saturating_sub(1);
        // What is not held any more must not leave a rounding error behind.
        holder.starts = if holder.held == 0 {
            0.0
        } else {
            holder.starts - start
        };
        let seconds = now.saturating_duration_since(started).as_secs_f64();
        holder.cost = Some(
            holder
                .cost
                .map_or(seconds, |cost| cost + (seconds - cost) * WEIGHT),
        );
    }

    /// Whether another subscription has succeeded with an attempt that began no earlier than this:
    /// the target answers, and what this one met with is its own.
    pub(super) fn has_other_success(&self, number: SubscriptionNumber, since: Instant) -> bool {
        other(self.successes, number).is_some_and(|started| started >= since)
    }

    /// What a subscription holds, and how long its attempts take.
    pub(super) fn held(&self, number: SubscriptionNumber, now: Instant) -> Held {
        let Some(holder) = self.holders.get(&number) else {
            return Held::default();
        };
        let under_way = holder.under_way(self.seconds_at(now));
        Held {
            count: holder.held,
            takes: Duration::try_from_secs_f64(holder.cost.unwrap_or_default().max(under_way))
                .unwrap_or_default(),
        }
    }

    fn seconds_at(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.base).as_secs_f64()
    }

    /// How many more slots a subscription may take now.
    pub(super) fn most(
        &self,
        number: SubscriptionNumber,
        slots: Slots,
        claim: Claim,
        now: Instant,
    ) -> usize {
        let Slots {
            limit,
            free,
            is_shared,
            others_wait,
        } = slots;
        if !is_shared || limit < 2 {
            return usize::MAX;
        }
        let holder = self.holders.get(&number);
        let held = holder.map_or(0, |holder| holder.held);
        let are_active = others_wait
            || other(self.latest, number)
                .is_some_and(|at| now.saturating_duration_since(at) < ACTIVE_FOR);
        let seconds = holder.map_or(f64::INFINITY, |holder| holder.seconds(self.seconds_at(now)));
        let is_slow = if are_active {
            claim.yields || seconds / limit as f64 > WAIT_MAX
        } else {
            seconds > SLOW
        };
        let most = if is_slow {
            let per_free = SLOW_PER_FREE * claim.weight;
            let of_all = limit * SLOW_PER_FREE / (SLOW_PER_FREE + 1);
            let more = (per_free * free).saturating_sub(held) / (per_free + 1);
            more.min(of_all.saturating_sub(held))
        } else if are_active && limit >= ONE_LEFT_FROM {
            (limit - 1).saturating_sub(held)
        } else {
            usize::MAX
        };
        // Whoever holds none may have the last one.
        most.max(usize::from(held == 0))
    }

    /// Forgets the subscriptions that are not kept and hold nothing.
    pub(super) fn retain(&mut self, keep: impl Fn(SubscriptionNumber) -> bool) {
        self.holders
            .retain(|number, holder| holder.held > 0 || keep(*number));
    }
}

impl Holder {
    /// How long a delivery takes: what those took that have ended, or what those under way have
    /// taken already.
    fn seconds(&self, now: f64) -> f64 {
        self.cost.unwrap_or(f64::INFINITY).max(self.under_way(now))
    }

    /// How long those under way have taken, in the mean.
    fn under_way(&self, now: f64) -> f64 {
        if self.held > 0 {
            now - self.starts / self.held as f64
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SubscriptionNumber = SubscriptionNumber(1);
    const B: SubscriptionNumber = SubscriptionNumber(2);
    const C: SubscriptionNumber = SubscriptionNumber(3);
    const USUAL: Claim = Claim {
        yields: false,
        weight: 1,
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn slots(limit: usize, free: usize) -> Slots {
        Slots {
            limit,
            free,
            is_shared: true,
            others_wait: false,
        }
    }

    /// One whose deliveries took so long, the last one until `now`.
    fn known(number: SubscriptionNumber, took: Duration, now: Instant) -> Occupancy {
        let mut occupancy = Occupancy::new(now - HOUR);
        occupancy.begin(number, now - took);
        occupancy.end(number, now - took, now, true);
        occupancy
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    fn now() -> Instant {
        Instant::now() + HOUR * 2
    }

    #[test]
    fn whoever_is_alone_or_quick_while_the_others_are_idle_may_have_all() {
        let now = now();
        let unknown = Occupancy::new(now);
        assert_eq!(
            unknown.most(
                A,
                Slots {
                    is_shared: false,
                    ..slots(8, 8)
                },
                USUAL,
                now
            ),
            usize::MAX
        );
        assert_eq!(unknown.most(A, slots(1, 1), USUAL, now), usize::MAX);
        assert_eq!(
            known(A, SECOND, now).most(A, slots(8, 8), USUAL, now),
            usize::MAX
        );
    }

    #[test]
    fn the_slow_and_the_unknown_leave_some_free_and_nobody_is_left_without_one() {
        let now = now();
        for mut occupancy in [Occupancy::new(now - HOUR), known(A, SECOND * 30, now)] {
            let granted: Vec<usize> = [(A, 8), (B, 2), (C, 1)]
                .map(|(number, free)| {
                    let most = occupancy.most(number, slots(8, free), USUAL, now);
                    (0..most).for_each(|_| occupancy.begin(number, now));
                    most
                })
                .to_vec();
            assert_eq!(granted, [6, 1, 1]);
            assert_eq!(occupancy.most(A, slots(8, 2), USUAL, now), 0);
        }
    }

    #[test]
    fn a_larger_share_is_one_of_what_is_left_to_others_and_no_more_of_all_slots() {
        let now = now();
        let mut occupancy = known(A, SECOND * 30, now);
        let claim = Claim { weight: 5, ..USUAL };
        assert_eq!(occupancy.most(A, slots(16, 16), claim, now), 12);
        (0..4).for_each(|_| occupancy.begin(A, now));
        for (weight, most) in [(1, 2), (5, 3)] {
            let claim = Claim { weight, ..USUAL };
            assert_eq!(occupancy.most(A, slots(16, 4), claim, now), most);
        }
    }

    #[test]
    fn what_was_quick_and_hangs_is_slow() {
        let now = now();
        let mut occupancy = known(A, SECOND / 100, now);
        (0..4).for_each(|_| occupancy.begin(A, now));
        assert_eq!(occupancy.most(A, slots(8, 4), USUAL, now), usize::MAX);
        assert_eq!(occupancy.most(A, slots(8, 4), USUAL, now + SECOND * 3), 2);
    }

    #[test]
    fn one_is_left_to_others_that_were_there_lately() {
        let now = now();
        let mut occupancy = known(A, SECOND / 100, now);
        occupancy.begin(B, now);
        occupancy.end(B, now, now, true);
        assert_eq!(
            [2, 4, 64].map(|limit| occupancy.most(A, slots(limit, limit), USUAL, now)),
            [usize::MAX, 3, 63]
        );
        assert_eq!(
            occupancy.most(A, slots(4, 4), USUAL, now + ACTIVE_FOR),
            usize::MAX
        );
        assert_eq!(
            occupancy.most(
                A,
                Slots {
                    others_wait: true,
                    ..slots(4, 4)
                },
                USUAL,
                now + ACTIVE_FOR
            ),
            3
        );
    }

    #[test]
    fn the_success_of_another_since_then_counts() {
        let now = now();
        let mut occupancy = known(A, SECOND, now);
        assert!(!occupancy.has_other_success(A, now - HOUR));
        assert!(
            occupancy.has_other_success(B, now - SECOND) && !occupancy.has_other_success(B, now)
        );
        occupancy.end(B, now, now, true);
        occupancy.end(B, now, now, true);
        assert!(
            occupancy.has_other_success(A, now) && occupancy.has_other_success(B, now - SECOND)
        );
    }
}
