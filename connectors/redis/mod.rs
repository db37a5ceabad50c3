//! Streams of Redis and Valkey, read by consumer groups and written to.
//!
//! ```yaml
//! sources:
//!   orders:
//!     redis:
//!       url: "redis://127.0.0.1:6379"        # rediss://…, with tls: { ca, certificate, key }
//!       password: { env: REDIS_PASSWORD }
//!       stream: orders
//!       group: pointsman
//!       start: earliest
//! targets:
//!   audit:
//!     redis: { url: "redis://127.0.0.1:6379", stream: audit, max_length: 1000000 }
//! ```
//!
//! **Reading** is at least once: an entry is acknowledged once it is stored, kept from others until
//! then, and claimed from whoever has not finished with it in time; see `leased/mod.rs` and
//! `queue.rs`. Redis counts how often an entry was handed out, and the count bounds what one that
//! ends the bus each time can do. Entries that were trimmed unread are told of; see `trimmed.rs`.
//!
//! **Events**: an entry that is a CloudEvent is taken as that (see `mapping.rs`); one that is broken
//! is a dead letter, and acknowledged. Any other entry is of type `com.pointsman.redis.entry`, source
//! `/redis/<name of the source>`, subject the stream's name, id `<stream>.<id of the entry>`, and its
//! fields are the data, as a JSON object. With an `event:` mapping these are the defaults under it,
//! and its root is `{ body, headers, stream, id, time, deliveries }`.
//!
//! **A target** adds what one attempt has with one pipeline of `XADD`. See `adder.rs` for what an
//! answer means.

mod adder;
mod client;
mod groups;
mod mapping;
mod queue;
mod refusal;
mod reply;
mod settings;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod trimmed;

pub use mapping::Mode;
pub use source::RedisSource;
pub use target::RedisTarget;
