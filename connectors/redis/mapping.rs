//! Entries to events and back.
//!
//! CloudEvents have no binding for streams of Redis, whose entries are fields and values and
//! nothing else. Here it is as with Kafka, whose headers are most like it:
//!
//! - **binary**: each attribute is a field `ce_<name>`, `datacontenttype` among them, and the data is
//!   the field `data`, or the one that `body` names;
//! - **structured**: the event in the JSON format is the value of the only field, or of the one that
//!   `body` names.

mod incoming;
mod outgoing;

pub(super) use incoming::Decoder;
pub use outgoing::Mode;
pub(super) use outgoing::{Fields, encode};

/// What the fields of attributes begin with.
const PREFIX: &str = "ce_";

/// The field of the data, unless another is named.
pub(super) const DATA: &str = "data";

#[cfg(test)]
mod tests;
