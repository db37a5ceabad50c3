//! What targets hold to.

use pointsman_schemas::{Class, Data, Event, Outcome};
use pointsman_test_brokers::{MnsMessage, Told};
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{TargetService, TargetSettings};

/// A topic, and a server that never answers.
struct Fixture {
    queue: Queue,
    silent: Silent,
}

/// The event that a body is.
fn event_of(message: &MnsMessage) -> Value {
    serde_json::from_slice(&BASE64_STANDARD.decode(&message.body).unwrap()).unwrap()
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "mns";

    fn settings(&self) -> Value {
        let of = json!({ "queue": null, "topic": "events", "tag": "<$.type>" });
        self.queue.settings(of)
    }

    async fn received(&self) -> Vec<Received> {
        let published = self.queue.server.published("events");
        let received = |message: &MnsMessage| Received {
            id: event_of(message)["id"].as_str().unwrap().to_owned(),
            texts: vec![message.tag.clone().unwrap()],
            trace: None,
        };
        published.iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        Some(
            self.queue
                .settings(json!({ "endpoint": format!("http://{}", self.silent.address()) })),
        )
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.queue.settings(more);
        vec![
            (with(json!({ "topic": "t" })), "queue"),
            (with(json!({ "queue": null })), "queue"),
            (with(json!({ "queue": "a b" })), "queue"),
            (with(json!({ "queue": null, "topic": "a/b" })), "topic"),
            (with(json!({ "endpoint": "h" })), "endpoint"),
            (with(json!({ "tag": "t" })), "tag"),
            (
                with(json!({ "queue": null, "topic": "t", "delay": "1s" })),
                "delay",
            ),
            (
                with(json!({ "queue": null, "topic": "t", "priority": 1 })),
                "priority",
            ),
            (with(json!({ "delay": "8d" })), "delay"),
            (with(json!({ "delay": "1500ms" })), "delay"),
            (with(json!({ "priority": 17 })), "priority"),
            (with(json!({ "priority": 0 })), "priority"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        queue: Queue::new().await,
        silent: Silent::start().await,
    };
    fixture.queue.server.make_topic("events");
    targets(&fixture).await;
}

fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    parse("mns", settings).unwrap()
}

async fn service(settings: &Value) -> TargetService {
    parsed(settings).open(context()).await.unwrap()
}

async fn send(service: &TargetService, ids: &[&str]) -> Vec<Outcome> {
    let sent = service.clone().oneshot(attempt(ids, 0)).await;
    sent.unwrap()
}

async fn send_event(service: &TargetService, event: Event) -> Outcome {
    let mut attempt = attempt(&["x"], 0);
    attempt.deliveries[0].event = Arc::new(event);
    let outcomes = service.clone().oneshot(attempt).await.unwrap();
    outcomes.into_iter().next().unwrap()
}

fn classes(outcomes: &[Outcome]) -> Vec<Class> {
    outcomes.iter().map(|outcome| outcome.class).collect()
}

fn binary(bytes: Vec<u8>) -> Event {
    let event = Event::builder("1", "/s", "t").data(Data::binary(bytes.into()));
    event.build().unwrap()
}

#[tokio::test]
async fn modes_encodings_delay_and_priority() {
    let queue = Queue::new().await;
    for more in [
        json!({ "delay": "7d", "priority": 1 }),
        json!({ "mode": "data" }),
        json!({ "mode": "data", "encoding": "text" }),
    ] {
        let service = service(&queue.settings(more)).await;
        assert_eq!(classes(&send(&service, &["1"]).await), [Class::Delivered]);
    }
    let messages = queue.server.messages(&queue.name);
    assert_eq!(
        messages
            .iter()
            .map(|message| (message.delay, message.priority))
            .collect::<Vec<_>>(),
        [(Some(604_800), Some(1)), (None, None), (None, None)]
    );
    let event = event_of(&messages[0]);
    assert_eq!(event["id"], "1");
    assert_eq!(event["pointsmantask"], "0000000000000001-2-3-0");
    assert_eq!(event["pointsmanattempt"], "1");
    assert_eq!(event["pointsmanrule"], "rule");
    let data = crate::suite::event("1");
    let data = data.data().unwrap().bytes();
    assert_eq!(
        BASE64_STANDARD.decode(&messages[1].body).unwrap(),
        data.to_vec()
    );
    assert_eq!(
        messages[2].body.replace("&#13;", "\r").as_bytes(),
        &data[..]
    );

    // As text, XML cannot carry it.
    let text = service(&queue.settings(json!({ "mode": "data", "encoding": "text" }))).await;
    let outcome = send_event(&text, binary(vec![0xff, 1])).await;
    assert_eq!(outcome.class, Class::Rejected, "{outcome:?}");
    let empty = Event::builder("1", "/s", "t").build().unwrap();
    assert_eq!(send_event(&text, empty).await.class, Class::Rejected);
    assert_eq!(queue.left(), 3);
}

#[tokio::test]
async fn several_go_with_one_call_and_no_more_than_it_takes() {
    let queue = Queue::new().await;
    let service = service(&queue.settings(json!({}))).await;
    let ids: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let outcomes = send(&service, &ids).await;
    assert_eq!(classes(&outcomes), vec![Class::Delivered; 40]);
    assert_eq!(queue.server.asked("SendMessage"), 3);
    let messages = queue.server.messages(&queue.name);
    let found: Vec<_> = messages.iter().map(event_of).collect();
    let found: Vec<_> = found
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(found, ids);

    // By their size: 20 KB each are 27 KB in base64, of which two fit.
    let mut attempt = attempt(&["a", "b", "c", "d"], 0);
    for delivery in &mut attempt.deliveries {
        delivery.event = Arc::new(binary(vec![7; 15_000]));
    }
    let outcomes = service.clone().oneshot(attempt).await.unwrap();
    assert_eq!(classes(&outcomes), [Class::Delivered; 4]);
    assert_eq!(queue.server.asked("SendMessage"), 5);
    // One that is too large by itself is MNS's to refuse, and holds up no other.
    let mut attempt = crate::suite::attempt(&["a", "b", "c"], 0);
    attempt.deliveries[1].event = Arc::new(binary(vec![7; 70_000]));
    let outcomes = service.oneshot(attempt).await.unwrap();
    assert_eq!(
        classes(&outcomes),
        [Class::Delivered, Class::Rejected, Class::Delivered]
    );
}

#[tokio::test]
async fn of_a_call_each_message_has_its_outcome() {
    let queue = Queue::new().await;
    let service = service(&queue.settings(json!({}))).await;
    let entry = |inner: &str| format!("<Message>{inner}</Message>");
    let failed = |code: &str| {
        entry(&format!(
            "<ErrorCode>{code}</ErrorCode><ErrorMessage>m</ErrorMessage>"
        ))
    };
    let list = [
        entry("<MessageId>1</MessageId><MessageBodyMD5>0</MessageBodyMD5>"),
        failed("InternalError"),
        failed("QpsLimitExceeded"),
        failed("InvalidArgument"),
    ]
    .concat();
    let list = format!("<Messages xmlns=\"http://mns.aliyuncs.com/doc/v1/\">{list}</Messages>");
    queue.server.answer("SendMessage", Told::new(500, list));
    let outcomes = send(&service, &["a", "b", "c", "d"]).await;
    assert_eq!(
        classes(&outcomes),
        [
            Class::Delivered,
            Class::Failed,
            Class::Throttled,
            Class::Rejected
        ]
    );
}

#[tokio::test]
async fn an_outcome_says_what_follows() {
    let queue = Queue::new().await;
    let named = service(&queue.settings(json!({}))).await;
    let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    for (status, body, class) in [
        (503, error("QpsLimitExceeded"), Class::Throttled),
        (503, String::new(), Class::Throttled),
        (429, error("Throttling.User"), Class::Throttled),
        (403, error("AccessDenied"), Class::Refused),
        (403, error("InvalidAccessKeyId"), Class::Refused),
        (400, error("InvalidAuthorizationHeader"), Class::Refused),
        (408, error("TimeExpired"), Class::Unavailable),
        (404, error("QueueNotExist"), Class::Unavailable),
        (502, "<html>".to_owned(), Class::Unavailable),
        (404, "<html>".to_owned(), Class::Failed),
        (200, "<html>".to_owned(), Class::Failed),
        (500, error("InternalError"), Class::Failed),
        (400, error("MalformedXML"), Class::Rejected),
    ] {
        let told = Told::new(status, body.clone()).header("retry-after", "7");
        queue.server.answer("SendMessage", told);
        let outcomes = send(&named, &["1"]).await;
        assert_eq!(classes(&outcomes), [class], "{status} {body}: {outcomes:?}");
        let waits = outcomes[0].retry_after == Some(Duration::from_secs(7));
        assert_eq!(waits, class == Class::Throttled, "{status} {body}");
    }
    let (missing, nobody) = (
        json!({ "queue": null, "topic": "no-such-topic" }),
        json!({ "endpoint": "http://127.0.0.1:1" }),
    );
    let wrong = json!({ "credentials": { "access_key": MNS_KEYS.0, "secret_key": "wrong" } });
    for (more, class) in [
        (missing, Class::Unavailable),
        (nobody, Class::Unavailable),
        (wrong, Class::Refused),
    ] {
        let service = service(&queue.settings(more.clone())).await;
        let outcomes = send(&service, &["1"]).await;
        assert_eq!(classes(&outcomes), [class], "{more}: {outcomes:?}");
    }
    assert_eq!(queue.left(), 0);
}

#[tokio::test]
async fn what_a_probe_tells() {
    let queue = Queue::new().await;
    queue.server.make_topic("events");
    let told = parsed(&queue.settings(json!({}))).probe().await.unwrap();
    let expect = format!("the queue {} is there; 0 messages wait in it", queue.name);
    assert_eq!(told, expect);
    let of = |topic: &str| queue.settings(json!({ "queue": null, "topic": topic }));
    let told = parsed(&of("events")).probe().await.unwrap();
    assert_eq!(told, "the topic events is there");
    let missing = parsed(&of("none")).probe().await.unwrap_err().0.to_string();
    assert!(
        missing.starts_with("topic: there is no topic none"),
        "{missing}"
    );
}

#[tokio::test]
async fn keys_from_a_file_are_read_again() {
    let queue = Queue::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "wrong").unwrap();
    let keys = json!({ "access_key": MNS_KEYS.0, "secret_key": { "file": path } });
    let service = service(&queue.settings(json!({ "credentials": keys }))).await;
    assert_eq!(classes(&send(&service, &["1"]).await), [Class::Refused]);
    std::fs::write(folder.path().join("next"), MNS_KEYS.1).unwrap();
    std::fs::rename(folder.path().join("next"), &path).unwrap();
    let until = Instant::now() + LONG;
    while classes(&send(&service, &["1"]).await) != [Class::Delivered] {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(100)).await;
    }
}
