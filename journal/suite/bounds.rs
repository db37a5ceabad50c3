//! Full backlogs, a full journal, and what goes when.

use super::*;
use crate::{Backlog, DeadReason, DeadSelection, JournalError, SettleAnswer};

pub async fn a_full_backlog_refuses_or_dead_letters(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let bounded = |rule, dead_when_full| Subscription {
        backlog: Some(Backlog {
            max: 2,
            dead_when_full,
        }),
        ..wanted(rule)
    };
    let subscriptions = bench
        .journal
        .subscribe(vec![bounded("stop", false), bounded("dead", true)])
        .await
        .unwrap();
    let [stop, dead] = [subscriptions[0], subscriptions[1]];
    bench
        .append(vec![entry("1", &[stop]), entry("2", &[stop])])
        .await;
    bench.reopen().await;
    let refused = bench
        .journal
        .append(append_of(vec![entry("x", &[dead]), entry("3", &[stop])]))
        .await;
    assert_eq!(refused, Err(JournalError::Backlog(stop)));
    assert_eq!(bench.counts(dead).await.created, 0);
    bench.event_for("unmatched", &[]).await;
    let leased = bench.lease_one(stop).await;
    assert!(bench.settle(leased.token, Ending::Delivered).await);
    bench.event_for("3", &[stop]).await;

    bench
        .append(["1", "2", "3", "4"].map(|id| entry(id, &[dead])).to_vec())
        .await;
    let counts = bench.counts(dead).await;
    assert_eq!((counts.created, counts.pending, counts.dead), (4, 2, 2));
    let letters = bench
        .journal
        .reader()
        .dead(&DeadSelection::default(), None, 9)
        .await
        .unwrap();
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason == DeadReason::Backlog && letter.attempts == 0)
    );
    assert_eq!(ids(&bench.lease(dead, 9).await), ["1", "2"]);
}

pub async fn a_full_journal_refuses_appends_and_still_settles(implementation: &dyn Implementation) {
    let mut bench = Bench::bounded(
        implementation,
        Bounds {
            retention: MINUTE * 60,
            bytes_max: 2 << 20,
        },
    )
    .await;
    let r = bench.subscribe(&["r"]).await[0];
    let big = |id: String| Entry {
        event: sized_event(&id, 20_000),
        ..entry("x", &[r])
    };
    let mut stored = 0;
    let refused = loop {
        match bench
            .journal
            .append(append_of(vec![big(stored.to_string())]))
            .await
        {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 500);
        bench.implementation.upkeep().await;
    };
    assert!(matches!(refused, JournalError::Full(_)), "{refused}");
    assert!(stored >= 20, "{stored}");
    assert_eq!(
        bench.journal.trouble(),
        None,
        "a full journal is no broken one"
    );
    let totals = bench.journal.reader().totals().await.unwrap();
    assert!(
        totals.bytes <= totals.bytes_max && totals.bytes_max == 2 << 20,
        "{totals:?}"
    );
    bench.reopen().await;
    let refused = bench
        .journal
        .append(append_of(vec![big("y".to_owned())]))
        .await;
    assert!(matches!(refused, Err(JournalError::Full(_))), "{refused:?}");
    // Nothing pending is dropped for room, and settling makes some.
    let mut delivered = 0;
    loop {
        let leased = bench.lease(r, 7).await;
        if leased.is_empty() {
            break;
        }
        delivered += leased.len();
        let ends = leased
            .into_iter()
            .map(|leased| Settlement::new(leased.token, Ending::Delivered));
        assert!(
            bench
                .journal
                .settle(ends.collect())
                .await
                .unwrap()
                .into_iter()
                .all(|answer| answer == SettleAnswer::Settled)
        );
    }
    assert_eq!(delivered, stored);
    bench.implementation.upkeep().await;
    bench.append(vec![big("x".to_owned())]).await;
}

pub async fn retention_spares_what_is_needed(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let settled = bench.event_for("settled", &[r]).await;
    let dead = bench.event_for("dead", &[r]).await;
    let pending = bench.event_for("pending", &[r]).await;
    let unmatched = bench.event_for("unmatched", &[]).await;
    let leased = bench.lease(r, 2).await;
    assert!(bench.settle(leased[0].token, Ending::Delivered).await);
    assert!(
        bench
            .settle(
                leased[1].token,
                Ending::Dead {
                    reason: DeadReason::Rejected,
                    last: None
                }
            )
            .await
    );
    tokio::time::advance(ROOMY.retention - MINUTE).await;
    let young = bench.event_for("young", &[]).await;
    let kept = async |bench: &Bench<'_>| {
        bench.implementation.upkeep().await;
        let mut kept = Vec::new();
        for sequence in [settled, dead, pending, unmatched, young] {
            kept.extend(
                bench
                    .journal
                    .reader()
                    .event(sequence)
                    .await
                    .unwrap()
                    .map(|stored| stored.sequence),
            );
        }
        assert_eq!(
            bench.journal.reader().totals().await.unwrap().events,
            kept.len() as u64
        );
        kept
    };
    assert_eq!(
        kept(&bench).await,
        [settled, dead, pending, unmatched, young]
    );
    tokio::time::advance(MINUTE).await;
    assert_eq!(kept(&bench).await, [dead, pending, young]);
    bench.reopen().await;
    assert_eq!(bench.journal.purge(&DeadSelection::default()).await, Ok(1));
    let leased = bench.lease_one(r).await;
    assert!(bench.settle(leased.token, Ending::Delivered).await);
    tokio::time::advance(ROOMY.retention).await;
    assert_eq!(kept(&bench).await, []);
    bench.reopen().await;
    assert!(
        bench.event_for("next", &[]).await > young,
        "sequences are never used again"
    );
}
