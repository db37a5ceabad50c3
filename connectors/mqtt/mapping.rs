//! Messages to events and back: the MQTT protocol binding of CloudEvents 1.0.2.
//!
//! - **binary** (MQTT 5): each attribute is a user property of its name, `datacontenttype` is the
//!   property Content Type, and the data is the payload;
//! - **structured**: the payload is the event in the JSON format; the Content Type says so, where
//!   there is one.
//!
//! MQTT 3.1.1 has no properties: there an event is always structured, and found by its
//! `specversion`.

mod incoming;
mod outgoing;

pub(super) use incoming::Decoder;
pub use outgoing::Mode;
pub(super) use outgoing::encode;

/// The attribute of what a broker had retained: it is as old as it may be.
const RETAINED: &str = "mqttretained";

#[cfg(test)]
mod tests;
