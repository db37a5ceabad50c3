//! Keeping to a share of a target that other nodes use too.

use std::time::Duration;

use pointsman_schemas::{Class, Name, Outcome, SubscriptionNumber};

use super::bench::*;
use super::flow::narrow;
use crate::dispatcher::testing::{policy, route};
use crate::dispatcher::{CircuitStatus, LimitDemand, LimitShare, Limited, Plan, Quota, Target};

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.is_one_of_several = true;
    bench
}

fn share(at_once: Option<usize>, thousandths: Option<u64>) -> LimitShare {
    LimitShare {
        of: Limited::Target {
            tenant: Name::default_tenant(),
            name: Name::new("t").unwrap(),
        },
        at_once,
        thousandths,
        is_open_elsewhere: None,
    }
}

async fn told(running: &Running, share: LimitShare) -> Option<LimitDemand> {
    running.handle.share(vec![share]).await.unwrap().pop()
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_are_under_way_than_its_share() {
    let bench = bench();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 100);
    let target = narrow(mock.target("t"), 12);
    let running = bench.start(plan(vec![target], [(number, route("r", 0, policy()))]));
    bench.append(number, 10_000).await;
    let mut most = Vec::new();
    for at_once in [None, Some(4), Some(2), Some(12)] {
        told(&running, share(at_once, None)).await;
        tokio::time::sleep(SECOND).await;
        let before = mock.count();
        tokio::time::sleep(SECOND).await;
        let calls = mock.calls.lock()[before..].to_vec();
        most.push(calls.iter().map(|call| call.under_way).max());
        let demand = told(&running, share(None, None)).await.unwrap();
        assert!(demand.wants > 8, "it could use more: {demand:?}");
    }
    // What was found out of the target is no more than eight yet.
    assert!(most[3] >= Some(8), "{most:?}");
    assert_eq!(most[..3], [Some(1), Some(4), Some(2)]);
    let status = running.handle.status().targets[0].clone();
    assert_eq!(status.share, None, "it is the whole");
    told(&running, share(Some(5), None)).await;
    assert_eq!(running.handle.status().targets[0].share, Some(5));
    running.abort().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_begin_than_its_share_of_the_rate() {
    let bench = bench();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 10);
    let target = Target {
        rate: rate("60/s"),
        ..mock.target("t")
    };
    let running = bench.start(plan(vec![target], [(number, route("r", 0, policy()))]));
    bench.append(number, 10_000).await;
    let in_ten_seconds = async || {
        let before = mock.count();
        tokio::time::sleep(SECOND * 10).await;
        mock.count() - before
    };
    for (thousandths, expect) in [(1_000, 10), (20_000, 200), (2_500, 25), (60_000, 600)] {
        let few = share(Some(8), Some(thousandths));
        told(&running, few.clone()).await;
        let calls = in_ten_seconds().await;
        // One falls due at the very moment of each look.
        let is_right = (expect - expect / 20 - 1..=expect + 1).contains(&calls);
        assert!(is_right, "{calls} by {thousandths}");
        // The next one does not fall due just then.
        tokio::time::sleep(MS * 7).await;
        let demand = told(&running, few).await.unwrap();
        assert_eq!(demand.thousandths, 60_000, "it could use all");
    }
    running.abort().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_uses_less_than_its_share_asks_for_little_more() {
    let bench = bench();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 10);
    let target = Target {
        rate: rate("60/s"),
        ..mock.target("t")
    };
    let running = bench.start(plan(vec![target], [(number, route("r", 0, policy()))]));
    let mut demands = Vec::new();
    told(&running, share(Some(8), Some(30_000))).await;
    for _ in 0..100 {
        bench.append(number, 1).await;
        tokio::time::sleep(MS * 200).await;
        demands.extend(told(&running, share(None, None)).await);
    }
    let most = demands.iter().map(|demand| demand.thousandths).max();
    assert!((5_000..9_000).contains(&most.unwrap()), "{most:?}");
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(told(&running, share(None, None)).await, None);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_another_node_found_open_is_left_alone_until_it_is_told_closed() {
    let bench = bench();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::classes(&[Class::Unavailable]);
    let running = bench.start(one(&mock, number));
    bench.append(number, 20).await;
    tokio::time::sleep(SECOND * 10).await;
    let demand = told(&running, share(None, None)).await.unwrap();
    assert!(demand.is_open, "this one sees to it: {demand:?}");
    // Another one does.
    let elsewhere = |is_open| LimitShare {
        is_open_elsewhere: Some(is_open),
        ..share(None, None)
    };
    let demand = told(&running, elsewhere(true)).await.unwrap();
    assert!(!demand.is_open, "{demand:?}");
    let before = mock.count();
    mock.becomes(|_| (MS, Outcome::delivered()));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let circuit = || running.handle.status().targets[0].circuit;
    assert_eq!((mock.count(), circuit()), (before, CircuitStatus::Open));
    told(&running, elsewhere(false)).await;
    assert_eq!(circuit(), CircuitStatus::Closed);
    bench.drained().await;
    running.stop().await;
}

/// A quota of the default tenant that bounds what the rules `a` and `b` do at two targets.
fn quoted(mock: &Mock, numbers: &[SubscriptionNumber], quota: Quota) -> Plan {
    let targets = ["t", "u"].map(|name| mock.target(name)).to_vec();
    let routes = ["a", "b"].iter().enumerate().map(|(index, rule)| {
        let mut route = route(rule, index, policy());
        route.quotas = [Some(0), None];
        (numbers[index], route)
    });
    let mut plan = plan(targets, routes);
    plan.quotas = vec![quota];
    plan
}

fn quota(per: Option<&str>, in_flight: Option<usize>) -> Quota {
    Quota {
        tenant: Name::default_tenant(),
        rule: None,
        rate: per.and_then(rate),
        in_flight,
    }
}

fn of_quota(at_once: Option<usize>, thousandths: Option<u64>) -> LimitShare {
    let (tenant, rule) = quota(None, None).key();
    LimitShare {
        of: Limited::Quota { tenant, rule },
        ..share(at_once, thousandths)
    }
}

/// Shares of both targets that bound nothing.
fn whole_targets() -> Vec<LimitShare> {
    let of = |name| Limited::Target {
        tenant: Name::default_tenant(),
        name: Name::new(name).unwrap(),
    };
    let whole = |name| LimitShare {
        of: of(name),
        ..share(Some(64), None)
    };
    ["t", "u"].map(whole).to_vec()
}

/// What this node could use of the quota, once it has this share of it.
async fn demanded(running: &Running, share: LimitShare) -> Option<LimitDemand> {
    let demands = running.handle.share(vec![share]).await.unwrap();
    let is_quota = |demand: &LimitDemand| matches!(demand.of, Limited::Quota { .. });
    demands.into_iter().find(is_quota)
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_are_under_way_than_its_share_of_a_quota() {
    let bench = bench();
    let numbers = bench.subscribe(&["a", "b"]).await;
    let mock = Mock::taking(MS * 100);
    let running = bench.start(quoted(&mock, &numbers, quota(None, Some(12))));
    running.handle.share(whole_targets()).await.unwrap();
    for number in &numbers {
        bench.append(*number, 10_000).await;
    }
    let mut most = Vec::new();
    for at_once in [None, Some(4), Some(2), Some(12), Some(30)] {
        demanded(&running, of_quota(at_once, None)).await;
        tokio::time::sleep(SECOND).await;
        let before = mock.count();
        tokio::time::sleep(SECOND).await;
        let calls = mock.calls.lock()[before..].to_vec();
        most.push(calls.iter().map(|call| call.under_way).max().unwrap());
        let demand = demanded(&running, of_quota(None, None)).await.unwrap();
        assert_eq!(demand.wants, 12, "it could use all: {demand:?}");
        assert_eq!(demand.thousandths, 0, "it has no rate");
    }
    assert_eq!(most, [1, 4, 2, 12, 12]);
    running.abort().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_begin_than_its_share_of_a_quotas_rate() {
    let bench = bench();
    let numbers = bench.subscribe(&["a", "b"]).await;
    let mock = Mock::taking(MS * 10);
    let running = bench.start(quoted(&mock, &numbers, quota(Some("600/m"), None)));
    running.handle.share(whole_targets()).await.unwrap();
    for number in &numbers {
        bench.append(*number, 10_000).await;
    }
    let in_a_minute = async || {
        let before = mock.count();
        // Not when a token comes: it might just be there, and nothing would lack.
        tokio::time::sleep(SECOND * 60 + MS * 7).await;
        mock.count() - before
    };
    // After the first it waits for a token a minute away, and is called as soon as it may have more.
    for (thousandths, expect) in [(1_000, 1), (200_000, 200), (2_500, 2), (600_000, 600)] {
        demanded(&running, of_quota(None, Some(thousandths))).await;
        let calls = in_a_minute().await;
        let is_right = (expect - expect / 20..=expect + 2).contains(&calls);
        assert!(is_right, "{calls} by {thousandths}");
        let demand = demanded(&running, of_quota(None, None)).await.unwrap();
        assert_eq!(demand.thousandths, 600_000, "it could use all");
    }
    // Of another rate, of which it has been told nothing, it uses the least.
    let plan = quoted(&mock, &numbers, quota(Some("20/s"), None));
    running.handle.reload(plan).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let before = mock.count();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(mock.count() - before, 10);
    running.abort().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_little_under_a_quota_asks_for_little_of_it() {
    let bench = bench();
    let numbers = bench.subscribe(&["a", "b"]).await;
    let mock = Mock::taking(MS * 100);
    let running = bench.start(quoted(&mock, &numbers, quota(Some("60/s"), Some(40))));
    running.handle.share(whole_targets()).await.unwrap();
    demanded(&running, of_quota(Some(20), Some(30_000))).await;
    let mut demands = Vec::new();
    for _ in 0..100 {
        bench.append(numbers[0], 1).await;
        tokio::time::sleep(MS * 50).await;
        demands.extend(demanded(&running, of_quota(None, None)).await);
    }
    let most = demands.iter().map(|demand| demand.wants).max();
    assert_eq!(most, Some(3), "two are under way");
    let most = demands.iter().map(|demand| demand.thousandths).max();
    assert!((20_000..35_000).contains(&most.unwrap()), "{most:?}");
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(demanded(&running, of_quota(None, None)).await, None);
    running.stop().await;
}
