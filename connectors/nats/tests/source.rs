//! Streams.

use std::collections::BTreeSet;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use bytes::Bytes;
use futures::StreamExt;
use pointsman_schemas::Clock;

use super::super::consumer::{ConsumerError, ConsumerSpec};
use super::super::outstanding::MESSAGES_MAX;
use super::*;
use crate::suite::{SourceFixture, sources};
use crate::{SourceState, Verdict};

impl SourceFixture for Nats {
    const KIND: &'static str = "nats";

    fn settings(&self) -> Value {
        Nats::settings(self, json!({}))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        self.publish(count).await
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
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("ce-id", "1");
        self.jetstream
            .publish_with_headers("s.x", headers, "broken".into())
            .await
            .unwrap()
            .await
            .unwrap();
        Some("broken".into())
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let with = |key: &str, value: Value| {
            let mut settings = Nats::settings(self, json!({}));
            settings
                .as_object_mut()
                .unwrap()
                .insert(key.to_owned(), value);
            settings
        };
        let create = |create: Value| Nats::settings(self, create);
        vec![
            (with("url", json!([])), "url"),
            (with("url", json!("http://127.0.0.1")), "url"),
            (
                with("url", json!(["nats://127.0.0.1", "ws://127.0.0.1"])),
                "url[1]",
            ),
            (with("url", json!("nats://app:secret@127.0.0.1")), "url"),
            (with("url", json!("nats://token@127.0.0.1")), "url"),
            (with("stream", json!("a.b")), "stream"),
            (with("consumer", json!("")), "consumer"),
            (with("subject", json!("s.x")), "subject"),
            (with("queue", json!("q")), "queue"),
            (json!({ "url": "nats://127.0.0.1" }), ""),
            (
                json!({ "url": "nats://127.0.0.1", "stream": "S" }),
                "stream",
            ),
            (
                json!({ "url": "nats://127.0.0.1", "subject": "a..b" }),
                "subject",
            ),
            (
                json!({ "url": "nats://127.0.0.1", "subject": "a", "consumer": "c" }),
                "consumer",
            ),
            (
                json!({ "url": "nats://127.0.0.1", "subject": "a", "create": {} }),
                "create",
            ),
            (create(json!({ "filter": "a.>.b" })), "create.filter"),
            (
                create(json!({ "start": { "sequence": 0 } })),
                "create.start.sequence",
            ),
            (
                create(json!({ "start": { "time": "yesterday" } })),
                "create.start.time",
            ),
            (create(json!({ "ack_wait": "100ms" })), "create.ack_wait"),
            (
                create(json!({ "max_ack_pending": 0 })),
                "create.max_ack_pending",
            ),
            (
                create(json!({ "max_ack_pending": MESSAGES_MAX + 1 })),
                "create.max_ack_pending",
            ),
            (with("auth", json!({ "nkey": "UAFHG" })), "auth.nkey"),
            (
                with("auth", json!({ "credentials": "./app.creds" })),
                "auth.credentials",
            ),
            (with("tls", json!({ "key": "k" })), "tls.key"),
        ]
    }
}

nats_tests!(
    a_stream_conforms,
    a_server_that_is_killed_and_comes_back_loses_nothing,
    a_deleted_consumer_is_made_anew_behind_what_is_stored,
    without_create_a_missing_consumer_or_stream_is_told_in_words,
    of_a_stream_that_was_made_anew_nothing_is_known,
    a_stream_that_is_made_anew_underneath_is_read_from_its_first_message,
    a_consumer_that_is_there_is_taken_as_it_is_or_refused,
    what_takes_longer_than_the_servers_patience_is_not_sent_again,
    each_verdict_reaches_the_server,
    what_is_dropped_untold_comes_again_soon,
    no_more_is_taken_than_there_is_room_for,
    a_message_with_a_status_of_its_own_is_a_message,
    a_probe_says_what_it_finds,
    what_the_client_cannot_read_is_rejected_and_holds_nothing_up,
);

async fn a_stream_conforms(release: NatsRelease) {
    sources(&mut Nats::start(release).await).await;
}

async fn a_server_that_is_killed_and_comes_back_loses_nothing(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let (mut source, link) = open(nats.settings(json!({ "ack_wait": "2s" }))).await;
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for round in 0..3 {
        missing.extend(nats.publish(100).await);
        for (text, acknowledgement) in take(&mut *source, 40).await.unwrap() {
            missing.remove(&text);
            acknowledgement.send(Verdict::Stored).await;
        }
        nats.server.kill();
        holds("the source is known to be down", async || {
            link.status().state == SourceState::Waiting
        })
        .await;
        assert!(
            link.status()
                .last_error
                .is_some_and(|error| error.contains("NATS")),
            "round {round}"
        );
        nats.restart().await;
        missing.extend(nats.publish(20).await);
    }
    while !missing.is_empty() {
        for (text, acknowledgement) in take(&mut *source, 1).await.unwrap() {
            missing.remove(&text);
            acknowledgement.send(Verdict::Stored).await;
        }
    }
    assert_eq!(link.status().state, SourceState::Running);
    let drained = async {
        loop {
            for (_, acknowledgement) in take(&mut *source, 1).await.unwrap() {
                acknowledgement.send(Verdict::Stored).await;
            }
        }
    };
    // What was in flight when the server was killed may come again; in the end nothing is left.
    let settled = holds("everything is acknowledged", async || {
        let info = nats.consumer().await.get_info().await.unwrap();
        info.num_pending == 0 && info.num_ack_pending == 0
    });
    tokio::select! {
        () = settled => {}
        () = drained => {}
    }
}

async fn a_deleted_consumer_is_made_anew_behind_what_is_stored(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let (mut source, _) = open(nats.settings(json!({ "start": "new" }))).await;
    let mut missing: BTreeSet<String> = nats.publish(10).await.into_iter().collect();
    let mut taken = take(&mut *source, 10).await.unwrap();
    for (text, acknowledgement) in taken.drain(..5) {
        missing.remove(&text);
        acknowledgement.send(Verdict::Stored).await;
    }
    nats.delete_consumer().await;
    missing.extend(nats.publish(5).await);
    drop(taken);
    while !missing.is_empty() {
        for (text, acknowledgement) in take(&mut *source, 1).await.unwrap() {
            missing.remove(&text);
            acknowledgement.send(Verdict::Stored).await;
        }
    }
    let policy = nats.consumer().await.cached_info().config.deliver_policy;
    assert!(
        matches!(
            policy,
            DeliverPolicy::ByStartSequence {
                start_sequence: 1..=6
            }
        ),
        "{policy:?}"
    );
}

async fn without_create_a_missing_consumer_or_stream_is_told_in_words(release: NatsRelease) {
    let nats = Nats::start(release).await;
    let adopt = json!({ "url": nats.server.url(), "stream": "S", "consumer": "c" });
    let refused = |given: Value| async {
        settings(given)
            .open(context())
            .await
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(adopt.clone()).await,
        "the stream S has no consumer c; make it, or set create: {}"
    );
    let elsewhere =
        json!({ "url": nats.server.url(), "stream": "T", "consumer": "c", "create": {} });
    assert_eq!(
        refused(elsewhere).await,
        "there is no stream T; make it, or name one that is there"
    );

    nats.make_consumer(pull::Config::default()).await;
    let (mut source, _) = open(adopt).await;
    nats.delete_consumer().await;
    let ended = messages_within(&mut *source, SOON)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        ended,
        SourceError::Unavailable(
            "the stream S has no consumer c; make it, or set create: {}".into()
        )
    );
    assert_eq!(
        messages_within(&mut *source, SOON)
            .await
            .unwrap()
            .unwrap_err(),
        ended,
        "it stays ended"
    );
}

async fn of_a_stream_that_was_made_anew_nothing_is_known(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let create = serde_json::from_value(json!({ "start": "new" })).unwrap();
    let spec = ConsumerSpec {
        stream: "S".into(),
        consumer: "c".into(),
        create: Some(create),
        domain: None,
        hosts: String::new(),
    };
    nats.publish(2).await;
    let known = spec.ensure(&nats.jetstream, None).await.unwrap().1;
    assert_eq!(
        known.acknowledged, 2,
        "what a consumer is not to see counts as seen"
    );
    let (mut source, _) = open(nats.settings(json!({}))).await;
    nats.publish(3).await;
    let first: Vec<_> = messages_within(&mut *source, SOON).await.unwrap().unwrap();
    let id = event(&first[0]).id().to_owned();
    drop((source, first));

    nats.jetstream.delete_stream("S").await.unwrap();
    nats.make_stream().await;
    nats.publish(1).await;
    let (info, _, gaps) = spec.ensure(&nats.jetstream, Some(known)).await.unwrap();
    assert_eq!(
        gaps[0].why,
        "the stream S was deleted and made anew, with what had not been read of it"
    );
    assert_eq!(
        info.config.deliver_policy,
        DeliverPolicy::ByStartSequence { start_sequence: 1 },
        "although it was to begin with what is new"
    );
    let (mut source, _) = open(nats.settings(json!({}))).await;
    let again = messages_within(&mut *source, SOON).await.unwrap().unwrap();
    assert_ne!(
        *event(&again[0]).id(),
        id,
        "the first message of another stream is another event"
    );
}

async fn a_stream_that_is_made_anew_underneath_is_read_from_its_first_message(
    release: NatsRelease,
) {
    let mut nats = Nats::start(release).await;
    let (mut source, link) = open(nats.settings(json!({ "start": "new" }))).await;
    nats.publish(3).await;
    take(&mut *source, 3).await.unwrap();
    nats.jetstream.delete_stream("S").await.unwrap();
    let gone = async || {
        link.status()
            .last_error
            .is_some_and(|error| error.contains("there is no stream S"))
    };
    tokio::select! {
        batch = messages_within(&mut *source, SOON) => panic!("{batch:?}"),
        () = holds("the source knows that it is gone", gone) => {}
    }
    nats.make_stream().await;
    let published = nats.publish(3).await;
    let again: Vec<_> = take(&mut *source, 3)
        .await
        .unwrap()
        .into_iter()
        .map(|(text, _)| text)
        .collect();
    assert_eq!(again, published);
}

async fn a_consumer_that_is_there_is_taken_as_it_is_or_refused(release: NatsRelease) {
    let nats = Nats::start(release).await;
    let create = json!({ "filter": "s.x", "ack_wait": "10s", "max_ack_pending": 5, "start": { "sequence": 3 } });
    let agrees = || pull::Config {
        filter_subject: "s.x".into(),
        ack_wait: Duration::from_secs(10),
        max_ack_pending: 5,
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    for (given, there, differs) in [
        (create.clone(), agrees(), None),
        (
            json!({}),
            pull::Config {
                max_ack_pending: 77,
                ..agrees()
            },
            None,
        ),
        (
            create.clone(),
            pull::Config {
                filter_subject: String::new(),
                ..agrees()
            },
            Some("filter is > there and s.x here"),
        ),
        (
            create.clone(),
            pull::Config {
                ack_wait: Duration::from_secs(30),
                ..agrees()
            },
            Some("ack_wait is 30s there and 10s here"),
        ),
        (
            create.clone(),
            pull::Config {
                max_ack_pending: 6,
                ..agrees()
            },
            Some("max_ack_pending is 6 there and 5 here"),
        ),
        (
            json!({}),
            pull::Config {
                ack_policy: AckPolicy::None,
                ..agrees()
            },
            Some("it does not ask for an acknowledgement"),
        ),
    ] {
        nats.delete_consumer().await;
        nats.make_consumer(there).await;
        let before = nats.consumer().await.cached_info().config.clone();
        let opened = settings(nats.settings(given)).open(context()).await;
        match differs {
            None => drop(opened.unwrap()),
            Some(differs) => {
                let told = opened.map(|_| ()).unwrap_err().to_string();
                assert!(
                    told.contains(differs)
                        && told.contains("the consumer c of the stream S is there"),
                    "{told}"
                );
            }
        }
        assert_eq!(
            nats.consumer().await.cached_info().config,
            before,
            "it is never changed"
        );
    }
    let push = async_nats::jetstream::consumer::push::Config {
        durable_name: Some("c".into()),
        deliver_subject: "elsewhere".into(),
        ..Default::default()
    };
    nats.delete_consumer().await;
    nats.jetstream
        .create_consumer_on_stream(push, "S")
        .await
        .unwrap();
    let told = settings(nats.settings(json!({})))
        .open(context())
        .await
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(told.contains("it pushes"), "{told}");
}

async fn what_takes_longer_than_the_servers_patience_is_not_sent_again(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let (mut source, _) = open(nats.settings(json!({ "ack_wait": "4s" }))).await;
    nats.publish(3).await;
    let mut taken = take(&mut *source, 3).await.unwrap();
    let (_, kept) = taken.pop().unwrap();
    for (_, acknowledgement) in taken {
        acknowledgement.send(Verdict::Stored).await;
    }
    assert!(
        messages_within(&mut *source, Duration::from_secs(9))
            .await
            .is_none(),
        "it is being worked on"
    );
    // Also when the source is gone: the handle lives on its own.
    drop(source);
    tokio::time::sleep(Duration::from_secs(6)).await;
    kept.send(Verdict::Stored).await;
    let info = nats.consumer().await.get_info().await.unwrap();
    assert_eq!(
        (
            info.num_ack_pending,
            info.num_redelivered,
            info.delivered.consumer_sequence
        ),
        (0, 0, 3)
    );
}

async fn each_verdict_reaches_the_server(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let (mut source, _) = open(nats.settings(json!({}))).await;
    nats.publish(1).await;
    let (first, acknowledgement) = take(&mut *source, 1).await.unwrap().pop().unwrap();
    let begin = tokio::time::Instant::now();
    acknowledgement
        .send(Verdict::Later(Duration::from_secs(3)))
        .await;
    let (second, acknowledgement) = take(&mut *source, 1).await.unwrap().pop().unwrap();
    assert!(
        begin.elapsed() > Duration::from_millis(2_900),
        "not before its time: {:?}",
        begin.elapsed()
    );
    let begin = tokio::time::Instant::now();
    acknowledgement.send(Verdict::Failed).await;
    let (third, acknowledgement) = take(&mut *source, 1).await.unwrap().pop().unwrap();
    assert!(
        begin.elapsed() > Duration::from_millis(900),
        "nor at once where storing failed: {:?}",
        begin.elapsed()
    );
    assert_eq!([&second, &third], [&first, &first]);
    acknowledgement
        .send(Verdict::Rejected {
            reason: "never".into(),
            event: None,
        })
        .await;
    holds("the server has given it up", async || {
        nats.consumer()
            .await
            .get_info()
            .await
            .unwrap()
            .num_ack_pending
            == 0
    })
    .await;
}

async fn what_is_dropped_untold_comes_again_soon(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let (mut source, _) = open(nats.settings(json!({}))).await;
    let published = nats.publish(20).await;
    let taken = take(&mut *source, 20).await.unwrap();
    drop((source, taken));
    let (mut source, _) = open(nats.settings(json!({}))).await;
    let begin = tokio::time::Instant::now();
    let again = take(&mut *source, 20).await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(25),
        "the server's own patience is 30 s"
    );
    let again: BTreeSet<_> = again.into_iter().map(|(text, _)| text).collect();
    assert_eq!(again, published.into_iter().collect());
}

async fn no_more_is_taken_than_there_is_room_for(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    nats.make_consumer(pull::Config {
        max_ack_pending: -1,
        ..pull::Config::default()
    })
    .await;
    let (mut source, link) = open(nats.settings(json!({}))).await;
    nats.publish(MESSAGES_MAX + 500).await;
    let first = take(&mut *source, MESSAGES_MAX).await.unwrap();
    assert_eq!(first.len(), MESSAGES_MAX);
    assert!(
        messages_within(&mut *source, Duration::from_secs(1))
            .await
            .is_none()
    );
    let pending = nats.consumer().await.get_info().await.unwrap();
    assert_eq!(
        (pending.num_ack_pending, pending.num_pending),
        (MESSAGES_MAX, 500)
    );
    holds("the lag is known", async || link.status().lag == Some(500)).await;
    futures::future::join_all(
        first
            .into_iter()
            .map(|(_, acknowledgement)| acknowledgement.send(Verdict::Stored)),
    )
    .await;
    assert_eq!(take(&mut *source, 500).await.unwrap().len(), 500);
}

async fn a_message_with_a_status_of_its_own_is_a_message(release: NatsRelease) {
    let nats = Nats::start(release).await;
    let (mut source, _) = open(nats.settings(json!({}))).await;
    // Written by hand, since no client would.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", nats.server.port()))
        .await
        .unwrap();
    let head = "NATS/1.0 409 Consumer Deleted\r\n\r\n";
    let lines = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB s.x {} {}\r\n{head}odd\r\nPING\r\n",
        head.len(),
        head.len() + 3
    );
    stream.write_all(lines.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    assert_eq!(take(&mut *source, 1).await.unwrap()[0].0, "odd");
}

#[test]
fn what_is_documented_is_read() {
    let url = "nats://127.0.0.1:4222";
    for given in [
        json!({ "url": url, "stream": "TELEMETRY", "consumer": "pointsman" }),
        json!({
            "url": ["tls://a.example.com", { "env": "NATS_URL" }],
            "stream": "ORDERS",
            "consumer": { "env": "CONSUMER" },
            "create": { "filter": "orders.>", "start": "all", "ack_wait": "30s", "max_ack_pending": 1000 },
            "auth": { "basic": { "username": "app", "password": { "env": "NATS_PASSWORD" } } },
            "tls": { "ca": { "file": "./ca.pem" } },
        }),
        json!({ "url": { "env": "NATS_URL" }, "stream": "S", "consumer": "c", "create": { "start": { "sequence": 7 } } }),
        json!({ "url": url, "stream": "S", "consumer": "c", "create": { "start": { "time": "2026-01-31T09:30:00Z" } } }),
        json!({ "url": url, "subject": "clicks.>", "queue": "pointsman", "auth": { "credentials": { "file": "./app.creds" } } }),
    ] {
        settings(given);
    }
}

async fn a_probe_says_what_it_finds(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    nats.publish(3).await;
    let probe = |given: Value| async {
        settings(given)
            .probe()
            .await
            .map_err(|error| error.to_string())
    };
    let adopt = json!({ "url": nats.server.url(), "stream": "S", "consumer": "c" });
    let told = probe(nats.settings(json!({}))).await.unwrap();
    assert!(
        told.contains("stream S with 3 messages; the consumer c is not there and will be made"),
        "{told}"
    );
    assert!(
        nats.jetstream
            .get_stream("S")
            .await
            .unwrap()
            .consumer_names()
            .next()
            .await
            .is_none(),
        "a probe makes nothing"
    );
    let told = probe(adopt.clone()).await.unwrap_err();
    assert_eq!(
        told,
        "consumer: the stream S has no consumer c (make it, or set create: {})"
    );
    nats.make_consumer(pull::Config {
        max_deliver: 3,
        ..Default::default()
    })
    .await;
    let told = probe(adopt).await.unwrap();
    assert!(
        told.contains(
            "consumer c with 3 to come and 0 unacknowledged; it gives a message up after 3 \
             deliveries"
        ),
        "{told}"
    );
    let told = probe(json!({ "url": nats.server.url(), "subject": "a.*" }))
        .await
        .unwrap();
    assert!(
        told.ends_with("takes connections; what is published to a.* comes at most once"),
        "{told}"
    );
    let nowhere = format!("nats://127.0.0.1:{}", pointsman_test_brokers::free_port());
    let told = probe(json!({ "url": nowhere, "subject": "a.*" }))
        .await
        .unwrap_err();
    assert!(
        told.starts_with("url: cannot connect to NATS at 127.0.0.1:") && told.contains("refused"),
        "{told}"
    );
    let spec = ConsumerSpec {
        stream: "S".into(),
        consumer: "c".into(),
        create: None,
        domain: None,
        hosts: String::new(),
    };
    nats.server.kill();
    assert!(matches!(
        spec.look(&spec.context(&nats.client())).await,
        Err(ConsumerError::Unavailable(_))
    ));
}

async fn what_the_client_cannot_read_is_rejected_and_holds_nothing_up(release: NatsRelease) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for poison in [
        &b"NATS/1.0\r\nName: M\xfcller\r\n\r\n"[..],
        b"NATS/1.0\r\nbad name\r\n\r\n",
        b"NATS/1.0\r\nName: a\rb\r\n\r\n",
    ] {
        let mut nats = Nats::start(release).await;
        let mut missing: BTreeSet<String> = nats.publish(3).await.into_iter().collect();
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", nats.server.port()))
            .await
            .unwrap();
        stream
            .write_all(b"CONNECT {\"headers\":true,\"verbose\":false}\r\n")
            .await
            .unwrap();
        stream
            .write_all(format!("HPUB s.x {} {}\r\n", poison.len(), poison.len() + 4).as_bytes())
            .await
            .unwrap();
        stream.write_all(poison).await.unwrap();
        stream.write_all(b"evil\r\nPING\r\n").await.unwrap();
        let mut status_of = Vec::new();
        holds("the server has it", async || {
            stream.read_buf(&mut status_of).await.unwrap();
            status_of.windows(4).any(|four| four == b"PONG")
        })
        .await;
        missing.extend(nats.publish(20).await);
        let mut rejects = Vec::new();
        let given = nats.settings(json!({ "ack_wait": "2s" }));
        let (mut source, _) = open(given.clone()).await;
        while !missing.is_empty() || rejects.is_empty() {
            let batch = match messages_within(&mut *source, SOON)
                .await
                .expect("something comes")
            {
                Ok(batch) => batch,
                Err(SourceError::Unavailable(_)) => {
                    source = open(given.clone()).await.0;
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            for message in batch {
                if message.rejects.is_empty() {
                    missing.remove(&text(&message));
                }
                rejects.extend(message.rejects);
                message.acknowledgement.send(Verdict::Stored).await;
            }
        }
        assert!(
            rejects[0].raw.ends_with(b"evil") && rejects[0].reason.contains("headers"),
            "{rejects:?}"
        );
        holds("nothing is left", async || {
            nats.consumer()
                .await
                .get_info()
                .await
                .unwrap()
                .num_ack_pending
                == 0
        })
        .await;
    }
}
