//! What targets hold to, and what becomes of messages.

use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};
use pointsman_test_brokers::{Fault, Proxy};
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{Attempt, TargetService, TargetSettings};

/// A FIFO queue, whose messages are taken out as they are looked at, and a server that never
/// answers.
struct Fixture {
    queue: Queue,
    received: Mutex<Vec<Received>>,
    silent: Silent,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "sqs";

    fn settings(&self) -> Value {
        let texts = json!({ "group": "<$.type>", "deduplication": "<$.id>" });
        self.queue.settings(texts)
    }

    async fn received(&self) -> Vec<Received> {
        for message in self.queue.take_all().await {
            let system = message.attributes.unwrap();
            let text = |name: System| system[&name].clone();
            let attributes = message.message_attributes.unwrap();
            let attribute = |name| attributes.get(name)?.string_value.clone();
            self.received.lock().push(Received {
                id: attribute("ce-id").unwrap(),
                // The suite's event leaves no room for it.
                trace: attribute("traceparent"),
                texts: vec![
                    text(System::MessageGroupId),
                    text(System::MessageDeduplicationId),
                ],
            });
        }
        self.received.lock().clone()
    }

    fn stalling(&self) -> Option<Value> {
        let nobody = format!("http://{}", self.silent.address());
        Some(
            self.queue
                .settings(json!({ "queue": "q", "endpoint": nobody })),
        )
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let of = |more: Value| self.queue.settings(more);
        vec![
            (of(json!({ "queue": "a b" })), "queue"),
            (of(json!({})), "group"),
            (of(json!({ "group": "two words" })), "group"),
            (
                of(json!({ "queue": "q", "deduplication": "x" })),
                "deduplication",
            ),
            (of(json!({ "group": "g", "delay": "1s" })), "delay"),
            (of(json!({ "queue": "q", "delay": "16m" })), "delay"),
            (of(json!({ "queue": "q", "delay": "1500ms" })), "delay"),
            (of(json!({ "queue": "q", "endpoint": "h" })), "endpoint"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        queue: Queue::fifo().await,
        received: Mutex::default(),
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

impl Queue {
    /// Takes out all messages that there are.
    async fn take_all(&self) -> Vec<aws_sdk_sqs::types::Message> {
        let mut all = Vec::new();
        loop {
            let asked = self.client.receive_message().queue_url(&self.url);
            let told = asked
                .max_number_of_messages(10)
                .message_attribute_names("All")
                .message_system_attribute_names(System::All)
                .send();
            let taken = told.await.unwrap().messages.unwrap_or_default();
            if taken.is_empty() {
                return all;
            }
            for message in &taken {
                let receipt = message.receipt_handle().unwrap();
                let delete = self.client.delete_message().queue_url(&self.url);
                delete.receipt_handle(receipt).send().await.unwrap();
            }
            all.extend(taken);
        }
    }
}

fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    parse("sqs", settings).unwrap()
}

async fn service(settings: &Value) -> TargetService {
    parsed(settings).open(context()).await.unwrap()
}

/// A target at a server of canned answers.
async fn at(server: &Canned, more: Value) -> TargetService {
    let mut settings = json!({
        "queue": "http://h/1/orders",
        "endpoint": server.endpoint(),
        "credentials": { "access_key": "k", "secret_key": "s" },
    });
    let fields = settings.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    service(&settings).await
}

async fn send(service: &TargetService, attempt: Attempt) -> Vec<Outcome> {
    service.clone().oneshot(attempt).await.unwrap()
}

async fn send_one(service: &TargetService) -> Outcome {
    let mut outcomes = send(service, attempt(&["1"], 0)).await;
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

fn batch(ids: &[&str]) -> Attempt {
    Attempt {
        is_batch: true,
        ..attempt(ids, 0)
    }
}

fn classes(outcomes: &[Outcome]) -> Vec<Class> {
    outcomes.iter().map(|outcome| outcome.class).collect()
}

#[tokio::test]
async fn a_message_says_which_task_it_is_and_a_second_one_of_it_is_left_out() {
    let queue = Queue::fifo().await;
    let service = service(&queue.settings(json!({ "group": "g" }))).await;
    let first = attempt(&["1"], 0);
    let task = first.deliveries[0].id.to_string();
    let again = first.clone();
    for attempt in [first, again] {
        assert_eq!(classes(&send(&service, attempt).await), [Class::Delivered]);
    }
    let taken = queue.take_all().await;
    let [message] = taken.as_slice() else {
        panic!("the second is left out: {taken:?}");
    };
    let attributes = message.message_attributes.as_ref().unwrap();
    assert_eq!(attributes["pointsman-task"].string_value(), Some(&*task));
    assert_eq!(attributes["pointsman-attempt"].string_value(), Some("1"));
    assert_eq!(attributes["pointsman-rule"].string_value(), Some("rule"));
}

#[tokio::test]
async fn a_batch_goes_out_ten_with_one_call() {
    let server = Canned::start(|action, count| match (action, count) {
        ("SendMessageBatch", 0) => (
            200,
            r#"{"Successful":[{"Id":"0"},{"Id":"3"},{"Id":"4"},{"Id":"5"},{"Id":"6"},{"Id":"7"},{"Id":"9"}],
                "Failed":[{"Id":"1","Code":"InvalidMessageContents","Message":"no","SenderFault":true},
                {"Id":"2","Code":"InternalError","SenderFault":false}]}"#,
        ),
        ("SendMessage", _) => (200, "{}"),
        _ => panic!("{action}"),
    })
    .await;
    let service = at(&server, json!({ "delay": "5s" })).await;
    let ids = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
    let outcomes = send(&service, batch(&ids)).await;
    let mut expect = [Class::Delivered; 11];
    expect[1] = Class::Rejected;
    expect[2] = Class::Failed;
    // Nothing is said of it.
    expect[8] = Class::Failed;
    assert_eq!(classes(&outcomes), expect);
    assert!(
        outcomes[1].message.contains("InvalidMessageContents no"),
        "{outcomes:?}"
    );
    let sent = server.asked("SendMessageBatch");
    let [first] = sent.as_slice() else {
        panic!("one call for ten: {sent:?}");
    };
    assert_eq!(first["QueueUrl"], "http://h/1/orders");
    let entries = first["Entries"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(
        (&entries[9]["Id"], &entries[9]["DelaySeconds"]),
        (&json!("9"), &json!(5))
    );
    let id = |message: &Value| message["MessageAttributes"]["ce-id"]["StringValue"].clone();
    assert_eq!(id(&entries[9]), "9");
    assert_eq!(id(&server.asked("SendMessage")[0]), "10");
}

#[tokio::test]
async fn of_a_batch_that_is_rejected_whole_each_goes_alone() {
    let server = Canned::start(|action, count| match (action, count) {
        ("SendMessage", 1) => (
            400,
            r#"{"__type":"com.amazonaws.sqs#InvalidMessageContents"}"#,
        ),
        ("SendMessage", _) => (200, "{}"),
        _ => (400, r#"{"__type":"com.amazonaws.sqs#BatchRequestTooLong"}"#),
    })
    .await;
    let outcomes = send(&at(&server, json!({})).await, batch(&["0", "1", "2"])).await;
    let expect = [Class::Delivered, Class::Rejected, Class::Delivered];
    assert_eq!(classes(&outcomes), expect);
    assert_eq!(server.asked("SendMessageBatch").len(), 1);
}

#[tokio::test]
async fn a_queue_that_is_throttled_is_not_asked_for_the_rest() {
    let server = Canned::start(|_, _| {
        (
            400,
            r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow"}"#,
        )
    })
    .await;
    let ids: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let outcomes = send(&at(&server, json!({})).await, batch(&ids)).await;
    assert_eq!(classes(&outcomes), [Class::Throttled; 25]);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_a_failure() {
    let server = Canned::start(|_, _| (200, "<html>")).await;
    let outcomes = send(&at(&server, json!({})).await, batch(&["0", "1"])).await;
    assert_eq!(classes(&outcomes), [Class::Failed; 2]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_a_dead_letter_and_the_rest_goes() {
    let server = Canned::start(|_, _| (200, "{}")).await;
    let service = at(
        &server,
        json!({ "queue": "http://h/1/o.fifo", "group": "<$.subject>" }),
    )
    .await;
    let mut three = attempt(&["1", "2", "3"], 1);
    three.deliveries[1].texts = vec!["two words".to_owned()];
    three.deliveries.truncate(2);
    let outcomes = send(&service, three).await;
    assert_eq!(classes(&outcomes), [Class::Delivered, Class::Rejected]);
    assert_eq!(server.asked("SendMessage").len(), 1);
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_waited_for() {
    let server = server().await;
    let mut queue = Queue::new().await;
    queue.name = format!("later-{:x}", rand::random::<u64>());
    queue.url = server.queue_url(&queue.name);
    for named in [json!({}), json!({ "queue": queue.url })] {
        let service = service(&queue.settings(named)).await;
        let outcome = send_one(&service).await;
        assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");
        assert!(outcome.message.contains(&queue.name), "{outcome:?}");
        queue.make().await;
        assert_eq!(send_one(&service).await.class, Class::Delivered);
        queue
            .client
            .delete_queue()
            .queue_url(&queue.url)
            .send()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_has_not_left_us_is_told_from_what_may_have_arrived() {
    let queue = Queue::new().await;
    let proxy = Proxy::start(server().await.port());
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let service = service(&queue.settings(json!({ "endpoint": endpoint }))).await;
    assert_eq!(send_one(&service).await.class, Class::Delivered);
    proxy.set(Fault::Refuse);
    let outcome = send_one(&service).await;
    assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");
    proxy.set(Fault::None);
    // It takes the proxy a moment to listen again.
    let back = async { while send_one(&service).await.class != Class::Delivered {} };
    timeout(LONG, back).await.unwrap();
    proxy.set(Fault::HalfOpen);
    let short = Attempt {
        timeout: Duration::from_secs(2),
        ..batch(&["1", "2"])
    };
    let outcomes = send(&service, short).await;
    assert_eq!(classes(&outcomes), [Class::Failed; 2], "{outcomes:?}");
    proxy.set(Fault::None);
    let sent = queue.left().await;
    assert!((4..=9).contains(&sent), "what failed had arrived: {sent}");
}

#[tokio::test]
async fn what_a_probe_tells() {
    let queue = Queue::new().await;
    queue.send("a", &[]).await;
    let told = parsed(&queue.settings(json!({}))).probe().await.unwrap();
    assert!(told.starts_with("1 messages wait in the queue"), "{told}");
    let missing = queue.settings(json!({ "queue": "no-such-queue" }));
    let told = parsed(&missing).probe().await.unwrap_err().0.to_string();
    assert!(
        told.starts_with("queue: there is no queue no-such-queue"),
        "{told}"
    );
}

#[tokio::test]
async fn private_addresses_are_called_where_they_may_be() {
    let queue = Queue::new().await;
    let elsewhere = crate::TargetContext {
        allow_private_addresses: false,
        ..context()
    };
    let service = parsed(&queue.settings(json!({})))
        .open(elsewhere)
        .await
        .unwrap();
    let outcome = send_one(&service).await;
    assert_eq!(outcome.class, Class::Rejected, "{outcome:?}");
    assert_eq!(queue.left().await, 0);
}
