//! Commands, as sources and as targets, over the end of the bus.

use std::collections::BTreeSet;

use pointsman_integration_tests::bus::signal;
use pointsman_integration_tests::{Bus, Caller, Sink, until};

/// Prints numbers from behind its cursor on, with a cursor line behind every tenth.
const COUNT: &str = "#!/bin/sh
n=${POINTSMAN_CURSOR:-0}
while [ $n -lt 600 ]; do
  n=$((n + 1)); echo \"{\\\"n\\\": $n}\"
  [ $((n % 10)) -ne 0 ] || echo \"{\\\"pointsman_cursor\\\": $n}\"
  [ $((n % 4)) -ne 0 ] || sleep 0.01
done
";

#[tokio::test]
async fn a_bus_that_is_killed_between_two_cursor_lines_loses_nothing_of_what_a_command_prints() {
    let sink = Sink::start().await;
    let mut bus = Bus::prepare(&format!(
        "sources:\n  numbers: {{ exec: {{ command: [sh, ./count.sh], cursor: json, restart: on-failure }} }}\ntargets:\n  function: {{ http: {{ url: \"{}\" }} }}\nrules:\n  all: {{ from: numbers, to: function }}\n",
        sink.url()
    ));
    std::fs::write(bus.path("count.sh"), COUNT).unwrap();
    for enough in [60, 170, 290, 430] {
        bus.spawn();
        bus.ready().await;
        until("some have come", async || sink.ids().len() >= enough).await;
        bus.kill();
    }
    bus.spawn();
    bus.ready().await;
    let numbers = || -> BTreeSet<u64> {
        let number = |body: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(body).unwrap()["n"]
                .as_u64()
                .unwrap()
        };
        sink.received()
            .iter()
            .map(|one| number(&one.body))
            .collect()
    };
    until("all have come", async || numbers().len() == 600).await;
    assert_eq!(
        (numbers().first(), numbers().last()),
        (Some(&1), Some(&600))
    );
    assert_eq!(
        sink.ids().len(),
        600,
        "what was printed again had the id that it had"
    );
    assert_eq!(bus.source("numbers").await["guarantee"], "at-least-once");
}

#[tokio::test]
async fn what_a_command_prints_until_the_bus_has_stopped_is_taken_in() {
    let sink = Sink::start().await;
    let mut bus = Bus::prepare(&format!(
        "sources:\n  feed: {{ exec: {{ command: [sh, -c, \"trap 'sleep 0.3; echo last; exit' TERM; echo first; while :; do sleep 0.02; done\"] }} }}\ntargets:\n  function: {{ http: {{ url: \"{}\" }} }}\nrules:\n  all: {{ from: feed, to: function }}\n",
        sink.url()
    ));
    let heard = |text: &str| {
        sink.received()
            .iter()
            .any(|one| &one.body[..] == text.as_bytes())
    };
    bus.spawn();
    bus.ready().await;
    until("it has begun", async || heard("first")).await;
    assert!(bus.terminate().await.success());
    bus.spawn();
    bus.ready().await;
    until("its last words have come", async || heard("last")).await;
}

/// What the commands of a target did, in order; panics where two of them ran side by side.
fn trace(bus: &Bus) -> Vec<String> {
    let trace: Vec<String> = std::fs::read_to_string(bus.path("trace"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    let mut running = 0;
    for line in &trace {
        running += if line.starts_with("begin") { 1 } else { -1 };
        assert!(
            (0..=1).contains(&running),
            "one runs beside another: {trace:?}"
        );
    }
    trace
}

/// Runs until `go` is there, and takes its time after SIGTERM.
const SLOW: &str = "#!/bin/sh
# A shell says that what it waited for was killed, which kills it, too, where nobody reads that any more.
exec 2> /dev/null
trap 'sleep 1.5; echo \"end $CE_ID\" >> trace; exit 1' TERM
echo \"begin $CE_ID\" >> trace
while [ ! -e go ]; do sleep 0.02; done
echo \"end $CE_ID\" >> trace
";

#[tokio::test]
async fn after_a_kill_of_the_bus_no_command_runs_beside_one_that_it_left() {
    for delivery in [
        "concurrency: { max: 1 }",
        "order_by: $.data.key, concurrency: { max: 8 }",
    ] {
        let (on_target, on_rule) = if delivery.starts_with("order_by") {
            ("concurrency: { max: 8 }", "order_by: $.data.key")
        } else {
            (delivery, "")
        };
        let mut bus = Bus::prepare(&format!(
            "targets:\n  slow: {{ exec: {{ command: [sh, ./slow.sh] }}, delivery: {{ {on_target}, retry: {{ backoff: {{ initial: 10ms, max: 10ms }} }} }} }}\nrules:\n  all: {{ to: slow, delivery: {{ {on_rule} }} }}\n"
        ));
        std::fs::write(bus.path("slow.sh"), SLOW).unwrap();
        bus.spawn();
        bus.ready().await;
        for id in ["a", "b"] {
            assert_eq!(
                Caller::new()
                    .event(&bus.url("/events"), id, "t", r#"{"key":"k"}"#)
                    .await
                    .unwrap(),
                202
            );
        }
        // Twice, so that what the second life started is found, too.
        for begun in [1, 2] {
            until("one has begun", async || {
                trace(&bus)
                    .iter()
                    .filter(|line| line.starts_with("begin"))
                    .count()
                    == begun
            })
            .await;
            bus.kill();
            bus.spawn();
            bus.ready().await;
        }
        until("the last of the old ones has ended", async || {
            trace(&bus)
                .iter()
                .filter(|line| line.starts_with("end"))
                .count()
                >= 2
        })
        .await;
        std::fs::write(bus.path("go"), "").unwrap();
        until("both are done", async || {
            bus.counts("all").await["delivered"] == 2
        })
        .await;
        let trace = trace(&bus);
        assert!(
            trace.ends_with(&["begin b".into(), "end b".into()]) || on_rule.is_empty(),
            "in order: {trace:?}"
        );
        assert_eq!(
            trace
                .iter()
                .filter(|line| line.starts_with("begin"))
                .count(),
            4,
            "{trace:?}"
        );
    }
}

#[tokio::test]
async fn a_command_of_a_source_that_a_killed_bus_left_ends_before_the_next_begins() {
    let script = "exec 2> /dev/null; trap 'sleep 1; echo end >> trace; exit 1' TERM; echo begin >> trace; echo line; while :; do sleep 0.02; done";
    let mut bus = Bus::prepare(&format!(
        "sources:\n  feed: {{ exec: {{ command: [sh, -c, \"{script}\"] }} }}\ntargets:\n  console: {{ stdout: {{}} }}\nrules:\n  all: {{ from: feed, to: console }}\n"
    ));
    bus.spawn();
    bus.ready().await;
    until("it has begun", async || trace(&bus).len() == 1).await;
    bus.kill();
    bus.spawn();
    bus.ready().await;
    until("the next has begun", async || trace(&bus).len() == 3).await;
    // A second stop while the first goes on hastens it, and leaves nothing either.
    signal(bus.pid(), "TERM");
    assert!(bus.terminate().await.code().is_some());
    until("nothing is left of it", async || {
        let left = std::process::Command::new("pgrep")
            .args(["-f", &script[..40]])
            .output()
            .unwrap();
        !String::from_utf8_lossy(&left.stdout).lines().any(|pid| {
            let cwd = std::fs::read_link(format!("/proc/{}/cwd", pid.trim()));
            cwd.is_ok_and(|cwd| cwd == bus.path("").canonicalize().unwrap())
        })
    })
    .await;
}
