//! What sources hold to.

use bytes::Bytes;
use pointsman_schemas::{Clock, Event};

use super::super::source::BATCH_MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, sources};

/// How long a call for messages takes at moto that a source has left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(21);

struct Fixture {
    queue: Queue,
    written: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "sqs";

    fn settings(&self) -> Value {
        self.queue.settings(json!({}))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        if count == 1 {
            // The source before may have a call open that takes what is sent now.
            sleep(LEFT_BEHIND).await;
        }
        let numbers = self.written..self.written + count;
        self.written += count;
        let bodies: Vec<_> = numbers.map(|number| format!("message {number}")).collect();
        for body in &bodies {
            self.queue.send(body, &[]).await;
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
        let json = [("content-type", "application/json")];
        self.queue.send("{ broken", &json).await;
        Some(Bytes::from_static(b"{ broken"))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.queue.settings(more);
        vec![
            (with(json!({ "queue": "" })), "queue"),
            (with(json!({ "queue": "a b" })), "queue"),
            (with(json!({ "queue": ".fifo" })), "queue"),
            (with(json!({ "queue": "a".repeat(81) })), "queue"),
            (
                with(json!({ "queue": "arn:aws:sqs:eu-west-1:1:orders" })),
                "queue",
            ),
            (with(json!({ "queue": "ftp://h/1/orders" })), "queue"),
            (with(json!({ "queue": "https://h" })), "queue"),
            (with(json!({ "endpoint": "h:1" })), "endpoint"),
            (with(json!({ "endpoint": null })), "region"),
            (with(json!({ "region": "" })), "region"),
            (
                with(json!({ "credentials": { "access_key": "", "secret_key": "s" } })),
                "credentials.access_key",
            ),
            (with(json!({ "visibility": "9s" })), "visibility"),
            (with(json!({ "visibility": "13h" })), "visibility"),
            (with(json!({ "visibility": "10500ms" })), "visibility"),
            (with(json!({ "prefetch": 9 })), "prefetch"),
            (with(json!({ "prefetch": 20_001 })), "prefetch"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let queue = Queue::new().await;
    sources(&mut Fixture { queue, written: 0 }).await;
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "queue": "orders" }),
        json!({ "queue": { "env": "QUEUE" }, "region": "eu-west-1", "prefetch": 10 }),
        json!({
            "queue": "https://sqs.eu-west-1.amazonaws.com/123456789012/orders.fifo",
            "credentials": { "access_key": "k", "secret_key": "hunter2" },
            "visibility": "12h",
        }),
        json!({ "queue": "orders", "endpoint": "http://127.0.0.1:9324", "visibility": "10s" }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_queue_is_found_by_its_url_too() {
    let queue = Queue::new().await;
    let by_url = queue.settings(json!({ "queue": queue.url, "endpoint": null }));
    queue.send("a", &[]).await;
    let told = source(&by_url).probe().await.unwrap();
    assert_eq!(told, format!("1 messages wait in the queue {}", queue.url));
    let (mut source, link) = open(&by_url).await.unwrap();
    let messages = take(&mut *source, 1).await;
    match &messages[0].arrivals[0] {
        Arrival::Event(event) => assert_eq!(event.subject().unwrap().to_string(), queue.name),
        other @ Arrival::Plain(_) => panic!("{other:?}"),
    }
    settle(messages, &Verdict::Stored).await;
    queue.drained().await;
    assert!(link.status().lag.is_some());
}
