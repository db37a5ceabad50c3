use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Clock, Event, SystemClock};
use serde_json::{Value, json};

use super::records::RECORD_BYTES_MAX;
use super::*;
use crate::suite::{SourceFixture, Stored, next_within, open, sources};
use crate::{Arrival, Batch, Source};

mod target;

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(20);

/// How long nothing may come before nothing is taken to be there: many looks.
const QUIET: Duration = Duration::from_millis(200);

struct Fixture {
    folder: tempfile::TempDir,
    settings: Value,
    written: usize,
}

impl Fixture {
    fn new(more: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings =
            json!({ "paths": [folder.path().join("*.log")], "every": "10ms", "format": "json" });
        let settings_of = settings.as_object_mut().unwrap();
        settings_of.extend(more.as_object().unwrap().clone());
        Self {
            folder,
            settings,
            written: 0,
        }
    }

    fn text() -> Self {
        Self::new(&json!({ "format": "text" }))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "file";

    fn settings(&self) -> Value {
        self.settings.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let ids: Vec<_> = (self.written..self.written + count)
            .map(|n| n.to_string())
            .collect();
        for (number, id) in ids.iter().enumerate() {
            let name = format!("{}.log", number % 3);
            self.append(&name, &format!("{{\"n\":{id}}}\n"));
        }
        self.written += count;
        ids
    }

    fn identity(&self, event: &Event) -> String {
        event.data().unwrap().value().unwrap()["n"].to_string()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_FILES_MAX
    }

    async fn unreadable(&mut self) -> Option<bytes::Bytes> {
        self.append("0.log", "{\"n\":\n");
        Some("{\"n\":".into())
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "paths": [] }), "paths"),
            (json!({ "paths": ["a", ""] }), "paths[1]"),
            (json!({ "paths": ["a[b"] }), "paths[0]"),
            (json!({ "paths": ["a"], "exclude": ["***"] }), "exclude[0]"),
            (json!({ "paths": ["a"], "every": "1ms" }), "every"),
            (
                json!({ "paths": ["a"], "multiline": { "starts": "(" } }),
                "multiline.starts",
            ),
        ]
    }
}

#[tokio::test]
async fn conforms() {
    sources(&mut Fixture::new(&json!({}))).await;
}

/// A source, and what it has told.
struct Told {
    source: Box<dyn Source>,
    stored: Stored,
    ids: Vec<String>,
    rejects: Vec<pointsman_schemas::Reject>,
}

impl Told {
    async fn open(fixture: &Fixture, stored: impl Into<Stored>) -> Self {
        let stored = stored.into();
        Self {
            source: open(fixture, stored.clone(), false).await,
            stored,
            ids: Vec::new(),
            rejects: Vec::new(),
        }
    }

    fn take(&mut self, batch: Batch) -> Vec<String> {
        assert!(batch.messages.len() <= BATCH_FILES_MAX && batch.cursor.is_some());
        self.stored.store(&batch);
        let mut lines = Vec::new();
        for message in batch.messages {
            self.rejects.extend(message.rejects);
            for arrival in message.arrivals {
                let Arrival::Event(event) = arrival else {
                    panic!("nothing is mapped")
                };
                let data = event.data().unwrap().value().unwrap();
                let line = data["message"].as_str().map(str::to_owned);
                lines.push(line.unwrap_or_else(|| data.to_string()));
                assert!(!self.ids.contains(&event.id().to_owned()), "{}", event.id());
                self.ids.push(event.id().to_owned());
            }
        }
        lines
    }

    /// The next lines, until there are so many.
    async fn next(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let batch = next_within(&mut *self.source, LONG).await;
            let batch = batch.unwrap_or_else(|| panic!("only {lines:?}")).unwrap();
            lines.extend(self.take(batch));
        }
        lines
    }

    /// Whatever comes until nothing does.
    async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(batch) = next_within(&mut *self.source, QUIET).await {
            lines.extend(self.take(batch.unwrap()));
        }
        lines
    }

    /// The same after a restart.
    async fn again(self, fixture: &Fixture) -> Self {
        let Self { stored, ids, .. } = self;
        let mut again = Self::open(fixture, stored).await;
        again.ids = ids;
        again
    }
}

#[tokio::test]
async fn a_file_is_read_through_a_rotation() {
    let fixture = Fixture::text();
    fixture.append("a.log", "1\n2\n");
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(2).await, ["1", "2"]);
    // Whoever writes goes on for a while with the file that he has open.
    let mut open = OpenOptions::new()
        .append(true)
        .open(fixture.path("a.log"))
        .unwrap();
    fixture.rename("a.log", "a.log.1");
    open.write_all(b"3\n").unwrap();
    fixture.append("a.log", "4\n");
    let mut lines = told.next(2).await;
    open.write_all(b"5\n").unwrap();
    lines.extend(told.next(1).await);
    lines.sort();
    assert_eq!(lines, ["3", "4", "5"]);
    assert_eq!(told.rest().await, [""; 0]);
}

#[tokio::test]
async fn what_was_rotated_while_nothing_ran_is_read_to_its_end() {
    let fixture = Fixture::text();
    fixture.append("a.log", "1\n2\n");
    let mut told = Told::open(&fixture, None).await;
    told.next(2).await;
    let Told {
        source,
        stored,
        ids,
        ..
    } = told;
    drop(source);
    fixture.append("a.log", "3\n");
    fixture.rename("a.log", "a.log.1");
    fixture.append("a.log", "4\n");
    let mut told = Told::open(&fixture, stored.clone()).await;
    told.ids = ids;
    let mut lines = told.next(2).await;
    lines.sort();
    assert_eq!(lines, ["3", "4"]);
    // What was not stored is told again by the same ids.
    let mut again = Told::open(&fixture, stored).await;
    again.next(2).await;
    assert_eq!(told.ids[2..].len(), 2);
    let mut ids = told.ids.split_off(2);
    ids.sort();
    again.ids.sort();
    assert_eq!(again.ids, ids);
    // One that a pattern leads to under its new name is no other file.
    fixture.rename("a.log", "b.log");
    let mut told = told.again(&fixture).await;
    fixture.append("b.log", "5\n");
    assert_eq!(told.next(1).await, ["5"]);
}

#[tokio::test]
async fn a_truncated_file_and_one_in_its_place_are_begun_anew() {
    let fixture = Fixture::text();
    fixture.append("a.log", "first 1\nfirst 2\n");
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(2).await, ["first 1", "first 2"]);
    // As `copytruncate` does.
    std::fs::write(fixture.path("a.log"), "second 1\n").unwrap();
    assert_eq!(told.next(1).await, ["second 1"]);
    // It is larger than the one before already.
    std::fs::write(fixture.path("a.log"), "third 1\nthird 2\nthird 3\n").unwrap();
    assert_eq!(told.next(3).await, ["third 1", "third 2", "third 3"]);
    let told = told.again(&fixture).await;
    std::fs::remove_file(fixture.path("a.log")).unwrap();
    fixture.append("a.log", "fourth 1\n");
    let mut told = told.again(&fixture).await;
    assert_eq!(told.next(1).await, ["fourth 1"]);
}

#[tokio::test]
async fn a_copy_in_the_place_of_the_file_is_the_same_where_it_begins_so() {
    let fixture = Fixture::text();
    let first = "x".repeat(300);
    fixture.append("a.log", &format!("{first}\n"));
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, [&*first]);
    let told = told.again(&fixture).await;
    std::fs::copy(fixture.path("a.log"), fixture.path("copy")).unwrap();
    fixture.rename("copy", "a.log");
    fixture.append("a.log", "2\n");
    let mut told = told.again(&fixture).await;
    assert_eq!(told.next(1).await, ["2"]);
}

#[tokio::test]
async fn a_line_is_told_once_it_is_whole() {
    let fixture = Fixture::text();
    fixture.append("a.log", "1\n2");
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, ["1"]);
    fixture.append("a.log", "2\r\n\n3\n");
    assert_eq!(told.next(2).await, ["22", "3"]);
    fixture.append("b.log", "ü\n");
    std::fs::write(fixture.path("c.log"), b"\xff\n").unwrap();
    let mut lines = told.next(2).await;
    lines.sort();
    assert_eq!(lines[1], "ü");
    assert!(
        lines[0].contains("\"message_base64\":\"/w==\""),
        "{lines:?}"
    );
}

#[tokio::test]
async fn lines_that_belong_together_are_one_record() {
    let fixture = Fixture::new(&json!({ "format": "text", "multiline": { "starts": "^[0-9]" } }));
    fixture.append("a.log", "1 a\n at x\n at y\n2 b\n at z\n");
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, ["1 a\n at x\n at y"]);
    // Nothing comes behind it, which makes it whole after a while.
    assert_eq!(told.next(1).await, ["2 b\n at z"]);
}

#[tokio::test]
async fn a_record_that_is_too_long_is_a_dead_letter_and_holds_up_nothing() {
    let fixture = Fixture::text();
    fixture.append("a.log", "1\n");
    fixture.append("a.log", &"x".repeat(RECORD_BYTES_MAX * 3));
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, ["1"]);
    let mut told = told.again(&fixture).await;
    fixture.append("a.log", "xx\n2\n");
    assert_eq!(told.next(1).await, ["2"]);
    let mut fresh = Told::open(&fixture, None).await;
    assert_eq!(fresh.next(2).await, ["1", "2"]);
    assert_eq!(fresh.rejects.len(), 1);
    assert_eq!(fresh.rejects[0].raw.len(), RECORD_BYTES_MAX);
    assert!(
        fresh.rejects[0].reason.contains("longer than"),
        "{:?}",
        fresh.rejects[0].reason
    );
}

#[tokio::test]
async fn what_lies_there_at_the_very_first_start_can_be_skipped() {
    let fixture = Fixture::new(&json!({ "format": "text", "existing": "skip" }));
    fixture.append("a.log", "old\nol");
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.rest().await, [""; 0]);
    let mut told = told.again(&fixture).await;
    fixture.append("a.log", "d\nnew\n");
    fixture.append("b.log", "b\n");
    let mut lines = told.next(3).await;
    lines.sort();
    assert_eq!(lines, ["b", "d", "new"]);

    // That there was nothing is known, too.
    let fixture = Fixture::new(&json!({ "format": "text", "existing": "skip" }));
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.rest().await, [""; 0]);
    let mut told = told.again(&fixture).await;
    fixture.append("a.log", "new\n");
    assert_eq!(told.next(1).await, ["new"]);
}

#[tokio::test]
async fn events_are_of_the_documented_shape_and_some_files_are_left_out() {
    let fixture = Fixture::new(&json!({ "format": "text", "exclude": ["b*.log"] }));
    fixture.append("b.log", "left out\n");
    fixture.append("a.log", "1\nsecond\n");
    let mut source = open(&fixture, None, false).await;
    let batch = next_within(&mut *source, LONG).await.unwrap().unwrap();
    let [message] = &*batch.messages else {
        panic!("{batch:?}")
    };
    let [_, Arrival::Event(event)] = &*message.arrivals else {
        panic!("{message:?}")
    };
    let path = fixture.path("a.log").display().to_string();
    assert_eq!(event.source(), "/files/suite");
    assert_eq!(event.ty(), "com.pointsman.file.line");
    assert_eq!(event.subject().unwrap(), &*path);
    assert!(event.id().ends_with("-0-2"), "{}", event.id());
    assert_eq!(
        *event.data().unwrap().value().unwrap(),
        json!({ "message": "second", "path": path, "offset": 2 })
    );
}

#[tokio::test]
async fn many_lines_of_many_files_come_in_bounded_batches_by_turns() {
    let fixture = Fixture::new(&json!({ "format": "text" }));
    let line = "x".repeat(99);
    let text = format!("{line}\n").repeat(300);
    for number in 0..100 {
        fixture.append(&format!("{number}.log"), &text);
    }
    let mut source = open(&fixture, None, false).await;
    let (mut lines, mut batches) = (0, 0);
    while lines < 30_000 {
        let batch = next_within(&mut *source, LONG).await.unwrap().unwrap();
        let of = |message: &crate::Message| message.arrivals.len();
        let own: usize = batch.messages.iter().map(of).sum();
        assert!(own <= 1_000 && batch.messages.len() <= BATCH_FILES_MAX);
        lines += own;
        batches += 1;
    }
    assert_eq!((lines, batches), (30_000, 30));
}
