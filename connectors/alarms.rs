//! Sleeping until a time of day, for any number of sleepers at the price of one.
//!
//! The runtime's timers know no time of day: a clock that is set, or a machine that was suspended,
//! would leave them asleep. So somebody has to look at the clock again and again. Here one task
//! does that for all, and each sleeper is woken by it alone: ten thousand timers that fire at night
//! cost during the day what one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::{Clock, Timestamp};
use tokio::sync::{Notify, oneshot};

/// How often the clock is looked at: a clock that is set, or a machine that slept, is noticed
/// within that time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far a clock has to be put back for sleepers to hear of it: by less it is set all the time.
pub const PUT_BACK: Duration = Duration::from_secs(1);

/// Wakes whoever sleeps until a time of day. Clones share their sleepers.
#[derive(Clone, Debug)]
pub struct Alarms(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    sleepers: Mutex<Sleepers>,
    /// Somebody sleeps for less long than those before.
    is_sooner: Notify,
}

/// When a sleeper wants to be woken, and a number of its own.
type SleeperKey = (Timestamp, u64);

#[derive(Debug)]
struct Sleepers {
    waiting: BTreeMap<SleeperKey, oneshot::Sender<()>>,
    last_number: u64,
    /// The latest time that the clock has shown since it was put back, if ever.
    latest: Timestamp,
    /// Whether the task runs: it ends once nobody sleeps.
    is_watched: bool,
}

impl Alarms {
    /// Nobody sleeps yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            clock,
            sleepers: Mutex::new(Sleepers {
                waiting: BTreeMap::new(),
                last_number: 0,
                latest: Timestamp(i64::MIN),
                is_watched: false,
            }),
            is_sooner: Notify::new(),
        }))
    }

    /// Sleeps until the clock shows `until`, or has been put back by more than a second since it
    /// showed `now`, which is when the caller has looked at it. May be cut short: the caller looks
    /// at the clock again.
    pub async fn sleep(&self, now: Timestamp, until: Timestamp) {
        let (key, woken) = self.0.enter(now, until);
        let _leaves = Leave {
            shared: &self.0,
            key,
        };
        // Without its sender nobody would wake it: it looks for itself.
        let _dropped = woken.await;
    }
}

impl Shared {
    fn enter(
        self: &Arc<Self>,
        now: Timestamp,
        until: Timestamp,
    ) -> (SleeperKey, oneshot::Receiver<()>) {
        let (wake, woken) = oneshot::channel();
        let mut sleepers = self.sleepers.lock();
        sleepers.last_number += 1;
        let key = (until, sleepers.last_number);
        sleepers.latest = if sleepers.is_watched {
            sleepers.latest.max(now)
        } else {
            now
        };
        let is_first = sleepers
            .waiting
            .first_key_value()
            .is_none_or(|(first, _)| key < *first);
        sleepers.waiting.insert(key, wake);
        if !sleepers.is_watched {
            sleepers.is_watched = true;
            tokio::spawn(Arc::clone(self).watch());
        } else if is_first {
            self.is_sooner.notify_one();
        }
        (key, woken)
    }

    /// Looks at the clock until nobody sleeps any more.
    async fn watch(self: Arc<Self>) {
        while let Some(pause) = self.wake() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.is_sooner.notified() => {}
            }
        }
    }

    /// Wakes whose time has come, and all where the clock has been put back; returns when to look
    /// again.
    fn wake(&self) -> Option<Duration> {
        let mut sleepers = self.sleepers.lock();
        let now = self.clock.now();
        // Compared with the latest time, and not with the last: several small steps back are a
        // large one.
        if sleepers.latest.since(now) > PUT_BACK {
            sleepers.latest = now;
            sleepers.waiting.clear();
        }
        sleepers.latest = sleepers.latest.max(now);
        while let Some(first) = sleepers.waiting.first_entry() {
            let (until, _) = *first.key();
            if until > now {
                return Some(until.since(now).min(LOOK_EVERY));
            }
            // Who has gone away meanwhile does not hear it.
            let _nobody_sleeps = first.remove().send(());
        }
        sleepers.is_watched = false;
        None
    }
}

/// Takes a sleeper out that is woken, or dropped before.
struct Leave<'alarms> {
    shared: &'alarms Shared,
    key: SleeperKey,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.shared.sleepers.lock().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::suite::SetClock;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A clock that counts who looks at it.
    #[derive(Debug)]
    struct Watched(SetClock, AtomicUsize);

    impl Clock for Watched {
        fn now(&self) -> Timestamp {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.now()
        }
    }

    fn alarms() -> (Arc<Watched>, Alarms) {
        let clock = Arc::new(Watched(
            SetClock::at("2026-01-01T12:00:00Z"),
            AtomicUsize::new(0),
        ));
        (Arc::clone(&clock), Alarms::new(clock))
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_looked_at_once_a_second_for_however_many_that_sleep() {
        let (clock, alarms) = alarms();
        let (now, begin) = (clock.now(), Instant::now());
        let sleepers: Vec<_> = (0..10_000_u64)
            .map(|n| {
                let (alarms, until) = (alarms.clone(), now.plus(HOUR * 8 + Duration::from_secs(n)));
                tokio::spawn(async move {
                    alarms.sleep(now, until).await;
                    Instant::now()
                })
            })
            .collect();
        tokio::time::sleep(HOUR).await;
        let looks = clock.1.swap(0, Ordering::Relaxed);
        assert!(looks <= 3_602, "{looks} looks within an hour");
        for (n, sleeper) in sleepers.into_iter().enumerate() {
            let late = sleeper.await.unwrap() - (begin + HOUR * 8) - Duration::from_secs(n as u64);
            assert!(late <= Duration::from_millis(1), "{n} is {late:?} late");
        }
        tokio::task::yield_now().await;
        clock.1.store(0, Ordering::Relaxed);
        tokio::time::sleep(HOUR).await;
        assert_eq!(clock.1.load(Ordering::Relaxed), 0, "nobody sleeps");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_wakes_whom_it_concerns() {
        for (set, wakes) in [
            ("2026-01-01T13:00:00Z", true),
            ("2026-01-01T12:59:00Z", false),
            ("2026-01-01T12:00:00Z", false),
            ("2026-01-01T11:59:58Z", true),
            ("1999-01-01T00:00:00Z", true),
        ] {
            let (clock, alarms) = alarms();
            let now = clock.now();
            let mut sleep = std::pin::pin!(alarms.sleep(now, now.plus(HOUR)));
            let early = timeout(Duration::from_millis(10), &mut sleep).await;
            assert!(early.is_err(), "it sleeps");
            clock.0.set(set);
            let woken = timeout(Duration::from_millis(1_100), &mut sleep).await;
            assert_eq!(woken.is_ok(), wakes, "set to {set}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_steps_back_are_a_large_one() {
        let (clock, alarms) = alarms();
        let now = clock.now();
        let mut sleep = std::pin::pin!(alarms.sleep(now, now.plus(HOUR)));
        for (set, wakes) in [
            ("2026-01-01T11:59:59.5Z", false),
            ("2026-01-01T11:59:59Z", false),
            ("2026-01-01T11:59:58.5Z", true),
        ] {
            clock.0.set(set);
            let woken = timeout(Duration::from_millis(1_001), &mut sleep).await;
            assert_eq!(woken.is_ok(), wakes, "set to {set}");
            if wakes {
                break;
            }
        }
    }

    /// What the caller has seen counts, also where the clock is put back before he sleeps.
    #[tokio::test(start_paused = true)]
    async fn a_clock_put_back_between_look_and_sleep_is_noticed() {
        let (clock, alarms) = alarms();
        let now = clock.now();
        clock.0.set("2026-01-01T10:00:00Z");
        let sleep = timeout(Duration::from_secs(2), alarms.sleep(now, now.plus(HOUR)));
        assert!(sleep.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_sleeping_leaves_nothing_behind() {
        let (clock, alarms) = alarms();
        let now = clock.now();
        for _ in 0..100 {
            let short = timeout(Duration::from_millis(1), alarms.sleep(now, now.plus(HOUR)));
            assert!(short.await.is_err());
        }
        assert!(alarms.0.sleepers.lock().waiting.is_empty());
        // A sooner one is not made to wait for the look that was to come.
        let mut long = std::pin::pin!(alarms.sleep(now, now.plus(HOUR)));
        assert!(timeout(Duration::from_millis(5), &mut long).await.is_err());
        let begin = Instant::now();
        let now = clock.now();
        alarms.sleep(now, now.plus(Duration::from_millis(20))).await;
        assert!(begin.elapsed() <= Duration::from_millis(22));
    }
}
