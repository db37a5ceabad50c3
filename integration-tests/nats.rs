//! A client of NATS that publishes events, apart from the connector that the tests are about.

use std::time::Duration;

use async_nats::jetstream::{self, Context, stream};
use async_nats::{ConnectOptions, HeaderMap};
use tokio::time::timeout;

/// How long a confirmation may take; without one the message is published again.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(3);

/// A client that is back as soon as the server is.
///
/// # Panics
/// Never: it connects by itself.
pub async fn jetstream(port: u16) -> Context {
    let options = ConnectOptions::new()
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(|_| Duration::from_millis(50));
    jetstream::new(
        options
            .connect(format!("nats://127.0.0.1:{port}"))
            .await
            .expect("it connects later, if not now"),
    )
}

/// Makes a stream.
///
/// # Panics
/// Where the server refuses.
pub async fn make_stream(jetstream: &Context, name: &str, subjects: &str) {
    let config = stream::Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        ..stream::Config::default()
    };
    jetstream
        .create_stream(config)
        .await
        .expect("a stream can be made");
}

/// Publishes an event in binary mode and tells whether the server has it.
pub async fn publish(jetstream: Context, subject: &'static str, id: String) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &*id),
        ("ce-source", "/test"),
        ("ce-type", "order.paid"),
        ("Nats-Msg-Id", &*id),
    ] {
        headers.insert(name, value);
    }
    headers.insert("content-type", "application/json");
    let sent = async {
        jetstream
            .publish_with_headers(subject, headers, crate::storm::DATA.into())
            .await
            .ok()?
            .await
            .ok()
    };
    matches!(timeout(CONFIRMED_WITHIN, sent).await, Ok(Some(_)))
}
