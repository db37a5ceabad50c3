//! Messages to events and back: the AMQP protocol binding of CloudEvents 1.0.2, over the headers
//! and properties of AMQP 0.9.1.

mod incoming;
mod outgoing;
mod values;

pub(super) use incoming::Incoming;
pub use outgoing::MessageMode;
pub(super) use outgoing::encode;

/// What the names of attributes begin with: the specification's spelling, which is also written,
/// and that of clients in whose names no colon can stand.
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

#[cfg(test)]
mod tests;
