//! What sources hold to.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::{Clock, Event, SystemClock};

use super::super::BATCH_MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, next_within, sources};
use crate::{Arrival, Message, SourceError, Verdict};

/// The trace that every message belongs to.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Fixture {
    queue: Queue,
    more: Value,
    written: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "rabbitmq";

    fn settings(&self) -> Value {
        self.queue.settings(self.more.clone())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let bodies: Vec<_> = (self.written..self.written + count)
            .map(|n| format!("message {n}"))
            .collect();
        let mut headers = FieldTable::default();
        headers.insert("TraceParent".into(), text(TRACE));
        let properties = plain().with_headers(headers);
        for body in &bodies {
            self.queue.publish(body, properties.clone()).await;
        }
        self.written += count;
        bodies
    }

    fn identity(&self, event: &Event) -> String {
        let trace = event.attribute("traceparent").map(|one| one.to_string());
        assert_eq!(trace.as_deref(), Some(TRACE));
        body(event)
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        false
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        self.queue
            .publish(
                "{ broken",
                plain().with_content_type("application/json".into()),
            )
            .await;
        Some(Bytes::from_static(b"{ broken"))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.queue.settings(more);
        vec![
            (with(json!({ "url": "127.0.0.1:5672" })), "url"),
            (
                with(json!({ "url": "amqp://app:hunter2@127.0.0.1" })),
                "url",
            ),
            (with(json!({ "url": "amqp://h/a", "vhost": "b" })), "vhost"),
            (with(json!({ "tls": {} })), "tls"),
            (
                with(json!({ "url": "amqps://h", "tls": { "certificate": "x" } })),
                "tls.certificate",
            ),
            (with(json!({ "username": "app" })), "username"),
            (with(json!({ "password": "x" })), "password"),
            (with(json!({ "heartbeat": "500ms" })), "heartbeat"),
            (with(json!({ "queue": "" })), "queue"),
            (with(json!({ "prefetch": 0 })), "prefetch"),
            (with(json!({ "hold": "10ms" })), "hold"),
            (with(json!({ "declare": { "type": "stream" } })), "declare"),
            (
                with(json!({ "declare": { "type": "quorum" }, "offset": "first" })),
                "offset",
            ),
            (
                with(json!({ "declare": { "type": "quorum", "durable": false } })),
                "declare.durable",
            ),
            (
                with(json!({ "declare": { "arguments": { "x-queue-type": "quorum" } } })),
                "declare.arguments.x-queue-type",
            ),
            (
                with(json!({ "declare": { "bindings": [{ "exchange": "" }] } })),
                "declare.bindings[0].exchange",
            ),
        ]
    }
}

async fn conforms(kind: &str, more: Value) {
    sources(&mut Fixture {
        queue: Queue::new(kind, &[]).await,
        more,
        written: 0,
    })
    .await;
}

#[tokio::test]
async fn a_classic_queue_conforms() {
    conforms("classic", json!({})).await;
}

#[tokio::test]
async fn a_quorum_queue_conforms() {
    conforms("quorum", json!({ "deduplicate": true })).await;
}

#[tokio::test]
async fn a_stream_conforms() {
    conforms("stream", json!({ "offset": "first" })).await;
}

#[test]
fn the_settings_of_the_documentation() {
    let settings = json!({
        "url": "amqp://127.0.0.1:5672", "username": "app", "password": { "env": "AMQP_PASSWORD" }, "queue": "orders", "prefetch": 200,
    });
    assert_eq!(source(&settings).check(), []);
    assert!(!source(&settings).has_stable_ids());
    assert!(
        !format!(
            "{:?}",
            source(
                &json!({ "url": "amqp://h", "queue": "q", "username": "u", "password": "hunter2" })
            )
        )
        .contains("hunter2")
    );
    let parse = |settings: &Value| {
        let kind = connector("rabbitmq").unwrap().source.built().unwrap();
        (kind.parse)(&mut <dyn erased_serde::Deserializer>::erase(settings))
            .map_err(|error| error.to_string())
    };
    assert!(
        parse(&json!({ "url": "amqp://h", "queue": "q", "offset": "2026-01-31T09:30:00Z" }))
            .unwrap()
            .has_stable_ids()
    );
    assert!(
        parse(&json!({ "url": "amqp://h", "queue": "q", "offset": "begin" }))
            .unwrap_err()
            .contains("first, last, next or a time")
    );
}

pub(super) fn body(event: &Event) -> String {
    String::from_utf8(event.data().unwrap().bytes().to_vec()).unwrap()
}

pub(super) fn event(message: &Message) -> Arc<Event> {
    match &message.arrivals[..] {
        [Arrival::Event(event)] => Arc::clone(event),
        other => panic!("{other:?} of {message:?}"),
    }
}

/// The next messages, until there are so many.
pub(super) async fn take(source: &mut dyn Source, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.extend(
            next_within(source, LONG)
                .await
                .expect("more messages come")
                .unwrap()
                .messages,
        );
    }
    assert_eq!(messages.len(), count);
    messages
}

pub(super) async fn ends(source: &mut dyn Source) -> String {
    loop {
        match next_within(source, LONG).await.expect("the source ends") {
            Err(SourceError::Unavailable(why)) => return why,
            Err(other) => panic!("{other:?}"),
            Ok(batch) => assert!(
                batch
                    .messages
                    .iter()
                    .all(|message| !message.arrivals.is_empty())
            ),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_tried_again_without_being_given_back() {
    // A message that is delivered a second time would be gone.
    let queue = Queue::new("quorum", &[("x-delivery-limit", AMQPValue::LongLongInt(1))]).await;
    let (mut source, _link) = open(&queue.settings(json!({ "prefetch": 2 })))
        .await
        .unwrap();
    queue.publish("poison", plain()).await;
    let mut first = take(&mut *source, 1).await.remove(0);
    let id = event(&first).id().to_owned();
    for verdict in [
        Verdict::Later(Duration::from_millis(50)),
        Verdict::Later(Duration::ZERO),
        Verdict::Failed,
    ] {
        first.acknowledgement.send(verdict).await;
        first = take(&mut *source, 1).await.remove(0);
        assert_eq!(
            (body(&event(&first)), event(&first).id()),
            ("poison".to_owned(), id.as_str())
        );
    }
    // While it rests, others pass: it takes one of the two places, and no more.
    first.acknowledgement.send(Verdict::Later(LONG)).await;
    for n in 0..5 {
        queue.publish(format!("{n}"), plain()).await;
        let next = take(&mut *source, 1).await.remove(0);
        assert_eq!(body(&event(&next)), format!("{n}"));
        next.acknowledgement.send(Verdict::Stored).await;
    }
    drop(source);
    let (mut source, _link) = open(&queue.settings(json!({}))).await.unwrap();
    let again = take(&mut *source, 1).await.remove(0);
    assert_eq!(
        body(&event(&again)),
        "poison",
        "nothing but what was stored is gone"
    );
    again.acknowledgement.send(Verdict::Stored).await;
}

#[tokio::test]
async fn no_more_is_in_hand_than_was_asked_for() {
    let queue = Queue::new("classic", &[]).await;
    for n in 0..5 {
        queue.publish(format!("{n}"), plain()).await;
    }
    let (mut source, link) = open(&queue.settings(json!({ "prefetch": 2 })))
        .await
        .unwrap();
    let held = take(&mut *source, 2).await;
    while link.status().lag != Some(3) {
        assert!(
            next_within(&mut *source, Duration::from_millis(20))
                .await
                .is_none(),
            "a third came before one was acknowledged"
        );
    }
    let mut held = held.into_iter();
    held.next_back()
        .unwrap()
        .acknowledgement
        .send(Verdict::Stored)
        .await;
    assert_eq!(
        body(&event(&take(&mut *source, 1).await[0])),
        "2",
        "acknowledged is the one message, and not those before it"
    );
    assert_eq!(held.len(), 1);
}

#[tokio::test]
async fn everything_at_hand_is_one_batch() {
    let queue = Queue::new("classic", &[]).await;
    let (mut source, _link) = open(&queue.settings(json!({}))).await.unwrap();
    for n in 0..20 {
        queue.publish(format!("{n}"), plain()).await;
    }
    let mut batches = Vec::new();
    while batches.iter().sum::<usize>() < 20 {
        batches.push(
            next_within(&mut *source, LONG)
                .await
                .unwrap()
                .unwrap()
                .messages
                .len(),
        );
    }
    assert!(batches.len() < 20, "{batches:?}");
}

#[tokio::test]
async fn a_queue_is_declared_where_that_is_asked_for() {
    let queue = Queue::new("classic", &[]).await;
    let name = format!("{}-declared", queue.name);
    let exchange = format!("{name}-exchange");
    let declare = |max: u64| {
        let bindings = json!([{ "exchange": exchange, "type": "topic", "routing_key": "order.#" }]);
        queue.settings(json!({
            "queue": name, "declare": { "type": "quorum", "arguments": { "x-max-length": max, "x-overflow": "reject-publish" }, "bindings": bindings },
        }))
    };
    let undeclared = queue.settings(json!({ "queue": name }));
    let OpenError(problem) = open(&undeclared).await.err().unwrap();
    told(
        &problem,
        &[
            "queue: cannot look at the queue",
            "no queue",
            "code 404",
            "write declare: {}",
        ],
    );
    let OpenError(problem) = source(&undeclared).probe().await.unwrap_err();
    told(&problem, &["queue: cannot look at the queue", "code 404"]);
    assert!(
        source(&declare(10))
            .probe()
            .await
            .unwrap()
            .contains("is not there and will be declared")
    );

    let (mut declared, _link) = open(&declare(10)).await.unwrap();
    let published = queue.channel.basic_publish(
        exchange.as_str().into(),
        "order.new".into(),
        BasicPublishOptions::default(),
        b"1",
        plain(),
    );
    published.await.unwrap().await.unwrap();
    let message = take(&mut *declared, 1).await.remove(0);
    assert_eq!(event(&message).subject().unwrap(), "order.new");
    assert!(
        open(&declare(10)).await.is_ok(),
        "the same is taken as it is"
    );
    let OpenError(problem) = open(&declare(11)).await.err().unwrap();
    told(
        &problem,
        &[
            "declare: cannot declare the queue",
            "x-max-length",
            "code 406",
        ],
    );
}

#[tokio::test]
async fn what_a_queue_is_and_how_it_is_read_has_to_fit() {
    for (kind, more, words) in [
        (
            "stream",
            json!({}),
            [
                "offset: cannot read the queue",
                "it is a stream",
                "say where to begin: offset: first",
            ],
        ),
        (
            "classic",
            json!({ "offset": "first" }),
            [
                "offset: cannot read the queue",
                "it is a classic queue",
                "leave offset out",
            ],
        ),
        (
            "quorum",
            json!({ "offset": "last" }),
            [
                "offset: cannot read the queue",
                "it is a quorum queue",
                "leave offset out",
            ],
        ),
        (
            "classic",
            json!({ "declare": { "type": "quorum" } }),
            ["declare: cannot", "classic", "write under declare what it"],
        ),
    ] {
        let queue = Queue::new(kind, &[]).await;
        queue.publish("1", plain()).await;
        let settings = queue.settings(more);
        for problem in [
            open(&settings).await.err().unwrap().0,
            source(&settings).probe().await.unwrap_err().0,
        ] {
            told(&problem, &words);
        }
    }
}
