//! Messages that are published.

use futures::StreamExt;
use pointsman_schemas::{Class, Outcome};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::suite::{Log, Received, TargetFixture, attempt, context, targets};
use crate::{LOG_EVERY, TargetService, TargetSettings};

/// A server with a stream `OUT` of all subjects of one token, and somebody who listens to
/// `silence.>` without a word.
struct Taker {
    nats: Nats,
    listener: Mutex<async_nats::Subscriber>,
}

impl Taker {
    async fn start(release: NatsRelease) -> Self {
        let nats = Nats::start(release).await;
        let config = stream::Config {
            name: "OUT".into(),
            subjects: vec!["*".into()],
            ..Default::default()
        };
        nats.jetstream.create_stream(config).await.unwrap();
        let listener = Mutex::new(nats.client().subscribe("silence.>").await.unwrap());
        nats.client().flush().await.unwrap();
        Self { nats, listener }
    }

    async fn messages(&self) -> Vec<jetstream::message::StreamMessage> {
        let mut stream = self.nats.jetstream.get_stream("OUT").await.unwrap();
        let last = stream.info().await.unwrap().state.last_sequence;
        let mut messages = Vec::new();
        for sequence in 1..=last {
            messages.push(stream.get_raw_message(sequence).await.unwrap());
        }
        messages
    }
}

impl TargetFixture for Taker {
    const KIND: &'static str = "nats";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        json!({ "url": self.nats.server.url(), "subject": "audit-<$.type>" })
    }

    async fn received(&self) -> Vec<Received> {
        let messages = self.messages().await;
        let received = |message: &jetstream::message::StreamMessage| Received {
            id: message.headers.get("ce-id").unwrap().to_string(),
            texts: vec![message.subject.to_string()],
            trace: message.headers.get("traceparent").map(ToString::to_string),
        };
        messages.iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        Some(json!({ "url": self.nats.server.url(), "subject": "silence.here" }))
    }

    async fn begun(&self) {
        assert!(self.listener.lock().await.next().await.is_some());
    }

    async fn abandoned(&self) {}

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |url: &str, subject: &str| json!({ "url": url, "subject": subject });
        vec![
            (with("nats://127.0.0.1", "a.*"), "subject"),
            (with("nats://127.0.0.1", "a b"), "subject"),
            (with("nats://127.0.0.1", ""), "subject"),
            (with("nats://app:secret@127.0.0.1", "a"), "url"),
            (with("amqp://127.0.0.1", "a"), "url"),
        ]
    }
}

nats_tests!(
    conforms,
    what_is_published_again_is_kept_once,
    each_refusal_has_its_class,
    of_many_on_their_way_each_ends_by_its_own_answer,
    a_connection_that_breaks_ends_all_that_wait_and_nothing_else,
    a_server_that_is_down_is_unavailable_until_it_is_back,
    without_acknowledgement_a_message_goes_to_whoever_listens,
    a_probe_says_where_messages_would_go,
);

async fn conforms(release: NatsRelease) {
    // Each delivery of the suite has the same id, which a stream would drop as published already.
    let taker = Taker::start(release).await;
    let mut config = taker
        .nats
        .jetstream
        .get_stream("OUT")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    config.duplicate_window = Duration::from_nanos(100_000_000);
    taker.nats.jetstream.update_stream(config).await.unwrap();
    targets(&Distinct(taker)).await;
}

/// Gives each delivery an id of its own, as the journal does.
struct Distinct(Taker);

impl TargetFixture for Distinct {
    const KIND: &'static str = "nats";
    const HAS_HEADERS: bool = true;

    fn settings(&self) -> Value {
        self.0.settings()
    }

    async fn open(&self, settings: &dyn TargetSettings) -> TargetService {
        let service = settings.open(context()).await.unwrap();
        let number = Arc::new(std::sync::atomic::AtomicU64::new(1));
        TargetService::new(tower::service_fn(move |mut attempt: crate::Attempt| {
            for delivery in &mut attempt.deliveries {
                delivery.id.sequence.0 = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            service.clone().oneshot(attempt)
        }))
    }

    async fn received(&self) -> Vec<Received> {
        self.0.received().await
    }

    fn stalling(&self) -> Option<Value> {
        self.0.stalling()
    }

    async fn begun(&self) {
        self.0.begun().await;
    }

    async fn abandoned(&self) {}

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        self.0.mistakes()
    }
}

fn target(given: Value) -> NatsTarget {
    let read: NatsTarget = serde_json::from_value(given).unwrap();
    assert_eq!(read.check(), []);
    read
}

pub(super) async fn publisher(given: Value) -> TargetService {
    target(given).open(context()).await.unwrap()
}

/// What one delivery came to, however it was told, with its filled-in subject where there is one.
pub(super) async fn publish(service: &TargetService, subject: Option<&str>) -> Outcome {
    let mut attempt = attempt(&["e1"], 0);
    attempt.deliveries[0]
        .texts
        .extend(subject.map(str::to_owned));
    match service.clone().oneshot(attempt).await {
        Ok(mut outcomes) => outcomes.remove(0),
        Err(error) => Outcome::new(error.class, error.message),
    }
}

async fn what_is_published_again_is_kept_once(release: NatsRelease) {
    let taker = Taker::start(release).await;
    for mode in ["binary", "structured", "data"] {
        let service =
            publisher(json!({ "url": taker.nats.server.url(), "subject": "audit", "mode": mode }))
                .await;
        for _ in 0..2 {
            assert_eq!(
                publish(&service, None).await.class,
                Class::Delivered,
                "{mode}"
            );
        }
    }
    let messages = taker.messages().await;
    let id = attempt(&["e1"], 0).deliveries[0].id.to_string();
    assert_eq!(messages.len(), 1, "whatever the mode");
    assert_eq!(messages[0].headers.get("Nats-Msg-Id").unwrap().as_str(), id);
}

async fn each_refusal_has_its_class(release: NatsRelease) {
    let server = NatsServer::start_with(
        release,
        "max_payload: 10000\nauthorization { users: [{ user: app, password: p, permissions: { \
         publish: { deny: \"forbidden.>\" } } }] }",
    )
    .await;
    let options = async_nats::ConnectOptions::with_user_and_password("app".into(), "p".into());
    let jetstream = jetstream::new(options.connect(server.url()).await.unwrap());
    let full = stream::Config {
        name: "FULL".into(),
        subjects: vec!["full".into()],
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        ..Default::default()
    };
    jetstream.create_stream(full).await.unwrap();
    let small = stream::Config {
        name: "SMALL".into(),
        subjects: vec!["small".into()],
        max_message_size: 10,
        ..Default::default()
    };
    jetstream.create_stream(small).await.unwrap();
    jetstream
        .publish("full", "x".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let mut answering = jetstream.client().subscribe("answers").await.unwrap();
    let client = jetstream.client();
    let answer = tokio::spawn(async move {
        while let Some(message) = answering.next().await {
            client
                .publish(message.reply.unwrap(), "what?".into())
                .await
                .unwrap();
        }
    });

    let auth = json!({ "basic": { "username": "app", "password": "p" } });
    let service =
        publisher(json!({ "url": server.url(), "subject": "<$.subject>", "auth": auth })).await;
    let long = "x".repeat(1_025);
    for (subject, class, words) in [
        ("nowhere", Class::Unavailable, "no stream keeps nowhere"),
        ("full", Class::Throttled, "maximum messages exceeded"),
        ("small", Class::Rejected, "too large for the stream"),
        (
            "forbidden.x",
            Class::Refused,
            "forbids publishing to forbidden.x",
        ),
        (
            "answers",
            Class::Failed,
            "what answered on answers is no stream",
        ),
        ("a..b", Class::Rejected, "is no subject"),
        ("a b", Class::Rejected, "is no subject"),
        ("a.*", Class::Rejected, "is no subject"),
        (&long, Class::Rejected, "the subject has 1025 bytes"),
        (
            "$JS.API.STREAM.DELETE.FULL",
            Class::Rejected,
            "subject of the system",
        ),
    ] {
        let outcome = publish(&service, Some(subject)).await;
        assert!(
            outcome.class == class && outcome.message.contains(words),
            "{subject}: {outcome:?}"
        );
    }
    answer.abort();

    let mut large = attempt(&["e1"], 0);
    large.deliveries[0].texts.push("full".into());
    let data = pointsman_schemas::Data::text("x".repeat(10_000).into());
    large.deliveries[0].event =
        Arc::new(Event::builder("1", "/s", "t").data(data).build().unwrap());
    let outcome = service.clone().oneshot(large).await.unwrap().remove(0);
    assert!(
        outcome.class == Class::Rejected && outcome.message.contains("too large"),
        "{outcome:?}"
    );

    let stranger =
        publisher(json!({ "url": server.url(), "subject": "full", "auth": { "token": "wrong" } }))
            .await;
    let outcome = publish(&stranger, None).await;
    assert!(
        outcome.class == Class::Refused && outcome.message.contains("authorization violation"),
        "{outcome:?}"
    );
}

/// One delivery of its own, to a subject.
async fn publish_number(service: &TargetService, number: u64, subject: String) -> Outcome {
    let mut one = attempt(&["e1"], 0);
    one.deliveries[0].id.sequence.0 = number;
    one.deliveries[0].texts.push(subject);
    match service.clone().oneshot(one).await {
        Ok(mut outcomes) => outcomes.remove(0),
        Err(error) => Outcome::new(error.class, error.message),
    }
}

async fn of_many_on_their_way_each_ends_by_its_own_answer(release: NatsRelease) {
    let server = NatsServer::start_with(
        release,
        "authorization { users: [{ user: app, password: p, permissions: { publish: { deny: \
         \"forbidden.>\" } } }] }",
    )
    .await;
    let options = async_nats::ConnectOptions::with_user_and_password("app".into(), "p".into());
    let jetstream = jetstream::new(options.connect(server.url()).await.unwrap());
    for (name, subject, max_messages, max_message_size) in [
        ("OUT", "out", -1, -1),
        ("FULL", "full", 1, -1),
        ("SMALL", "small", -1, 10),
    ] {
        let config = stream::Config {
            name: name.into(),
            subjects: vec![subject.into()],
            max_messages,
            max_message_size,
            discard: stream::DiscardPolicy::New,
            ..Default::default()
        };
        jetstream.create_stream(config).await.unwrap();
    }
    let first = jetstream.publish("full", "x".into()).await.unwrap();
    first.await.unwrap();
    let auth = json!({ "basic": { "username": "app", "password": "p" } });
    let service =
        publisher(json!({ "url": server.url(), "subject": "<$.subject>", "auth": auth })).await;
    let ways = [
        ("out", Class::Delivered),
        ("full", Class::Throttled),
        ("out", Class::Delivered),
        ("small", Class::Rejected),
        ("nowhere", Class::Unavailable),
        ("forbidden.one", Class::Refused),
        ("out", Class::Delivered),
        ("forbidden.other", Class::Refused),
    ];
    let calls = (0..400).map(|number| {
        let ((subject, class), service) = (ways[number as usize % ways.len()], &service);
        async move {
            let outcome = publish_number(service, number, subject.to_owned()).await;
            assert_eq!(outcome.class, class, "{number} to {subject}: {outcome:?}");
        }
    });
    futures::future::join_all(calls).await;
    let mut stream = jetstream.get_stream("OUT").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 150);
}

async fn a_connection_that_breaks_ends_all_that_wait_and_nothing_else(release: NatsRelease) {
    let mut taker = Taker::start(release).await;
    let service =
        publisher(json!({ "url": taker.nats.server.url(), "subject": "<$.subject>" })).await;
    let send = |number: u64, subject: &str| {
        let (service, subject) = (service.clone(), subject.to_owned());
        tokio::spawn(async move { publish_number(&service, number, subject).await })
    };
    let delivered: Vec<_> = (0..100).map(|number| send(number, "audit")).collect();
    let waiting: Vec<_> = (100..200).map(|number| send(number, "silence.x")).collect();
    for one in delivered {
        assert_eq!(one.await.unwrap(), Outcome::delivered());
    }
    for _ in 100..200 {
        taker.begun().await;
    }
    taker.nats.server.kill();
    for one in waiting {
        let outcome = one.await.unwrap();
        assert!(
            outcome.class == Class::Failed && outcome.message.contains("broke before"),
            "{outcome:?}"
        );
    }
    taker.nats.server.restart().await;
    // What is published again by the same number is kept once.
    holds("each is delivered after all", async || {
        let again = (0..200).map(|number| send(number, "audit"));
        let outcomes = futures::future::join_all(again).await;
        outcomes
            .into_iter()
            .all(|outcome| outcome.unwrap().class == Class::Delivered)
    })
    .await;
    assert_eq!(taker.messages().await.len(), 200);
}

// On one thread, which is where the log is captured.
#[tokio::test]
async fn what_the_server_complains_of_without_an_acknowledgement_is_logged() {
    let server = NatsServer::start_with(
        NatsRelease::Current,
        "authorization { users: [{ user: app, password: p, permissions: { publish: { deny: \
         \"forbidden.>\" } } }] }",
    )
    .await;
    let auth = json!({ "basic": { "username": "app", "password": "p" } });
    let settings = json!({
        "url": server.url(), "subject": "<$.subject>", "auth": auth, "acknowledge": false,
    });
    let service = publisher(settings).await;
    let (log, _in_force) = Log::capture();
    let begun = Instant::now();
    let mut lines = Vec::new();
    while lines.is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is logged"
        );
        for _ in 0..20 {
            publish(&service, Some("forbidden.x")).await;
        }
        let complains = |line: &String| line.contains("the NATS server complains");
        lines.extend(log.lines().into_iter().filter(complains));
    }
    assert!(lines[0].contains("forbidden.x"), "{lines:?}");
    let windows = begun.elapsed().as_secs() / LOG_EVERY.as_secs();
    assert!(lines.len() as u64 <= 1 + windows, "{lines:?}");
}

async fn a_server_that_is_down_is_unavailable_until_it_is_back(release: NatsRelease) {
    let nowhere = format!("nats://127.0.0.1:{}", pointsman_test_brokers::free_port());
    let service = publisher(json!({ "url": nowhere, "subject": "a" })).await;
    for outcome in futures::future::join_all((0..8).map(|_| publish(&service, None))).await {
        assert!(
            outcome.class == Class::Unavailable
                && outcome.message.contains("cannot connect to NATS"),
            "{outcome:?}"
        );
    }

    let mut taker = Taker::start(release).await;
    let service = publisher(json!({ "url": taker.nats.server.url(), "subject": "audit" })).await;
    assert_eq!(publish(&service, None).await.class, Class::Delivered);
    let stalled =
        publisher(json!({ "url": taker.nats.server.url(), "subject": "silence.x" })).await;
    let waiting = publish(&stalled, None);
    tokio::pin!(waiting);
    tokio::select! {
        outcome = &mut waiting => panic!("{outcome:?}"),
        () = taker.begun() => {}
    }
    taker.nats.server.kill();
    let outcome = waiting.await;
    assert!(
        outcome.class == Class::Failed && outcome.message.contains("broke before"),
        "{outcome:?}"
    );
    holds("the target is unavailable", async || {
        publish(&service, None).await.class == Class::Unavailable
    })
    .await;
    taker.nats.server.restart().await;
    holds("the target is back", async || {
        publish(&service, None).await.class == Class::Delivered
    })
    .await;
}

async fn without_acknowledgement_a_message_goes_to_whoever_listens(release: NatsRelease) {
    let taker = Taker::start(release).await;
    let service = publisher(
        json!({ "url": taker.nats.server.url(), "subject": "silence.x", "acknowledge": false }),
    )
    .await;
    assert_eq!(publish(&service, None).await.class, Class::Delivered);
    let message = taker.listener.lock().await.next().await.unwrap();
    assert_eq!(
        message.headers.unwrap().get("ce-id").unwrap().as_str(),
        "e1"
    );
    let nobody = publisher(json!({ "url": taker.nats.server.url(), "subject": "nobody.listens", "acknowledge": false })).await;
    assert_eq!(
        publish(&nobody, None).await.class,
        Class::Delivered,
        "nobody says whether anybody took it"
    );
}

async fn a_probe_says_where_messages_would_go(release: NatsRelease) {
    let taker = Taker::start(release).await;
    let probe = |subject: &str, acknowledge: bool| {
        let given = json!({ "url": taker.nats.server.url(), "subject": subject, "acknowledge": acknowledge });
        async move {
            target(given)
                .probe()
                .await
                .map_err(|error| error.to_string())
        }
    };
    let told = probe("audit", true).await.unwrap();
    assert!(told.ends_with("keeps audit in the stream OUT"), "{told}");
    assert_eq!(
        probe("no.where", true).await.unwrap_err(),
        "subject: no stream keeps no.where (make one, or set acknowledge: false)"
    );
    assert!(
        probe("no.where", false)
            .await
            .unwrap()
            .ends_with("takes connections")
    );
    assert!(
        probe("a.<$.type>", true)
            .await
            .unwrap()
            .ends_with("has JetStream; the subject depends on the event")
    );
    assert_eq!(taker.messages().await.len(), 0, "a probe publishes nothing");
}

#[test]
fn the_files_of_its_settings_are_known_to_who_looks_whether_they_change() {
    let has_files = |more: Value| {
        let mut given = json!({ "url": "nats://127.0.0.1:4222", "subject": "s" });
        given
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        !serde_json::from_value::<NatsTarget>(given)
            .unwrap()
            .files()
            .is_empty()
    };
    assert!(has_files(
        json!({ "auth": { "token": { "file": "/run/token" } } })
    ));
    assert!(has_files(
        json!({ "tls": { "ca": { "file": "/run/ca.pem" } } })
    ));
    assert!(!has_files(
        json!({ "auth": { "token": { "env": "TOKEN" } } })
    ));
}
