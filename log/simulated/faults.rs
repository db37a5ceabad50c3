//! What goes wrong in a simulated engine, and how often.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How an engine behaves. Shares are of all calls, between 0 and 1.
#[derive(Clone, Debug)]
pub struct Faults {
    /// How long a call is under way, there and back each.
    pub latency: Range<Duration>,
    /// The share of calls that never reach the engine.
    pub lost: f64,
    /// The share of calls that are carried out and never answered.
    pub unanswered: f64,
    /// The share of calls that reach the engine late, so that what the caller did next overtakes
    /// them; where it is later than [`Faults::timeout`], also what it did again.
    pub late: f64,
    /// How late those are.
    pub lateness: Range<Duration>,
    /// The share of calls that begin a stall, in which the engine does nothing.
    pub stalls: f64,
    /// How long a stall is.
    pub stall: Range<Duration>,
    /// How long a record takes from the engine to a follower.
    pub lag: Range<Duration>,
    /// How long a caller waits for an answer.
    pub timeout: Duration,
}

impl Faults {
    /// An engine that answers within a few milliseconds and always.
    #[must_use]
    pub fn none() -> Self {
        let ms = Duration::from_millis;
        Self {
            latency: ms(1)..ms(3),
            lost: 0.0,
            unanswered: 0.0,
            late: 0.0,
            lateness: ms(0)..ms(1),
            stalls: 0.0,
            stall: ms(0)..ms(1),
            lag: ms(1)..ms(20),
            timeout: ms(5_000),
        }
    }

    /// An engine in whose network everything happens every few calls.
    #[must_use]
    pub fn rough() -> Self {
        let ms = Duration::from_millis;
        Self {
            latency: ms(1)..ms(50),
            lost: 0.05,
            unanswered: 0.05,
            late: 0.1,
            lateness: ms(10)..ms(15_000),
            stalls: 0.01,
            stall: ms(100)..ms(7_000),
            lag: ms(1)..ms(2_000),
            timeout: ms(5_000),
        }
    }

    /// Draws what becomes of one call.
    pub(super) fn draw(&self, random: &mut StdRng) -> Fate {
        let mut there = within(&self.latency, random);
        let back = within(&self.latency, random);
        let what: f64 = random.random();
        let (lost, unanswered) = (self.lost, self.lost + self.unanswered);
        let (late, stalls) = (unanswered + self.late, unanswered + self.late + self.stalls);
        if (unanswered..late).contains(&what) {
            there += within(&self.lateness, random);
        }
        Fate {
            there,
            back,
            is_lost: what < lost,
            is_unanswered: (lost..unanswered).contains(&what),
            stall: (late..stalls)
                .contains(&what)
                .then(|| within(&self.stall, random)),
            is_sent_though_cut: random.random(),
        }
    }
}

/// What becomes of one call.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) is_lost: bool,
    pub(super) is_unanswered: bool,
    pub(super) stall: Option<Duration>,
    /// Where the node is cut off: whether it notices only by the missing answer.
    pub(super) is_sent_though_cut: bool,
}

pub(super) fn within(range: &Range<Duration>, random: &mut StdRng) -> Duration {
    let span = range.end.saturating_sub(range.start);
    range.start + span.mul_f64(random.random())
}

/// A source of random numbers for one thing alone, so that nothing else changes what it draws.
pub(super) fn random(seed: u64, of: [u64; 3]) -> StdRng {
    let mut key = [0; 32];
    for (part, number) in key.chunks_exact_mut(8).zip([seed, of[0], of[1], of[2]]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    StdRng::from_seed(key)
}
