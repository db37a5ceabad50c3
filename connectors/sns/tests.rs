//! Against moto, with a queue that gets what is published, and canned answers where moto cannot fail
//! as SNS does.

use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::publisher::VERSION;
use crate::suite::moto::{keys, moto, query, queue, take_all, unique};
use crate::suite::{Canned, Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{Attempt, TargetService};

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:orders";

/// Makes a topic with a queue behind it, and tells its ARN and the queue's URL.
async fn topic() -> (String, String) {
    let name = unique("topic");
    let made = query("sns", "CreateTopic", VERSION, &[("Name", &name)]).await;
    let arn = made
        .find("CreateTopicResult")
        .unwrap()
        .text_of("TopicArn")
        .unwrap();
    let (url, queue) = queue().await;
    let fields = [("TopicArn", arn), ("Protocol", "sqs"), ("Endpoint", &queue)];
    query("sns", "Subscribe", VERSION, &fields).await;
    (arn.to_owned(), url)
}

/// A topic, what has come out of the queue behind it, and a server that never answers.
struct Fixture {
    topic: String,
    queue: String,
    received: Mutex<Vec<Received>>,
    silent: Silent,
    endpoint: String,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "sns";

    fn settings(&self) -> Value {
        json!({
            "topic": self.topic, "endpoint": self.endpoint, "credentials": keys(),
            "subject": "about <$.subject>",
        })
    }

    async fn received(&self) -> Vec<Received> {
        for message in take_all(&self.queue).await {
            let attribute = |name: &str| {
                let value = message["MessageAttributes"][name]["Value"].as_str();
                value.map(str::to_owned)
            };
            self.received.lock().push(Received {
                id: attribute("ce-id").unwrap(),
                texts: vec![message["Subject"].as_str().unwrap().to_owned()],
                // The suite's event leaves no room for it.
                trace: attribute("traceparent"),
            });
        }
        self.received.lock().clone()
    }

    fn stalling(&self) -> Option<Value> {
        let nobody = format!("http://{}", self.silent.address());
        Some(json!({ "topic": TOPIC, "endpoint": nobody, "credentials": keys() }))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let fifo = format!("{TOPIC}.fifo");
        vec![
            (json!({ "topic": "orders" }), "topic"),
            (json!({ "topic": TOPIC.replace("sns", "sqs") }), "topic"),
            (json!({ "topic": fifo }), "group"),
            (json!({ "topic": fifo, "group": "two words" }), "group"),
            (
                json!({ "topic": TOPIC, "deduplication": "x" }),
                "deduplication",
            ),
            (json!({ "topic": TOPIC, "endpoint": "h" }), "endpoint"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let (topic, queue) = topic().await;
    let fixture = Fixture {
        topic,
        queue,
        received: Mutex::default(),
        silent: Silent::start().await,
        endpoint: moto().await.endpoint(),
    };
    targets(&fixture).await;
}

async fn at(server: &Canned, more: Value) -> TargetService {
    let mut settings = json!({
        "topic": TOPIC, "endpoint": server.endpoint(), "credentials": keys(),
    });
    let fields = settings.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    let settings = parse("sns", &settings).unwrap();
    settings.open(context()).await.unwrap()
}

async fn classes(service: &TargetService, attempt: Attempt) -> Vec<Class> {
    let outcomes: Vec<Outcome> = service.clone().oneshot(attempt).await.unwrap();
    outcomes.iter().map(|outcome| outcome.class).collect()
}

const PUBLISHED: &str =
    "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";

#[tokio::test]
async fn a_fifo_topic_gets_a_group_and_the_tasks_id() {
    let server = Canned::start(|_, _| (200, PUBLISHED)).await;
    let fifo = json!({ "topic": format!("{TOPIC}.fifo"), "group": "g", "mode": "structured" });
    let service = at(&server, fifo).await;
    let one = attempt(&["1"], 0);
    let task = one.deliveries[0].id.to_string();
    assert_eq!(classes(&service, one).await, [Class::Delivered]);
    let asked = server.asked("Publish").remove(0);
    assert_eq!(asked["TopicArn"], format!("{TOPIC}.fifo"));
    assert_eq!(asked["MessageGroupId"], "g");
    assert_eq!(asked["MessageDeduplicationId"], task);
    assert!(
        asked["Message"].as_str().unwrap().contains("\"id\":\"1\""),
        "{asked}"
    );
    assert_eq!(asked["MessageAttributes.entry.1.Name"], "content-type");
    let value = &asked["MessageAttributes.entry.1.Value.StringValue"];
    assert_eq!(value, "application/cloudevents+json");
    assert_eq!(asked.get("Subject"), None);
}

#[tokio::test]
async fn of_a_batch_each_message_is_looked_at() {
    let server = Canned::start(|_, _| {
        (
            200,
            "<?xml version=\"1.0\"?><PublishBatchResponse xmlns=\"u:x\"><PublishBatchResult>
               <Failed>
                 <member><Id>1</Id><Code>InvalidParameter</Code><Message>a &lt; b</Message><SenderFault>true</SenderFault></member>
                 <member><Id>2</Id><Code>InternalError</Code><SenderFault>false</SenderFault></member>
               </Failed>
               <Successful><member><MessageId>m</MessageId><Id>0</Id></member></Successful>
             </PublishBatchResult></PublishBatchResponse>",
        )
    })
    .await;
    let service = at(&server, json!({ "subject": "s" })).await;
    let batch = Attempt {
        is_batch: true,
        ..attempt(&["0", "1", "2", "3"], 0)
    };
    let outcomes = service.oneshot(batch).await.unwrap();
    let classes: Vec<_> = outcomes.iter().map(|outcome| outcome.class).collect();
    let expect = [
        Class::Delivered,
        Class::Rejected,
        Class::Failed,
        Class::Failed,
    ];
    assert_eq!(classes, expect);
    assert!(
        outcomes[1].message.ends_with("InvalidParameter a < b"),
        "{outcomes:?}"
    );
    let asked = server.asked("PublishBatch").remove(0);
    assert_eq!(asked["PublishBatchRequestEntries.member.4.Id"], "3");
    assert_eq!(asked["PublishBatchRequestEntries.member.4.Subject"], "s");
    assert_eq!(
        asked["PublishBatchRequestEntries.member.4.MessageAttributes.entry.2.Name"],
        "ce-specversion"
    );
}

#[tokio::test]
async fn what_sns_answers_has_a_class() {
    for (status, code, class) in [
        (400, "Throttling", Class::Throttled),
        (403, "AuthorizationError", Class::Refused),
        (403, "InvalidClientTokenId", Class::Refused),
        (404, "NotFound", Class::Unavailable),
        (400, "KMSThrottling", Class::Throttled),
        (400, "KMSDisabled", Class::Unavailable),
        (400, "InvalidParameter", Class::Rejected),
        (500, "InternalError", Class::Failed),
    ] {
        let body = format!(
            "<ErrorResponse xmlns=\"u:x\"><Error><Type>Sender</Type><Code>{code}</Code><Message>so it is</Message></Error></ErrorResponse>"
        );
        let server = Canned::start(move |_, _| (status, body.clone())).await;
        let service = at(&server, json!({})).await;
        let outcome = service.oneshot(attempt(&["1"], 0)).await.unwrap().remove(0);
        assert_eq!(outcome.class, class, "{code}: {outcome:?}");
        assert!(
            outcome
                .message
                .ends_with(&format!("{status} {code} so it is")),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn what_a_probe_tells() {
    let told = async |topic: &str, endpoint: &str| {
        let settings = json!({ "topic": topic, "endpoint": endpoint, "credentials": keys() });
        let told = parse("sns", &settings).unwrap().probe().await;
        told.map_err(|error| error.0.to_string())
    };
    let endpoint = moto().await.endpoint();
    let (topic, _) = topic().await;
    let there = told(&topic, &endpoint).await.unwrap();
    assert!(there.contains("is there"), "{there}");
    let missing = told(TOPIC, &endpoint).await.unwrap_err();
    assert!(missing.starts_with("topic: there is no topic"), "{missing}");
    let forbidding = Canned::start(|_, _| {
        (
            403,
            "<ErrorResponse><Error><Code>AuthorizationError</Code></Error></ErrorResponse>",
        )
    })
    .await;
    let unseen = told(TOPIC, forbidding.endpoint()).await.unwrap();
    assert!(unseen.contains("may not be asked"), "{unseen}");
    let nobody = format!("http://127.0.0.1:{}", pointsman_test_brokers::free_port());
    let nobody = told(TOPIC, &nobody).await.unwrap_err();
    assert!(nobody.starts_with("endpoint: cannot reach SNS"), "{nobody}");
}
