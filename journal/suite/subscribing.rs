//! Subscriptions come, go, rest and are renamed.

use super::*;
use crate::{Activity, Counts, DeadReason, DeadSelection, JournalError, NewDead};

pub async fn subscriptions_keep_their_numbers_and_deliveries(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let first = bench.subscribe(&["r", "s", "r"]).await;
    let [r, s] = [first[0], first[1]];
    assert!(first[2] == r && r != s && r.0 >= 1);
    bench.event_for("a", &[r]).await;
    bench.told_due().await;
    let second = bench.subscribe(&["s", "t"]).await;
    assert_eq!(second[0], s);
    assert!(second[1] > s);
    assert!(bench.lease(r, 1).await.is_empty(), "detached");
    let status = bench.status(r).await;
    assert_eq!((status.attached, status.counts.pending), (false, 1));
    // An append that was matched before still finds it.
    bench.event_for("b", &[r]).await;
    assert_eq!(bench.told_due().await, []);
    bench.reopen().await;
    assert!(bench.lease(r, 1).await.is_empty(), "still detached");
    assert_eq!(bench.subscribe(&["r"]).await, [r]);
    assert_eq!(bench.told_due().await, [r]);
    assert_eq!(ids(&bench.lease(r, 9).await), ["a", "b"]);
    assert_eq!(
        bench.find(s).await,
        None,
        "no rule wants it and it holds nothing"
    );

    let renamed = |rule: &str, from: &str| Subscription {
        renamed_from: Some(name(from)),
        ..wanted(rule)
    };
    assert_eq!(
        bench.journal.subscribe(vec![renamed("new", "r")]).await,
        Ok(vec![r]),
        "detached by this very call"
    );
    assert_eq!(bench.status(r).await.identity.rule, name("new"));
    assert_eq!(
        bench.journal.subscribe(vec![renamed("new", "r")]).await,
        Ok(vec![r]),
        "the name may stay in the file"
    );
    let both = bench
        .journal
        .subscribe(vec![wanted("new"), renamed("newer", "new")])
        .await
        .unwrap();
    assert!(
        both[0] == r && both[1] != r,
        "nothing is taken from who is still wanted: {both:?}"
    );
    bench.reopen().await;
    let statuses = bench.journal.reader().subscriptions().await.unwrap();
    assert!(statuses.is_sorted_by_key(|status| status.number));
    let rules: Vec<_> = statuses
        .iter()
        .map(|status| (status.identity.rule.to_string(), status.attached))
        .collect();
    assert_eq!(
        rules,
        [("new".to_owned(), true), ("newer".to_owned(), true)]
    );
}

pub async fn many_subscriptions_come_and_go_at_once(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let names =
        |rules: std::ops::Range<usize>| rules.map(|rule| format!("r-{rule}")).collect::<Vec<_>>();
    let subscribe = async |bench: &Bench<'_>, rules| {
        let names: Vec<String> = names(rules);
        bench
            .subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>())
            .await
    };
    let first = subscribe(&bench, 0..900).await;
    let second = subscribe(&bench, 300..1_200).await;
    assert!(first.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(second[..600], first[300..]);
    assert!(
        second[600..]
            .windows(2)
            .all(|pair| first[899] < pair[0] && pair[0] < pair[1])
    );
    bench.reopen().await;
    let statuses = bench.journal.reader().subscriptions().await.unwrap();
    assert_eq!(
        statuses
            .iter()
            .filter(|status| status.attached)
            .map(|status| status.number)
            .collect::<Vec<_>>(),
        second
    );
    assert_eq!(
        statuses.len(),
        second.len(),
        "what holds nothing is not kept"
    );
    let third = subscribe(&bench, 0..1_200).await;
    assert_eq!(third[300..], second, "each has its own again");
    if implementation.keeps_numbers() {
        assert_eq!(third[..300], first[..300], "each has its own again");
    } else {
        assert!(
            third[..300].iter().all(|number| *number > second[899]),
            "a number is used twice"
        );
    }
}

pub async fn a_subscription_that_nobody_wants_goes_once_it_holds_nothing(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    let dead = Ending::Dead {
        reason: DeadReason::Rejected,
        last: None,
    };
    let numbers = bench
        .subscribe(&[
            "flying",
            "dead",
            "purged",
            "cancelled",
            "redriven",
            "empty",
            "late",
        ])
        .await;
    let [flying, buried, purged, cancelled, redriven, empty, late] = numbers[..] else {
        panic!("{numbers:?}")
    };
    bench.event_for("a", &numbers[..5]).await;
    let in_flight = bench.lease_one(flying).await;
    for number in [buried, purged, redriven] {
        let leased = bench.lease_one(number).await;
        assert!(bench.settle(leased.token, dead.clone()).await);
    }
    bench.subscribe(&["other"]).await;
    assert_eq!(
        (bench.find(empty).await, bench.find(late).await),
        (None, None)
    );
    for (number, pending, dead) in [
        (flying, 1, 0),
        (buried, 0, 1),
        (purged, 0, 1),
        (cancelled, 1, 0),
        (redriven, 0, 1),
    ] {
        let status = bench.status(number).await;
        assert_eq!(
            (status.attached, status.counts.pending, status.counts.dead),
            (false, pending, dead)
        );
    }
    assert!(bench.settle(in_flight.token, Ending::Delivered).await);
    assert_eq!(bench.find(flying).await, None);
    let of = |rule: &str| DeadSelection {
        rule: Some(name(rule)),
        ..DeadSelection::default()
    };
    assert_eq!(bench.journal.purge(&of("purged")).await, Ok(1));
    assert_eq!(bench.find(purged).await, None);
    assert_eq!(bench.journal.cancel_all(cancelled).await, Ok(1));
    assert_eq!(bench.find(cancelled).await, None);
    // What they counted is not lost with them.
    let dropped = Counts {
        created: 3,
        delivered: 1,
        purged: 1,
        cancelled: 1,
        ..Counts::default()
    };
    let totals = bench.journal.reader().totals().await.unwrap();
    assert_eq!(totals.dropped, dropped);
    assert_eq!(bench.journal.redrive(&of("redriven")).await, Ok(1));
    assert_eq!(
        bench.counts(redriven).await.pending,
        1,
        "it waits for its rule to come back"
    );
    // What was matched before the reload, or has ended elsewhere, is not lost.
    bench.event_for("b", &[late]).await;
    let ended = NewDead {
        subscription: empty,
        order_key: None,
        reason: DeadReason::Rejected,
        attempts: 1,
        last: None,
        edited: None,
    };
    bench
        .append(vec![Entry {
            dead: Some(ended),
            ..entry("c", &[])
        }])
        .await;
    for (number, rule) in [(late, "late"), (empty, "empty")] {
        let status = bench.status(number).await;
        assert_eq!(
            (status.identity.rule, status.attached, status.counts.created),
            (name(rule), false, 1)
        );
    }
    bench.reopen().await;
    let totals = bench.journal.reader().totals().await.unwrap();
    assert_eq!(totals.dropped, dropped, "also after a restart");
    assert_eq!(
        bench.subscribe(&["late", "dead", "flying"]).await[..2],
        [late, buried]
    );
    assert_eq!(ids(&bench.lease(late, 9).await), ["b"]);
    let last = bench
        .subscribe(&["late", "dead", "flying", "empty", "purged", "cancelled"])
        .await;
    assert_eq!(last[3], empty);
    let own = [flying, purged, cancelled];
    if implementation.keeps_numbers() {
        assert_eq!([last[2], last[4], last[5]], own, "each has its own again");
    } else {
        assert!(
            [last[2], last[4], last[5]]
                .iter()
                .all(|number| !numbers.contains(number)),
            "a number is used twice: {last:?}"
        );
    }
}

pub async fn what_waits_is_cancelled_or_moved_whole(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["old", "new"]).await;
    let [old, new] = [numbers[0], numbers[1]];
    let delayed = NewDelivery {
        due: Some(bench.now().plus(MINUTE * 2)),
        ..NewDelivery::now(old)
    };
    let mut entries = vec![
        keyed("k1", old, 1),
        keyed("k2", old, 1),
        keyed("k3", old, 1),
    ];
    entries.push(Entry {
        deliveries: SmallVec::from_slice(&[delayed]),
        ..entry("delayed", &[])
    });
    entries.extend((0..700).map(|number| entry(&format!("{number}"), &[old, new])));
    bench.append(entries).await;
    let flying = bench.lease(old, 3).await;
    assert_eq!(ids(&flying), ["k1", "0", "1"]);
    assert!(
        bench
            .settle(flying[2].token, retry(bench.now().plus(MINUTE)))
            .await
    );
    assert!(matches!(
        bench.journal.move_all(old, SubscriptionNumber(99)).await,
        Err(JournalError::NotFound(_))
    ));
    assert!(matches!(
        bench.journal.move_all(SubscriptionNumber(99), old).await,
        Err(JournalError::NotFound(_))
    ));
    assert!(matches!(
        bench.journal.cancel_all(SubscriptionNumber(99)).await,
        Err(JournalError::NotFound(_))
    ));
    assert_eq!(bench.journal.move_all(old, old).await, Ok(0));
    // k1 and one event are in flight.
    assert_eq!(bench.journal.move_all(old, new).await, Ok(702));
    let (of_old, of_new) = (bench.counts(old).await, bench.counts(new).await);
    assert_eq!(
        (
            of_old.created,
            of_old.cancelled,
            of_old.pending,
            of_old.in_flight,
            of_old.retrying
        ),
        (704, 702, 2, 2, 0)
    );
    assert_eq!(
        (of_new.created, of_new.pending, of_new.retrying),
        (1_402, 1_402, 0)
    );
    assert!(bench.lease(old, 9).await.is_empty());
    assert!(
        bench.settle(flying[0].token, Ending::Delivered).await
            && bench.settle(flying[1].token, Ending::Delivered).await
    );
    bench.reopen().await;
    assert_eq!(bench.counts(old).await.pending, 0);
    let moved = bench.lease(new, 2_000).await;
    assert_eq!(
        moved.len(),
        1_400,
        "all but the delayed one, and the second of its key"
    );
    assert!(moved.iter().any(|one| one.event.id() == "k2"
        && one.id.run > 0
        && one.attempts == 0
        && one.since == START));
    let mut all: Vec<_> = moved.iter().map(|one| one.id).collect();
    all.sort_unstable_by_key(|id| (id.sequence, id.run));
    all.dedup();
    assert_eq!(all.len(), 1_400, "two deliveries have one id");
    tokio::time::advance(MINUTE * 2).await;
    assert_eq!(
        bench.journal.cancel_all(new).await,
        Ok(1_402),
        "the leases have run out"
    );
    let of_new = bench.counts(new).await;
    assert_eq!((of_new.cancelled, of_new.pending), (1_402, 0));
    // Nothing of a key is left parked behind what was cancelled.
    bench.append(vec![keyed("k4", new, 1)]).await;
    assert_eq!(ids(&bench.lease(new, 9).await), ["k4"]);
    let other = Subscription {
        identity: SubscriptionIdentity {
            tenant: name("other"),
            ..wanted("r").identity
        },
        ..wanted("r")
    };
    let foreign = bench
        .journal
        .subscribe(vec![wanted("new"), other])
        .await
        .unwrap()[1];
    assert!(
        matches!(
            bench.journal.move_all(new, foreign).await,
            Err(JournalError::NotFound(_))
        ),
        "another tenant's"
    );
}

pub async fn a_subscription_that_is_not_active_leases_nothing(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench.event_for("a", &[r]).await;
    let flying = bench.lease_one(r).await;
    bench.told_due().await;
    for activity in [Activity::Suspended, Activity::Gone] {
        assert_eq!(bench.journal.set_activity(r, activity).await, Ok(()));
        bench.event_for("b", &[r]).await;
        assert!(bench.lease(r, 9).await.is_empty());
        assert_eq!(bench.told_due().await, []);
        assert_eq!(bench.status(r).await.activity, activity);
        assert_eq!(
            bench.subscribe(&["r"]).await,
            [r],
            "a reload does not resume it"
        );
        assert_eq!(bench.status(r).await.activity, activity);
    }
    assert!(
        bench.settle(flying.token, Ending::Delivered).await,
        "what is in flight may still be settled"
    );
    bench.reopen().await;
    assert_eq!(bench.status(r).await.activity, Activity::Gone);
    assert_eq!(
        bench.journal.set_activity(r, Activity::Active).await,
        Ok(())
    );
    assert_eq!(bench.told_due().await, [r]);
    assert_eq!(bench.lease(r, 9).await.len(), 2);
    let unknown = bench
        .journal
        .set_activity(SubscriptionNumber(99), Activity::Active)
        .await;
    assert!(matches!(unknown, Err(JournalError::NotFound(_))));
}
