//! Keeping to a share of a target that other nodes use too.

use std::time::Duration;

use pointsman_schemas::{Class, Name, Outcome};

use super::bench::*;
use super::flow::narrow;
use crate::dispatcher::testing::{policy, route};
use crate::dispatcher::{CircuitStatus, Target, TargetDemand, TargetShare};

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.is_one_of_several = true;
    bench
}

fn share(concurrency: Option<usize>, thousandths: Option<u64>) -> TargetShare {
    TargetShare {
        tenant: Name::default_tenant(),
        name: Name::new("t").unwrap(),
        concurrency,
        thousandths,
        is_open_elsewhere: None,
    }
}

async fn told(running: &Running, share: TargetShare) -> Option<TargetDemand> {
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
    for concurrency in [None, Some(4), Some(2), Some(12)] {
        told(&running, share(concurrency, None)).await;
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
        let is_right = (expect - expect / 20..=expect + 1).contains(&calls);
        assert!(is_right, "{calls} by {thousandths}");
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
    let elsewhere = |is_open| TargetShare {
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
