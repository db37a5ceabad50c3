//! Records to events and back: the Kafka protocol binding of CloudEvents 1.0.2.
//!
//! Of what the specification leaves open:
//!
//! - A `ce_datacontenttype` is taken where the header `content-type` is missing, which some writers
//!   leave out.
//! - A record whose value is null has no data, also where its content type says otherwise: it is how
//!   Kafka says that a key is gone.
//! - A record is not asked for a key: `partitionkey` becomes the key of a record that is written,
//!   and the key of a plain record that is read its `partitionkey`. A CloudEvent is left as it was.

mod incoming;
mod outgoing;

pub(super) use incoming::Decoder;
pub use outgoing::Mode;
pub(super) use outgoing::encode;

/// What the headers of attributes begin with: section 3.2.3.1.
const PREFIX: &str = "ce_";

/// Where the media type of the data stands, or that of a whole event.
const CONTENT_TYPE: &str = "content-type";

/// The attribute that is the record's key: section 3.1.
pub(super) const PARTITION_KEY: &str = "partitionkey";

#[cfg(test)]
mod tests;
