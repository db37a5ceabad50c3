//! What a tenant and a rule may use together, at all of their targets.

use super::*;
use crate::dispatcher::{Plan, Quota};

fn quota(rule: Option<&str>, per_second: Option<&str>, in_flight: Option<usize>) -> Quota {
    Quota {
        tenant: Name::default_tenant(),
        rule: rule.map(|rule| Name::new(rule).unwrap()),
        rate: per_second.and_then(rate),
        in_flight,
    }
}

/// A plan for so many subscriptions with a target each, which count in these quotas.
fn quoted(mock: &Mock, all: Vec<[Option<usize>; 2]>, quotas: Vec<Quota>) -> Plan {
    let routes = all.iter().enumerate().map(|(index, quotas)| {
        let mut route = route(&format!("r{index}"), index, policy());
        route.quotas = *quotas;
        (number(index), route)
    });
    let targets = (0..all.len()).map(|index| mock.target(&format!("t{index}")));
    let mut plan = plan(targets.collect(), routes);
    plan.quotas = quotas;
    plan
}

/// The most calls of these rules that were under way at once, of calls that take so long.
fn most_at_once(mock: &Mock, rules: &[&str], took: Duration) -> usize {
    let calls = mock.calls.lock();
    let of = |call: &&Call| rules.contains(&call.rule.as_str());
    let at: Vec<Instant> = calls.iter().filter(of).map(|call| call.at).collect();
    let under_way = |now: &Instant| {
        let begun = at.iter().filter(|at| **at <= *now);
        begun.filter(|at| **at + took > *now).count()
    };
    at.iter().map(under_way).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn attempts_at_once_are_bounded_over_all_targets_and_all_take_turns() {
    let (bench, arrivals) = Bench::of_arrivals(1);
    let mock = Mock::taking(MS * 50);
    let both = vec![
        [Some(0), Some(1)],
        [Some(0), None],
        [Some(0), None],
        [None; 2],
    ];
    let quotas = vec![quota(None, None, Some(6)), quota(Some("r0"), None, Some(2))];
    let running = bench.start(quoted(&mock, both.clone(), quotas));
    let event = event("e");
    for index in 0..4 {
        arrivals.arrive(number(index), &event, 200);
    }
    tokio::time::sleep(SECOND * 4).await;
    assert_eq!(most_at_once(&mock, &["r0"], MS * 50), 2);
    assert_eq!(most_at_once(&mock, &["r0", "r1", "r2"], MS * 50), 6);
    assert!(most_at_once(&mock, &["r3"], MS * 50) >= 8);
    // Nobody of the tenant is left out, and the quota is used.
    let done = [0, 1, 2, 3].map(|index| arrivals.waits(number(index)).len());
    assert!(done[..3].iter().all(|done| *done >= 80), "{done:?}");
    assert!(done[..3].iter().sum::<usize>() >= 420, "{done:?}");
    // A reload changes it in place; what is under way counts.
    running
        .handle
        .reload(quoted(
            &mock,
            both,
            vec![quota(None, None, Some(1)), quota(Some("r0"), None, None)],
        ))
        .await
        .unwrap();
    tokio::time::sleep(MS * 60).await;
    mock.calls.lock().clear();
    tokio::time::sleep(SECOND).await;
    assert_eq!(most_at_once(&mock, &["r0", "r1", "r2"], MS * 50), 1);
    running.abort().await;
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_quota_holds_over_all_targets_and_others_are_not_slowed() {
    let (bench, arrivals) = Bench::of_arrivals(1);
    let mock = Mock::taking(MS * 5);
    let all = vec![[Some(0), None], [Some(0), None], [None; 2]];
    let running = bench.start(quoted(&mock, all, vec![quota(None, Some("50/s"), None)]));
    let event = event("e");
    for index in 0..3 {
        arrivals.arrive(number(index), &event, 1_000);
    }
    tokio::time::sleep(SECOND * 10).await;
    let calls = tally(mock.calls.lock().iter().map(|call| call.rule.to_string()));
    let (first, second) = (calls["r0"], calls["r1"]);
    assert!((485..=501).contains(&(first + second)), "{calls:?}");
    assert!(first.min(second) >= 200, "{calls:?}");
    assert_eq!(calls["r2"], 1_000);
    let of_quota = |call: &&Call| call.rule.as_str() != "r2";
    let at: Vec<Instant> = {
        let calls = mock.calls.lock();
        calls.iter().filter(of_quota).map(|call| call.at).collect()
    };
    for from in &at {
        let within = at.iter().filter(|at| *at >= from && **at < *from + SECOND);
        assert!(within.count() <= 50);
    }
    running.abort().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_away_holds_none_of_a_quota() {
    let (bench, arrivals) = Bench::of_arrivals(1);
    let mock = Mock::new(|call| match call.rule.as_str() {
        "r0" => (MS, Outcome::new(Class::Unavailable, "away")),
        _ => (MS * 20, Outcome::delivered()),
    });
    let all = vec![[Some(0), None], [Some(0), None]];
    let running = bench.start(quoted(&mock, all, vec![quota(None, None, Some(2))]));
    let event = event("e");
    for index in 0..2 {
        arrivals.arrive(number(index), &event, 500);
    }
    tokio::time::sleep(SECOND * 10).await;
    let done = arrivals.waits(number(1)).len();
    assert_eq!(done, 500);
    running.abort().await;
}
