//! What the settings of such sources have in common.

use std::ops::RangeInclusive;
use std::time::Duration;

use pointsman_schemas::{Interval, Problem};

/// For how long messages may be kept from others: extending that has to survive a request that is
/// lost, and no queue does it for longer.
const VISIBILITY: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(12 * 60 * 60);

/// Messages in hand at most: SQS hands out no more of one queue.
const PREFETCH_MAX: usize = 20_000;

/// Past so many bytes in hand no further message is asked for.
pub(crate) const IN_HAND_BYTES: usize = 32 << 20;

/// For how long messages are kept from others, unless it is said.
pub(crate) fn visibility() -> Interval {
    Interval(Duration::from_secs(30))
}

/// How many messages are in hand at most, unless it is said.
pub(crate) fn prefetch() -> usize {
    1_000
}

/// What is wrong with `visibility` and `prefetch`, which is at least what one call brings.
pub(crate) fn check(
    system: &str,
    Interval(visibility): Interval,
    prefetch: usize,
    prefetch_min: usize,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !VISIBILITY.contains(&visibility) {
        let mistake = "messages are kept from others for 10s to 12h";
        problems.push(Problem::new(mistake).at("visibility"));
    } else if visibility.subsec_nanos() != 0 {
        let mistake = format!("{system} counts in whole seconds");
        problems.push(Problem::new(mistake).at("visibility"));
    }
    if !(prefetch_min..=PREFETCH_MAX).contains(&prefetch) {
        let mistake = format!("{prefetch_min} to {PREFETCH_MAX} messages are in hand");
        problems.push(Problem::new(mistake).at("prefetch"));
    }
    problems
}
