//! Against a journal that `systemd-journal-remote` writes, and `journalctl` reads.

use std::sync::Arc;

use pointsman_schemas::{Clock, Event, SystemClock};
use pointsman_test_brokers::JournalWriter;
use serde_json::{Value, json};

use super::source::BATCH_ENTRIES_MAX;
use crate::suite::{SourceFixture, Stored, begin, bodies, open, parse_source, sources, take, with};
use crate::{Source, SourceError};

/// A journal of its own.
struct Fixture(JournalWriter);

impl Fixture {
    fn new() -> Self {
        Self(JournalWriter::start())
    }

    fn write(&mut self, message: &str, fields: &str) {
        self.0.write(message, fields);
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "journald";

    fn settings(&self) -> Value {
        json!({ "directory": self.0.folder() })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.0.written()..self.0.written() + count;
        let all: Vec<_> = numbers.map(|number| format!("message {number}")).collect();
        for message in &all {
            self.write(message, "SYSLOG_IDENTIFIER=app");
        }
        all
    }

    fn identity(&self, event: &Event) -> String {
        let entry: Value = serde_json::from_slice(event.data().unwrap().bytes()).unwrap();
        entry["MESSAGE"].as_str().unwrap().to_owned()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_ENTRIES_MAX
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "units": [""] }), "units[0]"),
            (json!({ "identifiers": ["a", ""] }), "identifiers[1]"),
            (json!({ "matches": ["kernel"] }), "matches[0]"),
            (json!({ "matches": ["_A=b", "a=b"] }), "matches[1]"),
            (json!({ "command": [] }), "command"),
        ]
    }
}

fn messages(bodies: &[String]) -> Vec<String> {
    let message = |body: &String| {
        let entry: Value = serde_json::from_str(body).unwrap();
        entry["MESSAGE"].as_str().unwrap().to_owned()
    };
    bodies.iter().map(message).collect()
}

async fn opened(settings: &Value) -> Box<dyn Source> {
    let settings = parse_source("journald", settings).unwrap();
    begin(settings).await.unwrap().0
}

#[tokio::test]
async fn it_conforms() {
    sources(&mut Fixture::new()).await;
}

#[tokio::test]
async fn entries_are_those_that_the_settings_name() {
    let mut journal = Fixture::new();
    journal.write("a", "SYSLOG_IDENTIFIER=app\nPRIORITY=3");
    journal.write("b", "SYSLOG_IDENTIFIER=app\nPRIORITY=6");
    journal.write("c", "SYSLOG_IDENTIFIER=cron\nPRIORITY=4\n_TRANSPORT=syslog");
    journal.write(
        "d",
        "_SYSTEMD_UNIT=app@1.service\nPRIORITY=4\n_TRANSPORT=stdout",
    );
    for (more, expect) in [
        (json!({}), &["a", "b", "c", "d"][..]),
        (json!({ "identifiers": ["app"] }), &["a", "b"]),
        (json!({ "priority": "warning" }), &["a", "c", "d"]),
        (json!({ "units": ["app@*.service"] }), &["d"]),
        (
            json!({ "matches": ["_TRANSPORT=syslog", "_TRANSPORT=stdout"] }),
            &["c", "d"],
        ),
        (
            json!({ "matches": ["_TRANSPORT=syslog"], "priority": "err" }),
            &[],
        ),
    ] {
        let mut source = opened(&with(journal.settings(), more.clone())).await;
        let taken = take(&mut *source, expect.len()).await;
        assert_eq!(messages(&bodies(&taken)), expect, "{more}");
    }
}

#[tokio::test]
async fn what_is_there_may_be_skipped_and_stays_so() {
    let mut journal = Fixture::new();
    journal.happen(3).await;
    take(&mut *opened(&journal.settings()).await, 3).await;
    let skipping = with(journal.settings(), json!({ "existing": "skip" }));
    // Where it begins is stored before anything comes.
    let first = opened(&skipping).await.next().await.unwrap();
    assert!(first.messages.is_empty());
    journal.happen(2).await;
    let mut stored = Stored::default();
    stored.store(&first);
    let mut source = open(&journal, stored, false).await;
    let taken = take(&mut *source, 2).await;
    assert_eq!(messages(&bodies(&taken)), ["message 3", "message 4"]);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let mut journal = Fixture::new();
    journal.happen(1).await;
    take(&mut *opened(&journal.settings()).await, 1).await;
    for (more, expect) in [
        (json!({}), "the journal can be read"),
        (json!({ "identifiers": ["none"] }), "has no such entry yet"),
        (
            json!({ "directory": "/no/such/folder" }),
            "journalctl fails: ",
        ),
        (
            json!({ "command": ["no-such-program"] }),
            "command: cannot run no-such-program",
        ),
    ] {
        let settings = parse_source("journald", &with(journal.settings(), more.clone())).unwrap();
        let probed = settings.probe().await;
        let probed = probed.unwrap_or_else(|error| error.0.to_string());
        assert!(probed.contains(expect), "{more}: {probed}");
    }
    // One that ends says why, and its owner opens it again.
    let failing = json!({ "command": ["sh", "-c", "echo the disk is away >&2; exit 3"] });
    let ended = opened(&failing).await.next().await.unwrap_err();
    let expect = "journalctl has ended: it exited with 3: the disk is away";
    assert_eq!(ended, SourceError::Unavailable(expect.to_owned()));
}
