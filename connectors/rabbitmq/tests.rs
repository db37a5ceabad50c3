//! Against a real server: one for all tests but those that kill it, with a queue for each.

mod broken;
mod limit;
mod renewal;
mod restart;
mod shared;
mod source;
mod stream;
mod target;

use std::path::Path;
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use pointsman_schemas::Problem;
use pointsman_test_brokers::{RabbitServer, free_port};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::suite::SetClock;
use crate::{Link, OpenError, Source, SourceSettings, connector};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// The server that all tests share, and its port for TLS.
async fn server() -> &'static (RabbitServer, u16) {
    static SERVER: OnceCell<(RabbitServer, u16)> = OnceCell::const_new();
    SERVER
        .get_or_init(async || {
            let port = free_port();
            let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls");
            let option = |key: &str, file: &str| {
                format!(
                    "ssl_options.{key} = {}\n",
                    certificates.join(file).display()
                )
            };
            let files = [
                option("cacertfile", "ca.pem"),
                option("certfile", "leaf.pem"),
                option("keyfile", "leaf.key"),
            ];
            (
                RabbitServer::start(
                    &format!("listeners.ssl.1 = 127.0.0.1:{port}\n{}", files.concat()),
                    "",
                )
                .await,
                port,
            )
        })
        .await
}

/// A queue of its own, looked at from outside.
struct Queue {
    url: String,
    name: String,
    channel: Channel,
    _connection: Connection,
}

impl Queue {
    /// Makes a queue with a name that no other has.
    async fn new(kind: &str, arguments: &[(&str, AMQPValue)]) -> Self {
        Self::at(&server().await.0.url(), kind, arguments).await
    }

    async fn at(url: &str, kind: &str, arguments: &[(&str, AMQPValue)]) -> Self {
        let (connection, channel) = connect(url).await;
        let name = format!("{kind}-{:x}", rand::random::<u64>());
        let mut table = FieldTable::default();
        table.insert("x-queue-type".into(), text(kind));
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        channel
            .queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), table)
            .await
            .unwrap();
        Self {
            url: url.to_owned(),
            name,
            channel,
            _connection: connection,
        }
    }

    /// Settings of a source that reads it.
    fn settings(&self, more: Value) -> Value {
        let mut settings = json!({ "url": self.url, "queue": self.name });
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        settings
    }

    /// Returns once the server has the message.
    async fn publish(&self, body: impl AsRef<[u8]>, properties: BasicProperties) {
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let properties = properties.with_delivery_mode(2);
        let published = self.channel.basic_publish(
            "".into(),
            self.name.as_str().into(),
            options,
            body.as_ref(),
            properties,
        );
        assert!(
            published
                .await
                .unwrap()
                .await
                .unwrap()
                .take_message()
                .is_none()
        );
    }

    /// Takes a message out.
    async fn get(&self) -> Option<lapin::message::Delivery> {
        let got = self
            .channel
            .basic_get(self.name.as_str().into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap();
        got.map(|message| message.delivery)
    }
}

async fn connect(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    (connection, channel)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

fn plain() -> BasicProperties {
    BasicProperties::default()
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    let kind = connector("rabbitmq").unwrap().source.built().unwrap();
    (kind.parse)(&mut <dyn erased_serde::Deserializer>::erase(settings)).unwrap()
}

/// What a source that begins anew is opened with, and where it tells of its connection.
fn context() -> (crate::SourceContext, Link) {
    let clock = std::sync::Arc::new(SetClock::at("2026-01-31T09:30:00Z"));
    let name = pointsman_schemas::Name::new("orders").unwrap();
    let link = Link::new(name.clone(), clock.clone());
    let context = crate::SourceContext {
        name,
        tenant: pointsman_schemas::Name::default_tenant(),
        cursor: None,
        positions: crate::suite::Stored::default().positions(),
        mapped: false,
        alarms: crate::Alarms::new(clock.clone()),
        clock,
        routes: crate::listener::Routes::default(),
        link: link.clone(),
    };
    (context, link)
}

/// Opens a source that begins anew, and tells where it tells of its connection.
async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    let (context, link) = context();
    source(settings)
        .open(context)
        .await
        .map(|source| (source, link))
}

fn told(problem: &Problem, words: &[&str]) {
    let told = problem.to_string();
    assert!(
        words.iter().all(|words| told.contains(words)),
        "{told} where {words:?} was expected"
    );
}
