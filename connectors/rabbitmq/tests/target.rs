//! What targets hold to.

use futures::future::join_all;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, targets};
use crate::{TargetService, TargetSettings};

/// An exchange with one queue behind it that gets everything, and a server that never answers.
struct Fixture {
    queue: Queue,
    exchange: String,
    received: Mutex<Vec<Received>>,
    silent: Silent,
}

impl Fixture {
    async fn new() -> Self {
        let queue = Queue::new("classic", &[]).await;
        let exchange = format!("{}-exchange", queue.name);
        queue
            .exchange(&exchange, ExchangeDeclareOptions::default())
            .await;
        let bind = queue.channel.queue_bind(
            queue.name.as_str().into(),
            exchange.as_str().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.unwrap();
        Self {
            queue,
            exchange,
            received: Mutex::default(),
            silent: Silent::start().await,
        }
    }
}

impl Queue {
    async fn exchange(&self, name: &str, options: ExchangeDeclareOptions) {
        self.channel
            .exchange_declare(
                name.into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
    }
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "rabbitmq";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        json!({ "url": self.queue.url, "exchange": self.exchange, "routing_key": "<$.type>" })
    }

    async fn received(&self) -> Vec<Received> {
        while let Some(delivery) = self.queue.get().await {
            let id = delivery
                .properties
                .message_id()
                .as_ref()
                .unwrap()
                .to_string();
            let headers = delivery.properties.headers().clone().unwrap();
            let trace = match headers.inner().get("traceparent") {
                Some(AMQPValue::LongString(text)) => Some(text.to_string()),
                _ => None,
            };
            self.received.lock().push(Received {
                id,
                texts: vec![delivery.routing_key.to_string()],
                trace,
            });
        }
        self.received.lock().clone()
    }

    fn stalling(&self) -> Option<Value> {
        Some(json!({ "url": format!("amqp://{}", self.silent.address()), "routing_key": "x" }))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let url = &self.queue.url;
        vec![
            (json!({ "url": url }), "routing_key"),
            (
                json!({ "url": "http://127.0.0.1", "routing_key": "q" }),
                "url",
            ),
            (
                json!({ "url": url, "routing_key": "q".repeat(256) }),
                "routing_key",
            ),
            (
                json!({ "url": url, "routing_key": "q", "declare": { "type": "topic" } }),
                "declare",
            ),
            (
                json!({ "url": url, "exchange": "<$.type>", "declare": { "type": "topic" } }),
                "declare",
            ),
        ]
    }
}

#[tokio::test]
async fn conforms() {
    targets(&Fixture::new().await).await;
}

fn target(settings: &Value) -> Box<dyn TargetSettings> {
    let kind = connector("rabbitmq").unwrap().target.built().unwrap();
    (kind.parse)(&mut <dyn erased_serde::Deserializer>::erase(settings)).unwrap()
}

pub(super) async fn service(settings: &Value) -> TargetService {
    target(settings).open(context()).await.unwrap()
}

/// Publishes one event, with the routing key where it is a template.
pub(super) async fn publish(service: &TargetService, id: &str, texts: &[&str]) -> Outcome {
    let mut one = attempt(&[id], 0);
    one.deliveries[0].texts = texts.iter().map(|text| (*text).to_owned()).collect();
    match service.clone().oneshot(one).await {
        Ok(outcomes) => outcomes.into_iter().next().unwrap(),
        Err(error) => Outcome::new(error.class, error.message),
    }
}

pub(super) fn came_to(outcome: &Outcome, class: Class, words: &[&str]) {
    assert_eq!(outcome.class, class, "{outcome:?}");
    assert!(
        words.iter().all(|words| outcome.message.contains(words)),
        "{:?} where {words:?} was expected",
        outcome.message
    );
}

#[tokio::test]
async fn what_is_sent_says_what_it_is_and_outlives_a_restart() {
    let queue = Queue::new("classic", &[]).await;
    let service = service(&json!({ "url": queue.url, "routing_key": queue.name })).await;
    assert_eq!(publish(&service, "1", &[]).await, Outcome::delivered());
    let delivery = queue.get().await.unwrap();
    assert_eq!(*delivery.properties.delivery_mode(), Some(2));
    let headers = delivery.properties.headers().clone().unwrap();
    let header = |name: &str| headers.inner().get(name).cloned();
    assert_eq!(header("cloudEvents:type"), Some(text("com.example.suite")));
    assert_eq!(
        header("pointsman-task"),
        Some(text(&attempt(&["1"], 0).deliveries[0].id.to_string()))
    );
    assert_eq!(
        (header("pointsman-rule"), header("pointsman-attempt")),
        (Some(text("rule")), Some(AMQPValue::LongLongInt(1)))
    );
}

#[tokio::test]
async fn what_reaches_no_queue_is_a_failure_and_stands_alone() {
    let queue = Queue::new("classic", &[]).await;
    let routed = service(&json!({ "url": queue.url, "routing_key": "<$.subject>" })).await;
    // Many at once, so that what comes back is among what does not.
    let calls = (0..100).map(|n| {
        let (routed, queue) = (&routed, &queue);
        async move {
            let key = if n % 3 == 0 {
                "nowhere"
            } else {
                queue.name.as_str()
            };
            (n, publish(routed, &n.to_string(), &[key]).await)
        }
    });
    for (n, outcome) in join_all(calls).await {
        match n % 3 {
            0 => came_to(
                &outcome,
                Class::Failed,
                &["returned the message", "there is no queue \"nowhere\""],
            ),
            _ => came_to(&outcome, Class::Delivered, &[]),
        }
    }
    // Several in one attempt, told apart by their ids.
    let mut together = attempt(&["a", "b", "c"], 0);
    for (run, (delivery, key)) in
        (0..).zip(
            together
                .deliveries
                .iter_mut()
                .zip(["nowhere", &queue.name, "nowhere"]),
        )
    {
        delivery.id.run = run;
        delivery.texts = vec![key.to_owned()];
    }
    let outcomes = routed.clone().oneshot(together).await.unwrap();
    let classes: Vec<_> = outcomes.iter().map(|outcome| outcome.class).collect();
    assert_eq!(classes, [Class::Failed, Class::Delivered, Class::Failed]);

    let careless =
        service(&json!({ "url": queue.url, "routing_key": "nowhere", "mandatory": false })).await;
    came_to(&publish(&careless, "1", &[]).await, Class::Delivered, &[]);
}

#[tokio::test]
async fn what_the_server_refuses_says_why_and_leaves_the_others_alone() {
    let queue = Queue::new(
        "classic",
        &[
            ("x-max-length", AMQPValue::LongLongInt(1)),
            ("x-overflow", text("reject-publish")),
        ],
    )
    .await;
    let internal = format!("{}-internal", queue.name);
    queue
        .exchange(
            &internal,
            ExchangeDeclareOptions {
                internal: true,
                ..ExchangeDeclareOptions::default()
            },
        )
        .await;
    let by_event =
        service(&json!({ "url": queue.url, "exchange": "<$.subject>", "routing_key": queue.name }))
            .await;
    let calls = [
        ["no-such-exchange"],
        [""],
        [internal.as_str()],
        ["no-such-exchange"],
    ]
    .map(|exchange| {
        let by_event = &by_event;
        async move { publish(by_event, "1", &exchange).await }
    });
    let outcomes = join_all(calls).await;
    came_to(
        &outcomes[0],
        Class::Failed,
        &["no exchange 'no-such-exchange'", "code 404"],
    );
    came_to(&outcomes[1], Class::Delivered, &[]);
    came_to(
        &outcomes[2],
        Class::Refused,
        &["internal exchange", "code 403"],
    );
    came_to(&outcomes[3], Class::Failed, &["code 404"]);
    came_to(
        &publish(&by_event, "2", &[""]).await,
        Class::Throttled,
        &["nack", "full"],
    );
    came_to(
        &publish(&by_event, "2", &[&"x".repeat(256)]).await,
        Class::Rejected,
        &["longer than 255 bytes"],
    );
    queue.get().await.unwrap();
    came_to(&publish(&by_event, "3", &[""]).await, Class::Delivered, &[]);
}

#[tokio::test]
async fn an_exchange_is_declared_where_that_is_asked_for() {
    let queue = Queue::new("classic", &[]).await;
    let exchange = format!("{}-made", queue.name);
    let settings = |more: Value| {
        let mut settings = json!({ "url": queue.url, "exchange": exchange, "mandatory": false });
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        settings
    };
    came_to(
        &publish(&service(&settings(json!({}))).await, "1", &[]).await,
        Class::Failed,
        &["code 404"],
    );
    let OpenError(problem) = target(&settings(json!({}))).probe().await.unwrap_err();
    told(
        &problem,
        &[
            "exchange: cannot look at the exchange",
            "code 404",
            "write declare: { type: topic }",
        ],
    );
    let declaring = settings(json!({ "declare": { "type": "fanout" } }));
    assert!(
        target(&declaring)
            .probe()
            .await
            .unwrap()
            .contains("is declared at the first event")
    );
    came_to(
        &publish(&service(&declaring).await, "1", &[]).await,
        Class::Delivered,
        &[],
    );
    assert!(
        target(&settings(json!({})))
            .probe()
            .await
            .unwrap()
            .contains("is there")
    );
}
