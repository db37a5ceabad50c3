//! What targets hold to.

use pointsman_schemas::{Class, Outcome};
use tokio::sync::Mutex;
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{AttemptError, TargetService, TargetSettings};

/// A topic with somebody who reads it, and a server that never answers.
struct Fixture {
    topic: Topic,
    reader: Reader,
    silent: Silent,
}

/// Reads whatever comes to a topic, and keeps it.
struct Reader {
    group: Group,
    kept: Mutex<Vec<Message>>,
}

impl Reader {
    /// One that has read what is there so far.
    async fn new(topic: &Topic) -> Self {
        let reader = Self {
            group: topic.read_by(&topic.group),
            kept: Mutex::default(),
        };
        assert_eq!(reader.read().await, []);
        reader
    }

    async fn read(&self) -> Vec<Message> {
        let mut kept = self.kept.lock().await;
        loop {
            let messages = self.group.receive(QUIET).await.unwrap();
            if messages.is_empty() {
                return kept.clone();
            }
            let receipts: Vec<_> = messages.iter().filter_map(Group::receipt).collect();
            let receipts: Vec<_> = receipts.iter().map(String::as_str).collect();
            assert_eq!(self.group.delete(&receipts).await.unwrap(), []);
            kept.extend(messages);
        }
    }
}

fn property<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    message.user_properties.get(name).map(String::as_str)
}

fn system(message: &Message) -> &SystemProperties {
    message.system_properties.as_ref().unwrap()
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "rocketmq";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        self.topic.target(json!({
            "message_group": "one",
            "tag": "<$.type>",
            "keys": ["<$.id>", "order"],
        }))
    }

    async fn received(&self) -> Vec<Received> {
        let received = |message: &Message| {
            let system = system(message);
            assert_eq!(system.keys[1], "order");
            Received {
                id: property(message, "CE_id").unwrap().to_owned(),
                texts: vec![system.tag.clone().unwrap(), system.keys[0].clone()],
                trace: property(message, "traceparent").map(str::to_owned),
            }
        };
        self.reader.read().await.iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let url = format!("rocketmq://{}", self.silent.address());
        Some(with(self.settings(), json!({ "url": url })))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.topic.target(more);
        vec![
            (with(json!({ "url": "http://h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (with(json!({ "topic": "a/b" })), "topic"),
            (with(json!({ "tag": "a|b" })), "tag"),
            (with(json!({ "keys": [] })), "keys"),
            (with(json!({ "keys": ["a b"] })), "keys"),
            (with(json!({ "message_group": "" })), "message_group"),
            (with(json!({ "delay": "soon" })), "delay"),
            (with(json!({ "deliver_at": "tomorrow" })), "deliver_at"),
            (
                with(json!({ "delay": "1s", "deliver_at": "2026-12-24T18:00:00Z" })),
                "deliver_at",
            ),
            (
                with(json!({ "delay": "1s", "message_group": "a" })),
                "message_group",
            ),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let topic = Topic::at(server().await, "FIFO", 1).await;
    let reader = Reader::new(&topic).await;
    let fixture = Fixture {
        topic,
        reader,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    parse("rocketmq", settings).unwrap()
}

async fn send(settings: &Value, ids: &[&str]) -> Result<Vec<Outcome>, AttemptError> {
    let service: TargetService = parsed(settings).open(context()).await.unwrap();
    service.oneshot(attempt(ids, 0)).await
}

#[tokio::test]
async fn modes_tags_and_keys() {
    let topic = Topic::at(server().await, "NORMAL", 1).await;
    let reader = Reader::new(&topic).await;
    for more in [
        json!({ "tag": "paid", "keys": "a" }),
        json!({ "mode": "structured" }),
        json!({ "mode": "data" }),
    ] {
        let sent = send(&topic.target(more), &["1"]).await.unwrap();
        assert_eq!(sent[0].class, Class::Delivered, "{sent:?}");
    }
    let found = reader.read().await;
    let [binary, structured, data] = &found[..] else {
        panic!("{found:?}")
    };
    let body = crate::suite::event("1").data().unwrap().bytes().clone();
    for (name, value) in [
        ("CE_specversion", "1.0"),
        ("CE_id", "1"),
        ("CE_type", "com.example.suite"),
        ("CE_ext", "ü"),
        ("CE_contenttype", "application/json"),
        ("pointsman-task", "0000000000000001-2-3-0"),
        ("pointsman-attempt", "1"),
        ("pointsman-rule", "rule"),
    ] {
        assert_eq!(property(binary, name), Some(value), "{name}");
    }
    let told = system(binary);
    assert_eq!(told.message_id, "0000000000000001-2-3-0");
    assert_eq!(
        (told.tag.as_deref(), &told.keys[..]),
        (Some("paid"), &["a".to_owned()][..])
    );
    assert_eq!(binary.body, body);
    let media_type = property(structured, "CE_contenttype");
    assert_eq!(media_type, Some("application/cloudevents+json"));
    assert!(structured.body.starts_with(b"{\"specversion\":\"1.0\""));
    assert_eq!((property(data, "CE_id"), &data.body), (None, &body));
}

#[tokio::test]
async fn messages_are_held_back_and_topics_take_their_type_alone() {
    let topic = Topic::at(server().await, "DELAY", 1).await;
    let reader = Reader::new(&topic).await;
    let began = Instant::now();
    for (more, class) in [
        (json!({ "delay": "2s" }), Class::Delivered),
        (
            json!({ "deliver_at": "2020-01-01T00:00:00Z" }),
            Class::Delivered,
        ),
        (json!({ "delay": "300d" }), Class::Rejected),
        (json!({}), Class::Rejected),
        (json!({ "message_group": "a" }), Class::Rejected),
    ] {
        let sent = send(&topic.target(more.clone()), &["1"]).await.unwrap();
        assert_eq!(sent[0].class, class, "{more}: {sent:?}");
    }
    while reader.read().await.len() < 2 {
        assert!(began.elapsed() < LONG, "it never comes");
    }
    assert!(began.elapsed() >= Duration::from_millis(1_500));
}
