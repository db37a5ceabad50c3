//! This node's part of limits that other nodes of a cluster use too.

use std::time::Duration;

use pointsman_schemas::Rate;
use tokio::time::Instant;

use super::rate::Bucket;
use super::share::LimitShare;

/// By when an attempt counts a third of what it did when it began, where it is counted how many
/// begin.
const REMEMBERED: Duration = Duration::from_secs(1);

/// A bucket whose tokens lie so far apart is mostly empty where anything waits. One whose tokens lie
/// nearer to each other may be for a moment, and lacks nothing.
const FAR_APART: Duration = Duration::from_millis(500);

/// What any node may use, in thousandths, without being told.
const ONE: u64 = 1_000;

/// This node's part of the limits of a target or a quota.
#[derive(Clone, Debug)]
pub(super) struct Part {
    at_once: usize,
    /// Thousandths of the attempts that may begin in the period of the rate.
    thousandths: u64,
    /// Attempts that have begun since it was looked at.
    taken: usize,
    looked: Instant,
    /// How many have begun in a second of late.
    recent: f64,
}

impl Part {
    /// The least that there is, until more is told.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            at_once: 1,
            thousandths: ONE,
            taken: 0,
            looked: now,
            recent: 0.0,
        }
    }

    /// Takes over what has changed.
    pub(super) fn set(&mut self, share: &LimitShare) {
        self.at_once = share.at_once.unwrap_or(self.at_once).max(1);
        self.thousandths = share.thousandths.unwrap_or(self.thousandths).max(1);
    }

    /// The rate is another one, of which nothing has been told yet.
    pub(super) fn begin_rate_anew(&mut self) {
        self.thousandths = ONE;
    }

    /// How many attempts may be under way, of as many as all nodes may have.
    pub(super) fn bound(&self, limit: usize) -> usize {
        limit.min(self.at_once)
    }

    /// Has the bucket of a rate go on with the part of it that is this node's.
    pub(super) fn slow(&self, bucket: &mut Option<Bucket>, rate: Option<Rate>, now: Instant) {
        if let (Some(bucket), Some(rate)) = (bucket, rate) {
            bucket.go_on_with(self.thousandths, rate.per, now);
        }
    }

    pub(super) fn took(&mut self, count: usize) {
        self.taken += count;
    }

    pub(super) fn gave_back(&mut self, count: usize) {
        self.taken = self.taken.saturating_sub(count);
    }

    /// How much of a rate this node could use, in thousandths, where somebody waits for the rest of
    /// its bucket or not.
    pub(super) fn demand(
        &mut self,
        bucket: Option<&Bucket>,
        rate: Option<Rate>,
        waits: bool,
        now: Instant,
    ) -> u64 {
        let recent = self.recent(now);
        let (Some(bucket), Some(rate)) = (bucket, rate) else {
            return 0;
        };
        let used = whole(recent * rate.per.as_secs_f64() * 1_000.0);
        let is_dry = waits && bucket.available(now) == 0;
        let lacks = bucket.interval() >= FAR_APART || used >= self.thousandths / 2;
        match is_dry && lacks {
            true => u64::from(rate.count.get()) * 1_000,
            false => used + used / 4,
        }
    }

    /// How many attempts begin in a second, as far as the last ones tell.
    fn recent(&mut self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.looked).as_secs_f64();
        self.looked = now;
        let remembered = REMEMBERED.as_secs_f64();
        let taken = std::mem::take(&mut self.taken) as f64;
        self.recent = self.recent * (-passed / remembered).exp() + taken / remembered;
        self.recent
    }
}

/// As many and some more, so that it is not asked for each one.
pub(super) fn with_a_quarter(count: usize) -> usize {
    count + count / 4 + 1
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of attempts, which is neither negative nor large"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
