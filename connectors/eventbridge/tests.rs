//! Against moto, with a queue that gets what is put onto the bus, and canned answers where moto
//! cannot fail as EventBridge does.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_schemas::{Class, Data, Event, Outcome};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::suite::moto::{act, keys, moto, queue, take_all, unique};
use crate::suite::{Canned, Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{Attempt, TargetService};

/// Makes a bus with a queue behind it, and tells its name and the queue's URL.
async fn bus() -> (String, String) {
    let name = unique("bus");
    let (url, queue) = queue().await;
    act(
        "events",
        "AWSEvents.CreateEventBus",
        json!({ "Name": name }),
    )
    .await;
    let pattern = json!({ "source": ["/suite"] }).to_string();
    let rule = json!({ "Name": name, "EventBusName": name, "EventPattern": pattern });
    act("events", "AWSEvents.PutRule", rule).await;
    let target = json!({
        "Rule": name, "EventBusName": name, "Targets": [{ "Id": "1", "Arn": queue }],
    });
    act("events", "AWSEvents.PutTargets", target).await;
    (name, url)
}

/// A bus, what has come out of the queue behind it, and a server that never answers.
struct Fixture {
    bus: String,
    queue: String,
    received: Mutex<Vec<Received>>,
    silent: Silent,
    endpoint: String,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "eventbridge";

    fn settings(&self) -> Value {
        json!({
            "bus": self.bus, "endpoint": self.endpoint, "credentials": keys(),
            "detail_type": "<$.type>", "resources": ["<$.subject>"],
        })
    }

    async fn received(&self) -> Vec<Received> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for event in take_all(&self.queue).await {
            self.received.lock().push(Received {
                id: text(&event["detail"]["id"]),
                texts: vec![text(&event["detail-type"]), text(&event["resources"][0])],
                trace: None,
            });
        }
        self.received.lock().clone()
    }

    fn stalling(&self) -> Option<Value> {
        let nobody = format!("http://{}", self.silent.address());
        Some(json!({ "endpoint": nobody, "credentials": keys() }))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "bus": "" }), "bus"),
            (
                json!({ "bus": "arn:aws:sns:eu-west-1:123456789012:orders" }),
                "bus",
            ),
            (json!({ "source": "" }), "source"),
            (json!({ "detail_type": "" }), "detail_type"),
            (json!({ "endpoint": "h" }), "endpoint"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let (bus, queue) = bus().await;
    let fixture = Fixture {
        bus,
        queue,
        received: Mutex::default(),
        silent: Silent::start().await,
        endpoint: moto().await.endpoint(),
    };
    targets(&fixture).await;
}

async fn at(server: &Canned, more: Value) -> TargetService {
    let mut settings = json!({ "endpoint": server.endpoint(), "credentials": keys() });
    let fields = settings.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    let settings = parse("eventbridge", &settings).unwrap();
    settings.open(context()).await.unwrap()
}

fn classes(outcomes: &[Outcome]) -> Vec<Class> {
    outcomes.iter().map(|outcome| outcome.class).collect()
}

fn of(event: Event) -> Attempt {
    let mut attempt = attempt(&["1"], 0);
    attempt.deliveries[0].event = Arc::new(event);
    attempt
}

const TAKEN: &str = r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#;

#[tokio::test]
async fn what_an_entry_holds() {
    let server = Canned::start(|_, _| (200, TAKEN)).await;
    let event = || {
        let data = Data::json(Bytes::from_static(b" {\"a\": 1}")).unwrap();
        Event::builder("1", "/s", "t")
            .time("2026-01-31T09:30:00.5Z")
            .data(data)
            .build()
            .unwrap()
    };
    let plain = at(&server, json!({})).await;
    let outcomes = plain.oneshot(of(event())).await.unwrap();
    assert_eq!(classes(&outcomes), [Class::Delivered]);
    let whole = json!({ "bus": "b", "mode": "structured", "source": "x", "resources": ["", "r"] });
    let whole = at(&server, whole).await;
    let attempt = of(event());
    let task = attempt.deliveries[0].id.to_string();
    assert_eq!(
        classes(&whole.oneshot(attempt).await.unwrap()),
        [Class::Delivered]
    );
    let asked = server.asked("PutEvents");
    assert_eq!(
        asked[0]["Entries"],
        json!([{
            "EventBusName": "default", "Source": "/s", "DetailType": "t",
            "Detail": " {\"a\": 1}", "Resources": [], "Time": 1_769_851_800.5,
        }])
    );
    let entry = &asked[1]["Entries"][0];
    assert_eq!(
        (
            &entry["EventBusName"],
            &entry["Source"],
            &entry["Resources"]
        ),
        (&json!("b"), &json!("x"), &json!(["r"]))
    );
    let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(
        (
            &detail["id"],
            &detail["data"],
            &detail["pointsmantask"],
            &detail["pointsmanattempt"]
        ),
        (&json!("1"), &json!({ "a": 1 }), &json!(task), &json!(1))
    );
}

#[tokio::test]
async fn data_that_is_no_object_is_a_dead_letter_unless_the_whole_event_goes() {
    let server = Canned::start(|_, _| (200, TAKEN)).await;
    let (plain, whole) = (
        at(&server, json!({})).await,
        at(&server, json!({ "mode": "structured" })).await,
    );
    let list = Data::json(Bytes::from_static(b"[1]")).unwrap();
    for data in [None, Some(Data::text("{}".into())), Some(list)] {
        let event = Event::builder("1", "/s", "t");
        let event = match data {
            Some(data) => event.data(data),
            None => event,
        };
        let event = event.build().unwrap();
        let outcomes = plain.clone().oneshot(of(event.clone())).await.unwrap();
        assert_eq!(classes(&outcomes), [Class::Rejected], "{event:?}");
        assert!(outcomes[0].message.contains("mode: structured"));
        let outcomes = whole.clone().oneshot(of(event)).await.unwrap();
        assert_eq!(classes(&outcomes), [Class::Delivered]);
    }
    assert_eq!(server.asked("PutEvents").len(), 3);
}

#[tokio::test]
async fn of_a_batch_each_entry_is_looked_at() {
    let server = Canned::start(|_, _| {
        (
            200,
            r#"{"FailedEntryCount":4,"Entries":[{"EventId":"1"},
                {"ErrorCode":"InternalFailure","ErrorMessage":"oh"},
                {"ErrorCode":"ThrottlingException","ErrorMessage":"slow"},
                {"ErrorCode":"NotAuthorizedForSourceException"},
                {"ErrorCode":"InvalidArgument","ErrorMessage":"no"}]}"#,
        )
    })
    .await;
    let batch = Attempt {
        is_batch: true,
        ..attempt(&["0", "1", "2", "3", "4", "5"], 0)
    };
    let outcomes = at(&server, json!({})).await.oneshot(batch).await.unwrap();
    let expect = [
        Class::Delivered,
        Class::Failed,
        Class::Throttled,
        Class::Refused,
        Class::Rejected,
        // Nothing is said of it.
        Class::Failed,
    ];
    assert_eq!(classes(&outcomes), expect);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_a_probe_tells() {
    let told = async |bus: &str, endpoint: &str| {
        let settings = json!({ "bus": bus, "endpoint": endpoint, "credentials": keys() });
        let told = parse("eventbridge", &settings).unwrap().probe().await;
        told.map_err(|error| error.0.to_string())
    };
    let endpoint = moto().await.endpoint();
    let there = told("default", &endpoint).await.unwrap();
    assert!(there.contains("is there"), "{there}");
    let missing = told("no-such-bus", &endpoint).await.unwrap_err();
    assert!(
        missing.starts_with("bus: there is no bus no-such-bus"),
        "{missing}"
    );
    let forbidding = Canned::start(|_, _| (400, r#"{"__type":"AccessDeniedException"}"#)).await;
    let unseen = told("default", forbidding.endpoint()).await.unwrap();
    assert!(unseen.contains("may not be asked"), "{unseen}");
}
