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
use pointsman_schemas::{Name, SystemClock};
use pointsman_test_brokers::{MNS_KEYS, MnsServer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::suite::{Stored, next_within};
use crate::{Arrival, Link, Message, OpenError, Source, SourceSettings, Verdict, connector};

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
        let mut settings = json!({
            "queue": self.name,
            "endpoint": self.server.endpoint(),
            "credentials": { "access_key": id, "secret_key": secret },
        });
        let all = settings.as_object_mut().unwrap();
        for (key, value) in more.as_object().unwrap() {
            if value.is_null() {
                all.remove(key);
            } else {
                all.insert(key.clone(), value.clone());
            }
        }
        settings
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
    let kind = connector("mns").unwrap().source.built().unwrap();
    (kind.parse)(&mut <dyn erased_serde::Deserializer>::erase(settings)).unwrap()
}

/// Opens a source, and tells where it tells of its connection.
async fn open(settings: &Value) -> Result<(Box<dyn Source>, Link), OpenError> {
    let clock = Arc::new(SystemClock);
    let name = Name::new("orders").unwrap();
    let link = Link::new(name.clone(), clock.clone());
    let context = crate::SourceContext {
        name,
        tenant: Name::default_tenant(),
        cursor: None,
        positions: Stored::default().positions(),
        mapped: false,
        alarms: crate::Alarms::new(clock.clone()),
        clock,
        routes: crate::listener::Routes::default(),
        link: link.clone(),
    };
    let opened = source(settings).open(context).await;
    opened.map(|source| (source, link))
}

/// The next messages, of one batch or several, until there are so many.
async fn take(source: &mut dyn Source, count: usize) -> Vec<Message> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = next_within(source, LONG).await.expect("something comes");
        taken.extend(batch.unwrap().messages);
    }
    taken
}

/// The text of a message's event.
fn body(message: &Message) -> String {
    match message.arrivals.first() {
        Some(Arrival::Event(event)) => {
            let bytes = event.data().unwrap().bytes();
            String::from_utf8(bytes.to_vec()).unwrap()
        }
        other => panic!("no event: {other:?}"),
    }
}

fn bodies(messages: &[Message]) -> Vec<String> {
    messages.iter().map(body).collect()
}

async fn settle(messages: Vec<Message>, verdict: &Verdict) {
    let acknowledgements = messages
        .into_iter()
        .map(|message| message.acknowledgement.send(verdict.clone()));
    futures::future::join_all(acknowledgements).await;
}
