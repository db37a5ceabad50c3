//! Messages to events and back: the RocketMQ binding of CloudEvents, as the project of RocketMQ
//! has written it down and the SDK of CloudEvents for Java speaks it.
//!
//! - **binary**: each attribute is a property `CE_<name>`, `datacontenttype` is `CE_contenttype`,
//!   and the data is the body;
//! - **structured**: the body is the event in the JSON format, and `CE_contenttype` says so.
//!
//! RocketMQ takes no empty body: an event without data has one byte, which is zero.

mod incoming;
mod outgoing;

pub(super) use incoming::Decoder;
pub use outgoing::Mode;
pub(super) use outgoing::encode;

/// What the properties begin with that are attributes.
const PREFIX: &str = "CE_";

/// The property that is the media type.
const CONTENT_TYPE: &str = "CE_contenttype";

/// The body of an event that has no data.
const NO_DATA: &[u8] = &[0];

#[cfg(test)]
mod tests;
