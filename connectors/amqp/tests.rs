//! Against a real server: one for all tests but those that kill it, with a queue for each.

mod broken;
mod peer;
mod source;
mod stub;
mod target;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_schemas::SystemClock;
use pointsman_test_brokers::{ARTEMIS_LOGIN, ArtemisServer, ArtemisSettings};
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::peer::Peer;
use super::message::{Body, Message, Property};
use super::value::Value;
use crate::net::tls::fixtures::ca;
use crate::suite::{begin, bodies, next_within, parse_source, settle, take, with};
use crate::{Arrival, Link, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// How long nothing may come before nothing is taken to be there.
const QUIET: Duration = Duration::from_millis(400);

/// The server that all tests share.
async fn server() -> &'static ArtemisServer {
    static SERVER: OnceCell<ArtemisServer> = OnceCell::const_new();
    SERVER.get_or_init(ArtemisServer::start).await
}

/// A server that asks who connects, and speaks TLS on a second port.
async fn guarded() -> &'static ArtemisServer {
    static SERVER: OnceCell<ArtemisServer> = OnceCell::const_new();
    let settings = ArtemisSettings {
        asks_who: true,
        tls: Some(ca().parent().unwrap().to_owned()),
    };
    SERVER
        .get_or_init(|| ArtemisServer::start_with(settings))
        .await
}

/// An address that no other test has.
fn unique(kind: &str) -> String {
    format!("{kind}-{:x}", rand::random::<u64>())
}

fn login() -> Json {
    json!({ "username": ARTEMIS_LOGIN.0, "password": ARTEMIS_LOGIN.1 })
}

/// Settings of a source or a target at the shared server, with others and without those that are
/// null.
async fn settings(address: &str, more: Json) -> Json {
    let settings = json!({ "url": server().await.url(), "address": address });
    with(settings, more)
}

fn source(settings: &Json) -> Box<dyn SourceSettings> {
    parse_source("amqp", settings).unwrap()
}

async fn open(settings: &Json) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(source(settings)).await
}

/// A message with a text.
fn text(body: &str) -> Message {
    Message {
        is_durable: true,
        body: Body::Data(Bytes::copy_from_slice(body.as_bytes())),
        ..Message::default()
    }
}
