//! Who gets to try what, when, and what becomes of it.

use super::*;
use crate::{Batching, DeadReason};

pub async fn due_deliveries_are_leased_in_order_and_once(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let subscriptions = bench.subscribe(&["r", "s"]).await;
    let [r, s] = [subscriptions[0], subscriptions[1]];
    assert_eq!(bench.told_due().await, []);
    // A subscription that stands there twice gets one delivery.
    let sequence = bench.event_for("a", &[r, s, r]).await;
    bench
        .append(vec![entry("b", &[r]), entry("c", &[r, s])])
        .await;
    assert_eq!(bench.told_due().await, [r, s]);
    let grant = |subscription, count| Grant {
        subscription,
        count,
        lease: MINUTE,
        bytes_max: usize::MAX,
        batching: None,
    };
    let leased = bench
        .journal
        .lease(
            &[grant(r, 2), grant(s, 9), grant(SubscriptionNumber(99), 1)],
            usize::MAX,
        )
        .await
        .unwrap()
        .leased;
    assert_eq!(ids(&leased), ["a", "b", "a", "c"]);
    assert_eq!(
        (
            leased[0].id.sequence,
            leased[0].id.subscription,
            leased[0].id.run
        ),
        (sequence, r, 0)
    );
    assert_eq!(
        (
            leased[0].id.run,
            leased[0].attempts,
            leased[0].failures,
            leased[0].since
        ),
        (0, 0, 0, START)
    );
    assert_eq!(
        (&leased[0].tenant, &leased[0].origin),
        (&name("default"), &name("suite"))
    );
    assert_eq!(ids(&bench.lease(r, 9).await), ["c"]);
    assert!(bench.lease(r, 9).await.is_empty());
    let counts = bench.counts(r).await;
    assert_eq!(
        (counts.created, counts.pending, counts.in_flight),
        (3, 3, 3)
    );
    assert_eq!(bench.status(r).await.oldest_pending, Some(START));
    assert!(bench.settle(leased[0].token, Ending::Delivered).await);
    assert!(
        !bench.settle(leased[0].token, Ending::Delivered).await,
        "a token settles once"
    );
    for owner in [LeaseOwner::Disk, LeaseOwner::Memory, LeaseOwner::Pipes] {
        let token = LeaseToken::new(owner, u64::MAX);
        assert!(!bench.settle(token, Ending::Delivered).await);
    }
    let counts = bench.counts(r).await;
    assert_eq!(
        (counts.delivered, counts.pending, counts.in_flight),
        (1, 2, 2)
    );
}

pub async fn a_lease_is_bounded_in_bytes_and_tells_what_did_not_fit(
    implementation: &dyn Implementation,
) {
    let bench = Bench::new(implementation).await;
    let subscriptions = bench.subscribe(&["r", "s"]).await;
    let [r, s] = [subscriptions[0], subscriptions[1]];
    let sized = |id: &str, bytes| Entry {
        event: sized_event(id, bytes),
        ..entry("x", &[r, s])
    };
    let entries = vec![
        sized("a", 10_000),
        sized("b", 10_000),
        sized("c", 100),
        sized("d", 10_000),
    ];
    let [big, small] = [&entries[0], &entries[2]].map(|entry| entry.event.size_bytes());
    bench.append(entries).await;
    let lease = async |of_r, of_s, in_all| {
        let grant = |subscription, bytes_max| Grant {
            subscription,
            count: 9,
            lease: MINUTE,
            bytes_max,
            batching: None,
        };
        let Leases { leased, cut, .. } = bench
            .journal
            .lease(&[grant(r, of_r), grant(s, of_s)], in_all)
            .await
            .unwrap();
        (
            ids(&leased).join(""),
            cut.iter()
                .map(|cut| (cut.subscription, cut.event_bytes))
                .collect::<Vec<_>>(),
        )
    };
    // What does not fit stops its own subscription and no other.
    assert_eq!(
        lease(1, 1, usize::MAX).await,
        (String::new(), vec![(r, big), (s, big)])
    );
    assert_eq!(
        lease(big, big - 1, usize::MAX).await,
        ("a".to_owned(), vec![(r, big), (s, big)])
    );
    assert_eq!(
        lease(usize::MAX, usize::MAX, big + small).await,
        ("bc".to_owned(), vec![(r, big), (s, big)])
    );
    assert_eq!(lease(big, big, big).await, ("d".to_owned(), vec![(s, big)]));
    assert_eq!(
        lease(0, 3 * big, 3 * big).await,
        ("abc".to_owned(), vec![(s, big)])
    );
    assert_eq!(lease(0, big, big).await, ("d".to_owned(), vec![]));
}

pub async fn deliveries_go_together_as_a_grant_says(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let (second, window) = (Duration::from_secs(1), Duration::from_secs(10));
    let batching = Batching {
        calls: 2,
        events: 3,
        bytes: 20_000,
        window,
    };
    let lease = async |bench: &Bench<'_>, count, batching| {
        let grant = Grant {
            subscription: r,
            count,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: Some(batching),
        };
        let leases = bench.journal.lease(&[grant], usize::MAX).await.unwrap();
        let mut calls = String::new();
        for one in &leases.leased {
            calls += if one.begins_call { "|" } else { "" };
            calls += one.event.id();
        }
        let gathering: Vec<_> = leases.gathering.iter().map(|one| one.until).collect();
        (calls, gathering, leases.leased)
    };
    let sized = |id: &str, bytes| Entry {
        event: sized_event(id, bytes),
        ..entry("x", &[r])
    };
    // Two wait for a third one or for the end of their window, over a restart too.
    bench.append(vec![sized("a", 10), sized("b", 10)]).await;
    bench.reopen().await;
    let until = START.plus(window);
    let (calls, gathering, _) = lease(&bench, 9, batching).await;
    assert_eq!((calls.as_str(), gathering), ("", vec![until]));
    tokio::time::advance(second).await;
    // The third makes the call full; what comes behind it waits by its own time.
    bench
        .append(vec![sized("c", 10), sized("d", 10), sized("e", 10)])
        .await;
    let (calls, gathering, _) = lease(&bench, 9, batching).await;
    assert_eq!(
        (calls.as_str(), gathering),
        ("|abc", vec![until.plus(second)])
    );
    // A call may be as small as what the grant has room for.
    let (calls, gathering, _) = lease(&bench, 2, batching).await;
    assert_eq!((calls.as_str(), gathering), ("|de", vec![]));
    // Bytes fill a call: the next delivery, which does not fit, waits for others by itself. What is
    // larger than any call goes alone.
    bench
        .append(vec![sized("f", 12_000), sized("g", 12_000)])
        .await;
    let (calls, gathering, _) = lease(&bench, 9, batching).await;
    assert_eq!((calls.as_str(), gathering.len()), ("|f", 1));
    bench.append(vec![sized("h", 40_000)]).await;
    let (calls, gathering, _) = lease(&bench, 9, batching).await;
    assert_eq!((calls.as_str(), gathering), ("|g|h", vec![]));
    // After its window a call goes as it is. The calls of a grant are counted.
    bench.append(vec![sized("i", 10)]).await;
    tokio::time::advance(window).await;
    let (calls, gathering, i) = lease(&bench, 9, batching).await;
    assert_eq!((calls.as_str(), gathering), ("|i", vec![]));
    let many: Vec<_> = "jklmnop"
        .chars()
        .map(|id| sized(&id.to_string(), 10))
        .collect();
    bench.append(many).await;
    let (calls, gathering, _) = lease(&bench, 9, batching).await;
    assert_eq!((calls.as_str(), gathering), ("|jkl|mno", vec![]));
    // What was tried before waits for nobody, nor does anything in its call.
    assert!(bench.settle(i[0].token, retry(bench.now())).await);
    let (calls, gathering, _) = lease(&bench, 9, batching).await;
    assert_eq!((calls.as_str(), gathering), ("|ip", vec![]));
    // Without a window nothing waits at all.
    bench.append(vec![sized("q", 10)]).await;
    let at_once = Batching {
        window: Duration::ZERO,
        ..batching
    };
    let (calls, gathering, _) = lease(&bench, 9, at_once).await;
    assert_eq!((calls.as_str(), gathering), ("|q", vec![]));
}

pub async fn how_many_go_together_is_kept_with_each(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let calls = async |bench: &Bench<'_>| {
        let batching = Batching {
            calls: 9,
            events: 9,
            bytes: usize::MAX,
            window: Duration::ZERO,
        };
        let grant = Grant {
            subscription: r,
            count: 99,
            lease: MINUTE,
            bytes_max: usize::MAX,
            batching: Some(batching),
        };
        let leased = bench.journal.lease(&[grant], usize::MAX).await.unwrap();
        let mut calls = String::new();
        for one in &leased.leased {
            calls += if one.begins_call { "|" } else { "" };
            calls += one.event.id();
        }
        (calls, leased.leased)
    };
    let entries = ["a", "b", "c", "d", "e"].map(|id| entry(id, &[r]));
    bench.append(entries.into()).await;
    let (together, leased) = calls(&bench).await;
    assert_eq!(together, "|abcde");
    let again = |at, batch_max| Ending::Retry {
        at,
        failure: true,
        batch_max: std::num::NonZeroU32::new(batch_max),
        last: last(at),
    };
    let at = bench.now();
    for one in &leased {
        assert!(bench.settle(one.token, again(at, 3)).await);
    }
    bench.reopen().await;
    let (together, leased) = calls(&bench).await;
    assert_eq!(together, "|abc|de");
    // The least of a call holds for all of it; what says nothing new stays as it was.
    for (one, max) in leased.iter().zip([0, 1, 0, 2, 9]) {
        assert!(bench.settle(one.token, again(at, max)).await);
    }
    bench.append(vec![entry("f", &[r])]).await;
    bench.reopen().await;
    let (together, leased) = calls(&bench).await;
    assert_eq!(together, "|a|b|cd|ef");
    for one in &leased {
        assert!(bench.settle(one.token, Ending::Released).await);
    }
    assert_eq!(calls(&bench).await.0, "|a|b|cd|ef");
}

pub async fn a_lease_that_runs_out_settles_nothing(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    bench.event_for("a", &[subscription]).await;
    let first = bench.lease_one(subscription).await;
    bench.told_due().await;
    let started = tokio::time::Instant::now();
    assert_eq!(bench.journal.due().await, [subscription]);
    assert!(
        (MINUTE..MINUTE * 2).contains(&started.elapsed()),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(bench.counts(subscription).await.in_flight, 0);
    assert!(
        !bench
            .settle_with(
                first.token,
                Ending::Delivered,
                vec![FollowUp::Original(NewDelivery::now(subscription))]
            )
            .await
    );
    let second = bench.lease_one(subscription).await;
    assert!(second.token != first.token && second.id == first.id);
    tokio::time::advance(MINUTE).await;
    assert!(
        !bench.settle(second.token, Ending::Delivered).await,
        "run out, though nobody has noticed"
    );
    let third = bench.lease_one(subscription).await;
    assert_eq!((third.id, third.attempts), (first.id, 0));
    // A restart frees every lease.
    bench.reopen().await;
    if bench.implementation.persists() {
        assert_eq!(bench.told_due().await, [subscription]);
        let fourth = bench.lease_one(subscription).await;
        assert_eq!(fourth.id, third.id);
        assert!(bench.settle(fourth.token, Ending::Delivered).await);
        assert_eq!(bench.counts(subscription).await.delivered, 1);
    }
}

pub async fn a_release_leaves_no_trace(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    bench
        .append(vec![
            entry("a", &[subscription]),
            entry("b", &[subscription]),
        ])
        .await;
    let before = bench.counts(subscription).await;
    let first = bench.lease_one(subscription).await;
    bench.told_due().await;
    assert!(bench.settle(first.token, Ending::Released).await);
    assert_eq!(bench.told_due().await, [subscription]);
    assert_eq!(bench.counts(subscription).await, before);
    let again = bench.lease(subscription, 2).await;
    assert_eq!(ids(&again), ["a", "b"]);
    assert_eq!((again[0].attempts, again[0].since), (0, first.since));
}

pub async fn a_retry_comes_back_when_it_is_due(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    bench
        .append(
            ["a", "b", "c"]
                .map(|id| entry(id, &[subscription]))
                .to_vec(),
        )
        .await;
    let leased = bench.lease(subscription, 3).await;
    bench.told_due().await;
    let at = |seconds| START.plus(Duration::from_secs(seconds));
    assert!(bench.settle(leased[0].token, retry(at(20))).await);
    assert!(
        bench
            .settle(
                leased[1].token,
                Ending::Retry {
                    at: at(10),
                    failure: false,
                    batch_max: None,
                    last: last(START)
                }
            )
            .await
    );
    assert!(bench.settle(leased[2].token, Ending::Delivered).await);
    let counts = bench.counts(subscription).await;
    assert_eq!(
        (
            counts.pending,
            counts.retrying,
            counts.in_flight,
            counts.delivered
        ),
        (2, 2, 0, 1)
    );
    assert!(bench.lease(subscription, 9).await.is_empty());
    bench.reopen().await;
    bench.told_due().await;
    assert_eq!(bench.journal.due().await, [subscription]);
    assert_eq!(bench.now().since(START).as_secs(), 10);
    let first = bench.lease(subscription, 9).await;
    assert_eq!(ids(&first), ["b"]);
    assert_eq!(
        (first[0].attempts, first[0].failures, first[0].since),
        (1, 0, START)
    );
    assert_eq!(bench.journal.due().await, [subscription]);
    assert_eq!(bench.now().since(START).as_secs(), 20);
    let second = bench.lease(subscription, 9).await;
    assert_eq!(ids(&second), ["a"]);
    assert_eq!((second[0].attempts, second[0].failures), (1, 1));
    let pending = bench
        .journal
        .reader()
        .pending(subscription, None, 9)
        .await
        .unwrap();
    assert_eq!(
        pending
            .iter()
            .map(|pending| pending.due)
            .collect::<Vec<_>>(),
        [at(20), at(10)]
    );
    assert_eq!(pending[0].last, Some(last(at(20))));
    assert_eq!(
        bench
            .journal
            .reader()
            .pending(subscription, Some(pending[0].id.sequence), 9)
            .await
            .unwrap(),
        pending[1..]
    );
    assert_eq!(
        bench
            .journal
            .reader()
            .pending(subscription, None, 1)
            .await
            .unwrap(),
        pending[..1]
    );
}

pub async fn a_delayed_delivery_waits(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    let due = START.plus(MINUTE * 5);
    let delivery = NewDelivery {
        due: Some(due),
        ..NewDelivery::now(subscription)
    };
    bench
        .append(vec![Entry {
            deliveries: SmallVec::from_slice(&[delivery]),
            ..entry("late", &[])
        }])
        .await;
    bench.event_for("early", &[subscription]).await;
    assert_eq!(ids(&bench.lease(subscription, 9).await), ["early"]);
    tokio::time::advance(MINUTE * 5).await;
    let leased = bench.lease(subscription, 1).await;
    // The other's lease has run out meanwhile, and it fell due first.
    assert_eq!(ids(&leased), ["early"]);
    let leased = bench.lease(subscription, 1).await;
    assert_eq!((ids(&leased), leased[0].since), (vec!["late"], due));
}

pub async fn a_delivery_put_off_for_months_outlives_restarts(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscription = bench.subscribe(&["r"]).await[0];
    let day = MINUTE * 60 * 24;
    let put_off = |id: &str, days: u32| Entry {
        deliveries: SmallVec::from_slice(&[NewDelivery {
            due: Some(START.plus(day * days)),
            ..NewDelivery::now(subscription)
        }]),
        ..entry(id, &[])
    };
    // The retention of their events is an hour.
    bench
        .append(vec![put_off("later", 91), put_off("soon", 90)])
        .await;
    if bench.implementation.persists() {
        bench.reopen().await;
    }
    tokio::time::advance(day * 89).await;
    bench.implementation.upkeep().await;
    assert!(bench.lease(subscription, 9).await.is_empty());
    if bench.implementation.persists() {
        bench.reopen().await;
    }
    tokio::time::advance(day).await;
    assert_eq!(ids(&bench.lease(subscription, 9).await), ["soon"]);
}

pub async fn a_large_backlog_is_leased_whole_and_in_order(implementation: &dyn Implementation) {
    const EVENTS: usize = 12_000;
    let mut bench = Bench::new(implementation).await;
    let subscriptions = bench.subscribe(&["r", "s"]).await;
    let [r, s] = [subscriptions[0], subscriptions[1]];
    for chunk in 0..EVENTS / 1_000 {
        // Every tenth has a key, and there are fewer keys than these.
        let one = |index: usize| match index % 10 {
            0 => keyed(&index.to_string(), r, (index % 70) as u64),
            _ => entry(&index.to_string(), &[r, s]),
        };
        bench
            .append((chunk * 1_000..(chunk + 1) * 1_000).map(one).collect())
            .await;
    }
    bench.reopen().await;
    let mut seen = std::collections::BTreeSet::new();
    let mut unkeyed = Vec::new();
    while seen.len() < EVENTS {
        let leased = bench.lease(r, 700).await;
        assert!(!leased.is_empty(), "{} of {EVENTS} leased", seen.len());
        for leased in &leased {
            assert!(seen.insert(leased.id.sequence.0), "{:?} twice", leased.id);
            if leased.event.id().parse::<usize>().unwrap() % 10 != 0 {
                unkeyed.push(leased.id.sequence);
            }
        }
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
    assert!(unkeyed.is_sorted());
    assert_eq!(bench.counts(r).await.delivered, EVENTS as u64);
    assert_eq!(bench.counts(s).await.pending, EVENTS as u64 * 9 / 10);
    assert!(bench.lease(r, 9).await.is_empty());
}

pub async fn follow_ups_happen_with_their_settlement(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscriptions = bench.subscribe(&["r", "s"]).await;
    let [r, s] = [subscriptions[0], subscriptions[1]];
    bench.append(vec![entry("a", &[r]), entry("b", &[r])]).await;
    let leased = bench.lease(r, 2).await;
    let report = Entry {
        deduplicate: Some(MINUTE),
        ..entry("report", &[s])
    };
    let reply = || FollowUp::Append {
        origin: name("replies"),
        entry: report.clone(),
    };
    let original = || FollowUp::Original(NewDelivery::now(s));
    let raw = Bytes::from_static(b"{]");
    let reject = FollowUp::Reject {
        origin: name("replies"),
        reject: pointsman_schemas::Reject {
            raw: raw.clone(),
            reason: "broken".into(),
        },
    };
    assert!(
        bench
            .settle_with(
                leased[0].token,
                Ending::Delivered,
                vec![reply(), original(), reject]
            )
            .await
    );
    let dead = Ending::Dead {
        reason: DeadReason::Exhausted,
        last: Some(last(START)),
    };
    assert!(
        bench
            .settle_with(leased[1].token, dead, vec![reply(), original(), original()])
            .await
    );
    assert!(
        !bench
            .settle_with(leased[1].token, Ending::Delivered, vec![original()])
            .await
    );
    bench.reopen().await;
    let leased = bench.lease(s, 9).await;
    let mut got = ids(&leased);
    got.sort_unstable();
    assert_eq!(
        got,
        ["a", "b", "b", "report"],
        "the second report is a duplicate"
    );
    let mut runs: Vec<_> = leased.iter().map(|leased| leased.id.to_string()).collect();
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 4, "every delivery has an id of its own");
    let origin = |id: &str| {
        leased
            .iter()
            .find(|leased| leased.event.id() == id)
            .unwrap()
            .origin
            .clone()
    };
    assert_eq!(
        (origin("report"), origin("a")),
        (name("replies"), name("suite"))
    );
    assert_eq!(bench.counts(s).await.created, 4);
    assert_eq!(bench.counts(r).await.dead, 1);
    let dead = bench
        .journal
        .reader()
        .dead(&crate::DeadSelection::default(), None, 9)
        .await
        .unwrap();
    let of_replies: Vec<_> = dead
        .iter()
        .filter(|letter| letter.origin == name("replies"))
        .collect();
    assert_eq!(of_replies.len(), 1);
    assert_eq!(
        (
            of_replies[0].reason,
            &of_replies[0].raw,
            of_replies[0].message.as_str()
        ),
        (DeadReason::Unreadable, &raw, "broken")
    );
}
