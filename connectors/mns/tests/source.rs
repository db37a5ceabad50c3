//! What sources hold to.

use bytes::Bytes;
use pointsman_schemas::{Clock, Event};

use super::super::source::BATCH_MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, sources};

struct Fixture {
    queue: Queue,
    written: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "mns";

    fn settings(&self) -> Value {
        self.queue.settings(json!({}))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.written..self.written + count;
        self.written += count;
        let bodies: Vec<_> = numbers.map(|number| format!("message {number}")).collect();
        for body in &bodies {
            self.queue.send(body);
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
        // As it is in the queue: nobody knows how what cannot be read was meant.
        let broken = "{\"specversion\":\"1.0\"}";
        self.queue.server.send(&self.queue.name, broken);
        Some(Bytes::from(broken))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.queue.settings(more);
        vec![
            (with(json!({ "queue": "" })), "queue"),
            (with(json!({ "queue": "a b" })), "queue"),
            (with(json!({ "queue": "a".repeat(257) })), "queue"),
            (with(json!({ "queue": "https://h/queues/q" })), "queue"),
            (with(json!({ "endpoint": "h:1" })), "endpoint"),
            (with(json!({ "endpoint": "https://h/queues" })), "endpoint"),
            (
                with(json!({ "credentials": { "access_key": "", "secret_key": "s" } })),
                "credentials.access_key",
            ),
            (with(json!({ "visibility": "9s" })), "visibility"),
            (with(json!({ "visibility": "13h" })), "visibility"),
            (with(json!({ "visibility": "10500ms" })), "visibility"),
            (with(json!({ "prefetch": 15 })), "prefetch"),
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
    let endpoint = "https://1234567890.mns.cn-hangzhou.aliyuncs.com";
    for settings in [
        json!({ "queue": "orders", "endpoint": endpoint }),
        json!({
            "queue": { "env": "QUEUE" },
            "endpoint": { "env": "ENDPOINT" },
            "credentials": { "access_key": "k", "secret_key": "hunter2", "security_token": "hunter2" },
            "visibility": "12h",
            "prefetch": 16,
            "encoding": "text",
        }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_message_is_an_event_with_its_id_and_is_deleted() {
    let queue = Queue::new().await;
    let id = queue.send("{\"n\":1}");
    let told = source(&queue.settings(json!({}))).probe().await.unwrap();
    assert_eq!(told, format!("1 messages wait in the queue {}", queue.name));
    let (mut source, link) = open(&queue.settings(json!({}))).await.unwrap();
    let messages = take(&mut *source, 1).await;
    match &messages[0].arrivals[0] {
        Arrival::Event(event) => {
            assert_eq!(event.id(), id);
            assert_eq!(event.subject(), Some(queue.name.as_str()));
        }
        other @ Arrival::Plain(_) => panic!("{other:?}"),
    }
    settle(messages, &Verdict::Stored).await;
    assert_eq!(queue.left(), 0, "told once the queue has been");
    assert!(link.status().lag.is_some());
}
