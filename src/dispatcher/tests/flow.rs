//! How much goes out at once: concurrency, rates, fairness, reloads, and what idleness costs.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_schemas::{Backoff, Class, Outcome, SubscriptionNumber};
use tokio::time::Instant;

use super::bench::*;
use crate::dispatcher::policy::Policy;
use crate::dispatcher::testing::{policy, route};
use crate::dispatcher::{Options, Target};

pub(super) fn narrow(target: Target, concurrency: usize) -> Target {
    Target {
        concurrency_max: NonZeroUsize::new(concurrency).unwrap(),
        ..target
    }
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_never_exceeded_and_used() {
    for concurrency in [1, 3, 20] {
        let bench = Bench::new();
        let numbers = bench.subscribe(&["a", "b"]).await;
        let mock = Mock::new(|call| {
            (
                MS * 5 + MS * chance(1, call.event.id(), 20) as u32,
                Outcome::delivered(),
            )
        });
        let routes = numbers
            .iter()
            .map(|number| (*number, route("a", 0, policy())));
        let running = bench.start(plan(vec![narrow(mock.target("t"), concurrency)], routes));
        for number in &numbers {
            bench.append(*number, 300).await;
        }
        bench.drained().await;
        let most = mock.calls.lock().iter().map(|call| call.under_way).max();
        assert_eq!((most, mock.count()), (Some(concurrency), 600));
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_never_exceeded_and_nearly_reached() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS * 20);
    let running = bench.start(plan(
        vec![Target {
            rate: rate("50/s"),
            ..mock.target("t")
        }],
        [(number, route("r", 0, policy()))],
    ));
    let start = Instant::now();
    bench.append(number, 500).await;
    bench.drained().await;
    let times: Vec<_> = mock.calls.lock().iter().map(|call| call.at).collect();
    for (index, from) in times.iter().enumerate() {
        // Timers and the store's answers may bring two a few milliseconds nearer to each other.
        let within = times[index..]
            .iter()
            .take_while(|at| **at < *from + SECOND - MS * 5)
            .count();
        assert!(within <= 50, "{within} within a second");
    }
    assert!(
        *times.last().unwrap() < start + SECOND * 11,
        "{:?}",
        *times.last().unwrap() - start
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_for_nothing_counts_into_no_rate() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS);
    let target = Target {
        rate: rate("1/m"),
        ..mock.target("t")
    };
    let running = bench.start(plan(vec![target], [(number, route("r", 0, policy()))]));
    tokio::time::sleep(SECOND).await;
    let start = Instant::now();
    bench.append(number, 2).await;
    tokio::time::sleep(SECOND * 100).await;
    let times: Vec<_> = mock
        .calls
        .lock()
        .iter()
        .map(|call| (call.at - start).as_secs())
        .collect();
    assert_eq!(times, [0, 60]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_may_be_in_flight_is_bounded_until_it_is_settled() {
    let mut bench = Bench::new();
    bench.options = Options {
        in_flight_max: 10,
        ..bench.options
    };
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(MS);
    let running = bench.start(one(&mock, number));
    bench.append(number, 300).await;
    bench.drained().await;
    let most = bench.journal.in_flight_most.load(Ordering::Relaxed);
    assert!((5..=10).contains(&most), "{most}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn large_events_are_bounded_in_bytes_and_all_arrive() {
    let mut bench = Bench::new();
    bench.options = Options {
        in_flight_bytes_max: 10_000,
        ..bench.options
    };
    let numbers = bench.subscribe(&["a", "b"]).await;
    let mock = Mock::taking(MS);
    let running = bench.start(plan(
        vec![mock.target("t")],
        numbers
            .iter()
            .map(|number| (*number, route("a", 0, policy()))),
    ));
    for id in 0..60 {
        let (number, bytes) = (numbers[id % 2], [100, 3_000, 9_000, 50_000][id % 4]);
        bench.append_sized(number, &id.to_string(), bytes).await;
    }
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(mock.count(), 60);
    running.stop().await;
}

/// Targets that hold what they are given for an hour, with so many events of so many bytes each,
/// and one that answers at once.
async fn beside_hung_targets(holes: usize, events: usize, bytes: usize, small: usize) {
    let bench = Bench::new();
    let names: Vec<String> = (0..=holes).map(|index| format!("r{index}")).collect();
    let numbers = bench
        .subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let (hole, good) = (Mock::taking(HOUR), Mock::taking(MS * 10));
    let policy = Policy::new(HOUR * 2, HOUR * 24, 1, Backoff::new(SECOND, SECOND)).unwrap();
    let targets = names.iter().enumerate().map(|(index, name)| {
        if index < holes {
            hole.target(name)
        } else {
            good.target(name)
        }
    });
    let routes = numbers
        .iter()
        .zip(&names)
        .enumerate()
        .map(|(index, (number, name))| (*number, route(name, index, policy)));
    let running = bench.start(plan(targets.collect(), routes));
    for (index, number) in numbers.iter().take(holes).enumerate() {
        for event in 0..events {
            bench
                .append_sized(*number, &format!("{index}/{event}"), bytes)
                .await;
        }
    }
    tokio::time::sleep(SECOND).await;
    for event in 0..20 {
        let start = Instant::now();
        bench
            .append_sized(numbers[holes], &format!("small/{event}"), small)
            .await;
        while good.count() <= event {
            tokio::time::sleep(MS).await;
            assert!(
                start.elapsed() < MS * 100,
                "{holes} holes with {events} of {bytes} bytes: event {event} waits"
            );
        }
        tokio::time::sleep(MS * 20).await;
    }
    assert!(hole.count() > 0);
    running.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn targets_that_hold_large_events_stop_nobody_else() {
    const KIB: usize = 1024;
    for (holes, events, bytes, small) in [
        (1, 1, 34 * KIB * KIB, KIB),
        (1, 1, 34 * KIB * KIB, 34 * KIB * KIB),
        (1, 1, 200 * KIB * KIB, 60 * KIB * KIB),
        (1, 3, 34 * KIB * KIB, KIB),
        (6, 16, 950 * KIB, KIB),
        (6, 16, 950 * KIB, 950 * KIB),
        (30, 16, 950 * KIB, 950 * KIB),
        (200, 4, 950 * KIB, 4 * KIB),
        (20, 64, 64 * KIB, KIB),
    ] {
        beside_hung_targets(holes, events, bytes, small).await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_larger_than_anything_go_out_one_after_the_other() {
    let mut bench = Bench::new();
    bench.options = Options {
        in_flight_bytes_max: 1_000,
        ..bench.options
    };
    let numbers = bench.subscribe(&["a", "b", "c"]).await;
    let mock = Mock::taking(MS * 10);
    let routes = ["a", "b", "c"]
        .iter()
        .enumerate()
        .map(|(index, rule)| (numbers[index], route(rule, index, policy())));
    let running = bench.start(plan(
        ["t", "u", "v"].map(|name| mock.target(name)).to_vec(),
        routes,
    ));
    for (index, number) in numbers.iter().enumerate() {
        for event in 0..5 {
            bench
                .append_sized(*number, &format!("{index}/{event}"), 5_000)
                .await;
        }
    }
    bench.drained().await;
    let most = mock.calls.lock().iter().map(|call| call.under_way).max();
    assert_eq!((mock.count(), most), (15, Some(1)));
    running.stop().await;
}

/// How long each of a subscription's deliveries waited, beside another one that its target never
/// answers.
async fn beside_a_hung_subscription(concurrency: usize, hangs_after: usize) -> Vec<Duration> {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["hung", "victim"]).await;
    let hung = std::sync::atomic::AtomicUsize::new(0);
    let mock = Mock::new(move |call| match call.rule.as_str() {
        "hung" if hung.fetch_add(1, Ordering::Relaxed) >= hangs_after => {
            (HOUR, Outcome::delivered())
        }
        _ => (MS * 20, Outcome::delivered()),
    });
    let policy = Policy::new(SECOND * 5, HOUR * 24, 4, Backoff::new(SECOND, SECOND)).unwrap();
    let routes = ["hung", "victim"].map(|rule| route(rule, 0, policy));
    let running = bench.start(plan(
        vec![narrow(mock.target("t"), concurrency)],
        numbers.iter().copied().zip(routes),
    ));
    let mut waits = Vec::new();
    for event in 0..300 {
        if event == 20 {
            bench.append(numbers[0], 2_000).await;
            tokio::time::sleep(SECOND).await;
        }
        let (start, before) = (Instant::now(), bench.counts(numbers[1]).await.delivered);
        bench.append(numbers[1], 1).await;
        while bench.counts(numbers[1]).await.delivered == before {
            tokio::time::sleep(MS).await;
        }
        waits.push(start.elapsed());
        tokio::time::sleep(MS * 100).await;
    }
    running.stop.cancel();
    waits
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_hangs_does_not_slow_another_of_its_target() {
    for (concurrency, hangs_after) in [(64, 0), (8, 0), (2, 0), (8, 500), (64, 500)] {
        let mut waits = beside_a_hung_subscription(concurrency, hangs_after).await;
        let mut alone = waits.drain(..20).collect::<Vec<_>>();
        alone.sort();
        waits.sort();
        let (alone, beside) = (alone[19], waits[waits.len() * 99 / 100]);
        assert!(
            beside <= alone * 2,
            "{concurrency} slots, hangs after {hangs_after}: p99 {beside:?} beside it, {alone:?} \
             alone"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_may_use_all_slots_while_the_others_are_idle() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["busy", "idle"]).await;
    let mock = Mock::taking(MS * 200);
    let routes = ["busy", "idle"].map(|rule| route(rule, 0, policy()));
    let running = bench.start(plan(
        vec![narrow(mock.target("t"), 4)],
        numbers.iter().copied().zip(routes),
    ));
    bench.append(numbers[0], 400).await;
    bench.drained().await;
    let full = mock
        .calls
        .lock()
        .iter()
        .filter(|call| call.under_way == 4)
        .count();
    // Of a hundred times four that begin together.
    assert!(full > 80, "{full}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn slow_deliveries_get_no_larger_share_of_a_target_than_quick_ones() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["slow", "quick"]).await;
    let mock = Mock::new(|call| {
        (
            if call.rule.as_str() == "slow" {
                MS * 200
            } else {
                MS * 10
            },
            Outcome::delivered(),
        )
    });
    let routes = ["slow", "quick"].map(|rule| route(rule, 0, policy()));
    let running = bench.start(plan(
        vec![narrow(mock.target("t"), 4)],
        numbers.iter().copied().zip(routes),
    ));
    bench.append(numbers[0], 500).await;
    bench.append(numbers[1], 2_000).await;
    tokio::time::sleep(SECOND * 8).await;
    let calls = tally(mock.calls.lock().iter().map(|call| call.rule.to_string()));
    let (slow, quick) = (calls["slow"] as f64 * 0.2, calls["quick"] as f64 * 0.01);
    assert!(
        (0.35..0.65).contains(&(slow / (slow + quick))),
        "slow {slow} s, quick {quick} s"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_answers_nothing_does_not_slow_another() {
    let mut bench = Bench::new();
    bench.options = Options {
        in_flight_max: 16,
        ..bench.options
    };
    let names: Vec<String> = (0..20).map(|index| format!("r{index}")).collect();
    let numbers = bench
        .subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let (hole, good) = (Mock::taking(HOUR), Mock::taking(MS));
    let targets: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            if index < 4 {
                hole.target(name)
            } else {
                good.target(name)
            }
        })
        .collect();
    let routes = numbers
        .iter()
        .zip(&names)
        .enumerate()
        .map(|(index, (number, name))| (*number, route(name, index, policy())));
    let running = bench.start(plan(targets, routes));
    for number in &numbers {
        bench.append(*number, 20).await;
    }
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(
        good.count(),
        16 * 20,
        "the holes have {} calls",
        hole.count()
    );
    running.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_target_that_got_less_than_it_may_take_gets_the_rest_when_others_end() {
    let mut bench = Bench::new();
    bench.options = Options {
        in_flight_max: 20,
        ..bench.options
    };
    let numbers = bench.subscribe(&["first", "long"]).await;
    let (first, long) = (Mock::taking(MS * 800), Mock::taking(HOUR));
    let policy = Policy::new(HOUR * 2, HOUR * 24, 1, Backoff::new(SECOND, SECOND)).unwrap();
    let routes = numbers
        .iter()
        .zip(["first", "long"])
        .enumerate()
        .map(|(index, (number, rule))| (*number, route(rule, index, policy)));
    let running = bench.start(plan(vec![first.target("t"), long.target("u")], routes));
    bench.append(numbers[0], 8).await;
    tokio::time::sleep(MS * 100).await;
    bench.append(numbers[1], 8).await;
    tokio::time::sleep(MS * 100).await;
    // Of the twelve that are left five are for those that hold few.
    assert_eq!((first.count(), long.count()), (8, 4));
    tokio::time::sleep(MS * 700).await;
    assert_eq!(long.count(), 8);
    running.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_idle_subscriptions_cost_nothing() {
    let bench = Bench::new();
    let names: Vec<String> = (0..10_000).map(|index| format!("r{index}")).collect();
    // The journal in memory looks at every subscription each time: it is given the few that are
    // used.
    let used = bench.subscribe(&["used"]).await[0];
    let mock = Mock::taking(MS);
    let idle = names.iter().enumerate().map(|(index, name)| {
        (
            SubscriptionNumber(index as u32 + 100),
            route(name, index, policy()),
        )
    });
    let routes = idle.chain([(used, route("used", 0, policy()))]);
    let running = bench.start(plan(
        names.iter().map(|name| mock.target(name)).collect(),
        routes,
    ));
    tokio::time::sleep(SECOND * 5).await;
    let (leases, grants) = (
        bench.journal.leases.load(Ordering::Relaxed),
        bench.journal.grants.load(Ordering::Relaxed),
    );
    assert_eq!(
        grants, 10_001,
        "each is asked for once, since the dispatcher cannot know what it has"
    );
    for _ in 0..10 {
        bench.append(used, 1).await;
        tokio::time::sleep(SECOND * 5).await;
    }
    let (leases, grants) = (
        bench.journal.leases.load(Ordering::Relaxed) - leases,
        bench.journal.grants.load(Ordering::Relaxed) - grants,
    );
    assert!(
        leases <= 20 && grants <= 20,
        "{leases} leases with {grants} grants for ten events"
    );
    assert_eq!(mock.count(), 10);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_detached_subscription_waits_and_goes_on_when_it_returns() {
    let bench = Bench::new();
    let numbers = bench.subscribe(&["a", "b"]).await;
    let mock = Mock::taking(MS * 100);
    let both = || {
        numbers
            .iter()
            .zip(["a", "b"])
            .map(|(number, rule)| (*number, route(rule, 0, policy())))
    };
    let running = bench.start(plan(vec![narrow(mock.target("t"), 2)], both()));
    bench.append(numbers[0], 20).await;
    bench.append(numbers[1], 20).await;
    tokio::time::sleep(MS * 250).await;
    assert_eq!(bench.subscribe(&["b"]).await, [numbers[1]]);
    running
        .handle
        .reload(plan(vec![narrow(mock.target("t"), 2)], both().skip(1)))
        .await
        .unwrap();
    tokio::time::sleep(SECOND * 60).await;
    let (a, b) = (
        bench.counts(numbers[0]).await,
        bench.counts(numbers[1]).await,
    );
    assert_eq!((b.delivered, a.in_flight), (20, 0));
    assert!((1..10).contains(&a.delivered), "{a:?}");
    // What is appended while it is away, and what was left, goes out when it is back.
    assert_eq!(bench.subscribe(&["a", "b"]).await, numbers);
    running
        .handle
        .reload(plan(vec![narrow(mock.target("t"), 2)], both()))
        .await
        .unwrap();
    bench.drained().await;
    assert_eq!(bench.counts(numbers[0]).await.delivered, 20);
    assert_eq!(tally(mock.ids(Class::Delivered)).values().max(), Some(&1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_new_subscriptions_are_asked_for_bit_by_bit_and_all_of_them() {
    let bench = Bench::new();
    let names: Vec<String> = (0..500).map(|number| format!("r{number}")).collect();
    let numbers = bench
        .subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let mock = Mock::taking(MS);
    let running = bench.start(plan(vec![mock.target("t")], []));
    for number in &numbers {
        bench.append(*number, 1).await;
    }
    // What the journal tells of them now, nobody takes note of.
    tokio::time::sleep(SECOND).await;
    let all = |keep: usize| {
        let routes = numbers
            .iter()
            .zip(&names)
            .take(keep)
            .map(|(number, rule)| (*number, route(rule, 0, policy())));
        plan(vec![mock.target("t")], routes.collect::<Vec<_>>())
    };
    let grants = bench.journal.grants.load(Ordering::Relaxed);
    running.handle.reload(all(400)).await.unwrap();
    assert!(
        bench.journal.grants.load(Ordering::Relaxed) - grants <= 64,
        "the first of them only"
    );
    // A reload in between forgets none, and those that are gone again do no harm.
    running.handle.reload(all(300)).await.unwrap();
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(mock.count(), 300);
    running.handle.reload(all(500)).await.unwrap();
    bench.drained().await;
    assert_eq!(
        tally(mock.ids(Class::Delivered))
            .values()
            .copied()
            .collect::<Vec<_>>(),
        [1; 500]
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_was_learned_of_an_unchanged_target_and_finishes_what_is_under_way() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let (old, new) = (Mock::taking(MS * 10), Mock::taking(MS * 10));
    let running = bench.start(one(&old, number));
    bench.append(number, 2_000).await;
    tokio::time::sleep(MS * 600).await;
    let learned = running.handle.status().targets[0].limit;
    assert!(learned > 12, "{learned}");
    running.handle.reload(one(&new, number)).await.unwrap();
    let kept = running.handle.status().targets[0].clone();
    assert!(kept.limit >= learned && kept.in_flight > 0, "{kept:?}");
    let changed = Target {
        fingerprint: 1,
        ..new.target("t")
    };
    running
        .handle
        .reload(plan(vec![changed], [(number, route("r", 0, policy()))]))
        .await
        .unwrap();
    assert_eq!(running.handle.status().targets[0].limit, 8);
    bench.drained().await;
    assert_eq!(
        (
            bench.counts(number).await.delivered,
            old.count() + new.count()
        ),
        (2_000, 2_000)
    );
    assert!(new.count() > 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_under_load_loses_nothing() {
    for seed in 0..10 {
        let bench = Bench::new();
        let numbers = bench.subscribe(&["a", "b", "c"]).await;
        let mock = Mock::taking(MS * 7);
        let routes = |skip: usize| {
            let all = numbers.iter().zip(["a", "b", "c"]).enumerate();
            let kept = all.filter(move |(index, _)| *index != skip);
            kept.map(|(index, (number, rule))| (*number, route(rule, index % 2, policy())))
                .collect::<Vec<_>>()
        };
        let targets = || vec![mock.target("t"), narrow(mock.target("u"), 3)];
        let running = bench.start(plan(targets(), routes(9)));
        for round in 0..30_u64 {
            for number in &numbers {
                bench.append(*number, 5).await;
            }
            let text = round.to_string();
            tokio::time::sleep(MS * chance(seed, &text, 20) as u32).await;
            let fingerprint = chance(seed + 2, &text, 2);
            let targets = targets()
                .into_iter()
                .map(|target| Target {
                    fingerprint,
                    ..target
                })
                .collect();
            running
                .handle
                .reload(plan(targets, routes(chance(seed + 1, &text, 4) as usize)))
                .await
                .unwrap();
        }
        running
            .handle
            .reload(plan(targets(), routes(9)))
            .await
            .unwrap();
        bench.drained().await;
        assert_eq!(mock.count(), 450, "seed {seed}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_simulated_target_gets_its_capacity_and_is_not_flooded_when_it_shrinks() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let capacity = |capacity: usize| {
        move |call: &Call| match call.under_way <= capacity {
            true => (MS * 100, Outcome::delivered()),
            false => (MS, Outcome::new(Class::Throttled, "busy")),
        }
    };
    let mock = Mock::new(capacity(10));
    let running = bench.start(one(&mock, number));
    bench.append(number, 900).await;
    let delivered = || mock.ids(Class::Delivered).len();
    tokio::time::sleep(SECOND * 5).await;
    assert!(delivered() >= 425, "{} of 500", delivered());
    mock.becomes(capacity(2));
    tokio::time::sleep(SECOND).await;
    let (before, now) = (delivered(), Instant::now());
    tokio::time::sleep(SECOND * 5).await;
    let calls = mock.calls.lock().clone();
    let most = calls
        .iter()
        .filter(|call| call.at > now)
        .map(|call| call.under_way)
        .max();
    assert!(most <= Some(3), "{most:?} under way");
    assert!(
        delivered() - before >= 60,
        "{} of 100",
        delivered() - before
    );
    mock.becomes(capacity(10));
    tokio::time::sleep(SECOND).await;
    let before = delivered();
    tokio::time::sleep(SECOND * 2).await;
    assert!(
        delivered() - before >= 150,
        "{} of 200 after recovery",
        delivered() - before
    );
    running.stop.cancel();
}

/// A target that serves so many calls at a time, each as long as it likes, and the others in turn.
fn serving(capacity: usize) -> impl Fn(&Call) -> (Duration, Outcome) {
    move |call| {
        let crowd = call.under_way.max(capacity) as f64 / capacity as f64;
        let took = MS * (50 + chance(1, call.event.id(), 100)) as u32;
        (took.mul_f64(crowd), Outcome::delivered())
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_drains_at_full_speed_soon_after_an_outage_and_is_no_storm() {
    for (class, lasts) in [
        (Class::Unavailable, 60),
        (Class::Unavailable, 100),
        (Class::Throttled, 60),
    ] {
        let mut bench = Bench::new();
        bench.options.seed = lasts;
        let number = bench.subscribe(&["r"]).await[0];
        let mock = Mock::new(serving(10));
        let running = bench.start(plan(
            vec![mock.target("t")],
            [(number, route("r", 0, attempts(20)))],
        ));
        bench.append(number, 500).await;
        bench.drained().await;
        let limit = running.handle.status().targets[0].limit;
        mock.becomes(move |_| (MS, Outcome::new(class, "away")));
        bench.append(number, 5_000).await;
        tokio::time::sleep(SECOND * u32::try_from(lasts).unwrap()).await;
        mock.becomes(serving(10));
        let is_back = Instant::now();
        tokio::time::sleep(SECOND * 5).await;
        let before = mock.ids(Class::Delivered).len();
        tokio::time::sleep(SECOND * 10).await;
        // A tenth of a second each, ten at a time.
        let delivered = mock.ids(Class::Delivered).len() - before;
        assert!(
            delivered >= 800,
            "{class:?}, {lasts} s: {delivered} of 1000"
        );
        let calls = mock.calls.lock();
        let most = calls.iter().filter(|call| call.at > is_back);
        let most = most.map(|call| call.under_way).max().unwrap();
        assert!(
            most <= limit.max(25),
            "{class:?}: {most} at once, {limit} before"
        );
        drop(calls);
        running.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttling_target_is_not_hammered() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::new(|_| {
        (
            MS,
            Outcome {
                retry_after: Some(Duration::from_secs(2)),
                ..Outcome::new(Class::Throttled, "")
            },
        )
    });
    let running = bench.start(one(&mock, number));
    bench.append(number, 500).await;
    tokio::time::sleep(SECOND * 60).await;
    assert!(mock.count() <= 60, "{} calls in a minute", mock.count());
    running.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn no_attempt_outlives_the_dispatcher() {
    let bench = Bench::new();
    let number = bench.subscribe(&["r"]).await[0];
    let mock = Mock::taking(Duration::from_secs(20));
    let under_way = || mock.under_way.load(Ordering::Relaxed);
    let running = bench.start(one(&mock, number));
    bench.append(number, 3).await;
    let until = async |count| {
        for _ in 0..1_000 {
            if under_way() == count {
                return;
            }
            tokio::time::sleep(MS).await;
        }
        panic!("{} attempts are under way, and not {count}", under_way());
    };
    until(3).await;
    running.abort().await;
    until(0).await;
}
