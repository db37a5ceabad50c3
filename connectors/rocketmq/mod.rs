//! Topics of Apache RocketMQ 5, read by consumer groups and sent to, by gRPC over its proxy.
//!
//! ```yaml
//! sources:
//!   orders:
//!     rocketmq:
//!       url: "rocketmq://127.0.0.1:8081"     # rocketmqs://…, with tls: { ca, certificate, key }
//!       topic: orders
//!       group: pointsman
//!       tags: "placed || paid"               # or sql: "CE_type = 'order.placed'"
//! targets:
//!   audit:
//!     rocketmq: { url: "rocketmq://127.0.0.1:8081", topic: audit, message_group: <$.subject> }
//! ```
//!
//! **Reading** is at least once, as a simple consumer: a message is acknowledged once it is stored,
//! and kept from others until then; see `leased/mod.rs` and `queue.rs`. Of a group whose
//! consumption is orderly, RocketMQ hands out nothing behind what is in hand. It counts how often a
//! message was handed out, and gives it up after the group's bound; of that the log is told.
//!
//! **Events**: a CloudEvent in binary or structured mode is taken as that (see `mapping.rs`); one
//! that is broken is a dead letter, and acknowledged, as is a body that is not the one that was sent
//! (`content.rs`). Any other message is of type `com.pointsman.rocketmq.message`, source
//! `/rocketmq/<name of the source>`, subject the topic, id the message's id, partitionkey its
//! message group and time when it was made. With an `event:` mapping these are the defaults under
//! it, and its root is `{ body, headers, topic, tag, keys, group, message_id, queue, offset,
//! attempt, host, time }`.
//!
//! **A target** sends one message for each delivery. See `sender.rs` for what an answer means.
//!
//! **The protocol** is read and written here (`proto.rs`, `grpc.rs`), over connections that are
//! dialled as all others are; see docs/develop/dependencies.md.

mod client;
mod content;
mod grpc;
mod identity;
mod mapping;
mod polls;
mod proto;
mod queue;
mod refusal;
mod sender;
mod session;
mod settings;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub use mapping::Mode;
pub use source::RocketmqSource;
pub use target::RocketmqTarget;
