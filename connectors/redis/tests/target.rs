//! What targets hold to.

use pointsman_schemas::{Class, Outcome};
use tower::ServiceExt;

use super::*;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets};
use crate::{AttemptError, TargetService, TargetSettings};

/// A stream, and a server that never answers.
struct Fixture {
    stream: Stream,
    silent: Silent,
}

/// The fields of an entry.
type Entry = (String, Vec<(String, String)>);

async fn entries(stream: &Stream, key: &str) -> Vec<Entry> {
    stream.run(&format!("XRANGE {key} - +")).await
}

fn field(entry: &Entry, name: &str) -> Option<String> {
    let mut fields = entry.1.iter();
    let found = fields.find(|(found, _)| found == name);
    found.map(|(_, value)| value.clone())
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "redis";

    fn settings(&self) -> Value {
        let fields = json!({ "id": "<$.id>", "kind": "order", "of": "<$.type>" });
        self.stream.target(json!({ "fields": fields }))
    }

    async fn received(&self) -> Vec<Received> {
        let entries = entries(&self.stream, "orders").await;
        let received = |entry: &Entry| {
            let texts = [field(entry, "id").unwrap(), field(entry, "of").unwrap()];
            assert_eq!(field(entry, "kind").unwrap(), "order");
            Received {
                id: texts[0].split_once('-').unwrap().1.to_owned(),
                texts: texts.to_vec(),
                trace: None,
            }
        };
        entries.iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let url = format!("redis://{}", self.silent.address());
        Some(self.stream.target(json!({ "url": url, "password": "p" })))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |more: Value| self.stream.target(more);
        vec![
            (with(json!({ "url": "http://h" })), "url"),
            (with(json!({ "url": "redis://u:hunter2@h" })), "url"),
            (with(json!({ "tls": {} })), "tls"),
            (with(json!({ "stream": "" })), "stream"),
            (with(json!({ "max_length": 0 })), "max_length"),
            (
                with(json!({ "mode": "data", "fields": { "a": "b" } })),
                "mode",
            ),
            (with(json!({ "fields": { "": "b" } })), "fields"),
        ]
    }
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        stream: Stream::new().await,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
}

fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    parse("redis", settings).unwrap()
}

async fn service(settings: &Value) -> TargetService {
    parsed(settings).open(context()).await.unwrap()
}

async fn send(service: &TargetService, ids: &[&str]) -> Result<Vec<Outcome>, AttemptError> {
    service.clone().oneshot(attempt(ids, 0)).await
}

async fn classes(service: &TargetService, ids: &[&str]) -> Vec<Class> {
    match send(service, ids).await {
        Ok(outcomes) => outcomes.iter().map(|outcome| outcome.class).collect(),
        Err(error) => vec![error.class],
    }
}

#[tokio::test]
async fn modes_lengths_and_streams() {
    let stream = Stream::new().await;
    for (key, more) in [
        ("binary", json!({})),
        ("structured", json!({ "mode": "structured" })),
        ("data", json!({ "mode": "data" })),
        ("short", json!({ "max_length": 10 })),
    ] {
        let settings = with(stream.target(json!({ "stream": key })), more);
        let service = service(&settings).await;
        assert_eq!(classes(&service, &["1", "2"]).await, [Class::Delivered; 2]);
        if key == "short" {
            for _ in 0..10 {
                classes(&service, &["3"; 100]).await;
            }
        }
    }
    let data = crate::suite::event("1");
    let data = String::from_utf8(data.data().unwrap().bytes().to_vec()).unwrap();
    let binary = &entries(&stream, "binary").await[0];
    for (name, value) in [
        ("ce_id", "1"),
        ("ce_type", "com.example.suite"),
        ("ce_ext", "ü"),
        ("ce_datacontenttype", "application/json"),
        ("data", &*data),
        ("pointsman-task", "0000000000000001-2-3-0"),
        ("pointsman-attempt", "1"),
        ("pointsman-rule", "rule"),
    ] {
        assert_eq!(field(binary, name).as_deref(), Some(value), "{name}");
    }
    let structured = &entries(&stream, "structured").await[0];
    assert_eq!(structured.1.len(), 1);
    let event: Value = serde_json::from_str(&field(structured, "data").unwrap()).unwrap();
    assert_eq!(
        (&event["id"], &event["pointsmanattempt"]),
        (&json!("1"), &json!("1"))
    );
    let alone = &entries(&stream, "data").await[0];
    assert_eq!(alone.1, [("data".to_owned(), data)]);
    let left: u64 = stream.run("XLEN short").await;
    assert!((10..500).contains(&left), "{left} are left of 1002");
}

#[tokio::test]
async fn an_outcome_says_what_follows() {
    let stream = Stream::new().await;
    stream.run::<String>("SET text a").await;
    let named = service(&stream.target(json!({}))).await;
    assert_eq!(classes(&named, &["1"]).await, [Class::Delivered]);
    let nobody =
        json!({ "url": format!("redis://127.0.0.1:{}", pointsman_test_brokers::free_port()) });
    for (more, class) in [
        (json!({ "stream": "text" }), Class::Rejected),
        (
            json!({ "stream": "none", "create": false }),
            Class::Unavailable,
        ),
        (
            json!({ "password": "wrong", "username": "nobody" }),
            Class::Refused,
        ),
        (nobody, Class::Unavailable),
    ] {
        let service = service(&stream.target(more.clone())).await;
        assert_eq!(classes(&service, &["1"]).await, [class], "{more}");
    }
    let kept = service(&stream.target(json!({ "create": false }))).await;
    assert_eq!(classes(&kept, &["1"]).await, [Class::Delivered]);

    // On a connection that stands.
    for (there, back, class, of) in [
        (
            "CONFIG SET maxmemory 1",
            "CONFIG SET maxmemory 0",
            Class::Throttled,
            "OOM",
        ),
        (
            "REPLICAOF 127.0.0.1 1",
            "REPLICAOF NO ONE",
            Class::Unavailable,
            "READONLY",
        ),
        (
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
            Class::Unavailable,
            "NOREPLICAS",
        ),
        (
            "ACL SETUSER default -xadd",
            "ACL SETUSER default +xadd",
            Class::Refused,
            "NOPERM",
        ),
    ] {
        stream.run::<String>(there).await;
        let outcomes = send(&named, &["1", "2"]).await.unwrap();
        let told: Vec<_> = outcomes.iter().map(|outcome| outcome.class).collect();
        assert_eq!(told, [class; 2], "{of}");
        assert!(outcomes[0].message.starts_with(of), "{outcomes:?}");
        stream.run::<String>(back).await;
        assert_eq!(
            classes(&named, &["1"]).await,
            [Class::Delivered],
            "after {of}"
        );
    }
}

#[tokio::test]
async fn of_an_attempt_each_entry_has_its_outcome() {
    let stream = Stream::new().await;
    stream.run::<String>("SET 0-b a").await;
    let service = service(&stream.target(json!({ "stream": "<$.id>" }))).await;
    let mut attempt = attempt(&["a", "b", "c", "d"], 1);
    attempt.deliveries[2].texts = vec![String::new()];
    let outcomes = service.oneshot(attempt).await.unwrap();
    let classes: Vec<_> = outcomes.iter().map(|outcome| outcome.class).collect();
    let (rejected, delivered) = (Class::Rejected, Class::Delivered);
    assert_eq!(
        classes,
        [delivered, rejected, rejected, delivered],
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_cluster_that_is_not_whole_is_waited_for() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let stream = Stream::of(server).await;
    let service = service(&stream.target(json!({}))).await;
    let outcomes = send(&service, &["1"]).await.unwrap();
    assert_eq!(outcomes[0].class, Class::Unavailable, "{outcomes:?}");
    assert!(
        outcomes[0].message.starts_with("CLUSTERDOWN"),
        "{outcomes:?}"
    );
    stream.run::<String>("CLUSTER ADDSLOTSRANGE 0 16383").await;
    let until = Instant::now() + LONG;
    while classes(&service, &["1"]).await != [Class::Delivered] {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_that_was_restarted_costs_no_attempt() {
    let mut stream = Stream::new().await;
    let service = service(&stream.target(json!({}))).await;
    assert_eq!(classes(&service, &["1"]).await, [Class::Delivered]);
    stream.server.kill();
    let until = Instant::now() + LONG;
    // Until it is known, what is sent may have arrived.
    while classes(&service, &["2"]).await != [Class::Unavailable] {
        assert!(Instant::now() < until);
    }
    stream.server.restart().await;
    assert_eq!(classes(&service, &["3"]).await, [Class::Delivered]);
    stream.connection = connection(&stream.server.url()).await;
    let found = entries(&stream, "orders").await;
    let found: Vec<_> = found
        .iter()
        .map(|entry| field(entry, "ce_id").unwrap())
        .collect();
    assert_eq!(found, ["1", "3"]);
}

#[tokio::test]
async fn what_a_probe_tells() {
    let stream = Stream::new().await;
    stream.add("a").await;
    stream.run::<String>("SET text a").await;
    let probe = async |more: Value| {
        let told = parsed(&stream.target(more)).probe().await;
        told.unwrap_or_else(|error| error.0.to_string())
    };
    for (more, expect) in [
        (json!({}), "has the stream orders"),
        (
            json!({ "stream": "new" }),
            "the stream new is made with the first event",
        ),
        (
            json!({ "stream": "new", "create": false }),
            "stream: there is no stream new",
        ),
        (
            json!({ "stream": "text" }),
            "stream: the key text is no stream but a string",
        ),
        (
            json!({ "stream": "<$.type>" }),
            "the stream depends on the event",
        ),
    ] {
        let told = probe(more.clone()).await;
        assert!(told.contains(expect), "{more}: {told}");
    }
}
