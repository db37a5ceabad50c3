//! The system's clock is set while things wait.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::{DeadReason, Retention, Terms};

/// A clock that somebody sets.
#[derive(Debug)]
struct SetClock {
    runtime: RuntimeClock,
    by: AtomicI64,
}

impl SetClock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            runtime: RuntimeClock::new(START),
            by: AtomicI64::new(0),
        })
    }

    /// Sets it ahead of what it should show, or behind.
    fn set(&self, hours: i64) {
        self.by.store(hours * HOUR, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.runtime.now().0 + self.by.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Duration {
        self.runtime.now().since(Timestamp(0))
    }
}

const HOUR: i64 = 3_600_000_000;
const YEAR: i64 = 24 * 365;

pub async fn a_clock_that_is_set_parks_nothing_and_ages_nothing(
    implementation: &dyn Implementation,
) {
    let clock = SetClock::new();
    let bounds = Bounds {
        retention: MINUTE * 60 * 24,
        ..ROOMY
    };
    let open = || implementation.open(Arc::clone(&clock) as Arc<dyn Clock>, bounds);
    let mut bench = Bench {
        implementation,
        clock: Arc::new(RuntimeClock::new(START)),
        bounds,
        journal: open().await,
    };
    let [r, s] = [bench.subscribe(&["r", "s"]).await[0], SubscriptionNumber(2)];
    let unique = |id: &str| Entry {
        deduplicate: Some(MINUTE * 60 * 24),
        terms: Some(Box::new(Terms {
            retention: Some(Retention {
                instead: Some(MINUTE * 5),
                ..Retention::default()
            }),
            ..Terms::default()
        })),
        ..entry(id, &[])
    };
    for (turn, hours) in [0, -1, -YEAR, 0, 25, YEAR, -1].into_iter().enumerate() {
        let name = |what: &str| format!("{turn} {what}");
        let delayed = NewDelivery {
            due: Some(bench.journal.clock().now().plus(MINUTE * 3)),
            ..NewDelivery::now(s)
        };
        let delayed = Entry {
            deliveries: SmallVec::from_slice(&[delayed]),
            ..entry(&name("delayed"), &[])
        };
        let appended = bench
            .append(vec![
                entry(&name("retried"), &[r]),
                delayed,
                unique(&name("twin")),
            ])
            .await;
        let first = bench.lease_one(r).await;
        assert!(
            bench
                .settle(first.token, retry(bench.journal.clock().now().plus(MINUTE)))
                .await
        );
        bench.told_due().await;

        clock.set(hours);
        assert!(
            bench.lease(r, 9).await.is_empty() && bench.told_due().await.is_empty(),
            "{hours}: nothing is due before its time"
        );
        bench.implementation.upkeep().await;
        assert_eq!(
            bench.append(vec![unique(&name("twin"))]).await,
            [Appended::Duplicate(stored(appended[2]))],
            "{hours}"
        );
        if turn % 2 == 1 && implementation.persists() {
            bench.journal.close().await;
            if hours < 0 {
                // And once more while nothing runs.
                clock.set(hours - 2);
            }
            bench.journal = open().await;
        }
        tokio::time::advance(MINUTE).await;
        assert_eq!(bench.told_due().await, [r], "{hours}");
        let again = bench.lease_one(r).await;
        assert_eq!(
            (again.id, again.since, again.attempts),
            (first.id, first.since, 1),
            "{hours}"
        );
        let age = bench.journal.clock().now().since(again.since);
        assert!(
            (MINUTE..MINUTE + Duration::from_secs(1)).contains(&age),
            "{hours}: it is {age:?} old"
        );
        assert!(
            bench
                .settle(
                    again.token,
                    Ending::Dead {
                        reason: DeadReason::Rejected,
                        last: None
                    }
                )
                .await
        );
        assert!(
            bench.lease(s, 9).await.is_empty(),
            "{hours}: a delay is a delay"
        );
        tokio::time::advance(MINUTE * 2).await;
        assert_eq!(bench.told_due().await, [s], "{hours}");
        let late = bench.lease_one(s).await;
        assert!(bench.settle(late.token, Ending::Delivered).await);
        bench.implementation.upkeep().await;
        let event = bench
            .journal
            .reader()
            .event(stored(appended[2]))
            .await
            .unwrap();
        let event = event.unwrap_or_else(|| panic!("{hours}: it is kept for the retention time"));
        if implementation.persists() {
            let shown = clock.now().since(event.at);
            assert!(
                (MINUTE * 3..MINUTE * 3 + Duration::from_secs(1)).contains(&shown),
                "{hours}: {shown:?} ago, by the time of day"
            );
        }
        assert_eq!(event.kept_until, Some(event.at.plus(MINUTE * 5)), "{hours}");
        tokio::time::advance(MINUTE * 2).await;
        bench.implementation.upkeep().await;
        let reader = bench.journal.reader();
        let gone = reader.event(stored(appended[2])).await;
        assert_eq!(gone, Ok(None), "{hours}: its time is over");
    }
}
