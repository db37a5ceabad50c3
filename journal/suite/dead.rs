//! Dead letters, and what an operator does to deliveries.

use pointsman_schemas::Reject;
use pointsman_schemas::{DeliveryId, Epoch};

use super::*;
use crate::{DeadLetter, DeadReason, DeadSelection, JournalError, NewDead, Redrive};

pub async fn dead_letters_are_listed_redriven_and_purged(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscriptions = bench.subscribe(&["r", "s"]).await;
    let [r, s] = [subscriptions[0], subscriptions[1]];
    bench
        .append(vec![
            entry("1", &[r, s]),
            entry("2", &[r]),
            entry("3", &[r]),
        ])
        .await;
    for (subscription, reason) in [(r, DeadReason::Rejected), (s, DeadReason::Expired)] {
        for leased in bench.lease(subscription, 9).await {
            let ending = Ending::Dead {
                reason,
                last: (subscription == r).then(|| last(START)),
            };
            assert!(bench.settle(leased.token, ending).await);
        }
    }
    bench.reopen().await;
    let reader = bench.journal.reader();
    let all = reader
        .dead(&DeadSelection::default(), None, 9)
        .await
        .unwrap();
    let places: Vec<_> = all
        .iter()
        .map(|letter| {
            (
                letter.id.sequence.0,
                letter.id.subscription,
                letter.attempts,
            )
        })
        .collect();
    assert_eq!(places, [(1, r, 1), (1, s, 0), (2, r, 1), (3, r, 1)]);
    assert_eq!(
        (all[0].last.clone(), all[0].message.as_str(), all[0].at),
        (Some(last(START)), "it broke", START)
    );
    assert_eq!(all[0].subscription.as_ref().unwrap().rule, name("r"));
    assert_eq!(
        (&all[1].last, &all[1].tenant, &all[1].origin),
        (&None, &name("default"), &name("suite"))
    );
    assert_eq!(
        reader
            .dead(&DeadSelection::default(), Some(all[0].id), 2)
            .await
            .unwrap(),
        all[1..3]
    );
    let select = |rule: &str| DeadSelection {
        rule: Some(name(rule)),
        ..DeadSelection::default()
    };
    assert_eq!(reader.dead(&select("s"), None, 9).await.unwrap(), all[1..2]);
    assert_eq!(
        reader
            .dead(
                &DeadSelection {
                    tenant: Some(name("other")),
                    ..select("s")
                },
                None,
                9
            )
            .await
            .unwrap(),
        []
    );
    let expired = DeadSelection {
        reason: Some(DeadReason::Expired),
        target: Some(name("target")),
        ..DeadSelection::default()
    };
    assert_eq!(reader.dead(&expired, None, 9).await.unwrap(), all[1..2]);

    tokio::time::advance(MINUTE).await;
    bench.told_due().await;
    let chosen = DeadSelection {
        ids: Some(vec![
            all[0].id,
            all[2].id,
            DeliveryId {
                run: 5,
                ..all[3].id
            },
        ]),
        ..DeadSelection::default()
    };
    assert_eq!(bench.journal.redrive(&chosen).await, Ok(2));
    assert_eq!(bench.journal.redrive(&chosen).await, Ok(0));
    assert_eq!(bench.told_due().await, [r]);
    let leased = bench.lease(r, 9).await;
    assert_eq!(ids(&leased), ["1", "2"]);
    assert_eq!(
        (
            leased[0].id.run,
            leased[0].attempts,
            leased[0].failures,
            leased[0].since
        ),
        (1, 0, 0, bench.now())
    );
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
    assert_eq!(bench.journal.redrive(&select("r")).await, Ok(2));
    let runs: Vec<_> = bench
        .lease(r, 9)
        .await
        .iter()
        .map(|leased| (leased.id.sequence.0, leased.id.run))
        .collect();
    assert_eq!(runs, [(2, 3), (3, 4)]);
    assert_eq!(bench.journal.purge(&select("s")).await, Ok(1));
    let (r, s) = (bench.counts(r).await, bench.counts(s).await);
    assert_eq!(
        (r.created, r.delivered, r.dead, r.redriven, r.pending),
        (7, 1, 0, 4, 2)
    );
    assert_eq!((s.created, s.dead, s.purged), (1, 0, 1));
}

pub async fn what_ended_elsewhere_is_a_dead_letter_at_once(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let subscriptions = bench.subscribe(&["r", "s"]).await;
    let [r, s] = [subscriptions[0], subscriptions[1]];
    let dead = |subscription, order_key| {
        Some(NewDead {
            subscription,
            order_key,
            reason: DeadReason::Exhausted,
            attempts: 4,
            last: Some(last(START)),
            edited: None,
        })
    };
    let keyed_dead = |id: &str| Entry {
        dead: dead(r, Some(7)),
        ..entry(id, &[])
    };
    let told = Entry {
        dead: dead(r, None),
        ..entry("told", &[s])
    };
    let twice = Entry {
        dead: dead(s, None),
        ..entry("twice", &[s])
    };
    bench
        .append(vec![keyed_dead("1"), keyed_dead("2"), told, twice])
        .await;
    let unknown = Entry {
        dead: dead(SubscriptionNumber(99), None),
        ..entry("x", &[])
    };
    assert!(matches!(
        bench.journal.append(append_of(vec![unknown])).await,
        Err(JournalError::NotFound(_))
    ));
    bench.reopen().await;
    let letters = bench
        .journal
        .reader()
        .dead(&DeadSelection::default(), None, 9)
        .await
        .unwrap();
    let shown: Vec<_> = letters
        .iter()
        .map(|one| {
            (
                one.id.sequence.0,
                one.id.subscription,
                one.id.run,
                one.attempts,
            )
        })
        .collect();
    assert_eq!(shown, [(1, r, 0, 4), (2, r, 0, 4), (3, r, 0, 4)]);
    let first = &letters[0];
    assert_eq!(
        (first.reason, first.last.clone(), first.message.as_str()),
        (DeadReason::Exhausted, Some(last(START)), "it broke")
    );
    assert_eq!(
        (&first.tenant, &first.origin),
        (&name("default"), &name("suite"))
    );
    let (of_r, of_s) = (bench.counts(r).await, bench.counts(s).await);
    assert_eq!(
        (
            of_r.created,
            of_r.dead,
            of_r.pending,
            of_s.created,
            of_s.dead,
            of_s.pending
        ),
        (3, 3, 0, 2, 0, 2)
    );
    assert_eq!(ids(&bench.lease(s, 9).await), ["told", "twice"]);

    tokio::time::advance(MINUTE * 120).await;
    bench.implementation.upkeep().await;
    assert_eq!(
        bench.journal.redrive(&DeadSelection::default()).await,
        Ok(3)
    );
    let leased = bench.lease(r, 9).await;
    assert_eq!(
        ids(&leased),
        ["1", "told"],
        "a redrive is ordered as the delivery was"
    );
    assert_eq!((leased[0].id.run, leased[0].attempts), (1, 0));
    let purged = DeadSelection {
        rule: Some(name("r")),
        ..DeadSelection::default()
    };
    assert_eq!(bench.journal.purge(&purged).await, Ok(0));
    assert_eq!(bench.counts(r).await.redriven, 3);
}

pub async fn a_redrive_is_a_run_that_never_was(implementation: &dyn Implementation) {
    let bench = Bench::new(implementation).await;
    let subscriptions = bench.subscribe(&["r", "s"]).await;
    let [r, s] = [subscriptions[0], subscriptions[1]];
    for id in ["sent on and pending", "sent on and delivered"] {
        bench.event_for(id, &[r, s]).await;
        let dies = bench.lease_one(s).await;
        assert!(
            bench
                .settle(
                    dies.token,
                    Ending::Dead {
                        reason: DeadReason::Rejected,
                        last: None
                    }
                )
                .await
        );
        let sends_on = bench.lease_one(r).await;
        assert!(
            bench
                .settle_with(
                    sends_on.token,
                    Ending::Delivered,
                    vec![FollowUp::Original(NewDelivery::now(s))]
                )
                .await
        );
        let sent_on = bench.lease_one(s).await;
        if id.ends_with("delivered") {
            assert!(bench.settle(sent_on.token, Ending::Delivered).await);
        }
        assert_eq!(
            bench.journal.redrive(&DeadSelection::default()).await,
            Ok(1)
        );
        let redriven = bench.lease_one(s).await;
        assert_eq!(redriven.id.sequence, sent_on.id.sequence);
        assert_ne!(redriven.id, sent_on.id, "two deliveries have one id");
    }
}

pub async fn what_is_in_flight_when_an_earlier_one_comes_and_goes_is_delivered_once(
    implementation: &dyn Implementation,
) {
    let bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    for (key, ending, then) in [(7, Ending::Delivered, "c"), (8, Ending::Released, "b")] {
        let entries = ["a", "b", "c"].map(|id| keyed(&format!("{id}{key}"), r, key));
        bench.append(entries.to_vec()).await;
        let first = bench.lease_one(r).await;
        let dead = Ending::Dead {
            reason: DeadReason::Rejected,
            last: None,
        };
        assert!(bench.settle(first.token, dead).await);
        let second = bench.lease_one(r).await;
        // An earlier one of its key comes, waits for it, and is cancelled.
        let redriven = bench.journal.redrive(&DeadSelection::default()).await;
        assert_eq!(redriven, Ok(1));
        let pending = bench.journal.reader().pending(r, None, 9).await.unwrap();
        assert_eq!(pending[0].id.sequence, first.id.sequence);
        assert_eq!(bench.journal.cancel(&[pending[0].id]).await, Ok(1));
        assert!(bench.lease(r, 9).await.is_empty());
        assert!(bench.settle(second.token, ending).await);
        let next = bench.lease(r, 9).await;
        assert_eq!(ids(&next), [format!("{then}{key}")]);
        assert!(bench.settle(next[0].token, Ending::Delivered).await);
        if let [last] = bench.lease(r, 9).await.as_slice() {
            assert!(bench.settle(last.token, Ending::Delivered).await);
        }
        assert_eq!(bench.counts(r).await.pending, 0);
    }
}

pub async fn rejects_are_dead_letters_of_their_source(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let reject = Reject {
        raw: Bytes::from_static(b"\xff?"),
        reason: "it is no JSON".to_owned(),
    };
    bench
        .journal
        .append(Append {
            rejects: vec![reject.clone(), reject],
            ..append_of(vec![entry("a", &[])])
        })
        .await
        .unwrap();
    bench.reopen().await;
    let totals = bench.journal.reader().totals().await.unwrap();
    assert_eq!((totals.events, totals.dead, totals.rejects), (1, 2, 2));
    let letters = bench
        .journal
        .reader()
        .dead(&DeadSelection::default(), None, 9)
        .await
        .unwrap();
    let [letter, other] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_ne!(letter.id, other.id);
    assert_eq!(
        (letter.id.subscription, &letter.subscription),
        (SubscriptionNumber(0), &None)
    );
    assert_eq!(
        (letter.reason, letter.message.as_str(), &letter.raw[..]),
        (DeadReason::Unreadable, "it is no JSON", &b"\xff?"[..])
    );
    assert_eq!(
        bench.journal.redrive(&DeadSelection::default()).await,
        Ok(0)
    );
    let first = DeadSelection {
        ids: Some(vec![letter.id]),
        ..DeadSelection::default()
    };
    assert_eq!(bench.journal.purge(&first).await, Ok(1));
    assert_eq!(bench.journal.reader().totals().await.unwrap().rejects, 1);
}

pub async fn cancelling_ends_what_is_not_in_flight(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench
        .append(vec![
            entry("1", &[r]),
            entry("2", &[r]),
            keyed("3", r, 1),
            keyed("4", r, 1),
            entry("5", &[r]),
            entry("6", &[r]),
        ])
        .await;
    let flying = bench.lease_one(r).await;
    let pending = bench.journal.reader().pending(r, None, 9).await.unwrap();
    assert_eq!(pending.len(), 6);
    let in_flight: Vec<_> = pending.iter().filter(|one| one.in_flight).collect();
    assert_eq!((in_flight.len(), in_flight[0].id), (1, flying.id));
    let foreign = DeliveryId {
        epoch: Epoch(flying.id.epoch.0 ^ 1),
        ..pending[1].id
    };
    let unknown = DeliveryId {
        run: 3,
        ..pending[1].id
    };
    let ids_of = [
        pending[0].id,
        pending[2].id,
        pending[4].id,
        foreign,
        unknown,
        pending[4].id,
    ];
    assert_eq!(bench.journal.cancel(&ids_of).await, Ok(2));
    assert!(bench.settle(flying.token, Ending::Delivered).await);
    let counts = bench.counts(r).await;
    assert_eq!(
        (
            counts.created,
            counts.cancelled,
            counts.delivered,
            counts.pending
        ),
        (6, 2, 1, 3)
    );
    let left = bench.lease(r, 9).await;
    let mut left = ids(&left);
    left.sort_unstable();
    assert_eq!(left, ["2", "4", "6"]);
    bench.reopen().await;
    assert_eq!(bench.counts(r).await.pending, 3);
}

pub async fn an_edited_dead_letter_is_redriven_as_it_was_edited(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let reject = Reject {
        raw: Bytes::from_static(b"?"),
        reason: "it is no JSON".to_owned(),
    };
    let append = Append {
        rejects: vec![reject],
        ..append_of(vec![entry("1", &[r]), entry("2", &[r])])
    };
    bench.journal.append(append).await.unwrap();
    for leased in bench.lease(r, 9).await {
        let (reason, last) = (DeadReason::Rejected, None);
        assert!(
            bench
                .settle(leased.token, Ending::Dead { reason, last })
                .await
        );
    }
    let (reader, all) = (bench.journal.reader(), DeadSelection::default());
    let before = reader.dead(&all, None, 9).await.unwrap();
    let of = |subscription: SubscriptionNumber, sequence: u64| {
        let is = |id: &DeliveryId| id.subscription == subscription && id.sequence.0 == sequence;
        before.iter().map(|letter| letter.id).find(is)
    };
    let (first, second) = (of(r, 1).unwrap(), of(r, 2).unwrap());
    let rejected = before
        .iter()
        .find(|letter| letter.subscription.is_none())
        .unwrap()
        .id;
    for (id, event) in [
        (first, Some(event("draft"))),
        (first, Some(event("mended"))),
        (second, Some(event("other"))),
        (second, None),
        (rejected, Some(event("made"))),
    ] {
        bench.journal.edit_dead(id, event).await.unwrap();
    }
    let nowhere = DeliveryId { run: 99, ..first };
    let refused = bench.journal.edit_dead(nowhere, Some(event("x"))).await;
    assert!(matches!(refused, Err(JournalError::NotFound(_))));
    bench.reopen().await;

    let reader = bench.journal.reader();
    let after = reader.dead(&DeadSelection::default(), None, 9).await;
    for (letter, was) in after.unwrap().into_iter().zip(&before) {
        let edited = letter.edited.as_ref().map(|event| event.id().to_owned());
        let expect = match letter.id {
            id if id == first => Some("mended"),
            id if id == rejected => Some("made"),
            _ => None,
        };
        assert_eq!(edited.as_deref(), expect);
        let unedited = DeadLetter {
            edited: None,
            ..letter
        };
        assert_eq!(&unedited, was, "nothing else changes");
    }
    // The original is kept beside it.
    let original = reader.event(first.sequence).await.unwrap().unwrap();
    assert_eq!(original.event.id(), "1");

    // One that ended elsewhere may have been edited there.
    let elsewhere = NewDead {
        subscription: r,
        order_key: None,
        reason: DeadReason::Exhausted,
        attempts: 1,
        last: None,
        edited: Some(event("brought")),
    };
    let brought = Entry {
        dead: Some(elsewhere),
        ..entry("3", &[])
    };
    bench.append(vec![brought]).await;
    bench.reopen().await;

    // A reject has no subscription of its own.
    assert_eq!(
        bench.journal.redrive(&DeadSelection::default()).await,
        Ok(3)
    );
    let to_r = Redrive {
        selection: DeadSelection::default(),
        to: Some(r),
        before: bench.now(),
        after: None,
        limit: 9,
        replay: None,
    };
    assert_eq!(bench.journal.redrive_some(&to_r).await.unwrap().count, 1);
    bench.reopen().await;
    let mut sent = Vec::new();
    for leased in bench.lease(r, 9).await {
        let id = leased.event.id().to_owned();
        // What was edited is an event of its own, with a place of its own.
        assert_eq!(leased.id.sequence.0 > 2, id != "2", "{id}");
        assert_eq!(leased.origin, name("suite"));
        sent.push(id);
        assert!(bench.settle(leased.token, Ending::Delivered).await);
    }
    sent.sort_unstable();
    assert_eq!(sent, ["2", "brought", "made", "mended"]);
    let counts = bench.counts(r).await;
    assert_eq!(
        (
            counts.created,
            counts.redriven,
            counts.delivered,
            counts.dead
        ),
        (7, 3, 4, 0)
    );
    let totals = bench.journal.reader().totals().await.unwrap();
    assert_eq!((totals.dead, totals.rejects), (0, 0));
    // Nothing refers to them any more.
    tokio::time::advance(bench.bounds.retention * 2).await;
    bench.implementation.upkeep().await;
    assert_eq!(bench.journal.reader().totals().await.unwrap().events, 0);
}

pub async fn an_edit_that_has_no_room_changes_nothing(implementation: &dyn Implementation) {
    let bounds = Bounds {
        bytes_max: 2 << 20,
        ..ROOMY
    };
    let bench = Bench::bounded(implementation, bounds).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench.event_for("1", &[r]).await;
    let leased = bench.lease_one(r).await;
    let (reason, last) = (DeadReason::Rejected, None);
    assert!(
        bench
            .settle(leased.token, Ending::Dead { reason, last })
            .await
    );
    let large = sized_event("large", 4 << 20);
    let refused = bench.journal.edit_dead(leased.id, Some(large)).await;
    assert!(matches!(refused, Err(JournalError::Full(_))), "{refused:?}");
    let (reader, all) = (bench.journal.reader(), DeadSelection::default());
    assert_eq!(reader.dead(&all, None, 9).await.unwrap()[0].edited, None);
}
