//! Full backlogs, a full journal, and what goes when.

use super::*;
use crate::{
    Backlog, BacklogQuota, Bounded, DeadReason, DeadSelection, JournalError, QuotaOwner,
    SettleAnswer, Shard,
};

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

/// A quota of the tenant of all rules here, or of one of them.
fn quota(rule: Option<&str>, max: u64, dead_when_full: bool) -> BacklogQuota {
    let identity = wanted(rule.unwrap_or("r")).identity;
    BacklogQuota {
        owner: QuotaOwner {
            tenant: identity.tenant,
            rule: rule.map(|_| identity.rule),
        },
        backlog: Backlog {
            max,
            dead_when_full,
        },
    }
}

pub async fn a_full_quota_refuses_or_dead_letters(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["a", "b", "other"]).await;
    let [a, b, other] = [numbers[0], numbers[1], numbers[2]];
    // What waits already counts.
    bench
        .append(vec![entry("1", &[a, b]), entry("2", &[a])])
        .await;
    let quotas = vec![quota(None, 6, false), quota(Some("other"), 2, true)];
    bench.journal.set_quotas(quotas.clone()).await.unwrap();
    bench.append(vec![entry("3", &[b])]).await;
    bench.reopen().await;
    bench.subscribe(&["a", "b", "other"]).await;
    bench.journal.set_quotas(quotas).await.unwrap();
    // Of one append all or nothing is let in, whichever subscriptions it is for.
    let three = vec![entry("x", &[a, b]), entry("y", &[other])];
    let refused = bench.journal.append(append_of(three)).await;
    let Err(JournalError::Quota(_, owner)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(owner.rule, None);
    bench
        .append(vec![entry("4", &[a]), entry("5", &[other])])
        .await;
    bench.event_for("unmatched", &[]).await;
    // What is delivered makes room, what is tried again does not.
    let leased = bench.lease_one(a).await;
    assert!(bench.settle(leased.token, Ending::Released).await);
    let refused = bench.journal.append(append_of(vec![entry("x", &[a])]));
    assert!(matches!(refused.await, Err(JournalError::Quota(number, _)) if number == a));
    let leased = bench.lease_one(a).await;
    assert!(bench.settle(leased.token, Ending::Delivered).await);
    bench.append(vec![entry("6", &[other])]).await;
    // A rule whose quota is full and says `dead` has dead letters, and stops nobody.
    bench
        .journal
        .set_quotas(vec![quota(Some("other"), 2, true)])
        .await
        .unwrap();
    bench
        .append(["7", "8"].map(|id| entry(id, &[a, other])).to_vec())
        .await;
    let counts = bench.counts(other).await;
    assert_eq!((counts.created, counts.pending, counts.dead), (4, 2, 2));
    assert_eq!(bench.counts(a).await.pending, 4);
    // Without quotas nothing is refused.
    bench.journal.set_quotas(Vec::new()).await.unwrap();
    bench.append(vec![entry("9", &[a, b, other])]).await;
}

pub async fn a_quota_counts_exactly_whatever_happens(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["a", "b"]).await;
    let [a, b] = [numbers[0], numbers[1]];
    let full = vec![quota(None, 8, false)];
    bench.journal.set_quotas(full.clone()).await.unwrap();
    for id in 0..8 {
        let to = if id % 2 == 0 { a } else { b };
        bench.event_for(&id.to_string(), &[to]).await;
    }
    // Two die and are redriven; two are moved; one is cancelled, one delivered.
    for _ in 0..2 {
        let leased = bench.lease_one(a).await;
        let dead = Ending::Dead {
            reason: DeadReason::Rejected,
            last: None,
        };
        assert!(bench.settle(leased.token, dead).await);
    }
    bench
        .journal
        .redrive(&DeadSelection::default())
        .await
        .unwrap();
    bench.journal.move_all(a, b).await.unwrap();
    let leased = bench.lease_one(b).await;
    bench.journal.cancel_all(b).await.unwrap();
    assert!(bench.settle(leased.token, Ending::Delivered).await);
    for reopened in [false, true] {
        if reopened {
            bench.reopen().await;
            bench.subscribe(&["a", "b"]).await;
            bench.journal.set_quotas(full.clone()).await.unwrap();
        }
        let waits = bench.counts(a).await.pending + bench.counts(b).await.pending;
        for id in waits..8 {
            bench.event_for(&format!("{reopened}/{id}"), &[a]).await;
        }
        let refused = bench
            .journal
            .append(append_of(vec![entry("x", &[b])]))
            .await;
        assert!(
            matches!(refused, Err(JournalError::Quota(..))),
            "{refused:?}"
        );
        bench.journal.cancel_all(a).await.unwrap();
    }
}

/// What waits in the other shards counts as what waits in this one, which has nothing yet.
pub async fn what_waits_in_other_shards_counts(shard: &dyn Shard) {
    let bounded = |rule, dead_when_full| Subscription {
        backlog: Some(Backlog {
            max: 5,
            dead_when_full,
        }),
        ..wanted(rule)
    };
    let all = vec![
        bounded("stop", false),
        bounded("dead", true),
        wanted("free"),
    ];
    let numbers = shard.subscribe(all.clone()).await.unwrap();
    let [stop, dead, free] = numbers[..] else {
        panic!("{numbers:?}")
    };
    let of_rule = quota(Some("free"), 4, false);
    let quotas = vec![quota(None, 100, false), of_rule.clone()];
    shard.set_quotas(quotas.clone()).await.unwrap();
    let bounds: Vec<Bounded> = [stop, dead, free].map(Bounded::Subscription).into();
    let owners = quotas
        .iter()
        .map(|quota| Bounded::Quota(quota.owner.clone()));
    let bounds: Vec<Bounded> = bounds.into_iter().chain(owners).collect();
    let ids = std::cell::Cell::new(0);
    let append = async |to: &[SubscriptionNumber]| {
        ids.set(ids.get() + 1);
        let entries = vec![entry(&ids.get().to_string(), to)];
        shard.append(append_of(entries)).await.map(drop)
    };
    for to in [stop, dead, free, free] {
        append(&[to]).await.unwrap();
    }
    assert_eq!(shard.waiting(&bounds), [1, 1, 2, 4, 2]);

    let elsewhere = |counts: [u64; 5]| {
        let told = bounds.iter().cloned().zip(counts);
        shard.set_elsewhere(told.filter(|(_, count)| *count > 0).collect());
    };
    // What of a subscription is bounded is what waits of it in all shards.
    elsewhere([3, 3, 0, 0, 0]);
    append(&[stop, dead]).await.unwrap();
    assert_eq!(append(&[stop]).await, Err(JournalError::Backlog(stop)));
    append(&[dead]).await.unwrap();
    assert_eq!(
        shard.waiting(&bounds),
        [2, 2, 2, 6, 2],
        "the last one is dead"
    );
    // What is not told again waits there no more.
    elsewhere([0, 0, 0, 0, 1]);
    append(&[stop, dead, free]).await.unwrap();
    let refused = append(&[free]).await;
    assert!(matches!(&refused, Err(JournalError::Quota(_, owner)) if *owner == of_rule.owner));
    // It still counts where rules are put in force anew.
    shard.subscribe(all).await.unwrap();
    shard.set_quotas(quotas.clone()).await.unwrap();
    assert_eq!(append(&[free]).await, refused);
    elsewhere([0, 0, 0, 91, 0]);
    let refused = append(&[stop]).await;
    assert!(matches!(refused, Err(JournalError::Quota(_, owner)) if owner.rule.is_none()));

    // Into a queue that is empty here and elsewhere one append is let in, whatever its size.
    shard.set_quotas(vec![of_rule]).await.unwrap();
    shard.cancel_all(free).await.unwrap();
    let large = |count: u64| {
        let entries = (0..count).map(|id| entry(&format!("large {id}"), &[free]));
        append_of(entries.collect())
    };
    elsewhere([0, 0, 0, 0, 1]);
    assert_eq!(
        shard.append(large(6)).await.map(drop),
        Err(refused_by(free))
    );
    elsewhere([0; 5]);
    shard.append(large(6)).await.unwrap();
    assert_eq!(shard.waiting(&bounds[2..3]), [6]);
}

/// What says that a rule's quota is used up.
fn refused_by(number: SubscriptionNumber) -> JournalError {
    JournalError::Quota(number, quota(Some("free"), 4, false).owner)
}
