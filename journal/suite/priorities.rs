//! Priorities: what is urgent goes first.

use super::*;
use crate::{DeadReason, DeadSelection, Priority};

fn urgent(id: &str, subscription: SubscriptionNumber, priority: u8) -> Entry {
    let delivery = NewDelivery {
        priority: Priority::new(priority).unwrap(),
        ..NewDelivery::now(subscription)
    };
    Entry {
        deliveries: SmallVec::from_slice(&[delivery]),
        ..entry(id, &[])
    }
}

pub async fn what_is_urgent_goes_first_and_overtakes_no_more_than_ten_minutes(
    implementation: &dyn Implementation,
) {
    let bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let early = [urgent("0", r, 0), urgent("1", r, 1), urgent("3", r, 3)];
    bench.append(early.to_vec()).await;
    tokio::time::advance(Priority::STEP * 2).await;
    let late = [
        urgent("late 0", r, 0),
        urgent("late 3", r, 3),
        urgent("late 1", r, 1),
    ];
    bench.append(late.to_vec()).await;
    let order = ["3", "late 3", "1", "0", "late 1", "late 0"];
    assert_eq!(ids(&bench.lease(r, 9).await), order);
}

pub async fn what_is_urgent_goes_first_however_much_waits(implementation: &dyn Implementation) {
    const USUAL: usize = 3_000;
    let mut bench = Bench::new(implementation).await;
    let r = bench.subscribe(&["r"]).await[0];
    let usual = |from: usize| (from..from + 1_000).map(|id| entry(&id.to_string(), &[r]));
    bench.append(usual(0).collect()).await;
    bench.append(vec![urgent("a", r, 9)]).await;
    bench.append(usual(1_000).collect()).await;
    assert_eq!(ids(&bench.lease(r, 2).await), ["a", "0"]);
    // Many of one priority as well, in between.
    let fives = (0..2_000).map(|id| urgent(&format!("five {id}"), r, 5));
    bench.append(fives.collect()).await;
    bench.append(usual(2_000).collect()).await;
    bench.append(vec![urgent("b", r, 9)]).await;
    bench.reopen().await;
    bench.append(vec![urgent("c", r, 7)]).await;
    let mut told = Vec::new();
    loop {
        let leased = bench.lease(r, 300).await;
        if leased.is_empty() {
            break;
        }
        for leased in leased {
            told.push(leased.event.id().to_owned());
            assert!(bench.settle(leased.token, Ending::Delivered).await);
        }
    }
    // A reopened store has forgotten its leases.
    let first = if bench.implementation.persists() {
        0
    } else {
        1
    };
    let leased_before = if first == 0 { vec!["a"] } else { Vec::new() };
    let expected = leased_before
        .into_iter()
        .chain(["b", "c"])
        .map(str::to_owned)
        .chain((0..2_000).map(|id| format!("five {id}")))
        .chain((first..USUAL).map(|id| id.to_string()));
    assert_eq!(told, expected.collect::<Vec<_>>());
    let counts = bench.counts(r).await;
    assert_eq!(counts.delivered, (USUAL + 2_000 + 3 - 2 * first) as u64);
}

/// Over a retry, a hold and a move; a redrive goes behind what waits.
pub async fn a_priority_stays_with_its_delivery(implementation: &dyn Implementation) {
    let mut bench = Bench::new(implementation).await;
    let [r, s] = bench.subscribe(&["r", "s"]).await[..] else {
        panic!("there are two");
    };
    bench
        .append(vec![urgent("retried", r, 4), urgent("held", r, 6)])
        .await;
    let leased = bench.lease(r, 2).await;
    assert_eq!(ids(&leased), ["held", "retried"]);
    assert!(bench.settle(leased[0].token, Ending::Released).await);
    let later = bench.now().plus(MINUTE);
    assert!(bench.settle(leased[1].token, retry(later)).await);
    assert_eq!(bench.journal.suspend(&[leased[0].id]).await, Ok(1));
    bench
        .append(vec![entry("usual", &[r]), urgent("five", r, 5)])
        .await;
    bench.reopen().await;
    let priorities = async |bench: &Bench<'_>, number| {
        let pending = bench
            .journal
            .reader()
            .pending(number, None, 9)
            .await
            .unwrap();
        let shown = pending.iter().map(|one| one.priority.number());
        shown.collect::<Vec<_>>()
    };
    assert_eq!(priorities(&bench, r).await, [4, 6, 0, 5]);
    tokio::time::advance(MINUTE).await;
    assert_eq!(bench.journal.resume(&[leased[0].id]).await, Ok(1));
    assert_eq!(bench.journal.move_all(r, s).await, Ok(4));
    assert_eq!(priorities(&bench, s).await, [4, 6, 0, 5]);
    let moved = bench.lease(s, 9).await;
    assert_eq!(ids(&moved), ["held", "five", "retried", "usual"]);
    let dead = Ending::Dead {
        reason: DeadReason::Rejected,
        last: None,
    };
    assert!(bench.settle(moved[0].token, dead).await);
    bench.append(vec![urgent("one", s, 1)]).await;
    let all = DeadSelection::default();
    assert_eq!(bench.journal.redrive(&all).await, Ok(1));
    assert_eq!(ids(&bench.lease(s, 9).await), ["one", "held"]);
}
