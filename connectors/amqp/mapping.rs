//! Messages to events and back: the AMQP protocol binding of CloudEvents 1.0.2.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;
mod values;

pub(super) use incoming::Decoder;
pub use outgoing::Mode;
pub(super) use outgoing::{Properties, encode};

/// What the names of attributes begin with: the specification's spelling, which is also written,
/// and that of clients in whose names no colon can stand.
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

/// The attribute that is the message's group.
const PARTITION_KEY: &str = "partitionkey";
