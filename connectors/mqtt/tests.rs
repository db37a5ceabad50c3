//! Against a mosquitto for each test.

mod broken;
mod peer;
mod source;
mod target;

use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::SystemClock;
use pointsman_test_brokers::MqttServer;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::peer::{Peer, publish};
use crate::suite::{begin, bodies, next_within, parse_source, settle, take, with};
use crate::{Link, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// How long nothing may come before nothing is taken to be there.
const QUIET: Duration = Duration::from_millis(300);

/// Settings of a source at a broker, with others and without those that are null.
fn settings(server: &MqttServer, more: Value) -> Value {
    let settings = json!({ "url": server.url(), "client_id": "c", "topic": "orders/#" });
    with(settings, more)
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("mqtt", settings).unwrap()
}

async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(source(settings)).await
}

/// The next message, or none in a short while; what a session is subscribed to is passed over.
async fn quiet(source: &mut dyn Source) -> Option<Vec<crate::Message>> {
    loop {
        let batch = next_within(source, QUIET).await?.unwrap();
        if !batch.messages.is_empty() {
            return Some(batch.messages);
        }
    }
}
