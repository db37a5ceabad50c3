//! What targets hold to.

use bytes::Bytes;
use pointsman_schemas::Class;
use tokio::sync::Mutex;
use tower::ServiceExt;

use super::super::packet::{Publish, property};
use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{TargetService, TargetSettings};

/// A broker with somebody who is subscribed, and one that never answers.
struct Fixture {
    server: MqttServer,
    peer: Mutex<Peer>,
    silent: Silent,
}

fn user(publish: &Publish, name: &str) -> Option<String> {
    let mut user = publish.properties.user.iter();
    let found = user.find(|(found, _)| found == name.as_bytes());
    found.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "mqtt";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        json!({ "url": self.server.url(), "topic": "<$.id>" })
    }

    async fn received(&self) -> Vec<Received> {
        let mut peer = self.peer.lock().await;
        let received = |publish: &Publish| Received {
            id: user(publish, "id").unwrap(),
            texts: vec![String::from_utf8(publish.topic.to_vec()).unwrap()],
            trace: user(publish, "traceparent"),
        };
        peer.received().await.iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let url = format!("mqtt://{}", self.silent.address());
        Some(with(self.settings(), json!({ "url": url })))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| with(self.settings(), more);
        vec![
            (with(json!({ "url": "http://h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (with(json!({ "client_id": "" })), "client_id"),
            (with(json!({ "topic": "" })), "topic"),
            (with(json!({ "topic": "a/#" })), "topic"),
            (
                with(json!({ "mode": "binary", "version": "3.1.1" })),
                "mode",
            ),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let server = MqttServer::start().await;
    let fixture = Fixture {
        peer: Mutex::new(Peer::new(&server.url()).await),
        server,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

async fn service(server: &MqttServer, more: Value) -> TargetService {
    let settings = with(json!({ "url": server.url(), "topic": "a" }), more);
    parse("mqtt", &settings)
        .unwrap()
        .open(context())
        .await
        .unwrap()
}

async fn class(service: &TargetService) -> Class {
    match service.clone().oneshot(attempt(&["1"], 0)).await {
        Ok(outcomes) => outcomes[0].class,
        Err(error) => error.class,
    }
}

#[tokio::test]
async fn an_event_is_written_as_the_mode_says() {
    let server = MqttServer::start().await;
    let mut peer = Peer::new(&server.url()).await;
    let data = crate::suite::event("1").data().unwrap().bytes().clone();
    for (more, content_type, attributes) in [
        (
            json!({}),
            Some("application/json"),
            Some("com.example.suite"),
        ),
        (
            json!({ "mode": "structured" }),
            Some("application/cloudevents+json"),
            None,
        ),
        (json!({ "version": "3.1.1" }), None, None),
        (json!({ "mode": "data" }), Some("application/json"), None),
    ] {
        let service = service(&server, more.clone()).await;
        assert_eq!(class(&service).await, Class::Delivered, "{more}");
        let publish = peer.received().await.last().unwrap().clone();
        let found = publish.properties.text(property::CONTENT_TYPE);
        let content_type = content_type.map(Bytes::from);
        assert_eq!(found, content_type.as_ref(), "{more}");
        assert_eq!(user(&publish, "type").as_deref(), attributes, "{more}");
        assert!(!publish.retain);
        if attributes.is_some() || more["mode"] == "data" {
            assert_eq!(publish.payload, data, "{more}");
        } else {
            let event: Value = serde_json::from_slice(&publish.payload).unwrap();
            assert_eq!((&event["id"], &event["ext"]), (&json!("1"), &json!("ü")));
        }
    }
    let retaining = service(&server, json!({ "topic": "orders/kept", "retain": true })).await;
    assert_eq!(class(&retaining).await, Class::Delivered);
    let (mut source, _) = open(&settings(&server, json!({}))).await.unwrap();
    assert_eq!(
        take(&mut *source, 1).await.len(),
        1,
        "it is there for whoever comes later"
    );
}

#[tokio::test]
async fn a_broker_that_was_restarted_costs_no_attempt() {
    let mut server = MqttServer::start().await;
    let service = service(&server, json!({})).await;
    assert_eq!(class(&service).await, Class::Delivered);
    server.kill();
    let until = Instant::now() + LONG;
    // Until it is known, what is sent may have arrived.
    while class(&service).await != Class::Unavailable {
        assert!(Instant::now() < until);
    }
    server.restart().await;
    assert_eq!(class(&service).await, Class::Delivered);
}

#[tokio::test]
async fn a_message_that_the_broker_has_no_room_for_is_rejected_and_the_others_pass() {
    let port = pointsman_test_brokers::free_port();
    let settings = "allow_anonymous true\nmax_packet_size 400";
    let server = MqttServer::start_with(port, settings).await;
    let service = service(&server, json!({ "topic": "<$.id>" })).await;
    let long = "x".repeat(300);
    let outcomes = service
        .oneshot(attempt(&["a", &long, "b"], 1))
        .await
        .unwrap();
    let classes: Vec<_> = outcomes.iter().map(|outcome| outcome.class).collect();
    let expect = [Class::Delivered, Class::Rejected, Class::Delivered];
    assert_eq!(classes, expect, "{outcomes:?}");
}

#[tokio::test]
async fn what_a_probe_tells() {
    let server = MqttServer::start().await;
    let target = parse("mqtt", &json!({ "url": server.url(), "topic": "a" })).unwrap();
    let told = target.probe().await.unwrap();
    assert!(told.contains("takes connections"), "{told}");
    let nobody = format!("mqtt://127.0.0.1:{}", pointsman_test_brokers::free_port());
    let target: Box<dyn TargetSettings> =
        parse("mqtt", &json!({ "url": nobody, "topic": "a" })).unwrap();
    let told = target.probe().await.unwrap_err().0.to_string();
    assert!(
        told.starts_with("url: cannot connect to the MQTT broker"),
        "{told}"
    );
}
