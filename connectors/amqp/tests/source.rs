//! What sources hold to.

use pointsman_schemas::{Clock, Event};

use super::super::reader::BATCH_MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, sources};

struct Fixture {
    url: String,
    address: String,
    peer: Peer,
    sent: usize,
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "amqp";

    fn settings(&self) -> Json {
        json!({ "url": self.url, "address": self.address })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let numbers = self.sent..self.sent + count;
        self.sent += count;
        let lines: Vec<_> = numbers.map(|number| format!("number {number}")).collect();
        for line in &lines {
            self.peer.send(text(line)).await;
        }
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
        let mut message = text("{}");
        let name = Value::string("cloudEvents:specversion");
        message.application = vec![(name, Value::string("1.0"))];
        let bytes = message.write();
        self.peer.send_bytes(&bytes).await;
        None
    }

    fn mistakes(&self) -> Vec<(Json, &'static str)> {
        let with = |more: Json| with(self.settings(), more);
        vec![
            (with(json!({ "url": "h:1" })), "url"),
            (with(json!({ "url": "amqp://h/queue" })), "url"),
            (with(json!({ "url": "amqp://u:hunter2@h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (
                with(json!({ "url": "amqps://h", "tls": { "key": "k" } })),
                "tls.key",
            ),
            (with(json!({ "username": "u" })), "username"),
            (with(json!({ "hostname": "" })), "hostname"),
            (with(json!({ "container_id": "" })), "container_id"),
            (with(json!({ "address": "" })), "address"),
            (with(json!({ "selector": "" })), "selector"),
            (with(json!({ "subscription": "" })), "subscription"),
            (
                with(json!({ "subscription": "s", "kind": "queue" })),
                "kind",
            ),
            (with(json!({ "prefetch": 0 })), "prefetch"),
            (with(json!({ "prefetch": 10_001 })), "prefetch"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let url = server().await.url();
    let address = unique("suite");
    let mut fixture = Fixture {
        peer: Peer::sender(&url, &address).await,
        url,
        address,
        sent: 0,
    };
    sources(&mut fixture).await;
}

#[test]
fn the_settings_of_the_documentation() {
    for settings in [
        json!({ "url": "amqp://h", "address": "orders" }),
        json!({
            "url": "amqps://shop.servicebus.windows.net",
            "username": "RootManageSharedAccessKey",
            "password": "hunter2",
            "address": "orders",
            "prefetch": 50,
        }),
        json!({
            "url": { "env": "AMQP_URL" },
            "hostname": "vhost:shop",
            "container_id": { "env": "NAME" },
            "address": "/queues/orders",
            "deduplicate": true,
        }),
        json!({
            "url": "amqp://h",
            "address": "prices",
            "subscription": "bus",
            "selector": "currency = 'EUR'",
        }),
    ] {
        let source = source(&settings);
        assert_eq!(source.check(), [], "{settings}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}

fn lines(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("n{number}")).collect()
}

/// A queue of its own with these messages.
async fn queue_of(lines: &[String]) -> (String, Peer) {
    let address = unique("queue");
    let mut peer = Peer::sender(&server().await.url(), &address).await;
    for line in lines {
        peer.send(text(line)).await;
    }
    (address, peer)
}

/// What is left in a queue.
async fn left_in(address: &str) -> Vec<String> {
    let mut peer = Peer::receiver(&server().await.url(), address).await;
    let messages = peer.received().await.into_iter();
    let text = |message: Message| match message.body {
        Body::Data(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    messages.map(text).collect()
}

#[tokio::test]
async fn what_is_stored_is_settled_in_any_order_and_the_rest_is_released() {
    let (address, _) = queue_of(&lines(0..6)).await;
    let settings = settings(&address, json!({})).await;
    let (mut source, _) = open(&settings).await.unwrap();
    let mut taken = take(&mut *source, 6).await;
    assert_eq!(bodies(&taken), lines(0..6));
    // The last and the second are stored; the fourth is to come again; of the others nothing is
    // said.
    let later = taken.remove(3);
    let last = taken.pop().unwrap();
    let second = taken.remove(1);
    settle(vec![last, second], &Verdict::Stored).await;
    settle(vec![later], &Verdict::Later(LONG)).await;
    assert!(source.finish().await.is_none());
    drop(taken);
    assert_eq!(left_in(&address).await, ["n0", "n2", "n3", "n4"]);
}

#[tokio::test]
async fn a_message_that_could_not_be_stored_is_handed_over_again_and_holds_up_none() {
    let (address, mut peer) = queue_of(&lines(0..2)).await;
    let settings = settings(&address, json!({ "prefetch": 2 })).await;
    let (mut source, _) = open(&settings).await.unwrap();
    let mut taken = take(&mut *source, 2).await;
    let second = taken.pop().unwrap();
    let asked = Instant::now();
    settle(taken, &Verdict::Later(Duration::from_secs(1))).await;
    peer.send(text("n2")).await;
    assert!(
        next_within(&mut *source, QUIET).await.is_none(),
        "hands are full"
    );
    settle(vec![second], &Verdict::Stored).await;
    let third = take(&mut *source, 1).await;
    assert_eq!(bodies(&third), ["n2"]);
    settle(third, &Verdict::Stored).await;
    let again = take(&mut *source, 1).await;
    assert_eq!(bodies(&again), ["n0"]);
    assert!(asked.elapsed() >= Duration::from_secs(1));
    settle(again, &Verdict::Failed).await;
    let again = take(&mut *source, 1).await;
    assert_eq!(bodies(&again), ["n0"]);
    settle(again, &Verdict::Stored).await;
    source.finish().await;
    assert!(left_in(&address).await.is_empty());
}

#[tokio::test]
async fn a_poison_message_neither_blocks_nor_loops() {
    let (address, mut peer) = queue_of(&[]).await;
    let settings = settings(&address, json!({})).await;
    let (mut source, _) = open(&settings).await.unwrap();
    // A body that breaks off within its section; then one that is no event though it says so.
    let torn = b"\0\x53\x75\xa0\x05abc";
    peer.send_bytes(torn).await;
    let mut no_event = text("{");
    no_event.set(
        Property::ContentType,
        Value::symbol("application/cloudevents+json"),
    );
    let no_event = no_event.write();
    peer.send_bytes(&no_event).await;
    peer.send(text("next")).await;
    let taken = take(&mut *source, 3).await;
    for (message, raw) in taken.iter().zip([&torn[..], &no_event]) {
        let reject = &message.rejects[0];
        // A broker may write what stands before the body anew.
        assert!(reject.raw.ends_with(&raw[raw.len() - 5..]), "{reject:?}");
    }
    assert_eq!(bodies(&taken[2..]), ["next"]);
    settle(taken, &Verdict::Stored).await;
    assert!(next_within(&mut *source, QUIET).await.is_none());
    source.finish().await;
    assert!(left_in(&address).await.is_empty());
}

#[tokio::test]
async fn a_message_that_is_too_large_is_left_to_others_and_holds_up_nothing() {
    let (address, mut peer) = queue_of(&[]).await;
    let settings = settings(&address, json!({})).await;
    let (mut source, _) = open(&settings).await.unwrap();
    peer.send(text(&"x".repeat(17 << 20))).await;
    peer.send(text(&"y".repeat(3 << 20))).await;
    let taken = take(&mut *source, 2).await;
    let reject = &taken[0].rejects[0];
    assert!(
        reject.reason.contains("more than 16 MiB"),
        "{}",
        reject.reason
    );
    assert_eq!(bodies(&taken[1..]), ["y".repeat(3 << 20)]);
    settle(taken, &Verdict::Stored).await;
    assert!(next_within(&mut *source, QUIET).await.is_none());
    source.finish().await;
    let mut other = Peer::receiver(&server().await.url(), &address).await;
    let left = other.received_bytes().await;
    assert_eq!(left.len(), 1, "it is there for others");
    assert!(left[0].len() > 17 << 20);
}

#[tokio::test]
async fn what_is_refused_goes_to_the_brokers_dead_letters() {
    let body = unique("refused");
    let (address, _) = queue_of(std::slice::from_ref(&body)).await;
    let settings = settings(&address, json!({})).await;
    let (mut source, _) = open(&settings).await.unwrap();
    let refused = Verdict::Rejected {
        reason: "no".to_owned(),
        event: None,
    };
    settle(take(&mut *source, 1).await, &refused).await;
    assert!(next_within(&mut *source, QUIET).await.is_none());
    source.finish().await;
    assert!(left_in(&address).await.is_empty());
}

#[tokio::test]
async fn credit_follows_the_intake_and_the_broker_hears_of_us_meanwhile() {
    let (address, mut peer) = queue_of(&lines(0..12)).await;
    let settings = settings(&address, json!({ "prefetch": 5 })).await;
    let (mut source, _) = open(&settings).await.unwrap();
    let mut held = take(&mut *source, 5).await;
    assert!(next_within(&mut *source, QUIET).await.is_none());
    // Longer than the broker takes to give up on whoever says nothing, and we on it.
    tokio::time::sleep(Duration::from_secs(25)).await;
    peer.send(text("n12")).await;
    let mut found = Vec::new();
    while found.len() < 13 {
        assert!(held.len() <= 5, "{}", held.len());
        found.extend(bodies(&held));
        settle(held, &Verdict::Stored).await;
        held = match found.len() {
            13 => Vec::new(),
            _ => take(&mut *source, 1).await,
        };
    }
    assert_eq!(found, lines(0..13));
}

#[tokio::test]
async fn a_topic_its_durable_subscription_and_a_selector() {
    let address = unique("topics.prices");
    let url = server().await.url();
    let durable = json!({
        "subscription": "bus",
        "container_id": unique("client"),
        "selector": "currency = 'EUR'",
    });
    let durable = settings(&address, durable).await;
    let (mut source, _) = open(&durable).await.unwrap();
    let (mut passing, _) = open(&settings(&address, json!({ "kind": "topic" })).await)
        .await
        .unwrap();
    let mut peer = Peer::sender(&url, &address).await;
    let mut send = async |body: &str, currency: &str| {
        let mut message = text(body);
        message.application = vec![(Value::string("currency"), Value::string(currency))];
        peer.send(message).await;
    };
    send("1", "EUR").await;
    send("2", "USD").await;
    for (source, expect) in [(&mut source, &["1"][..]), (&mut passing, &["1", "2"])] {
        let taken = take(&mut **source, expect.len()).await;
        assert_eq!(bodies(&taken), expect);
        settle(taken, &Verdict::Stored).await;
    }
    source.finish().await;
    send("3", "EUR").await;
    let (mut source, _) = open(&durable).await.unwrap();
    let taken = take(&mut *source, 1).await;
    assert_eq!(
        bodies(&taken),
        ["3"],
        "it was kept while nobody was connected"
    );
    settle(taken, &Verdict::Stored).await;
    assert!(next_within(&mut *source, QUIET).await.is_none());
    // Two may not have the subscription at a time.
    let told = open(&durable).await.err().unwrap().0.to_string();
    assert!(told.contains("the AMQP broker at"), "{told}");
}
