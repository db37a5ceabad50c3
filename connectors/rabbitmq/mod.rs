//! RabbitMQ, by AMQP 0.9.1: queues of all types are read, and exchanges written to.
//!
//! ```yaml
//! sources:
//!   orders:
//!     rabbitmq:
//!       url: "amqp://127.0.0.1:5672"        # amqps://…, with tls: { ca, certificate, key }
//!       username: app
//!       password: { env: AMQP_PASSWORD }
//!       queue: orders
//!       prefetch: 200
//! targets:
//!   shop:
//!     rabbitmq: { url: "amqp://127.0.0.1:5672", exchange: shop, routing_key: <$.type> }
//! ```
//!
//! **CloudEvents** travel by the AMQP protocol binding, whose application properties are the
//! headers of AMQP 0.9.1: binary mode (`cloudEvents:` in front of each attribute's name, which is
//! also written, or `cloudEvents_`) and structured mode, by the content type. What announces one
//! and is none is rejected: kept as a dead letter of the source, and acknowledged.
//!
//! **Other messages** become events of type `com.pointsman.rabbitmq.<name>`, or of their property
//! `type`; source `/rabbitmq/<name>`; subject the routing key; time their `timestamp`, else now; id
//! their `message_id`, else random; the other properties and the headers that are single values are
//! extension attributes. With an `event:` mapping these are its defaults, and its root is `{ body,
//! headers, properties, exchange, routing_key, redelivered }`. `docs/connectors/rabbitmq.md` has
//! the tables.
//!
//! **Identity.** A classic or quorum queue gives its messages none: one that comes again after a
//! crash is known again only by the id that its publisher gave. That ids are never used twice is
//! the publishers' promise, so duplicates are told only where `deduplicate: true` says that it
//! holds. A message of a stream has its offset.
//!
//! **Acknowledged** is each message by itself, on the channel that brought it, once it is stored.
//! What cannot be stored now stays in our hands and is tried again from there: giving it back would
//! have it here again at once, and would use up the delivery limit of a quorum queue. It counts
//! against `prefetch`, so that a full store stops the flow.
//!
//! **A stream** is read from `offset` at the very first start, and then from where the cursor
//! stands, which is stored with the events. Acknowledgements only keep it flowing.
//!
//! **Published** is with confirmation, persistent and mandatory. See `publish.rs` for what an
//! answer means.

mod amqp10;
mod connection;
mod consume;
mod declare;
mod error;
mod fault;
mod greeting;
mod lag;
mod mapping;
mod message;
mod publish;
mod queue;
mod queue_info;
mod retries;
mod settings;
mod source;
mod stream;
mod subscription;
mod target;
#[cfg(test)]
mod tests;

pub use consume::BATCH_MESSAGES_MAX;
pub use declare::{DeclareQueue, ExchangeType, QueueType};
pub use mapping::MessageMode;
pub use settings::TlsSettings;
pub use source::{Offset, RabbitmqSource};
pub use target::{DeclareExchange, RabbitmqTarget};
