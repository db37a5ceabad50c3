//! What targets hold to.

use pointsman_schemas::{Class, Event, Outcome};
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, targets};
use crate::{TargetService, TargetSettings};

/// A topic, and a server that never answers.
struct Fixture {
    topics: Topics,
    silent: Silent,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "kafka";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        json!({ "brokers": self.topics.brokers, "topic": self.topics.name(), "key": "<$.type>" })
    }

    async fn received(&self) -> Vec<Received> {
        let records = self.topics.records(self.topics.name()).await;
        let received = |record: &ConsumerRecord| Received {
            id: record.header_str("ce_id").unwrap().to_owned(),
            texts: vec![record.key_str().unwrap().to_owned()],
            trace: record.header_str("traceparent").map(str::to_owned),
        };
        records.iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        Some(json!({ "brokers": self.silent.address(), "topic": "x" }))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "brokers": "amqp://h", "topic": "t" }), "brokers"),
            (json!({ "brokers": "h", "topic": "a/b" }), "topic"),
            (
                json!({ "brokers": "h", "topic": "t", "tls": { "certificate": "x" } }),
                "tls.certificate",
            ),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        topics: Topics::new(&[1]).await,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

pub(super) fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    crate::suite::parse("kafka", settings).unwrap()
}

pub(super) async fn service(settings: &Value) -> TargetService {
    parsed(settings).open(context()).await.unwrap()
}

/// Writes one event, and tells what became of it.
pub(super) async fn write(service: &TargetService, id: &str, texts: &[&str]) -> Outcome {
    let mut attempt = attempt(&[id], 0);
    attempt.deliveries[0].texts = texts.iter().map(|text| (*text).to_owned()).collect();
    match service.clone().oneshot(attempt).await {
        Ok(outcomes) => outcomes.into_iter().next().unwrap(),
        Err(error) => Outcome::new(error.class, error.message),
    }
}

/// Writes an event, and tells what became of it.
async fn write_event(service: &TargetService, event: Event) -> Outcome {
    let mut attempt = attempt(&["x"], 0);
    attempt.deliveries[0].event = Arc::new(event);
    let outcomes = service.clone().oneshot(attempt).await.unwrap();
    outcomes.into_iter().next().unwrap()
}

#[tokio::test]
async fn an_outcome_says_what_follows() {
    let topics = Topics::new(&[2]).await;
    let of = |more: Value| {
        let mut settings = json!({ "brokers": topics.brokers });
        let map = settings.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        settings
    };
    let missing = service(&of(json!({ "topic": "no-such-topic" }))).await;
    let outcome = write(&missing, "1", &[]).await;
    assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");
    assert!(outcome.message.contains("no-such-topic"));

    let filled = service(&of(json!({ "topic": "<$.data.topic>" }))).await;
    for (topic, class) in [
        ("no-such-topic", Class::Failed),
        ("a b", Class::Rejected),
        (topics.name(), Class::Delivered),
    ] {
        let outcome = write(&filled, "1", &[topic]).await;
        assert_eq!(outcome.class, class, "{topic}: {outcome:?}");
    }

    let named = service(&of(json!({ "topic": topics.name() }))).await;
    let large = Event::builder("1", "/s", "t")
        .data(pointsman_schemas::Data::binary(Bytes::from(vec![
            0;
            3 << 20
        ])))
        .build()
        .unwrap();
    let outcome = write_event(&named, large).await;
    assert_eq!(outcome.class, Class::Rejected, "{outcome:?}");
    assert_eq!(write(&named, "2", &[]).await.class, Class::Delivered);

    let nobody = service(&json!({ "brokers": "127.0.0.1:1", "topic": "t" })).await;
    let outcome = write(&nobody, "1", &[]).await;
    assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");
}

#[tokio::test]
async fn keys_and_modes() {
    let topics = Topics::new(&[1]).await;
    let settings = |more: Value| {
        let mut settings = json!({ "brokers": topics.brokers, "topic": topics.name() });
        let map = settings.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        settings
    };
    let event = |id: &str| {
        let event = crate::suite::event(id).into_builder();
        event.attribute("partitionkey", "p".into()).build().unwrap()
    };
    for more in [
        json!({}),
        json!({ "key": "k", "mode": "structured" }),
        json!({ "key": "", "mode": "data" }),
    ] {
        let service = service(&settings(more)).await;
        let outcome = write_event(&service, event("1")).await;
        assert_eq!(outcome.class, Class::Delivered, "{outcome:?}");
    }
    let gone = Event::builder("2", "/s", "t").subject("s").build().unwrap();
    let service = service(&settings(json!({ "key": "k" }))).await;
    assert_eq!(write_event(&service, gone).await.class, Class::Delivered);
    let records = topics.records(topics.name()).await;
    let found: Vec<_> = records
        .iter()
        .map(|record| {
            let header = |name| record.header_str(name);
            let id = header("ce_id");
            (
                record.key_str(),
                id,
                header("content-type"),
                record.value.is_some(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (Some("p"), Some("1"), Some("application/json"), true),
            (Some("k"), None, Some("application/cloudevents+json"), true),
            (None, None, Some("application/json"), true),
            (Some("k"), Some("2"), None, false),
        ]
    );
    assert!(
        records
            .iter()
            .all(|record| record.header_str("pointsman-task").is_some()
                && record.header_str("pointsman-attempt") == Some("1"))
    );
}

#[tokio::test]
async fn what_a_probe_tells() {
    let topics = Topics::new(&[2]).await;
    let settings = json!({ "brokers": topics.brokers, "topic": topics.name() });
    let told = parsed(&settings).probe().await.unwrap();
    assert!(
        told.ends_with(&format!("the topic {} has 2 partitions", topics.name())),
        "{told}"
    );
    let settings = json!({ "brokers": topics.brokers, "topic": "<$.type>" });
    assert!(
        parsed(&settings)
            .probe()
            .await
            .unwrap()
            .contains("depends on the event")
    );
    let settings = json!({ "brokers": topics.brokers, "topic": "no-such-topic" });
    let missing = parsed(&settings).probe().await.unwrap_err();
    super::told(
        &missing.0,
        &["topic: there is no topic no-such-topic", "make it"],
    );
    let elsewhere = crate::TargetContext {
        allow_private_addresses: false,
        ..context()
    };
    assert!(parsed(&settings).open(elsewhere).await.is_err());
}
