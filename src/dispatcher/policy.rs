//! When a delivery is tried again, or why it is not.
//!
//! Pure: what the attempt came to, the policy, the time and a random number go in, and the one
//! [`Decision`] comes out.

use std::time::Duration;

use pointsman_schemas::{Backoff, Class, Timestamp};

use pointsman_journal::{DeadReason, WaitReason};

/// The longest `Retry-After` that is honoured. A target that asks for more is asked again hourly:
/// one mistaken header, such as a date in the wrong year, must not park deliveries until they are
/// too old.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// How long a refused subscription is left alone before one delivery asks whether that is still so.
pub const PROBE_REFUSED_AFTER: Duration = Duration::from_secs(5 * 60);

/// Which part of the time that a target has been away already it is left alone for until it is
/// asked again: whoever waits for it waits hardly longer, and one that is gone for good is hardly
/// asked.
const PART_OF_OUTAGE: u32 = 40;

/// Shortest and longest time for which a target that is away is left alone.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The longest timeout: an attempt holds one of its target's slots, and a lease, for as long.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How one subscription's deliveries are tried. Valid by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    timeout: Duration,
    max_age: Duration,
    attempts: u32,
    backoff: Backoff,
}

/// A setting of a [`Policy`] that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    #[error("timeout is {0:?}; it must be longer than nothing and at most {TIMEOUT_MAX:?}")]
    Timeout(Duration),
    #[error("max_age is zero, so that every delivery would be too old; leave it out for 24h")]
    MaxAge,
    #[error("retry.attempts is 0; it counts the first try, so 1 means that nothing is tried again")]
    Attempts,
    #[error("retry.backoff.initial is zero; a target that fails would be called without a pause")]
    BackoffInitial,
    #[error(
        "retry.backoff.max is {max:?}, which is shorter than retry.backoff.initial, {initial:?}"
    )]
    BackoffMax { initial: Duration, max: Duration },
}

impl Policy {
    /// Checks the settings of `delivery` and makes a policy of them. `attempts` counts the first
    /// try.
    ///
    /// # Errors
    /// The first setting that makes no sense, by its name.
    pub fn new(
        timeout: Duration,
        max_age: Duration,
        attempts: u32,
        backoff: Backoff,
    ) -> Result<Self, InvalidPolicy> {
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(InvalidPolicy::Timeout(timeout));
        }
        if max_age.is_zero() {
            return Err(InvalidPolicy::MaxAge);
        }
        if attempts == 0 {
            return Err(InvalidPolicy::Attempts);
        }
        if backoff.initial.is_zero() {
            return Err(InvalidPolicy::BackoffInitial);
        }
        let Backoff { initial, max } = backoff;
        if max < initial {
            return Err(InvalidPolicy::BackoffMax { initial, max });
        }
        Ok(Self {
            timeout,
            max_age,
            attempts,
            backoff,
        })
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether a delivery whose run began at `since` is too old to be tried.
    #[must_use]
    pub fn is_expired(&self, since: Timestamp, now: Timestamp) -> bool {
        now >= since.plus(self.max_age)
    }

    /// The longest wait after `earlier` tries: the initial one doubled for each, up to the longest.
    #[must_use]
    pub fn backoff(&self, earlier: u32) -> Duration {
        self.backoff.after(earlier)
    }
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedAttempt {
    /// What it came to, as the target said.
    pub class: Class,
    /// How long the target asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Tries made before it.
    pub attempts: u32,
    /// Of those, the ones that used up one of the declared attempts.
    pub failures: u32,
    /// When the delivery's run began.
    pub since: Timestamp,
    pub now: Timestamp,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is delivered.
    Delivered,
    /// It is tried again.
    RetryAt {
        at: Timestamp,
        /// Whether this attempt used up one of the declared attempts.
        failure: bool,
    },
    /// It is a dead letter.
    Dead(DeadReason),
    /// It stays pending, and its subscription pauses until one delivery asks again.
    PauseRefused {
        /// When that is.
        probe_at: Timestamp,
    },
    /// It stays pending, and its subscription pauses for good.
    Gone,
}

/// The class that counts: whoever fails and says when to come back throttles, unless it refuses us
/// or is gone for good.
#[must_use]
pub fn class_in_force(class: Class, retry_after: Option<Duration>) -> Class {
    match class {
        Class::Unavailable | Class::Failed | Class::Rejected if retry_after.is_some() => {
            Class::Throttled
        }
        _ => class,
    }
}

/// Returns for how long a target that has been away for some time is left alone.
#[must_use]
pub fn left_alone(away: Duration) -> Duration {
    (away / PART_OF_OUTAGE).clamp(LEFT_ALONE.0, LEFT_ALONE.1)
}

/// Decides. `random` is uniform in `0.0..1.0` and spreads the retries over the whole of the backoff
/// (full jitter).
///
/// A retry that would come after the maximum age does not come at all: the delivery is dead now,
/// not later.
#[must_use]
pub fn decide(policy: &Policy, tried: &EndedAttempt, random: f64) -> Decision {
    let retry = |earlier: u32, not_before: Duration, failure: bool| {
        // The jitter spreads the backoff alone, so that nothing comes before the target is ready
        // for it.
        let at = tried.now.plus(
            policy
                .backoff(earlier)
                .mul_f64(random.clamp(0.0, 1.0))
                .max(not_before),
        );
        match policy.is_expired(tried.since, at) {
            true => Decision::Dead(DeadReason::Expired),
            false => Decision::RetryAt { at, failure },
        }
    };
    match class_in_force(tried.class, tried.retry_after) {
        Class::Delivered => Decision::Delivered,
        Class::Gone => Decision::Gone,
        Class::Refused => Decision::PauseRefused {
            probe_at: tried.now.plus(PROBE_REFUSED_AFTER),
        },
        Class::Rejected => Decision::Dead(DeadReason::Rejected),
        Class::Throttled => retry(
            tried.attempts,
            tried.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX),
            false,
        ),
        Class::Unavailable => retry(tried.attempts, Duration::ZERO, false),
        Class::Failed if tried.failures.saturating_add(1) >= policy.attempts => {
            Decision::Dead(DeadReason::Exhausted)
        }
        Class::Failed => retry(tried.failures, Duration::ZERO, true),
    }
}

/// What decided that a delivery is tried again at `at`.
#[must_use]
pub fn wait_reason(tried: &EndedAttempt, at: Timestamp) -> WaitReason {
    let asked = tried.retry_after.filter(|asked| !asked.is_zero());
    match asked.map(|asked| tried.now.plus(asked.min(RETRY_AFTER_MAX))) {
        Some(asked) if at <= asked => WaitReason::RetryAfter,
        _ => WaitReason::Backoff,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: Timestamp = Timestamp(1_000_000_000_000_000);
    const CLASSES: [Class; 7] = [
        Class::Delivered,
        Class::Throttled,
        Class::Unavailable,
        Class::Failed,
        Class::Refused,
        Class::Gone,
        Class::Rejected,
    ];

    /// The defaults of the rule file.
    fn policy() -> Policy {
        Policy::new(
            SECOND * 30,
            HOUR * 24,
            4,
            Backoff::new(SECOND, SECOND * 300),
        )
        .unwrap()
    }

    fn tried(class: Class) -> EndedAttempt {
        EndedAttempt {
            class,
            retry_after: None,
            attempts: 0,
            failures: 0,
            since: NOW,
            now: NOW,
        }
    }

    #[test]
    fn the_table_of_push_semantics() {
        let retry = |wait: Duration, failure| Decision::RetryAt {
            at: NOW.plus(wait),
            failure,
        };
        let refused = Decision::PauseRefused {
            probe_at: NOW.plus(PROBE_REFUSED_AFTER),
        };
        let after = |class, seconds| EndedAttempt {
            retry_after: Some(SECOND * seconds),
            ..tried(class)
        };
        let old = |class, age| EndedAttempt {
            since: NOW.minus(age),
            ..tried(class)
        };
        // With half of the jitter: the first backoff is half a second.
        for (given, expect) in [
            (tried(Class::Delivered), Decision::Delivered),
            (tried(Class::Throttled), retry(SECOND / 2, false)),
            (tried(Class::Unavailable), retry(SECOND / 2, false)),
            (tried(Class::Failed), retry(SECOND / 2, true)),
            (tried(Class::Refused), refused),
            (tried(Class::Gone), Decision::Gone),
            (tried(Class::Rejected), Decision::Dead(DeadReason::Rejected)),
            // Precedence: 410, then 401 and 403, then Retry-After, then the row.
            (after(Class::Gone, 9), Decision::Gone),
            (after(Class::Refused, 9), refused),
            (after(Class::Throttled, 9), retry(SECOND * 9, false)),
            (after(Class::Unavailable, 9), retry(SECOND * 9, false)),
            (after(Class::Failed, 9), retry(SECOND * 9, false)),
            (after(Class::Rejected, 9), retry(SECOND * 9, false)),
            (after(Class::Delivered, 9), Decision::Delivered),
            (after(Class::Throttled, 0), retry(SECOND / 2, false)),
            (
                after(Class::Throttled, 1_000_000),
                retry(RETRY_AFTER_MAX, false),
            ),
            // Attempts bound failures alone, and grow their backoff alone.
            (
                EndedAttempt {
                    attempts: 90,
                    failures: 2,
                    ..tried(Class::Failed)
                },
                retry(SECOND * 2, true),
            ),
            (
                EndedAttempt {
                    attempts: 3,
                    failures: 3,
                    ..tried(Class::Failed)
                },
                Decision::Dead(DeadReason::Exhausted),
            ),
            (
                EndedAttempt {
                    attempts: 3,
                    failures: 3,
                    ..tried(Class::Unavailable)
                },
                retry(SECOND * 4, false),
            ),
            (
                EndedAttempt {
                    attempts: 90,
                    failures: 3,
                    ..tried(Class::Throttled)
                },
                retry(SECOND * 150, false),
            ),
            (
                EndedAttempt {
                    attempts: u32::MAX,
                    failures: u32::MAX,
                    ..tried(Class::Failed)
                },
                Decision::Dead(DeadReason::Exhausted),
            ),
            // The maximum age bounds every retry, also the next one.
            (
                old(Class::Unavailable, HOUR * 24 - SECOND),
                retry(SECOND / 2, false),
            ),
            (
                old(Class::Unavailable, HOUR * 24 - SECOND / 4),
                Decision::Dead(DeadReason::Expired),
            ),
            (
                old(Class::Throttled, HOUR * 25),
                Decision::Dead(DeadReason::Expired),
            ),
            (
                old(Class::Failed, HOUR * 25),
                Decision::Dead(DeadReason::Expired),
            ),
            (
                EndedAttempt {
                    since: NOW.minus(HOUR * 24 - SECOND * 5),
                    ..after(Class::Throttled, 9)
                },
                Decision::Dead(DeadReason::Expired),
            ),
            // A success, a refusal and the end of a target are what they are at any age.
            (old(Class::Delivered, HOUR * 25), Decision::Delivered),
            (old(Class::Refused, HOUR * 25), refused),
            (
                old(Class::Rejected, HOUR * 25),
                Decision::Dead(DeadReason::Rejected),
            ),
        ] {
            assert_eq!(decide(&policy(), &given, 0.5), expect, "{given:?}");
        }
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        let good = (SECOND, HOUR, 1, SECOND, SECOND);
        for (settings, expect) in [
            ((Duration::ZERO, good.1, good.2, good.3, good.4), "timeout"),
            (
                (TIMEOUT_MAX + SECOND, good.1, good.2, good.3, good.4),
                "timeout",
            ),
            ((good.0, Duration::ZERO, good.2, good.3, good.4), "max_age"),
            ((good.0, good.1, 0, good.3, good.4), "retry.attempts"),
            (
                (good.0, good.1, good.2, Duration::ZERO, good.4),
                "retry.backoff.initial",
            ),
            (
                (good.0, good.1, good.2, good.3, SECOND / 2),
                "retry.backoff.max",
            ),
        ] {
            let (timeout, max_age, attempts, initial, max) = settings;
            let message = Policy::new(timeout, max_age, attempts, Backoff::new(initial, max))
                .unwrap_err()
                .to_string();
            assert!(message.starts_with(&format!("{expect} ")), "{message}");
        }
        assert!(Policy::new(good.0, good.1, good.2, Backoff::new(good.3, good.4)).is_ok());
    }

    proptest! {
        #[test]
        fn every_attempt_lies_inside_its_jitter_band(
            class in 0..CLASSES.len(),
            retry_after in proptest::option::of(0..10_000_u64),
            attempts in 0..200_u32,
            failures in 0..200_u32,
            age_seconds in 0..90_000_u64,
            initial_ms in 1..10_000_u64,
            factor in 1..1_000_u32,
            random in 0.0..1.0_f64,
        ) {
            let initial = Duration::from_millis(initial_ms);
            let policy = Policy::new(SECOND, HOUR * 24, 4, Backoff::new(initial, initial * factor)).unwrap();
            let class = CLASSES[class];
            let retry_after = retry_after.map(Duration::from_secs);
            let since = NOW.minus(SECOND * u32::try_from(age_seconds).unwrap());
            let given = EndedAttempt { class, retry_after, attempts, failures, since, now: NOW };
            if let Decision::RetryAt { at, failure } = decide(&policy, &given, random) {
                let throttled = class == Class::Throttled || retry_after.is_some();
                let floor = if throttled { retry_after.unwrap_or_default().min(RETRY_AFTER_MAX) } else { Duration::ZERO };
                let earlier = if class == Class::Failed && !throttled { failures } else { attempts };
                let ceiling = initial.as_secs_f64() * 2_f64.powi(i32::try_from(earlier).unwrap());
                let ceiling = ceiling.min((initial * factor).as_secs_f64());
                let wait = at.since(NOW);
                prop_assert!(wait >= floor, "{wait:?} undercuts {floor:?}");
                prop_assert!(wait.as_secs_f64() <= ceiling.max(floor.as_secs_f64()) + 1e-6, "{wait:?} is past {ceiling}");
                prop_assert!(wait <= floor || (wait.as_secs_f64() - ceiling * random).abs() < 1e-5, "the jitter is not full");
                prop_assert!(at < since.plus(HOUR * 24));
                prop_assert_eq!(failure, class == Class::Failed && !throttled);
                prop_assert!(!failure || failures < 3);
            }
        }
    }
}
