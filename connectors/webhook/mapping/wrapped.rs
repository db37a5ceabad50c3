//! Messages that come in an envelope: the event's data is what is inside, and the envelope says the
//! rest.

use bytes::Bytes;
use pointsman_schemas::{Data, DataKind};
use serde_json::Value;

use super::{Attributes, container};

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
    if message.is_empty() {
        return (None, None);
    }
    let data = container(&message).or_else(|| Data::read(None, message).ok());
    let media_type = data.as_ref().map(|data| match data.kind() {
        DataKind::Json => "application/json",
        DataKind::Text => "text/plain",
        DataKind::Binary => "application/octet-stream",
    });
    (data, media_type.map(str::to_owned))
}
