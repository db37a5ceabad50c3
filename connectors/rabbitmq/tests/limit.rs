//! Queues that drop what has come back too often, and what is found out about queues.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::source::{body, ends, event, take};
use super::*;
use crate::rabbitmq::RabbitmqSource;
use crate::rabbitmq::declare::QueueType;
use crate::rabbitmq::greeting::Version;
use crate::rabbitmq::queue::{QueueFacts, facts};
use crate::suite::next_within;
use crate::{Message, Verdict};

/// When a message's source wants to be told of it, from now.
fn wait(message: &Message) -> Duration {
    message
        .acknowledgement
        .deadline()
        .unwrap()
        .saturating_duration_since(tokio::time::Instant::now())
}

#[tokio::test]
async fn what_a_queue_is_can_be_asked() {
    let long = AMQPValue::LongLongInt;
    let old = Some(Version(3, 10));
    let found = |kind, limit| QueueFacts {
        kind: Some(kind),
        limit,
        ..QueueFacts::default()
    };
    let dressed = [
        ("x-delivery-limit", long(7)),
        ("x-dead-letter-exchange", text("it's")),
        ("x-max-length", long(1_000)),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-overflow", text("reject-publish")),
        ("x-expires", long(600_000)),
    ];
    for (kind, arguments, expect) in [
        ("quorum", &[][..], found(QueueType::Quorum, None)),
        (
            "quorum",
            &[("x-delivery-limit", long(3))][..],
            found(QueueType::Quorum, Some(3)),
        ),
        ("quorum", &dressed[..], found(QueueType::Quorum, Some(7))),
        ("classic", &[][..], found(QueueType::Classic, None)),
        ("classic", &dressed[1..], found(QueueType::Classic, None)),
        (
            "stream",
            &[("x-max-age", text("7D"))][..],
            found(QueueType::Stream, None),
        ),
    ] {
        let queue = Queue::new(kind, arguments).await;
        let name = queue.name.as_str().into();
        assert_eq!(
            facts(&queue._connection, &name, old).await,
            expect,
            "{kind} {arguments:?}"
        );
    }
    let queue = Queue::new("quorum", &[]).await;
    assert_eq!(
        facts(
            &queue._connection,
            &queue.name.as_str().into(),
            Some(Version(4, 1))
        )
        .await
        .limit,
        Some(20)
    );

    let (name, transient) = (
        format!("{}-transient", queue.name),
        QueueDeclareOptions {
            auto_delete: true,
            ..QueueDeclareOptions::default()
        },
    );
    queue
        .channel
        .queue_declare(name.as_str().into(), transient, FieldTable::default())
        .await
        .unwrap();
    assert_eq!(
        facts(&queue._connection, &name.as_str().into(), old).await,
        found(QueueType::Classic, None)
    );

    // Of a queue that is not there it makes nothing.
    let missing = format!("{}-missing", queue.name);
    assert_eq!(
        facts(&queue._connection, &missing.as_str().into(), old).await,
        QueueFacts::default()
    );
    let (_connection, channel) = connect(&queue.url).await;
    let passive = channel.queue_declare(
        missing.as_str().into(),
        QueueDeclareOptions::default().passive(),
        FieldTable::default(),
    );
    assert!(passive.await.unwrap_err().to_string().contains("NOT_FOUND"));
}

#[tokio::test]
async fn a_message_that_its_queue_would_soon_drop_says_so() {
    let queue = Queue::new("quorum", &[("x-delivery-limit", AMQPValue::LongLongInt(4))]).await;
    queue.publish("1", plain()).await;
    let found = source(&queue.settings(json!({}))).probe().await.unwrap();
    assert!(
        found.contains("warning: it has a delivery limit of 4"),
        "{found}"
    );
    let borne = if server().await.0.version() < (4, 0) {
        2
    } else {
        1
    };
    for returns in 0..4 {
        let (mut source, _link) = open(&queue.settings(json!({ "hold": "1h" })))
            .await
            .unwrap();
        let message = take(&mut *source, 1).await.remove(0);
        let wait = wait(&message);
        assert!(
            if returns < borne {
                wait > Duration::from_secs(3_590)
            } else {
                wait.is_zero()
            },
            "{returns}: {wait:?}"
        );
        if returns == 3 {
            message.acknowledgement.send(Verdict::Stored).await;
        }
    }
}

/// A limit that nobody is told of.
#[tokio::test]
async fn what_a_policy_limits_is_stored_in_time() {
    let (server, _) = server().await;
    let queue = Queue::new("quorum", &[]).await;
    let limit = if server.version() < (4, 0) { 3 } else { 2 };
    let (pattern, definition) = (
        format!("^{}$", queue.name),
        json!({ "delivery-limit": limit }).to_string(),
    );
    let _set = server.ctl(&[
        "set_policy",
        &queue.name,
        &pattern,
        &definition,
        "--apply-to",
        "queues",
    ]);
    queue.publish("1", plain()).await;
    for returns in 0..=limit {
        let (mut source, _link) = open(&queue.settings(json!({ "hold": "1h" })))
            .await
            .unwrap();
        let message = take(&mut *source, 1).await.remove(0);
        // It may come back once more while it is being stored.
        assert_eq!(
            wait(&message).is_zero(),
            returns >= limit - 1,
            "{returns}: {:?}",
            wait(&message)
        );
        if returns == limit {
            message.acknowledgement.send(Verdict::Stored).await;
        }
    }
}

#[tokio::test]
async fn a_quorum_queue_is_declared_without_a_limit_or_taken_with_what_it_has() {
    let queue = Queue::new("quorum", &[("x-delivery-limit", AMQPValue::LongLongInt(5))]).await;
    let (url, connection) = (&queue.url, &queue._connection);
    let declare = |name: &str, arguments: Value| -> RabbitmqSource {
        serde_json::from_value(json!({ "url": url, "queue": name, "declare": { "type": "quorum", "arguments": arguments } })).unwrap()
    };
    let old = Some(Version(3, 10));
    let of = async |name: &str| {
        facts(connection, &name.into(), Some(Version(4, 0)))
            .await
            .limit
    };
    // On this server a negative limit would drop what comes back once; later ones take it for none.
    for (suffix, version, arguments, expect) in [
        ("old", old, json!({}), Some(20)),
        ("asked", old, json!({ "x-delivery-limit": -1 }), Some(20)),
        ("new", Some(Version(4, 0)), json!({}), None),
        (
            "limited",
            Some(Version(4, 0)),
            json!({ "x-delivery-limit": 9 }),
            Some(9),
        ),
    ] {
        let name = format!("{}-{suffix}", queue.name);
        let settings = declare(&name, arguments);
        for _ in 0..2 {
            settings
                .declaration()
                .declare(connection, &name, version)
                .await
                .unwrap();
        }
        assert_eq!(
            of(&name).await,
            expect,
            "{suffix}: what was declared, as a server of version 4 would take it"
        );
    }
    let taken = declare(&queue.name, json!({}))
        .declaration()
        .declare(connection, &queue.name, Some(Version(4, 0)))
        .await
        .unwrap();
    assert_eq!(taken.limit, Some(5));
    let name = format!("{}-old", queue.name);
    let taken = declare(&name, json!({}))
        .declaration()
        .declare(connection, &name, Some(Version(4, 0)))
        .await
        .unwrap();
    assert_eq!(
        taken.limit,
        Some(20),
        "it was made before there were limits"
    );
    let other = declare(&queue.name, json!({ "x-delivery-limit": 6 }))
        .declaration()
        .declare(connection, &queue.name, old)
        .await;
    assert!(other.unwrap_err().message.contains("x-delivery-limit"));
}

#[tokio::test]
async fn a_source_that_rests_keeps_what_it_has_and_asks_for_no_more() {
    let queue = Queue::new("quorum", &[]).await;
    for n in 0..5 {
        queue.publish(format!("{n}"), plain()).await;
    }
    let settings: RabbitmqSource =
        serde_json::from_value(queue.settings(json!({ "prefetch": 2 }))).unwrap();
    let mut source = settings.consuming().await;
    let mut held = Vec::new();
    while held.len() < 2 {
        held.extend(
            tokio::time::timeout(LONG, source.rest())
                .await
                .unwrap()
                .unwrap()
                .messages,
        );
    }
    for message in held {
        message.acknowledgement.send(Verdict::Stored).await;
    }
    let until = tokio::time::Instant::now() + LONG;
    while waiting(&queue).await != (3, 0) {
        assert!(
            tokio::time::Instant::now() < until,
            "{:?} wait",
            waiting(&queue).await
        );
        assert!(
            next_of_rest(&mut source).await.is_none(),
            "it asked for more"
        );
    }
    // It reads again, from where it was.
    let mut bodies = Vec::new();
    while bodies.len() < 3 {
        for message in next_within(&mut source, LONG)
            .await
            .expect("more come")
            .unwrap()
            .messages
        {
            bodies.push(body(&event(&message)));
            message.acknowledgement.send(Verdict::Stored).await;
        }
    }
    assert_eq!(bodies, ["2", "3", "4"]);
    // While it rests it hears that it has lost its channel.
    let until = tokio::time::Instant::now() + LONG;
    while waiting(&queue).await != (0, 0) {
        assert!(
            tokio::time::Instant::now() < until,
            "{:?} wait",
            waiting(&queue).await
        );
        assert!(next_of_rest(&mut source).await.is_none());
    }
    source
        .channel()
        .basic_ack(99, lapin::options::BasicAckOptions::default())
        .await
        .unwrap();
    let ended = tokio::time::timeout(LONG, source.rest())
        .await
        .expect("it ends");
    assert!(
        ended
            .unwrap_err()
            .to_string()
            .contains("the channel has gone")
    );
}

async fn next_of_rest(source: &mut dyn Source) -> Option<Message> {
    let batch = tokio::time::timeout(Duration::from_millis(100), source.rest())
        .await
        .ok()?;
    batch.unwrap().messages.pop()
}

/// Messages that nobody has, and readers.
async fn waiting(queue: &Queue) -> (u32, u32) {
    let passive = QueueDeclareOptions::default().passive();
    let found = queue
        .channel
        .queue_declare(queue.name.as_str().into(), passive, FieldTable::default())
        .await
        .unwrap();
    (found.message_count(), found.consumer_count())
}

#[tokio::test]
async fn a_consumer_timeout_is_said_and_remembered() {
    let server = RabbitServer::start(
        "consumer_timeout = 1500",
        "{rabbit, [{channel_tick_interval, 200}]}",
    )
    .await;
    let queue = Queue::at(&server.url(), "quorum", &[]).await;
    queue.publish("1", plain()).await;
    let settings = source(&queue.settings(json!({})));
    for (expect, ends_it) in [(590..=600, true), (0..=0, false)] {
        let mut source = reopened(&*settings).await;
        let message = take(&mut *source, 1).await.remove(0);
        assert!(
            expect.contains(&wait(&message).as_secs()),
            "{:?}",
            wait(&message)
        );
        if ends_it {
            let why = ends(&mut *source).await;
            assert!(
                why.contains("consumer_timeout of 1.5s")
                    && why.contains("for 500ms at most")
                    && !why.contains("deleted"),
                "{why}"
            );
        }
    }
}

async fn reopened(settings: &dyn SourceSettings) -> Box<dyn Source> {
    settings.open(context().0).await.unwrap()
}
