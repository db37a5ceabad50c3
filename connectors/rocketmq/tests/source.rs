//! What sources hold to.

use pointsman_schemas::{Clock, Event};

use super::super::source::BATCH_MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, sources};

struct Fixture {
    topic: Topic,
    sent: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "rocketmq";

    fn settings(&self) -> Value {
        self.topic.settings(json!({}))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.sent..self.sent + count;
        self.sent += count;
        let mut expect = Vec::new();
        for number in numbers {
            let body = format!("{{\"n\":{number}}}");
            self.topic.send(&body).await;
            expect.push(body);
        }
        expect
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
        let broken = |message: &mut Message| {
            let properties = &mut message.user_properties;
            properties.insert("CE_id".to_owned(), "1".to_owned());
        };
        self.topic.send_as("broken", broken).await;
        Some(Bytes::from("broken"))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.topic.settings(more);
        vec![
            (with(json!({ "url": "http://h" })), "url"),
            (with(json!({ "url": "rocketmq://h/topic" })), "url"),
            (with(json!({ "url": "rocketmq://u:hunter2@h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (
                with(json!({ "credentials": { "access_key": "", "secret_key": "s" } })),
                "credentials.access_key",
            ),
            (with(json!({ "topic": "" })), "topic"),
            (with(json!({ "topic": "a.b" })), "topic"),
            (with(json!({ "group": "a b" })), "group"),
            (with(json!({ "tags": "a || " })), "tags"),
            (with(json!({ "tags": "a||a" })), "tags"),
            (with(json!({ "tags": "a", "sql": "b = 1" })), "sql"),
            (with(json!({ "sql": " " })), "sql"),
            (with(json!({ "visibility": "9s" })), "visibility"),
            (with(json!({ "prefetch": 31 })), "prefetch"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let topic = Topic::new("NORMAL").await;
    let mut fixture = Fixture { topic, sent: 0 };
    sources(&mut fixture).await;
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "url": "rocketmq://h", "topic": "orders", "group": "g" }),
        json!({
            "url": { "env": "ROCKETMQ_URL" },
            "credentials": {
                "access_key": "app",
                "secret_key": "hunter2",
                "security_token": "hunter2",
            },
            "tls": { "ca": { "file": "ca.pem" } },
            "namespace": "shop",
            "topic": { "env": "TOPIC" },
            "group": "g",
            "sql": "CE_type = 'order.placed' AND price > 5",
            "visibility": "12h",
            "prefetch": 32,
        }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn tags_and_properties_choose_and_packed_bodies_are_unpacked() {
    let topic = Topic::new("NORMAL").await;
    let server = server().await;
    let mut sources = Vec::new();
    for (number, filter) in [
        json!({ "tags": "paid || placed" }),
        json!({ "sql": "price > 5 AND TAGS = 'lost'" }),
        json!({}),
    ]
    .into_iter()
    .enumerate()
    {
        let group = format!("{}-{number}", topic.group);
        server.make_group(&group, false, 16).await;
        let filter = with(filter, json!({ "group": group }));
        let (mut source, _) = open(&topic.settings(filter)).await.unwrap();
        assert!(next_within(&mut *source, QUIET).await.is_none());
        sources.push(source);
    }
    for (tag, price, body) in [("paid", 1, "a"), ("lost", 9, "b"), ("lost", 5, "c")] {
        let change = |message: &mut Message| {
            let properties = &mut message.user_properties;
            properties.insert("price".to_owned(), price.to_string());
            let system = message.system_properties.as_mut().unwrap();
            system.tag = Some(tag.to_owned());
        };
        topic.send_as(body, change).await;
    }
    let packed = {
        let compression = flate2::Compression::fast();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), compression);
        std::io::Write::write_all(&mut packed, b"packed").unwrap();
        packed.finish().unwrap()
    };
    let change = |message: &mut Message| {
        let system = message.system_properties.as_mut().unwrap();
        system.tag = Some("placed".to_owned());
        system.body_encoding = proto::Encoding::Gzip.into();
    };
    topic.send_as(packed, change).await;
    let expect = [
        &["a", "packed"][..],
        &["b"][..],
        &["a", "b", "c", "packed"][..],
    ];
    for (source, expect) in sources.iter_mut().zip(expect) {
        let messages = take(&mut **source, expect.len()).await;
        let mut found = bodies(&messages);
        found.sort();
        assert_eq!(found, expect);
        settle(messages, &Verdict::Stored).await;
        assert!(next_within(&mut **source, QUIET).await.is_none());
    }
}

#[tokio::test]
async fn an_orderly_group_hands_out_nothing_behind_what_is_in_hand() {
    let topic = Topic::new("FIFO").await;
    let settings = topic.settings(json!({}));
    let told = source(&settings).probe().await.unwrap();
    assert!(
        told.ends_with(", in the order of each message group"),
        "{told}"
    );
    let (mut source, _) = open(&settings).await.unwrap();
    assert!(next_within(&mut *source, QUIET).await.is_none());
    topic.send_in("a", "1").await;
    let mut held = take(&mut *source, 1).await;
    for body in ["2", "3", "4"] {
        topic.send_in("a", body).await;
    }
    let pause = Duration::from_secs(2);
    assert!(next_within(&mut *source, pause).await.is_none());
    let mut found = bodies(&held);
    while found.len() < 4 {
        settle(held, &Verdict::Stored).await;
        held = take(&mut *source, 1).await;
        found.extend(bodies(&held));
    }
    assert_eq!(found, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_is_given_back_comes_again_and_full_hands_stop_the_flow() {
    let topic = Topic::new("NORMAL").await;
    let settings = topic.settings(json!({ "prefetch": 32 }));
    let (mut source, link) = open(&settings).await.unwrap();
    let id = topic.send("a").await;
    let messages = take(&mut *source, 1).await;
    settle(messages, &Verdict::Later(Duration::from_secs(1))).await;
    let again = take(&mut *source, 1).await;
    let Arrival::Event(event) = &again[0].arrivals[0] else {
        panic!("{again:?}")
    };
    assert_eq!(event.id(), id, "it is known by its id");
    settle(again, &Verdict::Stored).await;
    for number in 0..40 {
        topic.send(&number.to_string()).await;
    }
    let mut held = take(&mut *source, 1).await;
    while let Some(batch) = next_within(&mut *source, Duration::from_secs(2)).await {
        held.extend(batch.unwrap().messages);
    }
    assert!(held.len() <= 32, "{} are in hand", held.len());
    let mut found = bodies(&held).len();
    settle(held, &Verdict::Stored).await;
    while found < 40 {
        let more = take(&mut *source, 1).await;
        found += more.len();
        settle(more, &Verdict::Stored).await;
    }
    assert_eq!(found, 40);
    assert_eq!(
        link.status().lag,
        None,
        "a proxy does not tell how much waits"
    );
}
