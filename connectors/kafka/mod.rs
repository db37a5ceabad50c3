//! Kafka: topics read as a member of a consumer group, and records written.
//!
//! ```yaml
//! sources:
//!   orders:
//!     kafka:
//!       brokers: ["a.example.com:9092", "b.example.com:9092"]
//!       topics: [orders]                     # or pattern: "orders\\..*"
//!       group: pointsman
//!       start: earliest                      # latest, { time: … }
//!       auth: { scram-sha-512: { username: app, password: { env: KAFKA_PASSWORD } } }   # plain, scram-sha-256, token
//!       tls: { ca: { file: ./ca.pem } }
//! targets:
//!   audit:
//!     kafka: { brokers: "127.0.0.1:9092", topic: audit, key: <$.subject>, mode: binary }  # structured, data
//! ```
//!
//! **A topic** is read at least once, in the order of each partition, by the classic protocol of
//! consumer groups with cooperative rebalancing. What is committed is the offset up to which
//! everything is stored; see `in_hand.rs`. What cannot be stored comes again from our hands. At most
//! 8,192 records and 32 MiB are in hand, and whatever the client has fetched beyond. A partition that
//! is given up is drained for 8 s.
//!
//! **It begins** where `start` says with topics that the group has not read. Where the records behind
//! its offset are gone it goes on with the first that there is, and tells how many were skipped.
//!
//! **Events**: a CloudEvent in binary or structured mode is taken as that (see `mapping.rs`); one
//! that is broken is a dead letter. Any other record is of type `com.pointsman.kafka.record`, source
//! `/kafka/<name of the source>`, subject the topic, partitionkey its key, id
//! `<topic>.<partition>.<offset>.<timestamp>` and time its timestamp. With an `event:` mapping these
//! are the defaults under it, and its root is `{ body, headers, key, topic, partition, offset, time
//! }`.
//!
//! **A target** writes with an idempotent producer and waits for all replicas in sync. See
//! `producer.rs` for what an answer means.

mod cluster;
mod in_hand;
mod mapping;
mod member;
mod producer;
mod reader;
mod settings;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub use mapping::Mode;
pub use reader::BATCH_MESSAGES_MAX;
pub use settings::{Auth, Tls, User};
pub use source::{KafkaSource, Start};
pub use target::KafkaTarget;
