use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::{Clock, Cursor, DataKind, Event, Name, SystemClock};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::commands::BATCH_MESSAGES_MAX;
use super::*;
use crate::listener::Routes;
use crate::suite::{SourceFixture, next_within, sources};
use crate::{Arrival, Batch, Link, Message};

/// Follows a file and says behind each line how far it is.
const FOLLOW: &str = r#"number=${POINTSMAN_CURSOR:-0}; tail -n +$((number + 1)) -F lines 2>/dev/null | while IFS= read -r line; do
  number=$((number + 1)); printf '%s\n{"pointsman_cursor": %s}\n' "$line" "$number"; done"#;

struct Fixture {
    folder: tempfile::TempDir,
    collected: usize,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lines"), "").unwrap();
        Self {
            folder,
            collected: 0,
        }
    }

    fn append(&self, text: &str) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(self.folder.path().join("lines"))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "exec";

    fn settings(&self) -> Value {
        json!({ "command": ["sh", "-c", FOLLOW], "cwd": self.folder.path(), "cursor": "json", "max_line": "1KiB" })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let lines: Vec<String> = (self.collected..self.collected + count)
            .map(|n| format!("{{\"line\": {n}}}"))
            .collect();
        self.append(&format!("{}\n", lines.join("\n")));
        self.collected += count;
        lines
    }

    fn identity(&self, event: &Event) -> String {
        assert_eq!((event.ty(), event.source()), (LINE_TYPE, "/exec/suite"));
        String::from_utf8(event.data().unwrap().bytes().to_vec()).unwrap()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        self.append(&format!("{}\n", "y".repeat(3_000)));
        self.collected += 1;
        Some(Bytes::from("y".repeat(1_024)))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "command": [] }), "command"),
            (json!({ "command": [""] }), "command[0]"),
            (json!({ "command": ["a", "<$.id>"] }), "command[1]"),
            (json!({ "command": ["a", "b\u{0}"] }), "command[1]"),
            (
                json!({ "command": ["a"], "env": { "POINTSMAN_CURSOR": "x" } }),
                "env.POINTSMAN_CURSOR",
            ),
            (
                json!({ "command": ["a"], "env": { "A": "<$.id>" } }),
                "env.A",
            ),
            (json!({ "command": ["a"], "cwd": "" }), "cwd"),
            (
                json!({ "command": ["a"], "restart": { "every": "0s" } }),
                "restart.every",
            ),
            (
                json!({ "command": ["a"], "cursor": { "prefix": "" } }),
                "cursor.prefix",
            ),
            (json!({ "command": ["a"], "max_line": "0B" }), "max_line"),
            (json!({ "command": ["a"], "max_line": "1GiB" }), "max_line"),
        ]
    }
}

#[tokio::test]
async fn conforms() {
    sources(&mut Fixture::new()).await;
}

fn context(cursor: Option<Cursor>, mapped: bool) -> SourceContext {
    let (name, clock) = (Name::new("suite").unwrap(), Arc::new(SystemClock));
    let link = Link::new(name.clone(), clock.clone());
    SourceContext {
        name,
        tenant: Name::default_tenant(),
        cursor,
        positions: crate::suite::Stored::default().positions(),
        mapped,
        alarms: crate::Alarms::new(clock.clone()),
        clock,
        routes: Routes::default(),
        link,
    }
}

async fn open_with(settings: Value, cursor: Option<Cursor>) -> Result<Box<dyn Source>, OpenError> {
    let settings: ExecSource = serde_json::from_value(settings).unwrap();
    assert_eq!(settings.check(), []);
    settings.open(context(cursor, false)).await
}

/// A shell script in a folder of its own.
struct Script(tempfile::TempDir, Value);

impl Script {
    fn new(script: &str, more: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = json!({ "command": ["sh", "-c", script], "cwd": folder.path() });
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Self(folder, settings)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn open(&self, cursor: Option<Cursor>) -> Box<dyn Source> {
        open_with(self.1.clone(), cursor).await.unwrap()
    }
}

/// What a source has told: the data of each event or what was rejected, its id, and the last
/// cursor.
#[derive(Debug, Default)]
struct Collected {
    texts: Vec<String>,
    ids: Vec<String>,
    kinds: Vec<DataKind>,
    reasons: Vec<String>,
    cursor: Option<Cursor>,
}

impl Collected {
    fn take(&mut self, batch: Batch) {
        for Message {
            arrivals, rejects, ..
        } in batch.messages
        {
            for arrival in arrivals {
                let Arrival::Event(event) = arrival else {
                    panic!("nothing is mapped")
                };
                self.texts.push(
                    String::from_utf8_lossy(
                        event
                            .data()
                            .map(|data| &data.bytes()[..])
                            .unwrap_or_default(),
                    )
                    .into_owned(),
                );
                self.ids.push(event.id().to_string());
                self.kinds
                    .extend(event.data().map(pointsman_schemas::Data::kind));
            }
            for reject in rejects {
                self.texts
                    .push(format!("!{}", String::from_utf8_lossy(&reject.raw)));
                self.reasons.push(reject.reason);
            }
        }
        self.cursor = batch.cursor.or(self.cursor.take());
    }

    fn position(&self) -> Position {
        Position::read(self.cursor.as_ref().unwrap()).unwrap()
    }
}

/// Reads until the source ends with an error.
async fn to_the_end(source: &mut dyn Source) -> (Collected, SourceError) {
    let mut collected = Collected::default();
    loop {
        match next_within(source, Duration::from_secs(20))
            .await
            .expect("it says something")
        {
            Ok(batch) => collected.take(batch),
            Err(error) => return (collected, error),
        }
    }
}

/// Reads until so many lines have been told.
async fn read_lines(source: &mut dyn Source, count: usize) -> Collected {
    let mut collected = Collected::default();
    while collected.texts.len() < count {
        collected.take(
            next_within(source, Duration::from_secs(20))
                .await
                .expect("it says something")
                .unwrap(),
        );
    }
    collected
}

async fn until(condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed().as_secs() < 60, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Also false of a process that has ended and was not waited for.
fn is_there(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

#[tokio::test]
async fn lines_are_json_text_or_bytes_and_blank_ones_are_none() {
    let script = Script::new(
        r#"printf '{"a": 1}\n\n  \r\nplain text\r\n5\n\377\376\n"\303\244"\nlast'"#,
        json!({ "restart": "on-failure" }),
    );
    let (collected, error) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(error, SourceError::Ended);
    assert_eq!(
        collected.texts,
        [
            "{\"a\": 1}",
            "plain text",
            "5",
            "\u{fffd}\u{fffd}",
            "\"ä\"",
            "last"
        ]
    );
    use DataKind::{Binary, Json, Text};
    assert_eq!(collected.kinds, [Json, Text, Json, Binary, Json, Text]);
    let mut ids = collected.ids.clone();
    ids.dedup();
    assert_eq!((ids.len(), collected.cursor), (6, None));
    let (again, _) = to_the_end(&mut *script.open(None).await).await;
    assert!(
        again.ids.iter().all(|id| !collected.ids.contains(id)),
        "without a cursor nobody knows whether a line is the same"
    );
}

#[tokio::test]
async fn cloudevents_are_taken_as_they_are() {
    let event = r#"{"specversion":"1.0","id":"7","source":"/app","type":"t","data":{"a":1}}"#;
    let script = Script::new(
        &format!("echo '{event}'; echo '{{}}'"),
        json!({ "output": "cloudevents", "restart": "on-failure" }),
    );
    let (collected, _) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(
        (collected.texts, collected.ids),
        (
            vec![r#"{"a":1}"#.to_owned(), "!{}".to_owned()],
            vec!["7".to_owned()]
        )
    );
    assert!(
        collected.reasons[0].starts_with("the line is no event: "),
        "{:?}",
        collected.reasons
    );
}

#[tokio::test]
async fn a_failed_command_is_an_error_with_its_last_words_and_what_it_broke_off_is_no_event() {
    let script = Script::new(
        "echo one; printf tw; echo 'no such feed' >&2; exit 3",
        json!({}),
    );
    let (collected, error) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(
        error,
        SourceError::Unavailable("the command has failed: exited with 3: no such feed".into())
    );
    assert_eq!(collected.texts, ["one", "!tw"]);
    assert!(
        collected.reasons[0].contains("in the middle of this line (exited with 3"),
        "{:?}",
        collected.reasons
    );
    // With a cursor it comes again, whole.
    let script = Script::new(
        "echo one; printf tw; kill -9 $$",
        json!({ "cursor": "json" }),
    );
    let (collected, error) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(
        (collected.texts, error),
        (
            vec!["one".to_owned()],
            SourceError::Unavailable("the command has failed: killed by signal 9".into())
        )
    );
}

#[tokio::test]
async fn what_cannot_start_says_so() {
    let settings: ExecSource =
        serde_json::from_value(json!({ "command": ["no-such-program-anywhere"] })).unwrap();
    let error = settings
        .open(context(None, false))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("command: cannot start no-such-program-anywhere: "),
        "{error}"
    );
    assert!(
        settings
            .probe()
            .await
            .unwrap_err()
            .to_string()
            .contains("cannot run no-such-program-anywhere")
    );
    let settings: ExecSource = serde_json::from_value(
        json!({ "command": ["sh"], "env": { "A": { "env": "POINTSMAN_UNSET" } } }),
    )
    .unwrap();
    assert!(
        settings
            .open(context(None, false))
            .await
            .err()
            .unwrap()
            .to_string()
            .starts_with("env.A: ")
    );
}

#[tokio::test]
async fn the_next_start_is_given_the_last_cursor_and_ids_follow_from_it() {
    let body = "echo \"from ${POINTSMAN_CURSOR:-nothing} $POINTSMAN_SOURCE\"; echo same; echo \
                '#at  12 '; echo same; exit 1";
    let script = Script::new(body, json!({ "cursor": { "prefix": "#at" } }));
    let (first, _) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(first.texts, ["from nothing suite", "same", "same"]);
    assert_eq!(
        first.position(),
        Position {
            cursor: Some("12".into()),
            number: 1
        }
    );
    // As after a crash before anything was stored, and after one behind it.
    let (again, _) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(again.ids, first.ids);
    let (second, _) = to_the_end(&mut *script.open(first.cursor.clone()).await).await;
    assert_eq!(second.texts, ["from 12 suite", "same", "same"]);
    assert_eq!(
        second.position(),
        Position {
            cursor: Some("12".into()),
            number: 2
        },
        "the same cursor once more is a new one"
    );
    assert!(
        second.ids.iter().all(|id| !first.ids.contains(id)),
        "{second:?} {first:?}"
    );
}

#[tokio::test]
async fn a_line_that_differs_at_the_same_place_has_another_id() {
    let script = Script::new("cat text; exit 1", json!({ "cursor": "json" }));
    std::fs::write(script.path("text"), "a\nb\n").unwrap();
    let (first, _) = to_the_end(&mut *script.open(None).await).await;
    std::fs::write(script.path("text"), "a\nc\n").unwrap();
    let (second, _) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(first.ids[0], second.ids[0]);
    assert_ne!(first.ids[1], second.ids[1]);
}

#[tokio::test]
async fn cursors_are_texts_or_json_and_odd_ones_are_dead_letters() {
    for (line, cursor) in [
        (r#"{"pointsman_cursor": "a b"}"#, Ok("a b")),
        (
            r#" { "pointsman_cursor" : {"at": [1, 2]} } "#,
            Ok(r#"{"at": [1, 2]}"#),
        ),
        (r#"{"pointsman_cursor": 17}"#, Ok("17")),
        (
            r#"{"pointsman_cursor": 17, "more": 1}"#,
            Err("the line is no cursor: "),
        ),
        (
            r#"{"pointsman_cursor": "a\u0000"}"#,
            Err("the line is no cursor: a NUL"),
        ),
        (r#"{"pointsman_cursor": "#, Err("the line is no cursor: ")),
        (r#"{"pointsman_cursors": 1}"#, Err("")),
    ] {
        let script = Script::new("cat text; exit 1", json!({ "cursor": "json" }));
        std::fs::write(script.path("text"), format!("{line}\n")).unwrap();
        let (collected, _) = to_the_end(&mut *script.open(None).await).await;
        match cursor {
            Ok(cursor) => assert_eq!(
                collected.position().cursor.as_deref(),
                Some(cursor),
                "{line}"
            ),
            Err("") => assert_eq!(
                (collected.texts.len(), collected.cursor),
                (1, None),
                "{line}"
            ),
            Err(reason) => assert!(
                collected.reasons[0].starts_with(reason) && collected.cursor.is_none(),
                "{line}: {collected:?}"
            ),
        }
    }
    // Nobody who can make a command print a line moves its position, unless cursors were asked for.
    let script = Script::new(r#"echo '{"pointsman_cursor": 1}'; exit 1"#, json!({}));
    let (collected, _) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!((collected.texts.len(), collected.cursor), (1, None));
}

#[tokio::test]
async fn a_command_that_ends_well_is_started_again_as_it_is_asked_for() {
    let script = Script::new(
        "echo ${POINTSMAN_CURSOR:-0}; echo \"@$((${POINTSMAN_CURSOR:-0} + 1))\"",
        json!({ "cursor": { "prefix": "@" } }),
    );
    let mut source = script.open(None).await;
    assert_eq!(
        read_lines(&mut *source, 3).await.texts,
        ["0", "1", "2"],
        "each start has the cursor of the one before"
    );
    drop(source);
    let settings = json!({ "restart": { "every": "300ms" } });
    let script = Script::new("date +%s%N", settings);
    let mut source = script.open(None).await;
    let begin = Instant::now();
    read_lines(&mut *source, 4).await;
    let took = begin.elapsed().as_millis();
    assert!((850..3_000).contains(&took), "three rests: {took} ms");
}

#[tokio::test]
async fn what_is_not_taken_is_not_read() {
    // The count is moved into place, so that nobody reads half of it.
    let body = "i=0; while :; do echo $i; i=$((i + 1)); [ $((i % 100)) -ne 0 ] || { echo $i > \
                next; mv next count; }; done";
    let script = Script::new(body, json!({}));
    let mut source = script.open(None).await;
    read_lines(&mut *source, 1).await;
    until(|| script.path("count").exists()).await;
    let count = || {
        std::fs::read_to_string(script.path("count"))
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    // It goes on until the pipe is full, and no further.
    let mut last = 0;
    while count() != last {
        last = count();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((1_000..100_000).contains(&last), "{last}");
    let collected = read_lines(&mut *source, usize::try_from(last).unwrap() + 100).await;
    assert!(
        collected
            .texts
            .windows(2)
            .all(|pair| pair[0].parse::<u64>().unwrap() + 1 == pair[1].parse::<u64>().unwrap()),
        "in order, all of them"
    );
}

#[tokio::test]
async fn a_stopped_source_ends_its_group_and_hands_over_its_last_words() {
    // It polls: a signal that comes just before `wait` runs the trap and does not end the `wait`.
    let body = "trap 'echo bye; printf half; told=1' TERM; \
                (trap '' TERM; echo $$ > leader; exec sleep 60) & echo $! > child; echo begun; \
                until [ $told ]; do sleep 0.05; done; sleep 0.2; echo late; exit 0";
    let script = Script::new(body, json!({}));
    let mut source = script.open(None).await;
    read_lines(&mut *source, 1).await;
    until(|| script.path("leader").exists() && script.path("child").exists()).await;
    let begin = Instant::now();
    let mut collected = Collected::default();
    while let Some(batch) = source.finish().await {
        collected.take(batch);
    }
    assert_eq!(collected.texts, ["bye", "halflate"]);
    assert!(
        begin.elapsed() >= Duration::from_millis(1_900),
        "what cares for no SIGTERM has two seconds"
    );
    assert!(!is_there(&script.path("leader")));
    until(|| {
        !std::fs::read_to_string(format!(
            "/proc/{}/stat",
            std::fs::read_to_string(script.path("child"))
                .unwrap()
                .trim()
        ))
        .is_ok_and(|stat| !stat.contains(") Z "))
    })
    .await;
    assert!(source.finish().await.is_none());
    // One that writes without an end does not keep it from ending.
    let script = Script::new("trap '' TERM; yes | tr -d '\\000' & yes", json!({}));
    let mut source = script.open(None).await;
    read_lines(&mut *source, 1).await;
    let begin = Instant::now();
    while source.finish().await.is_some() {}
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_dropped_source_leaves_nothing_running() {
    let script = Script::new(
        "sleep 60 & echo $! > child; echo $$ > leader; echo begun; wait",
        json!({}),
    );
    let mut source = script.open(None).await;
    read_lines(&mut *source, 1).await;
    drop(source);
    until(|| !is_there(&script.path("leader"))).await;
}

#[tokio::test]
async fn output_that_outlives_its_command_is_read_and_not_waited_for() {
    // What left the session holds the pipe open for longer than anybody waits.
    let script = Script::new(
        "setsid sh -c 'echo $$ > left; sleep 30' & until [ -e left ]; do sleep 0.01; done; echo \
         end",
        json!({ "restart": "on-failure" }),
    );
    let begin = Instant::now();
    let (collected, error) = to_the_end(&mut *script.open(None).await).await;
    assert_eq!(
        (collected.texts, error),
        (vec!["end".to_owned()], SourceError::Ended)
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
    let left = std::fs::read_to_string(script.path("left"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    rustix::process::kill_process_group(
        Pid::from_raw(left).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}
