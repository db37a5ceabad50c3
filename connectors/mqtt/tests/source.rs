//! What sources hold to.

use bytes::Bytes;
use pointsman_schemas::{Clock, Event};

use super::super::reader::BATCH_MESSAGES_MAX;
use super::*;
use crate::Arrival;
use crate::suite::{SourceFixture, Stored, sources};

struct Fixture {
    server: MqttServer,
    more: Value,
    qos: &'static str,
    written: usize,
}

impl Fixture {
    async fn publish(&self, lines: &[String]) {
        publish(self.server.port(), "orders/a", lines, &["-q", self.qos]).await;
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "mqtt";

    fn settings(&self) -> Value {
        settings(&self.server, self.more.clone())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.written..self.written + count;
        self.written += count;
        let lines: Vec<_> = numbers.map(|number| format!("number {number}")).collect();
        self.publish(&lines).await;
        lines
    }

    fn identity(&self, event: &Event) -> String {
        String::from_utf8(event.data().unwrap().bytes().to_vec()).unwrap()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        false
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        let broken = r#"{"specversion":"1.0"}"#;
        self.publish(&[broken.to_owned()]).await;
        Some(Bytes::from(broken))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| settings(&self.server, more);
        vec![
            (with(json!({ "url": "h:1" })), "url"),
            (with(json!({ "url": "mqtt://h/topic" })), "url"),
            (with(json!({ "url": "mqtt://u:hunter2@h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (
                with(json!({ "url": "mqtts://h", "tls": { "key": "k" } })),
                "tls.key",
            ),
            (with(json!({ "username": "u" })), "username"),
            (
                with(json!({ "version": "3.1.1", "password": "p" })),
                "password",
            ),
            (with(json!({ "client_id": "" })), "client_id"),
            (with(json!({ "topic": "a#" })), "topic"),
            (with(json!({ "topic": [] })), "topic"),
            (with(json!({ "topic": ["a", "b", "a"] })), "topic"),
            (with(json!({ "qos": 3 })), "qos"),
            (
                with(json!({ "session_expiry": "1500ms" })),
                "session_expiry",
            ),
            (
                with(json!({ "session_expiry": "1h", "version": "3.1.1" })),
                "session_expiry",
            ),
            (with(json!({ "prefetch": 0 })), "prefetch"),
        ]
    }
}

#[tokio::test]
async fn it_conforms_with_both_versions() {
    for (version, qos) in [("5", "1"), ("3.1.1", "2")] {
        let mut fixture = Fixture {
            server: MqttServer::start().await,
            more: json!({ "version": version, "qos": 2 }),
            qos,
            written: 0,
        };
        sources(&mut fixture).await;
    }
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "url": "mqtt://h", "client_id": "c", "topic": "orders/#", "version": 5 }),
        json!({
            "url": { "env": "MQTT_URL" },
            "version": "3.1.1",
            "username": "app",
            "password": "hunter2",
            "client_id": { "env": "CLIENT" },
            "topic": ["$share/bus/orders/#", { "env": "TOPIC" }, "sensors/+/temperature"],
            "qos": 2,
            "prefetch": 1,
            "deduplicate": true,
        }),
        json!({ "url": "mqtts://h", "client_id": "c", "topic": "a", "session_expiry": "7d" }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
    let version = json!({ "url": "mqtt://h", "client_id": "c", "topic": "a", "version": "4" });
    let told = parse_source("mqtt", &version).unwrap_err();
    assert!(told.contains("3.1.1"), "{told}");
}

fn lines(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("n{number}")).collect()
}

#[tokio::test]
async fn what_is_not_acknowledged_in_order_comes_again_over_the_next_connection() {
    for (version, qos) in [("5", 1), ("5", 2), ("3.1.1", 1), ("3.1.1", 2)] {
        let case = format!("version {version}, QoS {qos}");
        let server = MqttServer::start().await;
        let settings = settings(&server, json!({ "version": version, "qos": qos }));
        let (mut source, _) = open(&settings).await.unwrap();
        let quality = ["-q", &qos.to_string()];
        publish(server.port(), "orders/a", &lines(0..4), &quality).await;
        let mut taken = take(&mut *source, 4).await;
        assert_eq!(bodies(&taken), lines(0..4), "{case}");
        // The third is stored, and waits for the second.
        drop((taken.remove(3), taken.remove(1)));
        settle(taken, &Verdict::Stored).await;
        assert!(source.finish().await.is_none());
        let (mut source, _) = open(&settings).await.unwrap();
        let again = take(&mut *source, 3).await;
        assert_eq!(bodies(&again), lines(1..4), "{case}");
        settle(again, &Verdict::Stored).await;
        assert!(source.finish().await.is_none());
        let (mut source, _) = open(&settings).await.unwrap();
        let left = quiet(&mut *source).await;
        let left = left.map(|messages| bodies(&messages));
        assert_eq!(left, None, "{case}");
    }
}

#[tokio::test]
async fn no_more_is_in_hand_than_was_said_and_the_broker_still_hears_of_us() {
    let server = MqttServer::start().await;
    let versions = ["5", "3.1.1"].map(|version| {
        let port = server.port();
        let (client, filter) = (version, format!("{version}/#"));
        let more = json!({ "prefetch": 5, "client_id": client, "topic": filter });
        let settings = with(settings(&server, more), json!({ "version": version }));
        let topic = format!("{version}/a");
        async move {
            let (mut source, _) = open(&settings).await.unwrap();
            publish(port, &topic, &lines(0..12), &["-q", "1"]).await;
            // What is sent with QoS 0 is bounded by what is read.
            publish(port, &topic, &lines(12..20), &["-q", "0"]).await;
            let mut held = take(&mut *source, 5).await;
            assert!(quiet(&mut *source).await.is_none());
            // Past the time after which a broker that answers no ping would be given up.
            sleep(Duration::from_secs(11)).await;
            let mut found = 0;
            while found < 10 {
                found += held.len();
                settle(held, &Verdict::Stored).await;
                held = take(&mut *source, 1).await;
                assert!(held.len() <= 5, "{version}");
            }
        }
    });
    let [five, three] = versions;
    tokio::join!(five, three);
}

#[tokio::test]
async fn a_retained_message_is_marked_and_comes_once() {
    for version in ["5", "3.1.1"] {
        let server = MqttServer::start().await;
        publish(server.port(), "orders/a", &lines(0..1), &["-q", "1", "-r"]).await;
        let fixture = Fixture {
            server,
            more: json!({ "version": version }),
            qos: "1",
            written: 0,
        };
        let mut stored = Stored::default();
        let mut source = crate::suite::open(&fixture, None, false).await;
        let batch = next_within(&mut *source, LONG).await.unwrap().unwrap();
        stored.store(&batch);
        let first = take(&mut *source, 1).await;
        let Arrival::Event(event) = &first[0].arrivals[0] else {
            panic!("{first:?}")
        };
        assert_eq!(event.attribute("mqttretained").unwrap().to_string(), "true");
        settle(first, &Verdict::Stored).await;
        source.finish().await;
        // The session has what it was subscribed to.
        let mut source = crate::suite::open(&fixture, stored, false).await;
        assert!(quiet(&mut *source).await.is_none(), "{version}");
        publish(
            fixture.server.port(),
            "orders/a",
            &lines(1..2),
            &["-q", "1", "-r"],
        )
        .await;
        let live = take(&mut *source, 1).await;
        let Arrival::Event(event) = &live[0].arrivals[0] else {
            panic!("{live:?}")
        };
        assert!(event.attribute("mqttretained").is_none(), "{version}");
    }
}

#[tokio::test]
async fn a_filter_that_is_taken_out_is_unsubscribed_from() {
    for version in ["5", "3.1.1"] {
        let mut fixture = Fixture {
            server: MqttServer::start().await,
            more: json!({ "version": version, "topic": ["a/#", "b"] }),
            qos: "1",
            written: 0,
        };
        let mut stored = Stored::default();
        let mut source = crate::suite::open(&fixture, None, false).await;
        stored.store(&next_within(&mut *source, LONG).await.unwrap().unwrap());
        source.finish().await;
        fixture.more = json!({ "version": version, "topic": ["b", "c"] });
        let mut source = crate::suite::open(&fixture, stored.clone(), false).await;
        stored.store(&next_within(&mut *source, LONG).await.unwrap().unwrap());
        for topic in ["a/1", "b", "c"] {
            let line = [topic.to_owned()];
            publish(fixture.server.port(), topic, &line, &["-q", "1"]).await;
        }
        let taken = take(&mut *source, 2).await;
        assert_eq!(bodies(&taken), ["b", "c"], "{version}");
        assert!(quiet(&mut *source).await.is_none(), "{version}");
    }
}

#[tokio::test]
async fn a_session_that_the_broker_lost_is_told() {
    let fixture = Fixture {
        server: MqttServer::start().await,
        more: json!({ "session_expiry": "1s" }),
        qos: "1",
        written: 0,
    };
    let mut stored = Stored::default();
    let mut source = crate::suite::open(&fixture, None, false).await;
    stored.store(&next_within(&mut *source, LONG).await.unwrap().unwrap());
    source.finish().await;
    let (log, _in_force) = crate::suite::Log::capture();
    let until = Instant::now() + LONG;
    let mut told = Vec::new();
    while !told
        .iter()
        .any(|line: &String| line.contains("had no session of c"))
    {
        assert!(Instant::now() < until, "{told:?}");
        sleep(Duration::from_secs(3)).await;
        let mut source = crate::suite::open(&fixture, stored.clone(), false).await;
        source.finish().await;
        told = log.lines();
    }
}

#[tokio::test]
async fn a_shared_subscription_brings_each_message_to_one() {
    let server = MqttServer::start().await;
    let mut sources = Vec::new();
    for client in ["one", "two"] {
        let more = json!({ "client_id": client, "topic": "$share/g/orders/#" });
        sources.push(open(&settings(&server, more)).await.unwrap().0);
    }
    publish(server.port(), "orders/a", &lines(0..20), &["-q", "1"]).await;
    let mut found = Vec::new();
    for source in &mut sources {
        while let Some(messages) = quiet(&mut **source).await {
            found.extend(bodies(&messages));
            settle(messages, &Verdict::Stored).await;
        }
    }
    found.sort();
    let mut expect = lines(0..20);
    expect.sort();
    assert_eq!(found, expect);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_a_dead_letter_and_holds_up_nothing() {
    let server = MqttServer::start().await;
    let (mut source, _) = open(&settings(&server, json!({ "version": "3.1.1" })))
        .await
        .unwrap();
    let huge = "x".repeat(17 << 20);
    publish(
        server.port(),
        "orders/a",
        &[huge, "next".to_owned()],
        &["-q", "1"],
    )
    .await;
    let taken = take(&mut *source, 2).await;
    let reject = &taken[0].rejects[0];
    assert!(reject.reason.contains("larger") && reject.raw.starts_with(b"xxx"));
    assert_eq!(bodies(&taken[1..]), ["next"]);
    settle(taken, &Verdict::Stored).await;
    source.finish().await;
    let (mut source, _) = open(&settings(&server, json!({ "version": "3.1.1" })))
        .await
        .unwrap();
    assert!(quiet(&mut *source).await.is_none());
}
