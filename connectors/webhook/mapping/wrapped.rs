//! Messages that come in an envelope: the event's data is what is inside, and the envelope says the
//! rest.

use bytes::Bytes;
use pointsman_schemas::Data;
use serde_json::Value;

use super::{Attributes, container};
use crate::body;

/// A message out of its envelope.
pub(super) struct Wrapped {
    pub(super) attributes: Attributes,
    pub(super) extensions: Vec<(String, String)>,
    pub(super) data: Option<Data>,
    pub(super) media_type: Option<String>,
    /// The envelope, for an `event:` mapping.
    pub(super) envelope: Option<Value>,
}

/// The message as data: JSON where it is an object or a list, else the text or the bytes that it
/// is.
pub(super) fn read(message: Bytes) -> (Option<Data>, Option<String>) {
    let (data, media_type) = match container(&message) {
        Some(json) => (Some(json), Some("application/json")),
        // What nobody has declared is never refused.
        None => body::read(None, message).unwrap_or_default(),
    };
    (data, media_type.map(str::to_owned))
}
