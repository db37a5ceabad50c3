//! What targets hold to.

use pointsman_schemas::{Class, Outcome};
use tokio::sync::Mutex;
use tower::ServiceExt;

use super::super::fault::Fault;
use super::super::frame::State;
use super::stub::{Does, Stub};
use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{AttemptError, TargetService};

/// A queue with somebody who reads it, and a broker that never answers.
struct Fixture {
    url: String,
    address: String,
    reader: Mutex<(Peer, Vec<Message>)>,
    silent: Silent,
}

fn header(message: &Message, name: &str) -> Option<Value> {
    let mut headers = message.application.iter();
    let found = headers.find(|(found, _)| found.as_text().is_some_and(|found| *found == name));
    found.map(|(_, value)| value.clone())
}

fn header_text(message: &Message, name: &str) -> Option<String> {
    Some(header(message, name)?.as_text()?.to_string())
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "amqp";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Json {
        json!({
            "url": self.url,
            "address": self.address,
            "subject": "<$.type>",
            "group_id": "<$.id>",
        })
    }

    async fn received(&self) -> Vec<Received> {
        let (peer, kept) = &mut *self.reader.lock().await;
        kept.extend(peer.received().await);
        let text = |message: &Message, property| message.text(property).unwrap().to_string();
        let received = |message: &Message| Received {
            id: header_text(message, "cloudEvents:id").unwrap(),
            texts: vec![
                text(message, Property::Subject),
                text(message, Property::GroupId),
            ],
            trace: header_text(message, "traceparent"),
        };
        kept.iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Json> {
        let url = format!("amqp://{}", self.silent.address());
        Some(with(self.settings(), json!({ "url": url })))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Json, &'static str)> {
        let with = |more: Json| with(self.settings(), more);
        vec![
            (with(json!({ "url": "http://h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (with(json!({ "address": "" })), "address"),
            (with(json!({ "container_id": "" })), "container_id"),
            (with(json!({ "ttl": "0s" })), "ttl"),
            (with(json!({ "ttl": "60d" })), "ttl"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let (url, address) = (server().await.url(), unique("suite"));
    let fixture = Fixture {
        reader: Mutex::new((Peer::receiver(&url, &address).await, Vec::new())),
        url,
        address,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

async fn service(settings: &Json) -> TargetService {
    let settings = parse("amqp", settings).unwrap();
    settings.open(context()).await.unwrap()
}

async fn send(settings: &Json, ids: &[&str]) -> Result<Vec<Outcome>, AttemptError> {
    let texts = parse("amqp", settings).unwrap().templates().len();
    let service = service(settings).await;
    service.oneshot(attempt(ids, texts)).await
}

#[tokio::test]
async fn an_event_is_written_as_the_settings_say() {
    let address = unique("modes");
    for more in [
        json!({ "subject": "paid", "group_id": "g", "priority": 9, "ttl": "90s" }),
        json!({ "mode": "structured", "durable": false }),
        json!({ "mode": "data" }),
    ] {
        let sent = send(&settings(&address, more).await, &["1"]).await.unwrap();
        assert_eq!(sent[0].class, Class::Delivered, "{sent:?}");
    }
    let mut peer = Peer::receiver(&server().await.url(), &address).await;
    let found = peer.received().await;
    let [binary, structured, data] = &found[..] else {
        panic!("{found:?}")
    };
    let body = Body::Data(crate::suite::event("1").data().unwrap().bytes().clone());
    let string = |text: &str| Some(Value::string(text));
    for (name, value) in [
        ("cloudEvents:specversion", string("1.0")),
        ("cloudEvents:id", string("1")),
        ("cloudEvents:type", string("com.example.suite")),
        ("cloudEvents:ext", string("ü")),
        ("cloudEvents:datacontenttype", None),
        ("pointsman-task", string("0000000000000001-2-3-0")),
        ("pointsman-attempt", Some(Value::Int(1))),
        ("pointsman-rule", string("rule")),
    ] {
        assert_eq!(header(binary, name), value, "{name}");
    }
    let property = |message: &Message, property| message.property(property).cloned();
    for (name, value) in [
        (Property::MessageId, string("0000000000000001-2-3-0")),
        (Property::To, string(&address)),
        (Property::Subject, string("paid")),
        (Property::GroupId, string("g")),
        (
            Property::ContentType,
            Some(Value::symbol("application/json")),
        ),
    ] {
        assert_eq!(property(binary, name), value, "{name:?}");
    }
    assert_eq!((binary.is_durable, binary.priority), (true, Some(9)));
    assert!(binary.ttl_ms.is_some_and(|ttl| ttl <= 90_000), "{binary:?}");
    assert_eq!(binary.body, body);
    let media_type = Value::symbol("application/cloudevents+json");
    assert_eq!(
        property(structured, Property::ContentType),
        Some(media_type)
    );
    assert!(!structured.is_durable);
    let Body::Data(document) = &structured.body else {
        panic!("{structured:?}")
    };
    assert!(document.starts_with(b"{\"specversion\":\"1.0\""));
    assert_eq!((header(data, "cloudEvents:id"), &data.body), (None, &body));
}

#[tokio::test]
async fn what_it_sends_a_source_reads() {
    let address = unique("there-and-back");
    let settings = settings(&address, json!({})).await;
    assert_eq!(send(&settings, &["1", "2"]).await.unwrap().len(), 2);
    let (mut source, _) = open(&settings).await.unwrap();
    for (message, id) in take(&mut *source, 2).await.into_iter().zip(["1", "2"]) {
        let Arrival::Event(event) = &message.arrivals[0] else {
            panic!("{message:?}")
        };
        let event = event.as_ref().clone().into_builder();
        let event = event.without("traceparent").build().unwrap();
        assert_eq!(event, crate::suite::event(id));
    }
}

#[tokio::test]
async fn large_messages_go_in_parts_between_small_ones() {
    let address = unique("large");
    let settings = settings(&address, json!({ "mode": "data", "group_id": "<$.id>" })).await;
    let mut large = attempt(&["1", "2", "3"], 1);
    let data = pointsman_schemas::Data::text("x".repeat(3 << 20).into());
    let event = large.deliveries[1].event.as_ref().clone().into_builder();
    let event = event
        .datacontenttype("text/plain")
        .data(data)
        .build()
        .unwrap();
    large.deliveries[1].event = Arc::new(event);
    let service = service(&settings).await;
    let sent = service.oneshot(large).await.unwrap();
    let classes: Vec<_> = sent.iter().map(|outcome| outcome.class).collect();
    assert_eq!(classes, [Class::Delivered; 3], "{sent:?}");
    let (mut source, _) = open(&with(settings, json!({ "mode": null, "group_id": null })))
        .await
        .unwrap();
    let taken = take(&mut *source, 3).await;
    let lengths: Vec<_> = bodies(&taken)
        .iter()
        .map(|body| body.len() > 1 << 20)
        .collect();
    assert_eq!(lengths, [false, true, false]);
    settle(taken, &Verdict::Stored).await;
    source.finish().await;
}

#[tokio::test]
async fn many_addresses_share_a_connection() {
    let prefix = unique("many");
    let settings = settings(&format!("{prefix}.<$.id>"), json!({})).await;
    let service = service(&settings).await;
    // More than there are links; the dispatcher fills in what the suite does not.
    let calls = (0..100).map(|number| {
        let mut attempt = attempt(&["1"], 1);
        attempt.deliveries[0].texts = vec![format!("{prefix}.{number}")];
        service.clone().oneshot(attempt)
    });
    for sent in futures::future::join_all(calls).await {
        let sent = sent.unwrap();
        assert_eq!(sent[0].class, Class::Delivered, "{sent:?}");
    }
    let mut again = attempt(&["1"], 1);
    again.deliveries[0].texts = vec![format!("{prefix}.0")];
    assert_eq!(
        service.oneshot(again).await.unwrap()[0].class,
        Class::Delivered
    );
    let mut peer = Peer::receiver(&server().await.url(), &format!("{prefix}.0")).await;
    assert_eq!(peer.received().await.len(), 2);
}

#[tokio::test]
async fn an_address_that_is_full_throttles_and_no_other() {
    let (full, prefix) = (unique("small"), unique("other"));
    let full = full.replacen("small", "small.a", 1);
    let settings = settings("<$.id>", json!({ "mode": "data" })).await;
    let service = service(&settings).await;
    let to = async |address: &str, within: Duration| {
        let mut attempt = attempt(&["1"], 1);
        let delivery = &mut attempt.deliveries[0];
        delivery.texts = vec![address.to_owned()];
        let data = pointsman_schemas::Data::text("x".repeat(50 << 10).into());
        let event = delivery.event.as_ref().clone().into_builder();
        let event = event
            .datacontenttype("text/plain")
            .data(data)
            .build()
            .unwrap();
        delivery.event = Arc::new(event);
        attempt.timeout = within;
        service.clone().oneshot(attempt).await.unwrap().remove(0)
    };
    let mut delivered = 0;
    let throttled = loop {
        let outcome = to(&full, Duration::from_secs(2)).await;
        match outcome.class {
            Class::Delivered => delivered += 1,
            _ => break outcome,
        }
        assert!(delivered < 100);
    };
    assert_eq!(throttled.class, Class::Throttled, "{throttled:?}");
    assert!(delivered > 1, "{throttled:?}");
    assert_eq!(to(&prefix, LONG).await.class, Class::Delivered);
    // What was given up is not sent once there is room.
    let mut peer = Peer::receiver(&server().await.url(), &full).await;
    assert_eq!(peer.received_bytes().await.len(), delivered);
    assert_eq!(to(&full, LONG).await.class, Class::Delivered);
    assert_eq!(peer.received_bytes().await.len(), 1);
}

#[tokio::test]
async fn a_broker_that_was_restarted_costs_no_attempt() {
    let mut server = ArtemisServer::start().await;
    let settings = json!({ "url": server.url(), "address": "orders" });
    let service = service(&settings).await;
    let class = async || match service.clone().oneshot(attempt(&["1"], 0)).await {
        Ok(outcomes) => outcomes[0].class,
        Err(error) => error.class,
    };
    assert_eq!(class().await, Class::Delivered);
    server.kill();
    let until = Instant::now() + LONG;
    // Until it is known, what is sent may have arrived.
    while class().await != Class::Unavailable {
        assert!(Instant::now() < until);
    }
    server.restart().await;
    assert_eq!(class().await, Class::Delivered);
}

#[tokio::test]
async fn what_a_broker_says_of_a_message_decides_what_follows() {
    let rejected = |condition| State::Rejected(Some(Fault::new(condition)));
    let modified = |undeliverable_here| State::Modified {
        failed: true,
        undeliverable_here,
    };
    for (state, class) in [
        (State::Accepted, Class::Delivered),
        (State::Rejected(None), Class::Failed),
        (rejected("amqp:internal-error"), Class::Failed),
        (rejected("amqp:resource-limit-exceeded"), Class::Throttled),
        (rejected("amqp:unauthorized-access"), Class::Refused),
        (rejected("amqp:decode-error"), Class::Rejected),
        (State::Released, Class::Failed),
        (modified(false), Class::Failed),
        (modified(true), Class::Rejected),
    ] {
        for is_settled in [true, false] {
            let does = vec![Does::Settles(state.clone(), is_settled)];
            let stub = Stub::start(100, does).await;
            let settings = json!({ "url": stub.url, "address": "a" });
            // In more frames than the window has; what follows is accepted.
            let sent = send(&settings, &["1", "2"]).await.unwrap();
            let classes: Vec<_> = sent.iter().map(|outcome| outcome.class).collect();
            assert_eq!(classes, [class, Class::Delivered], "{state:?}: {sent:?}");
        }
    }
}

#[tokio::test]
async fn a_message_larger_than_the_window_goes_on_as_it_moves() {
    let stub = Stub::start(100, Vec::new()).await;
    let settings = json!({ "url": stub.url, "address": "a" });
    let mut large = attempt(&["1", "2"], 0);
    let data = pointsman_schemas::Data::text("x".repeat(100_000).into());
    let event = large.deliveries[0].event.as_ref().clone().into_builder();
    let event = event
        .datacontenttype("text/plain")
        .data(data)
        .build()
        .unwrap();
    large.deliveries[0].event = Arc::new(event);
    let sent = service(&settings).await.oneshot(large).await.unwrap();
    let classes: Vec<_> = sent.iter().map(|outcome| outcome.class).collect();
    assert_eq!(classes, [Class::Delivered; 2], "{sent:?}");
}

#[tokio::test]
async fn what_waits_for_credit_is_withdrawn_and_what_was_sent_is_known() {
    // One message of three may go, and of that nothing is heard.
    let stub = Stub::start(1, vec![Does::Nothing]).await;
    let settings = json!({ "url": stub.url, "address": "a" });
    let mut attempt = attempt(&["1", "2", "3"], 0);
    attempt.timeout = Duration::from_secs(1);
    let sent = service(&settings).await.oneshot(attempt).await.unwrap();
    let classes: Vec<_> = sent.iter().map(|outcome| outcome.class).collect();
    let expect = [Class::Failed, Class::Throttled, Class::Throttled];
    assert_eq!(classes, expect, "{sent:?}");
    assert!(sent[1].message.contains("no credit"), "{sent:?}");
}

#[tokio::test]
async fn a_link_or_a_session_that_ends_is_told_and_made_anew() {
    for (does, told) in [
        (
            Does::Detaches("amqp:resource-deleted"),
            "the link to a: amqp:resource-deleted",
        ),
        (
            Does::EndsSession("amqp:not-found"),
            "no messages of this address: amqp:not-found",
        ),
    ] {
        let stub = Stub::start(100, vec![does]).await;
        let settings = json!({ "url": stub.url, "address": "a" });
        let service = service(&settings).await;
        let send = async || service.clone().oneshot(attempt(&["1"], 0)).await.unwrap();
        let first = send().await;
        assert_eq!(first[0].class, Class::Failed, "{first:?}");
        assert!(first[0].message.contains(told), "{first:?}");
        if told.contains("link") {
            let second = send().await;
            assert_eq!(second[0].class, Class::Delivered, "{second:?}");
        }
    }
}
