//! What sources hold to.

use pointsman_schemas::{Clock, Event};

use super::super::BATCH_MESSAGES_MAX;
use super::super::in_hand::MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, sources};

struct Fixture {
    topics: Topics,
    written: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "kafka";

    fn settings(&self) -> Value {
        self.topics.settings(json!({}))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.written..self.written + count;
        self.written += count;
        let bodies: Vec<_> = numbers.map(|number| format!("message {number}")).collect();
        for body in &bodies {
            self.topics.write(body, body.clone()).await;
        }
        bodies
    }

    fn identity(&self, event: &Event) -> String {
        String::from_utf8(event.data().unwrap().bytes().to_vec()).unwrap()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        false
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        let record = Record::new(self.topics.name(), "{ broken");
        self.topics
            .write_record(record.header("content-type", "application/json"))
            .await;
        Some(Bytes::from_static(b"{ broken"))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.topics.settings(more);
        vec![
            (with(json!({ "brokers": [] })), "brokers"),
            (with(json!({ "brokers": "kafka://h" })), "brokers"),
            (with(json!({ "brokers": ["h", "h:x"] })), "brokers[1]"),
            (with(json!({ "topics": [] })), "topics"),
            (with(json!({ "topics": "a b" })), "topics"),
            (with(json!({ "topics": ["a", ".."] })), "topics[1]"),
            (with(json!({ "topics": null })), "topics"),
            (with(json!({ "pattern": "a.*" })), "pattern"),
            (with(json!({ "topics": null, "pattern": "(" })), "pattern"),
            (with(json!({ "group": "" })), "group"),
            (with(json!({ "start": { "time": "soon" } })), "start.time"),
            (with(json!({ "tls": { "key": "x" } })), "tls.key"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let topics = Topics::new(&[3, 1]).await;
    sources(&mut Fixture { topics, written: 0 }).await;
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "brokers": "127.0.0.1:9092", "topics": "orders", "group": "g", "start": "latest" }),
        json!({
            "brokers": ["a", "b:1"], "pattern": "orders\\..*", "group": "g",
            "start": { "time": "2026-01-31T09:30:00Z" },
            "auth": { "scram-sha-512": { "username": "u", "password": "hunter2" } },
            "tls": {},
        }),
        json!({
            "brokers": { "env": "BROKERS" }, "topics": [{ "env": "TOPIC" }], "group": "g",
            "start": "earliest", "auth": { "token": { "file": "/token" } },
        }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}

/// What a topic's records are called.
fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn what_is_settled_without_a_gap_is_committed() {
    let topics = Topics::new(&[1]).await;
    for text in texts(0..5) {
        topics.write("k", text).await;
    }
    let (mut source, _) = open(&topics.settings(json!({}))).await.unwrap();
    let mut messages = take(&mut *source, 5).await;
    assert_eq!(bodies(&messages), texts(0..5));
    topics.commits(&[(0, 0)]).await;
    let last = messages.split_off(3);
    store(last).await;
    sleep(Duration::from_millis(500)).await;
    topics.commits(&[(0, 0)]).await;
    let third = messages.pop().unwrap();
    store(messages).await;
    topics.commits(&[(0, 2)]).await;
    drop(third);

    // What nobody has settled comes again, and what was settled behind it does not.
    let again = take(&mut *source, 1).await;
    assert_eq!(bodies(&again), ["2"]);
    store(again).await;
    topics.commits(&[(0, 5)]).await;
    assert!(source.finish().await.is_none());

    let (mut source, _) = open(&topics.settings(json!({}))).await.unwrap();
    topics.write("k", "5").await;
    assert_eq!(bodies(&take(&mut *source, 1).await), ["5"]);
}

#[tokio::test]
async fn what_could_not_be_stored_comes_before_what_lies_behind_it() {
    let topics = Topics::new(&[1]).await;
    let (mut source, _) = open(&topics.settings(json!({}))).await.unwrap();
    topics.write("k", "0").await;
    let mut first = take(&mut *source, 1).await;
    let later = Verdict::Later(Duration::from_millis(700));
    let failed_at = Instant::now();
    first.remove(0).acknowledgement.send(later).await;
    topics.write("k", "1").await;
    let again = take(&mut *source, 2).await;
    assert_eq!(bodies(&again), ["0", "1"]);
    assert!(failed_at.elapsed() >= Duration::from_millis(700));
}

#[tokio::test]
async fn a_full_hand_stops_the_flow_and_loses_nothing() {
    let topics = Topics::new(&[2]).await;
    let count = MESSAGES_MAX;
    for text in texts(0..count) {
        let record = Record::new(topics.name(), text.clone()).key(text);
        drop(topics.producer.enqueue(record).await.unwrap());
    }
    topics.producer.flush().await.unwrap();
    let (mut source, _) = open(&topics.settings(json!({}))).await.unwrap();
    // Longer than the group waits for a sign of life.
    let mut taken = Vec::new();
    let until = Instant::now() + Duration::from_secs(12);
    while let Some(batch) = next_within(&mut *source, until - Instant::now()).await {
        taken.extend(batch.unwrap().messages);
    }
    assert!(taken.len() < count, "there is a bound");
    let mut found = bodies(&taken);
    store(taken).await;
    while found.len() < count {
        let more = take(&mut *source, 1).await;
        found.extend(bodies(&more));
        store(more).await;
    }
    found.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(found, texts(0..count));
}

#[tokio::test]
async fn a_partition_that_is_stuck_holds_up_no_other() {
    let topics = Topics::new(&[2]).await;
    let write = async |partition: i32, texts: Vec<String>| {
        for text in texts {
            let record = Record::new(topics.name(), text).partition(partition);
            drop(topics.producer.enqueue(record).await.unwrap());
        }
        topics.producer.flush().await.unwrap();
    };
    write(0, texts(0..MESSAGES_MAX)).await;
    let (mut source, _) = open(&topics.settings(json!({}))).await.unwrap();
    let first = take(&mut *source, 1).await;
    for message in first {
        let later = Verdict::Later(Duration::from_secs(3_600));
        message.acknowledgement.send(later).await;
    }
    sleep(Duration::from_secs(2)).await;
    write(1, vec!["other".to_owned()]).await;
    loop {
        let messages = take(&mut *source, 1).await;
        if bodies(&messages).contains(&"other".to_owned()) {
            return;
        }
        for message in messages {
            let later = Verdict::Later(Duration::from_secs(3_600));
            message.acknowledgement.send(later).await;
        }
    }
}
