//! Sources and targets against a real `nats-server`.

mod credentials;
mod lost;
mod mapping;
mod pulling;
mod source;
mod subject;
mod target;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, stream};
use pointsman_schemas::{Event, Name, SystemClock};
use pointsman_test_brokers::{NatsRelease, NatsServer, nats_tests};
use serde_json::{Value, json};

use super::*;
use crate::listener::Routes;
use crate::suite::next_within;
use crate::{
    Acknowledgement, Arrival, Link, Message, Source, SourceContext, SourceError, SourceSettings,
};

/// Longer than anything here takes, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A server with a stream `S` of what is published under `s.`, and somebody to look at it.
struct Nats {
    server: NatsServer,
    jetstream: jetstream::Context,
    published: usize,
}

impl Nats {
    async fn start(release: NatsRelease) -> Self {
        let server = NatsServer::start(release).await;
        let client = async_nats::connect(server.url()).await.unwrap();
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(SOON)
            .ack_timeout(SOON)
            .build(client);
        let nats = Self {
            jetstream,
            server,
            published: 0,
        };
        nats.make_stream().await;
        nats
    }

    /// Starts the server again, and returns once the tests' own client has found it: what is
    /// published on a connection that was cut is lost.
    async fn restart(&mut self) {
        self.server.restart().await;
        holds("the test's own client is back", async || {
            matches!(
                tokio::time::timeout(Duration::from_secs(1), self.jetstream.get_stream("S")).await,
                Ok(Ok(_))
            )
        })
        .await;
    }

    fn client(&self) -> async_nats::Client {
        self.jetstream.client()
    }

    async fn make_stream(&self) {
        let config = stream::Config {
            name: "S".into(),
            subjects: vec!["s.>".into()],
            ..Default::default()
        };
        self.jetstream.create_stream(config).await.unwrap();
    }

    /// Publishes so many messages into the stream and tells their data.
    async fn publish(&mut self, count: usize) -> Vec<String> {
        let texts: Vec<_> = (self.published..self.published + count)
            .map(|n| format!("m{n}"))
            .collect();
        self.published += count;
        // The client lets so many wait for their acknowledgement at once.
        for some in texts.chunks(1_000) {
            let mut acknowledged = Vec::new();
            for text in some {
                acknowledged.push(
                    self.jetstream
                        .publish("s.x", text.clone().into())
                        .await
                        .unwrap(),
                );
            }
            for one in acknowledged {
                one.await.unwrap();
            }
        }
        texts
    }

    fn settings(&self, create: Value) -> Value {
        json!({ "url": self.server.url(), "stream": "S", "consumer": "c", "create": create })
    }

    async fn consumer(&self) -> PullConsumer {
        self.jetstream
            .get_consumer_from_stream("c", "S")
            .await
            .unwrap()
    }

    /// Deletes the consumer; that the server stumbles over its own files then does not keep it.
    async fn delete_consumer(&self) {
        let _ = self.jetstream.delete_consumer_from_stream("c", "S").await;
    }

    async fn make_consumer(&self, config: pull::Config) {
        let config = pull::Config {
            durable_name: Some("c".into()),
            ..config
        };
        self.jetstream
            .create_consumer_on_stream(config, "S")
            .await
            .unwrap();
    }
}

fn settings(settings: Value) -> Box<dyn SourceSettings> {
    let read: NatsSource = serde_json::from_value(settings).unwrap();
    assert_eq!(read.check(), []);
    Box::new(read)
}

fn context() -> SourceContext {
    let (name, clock) = (Name::new("telemetry").unwrap(), Arc::new(SystemClock));
    let link = Link::new(name.clone(), clock.clone());
    SourceContext {
        name,
        tenant: Name::default_tenant(),
        cursor: None,
        positions: crate::suite::Stored::default().positions(),
        mapped: false,
        alarms: crate::Alarms::new(clock.clone()),
        clock,
        routes: Routes::default(),
        link,
    }
}

async fn open(given: Value) -> (Box<dyn Source>, Link) {
    let context = context();
    let link = context.link.clone();
    (settings(given).open(context).await.unwrap(), link)
}

fn event(message: &Message) -> &Event {
    match message.arrivals.first() {
        Some(Arrival::Event(event)) => event,
        other => panic!("no event: {other:?}"),
    }
}

fn text(message: &Message) -> String {
    String::from_utf8(event(message).data().unwrap().bytes().to_vec()).unwrap()
}

/// The next messages; none where nothing but a position comes within that time.
async fn messages_within(
    source: &mut dyn Source,
    within: Duration,
) -> Option<Result<Vec<Message>, SourceError>> {
    let until = tokio::time::Instant::now() + within;
    loop {
        match next_within(
            source,
            until.saturating_duration_since(tokio::time::Instant::now()),
        )
        .await?
        {
            Ok(batch) if batch.messages.is_empty() => {
                assert!(batch.cursor.is_some(), "an empty batch")
            }
            batch => return Some(batch.map(|batch| batch.messages)),
        }
    }
}

/// Reads so many messages, or what comes until the source ends.
async fn take(
    source: &mut dyn Source,
    count: usize,
) -> Result<Vec<(String, Acknowledgement)>, SourceError> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let messages = messages_within(source, SOON)
            .await
            .unwrap_or_else(|| panic!("{} of {count} messages have come", taken.len()))?;
        taken.extend(
            messages
                .into_iter()
                .map(|message| (text(&message), message.acknowledgement)),
        );
    }
    Ok(taken)
}

/// Waits until something holds that no message tells of.
async fn holds(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + SOON;
    while !check().await {
        assert!(tokio::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
