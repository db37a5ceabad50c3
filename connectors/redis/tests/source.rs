//! What sources hold to.

use bytes::Bytes;
use pointsman_schemas::{Clock, Event};

use super::super::source::BATCH_MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, sources};

struct Fixture {
    stream: Stream,
    written: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "redis";

    fn settings(&self) -> Value {
        self.stream.settings(json!({}))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.written..self.written + count;
        self.written += count;
        let mut expect = Vec::new();
        for number in numbers {
            self.stream.add(&number.to_string()).await;
            expect.push(format!("{{\"n\":\"{number}\"}}"));
        }
        expect
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
        let add = "XADD orders * ce_id 1 ce_type t";
        self.stream.run::<String>(add).await;
        Some(Bytes::from("{\"ce_id\":\"1\",\"ce_type\":\"t\"}"))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.stream.settings(more);
        vec![
            (with(json!({ "url": "h:1" })), "url"),
            (with(json!({ "url": "redis://:hunter2@h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (
                with(json!({ "url": "rediss://h", "tls": { "key": "k" } })),
                "tls.key",
            ),
            (with(json!({ "username": "u" })), "username"),
            (with(json!({ "stream": "" })), "stream"),
            (with(json!({ "stream": [] })), "stream"),
            (with(json!({ "stream": ["a", "b", "a"] })), "stream"),
            (with(json!({ "group": "" })), "group"),
            (with(json!({ "body": "" })), "body"),
            (with(json!({ "visibility": "9s" })), "visibility"),
            (with(json!({ "prefetch": 255 })), "prefetch"),
            (with(json!({ "max_deliveries": 1 })), "max_deliveries"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let stream = Stream::new().await;
    let mut fixture = Fixture { stream, written: 0 };
    sources(&mut fixture).await;
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "url": "redis://h", "stream": "orders", "group": "g", "start": "latest" }),
        json!({
            "url": { "env": "REDIS_URL" },
            "username": "app",
            "password": "hunter2",
            "stream": ["orders", { "env": "STREAM" }],
            "group": "g",
            "start": "1526919030474-0",
            "body": "payload",
            "visibility": "12h",
            "prefetch": 256,
            "max_deliveries": 2,
        }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
    let start = json!({ "url": "redis://h", "stream": "s", "group": "g", "start": "soon" });
    let told = parse_source("redis", &start).unwrap_err();
    assert!(told.contains("earliest, latest"), "{told}");
}

#[tokio::test]
async fn entries_of_several_streams_are_events_with_their_ids_and_are_acknowledged() {
    let stream = Stream::new().await;
    let id = stream.add("1").await;
    let settings = stream.settings(json!({ "stream": ["orders", "returns"] }));
    let told = source(&settings).probe().await.unwrap();
    assert!(
        told.ends_with(
            "the group g of orders is new and begins with the earliest entry; the stream returns \
             is not there yet, and is made"
        ),
        "{told}"
    );
    let (mut source, link) = open(&settings).await.unwrap();
    let returned: String = stream.run("XADD returns * n 2").await;
    let messages = take(&mut *source, 2).await;
    let mut found: Vec<_> = messages
        .iter()
        .map(|message| match &message.arrivals[0] {
            Arrival::Event(event) => (event.id().to_owned(), event.subject().unwrap().to_owned()),
            other @ Arrival::Plain(_) => panic!("{other:?}"),
        })
        .collect();
    found.sort();
    let expect = [
        (format!("orders.{id}"), "orders".to_owned()),
        (format!("returns.{returned}"), "returns".to_owned()),
    ];
    assert_eq!(found, expect);
    settle(messages, &Verdict::Stored).await;
    assert_eq!(stream.pending().await, 0, "told once the group has been");
    let left: u64 = stream.run("XLEN orders").await;
    assert_eq!(left, 1, "an entry stays in its stream");
    assert!(link.status().lag.is_some());
}

#[tokio::test]
async fn a_group_begins_where_it_is_told_to_and_keeps_its_place() {
    let stream = Stream::new().await;
    let first = stream.add("1").await;
    stream.add("2").await;
    for (group, start, expect) in [
        ("a", "earliest", vec!["1", "2", "3"]),
        ("b", "latest", vec!["3"]),
        ("c", &*first, vec!["2", "3"]),
    ] {
        let settings = stream.settings(json!({ "group": group, "start": start }));
        let (mut source, _) = open(&settings).await.unwrap();
        if group == "a" {
            // Whose group is made only now.
            settle(take(&mut *source, 2).await, &Verdict::Stored).await;
            drop(source);
            for (group, start) in [("b", "latest"), ("c", &*first)] {
                let settings = stream.settings(json!({ "group": group, "start": start }));
                drop(open(&settings).await.unwrap());
            }
            stream.add("3").await;
            let (mut source, _) = open(&settings).await.unwrap();
            let rest = take(&mut *source, 1).await;
            assert_eq!(bodies(&rest), ["{\"n\":\"3\"}"]);
            continue;
        }
        let found = bodies(&take(&mut *source, expect.len()).await);
        let expect: Vec<_> = expect
            .iter()
            .map(|n| format!("{{\"n\":\"{n}\"}}"))
            .collect();
        assert_eq!(found, expect, "{group}");
    }
}

#[tokio::test]
async fn what_is_trimmed_unread_is_told_and_counted_once() {
    let stream = Stream::new().await;
    let settings = stream.settings(json!({}));
    let (mut source, _) = open(&settings).await.unwrap();
    for number in 0..3 {
        stream.add(&number.to_string()).await;
    }
    settle(take(&mut *source, 3).await, &Verdict::Stored).await;
    drop(source);
    for number in 3..10 {
        stream.add(&number.to_string()).await;
    }
    stream.run::<u64>("XTRIM orders MAXLEN 4").await;
    let (mut source, link) = open(&settings).await.unwrap();
    let left = take(&mut *source, 4).await;
    assert_eq!(bodies(&left)[0], "{\"n\":\"6\"}");
    assert_eq!(link.status().skipped, 3);
    settle(left, &Verdict::Stored).await;
    for number in 10..13 {
        stream.add(&number.to_string()).await;
        settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    }
    assert_eq!(link.status().skipped, 3, "told once");
}

#[tokio::test]
async fn a_group_or_a_stream_that_is_deleted_underneath_is_read_on() {
    let stream = Stream::new().await;
    let (mut source, _) = open(&stream.settings(json!({ "start": "latest" })))
        .await
        .unwrap();
    stream.add("1").await;
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    stream.run::<u64>("XGROUP DESTROY orders g").await;
    stream.add("2").await;
    let again = take(&mut *source, 2).await;
    assert_eq!(bodies(&again), ["{\"n\":\"1\"}", "{\"n\":\"2\"}"]);
    settle(again, &Verdict::Stored).await;
    // While it waits for more.
    assert!(
        next_within(&mut *source, Duration::from_millis(100))
            .await
            .is_none()
    );
    stream.run::<String>("FLUSHALL").await;
    stream.add("3").await;
    let next = take(&mut *source, 1).await;
    assert_eq!(bodies(&next), ["{\"n\":\"3\"}"]);
}
