//! Queues and topics of brokers that speak AMQP 1.0: ActiveMQ Artemis, Azure Service Bus, RabbitMQ
//! from 4.0 on, Qpid and others. (Of RabbitMQ's own protocol, AMQP 0.9.1, is `rabbitmq`.)
//!
//! ```yaml
//! sources:
//!   orders:
//!     amqp:
//!       url: "amqp://127.0.0.1:5672"         # amqps://…, with tls: { ca, certificate, key }
//!       username: app
//!       password: { env: AMQP_PASSWORD }
//!       address: orders
//! targets:
//!   audit:
//!     amqp: { url: "amqp://127.0.0.1:5672", address: "audit.<$.type>", group_id: <$.subject> }
//! ```
//!
//! **Reading** is at least once: a message is accepted once it is stored, in whatever order that
//! happens. A task of its own holds the connection (`session.rs`), so that the broker hears of the
//! source also while nobody asks for messages. How many may come is the link's credit: `prefetch`
//! less what is in hand. A source that is stopped releases what it has not stored; what breaks off,
//! the broker hands out again.
//!
//! **Events**: a message that is a CloudEvent is taken as that (see `mapping.rs`); one that cannot
//! be read is a dead letter, with its bytes, and accepted. Any other message is of type
//! `com.pointsman.amqp.message`, source `/amqp/<name of the source>`; its id is the message's, where
//! it has one, its subject the message's or else the address, its group the attribute
//! `partitionkey`. Bytes are the data as they are; a value or a sequence of AMQP is one in JSON. With
//! an `event:` mapping these are the defaults under it, and its root is `{ body, headers,
//! properties, annotations, address, durable, priority, delivery_count, time }`.
//!
//! **A target** sends unsettled messages, many at a time, over one link for each address
//! (`driver.rs`, `links.rs`); what the broker accepts is delivered. See `sender.rs` for what else it
//! may say.
//!
//! **The protocol** is read and written here (`value.rs`, `frame.rs`, `message.rs`), over connections
//! that are dialled as all others are; see docs/develop/dependencies.md.

mod client;
mod driver;
mod fault;
mod frame;
mod links;
mod mapping;
mod message;
mod pulse;
mod reader;
mod received;
mod sasl;
mod sender;
mod session;
mod settings;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod value;
mod wire;

pub use mapping::Mode;
pub use settings::Kind;
pub use source::AmqpSource;
pub use target::AmqpTarget;
