//! Against a real server: see [`ObjectStore`].

mod fixture;

use std::sync::Arc;

use aws_sdk_s3::types::{
    BucketVersioningStatus, Event as Happens, NotificationConfiguration, QueueConfiguration,
    VersioningConfiguration,
};
use bytes::Bytes;
use pointsman_schemas::{Clock, Event, SystemClock};
use pointsman_test_brokers::ObjectStore;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::fixture::{Fixture, LEFT_BEHIND, QUEUE, Told};
use super::*;
use crate::suite::{SourceFixture, Stored, next_within, open, sources};
use crate::{Arrival, Link, SourceError, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// Longer than it takes until a listing is believed after a start, with what a queue may hide then,
/// to list the bucket once more and to wait for the grace.
const LISTED: Duration = Duration::from_millis(10_500);

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_listed_conforms() {
    sources(&mut Fixture::listed(&json!({})).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_a_current_store_conforms() {
    sources(&mut Fixture::listed_at(ObjectStore::seaweedfs().await, &json!({})).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_current_store_is_listed_and_looked_at_and_what_it_refuses_is_told_in_words() {
    let fixture = Fixture::listed_at(
        ObjectStore::seaweedfs().await,
        &json!({ "head": true, "inline": "1KiB" }),
    )
    .await;
    let mut told = Told::open(&fixture, None).await;
    let keys = [
        "a b.jpg",
        "a+b.jpg",
        "a%20b.jpg",
        "50%.jpg",
        "ü/ñ 日本.jpg",
        "a&b=c.jpg",
        "quote'.jpg",
    ];
    for key in keys {
        fixture.put(key, key).await;
    }
    let mut expect = keys.map(|key| format!("ObjectCreated:Put {key}"));
    expect.sort();
    assert_eq!(told.next(keys.len()).await, expect);
    for event in &told.events {
        let object = &event.data().unwrap().value().unwrap()["object"];
        assert_eq!(
            (&object["body"], &object["contentType"]),
            (
                &json!(event.subject().unwrap().to_string()),
                &json!("text/plain")
            ),
            "{object}"
        );
    }
    fixture.put("50%.jpg", "another").await;
    fixture.delete("a+b.jpg").await;
    assert_eq!(
        told.next(2).await,
        ["ObjectCreated:Put 50%.jpg", "ObjectRemoved:Delete a+b.jpg"]
    );

    let with = async |key: &str, value: Value| {
        let mut settings = fixture.settings.clone();
        settings[key] = value;
        let settings: ObjectStorageSource = serde_json::from_value(settings).unwrap();
        settings.probe().await.unwrap_err().to_string()
    };
    let refused = with(
        "credentials",
        json!({ "access_key": "test", "secret_key": "wrong" }),
    )
    .await;
    assert!(
        refused.starts_with(
            "bucket: the store does not let us see the bucket photos: 403 SignatureDoesNotMatch"
        ),
        "{refused}"
    );
    let unknown = with(
        "credentials",
        json!({ "access_key": "nobody", "secret_key": "test" }),
    )
    .await;
    assert!(unknown.contains("403 InvalidAccessKeyId"), "{unknown}");
    let missing = with("bucket", "missing".into()).await;
    assert_eq!(
        missing,
        "bucket: there is no bucket missing (make it, or correct its name)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_conforms() {
    // A grace by which messages are in hand so long that a busy machine extends them in time.
    let settings = json!({ "reconcile": "0s", "grace": "10s" });
    sources(&mut Fixture::notified(&settings).await).await;
}

const ODD_KEYS: [&str; 8] = [
    "a b.jpg",
    "a+b.jpg",
    "a%20b.jpg",
    "50%.jpg",
    "ü/ñ 日本.jpg",
    "a&b=c?d#e.jpg",
    "../up.jpg",
    "quote\"'<>.jpg",
];

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_as_they_are_by_queue_and_by_listing() {
    let fixture = Fixture::notified(&json!({ "prefix": "", "suffix": ".jpg" })).await;
    let mut by_queue = Told::open(&fixture, None).await;
    for key in ODD_KEYS {
        fixture.put(key, key).await;
    }
    fixture.put("a.txt", "another suffix").await;
    let mut expect = ODD_KEYS.map(|key| format!("ObjectCreated:Put {key}"));
    expect.sort();
    assert_eq!(by_queue.next(ODD_KEYS.len()).await, expect);
    by_queue.quiet(LISTED).await;
    fixture.drained().await;
    drop(by_queue);
    let mut by_listing = Told::open(&fixture, None).await;
    assert_eq!(by_listing.next(ODD_KEYS.len()).await, expect);
    for event in by_listing.events {
        let data = event.data().unwrap().value().unwrap();
        assert_eq!(data["object"]["key"], event.subject().unwrap().to_string());
        assert_eq!(
            happening::decode_key(data["s3"]["object"]["key"].as_str().unwrap()).as_deref(),
            Ok(event.subject().unwrap())
        );
        assert_eq!(
            (&data["object"]["listed"], &data["s3"]["bucket"]["name"]),
            (&json!(true), &json!("photos"))
        );
        assert_eq!(event.source().to_string(), "aws:s3.us-east-1.photos");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_overwritten_quickly_is_told_each_time_or_once_when_it_has_settled() {
    for (settle, expect) in [("0s", 3), ("5s", 1)] {
        let fixture = Fixture::notified(&json!({ "settle": settle })).await;
        let mut told = Told::open(&fixture, None).await;
        for content in ["one", "two", "two"] {
            fixture.put("a", content).await;
        }
        assert_eq!(told.next(expect).await, vec!["ObjectCreated:Put a"; expect]);
        let mut ids: Vec<_> = told
            .events
            .iter()
            .map(|event| event.id().to_owned())
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), expect, "each has its own id: {ids:?}");
        told.quiet(LISTED).await;
        fixture.drained().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_read_as_far_as_it_can_be_and_test_events_are_passed_over() {
    let fixture = Fixture::notified(&json!({ "reconcile": "0s" })).await;
    let mut told = Told::open(&fixture, None).await;
    let record = |key: &str| {
        json!({ "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2026-11-20T12:00:00.000Z",
            "eventName": "ObjectCreated:Put", "s3": { "bucket": { "name": "photos" }, "object": { "key": key, "size": 1, "eTag": "e" } } })
    };
    let mut elsewhere = record("elsewhere");
    elsewhere["s3"]["bucket"]["name"] = "other".into();
    fixture
        .send(&json!({ "Records": [elsewhere] }).to_string())
        .await;
    let broken = json!({ "eventName": "ObjectCreated:Put", "s3": { "bucket": { "name": "photos" }, "object": {} } });
    fixture
        .send(
            &json!({ "Records": [record("1"), record("2"), broken, record("3"), record("4")] })
                .to_string(),
        )
        .await;
    let batch = next_within(&mut *told.source, LONG).await.unwrap().unwrap();
    let [message] = <[_; 1]>::try_from(batch.messages).unwrap();
    assert_eq!((message.arrivals.len(), message.rejects.len()), (4, 1));
    assert_eq!(message.rejects[0].raw, broken.to_string().as_bytes());
    assert_eq!(message.rejects[0].reason, "the record has no s3.object.key");
    message.acknowledgement.send(Verdict::Stored).await;
    // What holds nothing for the bus is acknowledged by the source itself, at its next call.
    tokio::select! {
        () = fixture.drained() => {}
        () = told.quiet(LONG) => panic!("the queue is not empty"),
    }

    // What cannot be stored now comes again.
    fixture
        .send(&json!({ "Records": [record("5")] }).to_string())
        .await;
    assert!(
        told.take(LONG, &Verdict::Later(Duration::from_secs(1)))
            .await
    );
    assert_eq!(told.next(1).await, ["ObjectCreated:Put 5"]);
    assert_eq!(told.events[0].id(), told.events[1].id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_finds_exactly_what_no_notification_told_and_the_cursor_remembers() {
    let fixture = Fixture::notified(&json!({})).await;
    let mut told = Told::open(&fixture, None).await;
    for key in ["a", "b", "c"] {
        fixture.put(key, "1").await;
    }
    told.next(3).await;
    fixture.delete("c").await;
    assert_eq!(told.next(1).await, ["ObjectRemoved:Delete c"]);
    told.quiet(LISTED).await;

    fixture.notify(false).await;
    fixture.put("a", "22").await;
    fixture.delete("b").await;
    fixture.put("d", "1").await;
    assert_eq!(
        told.next(3).await,
        [
            "ObjectCreated:Put a",
            "ObjectCreated:Put d",
            "ObjectRemoved:Delete b"
        ]
    );
    told.quiet(LISTED).await;

    // While nothing runs: one that a notification tells, one that none does.
    let Told { stored, source, .. } = told;
    drop(source);
    tokio::time::sleep(LEFT_BEHIND).await;
    fixture.put("e", "1").await;
    fixture.notify(true).await;
    fixture.put("f", "1").await;
    let mut told = Told::open(&fixture, stored.clone()).await;
    assert_eq!(
        told.next(2).await,
        ["ObjectCreated:Put e", "ObjectCreated:Put f"]
    );
    let listed = |told: &Told| {
        told.events
            .iter()
            .map(|event| event.data().unwrap().value().unwrap()["object"]["listed"].is_null())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&told), [true, false], "the notification comes first");
    told.quiet(LISTED).await;
    drop(told);

    // After a crash before it was stored, what a listing finds has the id that it had.
    let mut again = Told::open(&fixture, stored).await;
    assert_eq!(
        again.next(2).await,
        ["ObjectCreated:Put e", "ObjectCreated:Put f"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_comes_after_the_listing_is_not_told_again() {
    let fixture = Fixture::notified(&json!({})).await;
    fixture.notify(false).await;
    let mut told = Told::open(&fixture, None).await;
    fixture.put("late", "1").await;
    assert_eq!(told.next(1).await, ["ObjectCreated:Put late"]);
    let record = told.events[0].data().unwrap().value().unwrap().clone();
    fixture
        .send(&json!({ "Records": [record] }).to_string())
        .await;
    told.quiet(LISTED).await;
    fixture.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_versioned_bucket_is_told_once_too() {
    let fixture = Fixture::notified(&json!({})).await;
    let versioning = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    fixture
        .bucket
        .client
        .put_bucket_versioning()
        .bucket("photos")
        .versioning_configuration(versioning)
        .send()
        .await
        .unwrap();
    let mut told = Told::open(&fixture, None).await;
    fixture.put("a", "1").await;
    fixture.put("a", "2").await;
    assert_eq!(
        told.next(2).await,
        ["ObjectCreated:Put a", "ObjectCreated:Put a"]
    );
    told.quiet(LISTED).await;
    fixture.delete("a").await;
    let gone = told.next(1).await;
    assert!(gone[0].starts_with("ObjectRemoved:"), "{gone:?}");
    told.quiet(LISTED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_looked_at_where_that_is_asked_for() {
    let fixture =
        Fixture::listed(&json!({ "head": true, "inline": "8B", "existing": "skip" })).await;
    fixture.put("before", "1").await;
    let mut told = Told::open(&fixture, None).await;
    told.quiet(Duration::from_millis(500)).await;
    assert!(
        told.stored.cursor.is_some(),
        "that it is known is remembered"
    );
    fixture.put("large", "more than that").await;
    fixture.put("small", "a text").await;
    let json = Bytes::from_static(b"{\"a\":1}").into();
    fixture
        .bucket
        .client
        .put_object()
        .bucket("photos")
        .key("some.json")
        .body(json)
        .content_type("application/json")
        .metadata("by", "me")
        .send()
        .await
        .unwrap();
    let binary = Bytes::from_static(b"\xff\0").into();
    fixture
        .bucket
        .client
        .put_object()
        .bucket("photos")
        .key("binary")
        .body(binary)
        .send()
        .await
        .unwrap();
    told.next(4).await;
    for event in &told.events {
        let object = &event.data().unwrap().value().unwrap()["object"];
        let expect = match event.subject().unwrap() {
            "large" => json!({ "contentType": "text/plain", "size": 14 }),
            "small" => json!({ "contentType": "text/plain", "size": 6, "body": "a text" }),
            "some.json" => {
                json!({ "contentType": "application/json", "metadata": { "by": "me" }, "body": { "a": 1 } })
            }
            "binary" => json!({ "size": 2, "body_base64": "/wA=" }),
            other => panic!("{other}"),
        };
        for (name, value) in expect.as_object().unwrap() {
            assert_eq!(&object[name], value, "{name} of {object}");
        }
        assert_eq!(
            object.get("body").is_some() || object.get("body_base64").is_some(),
            event.subject().unwrap() != "large"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_hand_is_extended_until_it_is_told() {
    let fixture = Fixture::notified(&json!({})).await;
    fixture
        .queues
        .purge_queue()
        .queue_url(fixture.store.queue_url(QUEUE))
        .send()
        .await
        .unwrap();
    let link = Link::new(
        pointsman_schemas::Name::new("suite").unwrap(),
        fixture.clock(),
    );
    let queue = Queue {
        client: fixture.queues.clone(),
        url: fixture.store.queue_url(QUEUE),
        in_hand: Duration::from_secs(6),
    };
    let mut first = Reading::begin(queue.clone(), Duration::from_secs(1), BOUNDS, link.clone());
    fixture.send("held").await;
    let held = tokio::time::timeout(LONG, first.next(BATCH_MESSAGES_MAX))
        .await
        .unwrap()
        .unwrap()
        .remove(0);
    let mut second = Reading::begin(queue.clone(), Duration::from_secs(1), BOUNDS, link.clone());
    assert!(
        tokio::time::timeout(Duration::from_secs(9), second.next(BATCH_MESSAGES_MAX))
            .await
            .is_err(),
        "it is handed to nobody else"
    );
    held.acknowledgement.send(Verdict::Failed).await;
    let again = tokio::time::timeout(LONG, second.next(BATCH_MESSAGES_MAX))
        .await
        .unwrap()
        .unwrap()
        .remove(0);
    assert_eq!(again.message.body(), Some("held"));
    // Nothing is told: it is given back.
    drop((again, first));
    let again = tokio::time::timeout(LONG, second.next(BATCH_MESSAGES_MAX))
        .await
        .unwrap()
        .unwrap()
        .remove(0);
    again.acknowledgement.send(Verdict::Stored).await;
    fixture.drained().await;
    let until = Instant::now() + LONG;
    while link.status().lag != Some(0) {
        assert!(Instant::now() < until, "{:?}", link.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_words() {
    let mut fixture = Fixture::notified(&json!({})).await;
    let probe = async |settings: &Value| {
        let settings: ObjectStorageSource = serde_json::from_value(settings.clone()).unwrap();
        settings.probe().await.map_err(|error| error.to_string())
    };
    let found = probe(&fixture.settings).await.unwrap();
    assert_eq!(
        found, "the bucket photos can be seen; 1 messages wait in the queue",
        "the store's own test event"
    );
    let with = |key: &str, value: Value| {
        let mut settings = fixture.settings.clone();
        settings[key] = value;
        settings
    };
    let missing = probe(&with("bucket", "missing".into())).await.unwrap_err();
    assert_eq!(
        missing,
        "bucket: there is no bucket missing (make it, or correct its name)"
    );
    let invalid = probe(&with("bucket", "Invalid..Name".into()))
        .await
        .unwrap_err();
    assert!(
        invalid.starts_with("bucket: ") && !invalid.contains("region"),
        "{invalid}"
    );
    let queue = probe(&with(
        "notifications",
        json!({ "sqs": fixture.store.queue_url("missing") }),
    ))
    .await
    .unwrap_err();
    assert!(
        queue.starts_with("notifications.sqs: cannot ask the queue: 400 "),
        "{queue}"
    );
    let nobody = probe(&with("endpoint", "http://127.0.0.1:9".into()))
        .await
        .unwrap_err();
    assert!(
        nobody.starts_with("endpoint: cannot reach the store: ") && nobody.contains("refused"),
        "{nobody}"
    );

    let mut source = open(&fixture, None, false).await;
    fixture.store.kill();
    let broken = loop {
        match next_within(&mut *source, LONG).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&broken, SourceError::Unavailable(reason) if reason.contains("cannot receive from the queue")),
        "{broken}"
    );
}

#[tokio::test]
async fn a_store_that_calls_is_answered_once_what_it_tells_is_stored() {
    use crate::listener::tests::serve;
    use crate::listener::{Limits, ListenSettings};
    let served = serve(ListenSettings::default(), Limits::default()).await;
    let settings: ObjectStorageSource = serde_json::from_value(json!({
        "endpoint": "http://127.0.0.1:9", "bucket": "photos", "credentials": { "access_key": "a", "secret_key": "b" }, "reconcile": "0s",
        "notifications": { "webhook": { "path": "/hooks/photos", "token": "secret" } },
    }))
    .unwrap();
    let name = pointsman_schemas::Name::new("photos").unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let context = SourceContext {
        link: Link::new(name.clone(), Arc::clone(&clock)),
        tenant: pointsman_schemas::Name::default_tenant(),
        cursor: None,
        positions: crate::suite::Stored::default().positions(),
        mapped: false,
        alarms: crate::Alarms::new(Arc::clone(&clock)),
        clock,
        routes: served.routes.clone(),
        name,
    };
    let mut source = settings.open(context).await.unwrap();
    let body =
        json!({ "EventName": "s3:ObjectCreated:Put", "Key": "photos/a.jpg", "Records": [{ "eventSource": "minio:s3", "awsRegion": "",
        "eventTime": "2026-11-20T12:00:00.123Z", "eventName": "s3:ObjectCreated:Put",
        "responseElements": { "x-amz-request-id": "14CF", "x-amz-id-2": "dd90" },
        "s3": { "bucket": { "name": "photos" }, "object": { "key": "a.jpg", "size": 5, "eTag": "e", "sequencer": "14CF" } } }] })
        .to_string();
    let post = async |authorization: &str| {
        served
            .post(
                "/hooks/photos",
                &[("Authorization", authorization)],
                body.as_bytes(),
            )
            .await
            .status()
    };
    assert_eq!(post("Bearer wrong").await, 401);
    assert_eq!(
        served
            .post("/hooks/photos", &[], body.as_bytes())
            .await
            .status(),
        401
    );
    let bus = async {
        let mut ids = Vec::new();
        for verdict in [
            Verdict::Stored,
            Verdict::Stored,
            Verdict::Later(Duration::from_secs(5)),
            Verdict::Failed,
        ] {
            for message in source.next().await.unwrap().messages {
                let Some(Arrival::Event(event)) = message.arrivals.first() else {
                    panic!("{message:?}")
                };
                ids.push(event.id().to_string());
                message.acknowledgement.send(verdict.clone()).await;
            }
        }
        ids
    };
    let store = async {
        [
            post("Bearer secret").await,
            post("secret").await,
            post(&format!("Basic {}", "c2VjcmV0")).await,
            post("secret").await,
        ]
    };
    let (ids, answers) = tokio::join!(bus, store);
    assert_eq!(ids, ["14CF.dd90/a.jpg/e/14CF/ObjectCreated:Put"; 4]);
    assert_eq!(answers, [202, 202, 429, 503]);
}

/// What was handed over just before a crash and not stored still lies in the queue, hidden.
#[tokio::test(flavor = "multi_thread")]
async fn what_hides_in_the_queue_after_a_crash_is_not_told_under_another_id() {
    let fixture = Fixture::notified(&json!({})).await;
    let mut crashed = Told::open(&fixture, None).await;
    let keys: Vec<_> = (0..15).map(|n| format!("{n:02}")).collect();
    for key in &keys {
        fixture.put(key, key).await;
    }
    // Nothing is acknowledged: the messages are dropped with the source.
    while crashed.events.len() < keys.len() {
        let batch = next_within(&mut *crashed.source, LONG)
            .await
            .unwrap()
            .unwrap();
        for arrival in batch
            .messages
            .into_iter()
            .flat_map(|message| message.arrivals)
        {
            let Arrival::Event(event) = arrival else {
                panic!("nothing is mapped")
            };
            crashed.events.push(event);
        }
    }
    drop(crashed.source);
    let mut again = Told::open(&fixture, None).await;
    again.next(keys.len()).await;
    again.quiet(LISTED).await;
    let ids = |events: &[Arc<Event>]| {
        events
            .iter()
            .map(|event| event.id().to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&again.events), ids(&crashed.events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_becomes_current_again_is_an_event_of_its_own() {
    let fixture = Fixture::listed(&json!({})).await;
    let versioning = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    fixture
        .bucket
        .client
        .put_bucket_versioning()
        .bucket("photos")
        .versioning_configuration(versioning)
        .send()
        .await
        .unwrap();
    fixture.put("a", "1").await;
    let mut told = Told::open(&fixture, None).await;
    told.next(1).await;
    for _ in 0..2 {
        let deleted = fixture
            .bucket
            .client
            .delete_object()
            .bucket("photos")
            .key("a")
            .send()
            .await
            .unwrap();
        assert_eq!(told.next(1).await, ["ObjectRemoved:Delete a"]);
        // Without the marker the object is there as it was, with its own time.
        let marker = deleted.version_id.unwrap();
        fixture
            .bucket
            .client
            .delete_object()
            .bucket("photos")
            .key("a")
            .version_id(marker)
            .send()
            .await
            .unwrap();
        assert_eq!(told.next(1).await, ["ObjectCreated:Put a"]);
    }
    let ids: std::collections::BTreeSet<_> = told
        .events
        .iter()
        .map(|event| event.id().to_string())
        .collect();
    assert_eq!(ids.len(), 5, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bucket_of_the_same_name_removes_nothing_unless_it_is_accepted() {
    let mut fixture = Fixture::listed(&json!({})).await;
    fixture.put("a", "1").await;
    fixture.put("b", "1").await;
    let mut told = Told::open(&fixture, None).await;
    told.next(2).await;
    // The server forgets all. It tells when a bucket was made to the second, and may be back within
    // the same one.
    let made = std::time::Instant::now();
    fixture.store.restart().await;
    tokio::time::sleep_until((made + Duration::from_millis(1_100)).into()).await;
    fixture
        .bucket
        .client
        .create_bucket()
        .bucket("photos")
        .send()
        .await
        .unwrap();
    fixture.put("c", "1").await;
    let held = |ended: &Result<crate::Batch, SourceError>| matches!(ended, Err(SourceError::Unavailable(why)) if why.contains("another one") && why.contains("replaced: tell"));
    // It may have been asked while the server was away.
    told.source = open(&fixture, told.stored.clone(), false).await;
    let ended = next_within(&mut *told.source, LONG).await.unwrap();
    assert!(held(&ended), "{ended:?}");
    fixture.settings["replaced"] = "tell".into();
    told.source = open(&fixture, told.stored.clone(), false).await;
    assert_eq!(
        told.next(3).await,
        [
            "ObjectCreated:Put c",
            "ObjectRemoved:Delete a",
            "ObjectRemoved:Delete b"
        ]
    );
    fixture.settings["replaced"] = "hold".into();
    told.source = open(&fixture, told.stored.clone(), false).await;
    fixture.delete("c").await;
    assert_eq!(
        told.next(1).await,
        ["ObjectRemoved:Delete c"],
        "this is the one that is followed now"
    );
}
