//! Leaves a target alone while it cannot be reached, or fails whatever it is given. Pure: time and
//! chance are given.

use std::time::Duration;

use pointsman_schemas::{Backoff, backoff::spread};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::policy::left_alone;

/// Attempts in a row that must find the target unavailable. One reset connection among successes is
/// no outage.
const OPENS_AFTER: u32 = 5;

/// Attempts in a row that must fail, and of how many different deliveries: one that fails at every
/// try is its own fault, be it the only one.
const OPENS_AFTER_FAILURES: (u32, usize) = (10, 3);

/// First and longest time for which a target that fails is left alone: what is tried meanwhile
/// costs a delivery one of its attempts. Half of the time is spread by chance, so that many targets
/// behind one broken network do not all come back in the same moment.
const FAILING_LEFT_ALONE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How late a probe may be. Later than that there is nothing to probe with, and others need not
/// wait for it.
const PROBED_WITHIN: Duration = Duration::from_secs(2);

/// What a circuit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    All,
    /// One attempt, to see whether the target is back.
    One,
    /// Nothing until then; where no time is given, until the one attempt has ended.
    Nothing(Option<Instant>),
}

/// The circuit of one target: closed, open, or open with one attempt out as a probe.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    state: State,
    /// Attempts in a row that found the target unavailable.
    misses: u32,
    /// Attempts in a row that failed, those that found it unavailable included.
    failures: u32,
    /// Different deliveries among them, as many as matter.
    failed: SmallVec<[u64; OPENS_AFTER_FAILURES.1]>,
    /// Probes in a row that did.
    probes: u32,
    /// When the circuit opened, where it is open.
    opened_at: Option<Instant>,
}

/// What an attempt says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers as it should, even where it rejects the delivery.
    Works,
    /// It cannot be reached.
    Unavailable,
    /// It fails, with this delivery.
    Fails(u64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    Probing,
}

impl Circuit {
    /// What may be granted now.
    #[must_use]
    pub fn admits(&self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::All,
            State::Open { until } if until <= now => Admission::One,
            State::Open { until } => Admission::Nothing(Some(until)),
            State::Probing => Admission::Nothing(None),
        }
    }

    /// Whether the target is left alone or probed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Whether the target is left alone, and will be probed soon after that.
    #[must_use]
    pub fn is_seen_to(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => false,
            State::Open { until } => now < until + PROBED_WITHIN,
            State::Probing => true,
        }
    }

    /// The one attempt that [`Admission::One`] allows is on its way.
    pub fn probe(&mut self) {
        self.state = State::Probing;
    }

    /// There was no delivery to probe with after all.
    pub fn probe_unused(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Open { until: now };
        }
    }

    /// An attempt has ended. `random` is uniform in `0.0..1.0`. Returns true if that has opened or
    /// closed the circuit.
    ///
    /// While the circuit is open, what was under way before and ends badly says nothing new; what
    /// succeeds does.
    pub fn ended(&mut self, is_probe: bool, health: Health, now: Instant, random: f64) -> bool {
        match health {
            Health::Works => {
                let was_closed = self.state == State::Closed;
                *self = Self::default();
                return !was_closed;
            }
            Health::Unavailable => self.misses += 1,
            Health::Fails(delivery) => {
                self.misses = 0;
                if self.failed.len() < OPENS_AFTER_FAILURES.1 && !self.failed.contains(&delivery) {
                    self.failed.push(delivery);
                }
            }
        }
        self.failures += 1;
        match self.state {
            State::Closed => {
                let all_fail = self.failures >= OPENS_AFTER_FAILURES.0
                    && self.failed.len() >= OPENS_AFTER_FAILURES.1;
                if self.misses < OPENS_AFTER && !all_fail {
                    return false;
                }
            }
            State::Probing if is_probe => self.probes += 1,
            State::Probing | State::Open { .. } => return false,
        }
        let has_opened = self.state == State::Closed;
        let away = now.saturating_duration_since(*self.opened_at.get_or_insert(now));
        let left_alone = match health {
            Health::Fails(_) => FAILING_LEFT_ALONE.after(self.probes),
            _ => left_alone(away),
        };
        self.state = State::Open {
            until: now + spread(left_alone, random),
        };
        has_opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 1..OPENS_AFTER {
            assert!(!circuit.ended(false, Health::Unavailable, now, 1.0));
            assert_eq!(circuit.admits(now), Admission::All);
        }
        assert!(circuit.ended(false, Health::Unavailable, now, 1.0));
        circuit
    }

    #[test]
    fn it_opens_probes_one_at_a_time_and_closes() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert_eq!(circuit.admits(now), Admission::Nothing(Some(now + SECOND)));
        let now = now + SECOND;
        assert_eq!(circuit.admits(now), Admission::One);
        assert!(circuit.is_seen_to(now) && !circuit.is_seen_to(now + PROBED_WITHIN));
        circuit.probe();
        assert!(circuit.is_seen_to(now + PROBED_WITHIN));
        assert_eq!(circuit.admits(now), Admission::Nothing(None));
        assert!(circuit.ended(true, Health::Works, now, 1.0));
        assert_eq!(circuit.admits(now), Admission::All);
    }

    #[test]
    fn one_success_among_misses_keeps_it_closed() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for attempt in 0..100 {
            assert!(!circuit.ended(
                false,
                if attempt % OPENS_AFTER == 0 {
                    Health::Works
                } else {
                    Health::Unavailable
                },
                now,
                0.0
            ));
        }
        assert_eq!(circuit.admits(now), Admission::All);
    }

    #[test]
    fn it_opens_when_everything_fails_and_not_for_one_delivery() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            assert!(
                !circuit.ended(false, Health::Fails(7), now, 0.0),
                "one that fails for ever"
            );
            assert!(!circuit.ended(false, Health::Fails(8), now, 0.0));
        }
        assert!(circuit.ended(false, Health::Fails(9), now, 1.0));
        assert_eq!(circuit.admits(now), Admission::Nothing(Some(now + SECOND)));
        assert!(circuit.ended(false, Health::Works, now, 0.0));
        for attempt in 0..100 {
            let health = if attempt % 9 == 8 {
                Health::Works
            } else {
                Health::Fails(attempt)
            };
            assert!(!circuit.ended(false, health, now, 0.0), "some pass");
        }
    }

    /// After how many seconds of an outage it is probed, where no probe takes any time.
    fn probes(for_time: Duration, health: Health, random: f64) -> Vec<f64> {
        let start = Instant::now();
        let mut circuit = opened(start);
        let mut probes = Vec::new();
        let mut now = start;
        while now - start < for_time {
            let Admission::Nothing(Some(until)) = circuit.admits(now) else {
                panic!("it is not open")
            };
            now = until;
            probes.push((now - start).as_secs_f64());
            circuit.probe();
            assert!(
                !circuit.ended(true, health, now, random),
                "it was open before"
            );
        }
        probes
    }

    #[test]
    fn it_is_probed_ever_less_often_and_found_soon_after_its_return() {
        let hour = SECOND * 3_600;
        for random in [0.0, 0.5, 1.0] {
            let probes = probes(hour * 2, Health::Unavailable, random);
            for pair in probes.windows(2) {
                let wait = pair[1] - pair[0];
                let most = (pair[0] / 40.0).clamp(1.0, 30.0) + 1e-6;
                assert!(
                    (most * 0.4..=most).contains(&wait),
                    "{random}: {wait} s after {} s",
                    pair[0]
                );
            }
            let least_in_an_hour = probes.iter().filter(|at| **at < hour.as_secs_f64()).count();
            assert!(least_in_an_hour < 600, "{random}: {least_in_an_hour}");
        }
        let waits = |random| {
            let probes = probes(hour, Health::Unavailable, random);
            probes[probes.len() - 1] - probes[probes.len() - 2]
        };
        assert!((waits(1.0) - 30.0).abs() < 1e-6 && (waits(0.0) - 15.0).abs() < 1e-6);
    }

    #[test]
    fn one_that_fails_is_probed_less_often_since_that_costs_attempts() {
        let probes = probes(SECOND * 100, Health::Fails(1), 1.0);
        assert_eq!(probes, [1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0, 121.0]);
    }

    #[test]
    fn what_was_under_way_before_does_not_lengthen_the_wait_and_its_success_ends_it() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert!(!circuit.ended(false, Health::Unavailable, now + SECOND / 2, 1.0));
        assert_eq!(circuit.admits(now), Admission::Nothing(Some(now + SECOND)));
        circuit.probe();
        assert!(!circuit.ended(false, Health::Unavailable, now, 1.0));
        assert_eq!(circuit.admits(now), Admission::Nothing(None));
        circuit.probe_unused(now);
        assert_eq!(circuit.admits(now), Admission::One);
        assert!(circuit.ended(false, Health::Works, now, 1.0));
    }
}
