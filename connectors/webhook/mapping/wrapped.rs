//! Messages that come in an envelope: the event's data is what is inside, and the envelope says the
//! rest.

use bytes::Bytes;
use pointsman_schemas::event::is_string;
use pointsman_schemas::{Data, ExtensionValue, Timestamp};
use serde_json::Value;

use crate::body;
use crate::webhook::attributes::{Attributes, Mapped, build};
use crate::webhook::content::container;

/// How many attributes of a message become extensions: an event may have more, and others add
/// theirs.
const EXTENSIONS_MAX: usize = 30;

/// A message out of its envelope.
pub(super) struct Wrapped {
    pub(super) attributes: Attributes,
    pub(super) extensions: Vec<(String, String)>,
    pub(super) data: Option<Data>,
    pub(super) media_type: Option<String>,
    /// The envelope, for an `event:` mapping.
    pub(super) envelope: Option<Value>,
}

impl Wrapped {
    /// The event of the message.
    pub(super) fn build(self, now: Timestamp) -> Mapped {
        let Wrapped {
            attributes,
            extensions,
            data,
            media_type,
            envelope,
        } = self;
        let mut mapped = Mapped {
            envelope,
            ..build(attributes, data, media_type.as_deref(), now)
        };
        for (name, value) in extensions
            .into_iter()
            .filter(|(_, value)| is_string(value))
            .take(EXTENSIONS_MAX)
        {
            mapped.event = mapped
                .event
                .attribute(name, ExtensionValue::String(value.into()));
        }
        mapped
    }
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
