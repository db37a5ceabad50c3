use parking_lot::Mutex;
use pointsman_test_brokers::ObjectStore;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, TargetFixture, attempt, context, targets};

struct Fixture {
    store: ObjectStore,
    bucket: Bucket,
    received: Mutex<Vec<Received>>,
    stalling: String,
    begun: Arc<Notify>,
    abandoned: Arc<Notify>,
}

fn settings(endpoint: &str, key: &str) -> Value {
    let credentials = json!({ "access_key": "test", "secret_key": "test" });
    json!({ "endpoint": endpoint, "bucket": "archive", "credentials": credentials, "key": key, "mode": "structured" })
}

async fn open(settings: Value) -> TargetService {
    let settings: ObjectStorageTarget = serde_json::from_value(settings).unwrap();
    settings.open(context()).await.unwrap()
}

impl Fixture {
    async fn new() -> Self {
        Self::at(ObjectStore::start().await).await
    }

    async fn at(store: ObjectStore) -> Self {
        let parsed: ObjectStorageTarget =
            serde_json::from_value(settings(&store.endpoint(), "x")).unwrap();
        let bucket = parsed.connection().open(1).await.unwrap();
        bucket
            .client
            .create_bucket()
            .bucket("archive")
            .send()
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stalling = format!("http://{}", listener.local_addr().unwrap());
        let (begun, abandoned) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told_begun, told_abandoned) = (Arc::clone(&begun), Arc::clone(&abandoned));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4_096];
            stream.read_exact(&mut buffer[..1]).await.unwrap();
            told_begun.notify_one();
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            told_abandoned.notify_one();
        });
        Self {
            store,
            bucket,
            received: Mutex::default(),
            stalling,
            begun,
            abandoned,
        }
    }

    async fn keys(&self) -> Vec<String> {
        let listed = self
            .bucket
            .client
            .list_objects_v2()
            .bucket("archive")
            .send()
            .await
            .unwrap();
        listed
            .contents()
            .iter()
            .map(|object| object.key().unwrap().to_owned())
            .collect()
    }

    async fn get(&self, key: &str) -> (Bytes, Option<String>) {
        let object = self
            .bucket
            .client
            .get_object()
            .bucket("archive")
            .key(key)
            .send()
            .await
            .unwrap();
        (
            object.body.collect().await.unwrap().into_bytes(),
            object.content_type,
        )
    }
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "object-storage";

    fn settings(&self) -> Value {
        settings(&self.store.endpoint(), "thumbs/<$.subject>")
    }

    async fn received(&self) -> Vec<Received> {
        let known: Vec<_> = self
            .received
            .lock()
            .iter()
            .map(|one| one.texts[0].clone())
            .collect();
        for key in self
            .keys()
            .await
            .into_iter()
            .filter(|key| !known.contains(key))
        {
            let event = pointsman_schemas::json::decode(&self.get(&key).await.0).unwrap();
            self.received.lock().push(Received {
                id: event.id().to_string(),
                texts: vec![key],
                trace: None,
            });
        }
        self.received.lock().clone()
    }

    fn stalling(&self) -> Option<Value> {
        Some(settings(&self.stalling, "x"))
    }

    async fn begun(&self) {
        self.begun.notified().await;
    }

    async fn abandoned(&self) {
        self.abandoned.notified().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "bucket": "", "key": "a" }), "bucket"),
            (json!({ "bucket": "b", "key": "" }), "key"),
            (json!({ "bucket": "b", "key": "a".repeat(1_025) }), "key"),
            (
                json!({ "bucket": "b", "key": "a", "content_type": "" }),
                "content_type",
            ),
            (
                json!({ "bucket": "b", "key": "a", "endpoint": "minio" }),
                "endpoint",
            ),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    targets(&Fixture::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_a_current_store() {
    targets(&Fixture::at(ObjectStore::seaweedfs().await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_put_byte_for_byte_under_any_key() {
    let fixture = Fixture::new().await;
    let mut settings = settings(&fixture.store.endpoint(), "<$.subject>");
    settings["mode"] = "data".into();
    let service = open(settings).await;
    let keys = [
        "a b+c%20ü.json",
        "a/b//c",
        "../up",
        "a/./b",
        "quote\"'<>&",
        "ends/",
    ];
    for key in keys {
        let mut attempt = attempt(&["one"], 0);
        attempt.deliveries[0].texts = vec![key.to_owned()];
        let outcomes = service.clone().oneshot(attempt.clone()).await.unwrap();
        assert_eq!(outcomes, [Outcome::delivered()], "{key}");
        let (content, content_type) = fixture.get(key).await;
        assert_eq!(content, attempt.deliveries[0].event.data().unwrap().bytes());
        assert_eq!(content_type.as_deref(), Some("application/json"));
    }
    let (mut found, mut expect) = (fixture.keys().await, keys.map(str::to_owned).to_vec());
    found.sort();
    expect.sort();
    assert_eq!(found, expect);
    for (key, reason) in [
        ("", "must not be empty"),
        (&*"ü".repeat(513), "1024 bytes at most, and this one 1026"),
    ] {
        let mut attempt = attempt(&["one"], 0);
        attempt.deliveries[0].texts = vec![key.to_owned()];
        let outcome = service.clone().oneshot(attempt).await.unwrap().remove(0);
        assert!(
            outcome.class == Class::Rejected && outcome.message.contains(reason),
            "{outcome:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_words() {
    let fixture = Fixture::new().await;
    let mut missing = settings(&fixture.store.endpoint(), "a");
    missing["bucket"] = "missing".into();
    let outcome = open(missing.clone())
        .await
        .oneshot(attempt(&["one"], 0))
        .await
        .unwrap()
        .remove(0);
    assert_eq!((outcome.class, outcome.code), (Class::Failed, Some(404)));
    assert!(
        outcome.message.contains("bucket missing") && outcome.message.contains("NoSuchBucket"),
        "{}",
        outcome.message
    );
    let probe = async |settings: Value| {
        serde_json::from_value::<ObjectStorageTarget>(settings)
            .unwrap()
            .probe()
            .await
    };
    assert!(
        probe(missing)
            .await
            .unwrap_err()
            .to_string()
            .contains("there is no bucket missing")
    );
    assert_eq!(
        probe(fixture.settings()).await.unwrap(),
        "the bucket archive is there; nothing was put into it"
    );
    let guarded = crate::TargetContext {
        allow_private_addresses: false,
        ..context()
    };
    let refused = serde_json::from_value::<ObjectStorageTarget>(fixture.settings())
        .unwrap()
        .open(guarded)
        .await;
    assert!(refused.is_err_and(|error| error.to_string().starts_with("endpoint: ")));
    let outcome = open(settings("http://127.0.0.1:9", "a"))
        .await
        .oneshot(attempt(&["one"], 0))
        .await
        .unwrap()
        .remove(0);
    assert!(
        outcome.class == Class::Unavailable && outcome.message.contains("refused"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn answers_have_their_classes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = open(settings(
        &format!("http://{}", listener.local_addr().unwrap()),
        "a",
    ))
    .await;
    for (status, code, more, expect, retry_after) in [
        (503, "SlowDown", "", Class::Throttled, None),
        (
            503,
            "ServiceUnavailable",
            "Retry-After: 7\r\n",
            Class::Throttled,
            Some(7),
        ),
        (500, "InternalError", "", Class::Failed, None),
        (
            500,
            "InternalError",
            "Retry-After: 7\r\n",
            Class::Throttled,
            Some(7),
        ),
        (429, "TooManyRequests", "", Class::Throttled, None),
        (502, "", "", Class::Unavailable, None),
        (403, "AccessDenied", "", Class::Refused, None),
        (400, "ExpiredToken", "", Class::Refused, None),
        (301, "PermanentRedirect", "", Class::Refused, None),
        (400, "RequestTimeout", "", Class::Failed, None),
        (400, "EntityTooLarge", "", Class::Rejected, None),
        (404, "NoSuchBucket", "", Class::Failed, None),
    ] {
        let body = format!("<Error><Code>{code}</Code><Message>because</Message></Error>");
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
        };
        let (outcomes, ()) = tokio::join!(service.clone().oneshot(attempt(&["one"], 0)), server);
        let outcome = outcomes.unwrap().remove(0);
        assert_eq!(
            (outcome.class, outcome.code),
            (expect, Some(status)),
            "{status} {code}: {outcome:?}"
        );
        assert_eq!(outcome.retry_after, retry_after.map(Duration::from_secs));
        assert!(
            code.is_empty() || outcome.message.contains(code),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn renewed_keys_are_shown_from_the_next_request_on() {
    let (store, folder) = (ObjectStore::seaweedfs().await, tempfile::tempdir().unwrap());
    let files = ["access", "secret"].map(|name| folder.path().join(name));
    let replace = |content: &str| {
        for file in &files {
            std::fs::write(folder.path().join("next"), content).unwrap();
            std::fs::rename(folder.path().join("next"), file).unwrap();
        }
    };
    replace("test");
    let mut settings = settings(&store.endpoint(), "x");
    settings["credentials"] =
        json!({ "access_key": { "file": files[0] }, "secret_key": { "file": files[1] } });
    let parsed: ObjectStorageTarget = serde_json::from_value(settings.clone()).unwrap();
    parsed
        .connection()
        .open(1)
        .await
        .unwrap()
        .client
        .create_bucket()
        .bucket("archive")
        .send()
        .await
        .unwrap();

    replace("gone");
    let service = open(settings).await;
    let put = async || {
        service
            .clone()
            .oneshot(attempt(&["1"], 0))
            .await
            .unwrap()
            .remove(0)
            .class
    };
    assert_eq!(put().await, Class::Refused);
    for (content, expect) in [
        ("test", Class::Delivered),
        ("gone", Class::Refused),
        ("test", Class::Delivered),
    ] {
        replace(content);
        let shown = async {
            while put().await != expect {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let shown = tokio::time::timeout(Duration::from_secs(60), shown).await;
        shown.unwrap_or_else(|_| panic!("{content} is not shown"));
    }
    // Where they cannot be read the former go on.
    std::fs::remove_file(&files[1]).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(put().await, Class::Delivered);
}

#[test]
fn the_files_of_its_keys_are_known_to_who_looks_whether_they_change() {
    let target = |secret: serde_json::Value| -> ObjectStorageTarget {
        let given = json!({ "bucket": "b", "key": "k", "credentials": { "access_key": "a", "secret_key": secret } });
        serde_json::from_value(given).unwrap()
    };
    assert!(!target(json!({ "file": "/run/secret" })).files().is_empty());
    assert!(target(json!({ "env": "SECRET" })).files().is_empty());
}
