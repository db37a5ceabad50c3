//! Amazon SQS: messages of a queue, read and sent.
//!
//! ```yaml
//! sources:
//!   orders:
//!     sqs:
//!       queue: orders                # or its URL
//!       region: eu-west-1
//!       visibility: 30s
//! targets:
//!   audit:
//!     sqs: { queue: audit.fifo, region: eu-west-1, group: <$.subject>, mode: binary }  # structured, data
//! ```
//!
//! **Reading** is at least once: a message is deleted once it is stored, and kept from others until
//! then; see `leased/mod.rs`. Of a FIFO queue, SQS hands out no message of a group while another of
//! it is in hand, so that the order of a group is kept.
//!
//! **Events**: a CloudEvent in binary or structured mode is taken as that (see `mapping.rs`); one
//! that is broken is a dead letter, and deleted. Any other message is of type
//! `com.pointsman.sqs.message`, source `/sqs/<name of the source>`, subject the queue's name,
//! partitionkey its group, id its MessageId and time when it was sent. What came through SNS is
//! unwrapped first. With an `event:` mapping these are the defaults under it, and its root is `{
//! body, headers, queue, group, deduplication_id, sequence, receive_count, sent, sender, sns }`.
//!
//! **A target** sends one message for each delivery, those of a batch up to ten with one call. See
//! `aws/message.rs` for how an event is written, and `aws/api/refusal.rs` for what an answer means.

mod mapping;
mod place;
mod probe;
mod sender;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub use source::SqsSource;
pub use target::SqsTarget;
