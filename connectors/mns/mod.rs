//! MNS, which Alibaba Cloud calls Simple Message Queue today: queues read, and queues and topics
//! written to.
//!
//! ```yaml
//! sources:
//!   orders:
//!     mns:
//!       queue: orders
//!       endpoint: https://1234567890.mns.cn-hangzhou.aliyuncs.com
//!       credentials: { access_key: { env: KEY }, secret_key: { env: SECRET } }
//! targets:
//!   audit:
//!     mns: { queue: audit, endpoint: "https://1234567890.mns.cn-hangzhou.aliyuncs.com" }   # or topic
//! ```
//!
//! **Its API** is small, and called by a client of our own: requests in XML, signed with HMAC-SHA1.
//! See `client.rs` and `signature.rs`.
//!
//! **Reading** is at least once: a message is deleted once it is stored, and kept from others until
//! then; see `leased/mod.rs`. MNS gives a message another receipt each time that is extended, and
//! refuses the one before.
//!
//! **Events**: a message that is a CloudEvent in JSON is taken as that (see `mapping.rs`); one that
//! is broken is a dead letter, and deleted. Any other message is of type
//! `com.pointsman.mns.message`, source `/mns/<name of the source>`, subject the queue's name, id its
//! MessageId and time when it was sent. With an `event:` mapping these are the defaults under it, and
//! its root is `{ body, headers, queue, dequeue_count, priority, sent, first_dequeued, topic }`.
//!
//! **A target** sends what one attempt has with one call for up to 16 messages. See `sender.rs` for
//! what an answer means.

mod client;
mod mapping;
mod place;
mod queue;
mod refusal;
mod sender;
mod signature;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub use mapping::{Encoding, Mode};
pub use source::MnsSource;
pub use target::MnsTarget;
