//! The log in NATS JetStream, with real servers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are tests, which say what they expect bluntly"
)]

mod engine;
mod replicated;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_trait::async_trait;
use engine::{one, run};
use futures::StreamExt;
use pointsman_log::nats::{NatsLog, Options};
use pointsman_log::suite::Implementation;
use pointsman_log::{
    Cluster, FollowError, Log, LogError, Next, OpenError, Opened, Place, Probed, Shard,
};
use pointsman_test_brokers::{Fault, NatsRelease, NatsServer, Proxy};
use tokio::sync::Mutex;

/// Short, so that a test of what does not answer is as well.
const TIMEOUT: Duration = Duration::from_secs(3);

struct Nats {
    server: Mutex<NatsServer>,
    proxy: Proxy,
}

impl Nats {
    async fn start() -> Self {
        let server = NatsServer::start(NatsRelease::Current).await;
        Self {
            proxy: Proxy::start(server.port()),
            server: Mutex::new(server),
        }
    }
}

async fn options(ports: &[u16]) -> Options {
    let urls: Vec<_> = ports
        .iter()
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    let client = async_nats::ConnectOptions::new()
        .ping_interval(Duration::from_secs(1))
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .connect(urls)
        .await
        .unwrap();
    Options {
        client,
        replicas: 1,
        timeout: TIMEOUT,
    }
}

#[async_trait(?Send)]
impl Implementation for Nats {
    async fn open(&self, cluster: Cluster) -> Result<Arc<dyn Log>, OpenError> {
        let options = options(&[self.proxy.port()]).await;
        Ok(Arc::new(NatsLog::open(cluster, options).await?.log))
    }

    async fn crash(&self) {
        self.server.lock().await.restart().await;
    }

    fn cut(&self, cut: bool) {
        self.proxy.set(match cut {
            true => Fault::BlackHole,
            false => Fault::None,
        });
    }
}

pointsman_log::conformance!(run, Nats::start());

async fn open(server: &NatsServer) -> Result<Opened<NatsLog>, OpenError> {
    NatsLog::open(one(), options(&[server.port()]).await).await
}

async fn probe(server: &NatsServer) -> Result<Probed, OpenError> {
    NatsLog::probe(one(), options(&[server.port()]).await).await
}

async fn by_hand(server: &NatsServer) -> jetstream::Context {
    jetstream::new(options(&[server.port()]).await.client)
}

/// Refused, with these words in what is said.
fn assert_refused<T>(opened: Result<T, OpenError>, words: &str) {
    match opened {
        Err(OpenError::Refused(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{:?} is not refused for {words}", other.map(|_| ())),
    }
}

#[test]
fn streams_that_would_lose_records_are_refused() {
    run(async {
        let server = NatsServer::start(NatsRelease::Current).await;
        assert!(!probe(&server).await.unwrap().is_there);
        assert!(
            !probe(&server).await.unwrap().is_there,
            "a look makes nothing"
        );
        let opened = open(&server).await.unwrap();
        let probed = probe(&server).await.unwrap();
        assert_eq!(
            (probed.is_there, &probed.warnings),
            (true, &opened.warnings)
        );
        let warned = opened.warnings.join("\n");
        assert!(
            warned.contains("sync_interval") && warned.contains("replicas"),
            "{warned}"
        );
        let context = by_hand(&server).await;
        let stream = context.get_stream("PM_test_0").await.unwrap();
        let right = stream.cached_info().config.clone();
        type Change = fn(&mut jetstream::stream::Config);
        let wrong: [(Change, &str); 4] = [
            (
                |config| config.discard = jetstream::stream::DiscardPolicy::Old,
                "discards old messages",
            ),
            (
                |config| config.max_age = Duration::from_secs(3600),
                "max_age",
            ),
            (|config| config.max_messages = 1000, "limit of messages"),
            (
                |config| config.subjects.push("other".to_owned()),
                "other subjects",
            ),
        ];
        for (change, words) in wrong {
            let mut config = right.clone();
            change(&mut config);
            context.update_stream(config).await.unwrap();
            assert_refused(open(&server).await, words);
            assert_refused(probe(&server).await, words);
            context.update_stream(right.clone()).await.unwrap();
            open(&server).await.unwrap();
        }
        let mut more = options(&[server.port()]).await;
        more.replicas = 3;
        assert_refused(NatsLog::open(one(), more).await, "fewer replicas");
    });
}

#[test]
fn servers_that_cannot_keep_a_log_are_refused() {
    run(async {
        let small = NatsServer::start_with(NatsRelease::Current, "max_payload: 1000000").await;
        assert_refused(open(&small).await, "max_payload");
        if NatsRelease::Old.is_there() {
            let old = NatsServer::start(NatsRelease::Old).await;
            let opened = open(&old).await;
            // What is on PATH may be as new as it likes.
            if let Err(OpenError::Refused(why)) = opened {
                assert!(why.contains("2.10"), "{why}");
            }
        }
    });
}

#[test]
fn a_full_stream_refuses_and_drops_nothing() {
    run(async {
        let server = NatsServer::start(NatsRelease::Current).await;
        let log = open(&server).await.unwrap().log;
        let context = by_hand(&server).await;
        let stream = context.get_stream("PM_test_0").await.unwrap();
        let mut config = stream.cached_info().config.clone();
        config.max_bytes = 100_000;
        context.update_stream(config).await.unwrap();
        let body = bytes::Bytes::from(vec![7; 30_000]);
        let mut appended = 0;
        let refused = loop {
            match log.append(Shard(0), body.clone()).await {
                Ok(_) => appended += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, LogError::Refused(_)), "{refused:?}");
        assert_eq!(appended, 3);
        // A trim makes room, and the first that fits comes behind the last.
        log.trim(Shard(0), Place(3)).await.unwrap();
        assert_eq!(log.append(Shard(0), body).await, Ok(Place(4)));
    });
}

#[test]
fn a_lost_record_is_told_and_not_read_over() {
    run(async {
        let server = NatsServer::start(NatsRelease::Current).await;
        let log = open(&server).await.unwrap().log;
        // The stream lets nobody delete a message, and damage on disk cannot be had to order: another
        // stream takes its place.
        let context = by_hand(&server).await;
        let mut stream = context.get_stream("PM_test_0").await.unwrap();
        assert!(stream.info().await.unwrap().config.deny_delete);
        context.delete_stream("PM_test_0").await.unwrap();
        let config = jetstream::stream::Config {
            name: "PM_test_0".to_owned(),
            subjects: vec!["pm.test.log.0".to_owned()],
            ..Default::default()
        };
        let other = context.create_stream(config).await.unwrap();
        for _ in 0..5 {
            log.append(Shard(0), "x".into()).await.unwrap();
        }
        other.delete_message(4).await.unwrap();
        let mut follower = log.follow(Shard(0), Place(1));
        for expect in [2, 3] {
            let read = follower.next().await;
            let is = matches!(&read, Some(Ok(Next::Record { place, .. })) if place.0 == expect);
            assert!(is, "{read:?}");
        }
        let (shard, place) = (Shard(0), Place(4));
        assert_eq!(
            follower.next().await,
            Some(Err(FollowError::Lost { shard, place }))
        );
        assert_eq!(follower.next().await, None);
    });
}
