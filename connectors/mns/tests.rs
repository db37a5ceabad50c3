//! Against the stand-in, which checks signatures and goes by the documented rules: one for all
//! tests with a queue for each.

mod broken;
mod hand;
mod source;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pointsman_schemas::SystemClock;
use pointsman_test_brokers::{MNS_KEYS, MnsServer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::suite::{begin, bodies, next_within, parse_source, settle, take, with};
use crate::{Arrival, Link, OpenError, Source, SourceSettings, Verdict};

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// A queue of a server of its own: each test has a runtime of its own, with which it ends.
struct Queue {
    server: MnsServer,
    name: String,
}

impl Queue {
    async fn new() -> Self {
        Self::hiding(Duration::from_secs(30)).await
    }

    /// A queue that hides what it hands out for so long at first.
    async fn hiding(visibility: Duration) -> Self {
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        let server = MnsServer::start().await;
        let name = format!("queue-{}", NUMBERS.fetch_add(1, Ordering::Relaxed));
        server.make_queue(&name, visibility);
        Self { server, name }
    }

    /// Settings that name it, with others and without those that are null.
    fn settings(&self, more: Value) -> Value {
        let (id, secret) = MNS_KEYS;
        let settings = json!({
            "queue": self.name,
            "endpoint": self.server.endpoint(),
            "credentials": { "access_key": id, "secret_key": secret },
        });
        with(settings, more)
    }

    /// Sends a body in base64, as the SDKs do, and returns the message's id.
    fn send(&self, body: &str) -> String {
        self.server.send(&self.name, &BASE64_STANDARD.encode(body))
    }

    fn left(&self) -> usize {
        self.server.messages(&self.name).len()
    }

    async fn drained(&self) {
        let until = Instant::now() + LONG;
        while self.left() > 0 {
            assert!(Instant::now() < until, "{} are left", self.left());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn source(settings: &Value) -> Box<dyn SourceSettings> {
    parse_source("mns", settings).unwrap()
}

async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    begin(source(settings)).await
}
