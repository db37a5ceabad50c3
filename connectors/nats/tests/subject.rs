//! Subjects, which are listened to without a stream.

use std::collections::BTreeSet;

use bytes::Bytes;
use pointsman_schemas::Clock;

use super::super::message::Mapper;
use super::super::subscription::{SubjectMonitor, SubjectSource};
use super::*;
use crate::suite::{SourceFixture, sources};

/// The same server, listened to without its stream.
struct Core(Nats);

impl SourceFixture for Core {
    const KIND: &'static str = "nats";

    fn settings(&self) -> Value {
        json!({ "url": [self.0.server.url()], "subject": "s.*", "queue": "q" })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock()
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        self.0.publish(count).await
    }

    fn identity(&self, event: &Event) -> String {
        self.0.identity(event)
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn is_read_by_cursor(&self) -> bool {
        false
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        self.0.unreadable().await
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        Vec::new()
    }
}

nats_tests!(
    a_subject_conforms,
    members_of_a_queue_share_a_subject,
    what_a_subject_brings_too_fast_is_counted,
);

async fn a_subject_conforms(release: NatsRelease) {
    sources(&mut Core(Nats::start(release).await)).await;
}

async fn members_of_a_queue_share_a_subject(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let given = json!({ "url": nats.server.url(), "subject": "s.>", "queue": "q" });
    assert_eq!(
        settings(given.clone()).guarantee(),
        crate::Guarantee::AtMostOnce
    );
    let (mut one, _) = open(given.clone()).await;
    let (mut other, _) = open(given).await;
    for source in [&mut one, &mut other] {
        assert!(
            messages_within(&mut **source, Duration::from_millis(200))
                .await
                .is_none()
        );
    }
    let published = nats.publish(200).await;
    let mut came = [Vec::new(), Vec::new()];
    while came[0].len() + came[1].len() < published.len() {
        let (who, batch) = tokio::select! {
            batch = one.next() => (0, batch),
            batch = other.next() => (1, batch),
        };
        came[who].extend(batch.unwrap().messages.iter().map(text));
    }
    assert!(!came[0].is_empty() && !came[1].is_empty(), "both get some");
    let all: BTreeSet<_> = came.into_iter().flatten().collect();
    assert_eq!(
        all,
        published.into_iter().collect(),
        "and each message comes to one"
    );
}

async fn what_a_subject_brings_too_fast_is_counted(release: NatsRelease) {
    let nats = Nats::start(release).await;
    let context = context();
    let monitor = SubjectMonitor::new(context.name.clone(), context.link.clone(), "fast".into());
    let server = serde_json::from_value(json!(nats.server.url())).unwrap();
    let connection = super::super::connection::Connection {
        url: &server,
        auth: None,
        tls: None,
        ping_every: super::super::connection::PING_EVERY,
    };
    let plan = connection.plan("test").unwrap();
    let client = plan
        .connect(monitor.listener())
        .await
        .unwrap_or_else(|error| panic!("{}", error.problem));
    let mapper = Mapper::new(context.name, false, context.clock);
    let mut source = SubjectSource::begin(&plan, client, Arc::clone(&monitor), mapper, None)
        .await
        .unwrap();
    assert!(
        messages_within(&mut source, Duration::from_millis(200))
            .await
            .is_none()
    );
    for _ in 0..20_000 {
        nats.client().publish("fast", "x".into()).await.unwrap();
    }
    nats.client().flush().await.unwrap();
    holds("losses are counted", async || monitor.lost() > 0).await;
    assert!(
        !messages_within(&mut source, SOON)
            .await
            .unwrap()
            .unwrap()
            .is_empty(),
        "and it goes on"
    );
}
