use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, Outcome, Replies, json};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use super::function::outcome;
use super::process::CommandOutput;
use super::settings::Output;
use super::*;
use crate::process::INHERITED;
use crate::suite::{Received, TargetFixture, attempt, context, event, targets};
use crate::{Attempt, TargetSettings};

fn target(settings: Value) -> ExecTarget {
    serde_json::from_value(settings).unwrap()
}

fn shell(script: &str) -> ExecTarget {
    target(json!({ "command": ["sh", "-c", script] }))
}

async fn run(target: &ExecTarget) -> Outcome {
    run_with(target, attempt(&["1"], 0)).await
}

async fn run_with(target: &ExecTarget, attempt: Attempt) -> Outcome {
    let mut outcomes = target
        .open(context())
        .await
        .unwrap()
        .oneshot(attempt)
        .await
        .unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

/// Waits until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed().as_secs() < 60, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A zombie still has its number, so this also tells whether it was waited for.
fn is_gone(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    test_kill_process(Pid::from_raw(pid).unwrap()).is_err()
}

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "exec";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        let script = r#"printf '%s %s %s %s\n' "$CE_ID" "$TRACEPARENT" "$1" "$TEXT" >> received"#;
        json!({ "command": ["sh", "-c", script, "function", "<$.id>"], "env": { "TEXT": "<$.id>" }, "cwd": self.folder.path() })
    }

    async fn received(&self) -> Vec<Received> {
        let received = std::fs::read_to_string(self.path("received")).unwrap_or_default();
        let line = |line: &str| {
            let mut resolved_command = line.split(' ').map(str::to_owned);
            Received {
                id: resolved_command.next().unwrap(),
                trace: resolved_command.next(),
                texts: resolved_command.collect(),
            }
        };
        received.lines().map(line).collect()
    }

    fn stalling(&self) -> Option<Value> {
        // A group of three, of which two do not care for SIGTERM.
        let script = "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > leader; (trap - TERM; \
                      exec sleep 1000) & echo $! > polite; touch begun; wait; wait; sleep 1000";
        Some(json!({ "command": ["sh", "-c", script], "cwd": self.folder.path() }))
    }

    async fn begun(&self) {
        until(|| self.path("begun").exists()).await;
    }

    async fn abandoned(&self) {
        until(|| {
            ["leader", "child", "polite"]
                .iter()
                .all(|name| is_gone(&self.path(name)))
        })
        .await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "command": [] }), "command"),
            (json!({ "command": [""] }), "command[0]"),
            (json!({ "command": ["<$.data.program>"] }), "command[0]"),
            (json!({ "command": ["a", "b\u{0}"] }), "command[1]"),
            (
                json!({ "command": ["a"], "env": { "CE_ID": "x" } }),
                "env.CE_ID",
            ),
            (
                json!({ "command": ["a"], "env": { "POINTSMAN_TASK": "x" } }),
                "env.POINTSMAN_TASK",
            ),
            (
                json!({ "command": ["a"], "env": { "A=B": "x" } }),
                "env.A=B",
            ),
            (
                json!({ "command": ["a"], "env": { "A": "x\u{0}" } }),
                "env.A",
            ),
        ]
    }
}

#[tokio::test]
async fn conforms() {
    targets(&Fixture {
        folder: tempfile::tempdir().unwrap(),
    })
    .await;
}

#[tokio::test]
async fn the_exit_decides_the_class() {
    for (script, class, code, message) in [
        ("exit 0", Class::Delivered, Some(0), ""),
        ("exit 75", Class::Throttled, Some(75), "exited with 75"),
        ("exit 64", Class::Rejected, Some(64), "exited with 64"),
        (
            "echo no such key >&2; echo >&2; exit 65",
            Class::Rejected,
            Some(65),
            "exited with 65: no such key",
        ),
        ("exit 1", Class::Failed, Some(1), "exited with 1"),
        (
            "printf 'a\\nb\\033[31m\\rc' >&2; exit 127",
            Class::Failed,
            Some(127),
            "exited with 127: b[31mc",
        ),
        ("kill -9 $$", Class::Failed, None, "killed by signal 9"),
    ] {
        let outcome = run(&shell(script)).await;
        assert_eq!(
            (outcome.class, outcome.code, outcome.message.as_str()),
            (class, code, message),
            "{script}"
        );
    }
    let stopped = CommandOutput {
        status: std::process::ExitStatus::from_raw(0x137f),
        stdout: Default::default(),
        stderr: Default::default(),
    };
    assert_eq!(outcome(stopped, Output::Text).class, Class::Failed);
}

#[tokio::test]
async fn what_cannot_start_is_unavailable_and_what_an_event_makes_impossible_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    for settings in [
        json!({ "command": ["no-such-program-anywhere"] }),
        json!({ "command": ["./plain"], "cwd": folder.path() }),
        json!({ "command": ["true"], "cwd": folder.path().join("missing") }),
    ] {
        let outcome = run(&target(settings.clone())).await;
        assert_eq!(outcome.class, Class::Unavailable, "{settings}: {outcome:?}");
        assert!(
            outcome.message.starts_with("cannot start "),
            "{}",
            outcome.message
        );
    }
    let echo = target(json!({ "command": ["true", "<$.id>"] }));
    for text in ["a\0b".to_owned(), "x".repeat(1 << 20)] {
        let mut attempt = attempt(&["1"], 1);
        attempt.deliveries[0].texts = vec![text];
        assert_eq!(run_with(&echo, attempt).await.class, Class::Rejected);
    }
}

#[tokio::test]
async fn the_event_is_on_standard_input_and_its_attributes_in_the_environment() {
    let print = |input: &str| target(json!({ "command": ["cat"], "input": input }));
    let mut structured = Vec::new();
    json::encode(&event("1"), &mut structured);
    assert_eq!(run(&print("structured")).await.response, structured);
    assert_eq!(
        &run(&print("data")).await.response,
        event("1").data().unwrap().bytes()
    );

    let outcome = run(&target(
        json!({ "command": ["env"], "env": { "OWN": "a b" } }),
    ))
    .await;
    let text = String::from_utf8(outcome.response.to_vec()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for expect in [
        "CE_SPECVERSION=1.0",
        "CE_ID=1",
        "CE_SOURCE=/suite",
        "CE_TYPE=com.example.suite",
        "CE_SUBJECT=a subject",
        "CE_DATACONTENTTYPE=application/json",
        "CE_EXT=ü",
        "POINTSMAN_TASK=0000000000000001-2-3-0",
        "POINTSMAN_ATTEMPT=1",
        "POINTSMAN_RULE=rule",
        "POINTSMAN_DEADLINE=2027-01-15T08:00:00Z",
        "OWN=a b",
    ] {
        assert!(lines.contains(&expect), "{expect} in {text}");
    }
    let known = |name: &str| {
        INHERITED.contains(&name)
            || name.starts_with("CE_")
            || name.starts_with("POINTSMAN_")
            || ["OWN", "TRACEPARENT"].contains(&name)
    };
    assert!(
        lines
            .iter()
            .all(|line| known(line.split('=').next().unwrap())),
        "nothing else is handed on: {text}"
    );
}

#[tokio::test]
async fn a_command_that_reads_nothing_and_one_that_prints_much_neither_fail_nor_hang() {
    let mut large = attempt(&["1"], 0);
    let data = pointsman_schemas::Data::binary(vec![b'x'; 1 << 20].into());
    large.deliveries[0].event = Arc::new(
        event("1")
            .into_builder()
            .datacontenttype("text/plain")
            .data(data)
            .build()
            .unwrap(),
    );
    assert_eq!(
        run_with(&shell("exit 0"), large.clone()).await.class,
        Class::Delivered
    );
    assert_eq!(
        run_with(&shell("exec <&-; sleep 0.05"), large.clone())
            .await
            .class,
        Class::Delivered
    );

    let outcome = run_with(
        &shell("cat; cat /dev/zero | head -c 300000 | tr '\\0' y; echo; printf end"),
        large,
    )
    .await;
    assert_eq!(outcome.class, Class::Delivered);
    assert_eq!(
        outcome.response.len(),
        pointsman_schemas::outcome::RESPONSE_BYTES_MAX
    );
    assert!(outcome.response.ends_with(b"yy\nend"));
}

#[tokio::test]
async fn what_a_command_leaves_in_its_group_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let leave = json!({ "command": ["sh", "-c", "sleep 1000 & echo $! > left; echo done"], "cwd": folder.path() });
    let outcome = run(&target(leave)).await;
    assert_eq!(
        (outcome.class, &outcome.response[..]),
        (Class::Delivered, &b"done\n"[..])
    );
    // Nobody but init can reap it, so it may be a zombie for a moment.
    until(|| {
        let pid = std::fs::read_to_string(folder.path().join("left")).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        state.map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

#[tokio::test]
async fn an_event_on_standard_output_goes_back_onto_the_bus_if_it_is_asked_for() {
    let output =
        |script: &str| target(json!({ "command": ["sh", "-c", script], "output": "event" }));
    assert_eq!(
        run(&output("cat")).await.replies,
        Some(Box::new(Replies::one(event("1"))))
    );
    assert_eq!(run(&shell("cat")).await.replies, None);
    let empty = run(&output("echo")).await;
    assert_eq!(
        (empty.class, empty.replies, empty.message.as_str()),
        (Class::Delivered, None, "")
    );
    for script in [
        "echo '{}'",
        "cat; cat /dev/zero | head -c 100000 | tr '\\0' ' '",
    ] {
        let broken = run(&output(script)).await;
        let replies = broken.replies.unwrap();
        assert_eq!(
            (broken.class, replies.events.len(), replies.unreadable.len()),
            (Class::Delivered, 0, 1),
            "{script}"
        );
        assert!(!replies.unreadable[0].raw.is_empty(), "{script}");
        assert!(
            broken
                .message
                .starts_with("its standard output is no CloudEvent: "),
            "{}",
            broken.message
        );
    }
    assert_eq!(run(&output("cat; exit 1")).await.replies, None);
}

#[tokio::test]
async fn a_missing_variable_is_told_when_it_opens() {
    let target = target(
        json!({ "command": ["true"], "env": { "A": { "env": "POINTSMAN_NO_SUCH_VARIABLE" } } }),
    );
    assert_eq!(target.check(), []);
    let error = target.open(context()).await.err().unwrap();
    assert!(error.to_string().starts_with("env.A: "), "{error}");
}

#[tokio::test]
async fn files_of_its_environment_and_arguments_are_read_again_once_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        // As who rotates secrets does it: a new file in the place of the old one.
        std::fs::write(folder.path().join("draft"), text).unwrap();
        std::fs::rename(folder.path().join("draft"), folder.path().join(name)).unwrap();
    };
    write("token", "one\n");
    write("word", "a");
    let file = |name: &str| json!({ "file": folder.path().join(name) });
    let target = target(
        json!({ "command": ["sh", "-c", "printf '%s %s' $TOKEN $1", "sh", file("word")], "env": { "TOKEN": file("token") } }),
    );
    assert!(!target.files().is_empty());
    let mut service = target.open(context()).await.unwrap();
    let mut printed = async || {
        let outcomes = service
            .ready()
            .await
            .unwrap()
            .call(attempt(&["1"], 0))
            .await
            .unwrap();
        assert_eq!(outcomes[0].class, Class::Delivered, "{outcomes:?}");
        String::from_utf8(outcomes[0].response.to_vec()).unwrap()
    };
    assert_eq!(printed().await, "one a");
    write("token", "two\n");
    assert_eq!(printed().await, "two a");
    write("word", "b");
    assert_eq!(printed().await, "two b");
    std::fs::remove_file(folder.path().join("token")).unwrap();
    assert_eq!(
        printed().await,
        "two b",
        "what was there last, until it is there again"
    );
    write("token", "three");
    assert_eq!(printed().await, "three b");
}

#[tokio::test]
async fn an_attempt_whose_time_is_over_ends_with_the_last_of_its_group() {
    // The command ends at once; what it started takes its time, and outlives SIGTERM altogether in
    // the second case.
    for (trap, least, most) in [("sleep 0.7; exit", 0.6, 1.9), ("", 1.9, 5.0)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("running");
        let script = format!(
            "(trap '{trap}' TERM; touch {}; while :; do sleep 0.05; done) & sleep 60",
            file.display()
        );
        let attempt = attempt(&["1"], 0);
        let end = attempt.end.clone();
        let target = shell(&script);
        let running = tokio::spawn(async move {
            target
                .open(context())
                .await
                .unwrap()
                .oneshot(attempt)
                .await
                .unwrap()
                .remove(0)
        });
        until(|| file.exists()).await;
        let start = tokio::time::Instant::now();
        assert!(end.tell(), "it sees to its end itself");
        running.await.unwrap();
        let took = start.elapsed().as_secs_f64();
        assert!((least..most).contains(&took), "{took} s with {trap:?}");
        let left = std::process::Command::new("pgrep")
            .args(["-f", &file.display().to_string()])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&left.stdout),
            "",
            "nothing of it runs"
        );
    }
}

#[tokio::test]
async fn what_an_earlier_life_left_behind_is_ended_before_the_next_command() {
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    let owner = format!(
        "{}/{} of {}",
        context().tenant,
        context().name,
        std::env::current_dir().unwrap().display()
    );
    let session = crate::process::group::this_bus()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    // The process of the earlier life has another beginning than whoever has its number now.
    let start = |owner: &str, bus: &str| {
        let mut command = std::process::Command::new("sleep");
        command
            .arg("60")
            .env("POINTSMAN_OWNER", owner)
            .env("POINTSMAN_BUS", bus)
            .process_group(0);
        command.spawn().unwrap()
    };
    let own = crate::process::group::this_bus();
    let mut orphan = start(&owner, &format!("1:999999999999:{session}"));
    let mut others = [
        start("somebody else", &format!("1:999999999999:{session}")),
        start(&owner, &own),
        start(&owner, "1:999999999999:1"),
    ];
    let outcome = run(&shell(&format!(
        "ps -o stat= -p {} > {}/seen || :",
        orphan.id(),
        folder.path().display()
    )))
    .await;
    assert_eq!(outcome.class, Class::Delivered, "{outcome:?}");
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    assert!(
        seen.is_empty() || seen.starts_with('Z'),
        "it runs beside the command: {seen}"
    );
    assert!(orphan.wait().unwrap().signal().is_some());
    for other in &mut others {
        assert!(
            other.try_wait().unwrap().is_none(),
            "it is none of this target's"
        );
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
