//! Against a real server: one for all tests but those that kill it, with a topic and a group for
//! each.

mod broken;
mod source;
mod stub;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::SystemClock;
use pointsman_test_brokers::{ROCKETMQ_KEYS, RocketmqServer, RocketmqSettings};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::proto::{
    self, FilterExpression, FilterType, Message, Resource, SendMessageRequest, SendMessageResponse,
    SystemProperties,
};
use super::queue::{Asked, Group};
use super::session::Role;
use super::settings::Access;
use crate::leased::Queue as _;
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::tls::fixtures::ca;
use crate::suite::{begin, bodies, next_within, parse_source, settle, take, with};
use crate::{Arrival, Link, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// How long nothing may come before nothing is taken to be there.
const QUIET: Duration = Duration::from_millis(400);

/// The server that all tests share. It asks for keys, and speaks TLS beside plain text.
async fn server() -> &'static RocketmqServer {
    static SERVER: OnceCell<RocketmqServer> = OnceCell::const_new();
    let folder = ca().parent().unwrap().to_owned();
    let settings = RocketmqSettings {
        asks_for_keys: true,
        tls: Some((folder.join("leaf.pem"), folder.join("leaf.key"))),
    };
    SERVER
        .get_or_init(|| RocketmqServer::start_with(settings))
        .await
}

fn keys() -> Value {
    json!({ "access_key": ROCKETMQ_KEYS.0, "secret_key": ROCKETMQ_KEYS.1 })
}

fn resource(name: &str) -> Resource {
    Resource {
        resource_namespace: String::new(),
        name: name.to_owned(),
    }
}

/// A client of this role, and not through settings of a source or a target.
fn client(url: &str, role: Role) -> Client {
    let url = pointsman_schemas::Text::Literal(url.to_owned());
    let credentials = serde_json::from_value(keys()).unwrap();
    let place = move || {
        let access = Access {
            url: &url,
            tls: None,
            credentials: Some(&credentials),
            namespace: None,
        };
        access.resolve(access.signer()?)
    };
    let guard = Guard {
        allow_private_addresses: true,
    };
    Client::open(place, role, guard, Names::default()).unwrap()
}

/// A topic of its own, with a group that reads it, and somebody who sends to it.
struct Topic {
    name: String,
    group: String,
    producer: Client,
}

impl Topic {
    async fn new(kind: &str) -> Self {
        Self::at(server().await, kind, 2).await
    }

    async fn at(server: &RocketmqServer, kind: &str, queues: u32) -> Self {
        let number = rand::random::<u64>();
        let name = format!("topic-{number:x}");
        let group = format!("group-{number:x}");
        server.make_topic(&name, kind, queues).await;
        server.make_group(&group, kind == "FIFO", 16).await;
        let role = Role::Producer(Some(resource(&name)));
        Self {
            producer: client(&server.url(), role),
            name,
            group,
        }
    }

    /// Settings of a source that reads it, with others and without those that are null.
    fn settings(&self, more: Value) -> Value {
        let settings = json!({
            "url": format!("rocketmq://{}", self.producer.host),
            "credentials": keys(),
            "topic": self.name,
            "group": self.group,
        });
        with(settings, more)
    }

    /// Settings of a target that sends to it.
    fn target(&self, more: Value) -> Value {
        let settings = self.settings(json!({ "group": null }));
        with(settings, more)
    }

    /// Sends a message that `change` has made another.
    async fn send_as(&self, body: impl Into<Bytes>, change: impl FnOnce(&mut Message)) -> String {
        let id = format!("{:032x}", rand::random::<u128>());
        let mut message = Message {
            topic: Some(resource(&self.name)),
            user_properties: BTreeMap::new(),
            system_properties: Some(SystemProperties {
                message_id: id.clone(),
                message_type: proto::MessageType::Normal.into(),
                body_encoding: proto::Encoding::Identity.into(),
                born_timestamp: Some(proto::Timestamp::of_micros(1_700_000_000_123_000)),
                ..SystemProperties::default()
            }),
            body: body.into(),
        };
        change(&mut message);
        let request = SendMessageRequest {
            messages: vec![message],
        };
        let sent: SendMessageResponse = self
            .producer
            .ask("SendMessage", &request, LONG)
            .await
            .unwrap();
        assert_eq!(sent.status.as_ref().unwrap().code, 20_000, "{sent:?}");
        id
    }

    async fn send(&self, body: &str) -> String {
        self.send_as(body.to_owned(), |_| {}).await
    }

    async fn send_in(&self, group: &str, body: &str) -> String {
        self.send_as(body.to_owned(), |message| {
            let system = message.system_properties.as_mut().unwrap();
            system.message_group = Some(group.to_owned());
            system.message_type = proto::MessageType::Fifo.into();
        })
        .await
    }

    /// The topic as this group reads it.
    fn read_by(&self, group: &str) -> Group {
        let asked = Asked {
            topic: resource(&self.name),
            group: resource(group),
            filter: FilterExpression {
                r#type: FilterType::Tag.into(),
                expression: "*".to_owned(),
            },
        };
        let role = Role::Consumer {
            group: asked.group.clone(),
            topic: asked.topic.clone(),
            filter: asked.filter.clone(),
        };
        let url = format!("rocketmq://{}", self.producer.host);
        Group::new(client(&url, role), asked, Duration::from_secs(10))
    }
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("rocketmq", settings).unwrap()
}

async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(source(settings)).await
}
