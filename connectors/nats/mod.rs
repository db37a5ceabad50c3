//! NATS: messages of a JetStream stream or of a subject, and messages published for functions and
//! others to take.
//!
//! ```yaml
//! sources:
//!   telemetry:
//!     nats: { url: "nats://127.0.0.1:4222", stream: TELEMETRY, consumer: pointsman }
//!   orders:
//!     nats:
//!       url: ["tls://a.example.com", "tls://b.example.com"]
//!       stream: ORDERS
//!       consumer: pointsman
//!       create: { filter: "orders.>", start: all, ack_wait: 30s, max_ack_pending: 1000 }   # start: new, { sequence: 7 }, { time: … }
//!       auth: { basic: { username: app, password: { env: NATS_PASSWORD } } }     # token, nkey, credentials: { file: ./app.creds }
//!       tls: { ca: { file: ./ca.pem } }
//!   clicks:
//!     nats: { url: "nats://127.0.0.1:4222", subject: "clicks.>", queue: pointsman }
//! targets:
//!   audit:
//!     nats: { url: "nats://127.0.0.1:4222", subject: "audit.<$.type>", mode: binary }           # structured, data
//! ```
//!
//! **A stream** is read through a durable pull consumer with explicit acknowledgement, at least
//! once. The consumer is made where it is missing and `create` stands there; one that is there is
//! taken as it is and never changed, and where it differs from what `create` says the source does
//! not start and says what differs. Where a running source's consumer is deleted, it is made anew
//! behind what is known to be acknowledged; without `create` the source waits until it is back. At
//! most 8,192 messages and 32 MiB are unacknowledged, and the server is told of each three times
//! within `ack_wait` that it is being worked on. What is stored is acknowledged, and the server
//! confirms that, in batches; what cannot be stored comes again after a pause, and nothing is asked
//! for meanwhile; what cannot be read becomes a dead letter and is acknowledged.
//!
//! **A subject** is listened to at most once: what is published while the bus or the way to it is
//! down is gone, and so is what comes faster than it can be stored (past 4,096 messages; the log
//! counts them). Members of a `queue` share the messages.
//!
//! **Events**: a CloudEvent in binary or structured mode is taken as that (see `message.rs`); one
//! that is broken is a dead letter. Any other message is of type `com.pointsman.nats.message`,
//! source `/nats/<name of the source>`, subject the message's subject, id
//! `<stream>.<sequence>.<time in ns>` and time when the stream stored it; from a subject a random
//! id and the time of arrival. Its data is JSON, text or binary as `Content-Type` says and, without
//! one, as it looks. With an `event:` mapping these are the defaults under it, and its root is `{
//! body, headers, subject, stream, sequence, time }`: `body` is the JSON, or a text, which of
//! binary data is base64; `headers` have lower-case names.
//!
//! **A target** publishes with `Nats-Msg-Id`, the delivery's id, so that a stream drops what is
//! published again within its window, and waits for the stream's acknowledgement: no connection is
//! unavailable, a server that does not let us in or forbids the subject refused, a subject that no
//! stream keeps unavailable, a full stream throttled, a message that is too large rejected,
//! anything else and a connection that breaks before the answer failed. A subject that an event
//! fills in must not begin with `$`. With `acknowledge: false` a message has been delivered once it
//! is sent, and nobody says whether anybody took it.

mod auth;
mod connection;
mod consumer;
mod create;
mod engine;
mod interior_gaps;
mod message;
mod names;
mod outstanding;
mod poison;
mod progress;
mod pull;
mod puller;
mod reader;
mod requests;
mod source;
mod subscription;
mod target;
#[cfg(test)]
mod tests;
mod urls;

pub use auth::Auth;
pub use connection::Tls;
pub use create::NewConsumer;
pub use engine::NatsEngine;
pub use message::{Mode, PLAIN_TYPE};
pub use pull::BATCH_MESSAGES_MAX;
pub use source::NatsSource;
pub use target::NatsTarget;
