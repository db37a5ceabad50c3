//! Deliveries of one order key: one at a time, in order, and what waits behind the first.

use pointsman_schemas::DeliveryId;

use super::*;
use crate::{DeadReason, DeadSelection};

pub async fn a_skipped_head_frees_what_waits_behind_it(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let keys = [("a", 1), ("b", 1), ("c", 1), ("d", 2)];
    bench
        .append(keys.map(|(id, key)| keyed(id, r, key)).into())
        .await;
    bench.append(vec![entry("e", &[r]), entry("f", &[r])]).await;
    let leased = bench.lease(r, 9).await;
    assert_eq!(ids(&leased), ["a", "d", "e", "f"]);
    let head = leased[0].id;
    assert_eq!(bench.journal.skip(&[head]).await, Ok(0), "it is in flight");
    let later = bench.now().plus(MINUTE);
    for one in &leased {
        assert!(bench.settle(one.token, retry(later)).await);
    }
    // The head waits for its next attempt, and holds up two; one of a block has no key at all.
    let skipped = [head, leased[2].id, head];
    assert_eq!(bench.journal.skip(&skipped).await, Ok(2));
    bench.reopen().await;
    assert_eq!(ids(&bench.lease(r, 9).await), ["b"]);
    let counts = bench.counts(r).await;
    assert_eq!((counts.dead, counts.cancelled, counts.pending), (2, 0, 4));
    let letters = bench.journal.reader();
    let letters = letters.dead(&Default::default(), None, 9).await.unwrap();
    assert_eq!(letters[0].reason, DeadReason::Skipped);
    assert_eq!((letters[0].id, letters[0].attempts), (head, 1));
    assert_eq!(
        letters[0].message, "it broke",
        "what its last attempt came to"
    );
    assert_eq!(letters[0].origin, name("suite"));
    let again = DeadSelection {
        ids: Some(vec![head]),
        ..DeadSelection::default()
    };
    assert_eq!(bench.journal.redrive(&again).await, Ok(1));
    // One that waits behind another is skipped as well.
    let waiting = bench.journal.reader().pending(r, None, 9).await.unwrap();
    let c = waiting.iter().find(|one| one.id.sequence.0 == 3).unwrap();
    assert_eq!(bench.journal.skip(&[c.id]).await, Ok(1));
    assert_eq!(bench.counts(r).await.dead, 2);
}

type Blocked = (DeliveryId, u32, bool, u64);

/// The blocked keys of a page: the head, how often it was tried, whether it is held back, and how
/// many wait behind it. And where the page says to go on.
async fn blocked(
    bench: &Bench<'_>,
    subscription: SubscriptionNumber,
    after: Option<u64>,
    limit: usize,
) -> (Vec<Blocked>, Option<u64>) {
    let reader = bench.journal.reader();
    let page = reader.blocked(subscription, after, limit).await.unwrap();
    let told = page.keys.iter().map(|key| {
        let head = &key.head;
        (head.id, head.attempts, head.suspended, key.behind)
    });
    (told.collect(), page.next)
}

/// Deliveries, one of them without a key: a and c and h of a low one, b and e of one that is
/// negative on disk, d and f each of their own.
async fn keyed_low_and_high(bench: &Bench<'_>, numbers: &[SubscriptionNumber], high: u64) {
    let low = 5;
    let keys = [
        ("a", low),
        ("b", high),
        ("c", low),
        ("d", 9),
        ("e", high),
        ("f", 7),
    ];
    let r = numbers[0];
    let entries = keys.map(|(id, key)| keyed(id, r, key));
    bench.append(entries.into()).await;
    let more = vec![entry("g", numbers), keyed("h", r, low)];
    bench.append(more).await;
}

pub async fn blocked_order_keys_are_told_with_what_waits_behind(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    let numbers = bench.subscribe(&["r", "other"]).await;
    let (r, high) = (numbers[0], u64::MAX - 4);
    keyed_low_and_high(&bench, &numbers, high).await;
    let all = async |bench: &Bench<'_>| blocked(bench, r, None, 9).await;
    assert_eq!(all(&bench).await, (vec![], None), "nothing was tried");
    let leased = bench.lease(r, 9).await;
    assert_eq!(ids(&leased), ["a", "b", "d", "f", "g"]);
    assert_eq!(all(&bench).await, (vec![], None), "they are in flight");
    let later = bench.now().plus(MINUTE);
    // What has no key blocks nothing, and f is in flight as yet.
    for one in [0, 1, 4] {
        assert!(bench.settle(leased[one].token, retry(later)).await);
    }
    assert!(bench.settle(leased[2].token, Ending::Released).await);
    let [a, b, d] = [0, 1, 2].map(|at: usize| leased[at].id);
    let told = vec![(b, 1, false, 1), (a, 1, false, 2)];
    assert_eq!(all(&bench).await, (told.clone(), None));
    let reader = bench.journal.reader();
    let page = reader.blocked(r, None, 1).await.unwrap();
    let head = &page.keys[0].head;
    assert_eq!((head.due, head.order_key), (later, Some(high)));
    assert_eq!(head.last.as_ref().unwrap().message, "it broke");
    // Never tried, but held back.
    assert_eq!(bench.journal.suspend(&[d]).await, Ok(1));
    let told = [&told[..], &[(d, 0, true, 0)]].concat();
    assert_eq!(all(&bench).await, (told.clone(), None));
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let (some, next) = blocked(&bench, r, after, 1).await;
        paged.extend(some);
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(paged, told, "page by page");
    let (others, _) = blocked(&bench, numbers[1], None, 9).await;
    assert_eq!(others, [], "they are another's");
    // Once the head is gone, the next one is no more than waiting.
    assert_eq!(bench.journal.skip(&[a]).await, Ok(1));
    let left = vec![(b, 1, false, 1), (d, 0, true, 0)];
    assert_eq!(all(&bench).await.0, left);
    bench.reopen().await;
    assert_eq!(all(&bench).await.0, left, "f was not tried");
}

pub async fn order_keys_go_one_at_a_time(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let entries = vec![
        keyed("a1", r, 1),
        keyed("a2", r, 1),
        keyed("b1", r, u64::MAX),
        keyed("a3", r, 1),
        entry("free", &[r]),
    ];
    bench.append(entries).await;
    let leased = bench.lease(r, 9).await;
    assert_eq!(ids(&leased), ["a1", "b1", "free"]);
    bench.told_due().await;
    let at = START.plus(MINUTE / 2);
    assert!(bench.settle(leased[0].token, retry(at)).await);
    assert!(bench.lease(r, 9).await.is_empty(), "its key waits with it");
    tokio::time::advance(MINUTE / 2).await;
    let a1 = bench.lease_one(r).await;
    assert_eq!((a1.event.id(), a1.attempts), ("a1", 1));
    bench.told_due().await;
    assert!(bench.settle(a1.token, Ending::Delivered).await);
    assert_eq!(bench.told_due().await, [r], "the end of one frees the next");
    let a2 = bench.lease_one(r).await;
    assert_eq!(a2.event.id(), "a2");
    assert!(bench.settle(a2.token, Ending::Released).await);
    let a2 = bench.lease_one(r).await;
    assert_eq!(a2.event.id(), "a2");
    bench.append(vec![keyed("a4", r, 1)]).await;
    bench.reopen().await;
    if bench.implementation.persists() {
        assert_eq!(ids(&bench.lease(r, 9).await), ["a2", "b1", "free"]);
        tokio::time::advance(MINUTE).await;
    }
    tokio::time::advance(MINUTE).await;
    let a2 = bench.lease(r, 1).await.remove(0);
    assert_eq!(a2.event.id(), "a2");
    assert!(
        bench
            .settle(
                a2.token,
                Ending::Dead {
                    reason: DeadReason::Rejected,
                    last: None
                }
            )
            .await
    );
    let leased = bench.lease(r, 9).await;
    let mut freed = ids(&leased);
    freed.sort_unstable();
    assert_eq!(freed, ["a3", "b1", "free"]);
    let a3 = leased
        .iter()
        .find(|leased| leased.event.id() == "a3")
        .unwrap();
    assert!(bench.settle(a3.token, Ending::Delivered).await);
    assert_eq!(ids(&bench.lease(r, 9).await), ["a4"]);
}

pub async fn an_earlier_one_of_its_key_goes_first_after_a_redrive(
    implementation: &dyn Implementation,
) {
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    bench
        .append(vec![keyed("1", r, 7), keyed("2", r, 7), keyed("3", r, 7)])
        .await;
    let first = bench.lease_one(r).await;
    assert!(
        bench
            .settle(
                first.token,
                Ending::Dead {
                    reason: DeadReason::Rejected,
                    last: None
                }
            )
            .await
    );
    let second = bench.lease_one(r).await;
    assert_eq!(second.event.id(), "2");
    assert_eq!(bench.journal.redrive(&Default::default()).await, Ok(1));
    assert!(bench.lease(r, 9).await.is_empty(), "the key is in flight");
    assert!(bench.settle(second.token, retry(bench.now())).await);
    let first = bench.lease(r, 9).await;
    assert_eq!(ids(&first), ["1"]);
    assert_eq!(first[0].id.run, 1);
    bench.reopen().await;
    for expected in ["1", "2", "3"] {
        if !bench.implementation.persists() {
            tokio::time::advance(MINUTE).await;
        }
        let leased = bench.lease_one(r).await;
        assert_eq!(leased.event.id(), expected);
        assert!(bench.settle(leased.token, Ending::Delivered).await);
    }
}
